package expr

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FactFunction is one function that takes facts of the flow, for the manual. All of them take values of load time too.
type FactFunction struct {
	Name      string
	Signature string // "startswith(text, prefix)"
	Meaning   string
}

// FactFunctions lists the functions that take facts of the flow, in the order of the manual.
func FactFunctions() []FactFunction {
	list := make([]FactFunction, len(factFunctions))
	for i, f := range factFunctions {
		name, _, _ := strings.Cut(f.signature, "(")
		list[i] = FactFunction{name, f.signature, f.meaning}
	}
	return list
}

// factFunction compiles calls of one function when not all of its arguments are constant.
type factFunction struct {
	signature, meaning string
	min, max           int // number of arguments; max < 0 = any number
	build              func(*compiler, *call) *node
}

// call is one call whose arguments are compiled.
type call struct {
	name string
	rng  hcl.Range
	args []*node
}

// factFunctions are in the order of the manual.
var factFunctions = slices.Concat(netFunctions, reachFunctions, stringFunctions, listFunctions, numberFunctions)

var factFunctionByName = func() map[string]*factFunction {
	m := make(map[string]*factFunction)
	for i := range factFunctions {
		name, _, _ := strings.Cut(factFunctions[i].signature, "(")
		m[name] = &factFunctions[i]
	}
	return m
}()

// call compiles a call: at load if all arguments are constant, else to a closure.
func (c *compiler) call(e *hclsyntax.FunctionCallExpr) *node {
	if rest, ok := strings.CutPrefix(e.Name, networkCall); ok || e.Name == "network::reachable" {
		named := *e
		if named.Name = "network." + rest; !ok {
			named.Name = "network.reachable"
		}
		e = &named
	}
	if !c.checkFunction(e) {
		for _, a := range e.Args { // what is wrong in the arguments is reported all the same
			c.compile(a)
		}
		return badNode(e.Range())
	}
	if e.Name == "try" || e.Name == "can" {
		return c.onlyConstant(e, e.Name+"()")
	}
	k := &call{name: e.Name, rng: e.Range()}
	bad := false
	for i, a := range e.Args {
		n := c.compile(a)
		bad = bad || n.kind == kindBad
		if !bad && e.ExpandFinal && i == len(e.Args)-1 {
			elems, ok := c.expand(n)
			bad = bad || !ok
			k.args = append(k.args, elems...)
			break
		}
		k.args = append(k.args, n)
	}
	if bad {
		return badNode(k.rng)
	}
	if allConstant(k.args...) && e.Name != "network.reachable" {
		return c.callConstant(e, k.args)
	}
	f := factFunctionByName[e.Name]
	if f == nil {
		return c.errorf(k.rng, notHere, "%s takes only values that are known at load, and here its value depends on the flow.%s", e.Name, callHints[e.Name])
	}
	if len(k.args) < f.min || f.max >= 0 && len(k.args) > f.max {
		return c.errorf(k.rng, invalidArgument, "The arguments do not fit: write %s.", f.signature)
	}
	return f.build(c, k)
}

// expand takes the elements of a list behind `...`.
func (c *compiler) expand(n *node) ([]*node, bool) {
	if n.kind != kindList {
		c.errorf(n.rng, wrongType, "Only a list can be expanded by ..., and this is %s.", n.kind)
		return nil, false
	}
	return c.elements(n)
}

// callConstant calls a function at load.
func (c *compiler) callConstant(e *hclsyntax.FunctionCallExpr, args []*node) *node {
	folded := *e
	folded.ExpandFinal = false
	folded.Args = make([]hclsyntax.Expression, len(args))
	for i, a := range args {
		folded.Args[i] = a.literal()
	}
	return c.fold(&folded, e.Range())
}

// callHints say what to write instead of a function that takes no facts.
var callHints = map[string]string{
	"format":     ` Write a template: "${client.user}@${target.host}".`,
	"formatlist": ` Write a template: "${client.user}@${target.host}".`,
	"join":       ` Write a template: "${client.user}@${target.host}".`,
	"split":      " Use startswith, endswith, glob or regex on the whole text.",
	"anytrue":    " Join the conditions with ||.",
	"alltrue":    " Join the conditions with &&.",
	"env":        " The environment is read once, at load.",
	"file":       " Files are read once, at load.",
}

// checkFunction reports a function that does not exist or may not be called here.
func (c *compiler) checkFunction(e *hclsyntax.FunctionCallExpr) bool {
	if e.Name == "credential" {
		c.errorf(e.NameRange, notHere, "credential gives a secret, which only attributes for secrets take (such as password): a condition would show it in explain.")
		return false
	}
	if c.record != nil {
		return c.checkFilterFunction(e)
	}
	if _, ok := c.functions[e.Name]; ok || factFunctionByName[e.Name] != nil {
		return true
	}
	if other, ok := otherNames[e.Name]; ok {
		c.errorf(e.NameRange, unknownFunction, "There is no function %s. %s", e.Name, other)
		return false
	}
	known := append(sortedKeys(c.functions), slices.Collect(maps.Keys(factFunctionByName))...)
	c.errorf(e.NameRange, unknownFunction, "There is no function %s.%s", e.Name, didYouMean(e.Name, known))
	return false
}

// otherNames are functions that people know from elsewhere.
var otherNames = map[string]string{
	"hasprefix": "Use startswith(text, prefix).", "has_prefix": "Use startswith(text, prefix).",
	"hassuffix": "Use endswith(text, suffix).", "has_suffix": "Use endswith(text, suffix).",
	"cidr_contains": "Use cidr(address, networks...).", "cidrmatch": "Use cidr(address, networks...).",
	"matches": "Use regex(pattern, text).", "match": "Use regex(pattern, text).", "regexmatch": "Use regex(pattern, text).",
	"len": "Use length(value).", "size": "Use length(value).", "strlen": "Use length(text).",
	"now": "The clock is now.hour, now.weekday, now.time and so on.", "timestamp": "The clock is now.unix, now.date, now.time and so on.",
	"tolower": "Use lower(text).", "toupper": "Use upper(text).", "lowercase": "Use lower(text).", "uppercase": "Use upper(text).",
	"in": "Use contains(list, value).", "has": "Use contains(list, value).",
}

// checkTry refuses can(regex(…)), which asks in Terraform whether a text matches and would always be true here.
func (c *compiler) checkTry(e *hclsyntax.FunctionCallExpr) {
	if e.Name != "can" && e.Name != "try" || len(e.Args) == 0 {
		return
	}
	if inner, ok := e.Args[0].(*hclsyntax.FunctionCallExpr); ok && inner.Name == "regex" {
		c.errorf(e.NameRange, notHere, "regex is true or false itself: leave %s away, which would always succeed.", e.Name)
	}
}

// wantText reports an argument that is no text, and takes dates and times of day as the texts that they are.
func (c *compiler) wantText(k *call, i int) *node {
	n := k.args[i]
	switch n.kind {
	case kindBad, kindString:
		return n
	case kindDate, kindClock:
		k.args[i] = n.asText()
		return k.args[i]
	}
	hint := " Use tostring() if the text of it is meant."
	switch n.kind {
	case kindAddress:
		hint = " Use cidr(address, networks...), or tostring() if the text of it is meant."
	case kindAddresses:
		hint = " Use cidr(target.addresses, networks...)."
	case kindTexts:
		hint = " Use contains(tls.alpn, protocol)."
	case kindList, kindMap, kindNull:
		hint = ""
	}
	return c.errorf(n.rng, wrongType, "%s takes a text here, but this is %s.%s", k.name, n.kind, hint)
}

// wantConstantText is for patterns and the like, which are compiled at load.
func (c *compiler) wantConstantText(k *call, i int, what string) (string, bool) {
	n := c.wantText(k, i)
	if n.kind == kindBad {
		return "", false
	}
	s, ok := n.text()
	if !ok {
		c.errorf(n.rng, notHere, "The %s of %s must be known at load: it is compiled there.", what, k.name)
	}
	return s, ok
}

// elements are the elements of a list, with the positions they have.
func (c *compiler) elements(n *node) ([]*node, bool) {
	if n.elems != nil || !n.constant() {
		return n.elems, true
	}
	var list []*node
	for it := n.val.ElementIterator(); it.Next(); {
		_, v := it.Element()
		el := c.constant(v, n.rng)
		if el.kind == kindBad {
			return nil, false
		}
		list = append(list, el)
	}
	return list, true
}
