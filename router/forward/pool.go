package forward

import (
	"sync"
	"time"
)

// Pool keeps connections to servers between requests, for whichever client asks next. Connections that carry a client's own
// login are never in it. The zero Pool works.
type Pool struct {
	PerKey int           // connections kept for one key; 0 = 64
	Total  int           // in all; 0 = 512
	Idle   time.Duration // how long one is kept; 0 = 60 s

	mu     sync.Mutex
	kept   map[any][]*Server // newest last
	newest *Server           // all of them, by the time they came
	oldest *Server
	n      int
	sweep  *time.Timer // runs while anything is kept
	closed bool
}

const (
	defaultPerKey = 64
	defaultTotal  = 512
	defaultIdle   = 60 * time.Second
)

// links chain the kept connections by age.
type links struct{ newer, older *Server }

// Get returns a kept connection for key that is still alive, the newest first, or nil. One that has been closed by the server, or on
// which the server has said something unasked, is closed: what it says cannot be an answer to a request that was never sent.
func (p *Pool) Get(key any) *Server {
	for {
		p.mu.Lock()
		list := p.kept[key]
		if len(list) == 0 {
			p.mu.Unlock()
			return nil
		}
		s := list[len(list)-1]
		p.remove(s, len(list)-1)
		p.mu.Unlock()
		if s.alive() {
			s.Reused = true
			return s
		}
		s.Close()
	}
}

// Put keeps s, or closes it. s must be between two exchanges. When there are too many, the oldest of all goes.
func (p *Pool) Put(s *Server) {
	if s.Bound() || len(s.In.Buffered()) > 0 || !silent(s.Conn) {
		s.Close()
		return
	}
	p.mu.Lock()
	if p.closed || len(p.kept[s.Key]) >= orDefault(p.PerKey, defaultPerKey) {
		p.mu.Unlock()
		s.Close()
		return
	}
	var out *Server
	if p.n >= orDefault(p.Total, defaultTotal) {
		out = p.oldest
		p.removeOldest()
	}
	p.add(s)
	p.mu.Unlock()
	if out != nil {
		out.Close()
	}
}

func (p *Pool) add(s *Server) {
	if p.kept == nil {
		p.kept = make(map[any][]*Server)
	}
	s.idleSince = time.Now()
	s.pool = links{older: p.newest}
	if p.newest != nil {
		p.newest.pool.newer = s
	} else {
		p.oldest = s
	}
	p.newest = s
	p.kept[s.Key] = append(p.kept[s.Key], s)
	p.n++
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.idle(), p.expire)
	}
}

// remove takes out s, which is at i of the list of its key.
func (p *Pool) remove(s *Server, i int) {
	list := p.kept[s.Key]
	copy(list[i:], list[i+1:])
	list[len(list)-1] = nil
	if list = list[:len(list)-1]; len(list) == 0 && p.n > 1 {
		delete(p.kept, s.Key) // the last list of all stays: one busy key needs no new one for every request
	} else {
		p.kept[s.Key] = list
	}
	if s.pool.newer != nil {
		s.pool.newer.pool.older = s.pool.older
	} else {
		p.newest = s.pool.older
	}
	if s.pool.older != nil {
		s.pool.older.pool.newer = s.pool.newer
	} else {
		p.oldest = s.pool.newer
	}
	s.pool = links{}
	p.n--
}

// removeOldest takes out the oldest, which is the first of its key, too.
func (p *Pool) removeOldest() { p.remove(p.oldest, 0) }

func orDefault(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

func (p *Pool) idle() time.Duration {
	if p.Idle <= 0 {
		return defaultIdle
	}
	return p.Idle
}

// expire closes what has been idle for too long: one timer for all of them.
func (p *Pool) expire() {
	var old []*Server
	p.mu.Lock()
	now, idle := time.Now(), p.idle()
	for p.oldest != nil && now.Sub(p.oldest.idleSince) >= idle {
		old = append(old, p.oldest)
		p.removeOldest()
	}
	switch {
	case p.sweep == nil: // closed meanwhile
	case p.oldest != nil:
		// Not for each by itself: those that come within the next moments go together.
		p.sweep.Reset(max(idle-now.Sub(p.oldest.idleSince), idle/16))
	default:
		p.sweep = nil
		clear(p.kept)
	}
	p.mu.Unlock()
	closeAll(old)
}

func closeAll(list []*Server) {
	for _, s := range list {
		s.Close()
	}
}

// Clear closes everything that is kept; the pool stays usable.
func (p *Pool) Clear() { closeAll(p.empty(false)) }

// Close closes everything that is kept, and from now on everything that is put.
func (p *Pool) Close() { closeAll(p.empty(true)) }

func (p *Pool) empty(forGood bool) (all []*Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.oldest != nil {
		all = append(all, p.oldest)
		p.removeOldest()
	}
	clear(p.kept)
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.closed = p.closed || forGood
	return all
}

// Len returns how many connections are kept.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}
