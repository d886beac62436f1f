package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/h2"
	"viaduct/upstream/http1"
	ut "viaduct/upstream/upstreamtest"
	real "viaduct/upstream/upstreamtest/peers"
)

// h2Proxy is an upstreamtest proxy behind TLS that chooses h2: its behaviours are those of streams.
type h2Proxy struct {
	*ut.Proxy
	at       connmodel.Address
	conns    atomic.Int64                   // TLS handshakes done
	accepted atomic.Int64                   // connections
	before   atomic.Pointer[func(net.Conn)] // each connection, before TLS
	mu       sync.Mutex
	servers  map[*h2.Server]net.Conn
}

// startH2 starts one. serve is called in place of the proxy for connections over h2, if it is set.
func startH2(t testing.TB, ca *ut.CA, name string, o ut.Options, so h2.ServerOptions, protos ...string) (*h2Proxy, Spec) {
	t.Helper()
	o.NoListen = true
	p := &h2Proxy{Proxy: ut.NewHTTP(t, o), servers: make(map[*h2.Server]net.Conn)}
	conf := ca.ServerTLS(t, "127.0.0.1")
	conf.NextProtos = protos
	if protos == nil {
		conf.NextProtos = []string{"h2", "http/1.1"}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	so.Absolute = true
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		p.each(func(s *h2.Server, c net.Conn) { s.Close(); c.Close() })
		p.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			wg.Go(func() { p.serve(c, conf, so) })
		}
	})
	p.at = addr(t, l.Addr().String())
	s := Spec{Name: name, Scheme: "https", Address: p.at, TLS: &tls.Config{RootCAs: ca.Pool()}}
	if o.User != "" {
		s.Auth = &Auth{Username: o.User, Password: NewSecret(o.Password), Credential: "credential of " + name}
	}
	return p, s
}

func (p *h2Proxy) serve(c net.Conn, conf *tls.Config, so h2.ServerOptions) {
	defer c.Close()
	if f := p.before.Load(); f != nil {
		(*f)(c)
	}
	tc := tls.Server(c, conf)
	if tc.Handshake() != nil {
		return
	}
	p.conns.Add(1)
	if tc.ConnectionState().NegotiatedProtocol != "h2" {
		p.ServeConn(tc)
		return
	}
	s := h2.NewServer(tc, so)
	p.mu.Lock()
	p.servers[s] = c
	p.mu.Unlock()
	s.Serve(func(st *h2.Stream) { p.ServeConn(st) })
	p.mu.Lock()
	delete(p.servers, s)
	p.mu.Unlock()
}

func (p *h2Proxy) each(f func(*h2.Server, net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, c := range p.servers {
		f(s, c)
	}
}

func dialTo(t testing.TB, tab *Table, route string, to connmodel.Address) (*Conn, *connmodel.HopResult) {
	t.Helper()
	r := recorder(to)
	c, err := tab.Dial(t.Context(), &Request{Route: route, Target: to}, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	at := r.Snapshot().Server.Attempts
	hops := at[len(at)-1].Hops
	return c, &hops[max(len(hops)-2, 0)]
}

func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// TestManyTunnelsOnOneConnection: a herd of first dials makes one connection, and says in its records who made it.
func TestManyTunnelsOnOneConnection(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{User: "u", Password: "canary"}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 60 {
		wg.Go(func() {
			r := recorder(to)
			c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, r)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			say(t, c, fmt.Sprintf("tunnel %d", i))
			srv := r.Snapshot().Server
			hop := srv.Attempts[0].Hops[0]
			if !hop.Reused {
				made.Add(1)
			}
			if hop.TLSInfo == nil || hop.TLSInfo.ALPN == nil || *hop.TLSInfo.ALPN != "h2" || hop.TLSInfo.VerifiedName != "127.0.0.1" || hop.Credential != "credential of p" ||
				hop.Reused != (hop.TLS == 0) || hop.Connect <= 0 || !hop.Peer.IsValid() || hop.Peer != srv.Peer || hop.Local != srv.Local || hop.Error != nil {
				t.Errorf("tunnel %d: %+v, TLS %+v", i, hop, hop.TLSInfo)
			}
		})
	}
	wg.Wait()
	if p.conns.Load() != 1 || made.Load() != 1 {
		t.Errorf("%d connections, made by %d attempts", p.conns.Load(), made.Load())
	}
	for _, q := range p.Requests() {
		if q.Method != "CONNECT" || q.Target != to.String() || !q.Accepted {
			t.Fatalf("%+v", q)
		}
	}
	if n := tab.Status()[0]; n.Open != 0 || n.Attempts != 60 || n.Failures != 0 {
		t.Errorf("%+v", n)
	}
}

func TestHTTP2InChains(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{TLS: ca.ServerTLS(t, "127.0.0.1")})
	to := addr(t, origin.Addr())
	for _, way := range [][]string{{"h2"}, {"h2", "h2"}, {"http", "h2"}, {"h2", "http"}, {"socks5h", "h2", "socks4a"}, {"https", "h2", "https"}, {"h2", "h2", "h2"}} {
		t.Run(strings.Join(way, ">"), func(t *testing.T) {
			c := Config{Chains: []ChainSpec{{Name: "c"}}}
			for i, scheme := range way {
				name := fmt.Sprintf("p%d", i)
				var s Spec
				if scheme == "h2" {
					_, s = startH2(t, ca, name, ut.Options{}, h2.ServerOptions{})
				} else {
					_, s = startProxy(t, ca, name, scheme, ut.Options{})
				}
				c.Upstreams = append(c.Upstreams, s)
				c.Chains[0].Hops = append(c.Chains[0].Hops, "upstream."+name)
			}
			tab := table(t, c)
			var first *Conn
			for n := range 3 {
				r := recorder(to)
				conn, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: to, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: &tls.Config{RootCAs: ca.Pool()}}}, r)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				say(t, conn, "through the chain")
				hops := r.Snapshot().Server.Attempts[0].Hops
				if len(hops) != len(way)+1 {
					t.Fatalf("%d elements", len(hops))
				}
				last := 0 // of the trunks
				for i, scheme := range way {
					if scheme == "h2" {
						last = i
					}
				}
				for i, scheme := range way {
					h := hops[i]
					if h.Upstream != fmt.Sprintf("p%d", i) || h.Error != nil || h.Reused != (n > 0 && i <= last) || (h.TLSInfo != nil) != (scheme == "h2" || scheme == "https") {
						t.Errorf("dial %d, element %d: %+v", n, i, h)
					}
				}
				if n == 0 {
					first = conn
				}
			}
			say(t, first, "still there")
		})
	}
}

// TestRefusalsOverHTTP2 mean what they mean over HTTP/1.1.
func TestRefusalsOverHTTP2(t *testing.T) {
	ca := ut.MustCA(t)
	for _, b := range []ut.Behaviour{ut.Status(407, "no"), ut.Status(403, "no"), ut.Status(502, "no", "Proxy-Status: x; error=dns_error"), ut.Status(504, ""), ut.Status(302, "", "Location: http://portal/")} {
		_, two := startH2(t, ca, "p", ut.Options{Script: []ut.Behaviour{b}}, h2.ServerOptions{})
		_, one := startProxy(t, ca, "p", "https", ut.Options{Script: []ut.Behaviour{b}})
		var got [2]*connmodel.ConnError
		for i, s := range []Spec{one, two} {
			s.Auth = &Auth{Username: "u", Password: NewSecret("canary")}
			_, got[i] = table(t, Config{Upstreams: []Spec{s}}).Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 443}}, nil)
		}
		a, c := got[0], got[1]
		if a == nil || c == nil || a.Kind != c.Kind || a.Code != c.Code || a.Blame != c.Blame || a.Side != c.Side || a.Message != c.Message || a.Retryable != c.Retryable {
			t.Errorf("%s:\n%+v\n%+v", b.Name, a, c)
		}
	}
	p, s := startH2(t, ca, "p", ut.Options{Script: []ut.Behaviour{ut.CloseAfterRequest, ut.Junk, ut.HalfReply, ut.SilenceAfterRequest}}, h2.ServerOptions{})
	s.Timeouts.Handshake = 300 * time.Millisecond
	tab := table(t, Config{Upstreams: []Spec{s}})
	for i, kind := range []connmodel.Kind{connmodel.KindProtocol, connmodel.KindProtocol, connmodel.KindProtocol, connmodel.KindTimeout} {
		_, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: listen(t, echo)}, nil)
		if err == nil || err.Kind != kind || err.Blame != connmodel.BlameProxy {
			t.Errorf("%d: %+v", i, err)
		}
	}
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections: what happens to a stream is not the connection's", n)
	}
}

// TestDeadTrunks: what ended between two attempts costs nothing, and running tunnels end only with their own connection.
func TestDeadTrunks(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	first, _ := dialTo(t, tab, "upstream.p", to)
	say(t, first, "one")
	p.each(func(s *h2.Server, _ net.Conn) { s.Shutdown() })
	within(t, "the trunk takes no more", func() bool {
		l := tab.lanes.of(tab.hops[:1])
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.trunks) == 0 || !l.trunks[0].client.Usable()
	})
	second, hop := dialTo(t, tab, "upstream.p", to)
	say(t, second, "two")
	say(t, first, "one still")
	if hop.Reused || p.conns.Load() != 2 {
		t.Errorf("after GOAWAY: %+v, %d connections", hop, p.conns.Load())
	}
	first.Close()
	p.each(func(_ *h2.Server, c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() })
	for range 10 { // at once: the attempt may still find the dead one
		c, _ := dialTo(t, tab, "upstream.p", to)
		say(t, c, "three")
	}
	if n := p.conns.Load(); n != 3 {
		t.Errorf("%d connections after a reset", n)
	}
	if _, err := second.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a tunnel on a connection that was reset: %v", err)
	}
}

// TestTrunksThatComeAndGo: a proxy that says GOAWAY again and again loses no attempt and no tunnel.
func TestTrunksThatComeAndGo(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{MaxStreams: 5})
	tab := table(t, Config{Upstreams: []Spec{s}})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for next := 40; ; { // by what was asked, not by time: an attempt is not to meet too many of them
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if len(p.Requests()) >= next {
				p.each(func(s *h2.Server, _ net.Conn) { s.Shutdown() })
				next += 40
			}
		}
	})
	var dials sync.WaitGroup
	var refused atomic.Uint64
	for i := range 12 {
		dials.Go(func() {
			for n := range 25 {
				c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, recorder(to))
				for range 20 { // on a busy machine the server may take no further stream three times in a row, and then says so
					if err == nil || err.Kind != connmodel.KindLimit {
						break
					}
					refused.Add(1)
					time.Sleep(10 * time.Millisecond)
					c, err = tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, recorder(to))
				}
				if err != nil {
					t.Errorf("%v: %v", err, err.Cause)
					return
				}
				say(t, c, fmt.Sprintf("%d from %d", n, i))
				c.Close()
			}
		})
	}
	dials.Wait()
	close(stop)
	wg.Wait()
	if n := tab.Status()[0]; n.Open != 0 || n.Failures > refused.Load() {
		t.Errorf("%d refused: %+v", refused.Load(), n)
	}
	if refused.Load() > 30 { // of 300
		t.Errorf("%d were refused", refused.Load())
	}
}

// TestSilentTrunk: a connection that a firewall has forgotten is found out when it is used, and the attempt made on another.
func TestSilentTrunk(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for an answer to PING that does not come")
	}
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{})
	var hole atomic.Bool // the first connection is one
	var conns atomic.Int64
	at := listen(t, func(c net.Conn) {
		mine := conns.Add(1) == 1
		up, err := net.Dial("tcp", p.at.String())
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			defer c.Close()
			io.Copy(&valve{c, func() bool { return mine && hole.Load() }}, up)
		}()
		io.Copy(&valve{up, func() bool { return mine && hole.Load() }}, c)
	})
	s.Address = at
	s.Timeouts.Handshake = 20 * time.Second
	tab := table(t, Config{Upstreams: []Spec{s}})
	c, _ := dialTo(t, tab, "upstream.p", to)
	say(t, c, "before")
	hole.Store(true)
	time.Sleep(trunkSilence + 100*time.Millisecond)
	d, hop := dialTo(t, tab, "upstream.p", to)
	say(t, d, "after")
	if hop.Reused || conns.Load() != 2 {
		t.Errorf("%+v, %d connections", hop, conns.Load())
	}
}

// valve drops what is written while it is shut.
type valve struct {
	w    io.Writer
	shut func() bool
}

func (v *valve) Write(p []byte) (int, error) {
	if v.shut() {
		return len(p), nil
	}
	return v.w.Write(p)
}

func TestFullTrunks(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{MaxStreams: 4})
	s.MaxConnections = 12
	tab := table(t, Config{Upstreams: []Spec{s}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []*Conn
	for range 12 {
		wg.Go(func() {
			c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
		})
	}
	wg.Wait()
	if n := p.conns.Load(); n != 3 {
		t.Errorf("12 tunnels, 4 to a connection: %d connections", n)
	}
	if _, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, nil); err == nil || err.Kind != connmodel.KindLimit {
		t.Errorf("a tunnel counts for max_connections whatever carries it: %+v", err)
	}
	for _, c := range all {
		say(t, c, "all")
		c.Close()
	}
}

// TestAttemptsLeaveTheTrunkAlone: deadlines and cancellation are those of one stream.
func TestAttemptsLeaveTheTrunkAlone(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{Script: []ut.Behaviour{ut.OK, ut.SilenceAfterRequest, ut.OK}}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	ctx, cancel := context.WithCancel(t.Context())
	first, cerr := tab.Dial(ctx, &Request{Route: "upstream.p", Target: to, Deadline: time.Now().Add(2 * time.Second)}, nil)
	if cerr != nil {
		t.Fatal(cerr)
	}
	defer first.Close()
	cancel()
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := tab.Dial(ctx, &Request{Route: "upstream.p", Target: to}, nil); err == nil || err.Kind != connmodel.KindCanceled {
		t.Errorf("%+v", err)
	}
	time.Sleep(2 * time.Second) // the first attempt's deadline is over
	say(t, first, "still there")
	third, hop := dialTo(t, tab, "upstream.p", to)
	say(t, third, "on the same connection")
	if !hop.Reused || p.conns.Load() != 1 {
		t.Errorf("%+v, %d connections", hop, p.conns.Load())
	}
}

// TestHerd: those who wait for another's connection share its failure, unless that was the other's own.
func TestHerd(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{})
	var held atomic.Int64
	slow := func(net.Conn) {
		if held.Add(1) == 1 {
			time.Sleep(300 * time.Millisecond)
		}
	}
	p.before.Store(&slow)
	tab := table(t, Config{Upstreams: []Spec{s}})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := tab.Dial(ctx, &Request{Route: "upstream.p", Target: to}, nil); err == nil || err.Kind != connmodel.KindCanceled {
			t.Errorf("the first: %+v", err)
		}
	})
	within(t, "the first is on its way", func() bool { return p.accepted.Load() == 1 })
	for range 20 {
		wg.Go(func() {
			c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
	}
	time.Sleep(20 * time.Millisecond)
	cancel()
	wg.Wait()
	if n := p.accepted.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}

	bad, s := startH2(t, ca, "bad", ut.Options{}, h2.ServerOptions{})
	resets := func(c net.Conn) { time.Sleep(200 * time.Millisecond); c.(*net.TCPConn).SetLinger(0); c.Close() }
	bad.before.Store(&resets)
	tab = table(t, Config{Upstreams: []Spec{s}})
	for range 30 {
		wg.Go(func() {
			r := recorder(to)
			_, err := tab.Dial(t.Context(), &Request{Route: "upstream.bad", Target: to}, r)
			if err == nil || err.HopName != "bad" || err.Phase != connmodel.PhaseTLS || err.Blame != connmodel.BlameProxy {
				t.Errorf("%+v", err)
				return
			}
			if hops := r.Snapshot().Server.Attempts[0].Hops; len(hops) != 1 || hops[0].Error == nil {
				t.Errorf("%+v", hops)
			}
		})
	}
	wg.Wait()
	if n := bad.accepted.Load(); n > 5 {
		t.Errorf("a proxy that is down was tried %d times by 30 who came at once", n)
	}
}

func TestPlainRequestsOverHTTP2(t *testing.T) {
	ca := ut.MustCA(t)
	web := ut.NewHTTPOrigin(t, ut.Options{})
	to := addr(t, web.Addr())
	p, s := startH2(t, ca, "p", ut.Options{User: "u", Password: "canary"}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	for n := range 3 {
		c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to, Plain: true}, recorder(to))
		if err != nil {
			t.Fatal(err)
		}
		if !c.Absolute || c.Kept != (n > 0) {
			t.Fatalf("absolute %v, kept %v", c.Absolute, c.Kept)
		}
		name, value, err := c.Authorize("GET", "http://"+to.String()+"/")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n\r\n", to, to, name, value)
		var r http1.Reader
		r.Reset(c, http1.Limits{})
		var resp http1.Response
		if err := r.ReadFinal("GET", &resp, nil); err != nil || resp.Status != 200 || resp.KeepAlive {
			t.Fatalf("%+v, %v", resp, err)
		}
		if _, err := io.Copy(io.Discard, r.Body(resp.Body)); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	r := recorder(to)
	c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to, Plain: true, Switches: true}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if hop := r.Snapshot().Server.Attempts[0].Hops[0]; !c.Absolute || c.Kept || hop.Reused || *hop.TLSInfo.ALPN != "http/1.1" {
		t.Errorf("a request with Upgrade: %+v", hop)
	}
}

func TestTableClosesItsTrunks(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	c, _ := dialTo(t, tab, "upstream.p", to)
	tab.Close()
	say(t, c, "a reload keeps it")
	d, hop := dialTo(t, tab, "upstream.p", to) // what was decided before the reload
	say(t, d, "on its own")
	if hop.Reused || hop.TLSInfo.ALPN == nil || *hop.TLSInfo.ALPN != "http/1.1" {
		t.Errorf("%+v", hop)
	}
	c.Close()
	within(t, "the trunk is gone", func() bool {
		n := 0
		p.each(func(*h2.Server, net.Conn) { n++ })
		return n == 0
	})
	idle := table(t, Config{Upstreams: []Spec{s}})
	c, _ = dialTo(t, idle, "upstream.p", to)
	c.Close()
	idle.Close()
	within(t, "the idle trunk is gone", func() bool {
		n := 0
		p.each(func(*h2.Server, net.Conn) { n++ })
		return n == 0
	})
}

func TestProxiesThatSpeakHTTP1(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	for _, tt := range []struct {
		name   string
		protos []string // of the proxy
		edit   func(*Spec)
		alpn   string
	}{
		{"http/1.1 alone", []string{"http/1.1"}, nil, "http/1.1"},
		{"no ALPN", []string{}, nil, ""},
		{"turned off", nil, func(s *Spec) { s.NoHTTP2 = true }, "http/1.1"},
		{"by ALPN", nil, func(s *Spec) { s.TLS.NextProtos = []string{"http/1.1"} }, "http/1.1"},
		{"h2 alone, turned off", nil, func(s *Spec) { s.TLS.NextProtos = []string{"h2"}; s.NoHTTP2 = true }, "http/1.1"},
	} {
		p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{}, tt.protos...)
		if tt.edit != nil {
			tt.edit(&s)
		}
		tab := table(t, Config{Upstreams: []Spec{s}})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				r := recorder(to)
				c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, r)
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
					return
				}
				defer c.Close()
				say(t, c, "hello")
				hop := r.Snapshot().Server.Attempts[0].Hops[0]
				if hop.Reused || hop.TLSInfo == nil || hop.TLSInfo.ALPN == nil || *hop.TLSInfo.ALPN != tt.alpn {
					t.Errorf("%s: %+v", tt.name, hop)
				}
			})
		}
		wg.Wait()
		if n := p.conns.Load(); n != 10 {
			t.Errorf("%s: %d connections", tt.name, n)
		}
	}
}

// TestHTTP11Required: a proxy may say over HTTP/2 that it wants HTTP/1.1.
func TestHTTP11Required(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	older, _ := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{}, "http/1.1")
	conf := ca.ServerTLS(t, "127.0.0.1")
	conf.NextProtos = []string{"h2", "http/1.1"}
	var two, one atomic.Int64
	at := listen(t, func(c net.Conn) {
		tc := tls.Server(c, conf)
		if tc.Handshake() != nil {
			return
		}
		if tc.ConnectionState().NegotiatedProtocol == "http/1.1" {
			one.Add(1)
			older.ServeConn(tc)
			return
		}
		two.Add(1)
		io.ReadFull(tc, make([]byte, len(http2.ClientPreface)))
		fr := http2.NewFramer(tc, tc)
		fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := f.(*http2.HeadersFrame); ok {
				fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeHTTP11Required)
			}
		}
	})
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "https", Address: at, TLS: &tls.Config{RootCAs: ca.Pool()}}}})
	for range 3 {
		c, hop := dialTo(t, tab, "upstream.p", to)
		say(t, c, "hello")
		if hop.TLSInfo.ALPN == nil || *hop.TLSInfo.ALPN != "http/1.1" {
			t.Errorf("%+v", hop.TLSInfo)
		}
		c.Close()
	}
	if two.Load() != 1 || one.Load() != 3 {
		t.Errorf("%d over h2, %d over HTTP/1.1", two.Load(), one.Load())
	}
}

// TestH2ChosenInVain is a proxy behind something that ends TLS and chooses h2, which the proxy does not speak.
func TestH2ChosenInVain(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	proxy := ut.NewHTTP(t, ut.Options{NoListen: true})
	conf := ca.ServerTLS(t, "127.0.0.1")
	conf.NextProtos = []string{"h2", "http/1.1"}
	at := listen(t, func(c net.Conn) {
		if tc := tls.Server(c, conf); tc.Handshake() == nil {
			proxy.ServeConn(tc)
		}
	})
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "https", Address: at, TLS: &tls.Config{RootCAs: ca.Pool()}}}})
	for range 2 {
		c, hop := dialTo(t, tab, "upstream.p", to)
		say(t, c, "hello")
		if *hop.TLSInfo.ALPN != "http/1.1" {
			t.Errorf("%+v", hop.TLSInfo)
		}
	}
}

// TestGoServerAsProxy goes through net/http's HTTP/2 server.
func TestGoServerAsProxy(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	conf := ca.ServerTLS(t, "127.0.0.1")
	srv := &http.Server{TLSConfig: conf, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" || r.ProtoMajor != 2 {
			http.Error(w, "CONNECT over HTTP/2 is all there is", http.StatusMethodNotAllowed)
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer up.Close()
		w.WriteHeader(200)
		rc := http.NewResponseController(w)
		rc.Flush()
		go func() { io.Copy(up, r.Body); up.(*net.TCPConn).CloseWrite() }()
		b := make([]byte, 4096)
		for {
			n, err := up.Read(b)
			if _, werr := w.Write(b[:n]); werr != nil || err != nil {
				return
			}
			rc.Flush()
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close(); <-done })
	tab := table(t, Config{Upstreams: []Spec{{Name: "go", Scheme: "https", Address: addr(t, l.Addr().String()), TLS: &tls.Config{RootCAs: ca.Pool()}}}})
	for n := range 3 {
		c, hop := dialTo(t, tab, "upstream.go", to)
		say(t, c, strings.Repeat("through Go ", 20_000))
		if hop.Reused != (n > 0) {
			t.Errorf("%+v", hop)
		}
		if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	}
	if _, err := tab.Dial(t.Context(), &Request{Route: "upstream.go", Target: listenNot(t)}, nil); err == nil || err.Code != 502 || err.Blame != connmodel.BlameTarget {
		t.Errorf("%+v", err)
	}
}

// TestNghttpx goes through nghttpx as a proxy.
func TestNghttpx(t *testing.T) {
	real.Need(t, "nghttpx")
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	web := ut.NewHTTPOrigin(t, ut.Options{})
	to := addr(t, origin.Addr())
	behind := ut.NewHTTP(t, ut.Options{})
	p, err := real.Nghttpx(t.Context(), t.TempDir(), real.NghttpxOptions{Backend: behind.Addr(), CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tab := table(t, Config{Upstreams: []Spec{{Name: "n", Scheme: "https", Address: addr(t, p.Addr()), TLS: &tls.Config{RootCAs: ca.Pool()}}}})
	var wg sync.WaitGroup
	var reused atomic.Int64
	for i := range 40 {
		wg.Go(func() {
			r := recorder(to)
			c, err := tab.Dial(t.Context(), &Request{Route: "upstream.n", Target: to}, r)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			say(t, c, strings.Repeat(fmt.Sprint("through nghttpx ", i), 5_000))
			hop := r.Snapshot().Server.Attempts[0].Hops[0]
			if *hop.TLSInfo.ALPN != "h2" {
				t.Errorf("%+v", hop.TLSInfo)
			}
			if hop.Reused {
				reused.Add(1)
			}
		})
	}
	wg.Wait()
	if reused.Load() != 39 {
		t.Errorf("%d of 40 on a connection that was there", reused.Load())
	}
	c, cerr := tab.Dial(t.Context(), &Request{Route: "upstream.n", Target: addr(t, web.Addr()), Plain: true}, nil)
	if cerr != nil {
		t.Fatal(cerr)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", web.Addr(), web.Addr())
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := tab.Dial(t.Context(), &Request{Route: "upstream.n", Target: listenNot(t)}, nil); err == nil || err.Code != 502 || err.Blame != connmodel.BlameTarget {
		t.Errorf("%+v", err)
	}
}

// listenNot is an address where nothing listens.
func listenNot(t testing.TB) connmodel.Address {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addr(t, l.Addr().String())
}

// A credential that is rejected on a stream is not shown on another.
func TestH2RejectedCredential(t *testing.T) {
	ca := ut.MustCA(t)
	p, s := startH2(t, ca, "p", ut.Options{User: "u", Password: "right"}, h2.ServerOptions{})
	s.Auth.Password = NewSecret("wrong")
	tab := table(t, Config{Upstreams: []Spec{s}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for range 5 {
		if _, err := connectTo(t, tab, "upstream.p"); err == nil || err.Kind != connmodel.KindAuth {
			t.Errorf("%v", err)
		}
	}
	if n := len(p.Requests()); n != 1 || tab.Status()[0].CredentialState != "closed" {
		t.Errorf("%d requests, %s", n, tab.Status()[0].CredentialState)
	}
}

// TestTrunksOfTheNetworkBefore: when the network has changed, new tunnels go by a new connection; those that run go on.
func TestTrunksOfTheNetworkBefore(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	p, s := startH2(t, ca, "p", ut.Options{}, h2.ServerOptions{})
	tab := table(t, Config{Upstreams: []Spec{s}})
	dial := func(conns int64) *Conn {
		t.Helper()
		c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, nil)
		if err != nil {
			t.Fatal(err)
		}
		say(t, c, "hello")
		if n := p.conns.Load(); n != conns {
			t.Errorf("%d connections, want %d", n, conns)
		}
		return c
	}
	a, b := dial(1), dial(1)
	defer a.Close()
	b.Close()
	tab.NetworkChanged()
	c := dial(2)
	defer c.Close()
	say(t, a, "still here")
	defer dial(2).Close()
}
