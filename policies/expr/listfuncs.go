package expr

import (
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

var listFunctions = []factFunction{
	{"contains(list, value)", "true if one element equals the value. The list is known at load, written in place, target.addresses or tls.alpn; long lists cost no more than short ones", 2, 2, buildContains},
	{"length(value)", "how many characters a text, elements a list, or addresses target.addresses has", 1, 1, buildLength},
	{"lookup(map, key, default)", "the value of key in a map that is known at load, default if it has none", 3, 3, buildLookup},
	{"element(list, index)", "an element of a list, counted from 0 and starting over behind the end", 2, 2, buildElement},
}

// fewValues is how many values are compared one by one.
const fewValues = 8

func buildContains(c *compiler, k *call) *node {
	list, x := k.args[0], k.args[1]
	switch {
	case list.kind == kindAddresses:
		return c.targetHas(k, x)
	case list.kind == kindTexts:
		return c.textsHave(k)
	case list.kind == kindString:
		return c.errorf(list.rng, wrongType, "contains looks into a list, and this is a text. Use strcontains(text, part).")
	case list.kind != kindList:
		return c.errorf(list.rng, wrongType, "contains looks into a list, but this is %s.", list.kind)
	case x.kind == kindAddresses:
		return c.errorf(x.rng, wrongType, "target.addresses is a list itself. Use cidr(target.addresses, networks...).")
	}
	if values, ok := plainTexts(list); ok && x.kind == kindString && !x.constant() {
		return c.containsTexts(k, values)
	}
	elems, ok := c.elements(list)
	if !ok {
		return badNode(k.rng)
	}
	if len(elems) == 0 {
		return boolNode(k.rng, false)
	}
	tests := make([]*node, len(elems))
	for i, el := range elems {
		t := c.equalElement(k, el, x)
		ok = ok && t.kind != kindBad
		tests[i] = t
	}
	if !ok {
		return badNode(k.rng)
	}
	if n := c.containsConstant(k, elems, x); n != nil {
		return c.in(n, x, tests)
	}
	return c.in(c.anyTest(k, tests), x, tests)
}

// plainTexts are the elements of a list that is known at load, was not written in place, and holds only texts: it may be
// long, so that it is not taken apart into nodes.
func plainTexts(list *node) (values []string, ok bool) {
	if list.elems != nil || !list.constant() || list.val.LengthInt() == 0 {
		return nil, false
	}
	values = make([]string, 0, list.val.LengthInt())
	for it := list.val.ElementIterator(); it.Next(); {
		_, v := it.Element()
		if v.IsNull() || v.Type() != cty.String {
			return nil, false
		}
		values = append(values, v.AsString())
	}
	return values, true
}

func (c *compiler) containsTexts(k *call, values []string) *node {
	list, x := k.args[0], k.args[1]
	ok := true
	for _, v := range values {
		ok = c.checkText(x.domain, list, v) && ok
	}
	if !ok {
		return badNode(k.rng)
	}
	n := flow(kindBool, k.rng, x)
	n.test = inSet(values, x.str)
	return n
}

// equalElement compares one element of a list, and reports what is wrong at the place of the element.
func (c *compiler) equalElement(k *call, el, x *node) *node {
	n := c.equal(el.rng, el, x)
	n.rng = k.rng
	return n
}

// containsConstant finds the value in a set or short list; nil if it cannot.
func (c *compiler) containsConstant(k *call, elems []*node, x *node) *node {
	if x.constant() || !allConstant(elems...) || x.null || x.seconds {
		return nil
	}
	n := flow(kindBool, k.rng, x)
	switch x.kind {
	case kindString:
		values := make([]string, len(elems))
		for i, el := range elems {
			values[i], _ = el.text()
		}
		n.test = inSet(values, x.str)
	case kindNumber:
		values := make([]float64, len(elems))
		for i, el := range elems {
			values[i] = el.span.lo
		}
		n.test = inSet(values, x.num)
	case kindAddress:
		var values []netip.Addr
		for _, el := range elems {
			if el.kind == kindNull {
				values = append(values, netip.Addr{})
				continue
			}
			text, _ := el.text()
			values = append(values, parseTextAddress(text))
		}
		n.test = inSet(values, x.addr)
	default:
		return nil
	}
	return n
}

// inSet tests whether a value is one of several.
func inSet[T comparable](values []T, get func(*connmodel.Facts) T) func(*connmodel.Facts) bool {
	if len(values) <= fewValues {
		values = slices.Clone(values)
		return func(f *connmodel.Facts) bool { return slices.Contains(values, get(f)) }
	}
	set := make(map[T]struct{}, len(values))
	for _, v := range values {
		set[v] = struct{}{}
	}
	return func(f *connmodel.Facts) bool { _, ok := set[get(f)]; return ok }
}

// anyTest is true if one of the comparisons is.
func (c *compiler) anyTest(k *call, tests []*node) *node {
	var rest []*node
	for _, t := range tests {
		switch {
		case !t.constant():
			rest = append(rest, t)
		case t.val.True():
			return boolNode(k.rng, true)
		}
	}
	switch len(rest) {
	case 0:
		return boolNode(k.rng, false)
	case 1:
		return rest[0]
	}
	return join(rest, false, k.rng)
}

// targetHas compiles contains(target.addresses, x).
func (c *compiler) targetHas(k *call, x *node) *node {
	n := flow(kindBool, k.rng, k.args...)
	switch {
	case x.kind == kindAddress:
		get := x.addr
		n.test = func(f *connmodel.Facts) bool {
			want := get(f)
			if f.TargetIP.IsValid() {
				return f.TargetIP == want
			}
			return slices.Contains(f.Addresses, want)
		}
	case x.kind == kindString && x.constant():
		text, _ := x.text()
		want := c.parseAddress(x, text)
		if !want.IsValid() {
			return badNode(k.rng)
		}
		n.test = func(f *connmodel.Facts) bool {
			if f.TargetIP.IsValid() {
				return f.TargetIP == want
			}
			return slices.Contains(f.Addresses, want)
		}
	default:
		return c.errorf(x.rng, wrongType, `target.addresses holds addresses, such as "10.0.0.1"; this is %s.`, x.kind)
	}
	return n
}

// textsHave compiles contains(tls.alpn, x).
func (c *compiler) textsHave(k *call) *node {
	x := c.wantText(k, 1)
	if x.kind == kindBad {
		return x
	}
	n := flow(kindBool, k.rng, k.args...)
	list, get := k.args[0].texts, x.str
	n.test = func(f *connmodel.Facts) bool { return slices.Contains(list(f), get(f)) }
	return c.test(n, k.args[0], connmodel.FilterHas, x)
}

func buildLength(c *compiler, k *call) *node {
	x := k.args[0]
	n := flow(kindNumber, k.rng, x)
	switch x.kind {
	case kindString:
		n.span = span{0, maxText * 16, true}
		get := x.str
		n.num = func(f *connmodel.Facts) float64 { return float64(utf8.RuneCountInString(get(f))) }
	case kindAddresses:
		n.span = span{0, maxText, true}
		n.num = func(f *connmodel.Facts) float64 {
			if f.TargetIP.IsValid() {
				return 1
			}
			return float64(len(f.Addresses))
		}
	case kindTexts:
		n.span = span{0, maxText, true}
		get := x.texts
		n.num = func(f *connmodel.Facts) float64 { return float64(len(get(f))) }
	case kindList:
		return c.constant(numberValue(len(x.elems)), k.rng)
	default:
		return c.errorf(x.rng, wrongType, "length takes a text or a list, but this is %s.", x.kind)
	}
	return n
}

// buildElement compiles element(list, index), whose index wraps round.
func buildElement(c *compiler, k *call) *node {
	list, key := k.args[0], k.args[1]
	if list.kind != kindList {
		return c.errorf(list.rng, wrongType, "element takes a list, but this is %s.", list.kind)
	}
	elems, ok := c.elements(list)
	switch {
	case !ok || !c.wantNumber(key, "element needs"):
		return badNode(k.rng)
	case !key.span.whole:
		return c.errorf(key.rng, invalidArgument, "element needs a whole number. Use floor() round it.")
	case len(elems) == 0:
		return c.errorf(list.rng, mayFail, "The list is empty.")
	}
	count := len(elems)
	at := *key
	num := key.num
	at.num = func(f *connmodel.Facts) float64 { return float64(((int(num(f)) % count) + count) % count) }
	if key.constant() {
		return elems[int(at.num(nil))]
	}
	return c.choice(k.rng, elems, &at)
}

// buildLookup compiles lookup(map, key, default).
func buildLookup(c *compiler, k *call) *node {
	m, key, fallback := k.args[0], k.args[1], k.args[2]
	if m.kind != kindMap || !m.constant() {
		return c.errorf(m.rng, wrongType, "lookup takes a map that is known at load, but this is %s.", m.kind)
	}
	if c.wantText(k, 1).kind == kindBad {
		return badNode(k.rng)
	}
	values := make(map[string]*node)
	for it := m.val.ElementIterator(); it.Next(); {
		kv, v := it.Element()
		el := c.constant(v, m.rng)
		name := kv.AsString()
		switch {
		case el.kind == kindBad || !key.constant() && !c.checkText(key.domain, m, name):
			return badNode(k.rng)
		case el.kind != fallback.kind:
			return c.errorf(m.rng, wrongType, "The values of the map and the default must be of one type, but %q is %s and the default is %s.", name, el.kind, fallback.kind)
		}
		values[name] = el
	}
	return c.lookup(k, values, key, fallback)
}

func (c *compiler) lookup(k *call, values map[string]*node, key, fallback *node) *node {
	n := flow(fallback.kind, k.rng, key, fallback)
	get := key.str
	switch fallback.kind {
	case kindBool:
		other := fallback.test
		n.test = func(f *connmodel.Facts) bool {
			if v, ok := values[get(f)]; ok {
				return v.test(f)
			}
			return other(f)
		}
	case kindNumber:
		n.span = fallback.span
		for _, v := range values {
			n.span = n.span.join(v.span)
		}
		other := fallback.num
		n.num = func(f *connmodel.Facts) float64 {
			if v, ok := values[get(f)]; ok {
				return v.num(f)
			}
			return other(f)
		}
	case kindString:
		other := fallback.str
		n.str = func(f *connmodel.Facts) string {
			if v, ok := values[get(f)]; ok {
				return v.str(f)
			}
			return other(f)
		}
	default:
		return c.errorf(k.rng, wrongType, "The values of the map must be texts, numbers or true and false, but they are %s.", fallback.kind)
	}
	return n
}
