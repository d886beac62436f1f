package http1

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var errEOF = io.EOF

var badResponses = []struct {
	in   string
	want *Error
}{
	{"\x15\x03\x01\x00\x02\x02\x46", errNotHTTP},
	{"\x05\x00", errNotHTTP},
	{"\r\nHTTP/1.1 200 OK\r\n\r\n", errNotHTTP},
	{"http/1.1 200 OK\r\n\r\n", errNotHTTP},
	{"ICY 200 OK\r\n\r\n", errNotHTTP},
	{"HTTP/1.1\r\n\r\n", errStatusLine},
	{"HTTP/1.1 20 OK\r\n\r\n", errStatusLine},
	{"HTTP/1.1 2000 OK\r\n\r\n", errStatusLine},
	{"HTTP/1.1 +20 OK\r\n\r\n", errStatusLine},
	{"HTTP/1.1 099 OK\r\n\r\n", errStatusLine},
	{"HTTP/1.1  200 OK\r\n\r\n", errStatusLine},
	{"HTTP/1.1 200\tOK\r\n\r\n", errStatusLine},
	{"HTTP/1.1 200 O\x00K\r\n\r\n", errStatusLine},
	{"HTTP/1.1 200 O\rK\r\n\r\n", errStatusLine},
	{"HTTP/1.x 200 OK\r\n\r\n", errVersion},
	{"HTTP/2.0 200 OK\r\n\r\n", errMajor},
	{"HTTP/1.1 200 OK\r\n Fold: x\r\n\r\n", errObsFold},
	{"HTTP/1.1 200 OK\r\n: x\r\n\r\n", errFieldName},
	{"HTTP/1.1 200 OK\r\nX\r\n\r\n", errFieldLine},
	{"HTTP/1.1 200 OK\r\nX Y: x\r\n\r\n", errFieldName},
	{"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", errFieldValue},
	{"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", errFieldValue},
	{"HTTP/1.1 200 OK\r\nX: a\r\n b\x00\r\n\r\n", errFieldValue},
	{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", errLengthClash},
	{"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", errLengthValue},
	{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", errLengthValue},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", errTEUnknown},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", errTEUnknown},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errTEMalformed},
	{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", errTEIn10},
	{"HTTP/1.1 200 " + strings.Repeat("x", 65<<10), errLineTooLong},
	{"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 257) + "\r\n", errTooMany},
	{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 100_000) + "\r\n\r\n", errHeadTooLarge},
}

func TestBadResponses(t *testing.T) {
	for _, tt := range badResponses {
		t.Run(fmt.Sprintf("%.60q", tt.in), func(t *testing.T) {
			for _, size := range []int{1, 7, len(tt.in)} {
				var r Response
				err := NewReader(&pieces{[]byte(tt.in), size}, Limits{}).ReadResponse("GET", &r)
				var e *Error
				if !errors.As(err, &e) || e.Reason != tt.want.Reason || e.Status != 502 {
					t.Errorf("pieces of %d: %v; want %v with 502", size, err, tt.want)
				}
			}
		})
	}
}

func TestGoodResponses(t *testing.T) {
	for _, tt := range []struct {
		method, in string
		want       Response
	}{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 200, Reason: "OK", Minor: 1, Body: Framing{BodyLength, 5}, KeepAlive: true}},
		{"GET", "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
			Response{Status: 200, Minor: 1, Body: Framing{Kind: BodyChunked}, KeepAlive: true}},
		{"GET", "HTTP/1.1 999 \r\n\r\n",
			Response{Status: 999, Minor: 1, Body: Framing{Kind: BodyClose}}},
		{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
			Response{Status: 200, Reason: "OK", Body: Framing{BodyLength, 5}, KeepAlive: true}},
		{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 200, Reason: "OK", Body: Framing{BodyLength, 5}}},
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", // bare LF, re-emitted as CRLF
			Response{Status: 200, Reason: "OK", Minor: 1, Body: Framing{BodyLength, 5}, KeepAlive: true}},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
			Response{Status: 200, Reason: "OK", Minor: 1, Body: Framing{Kind: BodyChunked}}}, // and no more messages
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 200, Reason: "OK", Minor: 1, KeepAlive: true}},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
			Response{Status: 200, Reason: "OK", Minor: 1}},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 204, Reason: "No Content", Minor: 1, KeepAlive: true}},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 304, Reason: "Not Modified", Minor: 1, KeepAlive: true}},
		{"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
			Response{Status: 103, Reason: "Early Hints", Minor: 1, KeepAlive: true}},
		{"GET", "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			Response{Status: 101, Reason: "Go", Minor: 1, Upgrade: "websocket"}},
		{"GET", "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
			Response{Status: 101, Reason: "Go", Minor: 1}},
		{"CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: junk\r\nTransfer-Encoding: junk\r\n\r\n", // RFC 9110 9.3.6
			Response{Status: 200, Reason: "OK", Minor: 1, KeepAlive: true}},
		{"CONNECT", "HTTP/1.1 407 Auth\r\nContent-Length: 5\r\n\r\n",
			Response{Status: 407, Reason: "Auth", Minor: 1, Body: Framing{BodyLength, 5}, KeepAlive: true}},
	} {
		t.Run(tt.in, func(t *testing.T) {
			var r Response
			n, err := ParseResponse([]byte(tt.in+"rest"), tt.method, &r, Limits{})
			if err != nil || n != len(tt.in) {
				t.Fatalf("took %d of %d: %v", n, len(tt.in), err)
			}
			r.Header = nil
			if d := cmp.Diff(tt.want, r); d != "" {
				t.Error(d)
			}
			for i := range len(tt.in) {
				if n, err := ParseResponse([]byte(tt.in[:i]), tt.method, &r, Limits{}); err != ErrIncomplete || n != 0 {
					t.Fatalf("first %d bytes: %d, %v", i, n, err)
				}
			}
		})
	}
}

// What is bad style in a response is mended before it goes on (RFC 9112 5.1, 5.2).
func TestResponseMended(t *testing.T) {
	in := "HTTP/1.1 200 OK\r\nA: one\r\n  two\r\n\t\r\nTransfer-Encoding \t: chunked\r\nB: x\n y\n\r\n"
	var r Response
	if _, err := ParseResponse([]byte(in), "GET", &r, Limits{}); err != nil {
		t.Fatal(err)
	}
	out, err := AppendResponse(nil, &r, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := "HTTP/1.1 200 OK\r\nA: one two\r\nB: x y\r\nTransfer-Encoding: chunked\r\n\r\n"
	if string(out) != want {
		t.Errorf("%q\nwant %q", out, want)
	}
}

func TestReadFinal(t *testing.T) {
	info := "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	final := "HTTP/1.1 204 No Content\r\n\r\n"
	for _, n := range []int{0, 1, Max1xx, Max1xx + 1} {
		r := NewReader(strings.NewReader(strings.Repeat(info, n)+final), Limits{})
		seen := 0
		var resp Response
		err := r.ReadFinal("GET", &resp, func(r *Response) error { seen++; return nil })
		if n <= Max1xx {
			if err != nil || resp.Status != 204 || seen != n {
				t.Errorf("%d: %v, status %d after %d", n, err, resp.Status, seen)
			}
		} else if !errors.Is(err, errTooMany1xx) {
			t.Errorf("%d: %v", n, err)
		}
	}
	r := NewReader(strings.NewReader("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw"), Limits{})
	var resp Response
	if err := r.ReadFinal("GET", &resp, nil); err != nil || resp.Status != 101 || string(r.Buffered()) != "raw" {
		t.Errorf("101: %v, %d, %q", err, resp.Status, r.Buffered())
	}
	stop := errors.New("stop")
	r = NewReader(strings.NewReader(info+final), Limits{})
	if err := r.ReadFinal("GET", &resp, func(*Response) error { return stop }); err != stop {
		t.Errorf("callback's error: %v", err)
	}
}

func TestEndOfConnection(t *testing.T) {
	var resp Response
	for in, want := range map[string]error{"": io.EOF, "H": io.ErrUnexpectedEOF, "HTTP/1.1 200 OK\r\n": io.ErrUnexpectedEOF} {
		if err := NewReader(strings.NewReader(in), Limits{}).ReadResponse("GET", &resp); err != want {
			t.Errorf("%q: %v", in, err)
		}
	}
	var req Request
	for in, want := range map[string]error{"": io.EOF, "\r\n": io.EOF, "\r": io.ErrUnexpectedEOF, "GET / HTTP/1.1\r\nHost: a\r\n": io.ErrUnexpectedEOF} {
		if err := NewReader(strings.NewReader(in), Limits{}).ReadRequest(&req); err != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// What comes behind a response is not part of it, and is there to be seen, so
// that the connection is not used again.
func TestSurplusIsSeen(t *testing.T) {
	for _, tt := range []struct{ method, in string }{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEVIL"},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nEVIL"},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\nEVIL"},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"},
	} {
		r := NewReader(strings.NewReader(tt.in), Limits{})
		var resp Response
		if err := r.ReadFinal(tt.method, &resp, nil); err != nil {
			t.Fatal(err)
		}
		var dst strings.Builder
		_, err := Copy(&dst, nil, r.Body(resp.Body), resp.Body)
		if err != nil || strings.Contains(dst.String(), "EVIL") || string(r.Buffered()) != "EVIL" {
			t.Errorf("%q: %v, passed on %q, buffered %q", tt.in, err, dst.String(), r.Buffered())
		}
	}
}
