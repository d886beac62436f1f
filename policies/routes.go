package policies

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// checkRoutes looks at pools and chains as a whole: cycles, ways that are too long, ways that lead back to us.
func (l *loader) checkRoutes(cfg *Config) {
	l.checkScripts(cfg)
	g := &routeGraph{l: l, next: map[string][]string{}, depth: map[string]int{}, instead: map[string]string{}}
	for _, p := range cfg.Upstreams.Pools {
		g.next["pool."+p.Name] = p.Members
	}
	for _, c := range cfg.Upstreams.Chains {
		g.next["chain."+c.Name] = c.Hops
	}
	for _, d := range cfg.Upstreams.Dynamic {
		if d.OnError != "" && !cfg.asksScript(d.OnError, 0) {
			g.instead[d.Name] = d.OnError
		}
	}
	for _, name := range sortedNames(g.next) {
		g.visit(name, nil)
	}
	for _, u := range l.upstreams {
		l.checkLoop(u.spec.Address, u.url, "Upstream is this gateway")
	}
	for _, s := range l.nameServerAt {
		l.checkLoop(s.address, s.rng, "Name server is this gateway")
	}
	for _, s := range l.servers {
		l.checkLoop(s.address, s.rng, "Server is this gateway")
	}
	for _, s := range l.reachPlaces {
		l.checkLoop(s.address, s.rng, "Address of this gateway")
	}
}

// routeGraph walks pools and chains depth first.
type routeGraph struct {
	l     *loader
	next  map[string][]string
	depth map[string]int // proxies on the longest way; -1 while being visited

	instead map[string]string // PAC -> the route of its on_error
}

// onError is the proxies on the longest way that takes the place of a script's.
func (g *routeGraph) onError(name string, path []string) int {
	if r := g.instead[name]; r != "" {
		return g.visit(r, path)
	}
	return 0
}

func (g *routeGraph) visit(name string, path []string) int {
	next, inner := g.next[name]
	switch d, done := g.depth[name]; {
	case strings.HasPrefix(name, kindPAC+"."):
		return max(1, g.onError(name, path))
	case !inner: // an upstream, direct, or unknown
		return boolInt(name != "direct")
	case done && d >= 0:
		return d
	case done:
		at := slices.Index(path, name)
		cycle := append(slices.Clone(path[at:]), name)
		first := slices.MinFunc(path[at:], strings.Compare)
		g.l.errorAt(g.l.routeRange(first), "Routes in a circle", fmt.Sprintf("The route leads back to itself: %s.", strings.Join(cycle, " -> ")))
		return 0
	}
	g.depth[name] = -1
	longest := 0
	for _, n := range next {
		d := g.visit(n, append(path, name))
		if strings.HasPrefix(name, "chain.") {
			longest += d
		} else {
			longest = max(longest, d)
		}
	}
	if longest > upstream.MaxHops {
		g.l.errorAt(g.l.routeRange(name), "Way too long", fmt.Sprintf("%s has up to %d proxies one after the other; at most %d are allowed.", name, longest, upstream.MaxHops))
		longest = 1 // said once
	}
	g.depth[name] = longest
	return longest
}

// routeRange is where a route is declared.
func (l *loader) routeRange(name string) hcl.Range {
	if r, ok := l.routes[name]; ok {
		return r
	}
	kind, label, _ := strings.Cut(name, ".")
	return l.byName[kind][label].rng
}

// checkLoop refuses an address that is one of our own listeners: a flow would come back to us for ever.
func (l *loader) checkLoop(a connmodel.Address, r hcl.Range, summary string) {
	if a.IsZero() {
		return
	}
	for _, x := range l.listeners {
		if x.ok && x.end.network == "tcp" && x.end.port == a.Port && reaches(x.end.ip, a.Host, a.IP()) {
			l.errorAt(r, summary, fmt.Sprintf("%s is the address of the listener %q (%s): connections would come back to us for ever.", a, x.src.Labels[0], place(x.src.DefRange)))
		}
	}
	if l.gateway != nil {
		if e := l.gateway.admin; e.network == "tcp" && e.port == a.Port && reaches(e.ip, a.Host, a.IP()) {
			l.errorAt(r, summary, fmt.Sprintf("%s is the address of the control door.", a))
		}
	}
}

// reaches reports whether a connection to host, which is ip or a name, ends at a socket bound to bound.
func reaches(bound netip.Addr, host string, ip netip.Addr) bool {
	local := isLocalhost(host) || ip.IsValid() && (ip.IsLoopback() || ip.IsUnspecified())
	switch {
	case bound.IsUnspecified():
		return local
	case bound.IsLoopback() && isLocalhost(host), bound.IsLoopback() && ip.IsUnspecified():
		return true
	}
	return ip == bound
}

// checkUse warns of what is declared and leads nowhere. A pool that only an unused chain names is unused too, but it is
// said once, of the chain. Where there are errors, a name counts as unused only if no file has it a second time and nothing
// was left unread: else a misspelt name would make what it means seem unused.
func (l *loader) checkUse() {
	failed := l.diags.HasErrors()
	if failed && l.lost {
		return
	}
	unused := func(kind, name string) bool {
		if l.used[kind+"."+name] {
			return false
		}
		n := 0
		for _, src := range l.sources {
			if failed {
				n += bytes.Count(src, []byte(name))
			}
		}
		return n <= 1
	}
	for _, kind := range []string{kindUpstream, kindPool, kindChain, kindPAC, kindResolver, kindList} {
		for _, name := range sortedNames(l.byName[kind]) {
			if kind == kindUpstream && len(l.pacs) > 0 {
				continue // a script may name it
			}
			if d := l.byName[kind][name]; unused(kind, name) {
				what := map[string]string{kindUpstream: "No rule, pool or chain names it.", kindPool: "No rule, pool or chain names it.",
					kindChain: "No rule, pool or chain names it.", kindPAC: "No rule names it.", kindList: "No rule or listener names it.",
					kindResolver: "Neither the gateway block nor a policy or an upstream names it."}[kind]
				l.warnAt(d.label, "Not used", fmt.Sprintf("The %s %q is declared and not used. %s", kind, name, what))
			}
		}
	}
	if len(l.listeners) == 0 {
		return
	}
	for _, p := range l.policies {
		if unused(kindPolicy, p.name) {
			l.warnAt(p.src.LabelRanges[0], "Not used", fmt.Sprintf("No listener uses the policy %q.", p.name))
		}
	}
}
