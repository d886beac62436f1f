//go:build unix

package http1

import (
	"io"
	"syscall"
)

// fillRaw waits for bytes on a plain socket and takes a buffer only when they
// are there: an idle connection costs no buffer. It is called with none held.
func (r *Reader) fillRaw(large bool) error {
	if r.rawRead == nil {
		r.rawRead = r.readFD // made once: a method value is an allocation
	}
	r.large, r.rawN, r.rawErr = large, 0, nil
	if err := r.raw.Read(r.rawRead); err != nil {
		return err // deadline, closed
	}
	switch {
	case r.rawErr != nil:
		return r.rawErr
	case r.rawN == 0:
		return io.EOF
	}
	return nil
}

// readFD reads once from a descriptor in non-blocking mode; false means that
// there was nothing yet.
func (r *Reader) readFD(fd uintptr) bool {
	buf := getBuffer(r.large)
	for {
		n, err := syscall.Read(int(fd), buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			putBuffer(buf)
			return false
		case n > 0 && err == nil:
			r.buf, r.r, r.w, r.rawN = buf, 0, n, n
			return true
		}
		putBuffer(buf)
		if err != nil {
			r.rawErr = r.opError(err)
		}
		return true
	}
}
