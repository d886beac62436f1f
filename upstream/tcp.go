package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stagger is the Connection Attempt Delay of RFC 8305, section 5.
const stagger = 250 * time.Millisecond

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 16

// socket makes the TCP connections of one upstream, or of direct.
type socket struct {
	dialer net.Dialer
	source netip.Addr
	iface  string
	mark   uint32
}

func newSocket(source netip.Addr, iface string, keepAlive time.Duration, mark uint32) *socket {
	s := &socket{source: source.Unmap(), iface: iface, mark: mark}
	switch {
	case keepAlive < 0:
		s.dialer.KeepAlive = -1
	default:
		if keepAlive == 0 {
			keepAlive = defaultKeepAlive
		}
		// Interval and count stay the kernel's (75 s, 9 times): two system calls less per connection.
		s.dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: -1, Count: -1}
	}
	if iface != "" || s.source.IsValid() || mark != 0 {
		s.dialer.ControlContext = func(_ context.Context, _, _ string, c syscall.RawConn) error {
			var err error
			e := c.Control(func(fd uintptr) {
				if s.source.IsValid() {
					// The port is chosen at connect, per destination, rather than at bind, for all of them. Old kernels cannot: no harm.
					unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
				}
				if iface != "" {
					err = unix.BindToDevice(int(fd), iface)
				}
				if s.mark != 0 && err == nil {
					err = setMark(int(fd), s.mark)
				}
			})
			if e != nil {
				return e
			}
			return err
		}
	}
	return s
}

// errNoFamily says that no address is of the family of the source address.
var errNoFamily = errors.New("no address of the same family as source_address")

// connect reaches one of addrs. check may be nil; it is asked for each address before its socket is made.
func (s *socket) connect(ctx context.Context, addrs []netip.Addr, port uint16, check func(netip.Addr) error) (*net.TCPConn, error) {
	if len(addrs) == 1 {
		if err := s.permit(addrs[0], check); err != nil {
			return nil, err
		}
		return s.dial(ctx, netip.AddrPortFrom(addrs[0], port))
	}
	var refused error
	targets := make([]netip.AddrPort, 0, min(len(addrs), maxAddresses))
	for _, a := range interleave(addrs) {
		if err := s.permit(a, check); err != nil {
			var g *guardError
			if refused == nil || errors.As(err, &g) {
				refused = err
			}
			continue
		}
		if targets = append(targets, netip.AddrPortFrom(a, port)); len(targets) == maxAddresses {
			break
		}
	}
	switch len(targets) {
	case 0:
		if refused == nil {
			refused = &net.DNSError{Err: "the name has no address", IsNotFound: true}
		}
		return nil, refused
	case 1:
		return s.dial(ctx, targets[0])
	}
	return s.race(ctx, targets)
}

func (s *socket) permit(a netip.Addr, check func(netip.Addr) error) error {
	if s.source.IsValid() && s.source.Is4() != a.Unmap().Is4() {
		return errNoFamily
	}
	if check != nil {
		if err := check(a); err != nil {
			return &guardError{err}
		}
	}
	return nil
}

func (s *socket) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	if s.source.IsValid() {
		return s.dialer.DialTCP(ctx, "tcp", netip.AddrPortFrom(s.source, 0), to)
	}
	// DialTCP binds even to no address, which costs a system call and, worse, one local port for all destinations together
	// instead of one for each: the ephemeral ports would run out 28,000 connections into a busy day.
	c, err := s.dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// race is Happy Eyeballs (RFC 8305, section 5): attempts start one after the other, the next one when the one before has
// failed or the delay has passed; the first socket that connects wins and the others are closed before race returns.
func (s *socket) race(ctx context.Context, targets []netip.AddrPort) (*net.TCPConn, error) {
	type result struct {
		conn *net.TCPConn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(targets))
	next, flying := 0, 0
	start := func() {
		to := targets[next]
		next, flying = next+1, flying+1
		go func() {
			c, err := s.dial(ctx, to)
			results <- result{c, err}
		}()
	}
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	start()
	var failure error
	for {
		select {
		case <-timer.C:
			if next < len(targets) {
				start()
				timer.Reset(stagger)
			}
			continue
		case r := <-results:
			flying--
			if r.err == nil {
				cancel()
				for ; flying > 0; flying-- {
					if late := <-results; late.conn != nil {
						late.conn.Close()
					}
				}
				return r.conn, nil
			}
			failure = tellingError(failure, r.err)
		}
		switch {
		case next < len(targets):
			start()
			timer.Reset(stagger)
		case flying == 0:
			return nil, failure
		}
	}
}

// tellingError picks the error that says more: a family that this machine cannot reach says nothing about the target.
func tellingError(have, got error) error {
	if have == nil || (noRoute(have) && !noRoute(got)) {
		return got
	}
	return have
}

func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// interleave orders addresses so that the families alternate, beginning with the family of the first one
// (RFC 8305, section 4). It returns addrs itself when there is nothing to change.
func interleave(addrs []netip.Addr) []netip.Addr {
	var mixed bool
	for _, a := range addrs {
		mixed = mixed || a.Is4() != addrs[0].Is4()
	}
	if !mixed {
		return addrs
	}
	out := make([]netip.Addr, 0, len(addrs))
	var one, two int // next candidates of the first family and of the other
	for len(out) < len(addrs) {
		for ; one < len(addrs) && addrs[one].Is4() != addrs[0].Is4(); one++ {
		}
		if one < len(addrs) {
			out = append(out, addrs[one])
			one++
		}
		for ; two < len(addrs) && addrs[two].Is4() == addrs[0].Is4(); two++ {
		}
		if two < len(addrs) {
			out = append(out, addrs[two])
			two++
		}
	}
	return out
}

// timed is a context with a deadline of its own that costs no timer and no registration: net.Dialer reads the deadline and
// sets it on the socket, and waits on Done only for cancellation.
type timed struct {
	context.Context
	at time.Time
}

var never = make(chan struct{})

// Deadline implements context.Context.
func (t *timed) Deadline() (time.Time, bool) { return t.at, true }

// Done implements context.Context. It is never nil, because package net looks at the deadline only of contexts that have it.
func (t *timed) Done() <-chan struct{} {
	if done := t.Context.Done(); done != nil {
		return done
	}
	return never
}

// AfterFunc lets package context register without a goroutine when the parent cannot be cancelled.
func (t *timed) AfterFunc(f func()) func() bool {
	if t.Context.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(t.Context, f)
}
