package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"viaduct/connmodel"
)

const (
	// maxDepth bounds the nesting of a condition; chains of one logical operator count once.
	maxDepth = 250
	// maxErrors and maxWarnings bound what one condition reports. Errors find room behind all warnings.
	maxErrors   = 50
	maxWarnings = 20
)

// compiler is the state of one Compile.
type compiler struct {
	consts    *hcl.EvalContext             // names and functions of load time
	functions map[string]function.Function // all of consts
	roots     map[string]cty.Value         // all variables of consts
	options   Options
	whole     hcl.Range
	depth     int
	diags     hcl.Diagnostics
	warnings  int
	names     []*use
	record    *recordScope   // of a filter, which asks a record; nil in conditions
	needs     connmodel.Need // of all names
	reaches   []ReachUse
	headers   []string // of requests
}

// defaultFunctions are those of a scope that brings none.
var defaultFunctions = sync.OnceValue(func() map[string]function.Function { return Functions(FunctionOptions{}) })

func newCompiler(consts *hcl.EvalContext, o Options) *compiler {
	c := &compiler{options: o}
	if consts != nil && consts.Parent() == nil { // the usual case: a policy has one scope and thousands of conditions
		c.roots, c.functions = consts.Variables, consts.Functions
	} else {
		c.roots, c.functions = map[string]cty.Value{}, map[string]function.Function{}
		for ctx := consts; ctx != nil; ctx = ctx.Parent() {
			addMissing(c.roots, ctx.Variables)
			addMissing(c.functions, ctx.Functions)
		}
	}
	if len(c.functions) == 0 {
		c.functions = defaultFunctions()
	}
	c.consts = &hcl.EvalContext{Variables: c.roots, Functions: c.functions}
	return c
}

// addMissing adds what an outer scope has and the inner ones have not.
func addMissing[V any](to, from map[string]V) {
	for k, v := range from {
		if _, inner := to[k]; !inner {
			to[k] = v
		}
	}
}

// syntaxOf finds the syntax tree of an expression. HCL-JSON shows none: the string is taken raw and parsed as the
// template that it is.
func syntaxOf(e hcl.Expression) (hclsyntax.Expression, hcl.Diagnostics) {
	if s, ok := e.(hclsyntax.Expression); ok {
		return s, nil
	}
	raw, diags := e.Value(nil)
	if diags.HasErrors() {
		return nil, diags
	}
	rng := e.Range()
	if raw.IsMarked() || !raw.IsWhollyKnown() || raw.IsNull() || raw.Type() != cty.String {
		return &hclsyntax.LiteralValueExpr{Val: raw, SrcRange: rng}, nil
	}
	start := rng.Start
	start.Byte, start.Column = start.Byte+1, start.Column+1 // behind the quote
	return hclsyntax.ParseTemplate([]byte(raw.AsString()), rng.Filename, start)
}

// errorf reports an error and returns the node that stands for it.
func (c *compiler) errorf(rng hcl.Range, summary, format string, args ...any) *node {
	c.report(hcl.DiagError, rng, summary, fmt.Sprintf(format, args...))
	return badNode(rng)
}

func (c *compiler) report(s hcl.DiagnosticSeverity, rng hcl.Range, summary, detail string) {
	if s == hcl.DiagWarning {
		if c.warnings++; c.warnings > maxWarnings {
			return
		}
	}
	if len(c.diags) >= maxErrors {
		return
	}
	if c.record != nil && summary == notHere {
		summary = "Not available in a filter"
	}
	c.diags = append(c.diags, &hcl.Diagnostic{Severity: s, Summary: summary, Detail: detail, Subject: &rng, Context: c.context(rng)})
}

// context is the whole condition, if rng lies in it.
func (c *compiler) context(rng hcl.Range) *hcl.Range {
	if rng.Filename != c.whole.Filename || rng.Start.Byte < c.whole.Start.Byte || rng.End.Byte > c.whole.End.Byte {
		return nil
	}
	whole := c.whole
	return &whole
}

// take passes on what HCL said.
func (c *compiler) take(diags hcl.Diagnostics) {
	for _, d := range diags {
		if len(c.diags) < maxErrors {
			c.diags = append(c.diags, d)
		}
	}
}

// The summaries of errors.
const (
	unknownName     = "Unknown name"
	unknownFunction = "Unknown function"
	wrongType       = "Wrong type"
	invalidArgument = "Invalid argument"
	notHere         = "Not available in a condition"
	neverMatches    = "Comparison that never holds"
	mayFail         = "Value may not exist"
	tooLarge        = "Number too large"
	noEffect        = "Operand without effect"
)

func (c *compiler) notBool(e hclsyntax.Expression, n *node) {
	text, ok := n.text()
	if _, template := e.(*hclsyntax.TemplateExpr); ok && template && n.rng.Filename != "" && strings.HasSuffix(n.rng.Filename, ".json") {
		c.errorf(n.rng, wrongType, `A condition must be true or false, and this is a text. In JSON an expression is written as "${%s}".`, text)
		return
	}
	if c.record != nil {
		c.errorf(n.rng, wrongType, "A filter must be true or false, but this is %s.%s", n.kind, boolHint(n))
		return
	}
	c.errorf(n.rng, wrongType, "A condition must be true or false, but this is %s. Compare it with something, as in client.user == \"anna\".", n.kind)
}

// compile compiles one expression. It never returns nil: after an error the node is of kindBad.
func (c *compiler) compile(e hclsyntax.Expression) *node {
	if c.depth++; c.depth > maxDepth {
		c.depth--
		if c.record != nil {
			return c.errorf(e.Range(), "Filter too deep", "It is nested more than %d levels deep. Use contains() with a list.", maxDepth)
		}
		return c.errorf(e.Range(), "Condition too deep", "It is nested more than %d levels deep. Split it into several rules, or use contains() with a list.", maxDepth)
	}
	defer func() { c.depth-- }()
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.compile(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return c.compile(e.Wrapped)
	case *hclsyntax.LiteralValueExpr:
		return c.constant(e.Val, e.SrcRange)
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
		return c.reference(e)
	case *hclsyntax.UnaryOpExpr:
		return c.unary(e)
	case *hclsyntax.BinaryOpExpr:
		return c.binary(e)
	case *hclsyntax.ConditionalExpr:
		return c.conditional(e)
	case *hclsyntax.TemplateExpr:
		return c.template(e)
	case *hclsyntax.FunctionCallExpr:
		return c.call(e)
	case *hclsyntax.TupleConsExpr:
		return c.tuple(e)
	case *hclsyntax.ObjectConsExpr:
		return c.onlyConstant(e, "An object")
	case *hclsyntax.ForExpr:
		return c.onlyConstant(e, "A for expression")
	case *hclsyntax.SplatExpr:
		return c.onlyConstant(e, "A splat expression")
	case *hclsyntax.TemplateJoinExpr:
		return c.onlyConstant(e, "A for directive in a template")
	}
	return c.errorf(e.Range(), notHere, "This kind of expression cannot be used in a condition.")
}

func (c *compiler) unary(e *hclsyntax.UnaryOpExpr) *node {
	n := c.compile(e.Val)
	switch {
	case n.kind == kindBad:
		return n
	case e.Op == hclsyntax.OpLogicalNot:
		return c.not(e, n)
	case e.Op == hclsyntax.OpNegate:
		return c.negate(e, n)
	}
	return c.errorf(e.SrcRange, notHere, "This operator cannot be used in a condition.")
}

func (c *compiler) binary(e *hclsyntax.BinaryOpExpr) *node {
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		return c.logical(e)
	}
	l, r := c.compile(e.LHS), c.compile(e.RHS)
	if anyBad(l, r) {
		return badNode(e.SrcRange)
	}
	switch e.Op {
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		return c.equality(e, l, r)
	case hclsyntax.OpLessThan, hclsyntax.OpLessThanOrEqual, hclsyntax.OpGreaterThan, hclsyntax.OpGreaterThanOrEqual:
		return c.ordering(e, l, r)
	case hclsyntax.OpAdd, hclsyntax.OpSubtract, hclsyntax.OpMultiply, hclsyntax.OpDivide, hclsyntax.OpModulo:
		return c.arithmetic(e, l, r)
	}
	return c.errorf(e.SrcRange, notHere, "This operator cannot be used in a condition.")
}

// tuple compiles a list; each element keeps its position.
func (c *compiler) tuple(e *hclsyntax.TupleConsExpr) *node {
	n := &node{kind: kindList, rng: e.SrcRange, elems: make([]*node, len(e.Exprs))}
	values := make([]cty.Value, len(e.Exprs))
	for i, x := range e.Exprs {
		n.elems[i] = c.compile(x)
		values[i] = n.elems[i].val
	}
	if anyBad(n.elems...) {
		return badNode(e.SrcRange)
	}
	if allConstant(n.elems...) {
		n.val = cty.TupleVal(values)
	}
	n.reach = reaches(n.elems...)
	for _, el := range n.elems {
		n.cost = max(n.cost, el.cost)
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
