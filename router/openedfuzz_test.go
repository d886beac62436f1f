package router

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/router/intercept"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// TestMutationsInside: what FuzzOpened does, for a moment, with mutations of what is sound.
func TestMutationsInside(t *testing.T) {
	f := newOpenedFuzz(t)
	for i := range pick(300, 100_000) {
		f.round(t, byte(i), f.seed(i), i%2 == 0)
		if t.Failed() {
			return
		}
	}
}

// FuzzOpened feeds arbitrary bytes to an opened tunnel: in place of TLS, within it, and as frames of HTTP/2. Nothing panics, and every session
// ends soon after its client has.
func FuzzOpened(f *testing.F) {
	fz := newOpenedFuzz(f)
	for i := range 60 {
		f.Add(byte(i), fz.seed(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, mode byte, b []byte, half bool) { fz.round(t, mode, b, half) })
}

type openedFuzz struct {
	r       *Router
	g       *gateway
	target  string
	trust   *tls.Config
	corpora [4][][]byte
}

func newOpenedFuzz(t testing.TB) *openedFuzz {
	servers := upstreamtest.MustCA(t)
	ca, err := intercept.Create(intercept.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.Copy(w, q.Body) }))
	srv.TLS, srv.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{servers.MustIssue(t, upstreamtest.CertOptions{}, "www.example.com")}}, true
	srv.Config.ErrorLog = discardLog
	srv.StartTLS()
	d := loopbackOpen()
	d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSIntercept, ServerName: "www.example.com", Config: &tls.Config{RootCAs: servers.Pool()}}
	d.Timeouts = connmodel.Timeouts{Idle: time.Second, HalfClosed: time.Second, Connect: time.Second, Response: time.Second}
	r := New(Options{})
	err = r.Apply(&Config{Routes: routes(t, upstream.Config{}), CA: ca, Listeners: []Listener{{
		Name: "fuzz", Network: "tcp", Address: "127.0.0.1:0", Protocols: AllProtocols, HandshakeTimeout: 2 * time.Second, KeepAliveTimeout: time.Second,
		Decider: connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.String() != srv.Listener.Addr().String() && !f.TargetIP.IsValid() { // nothing leaves for elsewhere
				return &connmodel.Decision{Policy: "p", Outcome: connmodel.OutcomeDeny}, 0
			}
			return d, 0
		}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shut(r)
		srv.Close()
	})
	f := &openedFuzz{r: r, target: srv.Listener.Addr().String(), trust: &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com"}}
	f.g = &gateway{Router: r, addr: r.Addrs()["fuzz"].String()}
	f.corpora = [4][][]byte{
		{[]byte(firstFlightOf(t, "www.example.com", tls.VersionTLS13)), {22, 3, 1, 0, 1, 1}, []byte("GET / HTTP/1.1\r\nHost: " + f.target + "\r\n\r\n")},
		{[]byte(request(f.target, "/")), []byte("POST / HTTP/1.1\r\nHost: " + f.target + "\r\nContent-Length: 5\r\n\r\nhello"), []byte("EHLO x\r\n"), []byte("\r\nGET / HTTP/1.1\r\n\r\n")},
		soundFrames(f.target),
		{[]byte("POST / HTTP/1.1\r\nHost: " + f.target + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"), []byte("GET / HTTP/1.1\r\nHost: " + f.target + "\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx")},
	}
	return f
}

// seed is a mutation of what is sound in mode i.
func (f *openedFuzz) seed(i int) []byte {
	c := f.corpora[i%4]
	return mutate(rand.New(rand.NewPCG(uint64(i), 11)), c[i/4%len(c)])
}

func (f *openedFuzz) round(t *testing.T, mode byte, b []byte, half bool) {
	nc, err := f.g.open(f.target)
	if err != nil {
		t.Skip(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	var c io.ReadWriter = nc
	if mode%4 > 0 {
		conf := f.trust.Clone()
		switch mode % 4 {
		case 2:
			conf.NextProtos = []string{"h2"}
			b = append([]byte(http2.ClientPreface), b...)
		case 3:
			conf.NextProtos = []string{"http/1.1"}
		}
		tc := tls.Client(nc, conf)
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		c = tc
	}
	c.Write(b)
	if half {
		if cw, ok := c.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite()
		}
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("the session goes on: %v", err)
		}
	}
	if tcp, ok := nc.(*net.TCPConn); ok && bytes.Contains(b, []byte{0}) {
		tcp.SetLinger(0)
	}
	nc.Close()
	for end := time.Now().Add(10 * time.Second); f.r.Stats().SessionsOpen > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the session goes on after its client has left: mode %d, %q", mode%4, b)
		}
	}
	if n := f.r.Stats().Panics; n != 0 {
		t.Fatalf("%d panics", n)
	}
}

// FuzzLooksHTTP: once a beginning has been taken for HTTP, or for something else, more of it changes nothing.
func FuzzLooksHTTP(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", "EHLO x\r\n", "FOO bar HTTP/1.0\n", "\r\n\r\nGET\t", "\x16\x03\x01", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 200)]
		was := moreHTTP
		for i := range len(b) + 1 {
			now := looksHTTP(b[:i])
			if was != moreHTTP && now != was {
				t.Fatalf("%q is %d, %q is %d", b[:i-1], was, b[:i], now)
			}
			was = now
		}
	})
}
