package forward

import (
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// respond passes the final response on. From its first byte on there is no way back: a fault is told by breaking the connection.
func (x *exchange) respond() Result {
	p, r := x.p, &x.resp
	if r.Status == 407 {
		return x.challenged()
	}
	x.answered(r.Status, nil)
	if r.Status == 101 {
		return x.upgrade()
	}
	if connectionBound(r.Header, "WWW-Authenticate") {
		x.srv.bound = true
	}
	if x.lastWrite.Load() {
		x.awaitUpload(uploadGrace) // it has all it sends, and the server, which answered, has most of it
	} else {
		x.awaitUpload(0)
	}
	keepServer := r.KeepAlive && r.Body.Kind != http1.BodyClose
	out, again := x.framing()
	keepClient := again && x.keepClient() && x.sent // a body that the server did not wait for may come for ever
	head, err := x.responseHead(out, keepClient)
	if err != nil {
		return x.instead(x.serverError(connmodel.KindProtocol, "sent a response that cannot be passed on: "+err.Error()))
	}
	n, err := x.copyBody(head, out)
	if err != nil {
		return x.broken(n, err)
	}
	p.Rec.ResponseDone()
	x.awaitUpload(uploadGrace)
	x.cutUpload()
	return Result{
		Responded: true, Up: x.up, Down: n, KeepClient: keepClient,
		KeepServer: keepServer && x.sent && len(x.srv.In.Buffered()) == 0 && x.line.clean(), // surplus: RFC 9112, section 9.2
	}
}

func (x *exchange) answered(status int, e *connmodel.ConnError) {
	if x.srv.Answered != nil {
		x.srv.Answered(status, e)
	}
}

// instead is the end of an exchange whose response is not shown to the client.
func (x *exchange) instead(err *connmodel.ConnError) Result {
	x.awaitUpload(0)
	x.cutUpload()
	return Result{Err: err, KeepClient: x.keepClient(), Up: x.up}
}

// challenged is the end of an exchange that was answered by 407. It is never handed on: the client would answer it with the credentials that
// are for us (RFC 9110, section 11.7.1). Where the proxy asks for no more than what was shown in another form, the request is sent again.
func (x *exchange) challenged() Result {
	e, again, here := x.refusal(), false, false
	if l := x.srv.Login; l != nil && x.srv.Absolute {
		var fields []string
		for v := range x.resp.Header.Values("Proxy-Authenticate") {
			fields = append(fields, v)
		}
		var no *connmodel.ConnError
		if again, here, no = l.Challenged(x.out.Method, target(x.reqRoom), fields); no != nil {
			no.Hop, no.HopName = x.srv.Hop, x.srv.HopName
			e = no
		}
	}
	if again {
		again = here && x.resp.KeepAlive && x.line.clean() && x.drained()
		switch {
		case again:
			x.repeat = repeatHere
		case x.srv.Reused:
			x.repeat, again = repeatAnew, true
		}
	}
	if !again {
		x.p.Rec.Responded(407, time.Now())
		x.answered(407, e)
	}
	return x.instead(e)
}

// drained reads the page that comes with a 407, and reports whether the connection can go on after it.
func (x *exchange) drained() bool {
	done, err := x.srv.In.Body(x.resp.Body).Drain(maxRefusal)
	return err == nil && done && len(x.srv.In.Buffered()) == 0
}

// maxRefusal bounds what is read of the page that comes with a 407.
const maxRefusal = 256 << 10

// refusal is what a 407 means.
func (x *exchange) refusal() *connmodel.ConnError {
	what := "the proxy wants other credentials than it was given (407)"
	switch {
	case !x.srv.Absolute:
		what = "the server asks for proxy credentials (407), which is not for a server to do"
	case x.srv.Login == nil:
		what = "the proxy asks for credentials (407), and the policy has none for it"
	}
	e := x.serverError(connmodel.KindAuth, what)
	e.Phase, e.Code, e.CodeOf = connmodel.PhaseAuth, 407, "http"
	return e
}

// framing says how the body goes to the client, and whether the connection can be kept after it.
func (x *exchange) framing() (f http1.Framing, keep bool) {
	f = x.resp.Body
	switch {
	case f.Kind != http1.BodyChunked && f.Kind != http1.BodyClose:
		return f, true
	case x.p.Req.Minor == 0: // RFC 9112, section 6.1: 1.0 knows no chunks
		return http1.Framing{Kind: http1.BodyClose}, false
	}
	return http1.Framing{Kind: http1.BodyChunked}, true
}

func (x *exchange) responseHead(out http1.Framing, keep bool) ([]byte, error) {
	r := x.resp
	r.Header.StripHopByHop()
	x.addVia(&r.Header, r.Minor&1)
	r.Body, r.KeepAlive, r.Upgrade = out, keep, ""
	x.resp.Header = r.Header
	head, err := http1.AppendResponse(x.respRoom[:0], &r, x.p.Req.Minor)
	x.respRoom = head
	return head, err
}

// copyBody writes head and the body. It returns the bytes of content that went out.
func (x *exchange) copyBody(head []byte, out http1.Framing) (int64, error) {
	if !x.resp.Body.HasBody() {
		if _, err := x.p.Client.Write(head); err != nil {
			return 0, &http1.WriteError{Err: err}
		}
		return 0, nil
	}
	in := &x.srv.In
	return x.stream((*downloader)(x), x.srv.Conn, x.p.Client, in, head, in.Body(x.resp.Body), out, nil)
}

// downloader is what a response is written to.
type downloader exchange

// Write writes to the client.
func (d *downloader) Write(b []byte) (int, error) {
	n, err := d.p.Client.Write(b)
	d.line.moved.Add(int64(n))
	return n, err
}

// upgrade passes 101 on, if the client asked for what the server switches to (RFC 9110, section 7.8) and its request is complete.
func (x *exchange) upgrade() Result {
	p := x.p
	x.awaitUpload(0)
	if x.upload != nil && x.lastWrite.Load() {
		x.awaitUpload(uploadGrace)
	}
	if p.Req.Upgrade == "" || !strings.EqualFold(p.Req.Upgrade, x.resp.Upgrade) {
		return x.instead(x.serverError(connmodel.KindProtocol, "switched to a protocol that the client did not ask for (101)"))
	}
	if !x.sent {
		return x.instead(x.serverError(connmodel.KindProtocol, "switched protocols (101) before it had the whole request"))
	}
	r := x.resp
	r.Header.StripHopByHop()
	x.addVia(&r.Header, r.Minor&1)
	r.KeepAlive = true
	head, err := http1.AppendResponse(x.respRoom[:0], &r, p.Req.Minor)
	if err != nil {
		return x.instead(x.serverError(connmodel.KindProtocol, "sent a 101 that cannot be passed on: "+err.Error()))
	}
	if _, err := p.Client.Write(head); err != nil {
		return Result{Err: x.clientFault(err), Responded: true, Up: x.up}
	}
	if !x.line.release() {
		return Result{Err: x.cutFault(), Responded: true}
	}
	p.Rec.ResponseDone()
	return Result{Upgraded: true, Responded: true}
}

// broken is the end of a response whose head went out and whose body did not: the client's connection is reset, so that it cannot
// take the part for the whole (RFC 9112, section 8).
func (x *exchange) broken(n int64, err error) Result {
	e := x.bodyFault(err)
	x.cutUpload()
	if e.Side != connmodel.SideClient {
		reset(x.p.Client)
	}
	return Result{Responded: true, Err: e, Up: x.up, Down: n}
}
