package upstream

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

func awaitReach(t *testing.T, r *Reach, to connmodel.Address, want bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for r.Reachable(to) != want {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestReach(t *testing.T) {
	p := ut.NewHTTP(t, ut.Options{})
	up, down := addr(t, p.Addr()), addr(t, ut.Refused(t))
	nowhere := connmodel.Address{Host: "nowhere.example", Port: 80}
	var said atomic.Int32
	r := NewReach(ReachSpec{Addresses: []connmodel.Address{up, down, nowhere, up}, Changed: func(ReachStatus) { said.Add(1) },
		Resolver: lookupFunc(func(context.Context, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		})}, nil)
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r.Await(ctx)
	if !r.Reachable(up) || r.Reachable(down) || r.Reachable(nowhere) || r.Reachable(connmodel.Address{Host: "other.example", Port: 1}) {
		t.Errorf("%+v", r.Status())
	}
	if n := said.Load(); n != 3 {
		t.Errorf("told %d times", n)
	}
	for _, s := range r.Status() {
		want := map[connmodel.Address]string{up: "", down: "connection refused", nowhere: "there is no host named"}[s.Address]
		if !s.Known || s.Since.IsZero() || s.At.IsZero() || (s.Error == "") != (want == "") || !strings.Contains(s.Error, want) {
			t.Errorf("%+v", s)
		}
	}
	if n := testing.AllocsPerRun(100, func() { r.Reachable(up); r.Reachable(down) }); n != 0 {
		t.Errorf("asking allocates %v times", n)
	}
	p.Down() // one failure is doubted, two are not
	r.NetworkChanged()
	awaitReach(t, r, up, false)
	if s := r.Status(); s[0].Tries+s[1].Tries+s[2].Tries < 6 {
		t.Errorf("%+v", s)
	}
	if err := p.Up(); err != nil {
		t.Fatal(err)
	}
	r.NetworkChanged()
	awaitReach(t, r, up, true)
}

// TestReachOverReload: what is known of an address goes on, what is not asked any more ends, and what is left holds what was known.
func TestReachOverReload(t *testing.T) {
	at := addr(t, ut.NewHTTP(t, ut.Options{}).Addr())
	other := addr(t, ut.Refused(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a := NewReach(ReachSpec{Addresses: []connmodel.Address{at, other}}, nil)
	a.Await(ctx)
	b := NewReach(ReachSpec{Addresses: []connmodel.Address{at}}, a)
	if !b.Reachable(at) || b.Status()[0].Tries != 1 || b.probes[at] != a.probes[at] {
		t.Errorf("%+v", b.Status())
	}
	a.Close()
	a.Close()
	if !a.Reachable(at) {
		t.Error("a flow of the configuration before knows nothing any more")
	}
	b.NetworkChanged()
	deadline := time.Now().Add(20 * time.Second)
	for b.Status()[0].Tries < 2 {
		if time.Now().After(deadline) {
			t.Fatal("it is not tried any more")
		}
		time.Sleep(5 * time.Millisecond)
	}
	c := NewReach(ReachSpec{Addresses: []connmodel.Address{at}, Direct: DirectSpec{SourceAddress: netip.MustParseAddr("127.0.0.1")}}, b)
	if c.probes[at] == b.probes[at] {
		t.Error("other sockets, and the same result")
	}
	w := NewReach(ReachSpec{Addresses: []connmodel.Address{at}, Ways: map[connmodel.Address]ReachWay{at: {Direct: DirectSpec{SourceAddress: netip.MustParseAddr("127.0.0.1")}}}}, c)
	if w.probes[at] != c.probes[at] {
		t.Error("the same sockets, and nothing is known")
	}
	w.Close()
	b.Close()
	if d := NewReach(ReachSpec{Addresses: []connmodel.Address{at}}, b); d.probes[at] == b.probes[at] {
		t.Error("what has ended goes on")
	} else {
		d.Close()
	}
	c.Close()
}

// TestReachOfOurselves says nothing about the network, by whatever name.
func TestReachOfOurselves(t *testing.T) {
	at := addr(t, ut.NewHTTP(t, ut.Options{}).Addr())
	named := connmodel.Address{Host: "me.example", Port: at.Port}
	spec := ReachSpec{Owns: func(ap netip.AddrPort) bool { return ap.Port() == at.Port },
		Resolver: lookupFunc(func(context.Context, string) ([]netip.Addr, error) { return ips("127.0.0.1"), nil })}
	for _, to := range []connmodel.Address{at, named} {
		if s := TryReach(t.Context(), spec, to); s.Reachable || !strings.Contains(s.Error, "is an address of this gateway itself") {
			t.Errorf("%+v", s)
		}
	}
}

// TestReachIsBounded: what swallows packets is given up, and an end in the middle of a try is at once.
func TestReachIsBounded(t *testing.T) {
	hole := addr(t, ut.BlackHole(t))
	start := time.Now()
	if s := TryReach(t.Context(), ReachSpec{}, hole); s.Reachable || time.Since(start) > 15*time.Second {
		t.Errorf("%+v after %v", s, time.Since(start))
	}
	r := NewReach(ReachSpec{Addresses: []connmodel.Address{hole}}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	r.Await(ctx)
	cancel()
	if r.Reachable(hole) || r.Status()[0].Known {
		t.Errorf("%+v", r.Status())
	}
	r.Close()
}
