// Package journald writes the records of flows to systemd's journal, by its native protocol: a line to read, fields to look for
// (journalctl VIADUCT_TARGET=api.partner.example:443), and the whole record as JSON in the field VIADUCT_RECORD.
//
// It is a connmodel.Sink like connmodel.RecordWriter: recording never waits. Where there is no journald, or it does not read, records wait in a bounded
// queue, and what has no room in it is dropped and counted.
package journald

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"viaduct/connmodel"
)

// Options say how a Writer works. The zero Options are the defaults.
type Options struct {
	Queue int // records that may wait; 0 = 4096
	// OnError is told when sending begins to fail, once, and with nil when it works again, on the writer's goroutine; nil = nobody is told.
	OnError func(err error)

	// send takes the place of journald in tests.
	send func(message string, p journal.Priority, fields map[string]string) error
}

const (
	defaultQueue = 4096
	firstRetry   = 100 * time.Millisecond // after a failure; doubles
	longestRetry = 5 * time.Second
)

// ErrNone says that no journald listens on this machine.
var ErrNone = errors.New("systemd's journal is not there: nothing listens at /run/systemd/journal/socket")

// Writer sends records to journald. One goroutine does, so that they come in order.
type Writer struct {
	opt   Options
	queue chan *connmodel.Flow
	stop  chan struct{}
	done  chan struct{}

	closed   atomic.Bool
	finished atomic.Bool
	written  atomic.Uint64
	dropped  atomic.Uint64
	failures atomic.Uint64
	failing  atomic.Pointer[error]

	fields map[string]string // of the goroutine
	text   []byte
}

// New begins to write; ErrNone says that there is nobody to write to. Close ends the goroutine.
func New(o Options) (*Writer, error) {
	if o.send == nil {
		if !journal.Enabled() {
			return nil, ErrNone
		}
		o.send = journal.Send
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	w := &Writer{opt: o, queue: make(chan *connmodel.Flow, o.Queue), stop: make(chan struct{}), done: make(chan struct{}), fields: map[string]string{}}
	go w.run()
	return w, nil
}

// Record queues f, or drops it when the queue is full or the writer is closed. It never waits.
func (w *Writer) Record(f *connmodel.Flow) {
	if w.closed.Load() {
		w.dropped.Add(1)
		return
	}
	select {
	case w.queue <- f:
	default:
		w.dropped.Add(1)
	}
}

// Written returns how many records journald has taken.
func (w *Writer) Written() uint64 { return w.written.Load() }

// Dropped returns how many were lost.
func (w *Writer) Dropped() uint64 {
	n := w.dropped.Load()
	if w.finished.Load() {
		n += uint64(len(w.queue)) // came between the last look at the queue and its end
	}
	return n
}

// Failures returns how many attempts to send have failed.
func (w *Writer) Failures() uint64 { return w.failures.Load() }

// Err returns why sending fails at present, or nil.
func (w *Writer) Err() error {
	if p := w.failing.Load(); p != nil {
		return *p
	}
	return nil
}

// Reopen does nothing: journald has no file of ours.
func (w *Writer) Reopen() error { return nil }

// Close sends what is queued, and returns why not all of it could be sent. When ctx ends first, because journald does not read, it returns that and leaves
// the goroutine to it. Further calls wait for the same end.
func (w *Writer) Close(ctx context.Context) error {
	if w.closed.CompareAndSwap(false, true) {
		close(w.stop)
	}
	select {
	case <-w.done:
		return w.Err()
	case <-ctx.Done():
		return fmt.Errorf("journald: %d records are not sent: %w", len(w.queue), ctx.Err())
	}
}

func (w *Writer) run() {
	defer func() {
		w.finished.Store(true)
		close(w.done)
	}()
	for {
		select {
		case f := <-w.queue:
			if !w.deliver(f) {
				w.dropped.Add(1)
				w.drain()
				return
			}
		case <-w.stop:
			w.drain()
			return
		}
	}
}

// deliver sends f, again and again until it works; false = the writer is being closed, and it does not.
func (w *Writer) deliver(f *connmodel.Flow) bool {
	for pause := firstRetry; ; pause = min(2*pause, longestRetry) {
		err := w.send(f)
		w.report(err)
		if err == nil {
			return true
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-w.stop:
			t.Stop()
			return w.send(f) == nil
		}
	}
}

// drain sends what is left at the end, as long as it works.
func (w *Writer) drain() {
	for {
		select {
		case f := <-w.queue:
			err := w.send(f)
			w.report(err)
			if err != nil {
				w.dropped.Add(1)
				return // what is left in the queue counts as dropped
			}
		default:
			return
		}
	}
}

// send hands f over once. A record that makes us panic must not take the others with it.
func (w *Writer) send(f *connmodel.Flow) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.dropped.Add(1)
			w.report(fmt.Errorf("journald: a record cannot be sent: %v", p))
			err = nil
		}
	}()
	clear(w.fields)
	w.text = fill(w.fields, f, w.text[:0])
	if err := w.opt.send(Message(f), priority(f), w.fields); err != nil {
		return fmt.Errorf("journald: %w", err)
	}
	w.written.Add(1)
	return nil
}

// report tells OnError when things turn bad, and when they turn good.
func (w *Writer) report(err error) {
	was := w.failing.Load() != nil
	if err == nil {
		w.failing.Store(nil)
	} else {
		w.failures.Add(1)
		w.failing.Store(&err)
	}
	if was != (err != nil) && w.opt.OnError != nil {
		w.opt.OnError(err)
	}
}
