package forward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// TestSmuggledRequests: behind a request whose framing is doubtful nothing is a request, neither for us nor for the server.
func TestSmuggledRequests(t *testing.T) {
	const hidden = "GET http://a.test/hidden HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for name, fields := range map[string]string{
		"CL.TE":              "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
		"TE.CL":              "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
		"TE twice":           "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"TE with VT":         "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"TE list":            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"TE x":               "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"TE in the name":     "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"TE folded":          "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"two lengths":        "Content-Length: 0\r\nContent-Length: 60\r\n\r\n",
		"list of lengths":    "Content-Length: 0, 60\r\n\r\n",
		"length +0":          "Content-Length: +0\r\n\r\n",
		"length 0x0":         "Content-Length: 0x0\r\n\r\n",
		"length empty":       "Content-Length:\r\n\r\n",
		"bare LF":            "X: y\nContent-Length: 60\r\n\r\n",
		"bare CR":            "X: y\rContent-Length: 60\r\n\r\n",
		"NUL":                "X: y\x00\r\n\r\n",
		"LF in chunk size":   "Transfer-Encoding: chunked\r\n\r\n0\n\r\n",
		"LF in extension":    "Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n",
		"chunk without CRLF": "Transfer-Encoding: chunked\r\n\r\n2\r\nxxYY0\r\n\r\n",
		"minus chunk":        "Transfer-Encoding: chunked\r\n\r\n-2\r\nxx\r\n0\r\n\r\n",
		"two Hosts":          "Host: b.test\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var seen bytes.Buffer
			r := newRig(t, func(o *peer, _ int) { io.Copy(&seen, o.Reader) })
			fmt.Fprint(r.client.Conn, postHead+fields+hidden+hidden)
			all, _ := r.client.rest()
			if n := strings.Count(all, "HTTP/1.1 "); n > 1 || n == 1 && !strings.HasPrefix(all, "HTTP/1.1 400 ") && !strings.HasPrefix(all, "HTTP/1.1 501 ") {
				t.Errorf("the client got %q", all)
			}
			r.close() // and whoever served a connection is done; one that was still waiting to be accepted is served by nobody
			if strings.Contains(seen.String(), "hidden") {
				t.Errorf("the server got %q", seen.String())
			}
		})
	}
}

// message is one exchange as both ends mean it.
type message struct {
	method, path string
	reqBody      []byte
	reqTrailer   string
	status       int
	respBody     []byte
	respTrailer  string
	interim      int
}

// conversation is a run of exchanges, with all that is free in their framing and timing drawn from a seed.
type conversation struct {
	*rand.Rand
	messages []message
}

func newConversation(seed uint64) *conversation {
	c := &conversation{Rand: rand.New(rand.NewPCG(seed, 7))}
	for range 1 + c.IntN(6) {
		m := message{method: "GET", path: fmt.Sprintf("/%d", c.Uint32()), status: 200, interim: c.IntN(3) / 2 * c.IntN(4)}
		if c.IntN(3) > 0 {
			m.method, m.reqBody = "POST", c.body()
			if c.IntN(2) == 0 {
				m.reqTrailer = fmt.Sprint(c.Uint32())
			}
		}
		m.respBody = c.body()
		switch c.IntN(8) {
		case 0:
			m.status, m.respBody = 204, nil
		case 1:
			m.respTrailer = "t"
		}
		c.messages = append(c.messages, m)
	}
	return c
}

func (c *conversation) body() []byte {
	n := c.IntN(40)
	switch c.IntN(8) {
	case 0:
		n = c.IntN(70_000)
	case 1:
		n = 200_000 + c.IntN(100_000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = "\r\n0123456789 GET HTTP/1.1:;"[c.IntN(27)]
	}
	return b
}

// chunked writes a body in chunks of any size, with extensions.
func chunked(rnd *rand.Rand, b []byte, trailer string) []byte {
	var out bytes.Buffer
	for len(b) > 0 {
		n := 1 + rnd.IntN(len(b))
		ext := []string{"", "", ";a", ";a=b; c=\"d\""}[rnd.IntN(4)]
		fmt.Fprintf(&out, "%0*x%s\r\n%s\r\n", 1+rnd.IntN(5), n, ext, b[:n])
		b = b[n:]
	}
	out.WriteString("0\r\n")
	if trailer != "" {
		fmt.Fprintf(&out, "X-Trailer: %s\r\n", trailer)
	}
	out.WriteString("\r\n")
	return out.Bytes()
}

// request writes m as the client sends it.
func (m *message) request(rnd *rand.Rand) []byte {
	head := fmt.Sprintf("%s http://%s%s HTTP/1.1\r\nHost: %s\r\n", m.method, host, m.path, host)
	switch {
	case m.reqBody == nil:
		return []byte(head + "\r\n")
	case m.reqTrailer != "" || rnd.IntN(2) == 0:
		return append([]byte(head+"Transfer-Encoding: chunked\r\n\r\n"), chunked(rnd, m.reqBody, m.reqTrailer)...)
	}
	return append(fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", head, len(m.reqBody)), m.reqBody...)
}

// response writes m as the origin sends it; last says that the connection ends with it.
func (m *message) response(rnd *rand.Rand) (b []byte, last bool) {
	b = []byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", m.interim))
	b = fmt.Appendf(b, "HTTP/1.1 %d Some Reason\r\n", m.status)
	switch {
	case m.status == 204:
		return append(b, "\r\n"...), false
	case m.respTrailer != "" || rnd.IntN(3) == 0:
		return append(append(b, "Transfer-Encoding: chunked\r\n\r\n"...), chunked(rnd, m.respBody, m.respTrailer)...), false
	case rnd.IntN(4) == 0:
		return append(append(b, "\r\n"...), m.respBody...), true
	}
	return append(fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(m.respBody)), m.respBody...), false
}

// drip writes b in pieces.
func drip(rnd *rand.Rand, w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := 1 + rnd.IntN(len(b))
		if rnd.IntN(2) == 0 {
			n = min(n, 1+rnd.IntN(64))
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; rnd.IntN(4) == 0 {
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
		}
	}
	return nil
}

// FuzzConversation sends what a seed draws through a gateway, in any pieces, pipelined, and compares what each end got with what the
// other sent. Both ends parse with net/http, which shares no code with us.
func FuzzConversation(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		c := newConversation(seed)
		byPath := map[string]*message{}
		for i := range c.messages {
			byPath[c.messages[i].path] = &c.messages[i]
		}
		var mu sync.Mutex
		var order []string
		r := newRig(t, func(o *peer, n int) {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			for {
				q, err := http.ReadRequest(o.Reader)
				if err != nil {
					return
				}
				body, err := io.ReadAll(q.Body)
				m := byPath[q.URL.Path]
				if err != nil || m == nil || q.Method != m.method || !bytes.Equal(body, m.reqBody) || q.Trailer.Get("X-Trailer") != m.reqTrailer || q.Host != host {
					t.Errorf("the origin got %s %s with %d bytes: %v", q.Method, q.URL, len(body), err)
					return
				}
				mu.Lock()
				order = append(order, q.URL.Path)
				mu.Unlock()
				b, last := m.response(rnd)
				if drip(rnd, o.Conn, b) != nil || last {
					return
				}
			}
		})
		go func() {
			rnd := rand.New(rand.NewPCG(seed, 1<<32))
			var all []byte
			for i := range c.messages {
				all = append(all, c.messages[i].request(rnd)...)
			}
			drip(rnd, r.client.Conn, all)
		}()
		for i := range c.messages {
			m := &c.messages[i]
			for range m.interim {
				if h := r.client.head(); !strings.HasPrefix(h, "HTTP/1.1 103 ") {
					t.Fatalf("message %d: %q in place of an interim response", i, h)
				}
			}
			resp, err := http.ReadResponse(r.client.Reader, &http.Request{Method: m.method})
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != m.status || !bytes.Equal(body, m.respBody) || resp.Trailer.Get("X-Trailer") != m.respTrailer {
				t.Fatalf("message %d: %d with %d bytes (%v), want %d with %d", i, resp.StatusCode, len(body), err, m.status, len(m.respBody))
			}
			res := r.result()
			if res.Err != nil || res.Up != int64(len(m.reqBody)) || res.Down != int64(len(m.respBody)) {
				t.Errorf("message %d: %+v", i, res)
			}
			if resp.Close {
				break // told so: a response that overtook its request's end
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.IsSortedFunc(order, func(a, b string) int { return index(c.messages, a) - index(c.messages, b) }) {
			t.Errorf("the origin got them in the order %v", order)
		}
	})
}

func index(list []message, path string) int {
	return slices.IndexFunc(list, func(m message) bool { return m.path == path })
}

// FuzzServerBytes lets a server say anything, twice on one connection: a client gets one final response for one request, whatever
// comes, and nobody panics or hangs.
func FuzzServerBytes(f *testing.F) {
	f.Add([]byte(ok2), []byte(ok2))
	f.Add([]byte(ok2+ok2), []byte("x"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), []byte(""))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 N\r\nContent-Length: 3\r\n\r\nabc"), []byte(ok2))
	f.Add([]byte("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), []byte("HTTP/1.1 407 P\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\nall"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTrailer: content-length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), []byte("HTTP/1.1 205 R\r\nContent-Length: 2\r\n\r\nabx"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		said := [][]byte{first, second}
		r := newRig(t, func(o *peer, n int) {
			for n < len(said) {
				if _, err := http.ReadRequest(o.Reader); err != nil {
					return
				}
				o.Conn.Write(said[n])
				if n++; len(said[n-1])%2 == 0 {
					return // and closes
				}
			}
		}, withParams(func(p *Params) {
			p.Timeouts = connmodel.Timeouts{Response: 100 * time.Millisecond, Idle: 100 * time.Millisecond}
		}))
		for i := range 2 {
			if _, err := io.WriteString(r.client.Conn, get("/")); err != nil {
				break
			}
			res := r.result()
			if res.Err == nil && !res.Responded || res.Upgraded || res.KeepServer && (res.Err != nil || len(res.Server.In.Buffered()) > 0) {
				t.Errorf("result %+v", res)
			}
			if !res.KeepClient {
				break
			}
			resp, err := http.ReadResponse(r.client.Reader, &http.Request{Method: "GET"})
			for err == nil && resp.StatusCode < 200 {
				resp, err = http.ReadResponse(r.client.Reader, &http.Request{Method: "GET"})
			}
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			// What we wrote is strict: even a parser as lenient as net/http's finds one response and nothing behind it.
			if err != nil || r.client.Buffered() > 0 {
				t.Errorf("response %d: %v, %d bytes behind it", i, err, r.client.Buffered())
			}
		}
	})
}

// FuzzClientBytes lets a client say anything: the server finds as many requests as were carried, and the same.
func FuzzClientBytes(f *testing.F) {
	f.Add([]byte(get("/a") + get("/b")))
	f.Add([]byte(postHead + "Content-Length: 5\r\n\r\nGET /" + get("/b")))
	f.Add([]byte(postHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n" + get("/b")))
	f.Add([]byte(postHead + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte(postHead + "Trailer: content-length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte(get("/%") + get("/100%zz?%")))
	f.Add([]byte(postHead + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade, te\r\nUpgrade: x\r\nTE: trailers\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		var carried []string
		var got []string
		var mu sync.Mutex
		r := newRig(t, func(o *peer, _ int) {
			for {
				q, err := http.ReadRequest(o.Reader)
				if err != nil {
					// A path may hold a "%" that escapes nothing: browsers send it (WHATWG URL 4.4), and it frames nothing. Only net/url minds.
					if _, escape := errors.AsType[url.EscapeError](err); escape {
						return
					}
					if _, cut := errors.AsType[net.Error](err); cut {
						return // closed or reset in the middle of a head
					}
					if b, _ := o.Peek(o.Buffered()); len(b) > 0 && err != io.ErrUnexpectedEOF {
						t.Errorf("a head that net/http does not take: %v", err)
					}
					return
				}
				_, err = io.Copy(io.Discard, q.Body)
				mu.Lock()
				got = append(got, q.Method+" "+q.RequestURI)
				mu.Unlock()
				if err != nil {
					return
				}
				io.WriteString(o.Conn, ok2)
			}
		}, withParams(func(p *Params) {
			carried = append(carried, p.Req.Method+" "+p.Req.Target.Path)
			p.Timeouts = connmodel.Timeouts{Response: time.Second, Idle: 100 * time.Millisecond}
		}))
		go func() {
			r.client.Conn.Write(said)
			r.client.closeWrite()
		}()
		io.Copy(io.Discard, bufio.NewReader(r.client.Conn))
		r.close()
		rest := carried // in their order; some were refused
		for _, g := range got {
			i := slices.Index(rest, g)
			if i < 0 {
				t.Fatalf("the server found %q, carried were %q", got, carried)
			}
			rest = rest[i+1:]
		}
	})
}

// TestManyAtOnce has 64 clients, a server that fails in every way, and a pool shared by all. It is for the race detector and the
// goroutine check; what is asserted is that every exchange ends and bytes are whole or the end is a reset.
func TestManyAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var origins sync.WaitGroup
	origins.Add(1)
	go func() {
		defer origins.Done()
		for seed := uint64(0); ; seed++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			origins.Add(1)
			go func() {
				defer origins.Done()
				defer c.Close()
				chaos(newPeer(t, c), rand.New(rand.NewPCG(seed, 3)))
			}()
		}
	}()
	var pool Pool
	var clients sync.WaitGroup
	for n := range 64 {
		clients.Add(1)
		go func() {
			defer clients.Done()
			rnd := rand.New(rand.NewPCG(uint64(n), 5))
			for range 15 {
				chaosClient(t, rnd, &pool, ln.Addr().String())
			}
		}()
	}
	clients.Wait()
	pool.Close()
	ln.Close()
	origins.Wait()
}

func chaos(o *peer, rnd *rand.Rand) {
	for {
		q, err := http.ReadRequest(o.Reader)
		if err != nil {
			return
		}
		if rnd.IntN(6) == 0 {
			io.WriteString(o.Conn, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno") // before the body
			if rnd.IntN(2) == 0 {
				return
			}
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		switch n := rnd.IntN(300_000); rnd.IntN(8) {
		case 0:
			return
		case 1:
			o.reset()
			return
		case 2:
			fmt.Fprintf(o.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
			o.Conn.Write(pattern(n / 2))
			if rnd.IntN(2) == 0 {
				o.reset()
			}
			return
		case 3:
			fmt.Fprintf(o.Conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			o.Conn.Write(chunked(rnd, pattern(n), ""))
		case 4:
			io.WriteString(o.Conn, ok2+"surplus")
		default:
			fmt.Fprintf(o.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
			o.Conn.Write(pattern(n))
		}
	}
}

// chaosClient is one client connection with a few requests, which may leave at any time.
func chaosClient(t *testing.T, rnd *rand.Rand, pool *Pool, origin string) {
	a, b, err := quietPair()
	if err != nil {
		t.Error(err)
		return
	}
	var gone sync.WaitGroup
	gone.Add(1)
	var cancel Canceler
	const limit = 300 * time.Millisecond
	quit := rnd.IntN(10) == 0
	go func() {
		defer gone.Done()
		defer b.Close()
		in := http1.NewReader(b, http1.Limits{})
		defer in.Release()
		live := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Time: time.Now()}, nil)
		req := new(http1.Request)
		for b.SetReadDeadline(time.Now().Add(limit)) == nil && in.ReadRequest(req) == nil {
			rec := live.NewFlow(connmodel.ProtocolHTTP, connmodel.Address{}, time.Now())
			res := Carry(&Params{
				Client: b, In: in, Req: req, Rec: rec, Via: "gw", Cancel: &cancel,
				Timeouts: connmodel.Timeouts{Response: limit, Idle: limit},
				Dial: func(reuse bool) (*Server, *connmodel.ConnError) {
					if s := pool.Get("k"); reuse && s != nil {
						return s, nil
					} else if s != nil {
						s.Close()
					}
					c, err := net.Dial("tcp", origin)
					if err != nil {
						return nil, &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideServer, Kind: connmodel.KindReset, Message: "dial"}
					}
					s := &Server{Conn: c, Key: "k", Close: c.Close}
					s.In.Reset(c, http1.Limits{})
					return s, nil
				},
			})
			rec.Close(connmodel.FlowEnd{})
			if res.KeepServer {
				pool.Put(res.Server)
			}
			if !res.Responded {
				writeFault(b, res, false)
			}
			if !res.KeepClient {
				return
			}
		}
	}()
	p := &peer{a, bufio.NewReader(a), t}
	a.SetDeadline(time.Now().Add(patience))
	chaosAsk(t, rnd, p)
	if quit {
		cancel.Cancel()
	}
	if rnd.IntN(3) == 0 {
		setReset(a)
	}
	a.Close()
	gone.Wait()
}

func chaosAsk(t *testing.T, rnd *rand.Rand, p *peer) {
	for range 1 + rnd.IntN(5) {
		m := message{method: "GET", path: "/"}
		if rnd.IntN(2) == 0 {
			m.method, m.reqBody = "POST", pattern(rnd.IntN(300_000))
		}
		b := m.request(rnd)
		if rnd.IntN(12) == 0 {
			b = b[:rnd.IntN(len(b))]
		}
		written := make(chan bool)
		go func() { p.Conn.Write(b); close(written) }()
		if rnd.IntN(10) == 0 {
			p.Close() // in the middle
			<-written
			return
		}
		if len(b) > 0 && rnd.IntN(12) == 0 {
			p.closeWrite()
		}
		resp, err := http.ReadResponse(p.Reader, &http.Request{Method: m.method})
		var body []byte
		if err == nil {
			body, err = io.ReadAll(resp.Body)
		}
		if err == nil && resp.StatusCode == 200 && string(body) != "hi" && !bytes.Equal(body, pattern(len(body))) {
			t.Errorf("%d bytes that nobody sent", len(body))
		}
		if err != nil || resp.Close {
			p.Close()
			<-written
			return
		}
		<-written
	}
}

// quietPair is pair without a test to end it.
func quietPair() (a, b net.Conn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = ln.Accept(); err != nil {
		a.Close()
	}
	return a, b, err
}
