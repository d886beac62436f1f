package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

// inside opens a tunnel and TLS in it, and returns what a client that speaks HTTP by hand needs.
func (r *openRig) inside(t *testing.T, target, name string, alpn ...string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	c, err := r.handshake(t, target, r.trusted(name, alpn...))
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// ask sends a raw request and reads the response.
func ask(t *testing.T, c net.Conn, in *bufio.Reader, raw string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(strings.TrimLeft(raw, "\r\n"), " ")
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("after %q: %v", raw, err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func request(host, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
}

// TestMisdirected: a request for another host than the tunnel's is answered 421, unless a rule names that host: then it goes where that rule
// says, and not to the tunnel's server.
func TestMisdirected(t *testing.T) {
	r := openingGateway(t, nil)
	var at string
	front := r.origin(t, hello("front"), "front.example", "hidden.example", "named.example", "denied.example")
	port := portOf(front.Listener.Addr().String())
	named := r.origin(t, hello("named"), "named.example")
	r.decide = func(f *connmodel.Facts) *connmodel.Decision {
		switch f.Target.Host {
		case "named.example":
			d := r.open()
			d.Rule, d.NamesHost, d.Server = "named", true, address(t, named.Listener.Addr().String())
			return d
		case "denied.example":
			return &connmodel.Decision{Policy: "default", Rule: "no", Outcome: connmodel.OutcomeDeny, NamesHost: true, Denial: &connmodel.Denial{Status: 451, Reason: "by law"}}
		}
		return nil
	}
	at = ":" + port
	c, in := r.inside(t, "front.example"+at, "front.example")
	for _, row := range []struct {
		host   string
		status int
		want   string
	}{
		{"front.example" + at, 200, "front GET"},
		{"FRONT.example." + at, 200, "front GET"},
		{"front.example", 200, "front GET"}, // a port that is left out
		{"hidden.example" + at, 421, "no rule that names that host"},
		{"hidden.example", 421, "no rule that names that host"},
		{"front.example:1", 421, "no rule that names that host"},
		{"denied.example" + at, 421, `denied by rule "no": by law`},
		{"named.example" + at, 200, "named GET"},
		{"127.0.0.1" + at, 421, "no rule that names that host"},
		{"front.example" + at, 200, "front GET"},
	} {
		res, body := ask(t, c, in, request(row.host, "/"))
		if res.StatusCode != row.status || !strings.Contains(body, row.want) {
			t.Errorf("Host: %s: %s\n%s", row.host, res.Status, body)
		}
	}
	f := r.records.find(t, "the misdirected request", func(f *connmodel.Flow) bool { return f.Target.String() == "hidden.example"+at })
	if f.Error == nil || f.Error.Code != 421 || f.Decision.Rule != "open" || f.Server != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	// absolute-form says the same as Host
	res, _ := ask(t, c, in, "GET https://hidden.example/ HTTP/1.1\r\nHost: front.example\r\n\r\n")
	if res.StatusCode != 421 {
		t.Errorf("absolute-form: %s", res.Status)
	}
	res, body := ask(t, c, in, "GET https://front.example"+at+"/x HTTP/1.1\r\nHost: hidden.example\r\n\r\n")
	if res.StatusCode != 200 || !strings.Contains(body, "front GET front.example"+at+" /x") {
		t.Errorf("absolute-form: %s %s", res.Status, body)
	}
	res, _ = ask(t, c, in, "GET http://front.example/ HTTP/1.1\r\nHost: front.example\r\n\r\n")
	if res.StatusCode != 400 {
		t.Errorf("another scheme: %s", res.Status)
	}
	c, in = r.inside(t, "front.example"+at, "front.example")
	if res, _ := ask(t, c, in, "CONNECT hidden.example:443 HTTP/1.1\r\nHost: hidden.example:443\r\n\r\n"); res.StatusCode != 400 {
		t.Errorf("CONNECT: %s", res.Status)
	}
	c, in = r.inside(t, "front.example"+at, "front.example")
	if res, body := ask(t, c, in, "GET /old HTTP/1.0\r\n\r\n"); res.StatusCode != 200 || !strings.Contains(body, "front GET front.example"+at+" /old") {
		t.Errorf("HTTP/1.0 without Host: %s %s", res.Status, body)
	}
}

// TestTunnelToAddress: a tunnel to an address has the name that its TLS asks for.
func TestTunnelToAddress(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com", "127.0.0.1")
	at := srv.Listener.Addr().String()
	port := ":" + portOf(at)
	var seen []string
	var mu sync.Mutex
	r.decide = func(f *connmodel.Facts) *connmodel.Decision {
		mu.Lock()
		seen = append(seen, fmt.Sprint(f.Target, " ", f.TargetIP, " ", f.Tunnel, " ", f.Scheme))
		mu.Unlock()
		return nil
	}
	c, in := r.inside(t, at, "www.example.com")
	if res, _ := ask(t, c, in, request("www.example.com"+port, "/")); res.StatusCode != 200 {
		t.Errorf("the name: %s", res.Status)
	}
	if res, _ := ask(t, c, in, request("other.example"+port, "/")); res.StatusCode != 421 {
		t.Errorf("another name: %s", res.Status)
	}
	if res, _ := ask(t, c, in, request(at, "/")); res.StatusCode != 200 {
		t.Errorf("the address: %s", res.Status)
	}
	mu.Lock()
	if want := "www.example.com" + port + " 127.0.0.1 " + at + " https"; len(seen) < 2 || seen[1] != want {
		t.Errorf("decided by %q, want %q", seen, want)
	}
	mu.Unlock()
	c, in = r.inside(t, at, "127.0.0.1") // an address is no SNI; without any, each name will do
	if res, _ := ask(t, c, in, request("www.example.com"+port, "/")); res.StatusCode != 200 {
		t.Errorf("without SNI: %s", res.Status)
	}
}

// TestRoutedByPath: rules see method, path and header fields, and may send each request to another server, with TLS or without.
func TestRoutedByPath(t *testing.T) {
	r := openingGateway(t, nil)
	front := r.origin(t, hello("front"), "www.example.com")
	api := r.origin(t, hello("api"), "api.internal.example")
	plain := httptest.NewServer(hello("plain"))
	defer plain.Close()
	upgrade := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: r.plan.Config}
	r.decide = func(f *connmodel.Facts) *connmodel.Decision {
		if f.Request == nil {
			return nil
		}
		d := loopbackOpen()
		switch {
		case f.Request.Method == "DELETE":
			return &connmodel.Decision{Policy: "default", Rule: "no deletes", Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 403, Reason: "read only"}}
		case strings.HasPrefix(f.Request.Path, "/api/"):
			d.Rule, d.Server, d.TLS = "api", address(t, "api.internal.example:"+portOf(api.Listener.Addr().String())), upgrade
			return d
		case strings.HasPrefix(f.Request.Path, "/plain/"):
			d.Rule, d.Server, d.TLS = "plain", address(t, plain.Listener.Addr().String()), &connmodel.TLSPlan{Mode: connmodel.TLSTerminate}
			return d
		case strings.HasPrefix(f.Request.Path, "/silent/"): // a rule that says nothing of TLS: it is not taken away
			d.Rule, d.Server = "silent", address(t, plain.Listener.Addr().String())
			return d
		}
		if v, _ := f.Request.Header.Lookup("X-Team", 0); v == "blue" {
			d.Rule, d.Server, d.TLS = "blue", address(t, plain.Listener.Addr().String()), &connmodel.TLSPlan{Mode: connmodel.TLSTerminate}
			return d
		}
		return nil
	}
	host := "www.example.com:" + portOf(front.Listener.Addr().String())
	c, in := r.inside(t, host, "www.example.com")
	for _, row := range []struct {
		raw    string
		status int
		want   string
	}{
		{request(host, "/"), 200, "front GET " + host + " /"},
		{request(host, "/api/x"), 200, "api GET " + host + " /api/x"},
		{request(host, "/plain/x"), 200, "plain GET " + host + " /plain/x"},
		{request(host, "/silent/x"), 502, "does not speak TLS"},
		{"GET /y HTTP/1.1\r\nHost: " + host + "\r\nX-Team: blue\r\n\r\n", 200, "plain GET " + host + " /y"},
		{"DELETE / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 403, "read only"},
		{request(host, "/again"), 200, "front GET " + host + " /again"},
		{request(host, "/api/again"), 200, "api GET"},
	} {
		res, body := ask(t, c, in, row.raw)
		if res.StatusCode != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%q: %s\n%s", row.raw, res.Status, body)
		}
	}
	c.Close()
	tunnel := r.records.find(t, "the tunnel", isTunnel)
	again := r.records.find(t, "the last request", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/again" })
	if again.Server.ID != tunnel.Server.ID {
		t.Error("the tunnel's own connection was lost on the way")
	}
	if kept := r.records.find(t, "the second for the API", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/api/again" }); !kept.Server.Reused {
		t.Error("the connection to the other server was not kept")
	}
}

// TestLargeInside: bodies go both ways whole, of known length and chunked, with and without Expect.
func TestLargeInside(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		h := sha256.New()
		io.Copy(io.MultiWriter(w, h), q.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
	}), "www.example.com")
	u := "https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/"
	body := make([]byte, 3<<20)
	rand.Read(body)
	sum := fmt.Sprintf("%x", sha256.Sum256(body))
	c := r.web(t)
	c.Transport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
	for _, row := range []struct {
		name   string
		length int64
		expect bool
	}{{"known length", int64(len(body)), false}, {"chunked", -1, false}, {"expected", int64(len(body)), true}} {
		q, _ := http.NewRequest("POST", u, io.NopCloser(bytes.NewReader(body)))
		q.ContentLength = row.length
		if row.expect {
			q.Header.Set("Expect", "100-continue")
		}
		res, err := c.Do(q)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("X-Sum") != sum {
			t.Errorf("%s: %d bytes, trailer %q, %v", row.name, len(got), res.Trailer.Get("X-Sum"), err)
		}
	}
}

// TestCutInside: a server that breaks off in the middle of a body is no whole response for the client.
func TestCutInside(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c, buf, _ := http.NewResponseController(w).Hijack()
		fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		buf.Flush()
		c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
		c.(*tls.Conn).NetConn().Close()
	}), "www.example.com")
	res, err := r.web(t).Get("https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/")
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("half a response passed for a whole one")
	}
	f := r.records.find(t, "the request", func(f *connmodel.Flow) bool { return f.Request != nil })
	if f.Error == nil || f.Error.Side != connmodel.SideServer {
		t.Errorf("the record says %+v", f.Error)
	}
}

// TestServerLeavesBetweenRequests: a server connection that died between two requests is replaced.
func TestServerLeavesBetweenRequests(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com")
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	c, in := r.inside(t, host, "www.example.com")
	ask(t, c, in, request(host, "/1"))
	srv.CloseClientConnections()
	time.Sleep(20 * time.Millisecond)
	if res, _ := ask(t, c, in, request(host, "/2")); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
	if res, _ := ask(t, c, in, request(host, "/3")); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
}

// TestUpgradeInside: WebSocket, or what looks like it, turns the tunnel into another protocol; its bytes are in its record.
func TestUpgradeInside(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c, buf, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly")
		buf.Flush()
		io.Copy(c, buf)
	}), "www.example.com")
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	c, in := r.inside(t, host, "www.example.com", "http/1.1")
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", host)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%v %v", res, err)
	}
	got := make([]byte, 10)
	io.ReadFull(in, got[:5])
	io.WriteString(c, "frame")
	if _, err := io.ReadFull(in, got[5:]); err != nil || string(got) != "earlyframe" {
		t.Fatalf("%q, %v", got, err)
	}
	c.CloseWrite()
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after the half-close: %v", err)
	}
	c.Close()
	f := r.records.find(t, "the upgrade", func(f *connmodel.Flow) bool { return f.Request != nil })
	if f.Up != 5 || f.Down != 10 || f.Response.Status != 101 || f.Error != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	if tunnel := r.records.find(t, "the tunnel", isTunnel); tunnel.Up != 5 || tunnel.Down != 10 {
		t.Errorf("the tunnel has %d up, %d down", tunnel.Up, tunnel.Down)
	}
}

// tlsServer runs handle for every TLS connection.
func (r *openRig) tlsServer(t *testing.T, handle func(*tls.Conn), names ...string) string {
	t.Helper()
	conf := &tls.Config{Certificates: []tls.Certificate{r.cert(t, upstreamtest.CertOptions{}, names...)}, NextProtos: []string{"http/1.1"}}
	return serveTCP(t, func(c net.Conn) {
		tc := tls.Server(c, conf)
		if tc.Handshake() == nil {
			handle(tc)
		}
		tc.Close()
	})
}

// TestOtherProtocolInside: what is no HTTP is relayed between the two TLS connections, whoever speaks first, with its half-closes.
func TestOtherProtocolInside(t *testing.T) {
	r := openingGateway(t, nil)
	echoed := portOf(r.tlsServer(t, func(c *tls.Conn) {
		io.Copy(c, c)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}, "www.example.com"))
	greets := portOf(r.tlsServer(t, func(c *tls.Conn) {
		io.WriteString(c, "220 mail.example ESMTP\r\n")
		io.Copy(c, c)
	}, "www.example.com"))
	for _, send := range []string{"\x00\x01binary", "SSH-2.0-client\r\n", "EHLO x\r\n", "a1 LOGIN joe secret\r\n", "{\"json\":1}\n", strings.Repeat("x", 30)} {
		c, in := r.inside(t, "www.example.com:"+echoed, "www.example.com")
		io.WriteString(c, send)
		got := make([]byte, len(send))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != send {
			t.Fatalf("sent %q, got %q, %v", send, got, err)
		}
		c.CloseWrite()
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("%q: after the half-close: %v", send, err)
		}
		c.Close()
		f := r.records.next(t)
		if f.Error != nil || f.Up != int64(len(send)) || f.Down != f.Up || f.Request != nil {
			t.Errorf("%q: the record: %s", send, f.AppendJSON(nil))
		}
	}
	c, in := r.inside(t, "www.example.com:"+greets, "www.example.com")
	if line, err := in.ReadString('\n'); err != nil || line != "220 mail.example ESMTP\r\n" {
		t.Fatalf("the greeting: %q, %v", line, err)
	}
	io.WriteString(c, "GET / but not HTTP\r\n")
	if line, err := in.ReadString('\n'); err != nil || line != "GET / but not HTTP\r\n" {
		t.Fatalf("the echo: %q, %v", line, err)
	}
	c.Close()
	if f := r.records.next(t); f.Down != 24+20 || f.Error != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
}

// TestBadRequestsInside: what a client that agreed on HTTP/1.1 sends is never passed on as something else.
func TestBadRequestsInside(t *testing.T) {
	r := openingGateway(t, nil)
	got := make(chan string, 100)
	srv := portOf(r.tlsServer(t, func(c *tls.Conn) {
		b, _ := io.ReadAll(c)
		got <- string(b)
	}, "www.example.com"))
	for _, row := range []struct {
		raw  string
		alpn []string
	}{
		{"\x00\x01binary\r\n\r\n", []string{"http/1.1"}},
		{"GET /\r\n\r\n", nil},
		{"GET\t/ HTTP/1.1\r\n\r\n", nil},
		{"\r\nGET / HTTP/2.0\r\n\r\n", nil},
		{"POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", nil},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil},
	} {
		c, in := r.inside(t, "www.example.com:"+srv, "www.example.com", row.alpn...)
		io.WriteString(c, row.raw)
		if strings.HasPrefix(row.raw, "PRI") {
			io.Copy(io.Discard, in) // GOAWAY
		} else if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode < 400 {
			t.Errorf("%q: %v, %v", row.raw, res, err)
		}
		c.Close()
		if b := <-got; b != "" {
			t.Errorf("the server was sent %q", b)
		}
	}
}

// TestPlainInTunnel: a plain request in a tunnel whose rule opens TLS is decided like others, and goes on without TLS; the rest is refused.
func TestPlainInTunnel(t *testing.T) {
	r := openingGateway(t, nil)
	srv := httptest.NewServer(hello("plain"))
	defer srv.Close()
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	c := r.tunnel(t, host)
	in := bufio.NewReader(c)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if res, body := ask(t, c, in, request(host, "/x")); res.StatusCode != 200 || body != "plain GET "+host+" /x" {
		t.Errorf("%s %s", res.Status, body)
	}
	if res, _ := ask(t, c, in, request("other.example", "/x")); res.StatusCode != 421 {
		t.Errorf("another host: %s", res.Status)
	}
	c.Close()
	f := r.records.find(t, "the request", func(f *connmodel.Flow) bool { return f.Request != nil })
	if f.Request.Scheme != "http" || f.Server.TLS {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
}

// TestTerminate: TLS ends here, and the server is plain.
func TestTerminate(t *testing.T) {
	r := openingGateway(t, nil)
	own := r.cert(t, upstreamtest.CertOptions{}, "www.example.com")
	plan := &connmodel.TLSPlan{Mode: connmodel.TLSTerminate}
	r.decide = func(*connmodel.Facts) *connmodel.Decision { d := loopbackOpen(); d.TLS = plan; return d }
	srv := httptest.NewServer(hello("plain"))
	defer srv.Close()
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	if got := get(t, r.web(t), "https://"+host+"/x", 200); got != "plain GET "+host+" /x" {
		t.Errorf("got %q", got)
	}
	echoAt := "www.example.com:" + portOf(echo(t))
	c, _ := r.inside(t, echoAt, "www.example.com")
	if err := shake(c, []byte("\x00no HTTP")); err != nil {
		t.Error(err)
	}
	c.Close()
	if body := get(t, r.web(t), "https://www.example.com:"+portOf(upstreamtest.Refused(t))+"/", 502); !strings.Contains(body, "refused") {
		t.Errorf("the page: %s", body)
	}
	plan = &connmodel.TLSPlan{Mode: connmodel.TLSTerminate, Certificate: &own}
	web := r.web(t)
	web.Transport.(*http.Transport).TLSClientConfig.RootCAs = r.servers.Pool()
	get(t, web, "https://"+host+"/y", 200)
}

// TestSOCKSOpened: the same behind SOCKS.
func TestSOCKSOpened(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com")
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	name := "www.example.com"
	c.Write(append(append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(name))}, name...), byte(port>>8), byte(port)))
	reply := make([]byte, 12)
	if _, err := io.ReadFull(c, reply); err != nil || reply[3] != 0 {
		t.Fatalf("%x, %v", reply, err)
	}
	tc := tls.Client(c, r.trusted(name))
	host := fmt.Sprintf("%s:%d", name, port)
	if res, body := ask(t, tc, bufio.NewReader(tc), request(host, "/")); res.StatusCode != 200 || !strings.Contains(body, "origin") {
		t.Errorf("%s %s", res.Status, body)
	}
	tc.Close()
	if f := r.records.find(t, "the request", func(f *connmodel.Flow) bool { return f.Request != nil }); f.Protocol != connmodel.ProtocolSOCKS5 {
		t.Errorf("protocol %s", f.Protocol)
	}
}

// TestDrainInside: a drain lets the request under way end, says close with its response, and ends tunnels that idle.
func TestDrainInside(t *testing.T) {
	r := openingGateway(t, nil)
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			close(begun)
			<-goOn
		}
		io.WriteString(w, "done")
	}), "www.example.com")
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	busy, in := r.inside(t, host, "www.example.com")
	idle, idleIn := r.inside(t, host, "www.example.com", "http/1.1")
	ask(t, idle, idleIn, request(host, "/"))
	silent, silentIn := r.inside(t, host, "www.example.com")
	io.WriteString(busy, request(host, "/slow"))
	<-begun
	cut := make(chan int)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cut <- r.Shutdown(ctx)
	}()
	for _, c := range []*bufio.Reader{idleIn, silentIn} {
		if _, err := c.ReadByte(); err != io.EOF {
			t.Errorf("an idle tunnel was ended with %v", err)
		}
	}
	idle.Close()
	silent.Close()
	close(goOn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || !res.Close {
		t.Fatalf("the last response: %+v, %v", res, err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "done" {
		t.Errorf("%q, %v", b, err)
	}
	busy.Close()
	if n := <-cut; n != 0 {
		t.Errorf("%d sessions were cut", n)
	}
}

// TestCutOpened: an end from outside leaves nothing behind, in whatever state tunnels are.
func TestCutOpened(t *testing.T) {
	r := openingGateway(t, nil)
	hold := make(chan struct{})
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { <-hold }), "www.example.com")
	defer close(hold)
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	hangs := "www.example.com:" + portOf(serveTCP(t, func(c net.Conn) { io.Copy(io.Discard, c) }))
	c1, _ := r.inside(t, host, "www.example.com")
	io.WriteString(c1, request(host, "/"))
	c2 := r.tunnel(t, host)
	c3 := r.tunnel(t, hangs)
	io.WriteString(c3, firstFlightOf(t, "www.example.com", tls.VersionTLS13))
	c4, _ := r.inside(t, host, "www.example.com")
	time.Sleep(50 * time.Millisecond)
	if _, took := r.shutdownIn(100 * time.Millisecond); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for i, c := range []net.Conn{c1, c2, c3, c4} {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("connection %d is still open", i)
		}
	}
}

// TestHookInside: the Request hook is called for each request in a tunnel and may send it elsewhere.
func TestHookInside(t *testing.T) {
	var calls []string
	var mu sync.Mutex
	var other string
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) {
		o.Hooks = &connmodel.Hooks{
			Request: func(_ context.Context, f *connmodel.Flow, p *connmodel.ServerPlan) error {
				if f.Request.Path == "/moved" {
					p.Address, _ = connmodel.ParseAddress(other)
				}
				if f.Request.Path == "/no" {
					return fmt.Errorf("not this one")
				}
				return nil
			},
			Observe: func(e connmodel.Event, flow func() *connmodel.Flow, _ *connmodel.Client) {
				if strings.HasPrefix(string(e.Kind), "tls_") || e.Kind == connmodel.EventRequest {
					mu.Lock()
					calls = append(calls, string(e.Kind)+"/"+string(e.Side))
					mu.Unlock()
				}
			},
		}
	})
	srv := r.origin(t, hello("origin"), "www.example.com")
	moved := r.origin(t, hello("moved"), "other.example")
	other = "other.example:" + portOf(moved.Listener.Addr().String())
	base := "https://www.example.com:" + portOf(srv.Listener.Addr().String())
	c := r.web(t)
	get(t, c, base+"/", 200)
	if got := get(t, c, base+"/moved", 200); !strings.HasPrefix(got, "moved") {
		t.Errorf("got %q", got)
	}
	if got := get(t, c, base+"/no", 403); !strings.Contains(got, "not this one") {
		t.Errorf("got %q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	want := "tls_clienthello/client tls_start/client tls_start/server tls_established/server tls_established/client request/ request/ tls_start/server tls_established/server request/"
	if got := strings.Join(calls, " "); got != want {
		t.Errorf("events\n%s, want\n%s", got, want)
	}
}

// TestLooksHTTP is what tells HTTP from other protocols.
func TestLooksHTTP(t *testing.T) {
	for in, want := range map[string]looks{
		"": moreHTTP, "G": moreHTTP, "GET": moreHTTP, "GET ": yesHTTP, "GET\t": yesHTTP, "\r\n\r\n": moreHTTP, "\r\nPOST /": yesHTTP, "PRI * HTTP/2": yesHTTP,
		"FOO /": moreHTTP, "FOO / HTTP/1.1\r\n": yesHTTP, "FOO / HTTP/9\n": yesHTTP, "FOO bar\r\n": noHTTP, "EHLO x\r\n": noHTTP, "SSH-2.0-x\r\n": noHTTP,
		"\x00": noHTTP, "get": moreHTTP, "get /\r\n": noHTTP, " GET": noHTTP, "a:b": noHTTP,
		strings.Repeat("A", 24): moreHTTP, strings.Repeat("A", 25): noHTTP, "FOO " + strings.Repeat("x", 9000): noHTTP, "PROPFIND /": yesHTTP,
	} {
		if got := looksHTTP([]byte(in)); got != want {
			t.Errorf("%.40q: %v, want %v", in, got, want)
		}
	}
}

// TestClientLeavesInside: a client that ends its TLS in good order while its request is under way is one that has left.
func TestClientLeavesInside(t *testing.T) {
	r := openingGateway(t, nil)
	begun, gone := make(chan struct{}), make(chan struct{})
	srv := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		close(begun)
		<-q.Context().Done()
		close(gone)
	}), "www.example.com")
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	c, _ := r.inside(t, host, "www.example.com", "http/1.1")
	io.WriteString(c, request(host, "/"))
	<-begun
	c.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server still works for nobody")
	}
	f := r.records.find(t, "the request", func(f *connmodel.Flow) bool { return f.Request != nil })
	if f.Error == nil || f.Error.Kind != connmodel.KindCanceled || f.Error.Side != connmodel.SideClient {
		t.Errorf("the record says %+v", f.Error)
	}
}
