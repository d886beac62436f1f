package expr

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// fact finds a name of the flow and returns the steps that follow it.
func (c *compiler) fact(root string, rng hcl.Range, steps []step, whole hcl.Range) (*node, []step) {
	attrs := c.tree()[root]
	if n := attrs[""]; n != nil && (len(steps) == 0 || len(attrs) == 1) {
		if n.kind == kindHeaders {
			return c.metadata(n, rng, steps)
		}
		return c.use(n, rng), steps
	}
	var known []string
	for a := range attrs {
		if a != "" {
			known = append(known, root+"."+a)
		}
	}
	if len(steps) == 0 {
		return c.errorf(rng, unknownName, "%s is no value by itself. It has %s.", root, strings.ReplaceAll(oneOf(known), `"`, "")), nil
	}
	attr, ok := steps[0].key.text()
	if !ok {
		if steps[0].key.kind != kindBad {
			c.errorf(steps[0].rng, unknownName, "%s has attributes with names, as in %s.", root, known[0])
		}
		return badNode(whole), nil
	}
	n := attrs[attr]
	if n == nil {
		return c.errorf(hcl.RangeBetween(rng, steps[0].rng), unknownName, "There is no %s.%s.%s %s has %s.", root, attr,
			c.hint(root+"."+attr, known), root, strings.ReplaceAll(oneOf(known), `"`, "")), nil
	}
	if n.kind == kindHeaders {
		return c.header(n, hcl.RangeBetween(rng, steps[0].rng), steps[1:])
	}
	return c.use(n, hcl.RangeBetween(rng, steps[0].rng)), steps[1:]
}

// hint says what was meant by a name that does not exist.
func (c *compiler) hint(given string, known []string) string {
	switch given {
	case "request.host", "request.port":
		return " The host and port of a request are target.host and target.port."
	case "client.ip":
		return ` Did you mean "client.address"?`
	case "tls.alpns", "tls.alpn_offers", "tls.protocols":
		return ` Did you mean "tls.alpn"?`
	case "target.sni", "client.sni":
		return ` Did you mean "tls.sni"?`
	case "target.address":
		return ` Did you mean "target.ip" (a literal address) or "target.addresses" (resolved if need be)?`
	}
	return didYouMean(given, known)
}

// use makes the node of a name.
func (c *compiler) use(n *name, rng hcl.Range) *node {
	if n.country != nil {
		if c.options.Country == nil {
			return c.errorf(rng, notHere, "%s needs a GeoIP database: gateway { geoip { file } } says where it is.", n.name)
		}
		with := *n
		get, country := n.country, c.options.Country
		with.str = func(f *connmodel.Facts) string { return get(f, country) }
		n = &with
	}
	c.used(n.name, n.show)
	x := &node{kind: n.kind, rng: rng, str: n.str, num: n.num, addr: n.addr, test: n.test, texts: n.texts, span: n.span, domain: n.domain}
	if n.field != nil && c.record != nil {
		x.field, x.null, x.seconds = n.field, n.field.Nullable, n.field.Seconds
		if n.kind == kindBool {
			x.filter = testOf(n.field, connmodel.FilterEqual, connmodel.FilterValue{Type: connmodel.FilterBool, Bool: true})
		}
	}
	x.domain.name = n.name
	if n.name == "listener" && c.options.Listeners != nil {
		x.domain.values = c.options.Listeners
	}
	c.gathers(n, x)
	return x
}

// gathers notes on what fact the node of a name depends.
func (c *compiler) gathers(n *name, x *node) {
	if n.need == 0 || c.record != nil { // a record is what it is
		return
	}
	c.needs |= n.need
	if x.reach = n.reach; x.reach == nil {
		x.reach = lacking(n.need)
	}
	if n.need != connmodel.NeedRequest { // mostly there
		x.cost = costGather
	}
}

// checkRoot reports a first name that does not exist.
func (c *compiler) checkRoot(root string, rng hcl.Range) bool {
	if _, ok := c.roots[root]; ok {
		return true
	}
	if c.record != nil {
		c.unknownRoot(root, rng)
		return false
	}
	switch root {
	case "direct", "upstream", "pool", "chain", "policy", "list", "resolver":
		c.errorf(rng, notHere, "%s is a reference for via and the like; a condition looks at the flow (%s) and at local.* and var.*.", root, c.rootNames())
		return false
	}
	known := append(sortedKeys(scopeTree), sortedKeys(c.roots)...)
	hint := didYouMean(root, known)
	if hint == "" {
		for _, n := range scope {
			if strings.HasSuffix(n.name, "."+root) {
				hint = ` Did you mean "` + n.name + `"?`
				break
			}
		}
	}
	c.errorf(rng, unknownName, "There is no %q in a condition.%s It may use %s, local.* and var.*.", root, hint, c.rootNames())
	return false
}

func (c *compiler) rootNames() string {
	tree := c.tree()
	roots := sortedKeys(tree)
	for i, r := range roots {
		if tree[r][""] == nil {
			roots[i] += ".*"
		}
	}
	return strings.Join(roots, ", ")
}

// checkAttribute reports a local or variable that does not exist.
func (c *compiler) checkAttribute(root string, v cty.Value, attr string, rng hcl.Range) bool {
	v, _ = v.Unmark()
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return true
	}
	t := v.Type()
	var known []string
	switch {
	case t.IsObjectType():
		known = sortedKeys(t.AttributeTypes())
	case t.IsMapType():
		known = sortedKeys(v.AsValueMap())
	default:
		return true
	}
	for _, k := range known {
		if k == attr {
			return true
		}
	}
	c.errorf(rng, unknownName, "There is no %s.%s.%s", root, attr, didYouMean(attr, known))
	return false
}
