package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	smallBuffer = 4 << 10  // for heads
	largeBuffer = 32 << 10 // for bodies being relayed
)

var (
	smallPool = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// putBuffer gives a buffer back to the pool it came from; others are left to
// the collector.
func putBuffer(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallPool.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largePool.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

func getBuffer(large bool) []byte {
	if large {
		return largePool.Get().(*[largeBuffer]byte)[:]
	}
	return smallPool.Get().(*[smallBuffer]byte)[:]
}

// ReadWaiter may be implemented by a connection handed to NewReader: WaitRead
// returns when Read would not block, or with the error that Read would give. A
// Reader then holds no buffer while it waits. *net.TCPConn and *net.UnixConn
// are treated so without it.
type ReadWaiter interface{ WaitRead() error }

// Reader reads messages from a connection and keeps what it read too much.
// It holds a buffer only while there is something in it or a read is under way;
// on TCP and Unix sockets, and on a ReadWaiter, not even during the wait.
// Deadlines are the caller's, set on the connection. Not for concurrent use, not
// to be copied.
type Reader struct {
	src  io.Reader
	lim  Limits
	buf  []byte // nil while empty
	r, w int    // buf[r:w] is unread
	body Body

	raw     syscall.RawConn // of a plain socket; nil otherwise
	waiter  ReadWaiter
	rawRead func(fd uintptr) bool
	large   bool
	rawN    int
	rawErr  error
}

// NewReader returns a Reader of messages from src, usually a net.Conn.
func NewReader(src io.Reader, lim Limits) *Reader {
	r := new(Reader)
	r.Reset(src, lim)
	return r
}

// Reset drops what is buffered and begins anew on src.
func (r *Reader) Reset(src io.Reader, lim Limits) {
	r.Release()
	*r = Reader{lim: lim.withDefaults(), src: src, rawRead: r.rawRead}
	switch c := src.(type) {
	case *net.TCPConn:
		r.raw, _ = c.SyscallConn()
	case *net.UnixConn:
		r.raw, _ = c.SyscallConn()
	case ReadWaiter:
		r.waiter = c
	}
}

// Buffered returns the bytes that were read from the connection and not yet
// used: behind a CONNECT, the beginning of the tunnel. They are valid until the
// next call.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// Discard drops the first n buffered bytes.
func (r *Reader) Discard(n int) {
	r.r += min(max(n, 0), r.w-r.r)
	r.free()
}

// Prepend puts bytes in front of what is to be read: those that somebody else
// read from the connection already. They are copied.
func (r *Reader) Prepend(b []byte) {
	if len(b) == 0 {
		return
	}
	have := r.Buffered()
	need := len(b) + len(have)
	next := getBuffer(false)
	if need > len(next) {
		putBuffer(next)
		next = make([]byte, need+smallBuffer)
	}
	copy(next, b)
	copy(next[len(b):], have)
	putBuffer(r.buf)
	r.buf, r.r, r.w = next, 0, need
}

// Release gives the buffer back with what is in it. The Reader stays usable.
func (r *Reader) Release() {
	r.r = r.w
	r.free()
}

// free gives the buffer back when it is empty.
func (r *Reader) free() {
	if r.r == r.w && r.buf != nil {
		putBuffer(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}

// Read reads buffered bytes first, then from the connection.
func (r *Reader) Read(p []byte) (int, error) {
	if r.r == r.w {
		return r.src.Read(p)
	}
	n := copy(p, r.buf[r.r:r.w])
	r.Discard(n)
	return n, nil
}

// Fill waits until at least one more byte is buffered. At the end of the
// connection it returns io.EOF.
func (r *Reader) Fill() error { return r.fill(false) }

// maxEmptyReads bounds reads that bring nothing and no error.
const maxEmptyReads = 64

func (r *Reader) fill(large bool) error {
	if r.buf == nil && r.raw != nil {
		return r.fillRaw(large)
	}
	if r.buf == nil && r.waiter != nil {
		if err := r.waiter.WaitRead(); err != nil {
			return err
		}
	}
	r.room(large)
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil // an error comes again with the next read
		}
		if err != nil {
			r.free()
			return err
		}
	}
	r.free()
	return io.ErrNoProgress
}

// room makes space to read into: moves what is there to the front, or doubles
// the buffer. It is bounded by those who call fill: each gives up at a limit.
func (r *Reader) room(large bool) {
	switch {
	case r.buf == nil:
		r.buf = getBuffer(large)
	case r.w < len(r.buf):
	case r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	default:
		next := make([]byte, 2*len(r.buf))
		copy(next, r.buf)
		putBuffer(r.buf)
		r.buf = next
	}
}

// ReadRequest reads the head of the next request. io.EOF means that the
// connection ended between messages, io.ErrUnexpectedEOF that it ended within
// one; an *Error is to be answered with its status, then the connection closed.
// The body of the request before must have been read to its end.
func (r *Reader) ReadRequest(req *Request) error {
	var scan headScan
	return r.readHead(&scan, func(buf []byte) (int, error) {
		return parseRequest(buf, req, &scan, r.lim)
	})
}

// ReadResponse reads the head of the next response, be it informational, to a
// request of that method. Errors are those of ReadRequest.
func (r *Reader) ReadResponse(method string, resp *Response) error {
	var scan headScan
	return r.readHead(&scan, func(buf []byte) (int, error) {
		return parseResponse(buf, method, resp, &scan, r.lim)
	})
}

// ReadFinal reads responses up to the final one, or to 101, which ends HTTP on
// the connection. Every 1xx before it goes to informational, which may be nil
// and whose error ends the reading; more than Max1xx of them are a fault.
func (r *Reader) ReadFinal(method string, resp *Response, informational func(*Response) error) error {
	for range Max1xx + 1 {
		if err := r.ReadResponse(method, resp); err != nil {
			return err
		}
		if resp.Status >= 200 || resp.Status == 101 {
			return nil
		}
		if informational != nil {
			if err := informational(resp); err != nil {
				return err
			}
		}
	}
	return errTooMany1xx.inResponse()
}

func (r *Reader) readHead(scan *headScan, parse func([]byte) (int, error)) error {
	for {
		if r.r < r.w {
			n, err := parse(r.buf[r.r:r.w])
			if err == nil {
				r.Discard(n)
				return nil
			}
			if !errors.Is(err, ErrIncomplete) {
				return err
			}
		}
		if err := r.fill(false); err != nil {
			if err == io.EOF && r.w-r.r > scan.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// opError dresses an error of the system as net.Conn.Read would.
func (r *Reader) opError(err error) error {
	e := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	if c, ok := r.src.(net.Conn); ok {
		e.Source, e.Addr = c.LocalAddr(), c.RemoteAddr()
		if e.Addr != nil {
			e.Net = e.Addr.Network()
		}
	}
	return e
}
