package pac

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
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
