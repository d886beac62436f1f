package lists

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"viaduct/policies/source"
)

// faulty is a web server that answers each request as it is told.
type faulty struct {
	*httptest.Server
	mu   sync.Mutex
	now  http.HandlerFunc
	seen []http.Header
}

// noLeaks is called first, and looks last.
func noLeaks(t *testing.T) { t.Cleanup(func() { goleak.VerifyNone(t) }) }

func newFaulty(t *testing.T, h http.HandlerFunc) *faulty {
	t.Helper()
	w := &faulty{now: h}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		h := w.now
		w.seen = append(w.seen, r.Header.Clone())
		w.mu.Unlock()
		h(rw, r)
	}))
	t.Cleanup(w.Server.Close)
	return w
}

// then says how it answers from now on.
func (w *faulty) then(h http.HandlerFunc) {
	w.mu.Lock()
	w.now = h
	w.mu.Unlock()
}

// last is the head of the last request.
func (w *faulty) last() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[len(w.seen)-1]
}

func sends(body string, head ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(head); i += 2 {
			w.Header().Set(head[i], head[i+1])
		}
		io.WriteString(w, body)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// said keeps what a source logs.
type said struct {
	mu  sync.Mutex
	all []string
}

func (l *said) log(problem bool, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf("%v: %s", problem, text))
}

// count is how many lines hold all of the words.
func (l *said) count(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

func (l *said) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// opened is a source whose first look is over.
func opened(t *testing.T, o SourceOptions) *Source {
	t.Helper()
	if o.Name == "" {
		o.Name = "ads"
	}
	if o.Refresh == 0 {
		o.Refresh = time.Hour
	}
	s := Open(o)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-s.first:
	case <-ctx.Done():
		t.Fatal("the first look is not over after a minute")
	}
	return s
}

func refresh(t *testing.T, s *Source, force bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Refresh(ctx, force)
	if ctx.Err() != nil {
		t.Fatal("a look is not over after a minute")
	}
	return err
}

func numbered(n int, below string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "n%d.%s\n", i, below)
	}
	return b.String()
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}

// TestValidators: what the server said of a copy is shown to it, and a copy that has not changed is not taken again.
func TestValidators(t *testing.T) {
	noLeaks(t)
	const modified = "Mon, 23 Nov 2026 10:00:00 GMT"
	w := newFaulty(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` && r.Header.Get("If-Modified-Since") == modified {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		rw.Header().Set("ETag", `"1"`)
		rw.Header().Set("Last-Modified", modified)
		io.WriteString(rw, "a.example\n")
	})
	s := opened(t, SourceOptions{URL: w.URL, Keep: filepath.Join(t.TempDir(), "x.list")})
	if h := w.last(); h.Get("If-None-Match") != "" || h.Get("Accept-Encoding") != "gzip" || h.Get("Accept") == "" || h.Get("User-Agent") != "viaduct" {
		t.Errorf("the first look: %v", h)
	}
	before := s.Now()
	st := s.Status()
	if st.Version != 1 || st.State != StateFresh || st.Changed.IsZero() || st.Since.IsZero() {
		t.Fatalf("%+v", st)
	}
	if err := refresh(t, s, false); err != nil || w.last().Get("If-None-Match") != `"1"` {
		t.Errorf("%v, %v", err, w.last())
	}
	if st := s.Status(); s.Now() != before || st.Version != 1 || st.Loads != 1 || st.Looks != 2 || st.State != StateFresh {
		t.Errorf("304: %+v", st)
	}
	if err := refresh(t, s, true); err != nil || w.last().Get("If-None-Match") != "" || s.Status().Version != 2 {
		t.Errorf("forced: %v, %+v", err, s.Status())
	}
	// The next start shows what was kept.
	s.Close()
	s = opened(t, s.o)
	if w.last().Get("If-None-Match") != `"1"` || s.Status().Loads != 1 || s.Status().State != StateFresh {
		t.Errorf("after a start: %v, %+v", w.last(), s.Status())
	}
	// A server that says "not changed" of nothing, or the same tag of something else, is not believed.
	w.then(status(http.StatusNotModified))
	if err := refresh(t, s, true); err == nil || !strings.Contains(err.Error(), "304") || !s.Now().Host("a.example") {
		t.Errorf("304 of nothing: %v", err)
	}
	w.then(sends("b.example\n", "ETag", `"1"`, "Last-Modified", modified))
	if err := refresh(t, s, false); err != nil || !s.Now().Host("b.example") || s.Now().Host("a.example") {
		t.Errorf("the same tag of another text: %v, %+v", err, s.Status())
	}
	// The tag of an answer that was not used is not kept.
	w.then(sends("<html>", "ETag", `"page"`))
	if err := refresh(t, s, false); err == nil {
		t.Error("a page is used")
	}
	w.then(sends("c.example\n"))
	if err := refresh(t, s, false); err != nil || w.last().Get("If-None-Match") != `"1"` {
		t.Errorf("%v, shown: %v", err, w.last())
	}
	if err := refresh(t, s, false); err != nil || w.last().Get("If-None-Match") != "" || w.last().Get("If-Modified-Since") != "" {
		t.Errorf("a copy without a tag: %v, shown: %v", err, w.last())
	}
}

// TestAnswers: whatever a server does, the copy in use stays or another whole list takes its place, and the error says what it did.
func TestAnswers(t *testing.T) {
	noLeaks(t)
	t.Setenv("TMPDIR", t.TempDir())
	login := httptest.NewServer(sends("<html>log in</html>"))
	defer login.Close()
	moved := httptest.NewServer(sends(numbered(150, "moved.example")))
	defer moved.Close()
	w := newFaulty(t, sends(numbered(200, "example")))
	dir := t.TempDir()
	keep := filepath.Join(dir, "x.list")
	s := opened(t, SourceOptions{URL: w.URL, Keep: keep, List: Options{MaxSize: 64 << 10}, Fetch: source.Options{Timeout: 20 * time.Second}})
	kept, err := os.ReadFile(keep)
	if err != nil {
		t.Fatal(err)
	}
	list := numbered(150, "example")
	for _, x := range []struct {
		name string
		h    http.HandlerFunc
		want string // in the error; "" = it is used
	}{
		{"gone", status(http.StatusGone), "the server answered 410 Gone"},
		{"login wanted", status(http.StatusUnauthorized), "401"},
		{"broken", status(http.StatusInternalServerError), "500"},
		{"no content", status(http.StatusNoContent), "204"},
		{"nothing", sends(""), "it is empty"},
		{"a part", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Range", "bytes 0-1/9")
			rw.WriteHeader(http.StatusPartialContent)
		}, "206"},
		{"page", sends("<!DOCTYPE html>", "Content-Type", "text/html"), "HTML"},
		{"page in gzip", sends(string(packed(t, "<html>", 1)), "Content-Encoding", "gzip", "Content-Type", "text/plain"), "HTML"},
		{"a list that is called a page", sends(list, "Content-Type", "text/html"), "text/html"},
		{"login elsewhere", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, login.URL+"/?u=secret", http.StatusFound)
		},
			"perhaps that of a login or an error, after a redirect to " + login.URL},
		{"round", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/", http.StatusFound) }, "more than 5 redirects"},
		{"nowhere", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", "file:///etc/passwd")
			rw.WriteHeader(http.StatusFound)
		}, "unsupported protocol scheme"},
		{"unknown encoding", sends("x", "Content-Encoding", "zstd"), `the encoding "zstd", which was not asked for`},
		{"two encodings", sends("x", "Content-Encoding", "gzip, br"), `the encoding "gzip, br"`},
		{"too long, as it says", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(2<<30))
			io.WriteString(rw, list)
			rw.(http.Flusher).Flush()
			<-r.Context().Done() // it is not waited for
		}, "longer than 65536 bytes (max_size)"},
		{"too long", sends(strings.Repeat(list, 40)), "longer than 65536 bytes (max_size)"},
		{"without an end", func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(rw, list); err != nil {
					return
				}
			}
		}, "longer than 65536 bytes (max_size)"},
		{"a bomb", sends(string(packed(t, strings.Repeat("a.example\n", 1<<17), 1))), "longer than 65536 bytes (max_size)"},
		{"half of a body", sends(list, "Content-Length", "60000"), "it broke off after"},
		{"half of gzip", sends(string(packed(t, list, 1))[:100]), "the gzip data is broken: it breaks off"},
		{"reset", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "50000")
			io.WriteString(rw, list)
			rw.(http.Flusher).Flush()
			hangUp(t, rw, true)
		}, "it broke off after"},
		{"cut off chunks", func(rw http.ResponseWriter, _ *http.Request) {
			io.WriteString(rw, list)
			rw.(http.Flusher).Flush()
			hangUp(t, rw, false)
		}, "it broke off after"},
		{"no answer", func(rw http.ResponseWriter, _ *http.Request) { hangUp(t, rw, false) }, "EOF"},
		{"garbage", func(rw http.ResponseWriter, _ *http.Request) {
			c, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "SSH-2.0-x\r\n")
			c.Close()
		}, "malformed HTTP"},
		{"much less", sends(numbered(99, "example")), "it has 99 entries, and the copy in use has 200: that is more than max_shrink = 50 percent less"},

		{"elsewhere", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, moved.URL, http.StatusMovedPermanently)
		}, ""},
		{"gzip", sends(string(packed(t, list+"gzip.example\n", 1)), "Content-Encoding", "gzip"), ""},
		{"GZIP", sends(string(packed(t, list+"g.example\n", 1)), "Content-Encoding", "GZIP"), ""},
		{"gzip that is not said", sends(string(packed(t, list, 1)), "Content-Type", "application/octet-stream"), ""},
		{"gzip that is none", sends(list+"x.example\n", "Content-Encoding", "gzip"), ""},
		{"identity", sends(list+"y.example\n", "Content-Encoding", "identity"), ""},
		{"half of it, which may be", sends(numbered(76, "example")), ""},
	} {
		before, loads := s.Now(), s.Status().Loads
		w.then(x.h)
		err := refresh(t, s, false)
		st := s.Status()
		if x.want == "" {
			if err != nil || st.Loads != loads+1 || st.State != StateFresh || st.Error != "" || st.Version != before.Version+1 {
				t.Errorf("%s: %v, %+v", x.name, err, st)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, expected %q", x.name, err, x.want)
		}
		if s.Now() != before || st.State != StateStale || err != nil && st.Error != err.Error() || st.Loads != loads || st.Looking || st.Read != 0 {
			t.Errorf("%s: %+v", x.name, st)
		}
		if now, err := os.ReadFile(keep); err != nil || string(now) != string(kept) {
			t.Errorf("%s: the copy that is kept is another: %v", x.name, err)
		}
	}
	w.then(sends("one.example\n"))
	if err := refresh(t, s, true); err != nil || s.Status().Entries != 1 {
		t.Errorf("forced: %v, %+v", err, s.Status())
	}
	for _, d := range []string{dir, os.Getenv("TMPDIR")} {
		if all, _ := os.ReadDir(d); d == dir && len(all) != 1 || d != dir && len(all) != 0 {
			t.Errorf("left in %s: %v", d, all)
		}
	}
}

func hangUp(t *testing.T, rw http.ResponseWriter, reset bool) {
	c, _, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	if tc, ok := c.(*net.TCPConn); ok && reset {
		tc.SetLinger(0)
	}
	c.Close()
}

// TestShrink: what a list may lose.
func TestShrink(t *testing.T) {
	noLeaks(t)
	for _, x := range []struct {
		was, is, most int
		taken         bool
	}{
		{99, 1, 0, true}, // small lists change by large parts
		{100, 50, 0, true}, {100, 49, 0, false}, {100, 90, 10, true}, {100, 89, 10, false}, {1000, 1, 100, true}, {1000, 11, 99, true}, {1000, 9, 99, false}, {100, 1000, 1, true},
	} {
		w := newFaulty(t, sends(numbered(x.was, "example")))
		s := opened(t, SourceOptions{URL: w.URL, MaxShrink: x.most})
		w.then(sends(numbered(x.is, "other.example")))
		err := refresh(t, s, false)
		if (err == nil) != x.taken || (s.Now().Report.Entries == x.is) != x.taken {
			t.Errorf("%d to %d at %d percent: %v", x.was, x.is, x.most, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "viaduct list refresh --force ads") {
				t.Errorf("nobody is told how to take it: %v", err)
			}
			if err := refresh(t, s, true); err != nil || s.Now().Report.Entries != x.is {
				t.Errorf("forced: %v", err)
			}
		}
		s.Close()
	}
}

// TestSlow: a server that sends drop by drop is given up in time, and meanwhile it is seen how far it is.
func TestSlow(t *testing.T) {
	noLeaks(t)
	w := newFaulty(t, sends("a.example\n"))
	release := make(chan struct{})
	s := opened(t, SourceOptions{URL: w.URL, Fetch: source.Options{Timeout: time.Minute}})
	w.then(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, strings.Repeat("b.example\n", 100))
		rw.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	got := make(chan error, 1)
	go func() { got <- s.Refresh(t.Context(), false) }()
	waitFor(t, "a thousand bytes", func() bool { st := s.Status(); return st.Looking && st.Read == 1000 })
	if st := s.Status(); st.Entries != 1 || !s.Now().Host("a.example") {
		t.Errorf("meanwhile: %+v", st)
	}
	close(release)
	if err := <-got; err != nil || s.Status().Looking || s.Status().Read != 0 || !s.Now().Host("b.example") || s.Status().Took <= 0 {
		t.Errorf("%v, %+v", err, s.Status())
	}
	if testing.Short() {
		return
	}
	drops := newFaulty(t, func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(rw, "n.example\n")
			rw.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	s = opened(t, SourceOptions{URL: drops.URL, Fetch: source.Options{Timeout: 300 * time.Millisecond}})
	if st := s.Status(); st.State != StateLoading || !strings.Contains(st.Error, "it did not come within 300ms: ") || st.Fails == 0 {
		t.Errorf("drop by drop: %+v", st)
	}
	silent := newFaulty(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s = opened(t, SourceOptions{URL: silent.URL, Fetch: source.Options{Timeout: 300 * time.Millisecond}})
	if st := s.Status(); !strings.Contains(st.Error, "it did not come within 300ms: ") {
		t.Errorf("silent: %+v", st)
	}
}

// TestRetries: within a look a server that stumbles is asked again, one that says no is not.
func TestRetries(t *testing.T) {
	noLeaks(t)
	if testing.Short() {
		t.Skip("waits between tries")
	}
	var n atomic.Int32
	w := newFaulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(rw, "a.example\n")
	})
	s := opened(t, SourceOptions{URL: w.URL, Fetch: source.Options{Retries: 2}})
	if st := s.Status(); n.Load() != 3 || st.Looks != 1 || st.Fails != 0 || st.Entries != 1 {
		t.Errorf("%d requests, %+v", n.Load(), st)
	}
	w.then(func(rw http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		rw.WriteHeader(http.StatusForbidden)
	})
	n.Store(0)
	if err := refresh(t, s, false); err == nil || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// TestKept: the copy of the last run is in use before the server is asked, and one that is no good is set aside and said.
func TestKept(t *testing.T) {
	noLeaks(t)
	w := newFaulty(t, sends(numbered(20, "example"), "ETag", `"1"`))
	dir := filepath.Join(t.TempDir(), "state", "lists")
	keep := filepath.Join(dir, KeptName(w.URL))
	o := SourceOptions{Name: "ads", URL: w.URL, Keep: keep}
	opened(t, o).Close()
	for path, want := range map[string]os.FileMode{dir: 0o700, keep: 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
	whole, err := os.ReadFile(keep)
	if err != nil {
		t.Fatal(err)
	}
	w.then(status(http.StatusForbidden))
	var out said
	o.Log = out.log
	then := time.Now().Add(-3 * time.Hour).Truncate(time.Second) // when it was last known to be the server's
	if err := os.Chtimes(keep, then, then); err != nil {
		t.Fatal(err)
	}
	s := Open(o)
	if s.Now() == nil || !s.Now().Host("n7.example") || s.Now().Version != 1 || s.Now().Name != "ads" {
		t.Fatalf("the copy that was kept is not in use: %s", &out)
	}
	<-s.first
	if st := s.Status(); st.State != StateStale || st.Entries != 20 || !strings.Contains(st.Error, "403") || out.count("false: list ads: the copy of ") != 1 {
		t.Errorf("%+v\n%s", st, &out)
	}
	s.Close()

	text := func(b []byte) []byte {
		b = slices.Clone(b)
		b[len(b)-3] ^= 1
		return b
	}
	for _, x := range []struct {
		name  string
		b     []byte
		url   string
		want  string
		aside bool
	}{
		{"changed", text(whole), w.URL, "its checksum is wrong", true},
		{"cut off", whole[:len(whole)-1], w.URL, "bytes instead of", true},
		{"a part of its head", whole[:100], w.URL, "its head is not whole", true},
		{"empty", nil, w.URL, "its head is not whole", true},
		{"another file", []byte(strings.Repeat("x", 5000)), w.URL, "it is of another kind or version", true},
		{"another URL", whole, w.URL + "/other", "it is of another URL", true},
	} {
		if err := os.WriteFile(keep, x.b, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Remove(keep + ".broken")
		var out said
		o := o
		o.Log, o.URL = out.log, x.url
		s := Open(o)
		if s.Now() != nil || s.Status().State != StateLoading {
			t.Errorf("%s: it is in use", x.name)
		}
		<-s.first
		s.Close()
		if out.count("true: list ads: the copy that was kept cannot be used", x.want, keep+".broken") != 1 {
			t.Errorf("%s: %s", x.name, &out)
		}
		if b, err := os.ReadFile(keep + ".broken"); err != nil || string(b) != string(x.b) {
			t.Errorf("%s: not set aside: %v", x.name, err)
		}
		if _, err := os.Stat(keep); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: still there: %v", x.name, err)
		}
	}

	// What the policy of now cannot use stays for one that can.
	if err := os.WriteFile(keep, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	o.List = Options{Networks: true}
	s = Open(o)
	if st := s.Status(); s.Now() != nil || !strings.Contains(st.Error, "the copy that was kept cannot be used") {
		t.Errorf("names in use as networks: %+v", st)
	}
	s.Close()
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	// And a good one takes the place of one that was no good.
	w.then(sends("10.0.0.0/8\n"))
	s = opened(t, o)
	if st := s.Status(); st.Error != "" || st.State != StateFresh || st.Entries != 1 {
		t.Errorf("%+v", st)
	}
}

// TestConfirmedAge: "not changed" makes the copy that is kept as young as it is, for the next start.
func TestConfirmedAge(t *testing.T) {
	noLeaks(t)
	w := newFaulty(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		sends("a.example\n", "ETag", `"1"`)(rw, r)
	})
	o := SourceOptions{URL: w.URL, Keep: filepath.Join(t.TempDir(), "x.list")}
	s := opened(t, o)
	old := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(o.Keep, old, old); err != nil {
		t.Fatal(err)
	}
	if err := refresh(t, s, false); err != nil {
		t.Fatal(err)
	}
	_, at, err := ReadKept(o.Keep, o.URL, o.List)
	if err != nil || time.Since(at) > time.Hour || time.Since(s.Status().Since) > time.Hour {
		t.Errorf("known at %s, %v", at, err)
	}
	if _, _, err := ReadKept(o.Keep+"x", o.URL, o.List); !errors.Is(err, errNoCopy) {
		t.Errorf("%v", err)
	}
}

// TestUnwritable: without a place for the copy the list works, the trouble is said, and said once.
func TestUnwritable(t *testing.T) {
	noLeaks(t)
	w := newFaulty(t, sends("a.example\n"))
	t.Setenv("TMPDIR", t.TempDir())
	block := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []string{filepath.Join(block, "x.list"), "/proc/viaduct/x.list", "/proc/viaduct-test.list"} {
		var out said
		s := opened(t, SourceOptions{URL: w.URL, Keep: keep, Log: out.log})
		if s.Now() == nil || !s.Now().Host("a.example") || s.Status().State != StateFresh || out.count("true: list ads: the copy for the next start cannot be kept") != 1 {
			t.Errorf("%s: %s", keep, &out)
		}
		for range 3 { // the same text again: nothing new to say, whatever the name of the file that could not be made
			if err := refresh(t, s, false); err != nil {
				t.Error(err)
			}
		}
		if n := out.count("cannot be kept"); n > 2 {
			t.Errorf("%s: said %d times:\n%s", keep, n, &out)
		}
		s.Close()
	}
	if all, _ := os.ReadDir(os.Getenv("TMPDIR")); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
	t.Setenv("TMPDIR", block) // no place at all
	s := opened(t, SourceOptions{URL: w.URL})
	if st := s.Status(); s.Now() != nil || !strings.Contains(st.Error, "there is no place to put it") {
		t.Errorf("%+v", st)
	}
}

// TestSaidOnce: a server that is away is said once for each time that it is away, though ports and bytes differ.
func TestSaidOnce(t *testing.T) {
	noLeaks(t)
	var out said
	w := newFaulty(t, sends("a.example\n", "ETag", `"1"`))
	s := opened(t, SourceOptions{URL: w.URL, Log: out.log})
	for range 2 {
		n := 0
		w.then(func(rw http.ResponseWriter, _ *http.Request) {
			n++
			rw.Header().Set("Content-Length", "9999")
			io.WriteString(rw, strings.Repeat("b.example\n", n))
			rw.(http.Flusher).Flush()
			hangUp(t, rw, false)
		})
		for range 3 {
			if err := refresh(t, s, false); err == nil {
				t.Error("half a list is used")
			}
		}
		w.then(status(http.StatusNotModified))
		if err := refresh(t, s, false); err != nil {
			t.Error(err)
		}
	}
	if n := out.count("true: list ads: nothing to use from "+w.URL, "the last good copy stays in use, with 1 entries"); n != 2 {
		t.Errorf("said %d times that it is away, which it was twice:\n%s", n, &out)
	}
}

// TestCloseWhileLooking: nobody waits for a server when the gateway stops, and a look that is given up is no failure of the server.
func TestCloseWhileLooking(t *testing.T) {
	noLeaks(t)
	asked := make(chan struct{}, 8)
	for _, body := range []string{"", "a.example\n"} {
		w := newFaulty(t, func(rw http.ResponseWriter, r *http.Request) {
			if body != "" {
				io.WriteString(rw, body)
				rw.(http.Flusher).Flush()
			}
			asked <- struct{}{}
			<-r.Context().Done()
		})
		var out said
		s := Open(SourceOptions{Name: "ads", URL: w.URL, Keep: filepath.Join(t.TempDir(), "x.list"), Log: out.log, Fetch: source.Options{Timeout: 5 * time.Minute}})
		<-asked
		done := make(chan struct{})
		waits := make(chan struct{})
		go func() { s.Wait(t.Context()); close(waits) }()
		go func() { s.Close(); close(done) }()
		for what, c := range map[string]chan struct{}{"Close": done, "Wait": waits} {
			select {
			case <-c:
			case <-time.After(time.Minute):
				t.Fatalf("%s waits for the server", what)
			}
		}
		if st := s.Status(); st.Fails != 0 || out.count("true:") != 0 || s.Now() != nil {
			t.Errorf("%+v\n%s", st, &out)
		}
		if all, _ := os.ReadDir(filepath.Dir(s.o.Keep)); len(all) != 0 {
			t.Errorf("left: %v", all)
		}
		s.Close() // again
	}
}

// TestSameURL: two lists of one URL share the file that keeps it, and it is whole whenever it is looked at.
func TestSameURL(t *testing.T) {
	noLeaks(t)
	var n atomic.Int32
	w := newFaulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, numbered(100+int(n.Add(1)), "example"))
	})
	o := SourceOptions{Name: "one", URL: w.URL, Keep: filepath.Join(t.TempDir(), KeptName(w.URL))}
	other := o
	other.Name, other.List.Subdomains = "two", true
	a, b := opened(t, o), opened(t, other)
	var wg sync.WaitGroup
	for _, s := range []*Source{a, b} {
		wg.Go(func() {
			for range 10 {
				if err := s.Refresh(t.Context(), true); err != nil {
					t.Error(err)
				}
				if set, _, err := ReadKept(o.Keep, o.URL, o.List); err != nil || set.Report.Entries < 101 {
					t.Errorf("the copy that is kept: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if a.Now().Host("x.n7.example") || !b.Now().Host("x.n7.example") || a.Now().Name != "one" || b.Now().Name != "two" || a.Now().Version != 11 || b.Now().Version != 12 { // the other has begun with the copy that was kept
		t.Errorf("%+v, %+v", a.Now().Report, b.Now().Report)
	}
	if all, _ := os.ReadDir(filepath.Dir(o.Keep)); len(all) != 1 {
		t.Errorf("left: %v", all)
	}
	if KeptName(w.URL) == KeptName(w.URL+"/") || strings.ContainsAny(KeptName("http://x/../../etc/passwd"), "/\\") {
		t.Error("names of files")
	}
}

// TestSweep: what a process left that was killed is removed when nobody can be writing it any more, and nothing else is.
func TestSweep(t *testing.T) {
	noLeaks(t)
	w := newFaulty(t, sends("a.example\n"))
	dir := t.TempDir()
	old := time.Now().Add(-2 * leftover)
	for name, at := range map[string]time.Time{".x.list-123": old, ".x.list-456": time.Now(), ".y.list-789": old, "x.list-1": old, ".x.list": old, "z.list": old} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	opened(t, SourceOptions{URL: w.URL, Keep: filepath.Join(dir, "x.list")})
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range all {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != ".x.list .x.list-456 .y.list-789 x.list x.list-1 z.list" {
		t.Errorf("left: %s", got)
	}
}

// TestNetworkChanged: a server that could not be reached is looked at when the network changes, and one that could is left alone. Time is not
// real here, and neither is the network.
func TestNetworkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		var dials atomic.Int32
		away.Store(true)
		var peers sync.WaitGroup
		dial := func(context.Context, string, string) (net.Conn, error) {
			if dials.Add(1); away.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
			}
			c, peer := net.Pipe()
			peers.Go(func() {
				defer peer.Close()
				if r, err := http.ReadRequest(bufio.NewReader(peer)); err == nil {
					r.Body.Close()
					io.WriteString(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na.example\n")
				}
			})
			return c, nil
		}
		s := Open(SourceOptions{Name: "ads", URL: "http://list.example/", Refresh: 24 * time.Hour, Fetch: source.Options{Dial: dial}})
		time.Sleep(10 * time.Minute) // until it is looked at once a minute
		synctest.Wait()
		if st := s.Status(); st.State != StateLoading || !strings.Contains(st.Error, "unreachable") || st.Fails < 10 || st.Fails > 20 {
			t.Fatalf("%+v", st)
		}
		time.Sleep(time.Second)
		away.Store(false)
		before := time.Now()
		s.NetworkChanged()
		synctest.Wait()
		if st := s.Status(); st.State != StateFresh || st.Entries != 1 || time.Since(before) != 0 {
			t.Errorf("%+v after %s", st, time.Since(before))
		}
		n := dials.Load()
		s.NetworkChanged()
		synctest.Wait()
		time.Sleep(20 * time.Hour)
		if dials.Load() != n {
			t.Error("a server that could be reached is asked again")
		}
		time.Sleep(7 * time.Hour)
		synctest.Wait()
		if st := s.Status(); dials.Load() != n+1 || st.Version != 1 || time.Since(st.Since) > 8*time.Hour || !st.Changed.Equal(before.UTC()) {
			t.Errorf("%d looks after a day, %+v", dials.Load()-n, st)
		}
		away.Store(true)
		if err := s.Refresh(t.Context(), false); err == nil || s.Status().State != StateStale {
			t.Errorf("%v, %+v", err, s.Status())
		}
		s.Close()
		peers.Wait()
	})
}

// TestRefs: what a policy sees of a source over its life.
func TestRefs(t *testing.T) {
	noLeaks(t)
	if s := Later(false).Set(); s != nil {
		t.Error("what is not there is known")
	}
	if s := Later(true).Set(); s == nil || s.Host("a.example") {
		t.Error("what is not there is not empty")
	}
	if why := Later(false).Why(); why == "" {
		t.Error("no reason")
	}
	fixed := &Set{Name: "x"}
	if Fixed(fixed).Set() != fixed {
		t.Error("another set than the one that stays")
	}
	hold := make(chan struct{})
	w := newFaulty(t, func(rw http.ResponseWriter, r *http.Request) {
		<-hold
		io.WriteString(rw, "a.example\n")
	})
	s := Open(SourceOptions{Name: "ads", URL: w.URL})
	defer s.Close()
	known, open := Later(true), Later(false)
	known.Bind(s)
	open.Bind(s)
	if known.Set() == nil || open.Set() != nil || !strings.Contains(open.Why(), "being got") {
		t.Errorf("before the first copy: %q", open.Why())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	s.Wait(ctx)
	cancel()
	close(hold)
	s.Wait(t.Context())
	if !known.Set().Host("a.example") || !open.Set().Host("a.example") {
		t.Error("the first copy is not seen")
	}
	used := &Set{Name: "y"}
	open.Use(used)
	if open.Set() == used {
		t.Error("a set that stands in is preferred to that of the source")
	}
	late := Later(false)
	late.Use(used)
	if late.Set() != used {
		t.Error("a set that stands in is not used")
	}
	s.Close()
	if open.Set() == nil || !open.Set().Host("a.example") {
		t.Error("a policy from before has lost its list")
	}
	w.then(status(http.StatusForbidden))
	gone := opened(t, SourceOptions{Name: "gone", URL: w.URL})
	r := Later(false)
	r.Bind(gone)
	if !strings.Contains(r.Why(), "403") {
		t.Errorf("%q", r.Why())
	}
}

// TestManyReaders: sets are exchanged under those who ask them.
func TestManyReaders(t *testing.T) {
	noLeaks(t)
	var n atomic.Int32
	w := newFaulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, "always.example\nv%d.example\n", n.Add(1))
	})
	s := opened(t, SourceOptions{URL: w.URL})
	r := Later(false)
	r.Bind(s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				set := r.Set()
				if !set.Host("always.example") || !set.Host(fmt.Sprintf("v%d.example", set.Version)) || set.Version < last {
					t.Errorf("version %d after %d", set.Version, last)
					return
				}
				last = set.Version
				s.Status()
				runtime.Gosched() // the source has something to do, too
			}
		})
	}
	for range 15 {
		if err := refresh(t, s, false); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestChecksum: the checksum that is kept is that of what the server sent, as it came.
func TestChecksum(t *testing.T) {
	noLeaks(t)
	body := string(packed(t, "a.example\n", 1))
	w := newFaulty(t, sends(body, "Content-Encoding", "gzip", "Content-Type", "text/plain"))
	keep := filepath.Join(t.TempDir(), "x.list")
	opened(t, SourceOptions{URL: w.URL, Keep: keep})
	f, m, err := open(keep, w.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.Sum256([]byte(body))
	b, err := io.ReadAll(f)
	if err != nil || string(b) != body || m.SHA256 != hex.EncodeToString(sum[:]) || m.Length != int64(len(body)) || m.ContentType != "text/plain" {
		t.Errorf("%+v, %v", m, err)
	}
}
