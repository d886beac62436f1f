package router

import (
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// asksPAC reports whether a request in origin-form is for the PAC script of this listener. Nothing else is served in that form, and within
// an opened tunnel it belongs to the server.
func (s *session) asksPAC(p *pin) bool {
	t := &s.req.Target
	if p.l.PAC == nil || s.inner != nil || t.Form != http1.OriginForm || s.req.Method != "GET" && s.req.Method != "HEAD" || s.req.Body.HasBody() {
		return false
	}
	path, _, _ := strings.Cut(t.Path, "?")
	return path == "/proxy.pac" || path == "/wpad.dat"
}

// servePAC answers with the script, in which the gateway is what the client has called it. Browsers ask for it without credentials.
func (s *session) servePAC(p *pin) {
	now := time.Now()
	local := addrPort(s.conn.LocalAddr())
	at, err := connmodel.ParseAddress(s.req.Header.Get("Host"))
	if err != nil {
		at = connmodel.Address{Host: local.Addr().String(), Port: local.Port()}
	}
	rec := s.begin(connmodel.ProtocolHTTP, at, now)
	rec.Requested(connmodel.Request{Method: s.req.Method, Scheme: "http", Host: at.Host, Path: s.req.Target.Path, Start: now})
	word := "PROXY "
	if p.l.TLS != nil {
		word = "HTTPS "
	}
	body := p.l.PAC(word + at.String())
	out := make([]byte, 0, len(body)+256)
	out = append(out, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ns-proxy-autoconfig\r\nCache-Control: max-age=300\r\nConnection: close\r\nContent-Length: "...)
	out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\n\r\n"...)
	if s.req.Method != "HEAD" {
		out = append(out, body...)
	}
	s.conn.SetWriteDeadline(now.Add(defaultHandshake))
	rec.Replied(200, false)
	_, err = s.conn.Write(out)
	s.conn.SetWriteDeadline(time.Time{})
	end := s.flowEnd(nil)
	if end.Reason = connmodel.CloseDone; err != nil {
		end.Reason = connmodel.CloseClient
	}
	s.finish(rec, end)
	s.lingeringClose()
}
