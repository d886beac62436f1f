package router

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/socks5"
)

// association is a client's UDP association, from the answer to its request to the end of its control connection. The session's own
// goroutine reads the client's datagrams; deciding and dialling a target, reading of each socket toward servers and watching each
// control connection have goroutines of their own, so that a slow name holds up nobody but itself.
type association struct {
	s      *session
	p      *pin // decides for the whole life
	user   string
	limits UDP
	rec    *connmodel.Recorder
	client *packetSocket
	bound  netip.AddrPort // of client
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	why     connmodel.CloseReason // why it has ended; "" = it has not
	err     *connmodel.ConnError
	peer    netip.AddrPort // where the client's datagrams come from; port 0 = not known yet
	wires   map[string]*target
	targets map[connmodel.Address]*target
	legs    map[string]*leg            // by route
	direct  [2]*packetSocket           // to IPv4 and to IPv6 servers; nil until needed
	froms   map[netip.AddrPort]*target // who may answer on direct
	opening int                        // targets that wait for their decision or their way
	queued  int                        // bytes that wait with them
	decided int                        // targets since the beginning
	last    time.Time                  // of a datagram from or to the client
	tick    time.Duration              // between two looks at what idles
	dropped [len(dropNames)]int64
}

// Bounds of what waits in one association.
const (
	maxOpening      = 32
	maxQueued       = 256 << 10 // bytes
	maxQueuedTarget = 16        // datagrams for one target
	maxLegs         = 8
	evictAfter      = 5 * time.Second  // a target that is silent for so long makes room for another
	refusedFor      = 10 * time.Second // until a target that was refused, or could not be reached, is tried again
)

// drop is why a datagram went nowhere.
type drop uint8

const (
	dropStranger    drop = iota // not from the client
	dropMalformed               // no datagram of RFC 1928, section 7, or no target
	dropFragment                // FRAG is not 0
	dropRefused                 // its target was denied, or cannot be reached
	dropQueue                   // too many wait
	dropTargets                 // too many targets
	dropUnsent                  // the kernel did not take it
	dropUnsolicited             // from a server that nothing was sent to
)

var dropNames = [...]string{"stranger", "malformed", "fragment", "refused", "queue", "targets", "unsent", "unsolicited"}

func (a *association) drop(why drop) {
	a.mu.Lock()
	a.dropped[why]++
	a.mu.Unlock()
}

// loop reads the client's datagrams until the association has ended.
func (a *association) loop() {
	next := time.Now().Add(a.looks())
	a.client.c.SetReadDeadline(next)
	for {
		err := a.client.read(a.fromClient)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			a.sweep(time.Now())
			a.client.c.SetReadDeadline(time.Now().Add(a.looks()))
		case isClosed(err):
			return
		default:
			rest(err)
		}
	}
}

// rest keeps a socket that is out of order from being asked without pause. That a datagram before was refused is nothing to wait for.
func rest(err error) {
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		time.Sleep(10 * time.Millisecond)
	}
}

// looks returns how long until the next look at what idles.
func (a *association) looks() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tick == 0 || a.tick > a.limits.Idle/4 {
		a.tick = a.limits.Idle / 4
	}
	a.tick = min(max(a.tick, 10*time.Millisecond), 10*time.Second)
	return a.tick
}

// fromClient takes one datagram that came to the client's socket.
func (a *association) fromClient(b []byte, from netip.AddrPort) {
	if !a.isClient(from) {
		a.drop(dropStranger)
		return
	}
	b = b[headroom:]
	n, wire, err := socks5.DatagramHeader(b)
	if err == socks5.ErrFragment {
		a.drop(dropFragment)
		return
	}
	if err != nil {
		a.drop(dropMalformed)
		return
	}
	now := time.Now()
	a.mu.Lock()
	t := a.wires[string(wire)]
	if t != nil && t.state == targetRefused && !now.Before(t.until) {
		a.forgetLocked(t)
		t = nil
	}
	a.mu.Unlock()
	if t == nil {
		to, _, err := socks5.ParseDatagram(b)
		var address connmodel.Address
		if err == nil {
			address, err = connmodel.MakeAddress(to.Host(), to.Port)
		}
		if err != nil {
			a.drop(dropMalformed)
			return
		}
		if t = a.target(address, string(wire), now); t == nil {
			return
		}
	}
	a.settle(from)
	t.send(b[n:], now)
}

// isClient reports whether a datagram may be the client's: it is of its address, and of its port once that is known.
func (a *association) isClient(from netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return from.Addr() == a.peer.Addr().WithZone("") && (a.peer.Port() == 0 || from.Port() == a.peer.Port())
}

// settle keeps the port of the client's first good datagram: from then on no other takes part.
func (a *association) settle(from netip.AddrPort) {
	a.mu.Lock()
	if a.peer.Port() == 0 {
		a.peer = netip.AddrPortFrom(a.peer.Addr(), from.Port())
	}
	a.mu.Unlock()
}

// toClient passes on what target t has answered: b is header and payload.
func (a *association) toClient(t *target, b []byte, payload int) {
	now := time.Now()
	a.mu.Lock()
	peer := a.peer
	if a.why != "" || peer.Port() == 0 {
		a.mu.Unlock()
		return
	}
	a.last, t.last = now, now
	a.mu.Unlock()
	t.down.Add(int64(payload)) // before it is sent: what the client has got is in the record, however soon it leaves
	t.downs.Add(1)
	if _, err := a.client.c.WriteToUDPAddrPort(b, peer); err != nil {
		t.down.Add(-int64(payload))
		t.downs.Add(-1)
		a.drop(dropUnsent)
	}
}

// target finds the target of an address that came as wire, or begins a new one. nil = there is no room for it, which is counted.
func (a *association) target(address connmodel.Address, wire string, now time.Time) *target {
	a.mu.Lock()
	t := a.targets[address]
	if t != nil && t.state == targetRefused && !now.Before(t.until) {
		a.forgetLocked(t)
		t = nil
	}
	if t != nil {
		if len(t.wires) < maxWires {
			t.wires = append(t.wires, wire)
			a.wires[wire] = t
		}
		a.mu.Unlock()
		return t
	}
	var evicted *target
	full := len(a.targets) >= a.limits.Targets
	if full {
		evicted = a.longestSilent(now)
	}
	switch {
	case a.opening >= maxOpening:
		a.dropped[dropQueue]++
		evicted = nil
	case full && evicted == nil:
		a.dropped[dropTargets]++
	case a.why == "":
		if evicted != nil {
			a.forgetLocked(evicted)
		}
		t = &target{a: a, address: address, wires: []string{wire}, last: now, idle: a.limits.Idle}
		t.rec = a.s.live.NewFlow(connmodel.ProtocolUDP, address, now)
		a.s.trace(a.s.door.pin.Load(), t.rec, nil)
		a.wires[wire], a.targets[address] = t, t
		a.opening++
		a.decided++
		a.startLocked(t.open)
	}
	a.mu.Unlock()
	if evicted != nil {
		evicted.finish(connmodel.CloseLimit, nil)
	}
	return t
}

// longestSilent is the target that may make room for another, or nil.
func (a *association) longestSilent(now time.Time) *target {
	var best *target
	for _, t := range a.targets {
		if t.state != targetOpening && now.Sub(t.last) >= evictAfter && (best == nil || t.last.Before(best.last)) {
			best = t
		}
	}
	return best
}

// forgetLocked takes a target out of all maps, and reports whether it was in them. The lock is held.
func (a *association) forgetLocked(t *target) bool {
	if a.targets[t.address] != t {
		return false
	}
	delete(a.targets, t.address)
	for _, w := range t.wires {
		delete(a.wires, w)
	}
	if a.froms[t.to] == t {
		delete(a.froms, t.to)
	}
	if t.leg != nil {
		t.leg.forget(t)
	}
	for _, b := range t.queue {
		a.queued -= len(b)
	}
	t.queue = nil
	return true
}

// sweep ends what has been idle for too long.
func (a *association) sweep(now time.Time) {
	var idle []*target
	var legs []*leg
	a.mu.Lock()
	busy := 0
	for _, t := range a.targets {
		switch {
		case t.state == targetRefused:
			if !now.Before(t.until) {
				a.forgetLocked(t)
			}
		case t.state == targetOpen && now.Sub(t.last) >= t.idle:
			a.forgetLocked(t)
			idle = append(idle, t)
		default:
			busy++
		}
	}
	for _, l := range a.legs {
		if l.conn != nil && l.targets == 0 && now.Sub(l.since) >= a.limits.Idle {
			legs = append(legs, l)
		}
	}
	over := busy == 0 && now.Sub(a.last) >= a.limits.Idle
	a.mu.Unlock()
	for _, t := range idle {
		t.finish(connmodel.CloseIdle, nil)
	}
	for _, l := range legs {
		l.end(connmodel.CloseIdle, nil)
	}
	if over {
		a.end(connmodel.CloseIdle, nil)
	}
}

// all returns the targets that there are.
func (a *association) all() []*target {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*target, 0, len(a.targets))
	for _, t := range a.targets {
		list = append(list, t)
	}
	return list
}

// each calls f for every target that has no record yet. f must not block: it runs under the lock.
func (a *association) each(f func(*target)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.targets {
		if t.state != targetRefused {
			f(t)
		}
	}
}

// socket returns the socket for direct datagrams of one address family.
func (a *association) socket(v6 bool) (*net.UDPConn, error) {
	i := 0
	if v6 {
		i = 1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.direct[i]; k != nil {
		return k.c, nil
	}
	if a.why != "" {
		return nil, context.Canceled
	}
	c, err := a.p.gen.cfg.Routes.ListenDatagrams(v6)
	if err != nil {
		return nil, err
	}
	k, err := newPacketSocket(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	a.direct[i] = k
	a.startLocked(func() { a.readDirect(k) })
	return c, nil
}

// readDirect takes the answers of servers. Only those that were sent to may answer, each from the address it was sent to.
func (a *association) readDirect(k *packetSocket) {
	for {
		err := k.read(func(b []byte, from netip.AddrPort) {
			a.mu.Lock()
			t := a.froms[from]
			if t == nil {
				a.dropped[dropUnsolicited]++
			}
			a.mu.Unlock()
			if t == nil {
				return
			}
			head := socks5.AppendDatagramHeader(make([]byte, 0, headroom), socks5.Addr{IP: from.Addr(), Port: from.Port()})
			begin := headroom - len(head)
			copy(b[begin:], head)
			a.toClient(t, b[begin:], len(b)-headroom)
		})
		if isClosed(err) {
			return
		}
		rest(err)
	}
}
