// Package resolve turns names into addresses for the one side of the gateway that has to: dialling what no proxy resolves
// for us, and rules that ask for addresses. It asks the system's resolver; it is not a DNS client of its own, and it does
// not order or filter by policy. Its neighbour upstream decides what is resolved at all.
package resolve

import (
	"context"
	"net/netip"
)

// Resolver finds the addresses of a host. Addresses come back unmapped, without repeats, in the order to try them; an
// address given as host comes back as it is. Errors are *net.DNSError, or the context's.
//
// One that keeps anything may have a method NetworkChanged(), which is called when this machine is in another network.
type Resolver interface {
	Lookup(ctx context.Context, host string) ([]netip.Addr, error)
}
