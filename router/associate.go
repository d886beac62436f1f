package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/socks5"
)

// Defaults of UDP.
const (
	defaultUDPIdle         = 60 * time.Second
	defaultUDPAssociations = 1024
	defaultUDPPerClient    = 32
	defaultUDPTargets      = 256
)

// withDefaults fills what is not said.
func (u UDP) withDefaults() UDP {
	pick := func(v *int, fallback int) {
		if *v <= 0 {
			*v = fallback
		}
	}
	if u.Idle <= 0 {
		u.Idle = defaultUDPIdle
	}
	pick(&u.Associations, defaultUDPAssociations)
	pick(&u.PerClient, defaultUDPPerClient)
	pick(&u.Targets, defaultUDPTargets)
	return u
}

// serveAssociate is the way of UDP ASSOCIATE (RFC 1928, sections 4 and 7): a socket for the client's datagrams, for as long as its
// control connection is open. No rule is asked here, for no target is known: each target of a datagram is decided by itself, see
// target.open. announced is where the client says that its datagrams will come from.
func (s *session) serveAssociate(p *pin, announced socks5.Addr, user string) {
	s.live.Identified(connmodel.ProtocolUDP, user)
	s.understood()
	rec := s.begin(connmodel.ProtocolUDP, connmodel.Address{}, time.Now())
	s.trace(p, rec, nil)
	a, err := s.newAssociation(p, rec, announced, user)
	if err != nil {
		s.no(p, rec, connmodel.ProtocolSOCKS5, err)
		return
	}
	a.run()
}

// newAssociation checks the limits and opens the socket.
func (s *session) newAssociation(p *pin, rec *connmodel.Recorder, announced socks5.Addr, user string) (*association, *connmodel.ConnError) {
	limits := p.l.UDP.withDefaults()
	local, ok := s.conn.LocalAddr().(*net.TCPAddr)
	switch {
	case p.l.UDP.Nowhere:
		return nil, noAssociation("no route of the policy carries datagrams: they go direct or through exactly one socks5 upstream")
	case !ok || !s.client.IsValid():
		return nil, noAssociation("a client on a Unix socket has no address that datagrams could come from")
	}
	if !s.door.admitUDP(s.client.Addr(), limits) {
		return nil, udpLimit("the listener has as many UDP associations as it may, in all or of this client")
	}
	if !s.r.gate.take() {
		s.door.releaseUDP(s.client.Addr())
		return nil, udpLimit("there is no room for the sockets of a UDP association")
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	var k *packetSocket
	if err == nil {
		if k, err = newPacketSocket(c); err != nil {
			c.Close()
		}
	}
	if err != nil {
		s.r.gate.leave()
		s.door.releaseUDP(s.client.Addr())
		return nil, &connmodel.ConnError{
			Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindLimit,
			Message: "there is no socket for the client's datagrams: " + err.Error(), Blame: connmodel.BlameLocal, Cause: err,
		}
	}
	a := &association{
		s: s, p: p, user: user, limits: limits, rec: rec, client: k, peer: netip.AddrPortFrom(s.client.Addr(), announcedPort(announced, s.client.Addr())),
		wires: make(map[string]*target), targets: make(map[connmodel.Address]*target), legs: make(map[string]*leg),
		froms: make(map[netip.AddrPort]*target), last: time.Now(),
	}
	a.ctx, a.cancel = context.WithCancel(&s.life)
	bound := c.LocalAddr().(*net.UDPAddr).AddrPort()
	a.bound = netip.AddrPortFrom(bound.Addr().Unmap().WithZone(""), bound.Port())
	return a, nil
}

// announcedPort is the client's port where it says it, and 0 where it does not, or speaks of another address than its own: what a
// client behind address translation knows of itself is not what we see.
func announcedPort(a socks5.Addr, client netip.Addr) uint16 {
	if a.IP.IsValid() && (a.IP.IsUnspecified() || a.IP.Unmap() == client.Unmap().WithZone("")) {
		return a.Port
	}
	return 0
}

func noAssociation(why string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindProtocol, Code: int(socks5.CommandNotSupported), CodeOf: "socks5",
		Message: "UDP ASSOCIATE refused: " + why, Blame: connmodel.BlameClient,
	}
}

func udpLimit(why string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindLimit, Message: "UDP ASSOCIATE refused: " + why,
		Blame: connmodel.BlameClient,
	}
}

// admitUDP counts one more association, within the limits.
func (d *door) admitUDP(client netip.Addr, limits UDP) bool {
	k := clientKey(client.WithZone(""))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.udpOpen >= limits.Associations || d.udp[k] >= limits.PerClient {
		return false
	}
	if d.udp == nil {
		d.udp = make(map[netip.Addr]int)
	}
	d.udp[k]++
	d.udpOpen++
	return true
}

func (d *door) releaseUDP(client netip.Addr) {
	k := clientKey(client.WithZone(""))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.udp[k]--; d.udp[k] <= 0 {
		delete(d.udp, k)
	}
	d.udpOpen--
}

// run answers the client, and relays until the association has ended. It leaves nothing: no socket, no goroutine, no place.
func (a *association) run() {
	s := a.s
	a.s.r.packets.add(a.bound)
	defer a.close()
	stop := s.life.AfterFunc(func() { a.end(s.life.ended(), nil) }) // an operator, or the end of a drain
	defer stop()
	a.rec.Replied(0, false)
	a.rec.SetMetadata("udp_relay", a.bound.String())
	if err := s.write(appendSOCKS5Reply(make([]byte, 0, 32), 0, a.bound)); err != nil {
		e := clientError(connmodel.PhaseHandshake, err)
		a.end(s.flowEnd(e).Reason, e)
		return
	}
	s.in.Release()
	s.conn.SetReadDeadline(time.Time{})
	if s.life.enter(stateDatagrams) == "" && s.r.draining.Load() {
		s.drain() // it came first
	}
	s.assoc.Store(a)
	a.start(a.watchClient)
	a.loop()
}

// close undoes everything. All goroutines have ended when it returns.
func (a *association) close() {
	s := a.s
	a.end(connmodel.CloseInternal, nil) // when nothing else has ended it: a panic
	s.conn.SetReadDeadline(time.Unix(1, 0))
	a.mu.Lock()
	var legs []*leg
	for _, l := range a.legs {
		legs = append(legs, l)
	}
	for _, k := range a.direct {
		if k != nil {
			k.c.Close()
		}
	}
	a.mu.Unlock()
	for _, l := range legs {
		l.end(a.why, a.err)
	}
	a.wg.Wait()
	s.assoc.Store(nil)
	for _, t := range a.all() {
		t.close(a.why, a.err)
	}
	s.r.packets.remove(a.bound)
	s.r.gate.leave()
	s.door.releaseUDP(s.client.Addr())
	a.rec.SetMetadata("udp_targets", strconv.Itoa(a.decided))
	for i, n := range a.dropped {
		if n > 0 {
			a.rec.SetMetadata("udp_dropped_"+dropNames[i], strconv.FormatInt(n, 10))
		}
	}
	if a.err != nil {
		a.rec.Fail(a.err)
	}
	end := connmodel.FlowEnd{Reason: a.why}
	if a.why == connmodel.CloseClient || a.why == connmodel.CloseClientReset {
		end.First = connmodel.SideClient
	}
	s.life.enter(stateLinger)
	s.finish(a.rec, end)
}

// watchClient ends the association with its control connection. Nothing is due on it: what comes is dropped, within bounds.
func (a *association) watchClient() {
	var buf [64]byte
	for left := 64 << 10; left > 0; {
		n, err := a.s.conn.Read(buf[:])
		if left -= n; err == nil {
			continue
		}
		if e := clientError(connmodel.PhaseRelay, err); e.Kind == connmodel.KindReset {
			a.end(connmodel.CloseClientReset, nil)
		} else {
			a.end(connmodel.CloseClient, nil)
		}
		return
	}
	a.end(connmodel.CloseLimit, &connmodel.ConnError{
		Phase: connmodel.PhaseRelay, Side: connmodel.SideClient, Kind: connmodel.KindProtocol,
		Message: "the client keeps sending on the control connection of its UDP association", Blame: connmodel.BlameClient,
	})
}

// guard ends the association, and no other, when one of its goroutines panics.
func (a *association) guard() {
	if p := recover(); p != nil {
		a.end(connmodel.CloseInternal, nil)
		a.s.panicked(fmt.Sprint(p))
	}
}

// start runs f on a goroutine of the association, unless that has ended.
func (a *association) start(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.startLocked(f)
}

func (a *association) startLocked(f func()) bool {
	if a.why != "" {
		return false
	}
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		defer a.guard()
		f()
	}()
	return true
}

// end ends the association: the first reason stays. It waits for nothing.
func (a *association) end(why connmodel.CloseReason, err *connmodel.ConnError) {
	a.mu.Lock()
	if a.why != "" {
		a.mu.Unlock()
		return
	}
	a.why, a.err = why, err
	a.mu.Unlock()
	a.cancel()
	a.client.c.Close()
}

// isClosed reports whether a socket says that we closed it.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
