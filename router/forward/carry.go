package forward

import (
	"net"
	"sync"
	"sync/atomic"
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
	Via      string              // our name in Via, which also finds loops; "" = no Via field
	HTTP2    bool                // the client speaks HTTP/2, of which this is a stream: for Via
	// Dial gives a connection: a kept one only if reuse is true.
	Dial     func(reuse bool) (*Server, *connmodel.ConnError)
	Timeouts connmodel.Timeouts // Response and Idle; 0 = no limit
	Closing  func() bool        // is this the client's last request here? Asked when its response comes; nil = no
	Cancel   *Canceler          // ends the exchange from outside; may be nil
}

// Result is how a request ended.
type Result struct {
	KeepClient bool // the client may send another request
	KeepServer bool // Server may serve another request; it is open
	Server     *Server
	// Upgraded says that both connections are now a tunnel of another protocol (101), without deadlines. What was read too much
	// is in In and Server.In. Up and Down are then 0.
	Upgraded  bool
	Responded bool // bytes of a final response have reached the client; if not, the caller answers from Err
	Err       *connmodel.ConnError
	Up, Down  int64 // bytes of content
}

// exchange is one request on its way. It is reused: see newExchange.
type exchange struct {
	p    *Params
	srv  *Server
	out  http1.Request // as it is sent on
	resp http1.Response
	body *http1.Body // of the request; nil until it is sent
	line watch

	upload    chan error  // result of the upload's goroutine; nil when there is none
	lastWrite atomic.Bool // the upload has all of the body and is writing the end of it, or has written it
	sent      bool        // the whole request has been sent
	sendErr   error       // why it could not be; a response may be there nevertheless
	up        int64       // bytes of content; the upload's while there is one

	heard   bool // something of a response has come
	interim int  // informational responses so far
	told100 bool // the client has been told to go on, or did not wait

	replay []byte // the body, where the proxy may ask for the request a second time
	repeat repeat // what the proxy's 407 came to

	reqRoom, respRoom []byte // for heads
	viaName           string
	via               [3]string // our element of Via, by minor version of HTTP/1; the last is for HTTP/2
}

// repeat says where a request that was answered by 407 is sent again.
type repeat uint8

const (
	repeatNot  repeat = iota
	repeatHere        // on the same connection
	repeatAnew        // on a new one
)

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// maxRoom is the largest head buffer that is kept for another exchange.
const maxRoom = 8 << 10

func newExchange(p *Params) *exchange {
	x := exchanges.Get().(*exchange)
	x.p = p
	if p.Via != x.viaName {
		x.viaName = p.Via
		for minor := range x.via[:2] {
			x.via[minor] = string(http1.AppendVia(nil, uint8(minor), p.Via))
		}
		x.via[2] = "2 " + p.Via
	}
	return x
}

// free gives x back, with nothing in it of the client.
func (x *exchange) free() {
	if !x.line.idle() {
		return // its timer is running this very moment
	}
	x.p, x.srv, x.body, x.sendErr = nil, nil, nil, nil
	x.out = http1.Request{}
	x.resp.Reset()
	x.lastWrite.Store(false)
	x.sent, x.up, x.heard, x.interim, x.told100 = false, 0, false, 0, false
	x.replay, x.repeat = nil, repeatNot
	if cap(x.reqRoom) > maxRoom {
		x.reqRoom = nil
	}
	if cap(x.respRoom) > maxRoom {
		x.respRoom = nil
	}
	exchanges.Put(x)
}

// Carry takes one request to a server and its response back. When it returns, no goroutine of it is left, no deadline of it is
// set on the client's connection unless it was cancelled, and Server is closed unless KeepServer or Upgraded is set.
func Carry(p *Params) Result {
	x := newExchange(p)
	ok := false
	defer func() {
		if !ok { // a panic: nothing may be left behind
			x.leave(false)
		}
	}()
	res := x.carry()
	res.Server = x.srv
	x.leave(res.KeepServer || res.Upgraded)
	ok = true
	x.free()
	return res
}

func (x *exchange) carry() Result {
	if x.lastRecipient() {
		return x.options()
	}
	if err := x.prepare(); err != nil {
		return x.refuse(err)
	}
	asked := false // the proxy has had its one 407
	for reuse := true; ; reuse = false {
		srv, err := x.p.Dial(reuse)
		if err != nil {
			return x.refuse(err)
		}
		x.srv = srv
		x.line.begin(x.p.Client, srv.Conn)
		if !x.p.Cancel.enter(&x.line) {
			return Result{Err: errCanceled}
		}
		res, again := x.run()
		if x.repeat != repeatNot && !asked && x.rewind() {
			asked, again = true, x.repeat == repeatAnew
			if x.repeat == repeatHere {
				x.line.end()
				x.line.begin(x.p.Client, srv.Conn)
				x.repeat = repeatNot
				res, _ = x.run()
			}
		}
		if !again || !reuse {
			return res
		}
		x.p.Rec.ReuseFailed(res.Err)
		x.leave(false)
		x.sent, x.sendErr, x.repeat = false, nil, repeatNot
	}
}

// rewind makes the request as if it had not been sent. It reports whether that could be done: a body that was not all here is gone.
func (x *exchange) rewind() bool {
	if x.upload != nil || !x.sent || x.p.Req.Body.HasBody() && (x.replay == nil || !x.body.Done()) {
		return false
	}
	x.p.In.Prepend(x.replay)
	x.body, x.sent, x.sendErr, x.up, x.heard, x.interim, x.replay = nil, false, nil, 0, false, 0, nil
	x.lastWrite.Store(false)
	return true
}

// leave ends what is between x and its server.
func (x *exchange) leave(keep bool) {
	if x.srv == nil {
		return
	}
	x.cutUpload()
	x.p.Cancel.leave()
	x.line.end()
	if keep {
		return
	}
	if x.body != nil && !x.sent {
		setReset(x.srv.Conn) // the server must not take the part it has for the whole
	}
	x.srv.Close()
}

// refuse is the end of a request that was not sent.
func (x *exchange) refuse(err *connmodel.ConnError) Result {
	return Result{Err: err, KeepClient: x.keepClient()}
}

// keepClient reports whether the client's connection can go on: it wants to, and nothing of the request is left on it.
func (x *exchange) keepClient() bool {
	p := x.p
	if !p.Req.KeepAlive || p.Closing != nil && p.Closing() || x.upload != nil || x.ended() != nil {
		return false
	}
	if x.body != nil {
		return x.body.Done()
	}
	f := p.Req.Body
	if f.HasBody() && !here(p.In, f) {
		return false
	}
	p.In.Discard(int(f.Length))
	return true
}

// here reports whether all of a body has been read already.
func here(in *http1.Reader, f http1.Framing) bool {
	return f.Kind == http1.BodyLength && f.Length <= int64(len(in.Buffered()))
}

// run sends the request on x.srv and brings the response back. again says that the connection turned out to be dead in a way that
// allows another try.
func (x *exchange) run() (res Result, again bool) {
	final, err := x.send()
	if err == nil && !final {
		err = x.await()
	}
	if err != nil {
		x.cutUpload()
		return Result{Err: err, KeepClient: x.keepClient(), Up: x.up}, x.mayRepeat(err)
	}
	now := time.Now()
	x.line.answered(x.p.Timeouts.Idle, now)
	if x.resp.Status != 407 { // it may not be the last word
		x.p.Rec.Responded(x.resp.Status, now)
	}
	return x.respond(), false
}

// mayRepeat: a kept connection that died before the first byte of a response may be replaced once by a fresh one, for a request
// that is idempotent and has no body (RFC 9110, section 9.2.2).
func (x *exchange) mayRepeat(err *connmodel.ConnError) bool {
	if !x.srv.Reused || x.p.Req.Body.HasBody() || !idempotent(x.p.Req.Method) {
		return false
	}
	dead := err.Kind == connmodel.KindEOF || err.Kind == connmodel.KindReset || err.Kind == connmodel.KindTLS
	return dead && err.Side != connmodel.SideClient && !x.heard && len(x.srv.In.Buffered()) == 0
}

func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// await reads responses up to the final one. Those before it go to the client.
func (x *exchange) await() *connmodel.ConnError {
	for {
		if err := x.readHead(); err != nil {
			return x.readFault(err)
		}
		if x.final() {
			return nil
		}
		if err := x.informational(); err != nil {
			return x.clientFault(err)
		}
	}
}

// readHead reads the head of the next response into x.resp.
func (x *exchange) readHead() error {
	if err := x.srv.In.ReadResponse(x.p.Req.Method, &x.resp); err != nil {
		return err
	}
	x.heard = true
	if !x.final() {
		if x.interim++; x.interim > http1.Max1xx {
			return errTooMany1xx
		}
	}
	return nil
}

// final reports whether nothing of HTTP comes after x.resp: 101 ends it, too.
func (x *exchange) final() bool { return x.resp.Status >= 200 || x.resp.Status == 101 }

// informational passes an interim response on (RFC 9110, section 15.2). HTTP/1.0 clients do not know them, and 100 is only for
// those who wait for it.
func (x *exchange) informational() error {
	r := &x.resp
	if x.p.Req.Minor == 0 || r.Status == 100 && (x.told100 || !x.p.Req.Expect100) {
		return nil
	}
	x.told100 = x.told100 || r.Status == 100
	r.Header.StripHopByHop()
	x.addVia(&r.Header, r.Minor&1)
	head, err := http1.AppendResponse(x.respRoom[:0], r, x.p.Req.Minor)
	if err != nil {
		return err
	}
	x.respRoom = head
	_, err = x.p.Client.Write(head)
	return err
}
