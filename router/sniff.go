package router

import (
	"errors"
	"io"
	"os"
	"time"

	"viaduct/connmodel"
	"viaduct/router/ingress"
	"viaduct/upstream/http1"
)

// Looking into a tunnel: what the client says first behind its handshake, for rules that ask. The bytes stay where they are, in s.in, and
// go to the server with the rest. No flow comes here whose rules do not ask.
//
// A client of CONNECT or SOCKS says nothing before it has been told yes, so the yes comes first, before anything is decided or dialled.
// What fails after that can be told in what the client speaks inside only: see lateNo.

// peek is what is known of the client's first bytes. It lives on the desk.
type peek struct {
	early   bool // the client has had its yes
	hello   ingress.HelloScan
	request ingress.RequestScan
	err     *connmodel.ConnError // why what was begun could not be read
}

const (
	firstBytes = connmodel.NeedHello | connmodel.NeedRequest
	// defaultSniff is how long a client may be silent until it is taken for one that waits for the server.
	defaultSniff = 300 * time.Millisecond
)

// gatherFirst looks at the client's first bytes until need is had, and waits for them: until SniffTimeout for the first one, until
// HandshakeTimeout for the rest of what has begun. The facts are had then, or are said to be unread. The error is that of a client that
// has gone, or of a hook that refuses it.
func (s *session) gatherFirst(p *pin, rec *connmodel.Recorder, f *connmodel.Facts, need connmodel.Need) *connmodel.ConnError {
	if err := s.yesEarly(rec, f.Protocol); err != nil {
		return clientError(connmodel.PhaseSniff, err)
	}
	now := time.Now()
	silent, begun := now.Add(p.l.sniffTimeout()), s.handshakeEnd(p.l, now)
	defer s.lookDone()
	state := stateIdle // of the wait; none yet
	for {
		if e := s.scanFirst(p, rec, f, need); e != nil || need&^f.Have == 0 || s.unread(f, need) {
			return e
		}
		next, until := stateSniff, silent
		if len(s.in.Buffered()) > 0 {
			next, until = stateHead, begun
		}
		if next != state && !s.lookUntil(next, until) {
			return lookEnded
		}
		state = next
		if err := s.in.Fill(); err != nil {
			return s.lookFailed(f, need, err)
		}
	}
}

func (l *Listener) sniffTimeout() time.Duration {
	if l.SniffTimeout > 0 {
		return l.SniffTimeout
	}
	return defaultSniff
}

// lookEnded is the end of a look that somebody else ended: outside says who.
var lookEnded = &connmodel.ConnError{Phase: connmodel.PhaseSniff, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled, Message: "the look at the client's first bytes was given up"}

// lookUntil begins a wait for bytes of the client. A drain does not wait for those who are silent: they go on as they are.
func (s *session) lookUntil(st sessionState, until time.Time) bool {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	if s.life.why != "" {
		return false
	}
	if grace := time.Now().Add(drainGrace); st == stateSniff && s.closing() && grace.Before(until) {
		until = grace
	}
	s.life.state = st
	s.conn.SetReadDeadline(until)
	return true
}

func (s *session) lookDone() {
	s.life.enter(stateDial)
	s.conn.SetReadDeadline(time.Time{})
}

// unread reports whether something of need was begun and cannot be read.
func (s *session) unread(f *connmodel.Facts, need connmodel.Need) bool {
	return f.HelloUnread && need&connmodel.NeedHello != 0 || f.RequestUnread && need&connmodel.NeedRequest != 0
}

// scanFirst looks at what is there. The error is that of a hook.
func (s *session) scanFirst(p *pin, rec *connmodel.Recorder, f *connmodel.Facts, need connmodel.Need) *connmodel.ConnError {
	b := s.in.Buffered()
	if len(b) == 0 {
		return nil
	}
	if f.Have&connmodel.NeedHello == 0 && !f.HelloUnread {
		v, h, err := s.peek.hello.Step(b)
		if h != nil {
			rec.ClientHello(h)
		}
		switch v {
		case ingress.Found:
			f.Hello = h
			f.Have |= firstBytes // it is no request
			f.Named(h.SNI)       // canonical already
			if err := s.r.opt.Hooks.CallClientHello(&s.life, rec, h); err != nil {
				return refusedByHook("tls_clienthello", err)
			}
			return nil
		case ingress.Malformed:
			f.HelloUnread = true
			f.Have |= connmodel.NeedRequest
			s.peek.err = badHello(err)
			return nil
		case ingress.More:
			return nil
		case ingress.Other:
			f.Have |= connmodel.NeedHello
		}
	}
	if need&^f.Have&connmodel.NeedRequest != 0 && !f.RequestUnread {
		s.scanRequest(p, f, b)
	}
	return nil
}

// scanRequest looks for a plain HTTP request.
func (s *session) scanRequest(p *pin, f *connmodel.Facts, b []byte) {
	req := &s.req
	switch v, err := s.peek.request.Step(b, req, http1.Limits{HeadBytes: p.l.MaxHeadBytes}); v {
	case ingress.Found:
		if err := f.Named(req.Authority().Host); err != nil {
			f.RequestUnread = true
			s.peek.err = badPeekedRequest(err)
			return
		}
		f.Have |= connmodel.NeedRequest
		f.Request = &connmodel.RequestFacts{Method: req.Method, Path: req.Target.Path, Header: (*headerFacts)(&req.Header)}
	case ingress.Malformed:
		f.RequestUnread = true
		s.peek.err = badPeekedRequest(err)
	case ingress.Other:
		f.Have |= connmodel.NeedRequest
	}
}

// noteRequest notes the request for which a tunnel was refused.
func (s *session) noteRequest(rec *connmodel.Recorder, f *connmodel.Facts) {
	if f.Request != nil {
		rec.Requested(connmodel.Request{Method: f.Request.Method, Scheme: "http", Host: s.req.Authority().Host, Path: f.Request.Path})
	}
}

// serveSeen is the way of a tunnel in which a plain HTTP request was found, because a rule asks for one. What rules say of the first
// request says nothing of those that follow on the connection, so each is decided, and carried, by itself; the tunnel's own record ends
// with it.
func (s *session) serveSeen(p *pin, rec *connmodel.Recorder, proto connmodel.Protocol, f *connmodel.Facts, d *connmodel.Decision) {
	s.inner = &opened{rec: rec, target: f.Target, address: Destination(f, d), proto: proto, user: f.User, scheme: "http", timeouts: p.gen.cfg.Limits.timeouts(d), by: s, first: !s.kept}
	s.inside.Store(s.inner)
	s.inner.held.Store(d.VerifyName && f.NamedInside())
	s.peek = peek{} // what is inside is answered inside
	s.serveInner(p)
}

// lookFailed says what a look is worth whose client sends no more.
func (s *session) lookFailed(f *connmodel.Facts, need connmodel.Need, err error) *connmodel.ConnError {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case s.life.ended() != "":
		return lookEnded
	case err != io.EOF && !late:
		return clientError(connmodel.PhaseSniff, err)
	case len(s.in.Buffered()) == 0:
		f.Have |= firstBytes // it waits for the server, or has nothing to say
		return nil
	}
	what := "ClientHello"
	if f.Have&connmodel.NeedHello != 0 {
		what, f.RequestUnread = "request", true
	} else {
		f.HelloUnread = true
		f.Have |= connmodel.NeedRequest
	}
	e := &connmodel.ConnError{Phase: connmodel.PhaseSniff, Side: connmodel.SideClient, Kind: connmodel.KindEOF, Blame: connmodel.BlameClient, Cause: err,
		Message: "a rule asks for the client's " + what + ", and the client closed the connection in the middle of it"}
	if late {
		e.Kind, e.Message = connmodel.KindTimeout, "a rule asks for the client's "+what+", and the client did not complete it in time"
	}
	s.peek.err = e
	return nil
}

// badHello is why the ClientHello that a rule asks for cannot be read.
func badHello(err error) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseSniff, Side: connmodel.SideClient, Kind: connmodel.KindProtocol,
		Message: "a rule asks for the client's ClientHello, and it cannot be read: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	}
}

// badPeekedRequest is why the request that a rule asks for cannot be read.
func badPeekedRequest(err error) *connmodel.ConnError {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseSniff, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Code: 400, CodeOf: "http",
		Message: "a rule asks for the client's request, and it cannot be read: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	}
	var bad *http1.Error
	if errors.As(err, &bad) && bad.Status != 0 {
		e.Code = bad.Status
	}
	return e
}
