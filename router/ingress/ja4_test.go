package ingress

import (
	"crypto/tls"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func hexList(t *testing.T, s string) (list []uint16) {
	t.Helper()
	for _, x := range strings.Split(s, ",") {
		v, err := strconv.ParseUint(x, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, uint16(v))
	}
	return list
}

// TestPublishedJA4 takes fingerprints that were published with the lists they are made of: those of two versions of Chrome.
func TestPublishedJA4(t *testing.T) {
	const suites = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
	const signatures = "0403,0804,0401,0503,0805,0501,0806,0601"
	for _, c := range []struct{ want, extensions string }{
		{"t13d1516h2_8daaf6152771_d8a2da3f94cd", "002d,0033,0010,fe0d,0017,44cd,0000,000b,000a,002b,ff01,0023,0012,0005,000d,001b"},
		{"t13d1516h2_8daaf6152771_e5627efa2ab1", "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01,0000,0010"},
	} {
		for _, grease := range []bool{false, true} {
			list := hexList(t, suites)
			var exts []ext
			for _, kind := range hexList(t, c.extensions) {
				e := ext{kind, nil}
				switch kind {
				case extServerName:
					e = sniOf("www.example.com")
				case extALPN:
					e = alpnOf("h2", "http/1.1")
				case extVersions:
					versions := []uint16{0x0304, 0x0303}
					if grease {
						versions = append([]uint16{0xfafa}, versions...)
					}
					e.body = vec8(list16(versions...))
				case extSignatures:
					e.body = vec16(list16(hexList(t, signatures)...))
				}
				exts = append(exts, e)
			}
			if grease {
				list = append([]uint16{0x2a2a}, list...)
				exts = append(append([]ext{{0x1a1a, nil}}, exts...), ext{0xdada, []byte{0}})
			}
			v, h, err := scan(records(message(0x0303, list, exts...), 1<<14))
			if v != Found || h.JA4 != c.want {
				t.Errorf("grease %v: %+v (%v), published is %s", grease, h, err, c.want)
			}
			if slices.ContainsFunc(h.CipherSuites, isGREASE) || slices.ContainsFunc(h.Versions, isGREASE) {
				t.Errorf("GREASE is left in %+v", h)
			}
		}
	}
}

// TestJA4Parts: what each part becomes when it is unusual.
func TestJA4Parts(t *testing.T) {
	many := make([]uint16, 120)
	for i := range many {
		many[i] = uint16(0x0100 + i)
	}
	for _, c := range []struct {
		want   string // before the first underscore
		legacy uint16
		suites []uint16
		exts   []ext
	}{
		{"t12i010000", 0x0303, []uint16{1}, nil},
		{"t11i010000", 0x0302, []uint16{1}, nil},
		{"t10i010000", 0x0301, []uint16{1}, nil},
		{"ts3i010000", 0x0300, []uint16{1}, nil},
		{"t00i010000", 0x0399, []uint16{1}, nil},
		{"t12i000000", 0x0303, []uint16{0x0a0a}, nil},
		{"t12i990000", 0x0303, many, nil},
		{"t13i010100", 0x0301, []uint16{1}, []ext{{extVersions, vec8(list16(0x0303, 0x0304, 0x1a1a))}}},
		{"t12d010100", 0x0303, []uint16{1}, []ext{sniOf("a.example")}},
		{"t12i0101h1", 0x0303, []uint16{1}, []ext{alpnOf("http/1.1", "h2")}},
		{"t12i0101hh", 0x0303, []uint16{1}, []ext{alpnOf("h")}},
		{"t12i0101dt", 0x0303, []uint16{1}, []ext{alpnOf("dot")}},
		// The specification's own examples: where an end is no letter or digit, the ends of the hexadecimal form.
		{"t12i0101ab", 0x0303, []uint16{1}, []ext{alpnOf("\xab")}},
		{"t12i0101ad", 0x0303, []uint16{1}, []ext{alpnOf("\xab\xcd")}},
		{"t12i01013b", 0x0303, []uint16{1}, []ext{alpnOf("\x30\xab")}},
		{"t12i01013d", 0x0303, []uint16{1}, []ext{alpnOf("\x30\x31\xab\xcd")}},
		{"t12i010101", 0x0303, []uint16{1}, []ext{alpnOf("\x30\xab\xcd\x31")}},
		{"t12i0101bd", 0x0303, []uint16{1}, []ext{alpnOf("\xba\xad")}},
	} {
		v, h, err := scan(records(message(c.legacy, c.suites, c.exts...), 1<<14))
		if v != Found {
			t.Errorf("%s: verdict %d, %v", c.want, v, err)
			continue
		}
		a, _, _ := strings.Cut(h.JA4, "_")
		if a != c.want {
			t.Errorf("%s, expected %s", h.JA4, c.want)
		}
	}
	_, h, _ := scan(records(message(0x0303, []uint16{0x0a0a}), 1<<14))
	if h.JA4 != "t12i000000_000000000000_000000000000" {
		t.Errorf("of nothing: %s", h.JA4)
	}
}

// TestJA4Stable: a client has the same fingerprint each time, whatever the name and the random parts are, and another when it offers
// something else.
func TestJA4Stable(t *testing.T) {
	of := func(c *tls.Config) string {
		_, h, err := scan(clientBytes(t, c))
		if err != nil {
			t.Fatal(err)
		}
		return h.JA4
	}
	first := of(&tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}})
	for _, name := range []string{"a.example", "other.example"} {
		if again := of(&tls.Config{ServerName: name, NextProtos: []string{"h2"}}); again != first {
			t.Errorf("%s, then %s", first, again)
		}
	}
	if other := of(&tls.Config{ServerName: "a.example", NextProtos: []string{"http/1.1"}}); other == first {
		t.Errorf("another offer has the same fingerprint %s", first)
	}
	if !strings.HasPrefix(first, "t13d") || !strings.Contains(first, "h2_") {
		t.Errorf("crypto/tls is %s", first)
	}
}
