package router

import (
	"sync"

	"golang.org/x/sys/unix"
)

// reservedDescriptors stay free of client traffic: the control door, records, DNS and reload need some.
const reservedDescriptors = 32

// gate bounds the client connections that are open at once. Who finds it full waits; the kernel's queue holds the clients.
type gate struct {
	mu     sync.Mutex
	cond   sync.Cond
	n, max int
	closed bool
}

func (g *gate) init() { g.cond.L = &g.mu; g.max = 1 }

func (g *gate) setMax(n int) {
	g.mu.Lock()
	g.max = n
	g.cond.Broadcast()
	g.mu.Unlock()
}

// enter takes a place. It returns false when gone says that there is no use in waiting any more.
func (g *gate) enter(gone func() bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.n >= g.max && !g.closed {
		if gone() {
			return false
		}
		g.cond.Wait()
	}
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	g.n--
	g.cond.Signal()
	g.mu.Unlock()
}

// nudge lets waiters look again whether they are gone.
func (g *gate) nudge() {
	g.mu.Lock()
	g.cond.Broadcast()
	g.mu.Unlock()
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.cond.Broadcast()
	g.mu.Unlock()
}

// connectionLimit is the limit of client connections: as configured, but never more than the descriptors allow at two for
// a tunnel.
func connectionLimit(configured, listeners int) int {
	var lim unix.Rlimit
	most := 1 << 20
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < 1<<31 {
		most = (int(lim.Cur) - reservedDescriptors - listeners) / 2
	}
	if most < 1 {
		most = 1
	}
	if configured > 0 && configured < most {
		return configured
	}
	return most
}
