package expr

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// kind is the type of a compiled expression.
type kind uint8

const (
	kindBad       kind = iota // an error has been reported: say nothing more
	kindNull                  // the literal null
	kindBool                  // node.test
	kindNumber                // node.num
	kindString                // node.str
	kindAddress               // node.addr; the zero Addr is null
	kindAddresses             // target.addresses
	kindDate                  // now.date: node.num is year*10000 + month*100 + day, node.str the text
	kindClock                 // now.time: node.num is hour*60 + minute, node.str the text
	kindHeaders               // request.header, which can only be indexed
	kindTexts                 // tls.alpn: node.texts
	kindList                  // a list of constants (node.val) or of elements (node.elems)
	kindMap                   // a map or object of constants (node.val)
	kindMoment                // a time of a record: node.num is microseconds since 1970, NaN is null
)

var kindNames = [...]string{
	kindBad: "invalid", kindNull: "null", kindBool: "a bool", kindNumber: "a number", kindString: "a string",
	kindAddress: "an IP address", kindAddresses: "a list of IP addresses", kindDate: "a date", kindClock: "a time of day",
	kindHeaders: "the header of a request", kindTexts: "a list of texts", kindList: "a list", kindMap: "a map", kindMoment: "a time",
}

func (k kind) String() string { return kindNames[k] }

// How dear a condition is to evaluate; operands of && and || are tried in this order.
const (
	costCheap  uint8 = iota
	costSearch       // regex, globs, texts that are built
	costGather       // facts that may have to be gathered
)

// node is a compiled expression: its type, and the closure that gives its value.
type node struct {
	kind kind
	rng  hcl.Range
	val  cty.Value // the value of a constant; cty.NilVal for what depends on the flow

	test func(*connmodel.Facts) bool
	num  func(*connmodel.Facts) float64
	str  func(*connmodel.Facts) string
	addr func(*connmodel.Facts) netip.Addr

	texts func(*connmodel.Facts) []string

	span   span    // of kindNumber, kindDate and kindClock
	elems  []*node // of kindList when its elements have positions of their own, or are not constant
	facts  bool    // a constant, but only because of what facts can be (now.hour < 30)
	domain domain  // of kindString: what the text can be
	cost   uint8

	// Of filters alone, see filter.go: the field that the node is, the condition as a filter where it has such a form, whether a number may be
	// null (NaN), and whether it is a length of time in seconds.
	field   *connmodel.FilterField
	filter  *connmodel.Filter
	null    bool
	seconds bool

	// reach says on which facts that are lacking the value depends; nil = never on any. tri is its finer form for conditions.
	reach func(*connmodel.Facts) connmodel.Need
	tri   func(*connmodel.Facts) tri
}

func (n *node) constant() bool { return n.val != cty.NilVal }

// text is the value of a constant string.
func (n *node) text() (string, bool) {
	if n.kind != kindString || !n.constant() {
		return "", false
	}
	return n.val.AsString(), true
}

// flow makes a node that depends on the flow from the operands that are all evaluated for it.
func flow(k kind, rng hcl.Range, operands ...*node) *node {
	n := &node{kind: k, rng: rng, reach: reaches(operands...)}
	for _, o := range operands {
		n.cost = max(n.cost, o.cost)
		n.null = n.null || o.null
	}
	return n
}

// searching marks a node as dear to evaluate.
func (n *node) searching() *node {
	n.cost = max(n.cost, costSearch)
	return n
}

func anyBad(ns ...*node) bool {
	for _, n := range ns {
		if n.kind == kindBad {
			return true
		}
	}
	return false
}

func allConstant(ns ...*node) bool {
	for _, n := range ns {
		if !n.constant() {
			return false
		}
	}
	return true
}

func boolNode(rng hcl.Range, v bool) *node {
	return &node{kind: kindBool, rng: rng, val: cty.BoolVal(v), test: func(*connmodel.Facts) bool { return v }}
}

func stringNode(rng hcl.Range, v string) *node {
	return &node{kind: kindString, rng: rng, val: cty.StringVal(v), str: func(*connmodel.Facts) string { return v }}
}

func badNode(rng hcl.Range) *node { return &node{kind: kindBad, rng: rng} }
