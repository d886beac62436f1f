package expr

import (
	"math"
	"strconv"

	"viaduct/connmodel"
)

var numberFunctions = []factFunction{
	{"min(number...)", "the smallest of the numbers", 1, -1, extreme(math.Min)},
	{"max(number...)", "the largest of the numbers", 1, -1, extreme(math.Max)},
	{"abs(number)", "the number without its sign", 1, 1, buildAbs},
	{"floor(number)", "the number rounded down", 1, 1, rounding(math.Floor)},
	{"ceil(number)", "the number rounded up", 1, 1, rounding(math.Ceil)},
	{"tonumber(text, default)", "the number that the text holds, default if it holds none or one beyond 2^53; at load, without default, that is an error", 1, 2, buildToNumber},
}

func (c *compiler) numbers(k *call) bool {
	ok := true
	for _, a := range k.args {
		ok = c.wantNumber(a, k.name+" needs") && ok
	}
	return ok
}

// extreme compiles min and max.
func extreme(op func(x, y float64) float64) func(*compiler, *call) *node {
	return func(c *compiler, k *call) *node {
		if !c.numbers(k) {
			return badNode(k.rng)
		}
		n := flow(kindNumber, k.rng, k.args...)
		get := make([]func(*connmodel.Facts) float64, len(k.args))
		n.span = k.args[0].span
		for i, a := range k.args {
			get[i] = a.num
			n.span = span{op(n.span.lo, a.span.lo), op(n.span.hi, a.span.hi), n.span.whole && a.span.whole}
		}
		n.num = func(f *connmodel.Facts) float64 {
			v := get[0](f)
			for _, g := range get[1:] {
				v = op(v, g(f))
			}
			return v
		}
		return n
	}
}

func buildAbs(c *compiler, k *call) *node {
	if !c.numbers(k) {
		return badNode(k.rng)
	}
	a := k.args[0]
	s := span{0, max(math.Abs(a.span.lo), math.Abs(a.span.hi)), a.span.whole}
	if !a.span.holds(0) {
		s.lo = min(math.Abs(a.span.lo), math.Abs(a.span.hi))
	}
	return c.numberNode(k.rng, a, s, math.Abs)
}

func rounding(op func(float64) float64) func(*compiler, *call) *node {
	return func(c *compiler, k *call) *node {
		if !c.numbers(k) {
			return badNode(k.rng)
		}
		a := k.args[0]
		return c.numberNode(k.rng, a, span{op(a.span.lo), op(a.span.hi), true}, op)
	}
}

// buildToNumber compiles tonumber of a text that comes with the flow: it has to say what a text without number is.
func buildToNumber(c *compiler, k *call) *node {
	s := k.args[0]
	switch {
	case s.kind == kindNumber:
		return s
	case s.kind == kindDate || s.kind == kindClock:
		return c.errorf(s.rng, wrongType, `%s is no number. Compare it with a text, as in now.time < "09:30".`, capital(s.kind.String()))
	case c.wantText(k, 0).kind == kindBad:
		return badNode(k.rng)
	case len(k.args) < 2:
		return c.errorf(k.rng, mayFail, "The text may hold no number. Say what is taken then: tonumber(text, 0).")
	case !c.wantNumber(k.args[1], "The default of tonumber must be"):
		return badNode(k.rng)
	}
	n := flow(kindNumber, k.rng, k.args...).searching()
	n.span = span{-maxExact, maxExact, false}
	get, fallback := s.str, k.args[1].num
	n.num = func(f *connmodel.Facts) float64 {
		if v, ok := textNumber(get(f)); ok {
			return v
		}
		return fallback(f)
	}
	return n
}

// maxDigits bounds the text of a number.
const maxDigits = 64

// textNumber reads a decimal number: what a header may hold, but no infinity, hexadecimal or underscore.
func textNumber(s string) (float64, bool) {
	if s == "" || len(s) > maxDigits {
		return 0, false
	}
	n, whole := 0, len(s) <= 15
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			n = n*10 + int(c-'0')
		case c == '.', c == '-' && i == 0:
			whole = false
		default:
			return 0, false
		}
	}
	if whole {
		return float64(n), true
	}
	v, err := strconv.ParseFloat(s, 64)
	return v + 0, err == nil && v >= -maxExact && v <= maxExact
}
