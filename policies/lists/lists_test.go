package lists

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/connmodel"
	"viaduct/policies/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text, contentType string
		o                       Options
		in, out                 []string
		err                     string
	}{
		{name: "names", text: "# c\nads.example\n*.b.example # x\n.c.example\r\n", in: []string{"ads.example", "x.b.example", "c.example", "y.c.example"}, out: []string{"x.ads.example", "b.example"}},
		{name: "subdomains", text: "ads.example\n", o: Options{Subdomains: true}, in: []string{"ads.example", "x.ads.example"}, out: []string{"xads.example"}},
		{name: "hosts", text: "127.0.0.1 localhost\n0.0.0.0 a.example b.example\n::1 c.example\n", in: []string{"a.example", "b.example", "c.example"}, out: []string{"localhost"}},
		{name: "adblock", text: "[Adblock Plus 2.0]\n! c\n||a.example^\n||b.example^$important\n@@||x.a.example^\n@@||b.example^\n|e.example^\nx.example##.ad\n||p.example/path\n||t.example^$third-party\n/re/\n",
			in: []string{"a.example", "y.a.example", "b.example", "e.example"}, out: []string{"x.a.example", "z.x.a.example", "x.e.example", "p.example", "t.example", "x.example"}},
		{name: "important exception", text: "||b.example^$important\n@@||b.example^$important\n||c.example^\n", in: []string{"c.example"}, out: []string{"b.example"}},
		{name: "gzip", text: zipped("a.example\n"), in: []string{"a.example"}},
		{name: "gzip twice", text: zipped(zipped("a.example\n")), in: []string{"a.example"}},
		{name: "mark", text: "\ufeffa.example\n", in: []string{"a.example"}},
		{name: "broken gzip", text: zipped(strings.Repeat("a.example\n", 1000))[:30], err: "breaks off"},
		{name: "bomb", text: zipped(strings.Repeat("a.example\n", 1<<20)), o: Options{MaxSize: 1 << 20}, err: "longer than 1 MiB"},
		{name: "html", text: "\n <!DOCTYPE html><html>", err: "HTML"},
		{name: "called html", text: "a.example\n", contentType: "text/html; charset=utf-8", err: "text/html"},
		{name: "binary", text: "a.example\n\x00\x01", err: "zero bytes"},
		{name: "late binary", text: strings.Repeat("a.example\n", 1000) + "\x00", err: "line 1001"},
		{name: "prose", text: "This is\nno list at all,\nbut prose.\n", err: "no list of hosts"},
		{name: "empty", text: "", err: "empty"},
		{name: "comments", text: "# nothing\n", err: "no entries"},
		{name: "long", text: "a.example\n" + strings.Repeat("x", 1<<20) + "\n" + "b.example", in: []string{"a.example", "b.example"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(strings.NewReader(c.text), c.contentType, c.o)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, expected %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range c.in {
				if !s.Host(h) {
					t.Errorf("%s is not in the list", h)
				}
				if e, taken := s.Entry(h); e == "" || !taken {
					t.Errorf("no entry takes %s", h)
				}
			}
			for _, h := range c.out {
				if s.Host(h) {
					t.Errorf("%s is in the list", h)
				}
			}
		})
	}
}

// naive is a list as it is read, asked entry by entry.
type naive []struct {
	pattern string
	does    uint32
}

func (n naive) host(host string) bool {
	var does [nDoes]bool
	for _, e := range n {
		name := strings.TrimLeft(e.pattern, "*.")
		below := strings.HasSuffix(host, "."+name) && len(host) > len(name)+1
		if host == name && !strings.HasPrefix(e.pattern, "*.") || below && (e.pattern[0] == '*' || e.pattern[0] == '.') {
			does[e.does] = true
		}
	}
	switch {
	case does[exceptsImportant]:
		return false
	case does[takesImportant]:
		return true
	}
	return does[takes] && !does[excepts]
}

// FuzzParse: whatever comes, reading it ends, is bounded, and the index says what its entries say one by one.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.example\n", "||a.example^\n@@||b.a.example^$important\n", "0.0.0.0 a b\n", zipped("a.example"), "10.0.0.0/8\n2001:db8::/32 ; x\n", "x##y", "|", "@@", "$", "||^", "[::1]", "*.",
		"||a.example^$important\n@@||a.example^\n|a.b\n*.c\n.d\n||[2001:db8::1]^\n||192.0.2.1^|\n", "\ufeff! x\n\xff\xfe\n"} {
		for how := range byte(16) {
			f.Add([]byte(s), how, "x.a.example")
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, how byte, host string) {
		o := Options{MaxSize: 1 << 16, Format: []Format{Auto, Lines, HostsFile, Adblock}[how&3], Networks: how&4 != 0, Subdomains: how&8 != 0}
		s, err := Parse(bytes.NewReader(b), "", o)
		if err != nil {
			if s != nil {
				t.Fatal("a set beside an error")
			}
			return
		}
		if s.Report.Size > o.MaxSize || s.Report.Entries == 0 || strings.ContainsAny(s.Report.FirstWrong, "\n\r\x1b") {
			t.Fatalf("%+v", s.Report)
		}
		if o.Networks || bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			return
		}
		var n naive
		for line := range strings.Lines(strings.TrimPrefix(string(b), "\ufeff")) {
			if len(line) <= MaxLine {
				o.read(line, func(pattern string, does uint32) error {
					n = append(n, struct {
						pattern string
						does    uint32
					}{pattern, does})
					return nil
				})
			}
		}
		hosts := []string{"x.a.example"}
		if h, err := connmodel.CanonicalHost(host); err == nil {
			hosts = append(hosts, h)
		}
		for _, e := range n[:min(len(n), 20)] {
			name := strings.TrimLeft(e.pattern, "*.")
			hosts = append(hosts, name, "x."+name, "x"+name)
		}
		for _, h := range hosts {
			if len(h) > 253 {
				continue
			}
			want := n.host(h)
			if s.Host(h) != want {
				t.Errorf("%q: in the list %v, expected %v", h, s.Host(h), want)
			}
			if e, taken := s.Entry(h); taken != want || want && e == "" {
				t.Errorf("%q: by %q, %v, expected %v", h, e, taken, want)
			}
		}
	})
}

// server is a web server of a list that fails on request.
type server struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	s := &server{}
	s.set(h)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(h http.HandlerFunc) { s.answer.Store(&h) }

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+fmt.Sprint(len(body))+`"`)
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte(body))
	}
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "n%d.example\n", i)
	}
	return b.String()
}

func TestSource(t *testing.T) {
	ctx := context.Background()
	w := serve(t, text(names(200)))
	login := serve(t, text("<html>log in</html>"))
	o := SourceOptions{Name: "x", URL: w.URL, Refresh: time.Hour, Keep: filepath.Join(t.TempDir(), "lists", "x.list"), List: Options{MaxSize: 1 << 20},
		Fetch: source.Options{Timeout: 2 * time.Second}}
	s := Open(o)
	defer func() { s.Close() }()
	if err := s.Refresh(ctx, false); err != nil || s.Status().Entries != 200 || s.Status().State != StateFresh {
		t.Fatalf("%v, %+v", err, s.Status())
	}
	if n := s.Status().Loads; n != 1 {
		t.Errorf("%d copies taken, and the server said that it has not changed", n)
	}
	for _, c := range []struct {
		want string
		h    http.HandlerFunc
	}{
		{"404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }},
		{"HTML", text("<html>log in</html>")},
		{"broke off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("a.example\n"))
		}},
		{"longer than 1 MiB", func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 12 {
				if _, err := w.Write(bytes.Repeat([]byte("a.example\n"), 100)); err != nil {
					return
				}
			}
		}},
		{"max_shrink", text(names(10))},
		{"after a redirect to http", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, login.URL, http.StatusFound) }},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(zipped(names(3000))[:500])) }},
		{"reset", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			w.Write([]byte(names(100)))
			w.(http.Flusher).Flush()
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		}},
		{"did not come within", func(w http.ResponseWriter, r *http.Request) { // drop by drop
			for r.Context().Err() == nil {
				w.Write([]byte("n1.example\n"))
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}},
		{"longer than 1 MiB", func(w http.ResponseWriter, _ *http.Request) { // and said to be
			w.Header().Set("Content-Length", fmt.Sprint(2<<30))
			w.Write([]byte("x.example\n"))
		}},
		{"longer than 1 MiB", func(w http.ResponseWriter, _ *http.Request) { // a bomb
			w.Write([]byte(zipped(strings.Repeat("a.example\n", 1<<18))))
		}},
		{"br", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			w.Write([]byte("x"))
		}},
	} {
		w.set(c.h)
		err := s.Refresh(ctx, false)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, expected %q", err, c.want)
		}
		if st := s.Status(); st.State != StateStale || st.Entries != 200 || st.Error == "" || !s.Now().Host("n7.example") {
			t.Errorf("%s: %+v", c.want, st)
		}
	}
	w.set(func(w http.ResponseWriter, _ *http.Request) { // a new validator, and no Content-Type, for what is there
		w.Header().Set("ETag", `"new"`)
		w.Write([]byte(names(200)))
	})
	if err := s.Refresh(ctx, false); err != nil || s.Status().Loads != 1 || s.Status().State != StateFresh || s.Status().Error != "" {
		t.Errorf("%v, %+v: the same list again", err, s.Status())
	}
	w.set(text(names(10)))
	if err := s.Refresh(ctx, true); err != nil || s.Status().Entries != 10 {
		t.Errorf("forced: %v, %+v", err, s.Status())
	}

	s.Close() // the next start, with a server that is away
	w.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	s = Open(o)
	if s.Now() == nil || s.Now().Report.Entries != 10 {
		t.Fatal("the copy that was kept is not in use")
	}
	s.Close()

	other := o // another list of the same URL, and a new name of the old one, use the same copy
	other.Name, other.List.Subdomains = "y", true
	s = Open(other)
	if s.Now() == nil || !s.Now().Host("x.n3.example") {
		t.Error("the copy is not read as the other list wants it")
	}
	s.Close()
	other.List.Networks = true // which it is not: the copy stays for those who can use it
	s = Open(other)
	if s.Now() != nil || s.Status().Error == "" {
		t.Errorf("%+v", s.Status())
	}
	s.Close()

	b, err := os.ReadFile(o.Keep)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(o.Keep, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = Open(o)
	if s.Now() != nil {
		t.Error("a damaged copy is in use")
	}
	if _, err := os.Stat(o.Keep + ".broken"); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(o.Keep), ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestKeptBroken: a copy that was cut off anywhere, or changed anywhere, is not used.
func TestKeptBroken(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, text(names(20)))
	path := filepath.Join(dir, "x.list")
	s := Open(SourceOptions{Name: "x", URL: w.URL, Keep: path})
	s.Wait(t.Context())
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if set, at, err := ReadKept(path, w.URL, Options{}); err != nil || set.Report.Entries != 20 || time.Since(at) > time.Minute {
		t.Fatalf("%v, %v", at, err)
	}
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadKept(path, w.URL, Options{}); err == nil {
			t.Errorf("%s: it is used", what)
		}
	}
	for _, n := range []int{0, 1, 15, 100, headSize - 1, headSize, headSize + 1, len(whole) - 1} {
		try(fmt.Sprint("cut off after ", n), whole[:n])
	}
	try("longer", append(bytes.Clone(whole), 'x'))
	for _, n := range []int{0, 20, headSize, headSize + 7, len(whole) - 1} {
		b := bytes.Clone(whole)
		b[n] ^= 0x01
		try(fmt.Sprint("changed at ", n), b)
	}
	if _, _, err := ReadKept(path, "http://elsewhere.example/", Options{}); err == nil {
		t.Error("the copy of another URL is used")
	}
}

// TestRef: what a policy sees before there is a copy, and after its source has gone.
func TestRef(t *testing.T) {
	if Later(false).Set() != nil || Later(true).Set() == nil || Later(true).Set().Host("a.example") {
		t.Error("without a copy a list is unknown, or empty where that is wanted")
	}
	w := serve(t, text("a.example\n"))
	r := Later(false)
	s := Open(SourceOptions{Name: "x", URL: w.URL})
	r.Bind(s)
	s.Wait(t.Context())
	if !r.Set().Host("a.example") {
		t.Error(r.Why())
	}
	s.Close()
	if !r.Set().Host("a.example") {
		t.Error("flows of a policy from before have lost their list")
	}
	if err := s.Refresh(t.Context(), false); err == nil {
		t.Error("a closed source looks")
	}
}

// million are names as lists have them.
func million() string {
	var b strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "%s%d.%s\n", []string{"ads", "t", "stat-"}[i%3], i*7919%1_000_003, []string{"example", "tracker.example", "cdn.net.example", "io"}[i%4])
	}
	return b.String()
}

// TestMillion holds a million entries against what they may cost.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	text := million()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := time.Now()
	s, err := Parse(strings.NewReader(text), "", Options{Format: Adblock})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / float64(s.Report.Names)
	t.Logf("%d entries in %s, %.1f bytes each; the text has %.1f", s.Report.Names, took, each, float64(len(text))/float64(s.Report.Names))
	if each > 35 || took > 30*time.Second {
		t.Errorf("%.1f bytes each, %s", each, took)
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(text)
}

func BenchmarkHost(b *testing.B) {
	s, err := Parse(strings.NewReader(million()), "", Options{})
	if err != nil {
		b.Fatal(err)
	}
	hosts := make([]string, 4096)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("%s%d.%s", []string{"ads", "t", "stat-", "www"}[i%4], i*104729%1_000_003, []string{"example", "tracker.example", "cdn.net.example"}[i%3])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Host(hosts[i&4095])
	}
}

func BenchmarkParse(b *testing.B) {
	text := million()
	for b.Loop() {
		if _, err := Parse(strings.NewReader(text), "", Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
