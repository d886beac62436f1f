package match

import "slices"

// span is a run of clause numbers in a pool. The zero span is the empty set.
type span struct{ from, to uint32 }

// pool keeps sets of clause numbers end to end in one slab. Each set is ascending and free of duplicates.
type pool struct{ ids []uint32 }

// add sorts set in place, drops duplicates and stores it.
func (p *pool) add(set []uint32) span {
	slices.Sort(set)
	from := len(p.ids)
	for _, id := range set {
		if len(p.ids) == from || p.ids[len(p.ids)-1] != id {
			p.ids = append(p.ids, id)
		}
	}
	return span{uint32(from), uint32(len(p.ids))}
}

// get returns the set; its capacity ends where it ends, so that appending to it cannot spoil the next one.
func (p *pool) get(s span) []uint32 { return p.ids[s.from:s.to:s.to] }
