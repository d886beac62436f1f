package policies

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// variable is a value that is set from outside: --var, the environment, or its default.
type variable struct {
	src  *hcl.Block
	name string
}

var variableSchema = schema(attrs("type", "default", "description"))

func (l *loader) readVariable(b *hcl.Block) *variable {
	v := &variable{b, b.Labels[0]}
	if _, taken := l.variables[v.name]; !taken {
		l.variables[v.name] = v
	}
	return v
}

// variableValue takes --var before VIADUCT_VAR_name before the default.
func (l *loader) variableValue(v *variable) cty.Value {
	b := l.open(v.src, variableSchema)
	b.text("description")
	t := cty.DynamicPseudoType
	if a := b.attrs["type"]; a != nil {
		got, diags := typeexpr.TypeConstraint(a.Expr)
		l.ofHCL(diags)
		if !diags.HasErrors() {
			t = got
		}
	}
	text, given := l.o.Vars[v.name]
	from := "--var " + v.name
	if !given {
		from = "VIADUCT_VAR_" + v.name
		text, given = l.o.Environ(from)
	}
	if given {
		return l.givenValue(v, b, t, text, from)
	}
	a := b.attrs["default"]
	if a == nil {
		l.missing(v.src.DefRange, "Variable not set", fmt.Sprintf("Set it with --var %s=… or VIADUCT_VAR_%s, or give it a default.", v.name, v.name))
		return cty.UnknownVal(t)
	}
	got, ok := l.evaluate(a.Expr)
	if !ok {
		return cty.UnknownVal(t)
	}
	if t == cty.DynamicPseudoType {
		return got
	}
	if got, ok = l.to(got, t, a.Expr.Range(), "The default"); !ok {
		return cty.UnknownVal(t)
	}
	return got
}

// givenValue reads a value from outside: a text as it is where the type is a string (or is not given and the default is
// none or a string), else an HCL expression.
func (l *loader) givenValue(v *variable, b *block, t cty.Type, text, from string) cty.Value {
	if a := b.attrs["default"]; a != nil && t == cty.DynamicPseudoType {
		if d, ok := l.evaluate(a.Expr); ok {
			t = d.Type()
		}
	}
	if t == cty.String || t == cty.DynamicPseudoType {
		return cty.StringVal(text)
	}
	val := cty.StringVal(text)
	if strings.ContainsAny(text, "[{\"") {
		e, diags := hclsyntax.ParseExpression([]byte(text), from, hcl.InitialPos)
		if !diags.HasErrors() {
			val, diags = e.Value(nil)
		}
		if diags.HasErrors() {
			l.errorAt(v.src.DefRange, "Wrong value of variable", fmt.Sprintf("%s is not an HCL value: %s", from, diags[0].Summary+"."))
			return cty.UnknownVal(t)
		}
	}
	got, ok := l.to(val, t, v.src.DefRange, "The value of "+from)
	if !ok {
		return cty.UnknownVal(t)
	}
	return got
}

// checkVars refuses --var for a name that no variable has: it is a typing error.
func (l *loader) checkVars() {
	for _, name := range sortedNames(l.o.Vars) {
		if l.variables[name] == nil {
			l.unplaced(hcl.DiagError, "Unknown variable", fmt.Sprintf("--var %s sets a variable that is not declared.%s", name, didYouMean(name, sortedNames(l.variables))))
		}
	}
}
