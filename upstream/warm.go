package upstream

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// NTLM and Negotiate prove for a connection, and a tunnel uses its connection up: each would need a handshake of its own. So connections to
// such a proxy are kept on which we are logged in and nothing else was done. They are of one table and one proxy, which is the first
// on its way, and so of one credential.

const (
	// maxWarm bounds those to one proxy.
	maxWarm = 8
	// warmIdle is how long one is kept. Proxies close idle connections after a minute or two.
	warmIdle = 45 * time.Second
	// maxWarming is how many are made at a time.
	maxWarming = 2
)

// warmth is those to one proxy.
type warmth struct {
	mu     sync.Mutex
	idle   []*warmConn // the one that was put in last is last
	wanted int         // it grows with tunnels that found none, and falls with those that were not used
	making int
	timer  *time.Timer
	closed bool
}

// warmConn is a connection that is logged in.
type warmConn struct {
	conn, base  net.Conn // what is spoken on, and the TCP connection below it
	sess        *auth.Session
	shown       *connmodel.TLSInfo
	local, peer netip.AddrPort
	since       time.Time
	hop         *Hop
}

func (w *warmConn) close() {
	w.base.Close()
	w.hop.state.open.Add(-1)
}

// take returns one that is open and silent; nil = there is none.
func (w *warmth) take() *warmConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.idle) > 0 {
		last := len(w.idle) - 1
		c := w.idle[last]
		w.idle[last] = nil
		w.idle = w.idle[:last]
		if time.Since(c.since) < warmIdle && quiet(c.base) {
			c.hop.state.open.Add(-1) // the attempt counts it
			return c
		}
		c.close()
	}
	return nil
}

// put keeps a connection, if there is room.
func (w *warmth) put(c *warmConn) {
	c.hop.state.open.Add(1)
	c.since = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if most := c.hop.spec.MaxConnections; w.closed || len(w.idle) >= maxWarm || most > 0 && c.hop.state.open.Load() > int64(most) {
		c.close()
		return
	}
	w.idle = append(w.idle, c)
	if w.timer == nil {
		w.timer = time.AfterFunc(warmIdle, w.expire)
	} else if len(w.idle) == 1 {
		w.timer.Reset(warmIdle)
	}
}

// expire closes what was not used, and asks for less of it.
func (w *warmth) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := 0
	for old < len(w.idle) && time.Since(w.idle[old].since) >= warmIdle {
		w.idle[old].close()
		old++
	}
	w.idle = append([]*warmConn(nil), w.idle[old:]...)
	w.wanted = max(w.wanted-old, 0)
	if len(w.idle) > 0 && !w.closed {
		w.timer.Reset(max(warmIdle-time.Since(w.idle[0].since), time.Millisecond))
	}
}

// close ends them all.
func (w *warmth) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.idle {
		c.close()
	}
	w.idle = nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

// short reports whether another is to be made, which then must be told by made. miss says that a tunnel found none.
func (w *warmth) short(miss bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if miss {
		w.wanted = min(w.wanted+1, maxWarm)
	}
	if w.closed || w.making >= maxWarming || len(w.idle)+w.making >= w.wanted {
		return false
	}
	w.making++
	return true
}

func (w *warmth) made() {
	w.mu.Lock()
	w.making--
	w.mu.Unlock()
}

// replenish makes connections for the tunnels to come, beside the flows. Without a URL to ask for there is nothing to log in with.
func (t *Table) replenish(h *Hop, miss bool) {
	if h.spec.Auth.WarmURL == "" || !h.auth.Proven() || t.life == nil || !h.warm.short(miss) {
		return
	}
	t.probing.Go(func() {
		for more := true; more; more = t.life.Err() == nil && h.warm.short(false) {
			c := t.logInAhead(h)
			h.warm.made()
			if c == nil {
				return // what fails is found out by those who need it
			}
			h.warm.put(c)
		}
	})
}

// logInAhead makes one connection.
func (t *Table) logInAhead(h *Hop) *warmConn {
	if most := h.spec.MaxConnections; most > 0 && h.state.open.Load() >= int64(most) || h.auth.Shut() {
		return nil
	}
	d := &dialing{t: t, ctx: t.life, q: &Request{Target: h.spec.Address}, deadline: time.Now().Add(defaultDeadline)}
	a := &d.attempt
	*a = attempt{d: d, hops: []*Hop{h}, cold: true}
	var sess *auth.Session
	conn, err := a.hop(1)
	if err == nil {
		conn, sess, err = a.logIn(1, conn)
	}
	if conn, err = a.finish(conn, err); err != nil {
		return nil
	}
	if sess == nil || !sess.Done() {
		a.base.Close()
		return nil
	}
	c := &warmConn{conn: conn, base: a.base, sess: sess, shown: a.shown[0], hop: h}
	c.local, c.peer = ends(a.base)
	return c
}

// warmed makes a connection that is logged in the attempt's own; nil = there is none.
func (a *attempt) warmed(n int) net.Conn {
	h := a.hops[n-1]
	if n != 1 || h.warm == nil || a.cold || a.given != nil || a.d.q.check {
		return nil
	}
	w := h.warm.take()
	if w == nil {
		return nil
	}
	a.warm, a.base, a.shown[0] = w, w.base, w.shown
	a.element1(1, h.spec.Address).Reused(w.shown, w.local, w.peer)
	return w.conn
}

// keepWarm keeps the connection of an attempt that the proxy refused a tunnel on, which is as good as before.
func (a *attempt) keepWarm(conn net.Conn, sess *auth.Session) {
	h := a.hops[0]
	if a.stop != nil && !a.stop() { // the past deadline may come any moment
		return
	}
	c := &warmConn{conn: conn, base: a.base, sess: sess, shown: a.shown[0], hop: h}
	c.local, c.peer = ends(a.base)
	a.base.SetDeadline(time.Time{})
	a.stop, a.base, a.armed = nil, nil, false
	h.warm.put(c)
}

// quiet reports whether a connection is open and nothing has come on it: else it is no good any more.
func quiet(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds[:], 0)
			if err != unix.EINTR {
				silent = n == 0 && err == nil
				return
			}
		}
	})
	return err == nil && silent
}
