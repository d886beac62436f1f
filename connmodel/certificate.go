package connmodel

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// NewCertificate takes down c; cut says that its list of names was longer than a record may hold.
func NewCertificate(c *x509.Certificate) (cert Certificate, cut bool) {
	sum := sha256.Sum256(c.Raw)
	cert = Certificate{
		Subject:   bound(c.Subject.String(), maxText),
		Issuer:    bound(c.Issuer.String(), maxText),
		NotBefore: c.NotBefore,
		NotAfter:  c.NotAfter,
		KeyType:   keyType(c.PublicKey),
		SHA256:    hex.EncodeToString(sum[:]),
		Pin:       PinOf(c),
		Signature: c.SignatureAlgorithm.String(),
		IsCA:      c.IsCA,
	}
	if c.SerialNumber != nil {
		cert.Serial = bound(c.SerialNumber.Text(16), 64) // RFC 5280, section 4.1.2.2: at most 20 octets
	}
	cert.SANs.DNS, cut = bounded(c.DNSNames, maxSANs, cut)
	for i, ip := range c.IPAddresses {
		if i == maxSANs {
			cut = true
			break
		}
		cert.SANs.IP = append(cert.SANs.IP, ip.String())
	}
	for i, u := range c.URIs {
		if i == maxSANs {
			cut = true
			break
		}
		cert.SANs.URI = append(cert.SANs.URI, bound(u.String(), maxName))
	}
	return cert, cut
}

// PinOf returns the pin of a certificate's public key: "sha256/" and the base64 form of the SHA-256 of its SubjectPublicKeyInfo.
func PinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return pinPrefix + base64.StdEncoding.EncodeToString(sum[:])
}

const pinPrefix = "sha256/"

func keyType(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", key)
}
