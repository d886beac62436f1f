package expr

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
)

// ordering compiles < <= > >=.
func (c *compiler) ordering(e *hclsyntax.BinaryOpExpr, l, r *node) *node {
	if l.kind == kindString && l.constant() && (r.kind == kindDate || r.kind == kindClock || r.kind == kindMoment || r.seconds) {
		l = c.moment(r, l)
	} else if r.kind == kindString && r.constant() && (l.kind == kindDate || l.kind == kindClock || l.kind == kindMoment || l.seconds) {
		r = c.moment(l, r)
	}
	if anyBad(l, r) {
		return badNode(e.SrcRange)
	}
	for _, o := range []*node{l, r} {
		switch o.kind {
		case kindNumber, kindDate, kindClock, kindMoment:
		default:
			if c.record != nil {
				return c.errorf(o.rng, wrongType, "Only numbers and times have an order; this is %s.%s", o.kind, orderHint(o))
			}
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
	if v, fixed := lessFixed(l.span, r.span, orEqual); fixed && !(v && n.null) {
		x := boolNode(n.rng, v)
		x.facts = !allConstant(l, r)
		return x
	}
	n.test = less(l, r, orEqual)
	return c.testOrder(n, l, r, orEqual)
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

// moment turns a literal that is compared with now.date or now.time, a time of a record or a length of time, into its number.
func (c *compiler) moment(with, n *node) *node {
	k := with.kind
	text, _ := n.text()
	parse := parseDate
	switch k {
	case kindClock:
		parse = parseClock
	case kindMoment:
		parse = c.record.parseMoment
	case kindNumber:
		parse = parseSeconds
	}
	v, problem := parse(text)
	if problem != "" {
		return c.errorf(n.rng, invalidArgument, "%q %s.", text, problem)
	}
	return &node{kind: k, rng: n.rng, val: n.val, span: point(v), num: func(*connmodel.Facts) float64 { return v }}
}
