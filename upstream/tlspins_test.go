package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
	ut "viaduct/upstream/upstreamtest"
)

// TestPins: a pin of any certificate of the verified chain will do; without verification that of the server's own key alone. It holds in
// resumed sessions, where nothing is verified anew.
func TestPins(t *testing.T) {
	ca := ut.MustCA(t)
	between, err := ca.Intermediate("between", ut.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leaf := between.MustIssue(t, ut.CertOptions{}, "127.0.0.1")
	leaf.Certificate = append(leaf.Certificate, between.Cert.Raw, ca.Cert.Raw)
	own, above, top, none := connmodel.PinOf(leaf.Leaf), connmodel.PinOf(between.Cert), connmodel.PinOf(ca.Cert), connmodel.PinOf(ut.MustCA(t).Cert)
	for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		origin := ut.NewOrigin(t, ut.Echo, ut.Options{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: most}})
		to := addr(t, origin.Addr())
		for _, x := range []struct {
			pins   certcheck.Pins
			verify bool
			ok     bool
		}{
			{certcheck.Pins{own}, true, true}, {certcheck.Pins{none, above}, true, true}, {certcheck.Pins{top}, true, true}, {certcheck.Pins{none}, true, false},
			{certcheck.Pins{own}, false, true}, {certcheck.Pins{above, top}, false, false}, {certcheck.Pins{none}, false, false},
		} {
			tab := table(t, Config{})
			conf := &tls.Config{RootCAs: ca.Pool(), VerifyConnection: x.pins.VerifyConnection, InsecureSkipVerify: !x.verify}
			plan := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: conf}
			for again := range 2 {
				r := recorder(to)
				c, err := tab.Dial(t.Context(), &Request{Route: "direct", Target: to, TLS: plan}, r)
				info := r.Snapshot().Server.Attempts[0].Hops[0].TLSInfo
				if x.ok {
					if err != nil {
						t.Fatal(err)
					}
					say(t, c, "hello") // with TLS 1.3 the ticket comes with the answer
					c.Close()
					if info.Resumed != (again == 1) || info.Verdict != connmodel.ChainOK || info.Unverified == x.verify {
						t.Errorf("%+v, time %d: %+v", x, again, info)
					}
					continue
				}
				if err == nil {
					c.Close()
					t.Fatalf("%+v: connected", x)
				}
				if err.Verdict != connmodel.ChainPin || info.Verdict != connmodel.ChainPin || len(info.Certificates) != 3 || !strings.Contains(err.Message, own) {
					t.Errorf("%+v: %v, record %+v", x, err, info)
				}
			}
		}
	}
}

// TestPinsWhenResumed: a session that was made under other pins of the same configuration is not let pass.
func TestPinsWhenResumed(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{TLS: ca.ServerTLS(t, "127.0.0.1")})
	to := addr(t, origin.Addr())
	tab := table(t, Config{})
	pinned := certcheck.Pins{connmodel.PinOf(ca.Cert)}
	asked, resumed := 0, 0
	conf := &tls.Config{RootCAs: ca.Pool(), VerifyConnection: func(cs tls.ConnectionState) error {
		asked++
		if cs.DidResume {
			resumed++
		}
		return pinned.VerifyConnection(cs)
	}}
	plan := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: conf}
	for range 2 {
		c, err := tab.Dial(t.Context(), &Request{Route: "direct", Target: to, TLS: plan}, nil)
		if err != nil {
			t.Fatal(err)
		}
		say(t, c, "hello")
		c.Close()
	}
	pinned = certcheck.Pins{connmodel.PinOf(ut.MustCA(t).Cert)}
	if _, err := tab.Dial(t.Context(), &Request{Route: "direct", Target: to, TLS: plan}, nil); err == nil || err.Verdict != connmodel.ChainPin {
		t.Errorf("a resumed session passes with another pin: %v", err)
	}
	if asked != 3 || resumed != 2 {
		t.Errorf("asked %d times, %d of them in resumed sessions", asked, resumed)
	}
}

// TestUnverified: with verify = false the record says that nothing was checked, and what would have been found.
func TestUnverified(t *testing.T) {
	ca := ut.MustCA(t)
	for _, e := range ut.TLSEnds(t, ca, "127.0.0.1") {
		if e.Config == nil || e.Alert != 0 {
			continue
		}
		far := listen(t, e.Serve)
		open := &tls.Config{RootCAs: ca.Pool(), InsecureSkipVerify: true}
		tab := table(t, Config{Upstreams: []Spec{{Name: "end", Scheme: "https", Address: far, TLS: open}}})
		for _, q := range []*Request{
			{Route: "upstream.end", Target: connmodel.Address{Host: "x.example", Port: 1}},
			{Route: "direct", Target: far, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: open}},
		} {
			r := recorder(far)
			c, err := tab.Dial(t.Context(), q, r)
			if e.Verdict == "wrong_order" { // it cannot prove to have the key of the first certificate, verified or not
				if err == nil || string(err.Verdict) != e.Verdict {
					t.Errorf("%s by %s: %v", e.Name, q.Route, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s by %s: %v", e.Name, q.Route, err)
				continue
			}
			c.Close()
			want := e.Verdict
			if e.OK {
				want = "ok"
			}
			if info := r.Snapshot().Server.Attempts[0].Hops[0].TLSInfo; !info.Unverified || string(info.Verdict) != want || info.VerifiedName != "" || (info.Problem == "") != e.OK {
				t.Errorf("%s by %s: the record says %+v", e.Name, q.Route, info)
			}
		}
	}
}

// warnings collects what a table tells.
type warnings struct {
	mu   sync.Mutex
	list []*connmodel.CertificateWarning
}

func (w *warnings) add(x *connmodel.CertificateWarning) {
	w.mu.Lock()
	w.list = append(w.list, x)
	w.mu.Unlock()
}

func (w *warnings) take() []*connmodel.CertificateWarning {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.list
	w.list = nil
	return l
}

// TestCertificateWarnings: each handshake with a certificate that wants attention is told of, to observers of the flow and to the table's
// function, and one with a good certificate is not.
func TestCertificateWarnings(t *testing.T) {
	ca := ut.MustCA(t)
	var told warnings
	var seen []connmodel.Event
	hooks := &connmodel.Hooks{Observe: func(e connmodel.Event, _ func() *connmodel.Flow, _ *connmodel.Client) {
		if e.Kind == connmodel.EventCertificateWarning {
			seen = append(seen, e)
		}
	}}
	soon := func(d time.Duration) ut.TLSEnd {
		c := ca.MustIssue(t, ut.CertOptions{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(d)}, "127.0.0.1")
		return ut.TLSEnd{Name: d.String(), OK: true, Config: &tls.Config{Certificates: []tls.Certificate{c}}}
	}
	ends := append(ut.TLSEnds(t, ca, "127.0.0.1"), soon(71*time.Hour), soon(30*time.Minute))
	want := map[string]string{"short key": "weak_key", "71h0m0s": "", "30m0s": "expires_soon"}
	for _, e := range ends {
		if e.Config == nil || e.Alert == 70 {
			continue
		}
		reason := want[e.Name]
		if e.Verdict != "" {
			reason = e.Verdict
		}
		far := listen(t, e.Serve)
		conf := &tls.Config{RootCAs: ca.Pool()}
		tab := table(t, Config{Upstreams: []Spec{{Name: "end", Scheme: "https", Address: far, TLS: conf}}, CertificateWarning: told.add, WarnBefore: time.Hour})
		for _, q := range []*Request{
			{Route: "upstream.end", Target: connmodel.Address{Host: "x.example", Port: 1}},
			{Route: "direct", Target: far, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: conf}},
		} {
			seen = nil
			r := connmodel.NewSession(connmodel.Accepted{Listener: "test"}, hooks).NewFlow(connmodel.ProtocolConnect, far, time.Time{})
			if c, err := tab.Dial(t.Context(), q, r); err == nil {
				c.Close()
			}
			list := told.take()
			if reason == "" {
				if len(list) != 0 || len(seen) != 0 {
					t.Errorf("%s by %s: warned of %+v", e.Name, q.Route, list)
				}
				continue
			}
			if len(list) != 1 || len(seen) != 1 || seen[0].Certificate != list[0] {
				t.Errorf("%s by %s: %d warnings, %d events", e.Name, q.Route, len(list), len(seen))
				continue
			}
			w, name, side := list[0], "", connmodel.SideServer
			if q.TLS == nil {
				name, side = "end", connmodel.SideHop
			}
			if string(w.Reason) != reason || w.Upstream != name || w.Side != side || seen[0].Side != side || seen[0].Hop != 1 || seen[0].Attempt != 1 || w.Address != far ||
				!strings.HasPrefix(w.Message, "the certificate of ") || w.Certificate.SHA256 == "" {
				t.Errorf("%s by %s: %+v", e.Name, q.Route, w)
			}
		}
		// health checks and others without a record are told of too
		if c, err := tab.Dial(t.Context(), &Request{Route: "upstream.end", Target: far}, nil); err == nil {
			c.Close()
		}
		if n := len(told.take()); n > 1 || (n == 1) != (reason != "") {
			t.Errorf("%s without a record: %d warnings", e.Name, n)
		}
	}
}

// TestOldVersions: a server that knows nothing newer is reached where the configuration allows it, and only there.
func TestOldVersions(t *testing.T) {
	ca := ut.MustCA(t)
	for _, e := range ut.TLSEnds(t, ca, "127.0.0.1") {
		if !strings.HasPrefix(e.Name, "TLS 1.") {
			continue
		}
		far := listen(t, e.Serve)
		tab := table(t, Config{})
		for _, least := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
			conf := &tls.Config{RootCAs: ca.Pool(), MinVersion: least}
			c, err := tab.Dial(t.Context(), &Request{Route: "direct", Target: far, TLS: &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: conf}}, nil)
			if err == nil {
				c.Close()
			}
			if ok := err == nil; ok != (least <= e.Config.MaxVersion) {
				t.Errorf("%s with at least %s: %v", e.Name, tls.VersionName(least), err)
			}
		}
	}
}

// TestFindings: everything that is wrong, not the first thing alone.
func TestFindings(t *testing.T) {
	ca := ut.MustCA(t)
	leaf := ut.MustCA(t).MustIssue(t, ut.Expired(), "a.example").Leaf
	found, _ := certcheck.Findings([]*x509.Certificate{leaf}, ca.Pool(), "b.example", time.Now())
	var verdicts []string
	for _, f := range found {
		verdicts = append(verdicts, string(f.Verdict))
	}
	if got := strings.Join(verdicts, " "); got != "expired name_mismatch unknown_authority" {
		t.Errorf("found %s", got)
	}
	good := ca.MustIssue(t, ut.CertOptions{}, "a.example").Leaf
	if found, chains := certcheck.Findings([]*x509.Certificate{good}, ca.Pool(), "a.example", time.Now()); len(found) != 0 || len(chains) != 1 {
		t.Errorf("found %v of a good one", found)
	}
	if found, _ := certcheck.Findings(nil, nil, "", time.Now()); len(found) != 1 || found[0].Verdict != connmodel.ChainInvalid {
		t.Errorf("found %v of none", found)
	}
}
