package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// bySNI decides as a policy would whose rules ask for the ClientHello: bad.example is denied, what disagrees with the target too.
func bySNI(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
	if need := f.Lacks(connmodel.NeedHello); need != 0 {
		return nil, need
	}
	d := loopbackOpen()
	d.Rule = "otherwise"
	if h := f.Hello; h != nil {
		d.Rule = "sni " + h.SNI
		if h.SNI == "bad.example" || f.SNIMismatch() {
			d.Outcome, d.Denial = connmodel.OutcomeDeny, &connmodel.Denial{Status: 403, Reason: "not this one"}
		}
	}
	return d, 0
}

// sniffing starts a gateway whose policy is decide.
func sniffing(t *testing.T, decide connmodel.DeciderFunc, change func(*Options, *Config)) *gateway {
	return start(t, func(o *Options, c *Config) {
		c.Listeners[0].Decider = decide
		if change != nil {
			change(o, c)
		}
	})
}

// tlsServer is a server of TLS that says hello to every client, and sends back what comes.
func tlsServer(t *testing.T) string {
	t.Helper()
	cert := upstreamtest.MustCA(t).MustIssue(t, upstreamtest.CertOptions{}, "localhost")
	return serveTCP(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
		if s.Handshake() == nil {
			io.Copy(s, s)
		}
	})
}

func insecure(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
}

// openBy asks for a tunnel in one of the protocols, and returns it after the yes.
func openBy(t *testing.T, g *gateway, proto connmodel.Protocol, target string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", g.addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	a := address(t, target)
	port := binary.BigEndian.AppendUint16(nil, a.Port)
	var want []byte
	switch proto {
	case connmodel.ProtocolConnect:
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		want = connectOK
	case connmodel.ProtocolSOCKS5:
		c.Write(bytes.Join([][]byte{{5, 1, 0, 5, 1, 0, 3, byte(len(a.Host))}, []byte(a.Host), port}, nil))
		want = []byte{5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	case connmodel.ProtocolSOCKS4a:
		c.Write(bytes.Join([][]byte{{4, 1}, port, {0, 0, 0, 1, 0}, []byte(a.Host), {0}}, nil))
		want = []byte{0, 0x5a, 0, 0, 0, 0, 0, 0}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: answered %q, expected %q", proto, got, want)
	}
	return c
}

// local is server by the name localhost, which is what SNI is compared with.
func local(server string) string {
	_, port, _ := net.SplitHostPort(server)
	return "localhost:" + port
}

func TestClientHelloIsSeen(t *testing.T) {
	var mu sync.Mutex
	events := map[connmodel.ID][]string{} // of each session: the end of one may be told while the next has begun
	g := sniffing(t, bySNI, func(o *Options, c *Config) {
		o.Hooks = &connmodel.Hooks{Observe: func(e connmodel.Event, _ func() *connmodel.Flow, _ *connmodel.Client) {
			mu.Lock()
			events[e.Session] = append(events[e.Session], string(e.Kind))
			mu.Unlock()
		}}
	})
	server := tlsServer(t)
	for _, proto := range []connmodel.Protocol{connmodel.ProtocolConnect, connmodel.ProtocolSOCKS5, connmodel.ProtocolSOCKS4a} {
		c := tls.Client(openBy(t, g, proto, local(server)), insecure("localhost"))
		if err := shake(c, []byte("hello")); err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		if c.ConnectionState().NegotiatedProtocol != "h2" {
			t.Errorf("%s: the server agreed on %q", proto, c.ConnectionState().NegotiatedProtocol)
		}
		c.Close()
		f := g.records.next(t)
		h := f.Client.Hello
		if f.Error != nil || h == nil || h.SNI != "localhost" || !h.Offers("h2") || !strings.HasPrefix(h.JA4, "t13d") || f.Decision.Rule != "sni localhost" {
			t.Errorf("%s: hello %+v, decision %+v, error %v", proto, h, f.Decision, f.Error)
		}
		if f.Reply == nil || !f.Reply.Early || f.Reply.Time.After(f.Decided) {
			t.Errorf("%s: reply %+v, decided %v", proto, f.Reply, f.Decided)
		}
		mu.Lock()
		if all := strings.Join(events[f.Session], " "); !strings.Contains(all, "client_connected tls_clienthello decision server_connect") {
			t.Errorf("%s: events %s", proto, all)
		}
		mu.Unlock()
	}
}

// Whoever sends its hello byte by byte, in any number of records, is seen as well, and the server gets every byte.
func TestClientHelloInPieces(t *testing.T) {
	g := sniffing(t, bySNI, nil)
	server := tlsServer(t)
	for _, size := range []int{1, 1000} { // of records
		c := openBy(t, g, connmodel.ProtocolConnect, local(server))
		c.(*net.TCPConn).SetNoDelay(true)
		tc := tls.Client(&shredded{Conn: c, record: size}, insecure("localhost"))
		if err := shake(tc, []byte("hello")); err != nil {
			t.Fatalf("records of %d: %v", size, err)
		}
		tc.Close()
		if f := g.records.next(t); f.Decision.Rule != "sni localhost" || f.Error != nil {
			t.Errorf("records of %d: %+v, %v", size, f.Decision, f.Error)
		}
	}
}

// shredded writes the first record as many, and byte by byte.
type shredded struct {
	net.Conn
	record int
	done   bool
}

func (c *shredded) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	n := int(binary.BigEndian.Uint16(b[3:5]))
	msg, rest := b[5:5+n], b[5+n:]
	for len(msg) > 0 {
		part := msg[:min(c.record, len(msg))]
		msg = msg[len(part):]
		for _, x := range append([]byte{22, 3, 1, byte(len(part) >> 8), byte(len(part))}, part...) {
			if _, err := c.Conn.Write([]byte{x}); err != nil {
				return 0, err
			}
		}
	}
	if _, err := c.Conn.Write(rest); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A denial and a failed dial come as alerts, because a yes has been said.
func TestLateNoToTLS(t *testing.T) {
	g := sniffing(t, bySNI, nil)
	closed := local(closedPort(t))
	for _, c := range []struct {
		name, target, sni string
		alert             byte
		kind              connmodel.Kind
	}{
		{"denied", local(tlsServer(t)), "bad.example", alertAccessDenied, connmodel.KindDenied},
		{"mismatch", local(tlsServer(t)), "good.example", alertAccessDenied, connmodel.KindDenied},
		{"refused", closed, "localhost", alertInternalError, connmodel.KindRefused},
	} {
		for _, proto := range []connmodel.Protocol{connmodel.ProtocolConnect, connmodel.ProtocolSOCKS5} {
			tc := tls.Client(openBy(t, g, proto, c.target), insecure(c.sni))
			err := tc.Handshake()
			if alert, ok := connmodel.PeerAlert(err); !ok || byte(alert) != c.alert {
				t.Errorf("%s by %s: %v, expected alert %d", c.name, proto, err, c.alert)
			}
			f := g.records.next(t)
			if f.Error == nil || f.Error.Kind != c.kind || !f.Reply.Early || f.Client.Hello == nil || f.Client.Hello.SNI != c.sni {
				t.Errorf("%s by %s: error %v, reply %+v, hello %+v", c.name, proto, f.Error, f.Reply, f.Client.Hello)
			}
		}
	}
}

func closedPort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// What is no hello passes as nothing, what begins as one and is none is refused, and nothing else is.
func TestStrangeFirstBytes(t *testing.T) {
	g := sniffing(t, bySNI, func(_ *Options, c *Config) { c.Listeners[0].HandshakeTimeout = time.Second })
	server := echo(t)
	for _, raw := range []string{"SSH-2.0-x\r\n", "\x00\x01\x02", "GET / HTTP/1.1\r\n\r\n", "\x16\x10", "\x16\x02\x00\x00\x05\x02", "\x15\x03\x01"} {
		c := openBy(t, g, connmodel.ProtocolConnect, server)
		if err := shake(c, []byte(raw)); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		c.Close()
		if f := g.records.next(t); f.Decision.Rule != "otherwise" || f.Error != nil {
			t.Errorf("%q: %+v, %v", raw, f.Decision, f.Error)
		}
	}
	name := func(sni string) []byte { // a hello with that name
		b := []byte{3, 3}
		b = append(b, make([]byte, 32)...)
		ext := append([]byte{0, 0, 0, byte(len(sni) + 5), 0, byte(len(sni) + 3), 0, 0, byte(len(sni))}, sni...)
		b = append(b, 0, 0, 2, 0x13, 1, 1, 0, 0, byte(len(ext)))
		b = append(b, ext...)
		b = append([]byte{1, 0, 0, byte(len(b))}, b...)
		return append([]byte{22, 3, 1, 0, byte(len(b))}, b...)
	}
	for _, c := range []struct {
		name  string
		raw   []byte
		alert byte
		says  string
		close bool // after it
	}{
		{"garbage", []byte{22, 3, 1, 0, 4, 9, 9, 9, 9}, alertDecodeError, "not a ClientHello", false},
		{"oversize", []byte{22, 3, 1, 0, 4, 1, 255, 255, 255}, alertDecodeError, "longer than", false},
		{"NUL", name("a\x00b"), alertUnrecognizedName, "control character", false},
		{"CRLF", name("a\r\nb"), alertUnrecognizedName, "control character", false},
		{"cut by the client", name("a.example")[:30], alertDecodeError, "in the middle", true},
		{"never complete", name("a.example")[:30], alertDecodeError, "in time", false},
	} {
		tc := openBy(t, g, connmodel.ProtocolConnect, server)
		tc.Write(c.raw)
		if c.close {
			tc.(*net.TCPConn).CloseWrite()
		}
		got, _ := io.ReadAll(tc)
		if want := []byte{21, 3, 1, 0, 2, 2, c.alert}; !bytes.Equal(got, want) {
			t.Errorf("%s: answered %x, expected %x", c.name, got, want)
		}
		tc.Close()
		f := g.records.next(t)
		if e := f.Error; e == nil || e.Phase != connmodel.PhaseSniff || e.Side != connmodel.SideClient || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: error %+v", c.name, e)
		}
	}
	c := openBy(t, g, connmodel.ProtocolConnect, server)
	if err := shake(c, name("192.0.2.1")); err != nil {
		t.Errorf("an address as name: %v", err)
	}
	c.Close()
	if f := g.records.next(t); f.Error != nil || f.Client.Hello.SNIError == "" || f.Decision.Rule != "sni " {
		t.Errorf("an address as name: %+v, %+v, %v", f.Client.Hello, f.Decision, f.Error)
	}
}

// A client that waits for the server gets it after the wait, half-closed ones at once.
func TestSilentClientGoesOn(t *testing.T) {
	g := sniffing(t, bySNI, func(_ *Options, c *Config) { c.Listeners[0].SniffTimeout = 50 * time.Millisecond })
	server := serveTCP(t, func(c net.Conn) {
		io.WriteString(c, "220 mail.example ESMTP\r\n")
		io.Copy(c, c)
	})
	for _, half := range []bool{false, true} {
		c := openBy(t, g, connmodel.ProtocolSOCKS5, server)
		if half {
			c.(*net.TCPConn).CloseWrite()
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "220 ") {
			t.Errorf("half-closed %v: %q, %v", half, line, err)
		}
		c.Close()
		if f := g.records.next(t); f.Decision.Rule != "otherwise" || f.Error != nil || !f.Reply.Early {
			t.Errorf("half-closed %v: %+v, %v, reply %+v", half, f.Decision, f.Error, f.Reply)
		}
	}
}

// A policy that does not ask has the yes after the server is reached, and waits for nothing.
func TestNobodyElseWaits(t *testing.T) {
	long := time.Minute
	g := sniffing(t, func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
		if f.Target.Host == "localhost" {
			return bySNI(f)
		}
		return loopbackOpen(), 0
	}, func(_ *Options, c *Config) { c.Listeners[0].SniffTimeout = long })
	server := serveTCP(t, func(c net.Conn) { io.WriteString(c, "220 hello\r\n") })
	c := g.tunnel(t, server)
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "220 hello\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	c.Close()
	if f := g.records.next(t); f.Reply.Early || f.Error != nil || f.Client.Hello != nil {
		t.Errorf("reply %+v, %v", f.Reply, f.Error)
	}
	// And a failure is told by its status.
	if resp := g.answer(t, "CONNECT "+closedPort(t)+" HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 502 {
		t.Errorf("a refused dial is answered %d", resp.StatusCode)
	}
	g.records.next(t)
}

// Clients that have had their yes and say nothing hold no buffer, and all go on after the wait.
func TestManySilentClients(t *testing.T) {
	n := pick(300, 2000)
	g := sniffing(t, bySNI, func(_ *Options, c *Config) { c.Listeners[0].SniffTimeout = 300 * time.Millisecond })
	server := serveTCP(t, func(c net.Conn) { io.WriteString(c, "220 hello\r\n"); io.Copy(io.Discard, c) })
	var wg sync.WaitGroup
	failed := make(chan error, n)
	gate := make(chan struct{}, 100)
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			gate <- struct{}{}
			c, err := g.open(server)
			<-gate
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.ReadFull(c, make([]byte, len("220 hello\r\n"))); err != nil {
				failed <- err
			}
		}()
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	for range n {
		if f := g.records.next(t); f.Error != nil {
			t.Fatal(f.Error)
		}
	}
}

// A drain ends the wait of silent clients, which then go on; the end of the drain cuts what is left. A hello that has begun is waited for.
func TestDrainWhileSniffing(t *testing.T) {
	g := sniffing(t, bySNI, func(_ *Options, c *Config) {
		c.Listeners[0].SniffTimeout, c.Listeners[0].HandshakeTimeout = time.Minute, time.Minute
	})
	server := serveTCP(t, func(c net.Conn) { io.WriteString(c, "220 hello\r\n") })
	silent := openBy(t, g, connmodel.ProtocolConnect, server)
	begun := openBy(t, g, connmodel.ProtocolConnect, server)
	begun.Write([]byte{22, 3, 1})
	waitState(t, g, stateSniff, 1)
	waitState(t, g, stateHead, 1)
	done := make(chan int)
	go func() {
		cut, _ := g.shutdownIn(time.Second)
		done <- cut
	}()
	if line, err := bufio.NewReader(silent).ReadString('\n'); err != nil || line != "220 hello\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	silent.Close()
	if f := g.records.next(t); f.Error != nil {
		t.Error(f.Error)
	}
	if _, err := begun.Read(make([]byte, 1)); err == nil {
		t.Error("the incomplete hello was answered")
	}
	if cut := <-done; cut != 1 {
		t.Errorf("%d were cut", cut)
	}
	f := g.records.next(t)
	if f.Reason != connmodel.CloseDrained || f.Error == nil || f.Error.Phase != connmodel.PhaseSniff || f.Error.Kind != connmodel.KindCanceled {
		t.Errorf("%s: %v", f.Reason, f.Error)
	}
}

// waitState waits until n sessions are in a state.
func waitState(t *testing.T, g *gateway, st sessionState, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		have := 0
		g.sessions.each(func(s *session) {
			s.life.mu.Lock()
			if s.life.state == st {
				have++
			}
			s.life.mu.Unlock()
		})
		if have == n {
			return
		}
	}
	t.Fatalf("no %d sessions in state %d", n, st)
}

// A client that resets the connection while it is waited for is recorded as that.
func TestClientLeavesWhileSniffing(t *testing.T) {
	g := sniffing(t, bySNI, func(_ *Options, c *Config) { c.Listeners[0].SniffTimeout = time.Minute })
	c := openBy(t, g, connmodel.ProtocolConnect, "127.0.0.1:9")
	waitState(t, g, stateSniff, 1)
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	f := g.records.next(t)
	if e := f.Error; e == nil || e.Kind != connmodel.KindReset || e.Phase != connmodel.PhaseSniff || e.Side != connmodel.SideClient {
		t.Errorf("%+v", f.Error)
	}
}

func TestClientHelloHookRefuses(t *testing.T) {
	for name, hook := range map[string]func(context.Context, *connmodel.Flow, *connmodel.ClientHello) error{
		"refuses": func(_ context.Context, f *connmodel.Flow, h *connmodel.ClientHello) error {
			return errors.New("not with " + h.SNI + " to " + f.Target.Host)
		},
		"panics":   func(context.Context, *connmodel.Flow, *connmodel.ClientHello) error { panic("boom") },
		"too late": func(ctx context.Context, _ *connmodel.Flow, _ *connmodel.ClientHello) error { <-ctx.Done(); return nil },
	} {
		g := sniffing(t, bySNI, func(o *Options, _ *Config) {
			o.Hooks = &connmodel.Hooks{ClientHello: hook, Timeout: 100 * time.Millisecond}
		})
		err := tls.Client(openBy(t, g, connmodel.ProtocolConnect, local(tlsServer(t))), insecure("localhost")).Handshake()
		if alert, ok := connmodel.PeerAlert(err); !ok || byte(alert) != alertAccessDenied {
			t.Errorf("%s: %v", name, err)
		}
		f := g.records.next(t)
		if e := f.Error; e == nil || e.Kind != connmodel.KindDenied || !strings.Contains(e.Message, "tls_clienthello") {
			t.Errorf("%s: %+v", name, f.Error)
		}
	}
}

// After the early yes a client that speaks HTTP gets a page, and one that speaks anything else is reset.
func TestLateNoToOthers(t *testing.T) {
	g := sniffing(t, bySNI, nil)
	closed := closedPort(t)
	c := openBy(t, g, connmodel.ProtocolConnect, closed)
	io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 502 || resp.Header.Get("Proxy-Status") == "" {
		t.Errorf("%+v, %v", resp, err)
	} else if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "refused") {
		t.Errorf("page: %s", body)
	}
	if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindRefused || !f.Reply.Early || f.Reply.Code != 200 {
		t.Errorf("%v, %+v", f.Error, f.Reply)
	}
	c = openBy(t, g, connmodel.ProtocolConnect, closed)
	io.WriteString(c, "\x00\x01\x02")
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("another client gets %v, expected a reset", err)
	}
	if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindRefused {
		t.Errorf("%v", f.Error)
	}
}

// Real programs are seen for what they are: the same fingerprint each time, and another one for another program.
func TestRealClients(t *testing.T) {
	peers.Need(t, "curl", "openssl")
	g := sniffing(t, bySNI, func(_ *Options, c *Config) { c.Listeners[0].SniffTimeout = 20 * time.Second }) // a program may be slow to start
	server := local(tlsServer(t))
	run := func(name string, args ...string) *connmodel.ClientHello {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdin = strings.NewReader("")
		out, err := cmd.CombinedOutput()
		f := g.records.next(t)
		if f.Client.Hello == nil || f.Client.Hello.SNI != "localhost" || f.Decision.Rule != "sni localhost" {
			t.Fatalf("%s: hello %+v, decision %+v, %v\n%s, %v", name, f.Client.Hello, f.Decision, f.Error, out, err)
		}
		return f.Client.Hello
	}
	curl := func(more ...string) *connmodel.ClientHello {
		return run("curl", append([]string{"-sSk", "-m", "10", "-x", "http://" + g.addr, "https://" + server + "/"}, more...)...)
	}
	first := curl()
	if again := curl(); again.JA4 != first.JA4 || !first.Offers("h2") || !strings.Contains(first.JA4, "h2_") {
		t.Errorf("curl is %+v, then %+v", first, again)
	}
	if h1 := curl("--http1.1"); h1.JA4 == first.JA4 || h1.Offers("h2") || !strings.Contains(h1.JA4, "h1_") {
		t.Errorf("curl without HTTP/2 is %+v", h1)
	}
	if old := curl("--tls-max", "1.2"); !strings.HasPrefix(old.JA4, "t12d") || old.Versions[0] != tls.VersionTLS12 {
		t.Errorf("curl without TLS 1.3 is %+v", old)
	}
	socks := run("curl", "-sSk", "-m", "10", "-x", "socks5h://"+g.addr, "https://"+server+"/")
	if socks.JA4 != first.JA4 {
		t.Errorf("curl by SOCKS is %s, by CONNECT %s", socks.JA4, first.JA4)
	}
	s := run("openssl", "s_client", "-proxy", g.addr, "-connect", server, "-servername", "localhost", "-alpn", "h2,http/1.1")
	if s.JA4 == first.JA4 || !s.Offers("http/1.1") || !strings.HasPrefix(s.JA4, "t13d") {
		t.Errorf("openssl is %+v", s)
	}
	if split := run("openssl", "s_client", "-proxy", g.addr, "-connect", server, "-servername", "localhost", "-alpn", "h2,http/1.1", "-split_send_frag", "64", "-max_send_frag", "512"); split.JA4 != s.JA4 {
		t.Errorf("openssl in fragments is %s, else %s", split.JA4, s.JA4)
	}
}
