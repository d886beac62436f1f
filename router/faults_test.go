package router

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// TestSoak is R15 in small: flows that go well, are refused, reset, half-closed or malformed, from many clients. Afterwards goroutines
// and descriptors are what they were, and the heap has not grown between the middle and the end.
func TestSoak(t *testing.T) {
	span, clients := pick(2*time.Second, 30*time.Minute), pick(24, 64)
	target := echo(t)
	origin := okOrigin(t)
	resetting := serveTCP(t, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) })
	g := start(t, func(o *Options, c *Config) {
		o.Records = nil
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Host == "denied.example" {
				return &connmodel.Decision{Policy: "p", Rule: "no", Outcome: connmodel.OutcomeDeny}, 0
			}
			return loopbackOpen(), 0
		})
	})
	kinds := []func(c net.Conn){
		func(c net.Conn) {
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nhello", target)
			io.ReadFull(c, make([]byte, len(connectOK)+5))
		},
		func(c net.Conn) {
			fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
			http.ReadResponse(bufio.NewReader(c), nil)
		},
		func(c net.Conn) { // half-closed
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nbye", target)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		},
		func(c net.Conn) {
			fmt.Fprintf(c, "CONNECT denied.example:1 HTTP/1.1\r\nHost: x\r\n\r\n")
			c.Read(make([]byte, 100))
		},
		func(c net.Conn) { // reset in the open tunnel
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
		},
		func(c net.Conn) {
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nbytes", resetting)
			io.Copy(io.Discard, c)
		},
		func(c net.Conn) {
			io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01")
			io.Copy(io.Discard, c)
		}, // refused port
		func(c net.Conn) { io.WriteString(c, "\x04\x01"); c.(*net.TCPConn).SetLinger(0) },
		func(c net.Conn) { io.WriteString(c, "GET / \r\n\r\n"); c.Read(make([]byte, 100)) },
		func(c net.Conn) {}, // says nothing
	}
	before := measure()
	var n atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(span)
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := i; time.Now().Before(end); k++ {
				c, err := net.DialTimeout("tcp", g.addr, 5*time.Second)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				kinds[k%len(kinds)](c)
				c.Close()
				n.Add(1)
			}
		}()
	}
	time.Sleep(span / 2)
	middle := measure()
	wg.Wait()
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
	g.Router.kept.Clear()
	after := measure()
	if after.heap > middle.heap+middle.heap/5+4<<20 {
		t.Errorf("heap %d KiB in the middle, %d KiB at the end", middle.heap>>10, after.heap>>10)
	}
	before.backTo(t)
	t.Logf("%d sessions: goroutines %d -> %d, descriptors %d -> %d, heap %d KiB -> %d KiB", n.Load(), before.goroutines, after.goroutines,
		before.descriptors, after.descriptors, middle.heap>>10, after.heap>>10)
}

// TestSlowloris is R16: slow clients are cut at the deadline, and honest ones do not notice them. There are more of them than the
// handshakes that are allowed at once.
func TestSlowloris(t *testing.T) {
	slow, timeout := pick(200, 2000), pick(time.Second, 10*time.Second)
	target := echo(t)
	g := start(t, func(o *Options, c *Config) { c.Listeners[0].HandshakeTimeout = timeout })
	g.records.more = make(chan struct{}, 1<<20)
	rtt := func() time.Duration {
		began := time.Now()
		if err := shake(g.tunnel(t, target), []byte("honest")); err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
	var quiet, busy time.Duration
	for range 50 {
		quiet += rtt()
	}
	var wg sync.WaitGroup
	var early, late atomic.Int64
	heads := []string{"GET http://x/ HTTP/1.1\r\nHost: ", "\x05\xff" + strings.Repeat("\x01", 200), "\x04\x01\x00\x50\x00\x00\x00\x01user", ""}
	for i := range slow {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			began := time.Now()
			go func() {
				for _, b := range []byte(heads[i%len(heads)]) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(timeout / 8)
				}
			}()
			c.SetReadDeadline(began.Add(timeout + 10*time.Second))
			_, err = io.Copy(io.Discard, c)
			switch took := time.Since(began); {
			case errors.Is(err, os.ErrDeadlineExceeded), took > timeout+lingerTime+5*time.Second:
				late.Add(1)
			case took < timeout-timeout/4:
				early.Add(1)
			}
		}()
	}
	for range 50 {
		busy += rtt()
	}
	wg.Wait()
	if late.Load() > 0 || early.Load() > 0 {
		t.Errorf("of %d slow clients %d were cut too late, %d too early", slow, late.Load(), early.Load())
	}
	if busy > 4*quiet+5*time.Second { // the machine may be busy with other things
		t.Errorf("50 honest clients took %v beside slow ones, %v without", busy, quiet)
	}
	t.Logf("50 honest tunnels: %v without, %v beside %d slow clients", quiet, busy, slow)
}

// TestCrowdOfHandshakes: when more clients than may be are at their handshake, the oldest of them goes, not the new ones.
func TestCrowdOfHandshakes(t *testing.T) {
	target := echo(t)
	g := start(t, nil)
	g.handshakes.setMax(0) // the least: 32
	var crowd []net.Conn
	for i := range leastHandshakes {
		c := g.dial(t)
		io.WriteString(c, "GET http")
		crowd = append(crowd, c)
		waitFor(t, func() bool { return g.Stats().SessionsOpen == i+1 })
	}
	if err := shake(g.tunnel(t, target), []byte("honest")); err != nil {
		t.Fatal(err)
	}
	if _, err := crowd[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest was not cut: %v", err)
	}
	if f := g.records.next(t); f.Reason != connmodel.CloseLimit || f.Error == nil || f.Error.Kind != connmodel.KindLimit {
		t.Errorf("record: %s, %v", f.Reason, f.Error)
	}
	crowd[1].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := crowd[1].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second oldest was cut too: %v", err)
	}
}

// TestHalfCloseBothWays is R19.
func TestHalfCloseBothWays(t *testing.T) {
	g := start(t, nil)
	payload := make([]byte, 1<<20)
	rand.Read(payload)
	upward := upstreamtest.NewOrigin(t, upstreamtest.HalfClose, upstreamtest.Options{}) // answers with what it got once the client has ended
	c := g.tunnel(t, upward.Addr())
	go func() {
		c.Write(payload)
		c.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "1048576 ") {
		t.Errorf("after the client ended first: %q, %v", got, err)
	}
	if f := g.records.next(t); f.First != connmodel.SideClient || f.Reason != connmodel.CloseClient || f.Up != 1<<20 {
		t.Errorf("record: %s, first %s, up %d", f.Reason, f.First, f.Up)
	}
	result := make(chan int64, 1)
	downward := upstreamtest.NewOrigin(t, upstreamtest.FirstToEnd("hello", func(n int64, err error) { result <- n }), upstreamtest.Options{})
	c = g.tunnel(t, downward.Addr())
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	c.Write(payload) // after the server's FIN
	c.(*net.TCPConn).CloseWrite()
	if n := <-result; n != 1<<20 {
		t.Errorf("%d bytes arrived after the server had ended first", n)
	}
	if f := g.records.next(t); f.First != connmodel.SideServer || f.Reason != connmodel.CloseServer || f.Up != 1<<20 {
		t.Errorf("record: %s, first %s, up %d", f.Reason, f.First, f.Up)
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
}

// TestBackPressure is R20: servers that send without end to clients that do not read hold little memory, and others go at full speed.
func TestBackPressure(t *testing.T) {
	n := pick(100, 200)
	flood := serveTCP(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	target := echo(t)
	g := start(t, nil)
	before := measure()
	for range n {
		g.tunnel(t, flood)
	}
	var down int64
	settled := func() bool { // until no more bytes move
		var now int64
		g.Each(func(f *connmodel.Flow) { now += f.Down })
		same := now == down && now > 0
		down = now
		if !same {
			time.Sleep(50 * time.Millisecond)
		}
		return same
	}
	waitFor(t, settled)
	after := measure()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if each := (int64(after.heap) - int64(before.heap)) / int64(n); each > 256<<10 {
		t.Errorf("a stuck tunnel holds %d KiB of heap", each>>10)
	} else {
		t.Logf("a stuck tunnel holds %d KiB of heap; %d MiB had gone into the sockets", each>>10, down>>20)
	}
	began := time.Now()
	if err := shake(g.tunnel(t, target), make([]byte, 16<<10)); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("another tunnel: %v after %v", err, time.Since(began))
	}
}

// TestSlowAndHungUpstreams are R8, R9 and R10 in small: proxies that swallow, drip and hang end by their deadlines, and cost others nothing.
func TestSlowAndHungUpstreams(t *testing.T) {
	hole := upstreamtest.BlackHole(t)
	target := echo(t)
	drip := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Slow(200 * time.Millisecond)}, Hosts: map[string]string{"upstream-drip.example:443": target}})
	hang := upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Silence}})
	good := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	short := upstream.HopTimeouts{Dial: 500 * time.Millisecond, TLS: 500 * time.Millisecond, Handshake: 700 * time.Millisecond}
	g := start(t, func(o *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{
			Upstreams: []upstream.Spec{
				{Name: "hole", Scheme: "http", Address: address(t, hole), Timeouts: short}, {Name: "drip", Scheme: "http", Address: address(t, drip.Addr()), Timeouts: short},
				{Name: "hang", Scheme: "socks5", Address: address(t, hang.Addr()), Timeouts: short}, {Name: "good", Scheme: "http", Address: address(t, good.Addr())},
			},
			Pools:    []upstream.PoolSpec{{Name: "p", Members: []string{"upstream.hole", "upstream.good"}, Select: "first_healthy"}},
			Resolver: fixedResolver{"upstream-hang.example": "192.0.2.1"},
		})
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if name, ok := strings.CutSuffix(f.Target.Host, ".example"); ok {
				return via(strings.ReplaceAll(name, "-", ".")), 0
			}
			return via("pool.p"), 0
		})
	})
	before := measure()
	var wg sync.WaitGroup
	for _, name := range []string{"upstream-hole", "upstream-drip", "upstream-hang"} {
		for range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				began := time.Now()
				c, err := net.Dial("tcp", g.addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(c, "CONNECT %s.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", name)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if took := time.Since(began); err != nil || resp.StatusCode != 504 || took > 8*time.Second {
					t.Errorf("%s: %v %v after %v", name, resp, err, took)
				}
			}()
		}
	}
	began := time.Now()
	if err := shake(g.tunnel(t, target), []byte("by the second member")); err != nil || time.Since(began) > 8*time.Second {
		t.Errorf("fail-over took %v: %v", time.Since(began), err)
	}
	wg.Wait()
	for range 61 {
		f := g.records.next(t)
		if f.Error != nil && (f.Error.Kind != connmodel.KindTimeout || f.Error.Hop != 1) {
			t.Errorf("record: %+v", f.Error)
		}
		if len(g.records.more) == 0 {
			break
		}
	}
	g.sessions.each(func(s *session) { s.abort(connmodel.CloseAdmin) })
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
	before.backTo(t)
}

// TestDescriptorsRunOut is R13. The gateway runs in a process of its own with few descriptors, and more clients than it can hold.
func TestDescriptorsRunOut(t *testing.T) {
	if addr := os.Getenv("VIADUCT_TEST_FEW"); addr != "" {
		gatewayWithFewDescriptors(t, addr)
		return
	}
	target := echo(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestDescriptorsRunOut$", "-test.v")
	cmd.Env = append(os.Environ(), "VIADUCT_TEST_FEW="+target)
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	addr := ""
	for addr == "" && lines.Scan() {
		addr, _ = strings.CutPrefix(lines.Text(), "listening ")
		if !strings.Contains(addr, ":") || strings.Contains(addr, " ") {
			addr = ""
		}
	}
	ended := make(chan string, 1)
	go func() {
		var rest []string
		for lines.Scan() {
			rest = append(rest, lines.Text())
		}
		ended <- strings.Join(rest, "\n")
	}()
	g := &gateway{addr: addr}
	var conns []net.Conn
	served := 0
	for range 400 {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		conns = append(conns, c)
	}
	cpu := func() time.Duration {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
		u, _ := strconv.Atoi(f[12-1])
		s, _ := strconv.Atoi(f[13-1])
		return time.Duration(u+s) * 10 * time.Millisecond
	}
	for i, c := range conns { // those that are served, until one is not
		wait := 5 * time.Second
		if i > 0 && served < i {
			wait = time.Millisecond
		}
		c.SetReadDeadline(time.Now().Add(wait))
		if _, err := io.ReadFull(c, make([]byte, len(connectOK))); err == nil {
			served++
		}
	}
	used, began := cpu(), time.Now()
	time.Sleep(pick(time.Second, 10*time.Second))
	share := float64(cpu()-used) / float64(time.Since(began))
	if share > 0.2 {
		t.Errorf("%.0f %% CPU while descriptors are short", 100*share)
	}
	if served < 50 {
		t.Errorf("only %d clients are served", served)
	}
	for _, c := range conns {
		c.Close()
	}
	began = time.Now()
	c, err := g.open(target)
	if err != nil {
		t.Errorf("after the clients have left: %v", err)
	} else if err := shake(c, []byte("again")); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	recovered := time.Since(began)
	if recovered > 5*time.Second {
		t.Errorf("recovered after %v", recovered)
	}
	stdin.Close()
	out := <-ended
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%d of 400 clients served with 256 descriptors, %.1f %% CPU, recovered in %v; %s", served, 100*share, recovered, strings.SplitN(out, "\n", 2)[0])
}

func gatewayWithFewDescriptors(t *testing.T, target string) {
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 256, Max: 256}); err != nil {
		t.Fatal(err)
	}
	g := start(t, nil)
	g.records.more = make(chan struct{}, 1<<20)
	fmt.Println("listening " + g.addr)
	most, done := 0, make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	for {
		select {
		case <-done:
			fmt.Printf("%d descriptors at most, %d panics\n", most, g.Stats().Panics)
			return
		case <-time.After(10 * time.Millisecond):
			most = max(most, descriptors())
		}
	}
}
