package router

import (
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// serveSOCKS5 is the handshake of RFC 1928 and 1929. Bytes that come early are kept for the tunnel; a request is looked at only when
// the client has proved itself, where the listener wants that.
func (s *session) serveSOCKS5(p *pin) {
	user, byPassword, refused := s.prove(p)
	if refused != nil {
		s.endSOCKS(socks5NoMethod, connmodel.ProtocolSOCKS5, refused)
		return
	}
	h := socks5.Server{Auth: byPassword, UDP: p.l.UDP != nil}
	out := make([]byte, 0, 32)
	for {
		n, o, ev, err := h.Step(s.in.Buffered(), out[:0])
		s.in.Discard(n)
		out = o
		switch {
		case err != nil:
			s.endSOCKS(out, connmodel.ProtocolSOCKS5, socksFault(err))
			return
		case ev == socks5.Authenticate:
			ok := p.l.Auth.Verify(h.User, h.Password)
			if ok {
				s.proved = proved{h.User, h.Password}
			}
			user, h.Password = h.User, ""
			out = h.Verified(ok, out)
			if !ok {
				e := authRequired(true)
				e.Code, e.CodeOf = 0, ""
				s.endSOCKS(out, connmodel.ProtocolSOCKS5, e)
				return
			}
		}
		if err := s.write(out); err != nil {
			s.reject(p, connmodel.ProtocolSOCKS5, false, clientError(connmodel.PhaseHandshake, err))
			return
		}
		switch ev {
		case socks5.Request:
			if h.Associate {
				s.serveAssociate(p, h.Target, user)
				return
			}
			s.socksRequest(p, connmodel.ProtocolSOCKS5, h.Target.Host(), h.Target.Port, user)
			return
		case socks5.More:
			if err := s.in.Fill(); err != nil {
				s.reject(p, connmodel.ProtocolSOCKS5, false, clientError(connmodel.PhaseHandshake, err))
				return
			}
		}
	}
}

// serveSOCKS4 takes SOCKS4 and 4a. They cannot prove a user, so a listener that asks for one refuses them.
func (s *session) serveSOCKS4(p *pin) {
	for {
		req, n, err := socks4.ParseRequest(s.in.Buffered())
		switch {
		case err == socks4.ErrIncomplete:
			if err := s.in.Fill(); err != nil {
				s.reject(p, connmodel.ProtocolSOCKS4, false, clientError(connmodel.PhaseHandshake, err))
				return
			}
			continue
		case err != nil:
			s.endSOCKS(socks4.AppendReply(nil, socks4.Rejected, netip.AddrPort{}), connmodel.ProtocolSOCKS4, socksFault(err))
			return
		}
		s.in.Discard(n)
		proto := connmodel.ProtocolSOCKS4
		if req.Name != "" {
			proto = connmodel.ProtocolSOCKS4a
		}
		if p.l.Auth != nil {
			s.endSOCKS(socks4.AppendReply(nil, socks4.Rejected, netip.AddrPort{}), proto, &connmodel.ConnError{
				Phase: connmodel.PhaseAuth, Side: connmodel.SideClient, Kind: connmodel.KindAuth,
				Message: "this listener asks for a user name and password, which SOCKS4 cannot give: use SOCKS5", Blame: connmodel.BlameClient,
			})
			return
		}
		user, refused := s.certified(p)
		if refused != nil {
			s.endSOCKS(socks4.AppendReply(nil, socks4.Rejected, netip.AddrPort{}), proto, refused)
			return
		}
		s.socksRequest(p, proto, req.Host(), req.Port, user)
		return
	}
}

// socksRequest goes on with a request whose target and user are known.
func (s *session) socksRequest(p *pin, proto connmodel.Protocol, host string, port uint16, user string) {
	target, err := connmodel.MakeAddress(host, port)
	if err != nil {
		s.reject(p, proto, true, badTarget(err))
		return
	}
	rec := s.begin(proto, target, time.Now())
	s.trace(p, rec, nil)
	s.serveTunnel(p, rec, proto, target, user)
}

// endSOCKS writes what the protocol says to a handshake that failed, records it and closes.
func (s *session) endSOCKS(out []byte, proto connmodel.Protocol, e *connmodel.ConnError) {
	s.understood()
	rec := s.begin(proto, connmodel.Address{}, time.Now())
	s.live.Fail(e)
	rec.Fail(e)
	switch n := len(out); {
	case proto == connmodel.ProtocolSOCKS5 && n >= 10: // the reply, perhaps behind the choice of the method; without an address it has ten bytes
		rec.Replied(int(out[n-9]), false)
	case proto == connmodel.ProtocolSOCKS5 && n > 1:
		rec.Replied(int(out[n-1]), false)
	case n > 1:
		rec.Replied(int(out[1]), false)
	}
	s.write(out)
	s.finish(rec, s.flowEnd(e))
	s.lingeringClose()
}

// write sends a handshake message. It is so small that it waits for nobody: the socket's buffer is empty.
func (s *session) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := s.conn.Write(b)
	return err
}

func socksFault(err error) *connmodel.ConnError {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol,
		Message: "bad SOCKS request: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	}
	if err == socks5.ErrNoUDP {
		e.Message = "the client asks for UDP ASSOCIATE, which this listener does not take: it has no udp block"
	}
	if _, ok := err.(*socks5.AuthError); ok {
		e.Phase, e.Kind = connmodel.PhaseAuth, connmodel.KindAuth
		e.Message = "the client did not offer user name and password (RFC 1929), which this listener asks for"
	}
	return e
}

func appendSOCKS5Reply(dst []byte, code byte, bound netip.AddrPort) []byte {
	return socks5.AppendReply(dst, socks5.Code(code), socks5.Addr{IP: bound.Addr(), Port: bound.Port()})
}

func appendSOCKS4Reply(dst []byte, code byte, bound netip.AddrPort) []byte {
	return socks4.AppendReply(dst, socks4.Code(code), bound)
}
