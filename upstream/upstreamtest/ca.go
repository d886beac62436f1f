package upstreamtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA is a certificate authority that exists for one test. Its keys are ECDSA
// P-256 and are in no file unless WriteFiles puts them there.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// CertOptions says how an issued certificate differs from a good server
// certificate, which is the zero value: valid from an hour ago for a day.
type CertOptions struct {
	// NotBefore and NotAfter bound its validity; zero means as above.
	NotBefore, NotAfter time.Time
	// CommonName is the subject's; "" means the first name.
	CommonName string
	// CNOnly leaves out the SANs, as certificates of long ago did.
	CNOnly bool
	// Client makes it a client certificate (EKU clientAuth, not serverAuth).
	Client bool
	// SelfSigned signs it by its own key in place of the CA's.
	SelfSigned bool
	// RSA makes its key one of so many bits; 0 means ECDSA P-256.
	RSA int
	// SHA1 signs it with a hash that can be forged.
	SHA1 bool
}

// Expired is a certificate that ended an hour ago.
func Expired() CertOptions {
	now := time.Now()
	return CertOptions{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}
}

// NotYetValid is a certificate that begins in an hour.
func NotYetValid() CertOptions {
	now := time.Now()
	return CertOptions{NotBefore: now.Add(time.Hour), NotAfter: now.Add(48 * time.Hour)}
}

// NewCA makes an authority that is valid for two days around now.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "upstreamtest CA"},
		NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(72 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{Cert: cert, key: key}, err
}

// MustCA is NewCA for tests.
func MustCA(t TB) *CA {
	t.Helper()
	c, err := NewCA()
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	return c
}

// Issue makes a certificate and key for names; those that are IP addresses
// become IP SANs. The chain holds the leaf alone.
func (c *CA) Issue(names []string, o CertOptions) (tls.Certificate, error) {
	if len(names) == 0 && o.CommonName == "" {
		return tls.Certificate{}, fmt.Errorf("upstreamtest: a certificate needs a name")
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: o.CommonName},
		NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if t.Subject.CommonName == "" {
		t.Subject.CommonName = names[0]
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if o.Client {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, n := range names {
		if o.CNOnly {
			break
		}
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	if o.SHA1 {
		t.SignatureAlgorithm = x509.ECDSAWithSHA1
	}
	var key crypto.Signer
	var err error
	if o.RSA > 0 {
		key, err = rsa.GenerateKey(rand.Reader, o.RSA)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, signer := c.Cert, crypto.Signer(c.key)
	if o.SelfSigned {
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// Intermediate makes an authority below c; of o the dates count.
func (c *CA) Intermediate(name string, o CertOptions) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: c.Cert.NotBefore, NotAfter: c.Cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if !o.NotBefore.IsZero() {
		t.NotBefore, t.NotAfter = o.NotBefore, o.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.Cert, &key.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{Cert: cert, key: key}, err
}

// MustIssue is Issue for tests.
func (c *CA) MustIssue(t TB, o CertOptions, names ...string) tls.Certificate {
	t.Helper()
	cert, err := c.Issue(names, o)
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	return cert
}

// ServerTLS is a server configuration with a good certificate for names.
func (c *CA) ServerTLS(t TB, names ...string) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{c.MustIssue(t, CertOptions{}, names...)}}
}

// Pool holds the authority's certificate alone.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Cert)
	return p
}

// PEM is the authority's certificate.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})
}

// Certificate is the authority's own certificate and key, for programs that sign with it themselves.
func (c *CA) Certificate() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Cert.Raw}, PrivateKey: c.key, Leaf: c.Cert}
}

// EncodePEM gives the chain and the key (PKCS #8) of a certificate.
func EncodePEM(cert tls.Certificate) (chain, key []byte, err error) {
	var b bytes.Buffer
	for _, der := range cert.Certificate {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return b.Bytes(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// WriteFiles writes name.crt and name.key into dir and returns their paths.
func WriteFiles(dir, name string, cert tls.Certificate) (certFile, keyFile string, err error) {
	chain, key, err := EncodePEM(cert)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if err := os.WriteFile(certFile, chain, 0o644); err != nil {
		return "", "", err
	}
	return certFile, keyFile, os.WriteFile(keyFile, key, 0o600)
}

// WriteFile writes the authority's certificate to dir/ca.crt.
func (c *CA) WriteFile(dir string) (string, error) {
	f := filepath.Join(dir, "ca.crt")
	return f, os.WriteFile(f, c.PEM(), 0o644)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}
