package upstreamtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"time"
)

// Request is what one request to a proxy said, byte for byte where it matters.
type Request struct {
	// Conn is the index of the connection it came on, from 0.
	Conn int
	// Method is the HTTP method, or "SOCKS4", "SOCKS4A", "SOCKS5".
	Method string
	// Target is "host:port" as asked for: an IPv6 address in brackets, a name
	// as it was spelled. It is "" if the client got no further than its credentials.
	Target string
	// Head is the request as it arrived: the HTTP head with its blank line, or
	// the SOCKS request (without greeting and sub-negotiation).
	Head []byte
	// User and Password are the credentials that came with it, accepted or not.
	User, Password string
	// HasCredentials tells empty credentials from none.
	HasCredentials bool
	// Accepted is false if the credentials were refused.
	Accepted bool
	// TLS is the state of the connection to the proxy; nil if it is not TLS.
	TLS *tls.ConnectionState
	// Remote is the client's address.
	Remote string
}

// wire is one proxy protocol, seen from the proxy.
type wire interface {
	// serve reads one request, records it, answers it, until the connection
	// has ended.
	serve(s *session)
	success(s *session, r *Request) []byte
	failure(code byte) []byte
	wrong() []byte
}

// Proxy is a scripted proxy. Its methods may be called from any goroutine.
type Proxy struct {
	*server
	proto wire

	// under server.mu
	script   []Behaviour
	next     int
	requests []Request
	dropped  int
}

// NewHTTP starts an HTTP proxy, CONNECT and absolute-form, that ends with the test.
func NewHTTP(t TB, o Options) *Proxy { t.Helper(); return mustProxy(t, httpWire{}, o) }

// NewSOCKS4 starts a SOCKS4 and SOCKS4a proxy that ends with the test.
func NewSOCKS4(t TB, o Options) *Proxy { t.Helper(); return mustProxy(t, socks4Wire{}, o) }

// NewSOCKS5 starts a SOCKS5 proxy that ends with the test.
func NewSOCKS5(t TB, o Options) *Proxy { t.Helper(); return mustProxy(t, socks5Wire{}, o) }

// StartHTTP is NewHTTP for callers without a test; they call Close.
func StartHTTP(o Options) (*Proxy, error) { return startProxy(httpWire{}, o) }

// StartSOCKS4 is NewSOCKS4 for callers without a test; they call Close.
func StartSOCKS4(o Options) (*Proxy, error) { return startProxy(socks4Wire{}, o) }

// StartSOCKS5 is NewSOCKS5 for callers without a test; they call Close.
func StartSOCKS5(o Options) (*Proxy, error) { return startProxy(socks5Wire{}, o) }

func mustProxy(t TB, w wire, o Options) *Proxy {
	t.Helper()
	p, err := startProxy(w, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func startProxy(w wire, o Options) (*Proxy, error) {
	srv, err := newServer(o)
	if err != nil {
		return nil, err
	}
	p := &Proxy{server: srv, proto: w, script: slices.Clone(o.Script)}
	srv.handle = p.serve
	return p, srv.start()
}

// Script replaces what the connections accepted from now on get, in order; the
// last one repeats. No argument means OK.
func (p *Proxy) Script(b ...Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script, p.next = slices.Clone(b), 0
}

func (p *Proxy) behaviour() Behaviour {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.script) == 0 {
		return OK
	}
	b := p.script[min(p.next, len(p.script)-1)]
	p.next++
	return b
}

// Requests returns what was asked so far, oldest first.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Targets returns the targets of the accepted requests so far, oldest first.
func (p *Proxy) Targets() []string {
	var out []string
	for _, r := range p.Requests() {
		if r.Accepted {
			out = append(out, r.Target)
		}
	}
	return out
}

// AwaitRequests waits until n requests have been recorded in all.
func (p *Proxy) AwaitRequests(ctx context.Context, n int) error {
	return p.await(ctx, func() bool { return len(p.requests)+p.dropped >= n })
}

func (p *Proxy) record(r Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.requests) < maxRecords {
		p.requests = append(p.requests, r)
	} else {
		p.dropped++
	}
	p.signal()
}

// session is one connection to a proxy.
type session struct {
	p     *Proxy
	b     Behaviour
	index int
	raw   net.Conn // the socket
	c     net.Conn // raw, or TLS over it
	br    *bufio.Reader
	tls   *tls.ConnectionState
}

func (p *Proxy) serve(index int, raw net.Conn) {
	s := &session{p: p, b: p.behaviour(), index: index, raw: raw, c: raw}
	if s.b.early != nil {
		s.b.early(s)
		return
	}
	if p.opt.TLS != nil {
		tc := tls.Server(raw, p.opt.TLS)
		if err := tc.HandshakeContext(p.ctx); err != nil {
			return
		}
		state := tc.ConnectionState()
		s.c, s.tls = tc, &state
	}
	s.br = bufio.NewReaderSize(s.c, 4096)
	p.proto.serve(s)
}

// request begins the record of one request.
func (s *session) request(method string) *Request {
	return &Request{Conn: s.index, Method: method, TLS: s.tls, Remote: s.raw.RemoteAddr().String()}
}

// allowed compares the credentials that came with those required.
func (s *session) allowed(r *Request) bool {
	o := &s.p.opt
	if o.User == "" && o.Password == "" {
		return true
	}
	return r.HasCredentials && r.User == o.User && r.Password == o.Password
}

// dial reaches the target of r, or answers that it cannot.
func (s *session) dial(r *Request) (net.Conn, error) {
	address := r.Target
	if to, ok := s.p.opt.Hosts[address]; ok {
		address = to
	}
	dial := s.p.opt.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	c, err := dial(s.p.ctx, "tcp", address)
	if err == nil && !s.p.track(c) {
		err = net.ErrClosed
	}
	if err != nil {
		s.c.Write(s.p.proto.failure(5))
		s.finish()
		return nil, err
	}
	return c, nil
}

// connect is the good reply: dial, say so, relay.
func (s *session) connect(r *Request) {
	target, err := s.dial(r)
	if err != nil {
		return
	}
	defer s.p.drop(target)
	reply := s.p.proto.success(s, r)
	if s.b.write != nil {
		if !s.b.write(s, reply) {
			s.finish()
			return
		}
	} else if _, err := s.c.Write(reply); err != nil {
		return
	}
	s.relay(target)
}

// relay copies both ways until both have ended, and passes half-closes on. An
// error on either side ends both.
func (s *session) relay(target net.Conn) {
	up := make(chan struct{})
	s.p.wg.Go(func() {
		defer close(up)
		if _, err := io.Copy(target, s.br); err != nil {
			reset(target)
			return
		}
		closeWrite(target)
	})
	if _, err := io.Copy(s.c, onlyReader{target}); err != nil {
		reset(s.raw)
	} else {
		closeWrite(s.c)
	}
	<-up
}

// finish ends our direction and reads what the client still sends, so that the
// client sees FIN and not RST.
func (s *session) finish() {
	closeWrite(s.c)
	s.drain()
}

func (s *session) drain() { io.Copy(io.Discard, s.raw) }

// closeWrite ends one direction where the connection can, else both.
func closeWrite(c net.Conn) {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
		if tc, ok := c.(*tls.Conn); ok { // close_notify alone leaves TCP open
			closeWrite(tc.NetConn())
		}
		return
	}
	c.Close()
}

// reset makes the kernel send RST where there is one.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}
