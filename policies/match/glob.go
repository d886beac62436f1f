package match

import (
	"strings"
)

// Glob is a compiled pattern with wildcards that has to take the whole of a string:
//
//   - any bytes, also none; dots and slashes are nothing special
//     ?        exactly one byte
//     [a-z_]   one byte of the class; [!a-z] or [^a-z] one byte that is not in it
//
// Everything else stands for itself, also the backslash; a wildcard itself is written as a class of one, [*]. A `]` that
// comes first in a class, and a `-` that comes first or last, stand for themselves. Bytes are compared as they are:
// folding case is up to the caller, and names, paths and URLs are ASCII when they get here.
//
// Matching never backtracks over more than one `*`: it takes the leftmost place for each part between two of them,
// which is right because a part that fits earlier leaves more to those behind it. The time is bounded by the length of
// the string times the length of the pattern, and near the former when the parts have no `?` or class. A Glob is safe
// for concurrent use. The zero Glob takes the empty string only.
type Glob struct {
	pattern string
	star    bool   // there is a `*`; else head is the whole pattern
	head    part   // before the first `*`
	mid     []part // between two
	tail    part   // behind the last
	need    int    // bytes that the parts take together
}

// part is a piece of a pattern without `*`. It takes as many bytes as it has elements.
type part struct {
	lit   string // the bytes, if there are only literals
	elems []elem // else, one for each byte
}

// elem takes one byte.
type elem struct {
	lit   byte
	class *class // if it is not a literal
}

// class is a set of bytes.
type class [4]uint64

func (c *class) add(b byte)      { c[b>>6] |= 1 << (b & 63) }
func (c *class) has(b byte) bool { return c[b>>6]&(1<<(b&63)) != 0 }

// String is the pattern as given.
func (g *Glob) String() string { return g.pattern }

// Match reports whether the pattern takes the whole of s.
func (g *Glob) Match(s string) bool {
	if !g.star {
		return len(s) == g.head.len() && g.head.at(s)
	}
	if len(s) < g.need || !g.head.at(s) || !g.tail.at(s[len(s)-g.tail.len():]) {
		return false
	}
	s = s[g.head.len() : len(s)-g.tail.len()]
	for i := range g.mid {
		p := &g.mid[i]
		at := p.index(s)
		if at < 0 {
			return false
		}
		s = s[at+p.len():]
	}
	return true
}

// Suffix returns a domain that every canonical name which the pattern takes lies below, so that the clause of a host glob
// can be indexed under the host pattern "*." + domain: for ads*.example.com that is example.com. It is the longest that
// is known. ok is false if there is none, as for ads.*, and if the pattern has no wildcard.
func (g *Glob) Suffix() (domain string, ok bool) {
	last := &g.tail
	if !g.star {
		last = &g.head
	}
	lit := last.lit
	if last.elems != nil {
		i := len(last.elems)
		for i > 0 && last.elems[i-1].class == nil {
			i--
		}
		lit = g.pattern[len(g.pattern)-(len(last.elems)-i):] // a literal is one byte of the pattern
	} else if !g.star {
		return "", false
	}
	_, domain, _ = strings.Cut(lit, ".")
	if _, reason := checkName(domain); reason != "" {
		return "", false
	}
	return domain, true
}

func (p *part) len() int { return len(p.lit) + len(p.elems) }

// at reports whether s, which is long enough, begins with the part.
func (p *part) at(s string) bool {
	if p.elems == nil {
		return s[:len(p.lit)] == p.lit
	}
	for i := range p.elems {
		if e := &p.elems[i]; e.class == nil && e.lit != s[i] || e.class != nil && !e.class.has(s[i]) {
			return false
		}
	}
	return true
}

// index is the first place in s where the part fits, -1 if there is none.
func (p *part) index(s string) int {
	if p.elems == nil {
		return strings.Index(s, p.lit)
	}
	for i := 0; i+len(p.elems) <= len(s); i++ {
		if p.at(s[i:]) {
			return i
		}
	}
	return -1
}
