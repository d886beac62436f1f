package connmodel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

var label63 = strings.Repeat("a", 63)

func TestCanonicalHost(t *testing.T) {
	long253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	for _, c := range []struct{ in, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.Com", "example.com"},
		{"example.com.", "example.com"},
		{"intranet", "intranet"},
		{"localhost.", "localhost"},
		{"a", "a"},
		{"3com.com", "3com.com"},
		{"1e100.net", "1e100.net"},
		{"_dmarc.example.com", "_dmarc.example.com"},
		{"my_host", "my_host"},
		{"r3---sn-apo3qvuoxuxbt-j5pe.googlevideo.com", "r3---sn-apo3qvuoxuxbt-j5pe.googlevideo.com"},
		{"ab--cd.example", "ab--cd.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"bu\u0308cher.example", "xn--bcher-kva.example"}, // decomposed
		{"straße.example", "xn--strae-oqa.example"},       // not transitional
		{"例え.テスト", "xn--r8jz45g.xn--zckzah"},
		{"ｅｘａｍｐｌｅ．ｃｏｍ", "example.com"},       // full width
		{"example。com", "example.com"},       // U+3002
		{"example．com", "example.com"},       // U+FF0E
		{"example｡com｡", "example.com"},      // U+FF61
		{"exam\u00adple.com", "example.com"}, // soft hyphen
		{"exam\u200bple.com", "example.com"}, // zero width space
		{label63 + ".com", label63 + ".com"},
		{long253, long253},
		{long253 + ".", long253},
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1.", "127.0.0.1"},
		{"127.0.0.１", "127.0.0.1"},
		{"①②⑦.0.0.1", "127.0.0.1"},
		{"127。0。0。1", "127.0.0.1"},
		{"１２７．０．０．１", "127.0.0.1"},
		{"::1", "::1"},
		{"[::1]", "::1"},
		{"0:0:0:0:0:0:0:1", "::1"},
		{"2001:DB8::00a", "2001:db8::a"},
		{"[2001:db8:0:0:1:0:0:1]", "2001:db8::1:0:0:1"},
		{"::ffff:127.0.0.1", "127.0.0.1"},
		{"::ffff:7f00:1", "127.0.0.1"},
		{"[0:0:0:0:0:FFFF:7F00:0001]", "127.0.0.1"},
		{"64:ff9b::7f00:1", "64:ff9b::7f00:1"},
		{"::127.0.0.1", "::7f00:1"},
		{"1.2.3.4.example", "1.2.3.4.example"},
		{"0x7f.example", "0x7f.example"},
	} {
		got, err := CanonicalHost(c.in)
		if err != nil || got != c.want {
			t.Errorf("CanonicalHost(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
		again, err := CanonicalHost(got)
		if err != nil || again != got {
			t.Errorf("not idempotent: %q, then %q, %v", got, again, err)
		}
	}
}

func TestCanonicalHostRefuses(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "。", "\u00ad", "a..b", ".a", "a..", "a.\u00ad.b",
		"-a.example", "a-.example", "a.-", "-",
		label63 + "a.com",                      // label of 64
		strings.Repeat(label63+".", 4) + "com", // 259 in all
		strings.Repeat("a.", 127) + "aa",       // 256
		strings.Repeat("ü", 60) + ".example",   // A-label beyond 63
		strings.Repeat("a", 5000), strings.Repeat("ü", 5000), strings.Repeat("\u00ad", 600),
		"xn--", "xn--a", "xn--example-.com", "xn--google-.com", "xn--0", "xn--99999999", "xn--bcher-kvA\u00e9",
		"xn--zckzah\u0301", "xn--strae-oqa-.example", "xn--BCHER-kv.example",
		"xn--abc.example", // decodes to something that maps to other text
		"xn--a-ecp.ru",    // U+0303-like garbage
		"a b", "a\tb", "a\x00b", "a\x7fb", "a\nb", "a\r\nHost: b", "a\x1b[31m", "a/b", "a\\b", "a@b", "a%00b", "a?b", "a#b", "a|b", "a<b>", "a\"b",
		"a'b", "a`b", "a{b}", "a(b)", "a*b", "*", "*.example.com", "a+b", "a,b", "a;b", "a=b", "a!b", "a$b", "a&b", "a~b", "a^b", "a[b", "a]b",
		"a％00b", "a／b", "a＠b", "ａ：80", "a\u2100b", // mapping makes "a/c"
		"caf\xe9.example", "\xff", "a\xc3", "\ufffd.example",
		"\u200e", "a\u202eb.example", "\u0301a.example", "א1a.example", "a\u200db.example",
		"2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "127.1", "127.0.1", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.400",
		"127.0.0.0x1", "foo.0x", "foo.0xff", "foo.123", "foo.0X1F", "0x", "08", "0o177.1", "１２７．１", "0ｘ7f.1", "127.0.0.1..", "00127.0.0.1", "+1.2.3.4", "1.2.3.-4",
		"[", "[]", "[::1", "::1]", "[example.com]", "[127.0.0.1]", "[::1]:80", "[[::1]]", "[v1.a:b]",
		":", ":::", "1:2:3", "::g", "1:2:3:4:5:6:7:8:9", "::ffff:0177.0.0.1", "::ffff:127.1", "12345::", "host:80", "1.2.3.4:80",
		"::" + strings.Repeat("0", 100000),
	} {
		if got, err := CanonicalHost(in); err == nil {
			t.Errorf("CanonicalHost(%q) = %q, want an error", bound(in, 60), got)
		} else if got != "" {
			t.Errorf("CanonicalHost(%q) = %q beside an error", bound(in, 60), got)
		} else if len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\x00\x1b\n\r") {
			t.Errorf("CanonicalHost(%q): unsafe message of %d octets", bound(in, 60), len(err.Error()))
		}
	}
}

func TestZones(t *testing.T) {
	for _, in := range []string{"fe80::1%eth0", "[fe80::1%eth0]", "fe80::1%25eth0", "::ffff:127.0.0.1%lo", "::1%"} {
		if _, err := CanonicalHost(in); !errors.Is(err, ErrZone) {
			t.Errorf("CanonicalHost(%q): %v, want ErrZone", in, err)
		}
	}
}

func TestCanonicalHostCost(t *testing.T) {
	for _, host := range []string{"www.example.com", "intranet", "a-b.example", "10.20.30.40"} {
		if n := testing.AllocsPerRun(100, func() { CanonicalHost(host) }); n != 0 {
			t.Errorf("CanonicalHost(%q) allocates %v times", host, n)
		}
		a := Address{Host: host}
		if n := testing.AllocsPerRun(100, func() { a.IP() }); n != 0 {
			t.Errorf("IP of %q allocates %v times", host, n)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Address
	}{
		{"example.com:443", Address{"example.com", 443}},
		{"EXAMPLE.com.:1", Address{"example.com", 1}},
		{"[::1]:65535", Address{"::1", 65535}},
		{"[::ffff:10.0.0.1]:80", Address{"10.0.0.1", 80}},
		{"10.0.0.1:00080", Address{"10.0.0.1", 80}},
	} {
		got, err := ParseAddress(c.in)
		if err != nil || got != c.want {
			t.Errorf("ParseAddress(%q) = %v, %v; want %v", c.in, got, err, c.want)
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%q does not come back: %v, %v", got, again, err)
		}
	}
	for _, in := range []string{
		"", ":", "host", "host:", ":80", "host:0", "host:65536", "host:83619", "host:-1", "host:+1", "host: 80", "host:8e1", "host:80 ", "host:000080", "host:８０",
		"::1:80", "[example.com]:80", "[10.0.0.1]:80", "[::1]80", "[::1%eth0]:80", "a:b:80", "user@host:80", "host:80/", strings.Repeat("1", 1<<16) + ":80", "host:" + strings.Repeat("1", 1<<16),
	} {
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %v, want an error", bound(in, 60), got)
		} else if len(err.Error()) > 2000 {
			t.Errorf("ParseAddress(%q): message of %d octets", bound(in, 60), len(err.Error()))
		}
	}
}

func TestAddressForms(t *testing.T) {
	if got := AddressFrom(netip.MustParseAddrPort("[fe80::1%eth0]:80")); got != (Address{"fe80::1", 80}) {
		t.Errorf("zone kept: %v", got)
	}
	if got := AddressFrom(netip.MustParseAddrPort("[::ffff:10.0.0.1]:80")); got.String() != "10.0.0.1:80" {
		t.Errorf("mapped address kept: %v", got)
	}
	if !AddressFrom(netip.AddrPort{}).IsZero() || (Address{}).String() != "" {
		t.Error("nothing is not nothing")
	}
	for host, is := range map[string]bool{"10.0.0.1": true, "::1": true, "1e100.net": false, "a.b": false, "": false, "1.a1": false} {
		if (Address{Host: host}).IP().IsValid() != is {
			t.Errorf("IP of %q: want %v", host, is)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"example.com", "127.0.0.１", "xn--bcher-kva.example", "[::ffff:7f00:1]", "a。b", "exam\u00adple", "0x7f.1", "_x.", "r3---sn", "a\u200db", "xn--ls8h.example", "ß.ẞ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := CanonicalHost(s)
		if err != nil {
			if h != "" {
				t.Fatalf("%q beside %v", h, err)
			}
			return
		}
		if again, err := CanonicalHost(h); err != nil || again != h {
			t.Fatalf("%q gives %q gives %q, %v", s, h, again, err)
		}
		if len(h) > 253 || h != strings.ToLower(h) || strings.ContainsAny(h, "%[]/@ \x00") || !utf8.ValidString(h) {
			t.Fatalf("%q gives %q", s, h)
		}
		a := Address{Host: h, Port: 1}
		if back, err := ParseAddress(a.String()); err != nil || back != a {
			t.Fatalf("%v comes back as %v, %v", a, back, err)
		}
		if ip, err := netip.ParseAddr(h); (err == nil) != a.IP().IsValid() || err == nil && ip.String() != h {
			t.Fatalf("%q: IP() = %v, netip says %v, %v", h, a.IP(), ip, err)
		}
	})
}

func BenchmarkCanonicalHost(b *testing.B) {
	for _, h := range []string{"www.example.com", "WWW.Example.com", "bücher.example", "10.20.30.40"} {
		b.Run(h, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				CanonicalHost(h)
			}
		})
	}
}
