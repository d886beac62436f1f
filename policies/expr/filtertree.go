package expr

import (
	"net/netip"
	"time"

	"viaduct/connmodel"
)

// The form of conditions that stores translate. A node of a filter has it where one field is compared with a constant.

func testOf(f *connmodel.FilterField, cmp connmodel.FilterCmp, v connmodel.FilterValue) *connmodel.Filter {
	return &connmodel.Filter{Op: connmodel.FilterTest, Field: f, Cmp: cmp, Value: v}
}

// test gives n the form of a comparison of l with the constant r, nil for those without a value, where it has one. It returns n.
func (c *compiler) test(n, l *node, cmp connmodel.FilterCmp, r *node) *node {
	if l.field == nil || n.kind == kindBad || n.constant() {
		return n
	}
	var v connmodel.FilterValue
	if r != nil {
		var ok bool
		if v, ok = valueOf(r); !ok {
			return n
		}
	}
	n.filter = testOf(l.field, cmp, v)
	return n
}

// valueOf is a constant as a value of filters.
func valueOf(n *node) (v connmodel.FilterValue, ok bool) {
	if !n.constant() {
		return v, false
	}
	switch n.kind {
	case kindString:
		return connmodel.FilterValue{Type: connmodel.FilterText, Text: n.val.AsString()}, true
	case kindNumber:
		return connmodel.FilterValue{Type: connmodel.FilterNumber, Number: n.span.lo}, true
	case kindBool:
		return connmodel.FilterValue{Type: connmodel.FilterBool, Bool: n.val.True()}, true
	case kindMoment:
		return connmodel.FilterValue{Type: connmodel.FilterTime, Time: time.UnixMicro(int64(n.span.lo)).UTC()}, true
	}
	return v, false
}

// testOrder gives n the form of l < r, or l <= r, of which one is a constant.
func (c *compiler) testOrder(n, l, r *node, orEqual bool) *node {
	cmp, field := connmodel.FilterLess, l
	if l.constant() {
		field, r, cmp = r, l, connmodel.FilterGreater
	}
	if orEqual {
		cmp++
	}
	return c.test(n, field, cmp, r)
}

// textTests are the functions that compare two texts.
var textTests = map[string]connmodel.FilterCmp{
	"startswith": connmodel.FilterPrefix, "endswith": connmodel.FilterSuffix, "strcontains": connmodel.FilterContains,
}

// within gives n the form of a look for an address in networks.
func (c *compiler) within(n, a *node, list []netip.Prefix) *node {
	if a.field != nil && a.kind == kindAddress && n.kind == kindBool {
		n.filter = testOf(a.field, connmodel.FilterWithin, connmodel.FilterValue{Prefixes: list})
	}
	return n
}

// in gives n the form of a look for a field in a list, of which each element was compared by itself.
func (c *compiler) in(n, x *node, tests []*node) *node {
	if x.field == nil || n.kind != kindBool || n.constant() {
		return n
	}
	var args []*connmodel.Filter
	var list []connmodel.FilterValue
	for _, t := range tests {
		switch {
		case t.constant() && !t.val.True():
			continue
		case t.filter == nil:
			return n
		}
		args = append(args, t.filter)
		if t.filter.Op == connmodel.FilterTest && t.filter.Cmp == connmodel.FilterEqual && t.filter.Field == x.field {
			list = append(list, t.filter.Value)
		}
	}
	if len(list) == len(args) {
		n.filter = testOf(x.field, connmodel.FilterIn, connmodel.FilterValue{List: list})
	} else {
		n.filter = &connmodel.Filter{Op: connmodel.FilterOr, Args: args}
	}
	return n
}

// joinFilters gives a chain the form of one. Operands without a form are closures in it.
func (c *compiler) joinFilters(n *node, list []*node, and bool) *node {
	if c.record == nil {
		return n
	}
	f := &connmodel.Filter{Op: connmodel.FilterOr, Args: make([]*connmodel.Filter, len(list))}
	if and {
		f.Op = connmodel.FilterAnd
	}
	for i, x := range list {
		f.Args[i] = c.filterOf(x)
	}
	n.filter = f
	return n
}

// filterOf is a condition as a filter.
func (c *compiler) filterOf(n *node) *connmodel.Filter {
	switch {
	case n.constant() && n.val.True():
		return &connmodel.Filter{Op: connmodel.FilterAnd}
	case n.constant():
		return &connmodel.Filter{Op: connmodel.FilterOr}
	case n.filter != nil:
		return n.filter
	}
	test, zone := n.test, c.record.zone
	return &connmodel.Filter{Op: connmodel.FilterFunc, Func: func(f *connmodel.Flow) bool {
		var facts connmodel.Facts
		f.FactsTo(&facts)
		facts.Record, facts.Time = f, facts.Time.In(zone)
		return test(&facts)
	}}
}
