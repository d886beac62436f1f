package match

import (
	"fmt"
	"strings"
)

// maxName is the longest name a pattern may hold, in octets without the trailing dot (RFC 1035 section 2.3.4).
const maxName = 253

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

// splitHost tells the form of a host pattern by its first bytes and where the name begins.
func splitHost[T string | []byte](p T) (f form, start int) {
	switch {
	case len(p) >= 2 && p[0] == '*' && p[1] == '.':
		return formBelow, 2
	case len(p) >= 1 && p[0] == '.':
		return formTree, 1
	}
	return formExact, 0
}

// checkName refuses what can never be part of a canonical name, because such a pattern would silently match nothing.
// It returns the offset and a reason, or "" if the name is good.
func checkName[T string | []byte](name T) (offset int, reason string) {
	if len(name) == 0 {
		return 0, "the name is empty"
	}
	if len(name) > maxName {
		return maxName, "the name is longer than 253 octets" // RFC 1035 section 2.3.4
	}
	labelAt := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '.':
			if i == labelAt {
				return i, "a label is empty"
			}
			labelAt = i + 1
		case 'A' <= c && c <= 'Z':
			return i, "upper case never matches: names are lower case here"
		case c >= 0x80:
			return i, "not ASCII: write the name with A-labels (xn--…)"
		case c <= ' ' || c == 0x7f:
			return i, "a blank or control character"
		case c == '*' || c == '?':
			return i, "a wildcard may only stand first, as in *.example.com"
		case c == '/' || c == '\\' || c == '[' || c == ']' || c == '@' || c == '#':
			return i, fmt.Sprintf("%q cannot be part of a host name", c)
		}
	}
	if labelAt == len(name) {
		return len(name) - 1, "the name ends in a dot"
	}
	return 0, ""
}
