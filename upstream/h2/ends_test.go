//lint:file-ignore SA1019 x/net/http2 is a peer here: it gives hold of one connection and of its limits, which net/http does not

package h2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// app is a handler that shows much of HTTP.
func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.URL, r.Header.Get("Cookie"))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for k, v := range r.Trailer {
			w.Header().Set("Got-"+k, v[0])
		}
		w.Write(b)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "Sum")
		w.(http.Flusher).Flush()
		io.Copy(w, r.Body)
		w.Header().Set("Sum", "42")
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("part"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	return mux
}

// ask goes through app with a client.
func ask(t *testing.T, cl *http.Client, base string) {
	t.Helper()
	get := func(method, path string, body io.Reader, edit func(*http.Request)) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, base+path, body)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(r)
		}
		resp, err := cl.Do(r)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s %s: body: %v", method, path, err)
		}
		return resp, string(b)
	}
	resp, body := get("GET", "/hello?x=1", nil, func(r *http.Request) { r.Header.Set("Cookie", "a=b; c=d") })
	if want := "GET a.example /hello?x=1 a=b; c=d"; resp.StatusCode != 200 || !strings.HasPrefix(strings.ReplaceAll(body, "http://a.example", ""), want) {
		t.Errorf("%d %q; want %q", resp.StatusCode, body, want)
	}
	resp, body = get("HEAD", "/hello", nil, nil)
	if resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	resp, body = get("GET", "/empty", nil, nil)
	if resp.StatusCode != 204 || body != "" {
		t.Errorf("204: %d %q", resp.StatusCode, body)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 30_000)
	for _, known := range []bool{true, false} {
		var r io.Reader = bytes.NewReader(big)
		if !known {
			r = io.MultiReader(r)
		}
		resp, body = get("POST", "/echo", r, nil)
		if resp.StatusCode != 200 || body != string(big) {
			t.Errorf("echo, known %v: %d, %d bytes", known, resp.StatusCode, len(body))
		}
	}
	resp, body = get("POST", "/echo", io.MultiReader(strings.NewReader("abc")), func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"7"}} })
	if body != "abc" || resp.Header.Get("Got-X-Sum") != "7" {
		t.Errorf("trailers of a request: %q, %v", body, resp.Header)
	}
	resp, body = get("POST", "/stream", io.MultiReader(bytes.NewReader(big)), nil)
	if body != string(big) || resp.Trailer.Get("Sum") != "42" {
		t.Errorf("trailers of a response: %d bytes, %v", len(body), resp.Trailer)
	}
	_, body = get("POST", "/echo", strings.NewReader("wait"), func(r *http.Request) { r.Header.Set("Expect", "100-continue") })
	if body != "wait" {
		t.Errorf("expect: %q", body)
	}
	r, err := cl.Get(base + "/abort")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err == nil {
		t.Errorf("an aborted response came to an end: %q", b)
	}
	r.Body.Close()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := strings.Repeat("x", i*1000)
			resp, err := cl.Post(base+"/echo", "", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != body {
				t.Errorf("%d: %d bytes, %v", i, len(b), err)
			}
		})
	}
	wg.Wait()
}

func goClient(t *testing.T, nc net.Conn) *http.Client {
	conns := make(chan net.Conn, 1)
	conns <- nc
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case c := <-conns:
			return c, nil
		default:
			return nil, errors.New("one connection is enough")
		}
	}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestGoClient(t *testing.T) {
	for _, absolute := range []bool{false, true} {
		a, b := pair(t)
		serve(t, b, ServerOptions{Absolute: absolute}, overHTTP1(t, app()))
		ask(t, goClient(t, a), "http://a.example")
	}
}

func goServer(t *testing.T, nc net.Conn, h http.Handler) {
	l := &streams{next: make(chan net.Conn, 1), end: make(chan struct{})}
	l.next <- nc
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Close(); <-done })
}

func TestGoServer(t *testing.T) {
	a, b := pair(t)
	goServer(t, b, app())
	ask(t, transport(t, dialed(t, a, ClientOptions{Scheme: "http"})), "http://a.example")
}

func TestBothEnds(t *testing.T) {
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, overHTTP1(t, app()))
	ask(t, transport(t, cl), "http://a.example")
	eventually(t, "all streams have ended", func() bool { return cl.Streams() == 0 })
}

// A stream inside a stream inside a stream: what looks like a connection is one.
func TestInsideEachOther(t *testing.T) {
	inner := overHTTP1(t, app())
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
		if head, _, err := readHead(&oneByte{s}); err != nil || !strings.HasPrefix(head, "CONNECT") {
			t.Error(head, err)
			return
		}
		io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		NewServer(s, ServerOptions{}).Serve(inner)
	})
	s := open(t, cl)
	s.SetDeadline(time.Time{})
	io.WriteString(s, "CONNECT in.side:1 HTTP/1.1\r\nHost: in.side:1\r\n\r\n")
	if head, _, err := readHead(&oneByte{s}); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatal(head, err)
	}
	ask(t, transport(t, dialed(t, s, ClientOptions{})), "http://a.example")
}

// oneByte reads no more than it must.
type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// tunnel answers CONNECT and gives back what comes.
func tunnel(s *Stream) {
	head, in, err := readHead(s)
	if err != nil || !strings.HasPrefix(head, "CONNECT ") {
		io.WriteString(s, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
		return
	}
	io.WriteString(s, "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n")
	io.Copy(s, in)
	s.CloseWrite()
	io.Copy(io.Discard, in)
}

func connect(t testing.TB, cl *Client) *Stream {
	t.Helper()
	s := open(t, cl)
	if _, err := io.WriteString(s, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic eHg=\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	head, _, err := readHead(&oneByte{s})
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatal(head, err)
	}
	return s
}

func TestTunnel(t *testing.T) {
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, tunnel)
	s := connect(t, cl)
	go func() {
		for i := range 1000 {
			s.Write(bytes.Repeat([]byte{byte(i)}, 5000))
		}
		s.CloseWrite()
	}()
	h := sha256.New()
	n, err := io.Copy(h, s)
	want := sha256.New()
	for i := range 1000 {
		want.Write(bytes.Repeat([]byte{byte(i)}, 5000))
	}
	if n != 5_000_000 || err != nil || !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("written behind CloseWrite")
	}
	eventually(t, "the stream has ended without Close", func() bool { return cl.Streams() == 0 })
}

func TestTunnelReset(t *testing.T) {
	got := make(chan error, 1)
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
		readHead(&oneByte{s})
		io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		_, err := io.Copy(io.Discard, s)
		got <- err
	})
	s := connect(t, cl)
	s.SetLinger(0)
	s.Close()
	err := <-got
	var se *StreamError
	if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &se) || se.Code != http2.ErrCodeCancel || !se.Remote {
		t.Errorf("%v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a closed stream: %v", err)
	}
	if err := s.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline of a closed stream: %v", err)
	}
	s = connect(t, cl) // the connection is as it was
	s.Close()
	if err := <-got; err != nil {
		t.Errorf("an orderly end: %v", err)
	}
}

func TestRefusedTunnel(t *testing.T) {
	next := make(chan error, 1)
	cl, _ := both(t, ServerOptions{}, ClientOptions{}, func(s *Stream) {
		_, in, _ := readHead(s)
		time.Sleep(20 * time.Millisecond) // what the client sends too early is here
		io.WriteString(s, "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno")
		b, err := io.ReadAll(in)
		if err == nil && len(b) > 0 {
			err = fmt.Errorf("a second request: %q", b)
		}
		next <- err
	})
	s := open(t, cl)
	io.WriteString(s, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nGET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n")
	b, err := io.ReadAll(s)
	want := crlf("HTTP/1.1 407 \nproxy-authenticate: Basic realm=\"x\"\nContent-Length: 2\nConnection: close\n\nno")
	if err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
	s.Close()
	if err := <-next; err != nil {
		t.Error(err)
	}
}

func TestWebSocket(t *testing.T) {
	const ask = "GET /chat HTTP/1.1\nHost: a.example\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
	var answer string
	key := make(chan string, 1)
	handle := func(s *Stream) {
		head, in, err := readHead(s)
		if err != nil || !strings.HasPrefix(head, "GET /chat HTTP/1.1\nHost: a.example\n") || !strings.Contains(head, "\nUpgrade: websocket\nConnection: Upgrade\n") ||
			!strings.Contains(head, "\nsec-websocket-version: 13\n") {
			t.Errorf("%q, %v", head, err)
		}
		_, k, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
		k, _, _ = strings.Cut(k, "\n")
		key <- k
		io.WriteString(s, strings.ReplaceAll(answer, "ACCEPT", acceptOf(k)))
		io.Copy(s, in)
	}
	cl, _ := both(t, ServerOptions{ExtendedConnect: true}, ClientOptions{}, handle)
	for _, tt := range []struct{ answer, head string }{
		{"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: ACCEPT\nSec-WebSocket-Protocol: p\n\n",
			"HTTP/1.1 101 \nsec-websocket-protocol: p\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nUpgrade: websocket\nConnection: Upgrade\n\n"},
		{"HTTP/1.1 101 x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: bad\n\n", "HTTP/1.1 502 \nContent-Length: 0\nConnection: close\n\n"},
		{"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 502 \nContent-Length: 0\nConnection: close\n\n"},
		{"HTTP/1.1 403 No\nContent-Length: 0\n\n", "HTTP/1.1 403 \nContent-Length: 0\nConnection: close\n\n"},
	} {
		answer = crlf(tt.answer)
		s := open(t, cl)
		if _, err := io.WriteString(s, crlf(ask)); err != nil {
			t.Fatal(err)
		}
		head, in, err := readHead(s)
		if err != nil || head != tt.head {
			t.Errorf("%q, %v", head, err)
		}
		if k := <-key; len(k) != 24 {
			t.Errorf("key %q", k)
		}
		if strings.Contains(head, " 101 ") {
			io.WriteString(s, "ping")
			b := make([]byte, 4)
			if _, err := io.ReadFull(in, b); err != nil || string(b) != "ping" {
				t.Errorf("%q, %v", b, err)
			}
		} else if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		s.Close()
	}
	cl, _ = both(t, ServerOptions{}, ClientOptions{}, func(*Stream) { t.Error("it came through") })
	s := open(t, cl)
	if _, err := io.WriteString(s, crlf(ask)); err != ErrNoExtendedConnect {
		t.Errorf("%v", err)
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("VIADUCT_REQUIRE_PEERS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	at := listening(t, overHTTP1(t, app()))
	out, err := exec.Command(curl, "-sS", "-m", "20", "--http2-prior-knowledge", "-d", "hello", "-w", " %{http_version} %{http_code}", "http://"+at+"/echo").CombinedOutput()
	if err != nil || string(out) != "hello 2 200" {
		t.Errorf("%s, %v", out, err)
	}
}

// listening serves connections until the test ends.
func listening(t *testing.T, handle func(*Stream)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { NewServer(nc, ServerOptions{}).Serve(handle) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}
