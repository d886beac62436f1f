package router

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
)

// sound are handshakes that are right, of every protocol. TARGET stands for an address that echoes.
func sound(target string) [][]byte {
	host, port, _ := net.SplitHostPort(target)
	var p int
	fmt.Sscan(port, &p)
	ip := string(net.ParseIP(host).To4())
	pp := string([]byte{byte(p >> 8), byte(p)})
	list := []string{
		"CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\nhello",
		"CONNECT " + target + " HTTP/1.0\r\nProxy-Authorization: Basic YTpi\r\nUser-Agent: x\r\n\r\n",
		"GET http://" + target + "/a?b=c HTTP/1.1\r\nHost: " + target + "\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		"POST http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\nContent-Length: 5\r\n\r\nhelloGET http://" + target + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n",
		"PUT http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"GET http://" + target + "/ws HTTP/1.1\r\nHost: " + target + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET http://[::1]:80/ HTTP/1.0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x05\x01\x00\x05\x01\x00\x01" + ip + pp + "hello",
		"\x05\x02\x00\x02\x05\x01\x00\x03\x09localhost" + pp,
		"\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01" + pp,
		"\x05\x01\x02\x01\x04anna\x06s3cret\x05\x01\x00\x01" + ip + pp,
		"\x05\x01\x00\x05\x02\x00\x01" + ip + pp,
		"\x04\x01" + pp + ip + "user\x00hello",
		"\x04\x01" + pp + "\x00\x00\x00\x01user\x00localhost\x00hello",
		"\x16\x03\x01\x00\x10\x01\x00\x00\x0c\x03\x03",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	}
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = []byte(list[i])
	}
	return out
}

// mutate changes b in one to four places.
func mutate(r *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		i := r.IntN(len(b))
		switch r.IntN(7) {
		case 0:
			b[i] = byte(r.IntN(256))
		case 1:
			b[i] ^= 1 << r.IntN(8)
		case 2:
			b = append(b[:i], b[i+1:]...)
		case 3:
			b = append(b[:i], append([]byte{byte(r.IntN(256))}, b[i:]...)...)
		case 4:
			b = b[:i]
		case 5: // double a piece
			j := min(len(b), i+1+r.IntN(16))
			b = append(b[:j:j], b[i:]...)
		case 6:
			b = append(b[:i], append([]byte([]string{"\r\n", "\n", "\r", "\x00", ":", " ", "\t", "\xff\xff", "0x", ",", "chunked", "%2e"}[r.IntN(12)]), b[i:]...)...)
		}
	}
	return b
}

// TestMutationsAtTheSocket is R17: mutations of sound handshakes. Nothing panics, nothing hangs, every session ends.
func TestMutationsAtTheSocket(t *testing.T) {
	n, span := pick(20_000, 1_000_000), pick(6*time.Second, time.Hour)
	if raceEnabled && !long {
		n = 4000
	}
	target := echo(t)
	var records atomic.Int64
	g := start(t, func(o *Options, c *Config) {
		o.Records = count{&records}
		d := loopbackOpen()
		d.Timeouts = connmodel.Timeouts{Idle: 2 * time.Second, HalfClosed: time.Second, Connect: time.Second, Response: time.Second}
		inside := address(t, target)
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target != inside && f.Target.Host != "localhost" { // mutated names and addresses must not leave this machine
				return &connmodel.Decision{Policy: "p", Outcome: connmodel.OutcomeDeny}, 0
			}
			return d, 0
		})
		second := c.Listeners[0]
		second.Name, second.Auth = "auth", oneUser{"anna", "s3cret"}
		c.Listeners = append(c.Listeners, second)
		for i := range c.Listeners {
			c.Listeners[i].HandshakeTimeout = time.Second
		}
	})
	addrs := g.Addrs()
	doors := []string{addrs["desk"].String(), addrs["auth"].String()}
	corpus := sound(target)
	before := measure()
	var done atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(span)
	seed := uint64(time.Now().UnixNano())
	for w := range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for done.Add(1) <= int64(n) && time.Now().Before(end) {
				b := mutate(r, corpus[r.IntN(len(corpus))])
				c, err := net.DialTimeout("tcp", doors[r.IntN(2)], 10*time.Second)
				if err != nil {
					t.Errorf("%v after %q", err, b)
					return
				}
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if i := r.IntN(len(b) + 1); r.IntN(4) == 0 { // in two segments
					c.Write(b[:i])
					runtime.Gosched()
					c.Write(b[i:])
				} else {
					c.Write(b)
				}
				switch r.IntN(3) {
				case 0:
					c.(*net.TCPConn).SetLinger(0)
				case 1:
					c.(*net.TCPConn).CloseWrite()
					if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
						t.Errorf("hangs after %q", b)
					}
				}
				c.Close()
			}
		}()
	}
	wg.Wait()
	for wait := time.Now().Add(15 * time.Second); g.Stats().SessionsOpen > 0 && time.Now().Before(wait); {
		time.Sleep(10 * time.Millisecond)
	}
	if s := g.Stats(); s.SessionsOpen > 0 || s.Panics > 0 {
		t.Errorf("%d sessions are still open, %d panics (seed %d)", s.SessionsOpen, s.Panics, seed)
	}
	g.Router.kept.Clear()
	before.backTo(t)
	t.Logf("%d mutations, %d records", min(done.Load(), int64(n)), records.Load())
}

// count is a sink that counts.
type count struct{ n *atomic.Int64 }

func (c count) Record(*connmodel.Flow) { c.n.Add(1) }

// FuzzSession feeds arbitrary bytes to a session: it does not panic, and it ends soon after its client has.
func FuzzSession(f *testing.F) {
	for _, b := range sound("127.0.0.1:9") {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Add([]byte{}, false)
	r, addr := fuzzRouter(f)
	f.Cleanup(func() { shut(r) })
	f.Fuzz(func(t *testing.T, b []byte, half bool) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write(b)
		if half {
			c.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the session goes on: %v", err)
			}
		}
		c.Close()
		for end := time.Now().Add(10 * time.Second); r.Stats().SessionsOpen > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the session goes on after its client has left")
			}
		}
		if n := r.Stats().Panics; n != 0 {
			t.Fatalf("%d panics", n)
		}
	})
}
