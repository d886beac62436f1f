package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"viaduct/policies"
	"viaduct/router/admin"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// This file joins the resolvers of a policy with the routes that use them, and that they use.

// resolverSet is the resolvers of a configuration, by name. A set does not change once it is made.
type resolverSet map[string]*openResolver

type openResolver struct {
	*resolve.Client
	config *resolve.Config
	first  *awaited
}

// awaited is the ways of a resolver whose table of routes is still being made: that may ask for names already.
type awaited struct {
	ready chan struct{} // closed when table is set
	table *upstream.Table
}

// Stream implements resolve.Ways.
func (a *awaited) Stream(ctx context.Context, route, host string, port uint16) (net.Conn, error) {
	select {
	case <-a.ready:
		return a.table.Stream(ctx, route, host, port)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Datagrams implements resolve.Ways.
func (a *awaited) Datagrams(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	select {
	case <-a.ready:
		return a.table.Datagrams(ctx, to)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openResolvers makes the resolvers of a configuration, and hands them to its upstreams; those that did not change go on from prev, with what
// they have in their caches. Nothing is asked, and nothing connected to.
func openResolvers(c *policies.Config, prev resolverSet) (resolverSet, error) {
	set := resolverSet{}
	for i := range c.Resolvers {
		o := &c.Resolvers[i]
		if old := prev[o.Name]; old != nil && resolve.Same(old.config, o) {
			set[o.Name] = old
			continue
		}
		r, err := resolve.NewClient(*o)
		if err != nil {
			return nil, err
		}
		x := &openResolver{r, o, &awaited{ready: make(chan struct{})}}
		r.SetWays(x.first)
		set[o.Name] = x
	}
	u := &c.Upstreams
	u.Resolver, u.Resolvers = set.named(c.Gateway.Resolver), nil
	for i := range c.Resolvers {
		if c.Resolvers[i].Name != c.Gateway.Resolver {
			u.Resolvers = append(u.Resolvers, set.named(c.Resolvers[i].Name))
		}
	}
	for i := range u.Upstreams {
		s := &u.Upstreams[i]
		s.Resolver = set.named(c.UpstreamResolvers[s.Name])
	}
	return set, nil
}

// named returns a resolver; nil = whoever asks uses the one for all.
func (set resolverSet) named(name string) resolve.Resolver {
	if name == policies.SystemResolver {
		return resolve.System()
	}
	if r := set[name]; r != nil {
		return r.Client
	}
	return nil
}

// begin says by which routes the servers of new resolvers are reached.
func (set resolverSet) begin(t *upstream.Table, prev resolverSet) {
	for name, r := range set {
		if prev[name] != r {
			r.first.table = t
			close(r.first.ready)
		}
	}
}

// reach says by which routes name servers are reached from now on.
func (set resolverSet) reach(t *upstream.Table) {
	for _, r := range set {
		r.SetWays(t)
	}
}

// leave closes the connections of those that next has not.
func (set resolverSet) leave(next resolverSet) {
	for name, r := range set {
		if next[name] != r {
			r.Close()
		}
	}
}

// status returns how the resolvers are, in the order of the policy.
func (set resolverSet) status(c *policies.Config) (all []admin.ResolverStatus) {
	for i := range c.Resolvers {
		r := set[c.Resolvers[i].Name]
		if r == nil {
			continue
		}
		st := r.Status()
		x := admin.ResolverStatus{Name: st.Name, Lookups: st.Lookups, Hits: st.Hits, Stale: st.Stale, Hosts: st.Hosts, Failures: st.Failures, Entries: st.Entries, InFlight: st.InFlight, Servers: []admin.NameServerStatus{}}
		for _, s := range st.Servers {
			x.Servers = append(x.Servers, admin.NameServerStatus{
				Domain: s.Suffix, Server: s.Server, Via: s.Via, Resting: s.Resting, Queries: s.Queries, Failures: s.Failures, Results: s.Results,
				Latency: float64(s.Latency.Microseconds()) / 1000, LastError: s.LastError, LastErrorTime: maybe(s.LastTime),
			})
		}
		all = append(all, x)
	}
	return all
}

// lookedUp is what a command says of one lookup.
type lookedUp struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Resolver  string   `json:"resolver"` // system = the machine's
	From      string   `json:"from,omitempty"`
	Server    string   `json:"server,omitempty"`
	Took      float64  `json:"took_ms"`
	Error     string   `json:"error,omitempty"`
}

func lookUpSaid(name string, a *resolve.Answer, took time.Duration, err error) lookedUp {
	x := lookedUp{Name: name, Addresses: []string{}, Resolver: a.Resolver, From: a.From, Server: a.Server, Took: float64(took.Microseconds()) / 1000}
	if x.Resolver == "" {
		x.Resolver = policies.SystemResolver
	}
	for _, ip := range a.Addrs {
		x.Addresses = append(x.Addresses, ip.String())
	}
	if err != nil {
		x.Error = err.Error()
	}
	return x
}

// words says by whom, in a clause.
func (x *lookedUp) words() string {
	s := "resolver " + x.Resolver
	switch x.From {
	case resolve.FromServer:
		s += ", asked " + x.Server
	case resolve.FromCache:
		s += ", from its cache"
		if x.Server != "" {
			s += " (" + x.Server + ")"
		}
	case resolve.FromStale:
		s += ", from its cache, past its time"
	case resolve.FromHosts:
		s += ", from its hosts"
	case resolve.FromSpecial:
		s += ", by itself"
	case resolve.FromSystem:
		if x.Resolver != policies.SystemResolver {
			s += ", asked the machine's"
		}
	}
	return s
}

// forListener returns that which answers for a listener's targets.
func (set resolverSet) forListener(c *policies.Config, listener string) resolve.Resolver {
	if i := slices.IndexFunc(c.Listeners, func(l policies.Listener) bool { return l.Name == listener }); i >= 0 && c.Listeners[i].Resolver != "" {
		return set.named(c.Listeners[i].Resolver)
	}
	if r := set.named(c.Gateway.Resolver); r != nil {
		return r
	}
	return resolve.System()
}
