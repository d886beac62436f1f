// Package resolve turns names into addresses for the one side of the gateway that has to: dialling what no proxy resolves
// for us, and rules that ask for addresses. System asks the machine's resolver; a Client asks name servers of its own, over
// UDP, TCP, TLS and HTTPS, and keeps what they say as long as they say.
//
// It is a stub: it asks servers that recurse, follows no referrals and validates no DNSSEC. It does not order or filter by
// policy, and opens no way but those it is given. Its neighbour upstream decides what is resolved at all, and is asked for
// the ways to the servers.
package resolve

import (
	"context"
	"net/netip"
	"strings"
)

// Resolver finds the addresses of a host. Addresses come back unmapped, without repeats, in the order to try them; the
// slice may be shared and is not changed by anybody. An address given as host comes back as it is. Errors are *Error,
// *net.DNSError, or the context's; those of Error have a *net.DNSError in them.
//
// One that keeps anything may have a method NetworkChanged(), which is called when this machine is in another network.
type Resolver interface {
	Lookup(ctx context.Context, host string) ([]netip.Addr, error)
}

// Finder is a Resolver that can say where its answers are from.
type Finder interface {
	Resolver
	Find(ctx context.Context, host string) (Answer, error)
}

// Where addresses are from.
const (
	FromServer  = "server"  // asked just now
	FromCache   = "cache"   // asked before, and still good
	FromStale   = "stale"   // asked before, and past its time: no server answered now
	FromHosts   = "hosts"   // written in the policy, or in a hosts file
	FromSpecial = "special" // what the name means by itself (localhost)
	FromSystem  = "system"  // the machine's resolver
	FromLiteral = "literal" // the host is an address
)

// Answer is what a lookup found.
type Answer struct {
	Addrs    []netip.Addr
	Resolver string // name of the resolver; "" = the machine's
	From     string // FromServer, ...
	Server   string // that said it, as in "tls://192.0.2.53:853"; "" when none did
}

// Find asks r, and says where the addresses are from as far as r can tell.
func Find(ctx context.Context, r Resolver, host string) (Answer, error) {
	if f, ok := r.(Finder); ok {
		return f.Find(ctx, host)
	}
	addrs, err := r.Lookup(ctx, host)
	return Answer{Addrs: addrs, From: FromSystem}, err
}

// literal returns the address that host spells. That a name is none is found without the allocation of an error.
func literal(host string) (netip.Addr, bool) {
	if host == "" || strings.IndexByte(host, ':') < 0 && (host[len(host)-1] < '0' || host[len(host)-1] > '9') {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(host)
	return ip.Unmap(), err == nil
}
