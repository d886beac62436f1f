package router

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// loops finds connections of our own that a firewall sends back to us: each would make another one, without end. Both ends are looked at,
// because it cannot be known which of them is seen first: connect may return before the other end is accepted, or after.
//
// It is used only where a listener takes what the kernel sends here. The end that decides is the client's address: that of our socket.
type loops struct {
	mu       sync.Mutex
	cur, old map[netip.AddrPort]*net.TCPConn // made lately, by their own address
	turned   time.Time                       // when cur was begun
	clients  map[netip.AddrPort]int          // sessions that came from addresses of this machine
}

// lately is how long a connection is remembered at least: far longer than the kernel needs to hand us the other end.
const lately = 5 * time.Second

// made notes a connection that was made, and reports whether its other end is a session of ours.
func (l *loops) made(c *net.TCPConn) bool {
	own := addrPort(c.LocalAddr())
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur == nil || now.Sub(l.turned) > lately {
		l.old, l.cur, l.turned = l.cur, make(map[netip.AddrPort]*net.TCPConn), now
	}
	l.cur[own] = c
	return l.clients[own] > 0
}

// came notes a session that the kernel sent here, and reports whether its other end is a connection that we made. left is due for it.
func (l *loops) came(s *session) bool {
	if !machineHas(s.peer.Addr().WithZone("")) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients == nil {
		l.clients = make(map[netip.AddrPort]int)
	}
	l.clients[s.peer]++
	s.local = true
	return stillOpen(l.cur[s.peer]) || stillOpen(l.old[s.peer])
}

// left forgets a session.
func (l *loops) left(s *session) {
	l.mu.Lock()
	if n := l.clients[s.peer]; n <= 1 {
		delete(l.clients, s.peer)
	} else {
		l.clients[s.peer] = n - 1
	}
	l.mu.Unlock()
}

// stillOpen reports whether c is still ours: its port may be another program's meanwhile. c may be nil.
func stillOpen(c *net.TCPConn) bool {
	if c == nil {
		return false
	}
	raw, err := c.SyscallConn()
	return err == nil && raw.Control(func(uintptr) {}) == nil
}
