package router

import (
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

var connectOK = []byte("HTTP/1.1 200 Connection established\r\n\r\n")

// yes tells the client that its tunnel is open, unless it has been told before.
func (s *session) yes(rec *connmodel.Recorder, proto connmodel.Protocol, c *upstream.Conn) error {
	if s.peek.early {
		return nil
	}
	return s.writeYes(rec, proto, addrPort(c.LocalAddr()), false)
}

// yesEarly tells the client that its tunnel is open before it is, because only then it says what a rule asks for.
func (s *session) yesEarly(rec *connmodel.Recorder, proto connmodel.Protocol) error {
	if s.peek.early {
		return nil
	}
	s.peek.early = true
	return s.writeYes(rec, proto, netip.AddrPort{}, true)
}

// writeYes writes the yes. It fits into the empty buffer of a new socket; only on one that has carried responses before, which its client
// may not have read, it can have to wait.
func (s *session) writeYes(rec *connmodel.Recorder, proto connmodel.Protocol, bound netip.AddrPort, early bool) error {
	if s.kept {
		s.conn.SetWriteDeadline(time.Now().Add(defaultHandshake))
		defer s.conn.SetWriteDeadline(time.Time{})
	}
	var err error
	code := 200
	switch proto {
	case connmodel.ProtocolConnect:
		_, err = s.conn.Write(connectOK)
	case connmodel.ProtocolSOCKS5:
		code = 0
		_, err = s.conn.Write(appendSOCKS5Reply(make([]byte, 0, 32), 0, bound))
	case connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a:
		code = 0x5a
		_, err = s.conn.Write(appendSOCKS4Reply(make([]byte, 0, 8), 0x5a, bound))
	default:
		return nil // nobody asked
	}
	rec.Replied(code, early)
	return err
}

// no refuses a flow in the client's own protocol, ends its record, and closes the connection in a way that lets the answer arrive.
func (s *session) no(p *pin, rec *connmodel.Recorder, proto connmodel.Protocol, e *connmodel.ConnError) {
	e = s.outside(e)
	rec.Fail(e)
	if s.peek.early || unaware(proto) {
		s.lateNo(p, rec, e)
		return
	}
	s.writeNo(p, rec, proto, e, false, true)
	s.finish(rec, s.flowEnd(e))
	s.lingeringClose()
}

// writeNo writes the refusal. head says that the answer to a HEAD request is due.
func (s *session) writeNo(p *pin, rec *connmodel.Recorder, proto connmodel.Protocol, e *connmodel.ConnError, head, close bool) error {
	wait := defaultHandshake
	if s.life.ended() != "" {
		wait = lingerTime
	}
	s.conn.SetWriteDeadline(time.Now().Add(wait))
	var err error
	switch proto {
	case connmodel.ProtocolSOCKS5:
		code := socks5Reply(e)
		rec.Replied(int(code), false)
		_, err = s.conn.Write(appendSOCKS5Reply(make([]byte, 0, 32), code, netip.AddrPort{}))
	case connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a:
		rec.Replied(0x5b, false)
		_, err = s.conn.Write(appendSOCKS4Reply(make([]byte, 0, 8), 0x5b, netip.AddrPort{}))
	default:
		a := answerFor(e)
		rec.Replied(a.status, false)
		f := rec.Snapshot()
		t := flowText{id: f.ID.String(), target: f.Target.String()}
		if d := f.Decision; d != nil {
			t.rule, t.route = d.Rule, d.Route
		}
		_, err = s.conn.Write(appendErrorHTTP(make([]byte, 0, 1024), s.r.proxyName(p), &t, e, p.l.realm(), head, close))
	}
	s.conn.SetWriteDeadline(time.Time{})
	return err
}

func reasonFor(e *connmodel.ConnError) connmodel.CloseReason {
	switch {
	case e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct, e.Kind == connmodel.KindAuth && e.Side == connmodel.SideClient:
		return connmodel.CloseDenied
	case e.Kind == connmodel.KindInternal:
		return connmodel.CloseInternal
	case e.Kind == connmodel.KindCanceled && e.Side == connmodel.SideClient:
		return connmodel.CloseClient
	case e.Kind == connmodel.KindLimit:
		return connmodel.CloseLimit
	}
	return connmodel.CloseFailed
}

func (l *Listener) realm() string {
	if l.Realm != "" {
		return l.Realm
	}
	return "viaduct"
}

func (r *Router) proxyName(p *pin) string {
	if p != nil && p.gen != nil && p.gen.cfg.Name != "" {
		return p.gen.cfg.Name
	}
	return r.name
}

// reject ends a session whose request cannot be understood: there is a record, but nothing was decided. tell says that the client can
// be told, in its protocol; else the connection is closed without a word.
func (s *session) reject(p *pin, proto connmodel.Protocol, tell bool, e *connmodel.ConnError) {
	s.understood()
	e = s.outside(e)
	rec := s.begin(proto, connmodel.Address{}, time.Now())
	s.live.Fail(e)
	if tell {
		s.no(p, rec, proto, e)
		return
	}
	rec.Fail(e)
	s.finish(rec, s.flowEnd(e))
	s.lingeringClose()
}

// Bounds of a lingering close.
const (
	lingerTime  = time.Second
	lastLinger  = 100 * time.Millisecond // when the session was aborted
	lingerBytes = 256 << 10
)

// lingeringClose sends FIN and reads on for a moment: closing with unread bytes would make the kernel send RST, which can take
// the answer away from the client before it has read it (RFC 9112, section 9.6).
func (s *session) lingeringClose() {
	s.in.Release()
	s.life.enter(stateLinger)
	if cw, ok := s.conn.(interface{ CloseWrite() error }); !ok || cw.CloseWrite() != nil || s.stream { // frames do not overtake each other
		return
	}
	wait := lingerTime
	if s.life.ended() != "" {
		wait = lastLinger
	}
	s.conn.SetReadDeadline(time.Now().Add(wait))
	var buf [2048]byte
	for left := lingerBytes; left > 0; {
		n, err := s.conn.Read(buf[:])
		if err != nil {
			return
		}
		left -= n
	}
}
