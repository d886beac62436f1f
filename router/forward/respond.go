package forward

import (
	"io"
	"net"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// respond passes the final response on. From its first byte on there is no way back: a fault is told by breaking the connection.
func (x *exchange) respond() Result {
	p, r := x.p, &x.resp
	if r.Status == 407 && x.srv.Absolute {
		x.joinUpload(true)
		e := x.serverError(connmodel.KindAuth, "wants other credentials than it was given (407)")
		e.Phase, e.Code, e.CodeOf = connmodel.PhaseAuth, 407, "http"
		if x.srv.ProxyAuthorization == "" {
			e.Message = "asks for credentials (407), and the policy has none for it"
		}
		e.Message = "the proxy " + e.Message
		return Result{Err: e, KeepClient: x.uploaded && p.Req.KeepAlive && !p.Closing, Up: x.up}
	}
	if r.Status == 101 {
		return x.upgrade()
	}
	if connectionBound(r.Header, "WWW-Authenticate") {
		x.srv.bound = true
	}
	body := r.Body
	keepServer := r.KeepAlive && body.Kind != http1.BodyClose
	out, keepClient := x.framing()
	if x.upload != nil {
		select {
		case err := <-x.upload:
			x.joined(err)
		default:
		}
	}
	keepClient = keepClient && (x.uploaded || x.upload != nil)
	head, err := x.responseHead(out, keepClient)
	if err != nil {
		x.joinUpload(true)
		return Result{Err: x.serverError(connmodel.KindProtocol, "sent a response that cannot be passed on: "+err.Error()), Up: x.up}
	}
	n, err := x.copyBody(head, out)
	if err != nil {
		x.joinUpload(true)
		return x.broken(n, err)
	}
	p.Rec.ResponseDone()
	x.finishUpload()
	res := Result{Responded: true, Up: x.up, Down: n}
	res.KeepClient = keepClient && x.uploaded
	res.KeepServer = keepServer && x.uploaded && !x.srv.bound && len(x.srv.In.Buffered()) == 0
	if res.KeepServer {
		x.watch.stop()
		x.srv.Conn.SetDeadline(time.Time{})
	}
	return res
}

// framing says how the body goes to the client, and whether the connection can be kept after it.
func (x *exchange) framing() (http1.Framing, bool) {
	req := x.p.Req
	keep := req.KeepAlive && !x.p.Closing
	out := x.resp.Body
	switch {
	case out.Kind != http1.BodyChunked && out.Kind != http1.BodyClose:
	case req.Minor == 0: // RFC 9112, section 6.1: 1.0 knows no chunks
		out, keep = http1.Framing{Kind: http1.BodyClose}, false
	default:
		out = http1.Framing{Kind: http1.BodyChunked}
	}
	return out, keep
}

func (x *exchange) responseHead(out http1.Framing, keep bool) ([]byte, error) {
	r := x.resp
	r.Header.StripHopByHop()
	if x.p.Via != "" {
		r.Header.Add("Via", viaValue(r.Minor, x.p.Via))
	}
	r.Body, r.KeepAlive, r.Upgrade = out, keep, ""
	head, err := http1.AppendResponse(make([]byte, 0, 1024), &r, x.p.Req.Minor)
	x.resp.Header = r.Header
	return head, err
}

// Bodies of spliceMin bytes or more go through the kernel where both ends are plain sockets, in pieces of spliceStep, so that the
// watch sees them move.
const (
	spliceMin  = 256 << 10
	spliceStep = 256 << 10
)

// copyBody writes head and the body. It returns the bytes of content that went out.
func (x *exchange) copyBody(head []byte, out http1.Framing) (int64, error) {
	in := &x.srv.In
	body := in.Body(x.resp.Body)
	here := int64(len(in.Buffered()))
	whole := !out.HasBody() || out.Kind == http1.BodyLength && out.Length <= here
	if whole {
		// Everything is here: one write, no watch.
		x.p.Client.SetWriteDeadline(time.Now().Add(x.writeTime()))
		n, err := http1.Copy(x.p.Client, head, body, out)
		if err == nil {
			x.p.Client.SetWriteDeadline(time.Time{})
		}
		return n, err
	}
	x.srv.Conn.SetReadDeadline(time.Time{})
	x.watch.start(x.p.Timeouts.Idle, x.p.Client, x.srv.Conn)
	dst := &progress{Conn: x.p.Client, w: &x.watch}
	client, ok1 := x.p.Client.(*net.TCPConn)
	server, ok2 := x.srv.Conn.(*net.TCPConn)
	if ok1 && ok2 && out.Kind == http1.BodyLength && out.Length-here >= spliceMin {
		return x.spliceBody(client, server, dst, head, body)
	}
	return http1.Copy(dst, head, body, out)
}

func (x *exchange) writeTime() time.Duration {
	if x.p.Timeouts.Idle > 0 {
		return x.p.Timeouts.Idle
	}
	return time.Hour
}

// spliceBody moves a long body of known length: what is buffered by hand, the rest in the kernel.
func (x *exchange) spliceBody(client, server *net.TCPConn, dst io.Writer, head []byte, body *http1.Body) (n int64, err error) {
	first := head
	for body.Direct() == 0 && !body.Done() {
		piece := make([]byte, len(x.srv.In.Buffered()))
		m, err := body.Read(piece)
		first = append(first, piece[:m]...)
		n += int64(m)
		if err != nil && err != io.EOF {
			return 0, err
		}
	}
	if _, err := dst.Write(first); err != nil {
		return 0, &http1.WriteError{Err: err}
	}
	for !body.Done() {
		lr := io.LimitedReader{R: server, N: min(body.Direct(), spliceStep)}
		want := lr.N
		m, err := client.ReadFrom(&lr)
		x.watch.add(int(m))
		body.Advance(want - lr.N)
		n += m
		switch {
		case err != nil:
			return n, spliceFault(err)
		case m < want:
			return n, io.ErrUnexpectedEOF
		}
	}
	return n, nil
}

// spliceFault tells which side a failed transfer is owed to.
func spliceFault(err error) error {
	if oe, ok := err.(*net.OpError); ok && (oe.Op == "write" || oe.Op == "readfrom" && strings.Contains(oe.Error(), "write")) {
		return &http1.WriteError{Err: err}
	}
	return err
}

// upgrade passes 101 on, if the client asked for what the server switches to (RFC 9110, section 7.8).
func (x *exchange) upgrade() Result {
	p := x.p
	if p.Req.Upgrade == "" || !strings.EqualFold(strings.TrimSpace(p.Req.Upgrade), strings.TrimSpace(x.resp.Upgrade)) || !x.uploaded {
		x.joinUpload(true)
		return Result{Err: x.serverError(connmodel.KindProtocol, "switched to a protocol that the client did not ask for (101)"), Up: x.up}
	}
	r := x.resp
	r.Header.StripHopByHop()
	if p.Via != "" {
		r.Header.Add("Via", viaValue(r.Minor, p.Via))
	}
	r.KeepAlive = true
	head, err := http1.AppendResponse(make([]byte, 0, 512), &r, p.Req.Minor)
	if err != nil {
		return Result{Err: x.serverError(connmodel.KindProtocol, "sent a 101 that cannot be passed on"), Up: x.up}
	}
	if _, err := p.Client.Write(head); err != nil {
		return Result{Err: x.clientFault(err), Responded: true, Up: x.up}
	}
	x.srv.Conn.SetDeadline(time.Time{})
	p.Client.SetDeadline(time.Time{})
	p.Rec.ResponseDone()
	return Result{Upgraded: true, Responded: true}
}

// broken is the end of a response whose head went out and whose body did not: the client's connection is reset, so that it cannot
// take the part for the whole (RFC 9112, section 8).
func (x *exchange) broken(n int64, err error) Result {
	e := x.bodyFault(err)
	if e.Side != connmodel.SideClient {
		if t, ok := x.p.Client.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
	}
	return Result{Responded: true, Err: e, Up: x.up, Down: n}
}
