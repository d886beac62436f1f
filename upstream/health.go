package upstream

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// Defaults of EjectSpec.
const (
	defaultEjectFailures = 3
	defaultEjectTime     = 5 * time.Second
	defaultEjectMax      = 5 * time.Minute
)

// health is what is known of one member of a pool. Tables of later configurations share it while the member stays the same.
//
// A member is ejected when it failed several times in a row, for a time that doubles while ejections follow each other
// soon, with jitter. After that time it is half-open: one request at a time is let through, and its success heals.
// A failed active check keeps a member out until a check succeeds.
type health struct {
	bad  atomic.Bool  // ejected or down: look at the rest under mu
	open atomic.Int64 // connections and attempts under way
	pace atomic.Int64 // moving average of the time to connect, in nanoseconds; 0 = not known

	mu       sync.Mutex
	eject    EjectSpec
	failures int           // in a row
	until    time.Time     // zero = not ejected
	length   time.Duration // of the last ejection, without jitter
	healed   time.Time     // when the last ejection ended by a success
	probing  bool          // half-open, and the one request is under way
	worked   bool          // it did its part at least once
	down     bool          // the active check says so
	checked  time.Time     // last active check
	misses   int           // active checks failed in a row
	total    uint64        // ejections
	lastErr  *connmodel.ConnError
	lastFail time.Time
	silentAt connmodel.Address // target of the last silence that counted
}

func newHealth(e EjectSpec) *health {
	return &health{eject: e.withDefaults()}
}

func (e EjectSpec) withDefaults() EjectSpec {
	if e.Failures <= 0 {
		e.Failures = defaultEjectFailures
	}
	e.Time = orDefault(e.Time, defaultEjectTime)
	e.MaxTime = max(orDefault(e.MaxTime, defaultEjectMax), e.Time)
	return e
}

// with gives h the rules of a new configuration and returns it.
func (h *health) with(e EjectSpec) *health {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eject = e.withDefaults()
	if e.Disabled {
		h.until = time.Time{}
		h.bad.Store(h.down)
	}
	return h
}

// available reports whether a request may be sent there: it is well, or half-open and nobody is trying it.
func (h *health) available(now time.Time) bool {
	if !h.bad.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.down && !h.probing && !now.Before(h.until)
}

// claim takes the place of the one request of a half-open member; a member that is well has room for all.
func (h *health) claim(now time.Time) (ok, probe bool) {
	if !h.bad.Load() {
		return true, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.until.IsZero() && !h.down:
		return true, false
	case h.down || h.probing || now.Before(h.until):
		return false, false
	}
	h.probing = true
	return true, true
}

// returns says when the member may be tried again, for choosing among those that are out.
func (h *health) returns() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down && h.until.IsZero() {
		return h.checked.Add(time.Hour) // after all that only wait for their time
	}
	return h.until
}

// succeeded notes that the member did its part, in took when it connected (0 = it only answered). probe gives back the
// place that claim took.
func (h *health) succeeded(now time.Time, took time.Duration, probe bool) {
	if took > 0 {
		h.paced(took)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if probe {
		h.probing = false
	}
	h.failures, h.silentAt, h.worked = 0, connmodel.Address{}, true
	if !h.until.IsZero() && (probe || !now.Before(h.until)) {
		h.until, h.healed = time.Time{}, now
	}
	h.bad.Store(h.down || !h.until.IsZero())
}

// failed notes a fault of the member's own.
func (h *health) failed(now time.Time, err *connmodel.ConnError, probe bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if probe {
		h.probing = false
	}
	h.failures++
	h.lastErr, h.lastFail = err, now
	if h.eject.Disabled {
		return
	}
	if probe || h.failures >= h.eject.Failures && h.until.IsZero() {
		h.out(now)
	}
}

// out ejects. Called with mu held.
func (h *health) out(now time.Time) {
	switch {
	case h.length == 0, h.until.IsZero() && now.Sub(h.healed) > 4*h.length:
		h.length = h.eject.Time // it was well for long: begin anew
	default:
		h.length = min(2*h.length, h.eject.MaxTime)
	}
	h.until = now.Add(h.length + time.Duration(rand.Int64N(int64(h.length)/5+1)))
	h.total++
	h.bad.Store(true)
}

// repeats reports whether err is a proxy's silence about the target that it was silent about before. A proxy that waits for
// a target which swallows packets looks like one that hangs; only if it is silent about several is it the proxy.
func (h *health) repeats(err *connmodel.ConnError, target connmodel.Address) bool {
	if err.Kind != connmodel.KindTimeout || err.Phase != connmodel.PhaseConnect {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silentAt == target {
		return true
	}
	h.silentAt = target
	return false
}

// undecided gives back the place of a request that told nothing about the member.
func (h *health) undecided(probe bool) {
	if !probe {
		return
	}
	h.mu.Lock()
	h.probing = false
	h.mu.Unlock()
}

// missesToDown is how many active checks fail in a row before they take a member out.
const missesToDown = 2

// check notes the result of an active check.
func (h *health) check(now time.Time, took time.Duration, err *connmodel.ConnError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checked = now
	if err == nil {
		h.misses, h.down, h.failures, h.worked = 0, false, 0, true
		if !h.until.IsZero() {
			h.until, h.healed = time.Time{}, now
		}
		h.paced(took)
	} else {
		h.misses++
		h.lastErr, h.lastFail = err, now
		h.down = h.down || h.misses >= missesToDown
	}
	h.bad.Store(h.down || !h.until.IsZero())
}

// paced moves the average of the time to connect by a fifth.
func (h *health) paced(took time.Duration) {
	for {
		old := h.pace.Load()
		mean := int64(took)
		if old > 0 {
			mean = old + (mean-old)/5
		}
		if h.pace.CompareAndSwap(old, max(mean, 1)) {
			return
		}
	}
}
