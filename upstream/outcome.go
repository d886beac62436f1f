package upstream

import (
	"time"

	"viaduct/connmodel"
)

// connected ends a good attempt.
func (a *attempt) connected(start time.Time) {
	if a.rec.Recorder() != nil {
		local, peer := a.local, a.peer
		if !local.IsValid() {
			local, peer = ends(a.base)
		}
		a.rec.Connected(local, peer)
	}
	n := len(a.hops)
	open := false // whether the last proxy carries anything is not known yet: see Conn.Answered
	if n > 0 {
		switch s := a.hops[n-1].state; {
		case a.absolute():
			open = s.rejects.Load() || !s.worked.Load()
		case s.rejects.Load():
			s.rejects.Store(false)
		}
	}
	for i, h := range a.hops {
		h.state.attempts.Add(1)
		if !open || i < n-1 {
			h.state.well()
			if h.login != nil && !a.d.q.check {
				h.login.passed()
			}
		}
	}
	if len(a.picks) > 0 {
		now := time.Now()
		for i := range a.picks {
			p := &a.picks[i]
			if open && p.last == n {
				p.member.undecided(p.probe)
				continue
			}
			p.member.succeeded(now, max(now.Sub(start), 1), p.probe)
		}
	}
}

// fail ends a bad attempt: what it means is written down, and the members chosen are told as far as it concerns them.
func (a *attempt) fail(he *HopError, start time.Time) *connmodel.ConnError {
	err := classify(he)
	a.stopped = a.d.ctx.Err() != nil
	if a.rec.Recorder() != nil {
		if he.Hop <= a.begun && he.Hop != a.element(err) {
			a.rec0(he.Hop).Done() // it did its part: it said whose fault it is
		}
		if at := a.element(err); at > 0 && at <= a.begun+1 {
			a.element1(at, a.address(at)).Fail(err)
		}
		a.rec.Fail(err)
	}
	now := time.Now()
	if err.Kind == connmodel.KindAuth && he.shown && he.Hop <= len(a.hops) && a.hops[he.Hop-1].login != nil {
		a.hops[he.Hop-1].login.refused.Store(true)
	}
	for i, h := range a.hops {
		h.state.attempts.Add(1)
		switch {
		case err.Blame == connmodel.BlameProxy && err.Hop == i+1:
			h.state.failures.Add(1)
			h.state.row.Add(1)
			h.state.last.Store(&failure{now, err})
		case err.Kind != connmodel.KindCanceled && err.Blame != connmodel.BlameLocal && he.Hop > i+1,
			err.Blame == connmodel.BlameTarget && he.Hop == i+1:
			h.state.well() // it carried us beyond it, or answered
		}
	}
	a.blame(err, he, now)
	return err
}

// well notes that the proxy did its part. It writes only what changes: all attempts share the line of the cache.
func (s *hopState) well() {
	if !s.worked.Load() {
		s.worked.Store(true)
	}
	if s.row.Load() != 0 {
		s.row.Store(0)
	}
}

// element is the index of the record's element that err is blamed on.
func (a *attempt) element(err *connmodel.ConnError) int {
	if err.Side == connmodel.SideServer {
		return len(a.hops) + 1
	}
	return err.Hop
}

// blame tells the members chosen for this attempt how it ended. A fault of a proxy counts against the innermost member
// that holds it. Members before the place where it failed have done their part.
func (a *attempt) blame(err *connmodel.ConnError, he *HopError, now time.Time) {
	guilty := -1
	if err.Blame == connmodel.BlameProxy {
		for i := range a.picks {
			if p := &a.picks[i]; p.first < err.Hop && err.Hop <= p.last {
				guilty = i
			}
		}
	}
	for i := range a.picks {
		p := &a.picks[i]
		switch {
		case i == guilty && !p.member.repeats(err, a.d.q.Target):
			p.member.failed(now, err, p.probe)
		case err.Kind != connmodel.KindCanceled && err.Blame != connmodel.BlameLocal && he.Hop > p.last && p.last > p.first,
			err.Blame == connmodel.BlameTarget && he.Hop >= p.last && p.last > p.first:
			p.member.succeeded(now, 0, p.probe) // it answered, or carried us beyond it
		default:
			p.member.undecided(p.probe)
		}
	}
	if guilty < 0 && len(a.picks) > 0 && err.Kind != connmodel.KindCanceled {
		guilty = len(a.picks) - 1 // another exit may reach what this one could not
	}
	if guilty >= 0 {
		a.d.tried.add(a.picks[guilty].member)
	}
	if err.Kind == connmodel.KindAuth && he.shown && he.Hop <= len(a.hops) {
		a.spare(he.Hop)
	}
}

// spare keeps this flow from showing rejected credentials again, to this hop or to members that use the same: accounts
// get locked so.
func (a *attempt) spare(hop int) {
	rejected, left := a.hops[hop-1], false
	for i := range a.picks {
		p := &a.picks[i]
		for _, m := range p.pool.members {
			if m.route.shows(rejected.spec.Auth) {
				a.d.tried.add(m)
			}
		}
		left = left || p.first < hop && hop <= p.last && !a.d.tried.spent(&route{pool: p.pool})
	}
	a.stopped = a.stopped || !left
}

// shows reports whether a fixed way has a hop with these credentials.
func (r *route) shows(c *Auth) bool {
	if r.way == nil {
		return false
	}
	for _, h := range r.way.hops {
		if h.spec.Auth != nil && sameAuth(h.spec.Auth, c) {
			return true
		}
	}
	return false
}
