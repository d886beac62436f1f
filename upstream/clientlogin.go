package upstream

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// ClientLogin is a user and password that the client of a flow has proved to us, for proxies that want to be shown just that (Auth.FromClient):
// Basic, made anew for each such proxy. Connections on which it was shown serve that client alone: they are not among those that tunnels
// share, and whoever keeps one for plain HTTP must not give it to another client (Conn.Personal).
//
// Nothing of it is kept: what the guard remembers of it is what it remembers of every credential.
type ClientLogin struct {
	User     string
	Password Secret
}

// loginKey makes the keys of logins meaningless outside of the process.
var loginKey = func() (k [32]byte) {
	rand.Read(k[:]) // never fails
	return k
}()

// key tells logins apart.
func (l *ClientLogin) key() (k [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(loginKey[:len(loginKey):len(loginKey)], "%q %q", l.User, l.Password.Reveal()))
	copy(k[:], sum[:])
	return k
}

// errNoLogin says that a proxy is to be shown what the client has proved, and it has proved nothing by a password.
var errNoLogin = errors.New("the proxy is to be shown the user and password of the client, and this client has proved none")

// fromClient reports whether the hop is shown what the client of each flow has proved.
func (h *Hop) fromClient() bool { return h.spec.Auth != nil && h.spec.Auth.FromClient }

// personal reports whether one of hops is shown what the client has proved: a connection through it is that client's.
func personal(hops []*Hop) bool {
	for _, h := range hops {
		if h.fromClient() {
			return true
		}
	}
	return false
}

// FromClient reports whether there is a proxy that is shown what the client has proved: else nobody needs Request.Proved.
func (t *Table) FromClient() bool { return personal(t.hops) }

// Personal reports whether the client's own login was shown on the way. The connection must not serve another client.
func (c *Conn) Personal() bool { return personal(c.lease.hops) }

// Forget drops the client's login between two requests.
func (c *Conn) Forget() {
	if c.hop != nil && c.hop.fromClient() {
		c.auth, c.session = nil, nil
	}
}

// Renew gives the connection the login of the next request, which is the same one: see Key.
func (c *Conn) Renew(l *ClientLogin) *connmodel.ConnError {
	if c.hop == nil || !c.hop.fromClient() {
		return nil
	}
	au, err := c.hop.clientAuth(l)
	if err != nil {
		return classify(c.failure(&loginError{err}))
	}
	c.auth = au
	return nil
}

// errUnread says that nothing is sent to a proxy, because what it is to be shown is not known here.
var errUnread = errors.New("a secret of its credential is not known here, so nothing is shown to it")

func (h *Hop) unread() bool { return h.spec.Auth != nil && h.spec.Auth.Unread }

// clientAuth makes what proves to the proxy who the client is. It is made for each flow, so that no password outlives it.
func (h *Hop) clientAuth(l *ClientLogin) (*auth.Authenticator, error) {
	if l == nil || l.User == "" || l.Password.IsZero() {
		return nil, errNoLogin
	}
	au, err := auth.New(auth.Config{
		Credential: fmt.Sprintf("%s of user %q", h.credential, l.User), Client: true, Upstream: h.spec.Name, Host: h.spec.Address.Host, Schemes: []string{auth.Basic},
		Username: l.User, Password: l.Password.Reveal, Realm: h.spec.Auth.Realm, Guard: h.guard,
	})
	if err != nil {
		return nil, fmt.Errorf("the client's user name or password cannot be sent by Basic: %w", err)
	}
	return au, nil
}

// auth returns what proves to hop n who we are; nil = it is shown nothing, which is so for checks where there has to be a client.
func (a *attempt) auth(n int) (*auth.Authenticator, *HopError) {
	h := a.hops[n-1]
	if !h.fromClient() || a.d.q.check {
		return h.auth, nil
	}
	if a.clients[n-1] == nil {
		au, err := h.clientAuth(a.d.q.Proved)
		if err != nil {
			return nil, a.failure(n, connmodel.PhaseAuth, &loginError{err})
		}
		a.clients[n-1] = au
	}
	return a.clients[n-1], nil
}

// loginError is why a client's login is not shown.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// loginRow is a flow that has no login to show. It is nobody's fault but the client's.
func loginRow(e *HopError) (verdict, bool) {
	var l *loginError
	switch {
	case errors.Is(e.Err, errNoLogin):
		return verdict{whose: clients, kind: connmodel.KindAuth, retry: true, text: "upstream " + e.Upstream + " is shown the user and password of the client (auth { from_client }), and this client has proved none to its listener: " +
			"it has to log in with a password, not with a certificate or without anything"}, true
	case errors.Is(e.Err, errUnread):
		return verdict{whose: ours, kind: connmodel.KindAuth, retry: true, text: "upstream " + e.Upstream + ": " + errUnread.Error()}, true
	case errors.As(e.Err, &l):
		return verdict{whose: clients, kind: connmodel.KindAuth, retry: true, text: "upstream " + e.Upstream + ": " + l.Error()}, true
	}
	return verdict{}, false
}
