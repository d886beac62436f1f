package http1

import (
	"errors"
	"fmt"
)

// ErrIncomplete is what the parsers return when the bytes are sound so far and
// more of them are needed.
var ErrIncomplete = errors.New("http1: incomplete message")

// Error is a message that breaks the rules. Its texts are fixed: no byte of the
// peer's is in them, so they may be logged and shown as they are. Values are
// shared, do not change them.
type Error struct {
	Status  int    // what to answer: 400, 414, 417, 431, 501 or 505 for a request; 502 for a response
	Reason  string // what is wrong, a short phrase
	Section string // the rule that is broken, such as "RFC 9112 5.1"
}

func (e *Error) Error() string {
	return fmt.Sprintf("http1: %s (%s)", e.Reason, e.Section)
}

// Is reports whether target is an *Error of the same reason, whatever its
// status.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// inResponse is the same fault found in a response: the one who asked gets 502.
func (e *Error) inResponse() *Error {
	return &Error{Status: 502, Reason: e.Reason, Section: e.Section}
}

// WriteError is a failure of the side that is written to, so that a relaying
// copy can tell whose fault its end was.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "http1: write: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

// Faults of the start line and of heads as a whole.
var (
	errBareLF       = &Error{400, "line ends in a bare LF", "RFC 9112 2.2"}
	errBlankLines   = &Error{400, "too many empty lines before the message", "RFC 9112 2.2"}
	errRequestLine  = &Error{400, "malformed request line", "RFC 9112 3"}
	errMethod       = &Error{400, "malformed method", "RFC 9110 9.1"}
	errMethodLong   = &Error{501, "method too long", "RFC 9112 3"}
	errVersion      = &Error{400, "malformed HTTP version", "RFC 9112 2.3"}
	errMajor        = &Error{505, "HTTP version not supported", "RFC 9110 15.6.6"}
	errLineTooLong  = &Error{414, "request line too long", "RFC 9112 3"}
	errHeadTooLarge = &Error{431, "header section too large", "RFC 6585 5"}
	errTooMany      = &Error{431, "too many header fields", "RFC 6585 5"}
	errNotHTTP      = &Error{502, "answer is not HTTP", "RFC 9112 4"}
	errStatusLine   = &Error{502, "malformed status line", "RFC 9112 4"}
	errTooMany1xx   = &Error{502, "too many informational responses", "RFC 9110 15.2"}
)

// Faults of fields.
var (
	errFieldLine     = &Error{400, "malformed header field line", "RFC 9112 5"}
	errFieldName     = &Error{400, "malformed header field name", "RFC 9112 5.1"}
	errSpaceColon    = &Error{400, "space before the colon of a header field", "RFC 9112 5.1"}
	errObsFold       = &Error{400, "folded header field", "RFC 9112 5.2"}
	errFieldValue    = &Error{400, "control character in a header field value", "RFC 9110 5.5"}
	errNoHost        = &Error{400, "no Host field", "RFC 9112 3.2"}
	errTwoHosts      = &Error{400, "more than one Host field", "RFC 9112 3.2"}
	errHostValue     = &Error{400, "invalid Host field", "RFC 9112 3.2"}
	errConnection    = &Error{400, "too many connection options", "RFC 9110 7.6.1"}
	errExpect        = &Error{417, "unknown expectation", "RFC 9110 10.1.1"}
	errLengthValue   = &Error{400, "malformed Content-Length", "RFC 9112 6.3(5)"}
	errLengthClash   = &Error{400, "conflicting Content-Length fields", "RFC 9112 6.3(5)"}
	errLengthAndTE   = &Error{400, "both Content-Length and Transfer-Encoding", "RFC 9112 6.1"}
	errTEIn10        = &Error{400, "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1"}
	errTEMalformed   = &Error{400, "malformed Transfer-Encoding", "RFC 9112 6.1"}
	errTEUnknown     = &Error{501, "transfer coding other than chunked", "RFC 9112 6.1"}
	errConnectBody   = &Error{400, "CONNECT with content", "RFC 9110 9.3.6"}
	errUnsafeToWrite = &Error{500, "field that cannot be written safely", "RFC 9110 5.5"}
	errFramingClash  = &Error{500, "body and its announced framing differ", "RFC 9112 6"}
)

// Faults of chunked bodies.
var (
	errChunkSize    = &Error{400, "malformed chunk size", "RFC 9112 7.1"}
	errChunkTooBig  = &Error{400, "chunk size out of range", "RFC 9112 7.1"}
	errChunkExt     = &Error{400, "malformed chunk extension", "RFC 9112 7.1.1"}
	errChunkExtLong = &Error{400, "chunk extensions too long", "RFC 9112 7.1.1"}
	errChunkEnd     = &Error{400, "chunk does not end in CRLF", "RFC 9112 7.1"}
	errTrailerLarge = &Error{431, "trailer section too large", "RFC 9112 7.1.2"}
)
