package source

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestFetchTries: what may pass is tried again, and as often as is said; what will not is not.
func TestFetchTries(t *testing.T) {
	if testing.Short() {
		t.Skip("waits between tries")
	}
	var n atomic.Int32
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch first := n.Add(1) == 1; {
		case r.URL.Path == "/reset" && first:
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		case r.URL.Path == "/busy" && first:
			w.WriteHeader(http.StatusTooManyRequests)
		case r.URL.Path == "/no":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/down":
			w.WriteHeader(http.StatusBadGateway)
		default:
			io.WriteString(w, "text")
		}
	}))
	defer w.Close()
	f := NewFetcher(Options{Retries: 1})
	for _, x := range []struct {
		path string
		want int32
		err  string
	}{{"/reset", 2, ""}, {"/busy", 2, ""}, {"/no", 1, "the server answered 403 Forbidden"}, {"/down", 2, "the server answered 502 Bad Gateway"}} {
		n.Store(0)
		got, err := f.Fetch(t.Context(), w.URL+x.path, Validators{})
		if n.Load() != x.want {
			t.Errorf("%s: %d requests, expected %d", x.path, n.Load(), x.want)
		}
		if x.err != "" {
			if err == nil || err.Error() != x.err {
				t.Errorf("%s: %v, expected %q", x.path, err, x.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", x.path, err)
			continue
		}
		b, err := io.ReadAll(got.Body)
		got.Body.Close()
		if err != nil || string(b) != "text" {
			t.Errorf("%s: %q, %v", x.path, b, err)
		}
	}
}

// TestFetchBounds: a head without an end is not read to its end, and a fetch that is given up leaves nothing behind.
func TestFetchBounds(t *testing.T) {
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			for range 100 {
				w.Header().Add("X-Long", strings.Repeat("x", 1000))
			}
		case "/slow":
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	defer w.Close()
	f := NewFetcher(Options{Timeout: time.Minute})
	if _, err := f.Fetch(t.Context(), w.URL+"/head", Validators{}); err == nil || strings.Contains(err.Error(), w.URL) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, err := f.Fetch(ctx, w.URL+"/slow", Validators{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(got.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	got.Body.Close()
	if _, err := f.Fetch(ctx, w.URL+"/slow", Validators{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestCheckURL: what is no place for a list is said before anything is asked.
func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://x.example/a?b=c": "", "http://[2001:db8::1]:8080/": "",
		"": "write http://HOST/PATH", "x.example/list": "write http://HOST/PATH", "https:///list": "write http://HOST/PATH", "http://%zz/": "write http://HOST/PATH",
		"ftp://x.example/list": "a list is got by http or https", "https://user:secret@x.example/": "would be shown in logs",
	} {
		err := CheckURL(text, "a list")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, expected %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password in an error: %v", err)
		}
	}
}

// TestLoopWaiters: who has stopped waiting holds up nobody, and each who waits is told of a look that began after it asked.
func TestLoopWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLoop(time.Hour)
		var looks atomic.Int32
		var run sync.WaitGroup
		run.Go(func() {
			l.Run(ctx, func(context.Context, any) error {
				time.Sleep(10 * time.Second)
				looks.Add(1)
				return nil
			})
		})
		soon, stop := context.WithTimeout(ctx, time.Second)
		if err := l.Now(soon, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		stop()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				before := looks.Load()
				if err := l.Now(ctx, nil); err != nil || looks.Load() <= before {
					t.Errorf("%v after %d looks, asked after %d", err, looks.Load(), before)
				}
			})
		}
		wg.Wait()
		if n := looks.Load(); n < 2 || n > 8 {
			t.Errorf("%d looks", n)
		}
		cancel()
		run.Wait()
	})
}
