package relay

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

// pipePool bounds the pipes of the process and closes those that are not needed any more. When it has none to give, bytes are copied instead.
type pipePool struct {
	most    int           // pipes at once
	reserve int           // of them, for directions that do not wait for a slow peer
	size    int           // bytes asked for per pipe
	least   int           // bytes below which a pipe is of no use: an unprivileged user gets 8 KiB after the first 64
	rest    time.Duration // pipes not needed for this long are closed

	mu     sync.Mutex
	free   []*pipe
	made   int   // free ones included
	parked int   // held by directions that wait for a slow peer
	spare  int   // the fewest free ones since the last sweep
	denied stamp // when a pipe could not be made
	sweep  *time.Timer
}

var pipes = &pipePool{most: 32, reserve: 8, size: 1 << 20, least: 64 << 10, rest: 5 * time.Second}

// get returns an empty pipe, or nil, and how many bytes to put into it. They are few when so many directions wait with a full pipe
// already that these might have to be taken out again; else as many as it holds, because large chunks are what makes splicing cheap.
func (p *pipePool) get() (*pipe, int) {
	p.mu.Lock()
	most := p.size
	if !p.mayPark() {
		most = chunk
	}
	if n := len(p.free); n > 0 {
		q := p.free[n-1]
		p.free = p.free[:n-1]
		p.spare = min(p.spare, n-1)
		p.mu.Unlock()
		return q, most
	}
	if p.made >= p.most || p.denied != 0 && now()-p.denied < stamp(p.rest) {
		p.mu.Unlock()
		return nil, 0
	}
	p.made++
	p.mu.Unlock()

	if q := p.open(); q != nil {
		return q, most
	}
	p.mu.Lock()
	p.made--
	p.denied = now()
	p.mu.Unlock()
	return nil, 0
}

// open makes a pipe, or returns nil if descriptors or pipe memory have run out.
func (p *pipePool) open() *pipe {
	var fd [2]int
	if unix.Pipe2(fd[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	q := &pipe{fd[0], fd[1]}
	n, err := unix.FcntlInt(uintptr(q.w), unix.F_SETPIPE_SZ, p.size)
	if err != nil {
		n, err = unix.FcntlInt(uintptr(q.w), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || n < p.least {
		q.close()
		return nil
	}
	return q
}

// put gives an empty pipe back.
func (p *pipePool) put(q *pipe) {
	p.mu.Lock()
	p.free = append(p.free, q)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.rest, p.trim)
		p.spare = 0
	}
	p.mu.Unlock()
}

// drop closes a pipe that is not empty.
func (p *pipePool) drop(q *pipe) {
	q.close()
	p.mu.Lock()
	p.made--
	p.mu.Unlock()
}

func (p *pipePool) mayPark() bool { return p.parked < p.most-p.reserve }

// park asks whether a pipe with n bytes may be held while its owner waits for a slow peer. If not, they are to be taken out. More than a chunk is
// there only if others were faster to park, so the few that may overdraw are those that move bytes at this moment.
func (p *pipePool) park(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= chunk && !p.mayPark() {
		return false
	}
	p.parked++
	return true
}

func (p *pipePool) unpark() {
	p.mu.Lock()
	p.parked--
	p.mu.Unlock()
}

// trim closes the pipes that nobody took since the last time, and comes back while there are any.
func (p *pipePool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.spare, len(p.free))
	for _, q := range p.free[:n] {
		q.close()
	}
	p.free = append(p.free[:0], p.free[n:]...)
	p.made -= n
	p.spare = len(p.free)
	if p.made == 0 {
		p.sweep = nil
		return
	}
	p.sweep.Reset(p.rest)
}
