package forward

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// layered is a connection on top of another, such as *tls.Conn.
type layered interface{ NetConn() net.Conn }

// glance looks at the socket below a connection without reading from it. It is made once per connection: it is used for every request.
type glance struct {
	raw   syscall.RawConn // nil: there is no socket to be seen
	peek  func(fd uintptr)
	fds   [1]unix.PollFd
	quiet bool
}

func newGlance(c net.Conn) *glance {
	g := new(glance)
	for {
		l, ok := c.(layered)
		if !ok {
			break
		}
		c = l.NetConn()
	}
	if sc, ok := c.(syscall.Conn); ok {
		g.raw, _ = sc.SyscallConn()
	}
	g.peek = func(fd uintptr) { g.quiet = g.nothingToRead(int(fd)) }
	return g
}

// nothingToRead asks the kernel whether a read would give anything: bytes, the end, an error.
func (g *glance) nothingToRead(fd int) bool {
	g.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	for {
		n, err := unix.Poll(g.fds[:], 0)
		if err != unix.EINTR {
			return n == 0 && err == nil
		}
	}
}

// alive reports whether an idle connection is open and nothing has come on it. Below TLS, too, anything that has come is a reason not
// to go on: a close, or data that nobody asked for. A connection that cannot be looked at is taken for dead.
func (s *Server) alive() bool {
	if s.look == nil {
		s.look = newGlance(s.Conn)
	}
	g := s.look
	g.quiet = false
	return g.raw != nil && g.raw.Control(g.peek) == nil && g.quiet
}

// leaver is a connection that is no socket and knows itself whether its peer has left: a stream of HTTP/2.
type leaver interface{ Gone(early bool) bool }

// Gone reports whether the peer of c has closed or reset its connection. After FIN alone it may only have closed its half; but with
// nothing said before it that waits to be read, and nothing to hear for long, it is taken for one that left, as servers do. early says
// that something it said waits here: then only a reset counts.
func Gone(c net.Conn, early bool) bool {
	if w, ok := c.(leaver); ok {
		return w.Gone(early)
	}
	g := newGlance(c)
	if g.raw == nil {
		return false
	}
	left := false
	_, layer := c.(layered)
	g.raw.Control(func(fd uintptr) { left = leftAt(int(fd), early) || layer && !early && saidGoodbye(int(fd)) })
	return left
}

// saidGoodbye reports whether FIN has come below TLS with nothing before it but an alert: this is how TLS clients leave, and the close_notify
// would hide the FIN. In TLS 1.3 an alert looks like data of two bytes, which nobody says last.
func saidGoodbye(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: pollFIN}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n == 0 || fds[0].Revents&pollFIN == 0 {
		return false
	}
	const alert, data = 21, 23
	var b [5 + 64]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || n < 5 || n == len(b) || n != 5+int(b[3])<<8+int(b[4]) {
		return false
	}
	return b[0] == alert || b[0] == data && n == 5+2+1+16
}

// leftAt is Gone for a socket. A reset is asked for by itself: bytes that came before it would hide it.
func leftAt(fd int, early bool) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(fds[:], 0); err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
		return true
	}
	if early {
		return false
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch err {
	case nil:
		return n == 0
	case unix.EAGAIN, unix.EINTR:
		return false
	}
	return true
}

// silent reports whether a layer holds no bytes that it has read and not given out: surplus behind a response that the socket does
// not show. A read whose deadline has passed gives those and touches no socket. Connections that are neither a socket nor a layer
// on one are not silent, because it cannot be known.
func silent(c net.Conn) bool {
	l, ok := c.(layered)
	if !ok {
		_, ok = c.(syscall.Conn)
		return ok
	}
	if !silent(l.NetConn()) || c.SetReadDeadline(longAgo) != nil {
		return false
	}
	var b [1]byte
	n, err := c.Read(b[:])
	return n == 0 && timedOut(err) && c.SetReadDeadline(time.Time{}) == nil
}
