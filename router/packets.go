package router

import (
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// headroom is what a packet buffer leaves free in front of what is read, for the header of a datagram from an address (RFC 1928,
// section 7: 22 bytes for IPv6).
const headroom = 32

// packetBuffer holds the largest datagram there is.
type packetBuffer [headroom + 1<<16]byte

var packetBuffers = sync.Pool{New: func() any { return new(packetBuffer) }}

// packetSocket is a UDP socket whose reader holds a buffer only while there is something to read: a thousand silent associations hold
// none of the 64 KiB that each could be sent.
type packetSocket struct {
	c   *net.UDPConn
	raw syscall.RawConn
}

func newPacketSocket(c *net.UDPConn) (*packetSocket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &packetSocket{c, raw}, nil
}

// read waits for a datagram and gives it to handle, which must not keep it: b is the datagram with headroom in front, from who sent it,
// unmapped. It returns what the socket said instead.
func (k *packetSocket) read(handle func(b []byte, from netip.AddrPort)) error {
	var (
		buf *packetBuffer
		n   int
		sa  unix.Sockaddr
		err error
	)
	wait := k.raw.Read(func(fd uintptr) bool {
		b := packetBuffers.Get().(*packetBuffer)
		for {
			n, sa, err = unix.Recvfrom(int(fd), b[headroom:], unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				break
			}
		}
		if err != nil {
			packetBuffers.Put(b)
			return err != unix.EAGAIN
		}
		buf = b
		return true
	})
	if buf == nil {
		if wait != nil {
			return wait
		}
		return err
	}
	handle(buf[:headroom+n], addrPortOf(sa))
	packetBuffers.Put(buf)
	return nil
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// packetPorts knows the sockets on which associations take datagrams of clients. None of them is a target, or datagrams could go in
// circles, from one association into another.
type packetPorts struct {
	mu   sync.Mutex
	open map[netip.AddrPort]bool
}

func (p *packetPorts) add(a netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[netip.AddrPort]bool)
	}
	p.open[a] = true
}

func (p *packetPorts) remove(a netip.AddrPort) {
	p.mu.Lock()
	delete(p.open, a)
	p.mu.Unlock()
}

func (p *packetPorts) has(a netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]
}
