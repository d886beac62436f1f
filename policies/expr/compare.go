package expr

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// equality compiles == and !=.
func (c *compiler) equality(e *hclsyntax.BinaryOpExpr, l, r *node) *node {
	n := c.equal(e.SrcRange, l, r)
	if n.kind == kindBad || e.Op == hclsyntax.OpEqual {
		return n
	}
	if n.constant() {
		x := boolNode(e.SrcRange, n.val.False())
		x.facts = n.facts
		return x
	}
	return negation(n, e.SrcRange)
}

// equal compiles a == b; rng is what messages point at.
func (c *compiler) equal(rng hcl.Range, l, r *node) *node {
	if l.constant() && r.constant() {
		return c.equalConstants(rng, l, r)
	}
	if l.constant() { // the constant, if there is one, on the right
		l, r = r, l
	}
	n := flow(kindBool, rng, l, r)
	switch {
	case r.kind == kindNull:
		return c.equalNull(n, l)
	case l.kind == kindAddress && r.kind == kindString && r.constant():
		return c.equalAddressText(n, l, r)
	case (l.kind == kindDate || l.kind == kindClock || l.kind == kindMoment || l.seconds) && r.kind == kindString && r.constant():
		if r = c.moment(l, r); r.kind == kindBad {
			return r
		}
		return c.test(equalNumbers(n, l, r), l, connmodel.FilterEqual, r)
	}
	l, r = c.sameKind(l, r)
	if l.kind != r.kind {
		return c.mismatch(n, l, r)
	}
	switch l.kind {
	case kindNumber, kindDate, kindClock, kindMoment:
		return c.test(equalNumbers(n, l, r), l, connmodel.FilterEqual, r)
	case kindString:
		return c.test(c.equalStrings(n, l, r), l, connmodel.FilterEqual, r)
	case kindBool:
		a, b := l.test, r.test
		n.test = func(f *connmodel.Facts) bool { return a(f) == b(f) }
		c.test(n, l, connmodel.FilterEqual, r)
	case kindAddress:
		a, b := l.addr, r.addr
		n.test = func(f *connmodel.Facts) bool { return a(f) == b(f) }
	case kindAddresses:
		return c.errorf(n.rng, wrongType, "Lists of addresses are not compared. Use contains(target.addresses, address) or cidr(target.addresses, networks...).")
	case kindTexts:
		return c.errorf(n.rng, wrongType, "Lists are not compared. %s", textsHint(l, r))
	default:
		return c.errorf(n.rng, wrongType, "Lists and maps that depend on the flow are not compared. Compare their elements.")
	}
	return n
}

func (c *compiler) equalConstants(rng hcl.Range, l, r *node) *node {
	if l.kind != r.kind && l.kind != kindNull && r.kind != kindNull {
		return c.mismatch(flow(kindBool, rng), l, r)
	}
	v, err := hclsyntax.OpEqual.Impl.Call([]cty.Value{l.val, r.val})
	if err != nil {
		return c.errorf(rng, wrongType, "These cannot be compared: %s.", err)
	}
	return c.constant(v, rng)
}

// mismatch reports a comparison of different types, which would never hold.
func (c *compiler) mismatch(n, l, r *node) *node {
	hint := ""
	if s, ok := r.text(); ok && l.kind == kindNumber {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			hint = " Write " + s + " without quotes, or tonumber() round a variable."
		}
	}
	if l.kind == kindString && r.kind == kindNumber {
		hint = " Put the number in quotes, or use tonumber(text, default)."
	}
	if l.kind == kindTexts {
		hint = " " + textsHint(l, r)
	} else if l.kind == kindAddress && r.kind == kindList || l.kind == kindAddresses {
		hint = " Use cidr(address, networks...) or contains(list, address)."
	} else if r.kind == kindList {
		hint = " Use contains(list, value)."
	}
	return c.errorf(n.rng, wrongType, "%s and %s are never equal.%s", capital(l.kind.String()), r.kind, hint)
}

// textsHint says what to write instead of a comparison with a list of texts, which is one of the two.
func textsHint(l, r *node) string {
	if l.kind != kindTexts {
		l, r = r, l
	}
	text, ok := r.text()
	if !ok || len(text) > 40 {
		text = "text"
	}
	return fmt.Sprintf("Use contains(%s, %q).", l.domain.name, text)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// equalNull compares with null, which only addresses can be.
func (c *compiler) equalNull(n, l *node) *node {
	if l.kind == kindAddress {
		a := l.addr
		n.test = func(f *connmodel.Facts) bool { return !a(f).IsValid() }
		return c.test(n, l, connmodel.FilterIsNull, nil)
	}
	if l.null && (l.kind == kindNumber || l.kind == kindMoment) {
		x := l.num
		n.test = func(f *connmodel.Facts) bool { return math.IsNaN(x(f)) }
		return c.test(n, l, connmodel.FilterIsNull, nil)
	}
	if c.record != nil {
		hint := ""
		if l.kind == kindString {
			hint = ` What is not there is "".`
		}
		return c.errorf(n.rng, neverMatches, "Only addresses, times and some numbers can be null. This is %s, which never is.%s", l.kind, hint)
	}
	why := ""
	for _, s := range scope {
		if s.name == l.domain.name && s.never != "" {
			why = ": " + s.never
		}
	}
	return c.errorf(n.rng, neverMatches, "Only client.address and target.ip can be null. This is %s, which never is%s.", l.kind, why)
}

func (c *compiler) equalAddressText(n, l, r *node) *node {
	text, _ := r.text()
	want := c.parseAddress(r, text)
	if !want.IsValid() {
		return badNode(n.rng)
	}
	get := l.addr
	n.test = func(f *connmodel.Facts) bool { return get(f) == want }
	if l.field != nil {
		n.filter = testOf(l.field, connmodel.FilterEqual, connmodel.FilterValue{Type: connmodel.FilterAddress, Address: want})
	}
	return n
}

// parseAddress reads a literal that stands where an address is compared. The zero Addr means that an error was reported.
func (c *compiler) parseAddress(n *node, text string) netip.Addr {
	p, err := match.ParseNetwork(text)
	switch {
	case err == nil && !strings.Contains(text, "/"):
		return p.Addr()
	case strings.Contains(text, "/"):
		c.errorf(n.rng, invalidArgument, "%q is a network, and an address is no network. Use cidr(address, %q).", text, text)
	default:
		c.errorf(n.rng, invalidArgument, "%q is not an IP address.", text)
	}
	return netip.Addr{}
}

func equalNumbers(n, l, r *node) *node {
	if l.span.hi < r.span.lo || l.span.lo > r.span.hi {
		x := boolNode(n.rng, false)
		x.facts = true
		return x
	}
	a, b := l.num, r.num
	if r.constant() {
		k := r.span.lo
		if n.test = directPort(l.domain.name, k); n.test == nil {
			n.test = func(f *connmodel.Facts) bool { return a(f) == k }
		}
		return n
	}
	n.test = func(f *connmodel.Facts) bool { return a(f) == b(f) }
	return n
}

func (c *compiler) equalStrings(n, l, r *node) *node {
	a, b := l.str, r.str
	if text, ok := r.text(); ok {
		if !c.checkText(l.domain, r, text) {
			return badNode(n.rng)
		}
		if n.test = directEqual(l.domain.name, text); n.test == nil {
			n.test = func(f *connmodel.Facts) bool { return a(f) == text }
		}
		return n
	}
	n.test = func(f *connmodel.Facts) bool { return a(f) == b(f) }
	return n
}
