package policies

import (
	"fmt"
	"slices"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// tracer watches an evaluation. The nil *tracer, which Decide uses, sees nothing.
type tracer struct {
	left    [byWhen + 1]match.Bits // what each index left; nil = it was not asked
	outcome map[uint32]verdict
	taken   int // clause, -1 = none
	waiting *clause
	direct  bool // see candidates
	in      sets
}

func (t *tracer) keep(a attribute, b match.Bits) {
	if t != nil {
		t.left[a] = append(match.Bits{}, b...)
	}
}

func (t *tracer) tried(id uint32, v verdict) {
	if t != nil {
		t.outcome[id] = v
	}
}

func (t *tracer) took(id uint32) {
	if t != nil {
		t.taken = int(id)
	}
}

func (t *tracer) waits(c *clause) {
	if t != nil {
		t.waiting = c
	}
}

// Explain decides as Decide does, by the same code, and says for every rule that was tried why it did or did not match.
func (p *Program) Explain(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need, *connmodel.Trace) {
	t := &tracer{outcome: map[uint32]verdict{}, taken: -1}
	var d *connmodel.Decision
	var need connmodel.Need
	if d = p.fallback; len(p.clauses) > 0 {
		s := p.scratch.Get().(*scratch)
		t.direct = p.candidates(s, f, t)
		t.in = slices.Clone(s.in)
		d, need = p.settle(p.walk(s, t.direct, f, t), f, s.in)
		p.scratch.Put(s)
	}
	return d, need, p.trace(t, f, need)
}

// Asks names the rule that asks for a fact which f does not have, so that there is no decision; "" = none does. It is for the words of an
// error: it costs as much as Explain.
func (p *Program) Asks(f *connmodel.Facts) (rule, file string, line int) {
	d, need, trace := p.Explain(f)
	if n := len(trace.Steps); d == nil && need != 0 && n > 0 {
		s := &trace.Steps[n-1]
		return s.Rule, s.File, s.Line
	}
	return "", "", 0
}

// trace puts what the tracer saw into words, rule by rule, up to the one that decided.
func (p *Program) trace(t *tracer, f *connmodel.Facts, need connmodel.Need) *connmodel.Trace {
	out := &connmodel.Trace{}
	for id := 0; id < len(p.clauses); {
		r, end := p.clauses[id].rule, id
		for end < len(p.clauses) && p.clauses[end].rule == r {
			end++
		}
		step := connmodel.TraceStep{Rule: r.name, File: r.decl.Filename, Line: r.decl.Start.Line, Shadow: r.shadow}
		step.Matched, step.Reason = p.explainRule(t, f, id, end)
		out.Steps = append(out.Steps, step)
		if id <= t.taken && t.taken < end || t.waiting != nil && t.waiting.rule == r {
			return out
		}
		id = end
	}
	if need != 0 {
		return out
	}
	if n := len(p.rules); n > 0 && p.rules[n-1].name == otherwiseName {
		o := p.rules[n-1]
		out.Steps = append(out.Steps, connmodel.TraceStep{Rule: o.name, File: o.decl.Filename, Line: o.decl.Start.Line, Matched: true, Reason: "no rule above took it"})
	}
	return out
}

// explainRule looks at the clauses from id up to end, which are those of one rule.
func (p *Program) explainRule(t *tracer, f *connmodel.Facts, id, end int) (matched bool, reason string) {
	var best attribute
	var words string
	for c := id; c < end; c++ {
		switch v := t.outcome[uint32(c)]; {
		case v == yes && (p.clauses[c].rule.shadow || t.taken == c):
			return true, p.whyYes(&p.clauses[c], f, t.in)
		case v == unknown(needList) && (t.taken < 0 || p.clauses[c].rule.shadow):
			name, why := p.absent(uint32(c), f, t.in)
			return false, fmt.Sprintf("it depends on list.%s, of which there is no copy: %s", name, short(why))
		case v > yes && t.taken < 0 && p.clauses[c].rule.shadow:
			return false, lackingWords(v.need(), f) + ", and a shadow rule causes none to be gathered"
		case v > yes && t.taken < 0:
			return false, lackingWords(v.need(), f)
		}
	}
	for c := id; c < end; c++ {
		if by, why := p.whyNot(t, f, uint32(c)); by >= best {
			best, words = by, why
		}
	}
	if n := len(p.clauses[id].rule.blocks); n > 1 {
		words = fmt.Sprintf("none of %d match blocks holds; the nearest: %s", n, words)
	}
	return false, words
}

// whyNot finds the test that kept a clause from holding: by an index, or when it was verified.
func (p *Program) whyNot(t *tracer, f *connmodel.Facts, id uint32) (attribute, string) {
	c := &p.clauses[id]
	by, v := byNothing, yes
	if c.rest != nil {
		by, v = c.rest.first(f, t.in)
	}
	direct := byNothing
	if t.direct {
		direct = c.direct(f)
	}
	for a := byListener; a <= byWhen; a++ {
		if a == direct || t.left[a] != nil && !t.left[a].Has(id) || v == no && a == by {
			return a, c.tests.notWords(a, f, t.in)
		}
	}
	if c.rule.when != nil {
		return byWhen, whenWords(c.rule, f, "false")
	}
	return byNothing, "it does not hold"
}

// lackingWords says on what the outcome depends.
func lackingWords(need connmodel.Need, f *connmodel.Facts) string {
	var parts []string
	if need&connmodel.NeedAddresses != 0 {
		parts = append(parts, fmt.Sprintf("the addresses of %s, which have to be resolved first", short(f.Target.Host)))
	}
	if need&connmodel.NeedName != 0 {
		parts = append(parts, "the name that the client asks for inside (SNI or Host), which has to be waited for")
	}
	if need&connmodel.NeedHello != 0 {
		parts = append(parts, "the ClientHello of the client, which has to be waited for")
	}
	if need&connmodel.NeedRequest != 0 {
		parts = append(parts, "the HTTP request in the tunnel, which has to be waited for")
	}
	if need&connmodel.NeedHeader != 0 {
		parts = append(parts, "header fields of the request, which the record does not have")
	}
	if need&connmodel.NeedReach != 0 {
		parts = append(parts, "what could be reached then (network.reachable), which the record does not know")
	}
	return "it depends on " + strings.Join(parts, ", and on ")
}

func whenWords(r *rule, f *connmodel.Facts, value string) string {
	s := fmt.Sprintf("when %s is %s", r.whenText, value)
	if d := r.when.Describe(f); d != "" {
		s += ", with " + d
	}
	return s
}

// RuleInfo names a rule of a policy.
type RuleInfo struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Shadow bool   `json:"shadow,omitempty"`
}

// Name is the label of the policy.
func (p *Program) Name() string { return p.name }

// Rules are the rules in written order, otherwise last if there is one.
func (p *Program) Rules() []RuleInfo {
	all := make([]RuleInfo, len(p.rules))
	for i, r := range p.rules {
		all[i] = RuleInfo{p.name, r.name, r.decl.Filename, r.decl.Start.Line, r.shadow}
	}
	return all
}
