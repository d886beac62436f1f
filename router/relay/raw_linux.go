package relay

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawConn returns the socket of c if c is a plain stream socket.
func rawConn(c net.Conn) syscall.RawConn {
	switch c := c.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	case *net.UnixConn:
		if a := c.LocalAddr(); a != nil && a.Network() == "unix" {
			if raw, err := c.SyscallConn(); err == nil {
				return raw
			}
		}
	}
	return nil
}

// kernelCopy is the state of a direction with a plain socket at one or both ends.
//
// Everything happens inside the functions that RawConn.Read and RawConn.Write call when the socket may be ready. They say false, which is to wait, only
// with nothing in hand, or, on the writing side, with what is in flight.
type kernelCopy struct {
	readable, writable func(fd uintptr) bool // methods of the direction, bound once

	outcome outcome // why readable ended the copying
	err     error

	much     bool // the last read filled its buffer: move larger chunks
	noSplice bool // one of the ends cannot
	small    int  // small chunks in a row

	bytes   []byte // on their way to the destination; or
	pipe    *pipe  // with inPipe bytes in it, on theirs
	inPipe  int
	parked  bool  // counted by the pool as waiting with a pipe
	refused error // why the destination does not take them
}

func (k *kernelCopy) set(d *direction) {
	r, w := k.readable, k.writable
	if r == nil {
		r, w = d.readable, d.writable
	}
	*k = kernelCopy{readable: r, writable: w, noSplice: d.dst.raw == nil}
}

// copyRaw copies from a plain socket.
func (d *direction) copyRaw() (outcome, error) {
	for {
		err := d.src.raw.Read(d.kernel.readable)
		if err == nil {
			return d.kernel.outcome, d.kernel.err
		}
		if !d.t.staleDeadline(d.src, err) {
			return readError, err
		}
	}
}

// readable moves what the source has until it has no more. It returns false to wait for more, true when the direction has ended.
func (d *direction) readable(fd uintptr) bool {
	for {
		var s step
		switch k := &d.kernel; {
		case !k.much:
			b := buffers.Get().(*buffer)
			s = d.move(fd, b[:])
			buffers.Put(b)
		case k.noSplice:
			s = d.moveMuch(fd)
		default:
			s = d.splice(fd)
		}
		if s != goesOn {
			return s == ends
		}
	}
}

// step is what a move of bytes leads to.
type step uint8

const (
	goesOn step = iota
	waits       // the source is empty
	ends        // kernel.outcome and kernel.err say why
)

func (d *direction) end(o outcome, err error) step {
	d.kernel.outcome, d.kernel.err = o, err
	return ends
}

func (d *direction) moveMuch(fd uintptr) step {
	b := largeBuffers.Get().(*largeBuffer)
	s := d.move(fd, b[:])
	largeBuffers.Put(b)
	return s
}

// move copies once through b.
func (d *direction) move(fd uintptr, b []byte) step {
	n, err := transfer(unix.SYS_READ, fd, b)
	switch {
	case err == unix.EAGAIN:
		return waits
	case err != 0:
		return d.end(readError, err)
	case n == 0:
		return d.end(atEOF, nil)
	}
	d.kernel.much = n >= len(buffer{})
	var failed error
	if d.dst.raw != nil {
		d.kernel.bytes = b[:n]
		failed = d.flush()
	} else {
		failed = d.write(b[:n])
	}
	if failed != nil {
		return d.end(writeError, failed)
	}
	return goesOn
}

// writeRaw delivers all of b to a plain socket.
func (d *direction) writeRaw(b []byte) error {
	d.kernel.bytes = b
	return d.flush()
}

// flush delivers what is on its way, in memory or in the pipe.
func (d *direction) flush() error {
	k := &d.kernel
	k.refused = nil
	d.writing.Store(true)
	for {
		err := d.dst.raw.Write(k.writable)
		if err == nil {
			k.bytes = nil
			if k.refused == nil {
				d.writing.Store(false)
			}
			return k.refused
		}
		if !d.t.staleDeadline(d.dst, err) {
			k.bytes = nil
			return err
		}
	}
}

// writable delivers until there is no more (true) or the destination is full (false).
func (d *direction) writable(fd uintptr) bool {
	k := &d.kernel
	if k.pipe != nil {
		return d.pump(fd)
	}
	for len(k.bytes) > 0 {
		n, err := transfer(unix.SYS_WRITE, fd, k.bytes)
		if err == unix.EAGAIN {
			return false
		}
		if err != 0 {
			k.refused = err
			return true
		}
		d.count(n)
		k.bytes = k.bytes[n:]
	}
	return true
}

// transfer calls read(2) or write(2). The sockets never block, so the scheduler need not be told, which saves a few percent of a short tunnel.
func transfer(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, err := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if err == 0 {
			return int(n), 0
		}
		if err != unix.EINTR {
			return 0, err
		}
	}
}
