package expr

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// TestFunctions evaluates expressions at load, and compares them with what a second expression gives.
func TestFunctions(t *testing.T) {
	for _, tt := range [][2]string{
		{`cidr("10.1.2.3", "10.0.0.0/8")`, `true`},
		{`cidr("10.1.2.3", ["192.0.2.0/24", "10.0.0.0/8"])`, `true`},
		{`cidr(["192.0.2.1", "10.0.0.1"], "10.0.0.0/8", "172.16.0.0/12")`, `true`},
		{`cidr(null, "10.0.0.0/8")`, `false`},
		{`cidr("x", "10.0.0.0/8")`, `false`},
		{`cidr("::ffff:10.0.0.1", "10.0.0.0/8")`, `true`},
		{`cidr("10.0.0.1", [])`, `false`},
		{`cidrcontains("fd00::/8", "fd00::1")`, `true`},
		{`cidrhost("10.12.112.0/20", 16)`, `"10.12.112.16"`},
		{`cidrhost("10.12.112.0/20", 268)`, `"10.12.113.12"`},
		{`cidrhost("fd00:fd12:3456:7890::/72", 34)`, `"fd00:fd12:3456:7890::22"`},
		{`cidrhost("10.0.0.0/8", -1)`, `"10.255.255.255"`},
		{`cidrnetmask("172.16.0.0/12")`, `"255.240.0.0"`},
		{`cidrnetmask("0.0.0.0/0")`, `"0.0.0.0"`},
		{`cidrsubnet("172.16.0.0/12", 4, 2)`, `"172.18.0.0/16"`},
		{`cidrsubnet("10.1.2.0/24", 4, 15)`, `"10.1.2.240/28"`},
		{`cidrsubnet("fd00:fd12:3456:7800::/56", 16, 162)`, `"fd00:fd12:3456:7800:a200::/72"`},
		{`glob("a*c", "abc")`, `true`},
		{`regex("^b", "abc")`, `false`},
		{`startswith("abc", "ab") && endswith("abc", "bc") && strcontains("abc", "b")`, `true`},
		{`substr("hällo", 1, 2)`, `"äl"`},
		{`substr("hällo", -3, -1)`, `"llo"`},
		{`substr("hällo", -9, 2)`, `"hä"`},
		{`substr("hällo", 3, 99)`, `"lo"`},
		{`substr("", 1, 1)`, `""`},
		{`length("hällo")`, `5`},
		{`length([1, 2])`, `2`},
		{`length({ a = 1 })`, `1`},
		{`length(toset(["a", "a"]))`, `1`},
		{`replace("a.b.c", ".", "")`, `"abc"`},
		{`coalesce("", null, "b", "c")`, `"b"`},
		{`coalesce("", "")`, `""`},
		{`coalesce(null, 5)`, `5`},
		{`tostring(5)`, `"5"`},
		{`tostring(null)`, `""`},
		{`tonumber("5.5")`, `5.5`},
		{`tonumber("x", 3)`, `3`},
		{`tonumber(7)`, `7`},
		{`alltrue([true, false])`, `false`},
		{`alltrue([])`, `true`},
		{`anytrue([false, true])`, `true`},
		{`anytrue([])`, `false`},
		{`format("%s:%d", "a", 5)`, `"a:5"`},
		{`formatlist("%s.example", ["a", "b"])`, `tolist(["a.example", "b.example"])`},
		{`length(setproduct(["a", "b"], ["c", "d"]))`, `4`},
		{`merge({ a = 1 }, { b = 2 })`, `{ a = 1, b = 2 }`},
		{`flatten([["a"], ["b", ["c"]]])`, `["a", "b", "c"]`},
		{`csvdecode("a,b\n1,2\n")[0].b`, `"2"`},
		{`jsondecode("{\"a\": [1]}").a[0]`, `1`},
		{`env("SET")`, `"value of SET"`},
		{`env("UNSET", "")`, `""`},
		{`file("words.txt")`, `"one\ntwo\n"`},
		{`compact(split("\n", chomp(file("words.txt"))))`, `tolist(["one", "two"])`},
		{`can(env("UNSET"))`, `false`},
		{`try(env("UNSET"), "x")`, `"x"`},
	} {
		ctx := loadContext(t)
		got, diags := parse(t, tt[0]).Value(ctx)
		want, more := parse(t, tt[1]).Value(ctx)
		if diags.HasErrors() || more.HasErrors() {
			t.Errorf("%s: %v %v", tt[0], diags, more)
		} else if !got.RawEquals(want) {
			t.Errorf("%s: %#v, want %#v", tt[0], got, want)
		}
	}
}

func TestFunctionErrors(t *testing.T) {
	for src, want := range map[string]string{
		`cidr("10.0.0.1")`:                                   "a network is missing",
		`cidr("10.0.0.1", "10.0.0.0/40")`:                    "not a prefix length",
		`cidr("10.0.0.1", [5])`:                              "one element is number",
		`cidr(5, "10.0.0.0/8")`:                              "a text or a list of texts is needed",
		`cidrhost("10.0.0.0/24", 256)`:                       "has no address with this number",
		`cidrhost("10.0.0.0/24", -257)`:                      "has no address with this number",
		`cidrhost("10.0.0.0/24", 0.5)`:                       "a whole number is needed",
		`cidrsubnet("10.0.0.0/24", 9, 0)`:                    "can be longer by 0 to 8 bits",
		`cidrsubnet("10.0.0.0/24", 2, 4)`:                    "no subnet with number 4",
		`cidrnetmask("fd00::/8")`:                            "only IPv4",
		`glob("[", "x")`:                                     "class is not closed",
		`regex("(", "x")`:                                    "missing closing )",
		`regex(join("", [for i in range(5000) : "a"]), "x")`: "more than 1024",
		`env("UNSET")`:                                       "the environment has no UNSET",
		`env("A", "b", "c")`:                                 "too many arguments",
		`file("nosuch.txt")`:                                 "no such file",
		`file("latin1.txt")`:                                 "not a text in UTF-8",
		`file("large.txt")`:                                  "larger than 1 MiB",
		`file("pipe")`:                                       "not a regular file",
		`file(".")`:                                          "not a regular file",
		`tonumber("x")`:                                      `"x" is not a number`,
		`tonumber([])`:                                       "a text or a number is needed",
		`replace("a", "", "b")`:                              "is empty",
		`substr("a", 0.5, 1)`:                                "a whole number",
		`format("%2000000000d", 1)`:                          "more than four digits",
		`formatlist("%2000000000s", ["a"])`:                  "more than four digits",
		`setproduct(range(1000), range(1000), range(1000))`:  "more than 10000 elements",
		`length(5)`:                                          "a text or a collection",
		`coalesce(null, null)`:                               "all values are null",
		`credential("x")`:                                    "no function named",
	} {
		_, diags := parse(t, src).Value(loadContext(t))
		if !diags.HasErrors() || !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: %v, want %s", src, diags, want)
		}
	}
}

// loadContext has the functions with a folder of files.
func loadContext(t *testing.T) *hcl.EvalContext {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"words.txt": "one\ntwo\n", "latin1.txt": "\xe4", "large.txt": strings.Repeat("x", maxFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &hcl.EvalContext{Functions: Functions(FunctionOptions{Dir: dir, Environ: environ})}
}

func environ(n string) (string, bool) { return "value of " + n, n == "SET" }

// TestFunctionsUnknown checks that values which are not known, or null, go through or are refused, but never panic.
func TestFunctionsUnknown(t *testing.T) {
	strange := []cty.Value{cty.DynamicVal, cty.UnknownVal(cty.String), cty.NullVal(cty.String), cty.NullVal(cty.DynamicPseudoType), cty.StringVal("x").Mark("m"), cty.EmptyObjectVal, cty.ListValEmpty(cty.String)}
	for name, f := range Functions(FunctionOptions{}) {
		if name == "try" || name == "can" { // take expressions
			continue
		}
		for _, a := range strange {
			for _, b := range strange {
				for n := range 4 {
					_, _ = f.Call([]cty.Value{a, b, a}[:min(n, 3)]) //nolint:errcheck // only that it does not panic
				}
			}
		}
	}
}
