package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
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
	attempts int      // begun, where there is a choice
	failed   []string // the ways of attempts that failed
	own      Tried    // when the request brings none
	lent     bool     // a registered dialer was given a reference
}

// dialings are used again: one is a kilobyte and a half, and lives as long as a handshake.
var dialings = sync.Pool{New: func() any { return new(dialing) }}

// done gives d back, unless a registered dialer may still hold it.
func (d *dialing) done() {
	if !d.lent {
		*d = dialing{}
		dialings.Put(d)
	}
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
	d := dialings.Get().(*dialing)
	d.t, d.ctx, d.q, d.tried, d.target, d.deadline = t, ctx, q, q.Tried, q.Target.IP(), q.Deadline
	defer d.done()
	now := time.Now()
	if d.deadline.IsZero() {
		d.deadline = now.Add(defaultDeadline)
	}
	if d.tried == nil {
		d.tried = &d.own
	}
	name := q.Route
	if len(rt.asks) > 0 {
		var err *connmodel.ConnError
		if rt, err = t.settle(ctx, rt, q, r); err != nil {
			return nil, err
		}
		name = rt.keyName()
	}
	if q.Datagrams != nil {
		d.tried.passOver(rt)
	}
	rules := retryOf(q, rt)
	if rules.Deadline > 0 && now.Add(rules.Deadline).Before(d.deadline) {
		d.deadline = now.Add(rules.Deadline)
	}
	for n := 1; ; n++ {
		conn, err := d.try(rt, r, now)
		if err == nil {
			conn.Key = t.key(q, rt, name, conn.Absolute)
			return conn, nil
		}
		d.failed = append(d.failed, d.attempt.name)
		if n >= rules.Attempts || !allows(&rules, err) || !d.again(rt, &rules, n, err) {
			return nil, d.inAll(err)
		}
		now = time.Now()
	}
}

// inAll says of the error of the last attempt how many there were, and by which ways: each has its own error in the record, but whoever is
// told of the flow's alone must not think that nothing else was tried.
func (d *dialing) inAll(last *connmodel.ConnError) *connmodel.ConnError {
	if len(d.failed) < 2 || last.Kind == connmodel.KindCanceled {
		return last
	}
	e := *last
	e.Message = fmt.Sprintf("%d attempts failed (%s); the last: %s", len(d.failed), listed(d.failed), last.Message)
	return &e
}

// listed joins names, each of them once, and not too many.
func listed(names []string) string {
	const most = 8
	var once []string
	for _, n := range names {
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	if more := len(once) - most; more > 0 {
		return strings.Join(once[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(once, ", ")
}

// again waits before another attempt, and reports whether there may be one.
func (d *dialing) again(rt *route, rules *connmodel.Retry, n int, err *connmodel.ConnError) bool {
	a := &d.attempt
	another := rt.choices > 1 && !d.tried.spent(rt)
	if a.stopped || !another && err.Phase == connmodel.PhaseResolve { // asking our name servers again gives the same answer
		return false
	}
	if len(a.picks) > 0 && !a.picks[0].pool.budget.take(time.Now()) { // the outermost pool's budget
		return false
	}
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
	defer a.abandon()
	conn, err := a.run()
	a.settled = true
	if err != nil {
		a.leased().release()
		return nil, a.fail(err, start)
	}
	conn.lease = a.keep()
	a.connected(start)
	return conn, nil
}

// begin chooses the way.
func (a *attempt) begin(d *dialing, rt *route, now time.Time) {
	*a = attempt{d: d, number: len(d.failed) + 1}
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
		i := len(a.picks)
		m, probe := rt.pool.pinned(a.d.q.Pin, i), false
		if m == nil {
			m, probe = rt.pool.choose(a.d, now)
		}
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

// lease takes a place at every hop, within the limits. There is none at a hop that is out of service.
func (a *attempt) lease() *HopError {
	for i, h := range a.hops {
		if h.out.Load() {
			a.stopped = len(a.picks) == 0 // there is no other way, and no use in waiting for one
			return a.failure(i+1, connmodel.PhaseDial, errDrained)
		}
	}
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

// abandon gives everything back when the guard or a registered dialer panicked: the panic goes on, the limits must not
// keep counting.
func (a *attempt) abandon() {
	if a.settled {
		return
	}
	if l := a.steps.login; l != nil {
		l.attempt.Silent()
	}
	a.drop()
	a.leased().release()
	for i := range a.picks {
		a.picks[i].member.undecided(a.picks[i].probe)
	}
	a.rec.Fail(&connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
		Blame: connmodel.BlameLocal, Message: "the attempt panicked"})
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

// failure makes the error of what went wrong at a hop, or at the server (index len(hops)+1).
func (a *attempt) failure(hop int, phase connmodel.Phase, err error) *HopError {
	e := &HopError{Hop: hop, Address: a.address(hop), Hops: len(a.hops), Phase: phase, Err: err, hasty: a.hasty}
	if hop <= len(a.hops) {
		e.Upstream, e.Scheme, e.Beyond = a.hops[hop-1].spec.Name, a.hops[hop-1].spec.Scheme, a.address(hop+1)
	}
	if hop < len(a.hops) {
		e.Next = a.hops[hop].spec.Name
	}
	e.client = hop <= len(a.hops) && a.hops[hop-1].fromClient()
	if cause := a.d.ctx.Err(); cause != nil && !errors.Is(err, context.Canceled) {
		e.Err = &canceledError{cause: cause, during: err}
	}
	return e
}
