package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"viaduct/upstream/http1"
)

// tape is a connection whose peer has said all it says; what is written is kept.
type tape struct {
	in  *bytes.Reader
	mu  sync.Mutex
	out bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error) { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// frames records what a raw peer would send.
func frames(send func(r *raw)) []byte {
	var b bytes.Buffer
	r := &raw{fr: http2.NewFramer(&b, strings.NewReader(""))}
	r.fr.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.hbuf)
	r.fr.WriteSettings()
	send(r)
	return b.Bytes()
}

// FuzzServer holds what a server's streams give against HTTP/1.1, whatever a client sends: one request each, and nothing behind it.
func FuzzServer(f *testing.F) {
	for _, v := range violations {
		if v.send != nil {
			f.Add(frames(v.send))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &tape{in: bytes.NewReader(append([]byte(http2.ClientPreface), in...))}
		NewServer(c, ServerOptions{ExtendedConnect: len(in)%2 == 0, Absolute: len(in)%3 == 0}).Serve(func(s *Stream) {
			var r http1.Reader
			r.Reset(s, http1.Limits{HeadBytes: 1 << 20, Fields: 1000, TrailerBytes: 1 << 20})
			defer r.Release()
			var req http1.Request
			var bad *http1.Error
			switch err := r.ReadRequest(&req); {
			case errors.As(err, &bad) && bad.Status != 400: // an expectation, say, that is sound and not met
				return
			case err != nil:
				t.Errorf("a request that is none: %v", err)
				return
			}
			if req.Method == "CONNECT" || req.Upgrade != "" {
				io.WriteString(s, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
			} else {
				if _, err := io.Copy(io.Discard, r.Body(req.Body)); errors.As(err, &bad) {
					t.Errorf("a body that is none: %v", err)
				}
				io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			if rest, _ := io.ReadAll(&r); len(rest) > 0 && (req.Body.Kind == http1.BodyNone || s.in.complete(s)) {
				t.Errorf("behind the request: %q", rest)
			}
		})
	})
}

// FuzzClient is the same for responses.
func FuzzClient(f *testing.F) {
	for _, send := range []func(r *raw){
		func(r *raw) { r.headers(1, true, ":status", "204") },
		func(r *raw) {
			r.headers(1, false, ":status", "200", "content-length", "2")
			r.fr.WriteData(1, true, []byte("ok"))
		},
		func(r *raw) {
			r.headers(1, false, ":status", "103", "link", "x")
			r.headers(1, false, ":status", "200")
			r.fr.WriteData(1, false, []byte("ok"))
			r.headers(1, true, "sum", "1")
		},
		func(r *raw) { r.fr.WriteGoAway(0, 0, nil) },
		func(r *raw) { r.fr.WriteRSTStream(1, 7) },
		func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) },
	} {
		f.Add(frames(send), byte(0))
		f.Add(frames(send), byte(1))
		f.Add(frames(send), byte(2))
	}
	f.Fuzz(func(t *testing.T, in []byte, how byte) {
		requests := []struct{ method, text string }{
			{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
			{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"},
			{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"},
		}
		q := requests[int(how)%len(requests)]
		c := newConn(&tape{in: bytes.NewReader(in)}, true, options{})
		c.begin()
		cl := &Client{c}
		s, err := cl.TryOpen()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(s, q.text); err != nil {
			t.Fatal(err)
		}
		go c.run()
		var r http1.Reader
		r.Reset(s, http1.Limits{HeadBytes: 1 << 20, Fields: 1000, TrailerBytes: 1 << 20})
		var resp http1.Response
		var bad *http1.Error
		err = r.ReadFinal(q.method, &resp, nil)
		if errors.As(err, &bad) {
			t.Errorf("a response that is none: %v", err)
		}
		if err == nil && (q.method != "CONNECT" || resp.Status/100 != 2) {
			if resp.KeepAlive {
				t.Error("it says that the stream can be used again")
			}
			_, err = io.Copy(io.Discard, r.Body(resp.Body))
			if errors.As(err, &bad) {
				t.Errorf("a body that is none: %v", err)
			}
			if rest, _ := io.ReadAll(&r); err == nil && len(rest) > 0 {
				t.Errorf("behind the response: %q", rest)
			}
		}
		r.Release()
		s.Close()
		<-cl.Done()
	})
}

// verdict reads the frames of stream 1 as a peer does, and says what is wrong with them. whole says that the message came to its end.
func verdict(t *testing.T, b []byte, request bool) (whole bool) {
	fr := http2.NewFramer(nil, bytes.NewReader(b))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.SetMaxReadFrameSize(1 << 20)
	var l list
	var n int64
	final, reset := false, false
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("frames: %v", err)
			}
			break
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			k := responseList
			if request {
				k = requestList
			}
			if final {
				k = trailerList
			}
			if reason := l.parse(f.Fields, k); reason != "" {
				t.Errorf("malformed: %s: %v", reason, f.Fields)
			}
			if k != trailerList {
				final = request || l.status >= "200"
			}
			whole = whole || f.StreamEnded()
		case *http2.DataFrame:
			n += int64(len(f.Data()))
			whole = whole || f.StreamEnded()
		case *http2.RSTStreamFrame:
			reset = reset || f.ErrCode != http2.ErrCodeNo
		}
	}
	return whole && !reset
}

// FuzzResponseText writes whatever to the server's end of a stream: what goes out is a response, or a reset.
func FuzzResponseText(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: x\n\n2\nok\n0\nx: y\n\n",
		"HTTP/1.1 200 OK\n\nto the end",
		"HTTP/1.1 304 Not\nContent-Length: 9\nConnection: x\nX: y\nTE: gzip\n\n",
		"HTTP/1.1 101 S\nUpgrade: websocket\nConnection: Upgrade\n\n",
	} {
		f.Add([]byte(crlf(s)), uint8(1))
		f.Add([]byte(crlf(s)), uint8(200))
	}
	f.Fuzz(func(t *testing.T, text []byte, piece uint8) {
		in := frames(func(r *raw) { r.headers(1, true, get...) })
		c := &tape{in: bytes.NewReader(append([]byte(http2.ClientPreface), in...))}
		sc := newConn(c, false, options{})
		srv := &Server{c: sc}
		sc.server = srv
		wrote := make(chan struct{})
		srv.handle = func(s *Stream) {
			defer close(wrote)
			for rest := text; len(rest) > 0; {
				n := min(len(rest), int(piece)+1)
				if _, err := s.Write(rest[:n]); err != nil {
					break
				}
				rest = rest[n:]
			}
			s.Close()
		}
		sc.in.r = &held{c.in, wrote}
		sc.begin()
		sc.run()
		srv.wg.Wait()
		if verdict(t, c.out.Bytes(), false) {
			var r http1.Reader // what the peer takes for a whole response must be one
			r.Reset(bytes.NewReader(text), http1.Limits{TrailerBytes: 128 << 10})
			var resp http1.Response
			if err := r.ReadFinal("GET", &resp, nil); err != nil {
				t.Errorf("a whole response of %q: %v", text, err)
			} else if _, err := io.Copy(io.Discard, r.Body(resp.Body)); err != nil && resp.Status != 101 {
				t.Errorf("a whole response of %q: %v", text, err)
			}
		}
	})
}

// held gives what there is, and the end only when something else has happened.
type held struct {
	r    io.Reader
	then chan struct{}
}

func (h *held) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if err != nil {
		<-h.then
	}
	return n, err
}

// FuzzRequestText writes whatever to the client's end: what goes out is a request that a server takes, or a reset.
func FuzzRequestText(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\nHost: a\nTE: trailers\nConnection: TE, x\nX: y\n\n",
		"POST http://a:1/x?y HTTP/1.1\nHost: a\nContent-Length: 2\nExpect: 100-continue\n\nok",
		"PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n2\nok\n0\nx: y\n\n",
		"OPTIONS * HTTP/1.1\nHost: a\n\n",
		"CONNECT a:1 HTTP/1.1\nHost: a:1\n\nabc",
	} {
		f.Add([]byte(crlf(s)), uint8(1))
		f.Add([]byte(crlf(s)), uint8(200))
	}
	f.Fuzz(func(t *testing.T, text []byte, piece uint8) {
		nc := &tape{in: bytes.NewReader(frames(func(*raw) {}))}
		c := newConn(nc, true, options{})
		wrote := make(chan struct{})
		c.in.r = &held{nc.in, wrote}
		c.begin()
		cl := &Client{c}
		s, err := cl.TryOpen()
		if err != nil {
			t.Fatal(err)
		}
		go c.run()
		s.SetWriteDeadline(time.Now().Add(time.Second))
		for rest := text; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			if _, err := s.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		s.Close()
		close(wrote)
		<-cl.Done()
		out, ok := bytes.CutPrefix(nc.out.Bytes(), []byte(http2.ClientPreface))
		if !ok {
			t.Fatal("no preface")
		}
		if s.ID() == 0 {
			return
		}
		verdict(t, out, true)
		taken := false
		NewServer(&tape{in: bytes.NewReader(nc.out.Bytes())}, ServerOptions{ExtendedConnect: true}).Serve(func(*Stream) { taken = true })
		if !taken {
			t.Errorf("a request that a server does not take: %q", text)
		}
	})
}
