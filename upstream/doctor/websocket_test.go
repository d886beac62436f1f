package doctor

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/upstream"
	"viaduct/upstream/auth"
	"viaduct/upstream/upstreamtest"
)

// wsServer is a WebSocket server of few words: it answers pings. mean says what it does wrong.
func wsServer(mean string) upstreamtest.Handler {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(q.Header.Get("Sec-WebSocket-Key") + wsGUID))
		accept := base64.StdEncoding.EncodeToString(sum[:])
		switch {
		case mean == "page" || q.Header.Get("Upgrade") == "":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
			return
		case mean == "refuses":
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		case mean == "closes":
			return
		case mean == "accept":
			accept = "AAAA"
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n\x81\x05hello", accept)
		for {
			var h [2]byte
			if _, err := io.ReadFull(br, h[:]); err != nil || mean == "silent" {
				io.Copy(io.Discard, br)
				return
			}
			var mask [4]byte
			io.ReadFull(br, mask[:])
			b := make([]byte, h[1]&0x7f)
			io.ReadFull(br, b)
			for i := range b {
				b[i] ^= mask[i%4]
			}
			if h[0] == 0x89 {
				c.Write(append([]byte{0x8a, byte(len(b))}, b...))
			}
		}
	}
}

func TestWebSocket(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	for _, tt := range []struct {
		mean   string
		status Status
		code   string
	}{
		{"", OK, ""}, {"page", Fail, "ws_not_switched"}, {"refuses", Fail, "ws_refused"}, {"closes", Fail, "ws_closed"}, {"accept", Fail, "ws_accept"}, {"silent", Fail, "ws_silent"},
	} {
		for _, scheme := range []string{"ws", "wss"} {
			t.Run(scheme+" "+tt.mean, func(t *testing.T) {
				if testing.Short() && tt.mean == "silent" {
					t.Skip("it waits")
				}
				t.Parallel()
				o := upstreamtest.Options{}
				if scheme == "wss" {
					o.TLS = ca.ServerTLS(t, "chat.test")
				}
				origin := upstreamtest.NewOrigin(t, wsServer(tt.mean), o)
				p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "s3cret", Hosts: map[string]string{"chat.test:7000": origin.Addr()}})
				u, err := url.Parse(scheme + "://chat.test:7000/socket?x=1")
				if err != nil {
					t.Fatal(err)
				}
				r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr()), Auth: &upstream.Auth{Username: "svc", Password: upstream.NewSecret("s3cret")}}, origin.Addr(),
					func(o *Options) { o.WebSocket, o.Roots, o.Timeout = u, ca.Pool(), time.Second })
				n := 0
				for _, s := range r.Steps {
					if s.Name == "websocket" {
						if n++; s.Facts["way"] == "by CONNECT" && (s.Status != tt.status || s.Code != tt.code) {
							t.Errorf("%v: %s %s %q; want %s %s", s.Facts["way"], s.Status, s.Code, s.Says, tt.status, tt.code)
						}
					}
				}
				if want := map[string]int{"ws": 2, "wss": 1}[scheme]; n != want {
					t.Errorf("%d steps", n)
				}
			})
		}
	}
}

// A WebSocket is pinged after it was left alone.
func TestWebSocketIdle(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, wsServer(""), upstreamtest.Options{})
	p := upstreamtest.NewSOCKS5(t, upstreamtest.Options{})
	u, err := url.Parse("ws://" + origin.Addr() + "/")
	if err != nil {
		t.Fatal(err)
	}
	r := look(t, upstream.Spec{Scheme: "socks5h", Address: address(t, p.Addr())}, origin.Addr(), func(o *Options) { o.WebSocket, o.Idle = u, 200*time.Millisecond })
	n := 0
	for _, s := range r.Steps {
		if s.Name == "idle" && s.Status == OK {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d of 2 are still there", n)
	}
}

// What a server sends as frames is bounded and cannot crash.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x8a\x07viaduct"))
	f.Add([]byte("\x81\x7e\x01\x00"))
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := readOnly{Reader: bytes.NewReader(b)}
		for range maxFrames {
			_, data, err := frame(r)
			if err != nil {
				break
			}
			if len(data) > maxFrame {
				t.Fatalf("%d bytes", len(data))
			}
		}
		guess(b)
		serverHello(b)
		socksAnswer(b)
		httpAnswer(b)
	})
}

type readOnly struct {
	*bytes.Reader
	net.Conn
}

func (r readOnly) Read(b []byte) (int, error) { return r.Reader.Read(b) }

// What a proxy says to the credential that came with the plain request counts as in a flow: a 407 closes it and is a failure of the proxy's, and
// another form that is asked for is sent.
func TestWebSocketLogin(t *testing.T) {
	most := map[string]int32{"basic": 1, "digest": 2} // a nonce that is too old cannot be told from a password that was changed
	for _, scheme := range []string{"basic", "digest"} {
		for _, good := range []bool{true, false} {
			var shown, plainAsked atomic.Int32
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						br := bufio.NewReader(c)
						for {
							q, err := http.ReadRequest(br)
							if err != nil {
								return
							}
							login := q.Header.Get("Proxy-Authorization")
							ok := strings.HasPrefix(strings.ToLower(login), scheme)
							if q.Method != "CONNECT" {
								plainAsked.Add(1)
								if ok {
									shown.Add(1)
								}
								ok = ok && good
							}
							switch {
							case !ok:
								fmt.Fprintf(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"r\"\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"%d\", qop=\"auth\"\r\nContent-Length: 4\r\n\r\n", time.Now().UnixNano())
								if q.Method != "HEAD" {
									io.WriteString(c, "no!!")
								}
								continue
							case q.Method == "HEAD": // of a login before the request
								io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
								continue
							case q.Method == "CONNECT":
								io.WriteString(c, "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n")
								continue
							}
							sum := sha1.Sum([]byte(q.Header.Get("Sec-WebSocket-Key") + wsGUID))
							fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
							b := make([]byte, 13)
							if _, err := io.ReadFull(br, b); err == nil {
								io.WriteString(c, "\x8a\x07viaduct")
							}
							io.Copy(io.Discard, br)
							return
						}
					}()
				}
			}()
			u, err := url.Parse("ws://127.0.0.1:9/chat")
			if err != nil {
				t.Fatal(err)
			}
			spec := upstream.Spec{Scheme: "http", Address: address(t, ln.Addr().String()), Auth: &upstream.Auth{Username: "svc", Password: upstream.NewSecret("p4ss"), Schemes: []string{scheme}}}
			spec.Name = "corp"
			guard := auth.NewGuard(t.TempDir(), nil)
			table, err := upstream.NewTable(upstream.Config{Upstreams: []upstream.Spec{spec}, Guard: guard}, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := look(t, spec, "127.0.0.1:9", func(o *Options) { o.WebSocket, o.Table = u, table })
			last := r.Step("websocket")
			state, _, _ := table.Upstream("corp").Pair().Status()
			status := table.Status()[0]
			switch {
			case good && (last.Status != OK || state == auth.Shut):
				t.Errorf("%s: %s %q, the credential is %s", scheme, last.Status, last.Says, state)
			case !good && (last.Status != Fail || last.Code != "connect_rejected" || state != auth.Shut || status.Failures == 0 || shown.Load() > most[scheme]):
				t.Errorf("%s: %s %s %q, the credential is %s, %d failures, shown %d times", scheme, last.Status, last.Code, last.Says, state, status.Failures, shown.Load())
			}
			if plainAsked.Load() > 3 {
				t.Errorf("%s: asked %d times", scheme, plainAsked.Load())
			}
			guard.Close()
		}
	}
}
