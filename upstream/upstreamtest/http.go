package upstreamtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strings"
)

// httpWire is an HTTP/1.1 proxy. Heads are read by hand, so that what is
// recorded is what came; forwarding in absolute-form is left to net/http.
type httpWire struct{}

func (httpWire) serve(s *session) {
	for {
		head, err := readHead(s.br)
		if err != nil {
			return
		}
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		word := strings.Split(string(line), " ")
		if len(word) != 3 {
			s.c.Write(statusBytes(400, "request line\n", nil))
			s.finish()
			return
		}
		r := s.request(word[0])
		r.Head, r.Target = head, word[1]
		if r.Method != "CONNECT" {
			r.Target = authority(word[1])
		}
		r.User, r.Password, r.HasCredentials = basic(head)
		r.Accepted = s.allowed(r)
		s.p.record(*r)
		switch {
		case !r.Accepted:
			// Stays open, as proxies do, for a second try on the same connection.
			body := "credentials, please\n"
			if _, err := s.c.Write(statusBytes(407, body, nil)); err != nil || r.Method != "CONNECT" {
				s.finish()
				return
			}
		case s.b.reply != nil:
			s.b.reply(s, r)
			return
		case r.Method == "CONNECT":
			s.connect(r)
			return
		default:
			if !s.forward(r) {
				return
			}
		}
	}
}

// readHead reads up to and with the blank line.
func readHead(br *bufio.Reader) ([]byte, error) {
	var head []byte
	for {
		line, err := br.ReadSlice('\n')
		head = append(head, line...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			return head, nil
		}
		if len(head) > maxHead {
			return nil, errors.New("upstreamtest: head too long")
		}
	}
}

// authority is host:port of an absolute-form target; "" of anything else.
func authority(target string) string {
	rest, ok := strings.CutPrefix(target, "http://")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if _, _, err := net.SplitHostPort(rest); err != nil {
		rest += ":80"
	}
	return rest
}

// basic finds the credentials of the first Proxy-Authorization field.
func basic(head []byte) (user, password string, ok bool) {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "Proxy-Authorization") {
			continue
		}
		scheme, token, _ := strings.Cut(strings.TrimSpace(value), " ")
		plain, err := base64.StdEncoding.DecodeString(token)
		if err != nil || !strings.EqualFold(scheme, "Basic") {
			return "", "", false
		}
		user, password, _ = strings.Cut(string(plain), ":")
		return user, password, true
	}
	return "", "", false
}

// forward passes one absolute-form request on and its response back. It
// reports whether the connection can take another request.
func (s *session) forward(r *Request) bool {
	req, err := s.parse(r)
	if err != nil {
		s.c.Write(statusBytes(400, "request\n", nil))
		s.finish()
		return false
	}
	target, err := s.dial(r)
	if err != nil {
		return false
	}
	defer s.p.drop(target)
	if err := req.Write(target); err != nil {
		return false
	}
	tr := bufio.NewReader(target)
	res, err := http.ReadResponse(tr, req)
	for err == nil && res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		io.WriteString(s.c, interim(res))
		res, err = http.ReadResponse(tr, req)
	}
	if err != nil {
		s.c.Write(statusBytes(502, "no response\n", nil))
		s.finish()
		return false
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		io.WriteString(s.c, interim(res))
		s.relay(&buffered{Conn: target, r: tr})
		return false
	}
	keep := res.ContentLength >= 0 || len(res.TransferEncoding) > 0 || req.Method == http.MethodHead
	res.Close = !keep
	if err := res.Write(s.c); err != nil {
		reset(s.raw) // a truncated body must look truncated
		return false
	}
	if !keep {
		s.finish()
	}
	return keep
}

// parse makes the request that goes to the target, its body still on the wire.
func (s *session) parse(r *Request) (*http.Request, error) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.Head)))
	if err != nil {
		return nil, err
	}
	if r.Target == "" {
		return nil, errors.New("upstreamtest: not absolute-form")
	}
	if req.Body, err = bodyOf(req, s.br); err != nil {
		return nil, err
	}
	if req.Header.Get("Expect") != "" && req.Body != http.NoBody {
		req.Header.Del("Expect") // answered here: a proxy may (RFC 9110 10.1.1)
		io.WriteString(s.c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	req.Header.Del("Proxy-Authorization")
	req.Header.Del("Proxy-Connection")
	req.Close = req.Header.Get("Upgrade") == ""
	return req, nil
}

// bodyOf is the body of a request whose head was parsed apart from br.
func bodyOf(req *http.Request, br *bufio.Reader) (io.ReadCloser, error) {
	switch {
	case len(req.TransferEncoding) > 0:
		if req.Trailer == nil {
			req.Trailer = make(http.Header)
		}
		return &chunked{Reader: httputil.NewChunkedReader(br), br: br, trailer: req.Trailer}, nil
	case req.ContentLength > 0:
		return io.NopCloser(io.LimitReader(br, req.ContentLength)), nil
	case req.ContentLength < 0:
		return nil, errors.New("upstreamtest: request without framing")
	}
	return http.NoBody, nil
}

// chunked is a chunked body that ends with its trailer section.
type chunked struct {
	io.Reader
	br      *bufio.Reader
	trailer http.Header // filled at the end
	ended   bool
}

func (c *chunked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != io.EOF || c.ended {
		return n, err
	}
	c.ended = true
	h, err := textproto.NewReader(c.br).ReadMIMEHeader()
	if err != nil {
		return n, err
	}
	maps.Copy(c.trailer, http.Header(h))
	return n, io.EOF
}

func (c *chunked) Close() error { return nil }

// interim writes a 1xx head.
func interim(res *http.Response) string {
	var b strings.Builder
	b.WriteString(res.Proto + " " + res.Status + "\r\n")
	res.Header.Write(&b)
	b.WriteString("\r\n")
	return b.String()
}

// buffered is a connection some of whose bytes were read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b *buffered) CloseWrite() error { closeWrite(b.Conn); return nil }

func (httpWire) success(s *session, _ *Request) []byte {
	if s.b.head != "" {
		return []byte(s.b.head)
	}
	return []byte("HTTP/1.1 200 Connection established\r\n\r\n")
}

func (httpWire) failure(byte) []byte { return statusBytes(502, "cannot reach the target\n", nil) }

func (httpWire) wrong() []byte { return []byte("ICY 200 OK\r\n\r\n") }

// Field returns the values of the field name in an HTTP head, such as
// Request.Head, in order.
func Field(head []byte, name string) []string {
	_, fields, _ := bytes.Cut(head, []byte("\r\n"))
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(fields))).ReadMIMEHeader()
	if err != nil {
		return nil
	}
	return h.Values(name)
}
