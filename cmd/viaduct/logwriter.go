package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Bounds of the log's buffer.
const (
	logBuffer = 1 << 20
	logBatch  = 20 * time.Millisecond
)

// logWriter takes log lines off the connections' way: they are gathered and written together a moment later by one goroutine, so that
// a line costs no system call and a slow journal or terminal stops no connection. Lines that find a full buffer are dropped and
// counted, and the count is logged.
type logWriter struct {
	out io.Writer

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	dropped uint64
	wake    chan struct{} // holds a token while there is something to write

	writing sync.Mutex // one flush at a time, in order
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, wake: make(chan struct{}, 1)}
	go func() {
		for range w.wake {
			time.Sleep(logBatch) // whatever comes meanwhile goes with it
			w.Flush()
		}
	}()
	return w
}

// Write takes one line. It never blocks and never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	first := len(w.buf) == 0
	if len(w.buf)+len(p) > logBuffer {
		w.dropped++
	} else {
		w.buf = append(w.buf, p...)
	}
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// Flush writes what is gathered, before the process ends or when it cannot wait.
func (w *logWriter) Flush() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	buf, dropped := w.buf, w.dropped
	w.buf, w.dropped = w.spare[:0], 0
	w.mu.Unlock()
	if dropped > 0 {
		buf = fmt.Appendf(buf, "time=%q level=warning msg=\"log lines dropped: the log is not taken fast enough\" lines=%d\n", time.Now().UTC().Format(time.RFC3339), dropped)
	}
	if len(buf) > 0 {
		w.out.Write(buf)
	}
	if cap(buf) <= logBuffer/4 {
		w.spare = buf[:0]
	} else {
		w.spare = nil
	}
}
