package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// TestReloadUnderLoad is R1 and R2: tunnels that move data and requests that never stop, while configurations come and go, half of them
// bad. Nothing is cut, nothing fails, and the new rules hold as soon as Apply has returned.
func TestReloadUnderLoad(t *testing.T) {
	tunnels, workers, span := pick(100, 2000), pick(8, 32), pick(2*time.Second, time.Minute)
	every := pick(50*time.Millisecond, time.Second)
	target := echo(t)
	origin := okOrigin(t)
	taken := echo(t)
	var generation atomic.Uint64 // in force, at least
	decider := func(n uint64) connmodel.Decider {
		d := loopbackOpen()
		d.Generation, d.Rule = n, fmt.Sprint("rule ", n)
		return always(d)
	}
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].Decider = decider(1) })
	g.records.more = make(chan struct{}, 1<<20)
	generation.Store(1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var moved, asked, failed atomic.Int64
	for i := range tunnels {
		c := g.tunnel(t, target)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					c.Close()
					return
				case <-time.After(20 * time.Millisecond):
				}
				if err := shake(c, []byte(fmt.Sprintf("%d/%d", i, n))); err != nil {
					t.Errorf("tunnel %d: %v", i, err)
					return
				}
				moved.Add(1)
			}
		}()
	}
	for i := range workers {
		kept := &http.Client{Transport: g.client(t).Transport, Timeout: 20 * time.Second}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				if i%2 == 0 {
					var resp *http.Response
					if resp, err = kept.Get(origin.URL); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != 200 {
							err = fmt.Errorf("status %d", resp.StatusCode)
						}
					}
				} else {
					var c net.Conn
					if c, err = g.open(target); err == nil {
						err = shake(c, []byte("short"))
						c.Close()
					}
				}
				asked.Add(1)
				if err != nil {
					failed.Add(1)
					t.Errorf("worker %d: %v", i, err)
					return
				}
				time.Sleep(4 * time.Millisecond)
			}
		}()
	}
	reloads, refused := 0, 0
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(every) {
		old := g.Config()
		next := g.next(func(c *Config) {
			table, err := upstream.NewTable(upstream.Config{}, old.Routes)
			if err != nil {
				t.Fatal(err)
			}
			c.Routes = table
			c.Listeners[0].Decider = decider(c.Generation)
			c.Listeners[0].KeepAliveTimeout = time.Duration(c.Generation) * time.Minute
		})
		if reloads%2 == 1 { // half of them cannot be bound
			next.Listeners = append(next.Listeners, Listener{Name: "bad", Network: "tcp", Address: taken, Protocols: HTTP, Decider: decider(0)})
			if err := g.Apply(next); err == nil || !strings.Contains(err.Error(), taken) {
				t.Fatalf("a bad configuration: %v", err)
			}
			if g.Config() != old {
				t.Fatal("a bad configuration was taken")
			}
			next.Routes.Close()
			refused++
			reloads++
			continue
		}
		if err := g.Apply(next); err != nil {
			t.Fatal(err)
		}
		reloads++
		generation.Store(next.Generation)
		c := g.tunnel(t, target) // begins after Apply: the new rules, no others
		c.Close()
		old.Routes.Close()
	}
	close(stop)
	wg.Wait()
	last := g.Config()
	g.shutdownIn(5 * time.Second)
	last.Routes.Close()
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	seen := map[uint64]bool{}
	for _, f := range g.records.flows {
		if f.Error != nil {
			t.Fatalf("a flow failed: %v", f.Error)
		}
		seen[f.Generation] = true
	}
	if len(seen) < (reloads-refused)/2 {
		t.Errorf("%d generations applied, flows under %d of them", reloads-refused, len(seen))
	}
	t.Logf("%d tunnels moved %d messages, %d requests, %d reloads of which %d refused: 0 cut, %d failed", tunnels, moved.Load(), asked.Load(), reloads, refused, failed.Load())
}

// TestListenersComeAndGo is R3.
func TestListenersComeAndGo(t *testing.T) {
	target := echo(t)
	origin := okOrigin(t)
	g := start(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	ln.Close()
	begun := time.Now()
	if err := g.Apply(g.next(func(c *Config) {
		l := c.Listeners[0]
		l.Name, l.Address = "second", free
		c.Listeners = append(c.Listeners, l)
	})); err != nil {
		t.Fatal(err)
	}
	second := *g
	second.addr = free
	tunnel := second.tunnel(t, target)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the first connection to an added listener after %v", took)
	}
	kept := second.dial(t)
	fmt.Fprintf(kept, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
	if got := make([]byte, 12); true {
		if _, err := io.ReadFull(kept, got); err != nil || string(got) != "HTTP/1.1 200" {
			t.Fatalf("%q %v", got, err)
		}
	}
	begun = time.Now()
	if err := g.Apply(g.next(func(c *Config) { c.Listeners = c.Listeners[:1] })); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", free); err == nil {
		c.Close()
		t.Error("a removed listener takes connections")
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("removed after %v", took)
	}
	if err := shake(tunnel, []byte("lives on")); err != nil {
		t.Errorf("the tunnel of a removed listener: %v", err)
	}
	if rest, err := io.ReadAll(kept); err != nil || !strings.HasSuffix(string(rest), "ok") { // idle: closed, so that the client goes elsewhere
		t.Errorf("an idle connection of a removed listener: %q, %v", rest, err)
	}
}

// TestKeptConnectionsFollowTheNewRules: the next request on a connection from before is decided by the configuration of its moment.
func TestKeptConnectionsFollowTheNewRules(t *testing.T) {
	origin := okOrigin(t)
	g := start(t, nil)
	c := g.client(t)
	get := func() int {
		resp, err := c.Get(origin.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	if s := get(); s != 200 {
		t.Fatal(s)
	}
	deny := func(status int) *Config {
		return g.next(func(c *Config) {
			c.Listeners[0].Decider = always(&connmodel.Decision{Policy: "p", Rule: "no", Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: status}})
		})
	}
	for _, status := range []int{451, 403} {
		if err := g.Apply(deny(status)); err != nil {
			t.Fatal(err)
		}
		if s := get(); s != status {
			t.Errorf("got %d, want %d", s, status)
		}
	}
	if n := g.Stats().Sessions; n != 1 {
		t.Errorf("%d connections, want 1 that is kept", n)
	}
}

// TestNetworkChange: connections to servers that wait for a next request lead nowhere when the machine has moved; the client's own goes on.
func TestNetworkChange(t *testing.T) {
	var conns atomic.Int64
	origin := serveTCP(t, func(c net.Conn) {
		conns.Add(1)
		for br := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, nil)
	c := g.client(t)
	for i, want := range []int64{1, 1, 2, 2} {
		if i == 2 {
			g.NetworkChanged()
		}
		resp, err := c.Get("http://" + origin + "/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		waitFor(t, func() bool { return g.Router.kept.Len() == 1 })
		if n := conns.Load(); n != want {
			t.Errorf("request %d: %d connections, want %d", i, n, want)
		}
	}
	if n := g.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
}
