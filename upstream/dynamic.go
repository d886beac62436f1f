package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"viaduct/connmodel"
)

// Chooser picks the ways of a dynamic route for one flow, the first is wanted most. It is asked at the start of dialling, from many
// goroutines at once, and has to answer or fail within a bound of its own. An error is no way at all: it never stands for "direct".
type Chooser interface {
	Choose(ctx context.Context, target connmodel.Address, path string) ([]Candidate, error)
}

// Candidate is one way that a Chooser names.
type Candidate struct {
	Direct  bool
	Address connmodel.Address // of the proxy
	// Schemes are those that the name of the proxy may mean: a declared upstream of that address that has one of them is meant; if
	// there is none, the first is spoken.
	Schemes []string
}

// DynamicSpec is a route whose members somebody else chooses for each flow.
type DynamicSpec struct {
	Name    string  // of the route: "pac.corp"
	Chooser Chooser // nil = nobody: it always fails
	OnError string  // route when the chooser fails; "" = there is none: the flow is refused, or other members of a pool take over
	Refuse  bool    // the flow is refused when the chooser fails, though other members of a pool could take over
	// Undeclared lets the chooser name proxies that are not declared. They are shown no credentials, and must not be at an address that
	// is refused to targets (loopback, link-local, metadata), nor be this gateway itself.
	Undeclared bool
	Owns       func(netip.AddrPort) bool // reports whether this gateway listens there; nil = nowhere
}

// Bounds of what a dynamic route keeps: answers that were made into routes, and members.
const (
	maxChosen  = 1024
	maxMembers = 1024
)

// dynamic is a compiled DynamicSpec. What it was told before is kept, so that health outlives the flow.
type dynamic struct {
	spec    DynamicSpec
	direct  DirectSpec // sockets to proxies that are not declared are like those
	onError *route
	t       *Table
	budget  *budget

	mu      sync.Mutex
	chosen  map[string]*route  // by the names of the members
	members map[string]*member // by the name of their route
}

func (b *builder) dynamic(s *DynamicSpec) *route {
	d := &dynamic{spec: *s, direct: *b.direct, t: b.t, budget: newBudget(), chosen: map[string]*route{}, members: map[string]*member{}}
	r := &route{name: s.Name, dynamic: d, depth: 1, choices: 1, asks: []ask{{d: d}}}
	if s.OnError != "" {
		if d.onError = b.route(s.OnError); d.onError == nil {
			return nil
		}
		if len(d.onError.asks) > 0 {
			b.fail("%s leads to %s on errors, which depends on a choice itself", s.Name, s.OnError)
			return nil
		}
		r.depth, r.client = max(r.depth, d.onError.depth), d.onError.client
	}
	if old := b.prev.dynamicOf(s.Name); old != nil {
		d.budget = old.budget
		old.mu.Lock()
		for name, m := range old.members {
			if now := b.t.routes[name]; now != nil && sameRoute(m.route, now) {
				d.members[name] = &member{route: now, seed: m.seed, health: m.health}
			} else if now == nil && strings.Contains(name, "://") && s.Undeclared {
				if r, err := d.undeclared(name, m.route.way.hops[0].spec, m.route.way.hops[0]); err == nil {
					d.members[name] = &member{route: r, seed: m.seed, health: m.health}
				}
			}
			if d.members[name] != nil {
				b.rule(func() { m.health.of(s.Name, name, b.t.changed) })
			}
		}
		old.mu.Unlock()
	}
	return r
}

// dynamicOf finds a dynamic route by name; t may be nil.
func (t *Table) dynamicOf(name string) *dynamic {
	if t == nil || t.routes[name] == nil {
		return nil
	}
	return t.routes[name].dynamic
}

// choose asks the chooser and makes a route of its answer.
func (d *dynamic) choose(ctx context.Context, to connmodel.Address, path string) (*route, error) {
	if d.spec.Chooser == nil {
		return nil, errors.New("nobody is there to choose")
	}
	list, err := d.spec.Chooser.Choose(ctx, to, path)
	if err != nil {
		return nil, err
	}
	return d.compile(list)
}

// compile makes the pool of an answer, or finds the one that was made of the same before.
func (d *dynamic) compile(list []Candidate) (*route, error) {
	names := make([]string, 0, len(list))
	specs := make([]*Spec, 0, len(list))
	var refused []string
	for _, c := range list {
		name, spec := d.resolve(c)
		if spec != nil && !d.spec.Undeclared {
			refused = append(refused, name)
			continue
		}
		if !slices.Contains(names, name) {
			names, specs = append(names, name), append(specs, spec)
		}
	}
	switch {
	case len(names) == 0 && len(refused) > 0:
		return nil, fmt.Errorf("it names %s, for which there is no upstream block", strings.Join(refused, ", "))
	case len(names) == 0:
		return nil, fmt.Errorf("it names no way")
	}
	key := strings.Join(names, "; ")
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.chosen[key]; r != nil {
		return r, nil
	}
	if len(d.chosen) >= maxChosen {
		clear(d.chosen)
	}
	r := &route{name: d.spec.Name + " (" + key + ")", choices: len(names), tries: len(names)}
	r.pool = &pool{spec: PoolSpec{Name: d.spec.Name, Select: SelectFirstHealthy, FailBack: defaultFailBack}, name: d.spec.Name, budget: d.budget}
	for i, name := range names {
		m, err := d.member(name, specs[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		r.pool.members = append(r.pool.members, m)
		r.depth = max(r.depth, m.route.depth)
		r.client = r.client || m.route.client
	}
	d.chosen[key] = r
	return r, nil
}

// resolve finds the declared upstream that a candidate means, or says how to speak to one that is not declared.
func (d *dynamic) resolve(c Candidate) (route string, undeclared *Spec) {
	if c.Direct {
		return connmodel.RouteDirect, nil
	}
	for _, scheme := range c.Schemes {
		for _, h := range d.t.hops {
			if h.spec.Scheme == scheme && h.spec.Address == c.Address {
				return "upstream." + h.spec.Name, nil
			}
		}
	}
	name := c.Schemes[0] + "://" + c.Address.String()
	return name, &Spec{Name: name, Scheme: c.Schemes[0], Address: c.Address}
}

// member finds or makes a member. Called with mu held.
func (d *dynamic) member(name string, undeclared *Spec) (*member, error) {
	if m := d.members[name]; m != nil {
		return m, nil
	}
	r := d.t.routes[name]
	if undeclared != nil {
		var err error
		if r, err = d.undeclared(name, *undeclared, nil); err != nil {
			return nil, err
		}
	}
	if len(d.members) >= maxMembers { // a script that makes names up; what is in use lives on in the routes that have it
		clear(d.members)
		clear(d.chosen)
	}
	m := &member{route: r, seed: hashString(name), health: newHealth(EjectSpec{}).of(d.spec.Name, name, d.t.changed)}
	d.members[name] = m
	return m, nil
}

// undeclared makes the route of a proxy that is not declared; prev is what is known of it, or nil.
func (d *dynamic) undeclared(name string, s Spec, prev *Hop) (*route, error) {
	s.SourceAddress, s.Interface, s.KeepAlive, s.Mark = d.direct.SourceAddress, d.direct.Interface, d.direct.KeepAlive, d.direct.Mark
	h, err := newHop(s, nil, prev)
	if err != nil {
		return nil, err
	}
	h.resolver, h.check = d.t.resolver, d.permit
	return &route{name: name, way: &way{name: name, hops: []*Hop{h}}, depth: 1, choices: 1}, nil
}

// permit is asked for the addresses of proxies that are not declared.
func (d *dynamic) permit(to netip.AddrPort) error {
	if d.spec.Owns != nil && d.spec.Owns(to) {
		return fmt.Errorf("%s is an address of this gateway itself", to)
	}
	if name, refused := connmodel.RefusedRange(to.Addr()); refused {
		return fmt.Errorf("%s is %s, where a proxy has to be declared by an upstream block", to, name)
	}
	return nil
}
