package match

import "math/bits"

// Bits is a set of clause numbers below a fixed limit, one bit each. As a scratch value it belongs to one goroutine.
type Bits []uint64

// NewBits makes an empty set with room for the clauses 0 to n-1.
func NewBits(n int) Bits { return make(Bits, (n+63)/64) }

// Add adds clauses; each must be below the limit of b.
func (b Bits) Add(clauses ...uint32) {
	for _, id := range clauses {
		b[id>>6] |= 1 << (id & 63)
	}
}

// Has reports whether the clause is in b. A clause beyond the limit is not.
func (b Bits) Has(clause uint32) bool {
	w := int(clause >> 6)
	return w < len(b) && b[w]&(1<<(clause&63)) != 0
}

// Set makes b equal to o, which must have the same limit.
func (b Bits) Set(o Bits) { copy(b, o[:len(b)]) }

// And keeps in b what is also in o, which must have the same limit.
func (b Bits) And(o Bits) {
	o = o[:len(b)]
	for i := range b {
		b[i] &= o[i]
	}
}

// Reset empties b.
func (b Bits) Reset() { clear(b) }

// Next returns the smallest clause in b that is not below from. To walk b in order, go on from the clause found plus one.
func (b Bits) Next(from uint32) (clause uint32, ok bool) {
	w := int(from >> 6)
	if w >= len(b) {
		return 0, false
	}
	word := b[w] >> (from & 63) << (from & 63)
	for word == 0 {
		if w++; w == len(b) {
			return 0, false
		}
		word = b[w]
	}
	return uint32(w<<6 + bits.TrailingZeros64(word)), true
}
