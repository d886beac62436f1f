package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/connmodel"
	"viaduct/upstream/socks5"
)

// Datagrams is the way of the datagrams to one target: by a socket of the caller's to the server itself, or in the association that a
// SOCKS5 proxy has granted for as long as the Conn is open.
type Datagrams struct {
	Relay *net.UDPConn // connected to where the proxy takes datagrams; nil = direct. Conn.Close closes it
	To    socks5.Addr  // what stands in the header of datagrams to the proxy; direct: the address of the server

	hop *Hop
}

// errNoDatagrams says that a way cannot carry datagrams. Behind another hop they would bypass it.
var errNoDatagrams = errors.New("datagrams go direct or through exactly one socks5 or socks5h upstream")

// datagrams reports whether the way is one that datagrams can go.
func (w *way) datagrams() bool {
	return len(w.hops) == 0 || len(w.hops) == 1 && w.hops[0].associates()
}

// associates reports whether the hop's protocol knows UDP ASSOCIATE.
func (h *Hop) associates() bool {
	return h.spec.Scheme == schemeSOCKS5 || h.spec.Scheme == schemeSOCKS5h
}

// CarriesDatagrams reports whether datagrams can go by a route: it is direct, exactly one SOCKS5 upstream, or a pool with such a member.
func (t *Table) CarriesDatagrams(route string) bool {
	r := t.routes[route]
	return r != nil && r.datagrams()
}

// AlwaysDirect reports whether a route is direct and nothing else.
func (t *Table) AlwaysDirect(route string) bool {
	r := t.routes[route]
	return r != nil && r.way != nil && len(r.way.hops) == 0
}

func (r *route) datagrams() bool {
	switch {
	case r.way != nil:
		return r.way.datagrams()
	case r.pool != nil:
		for _, m := range r.pool.members {
			if m.route.datagrams() {
				return true
			}
		}
	case len(r.parts) == 1:
		return r.parts[0].datagrams()
	}
	return false
}

// passOver marks the members that cannot carry datagrams as tried, so that others are chosen.
func (t *Tried) passOver(r *route) {
	if r.pool != nil {
		for _, m := range r.pool.members {
			if !m.route.datagrams() {
				t.add(m)
			}
			t.passOver(m.route)
		}
	}
	for _, p := range r.parts {
		t.passOver(p)
	}
}

// datagrams goes the way for datagrams and fills c.
func (a *attempt) datagrams(c *Conn) (net.Conn, *HopError) {
	switch n := len(a.hops); {
	case n == 0:
		return nil, a.directly(c)
	case n > 1 || !a.hops[0].associates():
		return nil, a.failure(n, connmodel.PhaseConnect, errNoDatagrams)
	}
	conn, err := a.reach(0, a.hops[0].spec.Address)
	if err != nil {
		return nil, err
	}
	if err := a.associate(c, conn); err != nil {
		return nil, err
	}
	return conn, nil
}

// directly finds an address of the server that this machine has a way to. Nothing is sent.
func (a *attempt) directly(c *Conn) *HopError {
	q, t := a.d.q, a.d.t
	rec := a.element1(1, q.Target)
	start := time.Now()
	a.timed = timed{a.d.ctx, a.until(start, t.dialTime)}
	one, addrs, err := a.addresses(1, q.Target)
	if err != nil {
		return a.failure(1, connmodel.PhaseResolve, err)
	}
	dns := time.Since(start)
	if addrs == nil {
		addrs, dns = one[:], 0
	}
	local, to, err := t.direct.wayTo(&a.timed, addrs, q.Target.Port, q.Check)
	if err != nil {
		return a.failure(1, connmodel.PhaseDial, err)
	}
	socket, err := q.Datagrams(to.Addr().Is6())
	if err != nil {
		return a.failure(1, connmodel.PhaseDial, err)
	}
	if l, ok := socket.LocalAddr().(*net.UDPAddr); ok {
		a.local, a.peer = netip.AddrPortFrom(local, uint16(l.Port)), to
	}
	rec.TCPConnected(a.local, a.peer, dns, time.Since(start)-dns)
	rec.Resolved(a.found.said)
	rec.Done()
	a.resolvedBy()
	c.Datagrams = &Datagrams{To: socks5.Addr{IP: to.Addr(), Port: to.Port()}}
	return nil
}

// associate asks the hop, on its control connection, to relay datagrams.
func (a *attempt) associate(c *Conn, conn net.Conn) *HopError {
	h, rec := a.hops[0], a.element1(1, a.hops[0].spec.Address)
	host, he := a.sayable(1, h, a.d.q.Target)
	if he != nil {
		return he
	}
	to, err := socks5.ParseHost(host, a.d.q.Target.Port)
	if err != nil {
		return a.failure(1, connmodel.PhaseConnect, err)
	}
	start := time.Now()
	if err := a.arm(start, h.spec.Timeouts.Handshake); err != nil {
		return a.failure(1, connmodel.PhaseConnect, err)
	}
	s := &a.steps
	*s = steps{conn: conn, at: start, phase: connmodel.PhaseConnect, socks5: true}
	s.login = a.guardLogin(1)
	bound, err := socks5.Associate(s, h.socks5Auth())
	s.login.after(s, err)
	s.took(rec)
	if s.showed {
		rec.UsedCredential(h.credential)
	}
	if err == nil {
		rec.Bound(boundText(bound.IP, bound.Name, bound.Port))
		a.timed = timed{a.d.ctx, a.until(time.Now(), h.spec.Timeouts.Handshake)}
		c.Datagrams, err = h.relay(&a.timed, conn, bound)
	}
	if err != nil {
		he := a.failure(1, s.phase, err)
		he.shown, he.associate = s.showed, true
		return he
	}
	c.Datagrams.To = to
	rec.Done()
	a.element1(2, a.d.q.Target).Done()
	a.resolvedBy()
	return nil
}

// relayError is a relay address that no datagram should go to.
type relayError struct{ text string }

func (e *relayError) Error() string { return e.text }

// relay opens the socket to where the proxy says it takes datagrams. An unspecified address is the proxy's own (so do many say). A
// proxy elsewhere cannot send us to this machine or its metadata service.
func (h *Hop) relay(ctx context.Context, conn net.Conn, bound socks5.Addr) (*Datagrams, error) {
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, &relayError{"the way to the proxy is no TCP connection"}
	}
	own := peer.AddrPort().Addr().Unmap()
	ip := bound.IP.Unmap()
	if bound.Name != "" {
		addrs, err := h.resolver.Lookup(ctx, bound.Name)
		if err != nil {
			return nil, err
		}
		ip = addrs[0]
	}
	if !ip.IsValid() || ip.IsUnspecified() {
		ip = own
	}
	if name, refused := connmodel.RefusedRange(ip); refused && ip != own.WithZone("") {
		if _, near := connmodel.RefusedRange(own); !near {
			return nil, &relayError{fmt.Sprintf("the proxy says that it takes datagrams at %s, a %s address, and has none itself", ip, name)}
		}
	}
	c, err := h.socket.packets(ctx, netip.AddrPortFrom(ip, bound.Port))
	if err != nil {
		return nil, err
	}
	return &Datagrams{Relay: c, hop: h}, nil
}

func (h *Hop) socks5Auth() *socks5.Auth {
	if h.spec.Auth == nil {
		return nil
	}
	return &socks5.Auth{User: h.spec.Auth.Username, Password: h.spec.Auth.Password.Reveal()}
}

// Toward returns what stands in the header of datagrams to q.Target in the association of c, which was opened for another target, and
// who turns the name of q.Target into an address.
func (t *Table) Toward(ctx context.Context, q *Request, c *Conn) (to socks5.Addr, resolvedBy string, _ *connmodel.ConnError) {
	d := &dialing{t: t, ctx: ctx, q: q, target: q.Target.IP(), deadline: q.Deadline}
	if d.deadline.IsZero() {
		d.deadline = time.Now().Add(defaultDeadline)
	}
	a := &d.attempt
	*a = attempt{d: d, hops: []*Hop{c.Datagrams.hop}}
	a.timed.Context = ctx
	if he := a.checkTarget(); he != nil {
		return to, "", classify(he)
	}
	host, he := a.sayable(1, a.hops[0], q.Target)
	if he != nil {
		return to, "", classify(he)
	}
	to, err := socks5.ParseHost(host, q.Target.Port)
	if err != nil {
		return to, "", classify(a.failure(1, connmodel.PhaseConnect, err))
	}
	return to, a.whoResolves(), nil
}

// ListenDatagrams opens a socket for datagrams of the route "direct", in one address family.
func (t *Table) ListenDatagrams(v6 bool) (*net.UDPConn, error) {
	s := t.direct
	network, at := "udp4", net.UDPAddr{}
	if v6 {
		network = "udp6"
	}
	if s.source.IsValid() {
		if s.source.Is4() == v6 {
			return nil, errNoFamily
		}
		at.IP = s.source.AsSlice()
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return s.bind(c, false) }}
	c, err := lc.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// packets opens a socket that is connected to one address: what others send does not reach it.
func (s *socket) packets(ctx context.Context, to netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return s.bind(c, true) }}
	if s.source.IsValid() {
		if s.source.Is4() != to.Addr().Unmap().Is4() {
			return nil, errNoFamily
		}
		d.LocalAddr = &net.UDPAddr{IP: s.source.AsSlice()}
	}
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// bind is what packet sockets need before they are bound.
func (s *socket) bind(c syscall.RawConn, connects bool) error {
	var err error
	e := c.Control(func(fd uintptr) {
		if s.source.IsValid() && connects {
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}
		if s.iface != "" {
			err = unix.BindToDevice(int(fd), s.iface)
		}
		if s.mark != 0 && err == nil {
			err = setMark(int(fd), s.mark)
		}
	})
	return errors.Join(e, err)
}

// wayTo finds the first of addrs that may be sent to and that the kernel has a route to, and the address it would send from.
func (s *socket) wayTo(ctx context.Context, addrs []netip.Addr, port uint16, check func(netip.Addr) error) (local netip.Addr, to netip.AddrPort, failed error) {
	for i, ip := range interleave(addrs) {
		if i == maxAddresses {
			break
		}
		ip = ip.Unmap()
		if err := s.permit(ip, check); err != nil {
			var g *guardError
			if failed == nil || errors.As(err, &g) {
				failed = err
			}
			continue
		}
		to := netip.AddrPortFrom(ip, port)
		c, err := s.packets(ctx, to)
		if err != nil {
			failed = tellingError(failed, err)
			continue
		}
		l, _ := c.LocalAddr().(*net.UDPAddr)
		c.Close()
		return l.AddrPort().Addr().Unmap(), to, nil
	}
	return local, to, failed
}
