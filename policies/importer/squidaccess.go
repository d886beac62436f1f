package importer

import (
	"fmt"
	"strings"
)

// access is a line of an access list: all sets must hold.
type access struct {
	squidLine
	allow bool
	sets  []term
}

type term struct {
	acl *acl
	neg bool
}

// accessLine reads "LIST allow|deny [!]acl...", from a word on.
func (s *squid) accessLine(l squidLine, from int) (*access, error) {
	if len(l.words) < from+1 {
		return nil, l.errorf("%s wants allow or deny", l.words[0])
	}
	a := &access{squidLine: l}
	switch l.words[from] {
	case "allow":
		a.allow = true
	case "deny":
	default:
		return nil, l.errorf("%s: %q is neither allow nor deny", l.words[0], oneLine(l.words[from]))
	}
	for _, w := range l.words[from+1:] {
		name, neg := strings.CutPrefix(w, "!")
		x := s.acls[name]
		if x == nil {
			return nil, l.errorf("acl %q is not defined above", oneLine(name))
		}
		a.sets = append(a.sets, term{x, neg})
	}
	return a, nil
}

// formula is what a line takes: rounded up, a set that is not known takes everything, else nothing.
func (a *access) formula(r rounding) formula {
	f := always
	for _, t := range a.sets {
		var one formula
		switch {
		case t.acl.unknown != "" && r.up:
			r.miss()
			one = always
		case t.acl.unknown != "":
			r.miss()
			return nil
		case t.acl.all && !t.neg:
			one = always
		case t.acl.all:
			return nil
		case t.neg:
			one = always
			for _, x := range t.acl.tests {
				one = and(one, formula{{not: [][]test{{x}}}}, r)
			}
		default:
			for _, x := range t.acl.tests {
				one = append(one, conj{have: []test{x}})
			}
		}
		f = and(f, one, r)
	}
	return f
}

// allowed is what a list allows, rounded: the first line that fits decides, and where none does the opposite of the last line.
func allowed(list []*access, r rounding) formula {
	open := always // what no line has taken yet
	var out formula
	down := rounding{false, r.lost}
	up := rounding{true, r.lost}
	for _, a := range list {
		if a.allow {
			out = or(out, and(open, a.formula(r), r))
			// what is allowed already need not be kept out of what follows, but of denials it must
			open = and(open, not(a.formula(flip(r, down, up)), r), r)
			continue
		}
		open = and(open, not(a.formula(flip(r, down, up)), r), r)
	}
	if n := len(list); n > 0 && !list[n-1].allow {
		out = or(out, open)
	}
	return out
}

// flip is the other way to round: what is taken out of a formula that may not be too large must not be too small.
func flip(r, down, up rounding) rounding {
	if r.up {
		return down
	}
	return up
}

// denials writes the rules that deny what http_access denies: what they let by is allowed.
func (s *squid) denials() {
	lost := false
	up, down := rounding{true, &lost}, rounding{false, &lost}
	passed := always // not allowed by a line above
	for _, a := range s.http {
		lost = false
		if a.allow {
			passed = and(passed, not(a.formula(down), up), up)
		} else {
			s.deny(fmt.Sprintf("http_access line %d", a.line), a.text, and(passed, a.formula(up), up))
		}
		if lost {
			s.d.leave(a.place, a.text, "It cannot be said exactly in rules, so it allows less, or denies more, than it did.")
		}
		if !a.allow && a.formula(down).always() {
			return // nothing comes further
		}
	}
	switch n := len(s.http); {
	case n == 0:
		s.d.note("There is no http_access line, so Squid denies everything, and so does this policy.")
		s.closed = true
	case s.http[n-1].allow:
		s.deny("http_access, what no line takes", "the last line allows, so Squid denies the rest", passed)
	}
}

func (s *squid) deny(title, comment string, f formula) {
	if f.never() {
		return
	}
	if f.always() {
		s.closed = true // it comes last
		return
	}
	s.d.rule(title, fmt.Sprintf("# %s\n%sdeny {\nreason = %s\n}", oneLine(comment), f.hcl(), quote("denied by "+title)))
}
