package router

import "viaduct/connmodel"

// serveTargeted is for clients that ask for nothing, because they know of no gateway: where they go is known when they connect. Nothing
// of theirs is read before the tunnel is open, unless a rule asks to see how it begins: protocols in which the server speaks first work
// like those in which the client does.
func (s *session) serveTargeted(p *pin) {
	if s.life.enter(stateHead) != "" {
		return // crowded out
	}
	rec := s.begin(connmodel.ProtocolForward, p.l.Target, s.started)
	s.serveTunnel(p, rec, connmodel.ProtocolForward, p.l.Target, "")
}
