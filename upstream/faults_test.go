package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// TestSilentTargetDoesNotEject: a target that swallows packets makes the proxy silent, again and again; only silence about
// several targets is held against the proxy.
func TestSilentTargetDoesNotEject(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Retry: &connmodel.Retry{Attempts: 1}}, ut.Options{Script: []ut.Behaviour{ut.SilenceAfterRequest}})
	for i := range f.config.Upstreams {
		f.config.Upstreams[i].Timeouts.Handshake = 20 * time.Millisecond
	}
	tab := table(t, f.config)
	dial := func(port uint16) {
		if _, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: connmodel.Address{Host: "hole.example", Port: port}}, nil); err == nil || err.Kind != connmodel.KindTimeout {
			t.Fatalf("%+v", err)
		}
	}
	for range 5 {
		dial(1)
	}
	if m := tab.Pools()[0].Members[0]; m.State != StateHealthy {
		t.Errorf("ejected for one target: %+v", m)
	}
	dial(2)
	dial(3)
	if m := tab.Pools()[0].Members[0]; m.State != StateEjected {
		t.Errorf("not ejected for three: %+v", m)
	}
}

// TestRejectedCredentialsAreShownOnce, whatever the retry rules say: accounts get locked.
func TestRejectedCredentialsAreShownOnce(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{}, ut.Options{})
	p, jump := startProxy(t, nil, "jump", "socks5h", ut.Options{User: "user", Password: "right"})
	jump.Auth.Password = NewSecret("wrong")
	f.config.Upstreams = append(f.config.Upstreams, jump)
	f.config.Chains = []ChainSpec{{"c", []string{"pool.pool", "upstream.jump"}}}
	tab := table(t, f.config)
	for i, route := range []string{"chain.c", "upstream.jump"} {
		_, err := tab.Dial(t.Context(), &Request{Route: route, Target: f.to, Retry: &connmodel.Retry{Attempts: 5, Backoff: time.Millisecond}}, nil)
		if err == nil || err.Kind != connmodel.KindAuth || err.HopName != "jump" {
			t.Fatalf("%+v", err)
		}
		if n := len(p.Requests()); n != i+1 {
			t.Errorf("%s: shown %d times in all", route, n)
		}
	}
}

// TestLongEarlyBytes come with the first hop's answer, more than the next handshake reads at once: none is lost. (The second
// hop's answer is among them: it was asked before it could know.)
func TestLongEarlyBytes(t *testing.T) {
	tail := bytes.Repeat([]byte("0123456789"), 300)
	answers := "HTTP/1.1 200 OK\r\n\r\n" + "\x00\x5a\x00\x00\x00\x00\x00\x00" + string(tail)
	first := listen(t, func(c net.Conn) {
		c.Read(make([]byte, 1024))
		io.WriteString(c, answers)
		io.Copy(io.Discard, c)
	})
	tab := table(t, Config{Upstreams: []Spec{{Name: "a", Scheme: "http", Address: first},
		{Name: "b", Scheme: "socks4", Address: connmodel.Address{Host: "10.9.9.9", Port: 1080}}},
		Chains: []ChainSpec{{"c", []string{"upstream.a", "upstream.b"}}}})
	c, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: connmodel.Address{Host: "10.9.9.8", Port: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := append([]byte(nil), c.Early...)
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	rest := make([]byte, len(tail)-len(got))
	if _, err := io.ReadFull(c, rest); err != nil {
		t.Fatalf("%d of %d bytes came: %v", len(got), len(tail), err)
	}
	if got = append(got, rest...); !bytes.Equal(got, tail) {
		t.Errorf("bytes were lost or changed: %d came", len(got))
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

// TestFailuresLeaveNothingOpen: hundreds of dials that fail everywhere on the way hold no descriptor afterwards.
func TestFailuresLeaveNothingOpen(t *testing.T) {
	ca := ut.MustCA(t)
	c := Config{}
	var routes []string
	for _, scheme := range schemes {
		for _, b := range []ut.Behaviour{ut.Junk, ut.HalfReply, ut.CloseAtOnce, ut.ResetAfterRequest} {
			_, s := startProxy(t, ca, fmt.Sprintf("p%d", len(c.Upstreams)), scheme, ut.Options{Script: []ut.Behaviour{b}})
			c.Upstreams = append(c.Upstreams, s)
			routes = append(routes, "upstream."+s.Name)
		}
	}
	gone := addr(t, ut.Refused(t))
	c.Upstreams = append(c.Upstreams, Spec{Name: "gone", Scheme: "http", Address: gone}, Spec{Name: "plain", Scheme: "https", Address: listen(t, echo)})
	routes = append(routes, "upstream.gone", "upstream.plain")
	tab := table(t, c)
	round := func() {
		for _, route := range routes {
			for range 10 {
				if _, err := tab.Dial(t.Context(), &Request{Route: route, Target: connmodel.Address{Host: "10.9.9.9", Port: 1}}, nil); err == nil {
					t.Fatalf("%s connected", route)
				}
			}
		}
	}
	round()
	before := openFiles(t)
	round()
	deadline := time.Now().Add(5 * time.Second)
	for openFiles(t) > before+5 { // the proxies' ends close a moment later
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after", before, openFiles(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, u := range tab.Status() {
		if u.Open != 0 || u.Attempts != 20 || u.Failures != 20 {
			t.Errorf("%s: %+v", u.Name, u)
		}
	}
}

// TestPanicGivesBack: a panic below Dial goes on, and leaves no connection, no count and no attempt without end.
func TestPanicGivesBack(t *testing.T) {
	f := newFarm(t, 1, PoolSpec{}, ut.Options{})
	f.config.Upstreams[0].MaxConnections = 1
	tab := table(t, f.config)
	r := recorder(f.to)
	func() {
		defer func() {
			if p := recover(); p != "guard" {
				t.Errorf("recovered %v", p)
			}
		}()
		tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to, Check: func(netip.Addr) error { panic("guard") }}, r)
	}()
	if at := r.Snapshot().Server.Attempts; len(at) != 1 || at[0].Error == nil || at[0].Error.Kind != connmodel.KindInternal {
		t.Errorf("attempts %+v", at)
	}
	c, err := f.dial(t.Context(), tab)
	if err != nil {
		t.Fatalf("the place is still taken: %v", err)
	}
	c.Close()
	if m := tab.Pools()[0].Members[0]; m.Open != 0 {
		t.Errorf("%+v", m)
	}
}
