package expr

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"github.com/zclconf/go-cty/cty/gocty"

	"viaduct/policies/match"
)

// The functions of load time that differ from the standard library of cty, or are missing there. Each calls the same
// code as its twin for facts.

func numberValue(n int) cty.Value { return cty.NumberIntVal(int64(n)) }

var (
	hasPrefix = strings.HasPrefix
	hasSuffix = strings.HasSuffix
	hasPart   = strings.Contains
)

func textTestFunction(part string, test func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params:       []function.Parameter{{Name: "text", Type: cty.String}, {Name: part, Type: cty.String}},
		Type:         function.StaticReturnType(cty.Bool),
		RefineResult: notNull,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var patternParams = []function.Parameter{{Name: "pattern", Type: cty.String}, {Name: "text", Type: cty.String}}

var globFunction = function.New(&function.Spec{
	Description:  "Reports whether a pattern with *, ? and [classes] takes the whole text.",
	Params:       patternParams,
	Type:         function.StaticReturnType(cty.Bool),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		g, err := match.CompileGlob(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		return cty.BoolVal(g.Match(args[1].AsString())), nil
	},
})

// regexFunction answers true or false, other than that of Terraform, which gives the part that matched and fails when
// there is none: in a language of conditions the first is what is asked for.
var regexFunction = function.New(&function.Spec{
	Description:  "Reports whether a regular expression (RE2 syntax) matches somewhere in the text.",
	Params:       patternParams,
	Type:         function.StaticReturnType(cty.Bool),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		pattern := args[0].AsString()
		re, problem := compileRegex(pattern)
		if problem != "" {
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a regular expression: %s", pattern, problem)
		}
		return cty.BoolVal(re.MatchString(args[1].AsString())), nil
	},
})

var replaceFunction = function.New(&function.Spec{
	Description:  "The text with a part replaced everywhere.",
	Params:       []function.Parameter{{Name: "text", Type: cty.String}, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String}},
	Type:         function.StaticReturnType(cty.String),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		s, old, with := args[0].AsString(), args[1].AsString(), args[2].AsString()
		if old == "" {
			return cty.NilVal, function.NewArgErrorf(1, "the text to be replaced is empty")
		}
		return cty.StringVal(replace(s, old, with)), nil
	},
})

var substrFunction = function.New(&function.Spec{
	Description:  "A part of the text, counted in characters.",
	Params:       []function.Parameter{{Name: "text", Type: cty.String}, {Name: "offset", Type: cty.Number}, {Name: "length", Type: cty.Number}},
	Type:         function.StaticReturnType(cty.String),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		var at [2]int
		for i := range at {
			if err := gocty.FromCtyValue(args[i+1], &at[i]); err != nil {
				return cty.NilVal, function.NewArgError(i+1, errors.New("a whole number is needed"))
			}
		}
		return cty.StringVal(substr(args[0].AsString(), at[0], at[1])), nil
	},
})

// lengthFunction counts the elements of a collection, or the characters (code points) of a text.
var lengthFunction = function.New(&function.Spec{
	Description: "The number of elements of a collection, or of characters of a text.",
	Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		switch t := args[0].Type(); {
		case t == cty.String, t == cty.DynamicPseudoType, t.IsCollectionType(), t.IsTupleType(), t.IsObjectType():
			return cty.Number, nil
		}
		return cty.NilType, function.NewArgErrorf(0, "a text or a collection is needed, not %s", args[0].Type().FriendlyName())
	},
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v := args[0]
		switch t := v.Type(); {
		case !v.IsKnown():
			return cty.UnknownVal(cty.Number), nil
		case t == cty.String:
			return numberValue(utf8.RuneCountInString(v.AsString())), nil
		case t.IsObjectType():
			return numberValue(len(t.AttributeTypes())), nil
		}
		return v.Length(), nil
	},
})

// coalesceFunction gives the first value that is neither null nor an empty text; "" if all are empty texts.
var coalesceFunction = function.New(&function.Spec{
	Description: "The first of the values that is neither null nor an empty text.",
	VarParam:    &function.Parameter{Name: "values", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		types := make([]cty.Type, len(args))
		for i, a := range args {
			types[i] = a.Type()
		}
		if t, _ := convert.UnifyUnsafe(types); len(args) > 0 && t != cty.NilType {
			return t, nil
		}
		return cty.NilType, errors.New("values of one type are needed")
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		found := cty.NilVal
		for _, a := range args {
			switch {
			case !a.IsKnown():
				return cty.UnknownVal(t), nil
			case a.IsNull():
			case a.Type() == cty.String && a.AsString() == "":
				found = a
			default:
				return convert.Convert(a, t)
			}
		}
		if found == cty.NilVal {
			return cty.NilVal, errors.New("all values are null")
		}
		return convert.Convert(found, t)
	},
})

// toStringFunction is the usual conversion, but for null, which is "" as in conditions.
var toStringFunction = function.New(&function.Spec{
	Description: `A number or true and false as text; null is "".`,
	Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if args[0].IsNull() {
			return cty.String, nil
		}
		return stdlib.MakeToFunc(cty.String).ReturnTypeForValues(args)
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].IsNull() {
			return cty.StringVal(""), nil
		}
		return convert.Convert(args[0], cty.String)
	},
})

// toNumberFunction takes an optional default for texts that hold no number.
var toNumberFunction = function.New(&function.Spec{
	Description: "The number that a text holds; default, if there is one, when it holds none.",
	Params:      []function.Parameter{{Name: "text", Type: cty.DynamicPseudoType}},
	VarParam:    &function.Parameter{Name: "default", Type: cty.Number},
	Type:        atMost(2, cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].Type() == cty.Number {
			return args[0], nil
		}
		if args[0].Type() != cty.String {
			return cty.NilVal, function.NewArgErrorf(0, "a text or a number is needed, not %s", args[0].Type().FriendlyName())
		}
		s := args[0].AsString()
		if _, ok := textNumber(s); ok {
			return cty.ParseNumberVal(s)
		}
		if len(args) > 1 {
			return args[1], nil
		}
		return cty.NilVal, function.NewArgError(0, fmt.Errorf("%q is not a number", s))
	},
})

// boolFold is alltrue and anytrue.
func boolFold(all bool) function.Function {
	return function.New(&function.Spec{
		Params:       []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:         function.StaticReturnType(cty.Bool),
		RefineResult: notNull,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() {
					return cty.UnknownVal(cty.Bool), nil
				}
				if v.IsNull() || v.True() != all {
					return cty.BoolVal(!all && !v.IsNull()), nil
				}
			}
			return cty.BoolVal(all), nil
		},
	})
}
