package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func body(t *testing.T, got *Fetched) string {
	t.Helper()
	b, err := io.ReadAll(got.Body)
	got.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFetch: validators, compression, redirects, and what is sent again.
func TestFetch(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // which is not asked
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	var tries atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("there")) }))
	defer elsewhere.Close()
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/x":
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
			if r.Header.Get("If-None-Match") == `"1"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Write([]byte("text"))
		case "/gzip":
			if r.Header.Get("Accept-Encoding") != "gzip" {
				w.Write([]byte("plain"))
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write([]byte("text"))
			z.Close()
		case "/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/later":
			if tries.Add(1) < 2 {
				w.Header().Set("Retry-After", "86400")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Write([]byte("text"))
		case "/long":
			w.Header().Set("ETag", `"`+strings.Repeat("x", 1000)+`"`)
		case "/silent":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer w.Close()
	ctx := context.Background()
	f := NewFetcher(Options{Raw: true})
	got, err := f.Fetch(ctx, w.URL+"/x", Validators{})
	if err != nil || body(t, got) != "text" || got.ETag != `"1"` || got.Modified == "" || got.From != "" || got.Length != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = f.Fetch(ctx, w.URL+"/x", got.Validators); err != nil || !got.Same || got.ETag != `"1"` || got.Body != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = f.Fetch(ctx, w.URL+"/gzip", Validators{}); err != nil || got.Encoding != "gzip" || !bytes.HasPrefix([]byte(body(t, got)), []byte{0x1f, 0x8b}) {
		t.Errorf("raw: %+v, %v", got, err)
	}
	if got, err = NewFetcher(Options{}).Fetch(ctx, w.URL+"/gzip", Validators{}); err != nil || got.Encoding != "" || body(t, got) != "text" {
		t.Errorf("not raw: %+v, %v", got, err)
	}
	if got, err = f.Fetch(ctx, w.URL+"/away", Validators{}); err != nil || got.From != elsewhere.URL || body(t, got) != "there" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = f.Fetch(ctx, w.URL+"/long", Validators{}); err != nil || got.ETag != "" {
		t.Errorf("%+v, %v", got, err)
	} else {
		got.Body.Close()
	}
	for path, want := range map[string]string{"/round": "more than 5 redirects", "/304": "304", "/none": "404 Not Found"} {
		if _, err := f.Fetch(ctx, w.URL+path, Validators{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", path, err, want)
		}
	}
	var se *StatusError
	if _, err := f.Fetch(ctx, w.URL+"/none", Validators{}); !errors.As(err, &se) || se.Code != 404 {
		t.Errorf("%v", err)
	}
	if testing.Short() {
		return
	}
	begun := time.Now()
	got, err = NewFetcher(Options{Retries: 2, Timeout: time.Minute}).Fetch(ctx, w.URL+"/later", Validators{})
	if err != nil || body(t, got) != "text" || tries.Load() != 2 || time.Since(begun) > 30*time.Second {
		t.Errorf("%v after %d tries in %s: what Retry-After says is bounded", err, tries.Load(), time.Since(begun))
	}
	if _, err := NewFetcher(Options{Timeout: 100 * time.Millisecond}).Fetch(ctx, w.URL+"/silent", Validators{}); err == nil {
		t.Error("a silent server is waited for")
	}
}

// TestFetchTLS: certificates are verified, and a redirect does not lead out of TLS.
func TestFetchTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("x")) }))
	defer plain.Close()
	w := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/out" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		w.Write([]byte("text"))
	}))
	w.Config.ErrorLog = nil
	w.StartTLS()
	defer w.Close()
	var unknown x509.UnknownAuthorityError
	if _, err := NewFetcher(Options{}).Fetch(t.Context(), w.URL, Validators{}); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.Certificate())
	var dialled atomic.Int32
	f := NewFetcher(Options{TLS: &tls.Config{RootCAs: roots}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}})
	got, err := f.Fetch(t.Context(), w.URL, Validators{})
	if err != nil || body(t, got) != "text" || dialled.Load() != 1 {
		t.Errorf("%v, dialled %d times", err, dialled.Load())
	}
	if _, err := f.Fetch(t.Context(), w.URL+"/out", Validators{}); err == nil || !strings.Contains(err.Error(), "redirected from https to http") {
		t.Errorf("%v", err)
	}
}

// TestWriteFile: an old file stays until the new one is whole, and nothing is left beside it.
func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "file")
	write := func(text string, fail error) error {
		return WriteFile(path, func(f *os.File) error {
			if _, err := f.WriteString(text); err != nil {
				return err
			}
			return fail
		})
	}
	if err := write("one", nil); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	if err := write("two", full); err != full {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%v is left", all)
	}
}
