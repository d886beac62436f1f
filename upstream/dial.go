package upstream

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"viaduct/connmodel"
)

// dialing is one call of Dial: its attempts share it.
type dialing struct {
	t        *Table
	ctx      context.Context
	q        *Request
	tried    *Tried
	deadline time.Time
	target   netip.Addr // when Target is an address

	attempt  attempt
	attempts int   // begun, where there is a choice
	own      Tried // when the request brings none
}

// Dial goes the way that q.Route names, until the tunnel is open, the proxy for a plain request is reached, or TLS with
// the server is up; on another member when one fails and the retry rules allow it. Every attempt is written to r, which
// may be nil. It runs on the caller's goroutine; cancelling ctx ends it at once.
//
// The error is never a nil pointer in an interface: compare the second result with nil.
func (t *Table) Dial(ctx context.Context, q *Request, r *connmodel.Recorder) (*Conn, *connmodel.ConnError) {
	rt := t.routes[q.Route]
	if rt == nil {
		return nil, &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
			Blame: connmodel.BlameLocal, Message: "there is no route named " + q.Route}
	}
	if r != nil {
		r.BeginDial(q.Target, q.Route, q.upgrade())
	}
	d := &dialing{t: t, ctx: ctx, q: q, tried: q.Tried, target: q.Target.IP(), deadline: q.Deadline}
	now := time.Now()
	if d.deadline.IsZero() {
		d.deadline = now.Add(defaultDeadline)
	}
	if d.tried == nil {
		d.tried = &d.own
	}
	rules := retryOf(q, rt)
	if rules.Deadline > 0 && now.Add(rules.Deadline).Before(d.deadline) {
		d.deadline = now.Add(rules.Deadline)
	}
	for n := 1; ; n++ {
		conn, err := d.try(rt, r, now)
		if err == nil {
			return conn, nil
		}
		if n >= rules.Attempts || !allows(&rules, err) || !d.again(rt, &rules, n) {
			return nil, err
		}
		now = time.Now()
	}
}

// again waits before another attempt, and reports whether there may be one.
func (d *dialing) again(rt *route, rules *connmodel.Retry, n int) bool {
	a := &d.attempt
	if a.stopped {
		return false
	}
	if len(a.picks) > 0 && !a.picks[0].pool.budget.take(time.Now()) { // the outermost pool's budget
		return false
	}
	another := rt.choices > 1 && !d.tried.spent(rt)
	return pause(d.ctx, backoff(rules, n, another), d.deadline)
}

// try makes one attempt, and tells the members that were chosen how it went.
func (d *dialing) try(rt *route, r *connmodel.Recorder, start time.Time) (*Conn, *connmodel.ConnError) {
	a := &d.attempt
	a.begin(d, rt, start)
	if r != nil {
		a.rec = r.BeginAttempt(a.name)
	}
	if err := a.lease(); err != nil {
		return nil, a.fail(err, start)
	}
	conn, err := a.run()
	if err != nil {
		a.leased().release()
		return nil, a.fail(err, start)
	}
	conn.lease = a.keep()
	conn.Key = d.t.Key(d.q, conn.Absolute)
	a.connected(conn, r, start)
	return conn, nil
}

// begin chooses the way.
func (a *attempt) begin(d *dialing, rt *route, now time.Time) {
	*a = attempt{d: d}
	if rt.way != nil { // nothing to choose: the table's own slice and name
		a.hops, a.name = rt.way.hops, rt.way.name
		return
	}
	a.picks, a.hops = a.pickRoom[:0], a.hopRoom[:0]
	a.choose(rt, now)
	if a.name == "" {
		a.name = wayName(a.hops)
	}
	if d.attempts++; d.attempts == 1 {
		a.picks[0].pool.budget.dialed(now)
	}
}

func (a *attempt) choose(rt *route, now time.Time) {
	switch {
	case rt.way != nil:
		a.hops = append(a.hops, rt.way.hops...)
	case rt.pool != nil:
		m, probe := rt.pool.choose(a.d, now)
		i := len(a.picks)
		a.picks = append(a.picks, pick{pool: rt.pool, member: m, first: len(a.hops), probe: probe})
		if i == 0 && m.route.way != nil && len(a.hops) == 0 {
			a.name = m.route.way.name
		}
		a.choose(m.route, now)
		a.picks[i].last = len(a.hops)
	default:
		for _, p := range rt.parts {
			a.choose(p, now)
		}
		a.name = ""
	}
}

// lease takes a place at every hop, within the limits.
func (a *attempt) lease() *HopError {
	for i := range a.picks {
		a.picks[i].member.open.Add(1)
	}
	for i, h := range a.hops {
		n := h.state.open.Add(1)
		if most := h.spec.MaxConnections; most > 0 && n > int64(most) {
			for _, taken := range a.hops[:i+1] {
				taken.state.open.Add(-1)
			}
			for i := range a.picks {
				a.picks[i].member.open.Add(-1)
			}
			return a.failure(i+1, connmodel.PhaseDial, &limitError{most})
		}
	}
	return nil
}

func (a *attempt) leased() *lease { return &lease{hops: a.hops, picks: a.picks} }

// keep returns the lease for a connection, which outlives the attempt.
func (a *attempt) keep() lease {
	if len(a.picks) == 0 {
		return lease{hops: a.hops}
	}
	l := lease{hops: append([]*Hop(nil), a.hops...), picks: append([]pick(nil), a.picks...)}
	return l
}

// connected ends a good attempt.
func (a *attempt) connected(conn *Conn, r *connmodel.Recorder, start time.Time) {
	if a.rec.Recorder() != nil {
		local, peer := ends(a.base)
		a.rec.Connected(local, peer)
		if a.tls != nil {
			r.ServerTLSEstablished(a.tls)
		}
	}
	for _, h := range a.hops {
		h.state.attempts.Add(1)
	}
	if len(a.picks) > 0 {
		now := time.Now()
		for i := range a.picks {
			p := &a.picks[i]
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
	for i, h := range a.hops {
		h.state.attempts.Add(1)
		if err.Blame == connmodel.BlameProxy && err.Hop == i+1 {
			h.state.failures.Add(1)
			h.state.last.Store(&failure{now, err})
		}
	}
	a.blame(err, he, now)
	return err
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

// failure makes the error of what went wrong at a hop, or at the server (index len(hops)+1).
func (a *attempt) failure(hop int, phase connmodel.Phase, err error) *HopError {
	e := &HopError{Hop: hop, Address: a.address(hop), Hops: len(a.hops), Phase: phase, Err: err, hasty: a.hasty}
	if hop <= len(a.hops) {
		e.Upstream, e.Scheme, e.Beyond = a.hops[hop-1].spec.Name, a.hops[hop-1].spec.Scheme, a.address(hop+1)
	}
	if hop < len(a.hops) {
		e.Next = a.hops[hop].spec.Name
	}
	if cause := a.d.ctx.Err(); cause != nil && !errors.Is(err, context.Canceled) {
		e.Err = &canceledError{cause: cause, during: err}
	}
	return e
}
