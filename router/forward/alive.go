package forward

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// layered is a connection on top of another, such as *tls.Conn.
type layered interface{ NetConn() net.Conn }

// alive reports whether an idle connection is open and silent. One that cannot be looked at is taken for dead.
func alive(c net.Conn) bool {
	if l, ok := c.(layered); ok {
		// Below TLS anything that has come is a reason not to go on: a close, or data that nobody asked for.
		return alive(l.NetConn())
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ok = false
	err = raw.Control(func(fd uintptr) { ok = nothingToRead(int(fd)) })
	return err == nil && ok
}

// nothingToRead asks the kernel for a byte and takes none: EAGAIN is the only good answer.
func nothingToRead(fd int) bool {
	for {
		var b [1]byte
		_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return err == unix.EAGAIN
		}
	}
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
