package connmodel

import (
	"fmt"
	"strconv"
	"strings"
)

// State says what can be done with one end of a connection, as flags that combine.
// CanRead and CanWrite imply Open; Open alone means that the socket is up but a tunnel or TLS on it is not ready.
type State uint8

// The flags and their usual combinations. The numbers are part of the JSON form.
const (
	Closed   State = 0
	Open     State = 1
	CanRead  State = 2
	CanWrite State = 4
	Active   State = Open | CanRead | CanWrite
)

// Has reports whether all flags of f are set in s. Has(Closed) is true for Closed alone.
func (s State) Has(f State) bool {
	if f == Closed {
		return s == Closed
	}
	return s&f == f
}

// Valid reports whether s keeps the rule that CanRead and CanWrite imply Open.
func (s State) Valid() bool { return s <= Active && (s == Closed || s&Open != 0) }

// stateNames has the text of every state, the ones that cannot occur too.
var stateNames = [...]string{"closed", "open", "can_read", "open|can_read", "can_write", "open|can_write", "can_read|can_write", "active"}

// String returns "closed", "open", "active", "open|can_read" or "open|can_write".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// ParseState reads what String writes.
func ParseState(text string) (State, error) {
	if text == "closed" {
		return Closed, nil
	}
	var s State
	for part := range strings.SplitSeq(text, "|") {
		switch part {
		case "open":
			s |= Open
		case "can_read":
			s |= CanRead
		case "can_write":
			s |= CanWrite
		case "active":
			s |= Active
		default:
			return Closed, fmt.Errorf("connmodel: %q is not a connection state", bound(part, maxQuoted))
		}
	}
	if !s.Valid() {
		return Closed, fmt.Errorf("connmodel: state %q can be read or written without being open", bound(text, maxQuoted))
	}
	return s, nil
}
