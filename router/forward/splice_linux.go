package forward

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"viaduct/upstream/http1"
)

// splicer moves content between two sockets through a pipe, without its bytes being copied to us. It holds the pipe only while
// there is something to move; when none is to be had the rest is copied.
type splicer struct {
	x        *exchange
	from, to syscall.RawConn
	pipe     *pipe // nil while it waits for bytes

	want int   // bytes asked for
	n    int   // bytes in the pipe
	err  error // of the last call
	none bool  // no pipe, or a socket that cannot do it
}

// newSplicer returns nil where the kernel cannot move the bytes.
func newSplicer(x *exchange, from, to net.Conn) *splicer {
	f, ok1 := from.(*net.TCPConn)
	t, ok2 := to.(*net.TCPConn)
	if !ok1 || !ok2 {
		return nil
	}
	s := &splicer{x: x}
	var err1, err2 error
	s.from, err1 = f.SyscallConn()
	s.to, err2 = t.SyscallConn()
	if err1 != nil || err2 != nil {
		return nil
	}
	return s
}

// move moves body to its end, or until more is set: the rest has to be copied then. Nothing of body is buffered.
func (s *splicer) move(body *http1.Body, last *atomic.Bool) (n int64, more bool, err error) {
	defer s.drop()
	fill, drain := s.fill, s.drain
	for !body.Done() {
		s.want = int(min(body.Direct(), pipeSize))
		if err := s.from.Read(fill); err != nil {
			return n, false, err
		}
		switch {
		case s.none:
			return n, true, nil
		case s.err != nil:
			return n, false, s.err
		case s.n == 0:
			return n, false, io.ErrUnexpectedEOF
		}
		n += int64(s.n)
		body.Advance(int64(s.n))
		if last != nil && body.Done() {
			last.Store(true)
		}
		if err := s.to.Write(drain); err != nil {
			s.err = err
		}
		if s.err != nil {
			return n - int64(s.n), false, &http1.WriteError{Err: s.err}
		}
	}
	return n, false, nil
}

// fill takes bytes from the socket; false means that there are none yet.
func (s *splicer) fill(fd uintptr) bool {
	if s.pipe == nil {
		if s.pipe = pipes.get(); s.pipe == nil {
			s.none = true
			return true
		}
	}
	n, err := splice(int(fd), s.pipe.w, s.want)
	switch err {
	case nil:
		s.n, s.err = n, nil
		return true
	case unix.EAGAIN:
		pipes.put(s.pipe)
		s.pipe = nil
		return false
	case unix.EINVAL, unix.ENOSYS: // nothing has been moved
		s.none = true
		return true
	}
	s.err = err
	return true
}

// drain gives what is in the pipe to the socket.
func (s *splicer) drain(fd uintptr) bool {
	for s.n > 0 {
		n, err := splice(s.pipe.r, int(fd), s.n)
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			s.err = err
			return true
		case n == 0:
			s.err = io.ErrShortWrite
			return true
		}
		s.n -= n
		s.x.line.moved.Add(int64(n))
	}
	return true
}

func splice(from, to, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(m), err
		}
	}
}

// drop gives the pipe back, or closes it if something is left in it.
func (s *splicer) drop() {
	if s.pipe == nil {
		return
	}
	if s.n > 0 || s.err != nil {
		pipes.discard(s.pipe)
	} else {
		pipes.put(s.pipe)
	}
	s.pipe = nil
}
