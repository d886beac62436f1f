package upstream

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// Defaults of HealthSpec.
const (
	defaultCheckEvery   = 10 * time.Second
	defaultCheckTimeout = 10 * time.Second
	defaultHealthy      = 1
	defaultUnhealthy    = 2
)

// findings is what active checks have found out of a member. It is guarded by health.mu.
type findings struct {
	of                 *Check // what was asked; nil = it is not checked
	healthy, unhealthy int
	down               bool
	hits, misses       int       // in a row
	missing            time.Time // when the first of the misses in a row was known
	last               CheckResult
	next               time.Time // of the next check
	made, failed       uint64
}

// rules takes what a new configuration says. What other checks have found out is forgotten.
func (v *findings) rules(s *HealthSpec) {
	if s == nil {
		*v = findings{}
		return
	}
	c := s.Check.ready()
	if !c.same(v.of) {
		*v = findings{}
	}
	v.of = c
	if v.healthy = s.Healthy; v.healthy <= 0 {
		v.healthy = defaultHealthy
	}
	if v.unhealthy = s.Unhealthy; v.unhealthy <= 0 {
		v.unhealthy = defaultUnhealthy
	}
}

// why says why the member is down.
func (v *findings) why() string {
	s := "the check (" + v.last.Check + ") failed"
	if v.misses > 1 {
		s += " " + strconv.Itoa(v.misses) + " times in a row"
	}
	if v.last.Err != nil {
		s += ": " + v.last.Err.Message
	}
	return s
}

// goal is the target of checks by several routes. One that none of them reaches is itself at fault.
type goal struct {
	routes int
	good   atomic.Int64 // when a check that went well was begun: see clock
	lost   atomic.Bool  // no route reaches it
}

// guilty reports whether a failure is to be held against the route that failed in a row since `since`. What only one route is asked for cannot be
// told apart; of several, another one must have got there meanwhile.
func (g *goal) guilty(err *connmodel.ConnError, since time.Time) bool {
	if err.Blame != connmodel.BlameTarget || g == nil || g.routes < 2 {
		return true
	}
	return g.good.Load() > clock(since)
}

// checked notes how an active check went. What is the fault of this machine says nothing about the member. spared says that it would be
// out if the target were not at fault.
func (h *health) checked(now time.Time, res CheckResult, g *goal) (spared bool) {
	h.mu.Lock()
	v := &h.checks
	if v.of == nil { // a check of the configuration before
		h.mu.Unlock()
		return false
	}
	v.last = res
	v.made++
	switch err := res.Err; {
	case err == nil:
		v.misses = 0
		if v.hits++; v.down && v.hits < v.healthy {
			break
		}
		v.down = false
		if res.Short == "" {
			h.worked = true
		}
		if res.covers(h.lastErr) { // else traffic knows more: a proxy may answer whoever knocks, and refuse every tunnel
			h.failures = 0
			if !h.until.IsZero() {
				h.until, h.healed = time.Time{}, now
			}
		}
		if res.Route > 0 {
			h.pace.note(now, res.Route)
		}
	case err.Blame == connmodel.BlameLocal, isClosed(err): // which takes it out by itself
		v.failed++
	default:
		v.failed++
		if v.misses++; v.misses == 1 {
			v.missing = now
		}
		v.hits = 0
		if h.lastErr, h.lastFail = err, now; v.misses >= v.unhealthy {
			guilty := g.guilty(err, v.missing)
			v.down = v.down || guilty
			spared = !guilty && !v.down
		}
	}
	c := h.turn(now)
	h.mu.Unlock()
	c.say()
	return spared
}

// covers reports whether a check that went well has got as far as the place where flows failed with err.
func (r *CheckResult) covers(err *connmodel.ConnError) bool {
	switch {
	case err == nil, r.Route > 0:
		return true
	case r.Short != "":
		return err.Phase != connmodel.PhaseAuth && err.Phase != connmodel.PhaseConnect && err.Phase != connmodel.PhaseRequest
	case r.kind == CheckTLS && err.Phase == connmodel.PhaseTLS:
		return true
	}
	return err.Phase == connmodel.PhaseResolve || err.Phase == connmodel.PhaseDial
}

// isClosed reports whether a check was not made because its credential is closed.
func isClosed(err *connmodel.ConnError) bool {
	var a *auth.Error
	return errors.As(err.Cause, &a) && a.Kind == auth.Closed
}

// planned notes when the next check is due.
func (h *health) planned(at time.Time) {
	h.mu.Lock()
	h.checks.next = at
	h.mu.Unlock()
}

// asked returns when it was checked last; zero = never.
func (h *health) asked() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.checks.last.At
}
