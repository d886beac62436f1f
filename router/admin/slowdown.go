package admin

import (
	"context"
	"sync"
	"time"
)

// slowdown makes guessing a token slow: each failure within a minute makes the next answer later, up to two seconds, and only so many wait at
// once. Who shows the right token never waits.
type slowdown struct {
	mu      sync.Mutex
	fails   int
	last    time.Time
	waiting int
}

const (
	slowStep    = 50 * time.Millisecond
	slowMost    = 2 * time.Second
	slowForget  = time.Minute
	slowFree    = 5 // failures that cost nothing: a token that was mistyped
	slowWaiting = 32
)

// failed waits. It returns what Retry-After says when too many wait already.
func (s *slowdown) failed(ctx context.Context) (retry string) {
	s.mu.Lock()
	now := time.Now()
	if now.Sub(s.last) > slowForget {
		s.fails = 0
	}
	s.last = now
	s.fails++
	wait := min(time.Duration(max(0, s.fails-slowFree))*slowStep, slowMost)
	if wait == 0 {
		s.mu.Unlock()
		return ""
	}
	if s.waiting >= slowWaiting {
		s.mu.Unlock()
		return "2"
	}
	s.waiting++
	s.mu.Unlock()
	t := time.NewTimer(wait)
	select {
	case <-t.C:
	case <-ctx.Done():
		t.Stop()
	}
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	return ""
}
