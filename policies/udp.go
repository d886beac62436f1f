package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// UDP is what a listener says of SOCKS5 UDP ASSOCIATE. Zero values mean the default.
type UDP struct {
	Idle         time.Duration // of an association, and of a target in it
	Associations int           // at once
	PerClient    int           // of one client
	Targets      int           // at once in one association
	// Nowhere says that no rule of the policy leads datagrams anywhere: associations are refused at once.
	Nowhere bool

	rng hcl.Range
}

var udpSchema = schema(attrs("idle_timeout", "associations", "associations_per_client", "targets"))

// udp reads the block that lets clients of a listener send datagrams.
func (l *loader) udp(x *hcl.Block, n *Listener) {
	b := l.open(x, udpSchema)
	n.UDP = &UDP{
		Idle: b.duration("idle_timeout"), Associations: b.number("associations", 1, 1_000_000), PerClient: b.number("associations_per_client", 1, 1_000_000),
		Targets: b.number("targets", 1, 65_536), rng: x.DefRange,
	}
	if !slices.Contains(n.Protocols, ProtocolSOCKS5) {
		l.errorAt(x.DefRange, "UDP without SOCKS5", `Datagrams come by UDP ASSOCIATE, which is a request of SOCKS5. Add "socks5" to protocols, or leave the block out.`)
	}
	if n.TLS != nil {
		l.warnAt(x.DefRange, "Datagrams in the clear", "Clients speak TLS to this listener, but their datagrams, and those that answer, pass between them and the gateway without it.")
	}
	if n.Network == "unix" {
		l.errorAt(x.DefRange, "UDP on a Unix socket", "A client of a Unix socket has no address that datagrams could come from. Leave the block out, or listen on an address.")
	}
}

// checkDatagrams looks for listeners that take datagrams which no rule leads anywhere.
func (l *loader) checkDatagrams(cfg *Config) {
	for i := range cfg.Listeners {
		n := &cfg.Listeners[i]
		j := slices.IndexFunc(l.policies, func(p *policyBlock) bool { return p.name == n.Policy })
		if n.UDP == nil || j < 0 {
			continue
		}
		rules := slices.Clone(l.policies[j].rules)
		if o := l.policies[j].otherwise; o != nil {
			rules = append(rules, o)
		}
		n.UDP.Nowhere = !slices.ContainsFunc(rules, func(r *rule) bool {
			return !r.shadow && r.takesDatagrams() && !r.decision.Denied() && cfg.noDatagrams(&r.decision) == ""
		})
		if n.UDP.Nowhere {
			l.warnAt(n.UDP.rng, "No way for datagrams", fmt.Sprintf("No rule of the policy %q leads datagrams anywhere, so every association is refused: they go direct or through exactly one socks5 or socks5h upstream.", n.Policy))
		}
	}
}

// takesDatagrams reports whether the rule may take one: it asks for nothing that only connections have.
func (r *rule) takesDatagrams() bool {
	return len(r.blocks) == 0 || slices.ContainsFunc(r.blocks, func(t *tests) bool {
		return (t.protocols == nil || slices.Contains(t.protocols, string(connmodel.ProtocolUDP))) &&
			t.schemes == nil && t.methods == nil && t.paths == nil && t.headers == nil
	})
}

// noDatagrams says why datagrams cannot follow a decision that is no denial, or "".
func (c *Config) noDatagrams(d *connmodel.Decision) string {
	switch {
	case d.TLS != nil && d.TLS.Mode != connmodel.TLSPassthrough:
		return "it asks for TLS, which datagrams have not"
	case !c.carriesDatagrams(d.Route, 0):
		return d.Route + " carries no datagrams: they go direct or through exactly one socks5 or socks5h upstream"
	}
	return ""
}

// carriesDatagrams is upstream.Table.CarriesDatagrams before there is a table.
func (c *Config) carriesDatagrams(route string, depth int) bool {
	if depth > 100 {
		return false // a circle, which is reported
	}
	kind, name, _ := strings.Cut(route, ".")
	switch kind {
	case connmodel.RouteDirect:
		return true
	case kindUpstream:
		for i := range c.Upstreams.Upstreams {
			if u := &c.Upstreams.Upstreams[i]; u.Name == name {
				return u.Scheme == "socks5" || u.Scheme == "socks5h"
			}
		}
	case kindPool:
		for i := range c.Upstreams.Pools {
			if p := &c.Upstreams.Pools[i]; p.Name == name {
				return slices.ContainsFunc(p.Members, func(m string) bool { return c.carriesDatagrams(m, depth+1) })
			}
		}
	case kindChain:
		for i := range c.Upstreams.Chains {
			if h := &c.Upstreams.Chains[i]; h.Name == name {
				return len(h.Hops) == 1 && c.carriesDatagrams(h.Hops[0], depth+1)
			}
		}
	}
	return false
}
