package upstream

import (
	"context"
	"math/rand/v2"
	"time"

	"viaduct/connmodel"
)

// Defaults of HealthSpec.
const (
	defaultCheckEvery   = 10 * time.Second
	defaultCheckTimeout = 10 * time.Second
)

// startProbes begins the active checks, one goroutine for each member that is checked, until ctx ends. A member that is a
// pool is not checked as such: its own members are, if that pool says so.
func (t *Table) startProbes(ctx context.Context) {
	for _, p := range t.pools {
		if p.spec.Health == nil {
			continue
		}
		for _, m := range p.members {
			if m.route.pool != nil || p.spec.Health.Connect.IsZero() && (m.route.way == nil || len(m.route.way.hops) == 0) {
				continue
			}
			t.probing.Go(func() { t.watch(ctx, p, m) })
		}
	}
}

// watch checks m again and again. The first check comes soon, and all of them come at moments of their own.
func (t *Table) watch(ctx context.Context, p *pool, m *member) {
	every := orDefault(p.spec.Health.Every, defaultCheckEvery)
	timeout := min(orDefault(p.spec.Health.Timeout, defaultCheckTimeout), every)
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(min(every, time.Second)))))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		start := time.Now()
		err := t.check(ctx, m, p.spec.Health.Connect, start.Add(timeout))
		if ctx.Err() != nil {
			return
		}
		if err == nil || err.Blame != connmodel.BlameLocal { // our own limits say nothing about it
			now := time.Now()
			m.check(now, max(now.Sub(start), 1), err)
		}
		timer.Reset(every - every/10 + time.Duration(rand.Int64N(int64(every)/5+1)))
	}
}

// check connects to a target through m, or, without a target, to its first hop. Unlike with real traffic a target that
// cannot be reached counts: the check asks whether the member is of use.
func (t *Table) check(ctx context.Context, m *member, target connmodel.Address, deadline time.Time) *connmodel.ConnError {
	if !target.IsZero() {
		conn, err := t.Dial(ctx, &Request{Route: m.route.name, Target: target, Deadline: deadline, Retry: &connmodel.Retry{Attempts: 1}}, nil)
		if err != nil {
			return err
		}
		conn.Close()
		return nil
	}
	d := &dialing{t: t, ctx: ctx, q: &Request{}, deadline: deadline}
	a := &d.attempt
	*a = attempt{d: d, hops: m.route.way.hops}
	conn, err := a.first(a.hops[0].spec.Address)
	if err != nil {
		return classify(err)
	}
	conn.Close()
	return nil
}
