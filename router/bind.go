package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// doorKey says which socket a listener means: two generations that mean the same one share it.
type doorKey struct{ network, address, name string }

func keyOf(l *Listener) doorKey {
	switch k := (doorKey{network: l.Network, address: l.Address}); l.Network {
	case "unix":
		k.address = filepath.Clean(l.Address)
		return k
	case "systemd":
		return k
	default:
		if _, port, err := net.SplitHostPort(l.Address); err == nil && port == "0" {
			k.name = l.Name // each gets a port of its own
		}
		return k
	}
}

// bind opens the listener's socket. leaving are doors that this configuration closes: a TCP address may overlap with theirs.
func bind(l *Listener, leaving []*door) (net.Listener, error) {
	switch l.Network {
	case "systemd":
		ln, err := inherited(l.Address)
		if err == nil && l.Protocols&TProxy != 0 {
			if err = makeTransparent(ln); err != nil {
				ln.Close()
				return nil, err
			}
		}
		return ln, err
	case "unix":
		return bindUnix(l)
	case "", "tcp":
	default:
		return nil, fmt.Errorf("unknown network %q", l.Network)
	}
	transparent := l.Protocols&TProxy != 0
	ln, err := bindTCP(l.Address, false, transparent)
	if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
		return ln, bindError(l.Address, err)
	}
	if over := overlapping(l.Address, leaving); over != nil {
		return takeOver(l.Address, over, transparent, err)
	}
	return nil, bindError(l.Address, err)
}

// bindTCP sets options once on the listening socket: accepted ones inherit them, which saves four system calls a connection. An IPv4
// address is bound as such: package net would make 0.0.0.0 a socket of both families.
func bindTCP(address string, share, transparent bool) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
		var err error
		e := c.Control(func(fd uintptr) {
			setKeepAlive(int(fd))
			if share {
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
			if transparent {
				err = setTransparent(int(fd))
			}
		})
		return errors.Join(err, e)
	}}
	network := "tcp"
	if host, _, err := net.SplitHostPort(address); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
			network = "tcp4"
		}
	}
	return lc.Listen(context.Background(), network, address)
}

// setKeepAlive makes the kernel notice dead peers on connections that are silent by nature: 60 s, then 6 probes 15 s apart.
func setKeepAlive(fd int) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6)
}

// errInUse is the usual reason why an address cannot be bound.
var errInUse = errors.New("another program does")

func bindError(address string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: %w (see: ss -ltnp)", address, errInUse)
	case errors.As(err, new(*transparentError)):
		return fmt.Errorf("cannot listen on %s: %w", address, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE or a systemd socket)", address)
	}
	return fmt.Errorf("cannot listen on %s: %w", address, err)
}

// takeOver binds an address that overlaps with doors about to close, 127.0.0.1:3128 and 0.0.0.0:3128 for instance. Both sockets share
// the port until the old one is closed, so that nothing has to be closed before all is bound, and no client is refused.
func takeOver(address string, over []*door, transparent bool, inUse error) (net.Listener, error) {
	for _, d := range over {
		sharePort(d.ln, 1)
		defer sharePort(d.ln, 0)
	}
	ln, err := bindTCP(address, true, transparent)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: it overlaps with %s of listener %q, which this configuration drops: drop that one with one reload "+
			"and add this one with the next (%w)", address, over[0].ln.Addr(), over[0].name(), inUse)
	}
	sharePort(ln, 0)
	return ln, nil
}

func sharePort(ln net.Listener, v int) {
	if t, ok := ln.(*net.TCPListener); ok {
		if rc, err := t.SyscallConn(); err == nil {
			rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, v) })
		}
	}
}

// overlapping returns the doors on whose TCP address no other socket may be while address is bound.
func overlapping(address string, doors []*door) (over []*door) {
	want := listenAddrs(address)
	for _, d := range doors {
		have, ok := d.ln.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		hp := addrPort(have)
		for _, w := range want {
			if w.Port() == hp.Port() && (w.Addr() == hp.Addr() || w.Addr().IsUnspecified() || hp.Addr().IsUnspecified()) {
				over = append(over, d)
				break
			}
		}
	}
	return over
}

// listenAddrs returns what a listener's TCP address means, without asking the network: nothing for names but localhost.
func listenAddrs(address string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil
	}
	switch host {
	case "":
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n))}
	case "localhost":
		return []netip.AddrPort{netip.AddrPortFrom(loopback4, uint16(n)), netip.AddrPortFrom(netip.IPv6Loopback(), uint16(n))}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(n))}
	}
	return nil
}

// fileMode is the mode of a Unix socket.
func (l *Listener) fileMode() os.FileMode {
	if l.FileMode != 0 {
		return os.FileMode(l.FileMode) & os.ModePerm
	}
	return 0o660
}

// bindUnix makes a socket file. It has its mode before anybody can connect: the file takes that of the socket, less the process' umask.
func bindUnix(l *Listener) (net.Listener, error) {
	if err := removeStale(l.Address); err != nil {
		return nil, err
	}
	mode := l.fileMode()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode)) }); e != nil {
			return e
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "unix", l.Address)
	if err != nil {
		return nil, bindError(l.Address, err)
	}
	if err := os.Chmod(l.Address, mode); err != nil { // what the umask took away
		ln.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Address, err)
	}
	return ln, nil
}

// removeStale removes a socket file that nobody listens on any more.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return nil // Listen will say what is wrong, if anything is
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: a file that is not a socket is in the way", path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("cannot listen on %s: another program does", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("cannot listen on %s: it is not known whether another program does: %w", path, err)
}

// inheritedSockets are the sockets systemd passed at start, by name. They are taken once: the environment is cleared.
var inheritedSockets = sync.OnceValues(activation.ListenersWithNames)

// inherited returns a copy of a socket from systemd. The original stays open, so that a listener that one reload drops and a later one
// wants again finds it.
func inherited(name string) (net.Listener, error) {
	byName, err := inheritedSockets()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	switch ls := byName[name]; len(ls) {
	case 0:
		return nil, fmt.Errorf("systemd passed no socket named %q (FileDescriptorName= in the socket unit)", name)
	case 1:
		if ls[0] == nil {
			return nil, fmt.Errorf("the socket %q from systemd is not a stream socket", name)
		}
		return adopt(name, ls[0])
	default:
		return nil, fmt.Errorf("systemd passed %d sockets named %q: give each a name of its own", len(ls), name)
	}
}

func adopt(name string, original net.Listener) (net.Listener, error) {
	filer, ok := original.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("the socket %q from systemd cannot be used", name)
	}
	f, err := filer.File()
	if err != nil {
		return nil, fmt.Errorf("the socket %q from systemd: %w", name, err)
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket %q from systemd: %w", name, err)
	}
	if t, ok := ln.(*net.TCPListener); ok {
		if rc, err := t.SyscallConn(); err == nil {
			rc.Control(func(fd uintptr) { setKeepAlive(int(fd)) })
		}
	}
	return ln, nil
}
