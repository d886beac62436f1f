package socks5

import (
	"errors"
	"fmt"
)

// ErrIncomplete says that the bytes are sound so far and more are needed.
var ErrIncomplete = errors.New("socks5: incomplete message")

// ErrName is a host that cannot be sent as a name nor as an address.
var ErrName = errors.New("socks5: not a valid host name")

// ErrCredentials are a user or password that RFC 1929 cannot carry: each has 1
// to 255 bytes.
var ErrCredentials = errors.New("socks5: user and password must have 1 to 255 bytes each")

// ProtocolError is a peer that does not speak the protocol as it should. Its
// text holds no byte of the peer's but in hex.
type ProtocolError struct {
	Saw     string // what is wrong
	Section string // the rule that is broken
}

func (e *ProtocolError) Error() string { return "socks5: " + e.Saw + " (" + e.Section + ")" }

// AuthError is a server that did not let us in: it took none of the methods
// offered (RFC 1928 3), or it refused user and password (RFC 1929 2).
type AuthError struct {
	NoMethod bool // none of the methods suited it; otherwise the credentials were refused
	Offered  bool // user and password were among what was offered
}

func (e *AuthError) Error() string {
	switch {
	case !e.NoMethod:
		return "socks5: user or password refused"
	case e.Offered:
		return "socks5: none of the authentication methods accepted, user and password offered"
	}
	return "socks5: authentication demanded, none offered"
}

// Code is the REP field of a reply (RFC 1928 6).
type Code byte

const (
	Succeeded               Code = 0x00
	GeneralFailure          Code = 0x01
	NotAllowed              Code = 0x02
	NetworkUnreachable      Code = 0x03
	HostUnreachable         Code = 0x04
	ConnectionRefused       Code = 0x05
	TTLExpired              Code = 0x06
	CommandNotSupported     Code = 0x07
	AddressTypeNotSupported Code = 0x08
)

var codeText = [...]string{
	"succeeded", "general SOCKS server failure", "connection not allowed by ruleset",
	"network unreachable", "host unreachable", "connection refused", "TTL expired",
	"command not supported", "address type not supported",
}

func (c Code) String() string {
	if int(c) < len(codeText) {
		return codeText[c]
	}
	return fmt.Sprintf("unassigned reply code 0x%02x", byte(c))
}

// ReplyError is a reply other than success, with codes beyond 0x08 too.
type ReplyError struct{ Code Code }

func (e *ReplyError) Error() string { return "socks5: server replied: " + e.Code.String() }
