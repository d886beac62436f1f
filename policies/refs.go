package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// ref is a name as it is written: "upstream.corp_a", or "direct".
type ref struct {
	kind, name string
	rng        hcl.Range
}

func (r ref) String() string {
	if r.kind == connmodel.RouteDirect {
		return r.kind
	}
	return r.kind + "." + r.name
}

// traversal reads an expression as a name. HCL-JSON writes it as a text, with or without ${ }.
func traversal(e hcl.Expression) (hcl.Traversal, bool) {
	if t, diags := hcl.AbsTraversalForExpr(e); !diags.HasErrors() {
		return t, true
	}
	if _, native := e.(hclsyntax.Expression); native {
		return nil, false
	}
	raw, diags := e.Value(nil)
	if diags.HasErrors() || raw.IsNull() || raw.Type() != cty.String {
		return nil, false
	}
	s, ok := strings.CutPrefix(raw.AsString(), "${")
	if !ok || !strings.HasSuffix(s, "}") {
		return nil, false
	}
	t, diags := hclsyntax.ParseTraversalAbs([]byte(s[:len(s)-1]), e.Range().Filename, e.Range().Start)
	if diags.HasErrors() {
		return nil, false
	}
	for i := range t { // positions inside a JSON text are not exact: take all of it
		switch x := t[i].(type) {
		case hcl.TraverseRoot:
			x.SrcRange = e.Range()
			t[i] = x
		case hcl.TraverseAttr:
			x.SrcRange = e.Range()
			t[i] = x
		}
	}
	return t, true
}

// reference reads an expression as a name of one of some kinds, and checks that there is such a block.
func (l *loader) reference(e hcl.Expression, kinds ...string) (r ref, good bool) {
	defer func() { l.lost = l.lost || !good }()
	t, ok := traversal(e)
	if !ok {
		l.errorAt(e.Range(), "Not a reference", notReference(e, kinds))
		return ref{}, false
	}
	r = ref{kind: t.RootName(), rng: e.Range()}
	if !slices.Contains(kinds, r.kind) {
		l.errorAt(r.rng, "Unknown name", fmt.Sprintf("There is no %q here.%s Write %s.", r.kind, l.meant(r.kind, kinds), forms(kinds)))
		return ref{}, false
	}
	if r.kind == connmodel.RouteDirect {
		if len(t) > 1 {
			l.errorAt(r.rng, "Unknown name", `"direct" stands alone: it is the way without a proxy.`)
			return ref{}, false
		}
		return r, true
	}
	if len(t) != 2 {
		l.errorAt(r.rng, "Unknown name", fmt.Sprintf("Write %s.NAME, with the name that follows the word %s where it is declared.", r.kind, r.kind))
		return ref{}, false
	}
	switch x := t[1].(type) {
	case hcl.TraverseAttr:
		r.name = x.Name
	case hcl.TraverseIndex:
		if x.Key.Type() == cty.String {
			r.name = x.Key.AsString()
		}
	}
	return r, l.exists(r)
}

// exists checks that a block of that name is declared.
func (l *loader) exists(r ref) bool {
	if _, ok := l.byName[r.kind][r.name]; ok {
		return true
	}
	l.errorAt(r.rng, "Unknown name", fmt.Sprintf("There is no %s %q.%s", r.kind, r.name, l.meantName(r)))
	return false
}

// meantName looks for the name among other kinds of block, then for a near one of this kind.
func (l *loader) meantName(r ref) string {
	for _, kind := range []string{kindUpstream, kindPool, kindChain, kindPAC, kindResolver, kindList, kindPolicy, kindListener} {
		if _, ok := l.byName[kind][r.name]; ok && kind != r.kind {
			return fmt.Sprintf(" There is %s of that name: %s.%s.", article(kind), kind, r.name)
		}
	}
	return didYouMeanOr(r.name, sortedNames(l.byName[r.kind]), r.kind)
}

// meant suggests how a bare or misspelt root was meant.
func (l *loader) meant(root string, kinds []string) string {
	for _, kind := range kinds {
		if _, ok := l.byName[kind][root]; ok {
			return fmt.Sprintf(" Did you mean %s.%s?", kind, root)
		}
	}
	return didYouMean(root, kinds)
}

// forms lists the forms of reference.
func forms(kinds []string) string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		if out[i] = k; k != connmodel.RouteDirect {
			out[i] += ".NAME"
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}

func notReference(e hcl.Expression, kinds []string) string {
	_, native := e.(hclsyntax.Expression)
	if v, diags := e.Value(nil); native && !diags.HasErrors() && !v.IsNull() && v.Type() == cty.String {
		return fmt.Sprintf("A name of a block is written without quotes: %s.", forms(kinds))
	}
	return fmt.Sprintf("Write the name of a block: %s. It is a name and not a value, so nothing can be computed here.", forms(kinds))
}

var routeKinds = []string{connmodel.RouteDirect, kindUpstream, kindPool, kindChain, kindPAC}

// route reads a route: a name, or a list of names as a chain written in place. owner names that chain.
func (l *loader) route(e hcl.Expression, owner string) string {
	items, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		r, ok := l.reference(e, routeKinds...)
		if !ok {
			return ""
		}
		l.used[r.String()] = true
		return r.String()
	}
	hops := l.hops(e, items)
	switch len(hops) {
	case 0:
		return ""
	case 1:
		return hops[0]
	}
	l.inline = append(l.inline, upstream.ChainSpec{Name: owner, Hops: hops})
	l.routes["chain."+owner] = e.Range()
	return "chain." + owner
}

// hops reads the hops of a chain, which are proxies all: "direct" adds nothing to a chain.
func (l *loader) hops(e hcl.Expression, items []hcl.Expression) []string {
	if len(items) == 0 {
		l.errorAt(e.Range(), "Empty list", `A chain needs at least one hop. For the way without a proxy write via = direct.`)
		return nil
	}
	var hops []string
	good := true
	for _, item := range items {
		r, ok := l.reference(item, routeKinds...)
		switch {
		case !ok:
			good = false
		case r.kind == connmodel.RouteDirect:
			l.errorAt(r.rng, "Direct in a chain", `A chain goes from proxy to proxy; "direct" is the way without one. Leave it out, or use a pool whose members are a chain and direct.`)
			good = false
		default:
			l.used[r.String()] = true
			hops = append(hops, r.String())
		}
	}
	if !good {
		return nil
	}
	return hops
}
