package socks5

import (
	"net/netip"
	"strconv"
)

const (
	version = 0x05

	atypIPv4 = 0x01
	atypName = 0x03
	atypIPv6 = 0x04
)

// Addr is an address on the wire: an IP address or a name, and a port. The zero
// value is written as 0.0.0.0:0, which is what a failed reply carries.
type Addr struct {
	IP   netip.Addr // valid for an address; then Name is ""
	Name string
	Port uint16
}

// Host is the address or the name as text, without brackets.
func (a Addr) Host() string {
	if a.IP.IsValid() {
		return a.IP.String()
	}
	return a.Name
}

func (a Addr) String() string {
	if a.IP.IsValid() {
		return netip.AddrPortFrom(a.IP, a.Port).String()
	}
	return a.Name + ":" + strconv.Itoa(int(a.Port))
}

// ParseHost makes the Addr of a host as text: an IPv4 or IPv6 address (a mapped
// one is sent as IPv4), or a valid name. It returns ErrName for others.
func ParseHost(host string, port uint16) (Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return Addr{}, ErrName // a zone means nothing to the other side
		}
		return Addr{IP: ip.Unmap(), Port: port}, nil
	}
	if !ValidName(host) {
		return Addr{}, ErrName
	}
	return Addr{Name: host, Port: port}, nil
}

// ValidName reports whether s may stand as a host name: labels of 1 to 63
// letters, digits, hyphens and underscores, 253 octets in all, one dot at the
// end allowed. Names in other scripts are for the caller to convert (RFC 5891).
func ValidName(s string) bool {
	if n := len(s); n > 0 && s[n-1] == '.' {
		s = s[:n-1]
	}
	if s == "" || len(s) > 253 { // RFC 1035 2.3.4
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

// appendAddr writes ATYP, address and port (RFC 1928 5). A name that is not 1
// to 255 octets long is written as 0.0.0.0.
func appendAddr(dst []byte, a Addr) []byte {
	switch {
	case a.IP.Is4() || a.IP.Is4In6():
		b := a.IP.Unmap().As4()
		dst = append(append(dst, atypIPv4), b[:]...)
	case a.IP.Is6():
		b := a.IP.As16()
		dst = append(append(dst, atypIPv6), b[:]...)
	case len(a.Name) > 0 && len(a.Name) <= 255:
		dst = append(append(dst, atypName, byte(len(a.Name))), a.Name...)
	default:
		dst = append(dst, atypIPv4, 0, 0, 0, 0)
	}
	return append(dst, byte(a.Port>>8), byte(a.Port))
}

// addrLen is how many bytes an address takes, port and ATYP included, as far as
// b tells: never more than are needed to know the next step, 0 for an unknown
// type.
func addrLen(b []byte) int {
	switch b[0] {
	case atypIPv4:
		return 1 + 4 + 2
	case atypIPv6:
		return 1 + 16 + 2
	case atypName:
		if len(b) < 2 {
			return 2
		}
		return 1 + 1 + int(b[1]) + 2
	}
	return 0
}

// parseAddr reads the address that takes up all of b. It does not judge a name.
func parseAddr(b []byte) (a Addr) {
	n := len(b) - 2
	switch b[0] {
	case atypIPv4:
		a.IP = netip.AddrFrom4([4]byte(b[1:5]))
	case atypIPv6:
		a.IP = netip.AddrFrom16([16]byte(b[1:17]))
	case atypName:
		a.Name = string(b[2:n])
	}
	a.Port = uint16(b[n])<<8 | uint16(b[n+1])
	return a
}
