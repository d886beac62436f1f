package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/upstream/resolve"
)

// resolverBlock is name servers of our own.
type resolverBlock struct {
	src    *hcl.Block
	config resolve.Config
}

var (
	serverAttrs    = attrs("servers", "via")
	resolverSchema = schema(serverAttrs, attrs("hosts", "hosts_file", "search", "family", "timeout", "attempts"), blocks("tls", "cache"), labelled("domain", "suffix"))
	domainSchema   = schema(serverAttrs, blocks("tls"))
	dnsTLSSchema   = schema(clientTLSAttrs)
	cacheSchema    = schema(attrs("size", "min_ttl", "max_ttl", "negative", "serve_stale"))
)

// SystemResolver is the name of the machine's own resolver.
const SystemResolver = "system"

// Bounds of what a resolver block may hold.
const (
	maxServers   = 16 // of one block
	maxDomains   = 1000
	maxSearch    = 6
	maxHosts     = 100_000
	maxHostsFile = 8 << 20
	maxPerHost   = 64
)

func (l *loader) buildResolver(x *resolverBlock) {
	b := l.open(x.src, resolverSchema)
	c := &x.config
	c.Name = x.src.Labels[0]
	if c.Name == SystemResolver {
		l.errorAt(x.src.LabelRanges[0], "Invalid name", `"system" is the machine's own resolver. Choose another name.`)
	}
	if b.need("servers", `who is asked, such as ["udp://10.0.0.53", "tls://dns.corp.example"], or ["system"] for the machine's resolver`) {
		c.Groups = append(c.Groups, l.nameServers(b, ""))
	}
	seen := map[string]hcl.Range{}
	for _, d := range b.blocks {
		if d.Type == "domain" {
			l.domain(d, c, seen)
		}
	}
	c.Hosts = map[string][]netip.Addr{}
	l.hostsFile(b, c)
	l.hosts(b, c)
	for _, e := range b.entries("search") {
		suffix, err := connmodel.CanonicalHost(e.text)
		switch {
		case err != nil:
			l.errorAt(e.r, "Wrong name", upperFirst(err.Error()))
		case len(c.Search) == maxSearch:
			l.errorAt(e.r, "Too many names", fmt.Sprintf("At most %d domains are searched: each is a question more for every name without a dot.", maxSearch))
		case !slices.Contains(c.Search, suffix):
			c.Search = append(c.Search, suffix)
		}
	}
	if s := b.oneOf("family", resolve.Families()...); s != "" {
		c.Family = resolve.Family(slices.Index(resolve.Families(), s))
	}
	c.Timeout, c.Attempts = b.duration("timeout"), b.number("attempts", 1, 10)
	if c.Timeout > 10*time.Second {
		l.errorAt(b.rng("timeout"), "Wrong duration", `"timeout" is what one server has for one answer: at most "10s".`)
	}
	if t := b.one("cache"); t != nil {
		l.cache(t, c)
	}
}

func (l *loader) cache(x *hcl.Block, c *resolve.Config) {
	b := l.open(x, cacheSchema)
	c.CacheSize = b.number("size", 1, 1_000_000)
	c.MinTTL, c.MaxTTL, c.ServeStale = b.duration("min_ttl"), b.duration("max_ttl"), b.duration("serve_stale")
	if b.has("max_ttl") && c.MaxTTL > 0 && c.MaxTTL < c.MinTTL {
		l.errorAt(b.rng("max_ttl"), "Wrong duration", `"max_ttl" is shorter than "min_ttl".`)
	}
	if c.ServeStale > 7*24*time.Hour {
		l.errorAt(b.rng("serve_stale"), "Wrong duration", `"serve_stale" is at most "7d" (RFC 8767).`)
	}
	if a := b.attrs["negative"]; a != nil {
		if s := b.text("negative"); s == "off" {
			c.Negative = -1
		} else if s != "" {
			c.Negative = b.duration("negative")
		}
	}
}

// domain reads who is asked for the names under a suffix.
func (l *loader) domain(x *hcl.Block, c *resolve.Config, seen map[string]hcl.Range) {
	suffix, err := connmodel.CanonicalHost(strings.TrimPrefix(x.Labels[0], "."))
	first, taken := seen[suffix]
	switch {
	case err != nil || strings.Contains(suffix, ":"):
		l.errorAt(x.LabelRanges[0], "Wrong name", `A domain is a name such as "corp.example": it stands for that name and all names below it.`)
		return
	case taken:
		l.errorAt(x.LabelRanges[0], "Duplicate name", fmt.Sprintf("There is a domain %q in this resolver already, at %s.", suffix, place(first)))
		return
	case len(seen) == maxDomains:
		l.errorAt(x.LabelRanges[0], "Too many names", fmt.Sprintf("At most %d domains.", maxDomains))
		return
	}
	seen[suffix] = x.DefRange
	b := l.open(x, domainSchema)
	if b.need("servers", `who is asked for these names, such as ["udp://10.0.0.53"], or ["system"]`) {
		c.Groups = append(c.Groups, l.nameServers(b, suffix))
	}
}

// nameServers reads the servers of a resolver or of a domain in it, and the way to them.
func (l *loader) nameServers(b *block, suffix string) resolve.Group {
	g := resolve.Group{Suffix: suffix}
	secure := false
	for _, e := range b.entries("servers") {
		if e.text == SystemResolver {
			g.System = true
			continue
		}
		s, err := resolve.ParseServer(e.text, connmodel.CanonicalHost)
		switch {
		case err != nil:
			l.errorAt(e.r, "Wrong name server", upperFirst(err.Error())+nearScheme(e.text))
			continue
		case slices.Contains(g.Servers, s):
			l.errorAt(e.r, "Duplicate name", fmt.Sprintf("%s stands here twice.", s.String()))
			continue
		case len(g.Servers) == maxServers:
			l.errorAt(e.r, "Too many servers", fmt.Sprintf("At most %d servers.", maxServers))
			continue
		}
		secure = secure || s.Scheme == "tls" || s.Scheme == "https"
		g.Servers = append(g.Servers, s)
		if !b.has("via") && s.Scheme != "udp" {
			l.nameServerAt = append(l.nameServerAt, serverAt{connmodel.Address{Host: s.Host, Port: s.Port}, e.r})
		}
	}
	if g.System && len(g.Servers) > 0 {
		l.errorAt(b.rng("servers"), "System beside others", `"system" stands alone: the machine's resolver has servers of its own and says nothing of them.`)
	}
	if t := b.one("tls"); t != nil {
		c := l.open(t, dnsTLSSchema)
		x := c.clientTLS()
		if g.TLS, g.Pins = x.config, x.pins; x.serverName != "" {
			g.TLS.ServerName = x.serverName
		}
		if c.has("alpn") {
			l.errorAt(c.rng("alpn"), "Without effect", "What is spoken to a name server is said by its scheme.")
		}
		if !secure {
			l.errorAt(t.DefRange, "TLS to a name server without TLS", "None of the servers is tls:// or https://, so no TLS is spoken to them.")
		}
	}
	l.serverWay(b, &g)
	return g
}

func nearScheme(text string) string {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok || slices.Contains(resolve.Schemes(), strings.ToLower(scheme)) {
		return ""
	}
	return didYouMean(scheme, resolve.Schemes())
}

// serverWay reads the route to the servers.
func (l *loader) serverWay(b *block, g *resolve.Group) {
	a := b.attrs["via"]
	if a == nil {
		return
	}
	g.Via = l.route(a.Expr, "resolver/"+b.src.Labels[0])
	l.noScript = append(l.noScript, placed{g.Via, a.Expr.Range(), "Names by way of a script", "A PAC script looks names up itself, so the way to name servers cannot depend on it. Name an upstream, a pool, a chain or direct."})
	switch {
	case g.Via == "" || g.Via == connmodel.RouteDirect:
		g.Via = ""
	case g.System:
		l.errorAt(a.Expr.Range(), "Without effect", "The machine's resolver goes its own ways.")
	default:
		for _, s := range g.Servers {
			if s.Scheme == "udp" {
				l.errorAt(a.Expr.Range(), "Datagrams through a route", fmt.Sprintf("%s cannot be reached through %s, which carries connections. Write tcp://, tls:// or https:// for the server, or reach it direct.", s.String(), g.Via))
				break
			}
		}
	}
}

// hosts reads the names that nobody is asked for. They go before those of a file.
func (l *loader) hosts(b *block, c *resolve.Config) {
	v, r, ok := b.value("hosts")
	if !ok {
		return
	}
	if !v.CanIterateElements() || !(v.Type().IsObjectType() || v.Type().IsMapType()) {
		l.errorAt(r, "Wrong type", `"hosts" is a map of names and addresses: { "legacy.corp.example" = ["10.1.2.3"] }.`)
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		name, err := connmodel.CanonicalHost(k.AsString())
		if err != nil {
			l.errorAt(r, "Wrong name", upperFirst(err.Error()))
			continue
		}
		if _, err := netip.ParseAddr(name); err == nil {
			l.errorAt(r, "Wrong name", fmt.Sprintf("%q is an address: it is what it is, and is not looked up.", name))
			continue
		}
		var addrs []netip.Addr
		for _, x := range l.flatten(e, r, "hosts") {
			s, ok := l.to(x, cty.String, r, "An address of "+quoted(name))
			if !ok {
				continue
			}
			ip, err := netip.ParseAddr(s.AsString())
			if err != nil || ip.Zone() != "" {
				l.errorAt(r, "Wrong address", fmt.Sprintf("%q, for %s, is not an IP address.", s.AsString(), name))
				continue
			}
			if ip = ip.Unmap(); !slices.Contains(addrs, ip) && len(addrs) < maxPerHost {
				addrs = append(addrs, ip)
			}
		}
		c.Hosts[name] = addrs
	}
	if len(c.Hosts) > maxHosts {
		l.errorAt(r, "Too many names", fmt.Sprintf("At most %d names.", maxHosts))
	}
}

// hostsFile reads a file of the form of /etc/hosts. What it cannot be in a policy (scoped addresses, names that are none) is passed over.
func (l *loader) hostsFile(b *block, c *resolve.Config) {
	path := b.text("hosts_file")
	if path == "" {
		return
	}
	body, full, ok := l.dataFile(b.rng("hosts_file"), path, maxHostsFile, "hosts file")
	if !ok {
		return
	}
	for line := range strings.Lines(string(body)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(words[0])
		if err != nil || ip.Zone() != "" {
			continue
		}
		ip = ip.Unmap()
		for _, w := range words[1:] {
			name, err := connmodel.CanonicalHost(w)
			if err != nil || slices.Contains(c.Hosts[name], ip) || len(c.Hosts[name]) == maxPerHost {
				continue
			}
			c.Hosts[name] = append(c.Hosts[name], ip)
		}
		if len(c.Hosts) > maxHosts {
			l.errorAt(b.rng("hosts_file"), "Too many names", fmt.Sprintf("%s has more than %d names.", full, maxHosts))
			return
		}
	}
}

// resolver reads which resolver is meant: resolver.NAME, or system. "" = it is not said.
func (b *block) resolver(name string) string {
	a := b.attrs[name]
	if a == nil {
		return ""
	}
	if t, ok := traversal(a.Expr); ok && len(t) == 1 && t.RootName() == SystemResolver {
		return SystemResolver
	}
	r, ok := b.l.reference(a.Expr, kindResolver)
	if !ok {
		return ""
	}
	b.l.used[r.String()] = true
	return r.name
}

// checkResolvers finds resolvers whose servers are reached by way of names that only they themselves, or those that wait for them, know.
func (l *loader) checkResolvers(cfg *Config) {
	g := &nameGraph{l: l, cfg: cfg, next: map[string][]string{}, hops: map[string][]string{}, upstreams: map[string]*upstreamBlock{}, state: map[string]int{}}
	for _, u := range l.upstreams {
		g.upstreams["upstream."+u.spec.Name] = u
	}
	for _, p := range cfg.Upstreams.Pools {
		g.next["pool."+p.Name] = p.Members
	}
	for _, c := range cfg.Upstreams.Chains {
		g.hops["chain."+c.Name] = c.Hops
	}
	for _, r := range l.resolvers {
		g.visit(r.config.Name, nil)
	}
}

type nameGraph struct {
	l         *loader
	cfg       *Config
	next      map[string][]string // members of pools
	hops      map[string][]string // of chains
	upstreams map[string]*upstreamBlock
	state     map[string]int // of resolvers: 1 being visited, 2 done
}

func (g *nameGraph) visit(name string, path []string) {
	d, ok := g.l.byName[kindResolver][name]
	if !ok || g.state[name] == 2 {
		return
	}
	x := d.block.(*resolverBlock)
	if g.state[name] == 1 {
		g.l.errorAt(x.src.DefRange, "Resolvers in a circle", fmt.Sprintf("To look a name up a name would have to be looked up first: %s. Give the upstream its address in place of a name, or resolver = system.",
			strings.Join(append(path, "resolver."+name), " -> ")))
		return
	}
	g.state[name] = 1
	for i := range x.config.Groups {
		via := x.config.Groups[i].Via
		if via == "" {
			continue
		}
		g.way(via, true, 0, func(u *upstreamBlock) {
			by := g.cfg.UpstreamResolvers[u.spec.Name]
			if by == "" {
				by = g.cfg.Gateway.Resolver
			}
			g.visit(by, append(slices.Clone(path), "resolver."+name, "upstream."+u.spec.Name))
		})
	}
	g.state[name] = 2
}

// way calls f for the upstreams of a route whose own names are looked up here: the first of a way, and those behind one that takes no names.
// It reports whether a name that comes after the route is looked up here, too.
func (g *nameGraph) way(route string, here bool, depth int, f func(*upstreamBlock)) bool {
	if depth > 50 { // a circle of routes, which has been reported
		return true
	}
	if u := g.upstreams[route]; u != nil {
		if here && !u.spec.Address.IP().IsValid() && !u.spec.Address.IsZero() {
			f(u)
		}
		return u.spec.Scheme == "socks4" || u.spec.Scheme == "socks5"
	}
	if members, ok := g.next[route]; ok {
		after := false
		for _, m := range members {
			after = g.way(m, here, depth+1, f) || after
		}
		return after
	}
	for _, h := range g.hops[route] {
		here = g.way(h, here, depth+1, f)
	}
	return here
}
