package expr

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// FunctionOptions says where env and file look. The zero value takes the environment of the process, and files relative
// to its working directory.
type FunctionOptions struct {
	// Environ looks up a variable of the environment; nil = os.LookupEnv.
	Environ func(name string) (string, bool)
	// ReadFile reads a file for file(); nil = from the disk, relative to Dir, at most 1 MiB.
	ReadFile func(path string) ([]byte, error)
	// Dir is where relative paths start when ReadFile is nil: usually the folder of the policy file.
	Dir string
}

// Functions returns the functions of load time, for locals and attributes. Those that conditions can call with facts
// behave the same here. credential is not among them: package policies offers it where a secret may stand.
func Functions(o FunctionOptions) map[string]function.Function {
	all := map[string]function.Function{
		"env": envFunction(o), "file": fileFunction(o),
		"try": tryfunc.TryFunc, "can": tryfunc.CanFunc,
	}
	for _, group := range []map[string]function.Function{collections(), texts(), numbers(), networks()} {
		for name, f := range group {
			all[name] = f
		}
	}
	return all
}

func collections() map[string]function.Function {
	return map[string]function.Function{
		"alltrue":         boolFold(true),
		"anytrue":         boolFold(false),
		"chunklist":       stdlib.ChunklistFunc,
		"coalescelist":    stdlib.CoalesceListFunc,
		"compact":         stdlib.CompactFunc,
		"concat":          stdlib.ConcatFunc,
		"contains":        stdlib.ContainsFunc,
		"distinct":        stdlib.DistinctFunc,
		"element":         stdlib.ElementFunc,
		"flatten":         stdlib.FlattenFunc,
		"keys":            stdlib.KeysFunc,
		"length":          lengthFunction,
		"lookup":          stdlib.LookupFunc,
		"merge":           stdlib.MergeFunc,
		"range":           stdlib.RangeFunc, // at most 1024 elements
		"reverse":         stdlib.ReverseListFunc,
		"setintersection": stdlib.SetIntersectionFunc,
		"setproduct":      setProductFunction,
		"setsubtract":     stdlib.SetSubtractFunc,
		"setunion":        stdlib.SetUnionFunc,
		"slice":           stdlib.SliceFunc,
		"sort":            stdlib.SortFunc,
		"tolist":          stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap":           stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"toset":           stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"values":          stdlib.ValuesFunc,
		"zipmap":          stdlib.ZipmapFunc,
	}
}

func texts() map[string]function.Function {
	return map[string]function.Function{
		"chomp":       stdlib.ChompFunc,
		"coalesce":    coalesceFunction,
		"csvdecode":   stdlib.CSVDecodeFunc,
		"endswith":    textTestFunction("suffix", hasSuffix),
		"format":      bounded(stdlib.FormatFunc),
		"formatlist":  bounded(stdlib.FormatListFunc),
		"glob":        globFunction,
		"join":        stdlib.JoinFunc,
		"jsondecode":  stdlib.JSONDecodeFunc,
		"jsonencode":  stdlib.JSONEncodeFunc,
		"lower":       stdlib.LowerFunc,
		"regex":       regexFunction,
		"replace":     replaceFunction,
		"split":       stdlib.SplitFunc,
		"startswith":  textTestFunction("prefix", hasPrefix),
		"strcontains": textTestFunction("part", hasPart),
		"strrev":      stdlib.ReverseFunc,
		"substr":      substrFunction,
		"title":       stdlib.TitleFunc,
		"tobool":      stdlib.MakeToFunc(cty.Bool),
		"tostring":    toStringFunction,
		"trim":        stdlib.TrimFunc,
		"trimprefix":  stdlib.TrimPrefixFunc,
		"trimspace":   stdlib.TrimSpaceFunc,
		"trimsuffix":  stdlib.TrimSuffixFunc,
		"upper":       stdlib.UpperFunc,
	}
}

func numbers() map[string]function.Function {
	return map[string]function.Function{
		"abs":      stdlib.AbsoluteFunc,
		"ceil":     stdlib.CeilFunc,
		"floor":    stdlib.FloorFunc,
		"log":      stdlib.LogFunc,
		"max":      stdlib.MaxFunc,
		"min":      stdlib.MinFunc,
		"parseint": stdlib.ParseIntFunc,
		"pow":      stdlib.PowFunc,
		"signum":   stdlib.SignumFunc,
		"tonumber": toNumberFunction,
	}
}

func envFunction(o FunctionOptions) function.Function {
	lookup := o.Environ
	if lookup == nil {
		lookup = os.LookupEnv
	}
	return function.New(&function.Spec{
		Description:  "The value of a variable of the environment, read once at load; an error if it is not set and there is no default.",
		Params:       []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam:     &function.Parameter{Name: "default", Type: cty.String},
		Type:         atMost(2, cty.String),
		RefineResult: notNull,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			switch v, ok := lookup(name); {
			case ok:
				return cty.StringVal(v), nil
			case len(args) > 1:
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "the environment has no %s; give a default, as in env(%q, \"\")", name, name)
		},
	})
}

// maxFile bounds what file() reads from the disk.
const maxFile = 1 << 20

func fileFunction(o FunctionOptions) function.Function {
	read := o.ReadFile
	if read == nil {
		read = func(path string) ([]byte, error) { return readFile(o.Dir, path) }
	}
	return function.New(&function.Spec{
		Description:  "The contents of a text file, read once at load.",
		Params:       []function.Parameter{{Name: "path", Type: cty.String}},
		Type:         function.StaticReturnType(cty.String),
		RefineResult: notNull,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			b, err := read(path)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			if !utf8.Valid(b) {
				return cty.NilVal, function.NewArgErrorf(0, "%s is not a text in UTF-8", path)
			}
			return cty.StringVal(string(b)), nil
		},
	})
}

func readFile(dir, path string) ([]byte, error) {
	if dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe could wait for ever
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return b, err
}

// atMost is the type of a function with optional arguments.
func atMost(n int, t cty.Type) function.TypeFunc {
	return func(args []cty.Value) (cty.Type, error) {
		if len(args) > n {
			return cty.NilType, function.NewArgError(n, errors.New("too many arguments"))
		}
		return t, nil
	}
}

func notNull(b *cty.RefinementBuilder) *cty.RefinementBuilder { return b.NotNull() }

// maxProduct bounds the result of setproduct.
const maxProduct = 10_000

// setProductFunction is that of the standard library with a bound: ten lists of a hundred elements would never end.
var setProductFunction = guarded(stdlib.SetProductFunc, func(args []cty.Value) error {
	n := 1
	for _, a := range args {
		if n *= a.LengthInt(); n > maxProduct {
			return fmt.Errorf("the product has more than %d elements", maxProduct)
		}
	}
	return nil
})

// bounded refuses widths in a format that ask for huge texts.
func bounded(f function.Function) function.Function {
	return guarded(f, func(args []cty.Value) error {
		digits := 0
		for _, c := range args[0].AsString() {
			if c < '0' || c > '9' {
				digits = 0
			} else if digits++; digits > 4 {
				return function.NewArgErrorf(0, "a number of more than four digits in a format")
			}
		}
		return nil
	})
}

// guarded calls a function only with arguments that check accepts.
func guarded(f function.Function, check func([]cty.Value) error) function.Function {
	return function.New(&function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := checkKnown(args, check); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

func checkKnown(args []cty.Value, check func([]cty.Value) error) error {
	plain := make([]cty.Value, len(args))
	for i, a := range args {
		if plain[i], _ = a.Unmark(); !plain[i].IsKnown() || plain[i].IsNull() {
			return nil
		}
	}
	return check(plain)
}
