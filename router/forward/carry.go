package forward

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// Params are one request and what is to be done with it.
type Params struct {
	Client   net.Conn
	In       *http1.Reader // of the client; the head of Req has been read from it
	Req      *http1.Request
	Rec      *connmodel.Recorder
	Decision *connmodel.Decision // header edits; may be nil
	Via      string              // our name in Via, which also finds loops
	// Dial gives a connection: a kept one only if reuse is true.
	Dial     func(reuse bool) (*Server, *connmodel.ConnError)
	Timeouts connmodel.Timeouts
	Closing  bool // tell the client that this is its last request here
}

// Result is how a request ended.
type Result struct {
	KeepClient bool // the client may send another request
	KeepServer bool // Server may serve another request; it is open
	Server     *Server
	// Upgraded says that both connections are now a tunnel of another protocol (101). What was read too much is in In and
	// Server.In. Up and Down are then 0.
	Upgraded  bool
	Responded bool // a final response head has reached the client; if not, the caller answers from Err
	Err       *connmodel.ConnError
	Up, Down  int64 // bytes of content
}

// exchange is one request on its way.
type exchange struct {
	p        *Params
	srv      *Server
	out      http1.Request // as it is sent on
	resp     http1.Response
	upload   chan error // result of the upload's goroutine; nil when there is none
	uploaded bool       // the whole request has been sent
	up       int64
	watch    watch

	told100 bool // the client has been told to go on
}

// Carry takes one request to a server and its response back. When it returns, no goroutine of it is left, and Server is closed
// unless KeepServer or Upgraded is set.
func Carry(p *Params) (res Result) {
	x := &exchange{p: p}
	if err := x.prepare(); err != nil {
		return Result{Err: err, KeepClient: x.nothingLeft()}
	}
	for reuse := true; ; reuse = false {
		var err *connmodel.ConnError
		if x.srv, err = p.Dial(reuse); err != nil {
			return Result{Err: err, KeepClient: x.nothingLeft()}
		}
		var again bool
		res, again = x.run()
		if again && reuse {
			x.srv.Close()
			continue
		}
		break
	}
	res.Server = x.srv
	if !res.KeepServer && !res.Upgraded {
		x.srv.Close()
	}
	return res
}

// nothingLeft reports whether nothing of the request is still to be read, so that the connection can go on after an answer of ours.
func (x *exchange) nothingLeft() bool {
	return x.p.Req.KeepAlive && !x.p.Req.Body.HasBody() && !x.p.Closing
}

// run sends the request on x.srv and brings the response back. again says that the connection turned out to be dead in a way that
// allows another try.
func (x *exchange) run() (res Result, again bool) {
	p := x.p
	defer x.watch.stop()
	first, err := x.send()
	if err != nil {
		return Result{Err: err, KeepClient: false, Up: x.up}, x.mayRepeat(err)
	}
	if !first {
		x.srv.Conn.SetReadDeadline(time.Now().Add(p.Timeouts.Response))
		if e := x.srv.In.ReadFinal(p.Req.Method, &x.resp, x.informational); e != nil {
			err = x.readFault(e)
			x.joinUpload(true)
			again = x.mayRepeat(err)
			return Result{Err: err, KeepClient: x.uploaded && x.p.Req.KeepAlive && !x.p.Closing, Up: x.up}, again
		}
	}
	p.Rec.Responded(x.resp.Status, time.Now())
	return x.respond(), false
}

// mayRepeat: a kept connection that died before the first byte of a response may be replaced once by a fresh one, for a request
// that is idempotent and has no body (RFC 9110, section 9.2.2).
func (x *exchange) mayRepeat(err *connmodel.ConnError) bool {
	if !x.srv.Reused || x.p.Req.Body.HasBody() || !idempotent(x.p.Req.Method) {
		return false
	}
	return err.Side != connmodel.SideClient && (err.Kind == connmodel.KindEOF || err.Kind == connmodel.KindReset) && len(x.srv.In.Buffered()) == 0
}

func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// send writes the head and the body. A body that is not here yet is sent by a goroutine of its own, because the response may come
// before its end. responded says that a final response is in x.resp already (the server refused an expected body).
func (x *exchange) send() (responded bool, err *connmodel.ConnError) {
	head, e := x.head()
	if e != nil {
		return false, internal("the request cannot be written: " + e.Error())
	}
	req := x.p.Req
	body := x.p.In.Body(req.Body)
	if !req.Body.HasBody() || req.Body.Kind == http1.BodyLength && req.Body.Length <= int64(len(x.p.In.Buffered())) {
		n, e := http1.Copy(x.srv.Conn, head, body, req.Body)
		x.up = n
		if e != nil {
			return false, x.sendFault(e)
		}
		x.sent()
		return false, nil
	}
	if req.Expect100 && req.Minor > 0 && len(x.p.In.Buffered()) == 0 {
		if _, e := x.srv.Conn.Write(head); e != nil {
			return false, x.sendFault(&http1.WriteError{Err: e})
		}
		head = nil
		if responded, err = x.expect(); responded || err != nil {
			return responded, err
		}
	}
	x.startUpload(head, body)
	return false, nil
}

func (x *exchange) sent() {
	x.uploaded = true
	x.p.Rec.RequestSent()
}

// expectTime is how long a client that asked "Expect: 100-continue" waits for the server's word before we tell it to go on
// (RFC 9110, section 10.1.1).
const expectTime = time.Second

// expect waits for the server's word on whether it wants the body.
func (x *exchange) expect() (responded bool, err *connmodel.ConnError) {
	x.srv.Conn.SetReadDeadline(time.Now().Add(expectTime))
	for n := 0; n <= http1.Max1xx; n++ {
		switch e := x.srv.In.ReadResponse(x.p.Req.Method, &x.resp); {
		case e == nil && x.resp.Status == 100:
			return false, x.sendContinue()
		case e == nil && x.resp.Status >= 200:
			return true, nil // the body will never be asked for
		case e == nil && x.resp.Status == 101:
			return true, nil
		case e == nil:
			if e := x.informational(&x.resp); e != nil {
				return false, x.clientFault(e)
			}
		case errors.Is(e, os.ErrDeadlineExceeded):
			return false, x.sendContinue()
		default:
			return false, x.readFault(e)
		}
	}
	return false, x.serverError(connmodel.KindProtocol, "sent more than 32 informational responses")
}

func (x *exchange) sendContinue() *connmodel.ConnError {
	if x.told100 {
		return nil
	}
	x.told100 = true
	if _, err := x.p.Client.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
		return x.clientFault(err)
	}
	return nil
}

// startUpload sends what is left of the request beside the waiting for the response.
func (x *exchange) startUpload(head []byte, body *http1.Body) {
	p := x.p
	x.upload = make(chan error, 1)
	x.watch.start(p.Timeouts.Idle, p.Client, x.srv.Conn)
	p.Client.SetReadDeadline(time.Time{})
	if p.Req.Expect100 && len(head) > 0 && p.Req.Minor > 0 {
		x.told100 = true // the client did not wait: its body is on the way already
	}
	dst := &progress{Conn: x.srv.Conn, w: &x.watch}
	go func() {
		n, err := http1.Copy(dst, head, body, p.Req.Body)
		x.up = n
		if err != nil {
			var we *http1.WriteError
			if !errors.As(err, &we) {
				// The client's part is broken: the server must not take what it has for the whole, and the wait for a response ends.
				abort(x.srv.Conn)
			}
		}
		x.upload <- err
	}()
}

// joinUpload waits for the upload to end; kill ends it at once. It notes whether the whole request was sent.
func (x *exchange) joinUpload(kill bool) error {
	if x.upload == nil {
		return nil
	}
	if kill {
		select {
		case err := <-x.upload:
			return x.joined(err)
		default:
		}
		x.p.Client.SetReadDeadline(longAgo)
		x.srv.Conn.SetWriteDeadline(longAgo)
		err := x.joined(<-x.upload)
		x.p.Client.SetReadDeadline(time.Time{})
		return err
	}
	return x.joined(<-x.upload)
}

func (x *exchange) joined(err error) error {
	x.upload = nil
	if err == nil {
		x.sent()
	}
	return err
}

var longAgo = time.Unix(1, 0)

// uploadGrace is how long a client may go on sending a body after its response is complete.
const uploadGrace = time.Second

// finishUpload gives an upload that is still under way after the response a moment, then ends it.
func (x *exchange) finishUpload() {
	if x.upload == nil {
		return
	}
	t := time.NewTimer(uploadGrace)
	defer t.Stop()
	select {
	case err := <-x.upload:
		x.joined(err)
	case <-t.C:
		x.joinUpload(true)
	}
}

// informational passes an interim response on (RFC 9110, section 15.2); HTTP/1.0 clients do not know them.
func (x *exchange) informational(r *http1.Response) error {
	if x.p.Req.Minor == 0 || r.Status == 100 && x.told100 {
		return nil
	}
	if r.Status == 100 && !x.p.Req.Expect100 {
		return nil
	}
	x.told100 = x.told100 || r.Status == 100
	r.Header.StripHopByHop()
	r.KeepAlive, r.Upgrade = true, ""
	head, err := http1.AppendResponse(make([]byte, 0, 256), r, x.p.Req.Minor)
	if err != nil {
		return err
	}
	if _, err := x.p.Client.Write(head); err != nil {
		return &http1.WriteError{Err: err}
	}
	return nil
}

// abort closes with RST.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// watch ends an exchange that moves no byte for its idle timeout. Small exchanges never start it.
type watch struct {
	mu    sync.Mutex
	timer *time.Timer
	idle  time.Duration
	conns [2]net.Conn
	moved int64
	seen  int64
	fired bool
}

func (w *watch) start(idle time.Duration, a, b net.Conn) {
	if idle <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		return
	}
	w.idle, w.conns, w.seen = idle, [2]net.Conn{a, b}, w.moved
	w.timer = time.AfterFunc(idle, w.check)
}

func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	if w.moved != w.seen {
		w.seen = w.moved
		w.timer.Reset(w.idle)
		return
	}
	w.fired = true
	for _, c := range w.conns {
		c.SetDeadline(longAgo)
	}
}

func (w *watch) add(n int) {
	w.mu.Lock()
	w.moved += int64(n)
	w.mu.Unlock()
}

func (w *watch) stop() {
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.mu.Unlock()
}

func (w *watch) timedOut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired
}

// progress tells the watch what moves.
type progress struct {
	net.Conn
	w *watch
}

func (c *progress) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.w.add(n)
	return n, err
}

// connectionBound reports whether a message carries a login that belongs to the connection rather than to the request (NTLM, and
// Negotiate as it is used): sharing such a connection would lend one client's identity to another.
func connectionBound(h http1.Header, field string) bool {
	for v := range h.Values(field) {
		scheme, _, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Negotiate") {
			return true
		}
	}
	return false
}
