package policies

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
	"viaduct/policies/expr"
)

// The grammar of HCL has no call of a function whose name has a dot. network.reachable(…) is read as network_reachable(…), which is as long,
// so that every place in the file stays where it is; what is shown is the text as it was written. So are calls of network.anything(…), or a slip of the
// pen would be told as a mistake of grammar, and not what was meant.

const (
	reachDotted = "network."
	reachPlain  = "network_reachable"
)

// plainCalls returns the source with those calls written so that HCL can read them: the source itself where there are none.
func plainCalls(src []byte, tokens hclsyntax.Tokens) []byte {
	if !bytes.Contains(src, []byte(reachDotted)) {
		return src
	}
	out := src
	for i := range tokens {
		if i+3 >= len(tokens) || i > 0 && tokens[i-1].Type == hclsyntax.TokenDot {
			continue
		}
		t := tokens[i : i+4]
		if t[0].Type != hclsyntax.TokenIdent || string(t[0].Bytes) != "network" || t[1].Type != hclsyntax.TokenDot || t[2].Type != hclsyntax.TokenIdent ||
			t[3].Type != hclsyntax.TokenOParen || t[0].Range.End.Byte != t[1].Range.Start.Byte || t[1].Range.End.Byte != t[2].Range.Start.Byte {
			continue
		}
		if &out[0] == &src[0] {
			out = bytes.Clone(src)
		}
		out[t[1].Range.Start.Byte] = '_'
	}
	return out
}

// jsonExpression is a string of JSON that begins as an expression.
var jsonExpression = regexp.MustCompile(`"\$\{(?:[^"\\]|\\.)*"`)

// networkCall is such a call.
var networkCall = regexp.MustCompile(`\bnetwork\.([A-Za-z_][A-Za-z0-9_-]*)\(`)

// plainCallsJSON is the same for HCL-JSON, where expressions stand in strings.
func plainCallsJSON(src []byte) []byte {
	if !bytes.Contains(src, []byte(reachDotted)) {
		return src
	}
	return jsonExpression.ReplaceAllFunc(src, func(s []byte) []byte {
		return networkCall.ReplaceAll(s, []byte("network_$1("))
	})
}

// asksNetwork notes what the condition of a rule wants to be tried.
func (l *loader) asksNetwork(uses []expr.ReachUse) {
	for _, u := range uses {
		if !l.reaches[u.To] {
			if l.reaches == nil {
				l.reaches = map[connmodel.Address]bool{}
			}
			if l.reaches[u.To] = true; len(l.reaches) == expr.MaxReach+1 {
				l.errorAt(u.Range, "Too many addresses", fmt.Sprintf("Conditions ask network.reachable about more than %d addresses, each of which is tried every few seconds.", expr.MaxReach))
			}
		}
		l.reachPlaces = append(l.reachPlaces, serverAt{u.To, u.Range})
	}
}

// testReach is what a test says of the network.
type testReach struct {
	stated bool
	yes    map[connmodel.Address]bool
	asked  []connmodel.Address // and not stated
}

// Reachable implements connmodel.Reach.
func (r *testReach) Reachable(to connmodel.Address) bool {
	if !r.stated {
		r.asked = append(r.asked, to)
	}
	return r.yes[to]
}

// Show is for the trace of a test.
func (r *testReach) Show(to connmodel.Address) string {
	if !r.stated {
		return "(not said)"
	}
	return fmt.Sprint(r.yes[to])
}

// missing says what the test has to state.
func (r *testReach) missing() string {
	if len(r.asked) == 0 {
		return ""
	}
	to := r.asked[0]
	return fmt.Sprintf("the decision depends on whether %s can be reached: say which addresses can, with reachable = [%q], or reachable = [] for none", to, to)
}

// testReach reads what a test says of the network.
func (l *loader) testReach(b *block) testReach {
	r := testReach{yes: map[connmodel.Address]bool{}}
	a := b.attrs["reachable"]
	if a == nil {
		return r
	}
	r.stated = true
	if items, diags := hcl.ExprList(a.Expr); !diags.HasErrors() && len(items) == 0 {
		return r
	}
	for _, e := range b.entries("reachable") {
		to, err := connmodel.ParseAddress(e.text)
		switch {
		case err != nil:
			l.errorAt(e.r, "Wrong address", fmt.Sprintf("%s Write host:port, as in network.reachable.", upperFirst(err.Error())))
		case !l.reaches[to]:
			var known []string
			for k := range l.reaches {
				known = append(known, k.String())
			}
			if len(known) == 0 {
				l.errorAt(e.r, "Without effect", "No rule asks network.reachable about anything.")
				continue
			}
			l.errorAt(e.r, "Without effect", strings.TrimSpace(fmt.Sprintf("No rule asks network.reachable about %s.%s", to, didYouMean(to.String(), known))))
		default:
			r.yes[to] = true
		}
	}
	return r
}
