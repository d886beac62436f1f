package importer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxNetworks bounds a list that is cut out of another.
const maxNetworks = 4096

var (
	everyIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	everyIPv6 = netip.MustParsePrefix("::/0")
	everybody = []netip.Prefix{everyIPv4, everyIPv6}
	// private are whom a gateway that served everybody serves for now.
	private = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"}
)

// subtract takes p out of the networks.
func subtract(from []netip.Prefix, p netip.Prefix) (out []netip.Prefix) {
	for _, f := range from {
		switch {
		case !f.Overlaps(p):
			out = append(out, f)
		case p.Bits() <= f.Bits():
		default: // f is the wider: what is left are its other halves
			for f.Bits() < p.Bits() {
				a, b := halves(f)
				if a.Contains(p.Addr()) {
					f, out = a, append(out, b)
				} else {
					f, out = b, append(out, a)
				}
			}
		}
	}
	return out
}

func halves(p netip.Prefix) (a, b netip.Prefix) {
	bits := p.Bits() + 1
	a = netip.PrefixFrom(p.Addr(), bits)
	raw := p.Addr().AsSlice()
	raw[(bits-1)/8] |= 1 << (7 - (bits-1)%8)
	second, _ := netip.AddrFromSlice(raw)
	return a, netip.PrefixFrom(second, bits)
}

// intersect returns what is in both.
func intersect(a, b []netip.Prefix) (out []netip.Prefix) {
	for _, x := range a {
		for _, y := range b {
			if !x.Overlaps(y) {
				continue
			}
			narrow := x
			if x.Bits() < y.Bits() {
				narrow = y
			}
			if !slices.Contains(out, narrow) {
				out = append(out, narrow)
			}
		}
	}
	return out
}

// span makes networks of the addresses from a to b.
func span(a, b netip.Addr) ([]netip.Prefix, error) {
	if !a.IsValid() || !b.IsValid() || a.Is4() != b.Is4() || b.Less(a) {
		return nil, fmt.Errorf("%s-%s is no range", a, b)
	}
	if !a.Is4() {
		return nil, fmt.Errorf("%s-%s: ranges are read of IPv4 alone", a, b)
	}
	from, to := number(a), number(b)
	var out []netip.Prefix
	for n := uint64(from); n <= uint64(to); {
		bits := 32
		for bits > 0 && n%(1<<(33-bits)) == 0 && n+(1<<(33-bits))-1 <= uint64(to) {
			bits--
		}
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], uint32(n))
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(raw), bits))
		n += 1 << (32 - bits)
	}
	return out, nil
}

func number(a netip.Addr) uint32 {
	raw := a.As4()
	return binary.BigEndian.Uint32(raw[:])
}

// network reads an address or a network: a mask may be a number of bits or of the form 255.255.0.0, and octets at the end may be missing
// ("10.1/16", "0/0").
func network(s string) (netip.Prefix, error) {
	host, mask, masked := strings.Cut(s, "/")
	if strings.Count(host, ".") < 3 && !strings.Contains(host, ":") && host != "" && strings.Trim(host, "0123456789.") == "" && masked {
		host = strings.TrimSuffix(host, ".") + strings.Repeat(".0", 3-strings.Count(strings.TrimSuffix(host, "."), "."))
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no address", s)
	}
	a = a.Unmap()
	bits := a.BitLen()
	if m, err := netip.ParseAddr(mask); masked && err == nil && m.Is4() && a.Is4() {
		n := ^number(m)
		if n&(n+1) != 0 {
			return netip.Prefix{}, fmt.Errorf("the mask of %q has holes", s)
		}
		bits = 32
		for ; n > 0; n >>= 1 {
			bits--
		}
	} else if masked {
		n, err := strconv.Atoi(mask)
		if err != nil || n < 0 || n > a.BitLen() {
			return netip.Prefix{}, fmt.Errorf("%q is no network", s)
		}
		bits = n
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

func prefixTexts(list []netip.Prefix) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
		if p.IsSingleIP() {
			out[i] = p.Addr().String()
		}
	}
	return out
}
