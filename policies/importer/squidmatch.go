package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// test is one attribute of a match block and what it holds: a value of one kind or another.
type test struct {
	attr  string // "host", "client", "port", …
	texts []string
	nets  []netip.Prefix
	ports [][2]int
}

// conj is a match block to be: all of have hold, and none of the groups of not does. A group holds when all of its tests do.
type conj struct {
	have []test
	not  [][]test
}

// formula is match blocks of which one must hold. nil never holds; one without tests always does.
type formula []conj

var always = formula{{}}

func (f formula) never() bool { return len(f) == 0 }

func (f formula) always() bool {
	return slices.ContainsFunc(f, func(c conj) bool { return len(c.have)+len(c.not) == 0 })
}

// maxBlocks bounds what lines make when they are multiplied out.
const maxBlocks = 64

// rounding says which way a formula may be wrong where the language cannot say exactly what is meant: it takes too much, or too little. lost is set
// when it did.
type rounding struct {
	up   bool
	lost *bool
}

func (r rounding) miss() { *r.lost = true }

// and is both.
func and(a, b formula, r rounding) formula {
	var out formula
	for _, x := range a {
		for _, y := range b {
			c, sense := x.with(y, r)
			if !sense {
				continue
			}
			if out = append(out, c); len(out) > maxBlocks {
				r.miss()
				if r.up {
					return always
				}
				return nil
			}
		}
	}
	return out.simple()
}

// or is either.
func or(a, b formula) formula { return append(slices.Clone(a), b...).simple() }

// not is the opposite.
func not(f formula, r rounding) formula {
	out := always
	for _, c := range f {
		var one formula // what keeps c from holding
		if len(c.not) == 0 && len(c.have) > 0 {
			one = formula{{not: [][]test{c.have}}}
		} else {
			if len(c.have) > 0 {
				one = append(one, conj{not: [][]test{c.have}})
			}
			for _, g := range c.not {
				one = append(one, conj{have: g})
			}
		}
		out = and(out, one, r)
	}
	return out
}

// simple leaves out blocks that another takes.
func (f formula) simple() formula {
	if f.always() {
		return always
	}
	var out formula
	for _, c := range f {
		if !slices.ContainsFunc(out, func(o conj) bool { return o.key() == c.key() }) {
			out = append(out, c)
		}
	}
	return out
}

func (c conj) key() string { return c.hcl() }

// with is both blocks in one; false when they exclude each other.
func (c conj) with(o conj, r rounding) (conj, bool) {
	out := conj{have: slices.Clone(c.have), not: slices.Clone(c.not)}
	for _, t := range o.have {
		i := slices.IndexFunc(out.have, func(x test) bool { return x.attr == t.attr })
		if i < 0 {
			out.have = append(out.have, t)
			continue
		}
		both, sense, ok := meet(out.have[i], t)
		switch {
		case !ok && r.up: // one test less takes more
			r.miss()
		case !ok:
			r.miss()
			return conj{}, false
		case !sense:
			return conj{}, false
		default:
			out.have[i] = both
		}
	}
	for _, g := range o.not {
		if !slices.ContainsFunc(out.not, func(x []test) bool { return groupKey(x) == groupKey(g) }) {
			out.not = append(out.not, g)
		}
	}
	// A group that is wholly among what is asked for can never be kept out.
	for _, g := range out.not {
		if !slices.ContainsFunc(g, func(t test) bool {
			return !slices.ContainsFunc(out.have, func(h test) bool { return h.hcl() == t.hcl() })
		}) {
			return conj{}, false
		}
	}
	return out, true
}

func groupKey(g []test) string {
	var s []string
	for _, t := range g {
		s = append(s, t.hcl())
	}
	slices.Sort(s)
	return strings.Join(s, "\n")
}

// meet is what both tests take; sense is false when that is nothing, ok when it cannot be said.
func meet(a, b test) (both test, sense, ok bool) {
	if a.hcl() == b.hcl() {
		return a, true, true
	}
	both.attr = a.attr
	switch a.attr {
	case "client":
		both.nets = intersect(a.nets, b.nets)
		return both, len(both.nets) > 0, true
	case "port":
		for _, x := range a.ports {
			for _, y := range b.ports {
				if lo, hi := max(x[0], y[0]), min(x[1], y[1]); lo <= hi {
					both.ports = append(both.ports, [2]int{lo, hi})
				}
			}
		}
		return both, len(both.ports) > 0, true
	case "method", "protocol", "listener":
		for _, x := range a.texts {
			if slices.Contains(b.texts, x) {
				both.texts = append(both.texts, x)
			}
		}
		return both, len(both.texts) > 0, true
	case "user":
		switch {
		case slices.Equal(a.texts, []string{"*"}):
			return b, true, true
		case slices.Equal(b.texts, []string{"*"}):
			return a, true, true
		}
		for _, x := range a.texts {
			if slices.Contains(b.texts, x) {
				both.texts = append(both.texts, x)
			}
		}
		return both, len(both.texts) > 0, true
	case "host":
		return meetHosts(a, b)
	}
	return both, false, false // an address may be in one network, and another of the same name in the other
}

// meetHosts intersects names and trees (".example.com"), one of which holds the other or has nothing in common with it.
func meetHosts(a, b test) (both test, sense, ok bool) {
	both.attr = "host"
	for _, x := range append(slices.Clone(a.texts), b.texts...) {
		if strings.ContainsAny(x, "/*?[") {
			return both, false, false
		}
	}
	for _, x := range a.texts {
		for _, y := range b.texts {
			switch {
			case inTree(x, y):
				both.texts = append(both.texts, x)
			case inTree(y, x):
				both.texts = append(both.texts, y)
			}
		}
	}
	slices.Sort(both.texts)
	both.texts = slices.Compact(both.texts)
	return both, len(both.texts) > 0, true
}

// inTree reports whether x takes only hosts that y takes.
func inTree(x, y string) bool {
	return x == y || strings.HasPrefix(y, ".") && (strings.HasSuffix(x, y) || x == y[1:])
}

// hcl is the attribute.
func (t test) hcl() string {
	list := t.texts
	switch {
	case t.nets != nil:
		list = prefixTexts(t.nets)
	case t.ports != nil:
		list = nil
		for _, p := range t.ports {
			if p[0] == p[1] {
				list = append(list, fmt.Sprint(p[0]))
			} else {
				list = append(list, fmt.Sprintf("%d-%d", p[0], p[1]))
			}
		}
	}
	quoted := make([]string, len(list))
	for i, s := range list {
		if quoted[i] = quote(s); t.ports != nil && !strings.Contains(s, "-") {
			quoted[i] = s
		}
	}
	if len(list) == 1 {
		return t.attr + " = " + quoted[0]
	}
	return t.attr + " = [" + strings.Join(quoted, ", ") + "]"
}

func (c conj) hcl() string {
	var b strings.Builder
	for _, t := range c.have {
		b.WriteString(t.hcl() + "\n")
	}
	for _, g := range c.not {
		b.WriteString("not {\n")
		for _, t := range g {
			b.WriteString(t.hcl() + "\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// hcl is the match blocks; "" for what always holds.
func (f formula) hcl() string {
	if f.always() {
		return ""
	}
	var b strings.Builder
	for _, c := range f {
		fmt.Fprintf(&b, "match {\n%s}\n", c.hcl())
	}
	return b.String()
}
