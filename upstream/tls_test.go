package upstream

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// TestUpgrade makes TLS to the server at the end of every kind of way.
func TestUpgrade(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{TLS: ca.ServerTLS(t, "server.example", "127.0.0.1")})
	to := addr(t, origin.Addr())
	_, web := startProxy(t, ca, "web", "https", ut.Options{})
	_, s5 := startProxy(t, ca, "s5", "socks5", ut.Options{})
	tab := table(t, Config{Upstreams: []Spec{web, s5}, Chains: []ChainSpec{{"c", []string{"upstream.s5", "upstream.web"}}}})
	for _, route := range []string{"direct", "upstream.web", "upstream.s5", "chain.c"} {
		for _, name := range []string{"", "server.example"} {
			plan := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, ServerName: name, Config: &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"http/1.1"}, ServerName: "ignored.example"}}
			for again := range 2 {
				r := recorder(to)
				c, err := tab.Dial(t.Context(), &Request{Route: route, Target: to, TLS: plan, Plain: true}, r)
				if err != nil {
					t.Fatal(err)
				}
				say(t, c, "hello over TLS")
				c.Close()
				s := r.Snapshot().Server
				want := name
				if want == "" {
					want = "127.0.0.1"
				}
				if !s.TLSEstablished() || s.TLSInfo == nil || s.TLSInfo.VerifiedName != want || len(s.TLSInfo.Certificates) == 0 ||
					s.TLSInfo.Resumed != (again == 1) || s.State != connmodel.Active || len(s.TLSInfo.ALPNOffers) != 1 {
					t.Errorf("%s to %q, time %d: %+v", route, name, again, s.TLSInfo)
				}
				if hops := s.Attempts[0].Hops; hops[len(hops)-1].TLS <= 0 {
					t.Errorf("%s: no time of the handshake: %+v", route, hops)
				}
				if c.Absolute {
					t.Errorf("%s: absolute-form over TLS of our own", route)
				}
			}
		}
	}
}

// endTime is how long a handshake with e may take.
func endTime(e *ut.TLSEnd) time.Duration {
	if e.Kind == "timeout" {
		return 150 * time.Millisecond
	}
	return 10 * time.Second // a busy machine must not make a timeout of anything else
}

// TestTLSEnds goes to every server of the set, as an https proxy (first and second on the way) and as a server that a rule upgrades to:
// what fails is blamed on the right hop, in words, and its record has the chain as it was sent.
func TestTLSEnds(t *testing.T) {
	ca := ut.MustCA(t)
	_, first := startProxy(t, ca, "first", "http", ut.Options{})
	for _, e := range ut.TLSEnds(t, ca, "127.0.0.1") {
		far := listen(t, e.Serve)
		ours := &tls.Config{RootCAs: ca.Pool()}
		tab := table(t, Config{Upstreams: []Spec{first, {Name: "end", Scheme: "https", Address: far, TLS: ours, Timeouts: HopTimeouts{TLS: endTime(&e)}}},
			Chains: []ChainSpec{{"c", []string{"upstream.first", "upstream.end"}}}, Direct: DirectSpec{TLSTimeout: endTime(&e)}})
		t.Run("proxy/"+e.Name, func(t *testing.T) {
			for hop, route := range []string{"upstream.end", "chain.c"} {
				r := recorder(far)
				c, err := tab.Dial(t.Context(), &Request{Route: route, Target: connmodel.Address{Host: "x.example", Port: 1}}, r)
				if checkEnd(t, &e, c, err, r.Snapshot().Server, hop, connmodel.SideHop, connmodel.BlameProxy) && (err.Hop != hop+1 || err.HopName != "end") {
					t.Errorf("blamed on hop %d (%s)", err.Hop, err.HopName)
				}
			}
		})
		t.Run("server/"+e.Name, func(t *testing.T) {
			for hop, route := range []string{"direct", "upstream.first"} {
				r := recorder(far)
				c, err := tab.Dial(t.Context(), &Request{Route: route, Target: far, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: ours}}, r)
				checkEnd(t, &e, c, err, r.Snapshot().Server, hop, connmodel.SideServer, connmodel.BlameTarget)
			}
		})
	}
}

// checkEnd looks at what became of a dial to e, which is element hop of the only attempt. It reports whether that failed as it should.
func checkEnd(t *testing.T, e *ut.TLSEnd, c *Conn, err *connmodel.ConnError, s *connmodel.Server, hop int, side connmodel.Side, blame connmodel.Blame) bool {
	t.Helper()
	if len(s.Attempts) != 1 || len(s.Attempts[0].Hops) <= hop {
		t.Fatalf("the record has %+v", s.Attempts)
	}
	info := s.Attempts[0].Hops[hop].TLSInfo
	if info == nil {
		t.Fatal("the record has nothing of the handshake")
	}
	if e.Config != nil && e.Alert != 70 && (len(info.Certificates) != len(e.Config.Certificates[0].Certificate) || info.Version == "" || info.Cipher == "" || info.Certificates[0].Pin == "") {
		t.Errorf("of the handshake was seen %+v", info)
	}
	if e.OK {
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if info.Verdict != connmodel.ChainOK || info.Problem != "" || info.VerifiedName != "127.0.0.1" || info.Unverified {
			t.Errorf("the record says %+v", info)
		}
		return false
	}
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
	if err.Side != side || err.Blame != blame || err.Phase != connmodel.PhaseTLS || string(err.Kind) != e.Kind || err.Code != e.Alert || string(err.Verdict) != e.Verdict || !strings.Contains(err.Message, e.Says) {
		t.Errorf("side %s blame %s phase %s kind %s code %d verdict %q, want %s %d %q that says %q:\n%v", err.Side, err.Blame, err.Phase, err.Kind, err.Code, err.Verdict, e.Kind, e.Alert, e.Verdict, e.Says, err)
	}
	if s.TLSEstablished() || s.Attempts[0].Error != err {
		t.Errorf("record %+v", s)
	}
	if string(info.Verdict) != e.Verdict || (info.Problem != "") != (e.Verdict != "") || info.VerifiedName != "" || info.Unverified {
		t.Errorf("the record of the handshake is %+v", info)
	}
	for i := range info.Certificates {
		x := &info.Certificates[i]
		if want := x.VerdictAt(time.Now()); x.Verdict != want || x.Signature == "" {
			t.Errorf("certificate %d is %+v, not %s", i, x, want)
		}
	}
	return true
}

// TestClientCertificate shows ours to a proxy that wants it.
func TestClientCertificate(t *testing.T) {
	ca := ut.MustCA(t)
	to := listen(t, echo)
	server := ca.ServerTLS(t, "proxy.example")
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	p := ut.NewHTTP(t, ut.Options{TLS: server})
	s := Spec{Name: "p", Scheme: "https", Address: addr(t, p.Addr()), ServerName: "proxy.example",
		TLS: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.MustIssue(t, ut.CertOptions{Client: true}, "viaduct")}}}
	r := recorder(to)
	c, err := table(t, Config{Upstreams: []Spec{s}}).Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, r)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if q := p.Requests()[0].TLS; q == nil || q.ServerName != "proxy.example" || len(q.PeerCertificates) != 1 {
		t.Errorf("the proxy saw %+v", q)
	}
	if info := r.Snapshot().Server.Attempts[0].Hops[0].TLSInfo; info.VerifiedName != "proxy.example" || info.SNI != "proxy.example" {
		t.Errorf("record: %+v", info)
	}
}

// TestSessionsAreNotShared: two upstreams that are one server resume nothing of each other.
func TestSessionsAreNotShared(t *testing.T) {
	ca := ut.MustCA(t)
	to := listen(t, echo)
	p, a := startProxy(t, ca, "a", "https", ut.Options{})
	b := a
	b.Name = "b"
	c := Config{Upstreams: []Spec{a, b}}
	tab := table(t, c)
	for _, name := range []string{"a", "a", "b", "b"} {
		conn, err := tab.Dial(t.Context(), &Request{Route: "upstream." + name, Target: to}, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	conn, err := table(t, c).Dial(t.Context(), &Request{Route: "upstream.a", Target: to}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	var resumed []bool
	for _, q := range p.Requests() {
		resumed = append(resumed, q.TLS.DidResume)
	}
	want := []bool{false, true, false, true, false}
	for i := range want {
		if resumed[i] != want[i] {
			t.Fatalf("resumed %v, want %v", resumed, want)
		}
	}
}
