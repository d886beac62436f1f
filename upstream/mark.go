package upstream

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setMark gives the packets of a socket a mark, by which a firewall tells them from those of others.
func setMark(fd int, mark uint32) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("setting mark = %d needs the capability CAP_NET_ADMIN: %w", mark, os.NewSyscallError("setsockopt", err))
	}
	return fmt.Errorf("setting mark = %d: %w", mark, os.NewSyscallError("setsockopt", err))
}

// CheckMarks says, before anything is dialled, whether this process may mark its packets as c asks for; nil also when c asks for none.
func (c *Config) CheckMarks() error {
	mark := c.Direct.Mark
	for i := range c.Upstreams {
		if mark == 0 {
			mark = c.Upstreams[i].Mark
		}
	}
	if mark == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return setMark(fd, mark)
}
