package forward

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
)

// kept is a Server on one end of a connection whose other end is the test's.
func kept(t testing.TB, key any) (*Server, net.Conn) {
	t.Helper()
	a, b := pair(t)
	s := &Server{Conn: a, Key: key, Close: a.Close}
	s.In.Reset(a, limitsNone)
	return s, b
}

// open reports whether the connection of s is open.
func open(s *Server) bool {
	return s.Conn.SetDeadline(time.Time{}) == nil
}

// seen waits until what far did has arrived at s.
func seen(t testing.TB, s *Server) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing arrives")
		}
	}
}

func TestPoolGivesTheNewest(t *testing.T) {
	var p Pool
	defer p.Close()
	a, _ := kept(t, "k")
	b, _ := kept(t, "k")
	other, _ := kept(t, "other")
	p.Put(a)
	p.Put(b)
	p.Put(other)
	if got := p.Get("k"); got != b || !got.Reused {
		t.Error("not the newest")
	}
	if p.Get("k") != a || p.Get("k") != nil || p.Get("none") != nil || p.Len() != 1 {
		t.Errorf("%d left", p.Len())
	}
}

// TestPoolLooks: only what is open and silent is given out.
func TestPoolLooks(t *testing.T) {
	for name, spoil := range map[string]func(net.Conn){
		"closed":  func(c net.Conn) { c.Close() },
		"half":    func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"reset":   func(c net.Conn) { setReset(c); c.Close() },
		"surplus": func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var p Pool
			defer p.Close()
			good, _ := kept(t, "k")
			bad, far := kept(t, "k")
			p.Put(good)
			p.Put(bad)
			spoil(far)
			seen(t, bad)
			if p.Get("k") != good {
				t.Error("not the one that is alive")
			}
			if open(bad) || p.Len() != 0 {
				t.Error("the bad one is open still")
			}
		})
	}
}

func TestPoolTakesNot(t *testing.T) {
	var p Pool
	bound, _ := kept(t, "k")
	bound.bound = true
	surplus, _ := kept(t, "k")
	surplus.In.Prepend([]byte("x"))
	opaque, _ := kept(t, "k")
	opaque.Conn = struct{ net.Conn }{opaque.Conn}
	for _, s := range []*Server{bound, surplus, opaque} {
		if p.Put(s); p.Len() != 0 || open(s) {
			t.Error("it is kept, or open")
		}
	}
	p.Close()
	late, _ := kept(t, "k")
	if p.Put(late); p.Len() != 0 || open(late) {
		t.Error("kept after Close")
	}
}

func TestPoolBounds(t *testing.T) {
	p := Pool{PerKey: 2, Total: 3}
	defer p.Close()
	var all []*Server
	for _, key := range []string{"a", "a", "a", "b", "c"} {
		s, _ := kept(t, key)
		all = append(all, s)
		p.Put(s)
	}
	// The third of a is one too many; c drives out the oldest, which is the first of a.
	for i, want := range []bool{false, true, false, true, true} {
		if open(all[i]) != want {
			t.Errorf("connection %d: open %v", i, !want)
		}
	}
	if p.Len() != 3 || p.Get("a") != all[1] || p.Get("c") != all[4] || p.Get("b") != all[3] || p.Len() != 0 {
		t.Error("others are kept than those that are open")
	}
	p.Put(all[1])
	p.Put(all[3])
	if p.Clear(); open(all[1]) || open(all[3]) || p.Len() != 0 {
		t.Error("open after Clear")
	}
	again, _ := kept(t, "a")
	if p.Put(again); p.Len() != 1 {
		t.Error("of no use after Clear")
	}
}

func TestPoolExpires(t *testing.T) {
	p := Pool{Idle: 50 * time.Millisecond}
	defer p.Close()
	s, far := kept(t, "k")
	start := time.Now()
	p.Put(s)
	far.SetDeadline(time.Now().Add(patience))
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if d := time.Since(start); d < p.Idle || p.Len() != 0 {
		t.Errorf("closed after %v, %d left", d, p.Len())
	}
	for range 3 { // the sweeper starts again
		s, _ := kept(t, "k")
		p.Put(s)
	}
	for deadline := time.Now().Add(patience); p.Len() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never expires")
		}
	}
}

// TestPoolBelowTLS: surplus and ends are seen through TLS, in the socket and in what TLS has read of it.
func TestPoolBelowTLS(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	for _, tt := range []struct {
		name  string
		spoil func(*tls.Conn)
		early bool // with the response, so that TLS may have it already
		put   bool
	}{
		{name: "good", put: true},
		{name: "surplus", spoil: func(c *tls.Conn) { io.WriteString(c, "poison") }, put: true},
		{name: "close_notify", spoil: func(c *tls.Conn) { c.CloseWrite() }, put: true},
		{name: "surplus with the response", early: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, raw := kept(t, "k")
			far := tls.Server(raw, ca.ServerTLS(t, "a.test"))
			near := tls.Client(s.Conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.test"})
			s.Conn = near
			s.In.Reset(near, limitsNone)
			done := make(chan error, 1)
			go func() {
				err := far.Handshake()
				if err == nil && tt.early {
					// Two records, so that TLS reads the second one and we do not.
					big := strings.Repeat("x", 300)
					io.WriteString(far, big)
					_, err = io.WriteString(far, "poison")
				} else if err == nil {
					_, err = io.WriteString(far, strings.Repeat("x", 300))
				}
				done <- err
			}()
			if _, err := io.ReadFull(near, make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			var p Pool
			defer p.Close()
			p.Put(s)
			if tt.early {
				// Whether TLS has read it or the socket has it still, it is found.
				if got := p.Get("k"); got != nil {
					t.Error("a connection with surplus is given out")
				}
				return
			}
			if p.Len() != 1 {
				t.Fatal("it is not kept")
			}
			if tt.spoil == nil {
				got := p.Get("k")
				if got != s {
					t.Fatal("a good connection is lost")
				}
				go io.WriteString(far, "later")
				b := make([]byte, 5)
				if _, err := io.ReadFull(near, b); err != nil || string(b) != "later" {
					t.Errorf("%q, %v: the look has hurt it", b, err)
				}
				return
			}
			tt.spoil(far)
			seen(t, s)
			if p.Get("k") != nil {
				t.Error("a spoilt connection is given out")
			}
		})
	}
}

// TestLogins: a connection that a client has logged in on is its own.
func TestLogins(t *testing.T) {
	for _, tt := range []struct {
		name, request, response string
		bound                   bool
	}{
		{"NTLM asked for", "", "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n", true},
		{"in a list", "", "WWW-Authenticate: Basic realm=x, ntlm\r\n", true},
		{"NTLM answered", "Authorization: NTLM TlRMTVNTUAAB\r\n", "", true},
		{"Negotiate", "Authorization: negotiate YII\r\n", "", true},
		{"Basic", "Authorization: Basic eA==\r\n", "WWW-Authenticate: Basic realm=\"x\"\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, answering("HTTP/1.1 200 OK\r\n"+tt.response+"Content-Length: 0\r\n\r\n"))
			r.client.say("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + tt.request + "\r\n")
			r.client.head()
			res := r.result()
			if !res.KeepServer || res.Server.Bound() != tt.bound {
				t.Errorf("result %+v, bound %v", res, res.Server.Bound())
			}
			if kept := r.pool.Len() == 1; kept == tt.bound {
				t.Errorf("kept for all: %v", kept)
			}
		})
	}
	s, far := kept(t, "k")
	if !s.Wake() || !s.Reused {
		t.Error("a good one does not wake")
	}
	far.Close()
	seen(t, s)
	if s.Wake() {
		t.Error("a dead one wakes")
	}
}

func BenchmarkPool(b *testing.B) {
	var p Pool
	defer p.Close()
	s, _ := kept(b, "k")
	b.ReportAllocs()
	for b.Loop() {
		p.Put(s)
		s = p.Get("k")
	}
}
