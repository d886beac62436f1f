package upstreamtest

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Reservation keeps a port bound without listening on it: dials are refused,
// and neither a bind to port 0 nor an outgoing connection is given the port.
// A listener that sets SO_REUSEADDR, as Go's and most daemons' do, may still
// take it, and give it back, and take it again.
type Reservation struct {
	addr string
	once sync.Once
	fd   int
}

// Addr is the reserved "host:port".
func (r *Reservation) Addr() string { return r.addr }

// Reserve binds listen ("127.0.0.1:0", "[::1]:8080") and keeps it bound until
// Release. On systems other than Linux it only finds a free port.
func Reserve(listen string) (*Reservation, error) {
	a, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return nil, err
	}
	if a.IP == nil {
		return nil, fmt.Errorf("listen %q: an address is needed", listen)
	}
	fd, err := bind(a)
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", listen, err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	port := 0
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		port = sa.Port
	case *syscall.SockaddrInet6:
		port = sa.Port
	}
	r := &Reservation{addr: net.JoinHostPort(a.IP.String(), strconv.Itoa(port)), fd: fd}
	if runtime.GOOS != "linux" { // elsewhere SO_REUSEADDR does not let the listener in
		r.Release()
	}
	return r, nil
}

func bind(a *net.TCPAddr) (fd int, err error) {
	family, sa := syscall.AF_INET6, syscall.Sockaddr(nil)
	if ip := a.IP.To4(); ip != nil {
		in := &syscall.SockaddrInet4{Port: a.Port}
		copy(in.Addr[:], ip)
		family, sa = syscall.AF_INET, in
	} else {
		in := &syscall.SockaddrInet6{Port: a.Port}
		copy(in.Addr[:], a.IP.To16())
		sa = in
	}
	syscall.ForkLock.RLock()
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, sa)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Release gives the port back. It may be called more than once.
func (r *Reservation) Release() {
	r.once.Do(func() { syscall.Close(r.fd) })
}

// Refused returns a loopback address where every dial is refused, until the
// test ends: its port is bound, but nothing listens.
func Refused(t TB) string {
	t.Helper()
	r, err := Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	t.Cleanup(r.Release)
	return r.addr
}

// BlackHole returns a loopback address where a dial gets no answer at all,
// neither accepted nor refused, until the test ends: a listener whose backlog
// is full and is never accepted from. Linux only.
func BlackHole(t TB) string {
	t.Helper()
	r, err := Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	t.Cleanup(r.Release)
	if err := syscall.Listen(r.fd, 0); err != nil {
		t.Fatalf("upstreamtest: listen: %v", err)
	}
	// A backlog of 0 still takes a connection or two; after that the kernel
	// drops SYNs, which the first dial that does not return shows.
	for range 16 {
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", r.addr)
		cancel()
		if err != nil {
			return r.addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatalf("upstreamtest: the kernel still accepts at %s after 16 connections", r.addr)
	return ""
}
