package expr

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// Options is what a condition may be checked against, beyond its own text. The zero value checks nothing more.
type Options struct {
	// Listeners are the names that exist: a comparison of `listener` with another one is an error. nil = not checked.
	Listeners []string
	// Country says in which country an address is, by two letters, "" where that is not known. nil = there is nothing to ask, and conditions cannot.
	Country func(netip.Addr) string
}

// Condition is a compiled condition. It is immutable and safe for concurrent use. A Condition is made by [Compile] or
// [Fixed] only.
type Condition struct {
	eval  func(*connmodel.Facts) bool
	tri   func(*connmodel.Facts) tri // nil when no fact has to be gathered
	needs connmodel.Need             // what it may ask for
	fixed bool                       // eval always gives the same
	names []*use

	reaches []ReachUse
	headers []string
}

// Headers lists the header fields of requests that the condition looks at, in lower case.
func (c *Condition) Headers() []string { return c.headers }

// ReachUse is an address that a condition asks network.reachable about, and where it stands.
type ReachUse struct {
	To    connmodel.Address
	Range hcl.Range
}

// Reaches lists the addresses that somebody has to try for the condition.
func (c *Condition) Reaches() []ReachUse { return c.reaches }

// Compile turns a condition into closures. consts holds the names of load time (local, var) and may bring the functions
// for them; without functions [Functions] with its defaults is taken. The condition is nil if the diagnostics hold an
// error; there may be warnings beside a condition, for operands that can never change the outcome.
//
// An expression from an HCL-JSON body is a string there: it is parsed as a template, and a template of one
// interpolation stands for what is in it ("${now.hour > 8}").
func Compile(e hcl.Expression, consts *hcl.EvalContext, o Options) (*Condition, hcl.Diagnostics) {
	c := newCompiler(consts, o)
	syntax, diags := syntaxOf(e)
	if diags.HasErrors() {
		return nil, diags
	}
	c.whole = syntax.Range()
	n := c.compile(syntax)
	switch n.kind {
	case kindBool:
	case kindBad:
		if !c.diags.HasErrors() { // whoever made the node has said why; but never nothing at all
			c.errorf(syntax.Range(), notHere, "This cannot be used as a condition.")
		}
	default:
		c.notBool(syntax, n)
	}
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	cond := &Condition{eval: n.test, names: c.names, fixed: n.constant(), reaches: c.reaches, headers: c.headers}
	if n.reach != nil {
		cond.tri, cond.needs = n.outcome(), c.needs
	}
	return cond, c.diags
}

// Fixed returns the condition that always has the value v.
func Fixed(v bool) *Condition {
	return &Condition{eval: func(*connmodel.Facts) bool { return v }, fixed: true}
}

// Eval gives the value of the condition. Facts that are gathered on demand and are not there count as empty: a caller
// that can gather them uses Test.
func (c *Condition) Eval(f *connmodel.Facts) bool { return c.eval(f) }

// Test gives the value of the condition, or what has to be gathered first to know it. When need is not 0, value means
// nothing. It asks only if the value really depends on what is missing: an operand that decides without it is enough,
// wherever it stands.
func (c *Condition) Test(f *connmodel.Facts) (value bool, need connmodel.Need) {
	if c.tri == nil || f.Lacks(c.needs) == 0 {
		return c.eval(f), 0
	}
	v := c.tri(f)
	return v == yes, v.need()
}

// Needs is the set of facts that the condition may ask for.
func (c *Condition) Needs() connmodel.Need { return c.needs }

// NeedsFor is the set of facts that must be gathered to know the value for f; 0 when Eval(f) is right already.
func (c *Condition) NeedsFor(f *connmodel.Facts) connmodel.Need {
	_, need := c.Test(f)
	return need
}

// Constant reports whether the condition has the same value for every flow, and which.
func (c *Condition) Constant() (value, ok bool) {
	if !c.fixed {
		return false, false
	}
	return c.eval(nil), true
}
