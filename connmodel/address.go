package connmodel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
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
		return Address{}, fmt.Errorf("%q is not host:port", bound(s, maxQuoted))
	}
	// RFC 3986, section 3.2.2: brackets are for IPv6 alone. SplitHostPort has taken them away.
	if s[0] == '[' && strings.IndexByte(host, ':') < 0 {
		return Address{}, fmt.Errorf("%q in brackets is not an IPv6 address", bound(host, maxQuoted))
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
		return 0, fmt.Errorf("%q is not a port between 1 and 65535", bound(s, maxQuoted))
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
	// Cheap test first, because a failed parse allocates: an IPv4 address begins and ends with a digit, and only IPv6 holds
	// a colon.
	n := len(a.Host)
	if n == 0 || !(isDigit(a.Host[0]) && isDigit(a.Host[n-1])) && strings.IndexByte(a.Host, ':') < 0 {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// v6 tells the text of an IPv6 address from other canonical hosts.
func v6(host string) bool { return strings.IndexByte(host, ':') >= 0 }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

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
	if v6(a.Host) {
		dst = append(dst, '[')
		dst = append(dst, a.Host...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, a.Host...)
	}
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(a.Port), 10)
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
