package policies

import (
	"viaduct/connmodel"
)

// Verdict is what a policy says of facts of which some are not known and will not be gathered: those of a record, or those at hand for a shadow policy.
type Verdict struct {
	// Decision is what would be done; nil = it depends on what is not known. With Need or List beside it, the rule is not known, but every rule that
	// may take the flow does this: Decision is that of the first.
	Decision *connmodel.Decision
	// Asks is the rule that asks for what is not known; nil = none does, and Decision is that of the rule that takes the flow.
	Asks *connmodel.Decision
	Need connmodel.Need // what it asks for: all the facts on which it depends
	List string         // the list of which there is no copy, where it depends on that alone
}

// Certain reports whether it is known what would be done.
func (v *Verdict) Certain() bool { return v.Decision != nil }

// Judge decides as Decide does, by the same code, but for facts that will not be gathered: what is lacking is said, all of it, and nothing is refused for
// a list that is not there. Shadow rules are left out. The decisions in the verdict are the program's own: the same for every flow that a rule takes.
func (p *Program) Judge(f *connmodel.Facts) (v Verdict) {
	if len(p.clauses) == 0 {
		v.Decision = p.fallback
		return v
	}
	s := p.scratch.Get().(*scratch)
	direct := p.candidates(s, f, nil)
	w := p.walk(s, direct, f, nil)
	if v.Decision = w.decision; w.waits != nil {
		v.Asks, v.Need = w.waits.decision, w.need&^needList
		if w.need == needList {
			v.List, _ = p.absent(w.list, f, s.in)
		}
		if p.agreed(s, direct, f, w.waits) {
			v.Decision = w.waits.decision
		}
	}
	p.scratch.Put(s)
	return v
}

// agreed reports whether all clauses that may take the flow, from one that waits on, do the same.
func (p *Program) agreed(s *scratch, direct bool, f *connmodel.Facts, from *clause) bool {
	for id, ok := s.found.Next(0); ok; id, ok = s.found.Next(id + 1) {
		c := &p.clauses[id]
		if c.rule.shadow || direct && c.direct(f) != byNothing {
			continue
		}
		switch v := p.holds(s, id, f); {
		case v == no:
		case !SameWay(c.decision, from.decision):
			return false
		case v == yes:
			return true
		}
	}
	return SameWay(p.fallback, from.decision)
}

// SameWay reports whether two decisions do the same with a flow: both refuse it, or both send it by one route to one server with TLS treated alike.
func SameWay(a, b *connmodel.Decision) bool {
	if a == b {
		return true
	}
	if a.Outcome != b.Outcome {
		return false
	}
	return a.Denied() || a.Route == b.Route && a.Server == b.Server && a.TLS.ModeOf() == b.TLS.ModeOf()
}

// Headers lists the header fields of requests that the policy asks about, in lower case, as far as a record may keep them.
func (p *Program) Headers() []string { return p.headers }

// headersOf finds the header fields that rules ask about.
func headersOf(rules []*rule) []string {
	var all []string
	var of func(t *tests)
	of = func(t *tests) {
		for i := range t.headers {
			all = append(all, t.headers[i].name)
		}
		for _, n := range t.nots {
			of(n)
		}
	}
	for _, r := range rules {
		for _, t := range r.blocks {
			of(t)
		}
		if r.when != nil {
			all = append(all, r.when.Headers()...)
		}
	}
	return connmodel.SampledFields(all)
}
