package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/connmodel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// flow makes a record as the router does: a tunnel by a chain of two proxies, decided by a rule.
func flow(i int, fails bool) *connmodel.Flow { return flowAt(i, fails, time.Time{}) }

func flowAt(i int, fails bool, start time.Time) *connmodel.Flow {
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	s := connmodel.NewSession(connmodel.Accepted{
		Listener: "desk", Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, byte(rng.IntN(4)), byte(rng.IntN(50))}), uint16(20000+rng.IntN(30000))),
		Local: netip.MustParseAddrPort("10.20.0.1:3128"), Time: start,
	}, nil)
	target := connmodel.Address{Host: fmt.Sprintf("host%d.example.com", rng.IntN(200)), Port: 443}
	r := s.NewFlow(connmodel.ProtocolConnect, target, time.Time{})
	s.Identified(connmodel.ProtocolConnect, fmt.Sprintf("user%d", rng.IntN(20)))
	r.Decided(&connmodel.Decision{Generation: 3, Policy: "default", Rule: "partner api", File: "/etc/viaduct/viaduct.hcl", Line: 35, Outcome: connmodel.OutcomeVia, Route: "chain.partner", Tags: []string{"partner"}}, nil)
	r.BeginDial(target, "chain.partner", false)
	at := r.BeginAttempt("corp_a > jump")
	h := at.BeginHop("corp_a", "http", connmodel.Address{Host: "proxy-a.corp.example", Port: 8080})
	h.TCPConnected(netip.MustParseAddrPort("10.20.0.1:40000"), netip.MustParseAddrPort("10.9.0.1:8080"), time.Millisecond, 2*time.Millisecond)
	h.UsedCredential("corp")
	h.Took(connmodel.PartConnect, 3*time.Millisecond)
	h.Done()
	h = at.BeginHop("jump", "socks5", connmodel.Address{Host: "jump.dmz.example", Port: 1080})
	h.Done()
	h = at.BeginHop("", "tcp", target)
	h.Done()
	end := connmodel.FlowEnd{Reason: connmodel.CloseClient, First: connmodel.SideClient, Up: int64(rng.IntN(5000)), Down: int64(rng.IntN(100000))}
	if fails {
		err := &connmodel.ConnError{Phase: connmodel.PhaseConnect, Side: connmodel.SideHop, Hop: 2, HopName: "jump", Kind: connmodel.KindDenied, Message: "socks5: connection not allowed by ruleset", Code: 2, CodeOf: "socks5", Blame: connmodel.BlameTarget}
		at.Fail(err)
		r.Fail(err)
		end = connmodel.FlowEnd{Reason: connmodel.CloseFailed}
	} else {
		at.Connected(netip.MustParseAddrPort("10.20.0.1:40000"), netip.MustParseAddrPort("10.9.0.1:8080"))
	}
	f := r.Close(end)
	s.Close()
	return f
}

// open opens a journal in a directory of the test.
func open(t testing.TB, o Options) *Journal {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir() + "/journal"
	}
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, j) })
	return j
}

func closeNow(t testing.TB, j *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Error(err)
	}
}

// await waits until cond holds.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func reader(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Skipped = func(path string, err error) { t.Errorf("skipped %s: %v", path, err) }
	return r
}

func find(t testing.TB, r Finder, q Query) (list []*connmodel.Flow) {
	t.Helper()
	if err := r.Each(t.Context(), q, func(f *connmodel.Flow) error { list = append(list, f); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}
