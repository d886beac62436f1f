package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// fixed is a resolver with a few names.
type fixed map[string][]netip.Addr

func (f fixed) Lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if a, ok := f[host]; ok {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func ips(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestInterleave(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"::1 ::2 ::3 1.1.1.1 1.1.1.2", "::1 1.1.1.1 ::2 1.1.1.2 ::3"},
		{"1.1.1.1 1.1.1.2 1.1.1.3 ::1", "1.1.1.1 ::1 1.1.1.2 1.1.1.3"},
		{"::1 ::2", "::1 ::2"},
		{"1.1.1.1 ::1", "1.1.1.1 ::1"},
	} {
		got := fmt.Sprint(interleave(ips(strings.Fields(c.in)...)))
		if got != "["+c.want+"]" {
			t.Errorf("%s became %s, want %s", c.in, got, c.want)
		}
	}
}

// TestHappyEyeballs has an address that swallows every packet first.
func TestHappyEyeballs(t *testing.T) {
	hole := netip.MustParseAddrPort(ut.BlackHole(t))
	l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.99"), hole.Port()).String())
	if err != nil {
		t.Skipf("the port of the black hole is in use at 127.0.0.99: %v", err)
	}
	defer l.Close()
	r := recorder(connmodel.Address{Host: "two.example", Port: hole.Port()})
	start := time.Now()
	c, cerr := table(t, Config{Resolver: fixed{"two.example": {hole.Addr(), netip.MustParseAddr("127.0.0.99")}}}).Dial(t.Context(),
		&Request{Route: "direct", Target: connmodel.Address{Host: "two.example", Port: hole.Port()}}, r)
	if cerr != nil {
		t.Fatal(cerr)
	}
	defer c.Close()
	if took := time.Since(start); took < stagger-10*time.Millisecond || took > stagger+5*time.Second {
		t.Errorf("took %v; the second address is due after %v", took, stagger)
	}
	if s := r.Snapshot().Server; s.Peer.Addr().String() != "127.0.0.99" || s.ResolvedBy != "viaduct" {
		t.Errorf("peer %v, resolved by %q", s.Peer, s.ResolvedBy)
	}
}

// TestRefusedAddressIsPassedOver at once, without waiting for the delay.
func TestRefusedAddressIsPassedOver(t *testing.T) {
	to := listen(t, echo)
	var addrs []netip.Addr
	for i := range byte(maxAddresses - 1) {
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 77 + i}))
	}
	start := time.Now()
	c, err := table(t, Config{}).Dial(t.Context(), &Request{Route: "direct", Target: connmodel.Address{Host: "x.example", Port: to.Port},
		Addrs: append(addrs, netip.MustParseAddr("127.0.0.1"))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if took := time.Since(start); took > time.Duration(len(addrs)/2)*stagger {
		t.Errorf("took %v", took)
	}
}

func TestGuardIsAskedForEveryAddress(t *testing.T) {
	to := listen(t, echo)
	_, s5 := startProxy(t, nil, "s5", "socks5", ut.Options{})
	_, web := startProxy(t, nil, "web", "http", ut.Options{})
	tab := table(t, Config{Upstreams: []Spec{s5, web}})
	no := errors.New("127.0.0.7 is a loopback address")
	for _, c := range []struct {
		name, route, host string
		addrs             string
		asked             string
		denied            bool
	}{
		{"literal, direct", "direct", "127.0.0.7", "", "[127.0.0.7]", true},
		{"literal, by a proxy that takes names", "upstream.web", "127.0.0.7", "", "[127.0.0.7]", true},
		{"all addresses refused", "direct", "x.example", "127.0.0.7 127.0.0.8", "[127.0.0.7 127.0.0.8]", true},
		{"one of two allowed", "direct", "x.example", "127.0.0.7 127.0.0.1", "[127.0.0.7 127.0.0.1]", false},
		{"told to a socks5 proxy", "upstream.s5", "x.example", "127.0.0.7 127.0.0.1", "[127.0.0.7 127.0.0.1]", false},
		{"all refused before a socks5 proxy is told", "upstream.s5", "x.example", "127.0.0.7 127.0.0.8", "[127.0.0.7 127.0.0.8]", true},
		{"the proxy itself is not asked about", "upstream.s5", "127.0.0.1", "", "[127.0.0.1]", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []netip.Addr
			conn, err := tab.Dial(t.Context(), &Request{Route: c.route, Target: connmodel.Address{Host: c.host, Port: to.Port}, Addrs: ips(strings.Fields(c.addrs)...),
				Check: func(a netip.Addr) error {
					asked = append(asked, a)
					if a == netip.MustParseAddr("127.0.0.1") {
						return nil
					}
					return no
				}}, nil)
			if fmt.Sprint(asked) != c.asked {
				t.Errorf("asked for %v, want %s", asked, c.asked)
			}
			switch {
			case err == nil && c.denied:
				t.Error("connected")
			case err != nil && !c.denied:
				t.Error(err)
			case err != nil && (err.Kind != connmodel.KindDenied || err.Side != connmodel.SideViaduct || err.Retryable || !errors.Is(err, no)):
				t.Errorf("%+v", err)
			}
			if conn != nil {
				conn.Close()
			}
		})
	}
}

func TestWhoResolves(t *testing.T) {
	to := listen(t, echo)
	host := "server.example"
	name := connmodel.Address{Host: host, Port: to.Port}
	o := ut.Options{Hosts: map[string]string{name.String(): to.String()}}
	for _, c := range []struct {
		scheme string
		local  bool
		by     string
	}{{"http", false, "upstream"}, {"https", false, "upstream"}, {"socks4", false, "viaduct"}, {"socks4a", false, "upstream"},
		{"socks5", false, "viaduct"}, {"socks5h", false, "upstream"}, {"http", true, "viaduct"}, {"socks5h", true, "viaduct"}} {
		t.Run(fmt.Sprintf("%s local=%v", c.scheme, c.local), func(t *testing.T) {
			p, s := startProxy(t, ut.MustCA(t), "p", c.scheme, o)
			r := recorder(name)
			tab := table(t, Config{Upstreams: []Spec{s}, Resolver: fixed{host: ips("2001:db8::1", "127.0.0.1")}})
			want := to.String()
			q := &Request{Route: "upstream.p", Target: name, LocalResolve: c.local, Check: func(a netip.Addr) error {
				if a.Is6() {
					return errors.New("not this one")
				}
				return nil
			}}
			if c.by == "upstream" {
				want = name.String()
			}
			conn, err := tab.Dial(t.Context(), q, r)
			if err != nil {
				t.Fatal(err)
			}
			say(t, conn, "hello")
			conn.Close()
			if got := p.Targets(); len(got) != 1 || got[0] != want {
				t.Errorf("the proxy was asked for %v, want %s", got, want)
			}
			snap := r.Snapshot().Server
			if snap.ResolvedBy != c.by || (snap.Attempts[0].Hops[1].DNS > 0) != (c.by == "viaduct") {
				t.Errorf("resolved by %q in %v, want %q", snap.ResolvedBy, snap.Attempts[0].Hops[1].DNS, c.by)
			}
		})
	}
}

func TestNamesThatDoNotResolve(t *testing.T) {
	_, s5 := startProxy(t, nil, "s5", "socks5", ut.Options{})
	lost := Spec{Name: "lost", Scheme: "http", Address: connmodel.Address{Host: "proxy.invalid", Port: 3128}}
	tab := table(t, Config{Upstreams: []Spec{s5, lost}, Resolver: fixed{"v6.example": ips("2001:db8::1")}})
	for _, c := range []struct {
		route, host string
		side        connmodel.Side
		hop         int
		blame       connmodel.Blame
	}{
		{"direct", "nowhere.invalid", connmodel.SideServer, 0, connmodel.BlameTarget},
		{"upstream.s5", "nowhere.invalid", connmodel.SideServer, 0, connmodel.BlameTarget},
		{"upstream.lost", "nowhere.invalid", connmodel.SideHop, 1, connmodel.BlameProxy},
	} {
		_, err := tab.Dial(t.Context(), &Request{Route: c.route, Target: connmodel.Address{Host: c.host, Port: 80}}, nil)
		if err == nil || err.Kind != connmodel.KindDNS || err.Phase != connmodel.PhaseResolve || err.Side != c.side || err.Hop != c.hop || err.Blame != c.blame {
			t.Errorf("%s to %s: %+v", c.route, c.host, err)
		}
	}
}

// TestCancel ends a dial in every phase in which it can wait.
func TestCancel(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	silent := listen(t, func(c net.Conn) {
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	})
	_, mute := startProxy(t, ca, "mute", "http", ut.Options{Script: []ut.Behaviour{ut.SilenceAfterRequest}})
	_, mute5 := startProxy(t, ca, "mute5", "socks5h", ut.Options{Script: []ut.Behaviour{ut.Silence}})
	tab := table(t, Config{Upstreams: []Spec{mute, mute5, {Name: "notls", Scheme: "https", Address: silent},
		{Name: "hole", Scheme: "http", Address: addr(t, ut.BlackHole(t))}}})
	for _, route := range []string{"upstream.mute", "upstream.mute5", "upstream.notls", "upstream.hole"} {
		t.Run(route, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r := recorder(addr(t, origin.Addr()))
			var err *connmodel.ConnError
			var done sync.WaitGroup
			done.Go(func() {
				_, err = tab.Dial(ctx, &Request{Route: route, Target: addr(t, origin.Addr())}, r)
			})
			for { // until the hop is being spoken to
				if s := r.Snapshot().Server; s != nil && len(s.Attempts) == 1 && len(s.Attempts[0].Hops) == 1 &&
					(s.Attempts[0].Hops[0].Peer.IsValid() || route == "upstream.hole") {
					break
				}
				time.Sleep(time.Millisecond)
			}
			start := time.Now()
			cancel()
			done.Wait()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v to give up", took)
			}
			if err == nil || err.Kind != connmodel.KindCanceled || err.Blame != connmodel.BlameNobody || err.Retryable {
				t.Errorf("%+v", err)
			}
			if at := r.Snapshot().Server.Attempts; len(at) != 1 || at[0].Error == nil {
				t.Errorf("attempts %+v", at)
			}
		})
	}
	for _, u := range tab.Status() {
		if u.Open != 0 || u.Failures != 0 {
			t.Errorf("%+v", u)
		}
	}
}

func TestDeadlineIsForEverything(t *testing.T) {
	_, mute := startProxy(t, nil, "mute", "http", ut.Options{Script: []ut.Behaviour{ut.SilenceAfterRequest}})
	tab := table(t, Config{Upstreams: []Spec{mute}})
	start := time.Now()
	_, err := tab.Dial(t.Context(), &Request{Route: "upstream.mute", Target: connmodel.Address{Host: "x.example", Port: 1}, Deadline: start.Add(100 * time.Millisecond),
		Retry: &connmodel.Retry{Attempts: 5}}, nil)
	if took := time.Since(start); err == nil || err.Kind != connmodel.KindTimeout || took > 5*time.Second {
		t.Errorf("after %v: %+v", took, err)
	}
	if err.Blame != connmodel.BlameNobody {
		t.Errorf("100 ms of silence are held against %q", err.Blame)
	}
}

// TestNoDeadlineIsLeft: the tunnel lives on when all deadlines of the dial have passed.
func TestNoDeadlineIsLeft(t *testing.T) {
	to := listen(t, echo)
	ca := ut.MustCA(t)
	for _, scheme := range schemes {
		_, s := startProxy(t, ca, "p", scheme, ut.Options{})
		s.Timeouts = HopTimeouts{Dial: 150 * time.Millisecond, TLS: 150 * time.Millisecond, Handshake: 150 * time.Millisecond}
		ctx, cancel := context.WithCancel(t.Context())
		deadline := time.Now().Add(200 * time.Millisecond)
		c, err := table(t, Config{Upstreams: []Spec{s}}).Dial(ctx, &Request{Route: "upstream.p", Target: to, Deadline: deadline}, nil)
		cancel() // the end of the dial's context is not the end of the tunnel
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		read := make(chan error, 1)
		go func() { _, err := c.Conn.Read(b); read <- err }()
		select {
		case err := <-read:
			t.Errorf("%s: %v", scheme, err)
		case <-time.After(time.Until(deadline) + 50*time.Millisecond):
		}
		c.Conn.Write([]byte("x"))
		if err := <-read; err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		c.Close()
	}
}

func TestSocketOptions(t *testing.T) {
	to := listen(t, echo)
	from := netip.MustParseAddr("127.0.0.5")
	r := recorder(to)
	c, err := table(t, Config{Direct: DirectSpec{SourceAddress: from, KeepAlive: 42 * time.Second}}).Dial(t.Context(), &Request{Route: "direct", Target: to}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := r.Snapshot().Server.Local.Addr(); got != from {
		t.Errorf("connected from %v", got)
	}
	raw, _ := c.Conn.(*net.TCPConn).SyscallConn()
	raw.Control(func(fd uintptr) {
		on, _ := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		idle, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
		if on != 1 || idle != 42 {
			t.Errorf("keepalive %d, idle %d", on, idle)
		}
	})
	_, err = table(t, Config{Direct: DirectSpec{SourceAddress: netip.MustParseAddr("::1")}}).Dial(t.Context(), &Request{Route: "direct", Target: to}, nil)
	if err == nil || err.Kind != connmodel.KindUnreachable || err.Blame != connmodel.BlameLocal {
		t.Errorf("from IPv6 to IPv4: %+v", err)
	}
	_, err = table(t, Config{Direct: DirectSpec{Interface: "nosuch0"}}).Dial(t.Context(), &Request{Route: "direct", Target: to}, nil)
	if err == nil || err.Blame != connmodel.BlameLocal || !strings.Contains(err.Message, "interface") && err.Kind != connmodel.KindDenied {
		t.Errorf("by an interface that does not exist: %+v", err)
	}
	lo, err := table(t, Config{Direct: DirectSpec{Interface: "lo"}}).Dial(t.Context(), &Request{Route: "direct", Target: to}, nil)
	if err != nil {
		if err.Kind == connmodel.KindDenied {
			t.Skip("no right to bind to an interface")
		}
		t.Fatal(err)
	}
	say(t, lo, "by lo")
	lo.Close()
}

func TestManyAtOnce(t *testing.T) {
	ca := ut.MustCA(t)
	to := listen(t, echo)
	_, a := startProxy(t, ca, "a", "https", ut.Options{})
	_, b := startProxy(t, ca, "b", "socks5h", ut.Options{})
	tab := table(t, Config{Upstreams: []Spec{a, b}, Chains: []ChainSpec{{"c", []string{"upstream.a", "upstream.b"}}},
		Pools: []PoolSpec{{Name: "p", Members: []string{"chain.c", "upstream.a", "upstream.b"}, Select: SelectRoundRobin}}})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%10 == 9 {
				cancel()
			}
			r := recorder(to)
			c, err := tab.Dial(ctx, &Request{Route: "pool.p", Target: to}, r)
			if i%10 == 9 {
				if err == nil || err.Kind != connmodel.KindCanceled {
					t.Errorf("canceled: %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			say(t, c, fmt.Sprint("connection ", i))
			c.Close()
			c.Close()
		})
	}
	wg.Wait()
	for _, u := range tab.Status() {
		if u.Open != 0 {
			t.Errorf("%s has %d connections open", u.Name, u.Open)
		}
	}
	for _, m := range tab.Pools()[0].Members {
		if m.Open != 0 || m.State != StateHealthy {
			t.Errorf("%+v", m)
		}
	}
}
