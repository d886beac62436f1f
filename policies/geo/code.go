package geo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Code is a country by its two letters of ISO 3166-1. The zero Code is unknown.
type Code uint16

// letters are the combinations of two letters; Code is one more than the position.
const letters = 26 * 26

// Unknown is what stands for the zero Code where codes are written.
const Unknown = "unknown"

// String is the two letters, or "unknown".
func (c Code) String() string {
	if s := c.Letters(); s != "" {
		return s
	}
	return Unknown
}

// Letters is the two letters, or "" for the unknown. It does not allocate.
func (c Code) Letters() string {
	if c == 0 || c > letters {
		return ""
	}
	return allLetters[2*(c-1) : 2*c]
}

// Name is the usual English name, or "".
func (c Code) Name() string { return names[c.Letters()] }

// allLetters is AAABAC…ZZ.
var allLetters = func() string {
	var b strings.Builder
	for i := range letters {
		b.WriteByte(byte('A' + i/26))
		b.WriteByte(byte('A' + i%26))
	}
	return b.String()
}()

// codeOf takes two capital letters; anything else is unknown.
func codeOf(s string) Code {
	if len(s) != 2 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' {
		return 0
	}
	return Code(s[0]-'A')*26 + Code(s[1]-'A') + 1
}

// others are codes that people write and ISO 3166-1 has not, and what to write instead.
var others = map[string]string{
	"UK": `The United Kingdom is "GB".`, "EL": `Greece is "GR".`, "SU": `Russia is "RU".`, "YU": `Serbia is "RS".`,
	"EU": "The European Union is no country: list its members.", "AP": "It is a region: list its countries.",
}

// Parse reads a code as a policy writes it: two capital letters of ISO 3166-1 alpha-2 (and XK, Kosovo), or "unknown". The error is one sentence or more that
// say what to write.
func Parse(s string) (Code, error) {
	if s == Unknown {
		return 0, nil
	}
	if _, ok := names[s]; ok {
		return codeOf(s), nil
	}
	upper := strings.ToUpper(s)
	if _, ok := names[upper]; ok {
		return 0, fmt.Errorf("countries are written in capitals: %q", upper)
	}
	if why, ok := others[upper]; ok {
		return 0, fmt.Errorf("%q is no country of ISO 3166-1. %s", s, strings.TrimSuffix(why, "."))
	}
	if len(s) > 80 {
		s = s[:80]
	}
	return 0, fmt.Errorf("%q is no country of ISO 3166-1, such as \"DE\"%s", s, nearest(s))
}

// nearest finds the country that was meant: by its name, or by one letter.
func nearest(s string) string {
	best, at := "", 3
	if len(s) <= 2 {
		at = 2
	}
	for _, c := range sortedCodes {
		d := levenshtein.Distance(strings.ToLower(s), strings.ToLower(c), nil)
		if len(s) > 2 {
			d = levenshtein.Distance(strings.ToLower(s), strings.ToLower(names[c]), nil)
		}
		if d < at {
			best, at = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(". Did you mean %q (%s)?", best, names[best])
}

var sortedCodes = func() (all []string) {
	for c := range names {
		all = append(all, c)
	}
	slices.Sort(all)
	return all
}()

// Set is a set of countries, the unknown among them. Its zero value is empty.
type Set [letters/64 + 1]uint64

// Add puts a country in.
func (s *Set) Add(c Code) { s[c/64] |= 1 << (c % 64) }

// Has reports whether a country is in it.
func (s *Set) Has(c Code) bool { return int(c/64) < len(s) && s[c/64]&(1<<(c%64)) != 0 }

// In reports whether all of s is in o.
func (s *Set) In(o *Set) bool {
	for i, w := range s {
		if w&^o[i] != 0 {
			return false
		}
	}
	return true
}
