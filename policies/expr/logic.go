package expr

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
)

// not compiles `!x`.
func (c *compiler) not(e hclsyntax.Expression, n *node) *node {
	if !c.wantBool(n, "! needs") {
		return badNode(e.Range())
	}
	if n.constant() {
		x := boolNode(e.Range(), n.val.False())
		x.facts = n.facts
		return x
	}
	return negation(n, e.Range())
}

func negation(n *node, rng hcl.Range) *node {
	x := flow(kindBool, rng, n)
	test := n.test
	x.test = func(f *connmodel.Facts) bool { return !test(f) }
	if n.filter != nil {
		x.filter = &connmodel.Filter{Op: connmodel.FilterNot, Args: []*connmodel.Filter{n.filter}}
	}
	if n.reach != nil {
		t := n.outcome()
		x.setOutcome(func(f *connmodel.Facts) tri {
			switch v := t(f); v {
			case yes:
				return no
			case no:
				return yes
			default:
				return v
			}
		})
	}
	return x
}

func (c *compiler) wantBool(n *node, who string) bool {
	if n.kind == kindBool {
		return true
	}
	if n.kind != kindBad {
		c.errorf(n.rng, wrongType, "%s something that is true or false, but this is %s.%s", who, n.kind, boolHint(n))
	}
	return false
}

func boolHint(n *node) string {
	switch n.kind {
	case kindString:
		if s, ok := n.text(); ok && (s == "true" || s == "false") {
			return " Write " + s + " without quotes."
		}
		return ` Compare it, as in … == "text".`
	case kindNumber:
		return " Compare it, as in … > 0."
	case kindAddress:
		return " Compare it, as in … != null, or use cidr()."
	}
	return ""
}

// logical compiles a chain of one operator, `a && b && c` or `a || b || c`.
func (c *compiler) logical(e *hclsyntax.BinaryOpExpr) *node {
	and := e.Op == hclsyntax.OpLogicalAnd
	who := "|| needs"
	if and {
		who = "&& needs"
	}
	var rest []*node // what depends on the flow
	var decided *node
	ok := true
	for _, x := range chain(e) {
		n := c.compile(x)
		if !c.wantBool(n, who) {
			ok = false
			continue
		}
		if !n.constant() {
			rest = append(rest, n)
			continue
		}
		c.warnConstant(x, n, and)
		if n.val.True() != and && decided == nil {
			decided = n
		}
	}
	switch {
	case !ok:
		return badNode(e.SrcRange)
	case decided != nil || len(rest) == 0:
		x := boolNode(e.SrcRange, and == (decided == nil))
		x.facts = decided != nil && decided.facts
		return x
	case len(rest) == 1:
		return rest[0]
	}
	return c.joinFilters(join(rest, and, e.SrcRange), rest, and)
}

// chain lists the operands of a chain of one operator in written order. It does not recurse, so that generated
// conditions may be long.
func chain(e *hclsyntax.BinaryOpExpr) []hclsyntax.Expression {
	var list []hclsyntax.Expression
	var x hclsyntax.Expression = e
	for {
		b, ok := x.(*hclsyntax.BinaryOpExpr)
		if !ok || b.Op != e.Op {
			list = append(list, x)
			slices.Reverse(list)
			return list
		}
		list = append(list, b.RHS)
		x = b.LHS
	}
}

// warnConstant warns of an operand that is written as a constant, or that facts can never change. What comes from local.*
// and var.* is a switch that somebody wants to have.
func (c *compiler) warnConstant(x hclsyntax.Expression, n *node, and bool) {
	if len(x.Variables()) > 0 && !n.facts {
		return
	}
	value, effect := "false", "it has no effect here and can be left out"
	if n.val.True() {
		value = "true"
	}
	if n.val.True() != and {
		effect = "so the whole is always " + value
	}
	c.report(hcl.DiagWarning, x.Range(), noEffect, "This is always "+value+": "+effect+".")
}

// join makes the closure of a chain. The operands are tried in order of cost: none of them can fail or has an effect, so
// the order is not to be seen.
func join(list []*node, and bool, rng hcl.Range) *node {
	n := flow(kindBool, rng, list...)
	if n.reach != nil {
		n.setOutcome(joinOutcome(list, and))
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *node) int { return int(a.cost) - int(b.cost) })
	tests := make([]func(*connmodel.Facts) bool, len(sorted))
	for i, o := range sorted {
		tests[i] = o.test
	}
	if and {
		n.test = allOf(tests)
	} else {
		n.test = anyOf(tests)
	}
	return n
}

func allOf(t []func(*connmodel.Facts) bool) func(*connmodel.Facts) bool {
	switch len(t) {
	case 2:
		a, b := t[0], t[1]
		return func(f *connmodel.Facts) bool { return a(f) && b(f) }
	case 3:
		a, b, d := t[0], t[1], t[2]
		return func(f *connmodel.Facts) bool { return a(f) && b(f) && d(f) }
	}
	return func(f *connmodel.Facts) bool {
		for _, test := range t {
			if !test(f) {
				return false
			}
		}
		return true
	}
}

func anyOf(t []func(*connmodel.Facts) bool) func(*connmodel.Facts) bool {
	switch len(t) {
	case 1:
		return t[0]
	case 2:
		a, b := t[0], t[1]
		return func(f *connmodel.Facts) bool { return a(f) || b(f) }
	case 3:
		a, b, d := t[0], t[1], t[2]
		return func(f *connmodel.Facts) bool { return a(f) || b(f) || d(f) }
	}
	return func(f *connmodel.Facts) bool {
		for _, test := range t {
			if test(f) {
				return true
			}
		}
		return false
	}
}

// joinOutcome is the chain in three values: one operand that decides is enough, whatever the others are.
func joinOutcome(list []*node, and bool) func(*connmodel.Facts) tri {
	outcomes := make([]func(*connmodel.Facts) tri, len(list))
	for i, o := range list {
		outcomes[i] = o.outcome()
	}
	decides := known(!and)
	return func(f *connmodel.Facts) tri {
		missing := no
		for _, t := range outcomes {
			switch v := t(f); {
			case v == decides:
				return decides
			case v > yes:
				missing |= v
			}
		}
		if missing != no {
			return missing
		}
		return known(and)
	}
}
