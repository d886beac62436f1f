package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var chunkedBodies = []struct {
	in   string
	body string
	rest string // what follows the message
	want error  // nil, io.ErrUnexpectedEOF or *Error
}{
	{"0\r\n\r\n", "", "", nil},
	{"0\r\n\r\nGET", "", "GET", nil},
	{"3\r\nabc\r\n0\r\n\r\n", "abc", "", nil},
	{"3\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\nx", "abc0123456789", "x", nil},
	{"3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\n\r\n", "abc", "", nil},
	{"3 \t;a\r\nabc\r\n0\r\n\r\n", "abc", "", nil},
	{"0000000000000003\r\nabc\r\n0\r\n\r\n", "abc", "", nil},
	{"1\r\na\r\n0\r\nX: y\r\nTrailer: z\r\n\r\nrest", "a", "rest", nil},
	{"3;" + strings.Repeat("x", 4095) + "\r\nabc\r\n0\r\n\r\n", "abc", "", nil},
	// Cut off.
	{"", "", "", io.ErrUnexpectedEOF},
	{"3", "", "", io.ErrUnexpectedEOF},
	{"3\r\nab", "ab", "", io.ErrUnexpectedEOF},
	{"3\r\nabc\r\n", "abc", "", io.ErrUnexpectedEOF},
	{"3\r\nabc\r\n0\r\n", "abc", "", io.ErrUnexpectedEOF},
	{"3\r\nabc\r\n0\r\nX: y\r\n", "abc", "", io.ErrUnexpectedEOF},
	// Sizes, RFC 9112 7.1.
	{"\r\n\r\n", "", "", errChunkSize},
	{";a\r\n\r\n", "", "", errChunkSize},
	{"0x3\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"+3\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"-3\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{" 3\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3 \r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3 3\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3_0\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3\rabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3\x00\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"8000000000000000\r\nabc", "", "", errChunkTooBig},
	{"ffffffffffffffff\r\nabc", "", "", errChunkTooBig},
	{"10000000000000003\r\nabc", "", "", errChunkTooBig},
	{"00000000000000003\r\nabc", "", "", errChunkTooBig},
	// Extensions, RFC 9112 7.1.1.
	{"3;a\nabc\r\n0\r\n\r\n", "", "", errChunkExt},
	{"3;a\rb\r\nabc\r\n0\r\n\r\n", "", "", errChunkSize},
	{"3;\x00\r\nabc\r\n0\r\n\r\n", "", "", errChunkExt},
	{"3;\"\r\n\"\r\nabc\r\n0\r\n\r\n", `"` + "\r\n", "", errChunkEnd},
	{"3;" + strings.Repeat("x", 4096) + "\r\nabc\r\n0\r\n\r\n", "", "", errChunkExtLong},
	{strings.Repeat("1;"+strings.Repeat("x", 99)+"\r\na\r\n", 60), strings.Repeat("a", 40), "", errChunkExtLong},
	// Ends.
	{"3\r\nabcd\r\n0\r\n\r\n", "abc", "", errChunkEnd},
	{"3\r\nabc0\r\n\r\n", "abc", "", errChunkEnd},
	{"3\r\nabc\n0\r\n\r\n", "abc", "", errChunkEnd},
	{"3\r\nabc\r0\r\n\r\n", "abc", "", errChunkEnd},
	// Trailers.
	{"0\r\nX: y\n\r\n", "", "", errBareLF},
	{"0\r\n\n", "", "", errBareLF},
	{"0\r\nX : y\r\n\r\n", "", "", errSpaceColon},
	{"0\r\n X: y\r\n\r\n", "", "", errObsFold},
	{"0\r\nX: y\r\n z\r\n\r\n", "", "", errObsFold},
	{"0\r\nGET / HTTP/1.1\r\n\r\n", "", "", errFieldName},
	{"0\r\n\rX: y\r\n\r\n", "", "", errFieldLine},
	{"0\r\nX: " + strings.Repeat("y", 17<<10) + "\r\n\r\n", "", "", errTrailerLarge},
	{"0\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", "", "", errTooMany},
}

func TestChunked(t *testing.T) {
	for _, tt := range chunkedBodies {
		t.Run(fmt.Sprintf("%.40q", tt.in), func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 5, len(tt.in) + 1} {
				for _, ask := range []int{1, 2, 4096} {
					r := NewReader(&pieces{[]byte(tt.in), size}, Limits{})
					b := r.Body(Framing{Kind: BodyChunked})
					got, err := readAll(b, ask)
					if got != tt.body || !errors.Is(err, tt.want) && err != tt.want {
						t.Fatalf("pieces of %d read by %d: %q, %v; want %q, %v", size, ask, got, err, tt.body, tt.want)
					}
					if b.Done() != (tt.want == nil) {
						t.Fatalf("done %v after %v", b.Done(), err)
					}
					if again, err2 := b.Read(make([]byte, 9)); again != 0 || err2 == nil || tt.want != nil && err2 != err {
						t.Fatalf("after the end: %d, %v", again, err2)
					}
					rest, _ := io.ReadAll(r)
					if tt.want == nil && string(rest) != tt.rest {
						t.Fatalf("rest %q", rest)
					}
				}
			}
		})
	}
}

// readAll reads by n bytes up to the end; a proper end is a nil error.
func readAll(r io.Reader, n int) (string, error) {
	var all []byte
	buf := make([]byte, n)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			err = nil
			return string(all), err
		}
		if err != nil {
			return string(all), err
		}
	}
}

func TestTrailers(t *testing.T) {
	in := "0\r\nChecksum: abc\r\nContent-Length: 5\r\nHost: x\r\nSet-Cookie: a\r\nauthorization: b\r\nX-Time: 1\r\n\r\n"
	b := NewReader(strings.NewReader(in), Limits{}).Body(Framing{Kind: BodyChunked})
	if _, err := readAll(b, 10); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Header{{"Checksum", "abc"}, {"X-Time", "1"}}, b.Trailer()); d != "" {
		t.Error(d)
	}
}

func TestLengthAndClose(t *testing.T) {
	for _, tt := range []struct {
		f          Framing
		in         string
		body, rest string
		want       error
	}{
		{Framing{BodyLength, 3}, "abcGET", "abc", "GET", nil},
		{Framing{BodyLength, 3}, "abc", "abc", "", nil},
		{Framing{BodyLength, 0}, "GET", "", "GET", nil},
		{Framing{}, "GET", "", "GET", nil},
		{Framing{BodyLength, 4}, "abc", "abc", "", io.ErrUnexpectedEOF},
		{Framing{Kind: BodyClose}, "abc", "abc", "", nil},
		{Framing{Kind: BodyClose}, "", "", "", nil},
	} {
		for size := 1; size < 8; size++ {
			for _, buffered := range []bool{false, true} {
				r := NewReader(&pieces{[]byte(tt.in), size}, Limits{})
				if buffered && tt.in != "" {
					if err := r.Fill(); err != nil {
						t.Fatal(err)
					}
				}
				got, err := readAll(r.Body(tt.f), size)
				rest, _ := io.ReadAll(r)
				if got != tt.body || err != tt.want || string(rest) != tt.rest {
					t.Errorf("%v of %q: %q, %v, rest %q", tt.f, tt.in, got, err, rest)
				}
			}
		}
	}
}

func TestDrain(t *testing.T) {
	in := "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\nnext"
	r := NewReader(strings.NewReader(in), Limits{})
	if done, err := r.Body(Framing{Kind: BodyChunked}).Drain(10); !done || err != nil || string(r.Buffered()) != "next" {
		t.Errorf("%v, %v, rest %q", done, err, r.Buffered())
	}
	if done, err := NewReader(strings.NewReader(in), Limits{}).Body(Framing{Kind: BodyChunked}).Drain(9); done || err != nil {
		t.Errorf("beyond the bound: %v, %v", done, err)
	}
	if done, err := NewReader(strings.NewReader(in[:8]), Limits{}).Body(Framing{Kind: BodyChunked}).Drain(99); done || err != io.ErrUnexpectedEOF {
		t.Errorf("cut off: %v, %v", done, err)
	}
}

func TestCopy(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 10_000)
	for _, tt := range []struct {
		name    string
		in      Framing
		body    string
		out     Framing
		want    string // what the other end reads; "" is body
		trailer Header
	}{
		{name: "empty", in: Framing{BodyLength, 0}, out: Framing{BodyLength, 0}},
		{name: "length", in: Framing{BodyLength, 5}, body: "hello", out: Framing{BodyLength, 5}},
		{name: "length to chunked", in: Framing{BodyLength, 5}, body: "hello", out: Framing{Kind: BodyChunked}},
		{name: "close to chunked", in: Framing{Kind: BodyClose}, body: big, out: Framing{Kind: BodyChunked}},
		{name: "close", in: Framing{Kind: BodyClose}, body: big, out: Framing{Kind: BodyClose}},
		{name: "big", in: Framing{BodyLength, int64(len(big))}, body: big, out: Framing{BodyLength, int64(len(big))}},
		{name: "chunked", in: Framing{Kind: BodyChunked}, body: "3;ext=x\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\nHost: z\r\n\r\n",
			out: Framing{Kind: BodyChunked}, want: "abcd", trailer: Header{{"X", "y"}}},
		{name: "chunked to close", in: Framing{Kind: BodyChunked}, body: "3\r\nabc\r\n0\r\nX: y\r\n\r\n", out: Framing{Kind: BodyClose}, want: "abc"},
		{name: "big chunks", in: Framing{Kind: BodyChunked}, body: fmt.Sprintf("%x;a\r\n%s\r\n0\r\n\r\n", len(big), big),
			out: Framing{Kind: BodyChunked}, want: big},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = tt.body
			}
			for _, size := range []int{1, 13, 5000, 1 << 20} {
				if size == 1 && len(tt.body) > 1000 {
					continue
				}
				src := NewReader(&pieces{[]byte(tt.body), size}, Limits{})
				var dst bytes.Buffer
				b := src.Body(tt.in)
				n, err := Copy(&dst, []byte("HEAD"), b, tt.out)
				if err != nil || n != int64(len(want)) || !b.Done() {
					t.Fatalf("pieces of %d: %d, %v, done %v", size, n, err, b.Done())
				}
				head, written := dst.Next(4), dst.String()
				if string(head) != "HEAD" || strings.Contains(written, "ext") {
					t.Fatalf("head %q, extension passed on: %.50q", head, written)
				}
				back := NewReader(&dst, Limits{}).Body(tt.out)
				got, err := readAll(back, 1000)
				if err != nil || got != want {
					t.Fatalf("pieces of %d: other end %v, %d bytes", size, err, len(got))
				}
				if tt.out.Kind == BodyChunked && len(tt.trailer)+len(back.Trailer()) > 0 {
					if d := cmp.Diff(tt.trailer, back.Trailer()); d != "" {
						t.Error(d)
					}
				}
				if src.buf != nil {
					t.Error("buffer held after the end")
				}
			}
		})
	}
}

// A message that is there already leaves in one write.
func TestCopyOneWrite(t *testing.T) {
	for _, tt := range []struct {
		f  Framing
		in string
	}{{Framing{BodyLength, 5}, "hello"}, {Framing{Kind: BodyChunked}, "2\r\nab\r\n3\r\ncde\r\n0\r\nX: y\r\n\r\n"}} {
		r := NewReader(strings.NewReader(tt.in), Limits{})
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
		var w countWriter
		if _, err := Copy(&w, []byte("HEAD"), r.Body(tt.f), tt.f); err != nil || w.n != 1 {
			t.Errorf("%v: %d writes, %v", tt.f, w.n, err)
		}
	}
}

type countWriter struct{ n int }

func (w *countWriter) Write(p []byte) (int, error) { w.n++; return len(p), nil }

// The receiver of a body that was cut or broken can tell.
func TestCopyNeverEndsBrokenBody(t *testing.T) {
	for _, tt := range chunkedBodies {
		if tt.want == nil {
			continue
		}
		for _, size := range []int{1, 3, 1 << 20} {
			var dst bytes.Buffer
			_, err := Copy(&dst, nil, NewReader(&pieces{[]byte(tt.in), size}, Limits{}).Body(Framing{Kind: BodyChunked}), Framing{Kind: BodyChunked})
			if err == nil {
				t.Fatalf("%.40q: no error", tt.in)
			}
			got, err := readAll(NewReader(&dst, Limits{}).Body(Framing{Kind: BodyChunked}), 100)
			if err != io.ErrUnexpectedEOF || got != tt.body {
				t.Fatalf("%.40q: receiver got %q, %v", tt.in, got, err)
			}
		}
	}
	b := NewReader(strings.NewReader("abc"), Limits{}).Body(Framing{BodyLength, 9})
	if _, err := Copy(io.Discard, nil, b, Framing{BodyLength, 9}); err != io.ErrUnexpectedEOF {
		t.Errorf("short body: %v", err)
	}
	for _, out := range []Framing{{}, {BodyLength, 8}} {
		b := NewReader(strings.NewReader("abc"), Limits{}).Body(Framing{BodyLength, 9})
		if _, err := Copy(io.Discard, nil, b, out); err == nil {
			t.Errorf("promised %v of a body of 9", out)
		}
	}
}

func TestCopyWriteError(t *testing.T) {
	for _, body := range []string{"abc", strings.Repeat("x", 100_000)} {
		for _, out := range []Framing{{Kind: BodyClose}, {Kind: BodyChunked}} {
			_, err := Copy(brokenWriter{}, nil, NewReader(strings.NewReader(body), Limits{}).Body(Framing{Kind: BodyClose}), out)
			var w *WriteError
			if !errors.As(err, &w) || w.Err != io.ErrClosedPipe {
				t.Errorf("%v", err)
			}
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// tcpPair is a connection of the real kind, both ends.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// On a socket the wait costs no buffer, deadlines and ends are seen, and what
// comes is read the same.
func TestReaderOnSocket(t *testing.T) {
	client, server := tcpPair(t)
	r := NewReader(server, Limits{})
	var req Request
	server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var ne net.Error
	if err := r.ReadRequest(&req); !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("deadline: %v", err)
	}
	if r.buf != nil {
		t.Fatal("buffer held while idle")
	}
	server.SetReadDeadline(time.Time{})
	body := strings.Repeat("x", 100_000)
	go func() {
		io.WriteString(client, crlf("POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 100000\n\n")+body+"GET / HT")
		client.CloseWrite()
	}()
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	var dst bytes.Buffer
	if _, err := Copy(&dst, nil, r.Body(req.Body), req.Body); err != nil || dst.String() != body {
		t.Fatalf("%v, %d bytes", err, dst.Len())
	}
	if err := r.ReadRequest(&req); err != io.ErrUnexpectedEOF {
		t.Fatalf("cut head: %v", err)
	}
	server.SetLinger(0)
	server.Close()
	rc := NewReader(client, Limits{})
	if err := rc.Fill(); err == nil || err == io.EOF {
		t.Fatalf("reset: %v", err)
	}
	var op *net.OpError
	if err := rc.Fill(); err != io.EOF && !errors.As(err, &op) {
		t.Fatalf("after reset: %v", err)
	}
}

// waiter is a connection that is not a plain socket and tells when to read.
type waiter struct {
	io.Reader
	r    *Reader
	held int
	n    int
}

func (w *waiter) WaitRead() error {
	w.n++
	if w.r.buf != nil {
		w.held++
	}
	return nil
}

func TestReadWaiter(t *testing.T) {
	w := &waiter{Reader: strings.NewReader("HTTP/1.1 200 OK\r\n\r\nbody")}
	w.r = NewReader(w, Limits{})
	var resp Response
	if err := w.r.ReadResponse("GET", &resp); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(io.Discard, nil, w.r.Body(resp.Body), resp.Body); err != nil || w.n == 0 || w.held > 0 {
		t.Errorf("%v; waited %d times, %d with a buffer", err, w.n, w.held)
	}
}

func TestPrependAndDirect(t *testing.T) {
	for _, n := range []int{1, 100, 5000, 70_000} {
		early := strings.Repeat("e", n)
		r := NewReader(strings.NewReader("late"), Limits{})
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
		r.Prepend([]byte(early))
		if got, err := readAll(r, 999); err != nil || got != early+"late" {
			t.Errorf("%d: %v, %d bytes", n, err, len(got))
		}
	}
	r := NewReader(strings.NewReader("abcdef"), Limits{})
	b := r.Body(Framing{BodyLength, 6})
	if b.Direct() != 6 {
		t.Errorf("direct: %d", b.Direct())
	}
	io.CopyN(io.Discard, r.src, 4)
	b.Advance(4)
	if got, err := readAll(b, 1); got != "ef" || err != nil || !b.Done() {
		t.Errorf("after 4 moved: %q, %v", got, err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderThatGivesNothing(t *testing.T) {
	var req Request
	if err := NewReader(emptyReader{}, Limits{}).ReadRequest(&req); err != io.ErrNoProgress {
		t.Error(err)
	}
}

func TestReadBuffered(t *testing.T) {
	r := NewReader(&pieces{[]byte("3\r\nabc\r\n5\r\nhello\r\n0\r\n\r\nnext"), 14}, Limits{})
	b := r.Body(Framing{Kind: BodyChunked})
	if n := b.ReadBuffered(make([]byte, 9)); n != 0 {
		t.Fatalf("%d bytes of nothing", n)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if n := b.ReadBuffered(p); string(p[:n]) != "abch" {
		t.Fatalf("%q", p[:n])
	}
	if done, err := b.Drain(99); !done || err != nil {
		t.Fatal(done, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Fatalf("rest %q", rest)
	}
}
