package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// planKind is what plan says of a flow, in the order in which it says it.
type planKind uint8

const (
	planDenied  planKind = iota // it went, and would be refused
	planAllowed                 // it was refused, and would go
	planMoved                   // it would go another way
	planOpen                    // it cannot be told
	planGone                    // its listener is not there any more
	planKinds
	planSame = planKinds // the same would be done
)

// Bounds of what is kept of a replay. What is beyond is counted, and said to be.
const (
	maxPlanGroups  = 1000 // per kind and worker
	maxPlanTargets = 256  // different ones in a group
	maxPlanCounted = 4096 // different clients, and users, in a group
	maxGenerations = 1000
	maxPlanFits    = 8192 // ways that are remembered to fit a route
)

// planKey is what the flows of a group have in common.
type planKey struct {
	from, to fate
	was, by  planRule
}

// planGroup is the flows of which the same is to be said.
type planGroup struct {
	planKey
	flows, up, down int64
	clients         distinct[netip.Addr]
	users           distinct[string]
	first, last     time.Time
	targets         map[string]*planTarget
	moreTargets     bool
}

// planTarget is what flows of a group asked for.
type planTarget struct {
	flows int64
	// The flow that is shown: the latest.
	id     connmodel.ID
	at     time.Time
	client netip.Addr
	user   string
}

// distinct counts different values, up to a bound.
type distinct[T comparable] struct {
	seen map[T]struct{}
	more bool // there were more
}

func (d *distinct[T]) add(v T) {
	if _, have := d.seen[v]; have {
		return
	}
	if len(d.seen) >= maxPlanCounted {
		d.more = true
		return
	}
	if d.seen == nil {
		d.seen = map[T]struct{}{}
	}
	d.seen[v] = struct{}{}
}

func (d *distinct[T]) join(o *distinct[T]) {
	for v := range o.seen {
		d.add(v)
	}
	d.more = d.more || o.more
}

func (g *planGroup) add(r *connmodel.Flow, f *connmodel.Facts) {
	g.flows++
	g.up += r.Up
	g.down += r.Down
	if a := f.Client.Addr(); a.IsValid() {
		g.clients.add(a)
	}
	if f.User != "" {
		g.users.add(f.User)
	}
	if g.first.IsZero() || r.Start.Before(g.first) {
		g.first = r.Start
	}
	if r.Start.After(g.last) {
		g.last = r.Start
	}
	name := r.Target.String()
	t := g.targets[name]
	if t == nil {
		if len(g.targets) >= maxPlanTargets {
			g.moreTargets = true
			return
		}
		if g.targets == nil {
			g.targets = map[string]*planTarget{}
		}
		t = &planTarget{}
		g.targets[name] = t
	}
	if t.flows++; t.at.IsZero() || r.Start.After(t.at) || r.Start.Equal(t.at) && slices.Compare(r.ID[:], t.id[:]) > 0 {
		t.id, t.at, t.client, t.user = r.ID, r.Start, f.Client.Addr(), f.User
	}
}

func (g *planGroup) join(o *planGroup) {
	g.flows += o.flows
	g.up += o.up
	g.down += o.down
	g.clients.join(&o.clients)
	g.users.join(&o.users)
	if g.first.IsZero() || !o.first.IsZero() && o.first.Before(g.first) {
		g.first = o.first
	}
	if o.last.After(g.last) {
		g.last = o.last
	}
	g.moreTargets = g.moreTargets || o.moreTargets
	for name, t := range o.targets {
		switch have := g.targets[name]; {
		case have != nil:
			have.flows += t.flows
			if t.at.After(have.at) || t.at.Equal(have.at) && slices.Compare(t.id[:], have.id[:]) > 0 {
				have.id, have.at, have.client, have.user = t.id, t.at, t.client, t.user
			}
		case len(g.targets) >= maxPlanTargets:
			g.moreTargets = true
		default:
			if g.targets == nil {
				g.targets = map[string]*planTarget{}
			}
			g.targets[name] = t
		}
	}
}

// planTally is what a replay has counted.
type planTally struct {
	flows      int64 // replayed
	notAsked   int64 // that no policy was asked about
	same       int64
	otherRule  int64 // of those: taken by another rule
	scripted   int64 // that would go where a PAC script says
	groups     [planKinds]map[planKey]*planGroup
	rest       [planKinds]planGroup // of groups beyond the bound
	restGroups [planKinds]int64
	first      time.Time
	last       time.Time
	latest     uint64 // generation of the last
	generation map[uint64]int64
}

func (t *planTally) join(o *planTally) {
	t.flows += o.flows
	t.notAsked += o.notAsked
	t.same += o.same
	t.otherRule += o.otherRule
	t.scripted += o.scripted
	if t.first.IsZero() || !o.first.IsZero() && o.first.Before(t.first) {
		t.first = o.first
	}
	if o.last.After(t.last) {
		t.last, t.latest = o.last, o.latest
	}
	for g, n := range o.generation {
		t.ofGeneration(g, n)
	}
	for kind := range o.groups {
		for key, g := range o.groups[kind] {
			t.group(planKind(kind), key).join(g)
		}
		t.rest[kind].join(&o.rest[kind])
		t.restGroups[kind] += o.restGroups[kind]
	}
}

func (t *planTally) ofGeneration(g uint64, n int64) {
	if t.generation == nil {
		t.generation = map[uint64]int64{}
	}
	if _, have := t.generation[g]; have || len(t.generation) < maxGenerations {
		t.generation[g] += n
	}
}

func (t *planTally) group(kind planKind, key planKey) *planGroup {
	g := t.groups[kind][key]
	if g == nil {
		if len(t.groups[kind]) >= maxPlanGroups {
			t.restGroups[kind]++
			return &t.rest[kind]
		}
		if t.groups[kind] == nil {
			t.groups[kind] = map[planKey]*planGroup{}
		}
		g = &planGroup{planKey: key}
		t.groups[kind][key] = g
	}
	return g
}

// total is everything that is to be said of one kind.
func (t *planTally) total(kind planKind) (all planGroup) {
	for _, g := range t.sorted(kind) {
		all.flows += g.flows
		all.up += g.up
		all.down += g.down
		all.clients.join(&g.clients)
		all.users.join(&g.users)
	}
	r := &t.rest[kind]
	all.flows += r.flows
	all.up += r.up
	all.down += r.down
	all.clients.join(&r.clients)
	all.users.join(&r.users)
	return all
}

// sorted are the groups of a kind, the largest first.
func (t *planTally) sorted(kind planKind) []*planGroup {
	var all []*planGroup
	for _, g := range t.groups[kind] {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *planGroup) int {
		return cmp.Or(cmp.Compare(b.flows, a.flows), strings.Compare(a.by.text(), b.by.text()), strings.Compare(a.was.text(), b.was.text()),
			strings.Compare(a.to.text(), b.to.text()), strings.Compare(a.from.text(), b.from.text()))
	})
	return all
}

// planReplay asks a policy what it would do with recorded flows, and compares. Its methods may be called from any goroutine.
type planReplay struct {
	next *planSide
	old  *planSide // what it is compared with; nil = what was done

	mu   sync.Mutex
	all  []*planWorker
	free chan *planWorker
	done atomic.Int64 // flows
	at   atomic.Int64 // start of the last one, in Unix nanoseconds: for the progress bar
}

// planWorker is the part of one goroutine at a time.
type planWorker struct {
	tally planTally
	facts connmodel.Facts
	other connmodel.Facts
	fits  map[[2]string]bool
}

func newPlanReplay(next, old *planSide) *planReplay {
	return &planReplay{next: next, old: old, free: make(chan *planWorker, 64)}
}

// take replays one flow. It never fails; the error is for those who call it for each.
func (p *planReplay) take(r *connmodel.Flow) error {
	var w *planWorker
	select {
	case w = <-p.free:
	default:
		w = &planWorker{}
		p.mu.Lock()
		p.all = append(p.all, w)
		p.mu.Unlock()
	}
	w.take(p, r)
	select {
	case p.free <- w:
	default: // stays in all
	}
	p.done.Add(1)
	p.at.Store(r.End.UnixNano())
	return nil
}

// tally is what all have counted. No flow may be taken meanwhile.
func (p *planReplay) tally() *planTally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &planTally{}
	for _, w := range p.all {
		t.join(&w.tally)
	}
	return t
}

func (w *planWorker) take(p *planReplay, r *connmodel.Flow) {
	f, t := &w.facts, &w.tally
	t.flows++
	if t.first.IsZero() || r.Start.Before(t.first) {
		t.first = r.Start
	}
	if r.Start.After(t.last) {
		t.last, t.latest = r.Start, r.Generation
	}
	missing := r.FactsTo(f)
	was, wasBy, asked := wasOf(r, f)
	if !asked {
		t.notAsked++
		return
	}
	t.ofGeneration(r.Generation, 1)
	var is fate
	var by planRule
	if missing&connmodel.MissingCut != 0 {
		is = fate{kind: fateOpen, why: connmodel.MissingCut.Words()[0]}
	} else {
		if p.old != nil {
			w.other = *f
			was, wasBy = p.old.judge(&w.other)
		}
		is, by = p.next.judge(f)
	}
	kind := w.compare(p, r, &was, &is)
	if is.kind == fateVia && p.next.ways.scripted(is.route) {
		t.scripted++
	}
	if kind == planSame {
		if t.same++; by.Policy != wasBy.Policy || by.Rule != wasBy.Rule {
			t.otherRule++
		}
		return
	}
	if was.kind == fateOpen { // of the policy it is compared with
		is.why = "the other policy asks for " + was.why
		by, wasBy = wasBy, planRule{}
		was = fate{kind: fateOpen}
	}
	t.group(kind, planKey{from: was, to: is, was: wasBy, by: by}).add(r, f)
}

// compare says what is to be said of a flow. It puts into was and is what makes them differ where their names do not.
func (w *planWorker) compare(p *planReplay, r *connmodel.Flow, was, is *fate) planKind {
	switch {
	case is.kind == fateGone && was.kind != fateGone:
		return planGone
	case is.kind == fateOpen || was.kind == fateOpen:
		is.kind = fateOpen
		return planOpen
	case was.kind == fateGone && is.kind == fateGone:
		return planSame
	}
	goes, went := is.kind == fateVia, was.kind == fateVia
	switch {
	case went && !goes:
		return planDenied
	case goes && !went:
		return planAllowed
	case !goes:
		return planSame
	}
	if p.old != nil { // chains that are written in place are named after their rule: what counts is what they consist of
		before, now := p.old.ways.inPlace(was.route), p.next.ways.inPlace(is.route)
		switch {
		case before != "" && before == now:
			was.route = is.route
		case was.route == is.route && before != now:
			was.why, is.why = "by "+before, "by "+now
			return planMoved
		}
	}
	if was.route != is.route || was.server != is.server || was.tls != is.tls {
		return planMoved
	}
	if p.old == nil && r.Server != nil && !w.fit(p, is.route, r.Server.Route) {
		was.why, is.why = "by "+r.Server.Route, "by others: "+r.Server.Route+" is not among its ways any more"
		return planMoved
	}
	return planSame
}

func (w *planWorker) fit(p *planReplay, route, went string) bool {
	if route == went {
		return true
	}
	key := [2]string{route, went}
	ok, known := w.fits[key]
	if !known {
		if w.fits == nil || len(w.fits) >= maxPlanFits {
			w.fits = map[[2]string]bool{}
		}
		ok = p.next.ways.fits(route, went)
		w.fits[key] = ok
	}
	return ok
}
