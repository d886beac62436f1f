package match

// HostIndex finds the clauses whose host patterns take a name. It is made by a [HostBuilder]; the zero value is empty.
// It is safe for concurrent use.
//
// Names are compared as they are, byte by byte: the caller has made them canonical (lower case, A-labels, no trailing
// dot, addresses as text). Anything else simply does not match. No name is refused, and a lookup takes time linear in
// the labels that patterns have, whatever the client sent.
type HostIndex struct {
	table hostTable
	sets  []hostSets // by value
	pool  pool
	names int
}

// hostSets are the clauses of one value: for the name itself, and for the names below it.
type hostSets struct{ exact, below span }

// Len is the number of different names in the index.
func (x *HostIndex) Len() int { return x.names }

// AppendSets appends the sets of clauses whose patterns take host: one for each name in the index that is host or a
// suffix of it, from the shortest suffix to host itself. Each set is ascending, without duplicates, and must not be
// written to; a clause may be in several. There are seldom more than three sets and never more than 127.
func (x *HostIndex) AppendSets(dst [][]uint32, host string) [][]uint32 {
	w := x.table.walk(host)
	for v, whole, ok := w.next(); ok; v, whole, ok = w.next() {
		if s := x.set(v, whole); len(s) > 0 {
			dst = append(dst, s)
		}
	}
	return dst
}

// AppendMatches appends the clauses of all sets that AppendSets finds, as they come: not in order over all sets, and
// with a clause repeated that several patterns name.
func (x *HostIndex) AppendMatches(dst []uint32, host string) []uint32 {
	w := x.table.walk(host)
	for v, whole, ok := w.next(); ok; v, whole, ok = w.next() {
		dst = append(dst, x.set(v, whole)...)
	}
	return dst
}

// Mark adds the clauses whose patterns take host to b, which must have room for them.
func (x *HostIndex) Mark(b Bits, host string) {
	w := x.table.walk(host)
	for v, whole, ok := w.next(); ok; v, whole, ok = w.next() {
		b.Add(x.set(v, whole)...)
	}
}

func (x *HostIndex) set(v uint32, whole bool) []uint32 {
	if whole {
		return x.pool.get(x.sets[v].exact)
	}
	return x.pool.get(x.sets[v].below)
}

// Named returns the clauses that patterns of exactly this name have: for the name itself, and for those below it. They must not be written to.
func (x *HostIndex) Named(name string) (whole, below []uint32) {
	w := x.table.walk(name)
	for v, all, ok := w.next(); ok; v, all, ok = w.next() {
		if all {
			return x.pool.get(x.sets[v].exact), x.pool.get(x.sets[v].below)
		}
	}
	return nil, nil
}
