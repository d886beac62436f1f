package forward

import (
	"net"

	"golang.org/x/sys/unix"
)

// delivered returns how many bytes the kernel has moved on c in both directions: what the peer has acknowledged and what it has
// sent. 0 when it does not say.
func delivered(c net.Conn) (n uint64) {
	t := socket(c)
	if t == nil {
		return 0
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = i.Bytes_acked + i.Bytes_received
		}
	})
	return n
}

// pollFIN is the event that the peer has sent FIN, whatever came before it.
const pollFIN = unix.POLLRDHUP
