package policies

import (
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"viaduct/connmodel"
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
type scratch struct{ found, one match.Bits }

// verdict is the outcome of a test when facts may be missing.
type verdict uint8

const (
	no verdict = iota
	yes
	unknown // depends on the addresses of the target
)

// Decide implements connmodel.Decider.
func (p *Program) Decide(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
	if len(p.clauses) == 0 {
		return p.fallback, 0
	}
	s := p.scratch.Get().(*scratch)
	direct := p.candidates(s, f, nil)
	d, need := p.walk(s.found, direct, f, nil)
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
	if x.noHost != nil {
		s.one.Set(x.noHost)
		x.hosts.Mark(s.one, f.Target.Host)
		s.found.And(s.one)
		t.keep(byHost, s.one)
	}
	if x.noClient != nil {
		s.one.Set(x.noClient)
		if a := f.Client.Addr(); a.IsValid() {
			x.clients.Mark(s.one, a)
		}
		s.found.And(s.one)
		t.keep(byClient, s.one)
	}
	if x.noAddress != nil {
		p.markAddresses(s.one, f)
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

// markAddresses puts into b the clauses whose address holds, or may hold once the name is resolved.
func (p *Program) markAddresses(b match.Bits, f *connmodel.Facts) {
	x := &p.index
	if lacking(f) {
		b.Set(x.resolving)
		return
	}
	b.Set(x.noAddress)
	if f.TargetIP.IsValid() {
		x.markAddress(b, f.TargetIP)
		return
	}
	for _, a := range f.Addresses {
		x.markAddress(b, a)
	}
	b.And(x.resolving)
}

// markAddress looks an address up as it is, and as the IPv4 address that it is only another spelling of.
func (x *index) markAddress(b match.Bits, a netip.Addr) {
	x.addresses.Mark(b, a)
	if e := connmodel.Embedded(a); e != a {
		x.addresses.Mark(b, e)
	}
}

// walk tries the candidates in order.
func (p *Program) walk(found match.Bits, direct bool, f *connmodel.Facts, t *tracer) (*connmodel.Decision, connmodel.Need) {
	var shadow []connmodel.ShadowVerdict
	var noted *rule     // shadow rule that has been noted already
	var waiting *clause // holds if the addresses are right; the rest of its rule may hold without them
	for id, ok := found.Next(0); ok; id, ok = found.Next(id + 1) {
		c := &p.clauses[id]
		if waiting != nil && c.rule != waiting.rule {
			break
		}
		if c.rule == noted {
			continue
		}
		if direct && c.direct(f) != byNothing {
			continue
		}
		v := c.holds(f)
		t.tried(id, v)
		switch {
		case v == no:
		case c.rule.shadow && v == yes:
			noted = c.rule
			shadow = append(shadow, c.rule.verdict())
		case c.rule.shadow: // a rule that decides nothing causes no look-up
		case v == unknown && waiting == nil:
			waiting = c
		case v == yes && (waiting == nil || waiting.decision == c.decision):
			t.took(id)
			return withShadow(c.decision, shadow), 0
		}
	}
	if waiting != nil {
		t.waits(waiting)
		return nil, connmodel.NeedAddresses
	}
	return withShadow(p.fallback, shadow), 0
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

// holds verifies what the indexes could not say. A name is resolved only when nothing cheaper says no.
func (c *clause) holds(f *connmodel.Facts) verdict {
	v := yes
	if c.rest != nil {
		var by attribute
		if by, v = c.rest.first(f); by != byNothing && v == no {
			return no
		}
	}
	if c.asks && lacking(f) {
		v = unknown
	}
	if w := c.rule.when; w != nil {
		value, need := w.Test(f)
		switch {
		case need != 0:
			v = unknown
		case !value:
			return no
		}
	}
	return v
}

// attribute is a test by its name, in the order in which tests are made and explained.
type attribute uint8

const (
	byNothing attribute = iota
	byListener
	byClient
	byTime
	byUser
	byProtocol
	byScheme
	byHost
	byPort
	byMethod
	byPath
	byHeader
	byAddress
	byNot
	byWhen
)

// first returns the first test that does not hold and no; or byNothing with yes; or the test whose outcome depends on
// addresses that are not known, with unknown, if nothing else says no.
func (t *tests) first(f *connmodel.Facts) (attribute, verdict) {
	switch {
	case t.listeners != nil && !slices.Contains(t.listeners, f.Listener):
		return byListener, no
	case t.clients != nil && !(f.Client.Addr().IsValid() && t.clients.set.Contains(f.Client.Addr())):
		return byClient, no
	case t.windows != nil && !anyWindow(t.windows, f):
		return byTime, no
	case t.users != nil && !anyUser(t.users, f.User):
		return byUser, no
	case t.protocols != nil && !slices.Contains(t.protocols, string(f.Protocol)):
		return byProtocol, no
	case t.schemes != nil && !slices.Contains(t.schemes, f.Scheme):
		return byScheme, no
	case t.hosts != nil && !t.hosts.take(f.Target.Host):
		return byHost, no
	case t.ports != nil && !t.ports.set.Contains(f.Target.Port):
		return byPort, no
	case t.methods != nil && (f.Request == nil || !slices.Contains(t.methods, f.Request.Method)):
		return byMethod, no
	case t.paths != nil && !anyPath(t.paths, f):
		return byPath, no
	case t.headers != nil && failingHeader(t.headers, f) != nil:
		return byHeader, no
	}
	by, v := byNothing, yes
	if t.addresses != nil {
		if v = t.takesAddress(f); v == no {
			return byAddress, no
		} else if v == unknown {
			by = byAddress
		}
	}
	for _, n := range t.nots {
		switch _, inner := n.first(f); inner {
		case yes:
			return byNot, no
		case unknown:
			by, v = byNot, unknown
		}
	}
	return by, v
}

func anyWindow(ws []*window, f *connmodel.Facts) bool {
	for _, w := range ws {
		if w.holds(f.Time) {
			return true
		}
	}
	return false
}

// anyUser: globs take no anonymous client.
func anyUser(ps []pattern, user string) bool {
	for i := range ps {
		if (user != "" || ps[i].glob == nil) && ps[i].takes(user) {
			return true
		}
	}
	return false
}

func anyPath(ps []pattern, f *connmodel.Facts) bool {
	if f.Request == nil {
		return false
	}
	path, _, _ := strings.Cut(f.Request.Path, "?")
	for i := range ps {
		if ps[i].takes(path) {
			return true
		}
	}
	return false
}

// maxFieldLines bounds how many lines of one header field are looked at.
const maxFieldLines = 100

// failingHeader is the first header test that no line of the field satisfies.
func failingHeader(hs []header, f *connmodel.Facts) *header {
	for i := range hs {
		if !hs[i].holds(f) {
			return &hs[i]
		}
	}
	return nil
}

func (h *header) holds(f *connmodel.Facts) bool {
	if f.Request == nil || f.Request.Header == nil {
		return false
	}
	for i := range maxFieldLines {
		v, ok := f.Request.Header.Lookup(h.name, i)
		if !ok {
			return false
		}
		for j := range h.values {
			if h.values[j].takes(v) {
				return true
			}
		}
	}
	return false
}

// take reports whether a pattern takes the host. The set is there in not blocks only.
func (h *hosts) take(host string) bool {
	if h.set != nil && h.set.Contains(host) {
		return true
	}
	for i := range h.patterns {
		if h.patterns[i].takes(host) {
			return true
		}
	}
	return false
}

// takesAddress reports whether one of the target's addresses is in the networks.
func (t *tests) takesAddress(f *connmodel.Facts) verdict {
	switch {
	case f.TargetIP.IsValid():
		return verdictOf(t.addresses.holds(f.TargetIP))
	case t.literal:
		return no
	case lacking(f):
		return unknown
	}
	for _, a := range f.Addresses {
		if t.addresses.holds(a) {
			return yes
		}
	}
	return no
}

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}
