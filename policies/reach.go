package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"viaduct/policies/match"
)

// checkReach warns of rules that nothing reaches: each of their match blocks is covered by a match block of an earlier rule
// that has no `when`. It looks at one earlier block at a time, so it may miss what several cover together, and never warns
// of a rule that something reaches. Rules that could not be read in full are left out.
func (l *loader) checkReach(p *policyBlock) {
	c := &coverage{byHost: map[string][]*taker{}}
	rules := p.rules
	if p.otherwise != nil {
		rules = append(rules[:len(rules):len(rules)], p.otherwise)
	}
	for _, r := range rules {
		if r.half {
			continue
		}
		if by := c.of(r); by != nil {
			l.warnAt(r.decl, "Rule never reached", fmt.Sprintf("Whatever %s could take is taken by the rule %q before it (%s). Move it up, or leave it out.",
				map[bool]string{true: "the otherwise block", false: fmt.Sprintf("the rule %q", r.name)}[r == p.otherwise], by.name, place(by.decl)))
			continue
		}
		if r.when == nil && !r.shadow {
			c.add(r)
		}
	}
}

// taker is a match block of an unconditional rule; without tests it takes everything.
type taker struct {
	rule  *rule
	tests *tests
	hosts map[string]bool // the patterns of its host test
}

// coverage finds takers by the hosts they name.
type coverage struct {
	byHost  map[string][]*taker
	general []*taker // whose hosts are not in the map, or who test none
	work    int
}

const (
	maxGeneral = 500     // takers without hosts that a block is compared with
	maxWork    = 5 << 20 // comparisons in one policy: a large one must not take long to load
)

func (c *coverage) add(r *rule) {
	if len(r.blocks) == 0 {
		c.general = append([]*taker{{rule: r}}, c.general...)
		return
	}
	for _, t := range r.blocks {
		k := &taker{rule: r, tests: t}
		if t.hosts == nil || len(t.hosts.lists) > 0 || len(t.hosts.wild()) > 0 {
			c.general = append(c.general, k)
		}
		if t.hosts == nil {
			continue
		}
		k.hosts = make(map[string]bool, len(t.hosts.patterns))
		for _, p := range t.hosts.patterns {
			if p.index != "" && !k.hosts[p.index] {
				k.hosts[p.index] = true
				c.byHost[p.index] = append(c.byHost[p.index], k)
			}
		}
	}
}

// of finds the rule that covers every block of r; where there are several, that of the first block.
func (c *coverage) of(r *rule) *rule {
	if len(r.blocks) == 0 {
		return c.ofBlock(&tests{})
	}
	var first *rule
	for _, t := range r.blocks {
		by := c.ofBlock(t)
		if by == nil {
			return nil
		}
		if first == nil {
			first = by
		}
	}
	return first
}

func (c *coverage) ofBlock(t *tests) *rule {
	general := c.general[:min(len(c.general), maxGeneral)]
	for _, k := range general {
		if c.work++; c.work < maxWork && k.covers(t) {
			return k.rule
		}
	}
	if t.hosts == nil || len(t.hosts.patterns) == 0 {
		return nil
	}
	for _, key := range coveringKeys(&t.hosts.patterns[0]) {
		for _, k := range c.byHost[key] {
			if c.work += 1 + len(t.hosts.patterns); c.work < maxWork && k.covers(t) {
				return k.rule
			}
		}
	}
	return nil
}

// coveringKeys are the index patterns that take all a pattern takes.
func coveringKeys(p *hostPattern) []string {
	var keys []string
	name := p.index
	switch {
	case p.glob != nil:
		domain, ok := p.glob.Suffix()
		if !ok {
			return nil
		}
		name = domain
		keys = append(keys, "*."+name, "."+name)
	case name == "":
		return nil
	case strings.HasPrefix(name, "*."):
		name = name[2:]
		keys = append(keys, "*."+name, "."+name)
	case name[0] == '.':
		name = name[1:]
		keys = append(keys, "."+name)
	default:
		keys = append(keys, name, "."+name)
		if isAddress(name) {
			return keys[:1]
		}
	}
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return keys
		}
		name = parent
		keys = append(keys, "*."+name, "."+name)
	}
}

// covers reports whether k takes everything that t takes.
func (k *taker) covers(t *tests) bool {
	a := k.tests
	if a == nil {
		return true
	}
	return subset(t.listeners, a.listeners) && subset(t.protocols, a.protocols) && subset(t.schemes, a.schemes) && subset(t.methods, a.methods) &&
		subset(windowTexts(t.windows), windowTexts(a.windows)) && subset(texts2(t.users), texts2(a.users)) && subset(texts2(t.paths), texts2(a.paths)) &&
		k.coversHosts(t.hosts) && coversPorts(a.ports, t.ports) && coversNetworks(a.clients, t.clients) &&
		coversNetworks(a.addresses, t.addresses) && (a.addresses == nil && a.countries == nil || !a.literal || t.literal) &&
		coversCountries(a.countries, t.countries) && coversCountries(a.origins, t.origins) &&
		coversHeaders(a.headers, t.headers) && coversNots(a.nots, t.nots) &&
		subset(t.alpn, a.alpn) && subset(texts2(t.ja4), texts2(a.ja4)) && coversNames(a.snis, t.snis)
}

// subset reports whether a test for b takes all that one for a takes; nil is no test, which takes everything.
func subset(a, b []string) bool {
	if b == nil {
		return true
	}
	if a == nil {
		return false
	}
	for _, s := range a {
		if !slices.Contains(b, s) {
			return false
		}
	}
	return true
}

func windowTexts(ws []*window) []string {
	var all []string
	for _, w := range ws {
		all = append(all, w.text)
	}
	return all
}

func texts2(ps []pattern) []string {
	if ps == nil {
		return nil
	}
	return texts(ps)
}

func (k *taker) coversHosts(h *hosts) bool {
	a := k.tests.hosts
	if a == nil {
		return true
	}
	if h == nil || len(h.patterns) == 0 && len(h.lists) == 0 {
		return false
	}
	for _, x := range h.lists {
		if !slices.Contains(a.lists, x) {
			return false
		}
	}
	for i := range h.patterns {
		if !k.coversHost(&h.patterns[i]) {
			return false
		}
	}
	return true
}

func (k *taker) coversHost(p *hostPattern) bool {
	for _, key := range coveringKeys(p) {
		if k.hosts[key] {
			return true
		}
	}
	for i := range k.tests.hosts.patterns {
		if o := &k.tests.hosts.patterns[i]; o.index == "" && (o.text == p.text || o.text == "*") {
			return true
		}
	}
	return false
}

// coversNames is coversHosts for server names, of which there are few.
func coversNames(a, b *hosts) bool {
	if a == nil || b == nil {
		return a == nil
	}
	k := newTaker(&tests{hosts: a})
	return k.coversHosts(b)
}

func coversPorts(a, b *ports) bool {
	if a == nil || b == nil {
		return a == nil
	}
	return !slices.ContainsFunc(b.ranges, func(r match.PortRange) bool {
		return !slices.ContainsFunc(a.ranges, func(o match.PortRange) bool { return o.From <= r.From && r.To <= o.To })
	})
}

func coversNetworks(a, b *networks) bool {
	if a == nil || b == nil {
		return a == nil
	}
	if len(a.prefixes) > 1000 || len(b.prefixes) > 1000 {
		return false // not worth the time
	}
	for _, x := range b.lists {
		if x.ref != nil && !slices.Contains(a.lists, x) { // what is in it is not known here
			return false
		}
	}
	return !slices.ContainsFunc(b.prefixes, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(a.prefixes, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
	})
}

func coversCountries(a, b *countries) bool {
	if a == nil || b == nil {
		return a == nil
	}
	return b.set.In(&a.set)
}

func coversHeaders(a, b []header) bool {
	return !slices.ContainsFunc(a, func(h header) bool {
		return !slices.ContainsFunc(b, func(o header) bool {
			return strings.EqualFold(h.name, o.name) && subset(texts(o.values), texts(h.values))
		})
	})
}

// coversNots: what a not block of a keeps out must be kept out by one of b. Only blocks that are the same are seen as such.
func coversNots(a, b []*tests) bool {
	return !slices.ContainsFunc(a, func(n *tests) bool {
		return !slices.ContainsFunc(b, func(o *tests) bool {
			k, m := newTaker(n), newTaker(o)
			return k.covers(o) && m.covers(n)
		})
	})
}

func newTaker(t *tests) *taker {
	k := &taker{tests: t, hosts: map[string]bool{}}
	if t.hosts != nil {
		for _, p := range t.hosts.patterns {
			if p.index != "" {
				k.hosts[p.index] = true
			}
		}
	}
	return k
}
