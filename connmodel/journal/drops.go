package journal

import "time"

// drops is what has been said of records that were lost. It belongs to the writer's goroutine.
type drops struct {
	seen uint64    // as of the last look
	from uint64    // before it began
	on   bool      // records are being lost
	last time.Time // when the last ones were
}

// calm is how long none may be lost before it counts as over.
const calm = time.Second

// again is when to look again while records are being lost; nil otherwise.
func (d *drops) again() <-chan time.Time {
	if !d.on {
		return nil
	}
	return time.After(calm)
}

// tellDrops says when records begin to be lost, and when that is over.
func (j *Journal) tellDrops() {
	d, n := &j.drops, j.Dropped()
	switch {
	case n > d.seen:
		if !d.on {
			d.on, d.from = true, d.seen
			j.notice("records are dropped: they come faster than they are written, and the queue of %d is full", j.opt.Queue)
		}
		d.seen, d.last = n, time.Now()
	case d.on && j.Queued() < j.opt.Queue/2+1 && time.Since(d.last) >= calm:
		d.on = false
		j.notice("no more records are dropped; %d were lost", n-d.from)
	}
}
