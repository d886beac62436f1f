package router

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/router/intercept"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// openRig is a gateway whose policy opens tunnels, and what its tests need beside it.
type openRig struct {
	*gateway
	ca      *intercept.CA
	servers *upstreamtest.CA // signs for servers; the policy trusts it
	plan    *connmodel.TLSPlan
	decide  func(f *connmodel.Facts) *connmodel.Decision
}

// opening starts a gateway that opens every tunnel, unless decide says otherwise.
func openingGateway(t *testing.T, change func(*openRig, *Options, *Config)) *openRig {
	t.Helper()
	ca, err := intercept.Create(intercept.CreateOptions{Name: "test CA"})
	if err != nil {
		t.Fatal(err)
	}
	r := &openRig{ca: ca, servers: upstreamtest.MustCA(t)}
	r.plan = &connmodel.TLSPlan{Mode: connmodel.TLSIntercept, Config: &tls.Config{RootCAs: r.servers.Pool(), MinVersion: tls.VersionTLS12}}
	r.gateway = start(t, func(o *Options, c *Config) {
		c.CA = ca
		c.Resolver = everywhereHere{}
		c.Listeners[0].HandshakeTimeout = 5 * time.Second
		if change != nil {
			change(r, o, c)
		}
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if r.decide != nil {
				if d := r.decide(f); d != nil {
					return d, 0
				}
			}
			return r.open(), 0
		})
		table, err := upstream.NewTable(upstream.Config{Resolver: everywhereHere{}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Routes.Close()
		c.Routes = table
	})
	return r
}

// open is the decision to open a tunnel.
func (r *openRig) open() *connmodel.Decision {
	d := loopbackOpen()
	d.Rule, d.TLS = "open", r.plan
	return d
}

// trusted is the TLS of a client that trusts the gateway's authority.
func (r *openRig) trusted(name string, alpn ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Cert)
	return &tls.Config{RootCAs: pool, ServerName: name, NextProtos: alpn}
}

// client is an HTTP client that goes through the gateway and trusts its authority.
func (r *openRig) web(t *testing.T) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr}), TLSClientConfig: r.trusted("")}
	tr.TLSClientConfig.ServerName = ""
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// origin is an HTTPS server for names.
func (r *openRig) origin(t *testing.T, h http.Handler, names ...string) *httptest.Server {
	t.Helper()
	return r.originWith(t, h, r.cert(t, upstreamtest.CertOptions{}, names...), nil)
}

func (r *openRig) cert(t *testing.T, o upstreamtest.CertOptions, names ...string) tls.Certificate {
	t.Helper()
	cert, err := r.servers.Issue(names, o)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (r *openRig) originWith(t *testing.T, h http.Handler, cert tls.Certificate, change func(*tls.Config)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if change != nil {
		change(srv.TLS)
	}
	srv.Config.ErrorLog = discardLog
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// handshake opens a tunnel to target and makes TLS in it.
func (r *openRig) handshake(t *testing.T, target string, conf *tls.Config) (*tls.Conn, error) {
	t.Helper()
	c := r.tunnel(t, target)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	tc := tls.Client(c, conf)
	return tc, tc.Handshake()
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func hello(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s", text, r.Method, r.Host, r.URL)
	})
}

// get fetches and wants a status, and returns the body.
func get(t *testing.T, c *http.Client, u string, status int) string {
	t.Helper()
	res, err := c.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Fatalf("%s: %s, want %d\n%s", u, res.Status, status, b)
	}
	return string(b)
}

// find waits for a record that ok takes.
func (m *memory) find(t *testing.T, what string, ok func(*connmodel.Flow) bool) *connmodel.Flow {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m.mu.Lock()
		for _, f := range m.flows {
			if ok(f) {
				m.mu.Unlock()
				return f
			}
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.flows {
		t.Log(string(f.AppendJSON(nil)))
	}
	t.Fatalf("no record of %s", what)
	return nil
}

func isTunnel(f *connmodel.Flow) bool { return f.Request == nil }

// TestIntercept: two requests in one tunnel, each a flow with its request, on the tunnel's own connection, and both handshakes in the record.
func TestIntercept(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com", "*.example.com")
	c := r.web(t)
	base := "https://www.example.com:" + portOf(srv.Listener.Addr().String())
	if got := get(t, c, base+"/a?b=c", 200); got != "origin GET www.example.com:"+portOf(base[8:])+" /a?b=c" {
		t.Errorf("got %q", got)
	}
	get(t, c, base+"/second", 200)
	c.CloseIdleConnections()

	one := r.records.find(t, "the first request", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/a?b=c" })
	two := r.records.find(t, "the second request", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/second" })
	tunnel := r.records.find(t, "the tunnel", isTunnel)
	if one.Request.Scheme != "https" || one.Request.Method != "GET" || one.Response.Status != 200 || one.Request.Tunnel != tunnel.ID || one.Session != tunnel.Session {
		t.Errorf("the request's record: %s", one.AppendJSON(nil))
	}
	if one.Server.ID != tunnel.Server.ID || two.Server.ID != tunnel.Server.ID {
		t.Error("the requests did not go by the tunnel's connection")
	}
	if !tunnel.Reply.Early || tunnel.Server.TLSInfo == nil || len(tunnel.Server.TLSInfo.Certificates) == 0 || tunnel.Server.TLSInfo.VerifiedName != "www.example.com" {
		t.Errorf("the tunnel's record: %s", tunnel.AppendJSON(nil))
	}
	ci := tunnel.Client.TLSInfo
	if ci == nil || ci.SNI != "www.example.com" || len(ci.Certificates) != 1 || ci.Certificates[0].Issuer != "CN=test CA" {
		t.Errorf("the client's TLS: %+v", ci)
	}
	if tunnel.Error != nil || tunnel.Up != one.Up+two.Up || tunnel.Down != one.Down+two.Down || tunnel.Down == 0 {
		t.Errorf("the tunnel: %v, %d up, %d down", tunnel.Error, tunnel.Up, tunnel.Down)
	}
	if st := r.Stats().Opened; st.Tunnels != 1 || st.Minted != 1 {
		t.Errorf("stats %+v", st)
	}
}

// everywhereHere resolves every name to this machine.
type everywhereHere struct{}

func (everywhereHere) Lookup(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

var discardLog = log.New(io.Discard, "", 0)
