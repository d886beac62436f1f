package h2

import (
	"sync"
	"time"
)

// deadline is one of a stream's. Its fields are guarded by the connection's lock.
type deadline struct {
	passed bool
	at     time.Time
	timer  *time.Timer
	cond   *sync.Cond // whom to wake
}

func (d *deadline) set(c *conn, t time.Time) {
	d.at = t
	wait := time.Until(t)
	switch {
	case t.IsZero():
		d.passed = false
		if d.timer != nil {
			d.timer.Stop()
		}
		return
	case wait <= 0:
		d.passed = true
		if d.timer != nil {
			d.timer.Stop()
		}
		d.cond.Broadcast()
		return
	}
	d.passed = false
	if d.timer != nil {
		d.timer.Reset(wait)
		return
	}
	d.timer = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d.passed || d.at.IsZero() {
			return
		}
		if left := time.Until(d.at); left > 0 { // it was moved while this was on its way
			d.timer.Reset(left)
			return
		}
		d.passed = true
		d.cond.Broadcast()
	})
}

func (d *deadline) stop() {
	d.at = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}
