package h2

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair is a TCP connection, both ends of it.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// serving is a Server that runs.
type serving struct {
	*Server
	ended chan error
}

func serve(t testing.TB, nc net.Conn, o ServerOptions, handle func(*Stream)) *serving {
	s := &serving{NewServer(nc, o), make(chan error, 1)}
	go func() { s.ended <- s.Serve(handle) }()
	t.Cleanup(func() {
		s.Close()
		nc.Close()
		s.wait(t)
	})
	return s
}

func (s *serving) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(10 * time.Second):
		t.Error("Serve does not return")
		return errors.New("stuck")
	}
}

func dialed(t testing.TB, nc net.Conn, o ClientOptions) *Client {
	c, err := NewClient(nc, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Error("the client does not end")
		}
	})
	return c
}

// both are our two ends, against each other.
func both(t testing.TB, so ServerOptions, co ClientOptions, handle func(*Stream)) (*Client, *serving) {
	a, b := pair(t)
	s := serve(t, b, so, handle)
	return dialed(t, a, co), s
}

// streams is a net.Listener of streams: what serves HTTP/1.1 on connections serves it on them.
type streams struct {
	next chan net.Conn
	once sync.Once
	end  chan struct{}
}

func (l *streams) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.end:
		return nil, net.ErrClosed
	}
}
func (l *streams) Close() error   { l.once.Do(func() { close(l.end) }); return nil }
func (l *streams) Addr() net.Addr { return &net.TCPAddr{} }

// watched tells when a connection is closed.
type watched struct {
	*Stream
	once sync.Once
	done chan struct{}
}

func (w *watched) Close() error {
	err := w.Stream.Close()
	w.once.Do(func() { close(w.done) })
	return err
}

// overHTTP1 serves streams with Go's HTTP/1.1 server.
func overHTTP1(t testing.TB, h http.Handler) func(*Stream) {
	l := &streams{next: make(chan net.Conn), end: make(chan struct{})}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return func(s *Stream) {
		w := &watched{Stream: s, done: make(chan struct{})}
		l.next <- w
		<-w.done
	}
}

// transport asks over streams of cl with Go's HTTP/1.1 client.
func transport(t testing.TB, cl *Client) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		s, err := cl.Open(ctx)
		if err != nil {
			return nil, err
		}
		return s, nil
	}, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func open(t testing.TB, cl *Client) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := cl.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.SetDeadline(time.Now().Add(20 * time.Second))
	return s
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// readHead reads up to the empty line.
func readHead(r io.Reader) (string, *bufio.Reader, error) {
	b := bufio.NewReader(r)
	var s strings.Builder
	for {
		line, err := b.ReadString('\n')
		s.WriteString(strings.ReplaceAll(line, "\r\n", "\n"))
		if err != nil || line == "\r\n" {
			return s.String(), b, err
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
