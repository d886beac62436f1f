package socks4

import (
	"errors"
	"fmt"
)

var (
	// ErrIncomplete says that the bytes are sound so far and more are needed.
	ErrIncomplete = errors.New("socks4: incomplete message")
	// ErrHost is a host that cannot be sent: an IPv6 address, or no valid name.
	ErrHost = errors.New("socks4: not an IPv4 address nor a valid host name")
	// ErrNeeds4a is a name for a server that speaks plain SOCKS4: resolve it first.
	ErrNeeds4a = errors.New("socks4: a name needs SOCKS4a")
	// ErrUserID is a user id that cannot be sent: over 255 bytes, or with a
	// control character.
	ErrUserID = errors.New("socks4: malformed user id")
)

// ProtocolError is a peer that does not speak the protocol as it should. Its
// text holds no byte of the peer's but in hex.
type ProtocolError struct {
	Saw     string // what is wrong
	Section string // the place in the specification
}

func (e *ProtocolError) Error() string { return "socks4: " + e.Saw + " (" + e.Section + ")" }

// Code is the CD field of a reply.
type Code byte

const (
	Granted       Code = 90
	Rejected      Code = 91 // or failed, for any reason
	NoIdent       Code = 92 // the server could not reach identd on the client
	IdentMismatch Code = 93 // identd named another user
)

func (c Code) String() string {
	switch c {
	case Granted:
		return "request granted"
	case Rejected:
		return "request rejected or failed"
	case NoIdent:
		return "request rejected: no identd on the client"
	case IdentMismatch:
		return "request rejected: identd reports another user"
	}
	return fmt.Sprintf("unassigned reply code 0x%02x", byte(c))
}

// ReplyError is a reply other than Granted, with unassigned codes too.
type ReplyError struct{ Code Code }

func (e *ReplyError) Error() string { return "socks4: server replied: " + e.Code.String() }
