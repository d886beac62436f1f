package match

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// NetworkIndex finds the clauses whose networks hold an address: all of them, not only the most specific. It is made by
// a [NetworkBuilder]; the zero value is empty. It is safe for concurrent use.
//
// One longest-prefix lookup finds the innermost network, whose set is linked to that of the network around it, and so
// on outwards. Linking instead of copying keeps the size linear when many clauses name a wide network that has
// thousands of narrow ones in it. A network that adds no clause to those around it is not stored.
type NetworkIndex struct {
	table bart.Table[uint32] // a number in sets
	sets  []networkSet       // 0 is the empty set
	pool  pool
}

// networkSet holds the clauses of one or more networks that those around them do not have.
type networkSet struct {
	own    span
	around uint32 // the set of the next wider network
}

// AppendSets appends the sets of clauses that have a network which holds addr, the innermost network first. Each set is
// ascending and must not be written to; no clause is in two of them. There are seldom more than three sets and never
// more than 129. IPv4 addresses mapped into IPv6 are looked up as IPv4, and a zone is ignored.
func (x *NetworkIndex) AppendSets(dst [][]uint32, addr netip.Addr) [][]uint32 {
	for v, _ := x.table.Lookup(addr.Unmap()); v != 0; v = x.sets[v].around {
		dst = append(dst, x.pool.get(x.sets[v].own))
	}
	return dst
}

// AppendMatches appends the clauses of all sets that AppendSets finds; they are not in order over all sets.
func (x *NetworkIndex) AppendMatches(dst []uint32, addr netip.Addr) []uint32 {
	for v, _ := x.table.Lookup(addr.Unmap()); v != 0; v = x.sets[v].around {
		dst = append(dst, x.pool.get(x.sets[v].own)...)
	}
	return dst
}

// Mark adds the clauses that have a network which holds addr to b, which must have room for them.
func (x *NetworkIndex) Mark(b Bits, addr netip.Addr) {
	for v, _ := x.table.Lookup(addr.Unmap()); v != 0; v = x.sets[v].around {
		b.Add(x.pool.get(x.sets[v].own)...)
	}
}

// networkNodes makes the sets of an index while it is built, each once.
type networkNodes struct {
	x    *NetworkIndex
	ids  []uint32 // clauses of the network at hand
	seen map[string]uint32
	key  []byte
}

// node returns the set for n.ids inside the network that has the set around: around itself if nothing is added.
func (n *networkNodes) node(around uint32) uint32 {
	for v := around; v != 0 && len(n.ids) > 0; v = n.x.sets[v].around {
		outer := n.x.pool.get(n.x.sets[v].own)
		n.ids = slices.DeleteFunc(n.ids, func(id uint32) bool {
			_, found := slices.BinarySearch(outer, id)
			return found
		})
	}
	if len(n.ids) == 0 {
		return around
	}
	n.key = binary.LittleEndian.AppendUint32(n.key[:0], around)
	for _, id := range n.ids {
		n.key = binary.LittleEndian.AppendUint32(n.key, id)
	}
	v, ok := n.seen[string(n.key)]
	if !ok {
		v = uint32(len(n.x.sets))
		n.x.sets = append(n.x.sets, networkSet{n.x.pool.add(n.ids), around})
		n.seen[string(n.key)] = v
	}
	return v
}
