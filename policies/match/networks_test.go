package match_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"viaduct/policies/match"
)

func TestNetworkIndex(t *testing.T) {
	var b match.NetworkBuilder
	for id, p := range []string{
		"0.0.0.0/0",            // 0
		"10.0.0.0/8",           // 1
		"10.20.0.0/16",         // 2
		"10.20.0.5/32",         // 3
		"::/0",                 // 4
		"fd00:20::/32",         // 5
		"::ffff:10.20.0.0/112", // 6: 10.20.0.0/16
		"10.20.7.7/16",         // 7: bits beyond the length do not count here
		"::ffff:0:0/96",        // 8: all of IPv4
		"fe80::/10",            // 9
	} {
		if err := b.Add(netip.MustParsePrefix(p), uint32(id)); err != nil {
			t.Fatal(err)
		}
	}
	if b.Add(netip.Prefix{}, 1) == nil {
		t.Error("an invalid prefix was taken")
	}
	x := b.Build()
	for addr, want := range map[string][]uint32{
		"10.20.0.5":        {0, 1, 2, 3, 6, 7, 8},
		"::ffff:10.20.0.5": {0, 1, 2, 3, 6, 7, 8},
		"10.20.0.6":        {0, 1, 2, 6, 7, 8},
		"10.21.0.5":        {0, 1, 8},
		"192.0.2.1":        {0, 8},
		"fd00:20::1":       {4, 5},
		"fd00:21::1":       {4},
		"fe80::1%eth0":     {4, 9},
		"::":               {4},
	} {
		a := netip.MustParseAddr(addr)
		checkIDs(t, addr, want, x.AppendMatches(nil, a), x.AppendSets(nil, a), func(b match.Bits) { x.Mark(b, a) })
	}
	if got := x.AppendMatches(nil, netip.Addr{}); got != nil {
		t.Errorf("the zero address: %v", got)
	}
}

// The same clause under two networks: each address has the clauses of its own surroundings.
func TestNetworkIndexSameClauseInTwoPlaces(t *testing.T) {
	var b match.NetworkBuilder
	for _, e := range []struct {
		prefix string
		clause uint32
	}{{"10.0.0.0/8", 0}, {"11.0.0.0/8", 1}, {"10.1.0.0/16", 2}, {"11.1.0.0/16", 2}, {"12.0.0.0/8", 2}} {
		if err := b.Add(netip.MustParsePrefix(e.prefix), e.clause); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Build()
	for addr, want := range map[string][]uint32{"10.1.0.1": {0, 2}, "11.1.0.1": {1, 2}, "12.1.0.1": {2}} {
		a := netip.MustParseAddr(addr)
		checkIDs(t, addr, want, x.AppendMatches(nil, a), x.AppendSets(nil, a), func(b match.Bits) { x.Mark(b, a) })
	}
}

func TestNetworkZeroValues(t *testing.T) {
	var x match.NetworkIndex
	var s match.NetworkSet
	var b match.NetworkBuilder
	var sb match.NetworkSetBuilder
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:1.2.3.4")} {
		if x.AppendSets(nil, a) != nil || b.Build().AppendMatches(nil, a) != nil {
			t.Errorf("an empty index knows %v", a)
		}
		if s.Contains(a) || sb.Build().Contains(a) {
			t.Errorf("an empty set contains %v", a)
		}
	}
}

func TestNetworkSet(t *testing.T) {
	var b match.NetworkSetBuilder
	for _, s := range []string{"10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"} {
		if err := b.AddString(s); err != nil {
			t.Fatal(err)
		}
	}
	if b.Add(netip.Prefix{}) == nil || b.AddString("10.0.0.0/33") == nil {
		t.Error("an invalid prefix was taken")
	}
	s := b.Build()
	if s.Len() != 4 {
		t.Errorf("%d networks, want 4: one lies inside another", s.Len())
	}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "10.2.2.3": true, "11.0.0.0": false, "192.0.2.7": true, "192.0.2.8": false,
		"2001:db8::9": true, "2001:db9::": false, "::ffff:10.0.0.1": true, "198.51.100.9": true, "2001:db8::9%lo": true,
	} {
		if got := s.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %v", addr, got)
		}
	}
	if s.Contains(netip.Addr{}) {
		t.Error("the zero address is in no network")
	}
	if b.Build().Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("Build did not leave the builder empty")
	}
}

func TestParseNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"10.20.0.0/16": "10.20.0.0/16", "0.0.0.0/0": "0.0.0.0/0", "192.0.2.1": "192.0.2.1/32", "::1": "::1/128",
		"::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:10.0.0.0/104": "10.0.0.0/8", "::/0": "::/0", "FD00::/8": "fd00::/8",
	} {
		if p, err := match.ParseNetwork(in); err != nil || p.String() != want {
			t.Errorf("%s: %v %v, want %s", in, p, err, want)
		}
	}
	for in, c := range map[string]struct {
		offset int
		reason string
	}{
		"":                {0, "not an IP address or network"},
		"example.com":     {0, "not an IP address or network"},
		"10.0.0/8":        {0, "not an IP address or network"},
		"010.0.0.0/8":     {0, "not an IP address or network"},
		"10.0.0.0/33":     {8, "prefix length"},
		"10.0.0.0/":       {8, "prefix length"},
		"10.0.0.0/08":     {8, "prefix length"},
		"::/129":          {2, "prefix length"},
		"10.20.0.1/16":    {9, "the network is 10.20.0.0/16"},
		"fe80::1%eth0":    {7, "zone"},
		"10.0.0.0/8 ":     {8, "prefix length"},
		"[::1]":           {0, "not an IP address or network"},
		"fe80::%eth0/64":  {11, "prefix length"},
		"2001:db8::1/ 32": {11, "prefix length"},
	} {
		_, err := match.ParseNetwork(in)
		var pe *match.PatternError
		if !errors.As(err, &pe) || pe.Offset != c.offset || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%q: %v, want offset %d and %q", in, err, c.offset, c.reason)
		}
	}
}

// A thousand clauses that name a wide network, and narrow ones inside it, must not be copied into each other.
func TestNetworkIndexIsLinear(t *testing.T) {
	var b match.NetworkBuilder
	for id := range uint32(1000) {
		if err := b.Add(netip.MustParsePrefix("10.0.0.0/8"), id); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		if err := b.Add(p, 1000+uint32(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	x := b.Build()
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("the index takes %d KiB", grown>>10)
	}
	got := x.AppendMatches(nil, netip.MustParseAddr("10.0.9.1"))
	if len(got) != 1001 || got[0] != 1009 {
		t.Errorf("%d clauses, want 1001, the innermost first", len(got))
	}
}

// prefixDraw yields prefixes that often lie inside each other.
var prefixDraw = rapid.Custom(func(t *rapid.T) netip.Prefix {
	a := addrDraw.Draw(t, "addr")
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
})

var addrDraw = rapid.Custom(func(t *rapid.T) netip.Addr {
	few := rapid.SampledFrom([]byte{0, 1, 10, 128, 255})
	switch rapid.IntRange(0, 2).Draw(t, "family") {
	case 0:
		var a [4]byte
		for i := range a {
			a[i] = few.Draw(t, "byte")
		}
		return netip.AddrFrom4(a)
	case 1:
		a := [16]byte{10: 255, 11: 255}
		for i := 12; i < 16; i++ {
			a[i] = few.Draw(t, "byte")
		}
		return netip.AddrFrom16(a)
	}
	var a [16]byte
	for i := range 6 {
		a[i*3] = few.Draw(t, "byte")
	}
	return netip.AddrFrom16(a)
})

func TestNetworkIndexIsTheNaiveReading(t *testing.T) {
	holds := func(p netip.Prefix, a netip.Addr) bool {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Contains(a.Unmap())
	}
	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(prefixDraw, 0, 60).Draw(t, "prefixes")
		ids := rapid.SliceOfN(rapid.Uint32Range(0, 12), 60, 60).Draw(t, "ids")
		var b match.NetworkBuilder
		var sb match.NetworkSetBuilder
		for i, p := range prefixes {
			if b.Add(p, ids[i]) != nil || sb.Add(p) != nil {
				t.Fatalf("%v refused", p)
			}
		}
		x, s := b.Build(), sb.Build()
		for _, a := range rapid.SliceOfN(addrDraw, 1, 20).Draw(t, "addrs") {
			want := []uint32{}
			for i, p := range prefixes {
				if holds(p, a) {
					want = append(want, ids[i])
				}
			}
			want = sorted(want)
			checkIDs(t, a.String(), want, x.AppendMatches(nil, a), x.AppendSets(nil, a), func(b match.Bits) { x.Mark(b, a) })
			if s.Contains(a) != (len(want) > 0) {
				t.Fatalf("%v: Contains says %v", a, s.Contains(a))
			}
			if flat := x.AppendMatches(nil, a); len(flat) != len(want) {
				t.Fatalf("%v: a clause is in two sets: %v", a, slices.Sorted(slices.Values(flat)))
			}
		}
	})
}
