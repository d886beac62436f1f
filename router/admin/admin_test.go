package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/connmodel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGateway is what a door leads to in tests.
type fakeGateway struct {
	reloads atomic.Int64
	fail    bool
	open    int
	begun   chan struct{} // told when a reload begins and waits for hold; nil = it does not wait
	hold    chan struct{}
}

func (g *fakeGateway) Reload(context.Context) ReloadResult {
	if g.begun != nil {
		close(g.begun)
		<-g.hold
	}
	n := g.reloads.Add(1)
	if g.fail {
		return ReloadResult{Generation: 7, Error: "line 3: no such upstream", Diagnostics: json.RawMessage(`{"valid":false}`)}
	}
	return ReloadResult{OK: true, Generation: uint64(n)}
}

func (g *fakeGateway) Status() *Status {
	return &Status{Version: "1.2.3", State: "running", Generation: 4,
		LastReload: ReloadResult{OK: !g.fail, Time: time.Unix(1700000000, 0)},
		Upstreams:  []UpstreamStatus{{Name: "corp\xff_a", Up: true, Open: 2, Attempts: 9, Failures: 1}, {Name: "corp_b"}},
		Pools:      []PoolStatus{{Name: "corp", Members: []MemberStatus{{Route: "upstream.corp_a", State: "half_open"}, {Route: "upstream.corp_b", State: "ejected", Ejections: 3}}}},
		Lists:      []ListStatus{{Name: "ads", Remote: true, State: "stale", Entries: 12, Age: 5, Loads: 2, LoadFailures: 1}, {Name: "file", State: "fresh", Entries: 3}},
		Records:    []RecordStatus{{To: "/r.ndjson", Kind: "file", Written: 10, Dropped: 2}, {To: "journald", Kind: "journald", Written: 9}},
		Journal: &JournalStatus{Dir: "/j", State: JournalWriting, Written: 11, Dropped: 3, Failures: 4, Queued: 5, Bytes: 6, Files: 7, SetAside: 8, Deleted: 9,
			Oldest: &[]time.Time{time.Unix(1_700_000_000, 0)}[0]},
		Opened: &OpenedStatus{CA: "CA", Tunnels: 5, Rejected: 3, Passed: 1, Minted: 4},
	}
}

func (g *fakeGateway) ResetCredential(name string) ResetResult {
	return ResetResult{Upstream: name, Found: name != "nosuch", Was: CredentialClosed}
}

func (g *fakeGateway) RefreshList(_ context.Context, name string, force bool) ListResult {
	switch {
	case name == "nosuch":
		return ListResult{List: name}
	case !force:
		return ListResult{List: name, Found: true, Entries: 3, Error: "it is no list but a page"}
	}
	return ListResult{List: name, Found: true, Changed: true, Entries: 4, Version: 2}
}

func (g *fakeGateway) Open(before connmodel.ID, yield func(*connmodel.Flow) bool) int {
	for i := range g.open {
		if yield == nil {
			break
		}
		f := connmodel.DummyFlow(connmodel.Address{Host: "www.example.com", Port: 443})
		f.ID = flowID(g.open - i)
		if !before.IsZero() && bytes.Compare(f.ID[:], before[:]) >= 0 {
			continue
		}
		if !yield(f) {
			break
		}
	}
	return g.open
}

// flowID is the id of the nth flow.
func flowID(n int) connmodel.ID {
	id := connmodel.ID{0: 1, 6: 0x70, 8: 0x80}
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

func (g *fakeGateway) CloseFlow(id connmodel.ID) bool {
	return id == flowID(1)
}

func (g *fakeGateway) Drain(r DrainRequest) DrainResult {
	return DrainResult{State: StateDraining, Began: time.Unix(1700000000, 0), Open: 3, Exit: r.Exit}
}

func (g *fakeGateway) DrainUpstream(name string, drained bool) UpstreamDrain {
	return UpstreamDrain{Upstream: name, Found: name != "nosuch", Drained: drained, Changed: true, Open: 2}
}

const goodToken = "0123456789abcdef-token"

// serve opens a door over TCP or a Unix socket and returns a client for it and its URL.
func serve(t *testing.T, gw Gateway, unix bool) (*http.Client, string, *Door) {
	t.Helper()
	address := "127.0.0.1:0"
	if unix {
		dir, err := os.MkdirTemp("", "va-*")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = "unix:" + filepath.Join(dir, "s")
	}
	ln, err := Listen(address, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Gateway: gw, Metrics: NewMetrics(gw), Access: Access{Token: goodToken, Write: true}}).Serve(ln)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(t.Context()) })
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, ln.Addr().Network(), ln.Addr().String())
	}}}
	if unix {
		return c, "http://localhost", d
	}
	return c, "http://" + ln.Addr().String(), d
}

// TestWhoMayComeIn is the table of the guard.
func TestWhoMayComeIn(t *testing.T) {
	gw := &fakeGateway{}
	tcp, tcpURL, _ := serve(t, gw, false)
	unix, unixURL, _ := serve(t, gw, true)
	bearer := "Bearer " + goodToken
	for _, c := range []struct {
		name         string
		unix         bool
		method, path string
		host         string
		fields       map[string][]string
		want         int
	}{
		{"socket", true, "GET", "/v1/status", "", nil, 200},
		{"socket, any word", true, "GET", "/v1/status", "whatever", nil, 200},
		{"socket behind ssh", true, "GET", "/v1/status", "localhost:9090", nil, 200},
		{"socket behind ssh, rebound", true, "GET", "/v1/status", "evil.example:9090", nil, 421},
		{"socket, a name of a domain", true, "GET", "/v1/status", "evil.example", nil, 421},
		{"socket, a page", true, "GET", "/v1/status", "", map[string][]string{"Origin": {"http://evil.example"}}, 403},
		{"socket, a page without origin", true, "POST", "/v1/reload", "", map[string][]string{"Origin": {"null"}}, 403},
		{"no token", false, "GET", "/v1/status", "", nil, 401},
		{"no token, metrics", false, "GET", "/metrics", "", nil, 401},
		{"no token, nowhere", false, "GET", "/nosuch", "", nil, 401},
		{"token", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer}}, 200},
		{"token, other case", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {"bearer " + goodToken}}, 200},
		{"part of the token", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer[:len(bearer)-1]}}, 401},
		{"more than the token", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer + "x"}}, 401},
		{"two tokens", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer, bearer}}, 401},
		{"basic", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {"Basic " + goodToken}}, 401},
		{"empty token", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {"Bearer "}}, 401},
		{"rebound name", false, "GET", "/v1/status", "evil.example", map[string][]string{"Authorization": {bearer}}, 421},
		{"localhost with a tail", false, "GET", "/v1/status", "localhost.evil.example", map[string][]string{"Authorization": {bearer}}, 421},
		{"localhost", false, "GET", "/v1/status", "localhost:1", map[string][]string{"Authorization": {bearer}}, 200},
		{"v6", false, "GET", "/v1/status", "[::1]:1", map[string][]string{"Authorization": {bearer}}, 200},
		{"a page with the token", false, "POST", "/v1/reload", "", map[string][]string{"Authorization": {bearer}, "Origin": {"http://evil.example"}}, 403},
		{"a fetch", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer}, "Sec-Fetch-Site": {"same-site"}}, 403},
		{"typed by hand", false, "GET", "/v1/status", "", map[string][]string{"Authorization": {bearer}, "Sec-Fetch-Site": {"none"}}, 200},
		{"reload by GET", true, "GET", "/v1/reload", "", nil, 405},
		{"status by POST", true, "POST", "/v1/status", "", nil, 405},
		{"reload by POST", true, "POST", "/v1/reload", "", nil, 200},
		{"nowhere", true, "GET", "/v2/status", "", nil, 404},
		{"preflight", true, "OPTIONS", "/v1/reload", "", nil, 405},
	} {
		client, base := tcp, tcpURL
		if c.unix {
			client, base = unix, unixURL
		}
		req, err := http.NewRequest(c.method, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			req.Host = c.host
		}
		for k, v := range c.fields {
			req.Header[k] = v
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.want {
			t.Errorf("%s: %s, expected %d (%v)\n%s", c.name, res.Status, c.want, err, body)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: fields %v", c.name, res.Header)
		}
		if strings.Contains(string(body), goodToken) {
			t.Errorf("%s: the token is in the answer", c.name)
		}
	}
	if n := gw.reloads.Load(); n != 1 {
		t.Errorf("%d reloads, expected the one that was allowed", n)
	}
}

func TestAnswers(t *testing.T) {
	gw := &fakeGateway{fail: true, open: 5}
	c, url, _ := serve(t, gw, true)
	res, err := c.Post(url+"/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var r ReloadResult
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil || res.StatusCode != 422 || r.OK || r.Generation != 7 || !strings.Contains(string(r.Diagnostics), "false") {
		t.Errorf("%s %+v %v", res.Status, r, err)
	}
	res.Body.Close()
	for _, x := range []struct {
		query   string
		status  int
		n, open int
		cut     bool
	}{{"", 200, 5, 5, false}, {"?limit=2", 200, 2, 5, true}, {"?limit=0", 400, 0, 0, false}, {"?limit=x", 400, 0, 0, false}, {"?limit=10001", 400, 0, 0, false}} {
		res, err := c.Get(url + "/v1/connections" + x.query)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Open        int
			Truncated   bool
			Connections []*connmodel.Flow
		}
		err = json.NewDecoder(res.Body).Decode(&got)
		res.Body.Close()
		if res.StatusCode != x.status || err != nil || len(got.Connections) != x.n || got.Open != x.open || got.Truncated != x.cut {
			t.Errorf("%q: %s, %d of %d, %v, %v", x.query, res.Status, len(got.Connections), got.Open, got.Truncated, err)
		}
	}
	// Many flows are written bit by bit, and still are one document.
	gw.open = 3000
	res, err = c.Get(url + "/v1/connections?limit=3000")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got struct{ Connections []json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || len(got.Connections) != 3000 {
		t.Errorf("%d flows, %v", len(got.Connections), err)
	}
}

// TestClose: a request under way is answered, nothing is taken afterwards, and the socket is gone.
func TestClose(t *testing.T) {
	gw := &fakeGateway{begun: make(chan struct{}), hold: make(chan struct{})}
	c, url, d := serve(t, gw, true)
	path := d.Addr().String()
	got := make(chan error, 1)
	go func() {
		res, err := c.Post(url+"/v1/reload", "", nil)
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 200 {
				err = errors.New(res.Status)
			}
		}
		got <- err
	}()
	<-gw.begun
	closed := make(chan struct{})
	go func() { d.Close(context.Background()); close(closed) }()
	for {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		conn.Close()
		time.Sleep(time.Millisecond)
	}
	close(gw.hold)
	if err := <-got; err != nil {
		t.Error(err)
	}
	<-closed
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "va-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	ln, err := Listen("unix:"+path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := Listen("unix:"+path, 0); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("a second door at the same place: %v", err)
	}
	// One that crashed leaves its socket; the next takes its place, and the first, closing late, does not take it away.
	stale := ln.(*unixListener)
	stale.UnixListener.Close()
	next, err := Listen("unix:"+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	stale.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the door of another was taken away: %v", err)
	}
	next.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"unix:" + path:                      "not a socket",
		"unix:/" + strings.Repeat("x", 200): "longer than",
		"unix:" + dir + "/nosuch/s":         "cannot make",
		"0.0.0.0:0":                         "loopback",
		"192.0.2.1:9090":                    "loopback",
		"localhost:9090":                    "neither",
	} {
		if ln, err := Listen(address, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", address, err, want)
			if ln != nil {
				ln.Close()
			}
		}
	}
	tcp, err := Listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Gateway: &fakeGateway{}, Access: Access{Token: "short"}}).Serve(tcp); !errors.Is(err, ErrNoToken) {
		t.Errorf("TCP with a short token: %v", err)
	}
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if _, err := LoadToken(path, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	tokens := make(chan string, 8)
	for range cap(tokens) {
		go func() {
			s, err := LoadToken(path, true)
			if err != nil {
				t.Error(err)
			}
			tokens <- s
		}()
	}
	first := <-tokens
	for range cap(tokens) - 1 {
		if s := <-tokens; s != first || len(s) < 40 {
			t.Errorf("token %q beside %q", s, first)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadToken(path, true); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short token: %v", err)
	}
}

// TestStatusJSON: lists are lists even when empty, for those who parse it.
func TestStatusJSON(t *testing.T) {
	rec := httptest.NewRecorder()
	answer(rec, 200, &Status{Files: []string{}, Listeners: []ListenerStatus{}, Upstreams: []UpstreamStatus{}, Pools: []PoolStatus{}})
	for _, key := range []string{`"listeners": []`, `"upstreams": []`, `"pools": []`, `"files": []`} {
		if !strings.Contains(rec.Body.String(), key) {
			t.Errorf("no %s in %s", key, rec.Body)
		}
	}
}

// TestAuthority hands out a certificate, or says that there is none.
func TestAuthority(t *testing.T) {
	for _, c := range []struct {
		ca   func() []byte
		code int
	}{{nil, 404}, {func() []byte { return nil }, 404}, {func() []byte { return []byte("-----BEGIN CERTIFICATE-----") }, 200}} {
		rec := httptest.NewRecorder()
		routes(&Options{Gateway: &fakeGateway{}, CA: c.ca}).ServeHTTP(rec, httptest.NewRequest("GET", "/v1/ca.pem", nil))
		if rec.Code != c.code || (rec.Code == 200) != strings.HasPrefix(rec.Body.String(), "-----BEGIN") {
			t.Errorf("answered %d: %s", rec.Code, rec.Body)
		}
		rec = httptest.NewRecorder()
		routes(&Options{Gateway: &fakeGateway{}, CA: c.ca}).ServeHTTP(rec, httptest.NewRequest("POST", "/v1/ca.pem", nil))
		if rec.Code != 405 || rec.Header().Get("Allow") == "" {
			t.Errorf("POST answered %d", rec.Code)
		}
	}
}

// routes serves the table without a guard before it.
func routes(o *Options) http.Handler {
	a := newAPI(o)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, caller{write: true}) })
}
