package relay

import "time"

// stamp is a moment on the monotonic clock, in nanoseconds since the process started, and costs half of time.Now to take. 0 means never.
type stamp int64

var epoch = time.Now().Add(-1) // so that no stamp is 0

func now() stamp { return stamp(time.Since(epoch)) }

func (s stamp) time() time.Time { return epoch.Add(time.Duration(s)) }

// limit returns how long the tunnel may be quiet now; 0 or less: for ever. The caller holds mu.
func (t *Tunnel) limit() time.Duration {
	idle, half := t.opt.Idle, t.opt.HalfClosed
	if t.half == 0 || half <= 0 {
		return idle
	}
	if idle <= 0 {
		return half
	}
	return min(idle, half)
}

// arm makes check run in d, or not at all if d is 0 or less. The caller holds mu.
func (t *Tunnel) arm(d time.Duration) {
	switch {
	case d <= 0:
	case t.timer == nil:
		t.timer = time.AfterFunc(d, t.check)
	default:
		t.timer.Reset(d)
	}
}

// sendQueues are the bytes that the kernel has accepted for a peer and has not delivered.
type sendQueues struct {
	client, server int
	known          bool
}

// check cuts the tunnel if it has been quiet for too long, and else comes back when it might have been.
func (t *Tunnel) check() {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.limit()
	if !t.running || t.end != Open || limit <= 0 {
		return
	}
	quiet := time.Duration(now() - max(t.start, t.half, t.lastByte(), t.probeAt))
	if quiet < limit {
		if t.lastByte() > t.probeAt {
			t.probe.known = false
		}
		t.arm(limit - quiet)
		return
	}
	// Bytes that were written long ago may still be on their way to a slow reader: that is not idle. Two looks a quarter of the limit apart tell.
	q := sendQueues{t.client.queued(), t.server.queued(), true}
	switch {
	case t.probe.known && q != t.probe:
		t.probe, t.probeAt = q, now()
		t.arm(limit)
		return
	case !t.probe.known && q.client+q.server > 0:
		t.probe = q
		t.arm(limit / 4)
		return
	}
	end := IdleTimeout
	if limit != t.opt.Idle {
		end = HalfClosedTimeout
	}
	t.stop(end, nil)
}
