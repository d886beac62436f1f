package router

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// asClient asks for target as one of the clients that Viaduct serves, and returns what the client is told: an HTTP status and the value
// of Proxy-Status, or the code of a SOCKS reply.
var asClients = []struct {
	name string
	ask  func(t *testing.T, g *gateway, target string) (code int, proxyStatus string)
}{
	{"connect", func(t *testing.T, g *gateway, target string) (int, string) {
		resp := g.answer(t, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
		return resp.StatusCode, resp.Header.Get("Proxy-Status")
	}},
	{"connect 1.0", func(t *testing.T, g *gateway, target string) (int, string) {
		resp := g.answer(t, "CONNECT "+target+" HTTP/1.0\r\n\r\n")
		return resp.StatusCode, resp.Header.Get("Proxy-Status")
	}},
	{"plain", func(t *testing.T, g *gateway, target string) (int, string) {
		resp := g.answer(t, "GET http://"+target+"/ HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
		return resp.StatusCode, resp.Header.Get("Proxy-Status")
	}},
	{"socks5", func(t *testing.T, g *gateway, target string) (int, string) {
		host, port, _ := strings.Cut(target, ":")
		c := g.dial(t)
		var p int
		fmt.Sscan(port, &p)
		io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x03"+string(rune(len(host)))+host+string([]byte{byte(p >> 8), byte(p)}))
		got, err := io.ReadAll(c)
		if err != nil || len(got) != 12 {
			t.Fatalf("SOCKS5 said %x, %v", got, err)
		}
		return int(got[3]), ""
	}},
	{"socks4a", func(t *testing.T, g *gateway, target string) (int, string) {
		host, port, _ := strings.Cut(target, ":")
		c := g.dial(t)
		var p int
		fmt.Sscan(port, &p)
		io.WriteString(c, "\x04\x01"+string([]byte{byte(p >> 8), byte(p)})+"\x00\x00\x00\x01\x00"+host+"\x00")
		got, err := io.ReadAll(c)
		if err != nil || len(got) != 8 || got[0] != 0 {
			t.Fatalf("SOCKS4 said %x, %v", got, err)
		}
		return int(got[1]), ""
	}},
}

// TestFailureOfEachHop: whatever a hop does wrong, each client is told in its own protocol, the hop is named, and the record says the same.
func TestFailureOfEachHop(t *testing.T) {
	type failure struct {
		name      string
		scheme    string
		behaviour upstreamtest.Behaviour
		kind      connmodel.Kind
		status    int
		socks5    int
		error     string // of Proxy-Status
		notPlain  bool   // the answer to an absolute-form request is the server's affair: it is passed on
	}
	rows := []failure{
		{"reset", "http", upstreamtest.ResetAfterRequest, connmodel.KindReset, 502, 1, "connection_terminated", false},
		{"close", "http", upstreamtest.CloseAfterRequest, connmodel.KindEOF, 502, 1, "connection_terminated", false},
		{"close at once", "http", upstreamtest.CloseAtOnce, connmodel.KindEOF, 502, 1, "connection_terminated", false},
		{"silence", "http", upstreamtest.SilenceAfterRequest, connmodel.KindTimeout, 504, 4, "connection_timeout", true},
		{"junk", "http", upstreamtest.Junk, connmodel.KindProtocol, 502, 1, "http_protocol_error", false},
		{"half a reply", "http", upstreamtest.HalfReply, connmodel.KindEOF, 502, 1, "connection_terminated", true},
		{"a head of 100,000 bytes", "http", upstreamtest.HugeHead(100_000), connmodel.KindLimit, 502, 1, "http_response_header_section_size", true},
		{"a head without end", "http", upstreamtest.EndlessHead, connmodel.KindLimit, 502, 1, "http_response_header_section_size", true},
		{"407", "http", upstreamtest.Status(407, "who"), connmodel.KindAuth, 502, 1, "proxy_configuration_error", false},
		{"403", "http", upstreamtest.Status(403, "no"), connmodel.KindDenied, 403, 2, "http_request_denied", true},
		{"503", "http", upstreamtest.Status(503, "busy"), "", 0, 0, "", true},
		{"wrong version", "socks5", upstreamtest.WrongVersion, connmodel.KindProtocol, 502, 1, "http_protocol_error", false},
		{"socks silence", "socks5", upstreamtest.Silence, connmodel.KindTimeout, 504, 4, "connection_timeout", false},
		{"socks reset", "socks5", upstreamtest.ResetAfterRequest, connmodel.KindReset, 502, 1, "connection_terminated", false},
		{"socks half a reply", "socks5h", upstreamtest.HalfReply, connmodel.KindEOF, 502, 1, "connection_terminated", false},
		{"no method", "socks5", upstreamtest.MethodReply(5, 0xff), connmodel.KindAuth, 502, 1, "proxy_configuration_error", false},
		{"socks5 ruleset", "socks5h", upstreamtest.SOCKSReply(2), connmodel.KindDenied, 403, 2, "http_request_denied", false},
		{"socks5 unknown reply", "socks5h", upstreamtest.SOCKSReply(99), connmodel.KindProtocol, 502, 1, "http_protocol_error", false},
		{"socks5 command", "socks5h", upstreamtest.SOCKSReply(7), connmodel.KindProtocol, 502, 1, "http_protocol_error", false},
		{"socks4 junk", "socks4a", upstreamtest.Junk, connmodel.KindProtocol, 502, 1, "http_protocol_error", false},
		{"socks4 close", "socks4a", upstreamtest.CloseAfterRequest, connmodel.KindEOF, 502, 1, "connection_terminated", false},
	}
	first := upstreamtest.NewSOCKS5(t, upstreamtest.Options{})
	far := echo(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o := upstreamtest.Options{Script: []upstreamtest.Behaviour{row.behaviour}, Hosts: map[string]string{"far.example:8080": far, "192.0.2.1:8080": far}}
			var second *upstreamtest.Proxy
			switch {
			case row.scheme == "http":
				second = upstreamtest.NewHTTP(t, o)
			case strings.HasPrefix(row.scheme, "socks5"):
				second = upstreamtest.NewSOCKS5(t, o)
			default:
				second = upstreamtest.NewSOCKS4(t, o)
			}
			short := upstream.HopTimeouts{Dial: 5 * time.Second, TLS: time.Second, Handshake: 700 * time.Millisecond}
			g := start(t, func(o *Options, c *Config) {
				c.Routes = routes(t, upstream.Config{
					Upstreams: []upstream.Spec{
						{Name: "one", Scheme: "socks5h", Address: address(t, first.Addr())},
						{Name: "two", Scheme: row.scheme, Address: address(t, second.Addr()), Timeouts: short},
					},
					Chains:   []upstream.ChainSpec{{Name: "both", Hops: []string{"upstream.one", "upstream.two"}}},
					Resolver: fixedResolver{"far.example": "192.0.2.1"},
				})
				c.Listeners[0].Decider = always(via("chain.both"))
			})
			for _, client := range asClients {
				if client.name == "plain" && row.notPlain {
					continue
				}
				code, said := client.ask(t, g, "far.example:8080")
				f := g.records.next(t)
				if f.Error == nil {
					t.Errorf("%s: no error in the record", client.name)
					continue
				}
				if row.kind == "" { // a proxy that says the server cannot be reached
					if f.Error.HopName != "two" || code < 1 {
						t.Errorf("%s: %d, record %+v", client.name, code, f.Error)
					}
					continue
				}
				if f.Error.Kind != row.kind || f.Error.Hop != 2 || f.Error.HopName != "two" || f.Error.Side != connmodel.SideHop {
					t.Errorf("%s: record: %s of hop %d (%s), side %s: %v", client.name, f.Error.Kind, f.Error.Hop, f.Error.HopName, f.Error.Side, f.Error)
				}
				if n := len(f.Server.Attempts); n != 1 || len(f.Server.Attempts[0].Hops) < 2 || f.Server.Attempts[0].Hops[1].Upstream != "two" {
					t.Errorf("%s: attempts %+v", client.name, f.Server.Attempts)
				} else if client.name != "plain" && (f.Server.Attempts[0].Hops[1].Error == nil || f.Server.Attempts[0].Hops[0].Error != nil) {
					t.Errorf("%s: the wrong hop is blamed: %+v", client.name, f.Server.Attempts[0].Hops)
				}
				want := row.status
				switch client.name {
				case "socks5":
					want = row.socks5
				case "socks4a":
					want = 0x5b
				}
				if code != want || f.Reply == nil || int(f.Reply.Code) != code {
					t.Errorf("%s: the client is told %d, want %d; the record says %+v", client.name, code, want, f.Reply)
				}
				if want >= 400 && (!strings.HasPrefix(said, g.name+"; error="+row.error+";") || !strings.Contains(said, `; next-hop="two"`)) {
					t.Errorf("%s: Proxy-Status: %s", client.name, said)
				}
				if want == 502 && row.name == "407" && !strings.Contains(said, "received-status=407") {
					t.Errorf("%s: Proxy-Status: %s", client.name, said)
				}
			}
		})
	}
}

// TestAHopThatIsDown: the first hop, and one behind it.
func TestAHopThatIsDown(t *testing.T) {
	alive := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	dead := upstreamtest.Refused(t)
	for _, row := range []struct {
		name, one, two string
		hop            int
		hopName        string
	}{
		{"the first", dead, alive.Addr(), 1, "one"},
		{"the second", alive.Addr(), dead, 2, "two"},
	} {
		g := start(t, func(o *Options, c *Config) {
			c.Routes = routes(t, upstream.Config{
				Upstreams: []upstream.Spec{{Name: "one", Scheme: "http", Address: address(t, row.one)}, {Name: "two", Scheme: "http", Address: address(t, row.two)}},
				Chains:    []upstream.ChainSpec{{Name: "both", Hops: []string{"upstream.one", "upstream.two"}}},
			})
			c.Listeners[0].Decider = always(via("chain.both"))
		})
		resp := g.answer(t, "CONNECT far.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		f := g.records.next(t)
		if resp.StatusCode < 502 || f.Error == nil || f.Error.Hop != row.hop || f.Error.HopName != row.hopName || f.Error.Blame != connmodel.BlameProxy {
			t.Errorf("%s: %d, %+v", row.name, resp.StatusCode, f.Error)
		}
		if said := resp.Header.Get("Proxy-Status"); !strings.Contains(said, `next-hop="`+row.hopName+`"`) {
			t.Errorf("%s: %s", row.name, said)
		}
	}
}

// TestHalfAResponseIsNotAWholeOne: the client of a response that breaks off sees a broken connection.
func TestHalfAResponseIsNotAWholeOne(t *testing.T) {
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	g := start(t, nil)
	resp, err := g.client(t).Get(origin.URL("/short/100000"))
	if err == nil {
		var n int64
		n, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("half a body of %d bytes looked whole", n)
		}
	}
	if f := g.records.next(t); f.Reason != connmodel.CloseServerReset || f.First != connmodel.SideServer || f.Error == nil || f.Error.Side != connmodel.SideServer {
		t.Errorf("record: %s, first %q, %v", f.Reason, f.First, f.Error)
	}
}

// TestUpgrade: WebSocket and its like become a tunnel after 101, in both directions and with the bytes that came early.
func TestUpgrade(t *testing.T) {
	origin := serveTCP(t, func(c net.Conn) { // the beginning of the WebSocket handshake, then echo
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil || req.Header.Get("Sec-Websocket-Key") == "" || req.Header.Get("Upgrade") != "websocket" {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, br)
	})
	proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	for _, route := range []string{"direct", "upstream.p"} {
		g := start(t, func(o *Options, c *Config) {
			c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "p", Scheme: "http", Address: address(t, proxy.Addr()), PlainConnect: true}}})
			c.Listeners[0].Decider = always(via(route))
		})
		c := g.dial(t)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", "http://"+origin+"/chat")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") {
			t.Fatalf("%s: %v %v", route, resp, err)
		}
		for _, m := range []string{"frame one", "frame two"} {
			io.WriteString(c, m)
			got := make([]byte, len(m))
			if _, err := io.ReadFull(br, got); err != nil || string(got) != m {
				t.Fatalf("%s: %q %v", route, got, err)
			}
		}
		c.Close()
		f := g.records.next(t)
		if f.Protocol != connmodel.ProtocolHTTP || f.Response == nil || f.Response.Status != 101 || f.Up != 18 || f.Down != 18 || f.Error != nil || f.Reason != connmodel.CloseClient {
			t.Errorf("%s: record: %s %v up %d down %d, %v", route, f.Reason, f.Response, f.Up, f.Down, f.Error)
		}
	}
}

// TestHTTP10Clients: no chunks, no kept connection unless asked for, the end of the body by the end of the connection.
func TestHTTP10Clients(t *testing.T) {
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	g := start(t, nil)
	for _, path := range []string{"/bytes/5000", "/chunked/5000", "/until-close/5000"} {
		got := g.exchange(t, "GET "+origin.URL(path)+" HTTP/1.0\r\n\r\n")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 200 ") && !strings.HasPrefix(head, "HTTP/1.0 200 ") || len(body) != 5000 || strings.Contains(head, "chunked") {
			t.Errorf("%s: %d bytes of body, head %q", path, len(body), head)
		}
		if f := g.records.next(t); f.Reason != connmodel.CloseDone || f.Down != 5000 {
			t.Errorf("%s: record: %s, down %d", path, f.Reason, f.Down)
		}
	}
}

// TestSOCKSRepliesNameTheBoundAddress: it is the address our socket to the far side really has.
func TestSOCKSRepliesNameTheBoundAddress(t *testing.T) {
	peers := make(chan netip.AddrPort, 2)
	target := netip.MustParseAddrPort(serveTCP(t, func(c net.Conn) { peers <- addrPort(c.RemoteAddr()) }))
	g := start(t, nil)
	ip, port := target.Addr().As4(), []byte{byte(target.Port() >> 8), byte(target.Port())}
	five := g.exchange(t, "\x05\x01\x00\x05\x01\x00\x01"+string(ip[:])+string(port))
	if peer := <-peers; five != "\x05\x00\x05\x00\x00\x01"+string(peer.Addr().AsSlice())+string([]byte{byte(peer.Port() >> 8), byte(peer.Port())}) {
		t.Errorf("SOCKS5: %x, the server saw %s", five, peer)
	}
	four := g.exchange(t, "\x04\x01"+string(port)+string(ip[:])+"\x00")
	if peer := <-peers; four != "\x00\x5a"+string([]byte{byte(peer.Port() >> 8), byte(peer.Port())})+string(peer.Addr().AsSlice()) {
		t.Errorf("SOCKS4: %x, the server saw %s", four, peer)
	}
}

// fixedResolver knows a few names.
type fixedResolver map[string]string

func (r fixedResolver) Lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if ip, ok := r[host]; ok {
		return []netip.Addr{netip.MustParseAddr(ip)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// TestAlertAfterTheHandshake: with TLS 1.3 a server refuses a client without a certificate when our side of the handshake is long done. The
// alert is told, with what to do about it.
func TestAlertAfterTheHandshake(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	wants := ca.ServerTLS(t, "127.0.0.1")
	wants.ClientAuth, wants.ClientCAs, wants.MinVersion = tls.RequireAndVerifyClientCert, ca.Pool(), tls.VersionTLS13
	far := serveTCP(t, func(c net.Conn) {
		tls.Server(c, wants).Handshake()
		io.Copy(io.Discard, c) // closing with bytes unread would be a reset, and take the alert away
	})
	d := loopbackOpen()
	d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"}}
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].Decider = always(d) })
	check := func(t *testing.T, phase connmodel.Phase) {
		t.Helper()
		e := g.records.next(t).Error
		if e == nil || e.Kind != connmodel.KindTLS || e.Code != 116 || e.CodeOf != "tls" || e.Side != connmodel.SideServer || e.Phase != phase ||
			e.Blame != connmodel.BlameTarget || !strings.Contains(e.Message, "tls: certificate required") || !strings.Contains(e.Message, "the rule's tls block") {
			t.Errorf("record: %+v", e)
		}
	}
	t.Run("plain", func(t *testing.T) {
		r := g.answer(t, "GET http://"+far+"/ HTTP/1.1\r\nHost: "+far+"\r\n\r\n")
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != 502 || !strings.Contains(r.Header.Get("Proxy-Status"), "error=tls_alert_received") || !strings.Contains(string(body), "certificate required") {
			t.Errorf("%d %s %s", r.StatusCode, r.Header.Get("Proxy-Status"), body)
		}
		check(t, connmodel.PhaseRequest)
	})
	t.Run("tunnel", func(t *testing.T) {
		c := g.tunnel(t, far)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.Copy(io.Discard, c)
		check(t, connmodel.PhaseRelay)
	})
}
