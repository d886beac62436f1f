package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// byPath decides as a policy would whose rules ask for the request in a tunnel: /secret is denied.
func byPath(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
	if need := f.Lacks(connmodel.NeedRequest); need != 0 {
		return nil, need
	}
	d := loopbackOpen()
	d.Rule = "otherwise"
	if r := f.Request; r != nil {
		d.Rule = "by path"
		if strings.HasPrefix(r.Path, "/secret") {
			d.Outcome, d.Denial = connmodel.OutcomeDeny, &connmodel.Denial{Status: 451, Reason: "not that"}
		}
	}
	return d, 0
}

// pages is an HTTP server that answers with method, Host and path.
func pages(t *testing.T) string {
	t.Helper()
	return serveTCP(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			text := fmt.Sprintf("%s %s%s %s", req.Method, req.Host, req.URL.Path, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

// askRaw sends one request as it is and reads its answer.
func askRaw(t *testing.T, c net.Conn, br *bufio.Reader, raw string) (int, string) {
	t.Helper()
	io.WriteString(c, raw)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return resp.StatusCode, string(body)
}

// Every request in a SOCKS tunnel is decided by itself, however they come: a denied one does not pass behind one that is allowed.
func TestRequestsInSOCKS(t *testing.T) {
	g := sniffing(t, byPath, nil)
	server := pages(t)
	c := openBy(t, g, connmodel.ProtocolSOCKS5, local(server))
	br := bufio.NewReader(c)
	host := local(server)
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	if code, body := askRaw(t, c, br, get("/a")); code != 200 || !strings.HasPrefix(body, "GET "+host+"/a") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := askRaw(t, c, br, get("/secret")); code != 451 || !strings.Contains(body, "not that") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := askRaw(t, c, br, "POST /b HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 3\r\n\r\nabc"); code != 200 || !strings.HasSuffix(body, "abc") {
		t.Errorf("%d %s", code, body)
	}
	io.WriteString(c, get("/c")+get("/secret/x")) // at once
	for _, want := range []int{200, 451} {
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != want {
			t.Fatalf("%v, %v, expected %d", resp, err, want)
		} else {
			io.Copy(io.Discard, resp.Body)
		}
	}
	c.Close()
	seen := map[string]int{}
	tunnels := 0
	for range 6 { // five requests and the tunnel
		g.records.next(t)
	}
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	for _, f := range g.records.flows {
		if f.Request == nil {
			if tunnels++; f.Reply == nil || !f.Reply.Early || f.Protocol != connmodel.ProtocolSOCKS5 || f.Error != nil {
				t.Errorf("the tunnel: %v, reply %+v", f, f.Reply)
			}
			continue
		}
		denied := f.Error != nil && f.Error.Kind == connmodel.KindDenied
		if denied != strings.HasPrefix(f.Request.Path, "/secret") {
			t.Errorf("%s: %v", f.Request.Path, f.Error)
		}
		seen[f.Request.Path]++
	}
	if tunnels != 1 || seen["/a"] != 1 || seen["/secret"] != 1 || seen["/b"] != 1 || seen["/c"] != 1 || seen["/secret/x"] != 1 {
		t.Errorf("%d tunnels, requests %v", tunnels, seen)
	}
}

// The first request is found however slowly it comes, and a denial of it is a page.
func TestFirstRequestInSOCKS(t *testing.T) {
	g := sniffing(t, byPath, nil)
	server := pages(t)
	for _, proto := range []connmodel.Protocol{connmodel.ProtocolSOCKS5, connmodel.ProtocolSOCKS4a} {
		c := openBy(t, g, proto, local(server))
		c.(*net.TCPConn).SetNoDelay(true)
		for _, b := range []byte("GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n") {
			c.Write([]byte{b})
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 451 {
			t.Errorf("%s: %v, %v", proto, resp, err)
		}
		c.Close()
		f := g.records.next(t)
		if f.Error == nil || f.Error.Kind != connmodel.KindDenied || f.Request == nil || f.Request.Path != "/secret" || !f.Reply.Early {
			t.Errorf("%s: %v, request %+v, reply %+v", proto, f.Error, f.Request, f.Reply)
		}
	}
}

// What some server may take for a request, and we cannot read, is refused; what no server can, goes on.
func TestStrangeRequestsInSOCKS(t *testing.T) {
	g := sniffing(t, byPath, func(_ *Options, c *Config) {
		c.Listeners[0].HandshakeTimeout, c.Listeners[0].SniffTimeout = time.Second, 100*time.Millisecond
	})
	server := echo(t)
	for _, c := range []struct {
		raw, says string
		close     bool
	}{
		{"GET /secret\r\n\r\n", "cannot be read", false},
		{"GET\t/secret HTTP/1.1\r\nHost: x\r\n\r\n", "cannot be read", false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 without TLS", false},
		{"GET /secr", "in the middle", true},
		{"GET /secr", "in time", false},
	} {
		tc := openBy(t, g, connmodel.ProtocolSOCKS5, server)
		io.WriteString(tc, c.raw)
		if c.close {
			tc.(*net.TCPConn).CloseWrite()
		}
		got, _ := io.ReadAll(tc)
		if strings.Contains(string(got), "secret") && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
			t.Errorf("%q passed: %q", c.raw, got)
		}
		tc.Close()
		if f := g.records.next(t); f.Error == nil || f.Error.Phase != connmodel.PhaseSniff || !strings.Contains(f.Error.Message, c.says) {
			t.Errorf("%q: %v", c.raw, f.Error)
		}
	}
	for _, raw := range []string{"SSH-2.0-x\r\n", "\x16\x03\x01\x00\x01\x02", "EHLO x\r\n", "\x00\x01"} {
		tc := openBy(t, g, connmodel.ProtocolSOCKS5, server)
		if err := shake(tc, []byte(raw)); err != nil && raw[0] != 0x16 {
			t.Errorf("%q: %v", raw, err)
		}
		tc.Close()
		g.records.next(t)
	}
	// A CONNECT tunnel is not looked into for a request.
	tc := openBy(t, g, connmodel.ProtocolConnect, server)
	if err := shake(tc, []byte("GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Error(err)
	}
	tc.Close()
	if f := g.records.next(t); f.Reply.Early || f.Error != nil {
		t.Errorf("CONNECT: reply %+v, %v", f.Reply, f.Error)
	}
}
