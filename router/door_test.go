package router

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

type oneUser struct{ user, password string }

func (o oneUser) Verify(user, password string) bool { return user == o.user && password == o.password }

func okOrigin(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(s.Close)
	return s
}

// exchange sends raw bytes and returns everything until the gateway closes.
func (g *gateway) exchange(t *testing.T, raw string) string {
	t.Helper()
	c := g.dial(t)
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v (%q)", raw, err, all)
	}
	return string(all)
}

func TestBadRequestsAreAnsweredAndRecorded(t *testing.T) {
	g := start(t, nil)
	for _, row := range []struct{ name, send, want string }{
		{"garbage", "\x01\x03\x01\x02\x00\x01\x00\r\n\r\n", "HTTP/1.1 400 "},
		{"origin form", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"https target", "GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"no host", "GET http://x/ HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		{"two hosts", "GET http://x/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"CL and TE", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 "},
		{"wrapped port", "CONNECT 127.0.0.1:83619 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"octal", "CONNECT 0177.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"zone", "CONNECT [fe80::1%25eth0]:80 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"version", "GET http://x/ HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 "},
		{"head too large", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
	} {
		got := g.exchange(t, row.send)
		if !strings.HasPrefix(got, row.want) || !strings.Contains(got, "\r\nProxy-Status: "+g.name+"; error=http_request_error") {
			t.Errorf("%s: got %.200q", row.name, got)
		}
		if f := g.records.next(t); f.Error == nil || f.Error.Side != connmodel.SideClient || f.Error.Phase != connmodel.PhaseHandshake {
			t.Errorf("%s: record has error %v", row.name, f.Error)
		}
	}
}

// TestProtocolsNotTaken: a SOCKS client is told no in its own protocol, and recorded.
func TestProtocolsNotTaken(t *testing.T) {
	const no4, no5 = "\x00\x5b\x00\x00\x00\x00\x00\x00", "\x05\xff"
	for _, row := range []struct {
		name       string
		takes      Protocols
		auth       Authenticator
		send, want string
		proto      connmodel.Protocol
		code       int // 0: no answer
	}{
		{"SOCKS5 to HTTP", HTTP, nil, "\x05\x01\x00", no5, connmodel.ProtocolSOCKS5, 0xff},
		{"SOCKS5 to SOCKS4", SOCKS4, nil, "\x05\x02\x00\x02", no5, connmodel.ProtocolSOCKS5, 0xff},
		{"SOCKS4 to HTTP", HTTP, nil, "\x04\x01\x00\x50\x7f\x00\x00\x01me\x00", no4, connmodel.ProtocolSOCKS4, 0x5b},
		{"SOCKS4 to HTTP and SOCKS5 with passwords", HTTP | SOCKS5, oneUser{"u", "p"}, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", no4, connmodel.ProtocolSOCKS4, 0x5b},
		{"SOCKS4 with passwords", AllProtocols, oneUser{"u", "p"}, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", no4, connmodel.ProtocolSOCKS4, 0x5b},
		{"HTTP to SOCKS", SOCKS4 | SOCKS5, nil, "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "", "", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, func(o *Options, c *Config) { c.Listeners[0].Protocols, c.Listeners[0].Auth = row.takes, row.auth })
			if got := g.exchange(t, row.send); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
			f := g.records.next(t)
			if f.Error == nil || f.Error.Blame != connmodel.BlameClient || f.Protocol != row.proto || (f.Reply == nil) != (row.code == 0) || f.Reply != nil && int(f.Reply.Code) != row.code {
				t.Errorf("record: %q, reply %+v, error %+v", f.Protocol, f.Reply, f.Error)
			}
		})
	}
}

func TestBytesBehindARefusedConnectAreNotARequest(t *testing.T) {
	d := &connmodel.Decision{Policy: "p", Rule: "no", Outcome: connmodel.OutcomeDeny}
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].Decider = always(d) })
	got := g.exchange(t, "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\nGET http://y.example/ HTTP/1.1\r\nHost: y\r\n\r\n")
	if strings.Count(got, "HTTP/1.1") != 1 || !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(got, `denied by rule "no"`) {
		t.Errorf("the page does not name the rule: %q", got)
	}
}

func TestAuthentication(t *testing.T) {
	origin := okOrigin(t)
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].Auth = oneUser{"anna", "s3cret"} })
	basic := func(up string) string {
		return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(up)) + "\r\n"
	}
	host := strings.TrimPrefix(origin.URL, "http://")
	for _, row := range []struct {
		name, field, want string
	}{
		{"none", "", "HTTP/1.1 407 "},
		{"wrong", basic("anna:wrong"), "HTTP/1.1 407 "},
		{"right", basic("anna:s3cret"), "HTTP/1.1 200 "},
		{"not basic", "Proxy-Authorization: Negotiate YII=\r\n", "HTTP/1.1 407 "},
	} {
		got := g.exchange(t, "GET "+origin.URL+"/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+row.field+"\r\n")
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: got %.100q", row.name, got)
		}
		if challenged := strings.Contains(got, "\r\nProxy-Authenticate: Basic realm="); challenged != strings.Contains(row.want, "407") {
			t.Errorf("%s: challenge %v", row.name, challenged)
		}
		f := g.records.next(t)
		if user := f.Client.User; (user == "anna") != (row.name == "right") {
			t.Errorf("%s: record says user %q", row.name, user)
		}
	}
	// SOCKS: right, wrong, not offered; SOCKS4 cannot prove anybody.
	ip, port, _ := net.SplitHostPort(host)
	var p uint16
	fmt.Sscan(port, &p)
	request := append([]byte{5, 1, 0, 1}, append(net.ParseIP(ip).To4(), byte(p>>8), byte(p))...)
	login := func(u, pw string) string {
		return "\x05\x01\x02\x01" + string(rune(len(u))) + u + string(rune(len(pw))) + pw
	}
	for _, row := range []struct{ name, send, want string }{
		{"no method", "\x05\x01\x00", "\x05\xff"},
		{"wrong password", login("anna", "nope"), "\x05\x02\x01"},
		{"pipelined request behind a wrong password", login("anna", "nope") + string(request), "\x05\x02\x01"},
		{"socks4", "\x04\x01" + string([]byte{byte(p >> 8), byte(p), 127, 0, 0, 1}) + "anna\x00", "\x00\x5b"},
	} {
		if got := g.exchange(t, row.send); !strings.HasPrefix(got, row.want) || len(got) > 8 {
			t.Errorf("%s: got %q", row.name, got)
		}
		if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindAuth {
			t.Errorf("%s: record has error %v", row.name, f.Error)
		}
	}
	c := g.dial(t)
	io.WriteString(c, login("anna", "s3cret")+string(request)+"GET / HTTP/1.0\r\n\r\n")
	all, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(all), "\x05\x02\x01\x00\x05\x00\x00\x01") || !strings.HasSuffix(string(all), "ok") {
		t.Errorf("right password over SOCKS5: %q", all)
	}
}

func TestClientNetworksAndLimits(t *testing.T) {
	g := start(t, func(o *Options, c *Config) {
		c.Listeners[0].Clients = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	if c, err := net.Dial("tcp", g.addr); err == nil { // the reset may come before connect returns
		c.SetDeadline(time.Now().Add(30 * time.Second))
		_, werr := io.WriteString(c, "CONNECT x:1 HTTP/1.1\r\n") // a reset is told once: to whoever asks first
		if b, err := io.ReadAll(c); len(b) != 0 || err == nil && werr == nil {
			t.Errorf("a client outside the networks got %q, %v and %v", b, werr, err)
		}
		c.Close()
	}

	origin := okOrigin(t)
	g = start(t, func(o *Options, c *Config) { c.Listeners[0].PerClient = 2 })
	a, b := g.dial(t), g.dial(t)
	for _, c := range []net.Conn{a, b} {
		fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
	}
	if third, err := net.Dial("tcp", g.addr); err == nil {
		third.SetDeadline(time.Now().Add(30 * time.Second))
		if n, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the third connection of one client: %d bytes, %v", n, err)
		}
		third.Close()
	}
	a.Close()
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 1 })
	again := g.dial(t)
	fmt.Fprintf(again, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
	if resp, err := http.ReadResponse(bufio.NewReader(again), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("after one has left: %v %v", resp, err)
	}
}

func TestConnectionLimitQueues(t *testing.T) {
	origin := okOrigin(t)
	g := start(t, func(o *Options, c *Config) { c.Limits.Connections = 2 })
	a, b := g.dial(t), g.dial(t)
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 2 })
	third := g.dial(t) // the kernel takes it; we do not
	fmt.Fprintf(third, "GET %s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", origin.URL)
	third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("the third connection was served beyond the limit")
	}
	if n := g.Stats().SessionsOpen; n != 2 {
		t.Errorf("%d sessions open, limit 2", n)
	}
	a.Close()
	third.SetReadDeadline(time.Now().Add(30 * time.Second))
	if got, err := io.ReadAll(third); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
		t.Errorf("after one has left: %q %v", got, err)
	}
	b.Close()
}

func TestSlowHandshakesAreCut(t *testing.T) {
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].HandshakeTimeout = 300 * time.Millisecond })
	for _, row := range []struct{ name, send, want string }{
		{"nothing at all", "", ""},
		{"half a head", "GET http://x/ HTTP/1.1\r\nHost:", "HTTP/1.1 408 "},
		{"half a greeting", "\x05\x02", ""},
		{"half a SOCKS4 request", "\x04\x01\x00", ""},
	} {
		began := time.Now()
		c := g.dial(t)
		for i := range len(row.send) { // one byte at a time does not buy more time
			io.WriteString(c, row.send[i:i+1])
		}
		got, _ := io.ReadAll(c)
		if took := time.Since(began); took < 200*time.Millisecond || took > 6*time.Second {
			t.Errorf("%s: cut after %v, want about 300 ms", row.name, took)
		}
		if !strings.HasPrefix(string(got), row.want) || row.want == "" && len(got) > 0 {
			t.Errorf("%s: got %q", row.name, got)
		}
	}
}

func TestUnixListener(t *testing.T) {
	origin := okOrigin(t)
	path := filepath.Join(t.TempDir(), "proxy.sock")
	g := start(t, func(o *Options, c *Config) {
		c.Listeners = append(c.Listeners, Listener{Name: "sock", Network: "unix", Address: path, Protocols: AllProtocols, Clients: []netip.Prefix{}, Decider: always(loopbackOpen())})
	})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host := strings.TrimPrefix(origin.URL, "http://")
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n", host)
	got, err := io.ReadAll(c)
	c.Close()
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") || !strings.HasSuffix(string(got), "ok") {
		t.Errorf("got %q, %v", got, err)
	}
	if f := g.records.next(t); f.Client.Listener != "sock" || f.Client.Peer.IsValid() {
		t.Errorf("record: listener %q, peer %v", f.Client.Listener, f.Client.Peer)
	}
}

func TestLoopByVia(t *testing.T) {
	g := start(t, nil)
	got := g.exchange(t, "GET http://x.example/ HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\nVia: 1.1 "+g.name+"\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 508 ") || !strings.Contains(got, "proxy_loop_detected") {
		t.Errorf("got %.300q", got)
	}
}

func TestEveryKindHasAnAnswer(t *testing.T) {
	for _, row := range []struct {
		e      connmodel.ConnError
		status int
		typ    string
		socks  byte
	}{
		{connmodel.ConnError{Kind: connmodel.KindRefused}, 502, "connection_refused", 5},
		{connmodel.ConnError{Kind: connmodel.KindUnreachable}, 502, "destination_ip_unroutable", 4},
		{connmodel.ConnError{Kind: connmodel.KindTimeout, Phase: connmodel.PhaseDial}, 504, "connection_timeout", 4},
		{connmodel.ConnError{Kind: connmodel.KindTimeout, Phase: connmodel.PhaseResolve}, 504, "dns_timeout", 4},
		{connmodel.ConnError{Kind: connmodel.KindTimeout, Phase: connmodel.PhaseRequest}, 504, "connection_read_timeout", 4},
		{connmodel.ConnError{Kind: connmodel.KindDNS}, 502, "dns_error", 4},
		{connmodel.ConnError{Kind: connmodel.KindAuth, Side: connmodel.SideHop, Code: 407, CodeOf: "http"}, 502, "proxy_configuration_error", 1},
		{connmodel.ConnError{Kind: connmodel.KindAuth, Side: connmodel.SideClient, Code: 407, CodeOf: "http"}, 407, "http_request_error", 1},
		{connmodel.ConnError{Kind: connmodel.KindDenied, Side: connmodel.SideHop, Code: 403, CodeOf: "http"}, 403, "http_request_denied", 2},
		{connmodel.ConnError{Kind: connmodel.KindDenied, Side: connmodel.SideViaduct}, 403, "destination_ip_prohibited", 2},
		{connmodel.ConnError{Kind: connmodel.KindDenied, Side: connmodel.SideViaduct, Code: 451, CodeOf: "http"}, 451, "http_request_denied", 2},
		{connmodel.ConnError{Kind: connmodel.KindTLS, Verdict: connmodel.ChainExpired}, 502, "tls_certificate_error", 1},
		{connmodel.ConnError{Kind: connmodel.KindTLS, Code: 40, CodeOf: "tls"}, 502, "tls_alert_received", 1},
		{connmodel.ConnError{Kind: connmodel.KindTLS}, 502, "tls_protocol_error", 1},
		{connmodel.ConnError{Kind: connmodel.KindProtocol}, 502, "http_protocol_error", 1},
		{connmodel.ConnError{Kind: connmodel.KindProtocol, Side: connmodel.SideViaduct, Code: 508, CodeOf: "http"}, 508, "proxy_loop_detected", 1},
		{connmodel.ConnError{Kind: connmodel.KindReset}, 502, "connection_terminated", 1},
		{connmodel.ConnError{Kind: connmodel.KindEOF}, 502, "connection_terminated", 1},
		{connmodel.ConnError{Kind: connmodel.KindLimit}, 503, "connection_limit_reached", 1},
		{connmodel.ConnError{Kind: connmodel.KindLimit, Side: connmodel.SideHop}, 502, "http_response_header_section_size", 1},
		{connmodel.ConnError{Kind: connmodel.KindCanceled}, 503, "proxy_internal_response", 1},
		{connmodel.ConnError{Kind: connmodel.KindInternal}, 500, "proxy_internal_error", 1},
	} {
		if a := answerFor(&row.e); a.status != row.status || a.error != row.typ {
			t.Errorf("%+v: %d %s, want %d %s", row.e, a.status, a.error, row.status, row.typ)
		}
		if s := socks5Reply(&row.e); s != row.socks {
			t.Errorf("%+v: SOCKS %d, want %d", row.e, s, row.socks)
		}
	}
}

func TestAnswersCannotBeInjected(t *testing.T) {
	e := &connmodel.ConnError{Side: connmodel.SideHop, Hop: 1, HopName: "a\"b\r\nX: y", Kind: connmodel.KindProtocol, Message: "said \r\nSet-Cookie: z\x1b[31m\x00 é"}
	got := string(appendErrorHTTP(nil, "viaduct-1", &flowText{id: "i", target: "t\x1b[2J", rule: "r\n"}, e, "re\"alm", false, true))
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n") {
		if strings.HasPrefix(line, "X:") || strings.HasPrefix(line, "Set-Cookie") || strings.ContainsAny(line, "\r\n\x1b\x00") {
			t.Errorf("injected line %q", line)
		}
	}
	if strings.ContainsAny(body, "\x1b\x00\r") {
		t.Errorf("body holds control bytes: %q", body)
	}
}

// TestPanicEndsOneSession proves that a panic in one flow is recorded, counted, and ends nothing else.
func TestPanicEndsOneSession(t *testing.T) {
	records := newMemory()
	d := connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
		if f.Target.Host == "boom.example" {
			panic("boom")
		}
		return loopbackOpen(), 0
	})
	g := start(t, func(o *Options, c *Config) {
		c.Listeners[0].Decider = d
		o.Records = records
	})
	c := g.dial(t)
	io.WriteString(c, "CONNECT boom.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadAll(c)
	f := records.next(t)
	if !f.Panicked || f.Reason != connmodel.CloseInternal || f.Error == nil || f.Error.Kind != connmodel.KindInternal {
		t.Errorf("record: panicked %v, reason %s, error %v", f.Panicked, f.Reason, f.Error)
	}
	if n := g.Stats().Panics; n != 1 {
		t.Errorf("%d panics counted", n)
	}
	origin := okOrigin(t)
	if resp, err := g.client(t).Get(origin.URL); err != nil || resp.StatusCode != 200 {
		t.Errorf("another session: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	g.stats.panics.Store(0)
}

func TestHooksRefuseEditAndAskAgain(t *testing.T) {
	origin := okOrigin(t)
	var mu sync.Mutex
	events := map[connmodel.EventKind]int{}
	addr, _ := connmodel.ParseAddress(strings.TrimPrefix(origin.URL, "http://"))
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	dead, _ := connmodel.ParseAddress(closed.Addr().String())
	closed.Close()
	asked := 0
	h := &connmodel.Hooks{
		Observe: func(e connmodel.Event, flow func() *connmodel.Flow, c *connmodel.Client) {
			mu.Lock()
			events[e.Kind]++
			mu.Unlock()
		},
		ServerConnect: func(ctx context.Context, f *connmodel.Flow, p *connmodel.ServerPlan) error {
			switch f.Target.Host {
			case "refused.example":
				return errors.New("not this one")
			case "slow.example":
				<-ctx.Done()
				return nil
			case "panics.example":
				panic("hook")
			case "inside.example":
				p.Address = connmodel.Address{Host: "169.254.169.254", Port: 80}
			case "retry.example":
				p.Address = dead
			default:
				p.Address = addr
			}
			return nil
		},
		ServerConnectError: func(ctx context.Context, f *connmodel.Flow, p *connmodel.ServerPlan, err *connmodel.ConnError) (bool, error) {
			asked++
			p.Address = addr
			return true, nil
		},
		Timeout: 200 * time.Millisecond,
	}
	g := start(t, func(o *Options, c *Config) { o.Hooks = h })
	for _, row := range []struct {
		host string
		want int
	}{{"moved.example", 200}, {"refused.example", 403}, {"slow.example", 403}, {"panics.example", 403}, {"inside.example", 403}, {"retry.example", 200}} {
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT %s:80 HTTP/1.1\r\nHost: x\r\n\r\n", row.host)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != row.want {
			t.Errorf("%s: %v %v, want %d", row.host, resp, err, row.want)
		}
		c.Close()
		g.records.next(t)
	}
	if asked != 1 {
		t.Errorf("ServerConnectError was asked %d times", asked)
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
	mu.Lock()
	defer mu.Unlock()
	for kind, n := range map[connmodel.EventKind]int{
		connmodel.EventClientConnected: 6, connmodel.EventClientDisconnected: 6, connmodel.EventDecision: 6,
		connmodel.EventServerConnect: 3, connmodel.EventServerConnected: 2, connmodel.EventServerConnectError: 1,
	} {
		if events[kind] != n {
			t.Errorf("%d events %s, want %d", events[kind], kind, n)
		}
	}
}

// brokenSink panics, and so does everything that is told of the panic.
type brokenSink struct{ Meter }

func (brokenSink) Record(*connmodel.Flow)                                           { panic("sink") }
func (brokenSink) Panicked()                                                        { panic("meter") }
func (brokenSink) Close(*connmodel.Flow)                                            { panic("log") }
func (brokenSink) Decision(FlowLine)                                                {}
func (brokenSink) Event(Level, string, ...any)                                      {}
func (brokenSink) FlowClosed(*connmodel.Flow)                                       {}
func (brokenSink) SessionOpened(string)                                             {}
func (brokenSink) SessionClosed(string)                                             {}
func (brokenSink) SessionRefused(string, string)                                    {}
func (brokenSink) CertificateWarned(connmodel.Side, string, connmodel.ChainVerdict) {}

// TestPanicsOfSinksEndNoProcess is R24 for what a program gives us: the session ends and gives back what it held, the rest lives.
func TestPanicsOfSinksEndNoProcess(t *testing.T) {
	target := echo(t)
	g := start(t, func(o *Options, c *Config) { o.Records, o.Log, o.Meter = brokenSink{}, brokenSink{}, brokenSink{} })
	for range 3 {
		c, err := g.open(target)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
	if n := g.Stats().Panics; n != 3 {
		t.Errorf("%d panics counted, want 3", n)
	}
	g.stats.panics.Store(0)
}

// TestConnectLoopIsRefused lets two gateways be each other's upstream: a CONNECT comes back once and is refused, rather than taking every
// connection of both.
func TestConnectLoopIsRefused(t *testing.T) {
	reserve := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		return ln.Addr().String()
	}
	a, b := reserve(), reserve()
	through := func(at, to string) *gateway {
		parent, err := connmodel.ParseAddress(to)
		if err != nil {
			t.Fatal(err)
		}
		return start(t, func(o *Options, c *Config) {
			c.Routes, err = upstream.NewTable(upstream.Config{Upstreams: []upstream.Spec{{Name: "parent", Scheme: "http", Address: parent}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			d := loopbackOpen()
			d.Route = "upstream.parent"
			c.Listeners[0].Address, c.Listeners[0].Decider = at, always(d)
		})
	}
	first, second := through(a, b), through(b, a)
	got := first.exchange(t, "CONNECT far.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 50") {
		t.Errorf("got %.200q", got)
	}
	if n := first.Stats().Sessions + second.Stats().Sessions; n > 3 {
		t.Errorf("%d sessions for one request: it went round", n)
	}
	first.records.next(t) // that of the loop, and that of the client, which may have its answer before them
	first.records.next(t)
	loops := 0
	first.records.mu.Lock()
	for _, f := range first.records.flows {
		if f.Error != nil && f.Error.Code == 508 && f.Error.Side == connmodel.SideViaduct {
			loops++
		}
	}
	first.records.mu.Unlock()
	if loops != 1 {
		t.Errorf("%d records say loop, want 1", loops)
	}
}
