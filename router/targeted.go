package router

import (
	"net"
	"net/netip"

	"viaduct/connmodel"
)

// serveTargeted is for clients that ask for nothing, because they know of no gateway: where they go is known when they connect. Nothing
// of theirs is read before the tunnel is open, unless a rule asks to see how it begins: protocols in which the server speaks first work
// like those in which the client does.
func (s *session) serveTargeted(p *pin) {
	if s.life.enter(stateHead) != "" {
		return // crowded out
	}
	if p.l.Protocols == Forward {
		rec := s.begin(connmodel.ProtocolForward, p.l.Target, s.started)
		s.trace(p, rec, nil)
		s.serveTunnel(p, rec, connmodel.ProtocolForward, p.l.Target, "")
		return
	}
	proto := connmodel.ProtocolRedirect
	if p.l.Protocols == TProxy {
		proto = connmodel.ProtocolTProxy
	}
	to, e := s.original(p, proto)
	target := connmodel.AddressFrom(to)
	rec := s.begin(proto, target, s.started)
	s.trace(p, rec, nil)
	if e != nil {
		s.live.Identified(proto, "")
		s.live.Fail(e)
		s.understood()
		s.no(p, rec, proto, e)
		return
	}
	s.serveTunnel(p, rec, proto, target, "")
}

// unaware reports whether clients of that protocol know of no gateway: there is no yes for them, and no other no than in what they speak.
func unaware(proto connmodel.Protocol) bool {
	switch proto {
	case connmodel.ProtocolForward, connmodel.ProtocolRedirect, connmodel.ProtocolTProxy:
		return true
	}
	return false
}

// original returns where the client wanted to go when the kernel sent its connection here, or why it cannot be carried: it was made to us,
// or by us.
func (s *session) original(p *pin, proto connmodel.Protocol) (netip.AddrPort, *connmodel.ConnError) {
	here := addrPort(s.conn.LocalAddr())
	to := here
	if proto == connmodel.ProtocolRedirect {
		var err error
		if to, err = originalTarget(s.conn); err != nil || to == here {
			return here, notSent("the client connected to " + here.String() + " itself, and was not redirected here by a firewall")
		}
	}
	if !to.IsValid() {
		return to, notSent("the connection is not one of TCP")
	}
	if p.gen.own.has(to.Addr(), to.Port()) {
		return to, notSent(to.String() + " is an address of this gateway itself, and no other server's")
	}
	if s.r.loops.came(s) {
		return to, cameBack(to)
	}
	return to, nil
}

func notSent(message string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Blame: connmodel.BlameClient,
		Message: "refused: " + message,
	}
}

// cameBack is the refusal of a connection that we made ourselves.
func cameBack(to netip.AddrPort) *connmodel.ConnError {
	e := notSent("our own connection to " + to.String() + " came back to us: the firewall must let connections of this gateway pass, by their mark or their user")
	e.Blame = connmodel.BlameLocal
	return e
}

// connected is told of every connection that is made for a flow, where some may come back. nil = none can.
func (r *Router) connected(g *generation) func(*net.TCPConn) error {
	if !g.kernel {
		return nil
	}
	return func(c *net.TCPConn) error {
		if r.loops.made(c) {
			return cameBack(addrPort(c.RemoteAddr()))
		}
		return nil
	}
}

// Destination is where a flow goes, when its rule names no server: what the client asked for. A name that was found inside is only that of
// the address, unless the rule says otherwise.
func Destination(f *connmodel.Facts, d *connmodel.Decision) connmodel.Address {
	if !f.KernelSent() || d.SendName {
		return f.Target
	}
	return connmodel.AddressFrom(netip.AddrPortFrom(f.TargetIP, f.Target.Port))
}

// checkNamed looks into a connection whose rule asks for its name, and holds the name against the address. It is refused when that cannot
// be done: a client could name any host that a rule lets through, and connect to another.
func (s *session) checkNamed(p *pin, rec *connmodel.Recorder, f *connmodel.Facts, d *connmodel.Decision) *connmodel.ConnError {
	if !d.VerifyName && !d.SendName || !f.KernelSent() && !f.NamedInside() {
		return nil
	}
	if f.Lacks(firstBytes) == firstBytes && !s.unread(f, firstBytes) {
		if err := s.gatherFirst(p, rec, f, firstBytes); err != nil {
			return err
		}
	}
	if s.unread(f, firstBytes) {
		return s.peek.err
	}
	if !d.VerifyName || !f.NamedInside() {
		return nil
	}
	o := s.inner
	if o != nil && f.Target == o.target && o.held.Load() {
		return nil // a request, and the name is that of its connection
	}
	e := s.verifyName(p, f)
	if o != nil && f.Target == o.target && e == nil {
		o.held.Store(true)
	}
	return e
}

// verifyName wants the name that was found inside to have the address that the client connects to.
func (s *session) verifyName(p *pin, f *connmodel.Facts) *connmodel.ConnError {
	name := f.Target.Host
	addrs := []netip.Addr{f.Target.IP()}
	if !addrs[0].IsValid() {
		a, err := s.lookup(p, name)
		if addrs = a.Addrs; err != nil {
			e := lookupFailed(err)
			e.Message = "the name " + name + ", which the client asks for, could not be held against the address " + f.TargetIP.String() + ": " + err.Error()
			return e
		}
	}
	has := ""
	for i, a := range addrs {
		if connmodel.Embedded(a) == connmodel.Embedded(f.TargetIP) {
			return nil
		}
		if i < 4 {
			has += ", " + a.String()
		}
	}
	return &connmodel.ConnError{
		Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 403, CodeOf: "http", Blame: connmodel.BlameClient,
		Message: "refused: the client asks for " + name + " and connects to " + f.TargetIP.String() + ", which is not an address of that name (it has " + has[2:] + ")",
	}
}
