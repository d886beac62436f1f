package match

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// errTooLarge says that the names need more than the 4 GiB that offsets can reach: some 200 million of them.
var errTooLarge = errors.New("the names of one host index are limited to 4 GiB")

// A HostBuilder gathers host patterns and the clauses that name them. The zero value is ready to use. It keeps the text
// of each name once, in one slab, and no reference to what it is given. It is not safe for concurrent use.
type HostBuilder struct {
	// Pause is called now and then by what takes long: after every thousand names or so that Build, or Add with a table that grows, goes over. nil = nothing is.
	Pause func()

	key   hostKey
	slab  []byte   // the names, end to end
	ends  []uint32 // of name n in slab; it begins where the one before ends
	state []uint32 // of name n: a node
	table []uint32 // open addressing, a power of two: number of the name + 1, 0 if free
	depth depthSet

	nodes  []node
	steps  map[node]uint32 // number of each node
	last   node            // the step taken last, and where it led
	lastTo uint32
}

// node stands for a set of (clause, form) pairs: those of its parent and one more. Names that were added for the same
// clauses in the same order share a node, so a list of a million names costs one. Node 0 is the empty set.
type node struct {
	parent, id uint32
	form       form
}

// Add adds a pattern for the given clauses: www.example.com takes the name itself, *.example.com any name below it
// (one label or more, not example.com), .example.com both. Adding a pattern again is harmless. The error is a
// *[PatternError], or says that the index is full; the builder is then as it was.
func (b *HostBuilder) Add(pattern string, clauses ...uint32) error {
	f, start, err := splitHost(pattern)
	if err != nil {
		return err
	}
	mark := len(b.slab)
	b.slab = append(b.slab, pattern[start:]...)
	return b.added(mark, f, clauses)
}

// AddBytes is Add for a pattern in a buffer, such as a line of a list being read. The buffer is not kept.
func (b *HostBuilder) AddBytes(pattern []byte, clauses ...uint32) error {
	f, start, err := splitHost(pattern)
	if err != nil {
		return err
	}
	mark := len(b.slab)
	b.slab = append(b.slab, pattern[start:]...)
	return b.added(mark, f, clauses)
}

// Len is the number of different names so far. *.example.com and .example.com share one.
func (b *HostBuilder) Len() int { return len(b.ends) }

// added takes in the name that was appended to the slab at mark, or drops it again if it is known.
func (b *HostBuilder) added(mark int, f form, clauses []uint32) error {
	// Every name costs its text, a length byte and a value of at most five bytes in the finished slab.
	if uint64(len(b.slab))+6*uint64(len(b.ends)+1) > math.MaxUint32 {
		b.slab = b.slab[:mark]
		return errTooLarge
	}
	if 4*(len(b.ends)+1) > 3*len(b.table) {
		b.grow()
	}
	name := b.slab[mark:]
	slot := b.lookup(name)
	n := b.table[slot] - 1
	if b.table[slot] != 0 {
		b.slab = b.slab[:mark]
	} else {
		n = uint32(len(b.ends))
		b.table[slot] = n + 1
		b.ends = append(b.ends, uint32(len(b.slab)))
		b.state = append(b.state, 0)
		b.depth.add(1 + bytes.Count(name, []byte{'.'}))
	}
	for _, id := range clauses {
		b.state[n] = b.step(b.state[n], id, f)
	}
	return nil
}

// name is the text of name n.
func (b *HostBuilder) name(n uint32) []byte {
	if n == 0 {
		return b.slab[:b.ends[0]]
	}
	return b.slab[b.ends[n-1]:b.ends[n]]
}

// lookup finds the slot of a name, or the free one where it belongs.
func (b *HostBuilder) lookup(name []byte) int {
	mask := len(b.table) - 1
	i := int(b.key.hash(name)) & mask
	for n := b.table[i]; n != 0 && !bytes.Equal(b.name(n-1), name); n = b.table[i] {
		i = (i + 1) & mask
	}
	return i
}

// grow makes the table, or doubles it.
func (b *HostBuilder) grow() {
	if len(b.table) == 0 {
		b.key = newHostKey()
		b.nodes = append(b.nodes, node{})
		b.steps = make(map[node]uint32)
	}
	b.table = make([]uint32, max(16, 2*len(b.table)))
	for n := range uint32(len(b.ends)) {
		// Names are unique, so lookup always ends at a free slot here.
		b.table[b.lookup(b.name(n))] = n + 1
		b.pause(n)
	}
}

func (b *HostBuilder) pause(n uint32) {
	if b.Pause != nil && n%1024 == 1023 {
		b.Pause()
	}
}

// step returns the node for the pairs of from and one more.
func (b *HostBuilder) step(from, id uint32, f form) uint32 {
	key := node{from, id, f}
	if key == b.last && b.lastTo != 0 {
		return b.lastTo
	}
	// Clauses come in order, so a pair given twice lies near; what this misses is dropped by Build.
	for n := from; n != 0 && b.nodes[n].id == id; n = b.nodes[n].parent {
		if b.nodes[n].form|f == b.nodes[n].form {
			return from
		}
	}
	to, ok := b.steps[key]
	if !ok {
		to = uint32(len(b.nodes))
		b.nodes = append(b.nodes, key)
		b.steps[key] = to
	}
	b.last, b.lastTo = key, to
	return to
}

// Build makes the index and leaves the builder empty.
func (b *HostBuilder) Build() *HostIndex {
	x := &HostIndex{names: len(b.ends)}
	values := b.values(x)
	x.table = b.hostTable(values)
	*b = HostBuilder{}
	return x
}

// values numbers the nodes that names ended up in, the most frequent first so that large lists have values of one byte,
// and stores their sets in the index.
func (b *HostBuilder) values(x *HostIndex) (ofNode []uint32) {
	uses := make([]int, len(b.nodes))
	for _, n := range b.state {
		uses[n]++
	}
	var used []uint32
	for n, c := range uses {
		if c > 0 {
			used = append(used, uint32(n))
		}
	}
	slices.SortStableFunc(used, func(m, n uint32) int { return cmp.Compare(uses[n], uses[m]) })
	ofNode = make([]uint32, len(b.nodes))
	x.sets = make([]hostSets, len(used))
	var exact, below []uint32
	for v, n := range used {
		ofNode[n] = uint32(v)
		exact, below = exact[:0], below[:0]
		for ; n != 0; n = b.nodes[n].parent {
			if b.nodes[n].form&formExact != 0 {
				exact = append(exact, b.nodes[n].id)
			}
			if b.nodes[n].form&formBelow != 0 {
				below = append(below, b.nodes[n].id)
			}
		}
		x.sets[v] = hostSets{x.pool.add(exact), x.pool.add(below)}
	}
	x.pool.ids = slices.Clip(x.pool.ids)
	return ofNode
}

// hostTable lays out the finished table at its exact size.
func (b *HostBuilder) hostTable(values []uint32) hostTable {
	size := len(b.slab)
	var buf [binary.MaxVarintLen32]byte
	for _, n := range b.state {
		size += 1 + binary.PutUvarint(buf[:], uint64(values[n]))
	}
	slots := slotsPerName(len(b.ends))
	t := hostTable{
		key:   b.key,
		tags:  make([]uint8, slots),
		slots: make([]uint32, slots),
		slab:  make([]byte, 0, size),
		depth: b.depth,
	}
	for n := range uint32(len(b.ends)) {
		name := b.name(n)
		off := uint32(len(t.slab))
		t.slab = append(t.slab, uint8(len(name)))
		t.slab = binary.AppendUvarint(t.slab, uint64(values[b.state[n]]))
		t.slab = append(t.slab, name...)
		t.insert(off, t.key.hash(name))
		b.pause(n)
	}
	return t
}
