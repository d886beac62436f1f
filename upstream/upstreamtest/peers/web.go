package peers

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Web is an HTTP origin in this process, for content that real clients (git,
// apt) fetch. It records the requests.
type Web struct {
	srv  *http.Server
	addr string
	tls  bool
	done chan struct{}

	mu   sync.Mutex
	seen []string
}

// serveWeb starts h on loopback, by TLS if config is not nil.
func serveWeb(h http.Handler, config *tls.Config) (*Web, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	w := &Web{addr: ln.Addr().String(), tls: config != nil, done: make(chan struct{})}
	w.srv = &http.Server{
		Handler:           w.record(h),
		TLSConfig:         config,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(w.done)
		if w.tls {
			w.srv.ServeTLS(ln, "", "")
		} else {
			w.srv.Serve(ln)
		}
	}()
	return w, nil
}

func (w *Web) record(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		if len(w.seen) < 10000 {
			w.seen = append(w.seen, r.Method+" "+r.URL.RequestURI())
		}
		w.mu.Unlock()
		h.ServeHTTP(rw, r)
	})
}

// Addr is its "host:port".
func (w *Web) Addr() string { return w.addr }

// URL is the address of path, which begins with a slash.
func (w *Web) URL(path string) string {
	if w.tls {
		return "https://" + w.addr + path
	}
	return "http://" + w.addr + path
}

// Requests are "METHOD uri" of the requests so far.
func (w *Web) Requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// Close ends it with all connections.
func (w *Web) Close() error {
	err := w.srv.Close()
	<-w.done
	return err
}
