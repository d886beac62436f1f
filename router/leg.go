package router

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/socks5"
)

// leg is an association of ours with a SOCKS5 proxy, for the targets of a client's association that go by one route. A pool's choice of
// the proxy holds for as long as the leg does: what servers see as the client's address does not change from target to target.
type leg struct {
	a     *association
	route string
	ready chan struct{} // closed when conn or failed is set, or none of them: the way was direct

	// The rest is guarded by a.mu; conn, socket and server do not change once ready.
	failed  *connmodel.ConnError
	conn    *upstream.Conn
	socket  *packetSocket
	server  *connmodel.Server // for the records of the targets that come later
	over    bool
	why     connmodel.CloseReason // it is over
	err     *connmodel.ConnError
	targets int
	since   time.Time // targets became 0
	froms   map[netip.AddrPort]*target
	names   map[string]*target
}

// maxLearnt bounds the addresses that are known of one name a proxy resolves.
const maxLearnt = 8

// reach finds the way of a target: a socket of our own, or the leg of its route, which the first target opens.
func (t *target) reach(pl *plan, f *connmodel.Facts, deadline time.Time) *connmodel.ConnError {
	a, s := t.a, t.a.s
	table, route := a.p.gen.cfg.Routes, pl.to.Route
	if table.AlwaysDirect(route) {
		c, err := s.reachServer(a.ctx, a.p, t.rec, pl, f, deadline)
		if err != nil {
			return err
		}
		return t.goDirect(c)
	}
	for {
		l, first, err := a.leg(route)
		if err != nil {
			return err
		}
		if first {
			return l.open(t, pl, f, deadline)
		}
		select {
		case <-l.ready:
		case <-a.ctx.Done():
			return noDatagrams("the association has ended")
		}
		switch {
		case l.failed != nil:
			return l.failed
		case l.conn != nil:
			return l.join(t, pl, f, deadline)
		}
	}
}

// leg returns the leg of a route, and whether the caller is to open it.
func (a *association) leg(route string) (l *leg, first bool, err *connmodel.ConnError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l = a.legs[route]; l != nil {
		return l, false, nil
	}
	if len(a.legs) >= maxLegs {
		return nil, false, udpLimit("the association goes by too many routes at once")
	}
	if !a.s.r.gate.take() {
		return nil, false, udpLimit("there is no room for the sockets toward another proxy")
	}
	l = &leg{a: a, route: route, ready: make(chan struct{}), froms: make(map[netip.AddrPort]*target), names: make(map[string]*target)}
	a.legs[route] = l
	return l, true, nil
}

// open dials the proxy for its first target. A pool may choose direct: then there is no leg.
func (l *leg) open(t *target, pl *plan, f *connmodel.Facts, deadline time.Time) *connmodel.ConnError {
	a := l.a
	c, err := a.s.reachServer(a.ctx, a.p, t.rec, pl, f, deadline)
	var k *packetSocket
	if err == nil && c.Datagrams.Relay != nil {
		var e error
		if k, e = newPacketSocket(c.Datagrams.Relay); e != nil {
			c.Close()
			err = udpLimit(e.Error())
		}
	}
	a.mu.Lock()
	if err == nil && k != nil && a.why == "" {
		l.conn, l.socket, l.server = c, k, t.rec.Snapshot().Server
		a.startLocked(l.read)
		a.startLocked(l.watch)
		l.addLocked(t, c.Datagrams.To)
		a.mu.Unlock()
		close(l.ready)
		return nil
	}
	if err == nil && k != nil {
		err = noDatagrams("the association has ended")
		defer c.Close()
	}
	l.failed = err
	delete(a.legs, l.route)
	a.mu.Unlock()
	a.s.r.gate.leave()
	close(l.ready)
	if err != nil {
		return err
	}
	return t.goDirect(c)
}

// join lets a further target go by the leg.
func (l *leg) join(t *target, pl *plan, f *connmodel.Facts, deadline time.Time) *connmodel.ConnError {
	a := l.a
	q := pl.request(a.p, f)
	q.Deadline = deadline
	to, resolvedBy, err := a.p.gen.cfg.Routes.Toward(a.ctx, &q, l.conn)
	t.rec.BeginDial(pl.to.Address, pl.to.Route, false)
	if err != nil {
		return err
	}
	server := *l.server
	server.Address, server.ResolvedBy = pl.to.Address, resolvedBy
	t.rec.ReuseServer(&server)
	a.mu.Lock()
	l.addLocked(t, to)
	a.mu.Unlock()
	return nil
}

// addLocked makes t a target of the leg. The lock is held.
func (l *leg) addLocked(t *target, to socks5.Addr) {
	t.leg, t.head = l, headOf(to)
	if to.IP.IsValid() {
		t.to = netip.AddrPortFrom(to.IP.Unmap(), to.Port)
	}
	if l.a.targets[t.address] != t {
		return // it has ended meanwhile
	}
	l.targets++
	if to.IP.IsValid() {
		l.froms[t.to] = t
	} else {
		l.names[strings.ToLower(to.String())] = t
	}
}

// forget takes t off the leg. The lock is held.
func (l *leg) forget(t *target) {
	if l.froms[t.to] == t {
		delete(l.froms, t.to)
	}
	for _, from := range t.learnt {
		if l.froms[from] == t {
			delete(l.froms, from)
		}
	}
	for name, x := range l.names {
		if x == t {
			delete(l.names, name)
		}
	}
	if l.targets--; l.targets == 0 {
		l.since = time.Now()
	}
}

// whose finds the target that an answer belongs to, by the address that the proxy says it came from; nil = it was not asked for. A name
// that the proxy resolves has an address that we learn with its first answer: of several with that port it is the one that was sent to
// last. The lock is held.
func (l *leg) whose(from socks5.Addr) *target {
	if !from.IP.IsValid() {
		return l.names[strings.ToLower(from.String())]
	}
	at := netip.AddrPortFrom(from.IP.Unmap(), from.Port)
	if t := l.froms[at]; t != nil {
		return t
	}
	var best *target
	for _, t := range l.names {
		if t.port() != from.Port || best != nil && (len(t.learnt) > 0) != (len(best.learnt) > 0) && len(t.learnt) > 0 {
			continue
		}
		if best == nil || len(best.learnt) > 0 && len(t.learnt) == 0 || t.last.After(best.last) {
			best = t
		}
	}
	if best != nil && len(best.learnt) < maxLearnt {
		best.learnt = append(best.learnt, at)
		l.froms[at] = best
	}
	return best
}

// port is that of the address in the header of datagrams to the proxy.
func (t *target) port() uint16 {
	n := len(t.head)
	return uint16(t.head[n-2])<<8 | uint16(t.head[n-1])
}

// write sends a payload to the proxy, behind the header that says where it goes.
func (l *leg) write(head, payload []byte) error {
	buf := packetBuffers.Get().(*packetBuffer)
	defer packetBuffers.Put(buf)
	b := append(append(buf[:0], head...), payload...)
	_, err := l.socket.c.Write(b)
	if errors.Is(err, syscall.ECONNREFUSED) { // of a datagram before: the kernel tells it to the next
		_, err = l.socket.c.Write(b)
	}
	return err
}

// read takes the answers. The header is the one that the client gets.
func (l *leg) read() {
	a := l.a
	for {
		err := l.socket.read(func(b []byte, _ netip.AddrPort) {
			b = b[headroom:]
			from, payload, err := socks5.ParseDatagram(b)
			a.mu.Lock()
			var t *target
			if err == nil {
				t = l.whose(from)
			}
			if t == nil {
				a.dropped[dropUnsolicited]++
			}
			a.mu.Unlock()
			if t != nil {
				a.toClient(t, b, len(payload))
			}
		})
		if isClosed(err) {
			return
		}
		rest(err)
	}
}

// watch ends the leg with its control connection: the proxy relays nothing any more.
func (l *leg) watch() {
	var buf [64]byte
	var err error
	for left := 64 << 10; err == nil && left > 0; {
		var n int
		n, err = l.conn.Read(buf[:])
		left -= n
	}
	hop := &connmodel.ConnError{Phase: connmodel.PhaseRelay, Side: connmodel.SideHop, Hop: 1, HopName: l.server.Route, Kind: connmodel.KindEOF, Blame: connmodel.BlameProxy,
		Message: "the proxy ended the UDP association", Cause: err}
	why := connmodel.CloseServer
	switch {
	case err == nil:
		hop.Kind, hop.Message, why = connmodel.KindProtocol, "the proxy keeps sending on the control connection of the UDP association", connmodel.CloseFailed
	case !errors.Is(err, io.EOF):
		hop.Kind, why = connmodel.KindReset, connmodel.CloseServerReset
	}
	l.end(why, hop)
}

// end ends the leg and its targets; what is sent to them later opens another. Of several reasons the first one stays.
func (l *leg) end(why connmodel.CloseReason, err *connmodel.ConnError) {
	a := l.a
	a.mu.Lock()
	if l.conn == nil || l.over {
		a.mu.Unlock()
		return
	}
	l.over, l.why, l.err = true, why, err
	if a.legs[l.route] == l {
		delete(a.legs, l.route)
	}
	var mine []*target
	for _, t := range a.targets {
		if t.leg == l && t.state == targetOpen {
			mine = append(mine, t)
		}
	}
	for _, t := range mine {
		a.forgetLocked(t)
	}
	a.mu.Unlock()
	l.conn.Close()
	a.s.r.gate.leave()
	for _, t := range mine {
		t.finish(why, err)
	}
}
