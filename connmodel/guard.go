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
	{netip.MustParsePrefix("fd00:ec2::/32"), "cloud metadata"},      // Amazon
	{netip.MustParsePrefix("fd20:ce::254/128"), "cloud metadata"},   // Google
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), "cloud metadata"},     // Oracle
}

var (
	prefixNAT64  = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	prefixNAT64L = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215; how its operator cuts it is not known here
	prefix6to4   = netip.MustParsePrefix("2002::/16")       // RFC 3056
	prefixCompat = netip.MustParsePrefix("::/96")           // RFC 4291, section 2.5.5.1
	prefixSIIT   = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765, section 2.1: IPv4-translated
	prefixTeredo = netip.MustParsePrefix("2001::/32")       // RFC 4380, section 4
)

// Embedded returns the IPv4 address that an IPv6 address is only another spelling of (mapped, compatible, translated, NAT64,
// 6to4), or the address itself without zone. What a rule or the guard says of the one holds for the other.
func Embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if !ip.Is6() {
		return ip
	}
	ip = ip.WithZone("")
	b := ip.As16()
	switch {
	case b[0] != 0 && b[0] != 0x20: // none of the prefixes below
		return ip
	case prefixNAT64.Contains(ip), prefixNAT64L.Contains(ip), prefixSIIT.Contains(ip):
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
	if plain := Embedded(ip); plain.Is4() {
		name, refused = refusedIPv4(plain)
		if !refused && ip.Is6() && prefixNAT64L.Contains(ip.WithZone("")) {
			return refusedLocalNAT64(ip)
		}
		return name, refused
	}
	ip = ip.WithZone("")
	for i := range refusedRanges {
		if refusedRanges[i].prefix.Contains(ip) {
			return refusedRanges[i].name, true
		}
	}
	return refusedCarried(ip)
}

func refusedIPv4(ip netip.Addr) (string, bool) {
	switch ip.As4()[0] {
	case 0, 100, 127, 168, 169, 192: // first octets that occur in refusedRanges: the usual address costs one comparison
		for i := range refusedRanges {
			if refusedRanges[i].prefix.Contains(ip) {
				return refusedRanges[i].name, true
			}
		}
	}
	return "", false
}

// refusedLocalNAT64 tries the other cuts that RFC 6052, section 2.2, allows below a /48. In them 0.0.0.0/8 is passed over: it
// is what an address cut at /96 looks like.
func refusedLocalNAT64(ip netip.Addr) (string, bool) {
	b := ip.As16()
	for _, cut := range [][4]byte{{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}} {
		if name, refused := refusedIPv4(netip.AddrFrom4(cut)); refused && cut[0] != 0 {
			return name, true
		}
	}
	return "", false
}

// refusedCarried looks at IPv4 addresses that routers on the way might take out of ip. Such an ip is an address in its own
// right, so rules see it as it is, and only the guard looks inside.
func refusedCarried(ip netip.Addr) (string, bool) {
	b := ip.As16()
	switch {
	case prefixTeredo.Contains(ip): // RFC 4380, section 4: the client's address, inverted
		return refusedIPv4(netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	case b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP: RFC 5214, section 6.1
		return refusedIPv4(netip.AddrFrom4([4]byte(b[12:16])))
	}
	return "", false
}

// OpensRefused reports whether p lies wholly inside a refused range, so that a rule which lists it may open that part.
// 0.0.0.0/0 does not.
func OpensRefused(p netip.Prefix) bool {
	p = PlainPrefix(p)
	for i := range refusedRanges {
		r := refusedRanges[i].prefix
		if p.IsValid() && r.Addr().Is4() == p.Addr().Is4() && r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// PlainPrefix returns p masked, and one of IPv4-mapped addresses (::ffff:127.0.0.0/104) as the IPv4 prefix that it is: addresses
// are compared after Embedded, where no mapped address is left.
func PlainPrefix(p netip.Prefix) netip.Prefix {
	if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
