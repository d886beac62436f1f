package match

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// NetworkSet is a set of networks without clauses: the clients of a listener, a block list, the networks of one clause.
// It is made by a [NetworkSetBuilder]; the zero value is empty and holds nothing. It is safe for concurrent use.
type NetworkSet struct{ table bart.Lite }

// Len is the number of networks kept; one that lies inside another that came before it is not.
func (s *NetworkSet) Len() int { return s.table.Size() }

// Contains reports whether a network of the set holds addr. IPv4 addresses mapped into IPv6 are looked up as IPv4, and a
// zone is ignored. The zero Addr is in no network.
func (s *NetworkSet) Contains(addr netip.Addr) bool {
	return s.table.Contains(addr.Unmap())
}

// NetworkSetBuilder gathers the networks of a [NetworkSet]. The zero value is ready to use. It is not safe for
// concurrent use.
type NetworkSetBuilder struct{ s *NetworkSet }

// Add adds a network. Bits beyond its length do not count, and mapped IPv4 is taken as IPv4. Only a prefix that is not
// valid is refused.
func (b *NetworkSetBuilder) Add(p netip.Prefix) error {
	if !p.IsValid() {
		return errPrefix
	}
	if b.s == nil {
		b.s = new(NetworkSet)
	}
	if p = canonicalPrefix(p); !b.s.table.LookupPrefix(p) {
		b.s.table.Insert(p)
	}
	return nil
}

// AddString adds a network or an address as text, as [ParseNetwork] reads it.
func (b *NetworkSetBuilder) AddString(s string) error {
	p, err := ParseNetwork(s)
	if err != nil {
		return err
	}
	return b.Add(p)
}

// Build makes the set and leaves the builder empty.
func (b *NetworkSetBuilder) Build() *NetworkSet {
	s := b.s
	if b.s = nil; s == nil {
		s = new(NetworkSet)
	}
	return s
}
