package router

import (
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/router/relay"
	"viaduct/upstream/h2"
	"viaduct/upstream/http1"
)

// session is one accepted client connection, from accept to close. It belongs to one goroutine; only life, drain, abort and the
// flow pointer are for others.
type session struct {
	r       *Router
	door    *door
	conn    net.Conn
	live    *connmodel.Session
	name    string         // of the listener, at accept
	peer    netip.AddrPort // the other end of the socket
	client  netip.AddrPort // who it is about: the peer, or whom a load balancer has told of; set before the handshake
	started time.Time
	counted bool     // for the limit per client
	kept    bool     // at least one plain request has been answered on it
	handed  bool     // it goes on as a tunnel, on another goroutine
	stream  bool     // it is a stream of HTTP/2: live, name and tls are those of its connection
	tls     *secured // TLS with the client; nil without

	local    bool       // it came from an address of this machine: in Router.loops
	balancer bool       // the peer is a load balancer, which says first whose connection it brings
	inner    *opened    // what came of a tunnel that is looked into; nil outside of one
	multi    *h2.Server // of the connection, when it is one of streams; set when it enters stateStreams

	*desk // nil while relaying

	flow   atomic.Pointer[connmodel.Recorder] // open flow, for the control door
	inside atomic.Pointer[opened]             // inner of the tunnel's own session, for the control door
	assoc  atomic.Pointer[association]        // nil unless this is the control connection of a UDP association
	tunnel relay.Tunnel
	plain  forward.Canceler // ends a plain request
	bound  *forward.Server  // this client's own, between plain requests; nil mostly
	job    *job             // not nil between the handshake and the relaying
	result relay.Result     // of the tunnel; here, and not on a stack that has to stay small
	lease  io.Closer        // gives back the server connection of a tunnel
	life   life
	wait   waiter // in Router.handshakes or Router.dials

	prev, next *session // registry
}

// desk is what a session works with until it relays, which may take hours: it goes back before.
type desk struct {
	in    http1.Reader // what was read of the client and not yet used; holds no buffer while idle
	req   http1.Request
	facts connmodel.Facts
	via   string // of a CONNECT: who passed it on, then ourselves
	peek  peek

	proved proved // of the request under way
}

// proved is a user and password that the client has proved; the zero value is none. It lives as long as the flow.
type proved struct{ user, password string }

var desks = sync.Pool{New: func() any { return new(desk) }}

// leaveDesk gives the desk back, with nothing of the client on it.
func (s *session) leaveDesk() {
	d := s.desk
	if d == nil {
		return
	}
	s.desk = nil
	d.in.Reset(nil, http1.Limits{})
	d.req.Reset()
	d.facts = connmodel.Facts{}
	d.peek = peek{}
	d.proved = proved{}
	desks.Put(d)
}

// job is a tunnel that is to be relayed.
type job struct {
	client, server relay.Side
	options        relay.Options
}

func (r *Router) newSession(d *door, nc net.Conn, p *pin) *session {
	s := &session{r: r, door: d, conn: nc, name: p.l.Name, desk: desks.Get().(*desk)}
	s.wait.s = s
	s.in.Reset(nc, s.headLimits(p.l))
	if p.tls != nil {
		s.tls = &secured{by: p.tls}
	}
	return s
}

func (s *session) headLimits(l *Listener) http1.Limits {
	return http1.Limits{HeadBytes: l.MaxHeadBytes}
}

// serve is the life of a session up to a tunnel, or to its end.
func (s *session) serve() {
	defer s.end()
	growStack()
	s.r.stats.sessions.Add(1)
	s.r.opt.Meter.SessionOpened(s.name)
	if s.introduced() && s.welcome() && s.secure() {
		if s.tls != nil && s.tls.http2 {
			s.serveStreams()
		} else {
			s.serveConn()
		}
	}
	if s.job != nil {
		s.leaveDesk()
		s.handed = true
		go s.serveRelay()
	}
}

// growStack makes the stack of a fresh goroutine as large as dialling will need, while there is nothing on it that would have to be
// moved. Grown where it is needed, with twenty frames on it, it costs a twentieth of a tunnel.
//
//go:noinline
func growStack() {
	var room [9 << 10]byte
	touch(room[:])
}

//go:noinline
func touch(b []byte) { b[0] = 1 }

// serveRelay is the rest of the life of a session that has become a tunnel. It is a goroutine of its own because the stack of the first
// one has grown while it dialled, and would not shrink: that is 6 KiB for as long as the tunnel lives. Its frames are kept small for the
// same reason: they and those of the relay fit into the 2 KiB that a goroutine begins with.
func (s *session) serveRelay() {
	defer s.endRelay()
	j := s.job
	s.job = nil
	s.tunnel.RunTo(&s.result, &j.client, &j.server, &j.options)
	s.closeTunnel()
}

func (s *session) endRelay() {
	p := recover()
	s.lease.Close()
	s.close(p)
}

// end ends a session, unless it goes on as a tunnel.
func (s *session) end() {
	p := recover()
	if s.handed {
		return
	}
	s.close(p)
}

// close closes what is left and gives back what the session counted for. A panic ends this connection and no other.
func (s *session) close(panicked any) {
	if panicked != nil {
		s.panicked(panicked)
	}
	s.hangUp()
	if o := s.inner; o != nil && o.by == s {
		s.finishOpened()
	}
	s.r.handshakes.end(s)
	s.bind(nil)
	s.leaveDesk()
	if !s.stream {
		s.live.Close()
	}
	s.r.sessions.remove(s)
	if s.local {
		s.r.loops.left(s)
	}
	if s.counted {
		s.door.release(s.client.Addr())
	}
	s.r.gate.leave()
	if !s.stream {
		s.r.opt.Meter.SessionClosed(s.name)
	}
}

func (s *session) panicked(p any) {
	defer func() { recover() }() // a log, meter or sink that panics must not take the process with it
	s.r.stats.panics.Add(1)
	stack := string(debug.Stack())
	defer s.r.opt.Log.Event(LevelError, "panic in a session", "session", s.live.ID().String(), "panic", p, "stack", stack)
	s.r.opt.Meter.Panicked()
	s.r.dials.end(s)
	if s.inner != nil {
		s.inner.end = &connmodel.ConnError{
			Phase: connmodel.PhaseRelay, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal, Message: "internal error", Blame: connmodel.BlameLocal,
		}
	}
	rec := s.flow.Load()
	if rec == nil {
		return
	}
	rec.Panicked()
	rec.Fail(&connmodel.ConnError{
		Phase: connmodel.PhaseRelay, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
		Message: "internal error", Blame: connmodel.BlameLocal,
	})
	s.finish(rec, connmodel.FlowEnd{Reason: connmodel.CloseInternal})
}

// welcome lets hooks refuse the client.
func (s *session) welcome() bool {
	if s.r.opt.Hooks == nil {
		return true
	}
	err := s.r.opt.Hooks.CallClientConnected(&s.life, s.live)
	if err == nil {
		s.live.Connected()
		return true
	}
	s.live.Fail(&connmodel.ConnError{
		Phase: connmodel.PhaseAccept, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied,
		Message: "refused by hook client_connected: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	})
	s.r.opt.Meter.SessionRefused(s.name, "hook")
	s.r.opt.Log.Event(LevelWarn, "client refused", "listener", s.name, "client", s.client.String(), "reason", err.Error())
	abortConn(s.conn)
	return false
}

// begin starts the record of one flow. From here on finish must be called for it.
func (s *session) begin(p connmodel.Protocol, target connmodel.Address, at time.Time) *connmodel.Recorder {
	rec := s.live.NewFlow(p, target, at)
	s.flow.Store(rec)
	return rec
}

// understood ends the handshake: what the client wants is known.
func (s *session) understood() { s.r.handshakes.end(s) }

// handshakeDeadline bounds everything from accept, or from the first byte of a further request, to its complete head.
func (s *session) handshakeDeadline(l *Listener, from time.Time) {
	s.conn.SetReadDeadline(s.handshakeEnd(l, from))
}

func (s *session) handshakeEnd(l *Listener, from time.Time) time.Time { return from.Add(l.handshake()) }

func (l *Listener) handshake() time.Duration {
	if l.HandshakeTimeout <= 0 {
		return defaultHandshake
	}
	return l.HandshakeTimeout
}

func (l *Listener) keepAlive() time.Duration {
	if l.KeepAliveTimeout <= 0 {
		return defaultKeepAlive
	}
	return l.KeepAliveTimeout
}
