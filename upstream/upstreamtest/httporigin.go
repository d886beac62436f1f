package upstreamtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxBody bounds the request body that an HTTP origin keeps.
const maxBody = 1 << 20

// HTTPRequest is one request as it reached an HTTP origin.
type HTTPRequest struct {
	// Conn is the index of the connection it came on, from 0.
	Conn int
	// Head is the request head as it arrived, with its blank line.
	Head []byte
	// Method, Target and Host are its request line and Host field.
	Method, Target, Host string
	// Body is the body without its framing, up to 1 MiB of it.
	Body []byte
	// Trailer holds the trailer fields of a chunked body.
	Trailer http.Header
}

// HTTPOrigin is an HTTP/1.1 origin that records requests. Its paths:
//
//	/status/N       that status with a body, or without where it has none (204, 304)
//	/bytes/N        N bytes of Pattern, by Content-Length
//	/chunked/N      N bytes, chunked, with the trailer X-Sum
//	/until-close/N  N bytes, ended by close
//	/short/N        Content-Length N, but half of it and FIN
//	/head           the request's head
//	/echo           the request's body
//	/interim        103 and 100, then 200
//	/upgrade        101, then echo
//	/extra          a response and junk after it
//	/hang           no response
//	/reset          RST
//
// All others answer 200 "hello from the origin\n". Connections are kept open
// unless the request says close.
type HTTPOrigin struct {
	*Origin
	ready    chan struct{} // closed when Origin is set: the first connection may be quicker
	mu       sync.Mutex
	conns    int
	requests []HTTPRequest
}

// NewHTTPOrigin starts an HTTP origin that ends with the test.
func NewHTTPOrigin(t TB, o Options) *HTTPOrigin {
	t.Helper()
	h, err := StartHTTPOrigin(o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// StartHTTPOrigin is NewHTTPOrigin for callers without a test; they call Close.
func StartHTTPOrigin(o Options) (*HTTPOrigin, error) {
	h := &HTTPOrigin{ready: make(chan struct{})}
	defer close(h.ready)
	var err error
	h.Origin, err = StartOrigin(h.serveHTTP, o)
	return h, err
}

// URL is the address of path, which begins with a slash.
func (h *HTTPOrigin) URL(path string) string {
	if h.opt.TLS != nil {
		return "https://" + h.Addr() + path
	}
	return "http://" + h.Addr() + path
}

// Requests returns the requests so far, oldest first.
func (h *HTTPOrigin) Requests() []HTTPRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// AwaitRequests waits until n requests have come in all.
func (h *HTTPOrigin) AwaitRequests(ctx context.Context, n int) error {
	return h.await(ctx, func() bool { return len(h.Requests()) >= n })
}

func (h *HTTPOrigin) serveHTTP(c net.Conn) {
	<-h.ready
	h.mu.Lock()
	index := h.conns
	h.conns++
	h.mu.Unlock()
	br := bufio.NewReader(c)
	for {
		head, err := readHead(br)
		if err != nil {
			return
		}
		r, keep, err := h.read(c, br, head)
		if err != nil {
			c.Write(statusBytes(400, err.Error()+"\n", []string{"Connection: close"}))
			closeWrite(c)
			io.Copy(io.Discard, c)
			return
		}
		r.Conn = index
		h.mu.Lock()
		if len(h.requests) < maxRecords {
			h.requests = append(h.requests, r)
		}
		h.mu.Unlock()
		h.server.mu.Lock()
		h.signal()
		h.server.mu.Unlock()
		if !answer(c, br, &r) || !keep {
			closeWrite(c)
			return
		}
	}
}

// read takes the body of the request with this head.
func (h *HTTPOrigin) read(c net.Conn, br *bufio.Reader, head []byte) (HTTPRequest, bool, error) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return HTTPRequest{}, false, err
	}
	r := HTTPRequest{Head: head, Method: req.Method, Target: req.RequestURI, Host: req.Host}
	body, err := bodyOf(req, br)
	if err != nil {
		return r, false, err
	}
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if r.Body, err = io.ReadAll(io.LimitReader(body, maxBody)); err != nil {
		return r, false, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return r, false, err
	}
	r.Trailer = req.Trailer
	return r, !req.Close, nil
}

// answer writes the response that the path asks for and reports whether the
// connection can go on.
func answer(c net.Conn, br *bufio.Reader, r *HTTPRequest) bool {
	path := r.Target
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	word, arg, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	n, _ := strconv.ParseInt(arg, 10, 64)
	noBody := r.Method == http.MethodHead
	switch word {
	case "status":
		if n == 204 || n == 304 {
			_, err := fmt.Fprintf(c, "HTTP/1.1 %d Asked\r\n\r\n", n)
			return err == nil
		}
		return full(c, int(n), fmt.Sprintf("status %d\n", n), noBody)
	case "bytes":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		if noBody {
			return true
		}
		_, err := io.CopyN(c, new(Pattern), n)
		return err == nil
	case "chunked":
		return chunkedAnswer(c, n)
	case "until-close":
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		io.CopyN(c, new(Pattern), n)
		return false
	case "short":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		io.CopyN(c, new(Pattern), n/2)
		return false
	case "head":
		return full(c, 200, string(r.Head), noBody)
	case "echo":
		return full(c, 200, string(r.Body), noBody)
	case "interim":
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
		return full(c, 200, "after two interim responses\n", noBody)
	case "upgrade":
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, br)
		return false
	case "extra":
		full(c, 200, "hello\n", noBody)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npoison\n")
		return true
	case "hang":
		io.Copy(io.Discard, br)
		return false
	case "reset":
		if under, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = under.NetConn()
		}
		reset(c)
		return false
	}
	return full(c, 200, "hello from the origin\n", noBody)
}

func full(c net.Conn, code int, body string, noBody bool) bool {
	head := fmt.Sprintf("HTTP/1.1 %d Asked\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", code, len(body))
	if noBody {
		body = ""
	}
	_, err := io.WriteString(c, head+body)
	return err == nil
}

func chunkedAnswer(c net.Conn, n int64) bool {
	io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
	p := new(Pattern)
	sum, buf := 0, make([]byte, 4000)
	for left := n; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		p.Read(b)
		for _, x := range b {
			sum += int(x)
		}
		if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", len(b), b); err != nil {
			return false
		}
		left -= int64(len(b))
	}
	_, err := fmt.Fprintf(c, "0\r\nX-Sum: %d\r\n\r\n", sum)
	return err == nil
}
