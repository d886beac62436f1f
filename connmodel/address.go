package connmodel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Address is a host and a port in canonical form: what policy matches, what the record says and what is dialled are
// this one value. Host is a name (lower case, A-labels, no trailing dot) or the text of an IP address without brackets;
// a zone never occurs in it. The zero Address means "none".
type Address struct {
	Host string
	Port uint16
}

// ErrZone says that a target named an IPv6 zone, which only has a meaning on the machine that wrote it.
var ErrZone = errors.New("an IPv6 zone is not allowed in a target")

// MakeAddress makes host canonical and pairs it with port. See CanonicalHost for the errors.
func MakeAddress(host string, port uint16) (Address, error) {
	h, err := CanonicalHost(host)
	if err != nil {
		return Address{}, err
	}
	if port == 0 {
		return Address{}, errors.New("port 0 cannot be connected to")
	}
	return Address{Host: h, Port: port}, nil
}

// ParseAddress reads "host:port" or "[v6]:port" and makes it canonical.
func ParseAddress(s string) (Address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not host:port", s)
	}
	p, err := ParsePort(port)
	if err != nil {
		return Address{}, err
	}
	return MakeAddress(host, p)
}

// ParsePort reads a port by value: 1 to 65535, digits only, never wrapped.
func ParsePort(s string) (uint16, error) {
	if s == "" || len(s) > 5 {
		return 0, fmt.Errorf("%q is not a port between 1 and 65535", s)
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("%q is not a port between 1 and 65535", s)
		}
		n = n*10 + int(s[i]-'0')
	}
	if n == 0 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port between 1 and 65535", s)
	}
	return uint16(n), nil
}

// AddressFrom makes an Address from a socket address, without its zone.
func AddressFrom(ap netip.AddrPort) Address {
	if !ap.IsValid() {
		return Address{}
	}
	return Address{Host: ap.Addr().Unmap().WithZone("").String(), Port: ap.Port()}
}

// IsZero reports whether a is "none".
func (a Address) IsZero() bool { return a == Address{} }

// IP returns the address that Host spells, or the zero netip.Addr when Host is a name.
func (a Address) IP() netip.Addr {
	// Cheap test first: names rarely start with a digit, and only IPv6 holds a colon.
	if a.Host == "" || (a.Host[0] > '9' && strings.IndexByte(a.Host, ':') < 0) {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// String returns host:port, with brackets round an IPv6 address; "" for the zero Address.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	b := make([]byte, 0, len(a.Host)+8)
	return string(a.Append(b))
}

// Append appends what String returns.
func (a Address) Append(dst []byte) []byte {
	if a.IsZero() {
		return dst
	}
	if strings.IndexByte(a.Host, ':') >= 0 {
		dst = append(dst, '[')
		dst = append(dst, a.Host...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, a.Host...)
	}
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(a.Port), 10)
}

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
			return "", fmt.Errorf("%q has a bracket without its pair", host)
		}
		host = host[1 : len(host)-1]
		if strings.IndexByte(host, ':') < 0 {
			return "", fmt.Errorf("%q in brackets is not an IPv6 address", host)
		}
	}
	if strings.IndexByte(host, ':') >= 0 {
		return canonicalIPv6(host)
	}
	if len(host) > 1024 { // far beyond any name; IDNA work is bounded by it
		return "", errors.New("the host name is longer than 253 octets")
	}
	if isCanonicalName(host) {
		return host, checkNumeric(host)
	}
	return canonicalName(host)
}

func canonicalIPv6(host string) (string, error) {
	if strings.IndexByte(host, '%') >= 0 {
		return "", ErrZone
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q is not an IPv6 address", host)
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
			if label == 0 || i+1 == len(host) || host[i+1] == '.' || label == 2 && i+1 < len(host) && host[i+1] == '-' {
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

// lookup is the IDNA profile of a client that looks a name up, but with underscores kept: they occur in real names.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false), idna.ValidateLabels(true))

func canonicalName(host string) (string, error) {
	name := host
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`/\@[]<>^|%#?"'`+"`{}()*+,;=!$&~", c) >= 0 {
			return "", fmt.Errorf("%q is not a host name: it holds %q", host, string(rune(c)))
		}
	}
	ascii, err := lookup.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("%q is not a host name (IDNA)", host)
	}
	ascii = strings.TrimSuffix(strings.ToLower(ascii), ".")
	if len(ascii) > 253 {
		return "", errors.New("the host name is longer than 253 octets")
	}
	if ascii == "" {
		return "", errors.New("the host is empty")
	}
	for _, label := range strings.Split(ascii, ".") {
		switch {
		case label == "":
			return "", fmt.Errorf("%q has an empty label", host)
		case len(label) > 63:
			return "", fmt.Errorf("%q has a label longer than 63 octets", host)
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", fmt.Errorf("%q has a label that starts or ends with a hyphen", host)
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("%q is not a host name: it holds %q", host, string(rune(c)))
			}
		}
	}
	return ascii, checkNumeric(ascii)
}

// checkNumeric refuses names that end in a number without being a dotted quad (WHATWG URL, "ends in a number"):
// inet_aton would read them as IPv4 addresses in octal, hexadecimal or with parts missing.
func checkNumeric(name string) error {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if !isNumber(last) {
		return nil
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Is4() {
		return nil
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

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; "" is the zero Address.
func (a *Address) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	v, err := ParseAddress(string(b))
	if err == nil {
		*a = v
	}
	return err
}
