package relay

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// outcome says how a direction ended.
type outcome uint8

const (
	atEOF      outcome = iota // its source has sent its last byte
	readError                 // its source broke
	writeError                // its destination broke
)

// ended is called by each direction once, when it will copy no more, and decides what that means for the tunnel.
func (t *Tunnel) ended(d *direction, o outcome, err error) {
	t.mu.Lock()
	d.at = time.Now()
	d.done = true
	if t.end != Open { // it was told to stop, or the other one was faster
		t.mu.Unlock()
		return
	}
	other := &t.up
	if d == other {
		other = &t.down
	}
	if o != writeError && t.first == None {
		t.first = d.src.peer
	}
	switch {
	case o == readError:
		t.stop(broken(d.src.peer, err), err)
	case o == atEOF && d.src.err != nil:
		// A write to this peer has failed before, which took the error off the socket: this is a reset that looks like an end.
		t.stop(broken(d.src.peer, d.src.err), d.src.err)
	case o == atEOF && !other.done && other.writing.Load() && d.src.dead():
		// The same, and the goroutine whose write has failed has not come here yet. It will find the tunnel stopped.
		err = syscall.ECONNRESET
		t.stop(broken(d.src.peer, err), err)
	case o == atEOF && !other.done:
		t.halfClosed(d) // unlocks
		return
	case o == atEOF:
		t.end = closed(t.first)
	case !other.done:
		// What the broken peer had sent before is still in its socket: the other direction fetches it, and meets the reset or the end itself.
		d.dst.err = err
		t.half = now()
		t.arm(t.limit())
		if t.first == None {
			t.first = d.dst.peer
		}
	case d.src.err != nil: // both are broken; the first one counts
		t.stop(broken(d.src.peer, d.src.err), d.src.err)
	default:
		// The destination ended in good order, then refused what was still coming: it closed, and no reset takes back what it had sent.
		t.end, t.flush = closed(t.first), true
	}
	t.mu.Unlock()
}

// halfClosed passes the end of d's source on to its destination, while the other direction goes on. The caller holds mu, which is released.
func (t *Tunnel) halfClosed(d *direction) {
	t.half = now()
	t.passed = true
	t.arm(t.limit())
	obs := t.opt.Observer
	at := d.at
	t.mu.Unlock()

	if obs != nil {
		obs.ReadClosed(d.src.peer, at)
	}
	c, ok := d.dst.conn.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	// An error means that the peer is gone; the other direction is about to find out.
	if err := c.CloseWrite(); err == nil && obs != nil {
		obs.WriteClosed(d.dst.peer, time.Now())
	}
}

func closed(p Peer) End {
	if p == Server {
		return ServerClosed
	}
	return ClientClosed
}

// broken classes the error of a connection to p.
func broken(p Peer, err error) End {
	switch {
	case errors.Is(err, net.ErrClosed): // not by the peer: somebody closed our end
		return Canceled
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if p == Server {
			return ServerReset
		}
		return ClientReset
	case p == Server:
		return ServerFailed
	}
	return ClientFailed
}
