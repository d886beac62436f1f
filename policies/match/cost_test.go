package match_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/policies/match"
)

// heap is the live heap in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// listHost is name i of a list as one finds them: 17 bytes on average, a little more than in the block lists that were measured.
func listHost(buf []byte, i int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	for range 5 + r.IntN(8) {
		buf = append(buf, byte('a'+r.IntN(26)))
	}
	if i%5 == 0 {
		buf = append(buf, ".cdn"...)
	}
	buf = append(buf, '.')
	buf = fmt.Appendf(buf, "%x", i%997)
	return append(buf, [...]string{".com", ".net", ".de", ".info"}[i%4]...)
}

func listSet(t testing.TB, n int) *match.HostSet {
	var b match.HostSetBuilder
	buf := make([]byte, 0, 300)
	for i := range n {
		buf = listHost(append(buf[:0], "*."...), i)
		if i%2 == 0 {
			buf = buf[2:]
		}
		if err := b.AddBytes(buf); err != nil {
			t.Fatal(err)
		}
		buf = buf[:0:cap(buf)]
	}
	return b.Build()
}

// cpuTime is the processor time of this process: other programs on the machine do not count.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestHostsTakeLessThan30BytesEach(t *testing.T) {
	for _, n := range []int{100_000, 700_000, 1_000_000} {
		if n > 100_000 && (testing.Short() || raceFactor > 1) {
			continue
		}
		before := heap()
		start := cpuTime(t)
		s := listSet(t, n)
		took := cpuTime(t) - start
		each := float64(heap()-before) / float64(s.Len())
		t.Logf("%d names: %.1f bytes each, loaded in %v", s.Len(), each, took)
		if each >= 30 {
			t.Errorf("%d names: %.1f bytes each", s.Len(), each)
		}
		if took > 3*time.Second*raceFactor {
			t.Errorf("%d names: loading took %v", n, took)
		}
		if host := string(listHost(nil, n/2*2-2)); !s.Contains(host) {
			t.Errorf("%s is not in the set", host)
		}
	}
}

// policyIndexes are those of a policy of rules with hosts, networks and ports spread over them.
type policyIndexes struct {
	hosts                 *match.HostIndex
	nets                  *match.NetworkIndex
	ports                 *match.PortIndex
	noHost, noNet, noPort match.Bits // clauses that do not test the attribute
	candidates, marked    match.Bits
	rules                 int
}

// newPolicy makes one of `rules` clauses: of each ten, three test hosts, three networks, two ports, two host and port.
func newPolicy(t testing.TB, rules, hosts, nets int) *policyIndexes {
	p := &policyIndexes{rules: rules}
	for _, b := range []*match.Bits{&p.noHost, &p.noNet, &p.noPort, &p.candidates, &p.marked} {
		*b = match.NewBits(rules)
	}
	var hb match.HostBuilder
	var nb match.NetworkBuilder
	var pb match.PortBuilder
	var ofHost, ofNet []uint32
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for id := range uint32(rules) {
		kind := id % 10
		if testsHost := kind < 3 || kind >= 8; testsHost {
			ofHost = append(ofHost, id)
		} else {
			p.noHost.Add(id)
		}
		if testsNet := kind >= 3 && kind < 6; testsNet {
			ofNet = append(ofNet, id)
		} else {
			p.noNet.Add(id)
		}
		if testsPort := kind >= 6; testsPort {
			from := uint16(1024 + id*7%60000)
			check(pb.Add(match.PortRange{From: from, To: from + 50}, id))
		} else {
			p.noPort.Add(id)
		}
	}
	var buf []byte
	for i := range hosts {
		buf = listHost(buf[:0], i)
		check(hb.Add("."+string(buf), ofHost[i%len(ofHost)]))
	}
	for i := range nets {
		a := netip.AddrFrom4([4]byte{byte(11 + i%90), byte(i >> 8), byte(i), 0})
		check(nb.Add(netip.PrefixFrom(a, 24), ofNet[i%len(ofNet)]))
	}
	p.hosts, p.nets, p.ports = hb.Build(), nb.Build(), pb.Build()
	return p
}

// decide is what a policy does for every connection: the first clause for which every attribute holds.
func (p *policyIndexes) decide(host string, addr netip.Addr, port uint16) (uint32, bool) {
	p.candidates.Set(p.noHost)
	p.hosts.Mark(p.candidates, host)
	p.marked.Set(p.noNet)
	p.nets.Mark(p.marked, addr)
	p.candidates.And(p.marked)
	p.marked.Set(p.noPort)
	p.ports.Mark(p.marked, port)
	p.candidates.And(p.marked)
	return p.candidates.Next(0)
}

func TestLookupsDoNotAllocate(t *testing.T) {
	p := newPolicy(t, 1000, 10_000, 1000)
	s := listSet(t, 1000)
	var nb match.NetworkSetBuilder
	if err := nb.AddString("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	nets := nb.Build()
	ports, err := match.NewPortSet(match.PortRange{From: 80, To: 90})
	if err != nil {
		t.Fatal(err)
	}
	glob, err := match.CompileGlob("a*[0-9]?*.com")
	if err != nil {
		t.Fatal(err)
	}
	hit := "www." + string(listHost(nil, 77))
	addr, mapped := netip.MustParseAddr("13.0.2.9"), netip.MustParseAddr("::ffff:13.0.2.9")
	ids, sets := make([]uint32, 0, 64), make([][]uint32, 0, 64)
	for name, f := range map[string]func(){
		"decide":                     func() { p.decide(hit, addr, 443) },
		"HostIndex.AppendMatches":    func() { ids = p.hosts.AppendMatches(ids[:0], hit) },
		"HostIndex.AppendSets":       func() { sets = p.hosts.AppendSets(sets[:0], hit) },
		"HostSet.Contains":           func() { s.Contains(hit) },
		"NetworkIndex.AppendMatches": func() { ids = p.nets.AppendMatches(ids[:0], mapped) },
		"NetworkIndex.AppendSets":    func() { sets = p.nets.AppendSets(sets[:0], addr) },
		"NetworkSet.Contains":        func() { nets.Contains(addr) },
		"PortIndex.AppendMatches":    func() { ids = p.ports.AppendMatches(ids[:0], 1100) },
		"PortIndex.AppendSets":       func() { sets = p.ports.AppendSets(sets[:0], 1100) },
		"PortSet.Contains":           func() { ports.Contains(85) },
		"Glob.Match":                 func() { glob.Match("abc12x.com") },
		"Union": func() {
			sets = p.hosts.AppendSets(sets[:0], hit)
			u := match.MakeUnion(sets)
			for _, ok := u.Next(); ok; _, ok = u.Next() {
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if got := p.hosts.AppendMatches(nil, hit); len(got) != 1 {
		t.Errorf("the host that was looked up is in %v clauses, want one", got)
	}
	if got := p.nets.AppendMatches(nil, addr); len(got) != 1 {
		t.Errorf("the address that was looked up is in %v clauses, want one", got)
	}
}

// Readers share one index; the race detector watches.
func TestConcurrentReaders(t *testing.T) {
	p := newPolicy(t, 100, 1000, 100)
	var wg sync.WaitGroup
	for r := range 8 {
		wg.Go(func() {
			b := match.NewBits(100)
			var sets [][]uint32
			for i := r; i < 1000; i += 3 {
				host := string(listHost(nil, i))
				b.Reset()
				p.hosts.Mark(b, host)
				if _, ok := b.Next(0); !ok {
					t.Errorf("%s not found", host)
				}
				sets = p.nets.AppendSets(sets[:0], netip.AddrFrom4([4]byte{byte(11 + i%90), 0, byte(i), 1}))
				sets = p.ports.AppendSets(sets[:0], uint16(i*60))
			}
		})
	}
	wg.Wait()
}
