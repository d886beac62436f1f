package match

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// ParseNetwork reads a prefix ("10.20.0.0/16", "fd00:20::/32"), or an address as the network that holds it alone. Bits
// beyond the prefix length are an error, since one of the two must be a mistake; so is a zone. A network of IPv4
// addresses mapped into IPv6 is returned as IPv4. The error is a *[PatternError].
func ParseNetwork(s string) (netip.Prefix, error) {
	i := strings.IndexByte(s, '/')
	if i < 0 {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, &PatternError{s, 0, "not an IP address or network"}
		}
		if a.Zone() != "" {
			return netip.Prefix{}, &PatternError{s, strings.IndexByte(s, '%'), "a zone is not allowed"}
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if _, err := netip.ParseAddr(s[:i]); err == nil {
			return netip.Prefix{}, &PatternError{s, i, "not a prefix length that fits the address"}
		}
		return netip.Prefix{}, &PatternError{s, 0, "not an IP address or network"}
	}
	if p != p.Masked() {
		return netip.Prefix{}, &PatternError{s, i, "bits are set beyond the prefix length: the network is " + p.Masked().String()}
	}
	return canonicalPrefix(p), nil
}

// canonicalPrefix clears the bits beyond the length and turns a network of mapped IPv4 addresses into IPv4.
func canonicalPrefix(p netip.Prefix) netip.Prefix {
	p = p.Masked()
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

var errPrefix = errors.New("not a valid network prefix")

// NetworkBuilder gathers networks and the clauses that name them. The zero value is ready to use. It is not safe for
// concurrent use.
type NetworkBuilder struct{ entries []networkEntry }

type networkEntry struct {
	prefix netip.Prefix
	clause uint32
}

// Add adds a network for the given clauses. Bits beyond its length do not count, and mapped IPv4 is taken as IPv4. Only
// a prefix that is not valid is refused.
func (b *NetworkBuilder) Add(p netip.Prefix, clauses ...uint32) error {
	if !p.IsValid() {
		return errPrefix
	}
	p = canonicalPrefix(p)
	for _, id := range clauses {
		b.entries = append(b.entries, networkEntry{p, id})
	}
	return nil
}

// Build makes the index and leaves the builder empty.
func (b *NetworkBuilder) Build() *NetworkIndex {
	// From wide to narrow: whatever covers a prefix is in the table before it.
	slices.SortFunc(b.entries, func(p, q networkEntry) int {
		return cmp.Or(cmp.Compare(p.prefix.Bits(), q.prefix.Bits()), p.prefix.Addr().Compare(q.prefix.Addr()), cmp.Compare(p.clause, q.clause))
	})
	x := &NetworkIndex{sets: []networkSet{{}}}
	n := networkNodes{x: x, seen: make(map[string]uint32)}
	for from := 0; from < len(b.entries); {
		p := b.entries[from].prefix
		n.ids = n.ids[:0]
		to := from
		for ; to < len(b.entries) && b.entries[to].prefix == p; to++ {
			n.ids = append(n.ids, b.entries[to].clause)
		}
		parent, _ := x.table.LookupPrefix(p)
		if v := n.node(parent); v != parent {
			x.table.Insert(p, v)
		}
		from = to
	}
	x.pool.ids, x.sets = slices.Clip(x.pool.ids), slices.Clip(x.sets)
	*b = NetworkBuilder{}
	return x
}
