package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/proxyproto"
	"viaduct/upstream/resolve"
)

// Table is all routes of one configuration. It is immutable but for counters and health, and may be used from any
// goroutine. Connections outlive Close.
type Table struct {
	id        uint64
	resolver  resolve.Resolver
	resolvers []resolve.Resolver // with that one
	direct    *socket
	dialTime  time.Duration // for direct
	tlsTime   time.Duration // for the server
	routes    map[string]*route
	hops      []*Hop  // as declared
	pools     []*pool // as declared
	sessions  sessionCaches
	lanes     lanes
	certs     certWatch
	settled   settled
	watcher   *watcher      // nil = nothing is checked
	changed   func(*Change) // may be nil
	rules     []func()      // what the table says of what tables before know, too: until Begin
	checks    bool          // there are to be some

	life    context.Context // until Close
	stop    context.CancelFunc
	probing sync.WaitGroup
}

var tableIDs atomic.Uint64

// route is a compiled route: a fixed way, a pool, or a chain with a choice in it.
type route struct {
	name    string
	way     *way     // nothing is to choose
	pool    *pool    // a choice
	parts   []*route // one after the other
	dynamic *dynamic // somebody else chooses, for each flow
	asks    []ask    // the choices of others in it, in the order of its parts; nil = there are none, and it is ready to be gone
	tries   int      // attempts where the retry rules do not say; 0 = two where there is a choice
	key     string   // what a connection is kept by, for a route that was settled; "" = its name
	depth   int      // proxies on the longest way
	choices int      // members of the widest pool in it, at least 1
	retry   *connmodel.Retry
	sticky  bool // a pool in it chooses by target
	client  bool // a proxy in it is shown what the client has proved
}

// way is proxies one after the other, none for direct.
type way struct {
	name string // "corp_a > jump"; "direct"
	hops []*Hop
}

// NewTable builds a table. Health, counters and limits of upstreams and pool members that did not change go on from prev,
// which may be nil and stays usable; closing prev is the caller's. All errors are reported, joined. A table that was not made, or is thrown away
// without Begin where Config.Later says so, has changed nothing of prev.
func NewTable(c Config, prev *Table) (*Table, error) {
	t := &Table{
		id:       tableIDs.Add(1),
		resolver: c.Resolver,
		direct:   newSocket(c.Direct.SourceAddress, c.Direct.Interface, c.Direct.KeepAlive, c.Direct.Mark),
		dialTime: orDefault(c.Direct.DialTimeout, defaultHopTimeout),
		tlsTime:  orDefault(c.Direct.TLSTimeout, defaultHopTimeout),
		routes:   make(map[string]*route),
		certs:    certWatch{c.WarnBefore, c.CertificateWarning},
		changed:  c.Changed,
		checks:   !c.NoChecks,
	}
	if t.resolver == nil {
		t.resolver = resolve.System()
	}
	t.resolvers = append(slices.Clone(c.Resolvers), t.resolver)
	b := &builder{t: t, prev: prev, pools: make(map[string]*PoolSpec), chains: make(map[string]*ChainSpec), logins: make(map[any]*login), choice: make(map[string]*DynamicSpec), direct: &c.Direct}
	b.build(&c)
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.life, t.stop = ctx, stop
	t.lanes.open = make(map[string]*lane)
	if !c.Later {
		t.Begin()
	}
	return t, nil
}

// Begin puts the rules of the table in force for what it shares with tables before, and starts its checks. It is for tables made with Config.Later,
// once, before Close.
func (t *Table) Begin() {
	for _, rule := range t.rules {
		rule()
	}
	t.rules = nil
	if t.checks {
		t.startChecks(t.life)
	}
}

// Close ends the active checks and waits for them. Connections and dials under way go on; connections to proxies that are kept for further
// tunnels end with the last of those they carry.
func (t *Table) Close() {
	t.stop()
	t.lanes.close()
	for _, h := range t.hops {
		if h.warm != nil {
			h.warm.close()
		}
	}
	t.probing.Wait()
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// builder compiles the specifications. References are resolved depth first, so that cycles show.
type builder struct {
	t      *Table
	prev   *Table
	pools  map[string]*PoolSpec
	chains map[string]*ChainSpec
	logins map[any]*login
	choice map[string]*DynamicSpec
	direct *DirectSpec
	open   []string // names being compiled, outermost first
	errs   []error
}

func (b *builder) fail(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

// rule is what is done once the table is in force.
func (b *builder) rule(f func()) { b.t.rules = append(b.t.rules, f) }

func (b *builder) build(c *Config) {
	b.t.routes[connmodel.RouteDirect] = &route{name: connmodel.RouteDirect, way: &way{name: connmodel.RouteDirect}, choices: 1}
	for i := range c.Upstreams {
		s := &c.Upstreams[i]
		name := "upstream." + s.Name
		if b.t.routes[name] != nil {
			b.fail("%s is declared twice", name)
			continue
		}
		prev := b.prev.hop(s.Name)
		h, err := newHop(*s, c.Guard, prev)
		if err != nil {
			b.fail("%s: %w", name, err)
			continue
		}
		h.login = b.login(h, prev)
		if s.Health != nil {
			if h.vital = newHealth(EjectSpec{Disabled: true}); prev != nil && prev.vital != nil && prev.state == h.state {
				h.vital = prev.vital
			}
			b.rule(func() { h.vital.of("", name, c.Changed).with(EjectSpec{Disabled: true}, s.Health) })
		}
		if h.resolver = s.Resolver; h.resolver == nil {
			h.resolver = b.t.resolver
		}
		b.t.hops = append(b.t.hops, h)
		b.t.routes[name] = &route{name: name, way: &way{name: s.Name, hops: []*Hop{h}}, depth: 1, choices: 1, client: h.fromClient()}
	}
	for i := range c.Pools {
		if name := "pool." + c.Pools[i].Name; b.pools[name] == nil {
			b.pools[name] = &c.Pools[i]
		} else {
			b.fail("%s is declared twice", name)
		}
	}
	for i := range c.Chains {
		if name := "chain." + c.Chains[i].Name; b.chains[name] == nil {
			b.chains[name] = &c.Chains[i]
		} else {
			b.fail("%s is declared twice", name)
		}
	}
	for i := range c.Dynamic {
		if name := c.Dynamic[i].Name; b.choice[name] == nil && b.pools[name] == nil && b.chains[name] == nil && b.t.routes[name] == nil {
			b.choice[name] = &c.Dynamic[i]
		} else {
			b.fail("%s is declared twice", name)
		}
	}
	for i := range c.Pools {
		b.route("pool." + c.Pools[i].Name)
	}
	for i := range c.Chains {
		b.route("chain." + c.Chains[i].Name)
	}
	for i := range c.Dynamic {
		b.route(c.Dynamic[i].Name)
	}
}

// route compiles the route of that name, or returns nil when that cannot be done, which has been reported then.
func (b *builder) route(name string) *route {
	if r, done := b.t.routes[name]; done {
		return r
	}
	for i, n := range b.open {
		if n == name {
			b.fail("%s leads back to itself: %s", name, strings.Join(append(b.open[i:len(b.open):len(b.open)], name), " > "))
			return nil
		}
	}
	b.open = append(b.open, name)
	var r *route
	switch {
	case b.pools[name] != nil:
		r = b.pool(name, b.pools[name])
	case b.chains[name] != nil:
		r = b.chain(name, b.chains[name])
	case b.choice[name] != nil:
		r = b.dynamic(b.choice[name])
	default:
		from := "the configuration"
		if len(b.open) > 1 {
			from = b.open[len(b.open)-2]
		}
		b.fail("%s names %s, which does not exist", from, name)
	}
	b.open = b.open[:len(b.open)-1]
	if r != nil && r.depth > MaxHops {
		b.fail("%s has up to %d proxies one after the other; at most %d are allowed", name, r.depth, MaxHops)
		r = nil
	}
	b.t.routes[name] = r // nil marks it as reported
	return r
}

func (b *builder) chain(name string, c *ChainSpec) *route {
	r := &route{name: name, choices: 1}
	if len(c.Hops) == 0 {
		b.fail("%s has no hops", name)
		return nil
	}
	fixed := true
	for _, h := range c.Hops {
		part := b.route(h)
		if part == nil {
			return nil
		}
		r.parts = append(r.parts, part)
		r.depth += part.depth
		r.choices = max(r.choices, part.choices)
		r.sticky = r.sticky || part.sticky
		r.client = r.client || part.client
		if r.retry == nil {
			r.retry = part.retry
		}
		fixed = fixed && part.way != nil
	}
	if fixed {
		r.way = joined(r.parts)
	}
	for i, part := range r.parts {
		for _, a := range part.asks {
			if a.to.IsZero() && i+1 < len(r.parts) {
				if a.to = entrance(r.parts[i+1]); a.to.IsZero() {
					b.fail("%s: %s stands before %s, which is no proxy of a known address: what it chooses by is the address of the next hop", name, part.name, r.parts[i+1].name)
					return nil
				}
			}
			r.asks = append(r.asks, a)
		}
	}
	return r
}

// joined is fixed ways one after the other.
func joined(parts []*route) *way {
	w := &way{}
	for _, p := range parts {
		w.hops = append(w.hops, p.way.hops...)
	}
	w.name = wayName(w.hops)
	return w
}

// entrance is the address of the first proxy of a fixed way; zero where there is a choice.
func entrance(r *route) connmodel.Address {
	if r.way == nil || len(r.way.hops) == 0 {
		return connmodel.Address{}
	}
	return r.way.hops[0].spec.Address
}

// wayName joins the names of hops, for records.
func wayName(hops []*Hop) string {
	switch len(hops) {
	case 0:
		return connmodel.RouteDirect
	case 1:
		return hops[0].spec.Name
	}
	var s strings.Builder
	for i, h := range hops {
		if i > 0 {
			s.WriteString(" > ")
		}
		s.WriteString(h.spec.Name)
	}
	return s.String()
}

// Key returns the key that Dial would give the connection for q, for finding a kept one before dialling: absolute for one
// to a proxy that takes any target.
func (t *Table) Key(q *Request, absolute bool) Key {
	r := t.routes[q.Route]
	if r != nil && len(r.asks) > 0 {
		var err *connmodel.ConnError
		if r, err = t.settle(context.Background(), r, q, nil); err != nil {
			return Key{} // of no connection
		}
		return t.key(q, r, r.keyName(), absolute)
	}
	return t.key(q, r, q.Route, absolute)
}

// key is Key for a route that has been chosen.
func (t *Table) key(q *Request, r *route, name string, absolute bool) Key {
	k := Key{table: t.id, Route: name, Target: q.Target, TLS: q.TLS}
	if q.Header != nil {
		k.Header = string(proxyproto.Append(nil, *q.Header))
	}
	if q.upgrade() {
		k.Offer = q.Offer.key()
	}
	if r != nil && r.client && q.Proved != nil {
		k.client = q.Proved.key()
	}
	if absolute {
		if r == nil || !r.sticky {
			k.Target = connmodel.Address{}
		}
	}
	return k
}

// hop finds a hop by name; t may be nil.
func (t *Table) hop(name string) *Hop {
	if t == nil {
		return nil
	}
	for _, h := range t.hops {
		if h.spec.Name == name {
			return h
		}
	}
	return nil
}
