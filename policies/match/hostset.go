package match

// HostSet is a set of host patterns without clauses: a block list, or the hosts of one clause. It is made by a
// [HostSetBuilder]; the zero value is empty and holds nothing. It is safe for concurrent use.
type HostSet struct{ x HostIndex }

// Len is the number of different names in the set.
func (s *HostSet) Len() int { return s.x.names }

// Contains reports whether a pattern of the set takes host, which must be canonical; see [HostIndex].
func (s *HostSet) Contains(host string) bool {
	w := s.x.table.walk(host)
	for v, whole, ok := w.next(); ok; v, whole, ok = w.next() {
		if len(s.x.set(v, whole)) > 0 {
			return true
		}
	}
	return false
}

// HostSetBuilder gathers the patterns of a [HostSet]. The zero value is ready to use. It is not safe for concurrent use.
type HostSetBuilder struct{ b HostBuilder }

// Add adds a pattern, as [HostBuilder.Add] does.
func (b *HostSetBuilder) Add(pattern string) error { return b.b.Add(pattern, 0) }

// AddBytes adds a pattern that stands in a buffer. The buffer is not kept.
func (b *HostSetBuilder) AddBytes(pattern []byte) error { return b.b.AddBytes(pattern, 0) }

// Len is the number of different names so far.
func (b *HostSetBuilder) Len() int { return b.b.Len() }

// Build makes the set and leaves the builder empty.
func (b *HostSetBuilder) Build() *HostSet { return &HostSet{*b.b.Build()} }
