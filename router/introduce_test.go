package router

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/proxyproto"
	"viaduct/upstream/upstreamtest"
)

var (
	someone  = netip.MustParseAddrPort("192.0.2.7:51000")
	frontend = netip.MustParseAddrPort("198.51.100.1:3128")
)

// header is what a balancer in front of us says.
func header(version int, src netip.AddrPort) string {
	return string(proxyproto.Append(nil, proxyproto.Header{Version: version, Source: src, Destination: frontend}))
}

// behind makes this machine the balancer in front of the gateway.
func behind(t *testing.T, change func(*Options, *Config)) *gateway {
	t.Helper()
	return start(t, func(o *Options, c *Config) {
		c.Listeners[0].ProxyProtocol = &ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		if change != nil {
			change(o, c)
		}
	})
}

// TestIntroduced: behind a balancer the client that is told is the client: for rules, for records, in every protocol, in whatever pieces
// header and request come.
func TestIntroduced(t *testing.T) {
	to := echo(t)
	for _, version := range []int{1, 2} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d, pieces %v", version, pieces), func(t *testing.T) {
				var saw netip.AddrPort
				g := behind(t, func(_ *Options, c *Config) {
					c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
						saw = f.Client
						return loopbackOpen(), 0
					})
				})
				c := dialTo(t, g.addr)
				c.SetNoDelay(true)
				said := []byte(header(version, someone) + "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n")
				if pieces {
					for i := range said {
						c.Write(said[i : i+1])
						time.Sleep(100 * time.Microsecond)
					}
				} else {
					c.Write(said)
				}
				got := make([]byte, len(connectOK))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, connectOK) {
					t.Fatalf("%q, %v", got, err)
				}
				c.Close()
				f := g.records.next(t)
				if saw != someone {
					t.Errorf("the policy saw %v", saw)
				}
				want := connmodel.ProxyHeader{Version: version, Source: someone, Destination: frontend}
				if cl := f.Client; cl.Proxied == nil || *cl.Proxied != want || cl.Address.String() != someone.String() || !cl.Peer.Addr().IsLoopback() || cl.From() != someone {
					t.Errorf("client %+v, told %+v", cl, cl.Proxied)
				}
			})
		}
	}
	t.Run("forward, and the server speaks first", func(t *testing.T) {
		g := forwardTo(t, serveTCP(t, func(c net.Conn) { io.WriteString(c, "220 ready\r\n") }), func(_ *Options, c *Config) {
			c.Listeners[0].ProxyProtocol = &ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
		})
		c := dialTo(t, g.addr)
		io.WriteString(c, header(2, someone))
		if b, err := io.ReadAll(c); string(b) != "220 ready\r\n" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("on a Unix socket", func(t *testing.T) {
		path := t.TempDir() + "/s"
		g := behind(t, func(_ *Options, c *Config) {
			c.Listeners[0].Network, c.Listeners[0].Address, c.Listeners[0].ProxyProtocol = "unix", path, &ProxyProtocol{}
		})
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, header(1, someone)+"\x05\x01\x00")
		var b [2]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || b != [2]byte{5, 0} {
			t.Fatalf("% x, %v", b, err)
		}
		c.Close()
		if f := g.records.next(t); f.Client.From() != someone {
			t.Errorf("client %+v", f.Client)
		}
	})
}

// TestNotIntroduced: no header, half of one, garbage and silence end the connection, each with what was wrong in the record; none of
// it reaches the HTTP of the listener.
func TestNotIntroduced(t *testing.T) {
	for _, tt := range []struct {
		name, say string
		hangUp    bool
		kind      connmodel.Kind
		want      string
	}{
		{"a request without a header", "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", false, connmodel.KindProtocol, "does not begin with a PROXY protocol header"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", false, connmodel.KindProtocol, "does not begin with a PROXY protocol header"},
		{"SOCKS", "\x05\x01\x00", false, connmodel.KindProtocol, "does not begin with a PROXY protocol header"},
		{"a line without end", "PROXY TCP4 " + strings.Repeat("1", 200), false, connmodel.KindProtocol, "longer than 107"},
		{"megabytes", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + strings.Repeat("x", 1<<16), false, connmodel.KindProtocol, "longer than 4112"},
		{"a wrong address", "PROXY TCP4 300.0.0.1 10.0.0.1 1 2\r\n", false, connmodel.KindProtocol, "bad PROXY protocol header"},
		{"half of it, and the end", "PROXY TCP4 192.0.2.7", true, connmodel.KindEOF, "a PROXY protocol header was awaited"},
		{"half of it, and nothing", "PROXY TCP4 192.0.2.7", false, connmodel.KindTimeout, "a PROXY protocol header was awaited"},
		{"nothing", "", false, connmodel.KindTimeout, "a PROXY protocol header was awaited"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := behind(t, func(_ *Options, c *Config) {
				c.Listeners[0].HandshakeTimeout = 300 * time.Millisecond
				c.Listeners[0].Decider = connmodel.DeciderFunc(func(*connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
					t.Error("the policy was asked")
					return loopbackOpen(), 0
				})
			})
			c := dialTo(t, g.addr)
			io.WriteString(c, tt.say)
			if tt.hangUp {
				c.CloseWrite()
			}
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("the client got %q", b)
			}
			f := g.records.next(t)
			if f.Error == nil || f.Error.Kind != tt.kind || f.Error.Side != connmodel.SideClient || !strings.Contains(f.Error.Message, tt.want) || f.Client.Proxied != nil {
				t.Errorf("error %+v", f.Error)
			}
		})
	}
	t.Run("a look whether somebody listens", func(t *testing.T) {
		g := behind(t, nil)
		dialTo(t, g.addr).Close()
		for end := time.Now().Add(10 * time.Second); g.Stats().SessionsOpen > 0 || g.Stats().Sessions == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the session does not end")
			}
		}
		if n := g.Stats().Flows; n != 0 {
			t.Errorf("%d records", n)
		}
	})
}

// TestWhoMayIntroduce: others than the balancers are refused at accept; or, where the policy lets them in, their headers are no headers.
func TestWhoMayIntroduce(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	g := behind(t, func(_ *Options, c *Config) { c.Listeners[0].ProxyProtocol = &ProxyProtocol{From: elsewhere} })
	isReset(t, g.addr)
	g = behind(t, func(_ *Options, c *Config) {
		c.Listeners[0].ProxyProtocol = &ProxyProtocol{From: elsewhere, Others: true}
	})
	if resp := g.answer(t, header(1, someone)+"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"); resp.StatusCode != 400 {
		t.Errorf("a header of a stranger: %s", resp.Status)
	}
	if f := g.records.next(t); f.Client.Proxied != nil || f.Client.From().Addr() != loopback4 {
		t.Errorf("client %+v", f.Client)
	}
	tunnel := g.tunnel(t, echo(t))
	if err := shake(tunnel, []byte("as itself")); err != nil {
		t.Error(err)
	}
}

// TestToldClients: networks and limits are about the client that is told; a balancer that speaks for itself is let in, and one that does
// not say who the client is has to be let in itself.
func TestToldClients(t *testing.T) {
	to := echo(t)
	connect := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n"
	own := string(proxyproto.Append(nil, proxyproto.Header{Version: 2, Own: true}))
	unknown := string(proxyproto.Append(nil, proxyproto.Header{Version: 2}))
	try := func(t *testing.T, g *gateway, hello string) (net.Conn, bool) {
		c := dialTo(t, g.addr)
		io.WriteString(c, hello+connect)
		b := make([]byte, len(connectOK))
		_, err := io.ReadFull(c, b)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("refused with %v", err)
		}
		return c, err == nil
	}
	networks := func(list ...string) func(*Options, *Config) {
		return func(_ *Options, c *Config) {
			for _, n := range list {
				c.Listeners[0].Clients = append(c.Listeners[0].Clients, netip.MustParsePrefix(n))
			}
		}
	}
	for _, tt := range []struct {
		name, hello string
		clients     []string
		ok          bool
	}{
		{"in", header(2, someone), []string{"192.0.2.0/24"}, true},
		{"out", header(2, someone), []string{"192.0.3.0/24"}, false},
		{"the balancer's own network does not count", header(1, someone), []string{"127.0.0.0/8"}, false},
		{"IPv6", header(1, netip.MustParseAddrPort("[2001:db8::7]:1")), []string{"2001:db8::/32"}, true},
		{"for itself", own, []string{"192.0.2.0/24"}, true},
		{"not told, version 2", unknown, []string{"192.0.2.0/24"}, false},
		{"not told, version 1", "PROXY UNKNOWN\r\n", []string{"192.0.2.0/24"}, false},
		{"not told, and the balancer may", "PROXY UNKNOWN\r\n", []string{"127.0.0.0/8"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, ok := try(t, behind(t, networks(tt.clients...)), tt.hello); ok != tt.ok {
				t.Errorf("let in: %v", ok)
			}
		})
	}
	t.Run("limit per client", func(t *testing.T) {
		g := behind(t, func(_ *Options, c *Config) { c.Listeners[0].PerClient = 1 })
		first, ok1 := try(t, g, header(2, someone))
		_, ok2 := try(t, g, header(1, netip.AddrPortFrom(someone.Addr(), 9)))
		_, ok3 := try(t, g, header(2, netip.MustParseAddrPort("192.0.2.8:1")))
		if !ok1 || ok2 || !ok3 {
			t.Fatalf("%v %v %v", ok1, ok2, ok3)
		}
		first.Close()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if _, ok := try(t, g, header(2, someone)); ok {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the place is not given back")
			}
		}
	})
}

// TestIntroducedHooks: a hook that looks at clients sees the one that is told.
func TestIntroducedHooks(t *testing.T) {
	g := behind(t, func(o *Options, _ *Config) {
		o.Hooks = &connmodel.Hooks{ClientConnected: func(_ context.Context, c *connmodel.Client) error {
			if c.From() == someone {
				return errors.New("not this one")
			}
			return nil
		}}
	})
	c := dialTo(t, g.addr)
	io.WriteString(c, header(2, someone)+"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", b, err)
	}
}

// TestIntroductionPasses: what a balancer says of the client goes on to servers that a rule names, on each connection once, and no
// connection is shared between clients.
func TestIntroductionPasses(t *testing.T) {
	var mu sync.Mutex
	var heads []proxyproto.Header
	origin := serveTCP(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		in, told := []byte(nil), false
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if in = append(in, buf[:n]...); err != nil {
				return
			}
			if !told {
				h, n, err := proxyproto.Parse(in)
				if err == proxyproto.ErrIncomplete {
					continue
				} else if err != nil {
					t.Errorf("the server got %q: %v", in, err)
					return
				}
				mu.Lock()
				heads = append(heads, h)
				mu.Unlock()
				in, told = in[n:], true
			}
			for bytes.Contains(in, []byte("\r\n\r\n")) {
				if !bytes.HasPrefix(in, []byte("GET /")) {
					t.Errorf("the server got %q", in)
				}
				_, in, _ = bytes.Cut(in, []byte("\r\n\r\n"))
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	g := behind(t, func(_ *Options, c *Config) {
		d := loopbackOpen()
		d.ProxyProtocol = 2
		c.Listeners[0].Decider = always(d)
	})
	get := "GET http://" + origin + "/ HTTP/1.1\r\nHost: " + origin + "\r\n\r\n"
	others := []netip.AddrPort{someone, netip.MustParseAddrPort("192.0.2.8:52000")}
	for _, src := range others {
		c := dialTo(t, g.addr)
		io.WriteString(c, header(1, src))
		for range 3 {
			io.WriteString(c, get)
			if s := readResponse(t, c); !strings.HasSuffix(s, "ok") {
				t.Fatalf("answer %q", s)
			}
			f := g.records.next(t)
			if h := f.Server.Attempts[len(f.Server.Attempts)-1].Hops; h[len(h)-1].ProxyProto != 2 {
				t.Errorf("hops %+v", h)
			}
		}
		c.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heads) != 2 {
		t.Fatalf("%d connections with headers, want one for each client", len(heads))
	}
	for i, h := range heads {
		if h != (proxyproto.Header{Version: 2, Source: others[i], Destination: frontend}) {
			t.Errorf("header %+v", h)
		}
	}
}

// readResponse reads one response of the origin above.
func readResponse(t *testing.T, c net.Conn) string {
	t.Helper()
	var all []byte
	buf := make([]byte, 1)
	for !bytes.HasSuffix(all, []byte("\r\n\r\nok")) {
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		all = append(all, buf[0])
	}
	return string(all)
}

// TestIntroducedBeforeTLS: the header comes before TLS with the client, in whatever pieces, and TLS without it is no way in.
func TestIntroducedBeforeTLS(t *testing.T) {
	to := echo(t)
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	g := startTLS(t, func(_ *Options, c *Config, _ *upstreamtest.CA) {
		c.Listeners[0].ProxyProtocol = &ProxyProtocol{From: loopback}
	})
	for _, apart := range []bool{false, true} {
		nc := dialTo(t, g.addr)
		first := &withHeader{Conn: nc, header: []byte(header(2, someone))}
		if apart {
			nc.Write(first.header)
			first.header = nil
			time.Sleep(20 * time.Millisecond)
		}
		c := tls.Client(first, g.trust)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
		got := make([]byte, len(connectOK))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, connectOK) {
			t.Fatalf("%q, %v", got, err)
		}
		if err := shake(c, []byte("through both")); err != nil {
			t.Error(err)
		}
		c.Close()
		if f := g.records.next(t); f.Client.From() != someone || f.Client.TLSInfo == nil {
			t.Errorf("client %+v", f.Client)
		}
	}
	if err := tls.Client(dialTo(t, g.addr), g.trust).Handshake(); err == nil {
		t.Error("TLS without a header")
	}
	if f := g.records.next(t); f.Error == nil || !strings.Contains(f.Error.Message, "does not begin with a PROXY protocol header") {
		t.Errorf("%v", f.Error)
	}

	// A forward listener with TLS takes it away: a client of TLS reaches a plain server.
	f := startTLS(t, func(_ *Options, c *Config, _ *upstreamtest.CA) {
		c.Listeners[0].Protocols, c.Listeners[0].Target = Forward, address(t, to)
	})
	if err := shake(f.mustDialTLS(t, f.trust), []byte("taken away")); err != nil {
		t.Error(err)
	}
}

// withHeader writes a header in one piece with what is written first.
type withHeader struct {
	net.Conn
	header []byte
}

func (w *withHeader) Write(b []byte) (int, error) {
	if w.header == nil {
		return w.Conn.Write(b)
	}
	n, err := w.Conn.Write(append(w.header, b...))
	n, w.header = max(n-len(w.header), 0), nil
	return n, err
}

// TestSilentBalancers: ten thousand connections that never bring a header cost what any silent client costs, and keep nobody out.
func TestSilentBalancers(t *testing.T) {
	n := pick(500, 10000)
	g := behind(t, func(_ *Options, c *Config) { c.Limits.Connections = n / 2 })
	for range n / 2 {
		c, err := net.DialTimeout("tcp", g.addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	to := echo(t)
	c := dialTo(t, g.addr)
	io.WriteString(c, header(2, someone)+"CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n")
	got := make([]byte, len(connectOK))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, connectOK) {
		t.Errorf("%q, %v", got, err)
	}
}
