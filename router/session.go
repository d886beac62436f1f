package router

import (
	"context"
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

// session is one accepted client connection, from accept to close. It belongs to one goroutine; only drain, abort and the
// flow pointer are for others.
type session struct {
	r       *Router
	door    *door
	conn    net.Conn
	live    *connmodel.Session
	peer    netip.AddrPort
	started time.Time

	in    http1.Reader // what was read of the client and not yet used; holds no buffer while idle
	req   *http1.Request
	facts connmodel.Facts

	flow   atomic.Pointer[connmodel.Recorder] // open flow, for the control door
	tunnel relay.Tunnel
	plain  forward.Canceler // ends a plain request
	bound  *forward.Server  // this client's own, between plain requests; nil mostly
	state  atomic.Int32     // sessionState
	cut    atomic.Bool      // abort was called

	prev, next *session // registry
}

// sessionState says what a drain may do to a session.
type sessionState = int32

const (
	stateBusy   sessionState = iota // handshake, or a request in flight: let it finish
	stateIdle                       // kept open between two plain requests: may be closed at once
	stateTunnel                     // relaying
)

func (r *Router) newSession(d *door, nc net.Conn) *session {
	s := &session{r: r, door: d, conn: nc}
	s.in.Reset(nc, http1.Limits{HeadBytes: d.pin.Load().l.MaxHeadBytes})
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
	s.bind(nil)
	s.in.Release()
	s.live.Close()
	s.r.sessions.remove(s)
	if s.peer.IsValid() {
		s.door.release(s.peer.Addr())
	}
	s.r.gate.leave()
	s.r.opt.Meter.SessionClosed(listener)
}

func (s *session) panicked(p any) {
	s.r.stats.panics.Add(1)
	s.r.opt.Meter.Panicked()
	s.r.opt.Log.Event(LevelError, "panic in a session", "session", s.live.ID().String(), "panic", p, "stack", string(debug.Stack()))
	rec := s.flow.Load()
	if rec == nil {
		return
	}
	rec.Panicked()
	rec.Fail(&connmodel.ConnError{
		Phase: connmodel.PhaseRelay, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
		Message: "internal error", Blame: connmodel.BlameLocal,
	})
	func() {
		defer func() { recover() }() // a log or sink that panics must not take the process with it
		s.finish(rec, connmodel.FlowEnd{Reason: connmodel.CloseInternal})
	}()
}

// welcome lets hooks refuse the client.
func (s *session) welcome() bool {
	h := s.r.opt.Hooks
	if h == nil {
		return true
	}
	c := s.live.Client()
	h.ObserveClient(connmodel.EventClientConnected, &c)
	if h.ClientConnected == nil {
		return true
	}
	err := h.Call(s.r.ctx, "client_connected", func(ctx context.Context) error { return h.ClientConnected(ctx, &c) })
	if err == nil {
		return true
	}
	s.live.Fail(&connmodel.ConnError{
		Phase: connmodel.PhaseAccept, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied,
		Message: "refused by hook client_connected: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	})
	s.r.opt.Meter.SessionRefused(c.Listener, "hook")
	s.r.opt.Log.Event(LevelWarn, "client refused", "listener", c.Listener, "client", s.peer.String(), "reason", err.Error())
	abortConn(s.conn)
	return false
}

// begin starts the record of one flow. From here on finish must be called for it.
func (s *session) begin(p connmodel.Protocol, target connmodel.Address, at time.Time) *connmodel.Recorder {
	rec := s.live.NewFlow(p, target, at)
	s.flow.Store(rec)
	return rec
}

// drain ends a session that waits between requests; others finish what they do.
func (s *session) drain() {
	if s.state.Load() == stateIdle {
		s.conn.SetReadDeadline(longAgo)
	}
}

// abort ends the session at once, whatever it does.
func (s *session) abort(reason connmodel.CloseReason) {
	s.cut.Store(true)
	end := relay.Drained
	if reason == connmodel.CloseAdmin {
		end = relay.Canceled
	}
	s.tunnel.Abort(end)
	s.plain.Cancel()
	if s.state.Load() != stateTunnel {
		s.conn.SetDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// handshakeDeadline bounds everything from the first byte of a request to its complete head.
func (s *session) handshakeDeadline(l *Listener, from time.Time) {
	d := l.HandshakeTimeout
	if d <= 0 {
		d = defaultHandshake
	}
	s.conn.SetReadDeadline(from.Add(d))
}
