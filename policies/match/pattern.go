package match

import (
	"fmt"
	"net/netip"
	"strings"
)

// The longest name a pattern may hold, in octets without the trailing dot, and its longest label (RFC 1035 section 2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// PatternError says what is wrong with a pattern and where. The text reads well behind "host: ".
type PatternError struct {
	Pattern string // as given
	Offset  int    // of the first byte that is wrong; len(Pattern) when something is missing at its end
	Reason  string
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("pattern %q: %s (at byte %d)", e.Pattern, e.Reason, e.Offset)
}

// form says which names a host pattern takes.
type form uint8

const (
	formExact form = 1 << iota // the name itself
	formBelow                  // any name below it
	formTree  = formExact | formBelow
)

// HostGlob reports whether a host pattern holds wildcards that the host index cannot answer, so that it must be compiled
// by [CompileGlob]: any of `*?[` but for the `*.` that begins a suffix pattern.
func HostGlob(pattern string) bool {
	return strings.ContainsAny(strings.TrimPrefix(pattern, "*."), "*?[")
}

// splitHost tells the form of a host pattern by its first bytes, and where the name begins. The error is a *PatternError.
func splitHost[T string | []byte](p T) (f form, start int, err error) {
	f = formExact
	switch {
	case len(p) >= 2 && p[0] == '*' && p[1] == '.':
		f, start = formBelow, 2
	case len(p) >= 1 && p[0] == '.':
		f, start = formTree, 1
	}
	off, reason := checkName(p[start:])
	if reason == "" || f == formExact && isIPv6(string(p)) {
		return f, start, nil
	}
	return 0, 0, &PatternError{string(p), start + off, reason}
}

// checkName refuses what can never be part of a canonical name, because such a pattern would silently match nothing. It
// returns the offset and a reason, or "" if the name is good: labels of a-z, 0-9, `-` and `_`.
func checkName[T string | []byte](name T) (offset int, reason string) {
	if len(name) == 0 {
		return 0, "the name is empty"
	}
	if len(name) > maxName {
		return maxName, "the name is longer than 253 octets" // RFC 1035 section 2.3.4
	}
	labelAt := 0
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if i-labelAt == maxLabel {
				return i, "the label is longer than 63 octets" // RFC 1035 section 2.3.4
			}
		case c == '.':
			if i == labelAt {
				return i, "a label is empty"
			}
			labelAt = i + 1
		default:
			return i, badByte(c)
		}
	}
	if labelAt == len(name) {
		return len(name) - 1, "the name ends in a dot"
	}
	return 0, ""
}

// badByte says why a byte cannot stand in a name.
func badByte(c byte) string {
	switch {
	case 'A' <= c && c <= 'Z':
		return "upper case never matches: names are lower case here"
	case c >= 0x80:
		return "not ASCII: write the name with A-labels (xn--…)"
	case c <= ' ' || c == 0x7f:
		return "a blank or control character"
	case c == '*' || c == '?':
		return "a wildcard may only stand first, as in *.example.com"
	case c == ':':
		return "neither an IPv6 address nor a name: a port has a test of its own"
	}
	return fmt.Sprintf("%q cannot be part of a host name", c)
}

// isIPv6 reports whether name is the canonical text of an IPv6 address, the one kind of host with colons. IPv4 addresses
// mapped into IPv6 have another canonical text.
func isIPv6(name string) bool {
	a, err := netip.ParseAddr(name)
	return err == nil && a.Is6() && a.Zone() == "" && !a.Is4In6() && a.String() == name
}
