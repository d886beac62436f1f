package httpconnect

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"viaduct/upstream/http1"
)

// Request is what to ask a proxy for.
type Request struct {
	Host          string       // of the target: a name, an IPv4 address, or an IPv6 address without brackets
	Port          uint16       // of the target
	Authorization string       // value of Proxy-Authorization, a secret; "" for none
	Header        http1.Header // further fields, such as User-Agent; not Host, nor those of a body
	Limits        http1.Limits // of the reply; the zero value is 64 KiB and 256 fields
}

// String keeps the credentials out of logs.
func (r Request) String() string {
	return fmt.Sprintf("CONNECT %s", http1.Authority{Host: r.Host, Port: r.Port})
}

// GoString keeps the credentials out of logs.
func (r Request) GoString() string { return r.String() }

// Result is an opened tunnel.
type Result struct {
	Status   int // 200-299
	Reason   string
	Header   http1.Header
	Leftover []byte // came behind the head: the first bytes of the tunnel
}

// Connect asks the proxy at the other end of rw for a tunnel, once. The deadline
// is the caller's. Errors: an *http1.Error or one of http1's when the request
// cannot be written, before anything is sent; *StatusError; *ProtocolError; else
// the error of rw, wrapped: io.EOF when the proxy closed without a byte,
// io.ErrUnexpectedEOF within the reply. After any of them rw is of no use.
func Connect(rw io.ReadWriter, req Request) (Result, error) {
	h := handshakes.Get().(*Handshake)
	h.reset(rw, req.Limits)
	res, err := h.Do(&req)
	h.reset(nil, req.Limits)
	handshakes.Put(h)
	return res, err
}

var handshakes = sync.Pool{New: func() any { return new(Handshake) }}

// Handshake asks a proxy on one connection, more than once if need be: Do, and
// after a *StatusError Drain, then Do again with better credentials. Not for
// concurrent use.
type Handshake struct {
	rw   io.ReadWriter
	lim  http1.Limits
	in   http1.Reader
	out  []byte
	resp http1.Response
	body *http1.Body // of the refusal, until it is drained
}

// NewHandshake begins a handshake on rw. lim bounds each reply.
func NewHandshake(rw io.ReadWriter, lim http1.Limits) *Handshake {
	h := new(Handshake)
	h.reset(rw, lim)
	return h
}

func (h *Handshake) reset(rw io.ReadWriter, lim http1.Limits) {
	h.rw, h.lim, h.body = rw, lim, nil
	h.in.Reset(rw, lim)
	clear(h.out[:cap(h.out)]) // credentials were in it
	h.resp = http1.Response{}
}

// Conn returns what the handshake is made on.
func (h *Handshake) Conn() io.ReadWriter { return h.rw }

// ErrNotDrained is a second request before the answer to the first was read.
var ErrNotDrained = errors.New("httpconnect: the refusal before was not drained, or ended the connection")

// Do sends the request and reads the reply. Errors are those of Connect; after a
// *StatusError, and only then, Drain tells whether Do may be called again.
// req.Limits is not looked at.
func (h *Handshake) Do(req *Request) (Result, error) {
	if h.body != nil {
		return Result{}, ErrNotDrained
	}
	out, err := AppendRequest(h.out[:0], req)
	h.out = out[:0]
	if err != nil {
		return Result{}, err
	}
	if _, err := h.rw.Write(out); err != nil {
		return Result{}, fmt.Errorf("httpconnect: request: %w", err)
	}
	return h.Await()
}

// Await reads the reply once more, after a Do or Await that ended with its deadline: the reply may have come since.
func (h *Handshake) Await() (Result, error) {
	if err := h.read(); err != nil {
		return Result{}, err
	}
	r := &h.resp
	if r.Status/100 == 2 { // RFC 9110 9.3.6: any 2xx, whatever its framing fields say
		res := Result{Status: r.Status, Reason: r.Reason, Header: r.Header}
		res.Leftover = slices.Clone(h.in.Buffered())
		r.Header = nil // handed over
		h.in.Release()
		return res, nil
	}
	return Result{}, h.refusal()
}

// read reads up to the final reply.
func (h *Handshake) read() error {
	begun := false
	err := h.in.ReadFinal("CONNECT", &h.resp, func(*http1.Response) error {
		begun = true
		return nil
	})
	var fault *http1.Error
	switch {
	case err == nil && h.resp.Status == 101: // RFC 9110 7.8: nobody asked
		return &ProtocolError{Saw: "101 (Switching Protocols)"}
	case err == nil:
		return nil
	case errors.As(err, &fault):
		return &ProtocolError{Saw: sniff(h.in.Buffered()), Err: fault}
	case err == io.EOF && begun:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("httpconnect: reply: %w", err)
}

// refusal makes the error of a reply that is no 2xx.
func (h *Handshake) refusal() error {
	r := &h.resp
	e := &StatusError{Status: r.Status, Reason: r.Reason, Header: r.Header, KeepAlive: r.KeepAlive}
	if r.Status == 407 {
		e.ProxyAuthenticate = slices.Collect(r.Header.Values("Proxy-Authenticate"))
	}
	r.Header = nil // handed over
	h.body = h.in.Body(r.Body)
	if len(h.in.Buffered()) > 0 {
		var snippet [maxSnippet]byte
		e.BodySnippet = slices.Clone(snippet[:h.body.ReadBuffered(snippet[:])])
	}
	return e
}

// Drain reads the rest of a refusal's body, at most max bytes of it, and reports
// whether the connection can carry another request: the body came to its end,
// the proxy keeps the connection, and nothing follows that nobody asked for. err
// is that of the connection.
func (h *Handshake) Drain(max int64) (again bool, err error) {
	if h.body == nil {
		return false, nil
	}
	if !h.resp.KeepAlive {
		return false, nil // do not wait for what is of no use
	}
	done, err := h.body.Drain(max)
	if err != nil || !done || len(h.in.Buffered()) > 0 {
		return false, err
	}
	h.body = nil
	return true, nil
}

// AppendRequest writes the request. It refuses a host that is none, port 0,
// fields that would inject a line or frame a body.
func AppendRequest(dst []byte, req *Request) ([]byte, error) {
	start := len(dst)
	a, err := http1.NewAuthority(req.Host, req.Port)
	if err != nil {
		return dst, err
	}
	if a.Port == 0 {
		return dst, errPort
	}
	dst = append(dst, "CONNECT "...)
	dst = a.Append(dst)
	dst = append(dst, " HTTP/1.1\r\nHost: "...) // RFC 9112 3.2.3, 3.2
	dst = a.Append(dst)
	dst = append(dst, "\r\n"...)
	if req.Authorization != "" {
		if dst, err = http1.AppendField(dst, "Proxy-Authorization", req.Authorization); err != nil {
			return dst[:start], err
		}
	}
	for _, name := range [...]string{"Host", "Content-Length", "Transfer-Encoding"} {
		if req.Header.Has(name) {
			return dst[:start], errField
		}
	}
	if dst, err = http1.AppendHeader(dst, req.Header); err != nil {
		return dst[:start], err
	}
	return append(dst, "\r\n"...), nil
}

var (
	errPort  = &http1.Error{Status: 500, Reason: "port 0", Section: "RFC 9110 9.3.6"}
	errField = &http1.Error{Status: 500, Reason: "field that cannot be in a CONNECT", Section: "RFC 9110 9.3.6"}
)
