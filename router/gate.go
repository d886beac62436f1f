package router

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Descriptors that client traffic leaves free: the control door, records, DNS and reload need some, and so do pipes for splicing and the
// server connections that are kept between plain requests.
const (
	reservedDescriptors = 32
	pipeDescriptors     = 64  // at most; package relay has up to 32 pipes
	keptConnections     = 512 // at most
)

// gate bounds the client connections that are open at once. Who finds it full waits; the kernel's queue holds the clients.
type gate struct {
	mu     sync.Mutex
	cond   sync.Cond
	n, max int
}

func (g *gate) init() { g.cond.L = &g.mu; g.max = 1 }

func (g *gate) setMax(n int) {
	g.mu.Lock()
	g.max = n
	g.cond.Broadcast()
	g.mu.Unlock()
}

// await waits for room without taking it, so that a listener nobody connects to holds no place. It returns false when gone says that
// there is no use in waiting any more.
func (g *gate) await(gone func() bool) bool { return g.pass(0, gone) }

// enter waits for a place and takes it.
func (g *gate) enter(gone func() bool) bool { return g.pass(1, gone) }

// try takes a place if there is one.
func (g *gate) try() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= g.max {
		return false
	}
	g.n++
	return true
}

func (g *gate) pass(take int, gone func() bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.n >= g.max {
		if gone() {
			return false
		}
		g.cond.Wait()
	}
	g.n += take
	return true
}

// take takes a place more, if there is one.
func (g *gate) take() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= g.max {
		return false
	}
	g.n++
	return true
}

// leave gives a place back. All who wait are woken: some of them only look.
func (g *gate) leave() {
	g.mu.Lock()
	if g.n--; g.n == g.max-1 {
		g.cond.Broadcast()
	}
	g.mu.Unlock()
}

// nudge lets waiters look again whether they are gone.
func (g *gate) nudge() {
	g.mu.Lock()
	g.cond.Broadcast()
	g.mu.Unlock()
}

// descriptorLimit is how many descriptors this process may have.
func descriptorLimit() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur > 1<<21 {
		return 1 << 21
	}
	return int(lim.Cur)
}

// keptLimit is how many server connections may be kept between plain requests.
func keptLimit() int { return max(1, min(keptConnections, descriptorLimit()/8)) }

// connectionLimit is the limit of client connections: as configured, but never more than the descriptors allow at two for a tunnel.
func connectionLimit(configured, listeners int) int {
	all := descriptorLimit()
	most := max(1, (all-reservedDescriptors-min(pipeDescriptors, all/8)-keptLimit()-listeners)/2)
	if configured > 0 && configured < most {
		return configured
	}
	return most
}
