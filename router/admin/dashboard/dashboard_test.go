package dashboard

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, method, target string, fields ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result()
}

var handler = Handler()

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	for target, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/ui/style.css": "text/css; charset=utf-8", "/ui/main.js": "text/javascript; charset=utf-8", "/ui/icon.svg": "image/svg+xml",
	} {
		res := ask(t, "GET", target)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != kind {
			t.Errorf("%s: %s, %q; want 200, %q", target, res.Status, res.Header.Get("Content-Type"), kind)
		}
		if len(body(t, res)) == 0 {
			t.Errorf("%s is empty", target)
		}
		head := ask(t, "HEAD", target)
		if head.StatusCode != 200 || body(t, head) != "" || head.Header.Get("Content-Length") != res.Header.Get("Content-Length") {
			t.Errorf("HEAD %s: %s, %q", target, head.Status, head.Header.Get("Content-Length"))
		}
	}
}

func TestNothingElse(t *testing.T) {
	for _, target := range []string{"/index.html", "/ui/", "/ui", "/ui/index.html", "/ui/nothing.js", "/ui/../main.js", "/ui/%2e%2e/main.js", "/ui/main.js/", "/static/main.js", "/v1/status", "/ui//main.js", "/UI/main.js"} {
		res := ask(t, "GET", target)
		if res.StatusCode != 404 || res.Header.Get("Content-Security-Policy") != Policy || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %s, %v", target, res.Status, res.Header)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		res := ask(t, method, "/")
		if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s /: %s, Allow %q", method, res.Status, res.Header.Get("Allow"))
		}
	}
}

func TestFieldsOfEveryAnswer(t *testing.T) {
	want := map[string]string{
		"Content-Security-Policy": Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	}
	for _, target := range []string{"/", "/ui/main.js", "/nothing"} {
		res := ask(t, "GET", target)
		for k, v := range want {
			if res.Header.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", target, k, res.Header.Get(k), v)
			}
		}
	}
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "trusted-types 'none'"} {
		if !strings.Contains(Policy, part) {
			t.Errorf("the policy lacks %s", part)
		}
	}
	if strings.Contains(Policy, "unsafe") || strings.Contains(Policy, "*") {
		t.Errorf("the policy allows too much: %s", Policy)
	}
}

func TestKeptAndAskedFor(t *testing.T) {
	for _, accept := range []string{"", "gzip"} {
		first := ask(t, "GET", "/ui/main.js", "Accept-Encoding", accept)
		tag := first.Header.Get("ETag")
		if tag == "" || first.Header.Get("Cache-Control") != "no-cache" || first.Header.Get("Vary") != "Accept-Encoding" {
			t.Fatalf("accepting %q: %v", accept, first.Header)
		}
		for _, match := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			res := ask(t, "GET", "/ui/main.js", "Accept-Encoding", accept, "If-None-Match", match)
			if res.StatusCode != 304 || body(t, res) != "" || res.Header.Get("ETag") != tag || res.Header.Get("Content-Encoding") != "" {
				t.Errorf("If-None-Match %s: %s, %v", match, res.Status, res.Header)
			}
		}
		if res := ask(t, "GET", "/ui/main.js", "Accept-Encoding", accept, "If-None-Match", `"other"`); res.StatusCode != 200 {
			t.Errorf("another tag: %s", res.Status)
		}
	}
}

func TestPacked(t *testing.T) {
	plain := body(t, ask(t, "GET", "/ui/style.css"))
	for accept, want := range map[string]bool{"gzip": true, "br, GZIP ;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false, "": false, "identity": false, "x-gzip2": false, "gzip;q=nan": false} {
		res := ask(t, "GET", "/ui/style.css", "Accept-Encoding", accept)
		b := body(t, res)
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("accepting %q: packed %v", accept, got)
			continue
		}
		if want {
			z, err := gzip.NewReader(strings.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			u, err := io.ReadAll(z)
			if err != nil || len(b) >= len(plain) {
				t.Fatalf("%v, %d of %d bytes", err, len(b), len(plain))
			}
			b = string(u)
		}
		if b != plain {
			t.Errorf("accepting %q: another text", accept)
		}
	}
	a, b := ask(t, "GET", "/ui/style.css").Header.Get("ETag"), ask(t, "GET", "/ui/style.css", "Accept-Encoding", "gzip").Header.Get("ETag")
	if a == b {
		t.Errorf("both forms have the tag %s", a)
	}
}

// forbidden are ways by which a string becomes markup, script or style, or a request leaves for somewhere else.
var forbidden = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\s*\(|new\s+Function|setTimeout\(\s*["'` + "`" + `]|setInterval\(\s*["'` + "`" + `]|javascript:|importScripts|new\s+Worker|XMLHttpRequest|WebSocket\(|EventSource\(|sendBeacon|document\.cookie|\.cssText|setAttributeNS|createPolicy|https?://[^\s"'<>)]+`)

// harmless are the names and examples that look like addresses and are never fetched.
var harmless = regexp.MustCompile(`^http://www\.w3\.org/2000/svg$|^https://www\.example\.com/`)

func TestSources(t *testing.T) {
	var size int
	var n int
	err := fs.WalkDir(static, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		n++
		size += len(b)
		for _, m := range forbidden.FindAllString(string(b), -1) {
			if !harmless.MatchString(m) {
				t.Errorf("%s has %q", name, m)
			}
		}
		switch path.Ext(name) {
		case ".html":
			if m := regexp.MustCompile(`(?i)\son\w+\s*=|\sstyle\s*=|<style|<script(?:>| [^>]*>[^<])`).Find(b); m != nil {
				t.Errorf("%s has script or style within: %q", name, m)
			}
		case ".css":
			if m := regexp.MustCompile(`(?i)@import|url\(`).Find(b); m != nil {
				t.Errorf("%s fetches: %q", name, m)
			}
		case ".js":
			for _, m := range regexp.MustCompile(`(?m)^import .* from "([^"]*)";$|import\(`).FindAllSubmatch(b, -1) {
				if f := string(m[1]); !strings.HasPrefix(f, "./") || strings.Contains(f[2:], "/") {
					t.Errorf("%s imports %q", name, m[0])
				} else if _, err := static.Open(path.Join("static", f)); err != nil {
					t.Errorf("%s imports what is not there: %v", name, err)
				}
			}
		case ".svg":
			if bytes.Contains(b, []byte("script")) {
				t.Errorf("%s has a script", name)
			}
		default:
			t.Errorf("%s: no type is known of it", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 10 {
		t.Errorf("only %d files were found", n)
	}
	if size > 400<<10 {
		t.Errorf("the page has become %d bytes", size)
	}
}

// TestForbidden holds the search itself: it must find what it is for.
func TestForbidden(t *testing.T) {
	for _, s := range []string{"x.innerHTML = y", "eval (s)", "new  Function(s)", `setTimeout("f()")`, `fetch("https://elsewhere.example/")`, "document.write(s)", "e.insertAdjacentHTML(a, b)", "new WebSocket(u)", "n.style.cssText = s"} {
		m := forbidden.FindString(s)
		if m == "" || harmless.MatchString(m) {
			t.Errorf("%q would not be found", s)
		}
	}
}

// TestManual: the pictures of the manual are there, and small.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	pictures := regexp.MustCompile(`pictures/\w+\.png`).FindAllString(string(text), -1)
	for _, name := range pictures {
		st, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if all += int(st.Size()); st.Size() > 150_000 {
			t.Errorf("%s has %d bytes", name, st.Size())
		}
	}
	if len(pictures) < 3 || all > 1_000_000 {
		t.Errorf("%d pictures of %d bytes", len(pictures), all)
	}
}
