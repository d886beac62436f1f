package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// This file looks at PAC scripts as parts of other routes.

// placed is a route where it is named, with what is said of one that may not stand there.
type placed struct {
	route           string
	rng             hcl.Range
	summary, detail string
}

// maxRouteNesting bounds the walk through routes that lead in a circle, which is reported elsewhere.
const maxRouteNesting = 100

// parts are the members of a pool or the hops of a chain.
func (c *Config) parts(route string) []string {
	kind, name, _ := strings.Cut(route, ".")
	switch kind {
	case kindPool:
		for i := range c.Upstreams.Pools {
			if p := &c.Upstreams.Pools[i]; p.Name == name {
				return p.Members
			}
		}
	case kindChain:
		for i := range c.Upstreams.Chains {
			if h := &c.Upstreams.Chains[i]; h.Name == name {
				return h.Hops
			}
		}
	}
	return nil
}

// asksScript reports whether a script is asked for the route.
func (c *Config) asksScript(route string, depth int) bool {
	if strings.HasPrefix(route, kindPAC+".") {
		return true
	}
	return depth < maxRouteNesting && slices.ContainsFunc(c.parts(route), func(r string) bool { return c.asksScript(r, depth+1) })
}

// endsInScript reports whether what comes after the route is what a script is asked the way to.
func (c *Config) endsInScript(route string, depth int) bool {
	kind, _, _ := strings.Cut(route, ".")
	parts := c.parts(route)
	switch {
	case kind == kindPAC:
		return true
	case depth > maxRouteNesting || len(parts) == 0:
		return false
	case kind == kindChain:
		return c.endsInScript(parts[len(parts)-1], depth+1)
	}
	return slices.ContainsFunc(parts, func(r string) bool { return c.endsInScript(r, depth+1) })
}

// entrance is the address of the first proxy of a route; zero where that is a choice, or not known.
func (c *Config) entrance(route string) (a connmodel.Address) {
	first := route
	for range maxRouteNesting {
		kind, name, _ := strings.Cut(first, ".")
		switch kind {
		case kindUpstream:
			for i := range c.Upstreams.Upstreams {
				if u := &c.Upstreams.Upstreams[i]; u.Name == name && c.fixed(route, 0) {
					return u.Address
				}
			}
			return a
		case kindChain:
			hops := c.parts(first)
			if len(hops) == 0 {
				return a
			}
			first = hops[0]
		default:
			return a
		}
	}
	return a
}

// fixed reports whether nothing is to choose in a route.
func (c *Config) fixed(route string, depth int) bool {
	kind, _, _ := strings.Cut(route, ".")
	switch {
	case kind == kindUpstream:
		return true
	case kind != kindChain || depth > maxRouteNesting:
		return false
	}
	return !slices.ContainsFunc(c.parts(route), func(r string) bool { return !c.fixed(r, depth+1) })
}

// checkScripts looks for scripts where none may stand.
func (l *loader) checkScripts(cfg *Config) {
	for _, p := range l.noScript {
		if p.route != "" && cfg.asksScript(p.route, 0) {
			l.errorAt(p.rng, p.summary, p.detail)
		}
	}
	for _, c := range cfg.Upstreams.Chains {
		for i, h := range c.Hops {
			if i+1 == len(c.Hops) || !cfg.endsInScript(h, 0) {
				continue
			}
			if next := c.Hops[i+1]; cfg.entrance(next).IsZero() {
				l.errorAt(l.routeRange("chain."+c.Name), "Script before a choice", fmt.Sprintf("In a chain a PAC script is asked the way to the next hop, whose address must be known then: %s has several, or none. Name an upstream behind %s.", next, h))
			}
		}
	}
}
