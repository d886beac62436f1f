//go:build unix

package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if v := os.Getenv(benchRelay); v != "" {
		serveRelay(v)
		return
	}
	goleak.VerifyTestMain(m)
}

// link is one connection of a tunnel under test: what the peer holds and what the relay is given.
type link struct{ peer, ours net.Conn }

// patience is how long anything may take on a machine that is busy with other things.
const patience = 2 * time.Minute

// tcpLink connects two TCP sockets over loopback.
func tcpLink(t testing.TB) link {
	t.Helper()
	return acceptOne(t, "tcp", "127.0.0.1:0")
}

func unixLink(t testing.TB) link {
	t.Helper()
	return acceptOne(t, "unix", filepath.Join(t.TempDir(), "s"))
}

func acceptOne(t testing.TB, network, addr string) link {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// A test that hangs would say nothing; one that fails on a deadline says where.
	peer.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { peer.Close(); ours.Close() })
	return link{peer, ours}
}

// running is a tunnel between two peers.
type running struct {
	*Tunnel
	client, server net.Conn
	result         chan Result
}

// start runs a tunnel between two links.
func start(t testing.TB, client, server link, o Options) *running {
	t.Helper()
	return startSides(t, client, server, Side{Conn: client.ours}, Side{Conn: server.ours}, o)
}

func startSides(t testing.TB, client, server link, c, s Side, o Options) *running {
	t.Helper()
	r := &running{Tunnel: new(Tunnel), client: client.peer, server: server.peer, result: make(chan Result, 1)}
	go func() { r.result <- r.Run(c, s, o) }()
	t.Cleanup(func() { r.Abort(Canceled); r.client.Close(); r.server.Close() })
	return r
}

// wait returns the result, which must come soon.
func (r *running) wait(t testing.TB) Result {
	t.Helper()
	select {
	case res := <-r.result:
		r.result <- res
		return res
	case <-time.After(patience):
		t.Fatal("the tunnel has not ended")
		panic("unreachable")
	}
}

// random returns n bytes that differ from run to run.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(rand.Uint32())})
	r.Read(b)
	return b
}

// send writes all of b in pieces of random size, up to most bytes each, and half-closes.
func send(c net.Conn, b []byte, most int) error {
	for len(b) > 0 {
		n := min(len(b), 1+rand.IntN(most))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

// mustRead reads n bytes.
func mustRead(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("reading %d bytes: %v", n, err)
	}
	return b
}

func mustWrite(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// mustEOF reads to the end, which must be an orderly one with nothing before it.
func mustEOF(t testing.TB, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("read %d bytes and %v, want EOF", len(b), err)
	}
}

// mustReset reads to the end, which must be a reset.
func mustReset(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %d bytes and %v, want a reset", len(b), err)
	}
	return b
}

func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// descriptors returns the number of open files of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

// exchange sends up and down through the tunnel at once, compares what arrives, and checks the counts.
func exchange(t *testing.T, r *running, up, down []byte, most int, extraUp, extraDown []byte) Result {
	t.Helper()
	errs := make(chan error, 4)
	receive := func(c net.Conn, early, want []byte) {
		h := sha256.New()
		n, err := io.Copy(h, c)
		w := sha256.New()
		w.Write(early)
		w.Write(want)
		switch {
		case err != nil:
		case n != int64(len(early)+len(want)):
			err = errors.New("wrong number of bytes")
		case !bytes.Equal(h.Sum(nil), w.Sum(nil)):
			err = errors.New("wrong bytes")
		}
		errs <- err
	}
	go func() { errs <- send(r.client, up, most) }()
	go func() { errs <- send(r.server, down, most) }()
	go receive(r.server, extraUp, up)
	go receive(r.client, extraDown, down)
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	res := r.wait(t)
	if res.Up != int64(len(extraUp)+len(up)) || res.Down != int64(len(extraDown)+len(down)) || !res.End.Orderly() || res.Err != nil {
		t.Errorf("result %+v, want up %d, down %d, an orderly end", res, len(extraUp)+len(up), len(extraDown)+len(down))
	}
	return res
}

func TestBytes(t *testing.T) {
	kinds := []struct {
		name           string
		client, server func(testing.TB) link
	}{
		{"tcp-tcp", tcpLink, tcpLink},
		{"unix-tcp", unixLink, tcpLink},
		{"tcp-unix", tcpLink, unixLink},
		{"tls-tcp", tlsLink, tcpLink},
		{"tcp-tls", tcpLink, tlsLink},
		{"tls-tls", tlsLink, tlsLink},
		{"wrapped-tcp", wrappedLink, tcpLink},
	}
	sizes := []struct{ up, down, most int }{
		{0, 0, 1}, {1, 1, 1}, {1, 0, 1}, {0, 1, 1},
		{1000, 2000, 7},
		{16 << 10, 16<<10 + 1, 1 << 20},
		{2 << 10, 4 << 10, 2 << 10}, // exactly the small buffer of wrapped connections
		{100_000, 3_000_000, 50_000},
		{8 << 20, 50_000_000, 1 << 20},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, s := range sizes {
				if testing.Short() && s.down > 5_000_000 {
					continue
				}
				r := start(t, k.client(t), k.server(t), Options{Idle: 10 * time.Second})
				exchange(t, r, random(s.up), random(s.down), s.most, nil, nil)
				if t.Failed() {
					t.Fatalf("at up %d, down %d, pieces up to %d", s.up, s.down, s.most)
				}
			}
		})
	}
}

func TestEarlyBytes(t *testing.T) {
	for _, n := range []int{1, 5000, 300_000} {
		c, s := tcpLink(t), tcpLink(t)
		upEarly, downEarly := random(n), random(2*n)
		r := startSides(t, c, s, Side{c.ours, upEarly}, Side{s.ours, downEarly}, Options{})
		exchange(t, r, random(70_000), random(90_000), 5000, upEarly, downEarly)
	}
}
