package router

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/connmodel"
	"viaduct/upstream"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// loopbackOpen is a decision that lets flows reach servers on this machine.
func loopbackOpen() *connmodel.Decision {
	return &connmodel.Decision{
		Policy: "default", Rule: "test", File: "test.hcl", Line: 1, Outcome: connmodel.OutcomeVia, Route: connmodel.RouteDirect,
		AllowAddresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, AllowLocalhost: true,
	}
}

func always(d *connmodel.Decision) connmodel.Decider {
	return connmodel.DeciderFunc(func(*connmodel.Facts) (*connmodel.Decision, connmodel.Need) { return d, 0 })
}

// memory keeps records for a test to look at.
type memory struct {
	mu    sync.Mutex
	flows []*connmodel.Flow
	more  chan struct{}
}

func newMemory() *memory { return &memory{more: make(chan struct{}, 10000)} }

func (m *memory) Record(f *connmodel.Flow) {
	m.mu.Lock()
	m.flows = append(m.flows, f)
	m.mu.Unlock()
	m.more <- struct{}{}
}

// next waits for one more record and returns the newest.
func (m *memory) next(t *testing.T) *connmodel.Flow {
	t.Helper()
	select {
	case <-m.more:
	case <-time.After(30 * time.Second):
		t.Fatal("no record came")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flows[len(m.flows)-1]
}

type gateway struct {
	*Router
	addr    string
	records *memory
}

// start runs a gateway with one listener that tests can change before.
func start(t *testing.T, change func(*Options, *Config)) *gateway {
	t.Helper()
	table, err := upstream.NewTable(upstream.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	records := newMemory()
	o := Options{Records: records}
	c := Config{Generation: 1, Routes: table, Listeners: []Listener{{
		Name: "desk", Network: "tcp", Address: "127.0.0.1:0", Protocols: AllProtocols, Decider: always(loopbackOpen()),
	}}}
	if change != nil {
		change(&o, &c)
	}
	kept := keepFacts(&o, &c)
	r := New(o)
	if err := r.Apply(&c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.Shutdown(ctx)
		c.Routes.Close()
		if n := r.Stats().Panics; n != 0 {
			t.Errorf("%d panics", n)
		}
		for _, wrong := range kept.report() {
			t.Errorf("a record does not give back the facts of its decision: %s", wrong)
		}
	})
	return &gateway{Router: r, addr: r.Addrs()["desk"].String(), records: records}
}

func (g *gateway) client(t *testing.T) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g.addr})}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func (g *gateway) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestPlainRequestsShareConnections(t *testing.T) {
	var mu sync.Mutex
	peers := map[string]bool{}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s via=%q pa=%q body=%q", r.Method, r.URL.Path, r.Header.Get("Via"), r.Header.Get("Proxy-Authorization"), body)
	}))
	defer origin.Close()
	g := start(t, nil)
	c := g.client(t)
	for i := range 3 {
		req, _ := http.NewRequest("POST", origin.URL+"/a", strings.NewReader("hello"))
		req.Header.Set("Proxy-Authorization", "Basic Zm9vOmJhcg==")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := `POST /a via="1.1 ` + g.name + `" pa="" body="hello"`
		if string(body) != want {
			t.Fatalf("request %d: got %s, want %s", i, body, want)
		}
		f := g.records.next(t)
		if f.Reason != connmodel.CloseDone || f.Up != 5 || f.Down != int64(len(want)) || f.Response.Status != 200 || f.Request.Path != "/a" {
			t.Errorf("record %d: reason %s, up %d, down %d", i, f.Reason, f.Up, f.Down)
		}
		if reused := f.Server.Reused; reused != (i > 0) {
			t.Errorf("record %d: reused %v", i, reused)
		}
	}
	if len(peers) != 1 {
		t.Errorf("the origin saw %d connections, want 1", len(peers))
	}
}

func TestConnectTunnel(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") }))
	defer origin.Close()
	g := start(t, nil)
	tr := origin.Client().Transport.(*http.Transport)
	tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: g.addr})
	resp, err := origin.Client().Get(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "secret" {
		t.Fatalf("got %q", body)
	}
	tr.CloseIdleConnections()
	f := g.records.next(t)
	orderly := (f.Reason == connmodel.CloseClient || f.Reason == connmodel.CloseServer) && f.Error == nil // close_notify travels before FIN
	left := f.Reason == connmodel.CloseClientReset                                                        // the server's close_notify came when the client had closed its socket
	if !orderly && !left || f.Up == 0 || f.Down == 0 {
		t.Errorf("record: %s error %v up %d down %d", f.Reason, f.Error, f.Up, f.Down)
	}
	if n := len(f.Server.Attempts); n != 1 || len(f.Server.Attempts[0].Hops) != 1 || !f.Server.Attempts[0].Connected() {
		t.Errorf("attempts: %+v", f.Server.Attempts)
	}
}

func TestEarlyBytesOfBothSides(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "banner\n")
		io.Copy(c, c)
	}()
	g := start(t, nil)
	c := g.dial(t)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nearly", ln.Addr(), ln.Addr())
	c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(connectOK) + "banner\nearly"; string(all) != want {
		t.Errorf("got %q, want %q", all, want)
	}
}

func TestSOCKS5(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "through socks") }))
	defer origin.Close()
	g := start(t, nil)
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: g.addr}), DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "through socks" {
		t.Errorf("got %q", body)
	}
	f := g.records.next(t)
	if f.Protocol != connmodel.ProtocolSOCKS5 || f.Reply == nil || f.Reply.Code != 0 {
		t.Errorf("record: protocol %s, reply %+v", f.Protocol, f.Reply)
	}
}

func TestRefusedAddresses(t *testing.T) {
	d := loopbackOpen()
	d.AllowAddresses, d.AllowLocalhost = nil, false
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].Decider = always(d) })
	for _, target := range []string{
		"127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "[64:ff9b::7f00:1]:80", "[2002:7f00:1::]:80", "0.0.0.0:80",
		"169.254.169.254:80", "[fe80::1]:80", "localhost:80", "LocalHost.:80", "a.localhost:80",
	} {
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 403 || !strings.Contains(resp.Header.Get("Proxy-Status"), "destination_ip_prohibited") {
			t.Errorf("%s: %d %s %s", target, resp.StatusCode, resp.Header.Get("Proxy-Status"), body)
		}
		if target == "0.0.0.0:80" && !strings.Contains(string(body), "is an unspecified address") {
			t.Errorf("%s: %s", target, body)
		}
		c.Close()
		if f := g.records.next(t); f.Reason != connmodel.CloseDenied || f.Server != nil && len(f.Server.Attempts) > 0 && f.Server.Attempts[0].Error == nil {
			t.Errorf("%s: record says %s", target, f.Reason)
		}
	}
}

func TestOwnListenerIsNoTarget(t *testing.T) {
	g := start(t, nil) // loopback is open, but not our own door
	c := g.dial(t)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", g.addr)
	var first [12]byte
	if _, err := io.ReadFull(c, first[:]); err != nil || !bytes.HasSuffix(first[:], []byte("403")) {
		t.Errorf("got %q, %v", first, err)
	}
}

func TestReloadKeepsTunnelsAndChangesTheRest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	g := start(t, nil)
	tunnel := g.dial(t)
	fmt.Fprintf(tunnel, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", ln.Addr())
	br := bufio.NewReader(tunnel)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}

	old := g.Config()
	next := *old
	next.Generation = 2
	next.Listeners = append([]Listener(nil), old.Listeners...)
	next.Listeners[0].Decider = always(&connmodel.Decision{Generation: 2, Policy: "default", Rule: "no", Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 451, Reason: "closed"}})
	if err := g.Apply(&next); err != nil {
		t.Fatal(err)
	}
	c := g.dial(t)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", ln.Addr())
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 451 {
		t.Errorf("new connection: %v %v, want 451", resp, err)
	}
	io.WriteString(tunnel, "still here")
	got := make([]byte, 10)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "still here" {
		t.Errorf("the tunnel of before: %q, %v", got, err)
	}

	// A configuration that cannot be bound changes nothing.
	bad := next
	bad.Generation = 3
	bad.Listeners = append([]Listener(nil), old.Listeners...)
	bad.Listeners = append(bad.Listeners, Listener{Name: "taken", Network: "tcp", Address: ln.Addr().String(), Protocols: HTTP, Decider: always(loopbackOpen())})
	if err := g.Apply(&bad); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("Apply of a taken address: %v", err)
	}
	if g.Config().Generation != 2 {
		t.Errorf("generation %d after a failed Apply", g.Config().Generation)
	}
}

func TestShutdownDrainsAndCuts(t *testing.T) {
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	g := start(t, nil)
	var conns []net.Conn
	for range 4 {
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", ln.Addr())
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		conns = append(conns, c)
	}
	conns[0].Close() // ends by itself before the drain is over
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if cut := g.Shutdown(ctx); cut != 3 {
		t.Errorf("%d sessions cut, want 3", cut)
	}
	reasons := map[connmodel.CloseReason]int{}
	for range 4 {
		<-g.records.more
	}
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	for _, f := range g.records.flows {
		reasons[f.Reason]++
	}
	if reasons[connmodel.CloseDrained] != 3 || reasons[connmodel.CloseClient] != 1 {
		t.Errorf("reasons: %v", reasons)
	}
	if _, err := net.Dial("tcp", g.addr); err == nil {
		t.Error("still listening after Shutdown")
	}
}

// waitFor waits until a condition that the gateway brings about by itself holds.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("the condition did not come true in 30 s")
}
