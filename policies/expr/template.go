package expr

import (
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
)

// maxText bounds a text that a condition builds of facts, in bytes.
const maxText = 64 << 10

// template compiles "text ${x} text". Numbers, addresses, dates and true and false are taken as tostring does.
func (c *compiler) template(e *hclsyntax.TemplateExpr) *node {
	parts := make([]*node, 0, len(e.Parts))
	bad := false
	for _, p := range e.Parts {
		n := c.compile(p)
		if n.kind != kindBad {
			n = c.toText(n, "A template takes")
		}
		bad = bad || n.kind == kindBad
		parts = append(parts, n)
	}
	if bad {
		return badNode(e.SrcRange)
	}
	if allConstant(parts...) {
		var b strings.Builder
		for _, p := range parts {
			s, _ := p.text()
			b.WriteString(s)
		}
		return stringNode(e.SrcRange, b.String())
	}
	n := flow(kindString, e.SrcRange, parts...).searching()
	n.domain.lower = true
	get := make([]func(*connmodel.Facts) string, len(parts))
	for i, p := range parts {
		get[i] = p.str
		n.domain.lower = n.domain.lower && p.lowerCase()
	}
	n.str = func(f *connmodel.Facts) string {
		var b strings.Builder
		for _, g := range get {
			s := g(f)
			b.WriteString(s[:min(len(s), maxText-b.Len())])
		}
		return b.String()
	}
	return n
}

// lowerCase reports whether the text never holds upper-case letters.
func (n *node) lowerCase() bool {
	if s, ok := n.text(); ok {
		return s == strings.ToLower(s)
	}
	return n.domain.lower
}

// toText converts a node to a string, as tostring does. null is "".
func (c *compiler) toText(n *node, who string) *node {
	switch n.kind {
	case kindString, kindBad:
		return n
	case kindDate, kindClock:
		if !n.constant() {
			return n.asText()
		}
	case kindBool, kindNumber, kindAddress:
	default:
		return c.errorf(n.rng, wrongType, "%s texts, numbers, addresses and true or false; this is %s.", who, n.kind)
	}
	if n.constant() {
		if n.kind == kindBool {
			return stringNode(n.rng, strconv.FormatBool(n.val.True()))
		}
		return stringNode(n.rng, n.val.AsBigFloat().Text('f', -1))
	}
	x := flow(kindString, n.rng, n).searching()
	switch n.kind {
	case kindBool:
		test := n.test
		x.domain.values = []string{"true", "false"}
		x.str = func(f *connmodel.Facts) string { return strconv.FormatBool(test(f)) }
	case kindNumber:
		num := n.num
		x.str = func(f *connmodel.Facts) string { return strconv.FormatFloat(num(f)+0, 'f', -1, 64) } // +0: never "-0"
		if n.null {
			x.str = func(f *connmodel.Facts) string {
				if v := num(f); !math.IsNaN(v) {
					return strconv.FormatFloat(v+0, 'f', -1, 64)
				}
				return ""
			}
		}
	case kindAddress:
		addr := n.addr
		x.str = func(f *connmodel.Facts) string { return addressText(addr(f)) }
	}
	x.domain.lower, x.domain.name = true, "This"
	return x
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
