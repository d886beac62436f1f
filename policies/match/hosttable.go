package match

import (
	"math/bits"
	"math/rand/v2"
)

// hostKey is the secret of a host table. Names come from clients, and lists may come from strangers, so neither may be
// able to choose names that collide: the numbers are drawn from the runtime's ChaCha8 generator for every table.
type hostKey struct{ start, mul, last uint64 }

func newHostKey() hostKey { return hostKey{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1} }

// step takes one more byte, going from the right end of a name to the left: the hash of every suffix falls out of one
// pass. Each step is a 64x64 to 128 bit product folded by xor, so a later byte is spread over all bits of the state.
func (k hostKey) step(h uint64, c byte) uint64 {
	hi, lo := bits.Mul64(h^uint64(c), k.mul)
	return hi ^ lo
}

// end makes the hash out of the state. Without it the bytes taken last would move the upper bits, which choose the slot,
// by even steps only, and names that differ in front would crowd.
func (k hostKey) end(h uint64) uint64 {
	hi, lo := bits.Mul64(h, k.last)
	return hi ^ lo
}

// hash is the hash of a whole name.
func (k hostKey) hash(name []byte) uint64 {
	h := k.start
	for i := len(name) - 1; i >= 0; i-- {
		h = k.step(h, name[i])
	}
	return k.end(h)
}

// hostTable maps names to small numbers. It is an open-addressing hash table with linear probing, split in two: one tag
// byte per slot, which decides nearly every miss, and one offset per slot into a slab that holds length, value and text
// of each name. There are three allocations in all, none of which the garbage collector has to look into.
//
// Per name that is 1.5 slots of 5 bytes, its text and two bytes more.
type hostTable struct {
	key   hostKey
	tags  []uint8  // 0: the slot is free
	slots []uint32 // offset of the entry in slab
	slab  []byte   // entries: length of the name (1 byte), value (uvarint), name
	depth depthSet // the numbers of labels that names in the table have
}

// slotsPerName is the table's size in slots for n names: two thirds full at most.
func slotsPerName(n int) int { return n + n/2 + 1 }

// home is the slot where the search for a hash begins, by multiplication instead of division.
func (t *hostTable) home(h uint64) int {
	hi, _ := bits.Mul64(h, uint64(len(t.tags)))
	return int(hi)
}

// tagOf takes the tag from the low bits, which have no part in the home slot.
func tagOf(h uint64) uint8 {
	return max(1, uint8(h))
}

// find looks for a name, not longer than 255 octets, with its hash. The table must not be empty.
func (t *hostTable) find(name string, h uint64) (value uint32, ok bool) {
	tag := tagOf(h)
	for i := t.home(h); ; {
		switch t.tags[i] {
		case 0:
			return 0, false
		case tag:
			if value, ok = t.entry(t.slots[i], name); ok {
				return value, true
			}
		}
		if i++; i == len(t.tags) {
			i = 0
		}
	}
}

// entry compares the entry at off with name, byte for byte, and reads its value.
func (t *hostTable) entry(off uint32, name string) (value uint32, ok bool) {
	e := t.slab[off:]
	if int(e[0]) != len(name) {
		return 0, false
	}
	e = e[1:]
	var shift uint
	for e[0] >= 0x80 {
		value |= uint32(e[0]&0x7f) << shift
		shift += 7
		e = e[1:]
	}
	value |= uint32(e[0]) << shift
	e = e[1:]
	return value, string(e[:len(name)]) == name
}

// insert puts an entry that is not yet in the table into the first free slot. h is the hash of its name.
func (t *hostTable) insert(off uint32, h uint64) {
	i := t.home(h)
	for t.tags[i] != 0 {
		if i++; i == len(t.tags) {
			i = 0
		}
	}
	t.tags[i], t.slots[i] = tagOf(h), off
}

// depthSet is a set of label counts, 1 to 127; bit n stands for n labels. A name of 253 octets has no more than 127.
type depthSet [2]uint64

func (d *depthSet) add(n int)      { d[n>>6&1] |= 1 << (n & 63) }
func (d *depthSet) has(n int) bool { return d[n>>6&1]&(1<<(n&63)) != 0 }

// max is the largest member, 0 if there is none.
func (d *depthSet) max() int {
	if d[1] != 0 {
		return 127 - bits.LeadingZeros64(d[1])
	}
	return max(0, 63-bits.LeadingZeros64(d[0]))
}

// hostWalk goes over the suffixes of a name that are in the table, from the shortest to the name itself.
type hostWalk struct {
	t      *hostTable
	host   string
	at     int    // host[at:] is hashed
	labels int    // dots in host[at:], plus one
	deep   int    // no name in the table has more labels
	state  uint64 // of the hash of host[at:]
}

func (t *hostTable) walk(host string) hostWalk {
	return hostWalk{t: t, host: host, at: len(host), labels: 1, deep: t.depth.max(), state: t.key.start}
}

// next returns the value of the next suffix found. whole says that the suffix is the name itself, else there is
// something before it and the dot.
func (w *hostWalk) next() (value uint32, whole, ok bool) {
	t, h, i := w.t, w.state, w.at
	low := max(0, len(w.host)-maxName) // no name in the table begins before it
	for w.labels <= w.deep && i > low {
		// Hash the next label, up to the dot before it.
		for i > low && w.host[i-1] != '.' {
			h = t.key.step(h, w.host[i-1])
			i--
		}
		if i > 0 && w.host[i-1] != '.' {
			break
		}
		start, found := i, false
		// A dot in first place has nothing before it: the rest is then not "below" anything.
		if start != 1 && t.depth.has(w.labels) {
			value, found = t.find(w.host[start:], t.key.end(h))
		}
		if i > 0 {
			h = t.key.step(h, '.')
			i--
			w.labels++
		}
		if found {
			w.state, w.at = h, i
			return value, start == 0, true
		}
	}
	w.at = 0
	return 0, false, false
}
