package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	ut "viaduct/upstream/upstreamtest"
)

// ntlmProxy asks each connection for NTLM and verifies it.
type ntlmProxy struct {
	*ut.NTLM
	config *tls.Config // nil = in the clear

	closes  atomic.Int32 // closes the connection with so many of its next 407s
	midway  atomic.Bool  // ... with the one that holds the challenge
	conns   atomic.Int32
	asked   atomic.Int32 // requests
	logins  atomic.Int32
	refused atomic.Int32
	tunnels atomic.Int32
	forget  atomic.Bool  // connections that are logged in are not, once
	refuses atomic.Bool  // tunnels
	fault   atomic.Value // what was wrong with a login
}

func (p *ntlmProxy) serve(t *testing.T) connmodel.Address {
	return listen(t, func(c net.Conn) {
		if p.config != nil {
			c = tls.Server(c, p.config)
		}
		p.conns.Add(1)
		p.one(c)
	})
}

func (p *ntlmProxy) one(c net.Conn) {
	br := bufio.NewReader(c)
	var negotiate, challenge []byte
	in := false
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		p.asked.Add(1)
		if in && p.forget.Load() && r.Header.Get("Proxy-Authorization") == "" {
			in = false
		}
		if !in {
			token, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Proxy-Authorization"), "NTLM "))
			switch {
			case len(token) > 8 && token[8] == 3 && challenge != nil:
				if err := p.Verify(negotiate, challenge, token); err != nil {
					p.fault.Store(err.Error())
					p.refused.Add(1)
					p.deny(c, r, "NTLM", false)
					continue
				}
				p.logins.Add(1)
				in = true
			case len(token) > 8 && token[8] == 1:
				negotiate = token
				challenge, _ = p.Challenge(token)
				if !p.deny(c, r, "NTLM "+base64.StdEncoding.EncodeToString(challenge), p.midway.Load()) {
					return
				}
				continue
			default:
				if !p.deny(c, r, "NTLM", p.closes.Add(-1) >= 0) {
					return
				}
				continue
			}
		}
		if r.Method == "CONNECT" && p.refuses.Load() {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\npage")
			continue
		}
		if r.Method == "CONNECT" {
			p.tunnels.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(c, br)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		body := fmt.Sprint(n)
		if r.Method == "HEAD" {
			body = ""
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(fmt.Sprint(n)), body)
	}
}

func (p *ntlmProxy) deny(c net.Conn, r *http.Request, challenge string, closing bool) bool {
	io.Copy(io.Discard, r.Body)
	head, body := "HTTP/1.1 407 No\r\nProxy-Authenticate: "+challenge+"\r\nContent-Length: 4\r\n", "page"
	if closing {
		head += "Proxy-Connection: close\r\nConnection: close\r\n"
	}
	if r.Method == "HEAD" {
		body = ""
	}
	io.WriteString(c, head+"\r\n"+body)
	return !closing
}

func ntlmSpec(at connmodel.Address) Spec {
	return Spec{Name: "p", Scheme: "http", Address: at, Auth: &Auth{Username: `CORP\svc`, Password: NewSecret("p4ss"), Schemes: []string{"ntlm", "basic"}, Workstation: "DESK"}}
}

func newNTLMProxy() *ntlmProxy {
	return &ntlmProxy{NTLM: &ut.NTLM{User: "svc", Domain: "CORP", Password: "p4ss"}}
}

func (p *ntlmProxy) check(t *testing.T, err *connmodel.ConnError) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%v)", err, p.fault.Load())
	}
}

func TestNTLM(t *testing.T) {
	for _, noTime := range []bool{false, true} {
		p := newNTLMProxy()
		p.NoTime = noTime
		tab := table(t, Config{Upstreams: []Spec{ntlmSpec(p.serve(t))}, Guard: auth.NewGuard(t.TempDir(), nil)})
		for range 3 {
			c, err := connectTo(t, tab, "upstream.p")
			p.check(t, err)
			say(t, c, "hello")
			c.Close()
		}
		if p.logins.Load() != 3 || p.refused.Load() != 0 || p.conns.Load() != 3 {
			t.Errorf("%d logins, %d refused, %d connections", p.logins.Load(), p.refused.Load(), p.conns.Load())
		}
	}
}

// With TLS to the proxy the login is bound to its certificate, and HTTP/2 is not offered.
func TestNTLMIsBoundToTLS(t *testing.T) {
	ca := ut.MustCA(t)
	cert, err := ca.Issue([]string{"localhost", "127.0.0.1"}, ut.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	p := newNTLMProxy()
	p.Certificate, p.config = leaf, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	s := ntlmSpec(p.serve(t))
	s.Scheme, s.TLS = "https", &tls.Config{RootCAs: ca.Pool()}
	tab := table(t, Config{Upstreams: []Spec{s}, Guard: auth.NewGuard(t.TempDir(), nil)})
	c, ce := connectTo(t, tab, "upstream.p")
	p.check(t, ce)
	say(t, c, "hello")
	c.Close()
	// a proxy that sees another certificate than we do, as behind somebody in the middle, refuses
	other, err := ca.Issue([]string{"localhost"}, ut.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Certificate, err = x509.ParseCertificate(other.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	if _, ce = connectTo(t, tab, "upstream.p"); ce == nil || ce.Kind != connmodel.KindAuth {
		t.Errorf("%v", ce)
	}
	if why, _ := p.fault.Load().(string); !strings.Contains(why, "bound to") {
		t.Errorf("fault %q", why)
	}
}

// The first 407 may close the connection; the one with the challenge may not.
func TestNTLMOverClosingProxies(t *testing.T) {
	p := newNTLMProxy()
	p.closes.Store(1)
	tab := table(t, Config{Upstreams: []Spec{ntlmSpec(p.serve(t))}, Guard: auth.NewGuard(t.TempDir(), nil)})
	c, err := connectTo(t, tab, "upstream.p")
	p.check(t, err)
	c.Close()
	if p.conns.Load() != 2 || p.logins.Load() != 1 {
		t.Errorf("%d connections, %d logins", p.conns.Load(), p.logins.Load())
	}
	p.midway.Store(true)
	if _, err = connectTo(t, tab, "upstream.p"); err == nil || err.Kind != connmodel.KindAuth || !strings.Contains(err.Error(), "in the middle of the ntlm handshake") {
		t.Errorf("%v", err)
	}
	if s := tab.Status()[0]; s.CredentialState != "proven" || p.logins.Load() != 1 {
		t.Errorf("%s, %d logins", s.CredentialState, p.logins.Load())
	}
}

// A connection that is logged in carries plain requests without a word of it.
func TestNTLMAndPlainRequests(t *testing.T) {
	p := newNTLMProxy()
	tab := table(t, Config{Upstreams: []Spec{ntlmSpec(p.serve(t))}, Guard: auth.NewGuard(t.TempDir(), nil)})
	q := &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 80}, Plain: true}
	c, err := tab.Dial(t.Context(), q, nil)
	p.check(t, err)
	defer c.Close()
	br := bufio.NewReader(c)
	for range 3 {
		if name, _, err := c.Authorize("POST", "http://a.example/"); err != nil || name != "" {
			t.Fatalf("%q %v", name, err)
		}
		io.WriteString(c, "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello")
		r, e := http.ReadResponse(br, nil)
		if e != nil || r.StatusCode != 200 {
			t.Fatalf("%v %v", r, e)
		}
		io.Copy(io.Discard, r.Body)
		c.Answered(200, nil)
	}
	// once it does not know us any more, another connection is worth a try
	if again, here, err := c.Challenged("GET", "http://a.example/", []string{"NTLM"}); !again || here || err != nil {
		t.Error(again, here, err)
	}
	if tab.Status()[0].CredentialState != "proven" || p.logins.Load() != 1 {
		t.Errorf("%s, %d logins", tab.Status()[0].CredentialState, p.logins.Load())
	}
}

// In the steady state a tunnel through such a proxy costs one question, as through any other.
func TestWarmConnections(t *testing.T) {
	p := newNTLMProxy()
	s := ntlmSpec(p.serve(t))
	s.Auth.WarmURL = "http://warm.example/"
	tab := table(t, Config{Upstreams: []Spec{s}, Guard: auth.NewGuard(t.TempDir(), nil)})
	h, _ := tab.Hop("p")
	ready := func(n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			h.warm.mu.Lock()
			have, making := len(h.warm.idle), h.warm.making
			h.warm.mu.Unlock()
			if have == n && making == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d connections are warm, %d are being made; want %d", have, making, n)
			}
		}
	}
	dial := func() *connmodel.Recorder {
		t.Helper()
		to := connmodel.Address{Host: "a.example", Port: 443}
		r := recorder(to)
		c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, r)
		p.check(t, err)
		say(t, c, "hello")
		c.Close()
		return r
	}
	dial()
	ready(1)
	for range 5 {
		asked := p.tunnels.Load()
		r := dial()
		ready(1)
		hop := r.Snapshot().Server.Attempts[0].Hops[0]
		if !hop.Reused || hop.AuthRounds != 0 || !hop.Peer.IsValid() || p.tunnels.Load() != asked+1 {
			t.Errorf("%+v", hop)
		}
	}
	if n := tab.Status()[0].Open; n != 1 {
		t.Errorf("%d are counted as open", n)
	}
	// many at once ask for more, within the bound
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { dial() })
	}
	wg.Wait()
	ready(maxWarm)
	// one that the proxy has closed is not used, one that dies under our hands is replaced
	h.warm.mu.Lock()
	for _, c := range h.warm.idle[:4] {
		c.base.Close()
	}
	h.warm.mu.Unlock()
	for range 10 {
		dial()
	}
	// one that it does not know any more is logged in again
	p.forget.Store(true)
	dial()
	p.forget.Store(false)
	if s := tab.Status()[0]; s.CredentialState != "proven" || p.refused.Load() != 0 {
		t.Errorf("%s, %d refused: %v", s.CredentialState, p.refused.Load(), p.fault.Load())
	}
	tab.Close()
	if n := tab.Status()[0].Open; n != 0 {
		t.Errorf("%d are counted as open after the end", n)
	}
}

// Without a URL to warm with, a connection on which a tunnel was refused is kept.
func TestRefusedTunnelLeavesItsConnection(t *testing.T) {
	p := newNTLMProxy()
	p.refuses.Store(true)
	tab := table(t, Config{Upstreams: []Spec{ntlmSpec(p.serve(t))}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for range 5 {
		if _, err := connectTo(t, tab, "upstream.p"); err == nil || err.Code != 403 {
			t.Fatalf("%v", err)
		}
	}
	p.refuses.Store(false)
	c, err := connectTo(t, tab, "upstream.p")
	p.check(t, err)
	say(t, c, "hello")
	c.Close()
	if p.conns.Load() != 1 || p.logins.Load() != 1 {
		t.Errorf("%d connections, %d logins", p.conns.Load(), p.logins.Load())
	}
}

func TestWarmConnectionsExpire(t *testing.T) {
	p := newNTLMProxy()
	tab := table(t, Config{Upstreams: []Spec{ntlmSpec(p.serve(t))}, Guard: auth.NewGuard(t.TempDir(), nil)})
	p.refuses.Store(true)
	connectTo(t, tab, "upstream.p")
	h, _ := tab.Hop("p")
	h.warm.mu.Lock()
	h.warm.idle[0].since, h.warm.wanted = time.Now().Add(-warmIdle), 3
	h.warm.mu.Unlock()
	h.warm.expire()
	if len(h.warm.idle) != 0 || h.warm.wanted != 2 || tab.Status()[0].Open != 0 {
		t.Errorf("%d kept, %d wanted, %d open", len(h.warm.idle), h.warm.wanted, tab.Status()[0].Open)
	}
}
