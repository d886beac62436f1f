package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"viaduct/upstream/auth"
)

// This file is for those who look at one proxy by itself to find out what is wrong with it (package doctor). Nothing on the way of a flow
// uses it.

// Upstream returns a declared proxy by its name; nil = there is none.
func (t *Table) Upstream(name string) *Hop { return t.hop(name) }

// ConnectTo makes a TCP connection to one address, from the socket that the proxy has: with its source address, interface and mark.
func (h *Hop) ConnectTo(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if err := h.socket.permit(to.Addr(), nil); err != nil {
		return nil, err
	}
	c, err := h.socket.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ClientTLS returns a copy of the configuration for the handshake with the proxy; nil = it is spoken to in the clear. With http1 nothing else is
// offered.
func (h *Hop) ClientTLS(http1 bool) *tls.Config {
	switch {
	case h.tls == nil:
		return nil
	case http1 && h.older != nil:
		return h.older.Clone()
	}
	return h.tls.Clone()
}

// Authenticator is what proves to the proxy who we are; nil = it is shown nothing, or does not speak HTTP.
func (h *Hop) Authenticator() *auth.Authenticator { return h.auth }

// Pair is what the guard knows of the credential; nil = nobody guards it.
func (h *Hop) Pair() *auth.Pair { return h.pair() }

// Kerberos says what a login for the proxy would be made of. It holds no secret.
func (s *Spec) Kerberos() auth.KerberosConfig {
	a := s.Auth
	if a == nil {
		return auth.KerberosConfig{Host: s.Address.Host}
	}
	return auth.KerberosConfig{Host: s.Address.Host, Username: a.Username, Keytab: a.Keytab, CCache: a.CCache, Krb5Conf: a.Krb5Conf, SPN: a.SPN, Canonical: a.Canonical}
}

// IsZero reports whether nothing of an upstream's credential is there, such as when it could not be read.
func (a *Auth) IsZero() bool {
	return a == nil || a.Password.IsZero() && a.Token.IsZero() && a.Keytab == "" && a.CCache == ""
}

// HTTP reports whether the scheme is of a proxy that speaks HTTP.
func (s *Spec) HTTP() bool { return s.Scheme == schemeHTTP || s.Scheme == schemeHTTPS }

// WithEarly puts what came early on a connection in front of what is read from it next; closing it closes c.
func WithEarly(conn net.Conn, early []byte, c *Conn) net.Conn {
	return &kept{earlyConn{Conn: conn, early: early}, c}
}

// kept is a connection that is closed by its owner.
type kept struct {
	earlyConn
	owner *Conn
}

// Close implements net.Conn.
func (k *kept) Close() error { return k.owner.Close() }

// Kerberos reports whether tickets come from a file.
func (a *Auth) Kerberos() bool { return a.Keytab != "" || a.CCache != "" }

// WithEarlyBytes puts bytes in front of what is read from a connection next.
func WithEarlyBytes(conn net.Conn, early []byte) net.Conn {
	return &earlyConn{Conn: conn, early: early}
}
