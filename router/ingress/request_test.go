package ingress

import (
	"strings"
	"testing"

	"viaduct/upstream/http1"
)

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want Verdict
		why  string // part of the error
	}{
		{"GET /a?b HTTP/1.1\r\nHost: x.example\r\n\r\nmore", Found, ""},
		{"\r\nPOST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 3\r\n\r\nabc", Found, ""},
		{"GET http://x.example/ HTTP/1.0\r\n\r\n", Found, ""},
		{"FOO-BAR /a HTTP/1.1\r\nHost: x.example\r\n\r\n", Found, ""},

		{"", More, ""},
		{"\r\n\r\n", More, ""},
		{"G", More, ""},
		{"GET", More, ""},
		{"GET /", More, ""},
		{"SSH-2.0-x", More, ""},
		{"GET / HTTP/1.1\r\nHost: x", More, ""},
		{"GET / HTTP/1.1\r\nHost: x\r\n", More, ""},

		{"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Other, ""},
		{"EHLO x.example\r\n", Other, ""},
		{"HELP\r\n", Other, ""},
		{"GET key\r\n", Other, ""},
		{"HEAD <1@news.example>\r\n", Other, ""},
		{"OPTIONS rtsp://x.example/a RTSP/1.0\r\nCSeq: 1\r\n\r\n", Other, ""},
		{"OPTIONS sip:a@x.example SIP/2.0\r\n\r\n", Other, ""},
		{"\x16\x03\x01", Other, ""},
		{"\x00\x00", Other, ""},
		{"\x00GET / HTTP/1.1\r\n\r\n", Other, ""},
		{"A\x01", Other, ""},
		{strings.Repeat("A", 65), Other, ""},

		// Some server takes each of these for a request, so we do not say that it is none.
		{"GET /a\r\n\r\n", Malformed, "request line"},
		{"GET /a HTTP/1.1\nHost: x.example\n\n", Malformed, ""},
		{"GET\t/a HTTP/1.1\r\nHost: x.example\r\n\r\n", Malformed, ""},
		{" GET /a HTTP/1.1\r\nHost: x.example\r\n\r\n", Malformed, ""},
		{"GET  /a HTTP/1.1\r\nHost: x.example\r\n\r\n", Malformed, ""},
		{"GET /a http/1.1\r\nHost: x.example\r\n\r\n", Malformed, ""},
		{"GET /a HTTP/1.1 \r\nHost: x.example\r\n\r\n", Malformed, ""},
		{"GET /a HTTP/1.1\r\n\r\n", Malformed, "Host"},
		{"GET /a HTTP/1.1\r\nHost : x.example\r\n\r\n", Malformed, ""},
		{"GET /a HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed, ""},
		{strings.Repeat("\r\n", 50) + "GET /a HTTP/1.1\r\nHost: x.example\r\n\r\n", Malformed, ""},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed, "HTTP/2"},
		{"GET /" + strings.Repeat("a", maxLine), Malformed, "too long"},
		{"GET / HTTP/1.1\r\nHost: x.example\r\nA: " + strings.Repeat("a", 70<<10), Malformed, ""},
	} {
		var req http1.Request
		v, err := new(RequestScan).Step([]byte(c.raw), &req, http1.Limits{})
		if v != c.want || (v == Malformed) != (err != nil) || c.why != "" && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.80q: verdict %d, %v; expected %d %s", c.raw, v, err, c.want, c.why)
		}
		var s RequestScan
		var w Verdict
		raw := []byte(c.raw)
		for i := 0; i <= len(raw) && w == More; i++ {
			w, _ = s.Step(raw[:i], &req, http1.Limits{})
		}
		if w != c.want {
			t.Errorf("%.80q: verdict %d byte by byte, expected %d", c.raw, w, c.want)
		}
	}
}

func TestRequestIsCopied(t *testing.T) {
	buf := []byte("GET /secret HTTP/1.1\r\nHost: x.example\r\nA: b\r\n\r\n")
	var req http1.Request
	if v, err := new(RequestScan).Step(buf, &req, http1.Limits{}); v != Found {
		t.Fatal(v, err)
	}
	for i := range buf {
		buf[i] = 'x'
	}
	if req.Method != "GET" || req.Target.Path != "/secret" || req.Header.Get("A") != "b" {
		t.Errorf("the request looks into the buffer: %+v", req)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\nGET /a\n\n", "PRI * HTTP/2.0\r\n\r\n", "SSH-2.0-a b\r\n", "OPTIONS * RTSP/1.0\r\n\r\n"} {
		f.Add([]byte(s), uint16(3))
	}
	f.Fuzz(func(t *testing.T, raw []byte, step uint16) {
		var req, piece http1.Request
		v, err := new(RequestScan).Step(raw, &req, http1.Limits{})
		if (v == Malformed) != (err != nil) {
			t.Fatalf("verdict %d, %v", v, err)
		}
		var s RequestScan
		w := More
		for i := 0; i <= len(raw) && w == More; i += int(step)%500 + 1 {
			w, _ = s.Step(raw[:i], &piece, http1.Limits{})
		}
		if w == More {
			w, _ = s.Step(raw, &piece, http1.Limits{})
		}
		// What is said of the whole must not be another thing than what is said of its pieces: a request that is whole at once may
		// be found too long in pieces, but never passes as something else.
		if (v == Other) != (w == Other) || v == Found && (w != Found || req.Method != piece.Method || req.RawTarget != piece.RawTarget) {
			t.Fatalf("at once %d, in pieces %d", v, w)
		}
		// What our own parser takes for a request is never said to be something else.
		if _, err := http1.ParseRequest(raw, &piece, http1.Limits{}); err == nil && v != Found && v != Malformed {
			t.Fatalf("verdict %d on a request", v)
		}
	})
}
