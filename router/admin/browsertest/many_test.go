package browsertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
)

// many opens n flows at once: streams of HTTP/2, as far as they go on one connection, so that clients take few descriptors.
func (r *rig) many(n int, target string, trust *x509.CertPool, listener string) {
	r.t.Helper()
	const together = 100 // on one connection
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, ServerName: "gateway.example"}, ForceAttemptHTTP2: true}
	var on []*http.ClientConn
	var ends []*io.PipeWriter
	r.t.Cleanup(func() {
		cancel()
		for _, e := range ends {
			e.Close()
		}
		for _, c := range on {
			c.Close()
		}
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	places := make(chan struct{}, 16)
	for i := range n {
		if i%together == 0 {
			c, err := tr.NewClientConn(ctx, "https", listener)
			if err != nil {
				r.t.Fatal(err)
			}
			on = append(on, c)
		}
		c := on[len(on)-1]
		body, end := io.Pipe()
		ends = append(ends, end)
		wg.Add(1)
		places <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-places }()
			req := &http.Request{Method: "CONNECT", URL: &url.URL{Scheme: "https", Host: listener}, Host: target, Header: http.Header{}, Body: body, ContentLength: -1}
			res, err := c.RoundTrip(req.WithContext(ctx))
			if err == nil && res.StatusCode != 200 {
				err = fmt.Errorf("%s", res.Status)
			}
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if failed != nil {
		r.t.Fatalf("of %d flows: %v", n, failed)
	}
}

// TestTenThousand: the page stays quick with ten thousand open connections, and while hundreds come and go each second.
func TestTenThousand(t *testing.T) {
	// Each takes two descriptors of the gateway, which takes no more than it has them for.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := int(min(10_000, limit.Max*45/10_000*100))
	if testing.Short() {
		n = 2000
	}
	ca := upstreamtest.MustCA(t)
	secure := freePort(t)
	end := upstreamtest.NewOrigin(t, upstreamtest.Discard, upstreamtest.Options{})
	r := newRig(t, func(p string) string {
		dir := t.TempDir()
		cert, key, err := upstreamtest.WriteFiles(dir, "gateway", ca.MustIssue(t, upstreamtest.CertOptions{}, "gateway.example"))
		if err != nil {
			t.Fatal(err)
		}
		p = strings.Replace(p, `  log {`, `  limits {
    connections            = 20000
    connections_per_client = 20000
  }
  log {`, 1)
		p = strings.Replace(p, `listener "desk" {`, fmt.Sprintf(`listener "secure" {
  address = %q
  tls {
    certificate = %q
    key         = %q
  }
}

listener "desk" {`, secure, filepath.ToSlash(cert), key), 1)
		return strings.Replace(p, `  rule "partner api" {`, fmt.Sprintf(`  rule "far end" {
    match { host = "far-end.example" }
    via    = direct
    server = %q
  }
  rule "partner api" {`, end.Addr()), 1)
	})
	begun := time.Now()
	r.many(n, "far-end.example:443", ca.Pool(), secure)
	t.Logf("%d flows open after %v", r.open(), time.Since(begun).Round(time.Millisecond))
	b := newTab(t, r)
	b.open(r, "/")
	b.run(`window.longest = 0, new PerformanceObserver((l) => l.getEntries().forEach((e) => { window.longest = Math.max(window.longest, e.duration); })).observe({ type: "longtask", buffered: true })`)
	begun = time.Now()
	b.to("/connections?state=open")
	b.await("the first rows", `document.querySelectorAll(".connections tbody tr").length === 100`)
	t.Logf("the first page after %v", time.Since(begun).Round(time.Millisecond))
	thousands := func(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
	b.await("how many there are", `document.querySelector(".summary").innerText.includes("`+thousands(n)+` open in all")`)
	for rows := 1000; rows < n; rows += 1000 {
		b.await("more can be asked for", `[...document.querySelectorAll("button")].some((x) => x.innerText.startsWith("Load older") && !x.disabled && !x.hidden)`)
		b.run(`[...document.querySelectorAll("button")].find((x) => x.innerText.startsWith("Load older")).click()`)
		b.await("more rows", `document.querySelector(".summary").innerText.startsWith("`+thousands(min(rows+1000, n))+`")`)
	}
	if rows := ask[int](b, `document.querySelectorAll("tr").length`); rows > 120 {
		t.Errorf("%d rows are in the document", rows)
	}
	if took := ask[float64](b, `(() => { const t = performance.now(); [...document.querySelectorAll(".connections thead button")].find((x) => x.innerText.startsWith("Target")).click(); document.body.offsetHeight; return performance.now() - t })()`); took > 1000 {
		t.Errorf("sorting took %.0f ms", took)
	} else {
		t.Logf("sorting took %.0f ms", took)
	}
	b.to("/connections?state=all")
	b.await("rows", `document.querySelectorAll(".connections tbody tr").length === 100`)
	b.run(`window.longest = 0`)
	begun = time.Now()
	for range 300 {
		r.fails("chess.games.example:443")
	}
	t.Logf("300 flows in %v", time.Since(begun).Round(time.Millisecond))
	b.await("those that came", `document.body.innerText.includes("chess.games.example")`)
	x := ask[struct{ Longest, Heap float64 }](b, `({ Longest: window.longest, Heap: performance.memory.usedJSHeapSize / 1e6 })`)
	t.Logf("longest task %.0f ms, heap %.0f MB", x.Longest, x.Heap)
	if x.Longest > 1500 {
		t.Errorf("the page stood still for %.0f ms", x.Longest)
	}
	if x.Heap > 250 {
		t.Errorf("the page takes %.0f MB", x.Heap)
	}
}
