package match

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// PortRange is the ports From to To, both included. From may equal To.
type PortRange struct{ From, To uint16 }

// ParsePorts reads a port ("443") or a range ("8000-8999"). Port 0 cannot be connected to and is refused. The error is
// a *[PatternError].
func ParsePorts(s string) (PortRange, error) {
	low, high, isRange := strings.Cut(s, "-")
	from, ok := parsePort(low)
	if !ok {
		return PortRange{}, &PatternError{s, 0, "not a port from 1 to 65535, nor a range such as 8000-8999"}
	}
	if !isRange {
		return PortRange{from, from}, nil
	}
	to, ok := parsePort(high)
	if !ok {
		return PortRange{}, &PatternError{s, len(low) + 1, "the range does not end in a port from 1 to 65535"}
	}
	if to < from {
		return PortRange{}, &PatternError{s, len(low) + 1, "the range ends before it begins"}
	}
	return PortRange{from, to}, nil
}

// parsePort reads a port by value: 1 to 65535, nothing but digits, no leading zero.
func parsePort(s string) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

var errPortRange = errors.New("the range of ports ends before it begins")

// denseRanges is the number of separate ranges beyond which a set becomes a bitmap of 8 KiB.
const denseRanges = 16

// PortSet is a set of ports. The zero value is empty. It is safe for concurrent use.
type PortSet struct {
	ranges []PortRange   // ascending, apart from each other; if there are few
	dense  *[1024]uint64 // one bit for each port; if there are many
}

// NewPortSet makes a set of ranges, which may overlap and come in any order.
func NewPortSet(ranges ...PortRange) (*PortSet, error) {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b PortRange) int { return cmp.Compare(a.From, b.From) })
	s := &PortSet{}
	for _, r := range sorted {
		if r.To < r.From {
			return nil, errPortRange
		}
		last := len(s.ranges) - 1
		if last >= 0 && int(r.From) <= int(s.ranges[last].To)+1 {
			s.ranges[last].To = max(s.ranges[last].To, r.To)
			continue
		}
		s.ranges = append(s.ranges, r)
	}
	if len(s.ranges) > denseRanges {
		s.dense = new([1024]uint64)
		for _, r := range s.ranges {
			for p := int(r.From); p <= int(r.To); p++ {
				s.dense[p>>6] |= 1 << (p & 63)
			}
		}
		s.ranges = nil
	}
	s.ranges = slices.Clip(s.ranges)
	return s, nil
}

// Contains reports whether port is in the set.
func (s *PortSet) Contains(port uint16) bool {
	if s.dense != nil {
		return s.dense[port>>6]&(1<<(port&63)) != 0
	}
	for _, r := range s.ranges {
		if port <= r.To {
			return port >= r.From
		}
	}
	return false
}
