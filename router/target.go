package router

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/socks5"
)

// targetState says what happens to datagrams for a target.
type targetState uint8

const (
	targetOpening targetState = iota // they wait for the decision and the way
	targetOpen
	targetRefused // they are dropped, until target.until
)

// maxWires bounds the spellings of one target that are known by their bytes.
const maxWires = 4

// target is one host and port that datagrams of an association go to: one decision, one flow, one record.
type target struct {
	a       *association
	address connmodel.Address // as the client says it
	rec     *connmodel.Recorder

	up, down   atomic.Int64 // payload bytes
	ups, downs atomic.Int64 // datagrams

	// The rest is guarded by a.mu.
	wires  []string
	state  targetState
	queue  [][]byte
	last   time.Time // of a datagram, either way
	idle   time.Duration
	until  time.Time
	conn   *upstream.Conn // direct: to be closed with the target
	to     netip.AddrPort // the server's address, where it is known here
	socket *packetSocket  // direct
	leg    *leg           // through a proxy
	head   []byte         // ... and what stands in front of the payload then
	learnt []netip.AddrPort
}

// open decides the target and finds the way. It runs on a goroutine of its own: a rule or the route may ask for the address of a name.
func (t *target) open() {
	a := t.a
	err := t.decideAndReach()
	if err == nil {
		t.opened()
		return
	}
	a.mu.Lock()
	why := a.why
	a.mu.Unlock()
	if why == "" {
		why = reasonFor(err)
	} else {
		err = &connmodel.ConnError{
			Phase: err.Phase, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled,
			Message: "the association ended while the target was being reached", Cause: err,
		}
	}
	now := time.Now()
	a.mu.Lock()
	a.opening--
	t.state, t.until, t.last = targetRefused, now.Add(refusedFor), now
	a.dropped[dropRefused] += int64(len(t.queue))
	for _, b := range t.queue {
		a.queued -= len(b)
	}
	t.queue = nil
	a.mu.Unlock()
	t.finish(why, err)
}

func (t *target) decideAndReach() *connmodel.ConnError {
	a, s, p := t.a, t.a.s, t.a.p
	f := connmodel.Facts{
		Listener: p.l.Name, Client: netip.AddrPortFrom(s.client.Addr().WithZone(""), s.client.Port()), Time: t.rec.Start(), User: a.user,
		Protocol: connmodel.ProtocolUDP, Target: t.address, TargetIP: t.address.IP(),
		Have:  firstBytes, // there are none: a datagram is no connection
		Reach: p.gen.cfg.Reach,
	}
	if loc := p.gen.cfg.Location; loc != nil {
		f.Time = f.Time.In(loc)
	}
	d, err := s.decide(p, t.rec, &f)
	t.rec.Decided(d, nil)
	s.r.opt.Log.Decision(FlowLine{Flow: t.rec.ID(), Facts: &f, Decision: d})
	s.r.watched(t.rec)
	if err != nil {
		return err
	}
	pl, err := s.newPlan(p, t.rec, &f, d)
	if err != nil {
		return err
	}
	if why := cannotCarry(p.gen.cfg.Routes, pl.to.Route, pl.to.TLS); why != "" {
		return noDatagrams(why)
	}
	pl.datagrams, pl.own = a.socket, &s.r.packets
	if d.Timeouts.Idle > 0 {
		a.mu.Lock()
		t.idle = d.Timeouts.Idle
		a.tick = min(a.tick, t.idle/4)
		a.mu.Unlock()
	}
	return t.reach(&pl, &f, time.Now().Add(pl.timeouts.Connect))
}

// cannotCarry says why datagrams cannot follow a decision, or "".
func cannotCarry(routes *upstream.Table, route string, tls *connmodel.TLSPlan) string {
	switch {
	case tls != nil && tls.Mode != connmodel.TLSPassthrough:
		return "the rule asks for TLS, which datagrams have not"
	case !routes.CarriesDatagrams(route):
		return route + " carries none: they go direct or through exactly one socks5 or socks5h upstream, for behind another hop they would bypass it"
	}
	return ""
}

// CheckDatagrams says why the service would drop datagrams that decision d takes, whatever their target, or "". It is for tools that
// explain.
func CheckDatagrams(c *Config, d *connmodel.Decision) string {
	if why := cannotCarry(c.Routes, d.Route, d.TLS); why != "" {
		return "the datagrams are dropped: " + why
	}
	return ""
}

// noDatagrams is a decision that datagrams cannot follow.
func noDatagrams(why string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindProtocol, Message: "the datagrams are dropped: " + why,
		Blame: connmodel.BlameLocal,
	}
}

// goDirect notes that the way is a socket of our own.
func (t *target) goDirect(c *upstream.Conn) *connmodel.ConnError {
	a, to := t.a, c.Datagrams.To
	i := 0
	if to.IP.Is6() {
		i = 1
	}
	a.mu.Lock()
	t.conn, t.to, t.socket = c, netip.AddrPortFrom(to.IP, to.Port), a.direct[i]
	if a.targets[t.address] == t {
		a.froms[t.to] = t
	}
	a.mu.Unlock()
	return nil
}

// opened sends what has waited, in order, and lets the rest go straight.
func (t *target) opened() {
	a := t.a
	for {
		a.mu.Lock()
		gone := a.targets[t.address] != t || t.leg != nil && t.leg.over
		if gone || len(t.queue) == 0 {
			a.opening--
			t.state = targetOpen
			why, err := a.why, a.err
			if why == "" && t.leg != nil && t.leg.over {
				why, err = t.leg.why, t.leg.err
			}
			a.mu.Unlock()
			if gone {
				t.close(why, err)
			}
			return
		}
		waiting := t.queue
		t.queue = nil
		for _, b := range waiting {
			a.queued -= len(b)
		}
		a.mu.Unlock()
		for _, b := range waiting {
			t.pass(b)
		}
	}
}

// send takes a datagram of the client's. It does not keep b.
func (t *target) send(b []byte, now time.Time) {
	a := t.a
	a.mu.Lock()
	state := t.state
	switch state {
	case targetRefused:
		a.last = now
		a.dropped[dropRefused]++
	case targetOpening:
		a.last, t.last = now, now
		if len(t.queue) >= maxQueuedTarget || a.queued+len(b) > maxQueued {
			a.dropped[dropQueue]++
			break
		}
		t.queue = append(t.queue, append([]byte(nil), b...))
		a.queued += len(b)
	default:
		a.last, t.last = now, now
		if a.targets[t.address] == t && t.to.IsValid() { // of two names of one address, the one that was sent to last gets the answers
			if t.leg == nil {
				a.froms[t.to] = t
			} else if !t.leg.over {
				t.leg.froms[t.to] = t
			}
		}
	}
	a.mu.Unlock()
	if state == targetOpen {
		t.pass(b)
	}
}

// pass writes a datagram to where it goes. What the kernel does not take is dropped, as on any way of datagrams.
func (t *target) pass(b []byte) {
	var err error
	t.up.Add(int64(len(b)))
	t.ups.Add(1)
	if t.leg != nil {
		err = t.leg.write(t.head, b)
	} else {
		_, err = t.socket.c.WriteToUDPAddrPort(b, t.to)
	}
	if err != nil {
		t.up.Add(-int64(len(b)))
		t.ups.Add(-1)
		t.a.drop(dropUnsent)
	}
}

// close ends a target that has not been ended already.
func (t *target) close(why connmodel.CloseReason, err *connmodel.ConnError) {
	t.a.mu.Lock()
	t.a.forgetLocked(t)
	t.a.mu.Unlock()
	t.finish(why, err)
}

// finish makes the record. Whoever calls it has taken the target out of the maps, or refused it; a second call does nothing.
func (t *target) finish(why connmodel.CloseReason, err *connmodel.ConnError) {
	t.a.mu.Lock()
	c := t.conn
	t.conn = nil
	t.a.mu.Unlock()
	if c != nil {
		c.Close()
	}
	t.rec.Fail(err)
	if n := t.ups.Load(); n > 0 {
		t.rec.SetMetadata("datagrams_up", strconv.FormatInt(n, 10))
	}
	if n := t.downs.Load(); n > 0 {
		t.rec.SetMetadata("datagrams_down", strconv.FormatInt(n, 10))
	}
	t.a.s.finish(t.rec, connmodel.FlowEnd{Reason: why, Up: t.up.Load(), Down: t.down.Load(), KeepClient: true})
}

// closeByAdmin ends a target at an operator's word. It is refused for a while: else the client's next datagram would open it again.
func (t *target) closeByAdmin() bool {
	a := t.a
	now := time.Now()
	a.mu.Lock()
	if a.targets[t.address] != t || t.state != targetOpen {
		a.mu.Unlock()
		return false
	}
	a.forgetLocked(t)
	next := &target{a: a, address: t.address, wires: t.wires, state: targetRefused, until: now.Add(refusedFor), last: now, idle: t.idle, rec: t.rec}
	a.targets[t.address] = next
	for _, w := range t.wires {
		a.wires[w] = next
	}
	a.mu.Unlock()
	t.finish(connmodel.CloseAdmin, nil)
	return true
}

// headOf is what stands in front of payloads to a proxy.
func headOf(to socks5.Addr) []byte {
	return socks5.AppendDatagramHeader(make([]byte, 0, socks5.MaxDatagramHeader), to)
}
