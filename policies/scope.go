package policies

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"viaduct/policies/expr"
)

// local is one name of a locals block.
type local struct {
	attr  *hcl.Attribute
	state uint8 // 0 not looked at, 1 being evaluated, 2 done
	value cty.Value
}

func (l *loader) readLocals(b *hcl.Block) {
	attrs, diags := b.Body.JustAttributes()
	l.ofHCL(diags)
	for name, a := range attrs {
		if first, taken := l.locals[name]; taken {
			second := a
			if before(a.Range, first.attr.Range) {
				l.locals[name], second = &local{attr: a}, first.attr
			}
			l.errorAt(second.NameRange, "Duplicate name", fmt.Sprintf("There is a local value %q already, at %s. Give one of them another name.", name, place(l.locals[name].attr.Range)))
			continue
		}
		l.locals[name] = &local{attr: a}
	}
}

func before(a, b hcl.Range) bool {
	return a.Filename == b.Filename && a.Start.Byte < b.Start.Byte
}

// evaluateScope gives values to variables, then to locals in the order in which they need each other.
func (l *loader) evaluateScope() {
	vars := map[string]cty.Value{}
	l.values["list"] = l.listValues()
	for _, name := range sortedNames(l.variables) {
		vars[name] = l.variableValue(l.variables[name])
	}
	l.checkVars()
	l.values["var"] = cty.ObjectVal(vars)
	done := map[string]cty.Value{}
	for _, name := range sortedNames(l.locals) {
		l.localValue(name, done, nil)
	}
	l.values["local"] = cty.ObjectVal(done)
	l.contexts = map[string]*hcl.EvalContext{}
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(keysOf(m)) }

// localValue evaluates one local and those it needs. path is the way here, to show a cycle.
func (l *loader) localValue(name string, done map[string]cty.Value, path []string) {
	x := l.locals[name]
	if x == nil || x.state == 2 {
		return
	}
	path = append(path, "local."+name)
	if x.state == 1 {
		first := slices.Index(path, "local."+name)
		l.errorAt(x.attr.NameRange, "Local values in a circle", fmt.Sprintf("The value needs itself: %s.", strings.Join(path[first:], " -> ")))
		x.value = cty.DynamicVal
		return
	}
	x.state = 1
	for _, t := range x.attr.Expr.Variables() {
		if t.RootName() != "local" || len(t) < 2 {
			continue
		}
		if a, ok := t[1].(hcl.TraverseAttr); ok {
			l.localValue(a.Name, done, path)
		}
	}
	x.state = 2
	if x.value == cty.NilVal {
		all := map[string]cty.Value{}
		for n := range l.locals {
			all[n] = cty.DynamicVal
		}
		for n, v := range done {
			all[n] = v
		}
		l.values["local"] = cty.ObjectVal(all)
		l.contexts = map[string]*hcl.EvalContext{}
		x.value, _ = l.evaluate(x.attr.Expr)
	}
	done[name] = x.value
}

// context is the scope of load time for expressions of one file: paths in file() are relative to it.
func (l *loader) context(filename string) *hcl.EvalContext {
	dir := filepath.Dir(filename)
	ctx := l.contexts[dir]
	if ctx == nil {
		ctx = &hcl.EvalContext{Variables: l.values, Functions: l.functions(dir)}
		l.contexts[dir] = ctx
	}
	return ctx
}

// evaluate gives the value of an expression at load. When it cannot, it has reported why, and ok is false. A value that
// is not known, because a file or credential is missing and the load is lenient, is not ok either.
func (l *loader) evaluate(e hcl.Expression) (v cty.Value, ok bool) {
	defer func() {
		if !ok {
			l.voids++
		}
	}()
	if !l.checkNames(e) {
		return cty.DynamicVal, false
	}
	l.at, l.ofSecret = e.Range(), l.isOfSecret(e)
	v, diags := e.Value(l.context(l.at.Filename))
	l.ofValue(diags)
	if diags.HasErrors() || v == cty.NilVal {
		return cty.DynamicVal, false
	}
	return v, v.IsWhollyKnown()
}

// secretCalls are the functions whose values are secret, and what could hide the name of one in JSON.
var secretCalls = regexp.MustCompile(`credential|proxy_password|proxy_username|netrc|command|\\u`)

// isOfSecret reports whether a secret goes into the value of e.
func (l *loader) isOfSecret(e hcl.Expression) bool {
	r, src := e.Range(), l.sources[e.Range().Filename]
	if !r.CanSliceBytes(src) || secretCalls.Match(r.SliceBytes(src)) {
		return true
	}
	for _, t := range e.Variables() {
		scope, ok := l.values[t.RootName()]
		if !ok || !scope.ContainsMarked() {
			continue
		}
		a, named := hcl.TraverseAttr{}, false
		if len(t) > 1 {
			a, named = t[1].(hcl.TraverseAttr)
		}
		if !named || !scope.Type().IsObjectType() || !scope.Type().HasAttribute(a.Name) || scope.GetAttr(a.Name).ContainsMarked() {
			return true
		}
	}
	return false
}

// checkNames reports names that are not in the scope of load time, with the nearest that is.
func (l *loader) checkNames(e hcl.Expression) bool {
	good := true
	for _, t := range e.Variables() {
		if !l.checkTraversal(t) {
			good = false
		}
	}
	return good
}

func (l *loader) checkTraversal(t hcl.Traversal) bool {
	root := t.RootName()
	scope, ok := l.values[root]
	if !ok {
		detail := fmt.Sprintf("There is no %q here.", root)
		switch {
		case l.hides().touches(t.SourceRange()):
			detail = "There is no such name here. Texts are written in quotes."
		case flowNames[root]:
			detail = fmt.Sprintf("%q belongs to a flow, and is known only in the `when` of a rule; this is read once, at load.", root)
		case root == "direct" || root == kindUpstream || root == kindPool || root == kindChain || root == kindPAC:
			detail = fmt.Sprintf("%q is a route: it can stand in via, hops and members, not in other values.", root)
		default:
			detail += didYouMean(root, slices.Sorted(keysOf(l.values))) + " Texts are written in quotes."
		}
		l.errorAt(t.SourceRange(), "Unknown name", detail)
		return false
	}
	if len(t) < 2 {
		return true
	}
	a, ok := t[1].(hcl.TraverseAttr)
	if !ok || !scope.Type().IsObjectType() || scope.Type().HasAttribute(a.Name) {
		return true
	}
	names := sortedNames(scope.Type().AttributeTypes())
	what := map[string]string{"var": "variable", "local": "local value", "list": "list"}[root]
	detail := fmt.Sprintf("There is no %s %q.", what, a.Name)
	if l.hides().touches(t.SourceRange()) {
		detail = fmt.Sprintf("There is no such %s.", what)
	}
	l.errorAt(t[:2].SourceRange(), "Unknown name", detail+didYouMeanOr(a.Name, names, what))
	return false
}

// flowNames are the roots that only conditions know.
var flowNames = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range expr.Scope() {
		root, _, _ := strings.Cut(n.Name, ".")
		m[root] = true
	}
	delete(m, kindListener) // in a test and a match it is a reference
	return m
}()

// to converts a value and reports when that cannot be.
func (l *loader) to(v cty.Value, t cty.Type, r hcl.Range, what string) (cty.Value, bool) {
	got, err := convert.Convert(v, t)
	if err != nil || got.IsNull() || !got.IsKnown() {
		is := v.Type().FriendlyName()
		if v.IsNull() {
			is = "null"
		}
		l.errorAt(r, "Wrong type", fmt.Sprintf("%s must be a %s, but this is %s.", what, t.FriendlyName(), is))
		return cty.NilVal, false
	}
	return got, true
}

// isLiteral reports whether an expression is written out: it holds neither names nor functions.
func isLiteral(e hcl.Expression) bool {
	if len(e.Variables()) > 0 {
		return false
	}
	s, ok := syntax(e)
	if !ok {
		return false
	}
	w := &callFinder{}
	hclsyntax.Walk(s, w)
	return len(w.calls) == 0
}

// syntax is the syntax tree of an expression; that of a JSON string is parsed from its text.
func syntax(e hcl.Expression) (hclsyntax.Expression, bool) {
	if s, ok := e.(hclsyntax.Expression); ok {
		return s, true
	}
	raw, diags := e.Value(nil)
	if diags.HasErrors() || raw.IsNull() || raw.Type() != cty.String {
		return nil, false
	}
	s, diags := hclsyntax.ParseTemplate([]byte(raw.AsString()), e.Range().Filename, e.Range().Start)
	return s, !diags.HasErrors()
}

// callFinder collects the calls of functions in an expression.
type callFinder struct{ calls []*hclsyntax.FunctionCallExpr }

func (w *callFinder) Enter(n hclsyntax.Node) hcl.Diagnostics {
	if c, ok := n.(*hclsyntax.FunctionCallExpr); ok {
		w.calls = append(w.calls, c)
	}
	return nil
}

func (w *callFinder) Exit(hclsyntax.Node) hcl.Diagnostics { return nil }
