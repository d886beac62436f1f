package http1

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is written of a request parses to the same request, and splitting the
// input changes nothing.
func FuzzRequest(f *testing.F) {
	for _, tt := range badRequests {
		if len(tt.in) < 300 {
			f.Add([]byte(tt.in), uint8(1))
		}
	}
	for _, s := range []string{typicalGet, typicalConnect, "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n",
		"GET http://[::1]:1?q HTTP/1.1\nHost: a\nConnection: upgrade, te\nUpgrade: websocket\nTE: trailers\n\n", "OPTIONS http://a HTTP/1.0\n\n",
		"GET / HTTP/1.0\nHost: a\nExpect: something\n\n"} {
		f.Add([]byte(crlf(s)), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var r, split Request
		n, err := ParseRequest(in, &r, Limits{})
		err2 := NewReader(&pieces{bytes.Clone(in), int(size) + 1}, Limits{}).ReadRequest(&split)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("whole: %v; split: %v", err, err2)
		}
		if err != nil {
			if e, ok := err.(*Error); !ok && err != ErrIncomplete || ok && (e.Status < 400 || n != 0) {
				t.Fatalf("%d, %#v", n, err)
			}
			return
		}
		if d := cmp.Diff(r, split); d != "" {
			t.Fatalf("split differs: %s", d)
		}
		if !r.Expect100 {
			r.Header.Del("Expect") // as whoever sends it on does: from an HTTP/1.0 client it may say anything, and means nothing
		}
		form := r.Target.Form
		out, err := AppendRequest(nil, &r, form)
		if err != nil {
			if r.Authority().Host == "" {
				return // nobody to send it to
			}
			t.Fatalf("accepted and not writable: %v", err)
		}
		var back Request
		m, err := ParseRequest(out, &back, Limits{HeadBytes: 1 << 20, Fields: 300})
		if err != nil || m != len(out) {
			t.Fatalf("%q: took %d of %d: %v", out, m, len(out), err)
		}
		if back.Method != r.Method || back.Target != r.Target && r.Target.Path != "*" || back.Body != r.Body ||
			back.Authority() != r.Authority() || back.Upgrade != r.Upgrade && form != AuthorityForm ||
			back.KeepAlive != r.KeepAlive && form != AuthorityForm {
			t.Fatalf("%+v\nbecame %+v", r, back)
		}
		again, err := AppendRequest(nil, &back, form)
		if err != nil || !bytes.Equal(again, out) && form != AuthorityForm {
			t.Fatalf("not stable: %v\n%q\n%q", err, out, again)
		}
		r.Header.StripHopByHop()
		if _, err := AppendRequest(nil, &r, form); err != nil {
			t.Fatal(err)
		}
		r.Header.ViaCount()
		r.Header.ProxyCredentials()
	})
}

func FuzzResponse(f *testing.F) {
	for _, tt := range badResponses {
		if len(tt.in) < 300 {
			f.Add([]byte(tt.in), "GET", uint8(1))
		}
	}
	f.Add([]byte(crlf(typicalResponse)), "GET", uint8(9))
	f.Add([]byte("HTTP/1.1 200 OK\nA : b\n c\nContent-Length: 3\n\nabc"), "HEAD", uint8(2))
	f.Add([]byte("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"), "GET", uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, method string, size uint8) {
		var r, split Response
		n, err := ParseResponse(in, method, &r, Limits{})
		err2 := NewReader(&pieces{bytes.Clone(in), int(size) + 1}, Limits{}).ReadResponse(method, &split)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("whole: %v; split: %v", err, err2)
		}
		if err != nil {
			if e, ok := err.(*Error); !ok && err != ErrIncomplete || ok && (e.Status != 502 || n != 0) {
				t.Fatalf("%d, %#v", n, err)
			}
			return
		}
		if d := cmp.Diff(r, split); d != "" {
			t.Fatalf("split differs: %s", d)
		}
		if method == "CONNECT" && r.Status/100 == 2 {
			return // its framing fields may hold anything; we write our own answer
		}
		out, err := AppendResponse(nil, &r, 1)
		if err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		var back Response
		m, err := ParseResponse(out, method, &back, Limits{HeadBytes: 1 << 20, Fields: 300})
		if err != nil || m != len(out) {
			t.Fatalf("%q: took %d of %d: %v", out, m, len(out), err)
		}
		if back.Status != r.Status || back.Reason != trimOWS(r.Reason) && back.Reason != r.Reason || back.Body != r.Body || back.Upgrade != r.Upgrade {
			t.Fatalf("%+v\nbecame %+v", r, back)
		}
	})
}

// A chunked body reads the same in whatever pieces it comes, and its relayed
// form is as long and as broken as it was.
func FuzzChunked(f *testing.F) {
	for _, tt := range chunkedBodies {
		if len(tt.in) < 300 {
			f.Add([]byte(tt.in), uint8(1), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, size, ask uint8) {
		open := func(size int) (*Reader, *Body) {
			r := NewReader(&pieces{bytes.Clone(in), size}, Limits{})
			return r, r.Body(Framing{Kind: BodyChunked})
		}
		whole, b := open(len(in) + 1)
		want, wantErr := readAll(b, 4096)
		rest, _ := io.ReadAll(whole)
		split, b2 := open(int(size) + 1)
		got, err := readAll(b2, int(ask)+1)
		if got != want || err != wantErr {
			t.Fatalf("whole: %q, %v; split: %q, %v", want, wantErr, got, err)
		}
		if rest2, _ := io.ReadAll(split); wantErr == nil && !bytes.Equal(rest, rest2) {
			t.Fatalf("rest %q; %q", rest, rest2)
		}
		var dst bytes.Buffer
		_, b3 := open(int(size) + 1)
		n, err := Copy(&dst, nil, b3, Framing{Kind: BodyChunked})
		if err != wantErr || n != int64(len(want)) {
			t.Fatalf("relayed %d, %v; want %d, %v", n, err, len(want), wantErr)
		}
		back := NewReader(&dst, Limits{TrailerBytes: 1 << 20}).Body(Framing{Kind: BodyChunked})
		got, err = readAll(back, 4096)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Fatalf("receiver: %q, %v; want %q, %v", got, err, want, wantErr)
		}
		if wantErr == nil {
			if d := cmp.Diff(b.Trailer(), back.Trailer()); d != "" && len(b.Trailer())+len(back.Trailer()) > 0 {
				t.Fatal(d)
			}
		}
	})
}
