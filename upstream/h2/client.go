package h2

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"viaduct/upstream/http1"
)

// Client is the client's end of one connection. Its methods may be called from several goroutines.
type Client struct{ c *conn }

// NewClient begins HTTP/2 on nc, which it owns from now on. It does not wait for the server.
func NewClient(nc net.Conn, o ClientOptions) (*Client, error) {
	if nc == nil {
		return nil, net.ErrClosed
	}
	c := newConn(nc, true, options{scheme: o.Scheme, ServerOptions: ServerOptions{
		MaxStreams: o.MaxStreams, HeaderBytes: o.HeaderBytes, Window: o.Window, MaxWindow: o.MaxWindow, MaxBuffered: o.MaxBuffered,
		HandshakeTimeout: o.HandshakeTimeout, IdleTimeout: o.IdleTimeout, PingInterval: o.PingInterval,
		PingTimeout: o.PingTimeout, WriteTimeout: o.WriteTimeout,
	}})
	c.begin()
	go c.run()
	return &Client{c}, nil
}

// Open returns a new stream. Nothing is sent before the head of a request has been written to it. When the server takes no
// more at present, Open waits for a place until ctx ends.
func (cl *Client) Open(ctx context.Context) (*Stream, error) {
	c := cl.c
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.space.Broadcast()
		c.mu.Unlock()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		s, err := c.tryOpen()
		if err != ErrFull {
			return s, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.space.Wait()
	}
}

// TryOpen is Open without waiting: ErrFull when the server takes no more streams at present.
func (cl *Client) TryOpen() (*Stream, error) {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return cl.c.tryOpen()
}

func (c *conn) tryOpen() (*Stream, error) {
	switch {
	case !c.usable():
		return nil, ErrClosing
	case c.places() <= 0:
		return nil, ErrFull
	}
	s := newStream(c)
	c.fresh[s] = struct{}{}
	c.count++
	c.idleSince = noTime
	return s, nil
}

// usable reports whether new streams may be opened. The caller holds mu.
func (c *conn) usable() bool {
	return !c.ending && !c.goAway && !c.goneAway && !c.quietEnd && c.lastID < 1<<31-3-2*uint32(c.count)
}

// places is how many streams the peer would take, and we. The caller holds mu.
func (c *conn) places() int {
	most := min(int64(c.peerMax), int64(c.opt.MaxStreams))
	if c.softMax > 0 {
		most = min(most, int64(c.softMax))
	}
	return int(most) - c.count
}

// Available returns how many streams can be opened now; 0 when the connection takes none any more, too.
func (cl *Client) Available() int {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usable() {
		return 0
	}
	return max(c.places(), 0)
}

// Usable reports whether the connection takes new streams, at present or later: it is open, and nobody has said GOAWAY.
func (cl *Client) Usable() bool {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return cl.c.usable()
}

// Streams returns how many streams are open.
func (cl *Client) Streams() int {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return cl.c.count
}

// Probe asks a server that has been silent for a while whether it is there. It does not wait: a connection whose server does
// not answer within PingTimeout ends.
func (cl *Client) Probe(silent time.Duration) {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.settled && !c.ending && c.pinged.IsZero() && now.Sub(c.lastRead) > silent {
		c.pinged = now
		c.putPing(false, pingData)
	}
}

// Ready is closed when the server has said what it takes, and when the connection has ended before. Streams can be opened earlier; the server may
// refuse them.
func (cl *Client) Ready() <-chan struct{} { return cl.c.ready }

// Done is closed when the connection has ended, with all that belongs to it.
func (cl *Client) Done() <-chan struct{} { return cl.c.done }

// Err returns why the connection ended: a *ConnError; nil while it is open, and when it came to its end in good order.
func (cl *Client) Err() error {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	if cl.c.quiet {
		return nil
	}
	return cl.c.err
}

// CloseWhenDone closes the connection when its last stream has ended: at once if there is none. It takes no new ones.
func (cl *Client) CloseWhenDone() {
	cl.c.mu.Lock()
	cl.c.shutdown()
	cl.c.mu.Unlock()
}

// Close ends the connection and all of its streams. Done tells when everything is gone.
func (cl *Client) Close() error {
	cl.c.close()
	return nil
}

// writeHead takes the head of a message at the start of text, and returns how much of it that was.
func (s *Stream) writeHead(text []byte) (int, error) {
	if !s.c.client {
		return s.writeResponse(text)
	}
	var r http1.Request
	n, err := http1.ParseRequest(text, &r, http1.Limits{})
	if err != nil {
		return 0, err
	}
	fields, end, err := s.requestFields(&r)
	if err != nil {
		return 0, err
	}
	c := s.c
	err = s.sendHeaders(fields, end, func() error {
		if c.goneAway || c.goAway && c.ending {
			return s.op("write", &ConnError{Remote: c.goneAway, Reason: "no new streams", Unprocessed: true})
		}
		delete(c.fresh, s)
		if c.lastID == 0 {
			c.lastID = 1
		} else {
			c.lastID += 2
		}
		s.id, s.swin = c.lastID, c.peerWin
		c.streams[s.id] = s
		s.endsByClose = s.to.state == outTunnel
		return nil
	})
	return n, err
}

// requestFields makes the header list of a request, and says how it goes on.
func (s *Stream) requestFields(r *http1.Request) (fields []hpack.HeaderField, end bool, err error) {
	in := &s.in
	t := &s.to
	add := func(name, value string) { fields = append(fields, hpack.HeaderField{Name: name, Value: value}) }
	a := r.Authority()
	if a.Host == "" { // RFC 9113 8.3.1; HTTP/1.0 may say none
		return nil, false, &http1.Error{Status: 400, Reason: "no host", Section: "RFC 9113 8.3.1"}
	}
	if r.Method == "CONNECT" {
		add(":method", "CONNECT")
		add(":authority", a.String())
		t.state = outTunnel
		s.c.mu.Lock()
		in.method = "CONNECT"
		s.c.mu.Unlock()
		return appendFields(fields, r.Header), false, nil
	}
	scheme, path := s.c.opt.scheme, r.Target.Path
	if r.Target.Form == http1.AbsoluteForm {
		scheme = r.Target.Scheme
	}
	socket := strings.EqualFold(r.Upgrade, "websocket") && r.Method == "GET" && !r.Body.HasBody()
	s.c.mu.Lock()
	in.method = r.Method
	if socket {
		if err := s.awaitExtended(); err != nil {
			s.c.mu.Unlock()
			return nil, false, err
		}
		in.socket, in.accept = true, acceptOf(r.Header.Get("Sec-WebSocket-Key"))
	}
	s.c.mu.Unlock()
	if socket {
		add(":method", "CONNECT")
		add(":protocol", "websocket")
		r.Header.Del("Sec-WebSocket-Key")
		t.state = outTunnel
	} else {
		add(":method", r.Method)
	}
	add(":scheme", scheme)
	add(":authority", a.String())
	add(":path", path)
	fields = appendFields(fields, r.Header)
	if socket {
		return fields, false, nil
	}
	if r.Body.Kind == http1.BodyLength {
		add("content-length", strconv.FormatInt(r.Body.Length, 10))
	}
	t.state = outBody
	t.body = http1.NewDecoder(r.Body, http1.Limits{})
	if !r.Body.HasBody() {
		t.state = outDone
		return fields, true, nil
	}
	return fields, false, nil
}

// awaitExtended waits for the server's SETTINGS, which say whether it takes a WebSocket. The caller holds mu.
func (s *Stream) awaitExtended() error {
	for !s.c.settled {
		if err := s.writable(); err != nil {
			return err
		}
		if err := s.waitSpace(); err != nil {
			return err
		}
	}
	if !s.c.extended {
		return ErrNoExtendedConnect
	}
	return nil
}

// response takes the header list of a response. It returns what makes it malformed.
func (s *Stream) response(fields []hpack.HeaderField, end bool) string {
	var l list
	if reason := l.parse(fields, responseList); reason != "" {
		return reason
	}
	status, err := strconv.Atoi(l.status)
	switch {
	case l.has&hasStatus == 0:
		return "no :status"
	case err != nil || len(l.status) != 3 || status < 100 || status > 599, status == 101: // RFC 9113 8.6
		return "malformed :status"
	case status < 200 && end:
		return "the end behind an informational response"
	}
	in := &s.in
	r := http1.Response{Status: status, Minor: 1, Header: l.header}
	if status < 200 {
		if in.interim++; in.interim > http1.Max1xx {
			return "too many informational responses"
		}
		return s.putResponse(&r)
	}
	in.headed = true
	if s.c.softMax > 0 {
		s.c.softMax++ // it takes them again
	}
	switch {
	case in.method == "CONNECT" && status/100 == 2:
		r.Header.Del("Content-Length") // RFC 9110 9.3.6
		in.raw = true
	case in.socket && status/100 == 2:
		r.Header.Del("Content-Length")
		r.Header.Set("Sec-WebSocket-Accept", in.accept)
		r.Status, r.Upgrade = 101, "websocket"
		in.raw = true
	case in.method == "HEAD", status == 204, status == 304:
		in.none = true
	default:
		var reason string
		if r.Body, reason = l.framing(end); reason != "" {
			return reason
		}
		if r.Body.Kind == http1.BodyNone {
			r.Body = http1.Framing{Kind: http1.BodyLength} // the end is known, and must be told
		}
		in.body, in.left = r.Body, r.Body.Length
	}
	if !in.raw && s.endsByClose { // no tunnel comes of it: nothing more is written, or read by the peer
		s.endsByClose = false
	}
	if reason := s.putResponse(&r); reason != "" {
		return reason
	}
	if end {
		s.remoteEnded()
	}
	return ""
}

// putResponse gives the head of a response to the reader.
func (s *Stream) putResponse(r *http1.Response) string {
	head, err := http1.AppendResponse(nil, r, 1)
	if err != nil {
		return "a response that HTTP/1.1 cannot say"
	}
	if len(s.in.pre)+len(head) > 4*s.c.opt.HeaderBytes {
		return "informational responses too large"
	}
	s.in.pre = append(s.in.pre, head...)
	s.rcond.Broadcast()
	return ""
}

// writeResponse takes the head of a response at the start of text.
func (s *Stream) writeResponse(text []byte) (int, error) {
	in, t := &s.in, &s.to // method, socket and accept do not change at a server
	var r http1.Response
	n, err := http1.ParseResponse(text, in.method, &r, http1.Limits{})
	if err != nil {
		return 0, err
	}
	if t.heads++; t.heads > http1.Max1xx+1 {
		return 0, errSurplus
	}
	status := r.Status
	tunnel := in.method == "CONNECT" && status/100 == 2
	switch {
	case status == 101 && (!in.socket || r.Header.Get("Sec-WebSocket-Accept") != in.accept):
		return 0, s.badUpgrade("h2: a 101 that does not answer the request")
	case status == 101:
		r.Header.Del("Sec-WebSocket-Accept")
		status, tunnel = 200, true
	case in.socket && status/100 == 2: // over HTTP/2 this would mean that it is agreed on
		return 0, s.badUpgrade("h2: no WebSocket was opened")
	}
	fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}}
	fields = appendFields(fields, r.Header)
	if status < 200 {
		return n, s.sendHeaders(fields, false, nil)
	}
	end := false
	switch {
	case tunnel:
		t.state = outTunnel
	case r.Body.Kind == http1.BodyClose:
		t.state = outClose
	default:
		if r.Body.Kind == http1.BodyLength {
			fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(r.Body.Length, 10)})
		} else if v := r.Header.Get("Content-Length"); v != "" && r.Body.Kind == http1.BodyNone && status != 204 {
			fields = append(fields, hpack.HeaderField{Name: "content-length", Value: v}) // HEAD, 304
		}
		t.state = outBody
		t.body = http1.NewDecoder(r.Body, http1.Limits{})
		if end = !r.Body.HasBody(); end {
			t.state = outDone
		}
	}
	return n, s.sendHeaders(fields, end, func() error {
		s.endsByClose = t.state == outTunnel || t.state == outClose
		s.granted(tunnel)
		return nil
	})
}

// granted says whether the request for a tunnel was; of others there is nothing to say. Before, nothing of the tunnel is read: if there
// is none, what the client sent in the hope of one must not be taken for another request.
func (s *Stream) granted(yes bool) {
	if !s.in.raw {
		return
	}
	if s.in.held = false; !yes {
		s.in.raw, s.in.none = false, true
		s.buf.free()
	}
	s.rcond.Broadcast()
}

// badUpgrade answers a WebSocket request whose answer makes no sense.
func (s *Stream) badUpgrade(text string) error {
	err := &http1.Error{Status: 502, Reason: text, Section: "RFC 8441 5"}
	s.sendHeaders([]hpack.HeaderField{{Name: ":status", Value: "502"}}, true, nil)
	s.c.mu.Lock()
	if s.open() {
		s.c.putReset(s.id, http2.ErrCodeNo)
		s.fail(err)
	}
	s.c.mu.Unlock()
	return err
}
