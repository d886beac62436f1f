package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// long says that the long forms of the reliability tests run: VIADUCT_LONG=1 go test -count=1 -timeout 2h ./router/. The short ones take seconds.
var long = os.Getenv("VIADUCT_LONG") != ""

// pick returns the short or the long form of a number.
func pick[T any](short, longer T) T {
	if long {
		return longer
	}
	return short
}

// echo is a server that sends back what comes, until the test ends.
func echo(t testing.TB) string {
	t.Helper()
	return serveTCP(t, func(c net.Conn) { io.Copy(c, c) })
}

// serveTCP runs handle for every connection to the address it returns. It ends, with every connection, when the test does.
func serveTCP(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		open = map[net.Conn]bool{}
		wg   sync.WaitGroup
	)
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				handle(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// open makes a CONNECT tunnel through g to target. The connection has no deadline.
func (g *gateway) open(target string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", g.addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	head := make([]byte, len(connectOK))
	if _, err := io.ReadFull(c, head); err != nil {
		c.Close()
		return nil, err
	}
	if string(head) != string(connectOK) {
		c.Close()
		return nil, fmt.Errorf("CONNECT was answered with %q", head)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

func (g *gateway) tunnel(t testing.TB, target string) net.Conn {
	t.Helper()
	c, err := g.open(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// shake sends b through a tunnel to an echo server and wants it back.
func shake(c net.Conn, b []byte) error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write(b); err != nil {
		return err
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(b) {
		return fmt.Errorf("sent %q, got %q", b, got)
	}
	return nil
}

// answer sends raw and reads one HTTP response.
func (g *gateway) answer(t testing.TB, raw string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, raw)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("after %q: %v", raw, err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

// next is a configuration like the one in force, one generation on, that change may change.
func (g *gateway) next(change func(*Config)) *Config {
	c := *g.Config()
	c.Generation++
	c.Listeners = append([]Listener(nil), c.Listeners...)
	change(&c)
	return &c
}

// base is what the process holds: goroutines, descriptors and live heap. It is for comparing before and after.
type base struct {
	goroutines, descriptors int
	heap                    uint64
}

func measure() base {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return base{runtime.NumGoroutine(), descriptors(), m.HeapAlloc}
}

func descriptors() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// backTo waits until goroutines and descriptors are what they were, within a few.
func (b base) backTo(t testing.TB) {
	t.Helper()
	var now base
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now = measure(); now.goroutines <= b.goroutines+5 && now.descriptors <= b.descriptors+5 {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Errorf("goroutines %d -> %d, descriptors %d -> %d\n%s", b.goroutines, now.goroutines, b.descriptors, now.descriptors, buf[:runtime.Stack(buf, true)])
}

// routes makes a table of upstreams that is closed with the test.
func routes(t testing.TB, c upstream.Config) *upstream.Table {
	t.Helper()
	table, err := upstream.NewTable(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// via is loopbackOpen by another route.
func via(route string) *connmodel.Decision {
	d := loopbackOpen()
	d.Route = route
	return d
}

func address(t testing.TB, s string) connmodel.Address {
	t.Helper()
	a, err := connmodel.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shutdownIn ends g within d and returns how many sessions were cut and how long it took.
func (g *gateway) shutdownIn(d time.Duration) (cut int, took time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	began := time.Now()
	return g.Shutdown(ctx), time.Since(began)
}

func shut(r *Router) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.Shutdown(ctx)
}

// fuzzRouter is a router whose policy denies all that does not go to a closed port of this machine.
func fuzzRouter(t testing.TB) (*Router, string) {
	t.Helper()
	d := loopbackOpen()
	d.Timeouts = connmodel.Timeouts{Idle: time.Second, HalfClosed: time.Second, Connect: time.Second, Response: time.Second}
	r := New(Options{})
	err := r.Apply(&Config{Routes: routes(t, upstream.Config{}), Listeners: []Listener{{
		Name: "fuzz", Network: "tcp", Address: "127.0.0.1:0", Protocols: AllProtocols, HandshakeTimeout: 2 * time.Second,
		Decider: connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Port != 9 || !f.TargetIP.IsLoopback() {
				return &connmodel.Decision{Policy: "p", Outcome: connmodel.OutcomeDeny}, 0
			}
			return d, 0
		}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return r, r.Addrs()["fuzz"].String()
}
