package forward

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is what the kernel moves bytes through. It is empty whenever it is in the pool.
type pipe struct{ r, w int }

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

const (
	maxPipes  = 16 // of the process; slow clients may hold them all, bodies are copied then
	pipeSize  = 1 << 20
	pipeRest  = 5 * time.Second // a pipe that is not needed for this long is closed
	leastPipe = 64 << 10        // an unprivileged user gets smaller ones after the first 64 or so: they are of no use
)

// pipePool bounds the pipes and closes those that are not needed any more.
type pipePool struct {
	mu     sync.Mutex
	free   []*pipe
	made   int
	spare  int // the fewest free ones since the last sweep
	sweep  *time.Timer
	denied time.Time // when one could not be made
}

var pipes pipePool

// get returns an empty pipe, or nil.
func (p *pipePool) get() *pipe {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		q := p.free[n-1]
		p.free = p.free[:n-1]
		p.spare = min(p.spare, n-1)
		p.mu.Unlock()
		return q
	}
	if p.made == maxPipes || !p.denied.IsZero() && time.Since(p.denied) < pipeRest {
		p.mu.Unlock()
		return nil
	}
	p.made++
	p.mu.Unlock()
	q := openPipe()
	if q == nil {
		p.mu.Lock()
		p.made--
		p.denied = time.Now()
		p.mu.Unlock()
	}
	return q
}

func openPipe() *pipe {
	var fd [2]int
	if unix.Pipe2(fd[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	q := &pipe{fd[0], fd[1]}
	n, err := unix.FcntlInt(uintptr(q.w), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		n, err = unix.FcntlInt(uintptr(q.w), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || n < leastPipe {
		q.close()
		return nil
	}
	return q
}

// put takes an empty pipe back.
func (p *pipePool) put(q *pipe) {
	p.mu.Lock()
	p.free = append(p.free, q)
	if p.sweep == nil {
		p.spare = 0
		p.sweep = time.AfterFunc(pipeRest, p.tidy)
	}
	p.mu.Unlock()
}

// discard closes a pipe that is not empty.
func (p *pipePool) discard(q *pipe) {
	q.close()
	p.mu.Lock()
	p.made--
	p.mu.Unlock()
}

// tidy closes the pipes that were free all the time since it ran last.
func (p *pipePool) tidy() {
	p.mu.Lock()
	n := min(p.spare, len(p.free))
	for _, q := range p.free[:n] {
		q.close()
	}
	p.free = append(p.free[:0], p.free[n:]...)
	p.made -= n
	p.spare = len(p.free)
	if p.made > 0 {
		p.sweep.Reset(pipeRest)
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
}
