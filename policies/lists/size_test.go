package lists

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// usual are so many different names as lists of ad servers have them, if rather short ones: 13.5 bytes each on average.
func usual(n int) string {
	var b strings.Builder
	b.Grow(20 * n)
	for i := range n {
		k := uint32(i) * 2654435761 // each once, in no order
		fmt.Fprintf(&b, "%s%07x.%s\n", [...]string{"", "ad.", "t", "px"}[i&3], k>>4, [...]string{"com", "net", "io", "co.uk", "example"}[i%5])
	}
	return b.String()
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSize: a million entries need less than 30 bytes each, their names included, and are loaded in seconds. Time is said and hardly judged: it is
// the machine's as much as ours.
func TestSize(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("loads a million entries, and measures them as they are without a detector of races")
	}
	const n = 1_000_000
	names := usual(n)
	var networks strings.Builder
	for i := range n {
		fmt.Fprintf(&networks, "%d.%d.%d.%d/31\n", 11+i>>18, i>>10&255, i>>2&255, i<<6&192)
	}
	rules := "||" + strings.ReplaceAll(strings.TrimSuffix(names, "\n"), "\n", "^\n||") + "^\n"
	for _, x := range []struct {
		name, text string
		o          Options
		most       float64 // bytes of an entry
	}{
		{"names", names, Options{Format: Lines}, 30},
		{"names and what is below", names, Options{Format: Lines, Subdomains: true}, 30},
		{"rules", rules, Options{Format: Adblock}, 30},
		{"networks", networks.String(), Options{Networks: true}, 30},
	} {
		before := heap()
		begun := time.Now()
		s, err := Parse(strings.NewReader(x.text), "", x.o)
		took := time.Since(begun)
		if err != nil {
			t.Fatal(err)
		}
		each := float64(heap()-before) / float64(s.Report.Entries)
		t.Logf("%s: %d entries (%d different) in %s, %.1f bytes each, of a text with %.1f each", x.name, s.Report.Entries, s.Report.Names, took.Round(time.Millisecond), each, float64(len(x.text))/n)
		if s.Report.Entries != n || took > time.Minute {
			t.Errorf("%s: %+v in %s", x.name, s.Report, took)
		}
		if own := each - float64(len(names)-n)/n; !x.o.Networks && own > 12 { // longer names cost what they are longer
			t.Errorf("%s: %.1f bytes each beside the name", x.name, own)
		}
		if each > x.most {
			t.Errorf("%s: %.1f bytes each, more than %.0f", x.name, each, x.most)
		}
		runtime.KeepAlive(s)
	}
	runtime.KeepAlive(names)
	runtime.KeepAlive(rules)
}

// BenchmarkLookup asks a million names, and as many networks.
func BenchmarkLookup(b *testing.B) {
	text := usual(1_000_000)
	s, err := Parse(strings.NewReader(text), "", Options{Format: Lines, Subdomains: true})
	if err != nil {
		b.Fatal(err)
	}
	in := strings.Split(text, "\n")[:1<<16]
	below, out := make([]string, len(in)), make([]string, len(in))
	for i := range in {
		below[i], out[i] = "www.cdn."+in[i], fmt.Sprintf("www%d.somewhere.else.example.org", i)
	}
	for _, x := range []struct {
		name  string
		hosts []string
		want  bool
	}{{"hit", in, true}, {"below", below, true}, {"miss", out, false}} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.Host(x.hosts[i&(len(x.hosts)-1)]) != x.want {
					b.Fatal(x.hosts[i&(len(x.hosts)-1)])
				}
			}
		})
	}
	var networks strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&networks, "%d.%d.%d.%d/31\n", 11+i>>18, i>>10&255, i>>2&255, i<<6&192)
	}
	n, err := Parse(strings.NewReader(networks.String()), "", Options{Networks: true})
	if err != nil {
		b.Fatal(err)
	}
	for name, first := range map[string]byte{"network hit": 11, "network miss": 99} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if n.Network(netip.AddrFrom4([4]byte{first, byte(i >> 8), byte(i), 64})) != (first == 11) {
					b.Fatal(i)
				}
			}
		})
	}
}
