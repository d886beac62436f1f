package expr

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// constant makes a node of a value that is known at load.
func (c *compiler) constant(v cty.Value, rng hcl.Range) *node {
	if v.ContainsMarked() {
		return c.errorf(rng, notHere, "A secret cannot be used in a condition: it would show in explain.")
	}
	if !v.IsWhollyKnown() {
		return c.errorf(rng, notHere, "The value is not known at load.")
	}
	n := &node{rng: rng, val: v}
	t := v.Type()
	switch {
	case v.IsNull():
		n.kind = kindNull
	case t == cty.Bool:
		return boolNode(rng, v.True())
	case t == cty.String:
		return stringNode(rng, v.AsString())
	case t == cty.Number:
		return c.number(v, rng)
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		n.kind = kindList
	case t.IsMapType() || t.IsObjectType():
		n.kind = kindMap
	default:
		return c.errorf(rng, wrongType, "A value of type %s cannot be used in a condition.", t.FriendlyName())
	}
	return n
}

// number makes a constant number. A float64 holds whole numbers up to 2^53: beyond, a comparison would go wrong silently.
func (c *compiler) number(v cty.Value, rng hcl.Range) *node {
	f, _ := v.AsBigFloat().Float64()
	if !(f >= -maxExact && f <= maxExact) {
		return c.errorf(rng, tooLarge, "Numbers in a condition are exact up to 9007199254740992 (2 to the power of 53); this one is larger.")
	}
	if f == 0 { // HCL has a negative zero
		v, f = cty.Zero, 0
	}
	return &node{kind: kindNumber, rng: rng, val: v, span: point(f), num: func(*connmodel.Facts) float64 { return f }}
}

// literal is the constant node as syntax, so that HCL can fold what stands around it.
func (n *node) literal() hclsyntax.Expression {
	return &hclsyntax.LiteralValueExpr{Val: n.val, SrcRange: n.rng}
}

// fold evaluates an expression that holds no facts.
func (c *compiler) fold(e hclsyntax.Expression, rng hcl.Range) *node {
	v, diags := e.Value(c.consts)
	if diags.HasErrors() {
		c.take(diags)
		return badNode(rng)
	}
	return c.constant(v, rng)
}

// onlyConstant evaluates a form of expression that is there for constants only.
func (c *compiler) onlyConstant(e hclsyntax.Expression, what string) *node {
	if c.record != nil { // whoever asks a record need not be trusted with loops
		return c.errorf(e.Range(), notHere, "%s cannot be used in a filter.", what)
	}
	if !c.checkConstant(e, what) {
		return badNode(e.Range())
	}
	return c.fold(e, e.Range())
}

// checkConstant reports whatever in e is unknown or depends on the flow. HCL alone would hide both in operands whose
// result it drops.
func (c *compiler) checkConstant(e hclsyntax.Expression, what string) bool {
	before := len(c.diags)
	for _, t := range e.Variables() {
		c.checkTraversal(t, what)
	}
	w := &constantWalk{c: c}
	hclsyntax.Walk(e, w) //nolint:errcheck // what the walker returns is empty: it reports to the compiler
	return len(c.diags) == before
}

func (c *compiler) checkTraversal(t hcl.Traversal, what string) {
	root := t.RootName()
	if attrs, ok := scopeTree[root]; ok {
		full := root
		if len(t) > 1 {
			if a, ok := t[1].(hcl.TraverseAttr); ok && attrs[a.Name] != nil {
				full += "." + a.Name
			}
		}
		c.errorf(t.SourceRange(), notHere, "%s can only be made of values that are known at load, and %s belongs to the flow.%s", what, full, insteadOf(what))
		return
	}
	c.checkRoot(root, t[0].SourceRange())
	if v, ok := c.roots[root]; ok && len(t) > 1 {
		if a, ok := t[1].(hcl.TraverseAttr); ok {
			c.checkAttribute(root, v, a.Name, t[:2].SourceRange())
		}
	}
}

func insteadOf(what string) string {
	switch {
	case strings.HasPrefix(what, "try") || strings.HasPrefix(what, "can"):
		return " Nothing can fail in a condition, so it is not needed."
	case strings.Contains(what, "for") || strings.Contains(what, "splat"):
		return " To look for a value in a list use contains(list, value) or cidr(address, networks...)."
	case strings.Contains(what, "object"):
		return " To choose by a key use lookup(map, key, default)."
	}
	return ""
}

// constantWalk checks names of functions and the size of numbers wherever they stand.
type constantWalk struct{ c *compiler }

func (w *constantWalk) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.FunctionCallExpr:
		if w.c.checkFunction(n) {
			w.c.checkTry(n)
		}
	case *hclsyntax.LiteralValueExpr:
		if !n.Val.IsNull() && n.Val.Type() == cty.Number {
			w.c.number(n.Val, n.SrcRange)
		}
	}
	return nil
}

func (w *constantWalk) Exit(hclsyntax.Node) hcl.Diagnostics { return nil }
