package admin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// TestReadOnly: over TCP every route that changes something is refused unless the door allows it, and every other one is answered; over a Unix
// socket all are. The table of routes is the list.
func TestReadOnly(t *testing.T) {
	o := Options{Gateway: &fakeGateway{open: 3}, Metrics: NewMetrics(&fakeGateway{}), Access: Access{Token: goodToken}}
	base, d := serveWith(t, o)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, base+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+goodToken)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	for _, write := range []bool{false, true} {
		if err := d.Allow(Access{Token: goodToken, Write: write}); err != nil {
			t.Fatal(err)
		}
		for _, rt := range table {
			method, path, _ := strings.Cut(rt.pattern, " ")
			path = strings.NewReplacer("{name}", "corp_a", "{id}", "01000000", "{$}", "").Replace(path)
			code, body := ask(method, path)
			switch {
			case rt.kind == acts && !write:
				if code != 403 || !strings.Contains(body, "write = true") {
					t.Errorf("%s: %d %s", rt.pattern, code, body)
				}
			case code == 403 || code == 401:
				t.Errorf("%s with write %v: %d %s", rt.pattern, write, code, body)
			case rt.kind == profiles && code != 404:
				t.Errorf("%s: %d without pprof", rt.pattern, code)
			}
		}
	}
	if err := d.Allow(Access{Token: goodToken, Pprof: true}); err != nil {
		t.Fatal(err)
	}
	if code, body := ask("GET", "/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("profile: %d %s", code, body)
	}
	if err := d.Allow(Access{Token: "short"}); err == nil {
		t.Error("a short token is taken")
	}
	if got := d.Status(); got.Refused["read_only"] == 0 || got.Write || !got.Pprof || got.TLS {
		t.Errorf("status %+v", got)
	}
}

// TestPages is the table of what browsers send on behalf of pages, for every kind of route; none but our own page's is taken.
func TestPages(t *testing.T) {
	base, _ := serveWith(t, Options{Access: Access{Token: goodToken, Write: true}, Dashboard: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })})
	host := strings.TrimPrefix(base, "http://")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		name string
		set  map[string][]string
		host string
		want int
	}{
		{"no browser", nil, "", 200},
		{"our page", map[string][]string{"Origin": {base}, "Sec-Fetch-Site": {"same-origin"}}, "", 200},
		{"typed", map[string][]string{"Sec-Fetch-Site": {"none"}}, "", 200},
		{"another site", map[string][]string{"Sec-Fetch-Site": {"cross-site"}}, "", 403},
		{"another port of this machine", map[string][]string{"Origin": {"http://127.0.0.1:1"}, "Sec-Fetch-Site": {"same-site"}}, "", 403},
		{"another port, an old browser", map[string][]string{"Origin": {"http://127.0.0.1:1"}}, "", 403},
		{"https of the same name", map[string][]string{"Origin": {"https://" + host}}, "", 403},
		{"null", map[string][]string{"Origin": {"null"}}, "", 403},
		{"empty", map[string][]string{"Origin": {""}}, "", 403},
		{"two", map[string][]string{"Origin": {base, base}}, "", 403},
		{"two sites", map[string][]string{"Sec-Fetch-Site": {"same-origin", "cross-site"}}, "", 403},
		{"a word nobody knows", map[string][]string{"Sec-Fetch-Site": {"whatever"}}, "", 403},
		{"rebound", map[string][]string{"Origin": {"http://evil.example"}, "Sec-Fetch-Site": {"same-origin"}}, "evil.example", 421},
		{"rebound, no origin", nil, "evil.example", 421},
		{"rebound, dressed up", nil, "127.0.0.1.evil.example", 421},
		{"all addresses", nil, "0.0.0.0", 421},
		{"a decimal address", nil, "2130706433", 421},
		{"mapped", nil, "[::ffff:127.0.0.1]", 200},
		{"a trailing dot", nil, "localhost.", 421},
		{"a word", nil, "viaduct", 421},
	} {
		for _, route := range []string{"GET /v1/status", "POST /v1/reload", "GET /", "GET /metrics", "DELETE /v1/connections/01000000"} {
			method, path, _ := strings.Cut(route, " ")
			req, err := http.NewRequest(method, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+goodToken)
			for k, v := range c.set {
				req.Header[k] = v
			}
			if c.host != "" {
				req.Host = c.host
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			refused := res.StatusCode == 403 || res.StatusCode == 421
			if c.want != 200 && res.StatusCode != c.want || c.want == 200 && refused {
				t.Errorf("%s, %s: %s, expected %d", c.name, route, res.Status, c.want)
			}
			if res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Content-Security-Policy") == "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s, %s: fields %v", c.name, route, res.Header)
			}
		}
	}
}

// TestGuessing: wrong tokens are answered later and later, and counted; the right one never waits.
func TestGuessing(t *testing.T) {
	base, d := serveWith(t, Options{})
	get := func(token string) (int, time.Duration) {
		req, _ := http.NewRequest("GET", base+"/v1/status", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		start := time.Now()
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		res.Body.Close()
		return res.StatusCode, time.Since(start)
	}
	for i := range slowFree + 3 {
		if code, took := get("wrong-wrong-wrong-wrong"); code != 401 || i >= slowFree && took < slowStep {
			t.Errorf("guess %d: %d after %v", i, code, took)
		}
	}
	d.guard.slow.mu.Lock()
	d.guard.slow.fails = 1000
	d.guard.slow.mu.Unlock()
	codes := make(chan int, 3*slowWaiting)
	for range cap(codes) {
		go func() { code, _ := get("wrong-wrong-wrong-wrong"); codes <- code }()
	}
	later := 0
	for range cap(codes) {
		if code := <-codes; code == 429 {
			later++
		} else if code != 401 {
			t.Errorf("a guess is answered %d", code)
		}
	}
	if later == 0 {
		t.Error("all of them wait")
	}
	if code, took := get(goodToken); code != 200 || took > slowMost {
		t.Errorf("the right token: %d after %v", code, took)
	}
	if n := d.Status().Refused["token"]; n < slowFree+uint64(later) {
		t.Errorf("%d are counted", n)
	}
}

// authorityFor makes an authority, and a certificate signed by it.
func authorityFor(t *testing.T) (*x509.CertPool, func(name string, client bool) tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool, func(name string, client bool) tls.Certificate {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if client {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &k.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
}

// TestCertificates: a certificate of a client stands for the token, one of another authority does not, and neither does an old version of TLS.
func TestCertificates(t *testing.T) {
	ours, sign := authorityFor(t)
	_, strange := authorityFor(t)
	server := &tls.Config{Certificates: []tls.Certificate{sign("door", false)}, ClientCAs: ours, ClientAuth: tls.VerifyClientCertIfGiven}
	base, d := serveWith(t, Options{Access: Access{Token: goodToken, TLS: server}})
	base = "https" + strings.TrimPrefix(base, "http")
	ask := func(token string, versions uint16, certs ...tls.Certificate) int {
		c := &tls.Config{RootCAs: ours, MaxVersion: versions, MinVersion: tls.VersionTLS10}
		if len(certs) > 0 {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}}
		req, _ := http.NewRequest("GET", base+"/v1/status", nil)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		req.Header.Set("Origin", base)
		res, err := client.Do(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	table := func(want [6]int) {
		t.Helper()
		got := [6]int{ask("", 0), ask(goodToken, 0), ask("", 0, sign("anna", true)), ask("", 0, strange("mallory", true)), ask(goodToken, tls.VersionTLS11), ask("", 0, sign("a server", false))}
		if got != want {
			t.Errorf("nothing, token, certificate, strange one, TLS 1.1, not a client's: %v, expected %v", got, want)
		}
	}
	table([6]int{401, 200, 200, 0, 0, 0})
	required := server.Clone()
	required.ClientAuth = tls.RequireAndVerifyClientCert
	if err := d.Allow(Access{TLS: required}); err != nil {
		t.Fatal(err)
	}
	table([6]int{0, 0, 200, 0, 0, 0})
	if err := d.Allow(Access{TLS: &tls.Config{Certificates: server.Certificates}}); !errors.Is(err, ErrNoToken) {
		t.Errorf("TLS that asks for nothing: %v", err)
	}
	if res, err := http.Get("http" + strings.TrimPrefix(base, "https")); err == nil {
		if res.Body.Close(); res.StatusCode != 400 {
			t.Errorf("in the clear: %s", res.Status)
		}
	}
}

// records is a journal of flows that ended, the one of the highest number last.
type records struct {
	n   int
	err error
}

func (r records) Each(ctx context.Context, q RecordQuery, yield func(*connmodel.Flow) error) error {
	n := 0
	for i := r.n; i > 0; i-- {
		f := eventFlow(1000+i, "closed.example")
		if !q.After.IsZero() && bytes.Compare(f.ID[:], q.After[:]) >= 0 {
			continue
		}
		if n++; q.Limit > 0 && n > q.Limit {
			break
		}
		if err := yield(f); err != nil {
			return err
		}
	}
	return r.err
}

func (r records) Get(_ context.Context, id connmodel.ID) (*connmodel.Flow, error) {
	for i := 1; i <= r.n; i++ {
		if id == flowID(1000+i) {
			return eventFlow(1000+i, "closed.example"), nil
		}
	}
	return nil, ErrNotFound
}

func (r records) Find(_ context.Context, text string) (all []connmodel.ID, err error) {
	for i := 1; i <= r.n; i++ {
		if id := flowID(1000 + i); matchesID(id, text) {
			all = append(all, id)
		}
	}
	return all, nil
}

// TestPaging goes through all pages of every state and every size, and meets every connection once, in order.
func TestPaging(t *testing.T) {
	h := routes(&Options{Gateway: &fakeGateway{open: 7}, Sources: Sources{Records: func() Records { return records{n: 5} }}})
	for state, want := range map[string]int{"open": 7, "closed": 5, "all": 12} {
		for limit := 1; limit <= 14; limit++ {
			cursor, pages := "", 0
			var seen []connmodel.ID
			for {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/connections?state="+state+"&limit="+itoa(limit)+"&cursor="+cursor, nil))
				var p struct {
					Open        int
					Truncated   bool
					Next        *string
					Connections []*connmodel.Flow
				}
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 || p.Open != 7 || p.Truncated != (p.Next != nil) || len(p.Connections) > limit {
					t.Fatalf("%s by %d: %d %v %s", state, limit, w.Code, err, w.Body)
				}
				for _, f := range p.Connections {
					seen = append(seen, f.ID)
				}
				if pages++; p.Next == nil {
					break
				}
				cursor = *p.Next
			}
			ids := map[connmodel.ID]bool{}
			for i, id := range seen {
				if ids[id] = true; i > 0 && i != 7 && bytes.Compare(id[:], seen[i-1][:]) >= 0 {
					t.Errorf("%s by %d: not in order", state, limit)
				}
			}
			if len(seen) != want || len(ids) != want || pages != max(1, (want+limit-1)/limit) {
				t.Errorf("%s by %d: %d connections, %d different, on %d pages", state, limit, len(seen), len(ids), pages)
			}
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestOneConnection finds connections by what people type.
func TestOneConnection(t *testing.T) {
	h := routes(&Options{Gateway: &fakeGateway{open: 3}, Sources: Sources{
		Records: func() Records { return records{n: 3} },
		Today:   func(context.Context, *connmodel.Flow) (any, error) { return map[string]string{"rule": "r"}, nil },
	}})
	for _, c := range []struct {
		method, id string
		want       int
		says       string
	}{
		{"GET", flowID(2).String(), 200, `"open":true`},
		{"GET", strings.ToUpper(flowID(2).String()), 200, `"today":{`},
		{"GET", flowID(1002).String(), 200, `"open":false`},
		{"GET", "00000002", 200, flowID(2).String()},
		{"GET", "0003ea", 200, flowID(1002).String()},
		{"GET", "0100", 409, flowID(1).String()},
		{"GET", flowID(9).String(), 404, "neither open nor in the journal"},
		{"GET", "ffff", 404, "neither"},
		{"GET", "xyz", 400, "an id has the form"},
		{"GET", "012", 400, "an id has the form"},
		{"GET", "%00%00%00%00", 400, "an id has the form"},
		{"DELETE", flowID(1).String(), 200, flowID(1).String()},
		{"DELETE", flowID(2).String(), 409, "ended already"}, // in between
		{"DELETE", flowID(1001).String(), 409, "ended already"},
		{"DELETE", flowID(9).String(), 404, "neither"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, "/v1/connections/"+c.id, nil))
		if w.Code != c.want || !strings.Contains(strings.ReplaceAll(w.Body.String(), "\n", ""), c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.id, w.Code, w.Body)
		}
	}
}

// TestExplainDoor: the question is strict, and a door that answers questions alone looks nothing up.
func TestExplainDoor(t *testing.T) {
	var got *Question
	a := newAPI(&Options{Gateway: &fakeGateway{}, Sources: Sources{Explain: func(_ context.Context, q *Question, lookups bool) (any, error) {
		if got = q; q.Target == "bad" {
			return nil, &BadRequest{"write a URL"}
		}
		return map[string]bool{"lookups": lookups}, nil
	}}})
	for _, c := range []struct {
		body  string
		write bool
		want  int
	}{
		{`{"target":"http://a.example/"}`, false, 200},
		{`{"target":"http://a.example/","resolve":["10.0.0.1"]}`, false, 200},
		{`{"target":"a.example:443","resolve":["policy"]}`, false, 403},
		{`{"target":"a.example:443","resolve":["system"]}`, false, 403},
		{`{"target":"a.example:443","lookups":true}`, false, 403},
		{`{"target":"a.example:443","lookups":true}`, true, 200},
		{`{"target":"a.example:443","resolve":["policy"]}`, true, 200},
		{`{"target":"bad"}`, true, 400},
		{`{"target":"a","nosuch":1}`, true, 400},
		{`{"target":"a"} {}`, true, 400},
		{`{"target":"a"}]`, true, 400},
		{`{"target":5}`, true, 400},
		{``, true, 400}, {`[]`, true, 400}, {`{`, true, 400},
		{`{"target":"` + strings.Repeat("x", maxBody) + `"}`, true, 413},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/v1/explain", strings.NewReader(c.body))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		a.serve(w, r, caller{write: c.write})
		if w.Code != c.want {
			t.Errorf("%.60s with write %v: %d %s, expected %d", c.body, c.write, w.Code, w.Body, c.want)
		}
	}
	if got == nil {
		t.Error("nobody was asked")
	}
}

// TestBusy: only so many searches at once; the others are told to come again.
func TestBusy(t *testing.T) {
	hold, in := make(chan struct{}), make(chan struct{}, maxSearches)
	h := routes(&Options{Gateway: &fakeGateway{}, Sources: Sources{Explain: func(context.Context, *Question, bool) (any, error) {
		in <- struct{}{}
		<-hold
		return 1, nil
	}}})
	done := make(chan int, maxSearches)
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/explain", strings.NewReader(`{"target":"a"}`)))
		return w
	}
	for range maxSearches {
		go func() { done <- ask().Code }()
	}
	for range maxSearches {
		<-in
	}
	if w := ask(); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d %v", w.Code, w.Header())
	}
	close(hold)
	for range maxSearches {
		if code := <-done; code != 200 {
			t.Errorf("answered %d", code)
		}
	}
	if w := ask(); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// FuzzQuery: no parameters of any route make it panic or answer without a reason.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"limit=5&state=all&cursor=o01000000-0000-7000-8000-000000000001", "since=1h&until=2026-01-01T00:00:00Z", "range=1h", "timeout=10m&exit=true", "force=true",
		"types=reload&last_event_id=5", "filter=x%22", "since=99999d", "a=%zz", "limit=1&limit=2", ";", "cursor=o", "timeout=-1s", "since=9223372036854775807ns"} {
		f.Add(q)
	}
	m := NewMetrics(&fakeGateway{})
	h := routes(&Options{Gateway: &fakeGateway{open: 3}, Metrics: m, Sources: Sources{
		Records: func() Records { return records{n: 3} },
		Shadow:  func(context.Context, time.Time) (*ShadowReport, error) { return &ShadowReport{}, nil },
		Rules:   func() *Rules { return &Rules{} }, Config: func() *Configuration { return &Configuration{} },
		Compile: func(s string) (*connmodel.Filter, error) { return nil, errors.New(s) },
	}})
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 1000 {
			return
		}
		for _, rt := range table {
			method, path, _ := strings.Cut(rt.pattern, " ")
			if rt.kind == profiles || rt.kind == static || path == "/metrics" {
				continue
			}
			r := httptest.NewRequest(method, strings.NewReplacer("{name}", "corp_a", "{id}", "00000001").Replace(path), nil)
			r.URL.RawQuery = query
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if _, err := url.ParseQuery(query); err != nil && w.Code == 200 && path != "/v1/openapi.json" {
				t.Errorf("%s?%s: 200", path, query)
			}
			if w.Code >= 400 {
				var p struct {
					Detail string
					Status int
				}
				if w.Header().Get("Content-Type") == "application/problem+json" && (json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Detail == "" || p.Status != w.Code) {
					t.Errorf("%s?%s: %d %s", path, query, w.Code, w.Body)
				}
			} else if ct := w.Header().Get("Content-Type"); ct == "application/json" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s?%s: no JSON: %s", path, query, w.Body)
			}
		}
	})
}
