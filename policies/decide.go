package policies

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync"

	"viaduct/connmodel"
	"viaduct/policies/lists"
	"viaduct/policies/match"
)

// Program is a compiled policy. It is immutable and safe for concurrent use, and satisfies connmodel.Decider.
//
// Each match block has become one or two clauses, numbered in the order they must be tried. The indexes say which clauses
// come into question for a flow; what they cannot say is verified clause by clause, in order, and the first that holds
// takes the flow. A decision is made at load, and every flow that the clause takes gets the same one.
type Program struct {
	name     string
	rules    []*rule
	clauses  []clause
	fallback *connmodel.Decision // of otherwise, or the denial where there is none
	index    index
	live     []*liveList
	headers  []string  // see Headers
	few      int       // fewCandidates
	scratch  sync.Pool // of *scratch
}

// clause is a match block, or one half of it: that whose hosts the index decides, or that whose hosts are wild.
type clause struct {
	rule       *rule
	tests      *tests // as written; nil = everything
	rest       *tests // what no index decides; nil = nothing
	asks       bool   // the addresses of a name
	exactUsers bool   // the users are names without wildcards
	decision   *connmodel.Decision
}

// index finds candidates. For each attribute there are the clauses that do not test it.
type index struct {
	hosts               *match.HostIndex
	ports               *match.PortIndex
	clients, addresses  *match.NetworkIndex
	users, listeners    map[string][]uint32
	noHost, noPort      match.Bits // nil = no clause tests it
	noClient, noAddress match.Bits
	noUser, noListener  match.Bits
	all                 match.Bits
	resolving           match.Bits // clauses whose address may be resolved, and those without one
}

// scratch is room for one evaluation.
type scratch struct {
	found, one match.Bits
	open       match.Bits // clauses that come into question only because it is not known what is in a list
	in         sets
}

// verdict is the outcome of a test when facts may be missing. Everything above yes depends on some, and says on which.
type verdict uint8

const (
	no verdict = iota
	yes
)

// unknown is the verdict that depends on facts; need is not 0.
func unknown(need connmodel.Need) verdict { return verdict(need) << 1 }

// need is what the verdict depends on; 0 = it is known.
func (v verdict) need() connmodel.Need { return connmodel.Need(v >> 1) }

// and is the verdict of two tests that must both hold.
func (v verdict) and(o verdict) verdict {
	switch {
	case v == no || o == no:
		return no
	case v == yes:
		return o
	case o == yes:
		return v
	}
	return v | o
}

// first is what of a need is gathered first: the addresses, because a look at the client's first bytes makes the client be told yes
// before anything is reached.
func first(need connmodel.Need) connmodel.Need {
	if need&connmodel.NeedAddresses != 0 {
		return connmodel.NeedAddresses
	}
	return need
}

// Decide implements connmodel.Decider.
func (p *Program) Decide(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
	if len(p.clauses) == 0 {
		return p.fallback, 0
	}
	s := p.scratch.Get().(*scratch)
	direct := p.candidates(s, f, nil)
	d, need := p.settle(p.walk(s, direct, f, nil), f, s.in)
	p.scratch.Put(s)
	return d, need
}

// lacking reports whether the addresses of the target are not known. A literal target is its own address.
func lacking(f *connmodel.Facts) bool {
	return f.Have&connmodel.NeedAddresses == 0 && !f.TargetIP.IsValid()
}

// fewCandidates is how many clauses are rather verified one by one than by asking three more indexes.
const fewCandidates = 16

// candidates puts into s.found the clauses that the indexes do not exclude. The indexes that narrow most come first. When
// few clauses are left, those of listeners, users and ports are not asked, and direct is true: walk makes these tests
// itself. The tracer keeps what each index left.
func (p *Program) candidates(s *scratch, f *connmodel.Facts, t *tracer) (direct bool) {
	x := &p.index
	s.found.Set(x.all)
	if p.live != nil {
		s.take(p)
	}
	if x.noHost != nil && f.Lacks(connmodel.NeedName) == 0 {
		s.one.Set(x.noHost)
		x.hosts.Mark(s.one, f.Target.Host)
		if ip := addressBeside(f); ip != "" {
			x.hosts.Mark(s.one, ip)
		}
		if p.live != nil {
			s.mark(p, (*liveList).ofHosts, func(l *lists.Set) bool { return l.Host(f.Target.Host) || f.NamedInside() && l.Host(addressBeside(f)) })
		}
		s.found.And(s.one)
		t.keep(byHost, s.one)
	}
	if x.noClient != nil {
		s.one.Set(x.noClient)
		if a := f.Client.Addr(); a.IsValid() {
			x.clients.Mark(s.one, a)
			if p.live != nil {
				s.mark(p, (*liveList).ofClients, func(l *lists.Set) bool { return l.Network(a) })
			}
		}
		s.found.And(s.one)
		t.keep(byClient, s.one)
	}
	if x.noAddress != nil {
		p.markAddresses(s, f)
		s.found.And(s.one)
		t.keep(byAddress, s.one)
	}
	if few(s.found, p.few) {
		return true
	}
	if x.noListener != nil {
		s.one.Set(x.noListener)
		s.one.Add(x.listeners[f.Listener]...)
		s.found.And(s.one)
		t.keep(byListener, s.one)
	}
	if x.noUser != nil {
		s.one.Set(x.noUser)
		s.one.Add(x.users[f.User]...)
		s.found.And(s.one)
		t.keep(byUser, s.one)
	}
	if x.noPort != nil {
		s.one.Set(x.noPort)
		x.ports.Mark(s.one, f.Target.Port)
		s.found.And(s.one)
		t.keep(byPort, s.one)
	}
	return false
}

func few(b match.Bits, most int) bool {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n <= most
}

// direct makes the tests of the indexes that were not asked, and returns the first that does not hold.
func (c *clause) direct(f *connmodel.Facts) attribute {
	t := c.tests
	switch {
	case t == nil:
		return byNothing
	case t.listeners != nil && !slices.Contains(t.listeners, f.Listener):
		return byListener
	case t.users != nil && c.exactUsers && !slices.ContainsFunc(t.users, func(p pattern) bool { return p.text == f.User }):
		return byUser
	case t.ports != nil && !t.ports.set.Contains(f.Target.Port):
		return byPort
	}
	return byNothing
}

// markAddresses puts into s.one the clauses whose address holds, or may hold once the name is resolved.
func (p *Program) markAddresses(s *scratch, f *connmodel.Facts) {
	x, b := &p.index, s.one
	if lacking(f) {
		b.Set(x.resolving)
		return
	}
	b.Set(x.noAddress)
	if f.TargetIP.IsValid() {
		x.markAddress(b, f.TargetIP)
		if p.live != nil {
			s.mark(p, (*liveList).ofAddresses, func(l *lists.Set) bool { return holdsAny(l, f.TargetIP) })
		}
		return
	}
	for _, a := range f.Addresses {
		x.markAddress(b, a)
	}
	if p.live != nil && len(f.Addresses) > 0 { // what a list holds does not matter to a name without addresses
		s.mark(p, (*liveList).ofAddresses, func(l *lists.Set) bool { return holdsAny(l, f.Addresses...) })
	}
	b.And(x.resolving)
}

// holdsAny looks addresses up as markAddress does.
func holdsAny(l *lists.Set, all ...netip.Addr) bool {
	for _, a := range all {
		if l.Network(a) {
			return true
		}
		if e := connmodel.Embedded(a); e != a && l.Network(e) {
			return true
		}
	}
	return false
}

// markAddress looks an address up as it is, and as the IPv4 address that it is only another spelling of.
func (x *index) markAddress(b match.Bits, a netip.Addr) {
	x.addresses.Mark(b, a)
	if e := connmodel.Embedded(a); e != a {
		x.addresses.Mark(b, e)
	}
}

// walked is what the candidates made of a flow.
type walked struct {
	decision *connmodel.Decision // nil = it waits
	waits    *clause             // which holds if what is lacking is right
	need     connmodel.Need      // what is lacking, all of it
	list     uint32              // the first clause that waits for a list alone, where need is needList
	shadow   []connmodel.ShadowVerdict
}

// walk tries the candidates in order.
func (p *Program) walk(s *scratch, direct bool, f *connmodel.Facts, t *tracer) (w walked) {
	found := s.found
	var noted *rule // shadow rule that has been noted already
	var listed bool
	for id, ok := found.Next(0); ok; id, ok = found.Next(id + 1) {
		c := &p.clauses[id]
		if w.waits != nil && c.rule != w.waits.rule { // the rest of its rule may hold without what is lacking
			break
		}
		if c.rule == noted {
			continue
		}
		if direct && c.direct(f) != byNothing {
			continue
		}
		v := p.holds(s, id, f)
		t.tried(id, v)
		switch {
		case v == no:
		case c.rule.shadow && v == yes:
			noted = c.rule
			w.shadow = append(w.shadow, c.rule.verdict())
		case c.rule.shadow: // a rule that decides nothing causes no look-up
		case v > yes:
			if w.need |= v.need(); w.waits == nil {
				w.waits = c
			}
			if !listed && v == unknown(needList) {
				w.list, listed = id, true
			}
		case w.waits == nil || w.waits.decision == c.decision:
			t.took(id)
			w.decision, w.waits, w.need = c.decision, nil, 0
			return w
		}
	}
	if w.waits == nil {
		w.decision = p.fallback
		return w
	}
	t.waits(w.waits)
	return w
}

// holds verifies a candidate.
func (p *Program) holds(s *scratch, id uint32, f *connmodel.Facts) verdict {
	v := p.clauses[id].holds(f, s.in)
	if p.live != nil && v != no && s.open.Has(id) {
		v = v.and(unknown(needList))
	}
	return v
}

// settle is what the service makes of it: a decision, or what is to be gathered first.
func (p *Program) settle(w walked, f *connmodel.Facts, in sets) (*connmodel.Decision, connmodel.Need) {
	switch {
	case w.decision != nil:
		return withShadow(w.decision, w.shadow), 0
	case w.need == needList: // no fact will tell
		return withShadow(p.unlisted(w.list, f, in), w.shadow), 0
	}
	return nil, first(w.need &^ needList)
}

func (r *rule) verdict() connmodel.ShadowVerdict {
	return connmodel.ShadowVerdict{Rule: r.name, File: r.decl.Filename, Line: r.decl.Start.Line, Outcome: r.decision.Outcome, Route: r.decision.Route}
}

func withShadow(d *connmodel.Decision, shadow []connmodel.ShadowVerdict) *connmodel.Decision {
	if shadow == nil {
		return d
	}
	c := *d
	c.Shadow = shadow
	return &c
}
