package relay

import (
	"net"
	"syscall"
	"time"
)

// endpoint is one connection of a tunnel.
type endpoint struct {
	conn net.Conn
	raw  syscall.RawConn // of a plain stream socket; nil: conn is read and written as it is
	peer Peer
	err  error // why a write to it failed; guarded by Tunnel.mu
}

func (e *endpoint) set(p Peer, c net.Conn) {
	*e = endpoint{conn: c, peer: p, raw: rawConn(c)}
}

// clear forgets the connection, so that a Tunnel that is kept does not keep it.
func (e *endpoint) clear() { *e = endpoint{peer: e.peer} }

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// kick wakes whoever waits on the connection.
func (e *endpoint) kick() { e.conn.SetDeadline(past) }

// reset closes the connection so that the peer sees it broken: a TCP peer gets RST, and a TLS peer no close_notify before it. Others that can be closed
// so have SetLinger, too. A wrapper that does not show what it wraps is just closed.
func (e *endpoint) reset() {
	c, _ := e.transport()
	if c, ok := c.(interface{ SetLinger(sec int) error }); ok {
		c.SetLinger(0)
	}
	e.close(true)
}

// close closes the connection. When a write to it was cut short, in the middle of a TLS record it may be, nothing more is sent: the transport goes first.
func (e *endpoint) close(cut bool) {
	if c, under := e.transport(); cut && under {
		c.Close()
	}
	e.conn.Close()
}

// transport returns the connection under all wrappers that show what they wrap, as *tls.Conn does, and whether there are any.
func (e *endpoint) transport() (c net.Conn, under bool) {
	for c = e.conn; ; under = true {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c, under
		}
		c = w.NetConn()
	}
}

// deliveryStall is how long a peer's kernel may take not a byte of what was sent before the end is passed on regardless.
const deliveryStall = 2 * time.Second

// deliver waits until the peer has acknowledged what was written to it, because a reset throws away what is still queued. It gives up when
// nothing moves, or Abort is called.
func (t *Tunnel) deliver(e *endpoint) {
	left := e.queued()
	moved := time.Now()
	for pause := time.Millisecond; left > 0 && !e.dead(); pause = min(2*pause, 64*time.Millisecond) {
		t.mu.Lock()
		hurry := t.hurry
		t.mu.Unlock()
		if hurry || time.Since(moved) > deliveryStall {
			return
		}
		time.Sleep(pause)
		if q := e.queued(); q < left {
			left, moved = q, time.Now()
		}
	}
}
