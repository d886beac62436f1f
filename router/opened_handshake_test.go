package router

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"

	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/router/intercept"
	"viaduct/upstream/upstreamtest"
)

// TestRejected: a client that does not trust the authority is recorded as that; where the rule says so, its next tunnel to the same target is
// passed through, and said to be.
func TestRejected(t *testing.T) {
	var events eventLog
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) { o.Log = &events })
	srv := r.origin(t, hello("origin"), "www.example.com")
	target := "www.example.com:" + portOf(srv.Listener.Addr().String())
	stranger := &tls.Config{RootCAs: r.servers.Pool(), ServerName: "www.example.com"}
	if _, err := r.handshake(t, target, stranger); err == nil {
		t.Fatal("the handshake was made with a client that does not trust the authority")
	}
	f := r.records.next(t)
	if e := f.Error; e == nil || e.Kind != connmodel.KindTLS || e.Side != connmodel.SideClient || e.CodeOf != "tls" || e.Code != 42 && e.Code != 48 ||
		!strings.Contains(e.Message, `does not accept a certificate of "test CA"`) || !strings.Contains(e.Message, "viaduct ca show") {
		t.Errorf("the record says %+v", e)
	}
	if ci := f.Client.TLSInfo; ci == nil || len(ci.Certificates) != 1 || ci.SNI != "www.example.com" || f.Client.TLSEstablished() {
		t.Errorf("the client's TLS: %+v", ci)
	}
	if f.Server == nil || f.Server.TLSInfo == nil {
		t.Error("the server's handshake is not in the record")
	}
	if _, err := r.handshake(t, target, stranger); err == nil {
		t.Fatal("on_client_reject is passthrough without the rule saying so")
	}
	r.records.next(t)

	learning := *r.plan
	learning.LearnRejects = true
	r.plan = &learning
	if _, err := r.handshake(t, target, stranger); err == nil {
		t.Fatal("passed through before anything was learnt")
	}
	r.records.next(t)
	c, err := r.handshake(t, target, stranger)
	if err != nil {
		t.Fatalf("not passed through: %v", err)
	}
	if c.ConnectionState().PeerCertificates[0].Issuer.CommonName != "upstreamtest CA" {
		t.Error("it is not the server's certificate")
	}
	c.Close()
	f = r.records.next(t)
	if !strings.HasPrefix(f.Metadata["tls"], "passed through: the client rejected our certificate at ") || f.Reply.Early {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	if events.count("client rejects our certificate") == 0 || events.count("passed through unopened") == 0 {
		t.Error("the log does not say so")
	}
	if st := r.Stats().Opened; st.Rejected != 3 || st.Passed != 1 || st.Learnt != 1 || st.Tunnels != 0 {
		t.Errorf("stats %+v", st)
	}
	// another target is another matter
	if _, err := r.handshake(t, "other.example.com:"+portOf(target), &tls.Config{RootCAs: r.servers.Pool(), ServerName: "www.example.com"}); err == nil {
		t.Error("another target was passed through")
	}
}

// TestRejectsForget: what is learnt is bounded, and forgotten after a day or when the clock is set back.
func TestRejectsForget(t *testing.T) {
	var r rejects
	now := time.Now()
	key := func(i int) rejectKey {
		return rejectKey{target: connmodel.Address{Host: "h", Port: uint16(i + 1)}}
	}
	for i := range maxRejects + 10 {
		r.learn(key(i), now)
	}
	if r.len() != maxRejects {
		t.Errorf("%d are known", r.len())
	}
	if _, ok := r.since(key(0), now); ok {
		t.Error("the oldest is still known")
	}
	if _, ok := r.since(key(maxRejects), now.Add(rejectTime-time.Second)); !ok {
		t.Error("a new one is not known")
	}
	if _, ok := r.since(key(maxRejects), now.Add(rejectTime)); ok {
		t.Error("one of yesterday is known")
	}
	if _, ok := r.since(key(maxRejects-1), now.Round(0).Add(-time.Hour)); ok {
		t.Error("one of the future is known")
	}
}

// TestClientLeavesHandshake ends the client's part of the handshake at every place, in good order and by reset.
func TestClientLeavesHandshake(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com")
	target := "www.example.com:" + portOf(srv.Listener.Addr().String())
	first, older := firstFlightOf(t, "www.example.com", tls.VersionTLS13), firstFlightOf(t, "www.example.com", tls.VersionTLS12)
	for _, row := range []struct {
		name, send string
		wait       bool // for our flight
		reset      bool
		kind       connmodel.Kind
		want       string
	}{
		{"without a word", "", false, false, connmodel.KindEOF, "without a word"},
		{"without a word, reset", "", false, true, connmodel.KindReset, "reset"},
		{"in the ClientHello", first[:100], false, false, connmodel.KindEOF, "in the middle of it"},
		{"in the ClientHello, reset", first[:100], false, true, connmodel.KindReset, "reset"},
		{"after our certificate", first, true, false, connmodel.KindTLS, "closed the connection when it was shown it"},
		{"after our certificate, reset", first, true, true, connmodel.KindTLS, "closed the connection when it was shown it"},
		{"garbage after our certificate", first + "garbage garbage", true, false, connmodel.KindTLS, "the TLS handshake with the client failed"},
		{"an alert that is about something else", older + "\x15\x03\x03\x00\x02\x02\x50", true, false, connmodel.KindTLS, "internal error"},
		{"an alert about our certificate", older + "\x15\x03\x03\x00\x02\x02\x30", true, false, connmodel.KindTLS, "does not accept a certificate"},
		{"an alert about our certificate in the clear, TLS 1.3", first + "\x15\x03\x03\x00\x02\x02\x30", true, false, connmodel.KindTLS, "says tls: unknown certificate authority"},
		{"the same in pieces", first + "\x15\x03", true, false, connmodel.KindTLS, "does not accept a certificate"},
		{"a ClientHello that is none", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", true, false, connmodel.KindProtocol, "cannot be read"},
		{"another protocol", "\x00\x01\x02\x03", true, false, connmodel.KindProtocol, "neither TLS nor HTTP"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.tunnel(t, target)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, row.send)
			if row.wait {
				c.Read(make([]byte, 1)) // something, or the end
			}
			if row.reset {
				c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
			f := r.records.next(t)
			if e := f.Error; e == nil || e.Kind != row.kind || e.Side != connmodel.SideClient || !strings.Contains(e.Message, row.want) {
				t.Errorf("the record says %+v", e)
			}
			if f.Client.State != connmodel.Closed {
				t.Errorf("the client is %v", f.Client.State)
			}
		})
	}
}

// firstFlightOf is the first flight of a client.
func firstFlightOf(t testing.TB, name string, most uint16) string {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		tls.Client(b, &tls.Config{ServerName: name, MaxVersion: most}).Handshake()
		b.Close()
	}()
	buf := make([]byte, 4096)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// TestSlowHandshake: neither silence nor a drop at a time keeps a tunnel open beyond the time of a handshake.
func TestSlowHandshake(t *testing.T) {
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) { c.Listeners[0].HandshakeTimeout = 300 * time.Millisecond })
	srv := r.origin(t, hello("origin"), "www.example.com")
	target := "www.example.com:" + portOf(srv.Listener.Addr().String())
	first := firstFlightOf(t, "www.example.com", tls.VersionTLS13)
	for name, send := range map[string]string{"silent": "", "stuck in its hello": first[:200], "stuck after our flight": first} {
		t.Run(name, func(t *testing.T) {
			c := r.tunnel(t, target)
			io.WriteString(c, send)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("it was not closed: %v", err)
			}
			if e := r.records.next(t).Error; e == nil || e.Kind != connmodel.KindTimeout || e.Side != connmodel.SideClient {
				t.Errorf("the record says %+v", e)
			}
		})
	}
	t.Run("dripping", func(t *testing.T) {
		c := r.tunnel(t, target)
		began := time.Now()
		for i := range len(first) {
			if _, err := io.WriteString(c, first[i:i+1]); err != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it dripped for %v", took)
		}
		if e := r.records.next(t).Error; e == nil || e.Side != connmodel.SideClient {
			t.Errorf("the record says %+v", e)
		}
	})
}

// TestServerFails: what keeps us from the server is told inside, on a page, and never data of a server that was not verified.
func TestServerFails(t *testing.T) {
	r := openingGateway(t, nil)
	secret := hello("secret of the origin")
	ok := r.origin(t, secret, "www.example.com")
	expired := r.originWith(t, secret, r.cert(t, upstreamtest.Expired(), "www.example.com"), nil)
	other := r.origin(t, secret, "other.example.com")
	self := r.originWith(t, secret, r.cert(t, upstreamtest.CertOptions{SelfSigned: true}, "www.example.com"), nil)
	wantsCert := r.originWith(t, secret, r.cert(t, upstreamtest.CertOptions{}, "www.example.com"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, r.servers.Pool(), tls.VersionTLS12
	})
	wantsCert13 := r.originWith(t, secret, r.cert(t, upstreamtest.CertOptions{}, "www.example.com"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, r.servers.Pool()
	})
	plain := serveTCP(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); io.Copy(io.Discard, c) })
	closes := serveTCP(t, func(c net.Conn) { c.Read(make([]byte, 1000)) })
	resets := serveTCP(t, func(c net.Conn) { c.Read(make([]byte, 1000)); c.(*net.TCPConn).SetLinger(0) })
	addr := func(s interface{ Addr() net.Addr }) string { return s.Addr().String() }
	for _, row := range []struct{ name, addr, want string }{
		{"refused", upstreamtest.Refused(t), "refused"},
		{"expired", addr(expired.Listener), "is not valid now"},
		{"another name", addr(other.Listener), "other.example.com"},
		{"self-signed", addr(self.Listener), "is self-signed"},
		{"wants a certificate", addr(wantsCert.Listener), "certificate"},
		{"wants a certificate, late", addr(wantsCert13.Listener), "certificate"},
		{"no TLS", plain, "does not speak TLS"},
		{"closes", closes, ""},
		{"resets", resets, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.web(t)
			for range 2 {
				body := get(t, c, "https://www.example.com:"+portOf(row.addr)+"/", 502)
				if !strings.Contains(body, row.want) || strings.Contains(body, "secret") {
					t.Errorf("the page says:\n%s", body)
				}
			}
			f := r.records.find(t, "the request", func(f *connmodel.Flow) bool { return f.Request != nil && portOf(f.Target.String()) == portOf(row.addr) })
			if e := f.Error; e == nil || e.Side != connmodel.SideServer || f.Reply == nil || f.Reply.Code != 502 {
				t.Errorf("the record: %s", f.AppendJSON(nil))
			}
		})
	}
	get(t, r.web(t), "https://www.example.com:"+portOf(addr(ok.Listener))+"/", 200)
}

// TestShown is what clients are shown for what they ask for and what servers are.
func TestShown(t *testing.T) {
	r := openingGateway(t, nil)
	many := make([]string, 2000)
	for i := range many {
		many[i] = "h" + strings.Repeat("x", i%20) + string(rune('a'+i%26)) + ".example.com"
	}
	many[0] = "www.example.com"
	for _, row := range []struct {
		name, target, sni string
		names             []string
		verify            bool
		want              []string
	}{
		{"names of the server", "www.example.com", "www.example.com", []string{"example.com", "www.example.com"}, true, []string{"www.example.com", "example.com"}},
		{"a wildcard", "www.example.com", "www.example.com", []string{"*.example.com"}, true, []string{"www.example.com", "*.example.com"}},
		{"an address and a name", "127.0.0.1", "www.example.com", []string{"www.example.com"}, true, []string{"www.example.com"}},
		{"an address alone", "127.0.0.1", "", []string{"127.0.0.1"}, true, []string{"127.0.0.1"}},
		{"a name without SNI", "www.example.com", "", []string{"www.example.com"}, true, []string{"www.example.com"}},
		{"not verified, and another name", "www.example.com", "www.example.com", []string{"evil.example"}, false, []string{"evil.example"}},
		{"2,000 names", "www.example.com", "www.example.com", many, true, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			srv := r.origin(t, hello("origin"), row.names...)
			plan := &connmodel.TLSPlan{Mode: connmodel.TLSIntercept, Config: &tls.Config{RootCAs: r.servers.Pool(), InsecureSkipVerify: !row.verify}}
			r.decide = func(*connmodel.Facts) *connmodel.Decision { d := r.open(); d.TLS = plan; return d }
			conf := r.trusted(row.sni)
			conf.InsecureSkipVerify = true // the names are looked at here
			c, err := r.handshake(t, row.target+":"+portOf(srv.Listener.Addr().String()), conf)
			if err != nil {
				t.Fatal(err)
			}
			leaf := c.ConnectionState().PeerCertificates[0]
			got := leaf.DNSNames
			for _, ip := range leaf.IPAddresses {
				got = append(got, ip.String())
			}
			if row.want != nil && !slices.Equal(got, row.want) || len(got) > 100 || len(got) == 0 {
				t.Errorf("names %v", got)
			}
			if err := leaf.CheckSignatureFrom(r.ca.Cert); err != nil {
				t.Error(err)
			}
			c.Close()
			r.records.next(t)
		})
	}
}

// TestServerByAnotherName: where the policy sends the tunnel to another server, that one is verified by its own name, and the client is
// shown what it asked for.
func TestServerByAnotherName(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("inside"), "api.internal.example")
	port := portOf(srv.Listener.Addr().String())
	r.decide = func(*connmodel.Facts) *connmodel.Decision {
		d := r.open()
		d.Server = address(t, "api.internal.example:"+port)
		return d
	}
	if got := get(t, r.web(t), "https://www.example.com/x", 200); got != "inside GET www.example.com /x" {
		t.Errorf("got %q", got)
	}
	named := *r.plan
	named.ServerName = "api.internal.example"
	r.decide = func(*connmodel.Facts) *connmodel.Decision {
		d := r.open()
		d.Server, d.TLS = address(t, "127.0.0.1:"+port), &named
		return d
	}
	get(t, r.web(t), "https://www.example.com/y", 200)
}

// TestNotPermitted: an authority with name constraints opens nothing that it may not sign for, and passes it through neither.
func TestNotPermitted(t *testing.T) {
	limited, err := intercept.Create(intercept.CreateOptions{Permit: []string{"corp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) { c.CA = limited })
	srv := r.origin(t, hello("origin"), "www.example.com")
	if _, err := r.handshake(t, "www.example.com:"+portOf(srv.Listener.Addr().String()), r.trusted("www.example.com")); err == nil {
		t.Fatal("it was opened")
	}
	if e := r.records.next(t).Error; e == nil || e.Side != connmodel.SideViaduct || !strings.Contains(e.Message, "name constraints") {
		t.Errorf("the record says %+v", e)
	}
}

// TestRotatedAuthority: a reload brings the new authority to new tunnels; open ones go on.
func TestRotatedAuthority(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com")
	u := "https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/"
	kept := r.web(t)
	get(t, kept, u, 200)
	dir := t.TempDir()
	if err := r.ca.Write(intercept.In(dir)); err != nil {
		t.Fatal(err)
	}
	next, _, err := intercept.Rotate(intercept.In(dir), intercept.CreateOptions{Name: "next CA"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(r.next(func(c *Config) { c.CA = next })); err != nil {
		t.Fatal(err)
	}
	get(t, kept, u, 200)
	get(t, r.web(t), u, 200) // trusts the old one, which vouches for the new one
	pool := x509.NewCertPool()
	pool.AddCert(next.Cert)
	fresh := r.web(t)
	fresh.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	get(t, fresh, u, 200)
}

// TestAuthorityGone: a configuration without an authority opens nothing.
func TestAuthorityGone(t *testing.T) {
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) { c.CA = nil })
	srv := r.origin(t, hello("origin"), "www.example.com")
	if _, err := r.handshake(t, "www.example.com:"+portOf(srv.Listener.Addr().String()), r.trusted("www.example.com")); err == nil {
		t.Fatal("it was opened")
	}
	if e := r.records.next(t).Error; e == nil || !strings.Contains(e.Message, "viaduct ca init") {
		t.Errorf("the record says %+v", e)
	}
}

// TestManyHandshakes leaves nothing behind, however they end.
func TestManyHandshakes(t *testing.T) {
	r := openingGateway(t, nil)
	srv := r.origin(t, hello("origin"), "www.example.com")
	target := "www.example.com:" + portOf(srv.Listener.Addr().String())
	first := firstFlightOf(t, "www.example.com", tls.VersionTLS13)
	c := r.web(t)
	get(t, c, "https://"+target+"/", 200)
	c.CloseIdleConnections()
	before := measure()
	for i := range pick(60, 2000) {
		switch i % 4 {
		case 0:
			get(t, c, "https://"+target+"/", 200)
			c.CloseIdleConnections()
		default:
			tc, err := r.gateway.open(target)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(tc, first[:[]int{0, 0, 150, len(first)}[i%4]])
			if i%4 == 3 {
				tc.SetDeadline(time.Now().Add(10 * time.Second))
				tc.Read(make([]byte, 1))
			}
			tc.Close()
		}
	}
	before.backTo(t)
}
