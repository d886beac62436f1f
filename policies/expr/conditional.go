package expr

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
)

// conditional compiles `a ? b : c`. Both branches are checked, also the one that is never taken.
func (c *compiler) conditional(e *hclsyntax.ConditionalExpr) *node {
	cond, a, b := c.compile(e.Condition), c.compile(e.TrueResult), c.compile(e.FalseResult)
	if !c.wantBool(cond, "The condition of ?: needs") || anyBad(a, b) {
		return badNode(e.SrcRange)
	}
	if allConstant(cond, a, b) {
		x := c.fold(&hclsyntax.ConditionalExpr{Condition: cond.literal(), TrueResult: a.literal(), FalseResult: b.literal(), SrcRange: e.SrcRange}, e.SrcRange)
		x.facts = cond.facts
		return x
	}
	a, b = c.sameKind(a, b)
	if a.kind != b.kind {
		return c.errorf(e.SrcRange, wrongType, "The branches of ?: must be of one type, but the first is %s and the second is %s.", a.kind, b.kind)
	}
	if cond.constant() {
		if cond.val.True() {
			return a
		}
		return b
	}
	return c.branch(e.SrcRange, cond, a, b)
}

// sameKind makes null an address, and dates and times texts, where the other side is one.
func (c *compiler) sameKind(a, b *node) (*node, *node) {
	if a.kind == kindNull && b.kind == kindAddress {
		a = nullAddress(a)
	}
	if b.kind == kindNull && a.kind == kindAddress {
		b = nullAddress(b)
	}
	if a.kind == kindString && (b.kind == kindDate || b.kind == kindClock) {
		b = b.asText()
	}
	if b.kind == kindString && (a.kind == kindDate || a.kind == kindClock) {
		a = a.asText()
	}
	return a, b
}

func nullAddress(n *node) *node {
	return &node{kind: kindAddress, rng: n.rng, addr: func(*connmodel.Facts) netip.Addr { return netip.Addr{} }}
}

// asText is a date or time of day as the text that it is.
func (n *node) asText() *node {
	x := *n
	x.kind, x.span = kindString, span{}
	x.cost = max(x.cost, costSearch) // the text is built
	return &x
}

// branch takes one of two nodes of the same kind.
func (c *compiler) branch(rng hcl.Range, cond, a, b *node) *node {
	n := flow(a.kind, rng, cond, a, b)
	test := cond.test
	switch a.kind {
	case kindBool:
		x, y := a.test, b.test
		n.test = func(f *connmodel.Facts) bool {
			if test(f) {
				return x(f)
			}
			return y(f)
		}
	case kindNumber, kindDate, kindClock:
		x, y := a.num, b.num
		n.span = a.span.join(b.span)
		n.num = func(f *connmodel.Facts) float64 {
			if test(f) {
				return x(f)
			}
			return y(f)
		}
		if a.kind != kindNumber {
			n.str = branchText(test, a.str, b.str)
		}
	case kindString:
		n.str = branchText(test, a.str, b.str)
		n.domain.lower = a.lowerCase() && b.lowerCase()
	case kindAddress:
		x, y := a.addr, b.addr
		n.addr = func(f *connmodel.Facts) netip.Addr {
			if test(f) {
				return x(f)
			}
			return y(f)
		}
	default:
		return c.errorf(rng, wrongType, "%s cannot be chosen by ?: when that depends on the flow. Choose between the conditions instead: a ? contains(x, …) : contains(y, …).", capital(a.kind.String()))
	}
	branchReach(n, cond, a, b)
	return n
}

func branchText(test func(*connmodel.Facts) bool, x, y func(*connmodel.Facts) string) func(*connmodel.Facts) string {
	return func(f *connmodel.Facts) string {
		if test(f) {
			return x(f)
		}
		return y(f)
	}
}

// branchReach makes the node depend on missing facts only where the branch that is taken does.
func branchReach(n, cond, a, b *node) {
	if n.reach == nil {
		return
	}
	if n.kind == kindBool {
		cond, x, y := cond.outcome(), a.outcome(), b.outcome()
		n.setOutcome(func(f *connmodel.Facts) tri {
			c := cond(f)
			switch c {
			case yes:
				return x(f)
			case no:
				return y(f)
			}
			a, b := x(f), y(f)
			if a == b && a <= yes {
				return a
			}
			return unknown(c.need() | a.need() | b.need())
		})
		return
	}
	choose, x, y := cond.outcome(), a.reach, b.reach
	n.reach = func(f *connmodel.Facts) (need connmodel.Need) {
		c := choose(f)
		if c != no && x != nil {
			need |= x(f)
		}
		if c != yes && y != nil {
			need |= y(f)
		}
		return need | c.need()
	}
}

// choice takes one of several nodes by a number whose span has been checked.
func (c *compiler) choice(rng hcl.Range, list []*node, key *node) *node {
	for _, x := range list {
		if x.kind == kindBad || x.kind != list[0].kind {
			return c.errorf(rng, wrongType, "The elements of the list must be of one type, but they are %s and %s.", list[0].kind, x.kind)
		}
	}
	n := flow(list[0].kind, rng, append([]*node{key}, list...)...)
	at := key.num
	switch n.kind {
	case kindBool:
		get := make([]func(*connmodel.Facts) bool, len(list))
		for i, x := range list {
			get[i] = x.test
		}
		n.test = func(f *connmodel.Facts) bool { return get[clamp(at(f), len(get))](f) }
	case kindNumber:
		get := make([]func(*connmodel.Facts) float64, len(list))
		n.span = list[0].span
		for i, x := range list {
			get[i], n.span = x.num, n.span.join(x.span)
		}
		n.num = func(f *connmodel.Facts) float64 { return get[clamp(at(f), len(get))](f) }
	case kindString:
		get := make([]func(*connmodel.Facts) string, len(list))
		for i, x := range list {
			get[i] = x.str
		}
		n.str = func(f *connmodel.Facts) string { return get[clamp(at(f), len(get))](f) }
	default:
		return c.errorf(rng, wrongType, "The elements must be texts, numbers or true and false to be taken by an index that depends on the flow; these are %s.", n.kind)
	}
	return n
}

// clamp makes an index safe whatever the facts are (a year of 20000 is outside of every span).
func clamp(v float64, n int) int { return min(max(int(v), 0), n-1) }
