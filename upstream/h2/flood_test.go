package h2

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// silentHandler takes requests and answers none.
func silentHandler(s *Stream) { readHead(&oneByte{s}); io.Copy(io.Discard, s) }

func TestFloods(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(r *raw, i int) // until it fails
	}{
		{"rapid reset", func(r *raw, i int) {
			id := uint32(2*i + 1)
			r.headers(id, true, get...)
			r.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{"made you reset: window of 0", func(r *raw, i int) {
			id := uint32(2*i + 1)
			r.headers(id, true, get...)
			r.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
		}},
		{"made you reset: window too large", func(r *raw, i int) {
			id := uint32(2*i + 1)
			r.headers(id, true, get...)
			r.fr.WriteWindowUpdate(id, 1<<31-1)
		}},
		{"made you reset: DATA behind the end", func(r *raw, i int) {
			id := uint32(2*i + 1)
			r.headers(id, true, get...)
			r.fr.WriteData(id, true, []byte("x"))
		}},
		{"made you reset: malformed requests", func(r *raw, i int) { r.headers(uint32(2*i+1), true, with(get, "te", "x")...) }},
		{"streams beyond the limit", func(r *raw, i int) { r.headers(uint32(2*i+1), true, get...) }},
		{"PING", func(r *raw, i int) { r.fr.WritePing(false, [8]byte{}) }},
		{"PING answers", func(r *raw, i int) { r.fr.WritePing(true, [8]byte{}) }},
		{"SETTINGS", func(r *raw, i int) { r.fr.WriteSettings() }},
		{"PRIORITY", func(r *raw, i int) { r.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0}) }},
		{"unknown frames", func(r *raw, i int) { r.fr.WriteRawFrame(0x55, 0, 0, nil) }},
		{"WINDOW_UPDATE", func(r *raw, i int) { r.fr.WriteWindowUpdate(0, 1) }},
		{"RST_STREAM", func(r *raw, i int) {
			if i == 0 {
				r.headers(1, true, get...)
			}
			r.fr.WriteRSTStream(1, 8)
		}},
		{"empty DATA", func(r *raw, i int) {
			if i == 0 {
				r.headers(1, false, get...)
			}
			r.fr.WriteData(1, false, nil)
		}},
		{"CONTINUATION", func(r *raw, i int) {
			if i == 0 {
				r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
			}
			r.fr.WriteContinuation(1, false, r.block("a", "b"))
		}},
		{"empty CONTINUATION", func(r *raw, i int) {
			if i == 0 {
				r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
			}
			r.fr.WriteContinuation(1, false, nil)
		}},
		{"large CONTINUATION", func(r *raw, i int) {
			if i == 0 {
				r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
			}
			r.fr.WriteContinuation(1, false, bytes.Repeat(r.block("a", strings.Repeat("x", 1000)), 10))
		}},
		{"small fields for ever", func(r *raw, i int) {
			id := uint32(2*i + 1)
			b := append(r.block(get...), bytes.Repeat(r.block("a", strings.Repeat("x", 3900)), 1)...)
			b = append(b, bytes.Repeat([]byte{0xbe}, 10_000)...)
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndHeaders: true, EndStream: true})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, s := rawClient(t, ServerOptions{}, silentHandler)
			got := make(chan string, 1)
			go func() {
				for {
					o := r.outcome()
					if strings.HasPrefix(o, "GOAWAY") || strings.HasPrefix(o, "closed") {
						got <- o
						return
					}
				}
			}()
			var err error
			for i := 0; i < 20_000; i++ {
				tt.send(r, i)
				select {
				case o := <-got:
					if o != calm {
						t.Errorf("%s after %d", o, i)
					}
					r.nc.Close()
					s.wait(t)
					return
				default:
				}
			}
			select {
			case o := <-got:
				if o != calm {
					t.Error(o)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("not ended: %v", err)
			}
		})
	}
}

// A peer that asks for answers and does not read them.
func TestPeerThatDoesNotRead(t *testing.T) {
	r, s := rawClient(t, ServerOptions{WriteTimeout: 300 * time.Millisecond, HandshakeTimeout: 300 * time.Millisecond}, func(s *Stream) {
		readHead(&oneByte{s})
		io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := s.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.fr.WriteWindowUpdate(0, 1<<30)
	for i := range 5 {
		r.headers(uint32(2*i+1), true, get...)
	}
	if err := s.wait(t); err == nil || !strings.Contains(err.Error(), "takes nothing") {
		t.Errorf("%v", err)
	}
}

// Handlers of streams that were reset count until they are gone.
func TestResetsDoNotMultiplyHandlers(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	r, _ := rawClient(t, ServerOptions{MaxStreams: 10}, func(s *Stream) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		now.Add(-1)
	})
	defer close(release)
	refused := 0
	for i := range 100 {
		id := uint32(2*i + 1)
		r.headers(id, true, get...)
		r.fr.WriteRSTStream(id, 8)
	}
	r.fr.WritePing(false, [8]byte{'x'})
	for {
		o := r.outcome()
		if strings.HasPrefix(o, "PING") {
			break
		}
		if strings.HasSuffix(o, "REFUSED_STREAM") {
			refused++
		}
	}
	if most.Load() > 20 || refused != 80 {
		t.Errorf("%d handlers at once, %d refused", most.Load(), refused)
	}
}

func TestTimes(t *testing.T) {
	short := ServerOptions{HandshakeTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour}
	t.Run("no preface", func(t *testing.T) {
		t.Parallel()
		a, b := pair(t)
		s := serve(t, b, short, ok)
		if err := s.wait(t); err == nil || !strings.Contains(err.Error(), "no preface") {
			t.Error(err)
		}
		a.Close()
	})
	t.Run("slow preface", func(t *testing.T) {
		t.Parallel()
		a, b := pair(t)
		s := serve(t, b, short, ok)
		for _, c := range []byte(http2.ClientPreface[:20]) {
			a.Write([]byte{c})
			time.Sleep(5 * time.Millisecond)
		}
		s.wait(t)
	})
	t.Run("another protocol", func(t *testing.T) {
		t.Parallel()
		a, b := pair(t)
		s := serve(t, b, ServerOptions{}, ok)
		io.WriteString(a, "GET / HTTP/1.1\r\n")
		if err := s.wait(t); err == nil || !strings.Contains(err.Error(), "begin") {
			t.Error(err)
		}
	})
	t.Run("headers that do not end", func(t *testing.T) {
		t.Parallel()
		r, s := rawClient(t, short, ok)
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
		if got := r.outcome(); got != calm {
			t.Error(got)
		}
		s.wait(t)
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		r, s := rawClient(t, ServerOptions{IdleTimeout: 50 * time.Millisecond}, ok)
		if got := r.outcome(); got != "GOAWAY NO_ERROR" {
			t.Error(got)
		}
		r.nc.Close()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
	t.Run("peer that does not answer", func(t *testing.T) {
		t.Parallel()
		r, s := rawClient(t, ServerOptions{PingInterval: 30 * time.Millisecond, PingTimeout: 60 * time.Millisecond}, silentHandler)
		r.headers(1, true, get...)
		if err := s.wait(t); err == nil || !strings.Contains(err.Error(), "PING") {
			t.Error(err)
		}
	})
	t.Run("peer that answers", func(t *testing.T) {
		t.Parallel()
		cl, s := both(t, ServerOptions{PingInterval: 20 * time.Millisecond, PingTimeout: 5 * time.Second}, ClientOptions{}, tunnel)
		connect(t, cl)
		time.Sleep(200 * time.Millisecond)
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		if s.c.err != nil {
			t.Error(s.c.err)
		}
	})
}

func TestEarly(t *testing.T) {
	for _, n := range []int{1, 5, 24, 30} {
		a, b := pair(t)
		var all bytes.Buffer
		r := newRaw(t, a)
		all.WriteString(http2.ClientPreface)
		r.fr = http2.NewFramer(&all, a)
		r.fr.WriteSettings()
		r.headers(1, true, get...)
		serve(t, b, ServerOptions{Early: bytes.Clone(all.Bytes()[:n])}, ok)
		a.Write(all.Bytes()[n:])
		if got := r.outcome(); got != fine {
			t.Errorf("%d early: %s", n, got)
		}
	}
}

func TestShutdown(t *testing.T) {
	started, release := make(chan bool), make(chan bool)
	cl, s := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
		readHead(&oneByte{s})
		started <- true
		<-release
		io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	st := open(t, cl)
	io.WriteString(st, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-started
	waiting := open(t, cl) // opened, but nothing was sent yet
	s.Shutdown()
	eventually(t, "the client knows", func() bool { return !cl.Usable() })
	if _, err := cl.TryOpen(); err != ErrClosing {
		t.Error(err)
	}
	if _, err := io.WriteString(waiting, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !Unprocessed(err) {
		t.Errorf("%v", err)
	}
	waiting.Close()
	close(release)
	if b, err := io.ReadAll(st); err != nil || !strings.HasSuffix(string(b), "ok") {
		t.Errorf("%q, %v", b, err)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	<-cl.Done()
	if err := cl.Err(); err != nil {
		t.Error(err)
	}
	a, b := pair(t)
	srv := NewServer(b, ServerOptions{})
	srv.Shutdown()
	r := newRaw(t, a)
	done := make(chan error)
	go func() { done <- srv.Serve(ok) }()
	if got := r.outcome(); got != "GOAWAY NO_ERROR" {
		t.Error(got)
	}
	a.Close()
	<-done
}
