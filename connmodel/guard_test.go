package connmodel

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestRefusedRange(t *testing.T) {
	for ip, want := range map[string]string{
		"127.0.0.1": "loopback", "127.255.255.255": "loopback", "::1": "loopback", "::1%lo": "loopback", "::ffff:127.0.0.1": "loopback", "::ffff:127.0.0.1%eth0": "loopback",
		"::127.0.0.1": "loopback", "::ffff:0:127.0.0.1": "loopback", "64:ff9b::127.0.0.1": "loopback", "64:ff9b::7f00:1%eth0": "loopback",
		"64:ff9b:1::127.0.0.1": "loopback", "64:ff9b:1:7f00:0:100::": "unspecified", "64:ff9b:1:7f00:0:100:0:1": "unspecified", "64:ff9b:1:7f00:0:100:8:8": "unspecified", "64:ff9b:1:7f00:0:100:808:808": "loopback", "64:ff9b:1:0:7f:0:100:0": "loopback",
		"2002:7f00:1::": "loopback", "2002:7f00:1:ffff::1": "loopback",
		"2001:0:4136:e378:8000:63bf:80ff:fffe": "loopback", // Teredo: 127.0.0.1 inverted
		"2001:db8::5efe:127.0.0.1":             "loopback", "2001:db8::200:5efe:169.254.169.254": "link-local",
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "unspecified", "64:ff9b::": "unspecified", "2002::": "unspecified", "::2": "unspecified",
		"169.254.169.254": "link-local", "::ffff:a9fe:a9fe": "link-local", "64:ff9b::a9fe:a9fe": "link-local", "2002:a9fe:a9fe::1": "link-local", "::a9fe:a9fe": "link-local",
		"fe80::1": "link-local", "fe80::1%eth0": "link-local", "febf::1": "link-local",
		"fd00:ec2::254": "cloud metadata", "fd20:ce::254": "cloud metadata", "100.100.100.200": "cloud metadata", "168.63.129.16": "cloud metadata", "192.0.0.192": "cloud metadata", "::ffff:100.100.100.200": "cloud metadata",
	} {
		if got, refused := RefusedRange(netip.MustParseAddr(ip)); !refused || got != want {
			t.Errorf("%s: %q, %v; want %q", ip, got, refused, want)
		}
	}
	for _, ip := range []string{
		"1.1.1.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.201", "128.0.0.1", "126.255.255.255", "1.0.0.0", "169.253.255.255", "169.255.0.0", "168.63.129.17",
		"2001:db8::1", "2606:4700::1111", "fd00::1", "fd00:ec3::1", "fd20:ce::253", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::1",
		"2001:db8::5efe:8.8.8.8", "2001:0:4136:e378:8000:63bf:f7f7:f7f7", "ff02::1",
	} {
		if got, refused := RefusedRange(netip.MustParseAddr(ip)); refused {
			t.Errorf("%s is refused as %s", ip, got)
		}
	}
	if _, refused := RefusedRange(netip.Addr{}); refused {
		t.Error("no address is refused")
	}
}

// spellings are all ways in which an IPv6 address stands for an IPv4 address.
func spellings(v4 netip.Addr) []netip.Addr {
	b := v4.As4()
	at := func(prefix string, off int) netip.Addr {
		x := netip.MustParseAddr(prefix).As16()
		copy(x[off:], b[:])
		return netip.AddrFrom16(x)
	}
	list := []netip.Addr{v4, at("::ffff:0:0", 12), at("::ffff:0:0:0", 12), at("64:ff9b::", 12), at("64:ff9b:1::", 12), at("2002::", 2), at("2002::1", 2)}
	if compat := at("::", 12); compat != netip.IPv6Unspecified() && compat != netip.IPv6Loopback() {
		list = append(list, compat)
	}
	return append(list, list[1].WithZone("eth0"), list[3].WithZone("x"))
}

func TestEverySpellingIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b [4]byte
		for i := range b {
			b[i] = rapid.Byte().Draw(t, "octet")
		}
		if rapid.Bool().Draw(t, "refused") {
			b[0] = rapid.SampledFrom([]byte{0, 127, 169, 100, 168, 192}).Draw(t, "first")
			b[1] = rapid.SampledFrom([]byte{0, 254, 100, 63}).Draw(t, "second")
		}
		v4 := netip.AddrFrom4(b)
		name, refused := RefusedRange(v4)
		naive := ""
		for _, r := range refusedRanges {
			if r.prefix.Contains(v4) {
				naive = r.name
			}
		}
		if refused != (naive != "") || name != naive {
			t.Fatalf("%s: %q, a plain search says %q", v4, name, naive)
		}
		for _, ip := range spellings(v4) {
			if got := Embedded(ip); got != v4 {
				t.Fatalf("Embedded(%s) = %s, want %s", ip, got, v4)
			}
			if n, r := RefusedRange(ip); r != refused && refused || refused && n != name {
				t.Fatalf("%s: %q, %v; but %s: %q, %v", ip, n, r, v4, name, refused)
			}
		}
	})
}

func TestEmbeddedLeavesOthers(t *testing.T) {
	for _, s := range []string{"::", "::1", "2001:db8::1", "fe80::1", "2003::1", "2001::1", "64:ff9c::1", "::fffe:1.2.3.4", "ff02::1"} {
		if ip := netip.MustParseAddr(s); Embedded(ip) != ip {
			t.Errorf("Embedded(%s) = %s", ip, Embedded(ip))
		}
	}
	if Embedded(netip.Addr{}).IsValid() {
		t.Error("nothing became an address")
	}
	if got := Embedded(netip.MustParseAddr("fe80::1%eth0")); got.Zone() != "" {
		t.Errorf("zone kept: %s", got)
	}
}

func TestOpensRefused(t *testing.T) {
	for p, want := range map[string]bool{
		"127.0.0.0/8": true, "127.0.0.1/32": true, "127.1.2.3/16": true, "::1/128": true, "169.254.169.254/32": true, "fe80::/10": true, "fe80::/64": true, "::ffff:127.0.0.0/104": true, "::ffff:127.0.0.1/128": true,
		"0.0.0.0/8": true, "0.0.0.0/32": true, "::/128": true, "fd00:ec2::254/128": true,
		"0.0.0.0/0": false, "126.0.0.0/7": false, "::/0": false, "::/127": false, "10.0.0.0/8": false, "fe80::/9": false, "::ffff:0:0/96": false, "169.254.0.0/15": false, "::/96": false, "fd00::/8": false,
	} {
		if got := OpensRefused(netip.MustParsePrefix(p)); got != want {
			t.Errorf("OpensRefused(%s) = %v", p, got)
		}
	}
	if OpensRefused(netip.Prefix{}) {
		t.Error("no prefix opens something")
	}
}

// What opens a refused range opens refused addresses only.
func TestOpensRefusedHoldsOnlyRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(refusedRanges).Draw(t, "range")
		bits := rapid.IntRange(0, r.prefix.Addr().BitLen()).Draw(t, "bits")
		p := netip.PrefixFrom(r.prefix.Addr(), bits)
		if OpensRefused(p) {
			last := p.Masked().Addr()
			b := last.AsSlice()
			for i := bits; i < len(b)*8; i++ {
				b[i/8] |= 0x80 >> (i % 8)
			}
			last, _ = netip.AddrFromSlice(b)
			for _, ip := range []netip.Addr{p.Masked().Addr(), last} {
				if _, refused := RefusedRange(ip); !refused {
					t.Fatalf("%s opens %s, which is not refused", p, ip)
				}
			}
		}
	})
}

func BenchmarkRefusedRange(b *testing.B) {
	for _, s := range []string{"93.184.216.34", "192.168.1.1", "2606:4700::1111"} {
		ip := netip.MustParseAddr(s)
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				RefusedRange(ip)
			}
		})
	}
}
