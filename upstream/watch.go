package upstream

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"

	"viaduct/connmodel"
)

const (
	// maxChecks bounds how many checks of a table are under way at once.
	maxChecks = 128
	// checkSpread is how far apart the first checks of two members are at least, if there is room for that.
	checkSpread = time.Millisecond
	// recheckWithin is the time in which all are checked again when the network has changed.
	recheckWithin = time.Second
)

// watcher makes the active checks of a table, from one goroutine and one more for each check under way. A member that is a
// pool is not checked as such: its own members are, if that pool says so.
type watcher struct {
	t     *Table
	due   schedule
	again chan struct{} // all are to be made soon
}

// watched is one check that is made again and again. Members of several pools by the same way that are asked the same share it.
type watched struct {
	route          *route
	check          *Check
	every, timeout time.Duration
	of             []*health
	goal           *goal // nil = there is no target
	at             time.Time
	cut            bool // it was given up because all are to be made again
}

// schedule is a heap, the earliest first.
type schedule []*watched

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(*watched)) }
func (s *schedule) Pop() any {
	old := *s
	x := old[len(old)-1]
	old[len(old)-1], *s = nil, old[:len(old)-1]
	return x
}

// startChecks begins the active checks until ctx ends; there is no goroutine where there is nothing to check.
func (t *Table) startChecks(ctx context.Context) {
	w := &watcher{t: t, again: make(chan struct{}, 1)}
	known := map[string]*watched{}
	goals := map[connmodel.Address]*goal{}
	add := func(r *route, s *HealthSpec, h *health) {
		c := s.Check.ready()
		key, ok := checkKey(r, c)
		if !ok {
			return
		}
		every := orDefault(s.Every, defaultCheckEvery)
		timeout := orDefault(s.Timeout, min(defaultCheckTimeout, every))
		x := known[key]
		if x == nil {
			x = &watched{route: r, check: c, every: every, timeout: timeout}
			if !c.Target.IsZero() {
				if x.goal = goals[c.Target]; x.goal == nil {
					x.goal = new(goal)
					goals[c.Target] = x.goal
				}
				x.goal.routes++
			}
			known[key] = x
			w.due = append(w.due, x)
		}
		x.every, x.timeout = min(x.every, every), min(x.timeout, timeout)
		x.of = append(x.of, h)
	}
	for _, h := range t.hops {
		if h.vital != nil {
			add(t.routes["upstream."+h.spec.Name], h.spec.Health, h.vital)
		}
	}
	for _, p := range t.pools {
		if p.spec.Health != nil {
			for _, m := range p.members {
				add(m.route, p.spec.Health, m.health)
			}
		}
	}
	if len(w.due) == 0 {
		return
	}
	now := time.Now()
	for _, x := range w.due {
		x.first(now, len(w.due))
	}
	heap.Init(&w.due)
	t.watcher = w
	t.probing.Go(func() { w.run(ctx) })
}

// checkKey tells apart what is to be asked separately; false = the route cannot be asked.
func checkKey(r *route, c *Check) (string, bool) {
	switch {
	case r == nil || r.pool != nil || r.dynamic != nil:
		return "", false
	case c.Kind == CheckTCP || c.Kind == CheckTLS:
		if r.way == nil || len(r.way.hops) == 0 {
			return "", false
		}
		return r.way.hops[0].spec.Name + "\x00" + c.key(), true // the rest of the way is not looked at
	case r.way != nil:
		return r.way.name + "\x00" + c.key(), true
	}
	return r.name + "\x00" + c.key(), true
}

// first plans the first check: soon, or when the table before would have made it.
func (x *watched) first(now time.Time, of int) {
	var last time.Time
	for _, h := range x.of {
		if at := h.asked(); last.IsZero() || at.Before(last) {
			last = at
		}
	}
	within := min(x.every, max(time.Second, time.Duration(of)*checkSpread))
	if x.at = now.Add(rand.N(within)); !last.IsZero() && last.Add(x.every).After(x.at) {
		x.at = last.Add(x.jittered())
	}
	x.plan(x.at)
}

func (x *watched) plan(at time.Time) {
	x.at = at
	for _, h := range x.of {
		h.planned(at)
	}
}

func (x *watched) jittered() time.Duration {
	return x.every - x.every/10 + rand.N(x.every/5+1)
}

// round is checks that are given up together.
type round struct {
	ctx context.Context
	end context.CancelFunc
}

func newRound(ctx context.Context) round {
	ctx, end := context.WithCancel(ctx)
	return round{ctx, end}
}

// run makes the checks when they are due.
func (w *watcher) run(ctx context.Context) {
	done := make(chan *watched)
	running := 0
	now := newRound(ctx)
	defer func() { now.end() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for at := time.Now(); running < maxChecks && len(w.due) > 0 && !w.due[0].at.After(at); {
			x := heap.Pop(&w.due).(*watched)
			running++
			go func(ctx context.Context) {
				x.cut = !w.make(ctx, x)
				done <- x
			}(now.ctx)
		}
		var due <-chan time.Time
		if running < maxChecks && len(w.due) > 0 {
			timer.Reset(time.Until(w.due[0].at))
			due = timer.C
		}
		select {
		case <-due:
		case x := <-done:
			running--
			at := time.Now().Add(x.jittered())
			if x.cut {
				at = time.Now().Add(rand.N(min(recheckWithin, x.every)))
			}
			x.plan(at)
			heap.Push(&w.due, x)
		case <-w.again: // what waits in the network of before waits in vain
			now.end()
			now = newRound(ctx)
			w.hasten()
		case <-ctx.Done():
			for ; running > 0; running-- {
				<-done
			}
			return
		}
	}
}

// hasten makes all checks due.
func (w *watcher) hasten() {
	within := max(recheckWithin, time.Duration(len(w.due))*checkSpread)
	now := time.Now()
	for _, x := range w.due {
		if at := now.Add(rand.N(min(within, x.every))); at.Before(x.at) {
			x.plan(at)
		}
	}
	heap.Init(&w.due)
}

// make makes one check and tells the members; false = it was given up.
func (w *watcher) make(ctx context.Context, x *watched) bool {
	res := w.t.ask(ctx, x.route, x.check, time.Now().Add(x.timeout))
	if ctx.Err() != nil {
		return false
	}
	now := time.Now()
	good := res.Err == nil && res.Short == "" && x.goal != nil
	if good {
		x.goal.good.Store(clock(res.At))
	}
	spared := false
	for _, h := range x.of {
		spared = h.checked(now, res, x.goal) || spared
	}
	if tell := w.t.changed; tell != nil {
		switch {
		case spared && x.goal.lost.CompareAndSwap(false, true):
			tell(&Change{Target: x.check.Target, From: StateHealthy, To: StateDown, Why: res.Err.Message})
		case good && x.goal.lost.CompareAndSwap(true, false):
			tell(&Change{Target: x.check.Target, From: StateDown, To: StateHealthy})
		}
	}
	return true
}
