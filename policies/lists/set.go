package lists

import (
	"net/netip"
	"sync/atomic"

	"viaduct/policies/match"
)

// Set is a list that has been read. It does not change, and may be asked from any goroutine. The zero value is empty.
type Set struct {
	Name     string           // of the list
	hosts    *match.HostIndex // clauses: what an entry does
	networks *match.NetworkSet
	Report   Report
	Version  uint64 // counts the copies of a source; 0 = it has none
}

// What an entry does, as clauses of the index. Adblock's order: an exception takes back what an entry takes, unless that is important; an important
// exception takes everything back.
const (
	takes = iota
	excepts
	takesImportant
	exceptsImportant
	nDoes
)

// Host reports whether the list takes a canonical host.
func (s *Set) Host(host string) bool {
	if s == nil || s.hosts == nil {
		return false
	}
	var word [1]uint64
	does := match.Bits(word[:])
	s.hosts.Mark(does, host)
	return takenBy(does)
}

func takenBy(does match.Bits) bool {
	switch {
	case does[0] == 0, does.Has(exceptsImportant):
		return false
	case does.Has(takesImportant):
		return true
	}
	return does.Has(takes) && !does.Has(excepts)
}

// Network reports whether a network of the list holds addr.
func (s *Set) Network(addr netip.Addr) bool {
	return s != nil && s.networks != nil && s.networks.Contains(addr)
}

// Entry says which entry takes the host, or takes it back: the entry in the form "example.com", "*.example.com" or ".example.com". It is for the
// words of an explanation, and slow.
func (s *Set) Entry(host string) (entry string, taken bool) {
	if s == nil || s.hosts == nil {
		return "", false
	}
	taken = s.Host(host)
	want := [...]uint32{takes, takesImportant}
	if !taken {
		want = [...]uint32{excepts, exceptsImportant}
	}
	for i := 0; i < len(host); i++ {
		if i > 0 && host[i-1] != '.' {
			continue
		}
		if whole, below := s.hosts.Named(host[i:]); i == 0 && hasAny(whole, want) {
			entry = host
			if hasAny(below, want) {
				entry = "." + host
			}
			return entry, taken
		} else if i > 0 && hasAny(below, want) {
			return "*." + host[i:], taken
		}
	}
	return "", taken
}

func hasAny(set []uint32, want [2]uint32) bool {
	for _, id := range set {
		if id == want[0] || id == want[1] {
			return true
		}
	}
	return false
}

// Ref is how a policy holds a list: it gives the set of now. The zero value has none.
type Ref struct {
	source atomic.Pointer[Source]
	used   atomic.Pointer[Set]
	fixed  *Set
	absent *Set // stands in while there is no copy; nil = nothing does
}

var nothing = &Set{}

// Fixed returns a Ref to a set that stays.
func Fixed(s *Set) *Ref { return &Ref{fixed: s} }

// Later returns a Ref to a list that a source brings. With empty, nothing is in the list as long as there is no copy; else it is not known then
// what is.
func Later(empty bool) *Ref {
	if empty {
		return &Ref{absent: nothing}
	}
	return &Ref{}
}

// Bind says which source brings the list.
func (r *Ref) Bind(s *Source) { r.source.Store(s) }

// Use gives a set that stays, where no source is to bring one.
func (r *Ref) Use(s *Set) { r.used.Store(s) }

// Set returns the set of now; nil = there is none yet, and it is not known what is in the list.
func (r *Ref) Set() *Set {
	if r.fixed != nil {
		return r.fixed
	}
	if src := r.source.Load(); src != nil {
		if s := src.now.Load(); s != nil {
			return s
		}
	}
	if s := r.used.Load(); s != nil {
		return s
	}
	return r.absent
}

// Why says why there is no set.
func (r *Ref) Why() string {
	if src := r.source.Load(); src != nil {
		return src.why()
	}
	return "nothing has been got from its URL"
}
