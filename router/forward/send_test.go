package forward

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

const postHead = "POST http://a.test/up HTTP/1.1\r\nHost: a.test\r\n"

// TestUploads shows what of a request body the server gets, byte for byte.
func TestUploads(t *testing.T) {
	const top = "POST /up HTTP/1.1\r\nHost: a.test\r\n"
	for _, tt := range []struct {
		name  string
		parts []string // written one after the other
		want  string
		up    int64
	}{
		{"here", []string{postHead + "Content-Length: 2\r\n\r\nhi"}, top + "Via: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"empty", []string{postHead + "Content-Length: 0\r\n\r\n"}, top + "Via: 1.1 gw\r\nContent-Length: 0\r\n\r\n", 0},
		{"later", []string{postHead + "Content-Length: 4\r\n\r\n", "hi", "ho"}, top + "Via: 1.1 gw\r\nContent-Length: 4\r\n\r\nhiho", 4},
		{"chunked", []string{postHead + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0;z\r\nX-Sum: 7\r\nHost: evil\r\n\r\n"},
			top + "Via: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n", 2},
		{"chunked in pieces", []string{postHead + "Transfer-Encoding: Chunked\r\n\r\n", "2\r", "\nhi\r\n", "0\r\n", "\r\n"},
			top + "Via: 1.1 gw\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *peer, _ int) {
				o.want(tt.want)
				o.say(ok2)
				o.rest()
			})
			for i, part := range tt.parts {
				if i > 0 {
					time.Sleep(time.Millisecond) // so that they are parts on the wire, too; nothing fails when they are not
				}
				r.client.say(part)
			}
			r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
			res := r.result()
			if res.Err != nil || res.Up != tt.up || !res.KeepServer || !res.KeepClient {
				t.Errorf("result %+v", res)
			}
			if f := r.record(); f.Request.End.IsZero() || f.Up != tt.up {
				t.Errorf("record: end %v, up %d", f.Request.End, f.Up)
			}
		})
	}
}

// TestExpect has the four ways a server may take "Expect: 100-continue".
func TestExpect(t *testing.T) {
	const head = postHead + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
	t.Run("go on", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			if h := o.head(); !strings.Contains(h, "Expect: 100-continue\r\n") {
				t.Errorf("head %q", h)
			}
			o.say("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n")
			o.want("hi")
			o.say("HTTP/1.1 100 Continue\r\n\r\n" + ok2)
			o.rest()
		})
		r.client.say(head)
		r.client.want("HTTP/1.1 103 Early Hints\r\nVia: 1.1 gw\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
		r.client.say("hi")
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
		if res := r.result(); res.Err != nil || !res.KeepServer || !res.KeepClient || res.Up != 2 {
			t.Errorf("result %+v", res)
		}
	})
	t.Run("no", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
			o.ends()
		})
		r.client.say(head)
		r.client.want("HTTP/1.1 417 No\r\nVia: 1.1 gw\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if res := r.result(); res.Err != nil || res.KeepServer || res.KeepClient || res.Up != 0 {
			t.Errorf("result %+v", res)
		}
		r.client.ends()
	})
	t.Run("no word", func(t *testing.T) {
		start := time.Now()
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.want("hi")
			o.say(ok2)
			o.rest()
		})
		r.client.say(head)
		r.client.want("HTTP/1.1 100 Continue\r\n\r\n")
		if d := time.Since(start); d < expectTime || d > expectTime+5*time.Second {
			t.Errorf("told to go on after %v", d)
		}
		r.client.say("hi")
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
		if res := r.result(); res.Err != nil || !res.KeepServer {
			t.Errorf("result %+v", res)
		}
	})
	t.Run("client does not wait", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 100 Continue\r\n\r\n")
			o.want("0\r\n\r\n")
			o.say(ok2)
			o.rest()
		})
		r.client.say(postHead + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0")
		r.client.say("\r\n\r\n")
		if got := r.client.head(); got == "HTTP/1.1 100 Continue\r\nVia: 1.1 gw\r\n\r\n" { // allowed, if it waited after all
			r.client.head()
		}
		r.client.want("hi")
		if res := r.result(); res.Err != nil || !res.KeepServer {
			t.Errorf("result %+v", res)
		}
	})
	t.Run("server gone", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) { o.head() })
		r.client.say(head)
		res := r.result()
		hasFault(t, res, connmodel.SideServer, connmodel.KindEOF, connmodel.PhaseRequest)
		if res.KeepClient {
			t.Error("the body is still to come")
		}
	})
	t.Run("switches", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			o.ends()
		})
		r.client.say(postHead + "Expect: 100-continue\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		hasFault(t, r.result(), connmodel.SideServer, connmodel.KindProtocol, connmodel.PhaseRequest)
	})
}

// TestEarlyResponse: a server that has heard enough is heard, and both connections end.
func TestEarlyResponse(t *testing.T) {
	for _, closes := range []bool{true, false} {
		t.Run(fmt.Sprintf("closes %v", closes), func(t *testing.T) {
			done := make(chan bool)
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				o.take(1000)
				o.say("HTTP/1.1 413 Enough\r\nContent-Length: 2\r\n\r\nno")
				if !closes {
					<-done
				}
			})
			defer close(done)
			r.client.say(postHead + "Content-Length: 1000000000\r\n\r\n")
			r.client.say("%s", pattern(100_000))
			r.client.want("HTTP/1.1 413 Enough\r\nVia: 1.1 gw\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			res := r.result()
			if res.Err != nil || res.KeepClient || res.KeepServer || res.Down != 2 || !res.Responded {
				t.Errorf("result %+v", res)
			}
			r.client.ends()
		})
	}
}

// TestBothWaysAtOnce has an origin that answers each piece before the next is sent.
func TestBothWaysAtOnce(t *testing.T) {
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		o.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 50 {
			o.say(o.take(8))
		}
		o.say(o.take(5))
		o.rest()
	})
	r.client.say(postHead + "Transfer-Encoding: chunked\r\n\r\n")
	r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
	for i := range 50 {
		chunk := fmt.Sprintf("3\r\n%03d\r\n", i)
		r.client.say(chunk)
		r.client.want(chunk)
	}
	r.client.say("0\r\n\r\n")
	r.client.want("0\r\n\r\n")
	if res := r.result(); res.Err != nil || res.Up != 150 || res.Down != 150 || !res.KeepServer || res.KeepClient {
		t.Errorf("result %+v", res)
	}
	r.client.ends()
}

// TestBrokenUploads: the server never takes a part for the whole, and the client is blamed.
func TestBrokenUploads(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		end        func(*peer)
		kind       connmodel.Kind
		code       int
	}{
		{"short of its length", "Content-Length: 9\r\n\r\nhi", (*peer).closeWrite, connmodel.KindEOF, 400},
		{"no last chunk", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", (*peer).closeWrite, connmodel.KindEOF, 400},
		{"reset", "Content-Length: 9\r\n\r\nhi", (*peer).reset, connmodel.KindReset, 0},
		{"chunk of letters", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nxyz\r\n", nil, connmodel.KindProtocol, 400},
		{"chunk size wraps", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nffffffffffffffff1\r\n", nil, connmodel.KindProtocol, 400},
		{"LF in chunks", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\n\n", nil, connmodel.KindProtocol, 400},
		{"extensions without end", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n2;" + strings.Repeat("x", 5<<10), nil, connmodel.KindProtocol, 400},
		{"stands still", "Content-Length: 9\r\n\r\nhi", func(*peer) {}, connmodel.KindTimeout, 408},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			ready := make(chan bool, 1)
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				o.Peek(1)
				ready <- true
				s, err := o.rest()
				if err == nil {
					t.Error("the server saw an orderly end")
				}
				got <- s
			}, withParams(func(p *Params) {
				if tt.code == 408 {
					p.Timeouts.Idle = 50 * time.Millisecond
				}
			}))
			r.client.say(postHead + tt.body)
			if tt.end != nil {
				<-ready
				tt.end(r.client)
			}
			res := r.result()
			hasFault(t, res, connmodel.SideClient, tt.kind, connmodel.PhaseRequest)
			if res.Err != nil && res.Err.Code != tt.code || res.KeepClient || res.KeepServer || res.Responded {
				t.Errorf("result %+v", res)
			}
			if s := <-got; strings.Contains(s, "0\r\n") {
				t.Errorf("the server got an end: %q", s)
			}
		})
	}
}

// TestBrokenUploadBehindResponse: the fault of an upload that shows in the middle of the response is the client's still.
func TestBrokenUploadBehindResponse(t *testing.T) {
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		o.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhi")
		o.rest()
	})
	r.client.say(postHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
	r.client.head()
	r.client.want("hi")
	r.client.say("broken")
	hasFault(t, r.result(), connmodel.SideClient, connmodel.KindProtocol, connmodel.PhaseRequest)
	r.client.ends()
}

// TestServerDoesNotTake blames a server that stops reading the body.
func TestServerDoesNotTake(t *testing.T) {
	stop := make(chan bool)
	r := newRig(t, func(o *peer, _ int) { o.head(); <-stop }, // it is told to before the rig waits for it
		withParams(func(p *Params) { p.Timeouts.Idle = 500 * time.Millisecond }))
	defer close(stop)
	go io.Copy(r.client.Conn, io.MultiReader(strings.NewReader(postHead+"Content-Length: 1000000000\r\n\r\n"), io.LimitReader(zeros{}, 1e9)))
	hasFault(t, r.result(), connmodel.SideServer, connmodel.KindTimeout, connmodel.PhaseRequest)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestUploadOutlastsResponseTimeout: the server has its time from the end of the request on.
func TestUploadOutlastsResponseTimeout(t *testing.T) {
	const limit = 600 * time.Millisecond
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		o.take(5)
		o.say(ok2)
		o.rest()
	}, withParams(func(p *Params) { p.Timeouts.Response = limit }))
	r.client.say(postHead + "Content-Length: 5\r\n\r\n")
	for range 5 {
		time.Sleep(limit / 3)
		r.client.say("x")
	}
	r.client.want("HTTP/1.1 200 OK\r\n")
	if res := r.result(); res.Err != nil {
		t.Error(res.Err)
	}
	t.Run("and not longer", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) { o.rest() }, withParams(func(p *Params) { p.Timeouts.Response = limit }))
		r.client.say(postHead + "Content-Length: 5\r\n\r\n")
		r.client.say("12345")
		res := r.result()
		hasFault(t, res, connmodel.SideServer, connmodel.KindTimeout, connmodel.PhaseRequest)
		if !res.KeepClient {
			t.Error("all of the request has been read: the client can stay")
		}
	})
}

// TestLargeBodies goes both ways, through the kernel and copied, and counts.
func TestLargeBodies(t *testing.T) {
	const n = 5<<20 + 12345
	for _, tt := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"spliced", nil},
		{"copied", func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := pattern(n)
			r := newRig(t, func(o *peer, _ int) {
				for {
					q, err := http.ReadRequest(o.Reader)
					if err != nil {
						return
					}
					got, _ := io.ReadAll(q.Body)
					samePattern(t, got, n)
					o.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
					o.Conn.Write(body)
				}
			})
			r.wrap = tt.wrap
			for range 2 {
				go func() {
					fmt.Fprintf(r.client.Conn, postHead+"Content-Length: %d\r\n\r\n", n)
					r.client.Conn.Write(body)
				}()
				r.client.head()
				samePattern(t, []byte(r.client.take(n)), n)
				res := r.result()
				if res.Err != nil || res.Up != n || res.Down != n || !res.KeepClient || !res.KeepServer {
					t.Errorf("result %+v", res)
				}
			}
			if spliced := tt.wrap == nil; spliced != (r.dials == 1) { // what cannot be looked at is not kept
				t.Errorf("%d dials", r.dials)
			}
		})
	}
}

// TestUpgrade carries another protocol behind 101, with early bytes of both sides.
func TestUpgrade(t *testing.T) {
	const ask = "GET http://a.test/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket, other\r\n\r\n"
	t.Run("yes", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			if h := o.head(); !strings.Contains(h, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n") {
				t.Errorf("head %q", h)
			}
			if o.Buffered() != 0 {
				t.Error("bytes of the tunnel came before the 101")
			}
			o.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello")
			o.want("early")
			io.Copy(o.Conn, o.Reader)
			o.closeWrite()
		})
		r.client.say(ask + "early")
		r.client.want("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nVia: 1.1 gw\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nhello")
		r.client.say("echo")
		r.client.want("echo")
		r.client.closeWrite()
		r.client.ends()
		if res := r.result(); !res.Upgraded || !res.Responded || res.Up+res.Down != 0 || res.KeepClient || res.KeepServer {
			t.Errorf("result %+v", res)
		}
		if f := r.record(); f.Response.Status != 101 {
			t.Errorf("status %d", f.Response.Status)
		}
	})
	t.Run("no", func(t *testing.T) {
		r := newRig(t, answering(ok2))
		r.client.say(ask + get("/next"))
		for range 2 {
			r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
			if res := r.result(); !res.KeepServer || res.Upgraded {
				t.Errorf("result %+v", res)
			}
		}
	})
	for name, to := range map[string]string{"another": "other", "h2c": "h2c", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			field := ""
			if to != "" {
				field = "Upgrade: " + to + "\r\n"
			}
			r := newRig(t, func(o *peer, _ int) {
				o.head()
				o.say("HTTP/1.1 101 S\r\nConnection: Upgrade\r\n" + field + "\r\n")
				o.ends()
			})
			r.client.say(ask)
			res := r.result()
			hasFault(t, res, connmodel.SideServer, connmodel.KindProtocol, connmodel.PhaseRequest)
			if res.Upgraded || res.Responded || !res.KeepClient {
				t.Errorf("result %+v", res)
			}
		})
	}
	t.Run("without deadlines", func(t *testing.T) {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.Copy(o.Conn, o.Reader)
		}, withParams(func(p *Params) {
			p.Timeouts = connmodel.Timeouts{Response: 30 * time.Millisecond, Idle: 30 * time.Millisecond}
		}))
		r.client.say(ask)
		r.client.head()
		time.Sleep(100 * time.Millisecond) // longer than every limit of the exchange
		r.client.say("still here")
		r.client.want("still here")
	})
}

// TestRepeat: a kept connection that died is replaced once, for what may be repeated.
func TestRepeat(t *testing.T) {
	for _, tt := range []struct {
		name, request, last string // last is what the old connection says before it dies
		reset, want         bool
	}{
		{"GET", get("/"), "", false, true},
		{"GET, reset", get("/"), "", true, true},
		{"DELETE", "DELETE http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "", false, true},
		{"POST without a body", "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "", false, false},
		{"PUT with a body", "PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", "", false, false},
		{"PATCH", "PATCH http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "", false, false},
		{"answer begun", get("/"), "H", false, false},
		{"interim", get("/"), "HTTP/1.1 103 E\r\n\r\n", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *peer, n int) {
				o.head()
				o.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
				if n > 0 {
					o.rest()
					return
				}
				o.head() // the second request dies with its connection
				o.say("%s", tt.last)
				if tt.reset {
					o.reset()
				}
			})
			r.client.say(get("/"))
			r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 1\r\n\r\n0")
			if res := r.result(); !res.KeepServer {
				t.Fatalf("result %+v", res)
			}
			r.record()
			r.client.say(tt.request)
			res := r.result()
			f := r.record()
			if !tt.want {
				if res.Err == nil || r.dials != 1 || res.Err.Side != connmodel.SideServer {
					t.Errorf("result %+v after %d dials", res, r.dials)
				}
				return
			}
			r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 1\r\n\r\n1")
			if res.Err != nil || r.dials != 2 || !res.KeepServer || res.Server.Reused {
				t.Errorf("result %+v after %d dials", res, r.dials)
			}
			if s := f.Server; s.Reused || len(s.Attempts) != 2 || s.Attempts[0].Error == nil || s.Attempts[1].Error != nil || f.Error != nil {
				t.Errorf("record: reused %v, attempts %+v, error %v", s.Reused, s.Attempts, f.Error)
			}
		})
	}
}

// TestRepeatedOnce: the replacement is fresh and is not replaced.
func TestRepeatedOnce(t *testing.T) {
	r := newRig(t, func(o *peer, n int) {
		o.head()
		if n == 0 {
			o.say(ok2)
			o.head()
		}
	})
	r.client.say(get("/"))
	r.result()
	r.client.say(get("/"))
	if hasFault(t, r.result(), connmodel.SideServer, connmodel.KindEOF, connmodel.PhaseRequest); r.dials != 2 {
		t.Errorf("%d dials", r.dials)
	}
}

// TestAnswerBeforeClose: a server that answers and closes without reading is heard, although nothing can be sent to it.
func TestAnswerBeforeClose(t *testing.T) {
	step := make(chan bool)
	r := newRig(t, func(o *peer, _ int) {
		<-step // connected
		o.say("HTTP/1.1 503 Full\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		o.reset()
		step <- true
	}, withServer(func(*Server) { step <- true; <-step }))
	r.client.say(get("/"))
	r.client.want("HTTP/1.1 503 Full\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n")
	if res := r.result(); res.Err != nil || res.KeepServer {
		t.Errorf("result %+v", res)
	}
}

// TestDialPanics leaves nothing behind: the test's goroutine check sees to that.
func TestDialPanics(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	closed := false
	defer func() {
		if recover() == nil || !closed {
			t.Errorf("no panic, or the server connection is open (closed: %v)", closed)
		}
	}()
	rig := &rig{t: t}
	p := rig.params(b, get("/"))
	p.Dial = func(bool) (*Server, *connmodel.ConnError) {
		return &Server{Conn: panicConn{a}, Close: func() error { closed = true; return a.Close() }}, nil
	}
	Carry(p)
}

type panicConn struct{ net.Conn }

func (panicConn) Write([]byte) (int, error) { panic("a bug below") }

// TestUploadPanics: a panic on the goroutine of the upload comes out on that of the session.
func TestUploadPanics(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	defer func() {
		if v := recover(); v != "a bug below" {
			t.Errorf("recovered %v", v)
		}
	}()
	rig := &rig{t: t}
	p := rig.params(b, postHead+"Content-Length: 5\r\n\r\n")
	p.Dial = func(bool) (*Server, *connmodel.ConnError) {
		s := &Server{Conn: panicConn{a}, Close: a.Close}
		s.In.Reset(a, limitsNone)
		return s, nil
	}
	Carry(p)
}

// TestFieldsOfOneRequestStayThere: what is reused of an exchange shows nothing of the one before.
func TestFieldsOfOneRequestStayThere(t *testing.T) {
	heads := make(chan string, 8)
	r := newRig(t, func(o *peer, _ int) {
		for {
			q, err := http.ReadRequest(o.Reader)
			if err != nil {
				return
			}
			var b bytes.Buffer
			q.Header.Write(&b)
			heads <- b.String()
			o.say(ok2)
		}
	}, withServer(func(s *Server) { s.Absolute, s.Login = true, showing("Basic c2VjcmV0") }))
	for i := range 4 {
		r.client.say("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-%d: %d\r\nAuthorization: Basic eA==\r\n\r\n", i, i)
		want := fmt.Sprintf("Authorization: Basic eA==\r\nProxy-Authorization: Basic c2VjcmV0\r\nVia: 1.1 gw\r\nX-%d: %d\r\n", i, i)
		if got := <-heads; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		r.client.want("HTTP/1.1 200 OK\r\nVia: 1.1 gw\r\nContent-Length: 2\r\n\r\nhi")
	}
}
