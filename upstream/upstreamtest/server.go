package upstreamtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Bounds that no test should meet and no runaway should pass.
const (
	maxConns    = 32768           // connections served at once; more are reset
	maxHead     = 1 << 20         // bytes of one request head
	maxRecords  = 100000          // requests kept; later ones are counted only
	defaultLife = 5 * time.Minute // lifetime of one connection
)

// TB is the part of testing.TB that the constructors need. It is an interface
// of its own so that a program which is no test can use the package.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Options configures a proxy or an origin. The zero value is a plain one on
// 127.0.0.1 that asks for no credentials and behaves.
type Options struct {
	// Listen is the address to listen on; "" means "127.0.0.1:0".
	Listen string
	// NoListen makes no listener at all: connections are handed to ServeConn,
	// which suits in-memory connections and testing/synctest.
	NoListen bool
	// TLS, if set, makes every connection begin with a TLS handshake.
	TLS *tls.Config
	// User and Password are required of clients as Basic (HTTP), RFC 1929
	// (SOCKS5) or, the user alone, as USERID (SOCKS4) if either is not empty.
	// Origins ignore them.
	User, Password string
	// Script gives the behaviour of connection i; its last element repeats.
	// Empty means OK for all. Origins ignore it.
	Script []Behaviour
	// Hosts maps a requested "host:port" to the address that is really
	// dialled, so that tests can use names that no resolver knows.
	Hosts map[string]string
	// Dial is used to reach targets; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Life bounds the life of one connection; 0 means five minutes.
	Life time.Duration
}

// server is what proxies and origins have in common: one port, its
// connections, and an end that is waited for.
type server struct {
	opt    Options
	handle func(index int, raw net.Conn)
	addr   string
	hold   *Reservation

	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	ln       net.Listener // nil while down
	conns    map[net.Conn]struct{}
	accepted int
	closed   bool
	changed  chan struct{} // closed and replaced when something was recorded
	wg       sync.WaitGroup
}

func newServer(o Options) (*server, error) {
	if o.Life == 0 {
		o.Life = defaultLife
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	s := &server{opt: o, conns: make(map[net.Conn]struct{}), changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if o.NoListen {
		return s, nil
	}
	hold, err := Reserve(o.Listen)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("upstreamtest: %w", err)
	}
	s.hold, s.addr = hold, hold.addr
	return s, nil
}

// start begins to accept; apart from newServer because handle is set between.
func (s *server) start() error {
	if s.opt.NoListen {
		return nil
	}
	if err := s.Up(); err != nil {
		s.Close()
		return err
	}
	return nil
}

// Addr is "host:port" of the listener; it stays the same through Down and Up.
// It is "" without a listener.
func (s *server) Addr() string { return s.addr }

// Accepted is the number of connections accepted so far.
func (s *server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open is the number of connections open now, those to targets included.
func (s *server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Down stops listening and resets what is open, as a program that dies does.
// Dials are refused until Up; the port stays reserved meanwhile.
func (s *server) Down() {
	s.mu.Lock()
	ln := s.ln
	s.ln = nil
	open := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	if ln != nil {
		ln.Close()
	}
	for _, c := range open {
		reset(c)
	}
}

// Up listens again after Down, on the same port. It does nothing while up.
func (s *server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if s.ln != nil || s.opt.NoListen {
		return nil
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("upstreamtest: %w", err)
	}
	s.ln = ln
	s.wg.Go(func() { s.accept(ln) })
	return nil
}

func (s *server) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
				return
			}
			select { // out of descriptors, perhaps; not a reason to stop or to spin
			case <-s.ctx.Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		s.wg.Go(func() { s.ServeConn(c) })
	}
}

// ServeConn serves one connection that did not come from the listener, and
// returns when it has ended. It closes c.
func (s *server) ServeConn(c net.Conn) {
	index, ok := s.admit(c)
	if !ok {
		reset(c)
		return
	}
	defer s.wg.Done()
	defer s.drop(c)
	s.handle(index, c)
}

// admit counts and tracks an accepted connection.
func (s *server) admit(c net.Conn) (index int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConns {
		return 0, false
	}
	index = s.accepted
	s.accepted++
	s.wg.Add(1)
	s.conns[c] = struct{}{}
	c.SetDeadline(time.Now().Add(s.opt.Life))
	s.signal()
	return index, true
}

// track adds a connection that the server itself dialled; false means the
// server is closed and c with it.
func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	c.SetDeadline(time.Now().Add(s.opt.Life))
	return true
}

func (s *server) drop(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.signal()
	s.mu.Unlock()
}

// signal wakes those who wait in await. The lock is held.
func (s *server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await returns when cond holds or ctx ends. cond is called with the lock held.
func (s *server) await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitAccepted waits until n connections have been accepted in all.
func (s *server) AwaitAccepted(ctx context.Context, n int) error {
	return s.await(ctx, func() bool { return s.accepted >= n })
}

// AwaitIdle waits until no connection is open.
func (s *server) AwaitIdle(ctx context.Context) error {
	return s.await(ctx, func() bool { return len(s.conns) == 0 })
}

// Close ends the listener and every connection and waits for all goroutines.
// It may be called more than once.
func (s *server) Close() error {
	s.mu.Lock()
	s.closed = true
	ln := s.ln
	s.ln = nil
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.cancel()
	if ln != nil {
		ln.Close()
	}
	s.wg.Wait()
	if s.hold != nil {
		s.hold.Release()
	}
	return nil
}
