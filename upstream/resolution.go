package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/resolve"
)

// resolution is where the addresses of a name are from.
type resolution struct {
	told bool // somebody wants to know
	said *connmodel.Resolution
}

// find looks a name up, and notes where its addresses are from where the resolver can tell.
func (x *resolution) find(ctx context.Context, r resolve.Resolver, host string) ([]netip.Addr, error) {
	f, ok := r.(resolve.Finder)
	if !ok || !x.told {
		return r.Lookup(ctx, host)
	}
	start := time.Now()
	a, err := f.Find(ctx, host)
	x.said = Resolved(&a, time.Since(start))
	return a.Addrs, err
}

// Resolved makes what a record says of an answer; nil = nothing, where a resolver of the policy has no part in it.
func Resolved(a *resolve.Answer, took time.Duration) *connmodel.Resolution {
	if a.Resolver == "" {
		return nil
	}
	return &connmodel.Resolution{Resolver: a.Resolver, From: a.From, Server: a.Server, Took: took}
}

var _ resolve.Ways = (*Table)(nil)

// Stream implements resolve.Ways: it connects to a name server. The server's own name is looked up by the machine's resolver, or by the
// last proxy on the way.
func (t *Table) Stream(ctx context.Context, route, host string, port uint16) (net.Conn, error) {
	if route == "" {
		route = connmodel.RouteDirect
	}
	q := Request{Route: route, Target: connmodel.Address{Host: host, Port: port}, Resolver: resolve.System()}
	q.Deadline, _ = ctx.Deadline()
	c, err := t.Dial(ctx, &q, nil)
	if err != nil {
		return nil, err
	}
	if len(c.Early) == 0 {
		return c, nil
	}
	return &earlyConn{Conn: c, early: c.Early}, nil
}

// Datagrams implements resolve.Ways, as the route "direct" goes.
func (t *Table) Datagrams(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := t.direct.packets(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}
