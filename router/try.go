package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/upstream"
	"viaduct/upstream/http1"
	"viaduct/upstream/proxyproto"
)

// Try is one flow that a tool makes as the service would make it: by the same plan, with the same checks of addresses and the same exchange for
// plain requests. It has no client and no hooks, and the record is the tool's. It belongs to one goroutine.
type Try struct {
	p    pin
	pl   plan
	f    *connmodel.Facts
	name string // of the gateway, in Via
}

// NewTry plans the flow of f by decision d, which is not a denial. c is not running: its listeners are known by what they say. tunnel is the
// try of the tunnel that a request came in, or nil. alpn is what the flow's TLS client offers, where the service makes TLS with the server in its
// name. The error is the service's own refusal.
func NewTry(c *Config, f *connmodel.Facts, d *connmodel.Decision, tunnel *Try, alpn []string) (*Try, *connmodel.ConnError) {
	g := offline(c)
	t := &Try{p: pin{gen: g, l: &Listener{}}, f: f, name: c.Name}
	for i := range c.Listeners {
		if c.Listeners[i].Name == f.Listener {
			t.p.l = &c.Listeners[i]
		}
	}
	if t.name == "" {
		t.name = randomName()
	}
	t.pl = planOf(g, f, d)
	t.pl.via = "1.1 " + t.name
	if d.ProxyProtocol != 0 {
		t.pl.header = &proxyproto.Header{Version: d.ProxyProtocol, Source: f.Client, Destination: t.met()}
	}
	o := &opened{target: f.Target, address: Destination(f, d), scheme: "https", offers: alpn}
	if tunnel != nil {
		o.target, o.address = tunnel.f.Target, Destination(tunnel.f, tunnel.pl.d)
		if f.Hello != nil {
			o.name = f.Hello.SNI
		}
		o.facts(f)
		o.inside(f, &t.pl)
	} else if t.pl.plain && t.pl.to.TLS.Opens() {
		t.pl.to.TLS = nil
	}
	if t.pl.to.TLS.ToServer() && (tunnel != nil || t.pl.to.TLS.Opens()) {
		t.pl.offer = o.offer(f, &t.pl)
	}
	return t, checkPlan(&t.p, &t.pl, f)
}

// met is the address that a client of the listener may have connected to, for the header of the PROXY protocol.
func (t *Try) met() netip.AddrPort {
	if t.f.KernelSent() || t.f.NamedInside() {
		return netip.AddrPortFrom(t.f.TargetIP, t.f.Target.Port)
	}
	all := listenAddrs(t.p.l.Address)
	switch {
	case len(all) == 0:
		return netip.AddrPort{}
	case !all[0].Addr().IsUnspecified():
		return all[0]
	case t.f.Client.Addr().Is6(): // any address of this machine
		return netip.AddrPortFrom(netip.IPv6Loopback(), all[0].Port())
	}
	return netip.AddrPortFrom(loopback4, all[0].Port())
}

// Request is what the service would ask the dialling for. The caller may edit it.
func (t *Try) Request() *upstream.Request {
	q := t.pl.request(&t.p, t.f)
	q.Deadline = time.Now().Add(t.pl.timeouts.Connect)
	return &q
}

// Name is what the gateway calls itself in Via.
func (t *Try) Name() string { return t.name }

// Server is the address that is dialled.
func (t *Try) Server() connmodel.Address { return t.pl.to.Address }

// TLS is what is done about TLS toward the server; nil = nothing.
func (t *Try) TLS() *connmodel.TLSPlan { return t.pl.to.TLS }

// Timeouts are those of the flow.
func (t *Try) Timeouts() connmodel.Timeouts { return t.pl.timeouts }

// Answer is what came back for a request.
type Answer struct {
	Status int
	Reason string       // as the server says it: not to be trusted
	Header http1.Header // likewise, as a client of the gateway would get it
	Bytes  int64        // of the body, as far as it was read
	Cut    bool         // the body goes on
}

// Fetch sends one request without a body and reads the answer, of its body at most most bytes. dial makes the connection, at most twice; within is the
// connection to be spoken on instead, such as TLS on top of it, or nil. A Responded answer may come with the error that ended its body.
func (t *Try) Fetch(ctx context.Context, rec *connmodel.Recorder, q *http1.Request, most int64, dial func() (c *upstream.Conn, within net.Conn, err *connmodel.ConnError)) (Answer, *connmodel.ConnError) {
	ours, client := net.Pipe()
	var cancel forward.Canceler
	stop := context.AfterFunc(ctx, cancel.Cancel)
	defer stop()
	var in http1.Reader
	in.Reset(client, http1.Limits{})
	got := make(chan Answer, 1)
	go func() {
		defer ours.Close()
		a, err := readAnswer(ours, q.Method, most)
		if got <- a; a.Cut && err == nil {
			cancel.Cancel()
		}
	}()
	res := forward.Carry(&forward.Params{
		Client: client, In: &in, Req: q, Rec: rec, Decision: t.pl.d, Via: t.name, Timeouts: t.pl.timeouts, Cancel: &cancel,
		Dial: func(bool) (*forward.Server, *connmodel.ConnError) {
			c, within, err := dial()
			if err != nil {
				return nil, err
			}
			srv := newServer(c, rec)
			if within != nil {
				srv.Conn = within
				srv.In.Reset(within, http1.Limits{})
			}
			return srv, nil
		},
	})
	client.Close()
	a := <-got
	if s := res.Server; s != nil {
		s.Close()
	}
	switch {
	case res.Err != nil && a.Cut && ctx.Err() == nil: // it was we who had enough
		return a, nil
	case res.Err == nil && a.Status == 0:
		return a, internalError(errors.New("there was no answer"))
	}
	return a, res.Err
}

func internalError(err error) *connmodel.ConnError {
	return &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal, Blame: connmodel.BlameLocal, Message: err.Error(), Cause: err}
}

// readAnswer is the client.
func readAnswer(c net.Conn, method string, most int64) (a Answer, err error) {
	var in http1.Reader
	var r http1.Response
	in.Reset(c, http1.Limits{})
	if err = in.ReadFinal(method, &r, func(*http1.Response) error { return nil }); err != nil {
		return a, err
	}
	a.Status, a.Reason, a.Header = r.Status, r.Reason, append(http1.Header(nil), r.Header...)
	if !r.Body.HasBody() {
		return a, nil
	}
	body, room := in.Body(r.Body), make([]byte, 16<<10)
	for {
		n, err := body.Read(room)
		if a.Bytes += int64(n); a.Bytes > most {
			a.Cut = true
			return a, nil
		}
		if err != nil {
			return a, err
		}
	}
}

// randomName is what a gateway without a name calls itself.
func randomName() string {
	var b [8]byte
	rand.Read(b[:])
	return "viaduct-" + hex.EncodeToString(b[:])
}
