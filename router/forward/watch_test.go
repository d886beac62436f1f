package forward

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/connmodel"
)

// TestBodyStandsStill ends a response that stops, and blames the one who stopped.
func TestBodyStandsStill(t *testing.T) {
	const idle = 100 * time.Millisecond
	short := withParams(func(p *Params) { p.Timeouts.Idle = idle })
	for name, head := range map[string]string{"chunked": "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "spliced": "Content-Length: 10000000\r\n\r\nhi"} {
		t.Run("server, "+name, func(t *testing.T) {
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				o.say("HTTP/1.1 200 OK\r\n" + head)
				o.rest()
			}, short)
			start := time.Now()
			r.client.say(get("/"))
			r.client.resets()
			hasFault(t, r.result(), connmodel.SideServer, connmodel.KindTimeout, connmodel.PhaseRelay)
			if d := time.Since(start); d < idle || d > idle+5*time.Second {
				t.Errorf("ended after %v, want a little more than %v", d, idle)
			}
		})
	}
	for name, head := range map[string]string{"chunked": "Transfer-Encoding: chunked\r\n\r\n5f5e100\r\n", "spliced": "Content-Length: 100000000\r\n\r\n"} {
		t.Run("client, "+name, func(t *testing.T) {
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				io.WriteString(o.Conn, "HTTP/1.1 200 OK\r\n"+head)
				io.CopyN(o.Conn, zeros{}, 1e8)
			}, short)
			r.client.say(get("/")) // and reads nothing
			hasFault(t, r.result(), connmodel.SideClient, connmodel.KindTimeout, connmodel.PhaseRelay)
		})
	}
}

// TestSlowIsNotIdle: a reader that takes a little now and then is served, though a write of ours takes longer than the idle timeout.
// Small segments and windows make the kernel deliver that little, as it would far away.
func TestSlowIsNotIdle(t *testing.T) {
	const idle, n = 500 * time.Millisecond, 200_000 // a busy machine may hold us up for a part of it
	for name, head := range map[string]string{"copied": "Transfer-Encoding: chunked\r\n\r\n30d40\r\n", "spliced": "Content-Length: 200000\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				io.WriteString(o.Conn, "HTTP/1.1 200 OK\r\n"+head)
				o.Conn.Write(pattern(n))
				if name == "copied" {
					o.say("\r\n0\r\n\r\n")
				}
				o.rest()
			}, withParams(func(p *Params) { p.Timeouts.Idle = idle }), func(r *rig) {
				r.control = func(_, _ string, c syscall.RawConn) error {
					return c.Control(func(fd uintptr) {
						unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536)
						unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
					})
				}
			})
			r.gate.(*net.TCPConn).SetWriteBuffer(4 << 10)
			r.client.say(get("/"))
			start := time.Now()
			resp, err := http.ReadResponse(r.client.Reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for piece := make([]byte, 1<<10); err == nil; time.Sleep(idle / 40) {
				var m int
				m, err = resp.Body.Read(piece)
				got = append(got, piece[:m]...)
			}
			samePattern(t, got, n)
			if res := r.result(); res.Err != nil || res.Down != n {
				t.Errorf("after %v: %+v", time.Since(start), res)
			}
			if d := time.Since(start); d < 4*idle {
				t.Errorf("over after %v: this shows nothing", d)
			}
		})
	}
}

// TestCancel ends an exchange from outside in every phase of it.
func TestCancel(t *testing.T) {
	silent := func(o *peer, _ int) { o.rest() }
	for _, tt := range []struct {
		name, request string
		origin        func(*peer, int)
		ready         func(*rig)
		responded     bool
	}{
		{"waiting", get("/"), silent, nil, false},
		{"expecting", postHead + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", silent, nil, false},
		{"uploading", postHead + "Content-Length: 5\r\n\r\nhi", silent, nil, false},
		{"downloading", get("/"), func(o *peer, _ int) { o.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"); o.rest() },
			func(r *rig) { r.client.head() }, true},
		{"chunks", get("/"), func(o *peer, _ int) {
			o.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			o.rest()
		},
			func(r *rig) { r.client.head() }, true},
		{"client takes nothing", get("/"), func(o *peer, _ int) {
			io.WriteString(o.Conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			io.CopyN(o.Conn, zeros{}, 1e9)
		}, func(r *rig) { r.client.take(20) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun := make(chan bool, 1)
			r := newRig(t, func(o *peer, n int) { o.head(); begun <- true; tt.origin(o, n) })
			r.client.say(tt.request)
			<-begun
			if tt.ready != nil {
				tt.ready(r)
			}
			r.cancel.Cancel()
			res := r.result()
			hasFault(t, res, connmodel.SideViaduct, connmodel.KindCanceled, connmodel.PhaseRequest)
			if res.Responded != tt.responded || res.KeepClient || res.KeepServer {
				t.Errorf("result %+v", res)
			}
		})
	}
	t.Run("before", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			if s, _ := o.rest(); s != "" {
				t.Errorf("the server got %q", s)
			}
		})
		r.cancel.Cancel()
		r.client.say(get("/"))
		hasFault(t, r.result(), connmodel.SideViaduct, connmodel.KindCanceled, connmodel.PhaseRequest)
	})
	t.Run("after", func(t *testing.T) {
		r := newRig(t, answering(ok2))
		r.client.say(get("/"))
		res := r.result()
		r.cancel.Cancel() // hurts neither connection
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
		if !res.KeepServer || r.pool.Len() != 1 || r.pool.Get("origin") == nil {
			t.Error("the server's connection is gone")
		}
	})
}

// TestWatchLooks has what the timer's look decides, without sockets.
func TestWatchLooks(t *testing.T) {
	var deadlines [2]int
	client, server := countDeadlines{&deadlines[0]}, countDeadlines{&deadlines[1]}
	var w watch
	w.begin(client, server)
	now := time.Now()
	for _, tt := range []struct {
		name           string
		phase          phase
		since          time.Duration
		moved          int64
		want           cut
		client, server int
	}{
		{"early", thinking, -time.Second, 0, cutNot, 0, 0},
		{"late", thinking, -time.Hour, 0, cutResponse, 0, 1},
		{"bytes do not help thinking", thinking, -time.Hour, 10, cutResponse, 0, 1},
		{"still", moving, -time.Hour, 0, cutIdle, 1, 1},
		{"moving", moving, -time.Hour, 1, cutNot, 0, 0},
	} {
		w.begin(client, server)
		w.enter(tt.phase, time.Minute, false, now.Add(tt.since))
		w.moved.Add(tt.moved)
		deadlines = [2]int{}
		w.check()
		if got := w.why(); got != tt.want || deadlines != [2]int{tt.client, tt.server} {
			t.Errorf("%s: cut %d, deadlines %v", tt.name, got, deadlines)
		}
		w.end()
	}
	w.begin(client, server)
	w.cut(cutLeft)
	w.end()
	w.check() // late: of an exchange that is over
	if !w.idle() {
		t.Error("the timer runs")
	}
	if w.why() != cutNot {
		t.Error("the next exchange is taken for ended")
	}
	if n := testing.AllocsPerRun(100, func() {
		w.begin(client, server)
		w.wait(time.Minute, false)
		w.answered(time.Hour, now)
		w.end()
		w.idle()
	}); n != 0 {
		t.Errorf("%v allocations for an exchange", n)
	}
}

type countDeadlines struct{ n *int }

func (c countDeadlines) SetDeadline(time.Time) error      { *c.n++; return nil }
func (c countDeadlines) SetReadDeadline(time.Time) error  { *c.n++; return nil }
func (c countDeadlines) SetWriteDeadline(time.Time) error { *c.n++; return nil }
func (countDeadlines) Read([]byte) (int, error)           { return 0, errors.ErrUnsupported }
func (countDeadlines) Write([]byte) (int, error)          { return 0, errors.ErrUnsupported }
func (countDeadlines) Close() error                       { return nil }
func (countDeadlines) LocalAddr() net.Addr                { return nil }
func (countDeadlines) RemoteAddr() net.Addr               { return nil }

// TestClientLeavesWhileTheServerThinks: the exchange ends soon, with its server connection, and nobody is blamed.
func TestClientLeavesWhileTheServerThinks(t *testing.T) {
	const body = "POST http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: "
	for _, tt := range []struct {
		name, first, more string // more is said once the server has some of first
		response          time.Duration
		leave             func(*peer)
	}{
		{"close", get("/"), "", time.Hour, func(p *peer) { p.Close() }},
		{"half-close", get("/"), "", time.Hour, (*peer).closeWrite},
		{"reset", get("/"), "", time.Hour, (*peer).reset},
		{"no response timeout", get("/"), "", 0, func(p *peer) { p.Close() }},
		{"body at once", body + "3\r\n\r\nabc", "", time.Hour, func(p *peer) { p.Close() }},
		{"body later", body + "3\r\n\r\n", "abc", time.Hour, func(p *peer) { p.Close() }},
		{"reset behind a pipelined request", get("/") + get("/second"), "", time.Hour, (*peer).reset},
		{"reset behind bytes that come later", get("/"), get("/second"), time.Hour, (*peer).reset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, closed := make(chan bool, 1), make(chan error, 1)
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				got <- true
				_, err := o.rest()
				closed <- err
			}, withParams(func(p *Params) { p.Timeouts.Response = tt.response }))
			r.client.say("%s", tt.first)
			<-got
			r.client.say("%s", tt.more)
			left := time.Now()
			tt.leave(r.client)
			res := r.result()
			if took := time.Since(left); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			if res.Err == nil || res.Err.Side != connmodel.SideClient || res.Err.Kind != connmodel.KindCanceled || res.Err.Blame != connmodel.BlameNobody {
				t.Errorf("error %+v", res.Err)
			}
			if res.KeepClient || res.KeepServer || res.Responded {
				t.Errorf("result %+v", res)
			}
			if err := <-closed; isTimeout(err) {
				t.Error("the server's connection stays")
			}
		})
	}
}

// TestHalfClosedBehindARequest: a client that has said all it will, and has more than this request on its way, is served.
func TestHalfClosedBehindARequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		time.Sleep(lookAfter + 2*lookAgain) // the time that the server takes
		o.say(ok2)
		o.head()
		o.say(ok2)
	})
	r.client.say(get("/") + get("/second"))
	r.client.closeWrite()
	for range 2 {
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
	}
}
