package upstream

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"viaduct/upstream/resolve"
)

// How long the addresses of a proxy's own name are used: fresh without asking, stale when nobody answers.
const (
	namesFresh = 15 * time.Second
	namesStale = 5 * time.Minute
)

// names keeps the addresses of one proxy, so that not every connection asks for the same name, and proxies outlive a
// failure of the name servers. Targets' names are not kept, and neither is what a resolver knows that keeps answers itself, for as long as they
// are good, but for the failure of its servers. The zero value is empty.
type names struct {
	known atomic.Pointer[knownAddrs]
}

type knownAddrs struct {
	host  string
	addrs []netip.Addr
	at    time.Time
	doubt bool // none of them answered: ask again
}

func (n *names) lookup(ctx context.Context, r resolve.Resolver, host string, by *resolution) ([]netip.Addr, error) {
	k := n.known.Load()
	if k != nil && k.host != host {
		k = nil
	}
	_, keeps := r.(resolve.Finder)
	if k != nil && !k.doubt && !keeps && time.Since(k.at) < namesFresh {
		return k.addrs, nil
	}
	addrs, err := by.find(ctx, r, host)
	if err == nil && len(addrs) > 0 {
		if keeps && k != nil && !k.doubt && &k.addrs[0] == &addrs[0] && time.Since(k.at) < namesFresh {
			return addrs, nil // the same from its cache: not one allocation for each connection
		}
		n.known.Store(&knownAddrs{host: host, addrs: addrs, at: time.Now()})
		return addrs, nil
	}
	if k != nil && ctx.Err() == nil && time.Since(k.at) < namesStale {
		return k.addrs, nil
	}
	return addrs, err
}

// doubt makes the next lookup ask.
func (n *names) doubt() {
	if k := n.known.Load(); k != nil && !k.doubt {
		n.known.CompareAndSwap(k, &knownAddrs{host: k.host, addrs: k.addrs, at: k.at, doubt: true})
	}
}
