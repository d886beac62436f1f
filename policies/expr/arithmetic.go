package expr

import (
	"math"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

func (c *compiler) wantNumber(n *node, who string) bool {
	if n.kind == kindNumber {
		return true
	}
	if n.kind != kindBad {
		hint := ""
		switch {
		case n.kind == kindString && who == "+ needs":
			hint = ` Texts are joined in a template: "${a}${b}".`
		case n.kind == kindString:
			hint = " Use tonumber(text, default) if it holds a number."
		}
		c.errorf(n.rng, wrongType, "%s a number, but this is %s.%s", who, n.kind, hint)
	}
	return false
}

// negate compiles `-x`.
func (c *compiler) negate(e hclsyntax.Expression, n *node) *node {
	if !c.wantNumber(n, "- needs") {
		return badNode(e.Range())
	}
	if n.constant() {
		return c.constant(n.val.Negate(), e.Range())
	}
	x := flow(kindNumber, e.Range(), n)
	x.span = span{-n.span.hi, -n.span.lo, n.span.whole}
	num := n.num
	x.num = func(f *connmodel.Facts) float64 { return 0 - num(f) } // never -0
	return x
}

// arithmetic compiles + - * / %.
func (c *compiler) arithmetic(e *hclsyntax.BinaryOpExpr, l, r *node) *node {
	symbol := symbols[e.Op]
	if lok, rok := c.wantNumber(l, symbol+" needs"), c.wantNumber(r, symbol+" needs"); !lok || !rok {
		return badNode(e.SrcRange)
	}
	divides := e.Op == hclsyntax.OpDivide || e.Op == hclsyntax.OpModulo
	if divides && r.span.holds(0) {
		if r.constant() {
			return c.errorf(r.rng, mayFail, "Nothing can be divided by zero.")
		}
		return c.errorf(r.rng, mayFail, "This can be zero, and nothing can be divided by zero. Use max(1, …) round it.")
	}
	if allConstant(l, r) {
		v, err := e.Op.Impl.Call([]cty.Value{l.val, r.val})
		if err != nil {
			return c.errorf(e.SrcRange, invalidArgument, "This cannot be calculated: %s.", err)
		}
		return c.constant(v, e.SrcRange)
	}
	n := flow(kindNumber, e.SrcRange, l, r)
	a, b := l.num, r.num
	switch e.Op {
	case hclsyntax.OpAdd:
		n.span = over(l.span, r.span, func(x, y float64) float64 { return x + y })
		n.num = func(f *connmodel.Facts) float64 { return a(f) + b(f) }
	case hclsyntax.OpSubtract:
		n.span = over(l.span, r.span, func(x, y float64) float64 { return x - y })
		n.num = func(f *connmodel.Facts) float64 { return a(f) - b(f) }
	case hclsyntax.OpMultiply:
		n.span = over(l.span, r.span, func(x, y float64) float64 { return x * y })
		n.num = func(f *connmodel.Facts) float64 { return a(f) * b(f) }
	case hclsyntax.OpDivide:
		n.span = over(l.span, r.span, func(x, y float64) float64 { return x / y })
		n.span.whole = false
		n.num = func(f *connmodel.Facts) float64 { return a(f) / b(f) }
	case hclsyntax.OpModulo:
		n.span = remainder(l.span, r.span)
		n.num = func(f *connmodel.Facts) float64 { return math.Mod(a(f), b(f)) }
		if r.constant() && l.span.whole && r.span.whole && !n.null { // some ten times as fast
			k := int64(r.span.lo)
			n.num = func(f *connmodel.Facts) float64 { return float64(int64(a(f)) % k) }
		}
	}
	return c.checkExact(n)
}

var symbols = map[*hclsyntax.Operation]string{
	hclsyntax.OpAdd: "+", hclsyntax.OpSubtract: "-", hclsyntax.OpMultiply: "*", hclsyntax.OpDivide: "/", hclsyntax.OpModulo: "%",
}

// checkExact refuses a number that can grow beyond what is exact.
func (c *compiler) checkExact(n *node) *node {
	if !n.span.exact() {
		return c.errorf(n.rng, tooLarge, "This can become larger than 9007199254740992 (2 to the power of 53), beyond which numbers are not exact.")
	}
	return n
}

// remainder is the span of a % b, which has the sign of a and is smaller than b.
func remainder(a, b span) span {
	m := max(math.Abs(b.lo), math.Abs(b.hi))
	s := span{max(-m, min(a.lo, 0)), min(m, max(a.hi, 0)), a.whole && b.whole}
	if s.whole { // strictly smaller than b
		s.lo, s.hi = max(s.lo, -(m-1)), min(s.hi, m-1)
	}
	return s
}

// numberNode is a function of one number.
func (c *compiler) numberNode(rng hcl.Range, n *node, s span, op func(float64) float64) *node {
	x := flow(kindNumber, rng, n)
	x.span = s
	num := n.num
	x.num = func(f *connmodel.Facts) float64 { return op(num(f)) }
	return x
}
