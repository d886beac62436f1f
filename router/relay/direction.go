package relay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// direction copies from one end of a tunnel to the other, on one goroutine.
type direction struct {
	t        *Tunnel
	src, dst *endpoint
	early    []byte // goes out before anything is read

	n    atomic.Int64 // bytes delivered to dst
	last atomic.Int64 // stamp of the last of them

	writing atomic.Bool // a write to dst has begun and not succeeded

	kernel kernelCopy // its state while both ends are plain sockets

	done bool      // it copies no more; guarded by Tunnel.mu
	at   time.Time // since when
}

func (d *direction) set(t *Tunnel, src, dst *endpoint, early []byte) {
	d.t, d.src, d.dst, d.early = t, src, dst, early
	d.writing.Store(false)
	d.kernel.set(d)
}

func (d *direction) reset() {
	d.n.Store(0)
	d.last.Store(0)
	d.done, d.at = false, time.Time{}
}

// run copies until the direction ends, and sees to what follows from its end.
//
// The stack below it is kept flat: a goroutine starts with 2 KiB, of which some 1,200 bytes can be used before it is moved to 4 KiB for good.
func (d *direction) run() {
	defer d.leave()
	o, err := atEOF, d.writeEarly()
	switch {
	case err != nil:
		o = writeError
	case d.src.raw != nil:
		o, err = d.copyRaw()
	default:
		o, err = d.copyWrapped()
	}
	d.t.ended(d, o, err)
}

// leave ends the tunnel if a connection given to it panicked, so that Run closes both and panics on the goroutine of its caller.
func (d *direction) leave() {
	t := d.t
	if p := recover(); p != nil {
		t.mu.Lock()
		d.done, d.at = true, time.Now()
		t.panicked = fmt.Errorf("relay: panic while copying from %s: %v\n%s", d.src.peer, p, debug.Stack())
		if t.end == Open {
			t.stop(Canceled, nil)
		}
		t.mu.Unlock()
	}
	t.wg.Done()
}

func (d *direction) writeEarly() error {
	b := d.early
	d.early = nil
	if len(b) == 0 {
		return nil
	}
	return d.write(b)
}

// write delivers all of b, however slow the destination is.
func (d *direction) write(b []byte) error {
	if d.dst.raw != nil {
		return d.writeRaw(b)
	}
	d.writing.Store(true)
	for len(b) > 0 {
		n, err := d.dst.conn.Write(b)
		if n > 0 {
			d.count(n)
			b = b[n:]
		}
		if err != nil { // a deadline too: what is left of a TLS connection after one is of no use
			return err
		}
		if n <= 0 {
			return io.ErrShortWrite
		}
	}
	d.writing.Store(false)
	return nil
}

func (d *direction) count(n int) {
	d.n.Add(int64(n))
	d.last.Store(int64(now()))
}

// staleDeadline reports whether err is a deadline that somebody left on e before the tunnel began, and removes it; not if the deadline is the one that
// stops the tunnel.
func (t *Tunnel) staleDeadline(e *endpoint, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end != Open {
		return false
	}
	return e.conn.SetDeadline(time.Time{}) == nil
}
