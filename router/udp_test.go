package router

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
	"viaduct/upstream/socks5"
	"viaduct/upstream/upstreamtest"
)

// packetEcho is a server of datagrams that sends each back, until the test ends.
func packetEcho(t testing.TB) netip.AddrPort {
	t.Helper()
	return servePackets(t, func(c *net.UDPConn, b []byte, from netip.AddrPort) { c.WriteToUDPAddrPort(b, from) })
}

func servePackets(t testing.TB, handle func(c *net.UDPConn, b []byte, from netip.AddrPort)) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			handle(c, b[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// udpClient is a client's end of an association.
type udpClient struct {
	t       testing.TB
	control net.Conn
	relay   netip.AddrPort
	*net.UDPConn
}

// askUDP asks for an association and returns the reply's code.
func (g *gateway) askUDP(announce netip.AddrPort) (control net.Conn, relay netip.AddrPort, code byte, err error) {
	c, err := net.DialTimeout("tcp", g.addr, 10*time.Second)
	if err != nil {
		return nil, relay, 0, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte("\x05\x01\x00"))
	c.Write(socks5.AppendReply(nil, 3, socks5.Addr{IP: announce.Addr(), Port: announce.Port()})) // a request looks like a reply
	b := make([]byte, 2+10)
	if _, err := io.ReadFull(c, b); err != nil {
		c.Close()
		return nil, relay, 0, err
	}
	c.SetDeadline(time.Time{})
	ip, _ := netip.AddrFromSlice(b[6:10])
	return c, netip.AddrPortFrom(ip, uint16(b[10])<<8|uint16(b[11])), b[3], nil
}

func (g *gateway) associate(t testing.TB) *udpClient {
	t.Helper()
	control, relay, code, err := g.askUDP(netip.AddrPort{})
	if err != nil || code != 0 {
		t.Fatalf("UDP ASSOCIATE: reply %d, %v", code, err)
	}
	t.Cleanup(func() { control.Close() })
	return &udpClient{t, control, relay, packetSocketOf(t)}
}

func packetSocketOf(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wire(t testing.TB, to, payload string) []byte {
	t.Helper()
	a := address(t, to)
	s, err := socks5.ParseHost(a.Host, a.Port)
	if err != nil {
		t.Fatal(err)
	}
	return append(socks5.AppendDatagramHeader(nil, s), payload...)
}

func (c *udpClient) send(to, payload string) { c.raw(wire(c.t, to, payload)) }

func (c *udpClient) raw(b []byte) {
	c.t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, c.relay); err != nil {
		c.t.Fatal(err)
	}
}

// receive waits for a datagram from the relay.
func (c *udpClient) receive() (from, payload string, err error) {
	b := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, at, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return "", "", err
	}
	if at != c.relay {
		return "", "", fmt.Errorf("a datagram from %s, not from %s", at, c.relay)
	}
	a, p, err := socks5.ParseDatagram(b[:n])
	return a.String(), string(p), err
}

// exchange sends until the answer comes: datagrams may be lost, on loopback too.
func (c *udpClient) exchange(to, payload string) (from string) {
	c.t.Helper()
	c.send(to, payload)
	for {
		from, got, err := c.receive()
		if err != nil {
			c.t.Fatalf("%s to %s: %v", payload, to, err)
		}
		if got == payload {
			return from
		}
	}
}

// nothing wants that no datagram comes before that of a target that answers.
func (c *udpClient) nothing(to string) {
	c.t.Helper()
	c.send(to, "is anything before me?")
	if _, got, err := c.receive(); err != nil || got != "is anything before me?" {
		c.t.Fatalf("%q came, %v", got, err)
	}
}

// ended waits for the end of the control connection.
func (c *udpClient) ended() {
	c.t.Helper()
	c.control.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.control.Read(make([]byte, 1)); err != io.EOF {
		c.t.Fatalf("control connection: %d bytes, %v", n, err)
	}
}

func withUDP(u UDP) func(*Options, *Config) {
	return func(_ *Options, c *Config) { c.Listeners[0].UDP = &u }
}

// flowsOf waits for n records and returns those of targets by target, and that of the association.
func (g *gateway) flowsOf(t *testing.T, n int) (targets map[string]*connmodel.Flow, association *connmodel.Flow) {
	t.Helper()
	targets = map[string]*connmodel.Flow{}
	for range n {
		g.records.next(t)
	}
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	for _, f := range g.records.flows {
		if f.Protocol != connmodel.ProtocolUDP {
			continue
		}
		if f.Target.IsZero() {
			association = f
		} else {
			targets[f.Target.String()] = f
		}
	}
	return targets, association
}

func TestUDPDirect(t *testing.T) {
	g := start(t, withUDP(UDP{}))
	one, two := packetEcho(t), packetEcho(t)
	before := measure()
	c := g.associate(t)
	if !c.relay.Addr().IsLoopback() {
		t.Fatalf("the relay is at %s", c.relay)
	}
	if from := c.exchange(one.String(), "hello"); from != one.String() {
		t.Errorf("the answer is from %s", from)
	}
	c.exchange(one.String(), "")
	c.exchange(two.String(), strings.Repeat("x", 20000))
	if from := c.exchange(fmt.Sprintf("localhost:%d", one.Port()), "by name"); from != one.String() {
		t.Errorf("the answer is from %s", from)
	}
	open := 0
	g.Each(func(f *connmodel.Flow) {
		open++
		if f.Target.String() == two.String() && (f.Up != 20000 || f.Down != 20000) {
			t.Errorf("open flow: %d up, %d down", f.Up, f.Down)
		}
	})
	if open != 4 {
		t.Errorf("%d flows are open, want three targets and the association", open)
	}
	c.control.Close()
	flows, a := g.flowsOf(t, 4)
	f := flows[one.String()]
	if f == nil || f.Up != 5 || f.Down != 5 || f.Reason != connmodel.CloseClient || f.Decision == nil || f.Decision.Rule != "test" || f.Error != nil ||
		f.Server == nil || f.Server.Route != "direct" || f.Server.Peer != one || f.Server.ResolvedBy != "literal" || f.Metadata["datagrams_up"] != "2" || f.Metadata["datagrams_down"] != "2" {
		t.Errorf("record %+v\nserver %+v", f, f.Server)
	}
	if f := flows[fmt.Sprintf("localhost:%d", one.Port())]; f == nil || f.Server.ResolvedBy != "viaduct" || f.Up != 7 {
		t.Errorf("by name: %+v", f)
	}
	if a == nil || a.Reason != connmodel.CloseClient || a.Metadata["udp_targets"] != "3" || a.Reply == nil || a.Reply.Code != 0 || a.First != connmodel.SideClient {
		t.Errorf("association %+v", a)
	}
	c.UDPConn.Close()
	before.backTo(t)
}

// Who is not the client, and what is no datagram, is dropped and counted.
func TestUDPBadDatagrams(t *testing.T) {
	g := start(t, withUDP(UDP{}))
	server := packetEcho(t)
	c := g.associate(t)
	for _, bad := range []string{"", "\x00", "\x00\x00\x00", "\x00\x00\x00\x01\x7f\x00", "\x00\x01\x00\x01\x7f\x00\x00\x01\x00\x35x", "\x00\x00\x00\x09abc", "\x00\x00\x00\x03\x00\x00\x35x",
		"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x00x", "\x00\x00\x00\x03\x02\r\n\x00\x35x"} {
		c.raw([]byte(bad))
	}
	for _, frag := range []byte{1, 0x7f, 0x81} {
		b := wire(t, server.String(), "fragment")
		b[2] = frag
		c.raw(b)
	}
	c.nothing(server.String())
	// Another program of the same machine has the same address, and another port.
	stranger := udpClient{t, c.control, c.relay, packetSocketOf(t)}
	stranger.send(server.String(), "let me in")
	c.nothing(server.String())
	c.control.Close()
	_, a := g.flowsOf(t, 2)
	m := a.Metadata
	if m["udp_dropped_malformed"] != "9" || m["udp_dropped_fragment"] != "3" || m["udp_dropped_stranger"] != "1" {
		t.Errorf("dropped: %v", m)
	}
}

// A client that says where its datagrams come from is held to it.
func TestUDPAnnouncedPort(t *testing.T) {
	g := start(t, withUDP(UDP{}))
	server := packetEcho(t)
	mine := packetSocketOf(t)
	control, relay, code, err := g.askUDP(mine.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	defer control.Close()
	stranger := udpClient{t, control, relay, packetSocketOf(t)}
	stranger.send(server.String(), "first")
	c := udpClient{t, control, relay, mine}
	c.nothing(server.String())
	control.Close()
	if _, a := g.flowsOf(t, 2); a.Metadata["udp_dropped_stranger"] != "1" {
		t.Errorf("%v", a.Metadata)
	}
}

// Each target is decided; what a rule or the guard refuses goes nowhere, and is recorded once.
func TestUDPDecisions(t *testing.T) {
	open, denied, hidden := packetEcho(t), packetEcho(t), packetEcho(t)
	var asked atomic.Int32
	g := start(t, func(_ *Options, c *Config) {
		c.Listeners[0].UDP = &UDP{}
		yes := loopbackOpen()
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			asked.Add(1)
			switch {
			case f.Protocol != connmodel.ProtocolUDP:
				t.Errorf("asked about %s", f.Protocol)
			case f.Target.Port == denied.Port():
				return &connmodel.Decision{Policy: "p", Rule: "no", File: "x.hcl", Line: 7, Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Reason: "not this one"}}, 0
			case f.Target.Port == hidden.Port():
				return &connmodel.Decision{Policy: "p", Rule: "all", Outcome: connmodel.OutcomeVia, Route: connmodel.RouteDirect}, 0
			}
			return yes, 0
		})
	})
	c := g.associate(t)
	for range 5 {
		c.send(denied.String(), "x")
		c.send(hidden.String(), "x")
		c.send(g.addr, "to ourselves")
		c.send(c.relay.String(), "to the relay")
	}
	c.nothing(open.String())
	waitFor(t, func() bool { return g.Stats().Flows == 4 }) // each is refused on a goroutine of its own
	c.control.Close()
	flows, a := g.flowsOf(t, 6)
	for target, says := range map[string]string{
		denied.String(): `denied by rule "no": not this one`, hidden.String(): "is a loopback address", g.addr: "is an address of this gateway itself",
		c.relay.String(): "is a socket of this gateway itself",
	} {
		f := flows[target]
		if f == nil || f.Error == nil || !strings.Contains(f.Error.Message, says) || f.Reason != connmodel.CloseDenied || f.Up != 0 || f.Decision == nil {
			t.Errorf("%s: %+v", target, f)
		}
	}
	if n := asked.Load(); n != 5 {
		t.Errorf("%d decisions for 5 targets", n)
	}
	if a.Metadata["udp_dropped_refused"] != "20" {
		t.Errorf("%v", a.Metadata)
	}
}

// Answers of others than those that were sent to go nowhere.
func TestUDPUnsolicited(t *testing.T) {
	where := make(chan netip.AddrPort, 10)
	server := servePackets(t, func(c *net.UDPConn, b []byte, from netip.AddrPort) {
		where <- from
		c.WriteToUDPAddrPort(b, from)
	})
	g := start(t, withUDP(UDP{}))
	c := g.associate(t)
	c.exchange(server.String(), "where am I?")
	outside := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), (<-where).Port())
	if _, err := packetSocketOf(t).WriteToUDPAddrPort([]byte("spoofed"), outside); err != nil {
		t.Fatal(err)
	}
	c.nothing(server.String())
	c.control.Close()
	if _, a := g.flowsOf(t, 2); a.Metadata["udp_dropped_unsolicited"] != "1" {
		t.Errorf("%v", a.Metadata)
	}
}

func TestUDPNotTaken(t *testing.T) {
	for name, tt := range map[string]struct {
		udp  *UDP
		says string
	}{
		"off":     {nil, "no udp block"},
		"nowhere": {&UDP{Nowhere: true}, "no route of the policy carries datagrams"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(_ *Options, c *Config) { c.Listeners[0].UDP = tt.udp })
			c, _, code, err := g.askUDP(netip.AddrPort{})
			if err != nil || code != 7 {
				t.Fatalf("reply %d, %v", code, err)
			}
			c.Close()
			f := g.records.next(t)
			if f.Error == nil || !strings.Contains(f.Error.Message, tt.says) || f.Reply == nil || f.Reply.Code != 7 {
				t.Errorf("%+v, %v", f, f.Error)
			}
		})
	}
}

func TestUDPLimits(t *testing.T) {
	g := start(t, withUDP(UDP{PerClient: 2, Targets: 3}))
	first, second := g.associate(t), g.associate(t)
	c, _, code, err := g.askUDP(netip.AddrPort{})
	if err != nil || code != 1 {
		t.Fatalf("third association: reply %d, %v", code, err)
	}
	c.Close()
	if f := g.records.next(t); f.Reason != connmodel.CloseLimit {
		t.Errorf("%+v", f)
	}
	second.control.Close()
	g.records.next(t)
	servers := []string{packetEcho(t).String(), packetEcho(t).String(), packetEcho(t).String(), packetEcho(t).String()}
	for _, s := range servers[:3] {
		first.exchange(s, "hello")
	}
	first.send(servers[3], "one too many")
	first.nothing(servers[0])
	first.control.Close()
	if flows, a := g.flowsOf(t, 4); len(flows) != 3 || a.Metadata["udp_dropped_targets"] != "1" {
		for _, f := range g.records.flows {
			t.Logf("%s %v", f.Target, f.Metadata)
		}
		t.Errorf("%d targets, %v", len(flows), a.Metadata)
	}
}

func TestUDPIdle(t *testing.T) {
	server := packetEcho(t)
	t.Run("association", func(t *testing.T) {
		g := start(t, withUDP(UDP{Idle: 200 * time.Millisecond}))
		c := g.associate(t)
		c.exchange(server.String(), "hello")
		c.ended()
		flows, a := g.flowsOf(t, 2)
		if f := flows[server.String()]; f == nil || f.Reason != connmodel.CloseIdle || a.Reason != connmodel.CloseIdle {
			t.Errorf("%+v %+v", f, a)
		}
	})
	t.Run("target", func(t *testing.T) {
		d := loopbackOpen()
		d.Timeouts.Idle = 50 * time.Millisecond
		g := start(t, func(_ *Options, c *Config) {
			c.Listeners[0].UDP = &UDP{Idle: 400 * time.Millisecond}
			c.Listeners[0].Decider = always(d)
		})
		c := g.associate(t)
		c.exchange(server.String(), "hello")
		if f := g.records.next(t); f.Reason != connmodel.CloseIdle || f.Target.String() != server.String() {
			t.Errorf("%+v", f)
		}
		c.exchange(server.String(), "hello again") // another flow
	})
}

// Associations end when the gateway drains, when an operator says so, and with a reset; a reload ends none.
func TestUDPEnds(t *testing.T) {
	server := packetEcho(t)
	for name, tt := range map[string]struct {
		end    func(g *gateway, c *udpClient)
		reason connmodel.CloseReason
	}{
		"drain": {func(g *gateway, _ *udpClient) { go shut(g.Router) }, connmodel.CloseDrained},
		"operator": {func(g *gateway, _ *udpClient) {
			g.sessions.each(func(s *session) { s.abort(connmodel.CloseAdmin) })
		}, connmodel.CloseAdmin},
		"reset":  {func(_ *gateway, c *udpClient) { abortConn(c.control) }, connmodel.CloseClientReset},
		"babble": {func(_ *gateway, c *udpClient) { c.control.Write(bytes.Repeat([]byte("x"), 70<<10)) }, connmodel.CloseLimit},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, withUDP(UDP{}))
			c := g.associate(t)
			c.exchange(server.String(), "hello")
			if err := g.Apply(g.next(func(*Config) {})); err != nil {
				t.Fatal(err)
			}
			c.exchange(server.String(), "after a reload")
			tt.end(g, c)
			flows, a := g.flowsOf(t, 2)
			if f := flows[server.String()]; f == nil || f.Reason != tt.reason || f.Generation != 0 || a == nil || a.Reason != tt.reason {
				t.Errorf("%+v\n%+v", f, a)
			}
		})
	}
}

// stuck resolves nothing until it is let go, but for what it knows.
type stuck struct {
	go_   chan struct{}
	known map[string]netip.Addr
}

func (r stuck) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, ok := r.known[host]; ok {
		return []netip.Addr{a}, nil
	}
	select {
	case <-r.go_:
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var _ resolve.Resolver = stuck{}

// A name that takes its time holds up nobody else; a few datagrams wait for it, in order.
func TestUDPSlowName(t *testing.T) {
	r := stuck{go_: make(chan struct{}), known: map[string]netip.Addr{"quick.example": netip.MustParseAddr("127.0.0.1")}}
	g := start(t, func(_ *Options, c *Config) {
		c.Listeners[0].UDP = &UDP{}
		c.Routes = routes(t, upstream.Config{Resolver: r})
	})
	server := packetEcho(t)
	c := g.associate(t)
	slow, quick := fmt.Sprintf("slow.example:%d", server.Port()), fmt.Sprintf("quick.example:%d", server.Port())
	for i := range 20 {
		c.send(slow, fmt.Sprint(i))
	}
	c.exchange(quick, "overtakes")
	close(r.go_)
	for i := range 16 {
		if _, got, err := c.receive(); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("datagram %d: %q, %v", i, got, err)
		}
	}
	c.control.Close()
	if _, a := g.flowsOf(t, 3); a.Metadata["udp_dropped_queue"] != "4" {
		t.Errorf("%v", a.Metadata)
	}
}

// An association that ends while a name is being looked up leaves nothing.
func TestUDPEndsWhileResolving(t *testing.T) {
	r := stuck{go_: make(chan struct{})}
	g := start(t, func(_ *Options, c *Config) {
		c.Listeners[0].UDP = &UDP{}
		c.Routes = routes(t, upstream.Config{Resolver: r})
	})
	before := measure()
	c := g.associate(t)
	for i := range 50 {
		c.send(fmt.Sprintf("n%d.example:53", i), "x")
	}
	c.nothingIsOpen(g, maxOpening)
	c.control.Close()
	flows, a := g.flowsOf(t, maxOpening+1)
	for name, f := range flows {
		if f.Reason != connmodel.CloseClient || f.Error == nil || f.Error.Kind != connmodel.KindCanceled {
			t.Errorf("%s: %s %v", name, f.Reason, f.Error)
		}
	}
	if a.Metadata["udp_dropped_queue"] != "18" {
		t.Errorf("%v", a.Metadata)
	}
	c.UDPConn.Close()
	before.backTo(t)
}

// nothingIsOpen waits until all datagrams that were sent have been looked at: n targets wait and the rest is dropped.
func (c *udpClient) nothingIsOpen(g *gateway, n int) {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var dropped, opening int
		g.sessions.each(func(s *session) {
			if a := s.assoc.Load(); a != nil {
				a.mu.Lock()
				dropped, opening = int(a.dropped[dropQueue]), a.opening
				a.mu.Unlock()
			}
		})
		if opening == n && dropped == 18 {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("%d targets wait, %d datagrams were dropped", opening, dropped)
		}
	}
}

// Through a hop: another gateway, which asks for a password.
func TestUDPThroughHop(t *testing.T) {
	server, other := packetEcho(t), packetEcho(t)
	for _, scheme := range []string{"socks5", "socks5h"} {
		t.Run(scheme, func(t *testing.T) {
			hop := start(t, func(_ *Options, c *Config) {
				c.Listeners[0].UDP = &UDP{}
				c.Listeners[0].Auth = onlyUser{"hopper", "secret"}
			})
			g := start(t, func(_ *Options, c *Config) {
				c.Routes = routes(t, upstream.Config{
					Upstreams: []upstream.Spec{
						{Name: "web", Scheme: "http", Address: connmodel.Address{Host: "127.0.0.1", Port: 1}},
						{Name: "hop", Scheme: scheme, Address: address(t, hop.addr), Auth: &upstream.Auth{Username: "hopper", Password: upstream.NewSecret("secret"), Credential: "hop"}},
					},
					Pools: []upstream.PoolSpec{{Name: "mixed", Members: []string{"upstream.web", "upstream.hop"}}},
				})
				c.Listeners[0].UDP = &UDP{}
				c.Listeners[0].Decider = always(via("pool.mixed"))
			})
			before := measure()
			c := g.associate(t)
			name := fmt.Sprintf("localhost:%d", other.Port())
			c.exchange(server.String(), "hello")
			c.exchange(name, "by name")
			c.exchange(server.String(), "hello again")
			if n := hop.Stats().SessionsOpen; n != 1 {
				t.Errorf("%d connections to the hop for one route", n)
			}
			c.control.Close()
			flows, _ := g.flowsOf(t, 3)
			f := flows[server.String()]
			if f == nil || f.Up != 16 || f.Down != 16 || f.Server == nil || f.Server.Route != "hop" || f.Server.Reused || f.Error != nil ||
				len(f.Server.Attempts) != 1 || f.Server.Attempts[0].Hops[0].Credential != "hop" || f.Server.Attempts[0].Hops[0].BoundAddr == "" {
				t.Errorf("%+v\n%+v", f, f.Server)
			}
			resolver := map[string]string{"socks5": "viaduct", "socks5h": "upstream"}[scheme]
			if f := flows[name]; f == nil || f.Down != 7 || f.Server == nil || !f.Server.Reused || f.Server.Address.String() != name || f.Server.ResolvedBy != resolver {
				t.Errorf("%+v\n%+v", f, f.Server)
			}
			seen := map[string]string{"socks5": other.String(), "socks5h": name}[scheme]
			if behind, _ := hop.flowsOf(t, 3); behind[server.String()] == nil || behind[seen] == nil {
				t.Errorf("the hop saw %v", behind)
			}
			c.UDPConn.Close()
			before.backTo(t)
		})
	}
}

type onlyUser struct{ user, password string }

func (u onlyUser) Verify(user, password string) bool { return user == u.user && password == u.password }

// The end of the hop's control connection ends what goes through it, and nothing else; the next datagram asks the hop again.
func TestUDPHopEnds(t *testing.T) {
	server, other := packetEcho(t), packetEcho(t)
	hop := start(t, withUDP(UDP{}))
	g := start(t, func(_ *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "hop", Scheme: "socks5h", Address: address(t, hop.addr)}}})
		c.Listeners[0].UDP = &UDP{}
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Port == other.Port() {
				return loopbackOpen(), 0
			}
			return via("upstream.hop"), 0
		})
	})
	c := g.associate(t)
	c.exchange(server.String(), "hello")
	c.exchange(other.String(), "direct")
	hop.sessions.each(func(s *session) { s.abort(connmodel.CloseAdmin) })
	f := g.records.next(t)
	if f.Target.String() != server.String() || f.Reason != connmodel.CloseServer && f.Reason != connmodel.CloseServerReset || f.Error == nil || f.Error.HopName != "hop" || f.Down != 5 {
		t.Errorf("%+v, %v", f, f.Error)
	}
	c.exchange(other.String(), "still direct")
	c.exchange(server.String(), "once more")
}

// A way that carries no datagrams refuses them, and says so.
func TestUDPWaysWithout(t *testing.T) {
	hop := start(t, nil) // takes no UDP
	d := via("upstream.web")
	g := start(t, func(_ *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{
			Upstreams: []upstream.Spec{
				{Name: "web", Scheme: "http", Address: connmodel.Address{Host: "127.0.0.1", Port: 1}},
				{Name: "hop", Scheme: "socks5h", Address: address(t, hop.addr)},
				{Name: "far", Scheme: "socks5h", Address: connmodel.Address{Host: "127.0.0.1", Port: 1}},
			},
			Chains: []upstream.ChainSpec{{Name: "two", Hops: []string{"upstream.hop", "upstream.far"}}},
		})
		c.Listeners[0].UDP = &UDP{}
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			n := *d
			n.Route = map[uint16]string{1001: "upstream.web", 1002: "chain.two", 1003: "upstream.hop", 1004: "upstream.far", 1005: connmodel.RouteDirect}[f.Target.Port]
			if f.Target.Port == 1005 {
				n.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade}
			}
			return &n, 0
		})
	})
	c := g.associate(t)
	for port := 1001; port <= 1005; port++ {
		c.send(fmt.Sprintf("192.0.2.1:%d", port), "x")
	}
	flows, _ := g.flowsOf(t, 5)
	for port, says := range map[int]string{
		1001: "upstream.web carries none", 1002: "chain.two carries none", 1003: "upstream hop relays no datagrams for us (socks5: command not supported)",
		1004: "connection refused", 1005: "asks for TLS",
	} {
		if f := flows[fmt.Sprintf("192.0.2.1:%d", port)]; f == nil || f.Error == nil || !strings.Contains(f.Error.Message, says) || f.Reason == "" {
			t.Errorf("%d: %+v %v", port, f, f.Error)
		}
	}
	if s := g.Config().Routes.Status(); s[1].Failures != 0 || s[2].Failures != 1 {
		t.Errorf("failures of hop %d, of far %d", s[1].Failures, s[2].Failures)
	}
}

// A thousand associations, each with targets direct and through a hop, leave nothing behind.
func TestUDPThousand(t *testing.T) {
	server, other := packetEcho(t), packetEcho(t)
	hop := start(t, withUDP(UDP{PerClient: 10000}))
	g := start(t, func(_ *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "hop", Scheme: "socks5h", Address: address(t, hop.addr)}}})
		c.Listeners[0].UDP = &UDP{PerClient: 10000}
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Port == other.Port() {
				return loopbackOpen(), 0
			}
			return via("upstream.hop"), 0
		})
	})
	for _, g := range []*gateway{g, hop} {
		g.records.more = make(chan struct{}, 1<<16)
	}
	before := measure()
	n := pick(200, 1000)
	if testing.Short() {
		n = 50
	}
	for i := range n {
		c := g.associate(t)
		switch i % 4 {
		case 0: // asks and goes
		case 1:
			c.exchange(other.String(), "direct")
		case 2:
			c.exchange(server.String(), "by the hop")
		case 3:
			c.send(server.String(), "no answer is waited for")
			c.send(other.String(), "nor here")
		}
		if i%8 < 4 {
			abortConn(c.control)
		} else {
			c.control.Close()
		}
		c.UDPConn.Close()
	}
	before.backTo(t)
	if n := g.Stats().SessionsOpen + hop.Stats().SessionsOpen; n != 0 {
		t.Errorf("%d sessions are open", n)
	}
	g.gate.mu.Lock()
	left := g.gate.n
	g.gate.mu.Unlock()
	g.packets.mu.Lock()
	sockets := len(g.packets.open)
	g.packets.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.doors {
		if left != 0 || sockets != 0 || d.udpOpen != 0 || len(d.udp) != 0 {
			t.Errorf("%d places, %d sockets, %d associations, %d clients are still counted", left, sockets, d.udpOpen, len(d.udp))
		}
	}
}

// An association is asked for in TLS as well; its datagrams have none.
func TestUDPOverTLSListener(t *testing.T) {
	server := packetEcho(t)
	g := startTLS(t, func(_ *Options, c *Config, _ *upstreamtest.CA) { c.Listeners[0].UDP = &UDP{} })
	control := g.mustDialTLS(t, g.trust)
	relay, err := socks5.Associate(control, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := udpClient{t, control, netip.AddrPortFrom(relay.IP, relay.Port), packetSocketOf(t)}
	c.exchange(server.String(), "hello")
	control.Close()
	flows, a := g.flowsOf(t, 2)
	if f := flows[server.String()]; f == nil || f.Reason != connmodel.CloseClient || f.Down != 5 || a == nil {
		t.Errorf("%+v", f)
	}
}

// A client that came by IPv6 gets a socket there, and reaches servers of both families.
func TestUDPOverIPv6(t *testing.T) {
	probe, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 on this machine: %v", err)
	}
	defer probe.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := probe.ReadFrom(b)
			if err != nil {
				return
			}
			probe.WriteTo(b[:n], from)
		}
	}()
	g := start(t, func(_ *Options, c *Config) {
		c.Listeners[0].Address = "[::1]:0"
		c.Listeners[0].UDP = &UDP{}
	})
	control := g.dial(t)
	relay, err := socks5.Associate(control, nil)
	if err != nil || relay.IP != netip.IPv6Loopback() {
		t.Fatalf("%v, %v", relay, err)
	}
	mine, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	c := udpClient{t, control, netip.AddrPortFrom(relay.IP, relay.Port), mine}
	for _, to := range []string{packetEcho(t).String(), probe.LocalAddr().String()} {
		if from := c.exchange(to, "hello"); from != to {
			t.Errorf("%s answers as %s", to, from)
		}
	}
}
