package connmodel

import "net/netip"

// refusedRanges are the addresses that a target may not be unless the rule that takes the flow says so itself:
// whatever listens there usually trusts its machine.
var refusedRanges = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"}, // also the metadata service of most clouds
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "cloud metadata"},
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"},
}

var (
	prefixNAT64  = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	prefixNAT64L = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215, the /96 form within it
	prefix6to4   = netip.MustParsePrefix("2002::/16")      // RFC 3056
	prefixCompat = netip.MustParsePrefix("::/96")          // RFC 4291, section 2.5.5.1
)

// Embedded returns the IPv4 address that an IPv6 address carries inside it (mapped, compatible, NAT64, 6to4), or the address
// itself. What a rule or the guard says of the one holds for the other.
func Embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip
	}
	b := ip.As16()
	switch {
	case prefixNAT64.Contains(ip), prefixNAT64L.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case prefix6to4.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case prefixCompat.Contains(ip) && ip != netip.IPv6Unspecified() && ip != netip.IPv6Loopback():
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return ip
}

// RefusedRange says whether ip, in any spelling, lies in a range that is refused by default, and how the range is called.
func RefusedRange(ip netip.Addr) (name string, refused bool) {
	ip = Embedded(ip)
	for i := range refusedRanges {
		if refusedRanges[i].prefix.Contains(ip) {
			return refusedRanges[i].name, true
		}
	}
	return "", false
}

// OpensRefused reports whether p lies wholly inside a refused range, so that a rule which lists it may open that part.
// 0.0.0.0/0 does not.
func OpensRefused(p netip.Prefix) bool {
	p = p.Masked()
	for i := range refusedRanges {
		r := refusedRanges[i].prefix
		if r.Addr().Is4() == p.Addr().Is4() && r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
