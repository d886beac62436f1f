package router

import (
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/proxyproto"
)

// introduces reports whether connections from peer begin with a header of the PROXY protocol. peer is not valid on a Unix socket.
func (l *Listener) introduces(peer netip.Addr) bool {
	return l.ProxyProtocol != nil && (!peer.IsValid() || contains(l.ProxyProtocol.From, peer.WithZone("")))
}

// introduced lets a load balancer say first whose connection it brings, and reports whether there is a client to go on with. From there on
// that client takes the place of the balancer: for the networks that may connect, for the limit per client, for rules, hooks and
// records.
func (s *session) introduced() bool {
	if !s.balancer {
		return true
	}
	p := s.door.pin.Load()
	s.handshakeDeadline(p.l, s.started)
	if s.closing() {
		s.drain()
	}
	h, err := s.readHeader()
	switch {
	case err != nil && s.closing() || s.life.ended() != "":
		s.silent(err)
	case err != nil:
		if s.welcome() {
			s.notIntroduced(p, err)
		}
	default:
		return s.meet(p, h)
	}
	return false
}

// readHeader reads the header. What came behind it stays in s.in.
func (s *session) readHeader() (proxyproto.Header, error) {
	for {
		h, n, err := proxyproto.Parse(s.in.Buffered())
		if err == nil {
			s.in.Discard(n)
			return h, nil
		}
		if err != proxyproto.ErrIncomplete {
			return h, err
		}
		if err := s.in.Fill(); err != nil {
			return h, err
		}
	}
}

// meet takes the client that the balancer tells of. One whose networks or limits do not let it in is reset, as at accept. A balancer that
// speaks for itself is let in: it is what the listener is for. When it does not say who the client is, nothing is known but its own
// address, which then has to do.
func (s *session) meet(p *pin, h proxyproto.Header) bool {
	s.live.Introduced(connmodel.ProxyHeader{Version: h.Version, Source: h.Source, Destination: h.Destination, Own: h.Own})
	if h.Source.IsValid() {
		s.client = h.Source
	}
	if h.Own {
		return true
	}
	counted, reason := s.door.refuse(p.l, s.client.Addr().WithZone(""))
	if s.counted = counted; reason == "" {
		return true
	}
	s.r.opt.Meter.SessionRefused(s.name, reason)
	s.door.tellRefused(s.name, s.client, reason, time.Now())
	s.live.Fail(&connmodel.ConnError{
		Phase: connmodel.PhaseAccept, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied,
		Message: "the client may not connect: " + reason, Blame: connmodel.BlameClient,
	})
	abortConn(s.conn)
	return false
}

// notIntroduced ends a connection whose header is missing or wrong. A balancer that closes without a word has only looked whether
// somebody listens.
func (s *session) notIntroduced(p *pin, err error) {
	var e *connmodel.ConnError
	if bad, ok := err.(*proxyproto.Error); ok {
		e = notTaken(bad.Reason)
	} else if len(s.in.Buffered()) == 0 && !isTimeout(err) {
		s.silent(err)
		return
	} else {
		e = clientError(connmodel.PhaseHandshake, err)
		e.Message += " (a PROXY protocol header was awaited)"
	}
	s.r.opt.Meter.SessionRefused(s.name, "proxy_protocol")
	s.door.tellRefused(s.name, s.peer, "proxy_protocol", time.Now())
	s.reject(p, "", false, e)
}

// introduction is what a server is told of the client, by a rule that asks for it: where it comes from, and where it connected to.
func (s *session) introduction(version int, f *connmodel.Facts) *proxyproto.Header {
	h := &proxyproto.Header{Version: version, Source: f.Client}
	told := s.live.Client().Proxied
	switch {
	case told != nil && told.Destination.IsValid():
		h.Destination = told.Destination
	case f.KernelSent(), f.NamedInside():
		h.Destination = netip.AddrPortFrom(f.TargetIP, f.Target.Port)
	default:
		h.Destination = addrPort(s.conn.LocalAddr())
	}
	return h
}
