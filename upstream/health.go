package upstream

import (
	"math/rand/v2"
	"strconv"
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

// health is what is known of one member of a pool, or of an upstream that is checked by itself. Tables of later configurations share it while
// the member stays the same.
//
// A member is ejected when it failed several times in a row, for a time that doubles while ejections follow each other
// soon, with jitter. After that time it is half-open: one request at a time is let through, and its success heals.
// Failed active checks keep a member out until checks succeed: see findings.go.
type health struct {
	bad  atomic.Bool  // ejected or down: look at the rest under mu
	open atomic.Int64 // connections and attempts under way
	back atomic.Int64 // when it came back, in nanoseconds of the process' clock; 0 = it was never out
	pace pace         // the time to connect

	mu       sync.Mutex
	eject    EjectSpec
	failures int           // in a row
	until    time.Time     // zero = not ejected
	length   time.Duration // of the last ejection, without jitter
	healed   time.Time     // when the last ejection ended by a success
	probing  bool          // half-open, and the one request is under way
	worked   bool          // it did its part at least once
	total    uint64        // ejections
	lastErr  *connmodel.ConnError
	lastFail time.Time
	silentAt connmodel.Address // target of the last silence that counted

	checks findings
	said   turned
}

// turned is the state as others were told of it last.
type turned struct {
	pool, route string // "" = it is an upstream by itself
	tell        func(*Change)
	state       string // StateHealthy, StateEjected or StateDown; "" = StateHealthy
	since       time.Time
	why         string // it is out
}

// Change is a member of a pool, an upstream that is checked, or a target of checks, that is found down or well again.
type Change struct {
	Pool  string // "pool.corp"; "" = it is about the upstream itself
	Route string // "upstream.corp_a"; "" = it is about a Target
	// Target is one of checks that several routes are asked for and none reaches: nobody is taken out for that. Zero = it is about a Route.
	Target connmodel.Address
	From   string // StateHealthy, StateEjected or StateDown
	To     string
	Why    string        // it is out: the error, and how often it was met
	Until  time.Time     // of an ejection
	After  time.Duration // it was in the state before; 0 = not known

	tell func(*Change)
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

// of names h and says who is told of its changes.
func (h *health) of(pool, route string, tell func(*Change)) *health {
	h.mu.Lock()
	h.said.pool, h.said.route, h.said.tell = pool, route, tell
	h.mu.Unlock()
	return h
}

// with gives h the rules of a new configuration and returns it.
func (h *health) with(e EjectSpec, checks *HealthSpec) *health {
	now := time.Now()
	h.mu.Lock()
	h.eject = e.withDefaults()
	if e.Disabled {
		h.until = time.Time{}
	}
	h.checks.rules(checks)
	c := h.turn(now)
	h.mu.Unlock()
	c.say()
	return h
}

// turn brings the state in line with what has just changed, and returns what is to be said of it: with mu held, and said without.
func (h *health) turn(now time.Time) *Change {
	to, was := StateHealthy, h.said.state
	if was == "" {
		was = StateHealthy
	}
	switch {
	case h.checks.down:
		to = StateDown
	case !h.until.IsZero():
		to = StateEjected
	}
	h.bad.Store(to != StateHealthy)
	if to == was {
		return nil
	}
	c := &Change{Pool: h.said.pool, Route: h.said.route, From: was, To: to, Until: h.until}
	if !h.said.since.IsZero() {
		c.After = now.Sub(h.said.since)
	}
	switch to {
	case StateDown:
		c.Why = h.checks.why()
	case StateEjected:
		if c.Why = "a failure"; h.failures > 1 {
			c.Why = strconv.Itoa(h.failures) + " failures in a row"
		}
		if h.lastErr != nil {
			c.Why += ": " + h.lastErr.Message
		}
	default:
		h.back.Store(clock(now))
	}
	h.said.state, h.said.since, h.said.why = to, now, c.Why
	if h.said.tell == nil {
		return nil
	}
	c.tell = h.said.tell
	return c
}

// say tells of a change; c may be nil.
func (c *Change) say() {
	if c != nil {
		c.tell(c)
	}
}

// begin is where the process' clock begins, which no setting of the time moves.
var begin = time.Now().Add(-time.Hour)

func clock(t time.Time) int64 { return int64(t.Sub(begin)) }

// well reports for how long the member has been well again; false = it was never out.
func (h *health) well(now time.Time) (time.Duration, bool) {
	at := h.back.Load()
	return time.Duration(clock(now) - at), at != 0
}

// available reports whether a request may be sent there: it is well, or half-open and nobody is trying it.
func (h *health) available(now time.Time) bool {
	if !h.bad.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.checks.down && !h.probing && !now.Before(h.until)
}

// claim takes the place of the one request of a half-open member; a member that is well has room for all.
func (h *health) claim(now time.Time) (ok, probe bool) {
	if !h.bad.Load() {
		return true, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.until.IsZero() && !h.checks.down:
		return true, false
	case h.checks.down || h.probing || now.Before(h.until):
		return false, false
	}
	h.probing = true
	return true, true
}

// returns says when the member may be tried again, for choosing among those that are out.
func (h *health) returns() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks.down && h.until.IsZero() {
		return h.checks.last.At.Add(time.Hour) // after all that only wait for their time
	}
	return h.until
}

// succeeded notes that the member did its part, in took when it connected (0 = it only answered). probe gives back the
// place that claim took.
func (h *health) succeeded(now time.Time, took time.Duration, probe bool) {
	if took > 0 {
		h.pace.note(now, took)
	}
	h.mu.Lock()
	if probe {
		h.probing = false
	}
	h.failures, h.silentAt, h.worked = 0, connmodel.Address{}, true
	if !h.until.IsZero() && (probe || !now.Before(h.until)) {
		h.until, h.healed = time.Time{}, now
	}
	c := h.turn(now)
	h.mu.Unlock()
	c.say()
}

// failed notes a fault of the member's own.
func (h *health) failed(now time.Time, err *connmodel.ConnError, probe bool) {
	h.mu.Lock()
	if probe {
		h.probing = false
	}
	h.failures++
	h.lastErr, h.lastFail = err, now
	if !h.eject.Disabled && (probe || h.failures >= h.eject.Failures && h.until.IsZero()) {
		h.out(now)
	}
	c := h.turn(now)
	h.mu.Unlock()
	c.say()
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
}

// chance lets an ejected member be tried at once: what it failed by may be over.
func (h *health) chance(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.until) {
		h.until = now
	}
	h.length, h.failures = 0, 0
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
