package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
)

// This file makes a route that others choose in (dynamic.go) one that is ready to be gone, for one flow: each chooser is asked once, at the
// start, and what it says takes its place in the pools and chains that name it. All attempts of the flow go by that.

// ask is a question that has to be put to a chooser before a route can be gone.
type ask struct {
	d  *dynamic
	to connmodel.Address // the hop behind it, which it has to reach; zero = the target of the flow
}

// answer is what came of an ask.
type answer struct {
	route *route // nil = no way
	err   error  // why the chooser failed; route is then that of on_error
}

// settled is the routes that were made before, by the route and the answers that they were made of.
type settled struct {
	mu  sync.Mutex
	all map[string]*made
}

type made struct {
	of    []*route // the answers
	route *route
}

// Choices is the answers that a flow got. The zero value is empty. It belongs to one goroutine.
type Choices struct {
	t      *Table
	route  string
	to     connmodel.Address
	path   string
	result []answer
}

// maxTries bounds the attempts that many entries ask for together.
const maxTries = 100

// answers asks the choosers of a route, once for a flow.
func (t *Table) answers(ctx context.Context, rt *route, q *Request) ([]answer, error) {
	if k := q.Choices; k != nil && k.result != nil && k.t == t && k.route == q.Route && k.to == q.Target && k.path == q.Path {
		return k.result, nil
	}
	deadline := q.Deadline
	if deadline.IsZero() {
		deadline = time.Now().Add(defaultDeadline)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	list := make([]answer, len(rt.asks))
	for i, a := range rt.asks {
		if j := slices.Index(rt.asks[:i], a); j >= 0 { // in two places
			list[i] = list[j]
			continue
		}
		to, path := a.to, ""
		if to.IsZero() {
			to, path = q.Target, q.Path
		}
		if list[i].route, list[i].err = a.d.choose(ctx, to, path); list[i].err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, ctx.Err()
			}
			list[i].route = a.d.onError
		}
	}
	if q.Choices != nil {
		*q.Choices = Choices{t, q.Route, q.Target, q.Path, list}
	}
	return list, nil
}

// settle returns the route to go, with what its choosers say in their places.
func (t *Table) settle(ctx context.Context, rt *route, q *Request, rec *connmodel.Recorder) (*route, *connmodel.ConnError) {
	list, err := t.answers(ctx, rt, q)
	if err != nil {
		return nil, &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled, Message: "given up before the route was chosen", Cause: err}
	}
	r, err := t.replaced(rt, list)
	if rec != nil {
		rec.Chose(choices(rt, list, err != nil))
	}
	if err != nil {
		return nil, &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Blame: connmodel.BlameLocal,
			Message: err.Error(), Cause: err}
	}
	return r, nil
}

// replaced is rt with the answers in the places of those who gave them. The error says that there is no way.
func (t *Table) replaced(rt *route, list []answer) (*route, error) {
	for i, a := range list {
		if d := rt.asks[i].d; a.route == nil && d.spec.Refuse {
			return nil, refuses(d, a.err)
		}
	}
	if rt.dynamic != nil {
		if list[0].route == nil {
			return nil, refuses(rt.dynamic, list[0].err)
		}
		return list[0].route, nil
	}
	var key strings.Builder
	key.WriteString(rt.name)
	of := make([]*route, len(list))
	for i, a := range list {
		key.WriteString(" [")
		if of[i] = a.route; a.route != nil {
			key.WriteString(a.route.name)
		}
		key.WriteByte(']')
	}
	s := &t.settled
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.all[key.String()]; m != nil && slices.Equal(m.of, of) { // else what is known of members was forgotten meanwhile
		return m.route, nil
	}
	x := replacing{list: list}
	r, err := x.route(rt)
	if err != nil {
		return nil, err
	}
	if r.depth > MaxHops {
		return nil, fmt.Errorf("%s would have %d proxies one after the other; at most %d are allowed", rt.name, r.depth, MaxHops)
	}
	if r != rt && !slices.Contains(of, r) {
		r.key = key.String()
	}
	if s.all == nil || len(s.all) >= maxChosen {
		s.all = make(map[string]*made)
	}
	s.all[key.String()] = &made{of, r}
	return r, nil
}

// refuses is the error of a flow for which a chooser gave no way, and nothing takes its place.
func refuses(d *dynamic, why error) error {
	return fmt.Errorf("%s gives no way, and the policy says to refuse then: %w", d.spec.Name, why)
}

// replacing puts answers in their places, in the order of the questions.
type replacing struct{ list []answer }

func (x *replacing) route(r *route) (*route, error) {
	switch {
	case len(r.asks) == 0:
		return r, nil
	case r.dynamic != nil:
		a := x.list[0]
		if x.list = x.list[1:]; a.route == nil {
			return nil, refuses(r.dynamic, a.err)
		}
		return a.route, nil
	case r.pool != nil:
		return x.pool(r)
	}
	return x.chain(r)
}

// pool leaves out members that have no way. What is known of the others is shared with the pool itself.
func (x *replacing) pool(r *route) (*route, error) {
	p := *r.pool
	p.members = nil
	out := &route{name: r.name, pool: &p, retry: r.retry, sticky: r.sticky, client: r.client}
	var failed error
	for _, m := range r.pool.members {
		part, err := x.route(m.route)
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		if part != m.route {
			m = &member{route: part, seed: m.seed, health: m.health}
		}
		p.members = append(p.members, m)
		out.depth, out.choices = max(out.depth, part.depth), max(out.choices, part.choices)
		out.tries += part.attempts()
		out.client = out.client || part.client
	}
	if len(p.members) == 0 {
		return nil, failed
	}
	out.choices, out.tries = max(out.choices, len(p.members)), min(out.tries, maxTries)
	return out, nil
}

func (x *replacing) chain(r *route) (*route, error) {
	out := &route{name: r.name, choices: 1, retry: r.retry, sticky: r.sticky}
	fixed := true
	var failed error
	for _, p := range r.parts {
		part, err := x.route(p)
		if err != nil { // the questions behind it are gone through all the same
			failed = err
			continue
		}
		out.parts = append(out.parts, part)
		out.depth += part.depth
		out.choices = max(out.choices, part.choices)
		out.tries += part.attempts() - 1
		out.client = out.client || part.client
		fixed = fixed && part.way != nil
	}
	if failed != nil {
		return nil, failed
	}
	if out.tries = min(out.tries+1, maxTries); fixed {
		out.way = joined(out.parts)
	}
	return out, nil
}

// keyName is what connections by the route are kept by: other answers are another way.
func (r *route) keyName() string {
	if r.key != "" {
		return r.key
	}
	return r.name
}

// Choice is what a route in which others choose would be for a flow.
type Choice struct {
	Hops  []HopInfo
	Asked []Asked
	Err   error // there is no way: the flow would be refused
}

// Asked is one chooser, and what came of asking it.
type Asked struct {
	Route   string            // "pac.corp"
	To      connmodel.Address // it was asked the way there: the next hop of a chain; zero = the target
	Members []HopInfo         // what it names, in its order
	Err     error             // it failed
	OnError string            // then: the route that takes its place; "deny"; "next": the other members of the pool are all that is left
}

// What becomes of a flow whose chooser failed, where no route takes its place.
const (
	OnErrorDeny = "deny"
	OnErrorNext = "next"
)

// Choose returns what a route would be for a flow, or false when nobody chooses in it. It asks the choosers as Dial does.
func (t *Table) Choose(ctx context.Context, q *Request) (Choice, bool) {
	rt := t.routes[q.Route]
	if rt == nil || len(rt.asks) == 0 {
		return Choice{}, false
	}
	list, err := t.answers(ctx, rt, q)
	if err != nil {
		return Choice{Err: err}, true
	}
	var c Choice
	r, err := t.replaced(rt, list)
	if c.Err = err; err == nil {
		c.Hops = r.describe()
	}
	for i, a := range list {
		d := rt.asks[i].d
		x := Asked{Route: d.spec.Name, To: rt.asks[i].to, Err: a.err}
		if a.route != nil && a.err == nil {
			x.Members = a.route.describe()
		} else {
			x.OnError = a.instead(d, err != nil)
		}
		c.Asked = append(c.Asked, x)
	}
	return c, true
}

// instead says what takes the place of a chooser that failed. refused says that there is no way at all.
func (a *answer) instead(d *dynamic, refused bool) string {
	switch {
	case a.route != nil:
		return a.route.name
	case refused || d.spec.Refuse:
		return OnErrorDeny
	}
	return OnErrorNext
}

// Chose writes down what choosers have said for q, whose Choices were asked for before: a kept connection is used, and Dial, which does that itself, is not
// called.
func (t *Table) Chose(q *Request, rec *connmodel.Recorder) {
	rt, k := t.routes[q.Route], q.Choices
	if rt == nil || len(rt.asks) == 0 || rec == nil || k == nil || k.t != t || k.route != q.Route || len(k.result) != len(rt.asks) {
		return
	}
	rec.Chose(choices(rt, k.result, false))
}

// choices is what the record has of answers.
func choices(rt *route, list []answer, refused bool) []connmodel.Choice {
	all := make([]connmodel.Choice, len(list))
	for i := range list {
		a, d := &list[i], rt.asks[i].d
		c := connmodel.Choice{Route: d.spec.Name, To: rt.asks[i].to}
		if a.route != nil && a.err == nil {
			for _, m := range a.route.pool.members {
				c.Ways = append(c.Ways, m.route.name)
			}
		} else {
			c.OnError = a.instead(d, refused)
			if a.err != nil {
				c.Error = a.err.Error()
			}
		}
		all[i] = c
	}
	return all
}
