package relay

import (
	"net"
	"syscall"

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

// kernelCopy is the state of a direction whose source is a plain socket.
//
// Everything happens inside the functions that RawConn.Read and RawConn.Write call when the socket may be ready. They say false only with nothing in hand, or,
// on the writing side, with what is in flight.
type kernelCopy struct {
	readable, writable func(fd uintptr) bool // methods of the direction, bound once

	outcome outcome // why readable ended the copying
	err     error

	much     bool // the last read filled its buffer: move larger chunks
	noSplice bool // one of the ends cannot
	small    int  // small chunks in a row

	pipe    *pipe // with inPipe bytes in it, on their way to the destination
	inPipe  int
	parked  bool  // counted by the pool as waiting
	refused error // why the destination does not take what is in the pipe
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
	k := &d.kernel
	for {
		var s step
		switch {
		case !k.much:
			s = d.moveLittle(fd)
		case k.noSplice:
			s = d.moveMuch(fd)
		default:
			s = d.splice(fd)
		}
		switch s {
		case waits:
			return false
		case ends:
			return true
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

func (d *direction) moveLittle(fd uintptr) step {
	b := buffers.Get().(*buffer)
	s := d.move(fd, b[:])
	buffers.Put(b)
	return s
}

func (d *direction) moveMuch(fd uintptr) step {
	b := largeBuffers.Get().(*largeBuffer)
	s := d.move(fd, b[:])
	largeBuffers.Put(b)
	return s
}

// move copies once through b.
func (d *direction) move(fd uintptr, b []byte) step {
	n, err := read(int(fd), b)
	switch {
	case err == unix.EAGAIN:
		return waits
	case err != nil:
		return d.end(readError, err)
	case n == 0:
		return d.end(atEOF, nil)
	}
	d.kernel.much = n >= len(buffer{})
	if err := d.write(b[:n]); err != nil {
		return d.end(writeError, err)
	}
	return goesOn
}

func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}
