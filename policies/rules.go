package policies

import (
	"maps"
	"slices"

	"viaduct/connmodel"
)

// ListedRule is a rule with what it does.
type ListedRule struct {
	Policy, Rule string // Rule is "otherwise" for that, "" for what no rule takes
	File         string
	Line         int
	Outcome      connmodel.Outcome
	Route        string
	Shadow       bool
}

// Rules returns the rules of all policies, by the policies' names, in the order in which they are asked. Last comes what is done with flows that
// no rule takes.
func (c *Config) Rules() []ListedRule {
	var all []ListedRule
	for _, name := range slices.Sorted(maps.Keys(c.Programs)) {
		p := c.Programs[name]
		last := false
		for _, r := range p.rules {
			d := &r.decision
			all = append(all, ListedRule{name, r.name, r.decl.Filename, r.decl.Start.Line, d.Outcome, d.Route, r.shadow})
			last = r.name == otherwiseName
		}
		if d := p.fallback; !last && d != nil {
			all = append(all, ListedRule{name, d.Rule, d.File, d.Line, d.Outcome, d.Route, false})
		}
	}
	return all
}
