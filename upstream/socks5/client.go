package socks5

import (
	"fmt"
	"io"
	"sync"
)

// Auth are the credentials for RFC 1929, a secret.
type Auth struct{ User, Password string }

// String keeps credentials out of logs.
func (Auth) String() string { return "***" }

// GoString keeps credentials out of logs.
func (Auth) GoString() string { return "***" }

// scratchSize holds the longest reply (4 + 256 + 2) and the longest message we
// send (MaxMessage).
const scratchSize = 576

var scratchPool = sync.Pool{New: func() any { return new([scratchSize]byte) }}

// Connect asks the SOCKS server at the other end of rw for a connection to host
// and port: host is an IPv4 or IPv6 address or a name, which the server
// resolves. With auth nil only "no authentication" is offered, else user and
// password too. It returns the address the server says it connects from (a
// name in it that is none is left out) and the bytes that came behind the
// reply, which are the first of the tunnel.
//
// It reads and writes until the reply is there: the deadline is the caller's.
// Errors: ErrName and ErrCredentials before anything is sent, *AuthError,
// *ReplyError, *ProtocolError, else the error of rw, wrapped: io.EOF when the
// server closed instead of answering, io.ErrUnexpectedEOF within an answer.
// After any of them rw is of no use.
func Connect(rw io.ReadWriter, host string, port uint16, auth *Auth) (bound Addr, leftover []byte, err error) {
	target, err := ParseHost(host, port)
	if err != nil || port == 0 {
		return Addr{}, nil, ErrName
	}
	return ask(rw, cmdConnect, target, auth)
}

// Associate asks the SOCKS server at the other end of rw to relay datagrams for
// as long as rw is open (RFC 1928 7). It returns where the server takes them: an
// unspecified address means its own. Nothing is due on rw after that; what came
// nevertheless is dropped. The request does not say where our datagrams will
// come from, as it may when that is not known.
//
// Deadlines, auth and errors are as for Connect; a *ProtocolError besides, when
// the server names no port.
func Associate(rw io.ReadWriter, auth *Auth) (relay Addr, err error) {
	relay, _, err = ask(rw, cmdAssociate, Addr{}, auth)
	if err == nil && relay.Port == 0 {
		err = errRelayPort
	}
	return relay, err
}

// ask is the handshake for one command.
func ask(rw io.ReadWriter, command byte, target Addr, auth *Auth) (bound Addr, leftover []byte, err error) {
	if auth != nil && (badLength(auth.User) || badLength(auth.Password)) {
		return Addr{}, nil, ErrCredentials
	}
	scratch := scratchPool.Get().(*[scratchSize]byte)
	defer func() {
		clear(scratch[:]) // there was a password in it
		scratchPool.Put(scratch)
	}()
	c := client{rw: rw, buf: scratch[:]}
	if err := c.authenticate(auth); err != nil {
		return Addr{}, nil, err
	}
	if err := c.send("request", appendAddr(append(c.buf[:0], version, command, 0x00), target)); err != nil {
		return Addr{}, nil, err
	}
	if bound, err = c.reply(); err != nil {
		return Addr{}, nil, err
	}
	if c.r < c.w {
		leftover = append(leftover, c.buf[c.r:c.w]...)
	}
	return bound, leftover, nil
}

func badLength(s string) bool { return len(s) == 0 || len(s) > 255 }

// client is a handshake under way. buf is used to send and to receive, one
// after the other; buf[r:w] has come and is not used yet.
type client struct {
	rw   io.ReadWriter
	buf  []byte
	r, w int
}

// Faults of servers.
var (
	errMethod     = &ProtocolError{"server chose a method that was not offered", "RFC 1928 3"}
	errTurn       = &ProtocolError{"server spoke before it was asked", "RFC 1928 3"}
	errReplyRSV   = &ProtocolError{"reserved byte of the reply is not 0", "RFC 1928 6"}
	errRelayPort  = &ProtocolError{"reply to UDP ASSOCIATE names port 0", "RFC 1928 6"}
	errReplyType  = &ProtocolError{"unknown address type in the reply", "RFC 1928 6"}
	errSawHTTP    = &ProtocolError{"answered with HTTP, not SOCKS5", "RFC 1928 3"}
	errSawTLS     = &ProtocolError{"answered with TLS, not SOCKS5", "RFC 1928 3"}
	errSawSOCKS4  = &ProtocolError{"answered with SOCKS4, not SOCKS5", "RFC 1928 3"}
	errAuthAnswer = &ProtocolError{"malformed answer to user and password", "RFC 1929 2"}
)

// authenticate offers the methods and does what the server chose.
func (c *client) authenticate(auth *Auth) error {
	out := append(c.buf[:0], version, 1, methodNone)
	if auth != nil {
		out = append(c.buf[:0], version, 2, methodNone, methodPassword)
	}
	if err := c.send("greeting", out); err != nil {
		return err
	}
	b, err := c.need("method selection", 1)
	if err != nil {
		return err
	}
	if b[0] != version {
		return wrongVersion(b[0])
	}
	if b, err = c.need("method selection", 2); err != nil {
		return err
	}
	c.r += 2
	switch {
	case b[1] == methodRefused:
		return &AuthError{NoMethod: true, Offered: auth != nil}
	case b[1] == methodNone:
		return c.silent()
	case b[1] != methodPassword || auth == nil:
		return errMethod
	}
	return c.password(auth)
}

// password is the sub-negotiation of RFC 1929.
func (c *client) password(auth *Auth) error {
	if err := c.silent(); err != nil {
		return err
	}
	out := append(c.buf[:0], authVersion, byte(len(auth.User)))
	out = append(out, auth.User...)
	out = append(out, byte(len(auth.Password)))
	out = append(out, auth.Password...)
	if err := c.send("user and password", out); err != nil {
		return err
	}
	b, err := c.need("answer to user and password", 2)
	if err != nil {
		return err
	}
	c.r += 2
	switch {
	case b[0] != authVersion:
		return errAuthAnswer
	case b[1] != 0:
		return &AuthError{Offered: true}
	}
	return c.silent()
}

// reply reads VER REP RSV ATYP BND.ADDR BND.PORT (RFC 1928 6). A refusal is
// known from its second byte: nothing more is waited for.
func (c *client) reply() (Addr, error) {
	b, err := c.need("reply", 2)
	switch {
	case err != nil:
		return Addr{}, err
	case b[0] != version:
		return Addr{}, wrongVersion(b[0])
	case b[1] != byte(Succeeded):
		return Addr{}, &ReplyError{Code(b[1])}
	}
	if b, err = c.need("reply", 4); err != nil {
		return Addr{}, err
	}
	if b[2] != 0 {
		return Addr{}, errReplyRSV
	}
	size := 0
	for range 2 { // the length of a name is known only with its first byte
		if size = addrLen(b[3:]); size == 0 {
			return Addr{}, errReplyType
		}
		if b, err = c.need("reply", 3+size); err != nil {
			return Addr{}, err
		}
	}
	size = addrLen(b[3:])
	c.r += 3 + size
	a := parseAddr(b[3 : 3+size])
	if a.Name != "" && !ValidName(a.Name) {
		a.Name = "" // it is for the record alone
	}
	return a, nil
}

// silent checks that the server waits for its turn: bytes that come before the
// request is out are no answer to it.
func (c *client) silent() error {
	if c.r < c.w {
		return errTurn
	}
	return nil
}

func (c *client) send(what string, b []byte) error {
	c.r, c.w = 0, 0
	if _, err := c.rw.Write(b); err != nil {
		return fmt.Errorf("socks5: %s: %w", what, err)
	}
	return nil
}

// need returns the unused bytes, n of them at least.
func (c *client) need(what string, n int) ([]byte, error) {
	for empty := 0; c.w-c.r < n; {
		m, err := c.rw.Read(c.buf[c.w:])
		c.w += m
		if c.w-c.r >= n {
			break
		}
		if empty++; m > 0 {
			empty = 0
		}
		switch {
		case err == io.EOF && c.w > c.r:
			err = io.ErrUnexpectedEOF
		case err == nil && empty > 64:
			err = io.ErrNoProgress
		}
		if err != nil {
			return nil, fmt.Errorf("socks5: %s: %w", what, err)
		}
	}
	return c.buf[c.r:c.w], nil
}

// wrongVersion says what the peer speaks, as far as one byte tells.
func wrongVersion(b byte) error {
	switch b {
	case 'H':
		return errSawHTTP
	case 0x15, 0x16:
		return errSawTLS
	case 0x00, 0x04:
		return errSawSOCKS4
	}
	return &ProtocolError{fmt.Sprintf("answered with version byte 0x%02x, not SOCKS5", b), "RFC 1928 3"}
}
