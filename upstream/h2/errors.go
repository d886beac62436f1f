package h2

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"golang.org/x/net/http2"
)

// StreamError is the end of one stream before its time. The connection goes on.
type StreamError struct {
	Code   http2.ErrCode
	Remote bool   // the peer reset it; else we did, because of what the peer sent
	Reason string // what the peer did wrong, when it was us; fixed text
	// Unprocessed says that the peer has not looked at the request (RFC 9113 8.7): it may be sent again, even if it is
	// not idempotent.
	Unprocessed bool
}

func (e *StreamError) Error() string {
	switch {
	case e.Remote && e.Unprocessed:
		return "h2: the peer did not take the stream: " + codeName(e.Code)
	case e.Remote:
		return "h2: the peer reset the stream: " + codeName(e.Code)
	case e.Reason != "":
		return "h2: " + codeName(e.Code) + ": " + e.Reason
	}
	return "h2: stream reset: " + codeName(e.Code)
}

// Unwrap makes it a reset, as TCP has it.
func (e *StreamError) Unwrap() error { return syscall.ECONNRESET }

// ConnError is the end of a connection, and of every stream on it.
type ConnError struct {
	Code        http2.ErrCode // of GOAWAY; NO_ERROR when the connection just broke
	Remote      bool          // the peer said GOAWAY, or broke the connection
	Reason      string        // fixed text
	Err         error         // of the connection below; may be nil
	Unprocessed bool          // of a stream: the peer has not looked at it
	NotHTTP2    bool          // a server chose h2 and did not even begin as HTTP/2 does (RFC 9113 3.4)
}

func (e *ConnError) Error() string {
	s := "h2: connection ended"
	if e.Remote {
		s = "h2: the peer ended the connection"
	}
	if e.Code != http2.ErrCodeNo {
		s += ": " + codeName(e.Code)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes it a reset, as TCP has it, and the error of the connection below. An end of that is none of a stream:
// io.EOF is told as io.ErrUnexpectedEOF.
func (e *ConnError) Unwrap() []error {
	switch {
	case e.Err == nil:
		return []error{syscall.ECONNRESET}
	case e.Err == io.EOF:
		return []error{syscall.ECONNRESET, io.ErrUnexpectedEOF}
	}
	return []error{syscall.ECONNRESET, e.Err}
}

// Unprocessed reports whether err says that the peer did nothing with the request of a stream, so that it can be sent
// again on another connection whatever its method is.
func Unprocessed(err error) bool {
	var se *StreamError
	var ce *ConnError
	return errors.As(err, &se) && se.Unprocessed || errors.As(err, &ce) && ce.Unprocessed
}

// Errors of clients.
var (
	// ErrFull says that the peer takes no further stream at present.
	ErrFull = errors.New("h2: the peer takes no more streams at present")
	// ErrClosing says that the connection takes no new streams any more: it is closed, or either side has said GOAWAY.
	ErrClosing = errors.New("h2: the connection takes no new streams any more")
	// ErrNoExtendedConnect is an Upgrade that HTTP/2 can only carry by extended CONNECT (RFC 8441), which the peer does
	// not announce. Nothing was sent.
	ErrNoExtendedConnect = errors.New("h2: the peer takes no WebSocket over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441)")
	// ErrIncomplete is the end of a message by its writer before the message was complete.
	ErrIncomplete = errors.New("h2: the message that was written is not complete")
	errSurplus    = errors.New("h2: more was written than the message has")
	errNoPreface  = errors.New("h2: the peer does not begin as HTTP/2 does")
)

// fault is what a peer did wrong, told by a connection error.
type fault struct {
	code   http2.ErrCode
	reason string
}

func (f *fault) Error() string { return fmt.Sprintf("%s: %s", codeName(f.code), f.reason) }

// codeName is the code in the words of RFC 9113 7; the peer may send any number.
func codeName(c http2.ErrCode) string {
	if c > http2.ErrCodeHTTP11Required {
		return "error " + strconv.FormatUint(uint64(c), 10)
	}
	return c.String()
}
