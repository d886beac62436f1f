package relay

import (
	"errors"
	"io"
	"os"
	"time"
)

// shrinkAfter is how long a connection that cannot be waited for without a buffer may hold a large one with nothing to read.
const shrinkAfter = 2 * time.Second

// copyWrapped copies from a connection that is not a plain socket, such as *tls.Conn. It waits in Read, so it holds a buffer while it waits: a small
// one, unless there has been much to read just now.
func (d *direction) copyWrapped() (outcome, error) {
	s := smallBuffers.Get().(*smallBuffer)
	defer smallBuffers.Put(s)
	for stale := false; ; {
		n, err := d.src.conn.Read(s[:])
		if n > 0 {
			stale = false
			if err := d.write(s[:n]); err != nil {
				return writeError, err
			}
		}
		if n == len(s) && err == nil {
			err = d.copyMuch()
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return atEOF, nil
		case isWriteError(err):
			return writeError, errors.Unwrap(err)
		case !stale && d.t.staleDeadline(d.src, err):
			stale = true
		default:
			return readError, err
		}
	}
}

// copyMuch copies with a large buffer while there is something to read. It returns nil when nothing came for shrinkAfter or when what comes is small.
func (d *direction) copyMuch() error {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	for {
		before := d.n.Load()
		if !d.t.readUntil(d.src, time.Now().Add(shrinkAfter)) {
			return os.ErrDeadlineExceeded
		}
		for {
			n, err := d.src.conn.Read(b[:])
			if n > 0 {
				if err := d.write(b[:n]); err != nil {
					return &failedWrite{err}
				}
			}
			if err == nil && n > len(smallBuffer{}) {
				continue
			}
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) && d.n.Load() == before {
				if !d.t.readUntil(d.src, time.Time{}) {
					return os.ErrDeadlineExceeded
				}
				return nil
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			break // it has been busy: look again later
		}
	}
}

// readUntil sets the read deadline of e, unless the tunnel is being stopped, which is a deadline too.
func (t *Tunnel) readUntil(e *endpoint, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end == Open && e.conn.SetReadDeadline(at) == nil
}

// failedWrite marks an error of the destination.
type failedWrite struct{ err error }

func (f *failedWrite) Error() string { return f.err.Error() }
func (f *failedWrite) Unwrap() error { return f.err }

func isWriteError(err error) bool {
	_, ok := err.(*failedWrite)
	return ok
}
