package connmodel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// RecordOptions say where records go. One of Path and Writer is set.
type RecordOptions struct {
	Path   string    // file, appended to, and created; its directory must be there
	Mode   uint32    // permissions of a new file; 0 = 0640
	Writer io.Writer // instead of a file, standard output for instance

	Queue      int           // records that may wait; 0 = 4096. What does not fit is dropped and counted
	FlushEvery time.Duration // longest a record stays in the buffer while more keep coming; 0 = 250 ms
	// OnError is told when writing begins to fail, once, and with nil when it works again. It is called on the writer's
	// goroutine; nil = nobody is told.
	OnError func(err error)
}

// Defaults and bounds of a RecordWriter.
const (
	defaultQueue  = 4096
	defaultFlush  = 250 * time.Millisecond
	defaultMode   = 0o640
	maxBatch      = 64 << 10               // octets that are written at once, about
	lingerTime    = 5 * time.Millisecond   // pause between two looks at the queue, so that busy times cost few wake-ups
	firstRetry    = 100 * time.Millisecond // after a failed write; doubles
	longestRetry  = 5 * time.Second
	maxIdleBuffer = 4 * maxBatch // a buffer grown beyond this is not kept
)

// RecordWriter is a Sink that writes each record as one line of JSON (NDJSON). Recording never waits: records go through a
// bounded queue to one goroutine, which encodes and writes them in batches. When the queue is full, records are dropped and
// counted. When writing fails (a full disk), it is tried again with the file opened anew, and goes on by itself.
type RecordWriter struct {
	*Queue
	opt   RecordOptions
	fresh chan *recordFile // from Reopen

	// Of the goroutine alone.
	out   *recordFile // nil for a Writer
	buf   []byte      // whole lines; the first off octets are written
	off   int
	retry time.Duration // 0 = all is well
}

// NewRecordWriter opens the file and starts the goroutine. Close ends both.
func NewRecordWriter(o RecordOptions) (*RecordWriter, error) {
	if (o.Path == "") == (o.Writer == nil) {
		return nil, errors.New("connmodel: records go either to a file or to a writer")
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.FlushEvery <= 0 {
		o.FlushEvery = defaultFlush
	}
	if o.Mode == 0 {
		o.Mode = defaultMode
	}
	w := &RecordWriter{
		Queue: NewQueue(o.Queue, o.OnError), opt: o, fresh: make(chan *recordFile, 1),
	}
	if o.Path != "" {
		f, err := openRecordFile(o.Path, o.Mode)
		if err != nil {
			return nil, err
		}
		w.begin(f)
	}
	go w.run()
	return w, nil
}

// Reopen opens the path anew, after log rotation has moved the file away, and returns why that failed; records then still go
// to the old file. The writer takes the new file before it writes again. For a Writer it does nothing.
func (w *RecordWriter) Reopen() error {
	if w.opt.Path == "" || w.Closed() {
		return nil
	}
	f, err := openRecordFile(w.opt.Path, w.opt.Mode)
	if err != nil {
		return err
	}
	for {
		select {
		case w.fresh <- f:
			if w.finished.Load() {
				w.closeFresh()
			}
			return nil
		case old := <-w.fresh: // nobody took it yet
			old.Close()
		case <-w.done:
			f.Close()
			return nil
		}
	}
}

// begin makes f the file that is written to.
func (w *RecordWriter) begin(f *recordFile) {
	if old := w.out; old != nil {
		// A line that the old file has only a part of is written whole to another file, and finished in the same.
		if !old.same(f) {
			w.off = lineStart(w.buf, w.off)
		}
		old.Close()
	}
	if w.off == 0 || w.buf[w.off-1] == '\n' {
		f.mend()
	}
	w.out = f
}

// lineStart returns where the line begins that octet off of b belongs to.
func lineStart(b []byte, off int) int {
	for off > 0 && b[off-1] != '\n' {
		off--
	}
	return off
}

func (w *RecordWriter) run() {
	defer w.end()
	for {
		select {
		case f := <-w.flows:
			w.encode(f)
			w.batch()
		case f := <-w.fresh:
			w.begin(f)
			continue
		case <-w.stop:
			w.drain()
			return
		}
		if !w.pause(lingerTime) {
			w.drain()
			return
		}
	}
}

// batch encodes what is queued and writes it: when the queue is empty, when enough has come together, and when the oldest of
// it has waited for FlushEvery.
func (w *RecordWriter) batch() {
	began := time.Now()
	for {
		select {
		case f := <-w.flows:
			w.encode(f)
			if len(w.buf) < maxBatch && time.Since(began) < w.opt.FlushEvery {
				continue
			}
		default:
			w.flush(w.stop)
			return
		}
		if !w.flush(w.stop) {
			return
		}
		began = time.Now()
	}
}

// encode appends one line. A record that makes the encoder panic must not take the others with it.
func (w *RecordWriter) encode(f *Flow) {
	n := len(w.buf)
	defer func() {
		if p := recover(); p != nil {
			w.buf = w.buf[:n]
			w.Lost(1)
			w.Trouble(fmt.Errorf("connmodel: a record cannot be encoded: %v", p))
		}
	}()
	w.buf = append(f.AppendJSON(w.buf), '\n')
}

// flush writes the buffer. When that fails it tries again with growing pauses until it works, and returns false when
// stop is closed first; what is left then stays in the buffer.
func (w *RecordWriter) flush(stop <-chan struct{}) bool {
	for w.off < len(w.buf) {
		if err := w.write(); err != nil {
			w.Failed(err)
			w.retry = min(max(2*w.retry, firstRetry), longestRetry)
			if !w.pauseUntil(stop, w.retry) {
				return false
			}
			w.reopen()
		}
	}
	w.retry = 0
	w.Worked()
	w.off, w.buf = 0, w.buf[:0]
	if cap(w.buf) > maxIdleBuffer {
		w.buf = nil
	}
	return true
}

var newline = []byte{'\n'}

// write passes on what is left of the buffer, and counts the lines that went out whole.
func (w *RecordWriter) write() error {
	select {
	case f := <-w.fresh:
		w.begin(f)
	default:
	}
	to := w.opt.Writer
	if w.out != nil {
		to = w.out
	}
	n, err := to.Write(w.buf[w.off:])
	n = min(max(n, 0), len(w.buf)-w.off)
	w.Wrote(bytes.Count(w.buf[w.off:w.off+n], newline))
	w.off += n
	if err == nil && w.off < len(w.buf) {
		err = io.ErrShortWrite
	}
	return err
}

// reopen is part of trying again: the file may have been removed, or its file system mounted anew.
func (w *RecordWriter) reopen() {
	if w.out == nil {
		return
	}
	f, err := openRecordFile(w.opt.Path, w.opt.Mode)
	if err != nil {
		w.failures.Add(1)
		return // the old one is tried again
	}
	w.begin(f)
}

// pause waits for d, and returns false when the writer is being closed.
func (w *RecordWriter) pause(d time.Duration) bool { return w.pauseUntil(w.stop, d) }

func (w *RecordWriter) pauseUntil(stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

// drain writes what is left at the end. A write that fails now is tried once more and not for ever.
func (w *RecordWriter) drain() {
	gone := make(chan struct{})
	close(gone)
	for ok := true; ok; {
		select {
		case f := <-w.flows:
			w.encode(f)
			if len(w.buf)-w.off >= maxBatch {
				ok = w.flush(gone)
			}
		default:
			w.flush(gone)
			return
		}
	}
}

// end counts what was not written, and closes the file.
func (w *RecordWriter) end() {
	w.Lost(bytes.Count(w.buf[w.off:], newline))
	w.End()
	if w.out != nil {
		w.out.Close()
	}
	w.closeFresh()
}

func (w *RecordWriter) closeFresh() {
	select {
	case f := <-w.fresh:
		f.Close()
	default:
	}
}
