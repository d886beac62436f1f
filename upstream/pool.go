package upstream

import (
	"slices"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// pool is a compiled PoolSpec.
type pool struct {
	spec    PoolSpec
	name    string // "pool.NAME"
	members []*member
	turn    *atomic.Uint32 // shared with what is made of it for a flow
	budget  *budget
}

// member is one route of a pool with what is known of it there.
type member struct {
	route *route
	seed  uint64 // for rendezvous hashing: depends on the name alone
	*health
}

func (b *builder) pool(name string, s *PoolSpec) *route {
	p := &pool{spec: *s, name: name, budget: newBudget(), turn: new(atomic.Uint32)}
	switch s.Select {
	case "":
		p.spec.Select = SelectFirstHealthy
	case SelectFirstHealthy, SelectRoundRobin, SelectRandom, SelectLeastConnections, SelectFastest, SelectHash:
	default:
		b.fail("%s: select = %q is not a way to select; there are first_healthy, round_robin, random, least_connections, fastest and hash", name, s.Select)
	}
	if s.FailBack == 0 {
		p.spec.FailBack = defaultFailBack
	}
	switch s.HashBy {
	case "", HashByClient, HashByTarget:
	default:
		b.fail("%s: hash_by = %q; it is client or target", name, s.HashBy)
	}
	if len(s.Members) == 0 {
		b.fail("%s has no members", name)
		return nil
	}
	prev := b.prev.pool(name)
	if prev != nil {
		p.budget = prev.budget
	}
	r := &route{name: name, pool: p, retry: s.Retry, choices: len(s.Members)}
	r.sticky = p.spec.Select == SelectHash && s.HashBy == HashByTarget
	for _, n := range s.Members {
		part := b.route(n)
		if part == nil {
			return nil
		}
		for _, have := range p.members {
			if have.route == part {
				b.fail("%s has %s twice", name, n)
				return nil
			}
		}
		r.depth = max(r.depth, part.depth)
		r.choices = max(r.choices, part.choices)
		r.sticky = r.sticky || part.sticky
		r.client = r.client || part.client
		r.asks = append(r.asks, part.asks...)
		m := &member{route: part, seed: hashString(n), health: newHealth(s.Eject)}
		if old := prev.member(part); old != nil {
			m.health = old.health
		}
		b.rule(func() { m.health.of(name, n, b.t.changed).with(s.Eject, s.Health) })
		p.members = append(p.members, m)
	}
	b.t.pools = append(b.t.pools, p)
	return r
}

// pool finds a pool by name; t may be nil.
func (t *Table) pool(name string) *pool {
	if t == nil {
		return nil
	}
	if r := t.routes[name]; r != nil {
		return r.pool
	}
	return nil
}

// member finds the member that is the same route as r was made of before; p may be nil.
func (p *pool) member(r *route) *member {
	if p == nil {
		return nil
	}
	for _, m := range p.members {
		if sameRoute(m.route, r) {
			return m
		}
	}
	return nil
}

// sameRoute reports whether what is known of a holds for b, a route of another table: same name, same proxies.
func sameRoute(a, b *route) bool {
	if a.name != b.name || (a.way == nil) != (b.way == nil) {
		return false
	}
	if a.way == nil {
		return true // what is below it keeps its own health
	}
	if len(a.way.hops) != len(b.way.hops) {
		return false
	}
	for i, h := range a.way.hops {
		if h.state != b.way.hops[i].state { // newHop shares the state of what did not change
			return false
		}
	}
	return true
}

// pick is a choice made for one attempt.
type pick struct {
	pool        *pool
	member      *member
	first, last int  // the member's hops are hops[first:last] of the attempt
	probe       bool // it is the one request that finds out whether an ejected member is back
}

// lease is what a connection holds on to until it is closed.
type lease struct {
	hops  []*Hop
	picks []pick
}

func (l *lease) release() {
	for _, h := range l.hops {
		h.state.open.Add(-1)
	}
	for i := range l.picks {
		l.picks[i].member.open.Add(-1)
	}
}

// Tried is the pool members that failed a flow. The zero value is empty. It belongs to one goroutine.
type Tried struct {
	members []*health
	fixed   []*route // of those, the ways without a choice: the same way is not tried again because it is a member elsewhere, too
}

func (t *Tried) has(m *member) bool {
	return slices.Contains(t.members, m.health) || slices.Contains(t.fixed, m.route)
}

func (t *Tried) add(m *member) {
	if !slices.Contains(t.members, m.health) {
		t.members = append(t.members, m.health)
		if m.route.way != nil {
			t.fixed = append(t.fixed, m.route)
		}
	}
}

// spent reports whether everything that r could choose has been tried.
func (t *Tried) spent(r *route) bool {
	if len(t.members) == 0 {
		return false
	}
	if r.pool != nil {
		for _, m := range r.pool.members {
			if !t.has(m) && !t.spent(m.route) {
				return false
			}
		}
		return true
	}
	if r.way == nil {
		for _, p := range r.parts {
			if t.spent(p) {
				return true
			}
		}
	}
	return false
}

// usable reports whether r can be expected to work: somebody in each of its pools can take a connection now.
func (r *route) usable(now time.Time) bool {
	switch {
	case r.way != nil:
		return r.way.room()
	case r.pool != nil:
		for _, m := range r.pool.members {
			if m.available(now) && m.route.usable(now) {
				return true
			}
		}
		return false
	}
	for _, p := range r.parts {
		if !p.usable(now) {
			return false
		}
	}
	return true
}

// room reports whether every hop is in service, may have one more connection, and is not one whose credential is closed, or that its own checks find down.
func (w *way) room() bool {
	for _, h := range w.hops {
		if h.out.Load() {
			return false
		}
		if h.vital != nil && h.vital.bad.Load() {
			return false
		}
		if p := h.pair(); p != nil && p.Shut() {
			return false
		}
		if h.spec.MaxConnections > 0 && h.state.open.Load() >= int64(h.spec.MaxConnections) {
			return false
		}
	}
	return true
}

// choose picks the member for one attempt: one that has not failed this flow and is well; else one that has not failed it;
// else any. There is always one.
func (p *pool) choose(d *dialing, now time.Time) (*member, bool) {
	var room [16]*member
	set := room[:0]
	for _, m := range p.members {
		if !d.tried.has(m) && !d.tried.spent(m.route) && m.available(now) && m.route.usable(now) {
			set = append(set, m)
		}
	}
	for len(set) > 0 {
		m := p.selectFrom(p.warm(set, now), d, now)
		if ok, probe := m.claim(now); ok {
			return m, probe
		}
		set = without(set, m) // another request is already finding out whether m is back
	}
	for _, m := range p.members {
		if !d.tried.has(m) && !d.tried.spent(m.route) {
			set = append(set, m)
		}
	}
	if len(set) > 0 {
		return soonest(set), false
	}
	for _, m := range p.members {
		if m.available(now) && m.route.usable(now) {
			set = append(set, m)
		}
	}
	if len(set) == 0 {
		return soonest(p.members), false
	}
	m := p.selectFrom(set, d, now)
	_, probe := m.claim(now)
	return m, probe
}

// pinned is the member that the caller wants for pool number i of the way; nil = it does not say, or there is none of that name.
func (p *pool) pinned(names []string, i int) *member {
	if i >= len(names) {
		return nil
	}
	for _, m := range p.members {
		if m.route.name == names[i] {
			return m
		}
	}
	return nil
}

func without(set []*member, m *member) []*member {
	for i := range set {
		if set[i] == m {
			return append(set[:i], set[i+1:]...)
		}
	}
	return set
}

// soonest returns the member that will be let in again first.
func soonest(set []*member) *member {
	best := set[0]
	for _, m := range set[1:] {
		if m.returns().Before(best.returns()) {
			best = m
		}
	}
	return best
}

// retryOf returns the retry rules of a dial: the request's, the route's, or the default of two attempts where there is a
// choice.
func retryOf(q *Request, r *route) connmodel.Retry {
	var out connmodel.Retry
	switch {
	case q.Retry != nil:
		out = *q.Retry
	case r.retry != nil:
		out = *r.retry
	}
	if out.Attempts <= 0 {
		out.Attempts = r.attempts()
	}
	return out
}

// attempts is how many are made where the retry rules do not say.
func (r *route) attempts() int {
	if r.tries > 0 {
		return r.tries
	}
	return min(2, r.choices)
}
