package connmodel

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Queue is the front of a writer of records, and a Sink: records wait in it, bounded, for the one goroutine that writes them. Recording never waits; what
// has no room is dropped and counted. A writer embeds it. Flows, Stop, Wrote, Lost, Failed, Trouble, Worked and End are for its goroutine, the rest for everybody.
type Queue struct {
	flows chan *Flow
	stop  chan struct{}
	done  chan struct{}

	closed   atomic.Bool
	finished atomic.Bool
	written  atomic.Uint64
	dropped  atomic.Uint64
	failures atomic.Uint64
	failing  atomic.Pointer[error]
	onError  func(error)
}

// NewQueue returns a queue with room for size records. onError is told when writing begins to fail, once, and with nil when it works again, on the writer's
// goroutine; nil = nobody is told.
func NewQueue(size int, onError func(error)) *Queue {
	return &Queue{flows: make(chan *Flow, size), stop: make(chan struct{}), done: make(chan struct{}), onError: onError}
}

// Record queues f, or drops it when the queue is full or closed. It never waits.
func (q *Queue) Record(f *Flow) {
	if q.closed.Load() {
		q.dropped.Add(1)
		return
	}
	select {
	case q.flows <- f:
	default:
		q.dropped.Add(1)
	}
}

// Written returns how many records were written.
func (q *Queue) Written() uint64 { return q.written.Load() }

// Dropped returns how many were lost: because the queue was full, because they could not be written down, or because the end came before they were written.
func (q *Queue) Dropped() uint64 {
	n := q.dropped.Load()
	if q.finished.Load() {
		n += uint64(len(q.flows)) // came between the last look at the queue and its end
	}
	return n
}

// Queued returns how many wait; none once the writer has ended, when they count as dropped.
func (q *Queue) Queued() int {
	if q.finished.Load() {
		return 0
	}
	return len(q.flows)
}

// Failures returns how many attempts to write have failed.
func (q *Queue) Failures() uint64 { return q.failures.Load() }

// Err returns why writing fails at present, or nil.
func (q *Queue) Err() error {
	if p := q.failing.Load(); p != nil {
		return *p
	}
	return nil
}

// Close has the goroutine write what is queued, and end; it returns why not all of it could be written. When ctx ends first, because a write hangs, it returns
// the error of ctx and leaves the goroutine to it. Records that come later are dropped. Further calls wait for the same end.
func (q *Queue) Close(ctx context.Context) error {
	if q.closed.CompareAndSwap(false, true) {
		close(q.stop)
	}
	select {
	case <-q.done:
		return q.Err()
	case <-ctx.Done():
		return fmt.Errorf("records: %d are not written: %w", len(q.flows), ctx.Err())
	}
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool { return q.closed.Load() }

// Flows is what the goroutine takes records from.
func (q *Queue) Flows() <-chan *Flow { return q.flows }

// Stop is closed when the goroutine is to end.
func (q *Queue) Stop() <-chan struct{} { return q.stop }

// Put queues f, and waits for room where there is none. It returns false when ctx ends first, or the queue is closed.
func (q *Queue) Put(ctx context.Context, f *Flow) bool {
	if q.closed.Load() {
		return false
	}
	select {
	case q.flows <- f:
		return true
	case <-ctx.Done():
	case <-q.stop:
	}
	return false
}

// Wrote counts n records that were written.
func (q *Queue) Wrote(n int) { q.written.Add(uint64(n)) }

// Lost counts n records that will not be.
func (q *Queue) Lost(n int) { q.dropped.Add(uint64(n)) }

// Failed counts an attempt that failed, and tells of err as Trouble does.
func (q *Queue) Failed(err error) {
	q.failures.Add(1)
	q.Trouble(err)
}

// Worked tells that writing works, if it did not before.
func (q *Queue) Worked() { q.Trouble(nil) }

// Trouble notes why records cannot be written at present, nil = they can, and tells of it when that begins and ends.
func (q *Queue) Trouble(err error) {
	was := q.failing.Load() != nil
	if err == nil {
		q.failing.Store(nil)
	} else {
		q.failing.Store(&err)
	}
	if was != (err != nil) && q.onError != nil {
		q.onError(err)
	}
}

// End says that the goroutine takes nothing more: what is still queued is lost.
func (q *Queue) End() {
	q.finished.Store(true)
	close(q.done)
}
