package policies

import (
	"fmt"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// maxClauses bounds a policy: a decision costs a bit per clause and attribute.
const maxClauses = 1 << 20

// compile makes the program of a policy that has been read without errors.
func compile(b *policyBlock, generation uint64) (*Program, error) {
	p := &Program{name: b.name, rules: b.rules, few: fewCandidates, headers: headersOf(b.rules)}
	for _, r := range b.rules {
		for _, t := range r.blocks {
			p.adopt(t)
		}
		p.addRule(r)
	}
	p.enlist()
	if len(p.clauses) > maxClauses {
		return nil, fmt.Errorf("policy %q has %d match blocks, more than %d; large sets of hosts belong into a list", b.name, len(p.clauses), maxClauses)
	}
	p.fallback = b.denied(generation)
	if o := b.otherwise; o != nil {
		d := o.decision
		p.fallback = &d
		p.rules = append(p.rules[:len(p.rules):len(p.rules)], o)
	}
	n := len(p.clauses)
	p.scratch.New = func() any {
		s := &scratch{found: match.NewBits(n), one: match.NewBits(n)}
		if p.live != nil {
			s.open, s.in = match.NewBits(n), make(sets, len(p.live))
		}
		return s
	}
	if err := p.buildIndex(); err != nil {
		return nil, err
	}
	for _, r := range b.rules {
		for _, t := range r.blocks {
			t.release()
		}
	}
	return p, nil
}

// addRule makes the clauses of a rule. Clauses that open the same refused ranges share a decision.
func (p *Program) addRule(r *rule) {
	if len(r.blocks) == 0 {
		d := r.decision
		p.clauses = append(p.clauses, clause{rule: r, decision: &d})
		return
	}
	var plain *connmodel.Decision // of the blocks that open nothing
	names := r.namesHosts()
	for _, t := range r.blocks {
		d := r.decision
		d.AllowAddresses, d.AllowLocalhost = r.opens(t)
		d.NamesHost = names
		decision := &d
		if len(d.AllowAddresses) == 0 && !d.AllowLocalhost {
			if plain == nil {
				plain = decision
			}
			decision = plain
		}
		c := clause{rule: r, tests: t, asks: t.addresses != nil && !t.literal, exactUsers: exactUsers(t.users), decision: decision}
		if t.hosts == nil {
			c.rest = t.unindexed(nil)
			p.clauses = append(p.clauses, c)
			continue
		}
		wild := t.hosts.wild()
		if len(wild) < len(t.hosts.patterns) || len(t.hosts.lists) > 0 {
			c.rest = t.unindexed(nil)
			p.clauses = append(p.clauses, c)
		}
		if len(wild) > 0 {
			c.rest = t.unindexed(wild)
			p.clauses = append(p.clauses, c)
		}
	}
}

// unindexed is what is left of the tests when the indexes have decided theirs, with wild hosts put back; nil if nothing is.
func (t *tests) unindexed(wild []hostPattern) *tests {
	rest := &tests{windows: t.windows, protocols: t.protocols, schemes: t.schemes, methods: t.methods, paths: t.paths, headers: t.headers, nots: t.nots,
		snis: t.snis, alpn: t.alpn, ja4: t.ja4, countries: t.countries, literal: t.literal, origins: t.origins}
	if wild != nil {
		rest.hosts = &hosts{patterns: wild}
	}
	if !exactUsers(t.users) {
		rest.users = t.users
	}
	if rest.windows == nil && rest.protocols == nil && rest.schemes == nil && rest.methods == nil && rest.paths == nil && rest.headers == nil &&
		rest.nots == nil && rest.hosts == nil && rest.users == nil && rest.countries == nil && rest.origins == nil && !rest.asksHello() {
		return nil
	}
	return rest
}

// exactUsers reports whether the index of users decides.
func exactUsers(ps []pattern) bool {
	for i := range ps {
		if ps[i].glob != nil {
			return false
		}
	}
	return true
}

// indexBuilder fills the indexes clause by clause.
type indexBuilder struct {
	x                  *index
	n                  int
	hosts              match.HostBuilder
	ports              match.PortBuilder
	clients, addresses match.NetworkBuilder
}

func (p *Program) buildIndex() error {
	n := len(p.clauses)
	b := &indexBuilder{x: &p.index, n: n}
	x := b.x
	x.all = match.NewBits(n)
	for id := range p.clauses {
		x.all.Add(uint32(id))
	}
	for id := range p.clauses {
		if err := b.add(uint32(id), &p.clauses[id]); err != nil {
			return err
		}
	}
	x.hosts, x.ports, x.clients, x.addresses = b.hosts.Build(), b.ports.Build(), b.clients.Build(), b.addresses.Build()
	x.noHost, x.noPort, x.noClient = b.without(byHost, p), b.without(byPort, p), b.without(byClient, p)
	x.noUser, x.noListener, x.noAddress = b.without(byUser, p), b.without(byListener, p), b.without(byAddress, p)
	if x.noAddress != nil {
		x.resolving = match.NewBits(n)
		for id := range p.clauses {
			if c := &p.clauses[id]; c.tests == nil || c.tests.addresses == nil || c.asks {
				x.resolving.Add(uint32(id))
			}
		}
	}
	return nil
}

// without is the set of clauses that do not test an attribute by its index; nil if none does.
func (b *indexBuilder) without(a attribute, p *Program) match.Bits {
	set, tested := match.NewBits(b.n), false
	for id := range p.clauses {
		if p.clauses[id].indexed(a) {
			tested = true
		} else {
			set.Add(uint32(id))
		}
	}
	if !tested {
		return nil
	}
	return set
}

// indexed reports whether an index narrows this attribute of the clause down.
func (c *clause) indexed(a attribute) bool {
	t := c.tests
	if t == nil {
		return false
	}
	switch a {
	case byHost:
		return t.hosts != nil && (c.rest == nil || c.rest.hosts == nil || belowKnown(c.rest.hosts.patterns))
	case byPort:
		return t.ports != nil
	case byClient:
		return t.clients != nil
	case byUser:
		return t.users != nil && c.exactUsers
	case byListener:
		return t.listeners != nil
	case byAddress:
		return t.addresses != nil
	}
	return false
}

// belowKnown reports whether the wild patterns all lie below domains that the index can hold.
func belowKnown(ps []hostPattern) bool {
	for i := range ps {
		if ps[i].glob == nil {
			return false
		}
		if _, ok := ps[i].glob.Suffix(); !ok {
			return false
		}
	}
	return true
}

func (b *indexBuilder) add(id uint32, c *clause) error {
	t := c.tests
	if t == nil {
		return nil
	}
	if err := b.addHosts(id, c); err != nil {
		return err
	}
	if t.ports != nil {
		for _, r := range t.ports.ranges {
			if err := b.ports.Add(r, id); err != nil {
				return err
			}
		}
	}
	if t.clients != nil {
		for _, n := range t.clients.prefixes {
			if err := b.clients.Add(n, id); err != nil {
				return err
			}
		}
	}
	if t.addresses != nil {
		for _, n := range t.addresses.prefixes {
			if err := b.addresses.Add(n, id); err != nil {
				return err
			}
		}
	}
	if c.indexed(byUser) {
		b.x.users = addValues(b.x.users, id, texts(t.users))
	}
	b.x.listeners = addValues(b.x.listeners, id, t.listeners)
	return nil
}

func (b *indexBuilder) addHosts(id uint32, c *clause) error {
	if !c.indexed(byHost) {
		return nil
	}
	if c.rest != nil && c.rest.hosts != nil {
		for i := range c.rest.hosts.patterns {
			domain, _ := c.rest.hosts.patterns[i].glob.Suffix()
			if err := b.hosts.Add("*."+domain, id); err != nil {
				return err
			}
		}
		return nil
	}
	for p := range c.tests.hosts.indexed() {
		if err := b.hosts.Add(p, id); err != nil {
			return err
		}
	}
	return nil
}

func texts(ps []pattern) []string {
	all := make([]string, len(ps))
	for i := range ps {
		all[i] = ps[i].text
	}
	return all
}

func addValues(m map[string][]uint32, id uint32, values []string) map[string][]uint32 {
	for _, v := range values {
		if m == nil {
			m = make(map[string][]uint32)
		}
		if s := m[v]; len(s) == 0 || s[len(s)-1] != id {
			m[v] = append(s, id)
		}
	}
	return m
}
