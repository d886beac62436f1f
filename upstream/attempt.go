package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/proxy"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// attempt is one try at one way.
type attempt struct {
	d     *dialing
	hops  []*Hop
	name  string
	picks []pick

	rec      connmodel.AttemptRecorder
	elements [MaxHops + 1]connmodel.HopRecorder // the hops, then the server
	begun    int                                // elements begun

	given       proxy.ContextDialer // the way to the first hop; nil = a TCP connection of our own
	base        net.Conn            // the TCP connection of this attempt: deadlines and cancellation act on it
	stop        func() bool         // ends the watch on ctx
	armed       bool                // a deadline is set on base
	early       []byte              // what came right behind the last handshake
	hasty       bool                // the last deadline set was cut short by the flow's
	stopped     bool                // no further attempt
	settled     bool                // run has returned
	kept        *trunk              // base is a stream on it, and it was there before
	trunk       bool                // the connection that is being made is to be shared
	shown       [MaxHops + 1]*connmodel.TLSInfo
	local, peer netip.AddrPort               // ends of the socket, where base is none: a stream, or a way of datagrams that has no connection
	warm        *warmConn                    // the connection was logged in before; nil = it was made for the attempt
	cold        bool                         // no such connection is wanted
	clients     [MaxHops]*auth.Authenticator // of proxies that are shown what the client has proved; nil = not asked for yet
	timed       timed
	steps       steps
	number      int        // from 1
	found       resolution // of the last name that was looked up

	hopRoom  [MaxHops]*Hop
	pickRoom [4]pick
}

// run goes the way. On failure everything it opened is closed.
func (a *attempt) run() (*Conn, *HopError) {
	c := new(Conn)
	conn, err := a.walk(c)
	if c.Conn, err = a.finish(conn, err); err != nil {
		return nil, err
	}
	c.Early = a.early
	return c, nil
}

// finish ends the watch on ctx. It leaves a connection without deadlines, or, after an error, nothing open.
func (a *attempt) finish(conn net.Conn, err *HopError) (net.Conn, *HopError) {
	if a.stop != nil && !a.stop() && err == nil {
		// ctx ended after the last step: the past deadline may come any moment.
		err = a.failure(len(a.hops)+1, connmodel.PhaseDial, context.Canceled)
	}
	switch {
	case a.base == nil:
	case err != nil:
		a.base.Close()
	case a.armed:
		a.base.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// drop closes what a registered dialer could not reach; it may try once more.
func (a *attempt) drop() {
	a.unwatch()
	if a.base != nil {
		a.base.Close()
		a.base, a.armed, a.early, a.kept = nil, false, nil, nil
		a.local, a.peer = netip.AddrPort{}, netip.AddrPort{}
	}
}

// unwatch ends the watch on ctx for a socket that is not the attempt's any more.
func (a *attempt) unwatch() {
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// walk goes the way and fills what c says about its end.
func (a *attempt) walk(c *Conn) (net.Conn, *HopError) {
	d, n := a.d, len(a.hops)
	if err := a.checkTarget(); err != nil {
		return nil, err
	}
	for i, h := range a.hops {
		no, err := h.closed(), (*HopError)(nil)
		if h.unread() {
			no, err = nil, a.failure(i+1, connmodel.PhaseAuth, errUnread)
		}
		if h.fromClient() {
			var au *auth.Authenticator
			if au, err = a.auth(i + 1); err == nil {
				no = au.Closed()
			}
		}
		if no != nil {
			err = a.failure(i+1, connmodel.PhaseAuth, no)
		}
		if err != nil {
			a.element1(i+1, h.spec.Address)
			return nil, err
		}
	}
	if err := a.checkProxies(); err != nil {
		return nil, err
	}
	if d.q.Datagrams != nil {
		return a.datagrams(c)
	}
	if a.absolute() {
		last := a.hops[n-1]
		conn, err := a.hop(n)
		if err != nil {
			return nil, err
		}
		if last.auth != nil || last.fromClient() {
			au, err := a.auth(n)
			if err != nil {
				return nil, err
			}
			if a.warm != nil {
				c.session = a.warm.sess
			} else if au.NeedsLogin(d.q.Login) {
				if conn, c.session, err = a.logIn(n, conn); err != nil {
					return nil, err
				}
			}
			if au != nil {
				a.rec0(n).UsedCredential(last.credential)
				c.hop, c.auth = last, au
			}
		}
		a.rec0(n).Done()
		a.resolvedBy()
		c.Absolute, c.Kept = true, a.kept != nil || a.warm != nil
		return conn, nil
	}
	conn, err := a.reach(n, d.q.Target)
	if err != nil {
		return nil, err
	}
	a.resolvedBy()
	if d.q.Header != nil {
		if err := a.introduce(conn); err != nil {
			return nil, err
		}
	}
	if d.q.upgrade() {
		if conn, err = a.upgrade(conn); err != nil {
			return nil, err
		}
	}
	a.rec0(n + 1).Done()
	return conn, nil
}

// checkTarget asks whether a target that is an address may be told to a proxy.
func (a *attempt) checkTarget() *HopError {
	if d, n := a.d, len(a.hops); d.target.IsValid() && d.q.Check != nil && n > 0 { // connect asks for the addresses of direct
		if err := d.q.Check(d.target); err != nil {
			return a.failure(n+1, connmodel.PhaseDial, &guardError{err})
		}
	}
	return nil
}

// checkProxies asks whether proxies that stand behind others may be at their addresses; the first is asked for when it is connected to. A name is
// resolved by the proxy before it, as that of a target is.
func (a *attempt) checkProxies() *HopError {
	for i := 1; i < len(a.hops); i++ {
		if h := a.hops[i]; h.check != nil && h.literal.IsValid() {
			if err := h.check(netip.AddrPortFrom(h.literal, h.spec.Address.Port)); err != nil {
				a.element1(i+1, h.spec.Address)
				return a.failure(i+1, connmodel.PhaseDial, &guardError{err})
			}
		}
	}
	return nil
}

// absolute reports whether the last hop is left to fetch a plain request itself.
func (a *attempt) absolute() bool {
	q, n := a.d.q, len(a.hops)
	return q.Plain && !q.PlainConnect && !q.upgrade() && q.Header == nil && n > 0 && a.hops[n-1].http() && !a.hops[n-1].spec.PlainConnect
}

// resolvedBy notes who turns the target's name into an address.
func (a *attempt) resolvedBy() { a.rec.ResolvedBy(a.whoResolves()) }

func (a *attempt) whoResolves() string {
	switch n := len(a.hops); {
	case a.d.target.IsValid():
		return "literal"
	case n > 0 && a.hops[n-1].takesNames() && (!a.d.q.LocalResolve || a.absolute()):
		return "upstream"
	}
	return "viaduct"
}

// reach returns a connection that leads to `to` through the first n hops. It is hops applied in order: each takes the way
// to itself and gives the way beyond.
func (a *attempt) reach(n int, to connmodel.Address) (net.Conn, *HopError) {
	if n == 0 {
		return a.first(to)
	}
	h := a.hops[n-1]
	if h.registered != nil {
		return a.foreign(n, to)
	}
	for tries := 1; ; tries++ {
		conn, err := a.hop(n)
		if err != nil {
			return nil, err
		}
		conn, err = a.through(n, conn, to)
		if err == nil || !a.another(n, tries, err) {
			return conn, err
		}
	}
}

// hop returns a connection to hop n that its protocol is spoken on.
func (a *attempt) hop(n int) (net.Conn, *HopError) {
	h := a.hops[n-1]
	if conn := a.warmed(n); conn != nil {
		return conn, nil
	}
	if h.older != nil {
		return a.lane(n)
	}
	conn, err := a.reach(n-1, h.spec.Address)
	if err != nil {
		return nil, err
	}
	return a.hopTLS(n, conn)
}

// first opens the TCP connection: to the first hop, or to the server when there is none.
func (a *attempt) first(to connmodel.Address) (net.Conn, *HopError) {
	rec := a.element1(1, to)
	s, wait, check := a.d.t.direct, a.d.t.dialTime, a.d.q.Check
	if len(a.hops) > 0 {
		h := a.hops[0]
		s, wait, check = h.socket, h.spec.Timeouts.Dial, nil
		if h.check != nil {
			check = func(ip netip.Addr) error { return h.check(netip.AddrPortFrom(ip, to.Port)) }
		}
	}
	start := time.Now()
	a.timed = timed{a.d.ctx, a.until(start, wait)}
	if a.given != nil {
		ctx, cancel := context.WithDeadline(a.d.ctx, a.timed.at)
		c, err := a.given.DialContext(ctx, "tcp", to.String())
		cancel()
		if err != nil {
			return nil, a.failure(1, connmodel.PhaseDial, err)
		}
		a.base = c
		return c, nil
	}
	one, addrs, err := a.addresses(1, to)
	if err != nil {
		return nil, a.failure(1, connmodel.PhaseResolve, err)
	}
	var dns time.Duration
	if addrs == nil {
		addrs = one[:]
	} else if a.rec.Recorder() != nil {
		dns = time.Since(start)
	}
	c, err := s.connect(&a.timed, addrs, to.Port, check)
	if err != nil {
		if len(a.hops) > 0 {
			a.hops[0].state.names.doubt()
		}
		return nil, a.failure(1, connmodel.PhaseDial, err)
	}
	a.unwatch()
	if a.d.q.Connected != nil {
		if err := a.d.q.Connected(c); err != nil {
			c.Close()
			return nil, a.failure(1, connmodel.PhaseDial, &guardError{err})
		}
	}
	a.base = c
	if a.rec.Recorder() != nil {
		local, peer := ends(c)
		tcp := time.Since(start) - dns
		rec.Resolved(a.found.said)
		rec.TCPConnected(local, peer, dns, tcp)
	}
	return c, nil
}

// addresses finds the addresses of an element that we have to know: one alone, without a slice, for literals.
func (a *attempt) addresses(element int, to connmodel.Address) (one [1]netip.Addr, list []netip.Addr, err error) {
	var h *Hop
	if element <= len(a.hops) && to == a.hops[element-1].spec.Address {
		if h = a.hops[element-1]; h.literal.IsValid() {
			return [1]netip.Addr{h.literal}, nil, nil
		}
	} else if element > len(a.hops) {
		if a.d.target.IsValid() {
			return [1]netip.Addr{a.d.target}, nil, nil
		}
		if len(a.d.q.Addrs) > 0 {
			a.found.said = a.d.q.Resolved
			return one, a.d.q.Addrs, nil
		}
	}
	if ip := to.IP(); ip.IsValid() {
		return [1]netip.Addr{ip}, nil, nil
	}
	ctx, cancel := context.WithDeadline(a.d.ctx, a.timed.at)
	defer cancel()
	a.found = resolution{told: a.rec.Recorder() != nil}
	if h != nil {
		list, err = h.state.names.lookup(ctx, h.resolver, to.Host, &a.found)
	} else {
		r := a.d.q.Resolver
		if r == nil {
			r = a.d.t.resolver
		}
		list, err = a.found.find(ctx, r, to.Host)
	}
	if err == nil && len(list) == 0 {
		err = &net.DNSError{Err: "no such host", Name: to.Host, IsNotFound: true}
	}
	return one, list, err
}

// arm sets the deadline of the next part on the socket, and begins to watch ctx with the first.
func (a *attempt) arm(start time.Time, wait time.Duration) error {
	if a.base == nil { // a registered dialer that connects by itself
		return nil
	}
	if a.stop == nil && a.d.ctx.Done() != nil {
		base := a.base
		a.stop = context.AfterFunc(a.d.ctx, func() { base.SetDeadline(past) })
	}
	a.armed = true
	if err := a.base.SetDeadline(a.until(start, wait)); err != nil {
		return err
	}
	return a.d.ctx.Err() // it may have ended just before, and its past deadline been overwritten
}

var past = time.Unix(1, 0)

// soon is what a peer is granted at least before its silence is held against it.
const soon = time.Second

// until returns when a part that may take wait has to be done.
func (a *attempt) until(start time.Time, wait time.Duration) time.Time {
	at := start.Add(wait)
	if a.hasty = false; a.d.deadline.Before(at) {
		at = a.d.deadline
		a.hasty = at.Sub(start) < min(wait, soon)
	}
	return at
}

// element1 begins the record of an element, once.
func (a *attempt) element1(n int, to connmodel.Address) connmodel.HopRecorder {
	if a.begun < n && a.rec.Recorder() != nil {
		name, protocol := "", "tcp"
		if a.d.q.Datagrams != nil {
			protocol = "udp"
		}
		if n <= len(a.hops) {
			name, protocol = a.hops[n-1].spec.Name, a.hops[n-1].spec.Scheme
		}
		a.elements[n-1] = a.rec.BeginHop(name, protocol, to)
		a.begun = n
	}
	return a.elements[n-1]
}

// rec0 returns the record of an element; one that was not begun ignores what it is told.
func (a *attempt) rec0(n int) connmodel.HopRecorder { return a.elements[n-1] }

func ends(c net.Conn) (local, peer netip.AddrPort) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	if l, ok := t.LocalAddr().(*net.TCPAddr); ok {
		local = unmapped(l.AddrPort())
	}
	if p, ok := t.RemoteAddr().(*net.TCPAddr); ok {
		peer = unmapped(p.AddrPort())
	}
	return local, peer
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
