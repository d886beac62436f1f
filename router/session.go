package router

import (
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/router/relay"
	"viaduct/upstream/http1"
)

// session is one accepted client connection, from accept to close. It belongs to one goroutine; only life, drain, abort and the
// flow pointer are for others.
type session struct {
	r       *Router
	door    *door
	conn    net.Conn
	live    *connmodel.Session
	peer    netip.AddrPort
	started time.Time
	counted bool // for the limit per client
	kept    bool // at least one plain request has been answered on it

	in    http1.Reader // what was read of the client and not yet used; holds no buffer while idle
	req   *http1.Request
	facts connmodel.Facts

	flow   atomic.Pointer[connmodel.Recorder] // open flow, for the control door
	tunnel relay.Tunnel
	plain  forward.Canceler // ends a plain request
	bound  *forward.Server  // this client's own, between plain requests; nil mostly
	life   life
	wait   waiter // in Router.handshakes or Router.dials

	prev, next *session // registry
}

func (r *Router) newSession(d *door, nc net.Conn, l *Listener) *session {
	s := &session{r: r, door: d, conn: nc}
	s.wait.s = s
	s.in.Reset(nc, http1.Limits{HeadBytes: l.MaxHeadBytes})
	return s
}

// serve is the whole life of a session's goroutine.
func (s *session) serve() {
	s.r.stats.sessions.Add(1)
	name := s.live.Client().Listener
	s.r.opt.Meter.SessionOpened(name)
	defer s.end(name)
	if s.welcome() {
		s.serveConn()
	}
}

// end closes what is left and gives back what the session counted for. A panic ends this connection and no other.
func (s *session) end(listener string) {
	if p := recover(); p != nil {
		s.panicked(p)
	}
	s.conn.Close()
	s.r.handshakes.end(s)
	s.bind(nil)
	s.in.Release()
	s.live.Close()
	s.r.sessions.remove(s)
	if s.counted {
		s.door.release(s.peer.Addr())
	}
	s.r.gate.leave()
	s.r.opt.Meter.SessionClosed(listener)
}

func (s *session) panicked(p any) {
	defer func() { recover() }() // a log, meter or sink that panics must not take the process with it
	s.r.stats.panics.Add(1)
	stack := string(debug.Stack())
	defer s.r.opt.Log.Event(LevelError, "panic in a session", "session", s.live.ID().String(), "panic", p, "stack", stack)
	s.r.opt.Meter.Panicked()
	s.r.dials.end(s)
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
	listener := s.live.Client().Listener
	s.r.opt.Meter.SessionRefused(listener, "hook")
	s.r.opt.Log.Event(LevelWarn, "client refused", "listener", listener, "client", s.peer.String(), "reason", err.Error())
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
	d := l.HandshakeTimeout
	if d <= 0 {
		d = defaultHandshake
	}
	s.conn.SetReadDeadline(from.Add(d))
}
