package policies

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// ListenerTLS is TLS toward the clients of a listener.
type ListenerTLS struct {
	Pairs      []KeyPair      // at least one, but for lenient loads of files that are not here; the first is for clients that ask for no name, or another
	MinVersion uint16         // of TLS
	ClientCAs  *x509.CertPool // nil = clients are asked for no certificate
	Optional   bool           // clients without a certificate are let in
	UserFrom   string         // what of a certificate is the user: one of userFroms
	HTTP2      bool           // HTTP/2 is offered beside HTTP/1.1
}

// KeyPair is a certificate with its key, and the files that it is read from, now and whenever they change.
type KeyPair struct {
	Certificate              tls.Certificate
	CertificateFile, KeyFile string
}

var (
	listenerTLSSchema = schema(attrs("certificate", "key", "min_version", "client_ca", "client_certificate", "user_from", "http2"), blocks("pair"))
	pairSchema        = schema(attrs("certificate", "key"))
)

// The parts of a client certificate that can be the user's name; the first is the default.
var userFroms = []string{"cn", "subject", "san_dns", "san_email", "san_uri"}

// defaultWarnBefore is how long before its end a certificate is warned of.
const defaultWarnBefore = 14 * 24 * time.Hour

// maxPairs bounds the certificates of a listener: each handshake looks for the one that fits.
const maxPairs = 100

// listenerTLS reads the tls block of a listener.
func (l *loader) listenerTLS(x *hcl.Block, address endpoint, warnBefore time.Duration) *ListenerTLS {
	b := l.open(x, listenerTLSSchema)
	t := &ListenerTLS{MinVersion: b.tlsVersion("min_version"), HTTP2: b.boolean("http2", true)}
	t.addPair(b, "the certificate that clients see")
	for i, p := range b.blocks {
		if i == maxPairs-1 {
			l.errorAt(p.DefRange, "Too many certificates", fmt.Sprintf("A listener can have %d of them.", maxPairs))
			break
		}
		t.addPair(l.open(p, pairSchema), "a certificate for further names")
	}
	l.lintPairs(t, b, address, warnBefore)
	t.readClients(b)
	return t
}

func (t *ListenerTLS) addPair(b *block, why string) {
	if !b.need("certificate", why) || !b.need("key", "the private key of the certificate") {
		return
	}
	cert, ok := b.keyPair()
	if !ok {
		return
	}
	t.Pairs = append(t.Pairs, KeyPair{cert, pathOf(b.rng("certificate"), b.text("certificate")), pathOf(b.rng("key"), b.text("key"))})
}

// readClients reads what clients have to show.
func (t *ListenerTLS) readClients(b *block) {
	want := b.oneOf("client_certificate", "required", "optional")
	t.Optional = want == "optional"
	t.UserFrom = b.oneOf("user_from", userFroms...)
	if t.UserFrom == "" {
		t.UserFrom = userFroms[0]
	}
	if !b.has("client_ca") {
		for _, name := range [...]string{"client_certificate", "user_from"} {
			if b.has(name) {
				b.l.errorAt(b.attrs[name].NameRange, "Missing argument", fmt.Sprintf(`%q needs client_ca: the authorities whose certificates clients may have.`, name))
			}
		}
		return
	}
	t.ClientCAs = x509.NewCertPool() // an unreadable file must not mean: ask nobody
	if s := b.text("client_ca"); s != "" {
		r := b.rng("client_ca")
		if pem, full, ok := b.l.dataFile(r, s, maxPEM, "file of certificates"); ok && !t.ClientCAs.AppendCertsFromPEM(pem) {
			b.l.errorAt(r, "No certificate", fmt.Sprintf("%s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).", full))
		}
	}
}

// guards reports whether nobody gets in without a certificate.
func (t *ListenerTLS) guards() bool { return t != nil && t.ClientCAs != nil && !t.Optional }

// lintPairs warns of certificates that clients will refuse, or that nobody will be shown.
func (l *loader) lintPairs(t *ListenerTLS, b *block, address endpoint, warnBefore time.Duration) {
	now := time.Now()
	if warnBefore <= 0 {
		warnBefore = defaultWarnBefore
	}
	at := func(i int) hcl.Range { // of the i-th pair that could be read; where one could not, the block will do
		if len(t.Pairs) == len(b.blocks)+1 && i > 0 {
			return b.blocks[i-1].DefRange
		}
		return b.rng("certificate")
	}
	shown := map[string]bool{}
	covered := false
	for i := range t.Pairs {
		c := t.Pairs[i].Certificate.Leaf
		if c == nil {
			continue
		}
		if why := whyUnfit(c, now); why != "" {
			l.warnAt(at(i), "Certificate that clients refuse", fmt.Sprintf("%s %s", t.Pairs[i].CertificateFile, why))
		} else if c.NotAfter.Sub(now) < warnBefore {
			l.warnAt(at(i), "Certificate that ends soon", fmt.Sprintf("%s is valid until %s. Renew it in place: no reload is needed.", t.Pairs[i].CertificateFile, c.NotAfter.UTC().Format("2006-01-02 15:04 MST")))
		}
		covered = covered || c.VerifyHostname(address.ip.String()) == nil || c.VerifyHostname("localhost") == nil
		names := slices.Concat(c.DNSNames, addressNames(c.IPAddresses))
		kind := fmt.Sprint(c.PublicKeyAlgorithm)
		fresh := len(names) == 0
		for _, n := range names {
			fresh = fresh || !shown[kind+" "+n]
			shown[kind+" "+n] = true
		}
		if !fresh {
			l.warnAt(at(i), "Certificate never shown", fmt.Sprintf("All names of %s have a certificate of the same kind before it, which is the one that clients get.", t.Pairs[i].CertificateFile))
		}
	}
	if len(t.Pairs) > 0 && !covered && address.network == "tcp" && address.ip.IsLoopback() { // elsewhere names can lead here that are not in the policy
		l.warnAt(at(0), "Certificate for other names", fmt.Sprintf("No certificate of this listener is for %s or localhost, as which clients of a listener on this machine know it: they will refuse it.", address.ip))
	}
}

func addressNames(ips []net.IP) []string {
	var names []string
	for _, ip := range ips {
		names = append(names, ip.String())
	}
	return names
}

// whyUnfit says why clients will not take c as a certificate of a server; "" = they will, if they trust its authority.
func whyUnfit(c *x509.Certificate, now time.Time) string {
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(c.NotAfter):
		return "has expired: it was valid until " + c.NotAfter.UTC().Format(day) + "."
	case now.Before(c.NotBefore):
		return "is not valid yet: it will be from " + c.NotBefore.UTC().Format(day) + "."
	case len(c.DNSNames) == 0 && len(c.IPAddresses) == 0:
		return "has no name that clients look at (subject alternative names)."
	case len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return "is not one for servers (extended key usage)."
	}
	return ""
}
