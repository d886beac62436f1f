package match_test

import (
	"fmt"
	"net/netip"
	"testing"

	"viaduct/policies/match"
)

// queries are names to look up in a list of n: every second is below a name of the list, the others are not.
func queries(n int) []string {
	q := make([]string, 4096)
	for i := range q {
		q[i] = "www." + string(listHost(nil, (i*7919+i%2)%n))
		if i%2 == 1 {
			q[i] = fmt.Sprintf("static%d.img.shop-%d.example.org", i, i)
		}
	}
	return q
}

func BenchmarkHostSet(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := listSet(b, n)
			q := queries(n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Contains(q[i&4095])
				i++
			}
		})
	}
}

func BenchmarkHostIndexSuffix(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newPolicy(b, 1000, n, 10)
			q := queries(n)
			sets := make([][]uint32, 0, 16)
			b.ReportAllocs()
			i, found := 0, 0
			for b.Loop() {
				sets = p.hosts.AppendSets(sets[:0], q[i&4095])
				found += len(sets)
				i++
			}
			if found == 0 {
				b.Fatal("nothing found")
			}
		})
	}
}

func BenchmarkHostIndexDeepest(b *testing.B) {
	var hb match.HostBuilder
	name := ""
	for i := range 127 {
		name = string("abcdefgh"[i%8]) + name
		if err := hb.Add("."+name, uint32(i)); err != nil {
			b.Fatal(err)
		}
		name = "." + name
	}
	x := hb.Build()
	sets := make([][]uint32, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		sets = x.AppendSets(sets[:0], name[1:])
	}
	if len(sets) != 127 {
		b.Fatal(len(sets))
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct{ rules, hosts, nets int }{
		{10, 10, 10}, {1000, 10, 10}, {1000, 1000, 1000}, {1000, 100_000, 10_000}, {1000, 1_000_000, 10_000}, {10_000, 100_000, 10_000},
	} {
		b.Run(fmt.Sprintf("rules=%d/hosts=%d/nets=%d", c.rules, c.hosts, c.nets), func(b *testing.B) {
			p := newPolicy(b, c.rules, c.hosts, c.nets)
			q := queries(c.hosts)
			addrs := make([]netip.Addr, 4096)
			for i := range addrs {
				addrs[i] = netip.AddrFrom4([4]byte{byte(11 + i%180), byte(i * 3 >> 8), byte(i * 3), 9})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p.decide(q[i&4095], addrs[i&4095], uint16(443+i&7*1000))
				i++
			}
		})
	}
}

func BenchmarkNetworks(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		p := newPolicy(b, 1000, 10, n)
		addrs := make([]netip.Addr, 4096)
		for i := range addrs {
			addrs[i] = netip.AddrFrom4([4]byte{byte(11 + i%180), byte(i * 3 >> 8), byte(i * 3), 9})
		}
		sets := make([][]uint32, 0, 16)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				sets = p.nets.AppendSets(sets[:0], addrs[i&4095])
				i++
			}
		})
	}
}

func BenchmarkPorts(b *testing.B) {
	p := newPolicy(b, 1000, 10, 10)
	sets := make([][]uint32, 0, 32)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		sets = p.ports.AppendSets(sets[:0], uint16(i*31))
		i++
	}
}

func BenchmarkGlob(b *testing.B) {
	for _, pattern := range []string{"www.shop-37.example.org", "www*", "*.example.org", "*shop*", "w*shop-*.org", "[a-w]*shop-??.*"} {
		g, err := match.CompileGlob(pattern)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(pattern, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !g.Match("www.shop-37.example.org") {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkLoadHosts(b *testing.B) {
	const n = 1_000_000
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = listHost(nil, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		var hb match.HostSetBuilder
		for _, l := range lines {
			if err := hb.AddBytes(l); err != nil {
				b.Fatal(err)
			}
		}
		hb.Build()
	}
}
