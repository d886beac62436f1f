package connmodel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxInputName = 1024 // octets of a name as it comes in: 253 characters of four octets fit; IDNA work is bounded by it
	maxQuoted    = 300  // octets of the input that an error repeats
)

var errLongName = errors.New("the host name is longer than 253 octets")

// CanonicalHost returns the one spelling of host that Viaduct uses everywhere: lower case, one trailing dot dropped,
// IDNA 2008 A-labels (Lookup profile), IP addresses as netip prints them, IPv4-mapped IPv6 as IPv4. Brackets round an
// IPv6 address are accepted. A name whose last label is a number but which is no dotted quad (0x7f.1, 2130706433,
// 0177.0.0.1) is refused: resolvers disagree about what it means.
func CanonicalHost(host string) (string, error) {
	if host == "" {
		return "", errors.New("the host is empty")
	}
	if host[0] == '[' {
		if len(host) < 3 || host[len(host)-1] != ']' {
			return "", fmt.Errorf("%q has a bracket without its pair", bound(host, maxQuoted))
		}
		host = host[1 : len(host)-1]
		if !v6(host) {
			return "", fmt.Errorf("%q in brackets is not an IPv6 address", bound(host, maxQuoted))
		}
	}
	if v6(host) {
		return canonicalIPv6(host)
	}
	if len(host) > maxInputName {
		return "", errLongName
	}
	if !isCanonicalName(host) {
		name, err := canonicalName(host)
		if err != nil {
			return "", err
		}
		host = name
	}
	if err := checkNumeric(host); err != nil {
		return "", err
	}
	return host, nil
}

func canonicalIPv6(host string) (string, error) {
	if strings.IndexByte(host, '%') >= 0 {
		return "", ErrZone
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q is not an IPv6 address", bound(host, maxQuoted))
	}
	return ip.Unmap().String(), nil
}

// isCanonicalName reports whether host is already what canonicalName would return, so that the usual case costs one pass
// and no allocation. xn-- labels go the long way, to be validated.
func isCanonicalName(host string) bool {
	if len(host) > 253 {
		return false
	}
	label := 0
	for i := 0; i < len(host); i++ {
		c := host[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			label++
		case c == '-':
			if label == 0 || i+1 == len(host) || host[i+1] == '.' || label == 2 && host[i-2:i+2] == "xn--" {
				return false
			}
			label++
		case c == '.':
			if label == 0 || i+1 == len(host) {
				return false
			}
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0
}

// lookup is the IDNA profile of a client that looks a name up, with what browsers allow because real names have it:
// underscores, and hyphens in the third and fourth place ("r3---sn-4g5e.example").
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

// canonicalName is the long way: names with upper case, a trailing dot, xn-- labels or anything beyond ASCII.
func canonicalName(host string) (string, error) {
	ascii := true
	for i := 0; i < len(host); i++ {
		c := host[i]
		if c >= utf8.RuneSelf {
			ascii = false
		} else if !isNameByte(c) && c != '.' && (c < 'A' || c > 'Z') {
			return "", fmt.Errorf("%q is not a host name: it holds %q", bound(host, maxQuoted), rune(c))
		}
	}
	if ascii && len(host) > 254 { // IDNA makes no ASCII name shorter but by its trailing dot
		return "", errLongName
	}
	if !utf8.ValidString(host) {
		return "", fmt.Errorf("%q is not a host name: it is not UTF-8", bound(host, maxQuoted))
	}
	name, err := lookup.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("%q is not a host name (IDNA)", bound(host, maxQuoted))
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "", errors.New("the host is empty")
	}
	if len(name) > 253 { // RFC 1035, section 2.3.4: 255 octets on the wire
		return "", errLongName
	}
	return name, checkLabels(name)
}

// checkLabels looks again at what IDNA made: mapping turns full-width forms into the ASCII that was refused above.
func checkLabels(name string) error {
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return fmt.Errorf("%q has an empty label", name)
		case len(label) > 63: // RFC 1035, section 2.3.4
			return fmt.Errorf("%q has a label longer than 63 octets", name)
		case label[0] == '-' || label[len(label)-1] == '-': // RFC 1123, section 2.1
			return fmt.Errorf("%q has a label that starts or ends with a hyphen", name)
		}
		for i := 0; i < len(label); i++ {
			if !isNameByte(label[i]) {
				return fmt.Errorf("%q is not a host name: it holds %q", name, rune(label[i]))
			}
		}
	}
	return nil
}

func isNameByte(c byte) bool { return c >= 'a' && c <= 'z' || isDigit(c) || c == '-' || c == '_' }

// checkNumeric refuses names that end in a number without being a dotted quad (WHATWG URL, "ends in a number"):
// inet_aton would read them as IPv4 addresses in octal, hexadecimal or with parts missing.
func checkNumeric(name string) error {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if !isNumber(last) {
		return nil
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Is4() {
		return nil // netip takes no leading zeros, so this is the one spelling
	}
	return fmt.Errorf("%q ends in a number but is not an IPv4 address of four decimal parts", name)
}

func isNumber(s string) bool {
	if s == "" {
		return false
	}
	digits := "0123456789"
	if strings.HasPrefix(s, "0x") {
		s, digits = s[2:], "0123456789abcdef"
	}
	return strings.Trim(s, digits) == ""
}
