package router

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of netfilter, and IP6T_SO_ORIGINAL_DST, which has the same number.
const soOriginalDst = 80

var errNoTCP = errors.New("not a TCP connection")

// originalTarget asks the kernel where a connection went before a firewall redirected it here.
func originalTarget(c net.Conn) (to netip.AddrPort, err error) {
	t, ok := transport(c).(*net.TCPConn)
	if !ok {
		return to, errNoTCP
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return to, err
	}
	v4 := addrPort(t.LocalAddr()).Addr().Is4() // also on a socket of both families
	e := raw.Control(func(fd uintptr) {
		if v4 {
			to, err = originalTarget4(int(fd))
		} else {
			to, err = originalTarget6(int(fd))
		}
	})
	return to, errors.Join(err, e)
}

// originalTarget4 borrows the type of another option that is large enough for a sockaddr_in: family, port and address in network order.
func originalTarget4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	b := m.Multiaddr[:]
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalTarget6 borrows one that begins with a sockaddr_in6.
func originalTarget6(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	port := (*[2]byte)(unsafe.Pointer(&m.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr).Unmap(), binary.BigEndian.Uint16(port[:])), nil
}

// transparentError says that a socket cannot take connections for addresses that are not this machine's.
type transparentError struct{ err error }

// Error implements error.
func (e *transparentError) Error() string {
	if errors.Is(e.err, syscall.EPERM) {
		return "the protocol tproxy needs the capability CAP_NET_ADMIN, or a socket unit with Transparent=yes"
	}
	return "the protocol tproxy: " + e.err.Error()
}

// Unwrap returns what the kernel said.
func (e *transparentError) Unwrap() error { return e.err }

// setTransparent lets a listening socket take connections for any address (IP_TRANSPARENT), of both families where it has both.
func setTransparent(fd int) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return &transparentError{os.NewSyscallError("getsockopt", err)}
	}
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	switch family {
	case unix.AF_INET:
	case unix.AF_INET6:
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	default:
		return &transparentError{errNoTCP}
	}
	if v, err := unix.GetsockoptInt(fd, level, option); err == nil && v != 0 {
		return nil // systemd has done it: without a capability of ours
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return &transparentError{os.NewSyscallError("setsockopt", err)}
	}
	return nil
}

// makeTransparent is setTransparent for a listener.
func makeTransparent(ln net.Listener) error {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return &transparentError{errNoTCP}
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return &transparentError{err}
	}
	e := raw.Control(func(fd uintptr) { err = setTransparent(int(fd)) })
	return errors.Join(err, e)
}
