package connmodel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

var (
	hostA  = Address{"host.example", 443}
	hostB  = Address{"other.example", 8443}
	proxyA = Address{"proxy-a.corp.example", 8080}
	local  = netip.MustParseAddrPort("10.0.0.2:40000")
	peer   = netip.MustParseAddrPort("192.0.2.1:443")
	client = netip.MustParseAddrPort("10.0.0.1:1234")
)

// watch returns hooks that keep every event, and the list.
func watch() (*Hooks, *[]string) {
	list := new([]string)
	return &Hooks{Observe: func(e Event, flow func() *Flow, c *Client) {
		s := e.String()
		if flow != nil {
			f := flow()
			if f.Server != nil {
				s += " " + f.Server.State.String()
			}
		} else {
			s += " " + c.State.String()
		}
		*list = append(*list, s)
	}}, list
}

func newSession(h *Hooks) *Session {
	return NewSession(Accepted{Listener: "desk", Peer: client, Local: netip.MustParseAddrPort("10.0.0.2:3128")}, h)
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

var refused = &ConnError{Phase: PhaseDial, Side: SideHop, Hop: 1, HopName: "corp_a", Kind: KindRefused, Message: "connection refused", Blame: BlameProxy, Retryable: true}

func TestJourneyOfATunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, events := watch()
		s := newSession(h)
		s.Connected()
		s.Identified(ProtocolConnect, "alice")
		r := s.NewFlow(ProtocolConnect, hostA, time.Time{})
		time.Sleep(time.Millisecond)
		d := &Decision{Generation: 3, Rule: "partner"}
		r.Decided(d, nil)
		if err := r.BeginDial(hostA, "pool.corp", false); err != nil {
			t.Fatal(err)
		}
		bad := r.BeginAttempt("corp_a")
		hop := bad.BeginHop("corp_a", "http", proxyA)
		time.Sleep(2 * time.Millisecond)
		hop.Fail(refused)
		bad.Fail(refused)
		good := r.BeginAttempt("corp_b")
		hop = good.BeginHop("corp_b", "https", proxyA)
		time.Sleep(3 * time.Millisecond)
		hop.TCPConnected(local, peer, time.Millisecond, 2*time.Millisecond)
		if got := r.Snapshot().Server; got.State != Open || got.Peer != peer {
			t.Errorf("with the socket up the server is %v", got)
		}
		hop.TLSStarted()
		hop.TLSEstablished(&TLSInfo{Version: "TLS 1.3"}, time.Millisecond)
		hop.UsedCredential("corp")
		hop.Took(PartAuth, time.Millisecond)
		hop.Took(PartAuth, time.Millisecond)
		hop.Done()
		end := good.BeginHop("", "tcp", hostA)
		end.Done()
		good.ResolvedBy("upstream")
		good.Connected(local, peer)
		r.Replied(200, false)
		r.Replied(500, false)
		live := r.Snapshot()
		if live.Server.State != Active || live.Server.Error != nil || live.Reply.Code != 200 || live.Client.State != Active {
			t.Errorf("connected: %#v", live.Server)
		}
		r.Transferred(10, 20)
		r.ReadClosed(SideServer)
		r.WriteClosed(SideClient)
		if live := r.Snapshot(); live.Server.State != Open|CanWrite || live.Client.State != Open|CanRead || live.First != SideServer {
			t.Errorf("half closed: %v %v", live.Server, live.Client)
		}
		r.ReadClosed(SideClient)
		r.WriteClosed(SideServer)
		f := r.Close(FlowEnd{Reason: CloseServer, Up: 5, Down: 25})
		s.Close()
		s.Close()
		if f.Up != 10 || f.Down != 25 || f.Generation != 3 || f.First != SideServer || f.Client.State != Closed || f.Server.State != Closed {
			t.Errorf("%v", f)
		}
		if got := f.Server.Attempts; len(got) != 2 || got[0].Connected() || !got[1].Connected() || got[1].Hops[0].AuthRounds != 2 || got[1].Hops[0].Auth != 2*time.Millisecond || got[0].Hops[0].Total != 2*time.Millisecond {
			t.Errorf("attempts %+v", got)
		}
		if err := consistent(f); err != nil {
			t.Error(err)
		}
		expect(t, *events,
			"client_connected side=client active",
			"decision",
			"server_connect attempt=1 side=server closed",
			`server_connect_error attempt=1 hop=1 side=hop: "hop 1 (corp_a): connection refused" closed`,
			"server_connect attempt=2 side=server closed",
			"tls_start attempt=2 hop=1 side=hop open",
			"tls_established attempt=2 hop=1 side=hop open",
			"server_connected attempt=2 side=server active",
			"server_disconnected side=server closed",
			"client_disconnected side=client closed",
		)
	})
}

// The TLS upgrade is part of the attempt: its last hop is the server.
func TestUpgradeWithinTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, announced := range []bool{true, false} {
			r := newSession(nil).NewFlow(ProtocolHTTP, hostA, time.Time{})
			r.BeginDial(hostA, RouteDirect, true)
			a := r.BeginAttempt(RouteDirect)
			h := a.BeginHop("", "tcp", hostA)
			time.Sleep(time.Millisecond)
			h.TCPConnected(local, peer, 0, time.Millisecond)
			if announced {
				h.TLSStarted()
			}
			time.Sleep(time.Millisecond)
			info := &TLSInfo{Version: "TLS 1.3"}
			h.TLSEstablished(info, time.Millisecond)
			h.Done()
			if s := r.Snapshot().Server; s.State != Open {
				t.Errorf("before the attempt is decided: %v", s)
			}
			a.Connected(local, peer)
			s := r.Snapshot().Server
			if s.State != Active || s.TLSInfo != info || !s.TLSEstablished() || s.TLSSetup.Sub(s.TCPSetup) != time.Millisecond || s.TCPSetup.Sub(s.Start) != time.Millisecond {
				t.Errorf("announced %v: %#v", announced, s)
			}
		}
	})
}

func TestUpgradeAfterTheAttempt(t *testing.T) {
	h, events := watch()
	r := newSession(h).NewFlow(ProtocolConnect, hostA, time.Time{})
	r.BeginDial(hostA, RouteDirect, true)
	r.ServerTLSEstablished(&TLSInfo{}) // too early: does nothing
	a := r.BeginAttempt(RouteDirect)
	a.Connected(local, peer)
	if s := r.Snapshot().Server; s.State != Open || s.TLSEstablished() {
		t.Errorf("TLS is still to come: %v", s)
	}
	r.ServerTLSEstablished(&TLSInfo{Version: "TLS 1.2"})
	r.ServerTLSEstablished(&TLSInfo{Version: "second"})
	if s := r.Snapshot().Server; s.State != Active || s.TLSInfo.Version != "TLS 1.2" || s.TLSSetup.Before(s.TCPSetup) {
		t.Errorf("%v", s)
	}
	expect(t, *events, "server_connect attempt=1 side=server closed", "server_connected attempt=1 side=server open", "tls_established side=server active")
}

// The time of the handshake counts as TLS also where its facts are told after the attempt.
func TestUpgradeToldLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
		r.BeginDial(hostA, RouteDirect, true)
		a := r.BeginAttempt(RouteDirect)
		h := a.BeginHop("", "tcp", hostA)
		time.Sleep(time.Millisecond)
		h.TLSStarted()
		time.Sleep(2 * time.Millisecond)
		h.Took(PartTLS, 2*time.Millisecond)
		a.Connected(local, peer)
		r.ServerTLSEstablished(&TLSInfo{Version: "TLS 1.3"})
		if s := r.Snapshot().Server; s.State != Active || s.TCPSetup.Sub(s.Start) != time.Millisecond || s.TLSSetup.Sub(s.TCPSetup) != 2*time.Millisecond {
			t.Errorf("%#v", s)
		}
	})
}

// A failed upgrade leaves nothing behind on the server: the hop has it.
func TestFailedUpgrade(t *testing.T) {
	r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
	r.BeginDial(hostA, RouteDirect, true)
	a := r.BeginAttempt(RouteDirect)
	h := a.BeginHop("", "tcp", hostA)
	h.TCPConnected(local, peer, 0, 0)
	h.TLSStarted()
	h.TLSEstablished(&TLSInfo{Version: "TLS 1.2"}, time.Millisecond)
	bad := &ConnError{Phase: PhaseTLS, Side: SideServer, Kind: KindTLS, Message: "wrong name"}
	h.TLSFailed(bad, &TLSInfo{Version: "TLS 1.2"}, time.Millisecond)
	h.Fail(bad)
	a.Fail(bad)
	f := r.Close(FlowEnd{Reason: CloseFailed})
	s := f.Server
	if s.State != Closed || s.TLSEstablished() || s.TLSInfo != nil || !s.TCPSetup.IsZero() || s.Peer.IsValid() || s.Error != bad {
		t.Errorf("%#v", s)
	}
	if h := s.Attempts[0].Hops[0]; h.TLSInfo == nil || h.Peer != peer || h.Error != bad {
		t.Errorf("the hop lost what was known: %+v", h)
	}
}

func TestPlanIsFrozen(t *testing.T) {
	r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
	if err := r.BeginDial(hostA, "pool.corp", false); err != nil {
		t.Fatal(err)
	}
	if err := r.BeginDial(hostA, "pool.corp", false); err != nil {
		t.Errorf("the same plan again: %v", err)
	}
	a := r.BeginAttempt("corp_a")
	if err := r.BeginDial(hostB, "pool.corp", false); !errors.Is(err, ErrFrozen) {
		t.Errorf("while an attempt is under way: %v", err)
	}
	a.Fail(refused)
	start := r.Snapshot().Server.Start
	if err := r.BeginDial(hostB, RouteDirect, true); err != nil {
		t.Errorf("after all attempts failed: %v", err)
	}
	if s := r.Snapshot().Server; s.Address != hostB || s.Via != RouteDirect || !s.TLS || s.Start != start || len(s.Attempts) != 1 {
		t.Errorf("%#v", s)
	}
	r.BeginAttempt(RouteDirect).Connected(local, peer)
	for _, state := range []func(){func() {}, func() { r.ReadClosed(SideServer) }, func() { r.WriteClosed(SideServer) }} {
		state()
		if err := r.BeginDial(hostA, RouteDirect, false); !errors.Is(err, ErrFrozen) {
			t.Errorf("connected: %v", err)
		}
	}
	r.Close(FlowEnd{})
	if err := r.BeginDial(hostA, RouteDirect, false); !errors.Is(err, ErrFrozen) {
		t.Errorf("closed: %v", err)
	}
}

// Verbs out of place do nothing: before BeginDial, twice, and after Close, when the record is out.
func TestVerbsOutOfPlace(t *testing.T) {
	h, events := watch()
	s := newSession(h)
	r := s.NewFlow(ProtocolHTTP, hostA, time.Time{})
	early := r.BeginAttempt("x")
	early.BeginHop("x", "http", proxyA).Done()
	early.Connected(local, peer)
	early.Fail(nil)
	early.ResolvedBy("viaduct")
	r.ReadClosed(SideServer)
	r.ServerTLSEstablished(nil)
	r.RequestSent()
	r.ResponseDone()
	r.Fail(nil)
	s.Fail(nil)
	if f := r.Snapshot(); f.Server != nil || f.Error != nil || len(*events) != 0 {
		t.Fatalf("%v, %q", f, *events)
	}
	r.Requested(Request{Method: "GET", Path: "/" + strings.Repeat("x", 5000)})
	r.RequestSent()
	r.BeginDial(hostA, RouteDirect, false)
	a := r.BeginAttempt(RouteDirect)
	b := r.BeginAttempt(RouteDirect)
	open := r.BeginAttempt(RouteDirect)
	a.Connected(local, peer)
	a.Connected(netip.AddrPort{}, netip.AddrPort{})
	a.Fail(refused)
	b.Connected(netip.AddrPort{}, netip.AddrPort{}) // too slow
	if r.BeginAttempt("y").Recorder() != nil {
		t.Error("an attempt after the one that connected")
	}
	hop := open.BeginHop("x", "http", proxyA)
	r.Responded(200, time.Time{})
	r.Responded(500, time.Time{})
	r.ResponseDone()
	if !r.SetMetadata("k", "v") {
		t.Error("metadata refused")
	}
	f := r.Close(FlowEnd{Reason: CloseDone, Up: 1})
	if r.Close(FlowEnd{Reason: CloseInternal, Up: 9}) != nil {
		t.Error("a second record")
	}
	before := f.AppendJSON(nil)
	n := len(*events)
	open.Connected(local, peer)
	open.Fail(refused)
	open.ResolvedBy("x")
	hop.Took(PartDNS, 1)
	hop.TCPConnected(local, peer, 1, 1)
	hop.TLSStarted()
	hop.TLSEstablished(&TLSInfo{}, 1)
	hop.TLSFailed(refused, nil, 0)
	hop.UsedCredential("x")
	hop.Bound("x")
	hop.Done()
	hop.Fail(refused)
	r.Decided(&Decision{}, nil)
	r.Requested(Request{})
	r.RequestSent()
	r.Responded(1, time.Time{})
	r.ResponseDone()
	r.Replied(1, true)
	r.Transferred(100, 100)
	r.ReuseServer(DummyServer(hostB))
	r.ReadClosed(SideServer)
	r.WriteClosed(SideClient)
	r.ServerTLSEstablished(&TLSInfo{})
	r.Fail(refused)
	r.Panicked()
	if r.SetMetadata("late", "x") {
		t.Error("metadata after the record")
	}
	if after := f.AppendJSON(nil); string(after) != string(before) {
		t.Errorf("the record changed\n%s\n%s", before, after)
	}
	if len(*events) != n {
		t.Errorf("events after the record: %q", (*events)[n:])
	}
	if f.Server.Peer != peer || f.Server.Attempts[1].Error != errSlower || f.Server.Attempts[2].Error != errAbandoned || f.Response.Status != 200 {
		t.Errorf("%#v %+v", f.Server, f.Server.Attempts)
	}
	if len(f.Request.Path) != maxPath+3 {
		t.Errorf("path of %d octets", len(f.Request.Path))
	}
	if err := consistent(f); err != nil {
		t.Error(err)
	}
}

func TestClientTLSAndErrors(t *testing.T) {
	h, events := watch()
	s := NewSession(Accepted{Listener: "lan", Peer: client, TLS: true}, h)
	if c := s.Client(); c.State != Open || !c.TLS || c.TLSEstablished() {
		t.Errorf("%v", c)
	}
	s.TLSEstablished(&TLSInfo{SNI: "gw.example"})
	s.TLSEstablished(&TLSInfo{SNI: "second"})
	if c := s.Client(); c.State != Active || c.TLSInfo.SNI != "gw.example" || !c.TLSEstablished() {
		t.Errorf("%v", c)
	}
	s.Fail(&ConnError{Side: SideClient, Kind: KindProtocol, Message: "garbage"})
	s.Fail(&ConnError{Side: SideClient, Kind: KindReset, Message: "second"})
	s.Close()
	s.Fail(refused)
	s.TLSEstablished(&TLSInfo{})
	expect(t, *events, "tls_established side=client active", `error side=client: "client: garbage" active`, `client_disconnected side=client: "client: garbage" closed`)
}

// Several flows on one session: the client lives on, and so may the server.
func TestKeptConnections(t *testing.T) {
	h, events := watch()
	s := newSession(h)
	r := s.NewFlow(ProtocolHTTP, hostA, time.Time{})
	r.BeginDial(hostA, RouteDirect, false)
	r.BeginAttempt(RouteDirect).Connected(local, peer)
	kept := r.Snapshot().Server
	f := r.Close(FlowEnd{Reason: CloseDone, KeepServer: true, KeepClient: true})
	if f.Client.State != Active || f.Server.State != Active || !f.Server.End.IsZero() || f.End.IsZero() {
		t.Errorf("%v %v", f.Client, f.Server)
	}
	r = s.NewFlow(ProtocolHTTP, hostA, time.Time{})
	r.ReuseServer(kept)
	if got := r.Snapshot().Server; !got.Reused || got.ID != kept.ID || got.State != Active || len(got.Attempts) != 1 {
		t.Errorf("%#v", got)
	}
	r.ReadClosed(SideServer) // a half-closed server is not kept
	f = r.Close(FlowEnd{Reason: CloseDone, KeepServer: true})
	s.Close()
	if f.Server.State != Closed || f.Server.End.IsZero() || f.Client.State != Closed {
		t.Errorf("%v %v", f.Client, f.Server)
	}
	expect(t, *events, "server_connect attempt=1 side=server closed", "server_connected attempt=1 side=server active", "server_disconnected side=server closed", "client_disconnected side=client closed")
}

// A kept connection that turns out to be dead is a failed attempt, and the next is dialled.
func TestKeptConnectionIsDead(t *testing.T) {
	h, events := watch()
	s := newSession(h)
	r := s.NewFlow(ProtocolHTTP, hostA, time.Time{})
	r.ReuseFailed(refused) // nothing is reused: does nothing
	r.BeginDial(hostA, "pool.corp", false)
	r.BeginAttempt("corp_a").Connected(local, peer)
	r.ReuseFailed(refused)
	kept := r.Snapshot().Server
	r.Close(FlowEnd{Reason: CloseDone, KeepServer: true, KeepClient: true})

	*events = nil
	r = s.NewFlow(ProtocolHTTP, hostA, time.Now().Add(time.Millisecond))
	r.ReuseServer(kept)
	r.ReadClosed(SideServer)
	eof := &ConnError{Phase: PhaseRequest, Side: SideServer, Kind: KindEOF, Message: "closed before the response"}
	r.ReuseFailed(eof)
	r.ReuseFailed(eof)
	if got := r.Snapshot(); got.Server.Reused || got.Server.ID == kept.ID || got.Server.State != Closed || got.Server.Error != eof || got.First != "" || len(got.Server.Attempts) != 1 || got.Server.Attempts[0].Error != eof {
		t.Errorf("%#v, first %q, %+v", got.Server, got.First, got.Server.Attempts)
	}
	if err := r.BeginDial(hostB, "pool.corp", false); err != nil {
		t.Error(err)
	}
	r.BeginAttempt("corp_b").Connected(local, peer)
	f := r.Close(FlowEnd{Reason: CloseDone})
	if f.Server.Route != "corp_b" || f.Server.Error != nil || len(f.Server.Attempts) != 2 || !f.Server.Attempts[1].Connected() || f.Server.Address != hostB {
		t.Errorf("%#v", f.Server)
	}
	if err := consistent(f); err != nil {
		t.Error(err)
	}
	expect(t, *events, "server_disconnected side=server closed", "server_connect attempt=1 side=server closed", `server_connect_error attempt=1 side=server: "server: closed before the response" closed`,
		"server_connect attempt=2 side=server closed", "server_connected attempt=2 side=server active", "server_disconnected side=server closed")
}

func TestFlowErrorIsNotedOnItsEnd(t *testing.T) {
	for _, c := range []struct{ side, client, server Side }{{SideClient, SideClient, ""}, {SideServer, "", SideServer}, {SideHop, "", SideHop}, {SideViaduct, "", ""}} {
		r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
		r.BeginDial(hostA, RouteDirect, false)
		r.BeginAttempt(RouteDirect).Connected(local, peer)
		r.Fail(&ConnError{Side: c.side, Kind: KindReset})
		r.Fail(&ConnError{Side: SideViaduct, Kind: KindInternal})
		f := r.Close(FlowEnd{})
		if f.Error.Side != c.side || (f.Client.Error != nil) != (c.client != "") || (f.Server.Error != nil) != (c.server != "") {
			t.Errorf("side %s: flow %v, client %v, server %v", c.side, f.Error, f.Client.Error, f.Server.Error)
		}
	}
}

func TestRecordIsBounded(t *testing.T) {
	r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
	r.BeginDial(hostA, RouteDirect, false)
	for range 2 * maxAttempts {
		a := r.BeginAttempt("x")
		for range 2 * maxHops {
			a.BeginHop("x", "http", proxyA)
		}
		a.Fail(refused)
	}
	kept := 0
	for i := range 2 * maxMetadata {
		if r.SetMetadata(fmt.Sprint(i), strings.Repeat("x", 1<<20)) {
			kept++
		}
	}
	if r.SetMetadata("0", "again") != true {
		t.Error("a value cannot be replaced")
	}
	f := r.Close(FlowEnd{})
	if len(f.Server.Attempts) != maxAttempts || len(f.Server.Attempts[0].Hops) != maxHops || !f.Server.Truncated || kept != maxMetadata || len(f.Metadata["1"]) > maxText+3 {
		t.Errorf("%d attempts, %d hops, %d metadata, truncated %v", len(f.Server.Attempts), len(f.Server.Attempts[0].Hops), kept, f.Server.Truncated)
	}
}

// When somebody sets the wall clock back, a connection's times do not run backwards, also as text.
func TestTimesSurviveClockSteps(t *testing.T) {
	base := time.Now()
	if got := stamp(base); got.Before(base) || got.Sub(base) < 0 {
		t.Errorf("%v before %v", got, base)
	}
	future := time.Now().Add(time.Hour)
	s := NewSession(Accepted{Time: future}, nil)
	r := s.NewFlow(ProtocolConnect, hostA, time.Now()) // the clock was set back in between
	r.Decided(nil, nil)
	r.BeginDial(hostA, RouteDirect, false)
	r.BeginAttempt(RouteDirect).Connected(local, peer)
	f := r.Close(FlowEnd{})
	s.Close()
	if err := consistent(f); err != nil {
		t.Error(err)
	}
	c := s.Client()
	if c.End.Before(c.Start) {
		t.Errorf("client ended %v, began %v", c.End, c.Start)
	}
}

func TestLiveFlowIsSmall(t *testing.T) {
	session, recorder := unsafe.Sizeof(Session{}), unsafe.Sizeof(Recorder{})
	t.Logf("Session %d, Recorder %d (Flow %d, Server %d, Attempt %d, HopResult %d), Client %d, Connection %d octets",
		session, recorder, unsafe.Sizeof(Flow{}), unsafe.Sizeof(Server{}), unsafe.Sizeof(Attempt{}), unsafe.Sizeof(HopResult{}), unsafe.Sizeof(Client{}), unsafe.Sizeof(Connection{}))
	if session > 352 || recorder > 1280 { // size classes of the allocator
		t.Errorf("a live flow holds %d octets", session+recorder)
	}
	d := &Decision{}
	n := testing.AllocsPerRun(100, func() { tunnel(d) })
	if n > 4 { // session, its address as text, recorder, and the client of the record
		t.Errorf("a tunnel costs %v allocations", n)
	}
}

// tunnel is the life of a usual flow, through one proxy.
func tunnel(d *Decision) *Flow {
	s := NewSession(Accepted{Listener: "desk", Peer: client, Local: local, Time: time.Now()}, nil)
	s.Connected()
	s.Identified(ProtocolConnect, "")
	r := s.NewFlow(ProtocolConnect, hostA, time.Time{})
	r.Decided(d, nil)
	r.BeginDial(hostA, "upstream.corp_a", false)
	a := r.BeginAttempt("corp_a")
	h := a.BeginHop("corp_a", "http", proxyA)
	h.TCPConnected(local, peer, 0, time.Millisecond)
	h.UsedCredential("corp")
	h.Took(PartConnect, time.Millisecond)
	h.Done()
	h = a.BeginHop("", "tcp", hostA)
	h.Done()
	a.ResolvedBy("upstream")
	a.Connected(local, peer)
	r.Replied(200, false)
	r.ReadClosed(SideClient)
	r.WriteClosed(SideServer)
	r.ReadClosed(SideServer)
	r.WriteClosed(SideClient)
	f := r.Close(FlowEnd{Reason: CloseClient, Up: 517, Down: 4096})
	s.Close()
	return f
}

func BenchmarkTunnelVerbs(b *testing.B) {
	d := &Decision{}
	b.ReportAllocs()
	for b.Loop() {
		tunnel(d)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	r := newSession(nil).NewFlow(ProtocolConnect, hostA, time.Time{})
	r.BeginDial(hostA, RouteDirect, false)
	a := r.BeginAttempt(RouteDirect)
	a.BeginHop("", "tcp", hostA)
	a.Connected(local, peer)
	b.ReportAllocs()
	for b.Loop() {
		r.Snapshot()
	}
}

// What scripts said is bounded, and said to be.
func TestChoseIsBounded(t *testing.T) {
	r := NewSession(Accepted{}, nil).NewFlow(ProtocolConnect, hostA, time.Time{})
	r.Chose([]Choice{{Route: "too early"}})
	shared := &Decision{Rule: "r"}
	r.Decided(shared, nil)
	ways := make([]string, 100)
	for i := range ways {
		ways[i] = strings.Repeat("w", 5000)
	}
	all := make([]Choice, 50)
	for i := range all {
		all[i] = Choice{Route: strings.Repeat("r", 5000), Ways: ways, Error: strings.Repeat("e", 50_000), OnError: "direct"}
	}
	r.Chose(all)
	s := r.Snapshot().Decision
	if len(s.Choices) != maxChoices || len(s.Choices[0].Ways) != maxWays || len(s.Choices[0].Ways[0]) > maxName+3 || len(s.Choices[0].Error) > maxText+3 || s.Rule != "r" {
		t.Errorf("%d choices, %d ways", len(s.Choices), len(s.Choices[0].Ways))
	}
	if n := len(r.Snapshot().AppendJSON(nil)); n > MaxRecord {
		t.Errorf("a record of %d octets", n)
	}
	if len(all[0].Ways) != 100 || shared.Choices != nil {
		t.Error("what others have was changed")
	}
	r.Chose([]Choice{{Route: "pac.x", Ways: []string{"direct"}}})
	if got := r.Close(FlowEnd{}).Decision.Choices; len(got) != 1 || got[0].Ways[0] != "direct" {
		t.Errorf("%+v", got)
	}
	r.Chose(all)
}
