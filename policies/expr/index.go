package expr

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// step is one `.name` or `["key"]` of a reference.
type step struct {
	key *node // the key, a constant string for `.name`
	rng hcl.Range
}

// path takes a reference apart: a root name and the steps from it. ok is false if it does not start at a name.
func (c *compiler) path(e hclsyntax.Expression) (root string, rng hcl.Range, steps []step, ok bool) {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.path(e.Expression)
	case *hclsyntax.ScopeTraversalExpr:
		return e.Traversal.RootName(), e.Traversal[0].SourceRange(), c.steps(nil, e.Traversal[1:]), true
	case *hclsyntax.RelativeTraversalExpr:
		if root, rng, steps, ok = c.path(e.Source); ok {
			steps = c.steps(steps, e.Traversal)
		}
		return root, rng, steps, ok
	case *hclsyntax.IndexExpr:
		if root, rng, steps, ok = c.path(e.Collection); ok {
			steps = append(steps, step{c.compile(e.Key), e.BracketRange})
		}
		return root, rng, steps, ok
	}
	return "", hcl.Range{}, nil, false
}

func (c *compiler) steps(to []step, t hcl.Traversal) []step {
	for _, s := range t {
		switch s := s.(type) {
		case hcl.TraverseAttr:
			to = append(to, step{stringNode(s.SrcRange, s.Name), s.SrcRange})
		case hcl.TraverseIndex:
			to = append(to, step{c.constant(s.Key, s.SrcRange), s.SrcRange})
		default:
			to = append(to, step{c.errorf(t.SourceRange(), notHere, "A splat expression can only be made of values that are known at load."), t.SourceRange()})
		}
	}
	return to
}

// reference compiles a name with its attributes and indexes.
func (c *compiler) reference(e hclsyntax.Expression) *node {
	root, rng, steps, ok := c.path(e)
	var n *node
	switch {
	case !ok:
		n, steps = c.base(e)
	case c.tree()[root] != nil:
		n, steps = c.fact(root, rng, steps, e.Range())
	case c.checkRoot(root, rng):
		n = opaque(c.roots[root], rng)
		if len(steps) > 0 {
			if name, ok := steps[0].key.text(); ok && !c.checkAttribute(root, n.val, name, hcl.RangeBetween(rng, steps[0].rng)) {
				return badNode(e.Range())
			}
		}
	default:
		n = badNode(rng)
	}
	for _, s := range steps {
		if anyBad(n, s.key) {
			return badNode(e.Range())
		}
		n = c.index(n, s)
	}
	if n.kind != kindBad && n.constant() { // with the range of the whole, and checked
		return c.constant(n.val, e.Range())
	}
	return n
}

// base compiles what an index or attribute is taken of when that is no name.
func (c *compiler) base(e hclsyntax.Expression) (*node, []step) {
	switch e := e.(type) {
	case *hclsyntax.IndexExpr:
		return c.compile(e.Collection), []step{{c.compile(e.Key), e.BracketRange}}
	case *hclsyntax.RelativeTraversalExpr:
		return c.compile(e.Source), c.steps(nil, e.Traversal)
	}
	return c.errorf(e.Range(), notHere, "This kind of expression cannot be used in a condition."), nil
}

// index takes an element of a value.
func (c *compiler) index(n *node, s step) *node {
	switch {
	case n.constant() && s.key.constant():
		return c.indexConstant(n, s)
	case n.kind == kindList:
		return c.indexList(n, s)
	case n.kind == kindMap:
		return c.errorf(s.rng, mayFail, "Whether the key exists depends on the flow. Use lookup(map, key, default).")
	case n.kind == kindTexts:
		return c.errorf(s.rng, mayFail, "The list may be empty. Use contains(tls.alpn, protocol) or length(tls.alpn).")
	case n.kind == kindAddresses:
		return c.errorf(s.rng, notHere, "A name resolves to addresses in no order. Use cidr(target.addresses, networks...) or contains(target.addresses, address), which look at all of them.")
	}
	return c.errorf(s.rng, wrongType, "This is %s: it has no attributes and no index.", n.kind)
}

// opaque is a constant that is only looked into: parts of it may be secrets or unknown.
func opaque(v cty.Value, rng hcl.Range) *node {
	n := &node{kind: kindMap, rng: rng, val: v}
	if t := v.Type(); t.IsTupleType() || t.IsListType() || t.IsSetType() {
		n.kind = kindList
	}
	return n
}

// indexConstant takes an element of a constant by a constant key.
func (c *compiler) indexConstant(n *node, s step) *node {
	v, diags := hcl.Index(n.val, s.key.val, &s.rng)
	if !diags.HasErrors() {
		if n.elems != nil && s.key.kind == kindNumber { // keeps the position of the element
			return n.elems[int(s.key.span.lo)]
		}
		return opaque(v, n.rng)
	}
	plain, _ := n.val.Unmark()
	t := plain.Type()
	name, isText := s.key.text()
	switch {
	case plain.IsNull() || !plain.IsKnown():
	case isText && t.IsObjectType():
		return c.errorf(s.rng, mayFail, "There is no key %q.%s", name, didYouMean(name, sortedKeys(t.AttributeTypes())))
	case isText && t.IsMapType():
		return c.errorf(s.rng, mayFail, "There is no key %q.%s", name, didYouMean(name, sortedKeys(plain.AsValueMap())))
	case s.key.kind == kindNumber && n.kind == kindList:
		return c.errorf(s.rng, mayFail, "The list has %d elements, counted from 0: there is none with this index.", plain.LengthInt())
	}
	c.take(diags)
	return badNode(s.rng)
}

// indexList takes an element of a list by a number that depends on the flow, or of a list whose elements do.
func (c *compiler) indexList(n *node, s step) *node {
	elems, ok := c.elements(n)
	if !ok {
		return badNode(s.rng)
	}
	key := s.key
	if key.kind != kindNumber {
		return c.errorf(s.rng, wrongType, "The index of a list is a number, but this is %s.", key.kind)
	}
	if !key.span.whole || key.span.lo < 0 || key.span.hi >= float64(len(elems)) {
		return c.errorf(s.rng, mayFail, "The list has %d elements, and the index can lie outside of it.", len(elems))
	}
	if key.constant() {
		return elems[int(key.span.lo)]
	}
	return c.choice(hcl.RangeBetween(n.rng, s.rng), elems, key)
}
