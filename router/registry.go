package router

import "sync"

// registry knows every open session, those of streams included, as a list through the sessions themselves: joining and leaving allocate nothing.
type registry struct {
	mu      sync.Mutex
	root    session // only its links are used
	n       int     // streams included
	streams int
	idle    chan struct{} // closed when the last session leaves; nil while nobody waits
}

func (g *registry) init() { g.root.next, g.root.prev = &g.root, &g.root }

func (g *registry) add(s *session) {
	g.mu.Lock()
	s.prev, s.next = g.root.prev, &g.root
	s.prev.next, s.next.prev = s, s
	g.n++
	if s.stream {
		g.streams++
	}
	g.mu.Unlock()
}

func (g *registry) remove(s *session) {
	g.mu.Lock()
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
	g.n--
	if s.stream {
		g.streams--
	}
	if g.n == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
	g.mu.Unlock()
}

// each calls f for every session that is open now. f must not block: it runs under the lock.
func (g *registry) each(f func(*session)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := g.root.next; s != &g.root; s = s.next {
		f(s)
	}
}

// count says how many connections there are, and how many streams on them.
func (g *registry) count() (connections, streams int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n - g.streams, g.streams
}

// empty returns a channel that is closed once no session is open.
func (g *registry) empty() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}
