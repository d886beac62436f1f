package policies

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// bigPolicy writes a policy of 1,000 rules with hosts in a list and networks in another, and loads it.
func bigPolicy(tb testing.TB, hosts, nets int) *Program {
	tb.Helper()
	dir := tb.TempDir()
	var b strings.Builder
	for i := range hosts {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "www%d.site%d.example\n", i, i%977)
		case 1:
			fmt.Fprintf(&b, "*.tracker%d.example\n", i)
		default:
			fmt.Fprintf(&b, "ads%d.net\n", i)
		}
	}
	write(tb, filepath.Join(dir, "hosts.txt"), b.String())
	b.Reset()
	for i := range nets {
		fmt.Fprintf(&b, "%d.%d.%d.0/24\n", 11+i>>16, i>>8&255, i&255)
	}
	write(tb, filepath.Join(dir, "nets.txt"), b.String())
	b.Reset()
	b.WriteString("list \"hosts\" {\nfile = \"hosts.txt\"\n}\nlist \"nets\" {\nfile = \"nets.txt\"\ntype = \"networks\"\n}\npolicy \"default\" {\n")
	b.WriteString("rule \"block\" {\nmatch { host = list.hosts }\ndeny {}\n}\nrule \"nets\" {\nmatch {\naddress = list.nets\nresolve = false\n}\nvia = direct\n}\n")
	for i := range 998 {
		fmt.Fprintf(&b, "rule \"r%d\" {\nmatch {\nhost = [\"svc%d.corp.example\", \"*.team%d.corp.example\"]\nport = [443, \"%d-%d\"]\nclient = \"10.%d.%d.0/24\"\n}\nvia = direct\n}\n",
			i, i, i, 8000+i, 8010+i, i>>8, i&255)
	}
	b.WriteString("otherwise { via = direct }\n}\n")
	c, d := Load(Options{Source: map[string][]byte{filepath.Join(dir, "big.hcl"): []byte(b.String())}})
	if c == nil {
		tb.Fatal(d.Error())
	}
	return c.Programs["default"]
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func benchFacts(host string) *connmodel.Facts {
	f := &connmodel.Facts{
		Listener: "l", Client: netip.MustParseAddrPort("10.3.200.7:40000"), Protocol: connmodel.ProtocolConnect,
		Target: connmodel.Address{Host: host, Port: 443}, Time: time.Now(),
	}
	f.TargetIP = f.Target.IP()
	return f
}

var benchHosts = []struct{ name, host, rule string }{
	{"otherwise", "www.somewhere.else.example.org", "otherwise"},
	{"listed", "x.y.tracker1.example", "block"},
	{"rule", "git.team968.corp.example", "r968"},
	{"address", "11.0.5.9", "nets"},
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		p := bigPolicy(b, n, max(10, n/10))
		for _, h := range benchHosts {
			f := benchFacts(h.host)
			b.Run(fmt.Sprintf("hosts=%d/%s", n, h.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d, _ := p.Decide(f); d.Rule != h.rule {
						b.Fatalf("%s: %s", h.host, d.Rule)
					}
				}
			})
		}
	}
}

func BenchmarkDecideParallel(b *testing.B) {
	p := bigPolicy(b, 100_000, 10_000)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		f := benchFacts("git.team968.corp.example")
		for pb.Next() {
			p.Decide(f)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		bigPolicy(b, 100_000, 10_000)
	}
}

// TestDecideAllocates holds decisions to no allocation, for rules without when and shadow, and with when.
func TestDecideAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops values at random under the race detector")
	}
	p := bigPolicy(t, 10_000, 1000)
	for _, h := range benchHosts {
		f := benchFacts(h.host)
		if d, _ := p.Decide(f); d.Rule != h.rule {
			t.Fatalf("%s: taken by %q, expected %q", h.host, d.Rule, h.rule)
		}
		if n := testing.AllocsPerRun(200, func() { p.Decide(f) }); n != 0 {
			t.Errorf("%s: %v allocations", h.name, n)
		}
	}
}

// TestHostMemory holds a host of a list to less than 30 bytes, its text included.
func TestHostMemory(t *testing.T) {
	const n = 200_000
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	small := bigPolicy(t, 10, 10)
	middle := used()
	large := bigPolicy(t, n, 10)
	after := used()
	runtime.KeepAlive(small)
	runtime.KeepAlive(large)
	perHost := (float64(after-middle) - float64(middle-before)) / n
	t.Logf("%.1f bytes a host", perHost)
	if perHost > 30 {
		t.Errorf("%.1f bytes a host, at most 30 allowed", perHost)
	}
}

// TestDecideIsFlat compares the cost of a decision over ten hosts with that over a hundred thousand.
func TestDecideIsFlat(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("a measurement")
	}
	cost := func(p *Program, f *connmodel.Facts) time.Duration {
		best := time.Hour
		for range 20 {
			start := time.Now()
			for range 2000 {
				p.Decide(f)
			}
			best = min(best, time.Since(start)/2000)
		}
		return best
	}
	f := benchFacts("www.somewhere.else.example.org")
	small, large := cost(bigPolicy(t, 10, 10), f), cost(bigPolicy(t, 100_000, 10_000), f)
	t.Logf("10 hosts: %s, 100,000 hosts and 10,000 networks: %s", small, large)
	if large > 2*time.Microsecond || large > 4*small+200*time.Nanosecond {
		t.Errorf("a decision costs %s with 10 hosts and %s with 100,000", small, large)
	}
}
