package intercept

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// What a minted certificate is like.
const (
	backdate = time.Hour           // clocks of clients are late
	maxLife  = 47 * 24 * time.Hour // CA/Browser Forum SC-081v3: what public ones may live from 2029 on
	// shortLife is that of a copy of a certificate which has expired itself, and was taken nevertheless because the policy says so.
	shortLife = 24 * time.Hour
	maxNames  = 100 // of the server's that are mirrored
)

// Wanted is what a client is to be shown.
type Wanted struct {
	// Name is the name or address that the client asked the server for, canonical: its SNI, or the target. It may be empty where Server has names.
	Name string
	// Server is the certificate that the server showed, whose names are mirrored; nil = there is none, and the certificate is for Name.
	Server *x509.Certificate
	// Asked says that Name belongs into the certificate even if Server's does not have it: the server was verified by another name, as the
	// policy says. Without it a server that is not what the client wants does not become it by passing through us.
	Asked bool
}

// ErrNotPermitted is wrapped when the authority may not sign for any of the names.
var ErrNotPermitted = errors.New("the name constraints of the authority do not permit it")

// leaf makes the certificate, with what goes to the client behind it.
func (c *CA) leaf(w Wanted, pub crypto.PublicKey, now time.Time) (*tls.Certificate, error) {
	if err := c.Usable(now); err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Opened by " + c.Cert.Subject.CommonName}},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if err := c.names(t, w); err != nil {
		return nil, err
	}
	t.NotBefore = later(now.Add(-backdate), c.Cert.NotBefore)
	t.NotAfter = earlier(t.NotBefore.Add(maxLife), c.Cert.NotAfter)
	if w.Server != nil {
		if w.Server.NotAfter.After(now) {
			t.NotAfter = earlier(t.NotAfter, w.Server.NotAfter)
		} else {
			t.NotAfter = earlier(t.NotAfter, now.Add(shortLife))
		}
	}
	var err error
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	cert, err := sign(t, c.Cert, pub, c.key)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{Certificate: [][]byte{cert.Raw}, Leaf: cert}
	for _, other := range c.Chain {
		if now.Before(other.NotAfter) {
			out.Certificate = append(out.Certificate, other.Raw)
		}
	}
	return out, nil
}

// names puts the names into t: that of the client first, then the server's.
func (c *CA) names(t *x509.Certificate, w Wanted) error {
	n := 0
	add := func(name string, ip net.IP) {
		if n >= maxNames {
			return
		}
		switch {
		case ip != nil && c.permitsIP(ip):
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			for _, have := range t.IPAddresses {
				if have.Equal(ip) {
					return
				}
			}
			t.IPAddresses = append(t.IPAddresses, ip)
		case ip == nil && isPattern(name) && c.permitsDNS(name):
			for _, have := range t.DNSNames {
				if have == name {
					return
				}
			}
			t.DNSNames = append(t.DNSNames, name)
		default:
			return
		}
		n++
	}
	if w.Name != "" && w.covered() {
		add(ofHost(w.Name))
	}
	if w.Server != nil {
		for _, name := range w.Server.DNSNames {
			add(strings.ToLower(name), nil)
		}
		for _, ip := range w.Server.IPAddresses {
			add("", ip)
		}
	}
	if n == 0 {
		if w.Server != nil && w.Name == "" {
			return errors.New("the server's certificate has no name")
		}
		if !w.covered() {
			return fmt.Errorf("the server's certificate has no name that can be mirrored, and is not for %q", w.Name)
		}
		return fmt.Errorf("no certificate can be made for %q: %w", w.Name, ErrNotPermitted)
	}
	return nil
}

// covered reports whether the name that the client asked for belongs into the certificate.
func (w *Wanted) covered() bool {
	switch {
	case w.Server == nil || w.Asked:
		return true
	case len(w.Server.DNSNames)+len(w.Server.IPAddresses) == 0:
		return true // it says nothing of names at all
	}
	return w.Server.VerifyHostname(w.Name) == nil
}

func ofHost(name string) (string, net.IP) {
	if a, err := netip.ParseAddr(name); err == nil {
		return "", a.Unmap().AsSlice()
	}
	return name, nil
}

func (c *CA) permitsIP(ip net.IP) bool {
	for _, n := range c.Cert.ExcludedIPRanges {
		if n.Contains(ip) {
			return false
		}
	}
	for _, n := range c.Cert.PermittedIPRanges {
		if n.Contains(ip) {
			return true
		}
	}
	return len(c.Cert.PermittedIPRanges) == 0
}

func (c *CA) permitsDNS(name string) bool {
	for _, d := range c.Cert.ExcludedDNSDomains {
		if below(name, d) {
			return false
		}
	}
	for _, d := range c.Cert.PermittedDNSDomains {
		if below(name, d) {
			return true
		}
	}
	return len(c.Cert.PermittedDNSDomains) == 0
}

// below follows RFC 5280, section 4.2.1.10: the domain itself, and every name that adds labels on its left. With a leading dot, as older
// certificates have it, only the latter.
func below(name, domain string) bool {
	domain = strings.ToLower(domain)
	if domain == "" {
		return true
	}
	if strings.HasPrefix(domain, ".") {
		return strings.HasSuffix(name, domain)
	}
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// isPattern reports whether name may stand in a certificate: a domain, or one whose first label is "*".
func isPattern(name string) bool { return isDomain(strings.TrimPrefix(name, "*.")) }

// isDomain reports whether s is a name in lower case with letters, digits, hyphens and underscores in its labels.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
