// Package dashboard is the operator's page: static files within the binary, which ask the control door's HTTP API from the browser.
//
// The files hold no data of the gateway, so that they may be served to whoever comes; what the page shows it fetches under /v1 with the token
// that somebody has typed in. It is plain HTML, CSS and ES modules: nothing is built, nothing is asked of another host, and the content
// security policy that goes with every answer forbids both that and every script that is not one of these files.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// Policy is the content security policy of the page. No string ever becomes script or markup: the page makes none of the calls that trusted
// types guard, and so no policy for them may be made.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// file is a file as it is served.
type file struct {
	kind   string // Content-Type
	etag   string // of body, without quotes
	body   []byte
	packed func() []byte // by gzip; nil where that is not smaller
}

// types are the Content-Types by suffix. The machine's own table is not asked: what a script is called there differs.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// Handler serves the page at "/" and its files below "/ui/". Nothing else is there.
func Handler() http.Handler {
	files := map[string]*file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		f := newFile(path.Ext(name), b)
		if name = strings.TrimPrefix(name, "static"); name == "/index.html" {
			files["/"] = f
			return nil
		}
		files["/ui"+name] = f
		return nil
	})
	if err != nil {
		panic("dashboard: a file within the binary cannot be read: " + err.Error()) // the linker has put it there
	}
	return &server{files}
}

func newFile(ext string, b []byte) *file {
	kind, ok := types[ext]
	if !ok {
		if kind = mime.TypeByExtension(ext); kind == "" {
			kind = "application/octet-stream"
		}
	}
	sum := sha256.Sum256(b)
	f := &file{kind: kind, etag: base64.RawURLEncoding.EncodeToString(sum[:12]), body: b}
	f.packed = sync.OnceValue(func() []byte { // when somebody asks: most gateways are never looked at
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression) // the level is one
		w.Write(b)
		w.Close()
		if z.Len() >= len(b) {
			return nil
		}
		return z.Bytes()
	})
	return f
}

type server struct{ files map[string]*file }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	f, ok := s.files[r.URL.Path]
	if !ok {
		h.Set("Cache-Control", "no-store")
		http.Error(w, "There is no such file. The dashboard is at /", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		h.Set("Cache-Control", "no-store")
		http.Error(w, "The dashboard's files are asked for with GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "no-cache") // kept, and asked for each time: another binary has other files
	h.Set("Vary", "Accept-Encoding")
	body, tag := f.body, `"`+f.etag+`"`
	if takesGzip(r.Header.Get("Accept-Encoding")) {
		if z := f.packed(); z != nil {
			body, tag = z, `"`+f.etag+`-gzip"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Type")
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	w.Write(body) // whoever has left does not want it
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3) as far as it is about gzip.
func takesGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		name, q, ok := strings.Cut(strings.TrimSpace(params), "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
			return true
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return err == nil && x > 0
	}
	return false
}

// matches compares by the weak comparison of RFC 9110, section 13.1.2.
func matches(field, tag string) bool {
	for part := range strings.SplitSeq(field, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}
