package match

// maxGlob is the longest pattern that is compiled, in bytes.
const maxGlob = 4096

// anyByte is the class of `?`.
var anyByte = &class{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

// CompileGlob compiles a pattern; see [Glob] for the language. The error is a *[PatternError].
func CompileGlob(pattern string) (*Glob, error) {
	if len(pattern) > maxGlob {
		return nil, &PatternError{pattern, maxGlob, "the pattern is longer than 4096 bytes"}
	}
	g := &Glob{pattern: pattern}
	var elems []elem
	for i := 0; i < len(pattern); {
		switch c := pattern[i]; c {
		case '*':
			g.part(elems)
			elems, g.star = elems[:0], true
			i++
		case '?':
			elems = append(elems, elem{class: anyByte})
			i++
		case '[':
			cl, end, err := compileClass(pattern, i)
			if err != nil {
				return nil, err
			}
			elems = append(elems, elem{class: cl})
			i = end
		default:
			elems = append(elems, elem{lit: c})
			i++
		}
	}
	if g.star {
		g.tail = makePart(elems)
	} else {
		g.head = makePart(elems)
	}
	g.need = g.head.len() + g.tail.len()
	for i := range g.mid {
		g.need += g.mid[i].len()
	}
	return g, nil
}

// part takes the elements before a `*`.
func (g *Glob) part(elems []elem) {
	switch {
	case !g.star:
		g.head = makePart(elems)
	case len(elems) > 0:
		g.mid = append(g.mid, makePart(elems))
	}
}

// makePart copies elems, as a string if all are literals.
func makePart(elems []elem) part {
	lit := make([]byte, 0, len(elems))
	for _, e := range elems {
		if e.class != nil {
			return part{elems: append([]elem(nil), elems...)}
		}
		lit = append(lit, e.lit)
	}
	return part{lit: string(lit)}
}

// compileClass compiles the class whose `[` is at start, and returns where it ends.
func compileClass(pattern string, start int) (c *class, end int, err error) {
	i := start + 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	c = new(class)
	for first := i; ; {
		if i >= len(pattern) {
			return nil, 0, &PatternError{pattern, start, "the class is not closed by ]"}
		}
		low := pattern[i]
		if low == ']' && i > first {
			break
		}
		high, next := low, i+1
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high, next = pattern[i+2], i+3
		}
		if low >= 0x80 || high >= 0x80 {
			return nil, 0, &PatternError{pattern, i, "only ASCII can stand in a class"}
		}
		if high < low {
			return nil, 0, &PatternError{pattern, i, "the range of the class ends before it begins"}
		}
		for b := int(low); b <= int(high); b++ {
			c.add(byte(b))
		}
		i = next
	}
	if negate {
		for i := range c {
			c[i] = ^c[i]
		}
	}
	return c, i + 1, nil
}
