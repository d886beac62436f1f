package h2

import (
	"crypto/rand"
	"encoding/base64"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"viaduct/upstream/http1"
)

// Server is the server's end of one connection.
type Server struct {
	c      *conn
	wg     sync.WaitGroup
	active int // handlers that run; guarded by c.mu
	handle func(*Stream)
}

// NewServer prepares to serve HTTP/2 on nc, which it owns from now on. Its preface may have been read: ServerOptions.Early.
// Nothing happens before Serve.
func NewServer(nc net.Conn, o ServerOptions) *Server {
	s := &Server{c: newConn(nc, false, options{ServerOptions: o})}
	s.c.server = s
	return s
}

// Serve runs the connection on the caller's goroutine until it ends, and closes it. handle is called for each stream on
// a goroutine of its own, which has it until handle returns: then the stream is closed. Serve waits for all of them. Its
// error is a *ConnError, or nil when the connection came to its end in good order. It is called once.
func (s *Server) Serve(handle func(*Stream)) error {
	s.handle = handle
	c := s.c
	c.begin()
	err := c.run()
	s.wg.Wait()
	return err
}

// Shutdown says GOAWAY: requests that are here are served, and then the connection ends. It does not wait.
func (s *Server) Shutdown() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.timer == nil { // before Serve: the first thing it does will be the last
		s.c.goAwayFirst = true
		return
	}
	s.c.shutdown()
}

// Close ends the connection and all of its streams.
func (s *Server) Close() error {
	s.c.close()
	return nil
}

// Streams returns how many requests are being served.
func (s *Server) Streams() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.active
}

// request takes the header list that opens a stream. The caller holds mu.
func (c *conn) request(id uint32, fields []hpack.HeaderField, end, large bool) error {
	if len(c.streams) >= c.opt.MaxStreams || c.server.active >= 2*c.opt.MaxStreams {
		// Handlers count, too: a stream that was reset is gone at once, what it has begun is not (CVE-2023-44487). Twice as many, because one may
		// take a moment to return when its stream is done, and the client does not know.
		c.putReset(id, http2.ErrCodeRefusedStream)
		return c.early()
	}
	if large {
		c.putHeaders(id, []hpack.HeaderField{{Name: ":status", Value: "431"}}, true)
		c.putReset(id, http2.ErrCodeNo)
		return c.early()
	}
	s := newStream(c)
	s.id = id
	if reason := s.begin(fields, end); reason != "" {
		c.putReset(id, http2.ErrCodeProtocol)
		return c.early()
	}
	if admit := c.opt.Admit; admit != nil && !admit() {
		c.putReset(id, http2.ErrCodeRefusedStream)
		return c.early()
	}
	c.streams[id] = s
	c.idleSince = noTime
	c.server.active++
	c.server.wg.Add(1)
	go c.server.serve(s)
	return nil
}

func (s *Server) serve(st *Stream) {
	defer func() {
		st.Close()
		s.c.mu.Lock()
		s.active--
		s.c.mu.Unlock()
		s.wg.Done()
	}()
	s.handle(st)
}

// begin makes the HTTP/1.1 head of a request. It returns what makes the request malformed.
func (s *Stream) begin(fields []hpack.HeaderField, end bool) string {
	var l list
	if reason := l.parse(fields, requestList); reason != "" {
		return reason
	}
	r := http1.Request{Method: l.method, Minor: 1, Header: l.header, KeepAlive: true}
	if reason := l.whom(&r); reason != "" {
		return reason
	}
	in := &s.in
	in.method, in.headed = l.method, true
	form := http1.OriginForm
	switch {
	case l.has&hasProtocol != 0:
		if reason := s.beginWebSocket(&l, &r); reason != "" {
			return reason
		}
	case l.method == "CONNECT": // RFC 9113 8.5
		if l.has&(hasScheme|hasPath) != 0 {
			return "CONNECT with :scheme or :path"
		}
		if r.Host.Port == 0 {
			return "CONNECT without a port"
		}
		if l.length > 0 {
			return "CONNECT with content"
		}
		in.raw, in.held = true, true
		form = http1.AuthorityForm
		r.Target = http1.Target{Form: form, Authority: r.Host}
	default:
		if reason := l.target(&r); reason != "" {
			return reason
		}
		var reason string
		if r.Body, reason = l.framing(end); reason != "" {
			return reason
		}
		in.body, in.left = r.Body, r.Body.Length
	}
	if s.c.opt.Absolute && form == http1.OriginForm {
		form = http1.AbsoluteForm
		r.Target.Authority = r.Host
	}
	r.Target.Form = form
	head, err := http1.AppendRequest(nil, &r, form)
	if err != nil {
		return "a request that HTTP/1.1 cannot say"
	}
	in.pre = head
	if end {
		s.remoteEnd = true
	}
	return ""
}

// whom finds the authority: :authority, or Host in its place; both must say the same (RFC 9113 8.3.1).
func (l *list) whom(r *http1.Request) string {
	switch {
	case l.has&hasMethod == 0:
		return "no :method"
	case !http1.IsToken(l.method):
		return "malformed :method"
	}
	name := l.authority
	if l.has&hasAuthority == 0 {
		if l.method == "CONNECT" && l.has&hasProtocol == 0 {
			return "CONNECT without :authority"
		}
		name = l.host
	}
	a, err := http1.ParseAuthority(name) // refuses userinfo, and an empty one
	if err != nil {
		return "malformed authority"
	}
	if l.hosts > 0 && l.has&hasAuthority != 0 && !strings.EqualFold(l.host, l.authority) {
		return ":authority and Host differ"
	}
	r.Host = a
	return ""
}

// target checks scheme and path.
func (l *list) target(r *http1.Request) string {
	switch {
	case l.has&hasScheme == 0:
		return "no :scheme"
	case l.has&hasPath == 0 || l.path == "":
		return "no :path"
	}
	t, err := http1.ParseTarget(l.method, l.path)
	switch {
	case err != nil, t.Form != http1.OriginForm && t.Form != http1.AsteriskForm:
		return "malformed :path"
	}
	switch scheme := strings.ToLower(l.scheme); scheme {
	case "http", "https":
		t.Scheme = scheme
	default:
		return "a scheme other than http and https"
	}
	r.Target = t
	return ""
}

// beginWebSocket makes an Upgrade of an extended CONNECT (RFC 8441 4, 5).
func (s *Stream) beginWebSocket(l *list, r *http1.Request) string {
	switch {
	case !s.c.opt.ExtendedConnect:
		return ":protocol, which was not announced"
	case l.method != "CONNECT":
		return ":protocol without CONNECT"
	case l.protocol != "websocket":
		return ":protocol other than websocket"
	case l.has&hasAuthority == 0:
		return "no :authority"
	}
	l.method, r.Method = "GET", "GET"
	if reason := l.target(r); reason != "" {
		return reason
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	in := &s.in
	in.method, in.raw, in.held, in.socket, in.accept = "GET", true, true, true, acceptOf(key)
	r.Header.Set("Sec-WebSocket-Key", key)
	r.Header.Del("Content-Length")
	r.Upgrade = "websocket"
	return ""
}

// header takes a header list of a stream that is open: trailers, or a client's response.
func (s *Stream) header(fields []hpack.HeaderField, end bool) error {
	c := s.c
	var reason string
	if c.client && !s.in.headed {
		reason = s.response(fields, end)
	} else {
		reason = s.trailers(fields, end)
	}
	if reason != "" {
		return c.reset(s, http2.ErrCodeProtocol, reason)
	}
	return nil
}
