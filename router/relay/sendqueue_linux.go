package relay

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// queued returns the bytes, FIN included, that the kernel has accepted for the peer and the peer's kernel has not acknowledged; 0 if it cannot say.
func (e *endpoint) queued() int {
	c, ok := e.transport().(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = v
		}
	})
	return n
}
