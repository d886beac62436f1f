package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/router/admin"
	"viaduct/upstream/upstreamtest"
)

// The soak: how many flows, and how much of the process's memory may have come with them. VIADUCT_LONG=1 asks for the long form:
//
//	VIADUCT_LONG=1 go test -count=1 -timeout 2h -run TestSoak -v ./cmd/viaduct
const (
	soakFlows, soakLongFlows = 3000, 200_000
	soakClients              = 16
	soakWarm                 = 200 // flows before everything
	soakSamples              = 40
	// soakGrowth is how much larger the memory may be at the end than in the second quarter, beside a tenth of it.
	soakGrowth = 12 << 20
)

const soakPolicy = `
variable "listen"  { type = string }
variable "records" { type = string }
variable "proxy"   { type = string }
variable "gone"    { type = string }
gateway {
  log { level = "error" }
  records { path = var.records }
}
listener "desk" { address = var.listen }
upstream "works" { url = "http://${var.proxy}" }
upstream "gone"  { url = "http://${var.gone}" }
pool "mixed" {
  members = [upstream.gone, upstream.works]
}
policy "default" {
  rule "denied" {
    match { host = "*.denied.example" }
    deny { reason = "not this" }
  }
  rule "broken" {
    match { host = "*.broken.example" }
    via = upstream.gone
  }
  rule "second try" {
    match { host = "*.mixed.example" }
    via = pool.mixed
  }
  rule "works" {
    match { host = "*.works.example" }
    via = upstream.works
  }
  rule "here" {
    match { address = ["127.0.0.0/8"] }
    via = direct
  }
}
`

// soak is a gateway under load, and what is seen of it meanwhile.
type soak struct {
	*gateway
	n      int
	origin string
	http   string

	told   atomic.Int64 // ended flows that the stream of events told of
	missed atomic.Int64 // that it says it did not
	asked  atomic.Int64 // answers of the control door
	slow   atomic.Int64 // the longest of them, in nanoseconds
}

// TestSoak carries many flows of every kind through a gateway with everything on, and looks at what is left of them: each in the journal
// once, nothing in the process.
func TestSoak(t *testing.T) {
	long := os.Getenv("VIADUCT_LONG") != ""
	s := &soak{n: soakFlows}
	switch {
	case long:
		s.n = soakLongFlows
	case testing.Short():
		s.n = soakFlows / 3
	}
	echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	s.origin = echo.Addr()
	proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, s.origin)
	}})
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") })}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go web.Serve(ln)
	t.Cleanup(func() { web.Close() })
	s.http = ln.Addr().String()
	s.gateway = startGateway(t, soakPolicy, "proxy", proxy.Addr(), "gone", upstreamtest.Refused(t))

	// A first few, so that what is made once does not count.
	s.load(t, -soakWarm, 0, nil)
	ctx, stop := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	watchers.Go(func() { s.listen(ctx) })
	watchers.Go(func() { s.look(ctx) })
	s.settle(func(before *vitals) bool { return before.open == 0 })
	before := s.vitals()

	var mu sync.Mutex
	var samples []*vitals
	begun := time.Now()
	s.load(t, 0, s.n, func(done int) {
		if done%max(1, s.n/soakSamples) == 0 {
			v := s.vitals()
			mu.Lock()
			samples = append(samples, v)
			mu.Unlock()
		}
	})
	took := time.Since(begun)

	after := s.settle(func(v *vitals) bool {
		return v.open == 0 && v.goroutines <= before.goroutines+8 && v.descriptors <= before.descriptors+8
	})
	if after.goroutines > before.goroutines+8 || after.descriptors > before.descriptors+8 || after.open != 0 {
		t.Errorf("left behind: %d goroutines (%d before), %d descriptors (%d before), %d sessions", after.goroutines, before.goroutines, after.descriptors, before.descriptors, after.open)
	}
	s.inJournal(t)
	s.await("the events", func() bool { return s.told.Load()+s.missed.Load() >= int64(s.n) })
	stop()
	watchers.Wait()

	q := len(samples) / 4
	for _, m := range []struct {
		name string
		of   func(*vitals) int64
	}{{"resident memory", func(v *vitals) int64 { return v.rss }}, {"heap", func(v *vitals) int64 { return v.heap }}} {
		early, late := medianVital(samples[q:2*q], m.of), medianVital(samples[len(samples)-q:], m.of)
		t.Logf("%s: %.1f MB before, %.1f in the second quarter, %.1f in the last, %.1f after", m.name, mb(m.of(before)), mb(early), mb(late), mb(m.of(after)))
		if long && late > early+early/10+soakGrowth {
			t.Errorf("%s grows: %.1f MB in the second quarter, %.1f in the last", m.name, mb(early), mb(late))
		}
	}
	t.Logf("%d flows in %.1f s, %.0f a second; %d told as events, %d missed; the door answered %d times, the longest in %v; goroutines %d before, %d after; descriptors %d, %d",
		s.n, took.Seconds(), float64(s.n)/took.Seconds(), s.told.Load(), s.missed.Load(), s.asked.Load(), time.Duration(s.slow.Load()).Round(time.Millisecond),
		before.goroutines, after.goroutines, before.descriptors, after.descriptors)
	if s.asked.Load() == 0 {
		t.Error("the control door was never asked")
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// load carries the flows from to to, and tells how many are done.
func (s *soak) load(t *testing.T, from, to int, done func(int)) {
	t.Helper()
	var next, finished atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	for range soakClients {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= to || t.Failed() {
					return
				}
				if err := s.one(i); err != nil {
					t.Errorf("flow %d: %v", i, err)
					return
				}
				if n := finished.Add(1); done != nil {
					done(int(n))
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// soakKinds are the kinds of flows, one after the other. Each has the number of the flow where the record shows it.
var soakKinds = []func(s *soak, i string) error{
	func(s *soak, i string) error { return s.connect("f"+i+".works.example:7", 200) },
	func(s *soak, i string) error { return s.plain("/f" + i) },
	func(s *soak, i string) error { return s.socks("f" + i + ".works.example") },
	func(s *soak, i string) error { return s.connect("f"+i+".denied.example:7", 403) },
	func(s *soak, i string) error { return s.connect("f"+i+".works.example:7", 200) },
	func(s *soak, i string) error { return s.connect("f"+i+".broken.example:7", 502) },
	func(s *soak, i string) error { return s.connect("f"+i+".mixed.example:7", 200) },
	func(s *soak, i string) error { return s.plain("/f" + i) },
}

func (s *soak) one(i int) error {
	if i < 0 {
		return soakKinds[(-i)%len(soakKinds)](s, "warm")
	}
	return soakKinds[i%len(soakKinds)](s, strconv.Itoa(i))
}

func (s *soak) dial() (net.Conn, error) {
	c, err := net.Dial("tcp", s.addr)
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// connect asks for a tunnel, and where there is one sends something through it.
func (s *soak) connect(target string, want int) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: soak\r\n\r\n", target, target)
	var buf [4096]byte
	n, err := c.Read(buf[:])
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(buf[:n], fmt.Appendf(nil, "HTTP/1.1 %d", want)) {
		return fmt.Errorf("CONNECT %s: %.80q", target, buf[:n])
	}
	if want != 200 {
		_, err := io.Copy(io.Discard, c)
		return err
	}
	return pingPong(c)
}

func pingPong(c net.Conn) error {
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	var buf [4]byte
	if _, err := io.ReadFull(c, buf[:]); err != nil || string(buf[:]) != "ping" {
		return fmt.Errorf("echo %q: %w", buf, err)
	}
	return nil
}

func (s *soak) plain(path string) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "GET http://%s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", s.http, path, s.http)
	b, err := io.ReadAll(c)
	if err == nil && (!bytes.HasPrefix(b, []byte("HTTP/1.1 200")) || !bytes.HasSuffix(b, []byte("ok\n"))) {
		err = fmt.Errorf("GET %s: %.80q", path, b)
	}
	return err
}

func (s *soak) socks(host string) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var buf [10]byte
	io.WriteString(c, "\x05\x01\x00")
	if _, err := io.ReadFull(c, buf[:2]); err != nil {
		return err
	}
	c.Write(append(append([]byte{5, 1, 0, 3, byte(len(host))}, host...), 0, 7))
	if _, err := io.ReadFull(c, buf[:]); err != nil || buf[1] != 0 {
		return fmt.Errorf("SOCKS5 %s: %d: %w", host, buf[1], err)
	}
	return pingPong(c)
}

// inJournal waits until everything is in the journal, and fails where a flow is missing, or there twice.
func (s *soak) inJournal(t *testing.T) {
	t.Helper()
	var st admin.Status
	s.await("the journal", func() bool {
		s.door("/v1/status", &st)
		return st.Journal != nil && st.Journal.Queued == 0 && st.Journal.Written+st.Journal.Dropped >= uint64(s.n+soakWarm)
	})
	j := st.Journal
	t.Logf("journal: %d records written in %d bytes, %d dropped, %d failures", j.Written, j.Bytes, j.Dropped, j.Failures)
	if j.Dropped+j.Failures > 0 {
		t.Errorf("journal: %d records dropped, %d failures: %s", j.Dropped, j.Failures, j.Error)
	}
	r, err := journal.OpenReader(filepath.Join(s.dir, "viaduct", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`^/?f([0-9]+)(\.|$)`)
	seen, ids := make([]int, s.n), map[connmodel.ID]bool{}
	begun := time.Now()
	err = r.Each(t.Context(), journal.Query{}, func(f *connmodel.Flow) error {
		if ids[f.ID] {
			t.Errorf("%s is in the journal twice", f.ID)
		}
		ids[f.ID] = true
		name := f.Target.Host
		if f.Request != nil && f.Request.Path != "" {
			name = f.Request.Path
		}
		if m := number.FindStringSubmatch(name); m != nil {
			if i, err := strconv.Atoi(m[1]); err == nil && i < s.n {
				seen[i]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("journal: %d records read in %v", len(ids), time.Since(begun).Round(time.Millisecond))
	missing, often := 0, 0
	for _, n := range seen {
		switch {
		case n == 0:
			missing++
		case n > 1:
			often++
		}
	}
	if missing+often > 0 {
		t.Errorf("of %d flows %d are missing in the journal, and %d are there more than once", s.n, missing, often)
	}
	if n := len(s.flows()); n < s.n {
		t.Errorf("%d records in the file, %d flows", n, s.n)
	}
	for _, x := range st.Records {
		if x.Dropped+x.Failures > 0 {
			t.Errorf("records: %+v", x)
		}
	}
}

// client asks the control door.
func (s *soak) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.dir, "viaduct", socketName))
	}}}
}

// listen is a dashboard's stream of events.
func (s *soak) listen(ctx context.Context) {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/events?types=connection_closed", nil)
	res, err := s.client().Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	readEvents(res.Body, func(kind string, data []byte) bool {
		switch kind {
		case admin.EventClosed:
			s.told.Add(1)
		case admin.EventLagged:
			var v struct{ Missed int64 }
			if json.Unmarshal(data, &v) == nil {
				s.missed.Add(v.Missed)
			}
		}
		return true
	})
}

// look is a dashboard's questions.
func (s *soak) look(ctx context.Context) {
	c := s.client()
	defer c.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		for _, path := range []string{"/v1/status", "/v1/connections?state=all&limit=100", "/v1/history?range=5m", "/v1/rules", "/metrics"} {
			begun := time.Now()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
			res, err := c.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err == nil && res.StatusCode != 200 && res.StatusCode != 404 {
					err = fmt.Errorf("%s", res.Status)
				}
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				s.t.Errorf("%s: %v", path, err)
				return
			}
			s.asked.Add(1)
			if d := int64(time.Since(begun)); d > s.slow.Load() {
				s.slow.Store(d)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// vitals is how the process is at a moment.
type vitals struct {
	rss, heap               int64 // bytes; heap is what lives, as the last collection found it
	goroutines, descriptors int
	open                    int // sessions
}

func medianVital(list []*vitals, of func(*vitals) int64) int64 {
	var all []int64
	for _, v := range list {
		all = append(all, of(v))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}

func (s *soak) vitals() *vitals {
	v := new(vitals)
	pid := strconv.Itoa(s.cmd.Process.Pid)
	b, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			v.rss = n << 10
		}
	}
	fds, _ := os.ReadDir("/proc/" + pid + "/fd")
	v.descriptors = len(fds)
	c := s.client()
	defer c.CloseIdleConnections()
	res, err := c.Get("http://localhost/metrics")
	if err != nil {
		s.t.Error(err)
		return v
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	gauge := func(name string) float64 {
		m := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindSubmatch(text)
		if m == nil {
			return 0
		}
		x, _ := strconv.ParseFloat(string(m[1]), 64)
		return x
	}
	v.goroutines, v.heap, v.open = int(gauge("go_goroutines")), int64(gauge("go_memstats_next_gc_bytes"))/2, int(gauge("viaduct_sessions_open"))
	return v
}

// settle waits until ok, for a while, and returns how the process is then.
func (s *soak) settle(ok func(*vitals) bool) *vitals {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if v := s.vitals(); ok(v) || time.Now().After(end) {
			return v
		}
	}
}
