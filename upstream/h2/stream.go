package h2

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Stream is one stream of a connection, as a connection of its own that speaks HTTP/1.1: a server reads one request from it
// and writes the response, a client the other way round. After a CONNECT that was granted, or a WebSocket that was agreed
// on, the bytes of the tunnel follow, both ways.
//
// One message goes each way; a response says "Connection: close". A client's end of the stream reads io.EOF behind the
// response. A server's end reads io.EOF behind the request once the response is complete, and an error when the client
// leaves before: a read that waits there watches the client. A tunnel's ends are those of TCP: io.EOF is the peer's
// CloseWrite.
//
// It deliberately has no NetConn: the connection below is not its own.
type Stream struct {
	c  *conn
	id uint32 // 0: not open yet (client, until the head of the request is complete)

	// All of this is guarded by c.mu.
	err         error // it was reset, or the connection ended
	closed      bool  // Close has been called
	remoteEnd   bool  // the peer has ended its side
	localEnd    bool  // we have
	forgotten   bool  // it is not in c.streams, and counts no more
	abrupt      bool  // SetLinger(0)
	endsByClose bool  // what we send has no other end: a tunnel, or a response that lasts to it
	in          incoming
	buf         queue
	rwin        int64 // what the peer may still send
	size        int64 // ... when all has been read
	unread      int64 // bytes taken from buf, or padding, whose window is not given back yet
	rcond       sync.Cond
	rdl, wdl    deadline
	swin        int64  // what we may send
	pending     []byte // data to be sent; its writer waits
	pendingEnd  bool
	queued      bool // it is in c.ring
	wcond       sync.Cond

	wmu sync.Mutex // one Write at a time; guards what follows
	to  outgoing
}

var _ net.Conn = (*Stream)(nil)

func newStream(c *conn) *Stream {
	s := &Stream{c: c, size: int64(c.opt.Window), rwin: int64(c.opt.Window), swin: c.peerWin}
	s.in.server = !c.client
	s.rcond.L, s.wcond.L = &c.mu, &c.mu
	s.rdl.cond, s.wdl.cond = &s.rcond, &s.wcond
	return s
}

// open reports whether frames of the stream may still come or go. The caller holds mu, as of all methods in small letters.
func (s *Stream) open() bool { return s.err == nil && !s.closed && !(s.remoteEnd && s.localEnd) }

// fail ends the stream.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.forget()
	s.rcond.Broadcast()
	s.wcond.Broadcast()
}

// forget gives up the place of the stream on its connection.
func (s *Stream) forget() {
	if s.forgotten {
		return
	}
	s.forgotten = true
	c := s.c
	if s.id != 0 {
		delete(c.streams, s.id)
	} else {
		delete(c.fresh, s)
	}
	if c.client {
		c.count--
	}
	if c.count == 0 && len(c.streams) == 0 {
		c.idleSince = time.Now()
	}
	c.spacious()
	c.settle()
}

func (s *Stream) remoteEnded() {
	s.remoteEnd = true
	if s.localEnd {
		s.forget()
	}
}

func (s *Stream) localEnded() {
	s.localEnd = true
	if s.remoteEnd {
		s.forget()
	}
	s.rcond.Broadcast() // a server that has read the request: the end
}

// Read reads HTTP/1.1, or the tunnel's bytes.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, s.op("read", net.ErrClosed)
		case s.rdl.passed:
			return 0, s.op("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		}
		if n := s.fill(p); n > 0 {
			return n, nil
		}
		if err := s.readEnd(); err == io.EOF {
			return 0, err
		} else if err != nil {
			return 0, s.op("read", err)
		}
		s.rcond.Wait()
	}
}

// readEnd returns why nothing more comes, nil when something may.
func (s *Stream) readEnd() error {
	if s.remoteEnd && s.in.drained(s) && (s.c.client || s.in.raw) {
		return io.EOF
	}
	if s.err != nil {
		return s.err
	}
	if !s.c.client && s.localEnd && s.in.complete(s) && s.in.drained(s) {
		return io.EOF
	}
	return nil
}

// WaitRead waits until Read would not block. It returns nil, or the error that Read would give.
func (s *Stream) WaitRead() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.closed:
			return s.op("read", net.ErrClosed)
		case s.rdl.passed:
			return s.op("read", os.ErrDeadlineExceeded)
		case s.in.ready(s):
			return nil
		}
		if err := s.readEnd(); err == io.EOF {
			return err
		} else if err != nil {
			return s.op("read", err)
		}
		s.rcond.Wait()
	}
}

// Gone reports whether the peer has left: it has reset the stream, the connection has ended, or, with a tunnel not granted yet and nothing
// of it here, the peer has ended its side already. early says that something of it was read before: then only the first two count.
func (s *Stream) Gone(early bool) bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err != nil || s.in.held && s.remoteEnd && s.buf.len() == 0 && !early
}

// op dresses an error as a net.Conn does.
func (s *Stream) op(what string, err error) error {
	return &net.OpError{Op: what, Net: "h2", Source: s.c.nc.LocalAddr(), Addr: s.c.nc.RemoteAddr(), Err: err}
}

// consumed notes that n bytes of data were read, and gives the window back when that is worth a frame. A reader that keeps
// up gets a larger one.
func (s *Stream) consumed(n int) {
	s.unread += int64(n)
	c := s.c
	if s.unread < s.size/2 || s.remoteEnd || !s.open() {
		return
	}
	more := s.unread
	if s.buf.len() == 0 && 2*s.size <= int64(c.opt.MaxWindow) && c.extra >= s.size {
		c.extra -= s.size
		more += s.size
		s.size *= 2
	}
	s.unread = 0
	s.rwin += more
	c.putWindow(s.id, more)
}

// sendData writes p, as the windows allow, and ends our side with it if end is set. It returns how much was sent.
func (s *Stream) sendData(p []byte, end bool) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.writable(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		if end {
			c.putData(s, nil, true)
		}
		return 0, nil
	}
	s.pending, s.pendingEnd = p, end
	c.enqueue(s)
	c.pump()
	for len(s.pending) > 0 {
		s.wcond.Wait()
		if err := s.writable(); err != nil && len(s.pending) > 0 {
			n := len(p) - len(s.pending)
			s.pending = nil
			return n, err
		}
	}
	return len(p), nil // it is the connection's now
}

// writable returns why nothing can be written.
func (s *Stream) writable() error {
	switch {
	case s.closed:
		return s.op("write", net.ErrClosed)
	case s.wdl.passed:
		return s.op("write", os.ErrDeadlineExceeded)
	case s.err != nil:
		return s.op("write", s.err)
	case s.localEnd:
		return s.op("write", net.ErrClosed)
	}
	return nil
}

// CloseWrite ends our side: of a tunnel, or of a response that lasts to the end of its connection. For a message that is
// complete it does nothing; one that is not is broken off with ErrIncomplete.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	switch s.to.state {
	case outTunnel, outClose:
		_, err := s.sendData(nil, true)
		return err
	case outDone:
		return nil
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.open() {
		s.abort()
		s.fail(ErrIncomplete)
	}
	return s.op("close", ErrIncomplete)
}

// SetLinger(0) makes Close a reset, even where it would be an orderly end: what was written is not all there is. Other values take that
// back.
func (s *Stream) SetLinger(sec int) error {
	s.c.mu.Lock()
	s.abrupt = sec == 0
	s.c.mu.Unlock()
	return nil
}

// Close ends the stream, and nothing but the stream. A message that is not complete, in either direction, ends by
// RST_STREAM, so that nobody takes the part for the whole. A tunnel that was not ended by CloseWrite is ended in good order,
// unless a Write is cut short by this, or SetLinger(0) was called.
func (s *Stream) Close() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.id != 0 && s.open() && !s.forgotten {
		s.hangUp()
	}
	s.closed = true
	c.extra += s.size - int64(c.opt.Window)
	s.size = int64(c.opt.Window)
	s.buf.free()
	s.in.pre = nil
	s.rdl.stop()
	s.wdl.stop()
	s.forget()
	s.rcond.Broadcast()
	s.wcond.Broadcast()
	return nil
}

// hangUp tells the peer that we leave an open stream.
func (s *Stream) hangUp() {
	c := s.c
	if !s.localEnd && s.endsByClose && !s.abrupt && len(s.pending) == 0 {
		c.putData(s, nil, true)
	}
	switch {
	case !s.localEnd:
		s.abort()
	case s.remoteEnd:
	case c.client:
		c.putReset(s.id, http2.ErrCodeCancel)
	default:
		c.putReset(s.id, http2.ErrCodeNo) // RFC 9113 8.1: the response is complete, the rest of the request is not needed
	}
}

// abort resets a stream whose message or tunnel is broken off.
func (s *Stream) abort() {
	code := http2.ErrCodeInternal
	switch {
	case s.id == 0:
		return
	case s.in.raw && s.endsByClose:
		code = http2.ErrCodeConnect // RFC 9113 8.5
		if s.c.client {
			code = http2.ErrCodeCancel
		}
	case s.c.client:
		code = http2.ErrCodeCancel
	}
	s.c.putReset(s.id, code)
}

// ID is the number of the stream on its connection; 0 before a client has written the head of its request.
func (s *Stream) ID() uint32 {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.id
}

// LocalAddr is that of the connection below.
func (s *Stream) LocalAddr() net.Addr { return s.c.nc.LocalAddr() }

// RemoteAddr is that of the connection below.
func (s *Stream) RemoteAddr() net.Addr { return s.c.nc.RemoteAddr() }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.closed {
		return s.op("set", net.ErrClosed)
	}
	s.rdl.set(s.c, t)
	s.wdl.set(s.c, t)
	return nil
}

// SetReadDeadline wakes a Read that waits, when t has come.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.closed {
		return s.op("set", net.ErrClosed)
	}
	s.rdl.set(s.c, t)
	return nil
}

// SetWriteDeadline wakes a Write that waits for the peer's window, when t has come.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.closed {
		return s.op("set", net.ErrClosed)
	}
	s.wdl.set(s.c, t)
	return nil
}
