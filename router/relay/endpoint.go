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

// reset closes the connection so that the peer sees it broken: a TCP peer gets RST, and a TLS peer no close_notify before it.
func (e *endpoint) reset() {
	if c, ok := e.transport().(*net.TCPConn); ok {
		c.SetLinger(0)
		if net.Conn(c) != e.conn {
			c.Close() // first, so that closing what is around it cannot send anything
		}
	}
	e.conn.Close()
}

// transport returns the connection under all wrappers that show what they wrap, as *tls.Conn does.
func (e *endpoint) transport() net.Conn {
	c := e.conn
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
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
	for pause := time.Millisecond; left > 0; pause = min(2*pause, 64*time.Millisecond) {
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
