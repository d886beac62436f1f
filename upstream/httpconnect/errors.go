package httpconnect

import (
	"fmt"
	"strconv"

	"viaduct/upstream/http1"
)

// maxSnippet bounds what is kept of the body of a refusal.
const maxSnippet = 1 << 10

// StatusError is a proxy that answered and did not open the tunnel. What is in
// it came from the proxy: quote it before it is shown.
type StatusError struct {
	Status            int
	Reason            string
	Header            http1.Header
	ProxyAuthenticate []string // the values of these fields, in order; with 407
	KeepAlive         bool     // the proxy would take another request, once the body is read
	BodySnippet       []byte   // the first of the body that was there with the head, at most 1 KiB
}

func (e *StatusError) Error() string {
	s := "httpconnect: proxy answered " + strconv.Itoa(e.Status)
	if e.Reason != "" {
		s += " " + strconv.QuoteToASCII(e.Reason[:min(len(e.Reason), 80)])
	}
	return s
}

// ProtocolError is a peer that did not answer as an HTTP proxy does. Its text
// holds no byte of the peer's but in hex.
type ProtocolError struct {
	Saw string // what came instead, such as "a TLS alert"; "" if it was HTTP, but wrong
	Err error  // the fault, an *http1.Error or nil
}

func (e *ProtocolError) Error() string {
	switch {
	case e.Saw == "":
		return fmt.Sprintf("httpconnect: malformed reply: %v", e.Err)
	default:
		return "httpconnect: proxy answered with " + e.Saw + ", not HTTP"
	}
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// sniff says what the bytes look like that are no HTTP.
func sniff(b []byte) string {
	has := func(p string) bool { return len(b) >= len(p) && string(b[:len(p)]) == p }
	switch {
	case string(b[:min(len(b), 5)]) == "HTTP/"[:min(len(b), 5)]:
		return "" // as far as it has come
	case has("\x15"):
		return "a TLS alert"
	case has("\x16"):
		return "a TLS handshake"
	case has("\x05"):
		return "SOCKS5"
	case len(b) >= 9 && b[3] == 0x04 && b[0] == 0: // a SETTINGS frame, RFC 9113 3.4
		return "HTTP/2"
	case has("\x00\x5a") || has("\x00\x5b"):
		return "SOCKS4"
	case has("SSH-"):
		return "SSH"
	case has("220"):
		return "a mail or FTP greeting"
	case has("<"):
		return "a page without a head"
	}
	return fmt.Sprintf("bytes that begin % x", b[:min(len(b), 8)])
}
