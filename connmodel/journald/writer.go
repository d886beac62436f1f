// Package journald writes the records of flows to systemd's journal, by its native protocol: a line to read, fields to look for
// (journalctl VIADUCT_TARGET=api.partner.example:443), and the whole record as JSON in the field VIADUCT_RECORD.
//
// It is a connmodel.Sink like connmodel.RecordWriter: recording never waits. Where there is no journald, or it does not read, records wait in a bounded
// queue, and what has no room in it is dropped and counted.
package journald

import (
	"errors"
	"fmt"
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
	*connmodel.Queue
	opt Options

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
	w := &Writer{Queue: connmodel.NewQueue(o.Queue, o.OnError), opt: o, fields: map[string]string{}}
	go w.run()
	return w, nil
}

// Reopen does nothing: journald has no file of ours.
func (w *Writer) Reopen() error { return nil }

func (w *Writer) run() {
	defer w.End()
	for {
		select {
		case f := <-w.Flows():
			if !w.deliver(f) {
				w.Lost(1)
				w.drain()
				return
			}
		case <-w.Stop():
			w.drain()
			return
		}
	}
}

// deliver sends f, again and again until it works; false = the writer is being closed, and it does not.
func (w *Writer) deliver(f *connmodel.Flow) bool {
	for pause := firstRetry; ; pause = min(2*pause, longestRetry) {
		err := w.send(f)
		if err == nil {
			w.Worked()
			return true
		}
		w.Failed(err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-w.Stop():
			t.Stop()
			return w.send(f) == nil
		}
	}
}

// drain sends what is left at the end, as long as it works.
func (w *Writer) drain() {
	for {
		select {
		case f := <-w.Flows():
			if err := w.send(f); err != nil {
				w.Failed(err)
				w.Lost(1)
				return // what is left in the queue counts as dropped
			}
			w.Worked()
		default:
			return
		}
	}
}

// send hands f over once. A record that makes us panic must not take the others with it.
func (w *Writer) send(f *connmodel.Flow) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Lost(1)
			w.Failed(fmt.Errorf("journald: a record cannot be sent: %v", p))
			err = nil
		}
	}()
	clear(w.fields)
	w.text = fill(w.fields, f, w.text[:0])
	if err := w.opt.send(Message(f), priority(f), w.fields); err != nil {
		return fmt.Errorf("journald: %w", err)
	}
	w.Wrote(1)
	return nil
}
