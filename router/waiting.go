package router

import (
	"sync"
	"time"

	"viaduct/router/forward"
)

// queue is a list of sessions in the order in which they joined, through the sessions themselves: joining and leaving allocate
// nothing. A session is in at most one queue at a time.
type queue struct {
	root waiter
	n    int
}

// waiter is a session's place in a queue.
type waiter struct {
	prev, next *waiter // nil while in none
	s          *session
	since      time.Time
	early      bool // bytes of the client wait here: the end of its stream may be behind them, and means nothing
}

func (q *queue) init() { q.root.next, q.root.prev = &q.root, &q.root }

func (q *queue) push(w *waiter) {
	w.prev, w.next = q.root.prev, &q.root
	w.prev.next, w.next.prev = w, w
	q.n++
}

func (q *queue) drop(w *waiter) bool {
	if w.next == nil {
		return false
	}
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
	q.n--
	return true
}

// handshakes bounds the sessions that have not said yet what they want. When there are too many the oldest one goes, because an
// honest client needs milliseconds: a crowd of slow ones keeps nobody out.
type handshakes struct {
	mu   sync.Mutex
	q    queue
	most int
}

// leastHandshakes is what is allowed in any case.
const leastHandshakes = 32

func (h *handshakes) setMax(connections int) {
	h.mu.Lock()
	h.most = max(leastHandshakes, connections/2)
	h.mu.Unlock()
}

// begin puts s last, and returns the session that has to go for it, or nil.
func (h *handshakes) begin(s *session) (oldest *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.q.n >= h.most {
		w := h.q.root.next
		h.q.drop(w)
		oldest = w.s
	}
	h.q.push(&s.wait)
	return oldest
}

func (h *handshakes) end(s *session) {
	h.mu.Lock()
	h.q.drop(&s.wait)
	h.mu.Unlock()
}

// dials knows the sessions whose server is being reached. After dialPatience it looks, every dialLook, whether their clients are
// still there. Its timer runs only while somebody dials. Those of plain requests that wait for their response are looked at by the
// timer that each of these has anyway: see package forward.
type dials struct {
	mu    sync.Mutex
	q     queue
	timer *time.Timer
	armed bool
}

const (
	dialPatience = time.Second
	dialLook     = 500 * time.Millisecond
)

func (d *dials) begin(s *session, now time.Time) {
	s.wait.since, s.wait.early = now, len(s.in.Buffered()) > 0 || s.req.Body.HasBody()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.q.push(&s.wait)
	if d.armed {
		return
	}
	d.armed = true
	if d.timer == nil {
		d.timer = time.AfterFunc(dialPatience, d.look)
		return
	}
	d.timer.Reset(dialPatience)
}

func (d *dials) end(s *session) {
	d.mu.Lock()
	d.q.drop(&s.wait)
	d.mu.Unlock()
}

// look gives up the dials whose clients have gone.
func (d *dials) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed = d.q.n > 0; !d.armed {
		return
	}
	limit := time.Now().Add(-dialPatience)
	for w := d.q.root.next; w != &d.q.root && !w.since.After(limit); w = w.next {
		if forward.Gone(w.s.conn, w.early) {
			w.s.clientLeft()
		}
	}
	d.timer.Reset(dialLook)
}
