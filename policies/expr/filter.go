package expr

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"viaduct/connmodel"
)

// A filter is a condition over a record: the same compiler makes it, over the names that conditions have and those that only a record knows. Beside
// the closures it makes a connmodel.Filter, of the parts that compare one field with a constant; what has no such form stays a closure in it.

// MaxFilter bounds the text of a filter, in bytes.
const MaxFilter = 8 << 10

// FilterFile is the name of the filter in diagnostics.
const FilterFile = "filter"

// FilterOptions are what a filter is compiled with. The zero value is right for tests.
type FilterOptions struct {
	// Country says in which country an address is, as for conditions; nil = there is nothing to ask.
	Country func(netip.Addr) string
	// Now is what lengths of time count back from, as in started > "1h"; zero = the time of the call.
	Now time.Time
	// Zone is that of dates and times without one, and of now.hour and the like; nil = the local one.
	Zone *time.Location
}

// CompileFilter makes a filter of an expression. It is nil if the diagnostics hold an error, and for a text that is blank, which wants every flow.
//
// Whoever writes the expression need not be trusted: the text and its depth are bounded, no function reads files or the environment, none loops, and
// the time that the filter takes for a record is bounded by its length.
func CompileFilter(src string, o FilterOptions) (*connmodel.Filter, hcl.Diagnostics) {
	whole := hcl.Range{Filename: FilterFile, Start: hcl.InitialPos, End: hcl.InitialPos}
	if len(src) > MaxFilter {
		return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Filter too long", Detail: fmt.Sprintf("It has %d bytes, and may have %d.", len(src), MaxFilter), Subject: &whole}}
	}
	if strings.TrimSpace(src) == "" {
		return nil, nil
	}
	if problem := unreadable(src); problem != nil {
		return nil, hcl.Diagnostics{problem}
	}
	e, diags := hclsyntax.ParseExpression([]byte(src), FilterFile, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, syntaxHint(src, diags)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	c := newCompiler(&hcl.EvalContext{Functions: filterFunctions()}, Options{Country: o.Country})
	c.record = &recordScope{now: o.Now, zone: o.Zone}
	c.whole = e.Range()
	n := c.compile(e)
	if n.kind != kindBool && n.kind != kindBad {
		c.notBool(e, n)
	} else if n.kind == kindBad && !c.diags.HasErrors() {
		c.errorf(e.Range(), notHere, "This cannot be used as a filter.")
	}
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return c.filterOf(n), c.diags
}

// maxNesting bounds brackets within brackets of the text, before it is parsed.
const maxNesting = 200

// unreadable finds what must not come before the parser: texts nested so deep that to parse them is a danger to the stack.
func unreadable(src string) *hcl.Diagnostic {
	depth := 0
	for i := range len(src) {
		switch src[i] {
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				at := hcl.Pos{Line: 1 + strings.Count(src[:i], "\n"), Column: 1 + i - (strings.LastIndexByte(src[:i], '\n') + 1), Byte: i}
				end := at
				end.Column, end.Byte = at.Column+1, at.Byte+1
				return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Filter too deep", Detail: fmt.Sprintf("It is nested more than %d levels deep.", maxNesting), Subject: &hcl.Range{Filename: FilterFile, Start: at, End: end}}
			}
		case ')', ']', '}':
			depth--
		}
	}
	return nil
}

// syntaxHint adds to what the parser says where a single = or the words of other languages stand for operators.
func syntaxHint(src string, diags hcl.Diagnostics) hcl.Diagnostics {
	diags = diags[:1] // the parser says what follows from the first as well
	for _, d := range diags {
		if d.Subject == nil || d.Subject.Start.Byte > len(src) {
			continue
		}
		switch rest := src[d.Subject.Start.Byte:]; {
		case strings.HasPrefix(rest, "=") && !strings.HasPrefix(rest, "=="):
			d.Detail = "Equal is written ==, as in target.port == 443."
		case strings.HasPrefix(strings.ToLower(rest), "and "):
			d.Detail = "Both conditions are joined by &&."
		case strings.HasPrefix(strings.ToLower(rest), "or "):
			d.Detail = "Either condition: they are joined by ||."
		case strings.HasPrefix(rest, "'") || strings.HasPrefix(d.Detail, "Single quotes"):
			d.Detail = `Texts stand in double quotes, as in target.host == "www.example". In a shell put the whole into single quotes.`
		}
	}
	return diags
}

// recordScope is what a filter has and a condition has not.
type recordScope struct {
	now  time.Time
	zone *time.Location
}

// tree is the scope by root and attribute.
func (c *compiler) tree() map[string]map[string]*name {
	if c.record != nil {
		return recordTree()
	}
	return scopeTree
}

// recordTree is the scope of filters: the fields of records, and of the names of conditions those of the clock and what is found out from the record.
var recordTree = sync.OnceValue(func() map[string]map[string]*name {
	tree := make(map[string]map[string]*name)
	add := func(full string, n *name) {
		root, attr, _ := strings.Cut(full, ".")
		if tree[root] == nil {
			tree[root] = make(map[string]*name)
		}
		tree[root][attr] = n
	}
	policy := make(map[string]*name)
	for _, n := range scope {
		policy[n.name] = n
		add(n.name, n)
	}
	for _, f := range connmodel.FilterFields() {
		n := policy[f.Name]
		if n == nil {
			n = fieldName(f)
		} else {
			n = withField(n, f)
		}
		for _, full := range append([]string{f.Name}, f.Aliases...) {
			add(full, n)
		}
	}
	return tree
})

// withField is a name of conditions that has a field in the record.
func withField(n *name, f *connmodel.FilterField) *name {
	x := *n
	if x.field = f; x.name == "target.scheme" { // requests in opened tunnels have "https"
		x.domain.values = append([]string{""}, f.Values...)
	}
	if x.kind == kindHeaders {
		x.field = nil // a field of it is one: see header
	}
	return &x
}

// fieldName is the name of a field that only a record has.
func fieldName(f *connmodel.FilterField) *name {
	n := &name{name: f.Name, typ: f.Type.String(), meaning: f.Meaning, field: f}
	switch f.Type {
	case connmodel.FilterText:
		n.kind, n.domain = kindString, domain{name: f.Name}
		n.str = func(x *connmodel.Facts) string { return f.Get(x.Record).Text }
		if f.Values != nil {
			n.domain.values = append([]string{""}, f.Values...)
		}
	case connmodel.FilterNumber:
		n.kind, n.span = kindNumber, span{f.Low, f.High, !f.Seconds && f.Name != "duration_ms"}
		n.num = func(x *connmodel.Facts) float64 {
			if v := f.Get(x.Record); v.Type == connmodel.FilterNumber {
				return v.Number
			}
			return math.NaN()
		}
	case connmodel.FilterTime:
		n.kind, n.span = kindMoment, span{-maxExact, maxExact, true}
		n.num = func(x *connmodel.Facts) float64 {
			if v := f.Get(x.Record); v.Type == connmodel.FilterTime {
				return float64(v.Time.UnixMicro())
			}
			return math.NaN()
		}
	case connmodel.FilterBool:
		n.kind = kindBool
		n.test = func(x *connmodel.Facts) bool { return f.Get(x.Record).Bool }
	case connmodel.FilterAddress:
		n.kind = kindAddress
		n.addr = func(x *connmodel.Facts) netip.Addr { return f.Get(x.Record).Address }
	case connmodel.FilterTexts:
		n.kind = kindTexts
		n.texts = func(x *connmodel.Facts) []string { return f.Get(x.Record).Texts }
	case connmodel.FilterMap:
		n.kind = kindHeaders
	}
	return n
}

// metadata compiles metadata.NAME and metadata["name"].
func (c *compiler) metadata(n *name, rng hcl.Range, steps []step) (*node, []step) {
	if len(steps) == 0 {
		return c.errorf(rng, wrongType, "%s is not a value by itself: name a part of it, as in %s.NAME.", n.name, n.name), nil
	}
	key := steps[0].key
	text, ok := key.text()
	switch {
	case key.kind == kindBad:
		return key, nil
	case !ok:
		return c.errorf(key.rng, notHere, `The name must be a text that is written out, as in %s["name"].`, n.name), nil
	}
	f := n.field.At(text)
	x := flow(kindString, hcl.RangeBetween(rng, steps[0].rng))
	x.str = func(r *connmodel.Facts) string { return f.Get(r.Record).Text }
	x.domain.name, x.field = n.name, f
	return x, steps[1:]
}

// unknownRoot reports a first name that no record has.
func (c *compiler) unknownRoot(root string, rng hcl.Range) {
	tree := c.tree()
	hint := ""
	for _, r := range []string{"target", "client", "error", "request", "response", "tls", "server", "cert", "shadow", "denial", "now"} {
		if tree[r][root] != nil && hint == "" && root != "" {
			hint = fmt.Sprintf(" Did you mean %q?", r+"."+root)
		}
	}
	if other, ok := filterWords[strings.ToLower(root)]; ok && hint == "" {
		hint = " " + other
	}
	if hint == "" {
		hint = didYouMean(root, sortedKeys(tree))
	}
	c.errorf(rng, unknownName, "A record has no %q.%s It has %s.", root, hint, c.rootNames())
}

// filterWords are names that people know from elsewhere.
var filterWords = map[string]string{
	"dst": "Did you mean target.host or target.port?", "destination": "Did you mean target.host?", "url": "Did you mean target.host or request.path?",
	"src": "Did you mean client.address?", "source": "Did you mean client.address?", "ip": "Did you mean client.address or target.ip?",
	"username": "Did you mean user?", "failed_hop": "Did you mean error.hop_name?", "upstream": `Write contains(upstreams, "name").`, "proxy": `Write contains(upstreams, "name").`,
	"size": "Did you mean bytes?", "action": "Did you mean outcome?", "latency": "Did you mean connect or duration?", "elapsed": "Did you mean duration?",
}

// filterFunctions are those that take facts: nothing in them reads anything, and what they make is bounded.
var filterFunctions = sync.OnceValue(func() map[string]function.Function {
	all := make(map[string]function.Function)
	for name, f := range defaultFunctions() {
		if factFunctionByName[name] != nil {
			all[name] = f
		}
	}
	return all
})

// checkFilterFunction reports a function that a filter cannot call.
func (c *compiler) checkFilterFunction(e *hclsyntax.FunctionCallExpr) bool {
	if _, ok := c.functions[e.Name]; ok {
		return true
	}
	detail := ""
	if other, ok := otherNames[e.Name]; ok {
		detail = fmt.Sprintf("There is no function %s. %s", e.Name, other)
	} else if _, ok := defaultFunctions()[e.Name]; ok || e.Name == "network.reachable" || e.Name == "credential" {
		c.errorf(e.NameRange, notHere, "%s is of policies; a filter has %s.", e.Name, strings.Join(sortedKeys(c.functions), ", "))
		return false
	} else {
		detail = fmt.Sprintf("There is no function %s.%s", e.Name, didYouMean(e.Name, sortedKeys(c.functions)))
	}
	c.errorf(e.NameRange, unknownFunction, "%s", detail)
	return false
}

func (r *recordScope) parseMoment(text string) (micro float64, problem string) {
	t, err := ParseMoment(text, r.now, r.zone)
	if err != nil {
		return 0, err.Error()
	}
	return float64(t.UnixMicro()), ""
}

// parseSeconds reads a length of time that a number of seconds is compared with.
func parseSeconds(text string) (seconds float64, problem string) {
	d, ok := ParseLength(text)
	if !ok {
		return 0, `is no length of time: write "200ms", "5s", "1h30m" or "7d", or a number of seconds without quotes`
	}
	return float64(d.Microseconds()) / 1e6, ""
}
