package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// crlf turns the line ends of a test text into CRLF.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// badRequests are refused, each with the fault it was written for.
var badRequests = []struct {
	in   string
	want *Error
}{
	// Line ends and the like, RFC 9112 2.2.
	{"GET / HTTP/1.1\nHost: a\n\n", errBareLF},
	{"GET / HTTP/1.1\r\nHost: a\n\r\n", errBareLF},
	{"GET / HTTP/1.1\r\nHost: a\r\n\n", errBareLF},
	{"\n", errBareLF},
	{"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", errTargetChar},
	{"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", errVersion},
	{"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", errFieldValue},
	{"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", errFieldValue},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n", errFieldValue},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: b\x0bc\r\n\r\n", errFieldValue},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n", errFieldValue},
	{strings.Repeat("\r\n", 5) + "GET / HTTP/1.1\r\nHost: a\r\n\r\n", errBlankLines},
	{"\x16\x03\x01\x02\x00\x01", errMethod}, // TLS, said before any line end
	{"\x05\x01\x00", errMethod},             // SOCKS5
	// Request line, RFC 9112 3.
	{"GET\r\n\r\n", errRequestLine},
	{"GET /\r\n\r\n", errRequestLine},
	{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", errRequestLine},
	{"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", errRequestLine},
	{"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", errRequestLine},
	{"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", errRequestLine},
	{" GET / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
	{"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
	{strings.Repeat("A", 65) + " / HTTP/1.1\r\nHost: a\r\n\r\n", errMethodLong},
	{"GET / http/1.1\r\nHost: a\r\n\r\n", errVersion},
	{"GET / HTTP/1.10\r\nHost: a\r\n\r\n", errVersion},
	{"GET / HTTP/1\r\nHost: a\r\n\r\n", errVersion},
	{"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", errRequestLine},
	{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", errMajor},
	{"GET / HTTP/0.9\r\nHost: a\r\n\r\n", errMajor},
	// Field lines, RFC 9112 5.
	{"GET / HTTP/1.1\r\n Host: a\r\n\r\n", errObsFold},
	{"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", errObsFold},
	{"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", errObsFold},
	{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", errSpaceColon},
	{"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", errSpaceColon},
	{"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", errFieldName},
	{"GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n", errFieldName},
	{"GET / HTTP/1.1\r\nHost: a\r\nX\x80: b\r\n\r\n", errFieldName},
	{"GET / HTTP/1.1\r\nHost: a\r\nX@Y: b\r\n\r\n", errFieldName},
	{"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", errFieldLine},
	// Host, RFC 9112 3.2.
	{"GET / HTTP/1.1\r\n\r\n", errNoHost},
	{"GET http://a/ HTTP/1.1\r\n\r\n", errNoHost},
	{"CONNECT a:1 HTTP/1.1\r\n\r\n", errNoHost},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", errTwoHosts},
	{"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", errTwoHosts},
	{"GET / HTTP/1.1\r\nHost:\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", errHostValue},
	{"GET / HTTP/1.1\r\nHost: [::1%25eth0]\r\n\r\n", errHostValue},
	{"GET http://ok/ HTTP/1.1\r\nHost: b\\ad\r\n\r\n", errHostValue},
	// Content-Length, RFC 9112 6.3(5).
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", errLengthClash},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", errLengthClash},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", errLengthValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", errLengthValue},
	// Transfer-Encoding, RFC 9112 6.1.
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", errLengthAndTE},
	{"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", errTEIn10},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", errTEUnknown},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked x\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", errFieldValue},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x85\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0chunked\r\n\r\n", errTEMalformed},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n", errTEMalformed}, // the Kelvin sign folds to k
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", errTEUnknown},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", errTEUnknown},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", errTEUnknown},
	{"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", errConnectBody},
	{"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", errConnectBody},
	// Others.
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 200-maybe\r\n\r\n", errExpect},
	{"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", 65) + "\r\n\r\n", errConnection},
	{"GET /" + strings.Repeat("a", 65<<10), errLineTooLong},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 64<<10), errHeadTooLarge},
	{"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 256) + "\r\n", errTooMany},
}

func TestBadRequests(t *testing.T) {
	for _, tt := range badRequests {
		t.Run(fmt.Sprintf("%.60q", tt.in), func(t *testing.T) {
			var r Request
			n, err := ParseRequest([]byte(tt.in), &r, Limits{})
			var e *Error
			if !errors.As(err, &e) || e.Reason != tt.want.Reason || n != 0 {
				t.Fatalf("got %d, %v; want %v", n, err, tt.want)
			}
			if e.Status < 400 || e.Status > 599 {
				t.Errorf("status %d", e.Status)
			}
			// The same at every pace, and never as a success.
			err = NewReader(iotest.OneByteReader(strings.NewReader(tt.in)), Limits{}).ReadRequest(&r)
			if !errors.As(err, &e) || e.Reason != tt.want.Reason {
				t.Errorf("byte by byte: %v; want %v", err, tt.want)
			}
		})
	}
}

func TestGoodRequests(t *testing.T) {
	ip6 := Authority{Host: "2001:db8::1", Port: 8443, IPLiteral: true}
	a := Authority{Host: "a"}
	for _, tt := range []struct {
		in   string
		want Request
	}{
		{"CONNECT [2001:db8::1]:8443 HTTP/1.1\nHost: [2001:db8::1]:8443\n\n", Request{
			Method: "CONNECT", RawTarget: "[2001:db8::1]:8443", Minor: 1, Host: ip6, KeepAlive: true,
			Target: Target{Form: AuthorityForm, Authority: ip6}}},
		{"CONNECT a:1 HTTP/1.0\n\n", Request{
			Method: "CONNECT", RawTarget: "a:1",
			Target: Target{Form: AuthorityForm, Authority: Authority{Host: "a", Port: 1}}}},
		{"CONNECT a:1 HTTP/1.1\nhost:\ncontent-length: 0\n\n", Request{
			Method: "CONNECT", RawTarget: "a:1", Minor: 1, KeepAlive: true,
			Target: Target{Form: AuthorityForm, Authority: Authority{Host: "a", Port: 1}}}},
		{"\n\nGET HTTPS://A:/x?y=z HTTP/1.9\nHost: other:80\n\n", Request{
			Method: "GET", RawTarget: "HTTPS://A:/x?y=z", Minor: 1, KeepAlive: true, Host: Authority{Host: "other", Port: 80},
			Target: Target{Form: AbsoluteForm, Scheme: "https", Authority: Authority{Host: "A"}, Path: "/x?y=z"}}},
		{"POST / HTTP/1.1\nhOST:\t a \t\nContent-length: 007\nContent-Length: 007\nExpect: 100-Continue\n\n", Request{
			Method: "POST", RawTarget: "/", Minor: 1, KeepAlive: true, Host: a, Expect100: true,
			Target: Target{Path: "/"}, Body: Framing{BodyLength, 7}}},
		{"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \tChunKed \nConnection: foo, CLOSE\n\n", Request{
			Method: "POST", RawTarget: "/", Minor: 1, Host: a,
			Target: Target{Path: "/"}, Body: Framing{Kind: BodyChunked}}},
		{"OPTIONS * HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: h2c, HTTP/2.0, h2, WebSocket\n\n", Request{
			Method: "OPTIONS", RawTarget: "*", Minor: 1, KeepAlive: true, Host: a, Upgrade: "WebSocket",
			Target: Target{Form: AsteriskForm, Path: "*"}}},
		{"GET / HTTP/1.1\nHost: a\nConnection: upgrade, HTTP2-Settings\nUpgrade: H2C\nHTTP2-Settings: x\n\n", Request{
			Method: "GET", RawTarget: "/", Minor: 1, KeepAlive: true, Host: a, Target: Target{Path: "/"}}},
		{"GET / HTTP/1.0\nConnection: Keep-Alive, upgrade\nUpgrade: websocket\nExpect: 100-continue\n\n", Request{
			Method: "GET", RawTarget: "/", KeepAlive: true, Target: Target{Path: "/"}}},
		{"GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n", Request{ // not named in Connection
			Method: "GET", RawTarget: "/", Minor: 1, KeepAlive: true, Host: a, Target: Target{Path: "/"}}},
	} {
		t.Run(tt.in, func(t *testing.T) {
			in := crlf(tt.in)
			var r Request
			n, err := ParseRequest([]byte(in+"tunnel"), &r, Limits{})
			if err != nil || n != len(in) {
				t.Fatalf("took %d of %d: %v", n, len(in), err)
			}
			r.Header = nil
			if d := cmp.Diff(tt.want, r); d != "" {
				t.Error(d)
			}
			for i := range len(in) {
				if n, err := ParseRequest([]byte(in[:i]), &r, Limits{}); err != ErrIncomplete || n != 0 {
					t.Fatalf("first %d bytes: %d, %v", i, n, err)
				}
			}
		})
	}
}

func TestTargets(t *testing.T) {
	for _, tt := range []struct {
		method, in string
		want       string // as written again, or the reason it is refused
	}{
		{"GET", "http://example.com", "http://example.com/"},
		{"GET", "http://example.com?q", "http://example.com/?q"},
		{"OPTIONS", "http://example.com", "http://example.com*"},
		{"GET", "hTTp://Example.com:0080/", "http://Example.com:80/"},
		{"GET", "http://[::ffff:1.2.3.4]:1/", "http://[::ffff:1.2.3.4]:1/"},
		{"GET", "//evil/path", "//evil/path"},
		{"GET", "/a[b]{c}|^`\"<>%zz?\\d+%", "/a[b]{c}|^`\"<>%zz?\\d+%"},
		{"CONNECT", "a_b.example.:65535", "a_b.example.:65535"},
		{"GET", "http://a/#f", errTargetChar.Reason},
		{"GET", "http://a#f", errTargetChar.Reason},
		{"GET", "/#f", errTargetChar.Reason},
		{"GET", "/a\\b", errTargetChar.Reason},
		{"GET", "/caf\xc3\xa9", errTargetChar.Reason},
		{"GET", "/a\x7f", errTargetChar.Reason},
		{"GET", "/?a\x01", errTargetChar.Reason},
		{"GET", "http://a\\@b/", errUserinfo.Reason},
		{"GET", "http://u:p@a/", errUserinfo.Reason},
		{"GET", "http://a@b@c/", errUserinfo.Reason},
		{"CONNECT", "u@a:1", errUserinfo.Reason},
		{"GET", "http://a\\b/", errHostChar.Reason},
		{"GET", "http://a%2eb/", errHostChar.Reason},
		{"GET", "http://a%00/", errHostChar.Reason},
		{"CONNECT", "caf\xe9.invalid:443", errHostChar.Reason},
		{"CONNECT", "a b:1", errHostChar.Reason},
		{"CONNECT", "a/:1", errHostChar.Reason},
		{"GET", "http:///x", errHostEmpty.Reason},
		{"GET", "http://:80/", errHostEmpty.Reason},
		{"CONNECT", ":443", errHostEmpty.Reason},
		{"CONNECT", strings.Repeat("a", 255) + ":1", errHostLong.Reason},
		{"GET", "http://[::1/", errIPLiteral.Reason},
		{"GET", "http://[::1]x/", errIPLiteral.Reason},
		{"GET", "http://[fe80::1%25eth0]/", errIPLiteral.Reason},
		{"GET", "http://[fe80::1%eth0]/", errIPLiteral.Reason},
		{"GET", "http://[127.0.0.1]/", errIPLiteral.Reason},
		{"GET", "http://[v1.x]/", errIPLiteral.Reason},
		{"GET", "http://[]/", errIPLiteral.Reason},
		{"CONNECT", "::1:443", errHostEmpty.Reason},
		{"CONNECT", "fe80::1", errPort.Reason},
		{"CONNECT", "a:0", errPort.Reason},
		{"CONNECT", "a:65536", errPort.Reason},
		{"CONNECT", "127.0.0.1:83619", errPort.Reason}, // 18083 by cast
		{"CONNECT", "a:4294967376", errPort.Reason},    // 80 by cast
		{"CONNECT", "a:+80", errPort.Reason},
		{"CONNECT", "a:8 0", errPort.Reason},
		{"CONNECT", "a:80:90", errPort.Reason},
		{"CONNECT", "a", errConnectPort.Reason},
		{"CONNECT", "a:", errConnectPort.Reason},
		{"CONNECT", "http://a:80/", errPort.Reason},
		{"CONNECT", "/", errHostChar.Reason},
		{"CONNECT", "*", errHostChar.Reason},
		{"GET", "a:80", errTargetForm.Reason},
		{"GET", "*", errTargetForm.Reason},
		{"GET", "a/b", errTargetForm.Reason},
		{"GET", "?q", errTargetForm.Reason},
		{"connect", "a:80", errTargetForm.Reason},
		{"GET", "ftp://a/", errScheme.Reason},
		{"GET", "ws://a/", errScheme.Reason},
		{"GET", "unix:/x|http://a/", errScheme.Reason},
		{"GET", "http:/a", errTargetForm.Reason},
		{"GET", "javascript:x", errTargetForm.Reason},
	} {
		got, err := ParseTarget(tt.method, tt.in)
		s := got.String()
		if e, ok := err.(*Error); ok {
			s = e.Reason
		}
		if s != tt.want {
			t.Errorf("%s %q: %s; want %s", tt.method, tt.in, s, tt.want)
		}
	}
}

// A keep-alive connection gives one request after the other, whatever the
// pieces, and then io.EOF.
func TestReadRequestPipelined(t *testing.T) {
	one := crlf("POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc")
	two := crlf("GET /2 HTTP/1.1\nHost: b\n\n")
	in := one + two + "\r\n" + two
	for size := 1; size <= len(in); size++ {
		r := NewReader(&pieces{[]byte(in), size}, Limits{})
		var got bytes.Buffer
		var req Request
		for range 3 {
			if err := r.ReadRequest(&req); err != nil {
				t.Fatalf("pieces of %d: %v", size, err)
			}
			body := r.Body(req.Body)
			if _, err := got.ReadFrom(body); err != nil || !body.Done() {
				t.Fatalf("pieces of %d: body %v", size, err)
			}
			fmt.Fprintf(&got, "|%s %s|", req.Method, req.RawTarget)
		}
		if want := "abc|POST http://a/||GET /2||GET /2|"; got.String() != want {
			t.Fatalf("pieces of %d: %s", size, &got)
		}
		if err := r.ReadRequest(&req); err == nil || err.Error() != "EOF" {
			t.Fatalf("pieces of %d: at the end %v", size, err)
		}
		if r.buf != nil {
			t.Fatalf("pieces of %d: buffer held at the end", size)
		}
	}
}

// pieces hands out at most size bytes at a time.
type pieces struct {
	b    []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, errEOF
	}
	n := copy(b[:min(len(b), p.size)], p.b)
	p.b = p.b[n:]
	return n, nil
}
