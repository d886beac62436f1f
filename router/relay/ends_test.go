//go:build unix

package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// halfCloses records what an Observer is told.
type halfCloses struct {
	mu   sync.Mutex
	seen []string
}

func (h *halfCloses) add(what string, p Peer, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.IsZero() || time.Since(at) > time.Minute {
		what += " (at a wrong time)"
	}
	h.seen = append(h.seen, what+" "+p.String())
}

func (h *halfCloses) ReadClosed(p Peer, at time.Time)  { h.add("read", p, at) }
func (h *halfCloses) WriteClosed(p Peer, at time.Time) { h.add("write", p, at) }
func (h *halfCloses) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.seen, ", ")
}

// One side ends, the other one still has 1 MiB to send.
func TestHalfClose(t *testing.T) {
	for _, k := range []struct {
		name           string
		client, server func(testing.TB) link
	}{{"tcp", tcpLink, tcpLink}, {"tls", tlsLink, tlsLink}, {"tls-tcp", tlsLink, tcpLink}, {"unix", unixLink, tcpLink}} {
		for _, first := range []Peer{Client, Server} {
			t.Run(k.name+"/"+first.String(), func(t *testing.T) {
				var obs halfCloses
				r := start(t, k.client(t), k.server(t), Options{Observer: &obs})
				ends, goesOn := r.client, r.server
				wantEnd, wantSeen := ClientClosed, "read client, write server"
				if first == Server {
					ends, goesOn = r.server, r.client
					wantEnd, wantSeen = ServerClosed, "read server, write client"
				}
				mustWrite(t, ends, []byte("over"))
				if err := ends.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(goesOn); string(b) != "over" || err != nil {
					t.Fatalf("read %q, %v", b, err)
				}
				eventually(t, wantSeen, func() bool { return obs.String() == wantSeen })
				if s := r.State(); s != Open {
					t.Fatalf("state is %v", s)
				}
				b := random(1 << 20)
				errs := make(chan error, 1)
				go func() { errs <- send(goesOn, b, 100_000) }()
				if got, err := io.ReadAll(ends); err != nil || !bytes.Equal(got, b) {
					t.Fatalf("read %d bytes, %v", len(got), err)
				}
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
				res := r.wait(t)
				if res.End != wantEnd || res.First != first || !res.HalfClosed || res.Err != nil || res.Up+res.Down != 1<<20+4 {
					t.Errorf("%+v", res)
				}
				if earlier, later := res.UpEnd, res.DownEnd; earlier.After(later) != (first == Server) {
					t.Errorf("up ended %v, down %v", res.UpEnd, res.DownEnd)
				}
			})
		}
	}
}

func TestEOFAtOnce(t *testing.T) {
	c, s := tcpLink(t), tcpLink(t)
	c.peer.Close()
	r := start(t, c, s, Options{})
	mustEOF(t, s.peer)
	s.peer.Close()
	if res := r.wait(t); res.End != ClientClosed || res.Up+res.Down != 0 {
		t.Errorf("%+v", res)
	}
}

// A reset of one side is a reset of the other, after all that came before it.
func TestReset(t *testing.T) {
	for _, k := range []struct {
		name           string
		client, server func(testing.TB) link
	}{{"tcp", tcpLink, tcpLink}, {"wrapped", shownLink, shownLink}} {
		for _, by := range []Peer{Client, Server} {
			for _, n := range []int{0, 1, 500_000} {
				t.Run(k.name+"/"+by.String(), func(t *testing.T) {
					r := start(t, k.client(t), k.server(t), Options{})
					from, to, want := r.client, r.server, ClientReset
					if by == Server {
						from, to, want = r.server, r.client, ServerReset
					}
					b := random(n)
					mustWrite(t, from, b)
					got := mustRead(t, to, n)
					reset(from)
					mustReset(t, to)
					res := r.wait(t)
					if res.End != want || res.First != by || res.HalfClosed || !errors.Is(res.Err, syscall.ECONNRESET) || !bytes.Equal(got, b) {
						t.Errorf("%+v", res)
					}
				})
			}
		}
	}
}

// shownConn is a wrapper that shows what it wraps.
type shownConn struct{ wrappedConn }

func (s shownConn) NetConn() net.Conn { return s.Conn }

func shownLink(t testing.TB) link {
	l := tcpLink(t)
	return link{l.peer, shownConn{wrappedConn{l.ours}}}
}

// A server answers, then closes without reading all of the request, which makes its kernel send a reset: the answer must arrive, and the reset after it.
func TestAnswerBeforeReset(t *testing.T) {
	answer := random(200_000)
	for range 20 {
		r := start(t, tcpLink(t), tcpLink(t), Options{})
		mustWrite(t, r.client, random(50_000))
		mustRead(t, r.server, 10)
		mustWrite(t, r.server, answer)
		eventually(t, "answer relayed", func() bool { return r.Down() == int64(len(answer)) })
		eventually(t, "request relayed", func() bool { return r.Up() == 50_000 })
		r.server.Close()
		if got := mustReset(t, r.client); !bytes.Equal(got, answer) {
			t.Fatalf("%d bytes of the answer came", len(got))
		}
		if res := r.wait(t); res.End != ServerReset {
			t.Fatalf("%+v", res)
		}
	}
}

// A server closes while the client still sends. Depending on who is faster its kernel delivers the whole answer or throws part of it away; what must not
// happen is that the client takes a part for the whole.
func TestServerClosesWhileClientSends(t *testing.T) {
	for _, l := range []func(testing.TB) link{tcpLink, shownLink} {
		whole := 0
		for range 40 {
			answer := random(1_000_000)
			r := start(t, tcpLink(t), l(t), Options{})
			go func() {
				r.server.Write(answer)
				r.server.Close()
			}()
			wrote := make(chan error, 1)
			go func() {
				for b := make([]byte, 4096); ; {
					if _, err := r.client.Write(b); err != nil {
						wrote <- err
						return
					}
				}
			}()
			got, err := io.ReadAll(r.client)
			if err == nil { // a socket tells of a reset once, reading or writing
				err = <-wrote
			}
			res := r.wait(t)
			switch {
			case !bytes.HasPrefix(answer, got):
				t.Fatal("the answer is not what was sent")
			case len(got) == len(answer):
				whole++
			case !errors.Is(err, syscall.ECONNRESET) || res.End != ServerReset:
				t.Fatalf("%d of %d bytes, then %v: %+v", len(got), len(answer), err, res)
			}
			if res.First != Server || res.End != ServerClosed && res.End != ServerReset {
				t.Fatalf("%+v", res)
			}
		}
		t.Logf("%d of 40 answers arrived whole", whole)
	}
}

// A TLS stream that stops in the middle of a record is a failure, and no end in good order for the other side.
func TestTLSTruncated(t *testing.T) {
	l := tcpLink(t)
	ours := tls.Server(l.ours, &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
	peer := tls.Client(l.peer, &tls.Config{InsecureSkipVerify: true})
	errs := make(chan error, 1)
	go func() { errs <- ours.Handshake() }()
	if err := errors.Join(peer.Handshake(), <-errs); err != nil {
		t.Fatal(err)
	}
	r := start(t, link{l.peer, ours}, tcpLink(t), Options{})
	mustWrite(t, peer, []byte("whole"))
	mustRead(t, r.server, 5)
	mustWrite(t, l.peer, []byte{23, 3, 3, 0, 200, 1, 2, 3}) // 3 of 200 bytes of a record
	l.peer.(*net.TCPConn).CloseWrite()
	mustReset(t, r.server)
	if res := r.wait(t); res.End != ClientFailed || !errors.Is(res.Err, io.ErrUnexpectedEOF) {
		t.Errorf("%+v", res)
	}
}

// A TLS peer of a tunnel whose other side was reset gets no close_notify, which would make the half look whole.
func TestResetReachesTLS(t *testing.T) {
	r := start(t, tlsLink(t), tcpLink(t), Options{})
	mustWrite(t, r.server, []byte("half"))
	mustRead(t, r.client, 4)
	reset(r.server)
	mustReset(t, r.client)
	if res := r.wait(t); res.End != ServerReset {
		t.Errorf("%+v", res)
	}
}

// An end that cannot half-close hears nothing of the other one's end, can still send, and is closed when it has ended.
func TestNoCloseWrite(t *testing.T) {
	c, s := tcpLink(t), tcpLink(t)
	s.ours = struct{ net.Conn }{s.ours}
	var obs halfCloses
	r := start(t, c, s, Options{Observer: &obs})
	if err := send(r.client, []byte("question"), 100); err != nil {
		t.Fatal(err)
	}
	mustRead(t, r.server, 8)
	eventually(t, "the client's end is seen", func() bool { return obs.String() == "read client" })
	if err := send(r.server, []byte("answer"), 100); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.client); string(b) != "answer" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	mustEOF(t, r.server)
	if res := r.wait(t); res.End != ClientClosed {
		t.Errorf("%+v", res)
	}
}

func TestAbort(t *testing.T) {
	kinds := map[string]func(testing.TB) link{"tcp": tcpLink, "tls": tlsLink, "wrapped": wrappedLink}
	for name, l := range kinds {
		t.Run(name+"/idle", func(t *testing.T) {
			r := start(t, l(t), l(t), Options{})
			mustWrite(t, r.client, []byte{1})
			mustRead(t, r.server, 1)
			r.Abort(Drained)
			mustEOF(t, r.client)
			mustEOF(t, r.server)
			if res := r.wait(t); res.End != Drained || res.Err != nil || res.First != None || res.Up != 1 || res.UpEnd.IsZero() || res.DownEnd.IsZero() {
				t.Errorf("%+v", res)
			}
			r.Abort(Canceled) // too late to matter
			if s := r.State(); s != Drained {
				t.Errorf("state %v", s)
			}
		})
		t.Run(name+"/before", func(t *testing.T) {
			var tun Tunnel
			tun.Abort(Drained)
			c, s := l(t), l(t)
			res := tun.Run(Side{Conn: c.ours}, Side{Conn: s.ours}, Options{Idle: time.Hour})
			if res.End != Drained {
				t.Errorf("%+v", res)
			}
			mustEOF(t, c.peer)
			mustEOF(t, s.peer)
			tun.Reset()
			if tun.State() != Open {
				t.Error("Reset did not")
			}
		})
		t.Run(name+"/stuck", func(t *testing.T) { // both directions wait for a peer that does not read
			r := start(t, l(t), l(t), Options{})
			var wg sync.WaitGroup
			for _, c := range []net.Conn{r.client, r.server} {
				wg.Go(func() {
					for b := make([]byte, 1<<20); ; {
						if _, err := c.Write(b); err != nil {
							return
						}
					}
				})
			}
			stalled(t, r)
			r.Abort(Canceled)
			if res := r.wait(t); res.End != Canceled {
				t.Errorf("%+v", res)
			}
			wg.Wait()
		})
	}
}

// stalled waits until bytes have moved in both directions and none has for a while.
func stalled(t *testing.T, r *running) {
	t.Helper()
	last, since := int64(0), time.Now()
	eventually(t, "both directions stuck", func() bool {
		if n := r.Up() + r.Down(); n != last {
			last, since = n, time.Now()
		}
		return r.Up() > 0 && r.Down() > 0 && time.Since(since) > 100*time.Millisecond
	})
}

// Somebody closes one of our connections: not allowed, but no harm beyond the tunnel.
func TestClosedByOthers(t *testing.T) {
	c, s := tcpLink(t), tcpLink(t)
	r := start(t, c, s, Options{})
	mustWrite(t, r.client, []byte{1})
	mustRead(t, r.server, 1)
	c.ours.Close()
	if res := r.wait(t); res.End != Canceled || !errors.Is(res.Err, net.ErrClosed) {
		t.Errorf("%+v", res)
	}
}

type panicConn struct{ net.Conn }

func (panicConn) Read([]byte) (int, error) { panic("boom") }

func TestPanicClosesBoth(t *testing.T) {
	for _, by := range []Peer{Client, Server} {
		c, s := tcpLink(t), tcpLink(t)
		if by == Client {
			c.ours = panicConn{c.ours}
		} else {
			s.ours = panicConn{s.ours}
		}
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "boom") {
					t.Errorf("recovered %v", err)
				}
			}()
			new(Tunnel).Run(Side{Conn: c.ours}, Side{Conn: s.ours}, Options{})
			t.Error("no panic")
		}()
		mustEOF(t, c.peer)
		mustEOF(t, s.peer)
	}
}

// Deadlines left from a handshake fire and are removed.
func TestDeadlinesLeftBehind(t *testing.T) {
	for name, l := range map[string]func(testing.TB) link{"tcp": tcpLink, "tls": tlsLink} {
		t.Run(name, func(t *testing.T) {
			c, s := l(t), l(t)
			c.ours.SetReadDeadline(time.Now().Add(-time.Second))
			s.ours.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			if name == "tcp" {
				s.ours.SetWriteDeadline(time.Now().Add(-time.Second))
			}
			r := start(t, c, s, Options{})
			began := time.Now()
			eventually(t, "the deadline passes", func() bool { return time.Since(began) > 50*time.Millisecond })
			exchange(t, r, random(200_000), random(300_000), 10_000, nil, nil)
		})
	}
}
