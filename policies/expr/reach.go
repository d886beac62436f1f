package expr

import (
	"net/netip"
	"slices"
	"strconv"

	"viaduct/connmodel"
)

// networkCall is how calls of network.anything begin, as HCL sees them. A call of a function whose name has a dot is none in the grammar of HCL, so whoever
// reads a policy makes it a call of a function of one word, see package policies.
const networkCall = "network_"

// MaxReach bounds the addresses that the conditions of a configuration may ask about: each is tried every few seconds.
const MaxReach = 64

var reachFunctions = []factFunction{
	{`network.reachable("host:port")`, "true when a TCP connection to the address could be made lately; the address is a constant, tried in the background from the load on", 1, 1, buildReachable},
}

func buildReachable(c *compiler, k *call) *node {
	text, ok := c.wantConstantText(k, 0, "address")
	if !ok {
		return badNode(k.rng)
	}
	to, err := connmodel.ParseAddress(text)
	if err != nil {
		return c.errorf(k.args[0].rng, invalidArgument, "%s. Write host:port, as in network.reachable(\"proxy.corp.example:8080\").", capital(err.Error()))
	}
	if ip := to.IP(); ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return c.errorf(k.args[0].rng, invalidArgument, "%s is no address that a connection can be made to.", to.Host)
	}
	if !slices.ContainsFunc(c.reaches, func(r ReachUse) bool { return r.To == to }) {
		c.reaches = append(c.reaches, ReachUse{to, k.args[0].rng})
	}
	n := flow(kindBool, k.rng).searching()
	n.test = func(f *connmodel.Facts) bool { return f.Reach != nil && f.Reach.Reachable(to) }
	c.needs |= connmodel.NeedReach // of the past it may not be known
	n.reach = func(f *connmodel.Facts) connmodel.Need {
		if f.LacksReach(to) {
			return connmodel.NeedReach
		}
		return 0
	}
	c.used("network.reachable("+strconv.Quote(to.String())+")", func(dst []byte, f *connmodel.Facts) []byte {
		if s, ok := f.Reach.(interface {
			Show(connmodel.Address) string
		}); ok {
			return append(dst, s.Show(to)...)
		}
		if f.LacksReach(to) {
			return append(dst, "(not known)"...)
		}
		return strconv.AppendBool(dst, n.test(f))
	})
	return n
}
