package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/h2"
	"viaduct/upstream/upstreamtest"
)

// web2 is web with HTTP/2.
func (r *openRig) web2(t *testing.T) *http.Client {
	c := r.web(t)
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	return c
}

// origin2 is origin with HTTP/2. It counts its connections.
func (r *openRig) origin2(t *testing.T, h http.Handler, names ...string) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	n := new(atomic.Int64)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{r.cert(t, upstreamtest.CertOptions{}, names...)}}
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = discardLog
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, n
}

func protoHandler(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("X-Proto", q.Proto)
	fmt.Fprintf(w, "%s %s %s", q.Method, q.Host, q.URL.Path)
}

// TestInterceptH2: many requests at once, on one connection to each side; each is a flow of its own.
func TestInterceptH2(t *testing.T) {
	r := openingGateway(t, nil)
	srv, conns := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	c := r.web2(t)
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			res, err := c.Get(fmt.Sprintf("https://%s/%d", host, i))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("GET %s /%d", host, i); err != nil || string(b) != want || res.Proto != "HTTP/2.0" || res.Header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("%s, to the server %s: %q, %v", res.Proto, res.Header.Get("X-Proto"), b, err)
			}
		}()
		if i == 0 {
			wg.Wait() // the connection is there
		}
	}
	wg.Wait()
	c.CloseIdleConnections()
	tunnel := r.records.find(t, "the tunnel", isTunnel)
	one := r.records.find(t, "a request", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/39" })
	if one.Server.ID != tunnel.Server.ID || one.Request.Tunnel != tunnel.ID || one.Error != nil || !one.Server.Reused {
		t.Errorf("the record: %s", one.AppendJSON(nil))
	}
	if *tunnel.Client.TLSInfo.ALPN != "h2" || *tunnel.Server.TLSInfo.ALPN != "h2" {
		t.Errorf("ALPN %s, %s", *tunnel.Client.TLSInfo.ALPN, *tunnel.Server.TLSInfo.ALPN)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections to the server", n)
	}
}

// TestMirroredALPN: both sides speak the same.
func TestMirroredALPN(t *testing.T) {
	r := openingGateway(t, nil)
	one := r.origin(t, http.HandlerFunc(protoHandler), "www.example.com")
	two, _ := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	for _, row := range []struct {
		name   string
		srv    *httptest.Server
		client *http.Client
		want   string
	}{{"h1 server", one, r.web2(t), "HTTP/1.1"}, {"h1 client", two, r.web(t), "HTTP/1.1"}, {"both h2", two, r.web2(t), "HTTP/2.0"}} {
		res, err := row.client.Get("https://www.example.com:" + portOf(row.srv.Listener.Addr().String()) + "/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Proto != row.want || res.Header.Get("X-Proto") != row.want {
			t.Errorf("%s: %s with the client, %s with the server", row.name, res.Proto, res.Header.Get("X-Proto"))
		}
	}
}

// TestDecidedH2: denials, other hosts and other servers inside HTTP/2.
func TestDecidedH2(t *testing.T) {
	r := openingGateway(t, nil)
	front, _ := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	other, _ := r.origin2(t, hello("other h2"), "other.example")
	old := r.origin(t, hello("other h1"), "old.example")
	plain := httptest.NewServer(hello("plain"))
	defer plain.Close()
	r.decide = func(f *connmodel.Facts) *connmodel.Decision {
		if f.Request == nil {
			return nil
		}
		d := r.open()
		switch f.Request.Path {
		case "/no":
			return &connmodel.Decision{Policy: "default", Rule: "no", Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 403, Reason: "not this"}}
		case "/other":
			d.Server = address(t, "other.example:"+portOf(other.Listener.Addr().String()))
			return d
		case "/old":
			d.Server = address(t, "old.example:"+portOf(old.Listener.Addr().String()))
			return d
		case "/plain":
			d.Server, d.TLS = address(t, plain.Listener.Addr().String()), &connmodel.TLSPlan{Mode: connmodel.TLSTerminate}
			return d
		}
		return nil
	}
	base := "https://www.example.com:" + portOf(front.Listener.Addr().String())
	c := r.web2(t)
	for range 2 {
		for path, want := range map[string]struct {
			status int
			body   string
		}{
			"/": {200, "GET www.example.com"}, "/no": {403, "not this"}, "/other": {200, "other h2 GET"}, "/old": {200, "other h1 GET"}, "/plain": {200, "plain GET"},
		} {
			if got := get(t, c, base+path, want.status); !strings.Contains(got, want.body) {
				t.Errorf("%s: %q", path, got)
			}
		}
	}
	q, _ := http.NewRequest("GET", base+"/", nil)
	q.Host = "hidden.example"
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 421 || res.Proto != "HTTP/2.0" {
		t.Errorf("another host: %s %s", res.Proto, res.Status)
	}
}

// TestServerFailsH2: a page by HTTP/2, and the connection takes no further requests.
func TestServerFailsH2(t *testing.T) {
	r := openingGateway(t, nil)
	base := "https://www.example.com:" + portOf(upstreamtest.Refused(t))
	tc, err := r.handshake(t, base[8:], r.trusted("www.example.com", "h2"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := h2.NewClient(tc, h2.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	st, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res, body := ask(t, st, bufio.NewReader(st), request(base[8:], "/")); res.StatusCode != 502 || !strings.Contains(body, "refused") {
		t.Errorf("%s: %s", res.Status, body)
	}
	st.Close()
	select {
	case <-client.Done():
	case <-time.After(5 * time.Second):
		t.Error("the connection goes on")
	}
}

// TestBodiesH2: bodies and trailers both ways, and a conversation in which both sides talk in turn, as gRPC has it.
func TestBodiesH2(t *testing.T) {
	r := openingGateway(t, nil)
	srv, _ := r.origin2(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("X-Te", q.Header.Get("Te"))
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buf := make([]byte, 32<<10)
		for {
			n, err := q.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("Grpc-Status", "0"+q.Trailer.Get("X-Client"))
	}), "www.example.com")
	u := "https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/"
	c := r.web2(t)
	body := make([]byte, 2<<20)
	rand.Read(body)
	res, err := c.Post(u, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%d bytes, trailer %v, %v", len(got), res.Trailer, err)
	}

	pr, pw := io.Pipe()
	q, _ := http.NewRequest("POST", u, pr)
	q.Header.Set("Te", "trailers")
	q.Trailer = http.Header{"X-Client": nil}
	go func() { pw.Write([]byte("ping 0")) }()
	res, err = c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("X-Te") != "trailers" {
		t.Error("TE: trailers did not get through")
	}
	buf := make([]byte, 6)
	for i := range 10 {
		want := fmt.Sprintf("ping %d", i)
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("%q, %v", buf, err)
		}
		if i < 9 {
			fmt.Fprintf(pw, "ping %d", i+1)
		}
	}
	q.Trailer.Set("X-Client", "7")
	pw.Close()
	if _, err := io.ReadAll(res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "07" {
		t.Errorf("trailer %v, %v", res.Trailer, err)
	}
}

// TestWebSocketH2: extended CONNECT of the client goes on as that where the server takes it, and by HTTP/1.1 where it does not.
func TestWebSocketH2(t *testing.T) {
	r := openingGateway(t, nil)
	var fresh atomic.Int64
	upgrade := func(c net.Conn) {
		in := bufio.NewReader(c)
		q, err := http.ReadRequest(in)
		if err != nil || q.Header.Get("Upgrade") != "websocket" {
			fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(q.Header.Get("Sec-WebSocket-Key")))
		io.Copy(c, in)
	}
	cert := r.cert(t, upstreamtest.CertOptions{}, "www.example.com")
	server := func(extended bool, protos ...string) string {
		return portOf(serveTCP(t, func(c net.Conn) {
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos})
			if tc.Handshake() != nil {
				return
			}
			if tc.ConnectionState().NegotiatedProtocol == "h2" {
				h2.NewServer(tc, h2.ServerOptions{ExtendedConnect: extended}).Serve(func(s *h2.Stream) { upgrade(s) })
				return
			}
			fresh.Add(1)
			upgrade(tc)
			tc.Close()
		}))
	}
	for _, row := range []struct {
		name  string
		port  string
		fresh int64
	}{{"extended CONNECT", server(true, "h2"), 0}, {"by HTTP/1.1", server(false, "h2", "http/1.1"), 1}} {
		t.Run(row.name, func(t *testing.T) {
			host := "www.example.com:" + row.port
			tc, err := r.handshake(t, host, r.trusted("www.example.com", "h2", "http/1.1"))
			if err != nil {
				t.Fatal(err)
			}
			client, err := h2.NewClient(tc, h2.ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			st, err := client.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			in := bufio.NewReader(st)
			fmt.Fprintf(st, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", host)
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != 101 {
				t.Fatalf("%v, %v", res, err)
			}
			for _, frame := range []string{"one", "two"} {
				io.WriteString(st, frame)
				got := make([]byte, 3)
				if _, err := io.ReadFull(in, got); err != nil || string(got) != frame {
					t.Fatalf("%q, %v", got, err)
				}
			}
			st.Close()
			f := r.records.find(t, "the upgrade", func(f *connmodel.Flow) bool { return f.Request != nil && f.Target.String() == host })
			if f.Response.Status != 101 || f.Up != 6 || f.Down != 6 {
				t.Errorf("the record: %s", f.AppendJSON(nil))
			}
			if n := fresh.Load(); n != row.fresh {
				t.Errorf("%d connections by HTTP/1.1", n)
			}
		})
	}
}

// TestServerLeavesH2: a server connection that has gone is replaced; GOAWAY lets what is under way end.
func TestServerLeavesH2(t *testing.T) {
	r := openingGateway(t, nil)
	srv, conns := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	c := r.web2(t)
	u := "https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/"
	get(t, c, u, 200)
	srv.CloseClientConnections()
	time.Sleep(20 * time.Millisecond)
	get(t, c, u, 200)
	get(t, c, u, 200)
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections to the server", n)
	}
}

// TestClientResetsH2: a request that its client gives up ends at the server, and the others go on.
func TestClientResetsH2(t *testing.T) {
	r := openingGateway(t, nil)
	gone, begun := make(chan struct{}), make(chan struct{})
	srv, _ := r.origin2(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			close(begun)
			<-q.Context().Done()
			close(gone)
			return
		}
		protoHandler(w, q)
	}), "www.example.com")
	base := "https://www.example.com:" + portOf(srv.Listener.Addr().String())
	c := r.web2(t)
	get(t, c, base+"/", 200)
	ctx, cancel := context.WithCancel(t.Context())
	q, _ := http.NewRequestWithContext(ctx, "GET", base+"/slow", nil)
	done := make(chan error)
	go func() {
		_, err := c.Do(q)
		done <- err
	}()
	<-begun
	cancel()
	<-done
	get(t, c, base+"/", 200)
	c.CloseIdleConnections()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the server still works for nobody")
	}
}

// TestDrainH2Inside: GOAWAY, and what is under way ends well.
func TestDrainH2Inside(t *testing.T) {
	r := openingGateway(t, nil)
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv, _ := r.origin2(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		close(begun)
		<-goOn
		io.WriteString(w, "done")
	}), "www.example.com")
	c := r.web2(t)
	got := make(chan string)
	go func() {
		res, err := c.Get("https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		got <- string(b)
	}()
	<-begun
	cut := make(chan int)
	go func() {
		n, _ := r.shutdownIn(20 * time.Second)
		cut <- n
	}()
	time.Sleep(30 * time.Millisecond)
	close(goOn)
	if b := <-got; b != "done" {
		t.Errorf("got %q", b)
	}
	if n := <-cut; n != 0 {
		t.Errorf("%d were cut", n)
	}
}

// TestCutH2Inside leaves nothing behind when the time of a drain is over.
func TestCutH2Inside(t *testing.T) {
	r := openingGateway(t, nil)
	begun := make(chan struct{})
	srv, _ := r.origin2(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		close(begun)
		<-q.Context().Done()
	}), "www.example.com")
	c := r.web2(t)
	done := make(chan struct{})
	go func() {
		c.Get("https://www.example.com:" + portOf(srv.Listener.Addr().String()) + "/")
		close(done)
	}()
	<-begun
	if _, took := r.shutdownIn(100 * time.Millisecond); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	<-done
}

// TestFloodInside: what a client does to HTTP/2 in an opened tunnel is in the record of the tunnel.
func TestFloodInside(t *testing.T) {
	r := openingGateway(t, nil)
	srv, _ := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	target := "www.example.com:" + portOf(srv.Listener.Addr().String())
	c, err := r.handshake(t, target, r.trusted("www.example.com", "h2"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, http2.ClientPreface)
	in, out := http2.NewFramer(nil, c), http2.NewFramer(c, nil)
	out.WriteSettings()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for out.WritePing(false, [8]byte{}) == nil {
		}
	}()
	for {
		if _, err := in.ReadFrame(); err != nil {
			break
		}
	}
	c.NetConn().Close()
	<-done
	f := r.records.find(t, "the tunnel", isTunnel)
	if e := f.Error; e == nil || e.Kind != connmodel.KindLimit || e.Phase != connmodel.PhaseRelay || e.Side != connmodel.SideClient || f.Target.String() != target {
		t.Errorf("the record of the tunnel to %s: %+v", f.Target, f.Error)
	}
	waitFor(t, func() bool { return r.Stats().SessionsOpen == 0 })
	if n := r.Stats().Flows; n != 1 {
		t.Errorf("%d records", n)
	}
}

// acceptKey is the answer to a Sec-WebSocket-Key (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
