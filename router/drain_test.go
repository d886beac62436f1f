package router

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// TestDrain is R4: tunnels that end by themselves, tunnels that do not, connections that idle, and requests in flight.
func TestDrain(t *testing.T) {
	target := echo(t)
	slow := serveTCP(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			time.Sleep(300 * time.Millisecond) // a server that thinks
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
		}
	})
	quick := okOrigin(t)
	g := start(t, nil)
	n := pick(60, 500)
	drain := pick(6*time.Second, 10*time.Second)
	var tunnels []net.Conn
	for range n {
		tunnels = append(tunnels, g.tunnel(t, target))
	}
	idle := g.dial(t)
	fmt.Fprintf(idle, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", quick.URL)
	br := bufio.NewReader(idle)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	} else {
		io.Copy(io.Discard, resp.Body)
	}
	fresh := g.dial(t) // has said nothing yet
	flying := g.dial(t)
	fmt.Fprintf(flying, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", slow)
	waitFor(t, func() bool { return g.Stats().SessionsOpen == n+3 })
	waitFor(t, func() bool {
		open := 0
		g.Each(func(*connmodel.Flow) { open++ })
		return open == n+1
	})

	var wg sync.WaitGroup
	wg.Add(2)
	began := time.Now()
	go func() {
		defer wg.Done()
		for i, c := range tunnels[:n/2] {
			time.Sleep(drain / 2 / time.Duration(n/2))
			if err := shake(c, []byte("still")); err != nil {
				t.Errorf("tunnel %d in the drain: %v", i, err)
			}
			c.Close()
		}
	}()
	go func() {
		defer wg.Done()
		for name, c := range map[string]net.Conn{"idle": idle, "fresh": fresh} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF || time.Since(began) > drain/2 {
				t.Errorf("%s connection: %v after %v", name, err, time.Since(began))
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(flying), nil)
		if err != nil {
			t.Errorf("the request in flight was lost: %v", err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "done" {
			t.Errorf("the request in flight: %q, %v", body, err)
		}
	}()
	cut, took := g.shutdownIn(drain)
	wg.Wait()
	if cut != n-n/2 || took < drain || took > drain+3*time.Second {
		t.Errorf("cut %d in %v, want %d after %v", cut, took, n-n/2, drain)
	}
	if _, err := net.DialTimeout("tcp", g.addr, time.Second); err == nil {
		t.Error("still accepting")
	}
	reasons := map[connmodel.CloseReason]int{}
	g.records.mu.Lock()
	for _, f := range g.records.flows {
		reasons[f.Reason]++
	}
	g.records.mu.Unlock()
	if reasons[connmodel.CloseDrained] != n-n/2 || reasons[connmodel.CloseClient] != n/2 || reasons[connmodel.CloseDone] != 2 {
		t.Errorf("reasons in the records: %v", reasons)
	}
}

// TestDrainLosesNoRequestOnItsWay: a client that sends its request while the drain begins gets its answer or sees a clean close, never
// half of one.
func TestDrainLosesNoRequestOnItsWay(t *testing.T) {
	origin := okOrigin(t)
	for round := range pick(5, 50) {
		g := start(t, nil)
		var wg sync.WaitGroup
		const clients = 20
		ready := make(chan struct{}, clients)
		for range clients {
			wg.Add(1)
			go func() {
				defer wg.Done()
				c, err := net.Dial("tcp", g.addr)
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				br := bufio.NewReader(c)
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL); err != nil {
						return
					}
					resp, err := http.ReadResponse(br, nil)
					if i == 0 {
						ready <- struct{}{}
					}
					if err != nil {
						if i == 0 || errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("round %d: request %d: %v", round, i, err)
						}
						return
					}
					if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "ok" {
						t.Errorf("round %d: %d %q %v", round, resp.StatusCode, body, err)
						return
					}
					if resp.Close {
						return
					}
				}
			}()
		}
		for range clients {
			<-ready
		}
		if cut, _ := g.shutdownIn(5 * time.Second); cut != 0 {
			t.Errorf("round %d: %d requests cut", round, cut)
		}
		wg.Wait()
	}
}

// TestShutdownEndsWhateverIsGoingOn: when the patience is over, nothing may hold Shutdown up, and the records say who ended it.
func TestShutdownEndsWhateverIsGoingOn(t *testing.T) {
	silentProxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SilenceAfterRequest}})
	hung := serveTCP(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	stuck := serveTCP(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		for {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	for _, row := range []struct {
		name, send, route string
		wait              connmodel.CloseReason // in the record; "" = no record
		answer            string                // what the client sees first
		cut               int
	}{
		{"nothing said", "", "direct", "", "", 0},
		{"half a head", "GET http://x/ HT", "direct", connmodel.CloseDrained, "", 1},
		{"half a greeting", "\x05\x09\x00", "direct", connmodel.CloseDrained, "", 1},
		{"a hop that is silent", "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", "upstream.silent", connmodel.CloseDrained, "HTTP/1.1 503 ", 1},
		{"a hop that is silent, by SOCKS", "\x05\x01\x00\x05\x01\x00\x03\x01x\x00\x50", "upstream.silent", connmodel.CloseDrained, "\x05\x00\x05\x01", 1},
		{"a connect without answer", "CONNECT " + upstreamtest.BlackHole(t) + " HTTP/1.1\r\nHost: x\r\n\r\n", "direct", connmodel.CloseDrained, "HTTP/1.1 503 ", 1},
		{"a response that does not come", "GET http://" + hung + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "direct", connmodel.CloseDrained, "HTTP/1.1 503 ", 1},
		{"an upload that does not end", "POST http://" + hung + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", "direct", connmodel.CloseDrained, "HTTP/1.1 503 ", 1},
		{"a client that does not read", "GET http://" + stuck + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "direct", connmodel.CloseDrained, "", 1},
		{"a tunnel", "CONNECT " + hung + " HTTP/1.1\r\nHost: x\r\n\r\n", "direct", connmodel.CloseDrained, "HTTP/1.1 200 ", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := start(t, func(o *Options, c *Config) {
				c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "silent", Scheme: "http", Address: address(t, silentProxy.Addr())}}})
				c.Listeners[0].Decider = always(via(row.route))
			})
			c := g.dial(t)
			io.WriteString(c, row.send)
			waitFor(t, func() bool { return g.Stats().SessionsOpen == 1 })
			if row.send != "" {
				waitFor(t, func() bool { return g.busy() })
			}
			cut, took := g.shutdownIn(100 * time.Millisecond)
			if cut != row.cut || took > 10*time.Second {
				t.Errorf("cut %d after %v, want %d at once", cut, took, row.cut)
			}
			if row.answer != "" {
				got := make([]byte, len(row.answer))
				if n, err := io.ReadFull(c, got); err != nil || string(got) != row.answer {
					t.Errorf("the client saw %q, %v; want %q", got[:n], err, row.answer)
				}
			}
			if row.wait == "" {
				return
			}
			if f := g.records.next(t); f.Reason != row.wait || f.Error != nil && (f.Error.Kind != connmodel.KindCanceled || f.Error.Blame != connmodel.BlameNobody) {
				t.Errorf("record: %s, error %+v", f.Reason, f.Error)
			}
		})
	}
}

// busy reports whether a session has begun to do something that takes time.
func (g *gateway) busy() bool {
	busy := false
	g.sessions.each(func(s *session) {
		s.life.mu.Lock()
		st := s.life.state
		s.life.mu.Unlock()
		busy = busy || st == stateHead || st == stateTunnel || st == stateExchange || st == stateDial && s.flow.Load().Snapshot().Server != nil
	})
	return busy
}

// TestLingeringSessionsAreNotCut: they have their answer, and end within their second.
func TestLingeringSessionsAreNotCut(t *testing.T) {
	g := start(t, func(o *Options, c *Config) {
		c.Listeners[0].Decider = always(&connmodel.Decision{Policy: "p", Rule: "no", Outcome: connmodel.OutcomeDeny})
	})
	var conns []net.Conn
	for range 20 {
		c := g.dial(t) // answers, and does not close
		io.WriteString(c, "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		conns = append(conns, c)
		g.records.next(t)
	}
	if cut, took := g.shutdownIn(10 * time.Millisecond); cut != 0 || took > lingerTime+5*time.Second {
		t.Errorf("%d lingering sessions counted as cut; Shutdown took %v", cut, took)
	}
	for _, c := range conns {
		if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 403")) {
			t.Errorf("answer %q, %v", got, err)
		}
	}
}

// TestClientLeavesDuringDial: the dial is given up soon, and nobody is blamed. A client that has only closed its half, with bytes for the
// server on their way, is served.
func TestClientLeavesDuringDial(t *testing.T) {
	behind := func(t *testing.T, b upstreamtest.Behaviour) *gateway {
		proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{b}})
		return start(t, func(o *Options, c *Config) {
			c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "silent", Scheme: "http", Address: address(t, proxy.Addr())}}})
			c.Listeners[0].Decider = always(via("upstream.silent"))
		})
	}
	for _, row := range []struct {
		name, send string
		leave      func(*net.TCPConn)
	}{
		{"close", "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", func(c *net.TCPConn) { c.Close() }},
		{"reset", "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		{"reset behind early bytes", "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\nhello", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		{"socks", "\x05\x01\x00\x05\x01\x00\x03\x01x\x00\x50", func(c *net.TCPConn) { c.Close() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := behind(t, upstreamtest.SilenceAfterRequest)
			c := g.dial(t)
			io.WriteString(c, row.send)
			waitFor(t, g.busy)
			left := time.Now()
			row.leave(c.(*net.TCPConn))
			f := g.records.next(t)
			if took := time.Since(left); took > 6*time.Second {
				t.Errorf("%s: given up after %v", row.name, took)
			}
			if f.Reason != connmodel.CloseClient || f.First != connmodel.SideClient || f.Error == nil || f.Error.Kind != connmodel.KindCanceled ||
				f.Error.Blame != connmodel.BlameNobody || !strings.Contains(f.Error.Error(), "the client left") {
				t.Errorf("%s: record: %s, first %s, %+v", row.name, f.Reason, f.First, f.Error)
			}
			if n := len(f.Server.Attempts); n != 1 || f.Server.Attempts[0].Error == nil || f.Server.Attempts[0].Error.Blame != connmodel.BlameNobody {
				t.Errorf("%s: attempts %+v", row.name, f.Server.Attempts)
			}
			waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
		})
	}
	t.Run("half-closed", func(t *testing.T) {
		t.Parallel()
		g := behind(t, upstreamtest.Slow(60*time.Millisecond)) // 39 bytes: 2.3 s
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nearly", echo(t))
		c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != string(connectOK)+"early" {
			t.Errorf("a client that closed its half: %q, %v", got, err)
		}
	})
}

// TestClientLeavesDuringAPlainRequest is the same while the server thinks. What the request holds is given back, and the record says so.
func TestClientLeavesDuringAPlainRequest(t *testing.T) {
	for _, row := range []struct {
		name  string
		leave func(*net.TCPConn)
	}{
		{"close", func(c *net.TCPConn) { c.Close() }},
		{"half-close", func(c *net.TCPConn) { c.CloseWrite() }},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, closed := make(chan bool, 1), make(chan bool, 1)
			silent := serveTCP(t, func(c net.Conn) {
				c.Read(make([]byte, 4096))
				got <- true
				io.Copy(io.Discard, c)
				closed <- true
			})
			g := start(t, nil)
			c := g.dial(t)
			fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", silent, silent)
			<-got
			left := time.Now()
			row.leave(c.(*net.TCPConn))
			f := g.records.next(t)
			if took := time.Since(left); took > 6*time.Second {
				t.Errorf("given up after %v", took)
			}
			if f.Reason != connmodel.CloseClient || f.First != connmodel.SideClient || f.Error == nil || f.Error.Kind != connmodel.KindCanceled ||
				f.Error.Blame != connmodel.BlameNobody || !strings.Contains(f.Error.Error(), "the client left") {
				t.Errorf("record: %s, first %s, %+v", f.Reason, f.First, f.Error)
			}
			select {
			case <-closed:
			case <-time.After(30 * time.Second):
				t.Error("the server's connection stays")
			}
			waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
		})
	}
}

// TestDrainIsToldInTheResponse: a response that was on its way when the drain began says that it is the last one.
func TestDrainIsToldInTheResponse(t *testing.T) {
	got, say := make(chan bool, 1), make(chan bool)
	slow := serveTCP(t, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		got <- true
		<-say
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		io.Copy(io.Discard, c)
	})
	g := start(t, nil)
	c := g.dial(t)
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", slow, slow)
	<-got
	over := make(chan int, 1)
	go func() {
		cut, _ := g.shutdownIn(10 * time.Second)
		over <- cut
	}()
	waitFor(t, g.draining.Load)
	close(say)
	all, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(all), "\r\nConnection: close\r\n") || !strings.HasSuffix(string(all), "\r\n\r\nhi") {
		t.Errorf("%q, %v", all, err)
	}
	c.Close()
	if cut := <-over; cut != 0 {
		t.Errorf("%d cut", cut)
	}
}
