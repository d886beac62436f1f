package router

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/h2"
)

// serveStreams serves a client that has agreed on HTTP/2. Each stream is a connection that speaks HTTP/1.1 (package h2), and a session with a
// life of its own: what a request is allowed, where it goes and what is recorded of it is the same as on a connection. The session of the
// connection itself carries nothing; it ends when the client has gone, or after a drain with the last stream.
func (s *session) serveStreams() {
	l := s.door.pin.Load().l
	s.leaveDesk()
	s.conn.SetDeadline(time.Time{}) // package h2 has clocks of its own
	s.live.Multiplexed()
	s.multiplex(h2.ServerOptions{
		Absolute: true, ExtendedConnect: true, Admit: func() bool { return s.admitStream(&s.tls.streams) },
		MaxStreams: l.MaxStreams, HeaderBytes: l.MaxHeadBytes, HandshakeTimeout: l.handshake(), IdleTimeout: l.keepAlive(),
	}, s.serveStream)
}

// multiplex serves the connection stream by stream, until it ends.
func (s *session) multiplex(o h2.ServerOptions, serve func(*h2.Stream)) {
	server := h2.NewServer(s.conn, o)
	s.life.mu.Lock()
	s.multi = server
	s.life.state = stateStreams
	why := s.life.why
	s.life.mu.Unlock()
	if why != "" || s.closing() {
		server.Shutdown()
	}
	if err := server.Serve(serve); err != nil {
		s.streamsFailed(err)
	}
}

// admitStream finds room for one more stream. A stream costs what a connection does, so it counts as one: for the limit of the gateway, and
// for that of its client. It runs under the lock of package h2.
func (s *session) admitStream(streams *places) bool {
	p := s.door.pin.Load()
	reason := "connection_limit"
	if s.r.gate.try() {
		var counted bool
		if counted, reason = s.door.count(p.l, s.client.Addr().WithZone("")); reason == "" {
			if counted {
				streams.counted.Add(1)
			}
			return true
		}
		s.r.gate.leave()
	}
	s.r.opt.Meter.SessionRefused(p.l.Name, reason)
	s.door.tellRefused(p.l.Name, s.client, reason, time.Now())
	return false
}

// serveStream is the life of one stream that was admitted.
func (s *session) serveStream(st *h2.Stream) {
	s.understood() // the client's first word is complete
	s.streamLife(s.r.newStream(s, st, &s.tls.streams), (*session).serveHTTP)
}

// streamLife is the life of the session of a stream.
func (s *session) streamLife(c *session, serve func(*session)) {
	s.r.sessions.add(c)
	defer c.end()
	growStack()
	c.handshakeDeadline(s.door.pin.Load().l, c.started)
	c.life.enter(stateHead)
	serve(c)
	if c.job != nil {
		c.leaveDesk()
		c.handed = true
		c.serveRelay() // here, since the stream is ours until this returns
	}
}

// newStream is the session of a stream.
func (r *Router) newStream(on *session, st *h2.Stream, streams *places) *session {
	s := &session{
		r: r, door: on.door, conn: st, live: on.live, name: on.name, peer: on.peer, client: on.client, started: time.Now(), tls: on.tls, desk: desks.Get().(*desk),
		stream: true, kept: true, // its writes can have to wait for the client
		counted: streams.take(),
	}
	s.wait.s = s
	s.in.Reset(st, s.headLimits(on.door.pin.Load().l))
	return s
}

// places are the streams of one connection that count for the limit of their client and have not begun.
type places struct{ counted atomic.Int64 }

// take gives a stream one of the places that were counted for its client. Which of the streams has one makes no difference.
func (p *places) take() bool {
	for {
		n := p.counted.Load()
		if n == 0 {
			return false
		}
		if p.counted.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// unneeded reports whether err says that the client has no use for a tunnel any more: this is how browsers close one, or all of them when
// they are closed themselves, so it is an end like others. The server is told by a reset all the same, since more might have been on its
// way to it.
func unneeded(err error) bool {
	var se *h2.StreamError
	var ce *h2.ConnError
	switch {
	case errors.As(err, &se):
		return se.Remote && (se.Code == http2.ErrCodeCancel || se.Code == http2.ErrCodeNo)
	case errors.As(err, &ce):
		return ce.Remote && ce.Code == http2.ErrCodeNo && ce.Err == io.EOF
	}
	return false
}

// streamsFailed notes why a connection of streams did not end well. What the client has done wrong has a record of its own: the streams' know
// only that they ended with it, and there may be none.
func (s *session) streamsFailed(err error) {
	var ce *h2.ConnError
	if !errors.As(err, &ce) || s.life.ended() != "" {
		return
	}
	if ce.Code == http2.ErrCodeNo || ce.Remote {
		e := clientError(connmodel.PhaseRelay, err)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.Kind, e.Message = connmodel.KindTimeout, "the client is not there any more: "+ce.Reason
		} else if e.Kind == connmodel.KindProtocol || e.Kind == connmodel.KindReset {
			e.Message = "the client ended the HTTP/2 connection: " + ce.Error()
		}
		s.live.Fail(e)
		return
	}
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Blame: connmodel.BlameClient, Cause: err,
		Message: "HTTP/2 was ended because of what the client did: " + ce.Error(),
	}
	switch ce.Code {
	case http2.ErrCodeEnhanceYourCalm:
		e.Kind = connmodel.KindLimit
		s.r.opt.Meter.SessionRefused(s.name, "http2_flood")
		s.door.tellRefused(s.name, s.client, "http2_flood: "+ce.Reason, time.Now())
	case http2.ErrCodeSettingsTimeout:
		e.Kind = connmodel.KindTimeout
	}
	s.live.Fail(e)
	if s.inner != nil { // in an opened tunnel: it is the tunnel that ends so, and its record says where it led to
		e.Phase = connmodel.PhaseRelay
		s.endOpened(e)
		return
	}
	rec := s.begin(connmodel.ProtocolHTTP, connmodel.Address{}, time.Now())
	rec.Fail(e)
	s.finish(rec, s.flowEnd(e))
}
