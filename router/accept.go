package router

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"viaduct/connmodel"
)

// door is one bound socket. It outlives generations: a reload only changes what is pinned to it.
type door struct {
	r    *Router
	ln   net.Listener
	pin  atomic.Pointer[pin]
	gone atomic.Bool   // close was called
	quit chan struct{} // closed with it
	done chan struct{} // closed when the loop has ended; nil before start

	mu      sync.Mutex
	clients map[netip.Addr]int // open sessions by client; nil until a listener limits them
	udp     map[netip.Addr]int // UDP associations by client; nil until there is one
	udpOpen int                // all of them
	told    time.Time          // when a refusal was last logged
	untold  int                // refusals since then
}

// pin is the configuration that a flow keeps for its whole life.
type pin struct {
	gen *generation
	l   *Listener
	tls *doorTLS // nil: the listener speaks no TLS
}

func newDoor(r *Router, ln net.Listener, l *Listener) *door {
	d := &door{r: r, ln: ln, quit: make(chan struct{})}
	d.pin.Store(&pin{l: l})
	return d
}

func (d *door) name() string { return d.pin.Load().l.Name }

func (d *door) start() {
	d.done = make(chan struct{})
	go d.acceptLoop()
}

// closeGrace is how long a door that closes still takes clients that the kernel has connected already: closing would reset them.
const closeGrace = 2 * time.Millisecond

// close stops accepting and waits until the loop has ended: no session begins after it returns.
func (d *door) close() {
	d.gone.Store(true)
	close(d.quit)
	if d.done != nil {
		if ln, ok := d.ln.(interface{ SetDeadline(time.Time) error }); ok {
			ln.SetDeadline(time.Now().Add(closeGrace))
		} else {
			d.ln.Close()
		}
		d.r.gate.nudge()
		<-d.done
	}
	d.ln.Close()
}

// Pauses of a listener that cannot accept.
const (
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
)

// acceptLoop hands over sockets. When descriptors run out it pauses (5 ms, doubling to 1 s) instead of spinning; when the
// limit of connections is reached, further clients wait in the kernel's queue. A panic here ends the process, so that the
// service manager starts it again.
func (d *door) acceptLoop() {
	defer close(d.done)
	pause := time.Duration(0)
	for d.r.gate.await(d.gone.Load) {
		nc, err := d.ln.Accept()
		switch {
		case err == nil:
		case d.gone.Load(), errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR):
			continue
		default:
			pause = min(max(2*pause, shortestPause), longestPause)
			if pause == shortestPause || pause == longestPause {
				d.r.opt.Log.Event(LevelWarn, "cannot accept", "listener", d.name(), "error", err.Error())
			}
			select {
			case <-time.After(pause):
			case <-d.quit:
				return
			}
			continue
		}
		pause = 0
		if !d.r.gate.enter(d.gone.Load) { // other listeners may have filled it meanwhile
			abortConn(nc)
			return
		}
		d.admit(nc)
	}
}

// admit begins a session, or refuses the client: by network, or because it has too many connections.
func (d *door) admit(nc net.Conn) {
	p := d.pin.Load()
	now := time.Now()
	peer := addrPort(nc.RemoteAddr())
	balancer, counted, reason := p.l.introduces(peer.Addr()), false, ""
	switch {
	case balancer: // who it is about is told later
	case p.l.ProxyProtocol != nil && !p.l.ProxyProtocol.Others:
		reason = "not_a_balancer"
	default:
		counted, reason = d.refuse(p.l, peer.Addr().WithZone(""))
	}
	if reason != "" {
		d.r.opt.Meter.SessionRefused(p.l.Name, reason)
		d.tellRefused(p.l.Name, peer, reason, now)
		abortConn(nc)
		d.r.gate.leave()
		return
	}
	s := d.r.newSession(d, nc, p)
	s.live = connmodel.NewSession(connmodel.Accepted{Listener: p.l.Name, Peer: peer, Local: addrPort(nc.LocalAddr()), TLS: p.tls != nil, Time: now}, d.r.opt.Hooks)
	s.peer, s.client, s.started, s.counted, s.balancer = peer, peer, now, counted, balancer
	d.r.sessions.add(s)
	if oldest := d.r.handshakes.begin(s); oldest != nil && oldest.crowdedOut() {
		d.r.opt.Meter.SessionRefused(oldest.name, "handshake_limit")
		d.tellRefused(oldest.name, oldest.peer, "handshake_limit", now)
	}
	go s.serve()
}

// tellRefused logs a refusal, but at most one a second: a flood of them is told by its number.
func (d *door) tellRefused(listener string, peer netip.AddrPort, reason string, now time.Time) {
	d.mu.Lock()
	if now.Sub(d.told) < time.Second {
		d.untold++
		d.mu.Unlock()
		return
	}
	more := d.untold
	d.told, d.untold = now, 0
	d.mu.Unlock()
	d.r.opt.Log.Event(LevelWarn, "client refused", "listener", listener, "client", peer.String(), "reason", reason, "more", more)
}

// refuse says why a client may not connect, or "", and whether it was counted for the limit per client.
func (d *door) refuse(l *Listener, client netip.Addr) (counted bool, reason string) {
	if !client.IsValid() {
		return false, "" // a Unix socket: its file mode has let the client in
	}
	if l.Clients != nil && !contains(l.Clients, client) {
		return false, "client_network"
	}
	return d.count(l, client)
}

// count counts one more of what a client may have, if the listener limits that, or says that it has enough.
func (d *door) count(l *Listener, client netip.Addr) (counted bool, reason string) {
	if l.PerClient <= 0 || !client.IsValid() {
		return false, ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clients == nil {
		d.clients = make(map[netip.Addr]int)
	}
	k := clientKey(client)
	if d.clients[k] >= l.PerClient {
		return false, "client_limit"
	}
	d.clients[k]++
	return true, ""
}

func contains(networks []netip.Prefix, ip netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// clientKey is what counts as one client: an IPv4 address, or the /64 of an IPv6 address, of which any machine has as many as it likes.
func clientKey(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return ip
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return ip
	}
	return p.Addr()
}

// release undoes what refuse counted.
func (d *door) release(client netip.Addr) {
	k := clientKey(client.WithZone(""))
	d.mu.Lock()
	if n := d.clients[k]; n <= 1 {
		delete(d.clients, k)
	} else {
		d.clients[k] = n - 1
	}
	d.mu.Unlock()
}

// abortConn closes with RST, so that the client knows at once and we keep no TIME_WAIT. TLS above it is told nothing: that could wait for
// the client.
func abortConn(nc net.Conn) {
	nc = transport(nc)
	if t, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		t.SetLinger(0)
	}
	nc.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
