package router

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// soundFrames are what clients of HTTP/2 send behind the preface.
func soundFrames(target string) [][]byte {
	var all [][]byte
	add := func(fields []string, end bool, more func(*http2.Framer)) {
		var b, block bytes.Buffer
		fr, enc := http2.NewFramer(&b, nil), hpack.NewEncoder(&block)
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70000})
		for i := 0; i+1 < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
		if more != nil {
			more(fr)
		}
		all = append(all, b.Bytes())
	}
	add([]string{":method", "GET", ":scheme", "http", ":authority", target, ":path", "/"}, true, nil)
	add([]string{":method", "POST", ":scheme", "http", ":authority", target, ":path", "/", "content-length", "5"}, false, func(fr *http2.Framer) { fr.WriteData(1, true, []byte("hello")) })
	add([]string{":method", "CONNECT", ":authority", target}, false, func(fr *http2.Framer) {
		fr.WriteData(1, false, []byte("hello"))
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
	})
	add([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", target, ":path", "/chat"}, false, func(fr *http2.Framer) {
		fr.WritePing(false, [8]byte{1})
		fr.WriteWindowUpdate(1, 100)
		fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	})
	return all
}

// TestMutationsWithinTLS: what FuzzTLSDoor does, for a moment, with mutations of what is sound.
func TestMutationsWithinTLS(t *testing.T) {
	f := newTLSFuzz(t)
	n := pick(400, 100_000)
	for i := range n {
		f.round(t, byte(i), f.seed(i), i%2 == 0)
		if t.Failed() {
			return
		}
	}
}

// FuzzTLSDoor feeds arbitrary bytes to a listener with TLS: in place of a handshake, within TLS, and as frames of HTTP/2. Nothing panics, and
// every session ends soon after its client has.
func FuzzTLSDoor(f *testing.F) {
	fz := newTLSFuzz(f)
	for i := range 60 {
		f.Add(byte(i), fz.seed(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, mode byte, b []byte, half bool) { fz.round(t, mode, b, half) })
}

type tlsFuzz struct {
	r       *Router
	addr    string
	trust   *tls.Config
	corpora [3][][]byte
}

func newTLSFuzz(t testing.TB) *tlsFuzz {
	ca := upstreamtest.MustCA(t)
	d := loopbackOpen()
	d.Timeouts = connmodel.Timeouts{Idle: time.Second, HalfClosed: time.Second, Connect: time.Second, Response: time.Second}
	r := New(Options{})
	err := r.Apply(&Config{Routes: routes(t, upstream.Config{}), Listeners: []Listener{{
		Name: "fuzz", Network: "tcp", Address: "127.0.0.1:0", Protocols: AllProtocols, HandshakeTimeout: 2 * time.Second, KeepAliveTimeout: time.Second,
		TLS: &ListenerTLS{Pairs: []KeyPair{{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{}, "gate.example")}}, HTTP2: true, ClientCAs: ca.Pool(), ClientOptional: true},
		Decider: connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Port != 9 || !f.TargetIP.IsLoopback() {
				return &connmodel.Decision{Policy: "p", Outcome: connmodel.OutcomeDeny}, 0
			}
			return d, 0
		}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(r) })
	return &tlsFuzz{
		r: r, addr: r.Addrs()["fuzz"].String(), trust: &tls.Config{RootCAs: ca.Pool(), ServerName: "gate.example"},
		corpora: [3][][]byte{{clientHello(t), {22, 3, 1, 0, 1, 1}, []byte("GET / HTTP/1.1\r\n\r\n")}, sound("127.0.0.1:9"), soundFrames("127.0.0.1:9")},
	}
}

// seed is a mutation of what is sound in mode i.
func (f *tlsFuzz) seed(i int) []byte {
	c := f.corpora[i%3]
	return mutate(rand.New(rand.NewPCG(uint64(i), 7)), c[i/3%len(c)])
}

func (f *tlsFuzz) round(t *testing.T, mode byte, b []byte, half bool) {
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Skip(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	var c io.ReadWriter = nc
	if mode%3 > 0 {
		conf := f.trust
		if mode%3 == 2 {
			conf = conf.Clone()
			conf.NextProtos = []string{"h2"}
			b = append([]byte(http2.ClientPreface), b...)
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
	nc.Close()
	for end := time.Now().Add(10 * time.Second); f.r.Stats().SessionsOpen > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the session goes on after its client has left: mode %d, %q", mode%3, b)
		}
	}
	if n := f.r.Stats().Panics; n != 0 {
		t.Fatalf("%d panics", n)
	}
}
