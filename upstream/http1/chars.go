package http1

// Classes of octets, as bits of the table below.
const (
	clToken = 1 << iota // tchar, RFC 9110 5.6.2
	clValue             // what a field value may hold: HTAB, SP, VCHAR, obs-text, RFC 9110 5.5
	clHost              // unreserved, RFC 3986 2.3: what a host name is written with
	clPath              // what a path may hold
	clQuery             // what a query may hold
	clHex
	clIPv6 // hex digits, ":" and "."
)

var classes = makeClasses()

func makeClasses() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if alnum || in("!#$%&'*+-.^_`|~", b) {
			t[c] |= clToken
		}
		if b == '\t' || b >= 0x20 && b != 0x7f {
			t[c] |= clValue
		}
		if alnum || in("-._~", b) {
			t[c] |= clHost
		}
		// RFC 3986 3.3 and 3.4 name fewer; browsers leave some others as they
		// are (WHATWG URL, query state), and none of these is read two ways.
		if b > 0x20 && b < 0x7f && b != '#' {
			t[c] |= clQuery
			if b != '\\' && b != '?' {
				t[c] |= clPath
			}
		}
		if '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' {
			t[c] |= clHex | clIPv6
		}
		if b == ':' || b == '.' {
			t[c] |= clIPv6
		}
	}
	return t
}

func in(set string, b byte) bool {
	for i := range len(set) {
		if set[i] == b {
			return true
		}
	}
	return false
}

// all reports whether every byte of s is of the class.
func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// clean is all(s, clValue), eight bytes at a time: most of a head is values.
func clean(s string) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)&^x|(del-ones)&^del)&high != 0 && !all(s[:8], clValue) {
			return false // HTAB is below SP and may be there
		}
		s = s[8:]
	}
	return all(s, clValue)
}

// IsToken reports whether s is a token (RFC 9110 5.6.2): a method, a field
// name, a connection option.
func IsToken(s string) bool { return s != "" && all(s, clToken) }

// IsFieldValue reports whether s can be written as a field value: no control
// character but HTAB, no space at either end.
func IsFieldValue(s string) bool { return clean(s) && trimOWS(s) == s }

// trimOWS cuts SP and HTAB off both ends (OWS, RFC 9110 5.6.3), nothing else.
func trimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// equalFold compares as ASCII without regard to case. strings.EqualFold would
// fold U+212A (Kelvin) to k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && lower(x) != lower(y) {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}
