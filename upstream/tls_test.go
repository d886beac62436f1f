package upstream

import (
	"crypto/tls"
	"io"
	"net"
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

// tlsEnd is a TLS end that is wrong in some way.
type tlsEnd struct {
	name   string
	server *tls.Config         // of the far end
	raw    func(net.Conn)      // in place of a TLS server
	ours   func(c *tls.Config) // changes of our side
	kind   connmodel.Kind
	code   int
	says   string
	chain  connmodel.ChainVerdict
}

func tlsEnds(t *testing.T, ca *ut.CA) []tlsEnd {
	cert := func(o ut.CertOptions, names ...string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.MustIssue(t, o, names...)}}
	}
	none := func(*tls.Config) {}
	wait := func(c net.Conn) { io.Copy(io.Discard, c) }
	clientCA := ca.ServerTLS(t, "127.0.0.1")
	clientCA.ClientAuth, clientCA.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	clientCA.MaxVersion = tls.VersionTLS12
	old := ca.ServerTLS(t, "127.0.0.1")
	old.MaxVersion = tls.VersionTLS12
	return []tlsEnd{
		{"expired", cert(ut.Expired(), "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "must be renewed", connmodel.ChainExpired},
		{"not yet valid", cert(ut.NotYetValid(), "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "not valid now", connmodel.ChainNotYetValid},
		{"wrong name", cert(ut.CertOptions{}, "other.example", "third.example"), nil, none, connmodel.KindTLS, 0, `is not for "127.0.0.1" but for "other.example", "third.example"`, connmodel.ChainName},
		{"name in CN alone", cert(ut.CertOptions{CNOnly: true}, "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "no name at all", connmodel.ChainNoName},
		{"unknown authority", ut.MustCA(t).ServerTLS(t, "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "not trusted", connmodel.ChainAuthority},
		{"self-signed", cert(ut.CertOptions{SelfSigned: true}, "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "self-signed", connmodel.ChainSelfSigned},
		{"client certificate as a server's", cert(ut.CertOptions{Client: true}, "127.0.0.1"), nil, none, connmodel.KindTLS, 0, "cannot be used", connmodel.ChainUsage},
		{"old version", old, nil, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, connmodel.KindTLS, 70, "min_version", ""},
		{"client certificate wanted", clientCA, nil, none, connmodel.KindTLS, 40, "set certificate and key", ""},
		{"not TLS", nil, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); wait(c) }, none, connmodel.KindTLS, 0, "answered with plain HTTP", ""},
		{"SSH", nil, func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); wait(c) }, none, connmodel.KindTLS, 0, "does not speak TLS", ""},
		{"closes", nil, func(c net.Conn) { c.Read(make([]byte, 4096)) }, none, connmodel.KindEOF, 0, "during the TLS handshake", ""},
		{"resets", nil, func(c net.Conn) {
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
		}, none, connmodel.KindReset, 0, "during the TLS handshake", ""},
		{"silence", nil, wait, none, connmodel.KindTimeout, 0, "during the TLS handshake", ""},
	}
}

func TestTLSFailures(t *testing.T) {
	ca := ut.MustCA(t)
	for _, e := range tlsEnds(t, ca) {
		far := listen(t, func(c net.Conn) {
			if e.raw != nil {
				e.raw(c)
				return
			}
			s := tls.Server(c, e.server)
			s.Handshake()
			io.Copy(io.Discard, s)
		})
		ours := func() *tls.Config {
			c := &tls.Config{RootCAs: ca.Pool()}
			e.ours(c)
			return c
		}
		check := func(t *testing.T, err *connmodel.ConnError, r *connmodel.Recorder, side connmodel.Side, blame connmodel.Blame) {
			t.Helper()
			if err == nil {
				t.Fatal("connected")
			}
			if err.Side != side || err.Blame != blame || err.Phase != connmodel.PhaseTLS || err.Kind != e.kind || err.Code != e.code || !strings.Contains(err.Message, e.says) {
				t.Errorf("%s %s %s %d %q: %v", err.Side, err.Blame, err.Kind, err.Code, e.says, err)
			}
			if s := r.Snapshot().Server; s.TLSEstablished() || len(s.Attempts) != 1 || s.Attempts[0].Error != err {
				t.Errorf("record %+v", s)
			} else {
				checkSeen(t, &e, s.Attempts[0].Hops)
			}
			if err.Verdict != e.chain {
				t.Errorf("the verdict is %q, not %q", err.Verdict, e.chain)
			}
		}
		t.Run("proxy/"+e.name, func(t *testing.T) {
			_, first := startProxy(t, ca, "first", "http", ut.Options{})
			tab := table(t, Config{Upstreams: []Spec{first, {Name: "bad", Scheme: "https", Address: far, TLS: ours(), Timeouts: HopTimeouts{TLS: 150 * time.Millisecond}}},
				Chains: []ChainSpec{{"c", []string{"upstream.first", "upstream.bad"}}}})
			for hop, route := range []string{"upstream.bad", "chain.c"} {
				r := recorder(far)
				_, err := tab.Dial(t.Context(), &Request{Route: route, Target: connmodel.Address{Host: "x.example", Port: 1}}, r)
				check(t, err, r, connmodel.SideHop, connmodel.BlameProxy)
				if err.Hop != hop+1 || err.HopName != "bad" {
					t.Errorf("blamed on hop %d (%s)", err.Hop, err.HopName)
				}
			}
		})
		t.Run("server/"+e.name, func(t *testing.T) {
			_, first := startProxy(t, ca, "first", "http", ut.Options{})
			tab := table(t, Config{Upstreams: []Spec{first}, Direct: DirectSpec{TLSTimeout: 150 * time.Millisecond}})
			for _, route := range []string{"direct", "upstream.first"} {
				r := recorder(far)
				_, err := tab.Dial(t.Context(), &Request{Route: route, Target: far, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: ours()}}, r)
				check(t, err, r, connmodel.SideServer, connmodel.BlameTarget)
			}
		})
	}
}

// checkSeen: what was seen of a handshake that failed is in its record.
func checkSeen(t *testing.T, e *tlsEnd, hops []connmodel.HopResult) {
	t.Helper()
	info := hops[len(hops)-1].TLSInfo
	if info == nil || info.Verdict != e.chain || (info.Problem != "") != (e.chain != "") || info.VerifiedName != "" || info.Unverified {
		t.Fatalf("the record of the handshake is %+v", info)
	}
	if e.chain == "" {
		return
	}
	if len(info.Certificates) != len(e.server.Certificates[0].Certificate) || info.Version != "TLS 1.3" || info.Cipher == "" {
		t.Errorf("seen were %+v", info)
	}
	want := connmodel.CertOK
	if e.chain == connmodel.ChainExpired || e.chain == connmodel.ChainNotYetValid {
		want = connmodel.Verdict(e.chain)
	}
	if c := info.Certificates[0]; c.Verdict != want || c.Pin == "" || c.Signature == "" {
		t.Errorf("the certificate is %+v", c)
	}
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
