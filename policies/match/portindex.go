package match

import (
	"slices"
)

// PortIndex finds the clauses whose ranges hold a port. It is made by a [PortBuilder]; the zero value is empty. It is
// safe for concurrent use.
//
// The ends of the ranges cut the ports into pieces. The pieces are the leaves of a segment tree, whose nodes hold the
// clauses of the ranges that cover all below them. A lookup is a binary search for the piece and a walk to the root, so
// a thousand ranges that overlap need no thousand copies.
type PortIndex struct {
	starts []uint16 // first port of each piece, ascending, the first is 0
	nodes  []span   // the tree: leaf i at len(starts)+i, the parent of n at n/2, the root at 1
	pool   pool
}

// AppendSets appends the sets of clauses that have a range which holds port. Each set is ascending and must not be
// written to; a clause may be in several if its own ranges overlap. There are no more than 18 sets.
func (x *PortIndex) AppendSets(dst [][]uint32, port uint16) [][]uint32 {
	for n := x.leaf(port); n > 0; n >>= 1 {
		if s := x.nodes[n]; s.from < s.to {
			dst = append(dst, x.pool.get(s))
		}
	}
	return dst
}

// AppendMatches appends the clauses of all sets that AppendSets finds; they are not in order over all sets.
func (x *PortIndex) AppendMatches(dst []uint32, port uint16) []uint32 {
	for n := x.leaf(port); n > 0; n >>= 1 {
		dst = append(dst, x.pool.get(x.nodes[n])...)
	}
	return dst
}

// Mark adds the clauses that have a range which holds port to b, which must have room for them.
func (x *PortIndex) Mark(b Bits, port uint16) {
	for n := x.leaf(port); n > 0; n >>= 1 {
		b.Add(x.pool.get(x.nodes[n])...)
	}
}

// leaf is the node of the piece that port lies in, 0 if the index is empty.
func (x *PortIndex) leaf(port uint16) int {
	low, high := 0, len(x.starts) // the piece is in starts[low:high]
	if high == 0 {
		return 0
	}
	for high-low > 1 {
		if mid := int(uint(low+high) >> 1); x.starts[mid] <= port {
			low = mid
		} else {
			high = mid
		}
	}
	return len(x.starts) + low
}

// PortBuilder gathers ranges of ports and the clauses that name them. The zero value is ready to use. It is not safe
// for concurrent use.
type PortBuilder struct{ entries []portEntry }

type portEntry struct {
	ports  PortRange
	clause uint32
}

// Add adds a range for the given clauses. A range that ends before it begins is refused.
func (b *PortBuilder) Add(r PortRange, clauses ...uint32) error {
	if r.To < r.From {
		return errPortRange
	}
	for _, id := range clauses {
		b.entries = append(b.entries, portEntry{r, id})
	}
	return nil
}

// Build makes the index and leaves the builder empty.
func (b *PortBuilder) Build() *PortIndex {
	x := &PortIndex{}
	if len(b.entries) == 0 {
		return x
	}
	x.starts = append(x.starts, 0)
	for _, e := range b.entries {
		x.starts = append(x.starts, e.ports.From)
		if e.ports.To < 65535 {
			x.starts = append(x.starts, e.ports.To+1)
		}
	}
	slices.Sort(x.starts)
	x.starts = slices.Clip(slices.Compact(x.starts))

	n := len(x.starts)
	sets := make([][]uint32, 2*n)
	for _, e := range b.entries {
		left := x.leaf(e.ports.From)
		right := x.leaf(e.ports.To) + 1
		for ; left < right; left, right = left>>1, right>>1 {
			if left&1 == 1 {
				sets[left] = append(sets[left], e.clause)
				left++
			}
			if right&1 == 1 {
				right--
				sets[right] = append(sets[right], e.clause)
			}
		}
	}
	x.nodes = make([]span, 2*n)
	for i, s := range sets {
		x.nodes[i] = x.pool.add(s)
	}
	x.pool.ids = slices.Clip(x.pool.ids)
	*b = PortBuilder{}
	return x
}
