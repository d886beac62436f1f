package upstreamtest

import (
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
)

// Handler serves one connection of an origin; the connection is closed after it.
type Handler func(c net.Conn)

// Origin is a server at the far end of a chain.
type Origin struct {
	*server
	handler Handler

	mu   sync.Mutex
	snis []string
}

// NewOrigin starts an origin that ends with the test.
func NewOrigin(t TB, h Handler, o Options) *Origin {
	t.Helper()
	or, err := StartOrigin(h, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { or.Close() })
	return or
}

// StartOrigin is NewOrigin for callers without a test; they call Close.
func StartOrigin(h Handler, o Options) (*Origin, error) {
	srv, err := newServer(o)
	if err != nil {
		return nil, err
	}
	or := &Origin{server: srv, handler: h}
	srv.handle = or.serve
	return or, srv.start()
}

func (o *Origin) serve(_ int, raw net.Conn) {
	if o.opt.TLS == nil {
		o.handler(raw)
		return
	}
	tc := tls.Server(raw, o.opt.TLS)
	if err := tc.HandshakeContext(o.ctx); err != nil {
		return
	}
	o.mu.Lock()
	if len(o.snis) < maxRecords {
		o.snis = append(o.snis, tc.ConnectionState().ServerName)
	}
	o.mu.Unlock()
	o.handler(tc)
	tc.Close()
}

// ServerNames are the SNI values of the TLS handshakes so far, "" for none.
func (o *Origin) ServerNames() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.snis...)
}

// Echo sends back what comes, and FIN after FIN.
func Echo(c net.Conn) {
	if _, err := io.Copy(c, onlyReader{c}); err != nil {
		reset(c)
		return
	}
	closeWrite(c)
}

// onlyReader keeps io.Copy from splice, whose pipes outlive a test's count of
// descriptors.
type onlyReader struct{ io.Reader }

// Banner sends greeting before the client said anything, then echoes.
func Banner(greeting string) Handler {
	return func(c net.Conn) {
		if _, err := io.WriteString(c, greeting); err == nil {
			Echo(c)
		}
	}
}

// HalfClose reads until the client's FIN, then answers "<bytes> <crc32>\n" over
// what came, then ends. A proxy that cuts at the first EOF loses the answer.
func HalfClose(c net.Conn) {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, c)
	if err != nil {
		return
	}
	fmt.Fprintf(c, "%d %08x\n", n, sum.Sum32())
	closeWrite(c)
}

// FirstToEnd sends greeting and FIN, then reads until the client's FIN and
// reports how many bytes came and whether that end was clean.
func FirstToEnd(greeting string, got func(n int64, err error)) Handler {
	return func(c net.Conn) {
		io.WriteString(c, greeting)
		closeWrite(c)
		got(io.Copy(io.Discard, c))
	}
}

// Source sends n bytes of a pattern (see Pattern), then FIN.
func Source(n int64) Handler {
	return func(c net.Conn) {
		if _, err := io.Copy(c, io.LimitReader(new(Pattern), n)); err != nil {
			return
		}
		closeWrite(c)
		io.Copy(io.Discard, c)
	}
}

// Discard reads until the client ends.
func Discard(c net.Conn) { io.Copy(io.Discard, c) }

// ResetOnByte resets the connection when the first byte arrives.
func ResetOnByte(c net.Conn) {
	var b [1]byte
	c.Read(b[:])
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	reset(c)
}

// Pattern is an endless reader of bytes that differ from place to place
// (period 251), so that lost or doubled blocks show.
type Pattern struct{ n int }

func (p *Pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(p.n)
		if p.n++; p.n == 251 {
			p.n = 0
		}
	}
	return len(b), nil
}
