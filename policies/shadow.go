package policies

import (
	"fmt"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// ShadowPolicy is a policy that decides nothing: it is asked beside the one that does, and what it says is recorded. It is immutable, safe for
// concurrent use, and satisfies connmodel.ShadowDecider.
type ShadowPolicy struct {
	program *Program
	made    map[*connmodel.Decision]*connmodel.ShadowDecision
	ways    wayNames
}

var _ connmodel.ShadowDecider = (*ShadowPolicy)(nil)

func newShadowPolicy(p *Program, ways wayNames) *ShadowPolicy {
	s := &ShadowPolicy{program: p, made: make(map[*connmodel.Decision]*connmodel.ShadowDecision, len(p.clauses)+1), ways: ways}
	for i := range p.clauses {
		s.make(p.clauses[i].decision)
	}
	s.make(p.fallback)
	return s
}

func (s *ShadowPolicy) make(d *connmodel.Decision) {
	if s.made[d] == nil {
		s.made[d] = shadowOf(d)
	}
}

func shadowOf(d *connmodel.Decision) *connmodel.ShadowDecision {
	x := &connmodel.ShadowDecision{Policy: d.Policy, Rule: d.Rule, File: d.File, Line: d.Line, Outcome: d.Outcome, Route: d.Route, Server: d.Server}
	if m := d.TLS.ModeOf(); m != connmodel.TLSPassthrough {
		x.TLS = m
	}
	return x
}

// Program is the policy itself.
func (s *ShadowPolicy) Program() *Program { return s.program }

// Shadow implements connmodel.ShadowDecider. It costs what a decision costs, and mostly no allocation.
func (s *ShadowPolicy) Shadow(f *connmodel.Facts, d *connmodel.Decision) *connmodel.ShadowDecision {
	v := s.program.Judge(f)
	if v.Decision == nil {
		x := &connmodel.ShadowDecision{Policy: v.Asks.Policy, Rule: v.Asks.Rule, File: v.Asks.File, Line: v.Asks.Line, Undecided: v.Need.String()}
		if v.List != "" {
			x.Undecided = "list." + v.List
		}
		return x
	}
	x := s.made[v.Decision]
	if v.Decision.Outcome == connmodel.OutcomeVia && f.Misdirected() && !v.Decision.NamesHost && (d == nil || d.NamesHost) { // else d is refused, too
		return &connmodel.ShadowDecision{Policy: x.Policy, Rule: x.Rule, File: x.File, Line: x.Line, Outcome: connmodel.OutcomeDeny}
	}
	if d != nil && x.Route != d.Route && s.ways.same(x.Route, d.Route) { // chains that are written in place are named after their rule
		y := *x
		y.Route = d.Route
		return &y
	}
	return x
}

// wayNames knows chains that were written in place: what they consist of is what they are, whatever they are called.
type wayNames map[string]string

func newWayNames(inline []upstream.ChainSpec) wayNames {
	w := wayNames{}
	for i := range inline {
		w["chain."+inline[i].Name] = strings.Join(inline[i].Hops, " > ")
	}
	return w
}

func (w wayNames) same(a, b string) bool { return w[a] != "" && w[a] == w[b] }

// shadowOf reads which policy is the shadow of another; "" = none. decides is the one whose decisions it stands beside.
func (l *loader) shadowOf(b *block, decides string) string {
	a := b.attrs["shadow"]
	if a == nil {
		return ""
	}
	r, ok := l.reference(a.Expr, kindPolicy)
	switch {
	case !ok:
		return ""
	case r.name == decides:
		l.errorAt(a.Expr.Range(), "Shadow of itself", fmt.Sprintf("policy.%s decides here already, so its shadow would say the same. Name another policy.", decides))
		return ""
	}
	l.used[r.String()] = true
	return r.name
}

// shadowListeners settles which shadow policy each listener has: its own, or else that of the policy that decides.
func (l *loader) shadowListeners(cfg *Config) {
	decides, shadows := map[string]bool{}, map[string]bool{}
	for i := range cfg.Listeners {
		n := &cfg.Listeners[i]
		decides[n.Policy] = true
		if n.Shadow == "" {
			if d, ok := l.byName[kindPolicy][n.Policy]; ok {
				n.Shadow = d.block.(*policyBlock).shadow
			}
		}
		shadows[n.Shadow] = n.Shadow != ""
	}
	// What takes no flow keeps no client waiting, and shows none a certificate.
	notes, signs := l.notes, l.signs
	l.notes, l.signs = nil, nil
	from := [2]int{}
	for _, p := range l.policies {
		if shadows[p.name] && !decides[p.name] {
			l.notes, l.signs = append(l.notes, notes[from[0]:p.notes[0]]...), append(l.signs, signs[from[1]:p.signs[0]]...)
			from = [2]int{p.notes[1], p.signs[1]}
		}
	}
	l.notes, l.signs = append(l.notes, notes[from[0]:]...), append(l.signs, signs[from[1]:]...)
}
