package intercept

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
)

// CA is a certificate authority that may sign. It is not changed after Load or Create, and may be used from any goroutine.
type CA struct {
	Cert *x509.Certificate
	// Chain goes to clients behind the leaf: Cert itself when it is not a root, and certificates by which those who trust another
	// one, such as the authority before a rotation, find their way. Mostly empty.
	Chain []*x509.Certificate

	key crypto.Signer
	id  [sha256.Size]byte // of Cert: its generation
}

// Years a new authority lives unless it is said otherwise, in days.
const DefaultDays = 5 * 365

// maxDays bounds the life of an authority.
const maxDays = 30 * 365

// CreateOptions say what a new authority is like.
type CreateOptions struct {
	Name string    // its common name; "" = "Viaduct CA"
	Days int       // of life; 0 = DefaultDays
	Now  time.Time // zero = now
	// Permit names what it may sign for, and nothing else: domains ("corp.example" with all below it), addresses and networks
	// ("10.0.0.0/8"). Clients hold it to that (RFC 5280, section 4.2.1.10). Empty = everything.
	Permit []string
}

// Create makes an authority with a new key.
func Create(o CreateOptions) (*CA, error) {
	t, err := o.template()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = keyID(&key.PublicKey); err != nil {
		return nil, err
	}
	cert, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return newCA([]*x509.Certificate{cert}, key)
}

func (o *CreateOptions) template() (*x509.Certificate, error) {
	now, name, days := o.Now, o.Name, o.Days
	if now.IsZero() {
		now = time.Now()
	}
	if name == "" {
		name = "Viaduct CA"
	}
	if days == 0 {
		days = DefaultDays
	}
	switch {
	case len(name) > 64: // RFC 5280, appendix A.1: ub-common-name
		return nil, errors.New("the name is longer than 64 bytes")
	case strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 || c == 0x7f || c == 0xfffd }):
		return nil, errors.New("the name holds a control character")
	case days < 1 || days > maxDays:
		return nil, fmt.Errorf("it can live for 1 to %d days", maxDays)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdate).Truncate(time.Second),
		NotAfter:     now.AddDate(0, 0, days).Truncate(time.Second),
		IsCA:         true, BasicConstraintsValid: true,
		MaxPathLen: 1, // one may stand between: the authority that follows this one, see Rotate
		KeyUsage:   x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return t, constrain(t, o.Permit)
}

// constrain writes name constraints. Where only one kind of name is permitted the other kind is excluded: a constraint says nothing of
// kinds that it does not mention.
func constrain(t *x509.Certificate, permit []string) error {
	if len(permit) == 0 {
		return nil
	}
	t.PermittedDNSDomainsCritical = true
	for _, p := range permit {
		if n, ok := parseNetwork(p); ok {
			t.PermittedIPRanges = append(t.PermittedIPRanges, n)
			continue
		}
		d := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(p, "*"), "."), "."))
		if !isDomain(d) || !strings.ContainsFunc(d, func(c rune) bool { return c >= 'a' && c <= 'z' }) {
			return fmt.Errorf("%q is neither a domain nor a network", p)
		}
		t.PermittedDNSDomains = append(t.PermittedDNSDomains, d)
	}
	if t.PermittedIPRanges == nil {
		t.ExcludedIPRanges = []*net.IPNet{
			{IP: make(net.IP, net.IPv4len), Mask: make(net.IPMask, net.IPv4len)}, {IP: make(net.IP, net.IPv6len), Mask: make(net.IPMask, net.IPv6len)},
		}
	}
	if t.PermittedDNSDomains == nil {
		t.ExcludedDNSDomains = []string{""}
	}
	return nil
}

func parseNetwork(s string) (*net.IPNet, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, true
}

// newCA joins a key with its certificate, the first of certs; the others are the chain.
func newCA(certs []*x509.Certificate, key crypto.Signer) (*CA, error) {
	c := certs[0]
	switch pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); {
	case !ok || !pub.Equal(c.PublicKey):
		return nil, errors.New("the key is not the one of the certificate")
	case !c.IsCA || !c.BasicConstraintsValid:
		return nil, errors.New("the certificate is not that of an authority (basic constraints: CA)")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate may not sign others (key usage: certificate sign)")
	}
	ca := &CA{Cert: c, Chain: certs[1:], key: key, id: sha256.Sum256(c.Raw)}
	if !isRoot(c) {
		ca.Chain = certs
	}
	return ca, nil
}

func isRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// Usable says why the authority cannot sign at now, or nil.
func (c *CA) Usable(now time.Time) error {
	switch {
	case now.Before(c.Cert.NotBefore):
		return fmt.Errorf("the authority is valid from %s on: a clock is wrong", day(c.Cert.NotBefore))
	case !now.Before(c.Cert.NotAfter):
		return fmt.Errorf(`the authority has expired, on %s: "viaduct ca rotate" makes another one`, day(c.Cert.NotAfter))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// Fingerprint is the SHA-256 of the certificate as people compare it: "AB:CD:...".
func (c *CA) Fingerprint() string { return Fingerprint(c.Cert) }

// Fingerprint is the SHA-256 of a certificate as people compare it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	h := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	for i := 0; i < len(h); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(h[i : i+2])
	}
	return b.String()
}

// Permits says what the certificate may sign for, in the words of CreateOptions.Permit; nil = everything.
func Permits(c *x509.Certificate) []string {
	all := append([]string(nil), c.PermittedDNSDomains...)
	for _, n := range c.PermittedIPRanges {
		all = append(all, n.String())
	}
	return all
}

// sign makes a certificate and reads it again: what is used is what is in its bytes.
func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial is 128 random bits (CA/Browser Forum BR 7.1: at least 64), positive and not 0.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(b[:])
	if n.Sign() == 0 {
		n.SetInt64(1)
	}
	return n, nil
}

// keyID is the subject key identifier of RFC 7093, section 2, method 1.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}
