//lint:file-ignore SA1019 x/net/http2 is a peer here: it gives hold of one connection and of its limits, which net/http does not

package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/h2"
	"viaduct/upstream/upstreamtest"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// serveHTTP runs a server until the test ends, and returns its URL.
func serveHTTP(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

// h2Client is one HTTP/2 connection to a gateway, driven by the client of x/net.
type h2Client struct {
	t    testing.TB
	conn *tls.Conn
	cc   *http2.ClientConn
	auth string // Proxy-Authorization
}

func (g *tlsGateway) h2(t testing.TB) *h2Client {
	t.Helper()
	c, err := g.dialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }))
	if err != nil || c.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatal(err, c.ConnectionState().NegotiatedProtocol)
	}
	c.SetDeadline(time.Time{})
	cc, err := (&http2.Transport{AllowHTTP: true, StrictMaxConcurrentStreams: true}).NewClientConn(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); c.Close() })
	return &h2Client{t: t, conn: c, cc: cc}
}

func startH2(t *testing.T, change func(*Options, *Config)) *tlsGateway {
	t.Helper()
	return startTLS(t, func(o *Options, c *Config, _ *upstreamtest.CA) {
		c.Listeners[0].TLS.HTTP2 = true
		if change != nil {
			change(o, c)
		}
	})
}

func (c *h2Client) do(ctx context.Context, method, url string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if c.auth != "" {
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.auth)))
	}
	return c.cc.RoundTrip(req)
}

// use makes a request: a ClientConn that was never used does not say that it is closed.
func (c *h2Client) use(url string) {
	c.t.Helper()
	resp, err := c.do(context.Background(), "HEAD", url+"/", nil)
	if err != nil || resp.StatusCode != 200 {
		c.t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// h2Tunnel is a CONNECT tunnel on a stream.
type h2Tunnel struct {
	io.Reader
	*io.PipeWriter
	body   io.Closer
	cancel context.CancelFunc
}

// end leaves the tunnel without a word: RST_STREAM.
func (u *h2Tunnel) end() { u.cancel(); u.body.Close() }

func (c *h2Client) tunnel(target string) (*h2Tunnel, *http.Response, error) {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(func() { cancel(); w.Close() })
	req := (&http.Request{Method: "CONNECT", Host: target, Body: r, Header: http.Header{}}).WithContext(ctx)
	req.URL = mustURL("http://" + target)
	if c.auth != "" {
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.auth)))
	}
	resp, err := c.cc.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	return &h2Tunnel{resp.Body, w, resp.Body, cancel}, resp, nil
}

func (c *h2Client) mustTunnel(target string) *h2Tunnel {
	c.t.Helper()
	u, resp, err := c.tunnel(target)
	if err != nil || resp.StatusCode != 200 {
		c.t.Fatal(resp, err)
	}
	return u
}

// shake sends b through a tunnel to an echo server and wants it back.
func (u *h2Tunnel) shake(b []byte) error {
	failed := make(chan error, 1)
	go func() {
		_, err := u.Write(b)
		failed <- err
	}()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(u, got); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("sent %.20q, got %.20q", b, got)
	}
	return <-failed
}

func TestPlainRequestsOverH2(t *testing.T) {
	var mu sync.Mutex
	peers := map[string]bool{}
	origin := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", fmt.Sprintf("%s %s %s %q %s", r.Method, r.Host, r.URL, r.Header.Get("Proxy-Authorization"), r.Header.Get("Via")))
		w.Write(body)
	})
	g := startH2(t, nil)
	c := g.h2(t)
	c.auth = "a:b"
	host := strings.TrimPrefix(origin, "http://")
	for _, row := range []struct {
		method string
		body   string
		sized  bool
	}{{"GET", "", true}, {"POST", "hello", true}, {"POST", strings.Repeat("x", 300<<10), false}, {"HEAD", "", true}, {"PUT", "", true}} {
		var body io.Reader
		if row.body != "" {
			if body = strings.NewReader(row.body); !row.sized {
				body = io.MultiReader(body) // of unknown length
			}
		}
		resp, err := c.do(t.Context(), row.method, origin+"/path?q", body)
		if err != nil {
			t.Fatal(row.method, err)
		}
		got, err := io.ReadAll(resp.Body)
		want := fmt.Sprintf("%s %s /path?q \"\" 2 %s", row.method, host, g.name)
		if err != nil || resp.StatusCode != 200 || string(got) != row.body || resp.Header.Get("X-Got") != want {
			t.Errorf("%s: %d %q, %d bytes back, %v, want %q", row.method, resp.StatusCode, resp.Header.Get("X-Got"), len(got), err, want)
		}
		f := g.records.next(t)
		if f.Error != nil || f.Protocol != connmodel.ProtocolHTTP || f.Request.Method != row.method || f.Request.Host != "127.0.0.1" || f.Up != int64(len(row.body)) || f.Down != int64(len(row.body)) {
			t.Errorf("%s: record %v, %+v, %d up, %d down", row.method, f.Error, f.Request, f.Up, f.Down)
		}
		if cl := f.Client; cl.TLSInfo == nil || cl.TLSInfo.ALPN == nil || *cl.TLSInfo.ALPN != "h2" || !cl.State.Has(connmodel.Active) || !cl.End.IsZero() {
			t.Errorf("%s: client %+v", row.method, cl.Connection)
		}
	}
	mu.Lock()
	if len(peers) > 2 {
		t.Errorf("the origin saw %d connections", len(peers))
	}
	mu.Unlock()
	if n := g.Stats(); n.Sessions != 1 || n.SessionsOpen != 1 || n.Flows != 5 {
		t.Errorf("%+v", n)
	}
}

// TestUsersOfStreams: each stream proves its own user, and a record tells of that one.
func TestUsersOfStreams(t *testing.T) {
	origin := okOrigin(t)
	g := startH2(t, func(o *Options, c *Config) { c.Listeners[0].Auth = anyUser{} })
	c := g.h2(t)
	var wg sync.WaitGroup
	const n = 40
	for i := range n {
		mine := *c
		mine.auth = fmt.Sprintf("user%d:ok", i)
		if i%4 == 3 {
			mine.auth = ""
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := mine.do(context.Background(), "GET", fmt.Sprintf("%s/%s", origin.URL, mine.auth), nil)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			if want := map[bool]int{true: 407, false: 200}[mine.auth == ""]; resp.StatusCode != want || want == 407 && resp.Header.Get("Proxy-Authenticate") == "" {
				t.Errorf("%q: %d %v", mine.auth, resp.StatusCode, resp.Header)
			}
		}()
	}
	wg.Wait()
	for range n {
		g.records.next(t)
	}
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	for _, f := range g.records.flows {
		want := strings.TrimSuffix(strings.TrimPrefix(f.Request.Path, "/"), ":ok")
		if f.Client.User != want {
			t.Errorf("the record of %s has user %q", f.Request.Path, f.Client.User)
		}
	}
}

type anyUser struct{}

func (anyUser) Verify(user, password string) bool { return password == "ok" }

func TestTunnelsOverH2(t *testing.T) {
	g := startH2(t, nil)
	c := g.h2(t)
	target := echo(t)

	// Both ways at once, then our end, then the server's.
	u := c.mustTunnel(target)
	big := bytes.Repeat([]byte("0123456789abcdef"), 128<<10)
	if err := u.shake(big); err != nil {
		t.Fatal(err)
	}
	u.Close()
	if rest, err := io.ReadAll(u); err != nil || len(rest) != 0 {
		t.Errorf("behind the end: %q %v", rest, err)
	}
	f := g.records.next(t)
	if f.Error != nil || f.Reason != connmodel.CloseClient || f.First != connmodel.SideClient || f.Up != int64(len(big)) || f.Down != f.Up || f.Reply == nil || f.Reply.Code != 200 {
		t.Errorf("record: %v %s first %s, %d up, %d down", f.Error, f.Reason, f.First, f.Up, f.Down)
	}

	// A server that ends first and listens on: half-close travels both ways.
	heard := make(chan string, 1)
	polite := serveTCP(t, func(s net.Conn) {
		io.WriteString(s, "that was all of mine")
		s.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(s)
		heard <- string(all)
	})
	u = c.mustTunnel(polite)
	if all, err := io.ReadAll(u); err != nil || string(all) != "that was all of mine" {
		t.Errorf("%q %v", all, err)
	}
	u.Write([]byte("and mine comes later"))
	u.Close()
	if got := <-heard; got != "and mine comes later" {
		t.Errorf("the server heard %q", got)
	}
	if f := g.records.next(t); f.Error != nil || f.First != connmodel.SideServer {
		t.Errorf("record: %v, first %s", f.Error, f.First)
	}

	// A server that resets: so does the stream, and no other.
	other := c.mustTunnel(target)
	u = c.mustTunnel(serveTCP(t, func(s net.Conn) {
		s.Read(make([]byte, 1))
		s.(*net.TCPConn).SetLinger(0)
	}))
	u.Write([]byte("x"))
	_, err := io.ReadAll(u)
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeConnect {
		t.Errorf("a reset server: %v", err)
	}
	if f := g.records.next(t); f.Reason != connmodel.CloseServerReset || f.Error == nil || f.Error.Side != connmodel.SideServer {
		t.Errorf("record: %s %v", f.Reason, f.Error)
	}

	// A client that has no use for its stream any more.
	gone := make(chan error, 1)
	u = c.mustTunnel(serveTCP(t, func(s net.Conn) {
		_, err := io.Copy(io.Discard, s)
		gone <- err
	}))
	u.end()
	if err := <-gone; err == nil {
		t.Error("the server saw an orderly end")
	}
	if f := g.records.next(t); f.Reason != connmodel.CloseClient || f.Error != nil || f.First != connmodel.SideClient {
		t.Errorf("record: %s %v, first %s", f.Reason, f.Error, f.First)
	}
	if err := other.shake([]byte("others go on")); err != nil {
		t.Error(err)
	}

	// A client that is closed with a tunnel open, as a browser is.
	quits := g.h2(t)
	last := quits.mustTunnel(target)
	if err := last.shake([]byte("x")); err != nil {
		t.Error(err)
	}
	quits.conn.NetConn().(*net.TCPConn).CloseWrite() // not Close, which might reset
	if f := g.records.next(t); f.Reason != connmodel.CloseClient || f.Error != nil {
		t.Errorf("record: %s %v", f.Reason, f.Error)
	}

	// The connection goes with all of its streams.
	c.conn.NetConn().(*net.TCPConn).SetLinger(0)
	c.conn.NetConn().Close()
	if f := g.records.next(t); f.Reason != connmodel.CloseClientReset {
		t.Errorf("record: %s %v", f.Reason, f.Error)
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
}

func TestRefusedTunnelsOverH2(t *testing.T) {
	g := startH2(t, func(o *Options, c *Config) {
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Host == "denied.example" {
				return &connmodel.Decision{Policy: "p", Rule: "no", Outcome: connmodel.OutcomeDeny}, 0
			}
			return loopbackOpen(), 0
		})
	})
	c := g.h2(t)
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	closed.Close()
	for target, status := range map[string]int{"denied.example:443": 403, closed.Addr().String(): 502, g.addr: 403} {
		began := time.Now()
		u, resp, err := c.tunnel(target)
		if err != nil || resp.StatusCode != status || resp.Header.Get("Proxy-Status") == "" {
			t.Fatal(target, resp, err)
		}
		if page, err := io.ReadAll(u); err != nil || !strings.HasPrefix(string(page), "Viaduct ") {
			t.Errorf("%s: page %q %v", target, page, err)
		}
		if f := g.records.next(t); f.Error == nil || f.Reply == nil || int(f.Reply.Code) != status {
			t.Errorf("%s: record %v %+v", target, f.Error, f.Reply)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v", target, took)
		}
	}
	if resp, err := c.do(t.Context(), "GET", "https://x.example/", nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("an https target: %v %v", resp, err)
	}
}

// TestWebSocketOverH2: extended CONNECT becomes an Upgrade to the server, and then a tunnel.
func TestWebSocketOverH2(t *testing.T) {
	origin := serveTCP(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") || req.Header.Get("Sec-Websocket-Key") == "" || req.URL.Path != "/chat" {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nwelcome", base64.StdEncoding.EncodeToString(sum[:]))
		io.Copy(c, c)
	})
	g := startH2(t, nil)
	tc := g.mustDialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }))
	tc.SetDeadline(time.Time{})
	cl, err := h2.NewClient(tc, h2.ClientOptions{Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s, err := cl.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(s, "GET /chat HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", origin); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(s)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	io.WriteString(s, "ping")
	got := make([]byte, len("welcomeping"))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "welcomeping" {
		t.Errorf("%q %v", got, err)
	}
	s.Close()
	if f := g.records.next(t); f.Response == nil || f.Response.Status != 101 || f.Up != 4 {
		t.Errorf("record: %+v %v, %d up", f.Response, f.Error, f.Up)
	}
}

// TestThousandTunnelsOverH2: many tunnels on few connections, all of them in use at once, and nothing is left of them.
func TestThousandTunnelsOverH2(t *testing.T) {
	const connections = 4
	tunnels := pick(1000, 5000)
	if raceEnabled {
		tunnels = 200
	}
	target := echo(t)
	g := startH2(t, func(o *Options, c *Config) { c.Listeners[0].MaxStreams = tunnels })
	g.records.more = make(chan struct{}, 1<<20)
	before := measure()
	var clients []*h2Client
	for range connections {
		clients = append(clients, g.h2(t))
	}
	all := make([]*h2Tunnel, tunnels)
	var wg sync.WaitGroup
	var failed atomic.Int64
	each := func(f func(i int) error) {
		t.Helper()
		turn := make(chan struct{}, 64)
		for i := range all {
			wg.Add(1)
			turn <- struct{}{}
			go func() {
				defer func() { <-turn; wg.Done() }()
				if err := f(i); err != nil && failed.Add(1) < 5 {
					t.Errorf("tunnel %d: %v", i, err)
				}
			}()
		}
		wg.Wait()
	}
	each(func(i int) error {
		u, resp, err := clients[i%connections].tunnel(target)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		all[i] = u
		return err
	})
	if failed.Load() > 0 {
		t.FailNow()
	}
	if open := g.Open(connmodel.ID{}, nil); open != tunnels {
		t.Errorf("%d flows are open, want %d", open, tunnels)
	}
	each(func(i int) error { return all[i].shake(fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", 3000))) })
	each(func(i int) error {
		all[i].Close()
		_, err := io.Copy(io.Discard, all[i])
		return err
	})
	for range tunnels {
		g.records.next(t)
	}
	for _, c := range clients {
		c.cc.Close()
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
	before.backTo(t)
}

// TestSlowReaderOfOneStream: a stream that nobody reads from stands still, by itself, and holds a bounded amount of memory.
func TestSlowReaderOfOneStream(t *testing.T) {
	var sent atomic.Int64
	endless := serveTCP(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Write(b)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	target := echo(t)
	g := startH2(t, nil)
	tc := g.mustDialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }))
	tc.SetDeadline(time.Time{})
	cl, err := h2.NewClient(tc, h2.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	open := func(to string) *h2.Stream {
		t.Helper()
		s, err := cl.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(s, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
		var head []byte
		for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b...) {
			if _, err := s.Read(b); err != nil {
				t.Fatalf("%q %v", head, err)
			}
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
			t.Fatalf("%q", head)
		}
		return s
	}
	slow := open(endless)
	defer slow.Close()
	last := int64(-1)
	waitFor(t, func() bool { // until the windows and the kernel's buffers are full
		now := sent.Load()
		still := now > 0 && now == last
		last = now
		if !still {
			time.Sleep(200 * time.Millisecond)
		}
		return still
	})
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes were taken from the server for a client that reads nothing", n)
	}
	quick := open(target)
	defer quick.Close()
	for i := range 50 {
		if err := shake(quick, bytes.Repeat([]byte{byte(i)}, 20<<10)); err != nil {
			t.Fatalf("beside a stream that stands still, round %d: %v", i, err)
		}
	}
}

// TestStreamLimits: streams count for the limits of the gateway and of the client; what is too much is refused, and can be asked for again.
func TestStreamLimits(t *testing.T) {
	target := echo(t)
	for _, row := range []struct {
		name   string
		change func(*Config)
	}{
		{"of the gateway", func(c *Config) { c.Limits.Connections = 3 }},
		{"of a client", func(c *Config) { c.Listeners[0].PerClient = 3 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := startH2(t, func(o *Options, c *Config) { row.change(c) })
			c := g.h2(t) // the connection is one of the three
			a, b := c.mustTunnel(target), c.mustTunnel(target)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			req := (&http.Request{Method: "CONNECT", URL: mustURL("http://" + target), Host: target, Body: http.NoBody, Header: http.Header{}}).WithContext(ctx)
			_, err := c.cc.RoundTrip(req)
			var reset http2.StreamError
			if !errors.As(err, &reset) || reset.Code != http2.ErrCodeRefusedStream {
				t.Errorf("one too many: %v", err)
			}
			if err := a.shake([]byte("a")); err != nil {
				t.Error(err)
			}
			b.Close()
			io.Copy(io.Discard, b)
			g.records.next(t)
			waitFor(t, func() bool {
				u, resp, err := c.tunnel(target)
				return err == nil && resp.StatusCode == 200 && u.shake([]byte("again")) == nil
			})
		})
	}
}

// TestDrainOverH2: a drain says GOAWAY, lets streams finish, and cuts those that do not.
func TestDrainOverH2(t *testing.T) {
	target := echo(t)
	release := make(chan struct{})
	freed := sync.OnceFunc(func() { close(release) })
	slow := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "HEAD" {
			return
		}
		<-release
		io.WriteString(w, "done")
	})
	t.Cleanup(freed)
	g := startH2(t, nil)
	idle, busy := g.h2(t), g.h2(t)
	idle.use(slow)
	stays, ends := busy.mustTunnel(target), busy.mustTunnel(target)
	answered := make(chan error, 1)
	go func() {
		resp, err := busy.do(context.Background(), "GET", slow+"/", nil)
		if err == nil {
			var all []byte
			if all, err = io.ReadAll(resp.Body); err == nil && string(all) != "done" {
				err = fmt.Errorf("got %q", all)
			}
		}
		answered <- err
	}()
	waitFor(t, func() bool { return g.Open(connmodel.ID{}, nil) == 3 })
	done := make(chan int, 1)
	go func() {
		cut, _ := g.shutdownIn(2 * time.Second)
		done <- cut
	}()
	waitFor(t, func() bool { return !busy.cc.CanTakeNewRequest() && !idle.cc.CanTakeNewRequest() })
	if err := ends.shake([]byte("still open")); err != nil {
		t.Error(err)
	}
	ends.Close()
	io.Copy(io.Discard, ends)
	freed()
	if err := <-answered; err != nil {
		t.Errorf("a request in flight: %v", err)
	}
	if err := stays.shake([]byte("until it is cut")); err != nil {
		t.Error(err)
	}
	if cut := <-done; cut != 1 {
		t.Errorf("%d were cut, want the one that stayed", cut)
	}
	if _, err := stays.Read(make([]byte, 1)); err == nil {
		t.Error("the stream that was cut says nothing")
	}
	if n := g.Stats().SessionsOpen; n != 0 {
		t.Errorf("%d sessions are open after the drain", n)
	}
}

// TestListenerGoneOverH2: streams of a listener that a reload has dropped go on, new ones go elsewhere.
func TestListenerGoneOverH2(t *testing.T) {
	target := echo(t)
	g := startH2(t, nil)
	c := g.h2(t)
	u := c.mustTunnel(target)
	if err := g.Apply(g.next(func(c *Config) {
		c.Listeners[0].Name, c.Listeners[0].Address = "other", "127.0.0.1:0"
	})); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return !c.cc.CanTakeNewRequest() })
	if err := u.shake([]byte("goes on")); err != nil {
		t.Error(err)
	}
	u.Close()
	io.Copy(io.Discard, u)
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
}

// TestReloadOverH2: each stream is decided by the configuration of its moment.
func TestReloadOverH2(t *testing.T) {
	origin := okOrigin(t)
	g := startH2(t, nil)
	c := g.h2(t)
	for _, want := range []int{200, 403, 200} {
		d := loopbackOpen()
		if want == 403 {
			d = &connmodel.Decision{Policy: "p", Outcome: connmodel.OutcomeDeny}
		}
		if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].Decider = always(d) })); err != nil {
			t.Fatal(err)
		}
		resp, err := c.do(t.Context(), "GET", origin.URL+"/", nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("want %d: %v %v", want, resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}

// TestIdentitiesOverH2: a certificate proves the user of every stream, until a reload no longer trusts its authority; then each stream finds
// that out, all at once.
func TestIdentitiesOverH2(t *testing.T) {
	origin := okOrigin(t)
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		c.Listeners[0].TLS.HTTP2, c.Listeners[0].TLS.ClientCAs = true, ca.Pool()
	})
	g.trust.Certificates = []tls.Certificate{g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, "anna")}
	c := g.h2(t)
	ask := func(status int, user string) {
		t.Helper()
		var wg sync.WaitGroup
		for range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				resp, err := c.do(context.Background(), "GET", origin.URL+"/", nil)
				if err != nil || resp.StatusCode != status {
					t.Errorf("%v %v, want %d", resp, err, status)
					return
				}
				io.Copy(io.Discard, resp.Body)
			}()
		}
		wg.Wait()
		for range 20 {
			if f := g.records.next(t); f.Client.User != user || len(f.Client.TLSInfo.Certificates) != 1 {
				t.Errorf("user %q, want %q", f.Client.User, user)
			}
		}
	}
	ask(200, "anna")
	for _, trusted := range []bool{true, false, true} {
		next := *g.Config().Listeners[0].TLS
		if next.ClientCAs = g.ca.Pool(); !trusted {
			next.ClientCAs = upstreamtest.MustCA(t).Pool()
		}
		if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].TLS = &next })); err != nil {
			t.Fatal(err)
		}
		if trusted {
			ask(200, "anna")
		} else {
			ask(403, "")
		}
	}
}

// TestStreamLeavesWhileDialling: a stream that is reset while its server is being reached gives the dial up.
func TestStreamLeavesWhileDialling(t *testing.T) {
	proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SilenceAfterRequest}})
	g := startH2(t, func(o *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "silent", Scheme: "http", Address: address(t, proxy.Addr())}}})
		c.Listeners[0].Decider = always(via("upstream.silent"))
	})
	c := g.h2(t)
	const hole = "x.example:443"
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		req := (&http.Request{Method: "CONNECT", URL: mustURL("http://" + hole), Host: hole, Body: io.NopCloser(neverEnds{ctx}), Header: http.Header{}}).WithContext(ctx)
		_, err := c.cc.RoundTrip(req)
		failed <- err
	}()
	waitFor(t, func() bool { return g.Open(connmodel.ID{}, nil) == 1 })
	cancel()
	<-failed
	f := g.records.next(t)
	if f.Error == nil || f.Error.Kind != connmodel.KindCanceled || f.Error.Side != connmodel.SideClient {
		t.Errorf("record: %+v", f.Error)
	}
}

// neverEnds is a body that says nothing until ctx ends.
type neverEnds struct{ ctx context.Context }

func (n neverEnds) Read([]byte) (int, error) {
	<-n.ctx.Done()
	return 0, io.EOF
}

// TestFloodsOverH2: a client that opens and resets without end is cut off, which is recorded, counted and logged.
func TestFloodsOverH2(t *testing.T) {
	for _, row := range []struct {
		name  string
		flood func(*http2.Framer) error
		kind  connmodel.Kind
	}{
		{"resets of streams that are not", func(w *http2.Framer) error { return w.WriteRSTStream(1, http2.ErrCodeCancel) }, connmodel.KindProtocol},
		{"PING", func(w *http2.Framer) error { return w.WritePing(false, [8]byte{}) }, connmodel.KindLimit},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := new(eventLog)
			g := startH2(t, func(o *Options, c *Config) { o.Log = log })
			c := g.mustDialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }))
			io.WriteString(c, http2.ClientPreface)
			r, w := http2.NewFramer(nil, c), http2.NewFramer(c, nil)
			w.WriteSettings()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for row.flood(w) == nil {
				}
			}()
			for {
				if _, err := r.ReadFrame(); err != nil {
					break
				}
			}
			c.NetConn().Close()
			<-done
			if f := g.records.next(t); f.Error == nil || f.Error.Kind != row.kind || f.Error.Blame != connmodel.BlameClient || !strings.Contains(f.Error.Message, "HTTP/2 was ended because of what the client did") {
				t.Errorf("record: %+v", f.Error)
			}
			if row.kind == connmodel.KindLimit {
				waitFor(t, func() bool { return log.count("http2_flood") > 0 })
			}
			waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
		})
	}
}

// TestSilentH2Clients: a connection that agrees on HTTP/2 and says nothing, or half a preface, is ended in time.
func TestSilentH2Clients(t *testing.T) {
	g := startH2(t, func(o *Options, c *Config) {
		c.Listeners[0].HandshakeTimeout, c.Listeners[0].KeepAliveTimeout = 400*time.Millisecond, 600*time.Millisecond
	})
	for _, send := range []string{"", http2.ClientPreface[:10], http2.ClientPreface, "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		tc := g.mustDialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }))
		io.WriteString(tc, send)
		if _, err := io.Copy(io.Discard, tc); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %q: %v", send, err)
		}
		if f := g.records.next(t); f.Error == nil || f.Error.Side != connmodel.SideClient || f.Error.Blame != connmodel.BlameClient {
			t.Errorf("after %q the record says %+v", send, f.Error)
		}
	}
	c := g.h2(t)
	c.use(okOrigin(t).URL) // and then there is nothing to do
	waitFor(t, func() bool { return !c.cc.CanTakeNewRequest() })
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 0 })
}
