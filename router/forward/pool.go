package forward

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Pool keeps connections to servers between requests, for whichever client asks next. Connections that carry a client's own
// login are never in it. The zero Pool works.
type Pool struct {
	PerKey int           // connections kept for one key; 0 = 8
	Total  int           // in all; 0 = 512
	Idle   time.Duration // how long one is kept; 0 = 60 s

	mu     sync.Mutex
	kept   map[any][]*Server // newest last
	n      int
	sweep  *time.Timer // runs while anything is kept
	closed bool
}

const (
	defaultPerKey = 8
	defaultTotal  = 512
	defaultIdle   = 60 * time.Second
)

// Get returns a kept connection for key that is still alive, or nil. One that has been closed by the server, or on which the server
// has said something unasked, is closed: what it says cannot be an answer to a request that was never sent.
func (p *Pool) Get(key any) *Server {
	for {
		s := p.take(key)
		if s == nil {
			return nil
		}
		if alive(s.Conn) {
			s.Reused = true
			return s
		}
		s.Close()
	}
}

func (p *Pool) take(key any) *Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.kept[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	list[len(list)-1] = nil
	p.set(key, list[:len(list)-1])
	p.n--
	return s
}

func (p *Pool) set(key any, list []*Server) {
	if len(list) == 0 {
		delete(p.kept, key)
		return
	}
	p.kept[key] = list
}

// Put keeps s, or closes it when there is no room. s must be between two exchanges.
func (p *Pool) Put(s *Server) {
	if s.bound || len(s.In.Buffered()) > 0 {
		s.Close()
		return
	}
	p.mu.Lock()
	full := p.closed || p.n >= orDefault(p.Total, defaultTotal) || len(p.kept[s.Key]) >= orDefault(p.PerKey, defaultPerKey)
	if !full {
		if p.kept == nil {
			p.kept = make(map[any][]*Server)
		}
		s.idleSince = time.Now()
		p.kept[s.Key] = append(p.kept[s.Key], s)
		p.n++
		if p.sweep == nil {
			p.sweep = time.AfterFunc(p.idle()/2, p.expire)
		}
	}
	p.mu.Unlock()
	if full {
		s.Close()
	}
}

func orDefault(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

func (p *Pool) idle() time.Duration {
	if p.Idle == 0 {
		return defaultIdle
	}
	return p.Idle
}

// expire closes what has been idle for too long: one timer for all of them.
func (p *Pool) expire() {
	limit := time.Now().Add(-p.idle())
	var old []*Server
	p.mu.Lock()
	for key, list := range p.kept {
		i := 0
		for i < len(list) && list[i].idleSince.Before(limit) {
			i++
		}
		old = append(old, list[:i]...)
		p.n -= i
		p.set(key, append([]*Server(nil), list[i:]...))
	}
	if p.n > 0 && !p.closed {
		p.sweep.Reset(p.idle() / 2)
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, s := range old {
		s.Close()
	}
}

// Clear closes everything that is kept; the pool stays usable.
func (p *Pool) Clear() {
	p.mu.Lock()
	kept := p.kept
	p.kept, p.n = nil, 0
	p.mu.Unlock()
	for _, list := range kept {
		for _, s := range list {
			s.Close()
		}
	}
}

// Close closes everything that is kept, and from now on everything that is put.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.mu.Unlock()
	p.Clear()
}

// Len returns how many connections are kept.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// alive reports whether an idle connection is open and silent. Connections that cannot be looked at without reading (TLS) are taken
// for alive: a dead one shows at the first read, and an idempotent request is repeated.
func alive(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ok = false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ok = e == unix.EAGAIN || e == unix.EINTR
	})
	return err == nil && ok
}
