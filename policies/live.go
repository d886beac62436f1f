package policies

import (
	"fmt"
	"net/netip"
	"slices"

	"viaduct/connmodel"
	"viaduct/policies/lists"
	"viaduct/policies/match"
)

// Lists that change while the policy stays are no part of its indexes: a decision takes the sets of now, all of them once, and asks each list
// once for each attribute; what a list takes is marked like what an index finds.

// liveList is such a list in a program, with the clauses that name it.
type liveList struct {
	name                      string
	ref                       *lists.Ref
	hosts, clients, addresses []uint32
}

// sets are the lists of a program at the time of a decision; nil = it is not known what is in the list.
type sets []*lists.Set

// needList is what a verdict depends on when it is not known what is in a list. No fact brings it.
const needList connmodel.Need = 1 << 6

// or is the verdict of two tests of which one must hold.
func (v verdict) or(o verdict) verdict {
	switch {
	case v == yes || o == yes:
		return yes
	case v == no:
		return o
	case o == no:
		return v
	}
	return v | o
}

// host reports whether one of the lists takes a host.
func (in sets) host(live []int, host string) verdict {
	v := no
	for _, i := range live {
		switch s := in[i]; {
		case s == nil:
			v = unknown(needList)
		case s.Host(host):
			return yes
		}
	}
	return v
}

// network reports whether one of the lists holds an address.
func (in sets) network(live []int, a netip.Addr) verdict {
	v := no
	for _, i := range live {
		switch s := in[i]; {
		case s == nil:
			v = unknown(needList)
		case s.Network(a):
			return yes
		}
	}
	return v
}

// adopt numbers the lists that a block names.
func (p *Program) adopt(t *tests) {
	if t == nil {
		return
	}
	for _, h := range []*hosts{t.hosts, t.snis} {
		if h != nil {
			h.live = p.number(h.lists)
		}
	}
	for _, n := range []*networks{t.clients, t.addresses} {
		if n != nil {
			n.live = p.number(n.lists)
		}
	}
	for _, n := range t.nots {
		p.adopt(n)
	}
}

func (p *Program) number(all []*list) (live []int) {
	for _, x := range all {
		if x.ref == nil {
			continue
		}
		i := slices.IndexFunc(p.live, func(l *liveList) bool { return l.ref == x.ref })
		if i < 0 {
			i = len(p.live)
			p.live = append(p.live, &liveList{name: x.name, ref: x.ref})
		}
		if !slices.Contains(live, i) {
			live = append(live, i)
		}
	}
	return live
}

// enlist notes which clauses the lists are to mark.
func (p *Program) enlist() {
	for id := range p.clauses {
		c := &p.clauses[id]
		if c.tests == nil {
			continue
		}
		if h := c.tests.hosts; h != nil && c.indexed(byHost) && (c.rest == nil || c.rest.hosts == nil) {
			for _, i := range h.live {
				p.live[i].hosts = append(p.live[i].hosts, uint32(id))
			}
		}
		if n := c.tests.clients; n != nil {
			for _, i := range n.live {
				p.live[i].clients = append(p.live[i].clients, uint32(id))
			}
		}
		if n := c.tests.addresses; n != nil {
			for _, i := range n.live {
				p.live[i].addresses = append(p.live[i].addresses, uint32(id))
			}
		}
	}
}

// take notes the sets of now.
func (s *scratch) take(p *Program) {
	for i, l := range p.live {
		s.in[i] = l.ref.Set()
	}
	s.open.Reset()
}

// mark adds to s.one the clauses of lists that take something, and of those of which it is not known. The latter are noted in s.open, unless
// something else holds already.
func (s *scratch) mark(p *Program, of func(*liveList) []uint32, takes func(*lists.Set) bool) {
	for i, l := range p.live {
		if ids := of(l); len(ids) > 0 && s.in[i] != nil && takes(s.in[i]) {
			s.one.Add(ids...)
		}
	}
	for i, l := range p.live {
		if s.in[i] != nil {
			continue
		}
		for _, id := range of(l) {
			if !s.one.Has(id) {
				s.open.Add(id)
			}
		}
	}
	for i, l := range p.live { // after all of them have been looked at: two may be unknown of one clause
		if s.in[i] == nil {
			s.one.Add(of(l)...)
		}
	}
}

func (l *liveList) ofHosts() []uint32     { return l.hosts }
func (l *liveList) ofClients() []uint32   { return l.clients }
func (l *liveList) ofAddresses() []uint32 { return l.addresses }

// unlisted is the decision for a flow of which it depends on a list that is not there whether a rule takes it: it is refused, and told why.
func (p *Program) unlisted(id uint32, f *connmodel.Facts, in sets) *connmodel.Decision {
	c := &p.clauses[id]
	name, why := p.absent(id, f, in)
	return &connmodel.Decision{
		Generation: c.decision.Generation, Policy: p.name, Rule: c.rule.name, File: c.rule.decl.Filename, Line: c.rule.decl.Start.Line,
		Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 503, Reason: fmt.Sprintf("this rule needs list.%s, and there is no copy of it yet: %s", name, short(why))},
	}
}

// absent names the list that is not there and on which it depends whether a clause holds: that of the first test which nothing else decides.
func (p *Program) absent(id uint32, f *connmodel.Facts, in sets) (name, why string) {
	x, held := &p.index, match.NewBits(len(p.clauses))
	i := p.clauses[id].tests.absent(f, in, func(a attribute) bool { // by what is written out, which the indexes know
		held.Reset()
		switch a {
		case byHost:
			if p.clauses[id].tests.hosts.takes(f, in) == yes { // by a wild pattern, which the other half of the block has
				return true
			}
			x.hosts.Mark(held, f.Target.Host)
			x.hosts.Mark(held, addressBeside(f))
		case byClient:
			x.clients.Mark(held, f.Client.Addr())
		case byAddress:
			for _, ip := range append([]netip.Addr{f.TargetIP}, f.Addresses...) {
				x.markAddress(held, ip)
			}
		}
		return held.Has(id)
	})
	if i < 0 { // two tests that need each other's list: any will do
		i = max(slices.Index(in, nil), 0)
	}
	return p.live[i].name, p.live[i].ref.Why()
}

// absent returns the number of the first list that is not there and that a test of t needs; -1 = none. written reports whether a test holds by what is
// not in such a list.
func (t *tests) absent(f *connmodel.Facts, in sets, written func(attribute) bool) int {
	if h := t.hosts; h != nil && f.Lacks(connmodel.NeedName) == 0 {
		v := in.host(h.live, f.Target.Host)
		if ip := addressBeside(f); ip != "" {
			v = v.or(in.host(h.live, ip))
		}
		if v.lists() && !written(byHost) {
			return in.gone(h.live)
		}
	}
	if n := t.clients; n != nil && in.network(n.live, f.Client.Addr()).lists() && !written(byClient) {
		return in.gone(n.live)
	}
	if n := t.addresses; n != nil {
		v := no
		for _, ip := range append([]netip.Addr{f.TargetIP}, f.Addresses...) {
			v = v.or(in.network(n.live, ip)).or(in.network(n.live, connmodel.Embedded(ip)))
		}
		if v.lists() && !written(byAddress) {
			return in.gone(n.live)
		}
	}
	if t.snis != nil && f.Hello != nil && t.snis.take(f.Hello.SNI, in).lists() {
		return in.gone(t.snis.live)
	}
	for _, n := range t.nots {
		if _, v := n.first(f, in); v.lists() {
			return n.absent(f, in, func(a attribute) bool { // no index decides what is in a not block
				switch a {
				case byHost:
					return n.hosts.takes(f, in) == yes
				case byClient:
					return n.clients.client(f, in) == yes
				}
				return n.takesAddress(f, in) == yes
			})
		}
	}
	return -1
}

// lists reports whether the verdict depends on a list.
func (v verdict) lists() bool { return v > yes && v.need()&needList != 0 }

// gone is the first of the lists that is not there; -1 = all are.
func (in sets) gone(live []int) int {
	for _, i := range live {
		if in[i] == nil {
			return i
		}
	}
	return -1
}

// entryOf says by which entry of a list a host is taken, in the words of an explanation; "" = by none.
func (in sets) entryOf(live []int, host string) string {
	for _, i := range live {
		if entry, taken := in[i].Entry(host); taken {
			return fmt.Sprintf("in list.%s, by its entry %s", in[i].Name, entry)
		}
	}
	return ""
}
