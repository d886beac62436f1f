package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/proxy"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/certcheck"
	"viaduct/upstream/resolve"
)

// Schemes whose wire protocol is spoken here.
const (
	schemeHTTP    = "http"
	schemeHTTPS   = "https"
	schemeSOCKS4  = "socks4"
	schemeSOCKS4a = "socks4a"
	schemeSOCKS5  = "socks5"
	schemeSOCKS5h = "socks5h"
)

// Schemes returns the schemes that are built in; others must be registered with proxy.RegisterDialerType.
func Schemes() []string {
	return []string{schemeHTTP, schemeHTTPS, schemeSOCKS4, schemeSOCKS4a, schemeSOCKS5, schemeSOCKS5h}
}

// ALPN returns the protocols that are spoken to https proxies, by their ALPN names, the one that is wanted most first.
func ALPN() []string { return []string{protoHTTP2, "http/1.1"} }

// Hop is one declared proxy, ready to be gone through. It is immutable but for its counters.
type Hop struct {
	spec       Spec
	socket     *socket
	literal    netip.Addr          // Address, when it is no name: nothing is to resolve
	tls        *tls.Config         // ready for tls.Client; nil = no TLS
	older      *tls.Config         // ... without HTTP/2; nil = that is not offered
	verified   string              // name its certificate is checked against; "" = it is not checked
	credential string              // name of the credential; "" = none
	auth       *auth.Authenticator // of HTTP proxies; nil = they are shown nothing
	guard      *auth.Guard
	login      *login     // the credential as checks see it; nil = none is shown
	vital      *health    // what active checks of the upstream itself found out; nil = it is not checked
	warm       *warmth    // connections that are logged in; nil = none are kept
	socksPair  *auth.Pair // of SOCKS5 proxies; nil = nobody guards what they are shown
	taken      time.Time  // since when its secret is the one that it is; zero = it has none
	resolver   resolve.Resolver
	registered *url.URL // for proxy.FromURL, without credentials; nil = built in
	state      *hopState
	out        *atomic.Bool               // an operator took it out of service; shared with tables before and after, for the name
	check      func(netip.AddrPort) error // may refuse an address of the proxy; nil = the policy names it
}

// hopState is what is counted about a proxy. Tables of later configurations share it while the proxy stays the same.
type hopState struct {
	spec     Spec         // what it was counted for
	open     atomic.Int64 // connections and attempts under way
	attempts atomic.Uint64
	failures atomic.Uint64 // attempts that failed at this hop by its fault
	row      atomic.Uint64 // of those failures, in a row
	rejects  atomic.Bool   // it answered the last plain request with 407
	worked   atomic.Bool   // it did its part at least once
	last     atomic.Pointer[failure]
	names    names
}

type failure struct {
	at  time.Time
	err *connmodel.ConnError
}

// newHop checks a specification; prev is the hop of that name in the table before, or nil.
func newHop(s Spec, guard *auth.Guard, prev *Hop) (*Hop, error) {
	s.Scheme = strings.ToLower(s.Scheme)
	if s.Name == "" {
		return nil, errors.New("an upstream needs a name")
	}
	h := &Hop{spec: s, socket: newSocket(s.SourceAddress, s.Interface, s.KeepAlive, s.Mark)}
	h.spec.Timeouts.Dial = orDefault(s.Timeouts.Dial, defaultHopTimeout)
	h.spec.Timeouts.TLS = orDefault(s.Timeouts.TLS, defaultHopTimeout)
	h.spec.Timeouts.Handshake = orDefault(s.Timeouts.Handshake, defaultHopTimeout)
	if s.Auth != nil {
		h.credential = s.Auth.Credential
		if h.credential == "" {
			h.credential = s.Name
		}
	}
	if err := h.checkAuth(); err != nil {
		return nil, err
	}
	if !slices.Contains(Schemes(), s.Scheme) {
		if err := h.register(); err != nil {
			return nil, err
		}
	}
	if s.Address.IsZero() && h.registered == nil {
		return nil, errors.New("the proxy's address is missing")
	}
	if ip := s.Address.IP(); ip.IsValid() {
		h.literal = ip.Unmap()
	}
	if s.Scheme == schemeHTTPS {
		h.tls, h.older, h.verified = hopTLS(&s)
	}
	if h.out = new(atomic.Bool); prev != nil {
		h.out = prev.out
	}
	h.state = &hopState{spec: s}
	if prev != nil && sameProxy(&prev.state.spec, &s) {
		h.state = prev.state
	}
	if err := h.newAuth(guard, prev); err != nil {
		return nil, err
	}
	h.taken = h.since(prev)
	if h.auth != nil && h.auth.Bound() {
		h.warm = new(warmth)
	}
	if h.older != nil && (h.auth != nil && h.auth.Bound() || h.fromClient()) { // what is proved holds for a connection, which streams would share
		h.tls, h.older = h.older, nil
	}
	return h, nil
}

// checkAuth refuses credentials that the scheme cannot carry.
func (h *Hop) checkAuth() error {
	a := h.spec.Auth
	if a == nil {
		return nil
	}
	if a.FromClient && !h.http() {
		return errors.New("only HTTP proxies can be shown what the client has proved")
	}
	if strings.ContainsFunc(a.Username+a.Password.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("user name or password holds a control character")
	}
	if a.Unread {
		return nil
	}
	switch h.spec.Scheme {
	case schemeSOCKS5, schemeSOCKS5h:
		// RFC 1929, section 2: both are 1 to 255 octets.
		if n := len(a.Username); n < 1 || n > 255 {
			return errors.New("a SOCKS5 user name has 1 to 255 octets")
		}
		if n := len(a.Password.Reveal()); n < 1 || n > 255 {
			return errors.New("a SOCKS5 password has 1 to 255 octets")
		}
	case schemeSOCKS4, schemeSOCKS4a:
		if !a.Password.IsZero() {
			return errors.New("SOCKS4 carries a user name but no password; use socks5h")
		}
	}
	return nil
}

// register checks that the scheme is one that the program registered.
func (h *Hop) register() error {
	u := &url.URL{Scheme: h.spec.Scheme, Host: h.spec.Address.String()}
	if h.spec.URL != nil {
		c := *h.spec.URL
		c.User = nil
		u = &c
	}
	h.registered = u
	if _, err := h.dialer(&forward{}); err != nil {
		return fmt.Errorf("scheme %q: %w (built in are %s)", h.spec.Scheme, err, strings.Join(Schemes(), ", "))
	}
	return nil
}

// dialer makes the dialer of a registered scheme on top of a way to connect.
func (h *Hop) dialer(f proxy.Dialer) (proxy.Dialer, error) {
	u := *h.registered
	if a := h.spec.Auth; a != nil {
		u.User = url.UserPassword(a.Username, a.Password.Reveal())
	}
	d, err := proxy.FromURL(&u, f)
	if err != nil {
		return nil, h.scrub(err)
	}
	return d, nil
}

// scrub takes our password out of what a registered dialer says, which was given it in a URL.
func (h *Hop) scrub(err error) error {
	a := h.spec.Auth
	if a == nil || a.Password.IsZero() {
		return err
	}
	text, secret := err.Error(), a.Password.Reveal()
	clean := text
	for _, s := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:],
		base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + secret))} {
		clean = strings.ReplaceAll(clean, s, redacted)
	}
	if clean == text {
		return err
	}
	return &scrubbedError{clean, essence(err)}
}

// scrubbedError is what is left of an error whose text held a password: the text without it, and its nature.
type scrubbedError struct {
	text  string
	under error // may be nil
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.under }

// essence finds what the table of classify looks for, in values that hold no text.
func essence(err error) error {
	var n syscall.Errno
	var ne net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &ne) && ne.Timeout():
		return os.ErrDeadlineExceeded
	case errors.As(err, &n):
		return n
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return nil
}

// takesNames reports whether the hop is told names, and resolves them itself.
func (h *Hop) takesNames() bool {
	switch h.spec.Scheme {
	case schemeSOCKS4, schemeSOCKS5:
		return false
	}
	return true
}

// http reports whether the hop is an HTTP proxy, which can fetch plain requests itself.
func (h *Hop) http() bool { return h.spec.Scheme == schemeHTTP || h.spec.Scheme == schemeHTTPS }

// Format keeps what a Hop holds out of anything printed.
func (h *Hop) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "upstream.Hop(%s %s://%s)", h.spec.Name, h.spec.Scheme, h.spec.Address)
}

// sameProxy reports whether what was learnt of a holds for b.
func sameProxy(a, b *Spec) bool {
	return a.Name == b.Name && a.Scheme == b.Scheme && a.Address == b.Address && a.Resolver == b.Resolver && a.ServerName == b.ServerName &&
		a.NoHTTP2 == b.NoHTTP2 && a.SourceAddress == b.SourceAddress && a.Interface == b.Interface && a.Mark == b.Mark && sameAuth(a.Auth, b.Auth) &&
		sameURL(a.URL, b.URL) && certcheck.Same(a.TLS, b.TLS) && slices.Equal(a.Pins, b.Pins)
}

// Equal reports whether the same is shown, under the same name.
func (a *Auth) Equal(b *Auth) bool {
	return sameAuth(a, b) && (a == nil || a.Credential == b.Credential)
}

func sameAuth(a, b *Auth) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Username == b.Username && a.Password.Equal(b.Password) && a.Token.Equal(b.Token) && slices.Equal(a.Schemes, b.Schemes) &&
		a.Domain == b.Domain && a.Workstation == b.Workstation && a.Header == b.Header && a.Realm == b.Realm && a.WarmURL == b.WarmURL &&
		a.FromClient == b.FromClient && a.Unread == b.Unread && a.Keytab == b.Keytab && a.CCache == b.CCache && a.Krb5Conf == b.Krb5Conf && a.SPN == b.SPN && a.Canonical == b.Canonical
}

func sameURL(a, b *url.URL) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.String() == b.String()
}
