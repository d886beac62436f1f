package h2

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// TestAdmit: what is not admitted was not looked at, so the client may ask again; each that is admitted is handled once.
func TestAdmit(t *testing.T) {
	var room, admitted, handled atomic.Int64
	room.Store(1)
	hold := make(chan struct{})
	cl, _ := both(t, ServerOptions{Admit: func() bool {
		if room.Add(-1) < 0 {
			room.Add(1)
			return false
		}
		admitted.Add(1)
		return true
	}}, ClientOptions{}, func(s *Stream) {
		handled.Add(1)
		<-hold
		room.Add(1)
	})
	ask := func() error {
		s, err := cl.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(s, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		_, err = s.Read(make([]byte, 1))
		return err
	}
	first := make(chan error, 1)
	go func() { first <- ask() }()
	for end := time.Now().Add(5 * time.Second); handled.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	err := ask()
	var se *StreamError
	if !errors.As(err, &se) || !se.Unprocessed || !Unprocessed(err) {
		t.Errorf("one too many: %v", err)
	}
	close(hold)
	if err := <-first; err == nil {
		t.Error("a handler that answers nothing")
	}
	for end := time.Now().Add(5 * time.Second); room.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := ask(); Unprocessed(err) {
		t.Errorf("with room again: %v", err)
	}
	if a, h := admitted.Load(), handled.Load(); a != 2 || h != 2 {
		t.Errorf("%d were admitted and %d handled, want 2", a, h)
	}
}

// TestGone: a handler can ask whether its client is still there.
func TestGone(t *testing.T) {
	type answer struct{ before, after, early bool }
	for _, row := range []struct {
		name, send string
		leave      func(*Client, *Stream)
		want       answer
	}{
		{"a reset", "CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n", func(_ *Client, s *Stream) { s.Close() }, answer{false, true, true}},
		{"the connection", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", func(c *Client, _ *Stream) { c.Close() }, answer{false, true, true}},
		{"a tunnel that ends before it begins", "CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n", func(_ *Client, s *Stream) { s.CloseWrite() }, answer{false, true, false}},
	} {
		t.Run(row.name, func(t *testing.T) {
			here, left, got := make(chan bool), make(chan bool), make(chan answer, 1)
			cl, _ := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
				a := answer{before: s.Gone(false)}
				here <- true
				<-left
				for end := time.Now().Add(5 * time.Second); !s.Gone(false) && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				a.after, a.early = s.Gone(false), s.Gone(true)
				got <- a
			})
			s, err := cl.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(s, row.send)
			<-here
			row.leave(cl, s)
			close(left)
			if a := <-got; a != row.want {
				t.Errorf("%+v, want %+v", a, row.want)
			}
		})
	}
}
