package expr

import (
	"net/netip"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

var netFunctions = []factFunction{
	{"cidr(address, network...)", "true if one of the networks holds the address; of a list of addresses (target.addresses), if one of them is held. Networks are texts or lists of texts; null and a text that is no address are in no network", 2, -1, buildCIDR},
	{"cidrcontains(network, address)", "the same for one network, with the arguments as in OpenTofu", 2, 2, buildCIDRContains},
}

func buildCIDR(c *compiler, k *call) *node {
	in, list := c.networks(k, k.args[1:])
	if in == nil {
		return badNode(k.rng)
	}
	return c.within(c.inNetworks(k, k.args[0], in), k.args[0], list)
}

func buildCIDRContains(c *compiler, k *call) *node {
	in, list := c.networks(k, k.args[:1])
	if in == nil {
		return badNode(k.rng)
	}
	return c.within(c.inNetworks(k, k.args[1], in), k.args[1], list)
}

func (c *compiler) inNetworks(k *call, a *node, in func(netip.Addr) bool) *node {
	n := flow(kindBool, k.rng, a)
	switch a.kind {
	case kindAddress:
		get := a.addr
		n.test = func(f *connmodel.Facts) bool { return in(get(f)) }
	case kindAddresses:
		n.test = func(f *connmodel.Facts) bool { return anyTarget(f, in) }
	case kindString:
		if a.domain.host {
			return c.errorf(a.rng, wrongType, "%s may be a name. Use target.ip (a literal address) or target.addresses (resolved if the outcome depends on it).", a.domain.name)
		}
		get := a.str
		n.searching()
		n.test = func(f *connmodel.Facts) bool { return in(parseTextAddress(get(f))) }
	default:
		return c.errorf(a.rng, wrongType, "%s takes an address here, such as client.address, but this is %s.", k.name, a.kind)
	}
	return n
}

// parseTextAddress reads an address from a text that comes with the flow; the zero Addr if it is none.
func parseTextAddress(s string) netip.Addr {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// fewNetworks is how many networks are tried one by one.
const fewNetworks = 4

// networks compiles the networks of a call to a test; nil after an error.
func (c *compiler) networks(k *call, args []*node) (in func(netip.Addr) bool, list []netip.Prefix) {
	ok := true
	for _, a := range args {
		elems := []*node{a}
		if a.kind == kindList {
			var good bool
			if elems, good = c.elements(a); !good {
				return nil, nil
			}
		}
		for _, el := range elems {
			p, good := c.network(k, el)
			ok = ok && good
			list = append(list, p)
		}
	}
	switch {
	case !ok:
		return nil, nil
	case len(list) == 1:
		p := list[0]
		return func(a netip.Addr) bool { return p.Contains(a) }, list
	case len(list) <= fewNetworks:
		return func(a netip.Addr) bool {
			for i := range list {
				if list[i].Contains(a) {
					return true
				}
			}
			return false
		}, list
	}
	var b match.NetworkSetBuilder
	for _, p := range list {
		if err := b.Add(p); err != nil {
			c.errorf(k.rng, invalidArgument, "%s: %s.", p, err)
			return nil, nil
		}
	}
	return b.Build().Contains, list
}

func (c *compiler) network(k *call, n *node) (netip.Prefix, bool) {
	text, ok := n.text()
	if !ok {
		if n.kind == kindString && !n.constant() {
			c.errorf(n.rng, notHere, "The networks of %s must be known at load.", k.name)
		} else if n.kind != kindBad {
			c.errorf(n.rng, wrongType, `%s takes networks here, such as "10.0.0.0/8", but this is %s.`, k.name, n.kind)
		}
		return netip.Prefix{}, false
	}
	p, err := match.ParseNetwork(text)
	if err != nil {
		c.errorf(n.rng, invalidArgument, "%s.", capital(err.Error()))
		return netip.Prefix{}, false
	}
	return p, true
}
