package router

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"viaduct/connmodel"
)

// ListenerTLS is TLS toward the clients of a listener.
type ListenerTLS struct {
	// Pairs are the certificates, at least one. A client gets the first that is for the name it asks for (SNI) and that it can use, and
	// else the first.
	Pairs      []KeyPair
	MinVersion uint16 // of TLS; 0 = 1.2
	// ClientCAs are the authorities of client certificates; nil = clients are asked for none.
	ClientCAs *x509.CertPool
	// ClientOptional lets in clients that have no certificate. One that is sent is verified even so. A client that has proved itself by
	// its certificate is not asked for a password; where certificates are required it is, if there is an Authenticator.
	ClientOptional bool
	// UserFrom says what of a client certificate is the user's name; "" = UserFromCN. A certificate that has no such name is refused.
	UserFrom UserFrom
	// HTTP2 offers HTTP/2 (ALPN "h2") beside HTTP/1.1, on listeners that take HTTP.
	HTTP2 bool
}

// KeyPair is a certificate with its chain and its key.
type KeyPair struct {
	Certificate tls.Certificate
	// CertificateFile and KeyFile are where it was read from. They are looked at again while handshakes are made, and what has changed in
	// them is used without a reload; "" = it stays what it is.
	CertificateFile, KeyFile string
}

// UserFrom names a part of a client certificate.
type UserFrom string

// The parts that can be a user's name. Of alternative names the first of its kind counts.
const (
	UserFromCN       UserFrom = "cn"      // common name of the subject
	UserFromSubject  UserFrom = "subject" // the whole subject, as in RFC 2253
	UserFromSANDNS   UserFrom = "san_dns"
	UserFromSANEmail UserFrom = "san_email"
	UserFromSANURI   UserFrom = "san_uri"
)

// maxUser is the length of the longest user name taken from a certificate, in bytes.
const maxUser = 256

// user returns the name that c gives its holder.
func (u UserFrom) user(c *x509.Certificate) (string, error) {
	name, what := "", "common name"
	switch u {
	case UserFromSubject:
		name, what = c.Subject.String(), "subject"
	case UserFromSANDNS:
		name, what = first(c.DNSNames), "DNS name"
	case UserFromSANEmail:
		name, what = first(c.EmailAddresses), "email address"
	case UserFromSANURI:
		what = "URI"
		if len(c.URIs) > 0 {
			name = c.URIs[0].String()
		}
	default:
		name = c.Subject.CommonName
	}
	switch {
	case name == "":
		return "", &userError{"the client's certificate has no " + what + " to know its user by"}
	case len(name) > maxUser || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "", &userError{"the " + what + " of the client's certificate is no user name: it is longer than " + strconv.Itoa(maxUser) + " bytes, or holds control characters"}
	}
	return name, nil
}

// userError says why a certificate, good in itself, names no user.
type userError struct{ text string }

func (e *userError) Error() string { return e.text }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (t *ListenerTLS) check() error {
	if len(t.Pairs) == 0 {
		return errors.New("it has TLS without a certificate")
	}
	for i := range t.Pairs {
		if len(t.Pairs[i].Certificate.Certificate) == 0 || t.Pairs[i].Certificate.PrivateKey == nil {
			return errors.New("it has TLS with an empty certificate")
		}
	}
	return nil
}

// doorTLS is the TLS of one listener in one generation. Its tls.Config, and with it the keys of session tickets, are of this generation
// alone: what a client has proved to another one is not resumed here. crypto/tls makes those keys anew every day.
type doorTLS struct {
	conf   *ListenerTLS
	config *tls.Config
	pairs  *keyPairs
}

// newDoorTLS returns nil for a listener without TLS.
func (r *Router) newDoorTLS(l *Listener, before time.Duration) *doorTLS {
	t := l.TLS
	if t == nil {
		return nil
	}
	d := &doorTLS{conf: t, pairs: newKeyPairs(l.Name, t.Pairs, r.opt.Log, r.CertificateWarning, before)}
	d.config = &tls.Config{
		MinVersion:         t.MinVersion,
		GetConfigForClient: noteHello,
		GetCertificate:     d.certificate,
	}
	if t.MinVersion == 0 {
		d.config.MinVersion = tls.VersionTLS12
	}
	if l.Protocols&HTTP != 0 {
		d.config.NextProtos = []string{"http/1.1"}
		if t.HTTP2 {
			d.config.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	if t.ClientCAs != nil {
		d.config.ClientCAs = t.ClientCAs
		d.config.ClientAuth = tls.RequireAndVerifyClientCert
		if t.ClientOptional {
			d.config.ClientAuth = tls.VerifyClientCertIfGiven
		}
		d.config.VerifyConnection = func(cs tls.ConnectionState) error {
			_, err := d.user(&cs)
			return err
		}
	}
	return d
}

// certificate picks the certificate for a client.
func (d *doorTLS) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := d.pairs.current()
	if len(list) > 1 {
		for _, c := range list {
			if hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return list[0], nil
}

// user returns the name that the client's certificate gives it, or "" when it has shown none. The certificate has been verified.
func (d *doorTLS) user(cs *tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", nil
	}
	return d.conf.UserFrom.user(cs.PeerCertificates[0])
}

// again verifies a certificate that another generation's handshake has taken, by this one's authorities.
func (d *doorTLS) again(cs *tls.ConnectionState, now time.Time) (string, error) {
	if d == nil || d.conf.ClientCAs == nil {
		return "", nil // nobody is asked, so nobody is known
	}
	if len(cs.PeerCertificates) == 0 {
		if d.conf.ClientOptional {
			return "", nil
		}
		return "", errors.New("it has shown no certificate")
	}
	o := x509.VerifyOptions{
		Roots: d.conf.ClientCAs, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range cs.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := cs.PeerCertificates[0].Verify(o); err != nil {
		return "", err
	}
	return d.user(cs)
}

// certified returns the user that the client's certificate proves to the configuration p, or "". Once a handshake is made the connection
// may outlive its configuration; then the certificate is verified anew, so that an authority that is not trusted any more counts no longer.
func (s *session) certified(p *pin) (string, *connmodel.ConnError) {
	t := s.tls
	if t == nil || t.conn == nil {
		return "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by != p.tls {
		cs := t.conn.ConnectionState()
		user, err := p.tls.again(&cs, time.Now())
		if err != nil {
			return "", &connmodel.ConnError{
				Phase: connmodel.PhaseAuth, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 403, CodeOf: "http",
				Message: "the configuration has changed, and does not take the client's certificate any more: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
			}
		}
		t.by, t.user = p.tls, user
	}
	return t.user, nil
}

// CertificatesEnd returns when the first of the certificates that each listener with TLS shows now ends, by the listeners' names.
func (r *Router) CertificatesEnd() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := make(map[string]time.Time)
	for _, d := range r.doors {
		p := d.pin.Load()
		if p.tls == nil {
			continue
		}
		var first time.Time
		for _, c := range *p.tls.pairs.now.Load() {
			if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
				first = c.Leaf.NotAfter
			}
		}
		ends[p.l.Name] = first
	}
	return ends
}
