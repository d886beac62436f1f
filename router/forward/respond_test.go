package forward

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
)

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

// TestResponses shows what a server says and what its client gets, and whose connection goes on.
func TestResponses(t *testing.T) {
	const head, get10 = "HEAD http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
	flood := strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 32)
	for _, tt := range []struct {
		name, request, response, want string
		keepClient, keepServer        bool
		down                          int64
	}{
		{"length", "", ok2, "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"empty", "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 0\r\n\r\n", true, true, 0},
		{"chunked anew, without extensions, trailers behind", "",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1;a=b\r\nh\r\n01\r\ni\r\n0;z\r\nX-Sum: 9\r\nContent-Length: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nVia: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\nX-Sum: 9\r\n\r\n", true, true, 2},
		{"chunked to 1.0", get10, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 9\r\n\r\n",
			"HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nConnection: close\r\n\r\nhi", false, true, 2},
		{"length to 1.0", get10, ok2, "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", true, true, 2},
		{"1.0 without keep-alive", "GET http://a.test/ HTTP/1.0\r\n\r\n", ok2,
			"HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", false, true, 2},
		{"1.0 server", "", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nVia: 1.0 gw\r\nContent-Length: 2\r\n\r\nhi", true, false, 2},
		{"1.0 server that keeps", "", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\nVia: 1.0 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"server closes", "", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, false, 2},
		{"client closes", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", ok2,
			"HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", false, true, 2},
		{"hop-by-hop", "", "HTTP/1.1 200 OK\r\nConnection: X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2\r\nServer: s\r\nContent-Length: 2\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\nServer: s\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"HEAD tells a length", head, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 7\r\n\r\n", true, true, 0},
		{"HEAD of a chunked one", head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\n\r\n", true, true, 0},
		{"HEAD with a body", head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\n", true, false, 0},
		{"204 with a body", "", "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 204 No\r\nVia: 1.1 gw\r\n\r\n", true, false, 0},
		{"304 tells a length", "", "HTTP/1.1 304 Same\r\nContent-Length: 70\r\nETag: x\r\n\r\n", "HTTP/1.1 304 Same\r\nETag: x\r\nVia: 1.1 gw\r\nContent-Length: 70\r\n\r\n", true, true, 0},
		{"304 with a body", "", "HTTP/1.1 304 Same\r\n\r\nhi", "HTTP/1.1 304 Same\r\nVia: 1.1 gw\r\n\r\n", true, false, 0},
		{"surplus", "", ok2 + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, false, 2},
		{"surplus behind chunks", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, false, 0},
		{"length and chunked: chunked, once", "", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", true, false, 2},
		{"bare LF and folded lines are mended", "", "HTTP/1.1 200 OK\nX: a\n b\nContent-Length : 2\n\nhi", "HTTP/1.1 200 OK\r\nX: a b\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"interim", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok2,
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 gw\r\n\r\nHTTP/1.1 102 Processing\r\nVia: 1.1 gw\r\n\r\nHTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"interim to 1.0", get10, "HTTP/1.1 103 Early Hints\r\n\r\n" + ok2, "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", true, true, 2},
		{"32 interim", "", flood + ok2, strings.Repeat("HTTP/1.1 103 Early Hints\r\nVia: 1.1 gw\r\n\r\n", 32) + "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", true, true, 2},
		{"a proxy's own failure is shown", "", "HTTP/1.1 503 Full\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 503 Full\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nno", true, true, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, answering(tt.response))
			if tt.request == "" {
				tt.request = get("/")
			}
			r.client.say(tt.request)
			r.client.want(tt.want)
			res := r.result()
			if res.Err != nil || !res.Responded || res.KeepClient != tt.keepClient || res.KeepServer != tt.keepServer || res.Down != tt.down {
				t.Errorf("result %+v, want keep %v/%v, %d down", res, tt.keepClient, tt.keepServer, tt.down)
			}
			if !tt.keepClient {
				r.client.ends()
			}
			f := r.record()
			if f.Response == nil || f.Response.Status < 200 || f.Response.End.IsZero() || f.Request.End.IsZero() || f.Request.End.After(f.Response.End) {
				t.Errorf("record: %+v %+v", f.Request, f.Response)
			}
		})
	}
}

// TestUntilClose has bodies without a length: chunked for 1.1, to the end for 1.0.
func TestUntilClose(t *testing.T) {
	for _, tt := range []struct{ name, request, want string }{
		{"1.1", get("/"), "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		{"1.0", "GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nConnection: close\r\n\r\nhi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, closing("HTTP/1.1 200 OK\r\n\r\nhi"))
			r.client.say(tt.request)
			r.client.want(tt.want)
			if res := r.result(); res.Err != nil || res.KeepServer || res.KeepClient != (tt.name == "1.1") || res.Down != 2 {
				t.Errorf("result %+v", res)
			}
		})
	}
}

// TestBadHeads has responses that nothing of may reach the client: it gets an answer of ours, and can go on.
func TestBadHeads(t *testing.T) {
	flood := strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 33)
	for _, tt := range []struct {
		name, response string
		kind           connmodel.Kind
	}{
		{"nothing", "", connmodel.KindEOF},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", connmodel.KindEOF},
		{"junk", "SSH-2.0-OpenSSH\r\n", connmodel.KindProtocol},
		{"other version", "HTTP/2.0 200 OK\r\n\r\n", connmodel.KindProtocol},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", connmodel.KindProtocol},
		{"list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", connmodel.KindProtocol},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", connmodel.KindProtocol},
		{"huge length", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhi", connmodel.KindProtocol},
		{"gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", connmodel.KindProtocol},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", connmodel.KindProtocol},
		{"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", connmodel.KindProtocol},
		{"NUL in a field", "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", connmodel.KindProtocol},
		{"bare CR in a field", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: x\r\n\r\n", connmodel.KindProtocol},
		{"head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10), connmodel.KindProtocol},
		{"33 interim", flood, connmodel.KindProtocol},
		{"switching unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", connmodel.KindProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, closing(tt.response), withServer(func(s *Server) { s.Absolute, s.Hop, s.HopName = true, 2, "corp" }))
			r.client.say(get("/") + "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n")
			res := r.result()
			hasFault(t, res, connmodel.SideHop, tt.kind, connmodel.PhaseRequest)
			if res.Responded || !res.KeepClient || res.KeepServer {
				t.Errorf("result %+v", res)
			}
			if res.Err != nil && (res.Err.Hop != 2 || res.Err.HopName != "corp") {
				t.Errorf("blamed hop %d %s", res.Err.Hop, res.Err.HopName)
			}
			if tt.name == "33 interim" {
				r.client.want(strings.Repeat("HTTP/1.1 103 Early Hints\r\nVia: 1.1 gw\r\n\r\n", 32))
			}
			r.client.want("HTTP/1.1 502 Fault\r\n")
			if second := r.result(); second.Err == nil || second.Err.Code != 508 {
				t.Errorf("the second request: %+v", second)
			}
			if r.dials != 1 {
				t.Errorf("%d dials", r.dials)
			}
		})
	}
}

// TestBrokenBodies has responses whose client must see that they are not whole.
func TestBrokenBodies(t *testing.T) {
	for _, tt := range []struct {
		name, response, comes string
		kind                  connmodel.Kind
	}{
		{"short of its length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "hi", connmodel.KindEOF},
		{"short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi", "2\r\nhi\r\n", connmodel.KindEOF},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "2\r\nhi\r\n", connmodel.KindEOF},
		{"half a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: 1\r\n", "2\r\nhi\r\n", connmodel.KindEOF},
		{"chunk size of letters", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n", "2\r\nhi\r\n", connmodel.KindProtocol},
		{"chunk size wraps", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n10000000000000002\r\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n", connmodel.KindProtocol},
		{"LF in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n2\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n", connmodel.KindProtocol},
	} {
		for _, v := range []string{"1.1", "1.0"} {
			t.Run(tt.name+" to "+v, func(t *testing.T) {
				r := newRig(t, closing(tt.response))
				r.client.say("GET http://a.test/ HTTP/" + v + "\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
				got := r.client.resets()
				_, body, _ := strings.Cut(got, "\r\n\r\n")
				if want := tt.comes; v == "1.1" && body != want || strings.Contains(body, "0\r\n\r\n") {
					t.Errorf("got %q, want %q", body, want)
				}
				res := r.result()
				hasFault(t, res, connmodel.SideServer, tt.kind, connmodel.PhaseRelay)
				if !res.Responded || res.KeepClient || res.KeepServer {
					t.Errorf("result %+v", res)
				}
			})
		}
	}
}

// TestServerResets tells a reset from a close.
func TestServerResets(t *testing.T) {
	t.Run("before the head", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) { o.head(); o.reset() })
		r.client.say(get("/"))
		hasFault(t, r.result(), connmodel.SideServer, connmodel.KindReset, connmodel.PhaseRequest)
	})
	t.Run("in the body", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi")
			o.Peek(1) // until the test has read the start
			o.reset()
		})
		r.client.say(get("/"))
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 10\r\n\r\nhi")
		r.mu.Lock()
		setReset(r.all[0])
		r.all[0].Close()
		r.mu.Unlock()
		r.client.resets()
		hasFault(t, r.result(), connmodel.SideServer, connmodel.KindReset, connmodel.PhaseRelay)
	})
}

// TestChallenges: no 407 reaches a client, whoever sends it.
func TestChallenges(t *testing.T) {
	const challenge = "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
	for _, tt := range []struct {
		name   string
		server func(*Server)
		side   connmodel.Side
	}{
		{"server", nil, connmodel.SideServer},
		{"proxy", func(s *Server) { s.Absolute, s.Hop, s.HopName = true, 1, "corp" }, connmodel.SideHop},
		{"proxy with credentials", func(s *Server) { s.Absolute, s.Hop, s.Login = true, 1, showing("Basic eA==") }, connmodel.SideHop},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, answering(challenge), withServer(tt.server))
			r.client.say(get("/"))
			res := r.result()
			hasFault(t, res, tt.side, connmodel.KindAuth, connmodel.PhaseAuth)
			if res.Err != nil && (res.Err.Code != 407 || res.Err.CodeOf != "http") || res.KeepServer || !res.KeepClient {
				t.Errorf("result %+v", res)
			}
			if got := r.client.head(); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
				t.Errorf("got %q", got)
			}
			if f := r.record(); f.Response == nil || f.Response.Status != 407 {
				t.Errorf("the record says %+v", f.Response)
			}
		})
	}
}

// TestPoisonWaits: what a server says between two requests is no answer to the second.
func TestPoisonWaits(t *testing.T) {
	said := make(chan bool)
	r := newRig(t, func(o *peer, n int) {
		o.head()
		o.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 0 {
			<-said // the exchange is over
			o.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			said <- true
		}
		o.rest()
	})
	r.client.say(get("/"))
	r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 1\r\n\r\n0")
	if res := r.result(); !res.KeepServer {
		t.Fatalf("result %+v", res)
	}
	said <- true
	<-said
	r.client.say(get("/"))
	r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 1\r\n\r\n1")
	if r.result(); r.dials != 2 {
		t.Errorf("%d dials, want 2", r.dials)
	}
}

// TestClosing: the last request of a client that must go is told so.
func TestClosing(t *testing.T) {
	r := newRig(t, answering(ok2), withParams(func(p *Params) { p.Closing = func() bool { return true } }))
	r.client.say(get("/"))
	r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
	if res := r.result(); res.KeepClient || !res.KeepServer {
		t.Errorf("result %+v", res)
	}
	r.client.ends()
}

// TestClosingBegins: it may be known only while the server thinks.
func TestClosingBegins(t *testing.T) {
	var closing atomic.Bool
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		closing.Store(true)
		o.say(ok2)
	}, withParams(func(p *Params) { p.Closing = closing.Load }))
	r.client.say(get("/"))
	r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
	if res := r.result(); res.KeepClient {
		t.Errorf("result %+v", res)
	}
	r.client.ends()
}

// TestClientLeaves blames the client that does not take its response, and closes the server's connection.
func TestClientLeaves(t *testing.T) {
	over := make(chan error, 1)
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		o.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n"
		var err error
		for err == nil {
			_, err = o.Conn.Write([]byte(chunk))
		}
		over <- err
	})
	r.client.say(get("/"))
	r.client.take(1000)
	r.client.reset()
	hasFault(t, r.result(), connmodel.SideClient, connmodel.KindReset, connmodel.PhaseRelay)
	if err := <-over; isTimeout(err) {
		t.Error("the server was not told")
	}
}

// TestResponseTimeout counts from the request, interim responses or not.
func TestResponseTimeout(t *testing.T) {
	for _, interim := range []string{"", "HTTP/1.1 103 Early Hints\r\n\r\n"} {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("%s", interim)
			o.rest()
		}, withParams(func(p *Params) { p.Timeouts.Response = 50 * time.Millisecond }))
		r.client.say(get("/"))
		res := r.result()
		hasFault(t, res, connmodel.SideServer, connmodel.KindTimeout, connmodel.PhaseRequest)
		if !res.KeepClient {
			t.Error("the client has to go")
		}
		// Its connection has no deadline of ours on it.
		r.client.say("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n")
		if res := r.result(); res.Err == nil || res.Err.Code != 508 {
			t.Errorf("second request: %+v", res)
		}
	}
}
