package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sink grants tunnels; those to "stuck" it does not read, the others it gives back.
func sink(t testing.TB, leave <-chan struct{}) func(*Stream) {
	return func(s *Stream) {
		head, _, err := readHead(&oneByte{s})
		if err != nil {
			return
		}
		io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		if strings.HasPrefix(head, "CONNECT stuck") {
			<-leave
			return
		}
		io.Copy(s, s)
		s.CloseWrite()
	}
}

func connectTo(t testing.TB, cl *Client, host string) *Stream {
	t.Helper()
	s := open(t, cl)
	io.WriteString(s, "CONNECT "+host+":1 HTTP/1.1\r\nHost: "+host+":1\r\n\r\n")
	if head, _, err := readHead(&oneByte{s}); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Fatal(head, err)
	}
	return s
}

// Streams that nobody reads hold up nobody else, and cost what their windows are.
func TestUnreadStreams(t *testing.T) {
	leave := make(chan struct{})
	cl, srv := both(t, ServerOptions{}, ClientOptions{}, sink(t, leave))
	var wg sync.WaitGroup
	for range 100 {
		s := connectTo(t, cl, "stuck")
		wg.Go(func() {
			s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := s.Write(make([]byte, 1<<20))
			if !errors.Is(err, os.ErrDeadlineExceeded) || n > defaultWindow {
				t.Errorf("wrote %d, %v", n, err)
			}
		})
	}
	s := connectTo(t, cl, "free")
	go func() { s.Write(bytes.Repeat([]byte("x"), 20<<20)); s.CloseWrite() }()
	if n, err := io.Copy(io.Discard, s); n != 20<<20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	wg.Wait()
	srv.c.mu.Lock()
	held := 0
	for _, s := range srv.c.streams {
		held += s.buf.len()
	}
	srv.c.mu.Unlock()
	if held > 100*defaultWindow {
		t.Errorf("%d bytes held", held)
	}
	close(leave)
}

// A stream that writes as fast as it can leaves room for one that says little.
func TestFairness(t *testing.T) {
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, sink(t, nil))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		s := connectTo(t, cl, "busy")
		s.SetDeadline(time.Time{})
		wg.Go(func() { io.Copy(io.Discard, s) })
		wg.Go(func() {
			b := make([]byte, 1<<20)
			for {
				select {
				case <-stop:
					s.Close()
					return
				default:
					s.Write(b)
				}
			}
		})
	}
	s := connectTo(t, cl, "small")
	b := make([]byte, 1)
	start := time.Now()
	for range 50 {
		s.Write(b)
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("50 small words took %v", d)
	}
	close(stop)
	wg.Wait()
}

func TestDeadlines(t *testing.T) {
	leave := make(chan struct{})
	defer close(leave)
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, sink(t, leave))
	s := connectTo(t, cl, "stuck")
	var one [1]byte
	wakes := func(what string, f func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		select {
		case err := <-done:
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not woken", what)
		}
	}
	read := func() error { _, err := s.Read(one[:]); return err }
	s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	wakes("read deadline", read)
	wakes("... that has passed", read)
	s.SetReadDeadline(time.Time{})
	time.AfterFunc(20*time.Millisecond, func() { s.SetReadDeadline(time.Unix(1, 0)) })
	wakes("set meanwhile", read)
	s.SetReadDeadline(time.Now().Add(time.Hour))
	time.AfterFunc(20*time.Millisecond, func() { s.SetDeadline(time.Now().Add(20 * time.Millisecond)) })
	wakes("shortened meanwhile", func() error { return s.WaitRead() })
	s.SetDeadline(time.Time{})
	time.AfterFunc(50*time.Millisecond, func() { s.SetWriteDeadline(time.Unix(1, 0)) })
	wakes("write", func() error { _, err := s.Write(make([]byte, 1<<20)); return err })
	s.SetDeadline(time.Now().Add(10 * time.Millisecond)) // moved on before it fires
	s.SetDeadline(time.Now().Add(time.Hour))
	time.Sleep(30 * time.Millisecond)
	go func() { time.Sleep(20 * time.Millisecond); s.Close() }()
	if err := read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestManyStreams(t *testing.T) {
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, sink(t, nil))
	connectTo(t, cl, "first").Close() // SETTINGS are here
	var all []*Stream
	for range 250 {
		all = append(all, connectTo(t, cl, "many"))
	}
	if n := cl.Available(); n != 0 {
		t.Errorf("%d places left", n)
	}
	if _, err := cl.TryOpen(); err != ErrFull {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	if _, err := cl.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()
	var wg sync.WaitGroup
	for i, s := range all {
		want := bytes.Repeat([]byte{byte(i)}, 1000*(i%50+1))
		wg.Go(func() {
			go func() { s.Write(want); s.CloseWrite() }()
			if b, err := io.ReadAll(s); err != nil || !bytes.Equal(b, want) {
				t.Errorf("stream %d: %d bytes, %v", i, len(b), err)
			}
			s.Close()
		})
	}
	late, err := cl.Open(context.Background()) // waits for one of them
	if err != nil {
		t.Fatal(err)
	}
	late.Close()
	wg.Wait()
	eventually(t, "none is left", func() bool { return cl.Streams() == 0 && cl.Available() == 250 })
}

// What the connection below does is told to all streams as a reset.
func TestConnectionBreaks(t *testing.T) {
	a, b := pair(t)
	srv := serve(t, b, ServerOptions{}, sink(t, nil))
	cl := dialed(t, a, ClientOptions{})
	s := connectTo(t, cl, "x")
	b.(*net.TCPConn).SetLinger(0)
	b.Close()
	_, err := s.Read(make([]byte, 1))
	var ce *ConnError
	if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &ce) || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if _, err := cl.Open(context.Background()); err != ErrClosing {
		t.Error(err)
	}
	<-cl.Done()
	if cl.Err() == nil {
		t.Error("no error")
	}
	srv.wait(t)
}

// A body that is not read to its end gives its window back.
func TestHalfReadBody(t *testing.T) {
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
		readHead(&oneByte{s})
		io.WriteString(s, "HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
	})
	for range 200 { // 200 times 64 KiB are three windows of the connection
		s := open(t, cl)
		io.WriteString(s, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
		s.Write(make([]byte, 1000000)) // to the end, or to the reset
		b, err := io.ReadAll(s)
		if !strings.HasPrefix(string(b), "HTTP/1.1 413") || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		s.Close()
	}
}
