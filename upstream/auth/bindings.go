package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
)

// channelBindings is the MD5 of the bindings to a TLS connection, in the form of the GSS-API (RFC 2744, section 3.11, with the type
// tls-server-end-point of RFC 5929), as NTLM and Kerberos carry it; nil = there is no certificate to bind to.
func channelBindings(cs *tls.ConnectionState) []byte {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	data := append([]byte("tls-server-end-point:"), certificateHash(cs.PeerCertificates[0])...)
	b := make([]byte, 16, 20+len(data)) // no addresses on either side
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	sum := md5.Sum(append(b, data...))
	return sum[:]
}

// certificateHash is by the hash of the certificate's signature; SHA-256 in place of MD5 and SHA-1 (RFC 5929, section 4.1).
func certificateHash(c *x509.Certificate) []byte {
	switch c.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(c.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(c.Raw)
		return sum[:]
	}
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}
