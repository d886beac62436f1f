package router

import (
	"errors"
	"time"

	"viaduct/connmodel"
	"viaduct/router/ingress"
	"viaduct/upstream/http1"
)

// TLS alerts (RFC 8446, section 6.2) that end a handshake which has not begun on our side.
const (
	alertAccessDenied     = 49
	alertDecodeError      = 50
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// lateNo tells a failure to a client that has had its yes already, or that never asks for one: in what it speaks inside. A TLS client gets
// a fatal alert, one of HTTP a page; any other is reset, so that it does not take the end for that of what it wanted.
func (s *session) lateNo(p *pin, rec *connmodel.Recorder, e *connmodel.ConnError) {
	b := s.in.Buffered()
	var out []byte
	if isTLS(b) {
		out = appendAlert(nil, b, alertFor(e))
	} else if is, head := isRequest(b, p.l); is {
		f := rec.Snapshot()
		t := flowText{id: f.ID.String(), target: f.Target.String()}
		if d := f.Decision; d != nil {
			t.rule, t.route = d.Rule, d.Route
		}
		out = appendErrorHTTP(make([]byte, 0, 1024), s.r.proxyName(p), &t, e, p.l.realm(), head, true)
	}
	if out == nil {
		s.finish(rec, s.flowEnd(e))
		abortConn(s.conn)
		return
	}
	wait := defaultHandshake
	if s.life.ended() != "" {
		wait = lingerTime
	}
	s.conn.SetWriteDeadline(time.Now().Add(wait))
	s.conn.Write(out)
	s.conn.SetWriteDeadline(time.Time{})
	s.finish(rec, s.flowEnd(e))
	s.lingeringClose()
}

// isTLS reports whether the client's first bytes begin a TLS record of a handshake.
func isTLS(b []byte) bool {
	var scan ingress.HelloScan
	v, _, _ := scan.Step(b)
	return len(b) >= 3 && v != ingress.Other
}

// isRequest reports whether the client's first bytes are an HTTP request, or meant as one, and whether it asks for the head alone.
func isRequest(b []byte, l *Listener) (is, head bool) {
	var req http1.Request
	var scan ingress.RequestScan
	switch v, _ := scan.Step(b, &req, http1.Limits{HeadBytes: l.MaxHeadBytes}); v {
	case ingress.Found:
		return true, req.Method == "HEAD"
	case ingress.Malformed:
		return true, false
	}
	return false, false
}

// alertFor is the alert that says most of e. There are few that are not about the peer's TLS.
func alertFor(e *connmodel.ConnError) byte {
	var name *ingress.NameError
	switch {
	case errors.As(e.Cause, &name), e.Kind == connmodel.KindDNS:
		return alertUnrecognizedName
	case e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct:
		return alertAccessDenied
	case e.Phase == connmodel.PhaseSniff && e.Side == connmodel.SideClient:
		return alertDecodeError
	}
	return alertInternalError
}

// appendAlert appends a fatal alert in a record of the version that the client's records have, if that is one.
func appendAlert(dst, hello []byte, alert byte) []byte {
	minor := hello[2]
	if hello[1] != 3 {
		minor = 1
	}
	return append(dst, 21, 3, minor, 0, 2, 2, alert)
}
