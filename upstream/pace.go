package upstream

import (
	"sync/atomic"
	"time"
)

const (
	// paceShare is what one measurement counts in an average that is fresh: one in.
	paceShare = 5
	// paceStale is how old an average is when it counts for nothing beside a new measurement.
	paceStale = 15 * time.Second
)

// pace is a moving average of the time that connecting through a route takes. The older it is, the less it counts beside a new
// measurement. The zero value knows nothing.
type pace struct {
	mean atomic.Int64 // nanoseconds; 0 = not known
	at   atomic.Int64 // when it was measured last: see clock
}

// note takes a measurement in.
func (p *pace) note(now time.Time, took time.Duration) {
	at := clock(now)
	age := time.Duration(at - p.at.Swap(at))
	for {
		old := p.mean.Load()
		mean := int64(took)
		if old > 0 && age < paceStale {
			share := max(1.0/paceShare, float64(age)/float64(paceStale))
			mean = old + int64(float64(mean-old)*share)
		}
		if p.mean.CompareAndSwap(old, max(mean, 1)) {
			return
		}
	}
}
