package policies

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// policyBlock is ordered rules, then otherwise.
type policyBlock struct {
	src       *hcl.Block
	name      string
	rules     []*rule
	resolver  string // "" = the gateway's
	shadow    string // policy that is asked beside it; "" = none
	notes     [2]int // those of loader.notes that are about it, and
	signs     [2]int // those of loader.signs
	otherwise *rule  // nil = what no rule takes is denied
}

var policySchema = schema(attrs("resolver", "shadow"), labelled("rule", "name"), blocks("otherwise"))

// otherwiseName is what decisions of the otherwise block are called by.
const otherwiseName = "otherwise"

func (l *loader) buildPolicy(p *policyBlock) {
	l.checkJSONOrder(p)
	b := l.open(p.src, policySchema)
	p.resolver = b.resolver("resolver")
	p.shadow = l.shadowOf(b, p.name)
	p.notes[0], p.signs[0] = len(l.notes), len(l.signs)
	seen := map[string]hcl.Range{}
	for _, x := range b.blocks {
		if x.Type != "rule" {
			continue
		}
		name := x.Labels[0]
		switch first, taken := seen[name]; {
		case !l.checkTitle(name, x.LabelRanges[0], "rule"):
		case taken:
			l.errorAt(x.LabelRanges[0], "Duplicate name", fmt.Sprintf("There is a rule %q in this policy already, at %s. Give one of them another name.", name, place(first)))
		case name == otherwiseName:
			l.errorAt(x.LabelRanges[0], "Invalid name", "The name \"otherwise\" belongs to the otherwise block.")
		}
		seen[name] = x.DefRange
		p.rules = append(p.rules, l.buildRule(p, x, name))
	}
	if o := b.one(otherwiseName); o != nil {
		p.otherwise = l.buildRule(p, o, otherwiseName)
	}
	if len(p.rules) == 0 && p.otherwise == nil {
		l.errorAt(p.src.DefRange, "Empty policy", "A policy without a rule and without otherwise denies everything. If that is meant, write: otherwise { deny {} }, on lines of their own.")
	}
	l.checkReach(p)
	p.notes[1], p.signs[1] = len(l.notes), len(l.signs)
}

// checkJSONOrder refuses rules as an object of several: programs that write JSON do not keep the order of its keys.
func (l *loader) checkJSONOrder(p *policyBlock) {
	if !isJSON(p.src.DefRange.Filename) {
		return
	}
	attrs, _ := p.src.Body.JustAttributes() // Content reports what is wrong with them
	a := attrs["rule"]
	if a == nil {
		return
	}
	several := func(e hcl.Expression) bool {
		pairs, diags := hcl.ExprMap(e)
		return !diags.HasErrors() && len(pairs) > 1
	}
	items, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		items = []hcl.Expression{a.Expr}
	}
	for _, item := range items {
		if several(item) {
			l.errorAt(a.NameRange, "Rules without an order", `In JSON rules are an array of objects with one name each, [{"first": {…}}, {"second": {…}}], because the keys of an object have no order, and the first rule that matches decides.`)
			return
		}
	}
}

// denied is the decision where no rule takes the flow and there is no otherwise.
func (p *policyBlock) denied(generation uint64) *connmodel.Decision {
	return &connmodel.Decision{
		Generation: generation, Policy: p.name, File: p.src.DefRange.Filename, Line: p.src.DefRange.Start.Line,
		Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 403},
	}
}
