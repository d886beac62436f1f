//go:build unix

package relay

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestIdle(t *testing.T) {
	const idle = 200 * time.Millisecond
	for name, l := range map[string]func(testing.TB) link{"tcp": tcpLink, "tls": tlsLink, "wrapped": wrappedLink} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, l(t), tcpLink(t), Options{Idle: idle})
			mustWrite(t, r.client, []byte{1})
			mustRead(t, r.server, 1)
			last := r.LastActivity()
			mustEOF(t, r.client)
			mustEOF(t, r.server)
			res := r.wait(t)
			if took := res.DownEnd.Sub(last); res.End != IdleTimeout || took < idle || took > idle+idle/4+time.Second {
				t.Errorf("%v after the last byte: %+v", took, res)
			}
		})
	}
}

// One byte now and then in one direction keeps a tunnel.
func TestIdleTrickle(t *testing.T) {
	const idle = 800 * time.Millisecond // a busy machine may hold us up for a part of it
	for _, up := range []bool{true, false} {
		t.Run(map[bool]string{true: "up", false: "down"}[up], func(t *testing.T) {
			t.Parallel()
			r := start(t, tcpLink(t), tcpLink(t), Options{Idle: idle})
			from, to := r.client, r.server
			if !up {
				from, to = to, from
			}
			began := time.Now()
			tick := time.NewTicker(idle / 6)
			defer tick.Stop()
			for time.Since(began) < 4*idle {
				<-tick.C
				mustWrite(t, from, []byte{1})
				mustRead(t, to, 1)
			}
			if s := r.State(); s != Open {
				t.Fatalf("cut: %v", s)
			}
			mustEOF(t, to)
			if res := r.wait(t); res.End != IdleTimeout {
				t.Errorf("%+v", res)
			}
		})
	}
}

// A reader so slow that the relay writes nothing for longer than the idle timeout, while the kernel still delivers, is not idle. One that has stopped is.
func TestIdleSlowReader(t *testing.T) {
	t.Parallel()
	const idle = time.Second // shorter ones meet TCP's own pauses when a window is full
	r := start(t, tcpLink(t), tcpLink(t), Options{Idle: idle})
	r.client.(*net.TCPConn).SetReadBuffer(128 << 10)
	go func() {
		for b := make([]byte, 1<<20); ; {
			if _, err := r.server.Write(b); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 4<<10)
	began, quiet := time.Now(), false
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < 5*idle {
		<-tick.C
		if _, err := r.client.Read(b); err != nil {
			t.Fatalf("cut after %v: %v", time.Since(began), err)
		}
		quiet = quiet || time.Since(r.LastActivity()) > idle+idle/4
	}
	if !quiet {
		t.Log("the relay was never quiet for long; the test has shown little")
	}
	stopped := time.Now()
	if res := r.wait(t); res.End != IdleTimeout || time.Since(stopped) < idle/2 {
		t.Errorf("%v after the reader stopped: %+v", time.Since(stopped), res)
	}
}

func TestHalfClosedTimeout(t *testing.T) {
	const limit = 600 * time.Millisecond // likewise
	for _, tc := range []struct {
		name  string
		first Peer
		o     Options
		want  End
	}{
		{"client", Client, Options{HalfClosed: limit}, HalfClosedTimeout},
		{"server", Server, Options{HalfClosed: limit}, HalfClosedTimeout},
		{"beside idle", Client, Options{HalfClosed: limit, Idle: time.Hour}, HalfClosedTimeout},
		{"idle is shorter", Client, Options{HalfClosed: time.Hour, Idle: limit}, IdleTimeout},
		{"never", Client, Options{HalfClosed: -1, Idle: limit}, IdleTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, tcpLink(t), tcpLink(t), tc.o)
			ends, goesOn := r.client, r.server
			if tc.first == Server {
				ends, goesOn = goesOn, ends
			}
			ends.(*net.TCPConn).CloseWrite()
			mustEOF(t, goesOn)
			began := time.Now()
			tick := time.NewTicker(limit / 5)
			defer tick.Stop()
			for time.Since(began) < 2*limit { // bytes in the remaining direction keep it
				<-tick.C
				mustWrite(t, goesOn, []byte{1})
				mustRead(t, ends, 1)
			}
			last := r.LastActivity()
			mustEOF(t, ends)
			res := r.wait(t)
			if took := time.Since(last); res.End != tc.want || res.First != tc.first || !res.HalfClosed || took < limit {
				t.Errorf("%v after the last byte: %+v", took, res)
			}
		})
	}
}

// A tunnel may be used again, and carries nothing over.
func TestReuse(t *testing.T) {
	var tun Tunnel
	for i := range 5 {
		c, s := tcpLink(t), tcpLink(t)
		go func() {
			c.peer.Write(make([]byte, 100))
			c.peer.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, s.peer)
			s.peer.Close()
		}()
		res := tun.Run(Side{Conn: c.ours}, Side{Conn: s.ours}, Options{Idle: time.Minute})
		if res.Up != 100 || res.Down != 0 || res.End != ClientClosed {
			t.Fatalf("run %d: %+v", i, res)
		}
		tun.Reset()
	}
}
