package pac

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// webServer is a server that fails on request.
type webServer struct {
	*httptest.Server
	mu     sync.Mutex
	body   string
	status int
	header map[string]string
	seen   []*http.Request
}

func serve(t *testing.T, body string) *webServer {
	w := &webServer{body: body, status: 200}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, r)
		for k, v := range w.header {
			rw.Header().Set(k, v)
		}
		if tag := w.header["ETag"]; tag != "" && r.Header.Get("If-None-Match") == tag {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		rw.WriteHeader(w.status)
		rw.Write([]byte(w.body))
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *webServer) set(status int, body string, header ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.body, w.header, w.seen = status, body, map[string]string{}, nil
	for i := 0; i < len(header); i += 2 {
		w.header[header[i]] = header[i+1]
	}
}

func (w *webServer) requests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func says(s *Source) string {
	a, err := s.Find(context.Background(), Query{"http://a/", "a"})
	if err != nil {
		return err.Error()
	}
	return entries(a)
}

func answering(what string) string {
	return `function FindProxyForURL(u, h) { return "` + what + `" }`
}

func TestSource(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be asked
	w := serve(t, "")
	w.set(503, "later")
	keep := filepath.Join(t.TempDir(), "state", "pac-x.json")
	var mu sync.Mutex
	var lines []string
	o := SourceOptions{Name: "x", URL: w.URL + "/proxy.pac", Refresh: 30 * time.Millisecond, Keep: keep, Log: func(_ bool, text string) {
		mu.Lock()
		lines = append(lines, text)
		mu.Unlock()
	}}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a failure", func() bool { return s.Status().Fails > 0 })
	if got := says(s); !strings.Contains(got, "there is no script yet") || !strings.Contains(got, "503") {
		t.Errorf("before there is a script: %s", got)
	}
	w.set(200, answering("PROXY one:1"), "ETag", `"1"`)
	eventually(t, "the first script", func() bool { return says(s) == "PROXY one:1" })
	eventually(t, "a look that finds nothing new", func() bool { return w.requests() > 3 })
	if st := s.Status(); st.Loads != 1 || st.State != StateFresh || st.Error != "" {
		t.Errorf("%+v", st)
	}
	for _, bad := range []struct{ body, want string }{
		{"<!DOCTYPE html><title>Login</title>", "HTML"}, {"", "empty"}, {"function FindProxyForURL(", "SyntaxError"}, {"var x = 1", "no function"},
		{strings.Repeat(" ", MaxSource+10), "more than"}, {"for (;;) {}", "ran longer"}, {"a\x00b", "zero bytes"},
	} {
		w.set(200, bad.body)
		eventually(t, bad.want, func() bool { return strings.Contains(s.Status().Error, bad.want) })
		if got := says(s); got != "PROXY one:1" || s.Status().State != StateStale {
			t.Errorf("after %.30q: %s, %s", bad.body, got, s.Status().State)
		}
	}
	w.set(200, answering("PROXY two:2"))
	eventually(t, "the second script", func() bool { return says(s) == "PROXY two:2" })
	s.Close()
	mu.Lock()
	if all := strings.Join(lines, "\n"); !strings.Contains(all, "the last good script stays in use") || len(lines) > 60 {
		t.Errorf("%d lines: %s", len(lines), all)
	}
	mu.Unlock()

	// The server is away at the next start: the copy serves.
	w.set(500, "")
	if s, err = Open(o); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copy", func() bool { return says(s) == "PROXY two:2" })
	eventually(t, "a failure", func() bool { return s.Status().State == StateStale })
	s.Close()
	if text, at, err := ReadKept(keep, o.URL); err != nil || text != answering("PROXY two:2") || time.Since(at) > time.Minute {
		t.Errorf("%q, %v, %v", text, at, err)
	}
	if _, _, err := ReadKept(keep, "http://elsewhere/"); err == nil {
		t.Error("the copy of another URL is used")
	}
}

func TestSourceText(t *testing.T) {
	s, err := Open(SourceOptions{Name: "x", Text: answering("DIRECT")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := says(s); got != "DIRECT" {
		t.Error(got)
	}
	if _, err := Open(SourceOptions{Name: "x", Text: "function"}); err == nil {
		t.Error("no error")
	}
}

func TestFetch(t *testing.T) {
	w := serve(t, "")
	f := NewFetcher(FetchOptions{Timeout: 5 * time.Second})
	for _, x := range []struct {
		status int
		body   string
		header []string
		want   string
	}{
		{200, "// B\xfcro", []string{"Content-Type", "application/x-ns-proxy-autoconfig"}, "// Büro"},
		{200, "\xef\xbb\xbf// Büro", nil, "// Büro"},
		{404, "// x", nil, "error: the server answered 404 Not Found"}, {302, "", []string{"Location", "/again"}, "error: more than 5 redirects"},
		{200, "// x", []string{"Content-Length", "100"}, "error: the script broke off after 4 bytes"}, {204, "", nil, "error: the server answered 204"},
	} {
		w.set(x.status, x.body, x.header...)
		got, err := f.Fetch(context.Background(), w.URL, nil)
		text := ""
		if err != nil {
			text = "error: " + err.Error()
		} else {
			text = got.Text
		}
		if !strings.HasPrefix(text, x.want) {
			t.Errorf("%d %q: %s, want %s", x.status, x.body, text, x.want)
		}
	}
	for _, u := range []string{"ftp://a/", "http://u:p@a/", "/etc/passwd", "http://", "x"} {
		if CheckURL(u) == nil {
			t.Errorf("%s is taken", u)
		}
	}
}

// TestNetworkChange: in another network the server is asked at once, and answers of the script from before are not given any more.
func TestNetworkChange(t *testing.T) {
	w := serve(t, answering("PROXY one:1"))
	s, err := Open(SourceOptions{Name: "x", URL: w.URL + "/proxy.pac", Refresh: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "the first script", func() bool { return says(s) == "PROXY one:1" })
	if says(s); s.Status().Hits == 0 {
		t.Fatalf("%+v: an answer is not kept", s.Status())
	}
	hits := s.Status().Hits
	w.set(304, "")
	s.NetworkChanged()
	eventually(t, "a look at the server", func() bool { return w.requests() > 0 })
	if got := says(s); got != "PROXY one:1" || s.Status().Hits != hits {
		t.Errorf("%s, %+v: an answer of another network", got, s.Status())
	}
	w.set(200, answering("PROXY two:2"))
	s.NetworkChanged()
	eventually(t, "the second script", func() bool { return says(s) == "PROXY two:2" })
}

// TestNetworkChangeScript: what a script found out when it was read is found out anew in another network, and an answer that was on its way when the
// network changed is not kept.
func TestNetworkChangeScript(t *testing.T) {
	var mine atomic.Value
	mine.Store("192.0.2.1")
	f := &flaky{slow: make(chan struct{})}
	s, err := Open(SourceOptions{Name: "x", Text: `var here = myIpAddress(); function FindProxyForURL(u, h) { if (h == "slow") dnsResolve(h); return "PROXY " + here + ":1" }`,
		Script: Options{Engines: 2, Resolver: f, Lookup: time.Minute, DNS: time.Minute, CacheFor: time.Hour, Mine: func() (v4, v6 netip.Addr) { return netip.MustParseAddr(mine.Load().(string)), v6 }}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := says(s); got != "PROXY 192.0.2.1:1" {
		t.Error(got)
	}
	slow := func() string {
		a, err := s.Find(context.Background(), Query{"http://slow/", "slow"})
		if err != nil {
			return err.Error()
		}
		return entries(a)
	}
	before := make(chan string)
	go func() { before <- slow() }()
	eventually(t, "a look-up", func() bool { return f.n.Load() > 0 })
	mine.Store("192.0.2.2")
	s.NetworkChanged()
	if got := says(s); got != "PROXY 192.0.2.2:1" {
		t.Errorf("in the other network: %s", got)
	}
	close(f.slow)
	if got := <-before; got != "PROXY 192.0.2.1:1" {
		t.Errorf("asked before: %s", got)
	}
	if got := slow(); got != "PROXY 192.0.2.2:1" {
		t.Errorf("asked after: %s", got)
	}
	if st := s.Status(); st.Engines != 1 || st.Rebuilt != 0 {
		t.Errorf("%+v", st)
	}
}

// TestKeptDamaged: a copy that is damaged is not used, which is said, and the server is not told that we have it.
func TestKeptDamaged(t *testing.T) {
	const tag = `"1"`
	w := serve(t, "")
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":       func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
		"a bit":     func(b []byte) []byte { return bytes.Replace(b, []byte("PROXY one"), []byte("PROXY ond"), 1) },
		"too large": func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 8*MaxSource)...) },
		"no script": func(b []byte) []byte {
			return bytes.Replace(bytes.Replace(b, []byte("function"), []byte("fun"), 1), []byte("sha256"), []byte("none"), 1)
		},
		"no summary": func(b []byte) []byte { return bytes.Replace(b, []byte("sha256"), []byte("none"), 1) },
	} {
		keep := filepath.Join(t.TempDir(), "x.json")
		w.set(200, answering("PROXY one:1"), "ETag", tag)
		var said atomic.Pointer[string]
		o := SourceOptions{Name: "x", URL: w.URL + "/proxy.pac", Refresh: time.Hour, Keep: keep, Log: func(problem bool, text string) {
			if problem && strings.Contains(text, "cannot be used") {
				said.Store(&text)
			}
		}}
		open := func() {
			t.Helper()
			s, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			eventually(t, name, func() bool { return s.Status().State == StateFresh && w.requests() > 0 })
			if got := says(s); got != "PROXY one:1" {
				t.Errorf("%s: %s", name, got)
			}
		}
		open()
		b, err := os.ReadFile(keep)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if said.Load() != nil {
			t.Errorf("without a copy: %s", *said.Load())
		}
		if err := os.WriteFile(keep, spoil(b), 0o600); err != nil {
			t.Fatal(err)
		}
		w.set(200, answering("PROXY one:1"), "ETag", tag)
		open()
		w.mu.Lock()
		if got := w.seen[0].Header.Get("If-None-Match"); got != "" {
			t.Errorf("%s: the server is asked whether it has another than %s", name, got)
		}
		w.mu.Unlock()
		if (said.Load() == nil) != (name == "no summary") {
			t.Errorf("%s: said %v", name, said.Load())
		}
	}
}

// TestKeepAgain: a copy that could not be written is written when it can be, though the script is the same.
func TestKeepAgain(t *testing.T) {
	w := serve(t, answering("PROXY one:1"))
	w.set(200, answering("PROXY one:1"), "ETag", `"1"`)
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	o := SourceOptions{Name: "x", URL: w.URL, Refresh: 20 * time.Millisecond, Keep: filepath.Join(dir, "x.json")}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "a few looks", func() bool { return w.requests() > 2 })
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copy", func() bool {
		text, _, err := ReadKept(o.Keep, o.URL)
		return err == nil && text == answering("PROXY one:1")
	})
}

// TestFetchWithoutEnd: a script that never ends is left after the most that a script may have, and one that drips after the time of a look;
// what gzip makes large counts as it comes out.
func TestFetchWithoutEnd(t *testing.T) {
	stopped := make(chan struct{}, 2)
	w := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { stopped <- struct{}{} }()
		switch r.URL.Path {
		case "/large":
			rw.Header().Set("Content-Length", strconv.Itoa(2<<30))
			for line := bytes.Repeat([]byte("// x\n"), 10000); r.Context().Err() == nil; {
				if _, err := rw.Write(line); err != nil {
					return
				}
			}
		case "/slow":
			for r.Context().Err() == nil {
				rw.Write([]byte("/"))
				rw.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		case "/gzip":
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			for line := bytes.Repeat([]byte(" "), 1<<20); r.Context().Err() == nil; {
				if _, err := z.Write(line); err != nil {
					return
				}
			}
		}
	}))
	defer w.Close()
	f := NewFetcher(FetchOptions{Timeout: 2 * time.Second})
	for path, want := range map[string]string{"/large": "more than 1048576 bytes", "/gzip": "more than 1048576 bytes", "/slow": "broke off"} {
		start := time.Now()
		if _, err := f.Fetch(context.Background(), w.URL+path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s took %v", path, took)
		}
		<-stopped // nor does the server go on sending
	}
}
