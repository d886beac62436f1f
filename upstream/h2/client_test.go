package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// rawServer is a server of ours that sends what it is told to, and has taken the client's preface.
func rawServer(t testing.TB, o ClientOptions, set ...http2.Setting) (*raw, *Client) {
	a, b := pair(t)
	cl := dialed(t, a, o)
	t.Cleanup(func() { b.Close() }) // before the client is: it need not wait for us then
	r := newRaw(t, b)
	if _, err := io.ReadFull(b, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	r.fr.WriteSettings(set...)
	return r, cl
}

// request waits for the next HEADERS, and returns what they say.
func (r *raw) request() (id uint32, fields string) {
	r.t.Helper()
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			r.t.Fatal(err)
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			list, err := r.dec.DecodeFull(h.HeaderBlockFragment())
			if err != nil {
				r.t.Fatal(err)
			}
			var b strings.Builder
			for _, f := range list {
				fmt.Fprintf(&b, "%s=%s ", f.Name, f.Value)
			}
			return h.StreamID, strings.TrimSpace(b.String())
		}
	}
}

// answers of servers, and what a client makes of them. want is what is read in the end, or the error's text.
var answers = []struct {
	section, name string
	method        string
	send          func(r *raw)
	want          string
	conn          bool // the whole connection ends
}{
	{"8.1", "length", "GET", func(r *raw) {
		r.headers(1, false, ":status", "200", "content-length", "2")
		r.fr.WriteData(1, true, []byte("ok"))
	},
		"HTTP/1.1 200 \nContent-Length: 2\nConnection: close\n\nok", false},
	{"8.1", "no length", "GET", func(r *raw) { r.headers(1, false, ":status", "200"); r.fr.WriteData(1, true, []byte("ok")) },
		"HTTP/1.1 200 \nTransfer-Encoding: chunked\nConnection: close\n\n2\nok\n0\n\n", false},
	{"8.1", "no content", "GET", func(r *raw) { r.headers(1, true, ":status", "404") }, "HTTP/1.1 404 \nContent-Length: 0\nConnection: close\n\n", false},
	{"8.1", "interim and trailers", "GET", func(r *raw) {
		r.headers(1, false, ":status", "103", "link", "x")
		r.headers(1, false, ":status", "200")
		r.headers(1, true, "sum", "1")
	}, "HTTP/1.1 103 \nlink: x\n\nHTTP/1.1 200 \nTransfer-Encoding: chunked\nConnection: close\n\n0\nsum: 1\n\n", false},
	{"8.1", "HEAD", "HEAD", func(r *raw) { r.headers(1, true, ":status", "200", "content-length", "9") }, "HTTP/1.1 200 \nContent-Length: 9\nConnection: close\n\n", false},
	{"8.1", "304", "GET", func(r *raw) { r.headers(1, true, ":status", "304", "content-length", "9") }, "HTTP/1.1 304 \nContent-Length: 9\nConnection: close\n\n", false},
	{"8.1", "204", "GET", func(r *raw) { r.headers(1, true, ":status", "204") }, "HTTP/1.1 204 \nConnection: close\n\n", false},
	{"8.1", "the end, then NO_ERROR", "GET", func(r *raw) { r.headers(1, true, ":status", "200"); r.fr.WriteRSTStream(1, 0) }, "HTTP/1.1 200 \nContent-Length: 0\nConnection: close\n\n", false},
	{"8.3.2", "no :status", "GET", func(r *raw) { r.headers(1, true, "x", "y") }, "no :status", false},
	{"8.3.2", ":status twice", "GET", func(r *raw) { r.headers(1, true, ":status", "200", ":status", "200") }, "twice", false},
	{"8.3.2", ":status of words", "GET", func(r *raw) { r.headers(1, true, ":status", "2OO") }, "malformed :status", false},
	{"8.3.2", ":status of four digits", "GET", func(r *raw) { r.headers(1, true, ":status", "0200") }, "malformed :status", false},
	{"8.3.2", ":status with a sign", "GET", func(r *raw) { r.headers(1, true, ":status", "+20") }, "malformed :status", false},
	{"8.3.2", "pseudo-field of requests", "GET", func(r *raw) { r.headers(1, true, ":status", "200", ":path", "/") }, "does not belong", false},
	{"8.6", "101", "GET", func(r *raw) { r.headers(1, false, ":status", "101") }, "malformed :status", false},
	{"8.1", "interim with the end", "GET", func(r *raw) { r.headers(1, true, ":status", "103") }, "informational", false},
	{"8.1", "interim for ever", "GET", func(r *raw) {
		for range 40 {
			r.headers(1, false, ":status", "103")
		}
	}, "too many informational", false},
	{"8.1", "DATA before HEADERS", "GET", func(r *raw) { r.fr.WriteData(1, true, []byte("x")) }, "DATA before HEADERS", false},
	{"8.1.1", "shorter than content-length", "GET", func(r *raw) {
		r.headers(1, false, ":status", "200", "content-length", "9")
		r.fr.WriteData(1, true, []byte("ok"))
	}, "content unlike", false},
	{"8.1.1", "longer than content-length", "GET", func(r *raw) {
		r.headers(1, false, ":status", "200", "content-length", "1")
		r.fr.WriteData(1, true, []byte("ok"))
	}, "content unlike", false},
	{"8.1.1", "content of HEAD", "HEAD", func(r *raw) { r.headers(1, false, ":status", "200"); r.fr.WriteData(1, true, []byte("ok")) }, "content where there is none", false},
	{"8.2.1", "capitals", "GET", func(r *raw) { r.headers(1, true, ":status", "200", "X", "y") }, "capitals", false},
	{"8.2.1", "LF", "GET", func(r *raw) { r.headers(1, true, ":status", "200", "x", "y\nz") }, "malformed field value", false},
	{"8.2.2", "Connection", "GET", func(r *raw) { r.headers(1, true, ":status", "200", "connection", "close") }, "one connection", false},
	{"8.2.2", "Transfer-Encoding", "GET", func(r *raw) { r.headers(1, true, ":status", "200", "transfer-encoding", "chunked") }, "one connection", false},
	{"8.1", "reset within", "GET", func(r *raw) { r.headers(1, false, ":status", "200"); r.fr.WriteRSTStream(1, 2) }, "the peer reset the stream: INTERNAL_ERROR", false},
	{"8.4", "PUSH_PROMISE", "GET", func(r *raw) {
		r.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(get...), EndHeaders: true})
	}, "PUSH_PROMISE", true},
	{"5.1", "HEADERS on an idle stream", "GET", func(r *raw) { r.headers(3, true, ":status", "200") }, "idle", true},
	{"5.1.1", "HEADERS on an even stream", "GET", func(r *raw) { r.headers(2, true, ":status", "200") }, "idle", true},
	{"6.5.2", "ENABLE_PUSH 1", "GET", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }, "pushes", true},
	{"8441 3", "extended CONNECT taken back", "GET", func(r *raw) {
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 0})
	}, "taken back", true},
	{"6.8", "GOAWAY with an error", "GET", func(r *raw) { r.fr.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte("debug")) }, "ENHANCE_YOUR_CALM", true},
}

func TestAnswers(t *testing.T) {
	for _, tt := range answers {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			r, cl := rawServer(t, ClientOptions{})
			s := open(t, cl)
			io.WriteString(s, tt.method+" /p HTTP/1.1\r\nHost: a.example\r\nConnection: x\r\nX: gone\r\nTE: gzip, trailers\r\n\r\n")
			if id, fields := r.request(); id != 1 || fields != ":method="+tt.method+" :scheme=https :authority=a.example :path=/p te=trailers" {
				t.Errorf("%d %s", id, fields)
			}
			tt.send(r)
			b, err := io.ReadAll(s)
			got := strings.ReplaceAll(string(b), "\r\n", "\n")
			if strings.HasPrefix(tt.want, "HTTP/") {
				if got != tt.want || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q, %v", got, err)
			}
			if usable := cl.Usable(); usable == tt.conn {
				t.Errorf("the connection: usable %v", usable)
			}
		})
	}
}

// TestGoAway: streams above the last one that the server has looked at may be asked again, others come to their end.
func TestGoAway(t *testing.T) {
	r, cl := rawServer(t, ClientOptions{})
	var all []*Stream
	for range 3 {
		s := open(t, cl)
		io.WriteString(s, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
		r.request()
		all = append(all, s)
	}
	r.fr.WriteGoAway(3, http2.ErrCodeNo, nil)
	if _, err := all[2].Read(make([]byte, 1)); !Unprocessed(err) {
		t.Errorf("the third: %v", err)
	}
	if _, err := cl.Open(context.Background()); err != ErrClosing {
		t.Error(err)
	}
	for i, s := range all[:2] {
		if _, err := io.WriteString(s, "hello"); err != nil {
			t.Error(err)
		}
		r.headers(uint32(2*i+1), true, ":status", "200")
		if b, err := io.ReadAll(s); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
			t.Errorf("%q, %v", b, err)
		}
	}
	if got := r.outcome(); got != "GOAWAY NO_ERROR" {
		t.Errorf("the client keeps a connection that nobody can use: %s", got)
	}
	r.nc.Close()
	<-cl.Done()
	if cl.Err() != nil {
		t.Error(cl.Err())
	}
}

func TestRefusedStream(t *testing.T) {
	r, cl := rawServer(t, ClientOptions{})
	for i := range 3 {
		s := open(t, cl)
		io.WriteString(s, "GET /p HTTP/1.1\r\nHost: a\r\n\r\n")
		id, _ := r.request()
		if i < 2 {
			continue
		}
		r.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		_, err := s.Read(make([]byte, 1))
		var se *StreamError
		if !Unprocessed(err) || !errors.As(err, &se) || !se.Remote {
			t.Errorf("%v", err)
		}
		s.Close()
	}
	if n := cl.Available(); n != 0 {
		t.Errorf("%d places at a server that has just refused one", n)
	}
	r.headers(1, true, ":status", "200") // one is done, the next can come
	eventually(t, "a place", func() bool { return cl.Available() > 0 })
}

// TestPeerSettings: windows may shrink below what is under way, and grow; the compression table may be forbidden.
func TestPeerSettings(t *testing.T) {
	set := func(id http2.SettingID, v uint32) http2.Setting { return http2.Setting{ID: id, Val: v} }
	r, cl := rawServer(t, ClientOptions{}, set(http2.SettingInitialWindowSize, 10), set(http2.SettingHeaderTableSize, 0), set(http2.SettingMaxFrameSize, 1<<20))
	<-cl.Ready()
	s := open(t, cl)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(s, "POST /p HTTP/1.1\r\nHost: a\r\nX-Long: "+strings.Repeat("y", 100)+"\r\nContent-Length: 40000\r\n\r\n"+strings.Repeat("z", 40000))
		wrote <- err
	}()
	id, _ := r.request()
	got := 0
	take := func(n int) {
		t.Helper()
		for got < n {
			f, err := r.fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := f.(*http2.DataFrame); ok {
				if got += len(d.Data()); got > n || len(d.Data()) > 16384 {
					t.Fatalf("%d bytes, %d allowed; a frame of %d", got, n, len(d.Data()))
				}
			}
		}
	}
	take(10)
	r.fr.WriteSettings(set(http2.SettingInitialWindowSize, 0)) // the window is -10 now
	r.fr.WriteWindowUpdate(id, 10)                             // 0
	r.fr.WriteWindowUpdate(id, 5)
	take(15)
	r.fr.WriteSettings(set(http2.SettingInitialWindowSize, 1000))
	take(1015)
	r.fr.WriteWindowUpdate(id, 1<<20)
	take(40000)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	s2 := open(t, cl) // nothing was put into the table
	io.WriteString(s2, "GET /p HTTP/1.1\r\nHost: a\r\nX-Long: "+strings.Repeat("y", 100)+"\r\n\r\n")
	if _, fields := r.request(); !strings.Contains(fields, strings.Repeat("y", 100)) {
		t.Error(fields)
	}
}

// TestPadding: a peer that sends nothing but padding gets its window back.
func TestPadding(t *testing.T) {
	r, _ := rawClient(t, ServerOptions{}, silentHandler)
	r.headers(1, false, get...)
	granted := int64(defaultWindow)
	for sent := int64(0); sent < 4*defaultWindow; sent += 201 {
		r.fr.WriteDataPadded(1, false, []byte("x")[:sent%2], bytes.Repeat([]byte{0}, 200))
		for granted-sent < 1000 {
			f, err := r.fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				if f.StreamID == 1 {
					granted += int64(f.Increment)
				}
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				t.Fatalf("%v", f)
			}
		}
	}
}

// TestHeadsAreNotStarved: a new request goes out however much data others have.
func TestHeadsAreNotStarved(t *testing.T) {
	cl, _ := both(t, ServerOptions{MaxWindow: 1 << 24, MaxBuffered: 1 << 26}, ClientOptions{}, func(s *Stream) {
		head, in, err := readHead(s)
		if err != nil {
			return
		}
		if strings.HasPrefix(head, "CONNECT") {
			io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(io.Discard, in)
			return
		}
		io.WriteString(s, "HTTP/1.1 204 No\r\n\r\n")
	})
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 4 {
		s := connect(t, cl)
		s.SetDeadline(time.Time{})
		go func() {
			defer func() { done <- struct{}{} }()
			b := make([]byte, 1<<20)
			for {
				select {
				case <-stop:
					return
				default:
					s.Write(b)
				}
			}
		}()
	}
	for range 50 {
		s := open(t, cl)
		io.WriteString(s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if b, err := io.ReadAll(s); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 204") {
			t.Fatalf("%q, %v", b, err)
		}
		s.Close()
	}
	close(stop)
	for range 4 {
		<-done
	}
}

// TestRealClients loads a server with h2load and asks it with nghttp, where they are.
func TestRealClients(t *testing.T) {
	for _, tt := range []struct{ program, args, want string }{
		{"h2load", "-n 2000 -c 4 -m 100", "2000 succeeded, 0 failed, 0 errored"},
		{"nghttp", "-nv", "END_STREAM"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			path, err := exec.LookPath(tt.program)
			if err != nil {
				if os.Getenv("VIADUCT_REQUIRE_PEERS") == "1" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			at := listening(t, overHTTP1(t, app()))
			out, err := exec.Command(path, append(strings.Fields(tt.args), "http://"+at+"/hello")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func BenchmarkTunnel(b *testing.B) {
	cl, _ := both(b, ServerOptions{}, ClientOptions{}, tunnel)
	s := connect(b, cl)
	s.SetDeadline(time.Time{})
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	go func() {
		for range b.N {
			s.Write(p)
		}
		s.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, s); n != int64(b.N*len(p)) || err != nil {
		b.Fatal(n, err)
	}
}

func BenchmarkRequest(b *testing.B) {
	cl, _ := both(b, ServerOptions{}, ClientOptions{}, ok)
	b.ReportAllocs()
	buf := make([]byte, 4096)
	for range b.N {
		s, err := cl.TryOpen()
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for {
			if _, err := s.Read(buf); err != nil {
				break
			}
		}
		s.Close()
	}
}
