package relay

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// queued returns the bytes, FIN included, that the kernel has accepted for the peer and the peer's kernel has not acknowledged; 0 if it cannot say.
func (e *endpoint) queued() int {
	n := 0
	e.control(func(fd int) {
		if v, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
			n = v
		}
	})
	return n
}

// dead reports whether a TCP connection is closed in the kernel: reset, timed out, or both FINs are exchanged.
func (e *endpoint) dead() bool {
	const tcpClose = 7 // TCP_CLOSE in linux/tcp_states.h
	c, _ := e.transport()
	if _, ok := c.(*net.TCPConn); !ok {
		return false
	}
	dead := false
	e.control(func(fd int) {
		if i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			dead = i.State == tcpClose
		}
	})
	return dead
}

// control calls f with the socket under all wrappers, if it can be found.
func (e *endpoint) control(f func(fd int)) {
	c, _ := e.transport()
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
