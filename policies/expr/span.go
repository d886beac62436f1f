package expr

import "math"

// maxExact is the largest magnitude up to which a float64 holds every whole number.
const maxExact = 1 << 53

// span is the range a number can lie in. It finds at load what could fail or lose exactness, and comparisons that always
// come out the same.
type span struct {
	lo, hi float64
	whole  bool // only whole numbers
}

func point(v float64) span { return span{v, v, v == math.Trunc(v)} }

func (s span) holds(v float64) bool { return s.lo <= v && v <= s.hi }
func (s span) exact() bool          { return s.lo >= -maxExact && s.hi <= maxExact }

// over is the span of a function that is monotonic in both arguments, each by itself: its extremes are at the corners.
func over(a, b span, op func(x, y float64) float64) span {
	w, x, y, z := op(a.lo, b.lo), op(a.lo, b.hi), op(a.hi, b.lo), op(a.hi, b.hi)
	return span{lo: min(w, x, y, z), hi: max(w, x, y, z), whole: a.whole && b.whole}
}

func (s span) join(t span) span {
	return span{min(s.lo, t.lo), max(s.hi, t.hi), s.whole && t.whole}
}
