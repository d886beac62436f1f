package doctor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"viaduct/connmodel"
)

// netCode names what a socket said, behind the name of the step.
func netCode(step string, err error) string {
	var n syscall.Errno
	switch {
	case timedOut(err):
		return step + "_timeout"
	case errors.As(err, &n):
		switch n {
		case syscall.ECONNREFUSED:
			return step + "_refused"
		case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN:
			return step + "_unreachable"
		case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
			return step + "_reset"
		case syscall.EACCES, syscall.EPERM:
			return step + "_forbidden"
		case syscall.EADDRNOTAVAIL, syscall.ENODEV:
			return step + "_source"
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return step + "_closed"
	}
	return step + "_failed"
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// plain says an error without the names of calls and packages.
func plain(err error) string {
	var op *net.OpError
	var no syscall.Errno
	var conn *connmodel.ConnError
	var dns *net.DNSError
	switch {
	case errors.As(err, &conn):
		return conn.Error()
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "there is no such name, or it has no address"
		}
		return clean(dns.Err)
	case timedOut(err):
		return "no answer in time"
	case errors.As(err, &no):
		return no.Error()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "closed in the middle of an answer"
	case errors.Is(err, io.EOF):
		return "closed without an answer"
	case errors.As(err, &op):
		return clean(op.Err.Error())
	}
	return clean(err.Error())
}

// maxText bounds what a peer can have printed.
const maxText = 200

// clean makes a text of a peer's fit for a terminal.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	for _, c := range s {
		if !strconv.IsPrint(c) {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// quoted is a name in quotes, whatever is in it.
func quoted(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strconv.QuoteToASCII(s)
}
