package http1

import (
	"io"
	"strings"
	"testing"
)

const (
	typicalConnect = "CONNECT example.com:443 HTTP/1.1\nHost: example.com:443\nUser-Agent: curl/8.5.0\nProxy-Connection: Keep-Alive\n\n"
	typicalGet     = `GET http://www.example.com/path/to/resource?query=value HTTP/1.1
Host: www.example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Language: en-US,en;q=0.5
Accept-Encoding: gzip, deflate, br
Referer: http://www.example.com/start
Connection: keep-alive
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark
Upgrade-Insecure-Requests: 1
Cache-Control: max-age=0

`
	typicalResponse = `HTTP/1.1 200 OK
Date: Mon, 27 Jul 2026 12:28:53 GMT
Server: nginx/1.26.0
Content-Type: text/html; charset=utf-8
Content-Length: 12345
Connection: keep-alive
Last-Modified: Wed, 22 Jul 2026 19:15:56 GMT
ETag: "34aa387-d-1568eb00"
Vary: Accept-Encoding
Cache-Control: public, max-age=3600
Accept-Ranges: bytes

`
)

func benchRequest(b *testing.B, in string) {
	buf := []byte(crlf(in))
	var r Request
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(buf, &r, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseConnect(b *testing.B) { benchRequest(b, typicalConnect) }
func BenchmarkParseGet(b *testing.B)     { benchRequest(b, typicalGet) }

func BenchmarkParseResponse(b *testing.B) {
	buf := []byte(crlf(typicalResponse))
	var r Response
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseResponse(buf, "GET", &r, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStripAndAppendRequest(b *testing.B) {
	var r, c Request
	if _, err := ParseRequest([]byte(crlf(typicalGet)), &r, Limits{}); err != nil {
		b.Fatal(err)
	}
	c = r
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Header = append(c.Header[:0:len(r.Header)+1], r.Header...)
		c.Header.StripHopByHop()
		if _, err := AppendRequest(dst, &c, OriginForm); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	var r Response
	if _, err := ParseResponse([]byte(crlf(typicalResponse)), "GET", &r, Limits{}); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendResponse(dst, &r, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// A kept connection: head and body of a response, in and out again.
func BenchmarkReadAndCopy(b *testing.B) {
	msg := strings.Replace(crlf(typicalResponse), "12345", "1000", 1) + strings.Repeat("x", 1000)
	src := strings.NewReader(msg)
	r := NewReader(src, Limits{})
	var resp Response
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(msg)
		if err := r.ReadFinal("GET", &resp, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := Copy(io.Discard, nil, r.Body(resp.Body), resp.Body); err != nil {
			b.Fatal(err)
		}
	}
}
