package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Result is how a query or a lookup ended, as a word for metrics and records.
type Result uint8

// The results.
const (
	OK       Result = iota
	NXDomain        // there is no such name
	NoData          // the name is there, without an address of this kind
	ServFail        // the server could not find out
	Refused         // the server does not want to
	Timeout         // nothing was said in time
	Failed          // everything else: no connection, no TLS, garbage
	results
)

// String returns the word of a result.
func (r Result) String() string {
	return [...]string{"ok", "nxdomain", "nodata", "servfail", "refused", "timeout", "failed"}[r]
}

// maxSaid bounds how many servers an error repeats.
const maxSaid = 4

// Error is a lookup that gave no address.
type Error struct {
	Name, Resolver string
	Result         Result
	Cached         bool // it was known from before
	// Said is what the servers answered, each the last time it was asked.
	Said []Said
	// Reason is why no server was asked; "" = they were.
	Reason string
	dns    *net.DNSError
}

// Said is the answer of one server.
type Said struct{ Server, What string }

// Error says what was asked, and who said what.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("resolver " + e.Resolver + ": ")
	switch e.Result {
	case NXDomain:
		b.WriteString("there is no host named " + e.Name)
	case NoData:
		b.WriteString(e.Name + " has no address")
	default:
		b.WriteString(e.Name + " could not be looked up")
	}
	if w := e.Words(); w != "" {
		b.WriteString(" (" + w + ")")
	}
	return b.String()
}

// Words is who said what, without the name: "udp://10.0.0.53:53: NXDOMAIN".
func (e *Error) Words() string {
	if e.Reason != "" {
		return e.Reason
	}
	parts := make([]string, 0, maxSaid+1)
	for i, s := range e.Said {
		if i == maxSaid {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Said)-i))
			break
		}
		parts = append(parts, s.Server+": "+s.What)
	}
	if e.Cached {
		parts = append(parts, "remembered")
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns the *net.DNSError that says the same.
func (e *Error) Unwrap() error { return e.dns }

// Timeout implements net.Error.
func (e *Error) Timeout() bool { return e.Result == Timeout }

// Temporary implements net.Error.
func (e *Error) Temporary() bool { return e.Result >= ServFail }

// finish makes the *net.DNSError.
func (e *Error) finish() *Error {
	e.dns = &net.DNSError{Err: e.Words(), Name: e.Name, IsNotFound: e.Result == NXDomain || e.Result == NoData, IsTimeout: e.Result == Timeout, IsTemporary: e.Result >= ServFail}
	if e.dns.IsNotFound {
		e.dns.Err = "no such host"
	}
	if len(e.Said) > 0 {
		e.dns.Server = e.Said[len(e.Said)-1].Server
	}
	return e
}

// resultOf sorts what went wrong with a server, in words that name no more than is needed.
func resultOf(err error) (Result, string) {
	var code rcodeError
	var ne net.Error
	var n syscall.Errno
	switch {
	case errors.As(err, &code):
		switch code.Error() {
		case "SERVFAIL":
			return ServFail, "SERVFAIL"
		case "REFUSED":
			return Refused, "REFUSED"
		}
		return Failed, code.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return Timeout, "no answer in time"
	case errors.Is(err, context.Canceled):
		return Failed, "given up"
	case errors.As(err, &n):
		return Failed, n.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Failed, "it closed the connection"
	}
	text := err.Error()
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return Failed, text
}
