package expr

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
)

// ordering compiles < <= > >=.
func (c *compiler) ordering(e *hclsyntax.BinaryOpExpr, l, r *node) *node {
	if l.kind == kindString && l.constant() && (r.kind == kindDate || r.kind == kindClock) {
		l = c.moment(r.kind, l)
	} else if r.kind == kindString && r.constant() && (l.kind == kindDate || l.kind == kindClock) {
		r = c.moment(l.kind, r)
	}
	if anyBad(l, r) {
		return badNode(e.SrcRange)
	}
	for _, o := range []*node{l, r} {
		switch o.kind {
		case kindNumber, kindDate, kindClock:
		default:
			return c.errorf(o.rng, wrongType, "Only numbers have an order, and now.date and now.time; this is %s.%s", o.kind, orderHint(o))
		}
	}
	if l.kind != r.kind {
		return c.errorf(e.SrcRange, wrongType, "%s and %s have no order between them.", capital(l.kind.String()), r.kind)
	}
	if e.Op == hclsyntax.OpGreaterThan || e.Op == hclsyntax.OpGreaterThanOrEqual {
		l, r = r, l
	}
	orEqual := e.Op == hclsyntax.OpGreaterThanOrEqual || e.Op == hclsyntax.OpLessThanOrEqual
	n := flow(kindBool, e.SrcRange, l, r)
	if v, fixed := lessFixed(l.span, r.span, orEqual); fixed {
		x := boolNode(n.rng, v)
		x.facts = !allConstant(l, r)
		return x
	}
	n.test = less(l, r, orEqual)
	return n
}

func orderHint(n *node) string {
	if n.kind == kindString {
		if s, ok := n.text(); ok {
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				return fmt.Sprintf(" Write %s without quotes.", s)
			}
		}
		return " Use tonumber(text, default) if it holds a number."
	}
	return ""
}

// lessFixed reports whether a < b (or a <= b) comes out the same for all values of the spans.
func lessFixed(a, b span, orEqual bool) (value, fixed bool) {
	if orEqual {
		switch {
		case a.hi <= b.lo:
			return true, true
		case a.lo > b.hi:
			return false, true
		}
		return false, false
	}
	switch {
	case a.hi < b.lo:
		return true, true
	case a.lo >= b.hi:
		return false, true
	}
	return false, false
}

func less(l, r *node, orEqual bool) func(*connmodel.Facts) bool {
	a, b := l.num, r.num
	switch {
	case r.constant() && orEqual:
		k := r.span.lo
		return func(f *connmodel.Facts) bool { return a(f) <= k }
	case r.constant():
		k := r.span.lo
		return func(f *connmodel.Facts) bool { return a(f) < k }
	case l.constant() && orEqual:
		k := l.span.lo
		return func(f *connmodel.Facts) bool { return k <= b(f) }
	case l.constant():
		k := l.span.lo
		return func(f *connmodel.Facts) bool { return k < b(f) }
	case orEqual:
		return func(f *connmodel.Facts) bool { return a(f) <= b(f) }
	}
	return func(f *connmodel.Facts) bool { return a(f) < b(f) }
}

// moment turns a literal that is compared with now.date or now.time into its number.
func (c *compiler) moment(k kind, n *node) *node {
	text, _ := n.text()
	parse := parseDate
	if k == kindClock {
		parse = parseClock
	}
	v, problem := parse(text)
	if problem != "" {
		return c.errorf(n.rng, invalidArgument, "%q %s.", text, problem)
	}
	return &node{kind: k, rng: n.rng, val: n.val, span: point(v), num: func(*connmodel.Facts) float64 { return v }}
}
