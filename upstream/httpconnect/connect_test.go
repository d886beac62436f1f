package httpconnect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/http1"

	"github.com/google/go-cmp/cmp"
)

// script is a proxy that answers each write with the next of its lines, in
// pieces of that size.
type script struct {
	answers []string
	size    int
	sent    bytes.Buffer
	pending []byte
	end     error
}

func (s *script) Write(p []byte) (int, error) {
	s.sent.Write(p)
	if len(s.answers) > 0 {
		s.pending = append(s.pending, s.answers[0]...)
		s.answers = s.answers[1:]
	}
	return len(p), nil
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.pending) == 0 {
		if s.end != nil {
			return 0, s.end
		}
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

var connectTests = []struct {
	name   string
	in     string
	tunnel string // with a 2xx
	status int    // of a *StatusError
	saw    string // of a *ProtocolError; "http" for a malformed reply
	err    error  // otherwise
}{
	{name: "plain", in: "HTTP/1.1 200 Connection established\n\n"},
	{name: "early bytes", in: "HTTP/1.0 200 OK\nVia: x\n\nSSH-2.0-x\n", tunnel: "SSH-2.0-x\r\n"},
	{name: "no reason, bare LF", in: "HTTP/1.1 200\n\nx", tunnel: "x"},
	{name: "framing is ignored", in: "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked\n\nabcdef", tunnel: "abcdef"},
	{name: "framing is junk", in: "HTTP/1.1 200 OK\nContent-Length: -1\nContent-Length: x\n\nab", tunnel: "ab"},
	{name: "another 2xx", in: "HTTP/1.1 204 x\n\nab", tunnel: "ab"},
	{name: "many early bytes", in: "HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 9000), tunnel: strings.Repeat("x", 9000)},
	{name: "1xx before", in: strings.Repeat("HTTP/1.1 102 Processing\nX: y\n\n", 32) + "HTTP/1.1 200 OK\n\nx", tunnel: "x"},
	{name: "1xx for ever", in: strings.Repeat("HTTP/1.1 102 Processing\nX: y\n\n", 33) + "HTTP/1.1 200 OK\n\nx", saw: "http"},
	{name: "101", in: "HTTP/1.1 101 Switching\nUpgrade: x\nConnection: upgrade\n\n", saw: "101 (Switching Protocols)"},
	{name: "407", in: "HTTP/1.1 407 Proxy Authentication Required\nProxy-Authenticate: Basic realm=\"x\"\nContent-Length: 0\n\n", status: 407},
	{name: "403", in: "HTTP/1.1 403 Forbidden\nContent-Length: 100000\n\nno", status: 403},
	{name: "502", in: "HTTP/1.1 502 Bad Gateway\n\n", status: 502},
	{name: "503", in: "HTTP/1.1 503\nTransfer-Encoding: chunked\n\n2\nno\n0\n\n", status: 503},
	{name: "504", in: "HTTP/1.1 504 Gateway Timeout\nConnection: close\n\n", status: 504},
	{name: "302", in: "HTTP/1.1 302 Found\nLocation: http://portal/\n\n", status: 302},
	{name: "body of bad length", in: "HTTP/1.1 403 Forbidden\nContent-Length: 1\nContent-Length: 2\n\n", saw: "http"},
	{name: "100,000 bytes of head", in: "HTTP/1.1 200 OK\nX: " + strings.Repeat("x", 100_000) + "\n\n", saw: "http"},
	{name: "endless line", in: "HTTP/1.1 200 " + strings.Repeat("x", 100_000), saw: "http"},
	{name: "NUL", in: "HTTP/1.1 200 OK\nX: \x00\n\n", saw: "http"},
	{name: "HTTP/2 status line", in: "HTTP/2.0 200 OK\n\n", saw: "http"},
	{name: "tls alert", in: "\x15\x03\x01\x00\x02\x02\x46", saw: "a TLS alert"},
	{name: "socks5", in: "\x05\xff", saw: "SOCKS5"},
	{name: "page", in: "<html>", saw: "a page without a head"},
	{name: "closed", in: "", err: io.EOF},
	{name: "closed within", in: "HTTP/1.1 200 OK\nX", err: io.ErrUnexpectedEOF},
	{name: "closed after one byte", in: "H", err: io.ErrUnexpectedEOF},
	{name: "closed after 1xx", in: "HTTP/1.1 100 Continue\n\n", err: io.ErrUnexpectedEOF},
}

func TestConnect(t *testing.T) {
	for _, tt := range connectTests {
		t.Run(tt.name, func(t *testing.T) {
			in := crlf(tt.in)
			for _, size := range []int{1, 2, 7, 1 << 20} {
				s := &script{answers: []string{in}, size: size}
				res, err := Connect(s, Request{Host: "a.example", Port: 443})
				var se *StatusError
				var pe *ProtocolError
				var he *http1.Error
				switch {
				case tt.status != 0:
					if !errors.As(err, &se) || se.Status != tt.status {
						t.Fatalf("pieces of %d: %v", size, err)
					}
				case tt.saw == "http":
					if !errors.As(err, &pe) || pe.Saw != "" || !errors.As(err, &he) {
						t.Fatalf("pieces of %d: %v", size, err)
					}
				case tt.saw != "":
					if !errors.As(err, &pe) || pe.Saw != tt.saw {
						t.Fatalf("pieces of %d: %v", size, err)
					}
				case tt.err != nil:
					if !errors.Is(err, tt.err) {
						t.Fatalf("pieces of %d: %v", size, err)
					}
				default:
					rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(res.Leftover), s))
					if err != nil || res.Status/100 != 2 || string(rest) != tt.tunnel {
						t.Fatalf("pieces of %d: %v, %d, tunnel %.40q", size, err, res.Status, rest)
					}
				}
			}
		})
	}
}

func TestRefusalTellsAll(t *testing.T) {
	in := crlf("HTTP/1.1 407 Who\x1b\n") // refused below: control characters
	if _, err := Connect(&script{answers: []string{in + "\r\n"}, size: 99}, Request{Host: "a", Port: 1}); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%v", err)
	}
	in = crlf("HTTP/1.1 407 caf\xe9 \"x\"\nProxy-Authenticate: Negotiate\nX: y\nproxy-authenticate: Basic realm=\"r\"\nTransfer-Encoding: chunked\n\n5\nhello\n1388\n") + strings.Repeat("x", 3000)
	_, err := Connect(&script{answers: []string{in}, size: 1 << 20}, Request{Host: "a", Port: 1})
	var se *StatusError
	if !errors.As(err, &se) {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Negotiate", `Basic realm="r"`}, se.ProxyAuthenticate); d != "" {
		t.Error(d)
	}
	if len(se.BodySnippet) != maxSnippet || !bytes.HasPrefix(se.BodySnippet, []byte("helloxxx")) || se.Header.Get("x") != "y" || !se.KeepAlive {
		t.Errorf("%d bytes of body, %q", len(se.BodySnippet), se.BodySnippet[:10])
	}
	if want := `httpconnect: proxy answered 407 "caf\xe9 \"x\""`; se.Error() != want {
		t.Errorf("%s; want %s", se, want)
	}
}

func TestRequestOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		req  Request
		want string // "" when refused
	}{
		{Request{Host: "a.example", Port: 443}, "CONNECT a.example:443 HTTP/1.1\nHost: a.example:443\n\n"},
		{Request{Host: "2001:db8::1", Port: 80, Authorization: "Basic dTpw", Header: http1.Header{{Name: "User-Agent", Value: "x"}}},
			"CONNECT [2001:db8::1]:80 HTTP/1.1\nHost: [2001:db8::1]:80\nProxy-Authorization: Basic dTpw\nUser-Agent: x\n\n"},
		{Request{Host: "a", Port: 0}, ""},
		{Request{Host: "", Port: 1}, ""},
		{Request{Host: "a\r\nb", Port: 1}, ""},
		{Request{Host: "a b", Port: 1}, ""},
		{Request{Host: "u@a", Port: 1}, ""},
		{Request{Host: "fe80::1%eth0", Port: 1}, ""},
		{Request{Host: "[::1]", Port: 1}, ""},
		{Request{Host: "a:1", Port: 1}, ""},
		{Request{Host: "a", Port: 1, Authorization: "Basic x\r\nEvil: y"}, ""},
		{Request{Host: "a", Port: 1, Header: http1.Header{{Name: "X", Value: "a\nb"}}}, ""},
		{Request{Host: "a", Port: 1, Header: http1.Header{{Name: "X Y", Value: "a"}}}, ""},
		{Request{Host: "a", Port: 1, Header: http1.Header{{Name: "host", Value: "b"}}}, ""},
		{Request{Host: "a", Port: 1, Header: http1.Header{{Name: "content-length", Value: "5"}}}, ""},
	} {
		s := &script{}
		_, err := Connect(s, tt.req)
		if (tt.want == "") != (err != nil && !errors.Is(err, io.EOF)) || s.sent.String() != crlf(tt.want) {
			t.Errorf("%v: %v, sent %q", tt.req, err, &s.sent)
		}
	}
	r := Request{Host: "a", Port: 1, Authorization: "secret"}
	if s := fmt.Sprintf("%v %+v %#v %s", r, &r, r, r); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

// Two steps on one connection, as Digest, NTLM and Negotiate need them.
func TestHandshakeAgain(t *testing.T) {
	ok := "HTTP/1.1 200 OK\n\ntunnel"
	for _, tt := range []struct {
		name   string
		first  string
		second bool
	}{
		{"length", "HTTP/1.1 407 x\nContent-Length: 5\n\nhello", true},
		{"chunked", "HTTP/1.1 407 x\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\n\n", true},
		{"none", "HTTP/1.1 407 x\nContent-Length: 0\n\n", true},
		{"1.0 kept", "HTTP/1.0 407 x\nConnection: keep-alive\nContent-Length: 1\n\nx", true},
		{"closing", "HTTP/1.1 407 x\nConnection: close\nContent-Length: 1\n\nx", false},
		{"to the end", "HTTP/1.1 407 x\n\nhello", false},
		{"too long", "HTTP/1.1 407 x\nContent-Length: 5000\n\n" + strings.Repeat("x", 5000), false},
		{"something behind it", "HTTP/1.1 407 x\nContent-Length: 1\n\nxHTTP/1.1 200 OK\n\n", false},
	} {
		for _, size := range []int{1, 1 << 20} {
			if tt.name == "something behind it" && size == 1 {
				continue // it cannot be seen before it comes
			}
			s := &script{answers: []string{crlf(tt.first), crlf(ok)}, size: size}
			h := NewHandshake(s, http1.Limits{})
			req := &Request{Host: "a", Port: 1}
			_, err := h.Do(req)
			var se *StatusError
			if !errors.As(err, &se) {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if _, err := h.Do(req); err != ErrNotDrained {
				t.Fatalf("%s: not drained: %v", tt.name, err)
			}
			again, err := h.Drain(3000)
			if again != tt.second || err != nil {
				t.Fatalf("%s: again %v, %v", tt.name, again, err)
			}
			if !again {
				continue
			}
			req.Authorization = "Negotiate xyz"
			res, err := h.Do(req)
			rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(res.Leftover), s))
			if err != nil || string(rest) != "tunnel" {
				t.Fatalf("%s: %v, %q", tt.name, err, rest)
			}
		}
	}
	s := &script{answers: []string{crlf("HTTP/1.1 407 x\nContent-Length: 5\n\nhe")}, size: 9}
	h := NewHandshake(s, http1.Limits{})
	h.Do(&Request{Host: "a", Port: 1})
	if again, err := h.Drain(99); again || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut body: %v, %v", again, err)
	}
}

// Nothing is waited for once the reply is known, and the deadline is the
// caller's.
func TestConnectOnSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		in     string
		status int
	}{{"HTTP/1.1 403 No\nContent-Length: 50\n\npart", 403}, {"HTTP/1.1 200 OK\n\nearly", 0}, {"HTTP/1.1 200 OK\n", -1}} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(s, crlf(tt.in)) // and then silence
		deadline := 10 * time.Second
		if tt.status < 0 {
			deadline = 20 * time.Millisecond
		}
		c.SetDeadline(time.Now().Add(deadline))
		res, err := Connect(c, Request{Host: "a", Port: 1})
		var se *StatusError
		var ne net.Error
		switch {
		case tt.status > 0:
			if !errors.As(err, &se) || se.Status != tt.status {
				t.Error(err)
			}
		case tt.status < 0:
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Error(err)
			}
		case err != nil:
			t.Error(err)
		default:
			rest := make([]byte, 5-len(res.Leftover))
			if _, err := io.ReadFull(c, rest); err != nil || string(res.Leftover)+string(rest) != "early" {
				t.Errorf("%v, %q %q", err, res.Leftover, rest)
			}
		}
		c.Close()
		s.Close()
	}
}

// What the server's side writes, the client's side reads.
func TestBothEnds(t *testing.T) {
	out, err := AppendEstablished(nil, http1.Header{{Name: "Proxy-Agent", Value: "viaduct"}, {Name: "Content-Length", Value: "3"}, {Name: "Transfer-Encoding", Value: "chunked"}})
	if want := crlf("HTTP/1.1 200 Connection established\nProxy-Agent: viaduct\n\n"); err != nil || string(out) != want {
		t.Errorf("%v %q", err, out)
	}
	res, err := Connect(&script{answers: []string{string(out) + "x"}, size: 9999}, Request{Host: "a", Port: 1})
	if err != nil || res.Header.Get("proxy-agent") != "viaduct" || string(res.Leftover) != "x" {
		t.Errorf("%v %v", err, res)
	}
	out, err = AppendRefused(nil, 403, "Forbidden", http1.Header{{Name: "Proxy-Status", Value: "viaduct; error=http_request_denied"}}, []byte("no\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Connect(&script{answers: []string{string(out)}, size: 9999}, Request{Host: "a", Port: 1})
	var se *StatusError
	if !errors.As(err, &se) || se.KeepAlive || string(se.BodySnippet) != "no\n" || !se.Header.Has("Proxy-Status") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"a\r\nb", "a\x00"} {
		if _, err := AppendRefused(nil, 403, bad, nil, nil); err == nil {
			t.Error("reason injected")
		}
		if _, err := AppendEstablished(nil, http1.Header{{Name: "X", Value: bad}}); err == nil {
			t.Error("field injected")
		}
	}
	req, err := AppendRequest(nil, &Request{Host: "2001:db8::1", Port: 443, Authorization: "Basic dTpw"})
	if err != nil {
		t.Fatal(err)
	}
	var r http1.Request
	if n, err := http1.ParseRequest(req, &r, http1.Limits{}); err != nil || n != len(req) || r.Target.String() != "[2001:db8::1]:443" || r.Header.Get("proxy-authorization") != "Basic dTpw" {
		t.Errorf("%v %+v", err, r)
	}
}

func FuzzReply(f *testing.F) {
	for _, tt := range connectTests {
		if len(tt.in) < 500 {
			f.Add([]byte(crlf(tt.in)), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		run := func(size int) (Result, string, error) {
			s := &script{answers: []string{string(in)}, size: size}
			res, err := Connect(s, Request{Host: "a", Port: 1})
			rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(res.Leftover), s))
			res.Leftover = nil
			return res, string(rest), err
		}
		res, rest, err := run(1 << 20)
		res2, rest2, err2 := run(int(size) + 1)
		var a, b *StatusError
		if (err == nil) != (err2 == nil) || errors.As(err, &a) != errors.As(err2, &b) {
			t.Fatalf("whole: %v; split: %v", err, err2)
		}
		if err == nil {
			if d := cmp.Diff(res, res2); d != "" || rest != rest2 {
				t.Fatalf("%s; tunnel %q, %q", d, rest, rest2)
			}
			if !strings.HasSuffix(string(in), rest) {
				t.Fatalf("tunnel %q is not the end of %q", rest, in)
			}
			return
		}
		if a != nil && (a.Status/100 == 2 || a.Status != b.Status || len(a.BodySnippet) > maxSnippet) {
			t.Fatalf("%+v; %+v", a, b)
		}
		for _, c := range []byte(err.Error()) {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("peer's bytes in %q", err)
			}
		}
	})
}

type benchConn struct{ *strings.Reader }

func (benchConn) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkConnect(b *testing.B) {
	in := crlf("HTTP/1.1 200 Connection established\n\n")
	c := benchConn{strings.NewReader(in)}
	req := Request{Host: "www.example.com", Port: 443, Authorization: "Basic dTpw"}
	b.ReportAllocs()
	for b.Loop() {
		c.Reset(in)
		if _, err := Connect(c, req); err != nil {
			b.Fatal(err)
		}
	}
}
