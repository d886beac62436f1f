package doctor

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"viaduct/upstream"
)

// idle leaves connections alone and sees who ends them, after how long, and whether they still carry bytes in the end.
func (x *exam) idle(open []*held, tunnel bool) {
	if tunnel {
		if h, err := x.lone(); err == nil {
			defer h.conn.Close()
			open = append(open, h)
		} else {
			x.step("idle", func(s *Step) { s.fail("idle_no_tunnel", "another tunnel could not be opened: %s", plain(err)) })
		}
	}
	if len(open) == 0 {
		return
	}
	start := time.Now()
	ends := make([]end, len(open))
	var wg sync.WaitGroup
	for i, h := range open {
		wg.Go(func() { ends[i] = x.leave(h, start.Add(x.Idle)) })
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	for waiting := true; waiting; {
		select {
		case <-over:
			waiting = false
		case <-t.C:
			x.Progress(fmt.Sprintf("leaving %d connection(s) alone: %s of %s", len(open), time.Since(start).Round(time.Second), x.Idle))
		}
	}
	for i, h := range open {
		s := x.step("idle", func(s *Step) { x.told(s, h, &ends[i]) })
		s.Took = millis(ends[i].after)
	}
}

// progressEvery is how often a person is told that the wait goes on.
const progressEvery = 5 * time.Second

// lone is a tunnel for idling: with TLS in it where the target has it, since that tells who ends it.
func (x *exam) lone() (*held, error) {
	c, _, no := x.route(upstream.Request{Target: x.Target, PlainConnect: true})
	if no != nil {
		return nil, no
	}
	h := &held{name: "tunnel", conn: x.hold(upstream.WithEarly(c.Conn, c.Early, c)), host: x.Target.Host}
	if x.secured {
		t := tls.Client(h.conn, &tls.Config{ServerName: x.Target.Host, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // nothing of ours goes there
		if err := t.Handshake(); err != nil {
			h.conn.Close()
			return nil, err
		}
		h.conn, h.tls = t, true
	}
	h.conn.SetDeadline(time.Time{})
	return h, nil
}

// end is what became of a connection.
type end struct {
	after time.Duration // that it was left alone
	cut   error         // who ended it did so with this; nil = nobody did
	heard int           // bytes that came meanwhile
	dead  error         // why no bytes passed in the end; nil = they did
	by    bool          // the end of TLS was said: it is the target's own
}

// leave waits on a connection until a time.
func (x *exam) leave(h *held, until time.Time) (e end) {
	start := time.Now()
	b := make([]byte, 4096)
	for {
		h.conn.SetReadDeadline(until)
		if x.ctx.Err() != nil {
			e.cut = x.ctx.Err()
			return e
		}
		n, err := h.conn.Read(b)
		e.heard += n
		e.after = time.Since(start)
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(until):
			e.dead = x.alive(h)
			return e
		case errors.Is(err, os.ErrDeadlineExceeded) && x.ctx.Err() == nil:
			continue
		}
		e.cut, e.by = err, h.tls && err == io.EOF
		return e
	}
}

// alive finds out whether bytes still pass.
func (x *exam) alive(h *held) error {
	by := time.Now().Add(x.Timeout)
	if h.ws {
		return ping(h.conn, by)
	}
	h.conn.SetDeadline(by)
	if _, err := fmt.Fprintf(h.conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", hostField(h.host)); err != nil {
		return err
	}
	var b [1]byte
	_, err := h.conn.Read(b[:])
	if err == io.EOF { // it was heard, and ended in good order
		return nil
	}
	return err
}

func hostField(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "[" + host + "]"
	}
	return host
}

// told says what became of a connection.
func (x *exam) told(s *Step, h *held, e *end) {
	s.fact("what", h.name)
	s.fact("after_s", e.after.Round(time.Millisecond).Seconds())
	after := e.after.Round(100 * time.Millisecond).String()
	s.about["after"] = after
	switch {
	case e.cut == nil && e.dead == nil:
		s.ok("%s: still there after %s, and bytes pass", h.name, after)
	case e.cut == nil:
		s.fact("ended_by", "nobody said so")
		s.fail("idle_dead", "%s: nobody ended it in %s, and then no byte passed: %s", h.name, after, plain(e.dead))
	case e.by:
		s.fact("ended_by", "target")
		s.warn("idle_target", "%s: the target itself ended it after %s (it said so inside TLS)", h.name, after)
	case errors.Is(e.cut, syscall.ECONNRESET):
		s.fact("ended_by", "reset")
		s.fail("idle_reset", "%s: it was reset after %s", h.name, after)
	case errors.Is(e.cut, io.EOF), errors.Is(e.cut, io.ErrUnexpectedEOF):
		s.fact("ended_by", "close")
		as, code := Warn, "idle_closed"
		if h.tls {
			as, code = Fail, "idle_closed_between"
		}
		s.wrong(as, code, "%s: it was closed after %s", h.name, after)
	default:
		s.fail("idle_failed", "%s: it failed after %s: %s", h.name, after, plain(e.cut))
	}
	if e.heard > 0 {
		s.detail("%d bytes came meanwhile", e.heard)
	}
}
