package relay

import (
	"errors"

	"golang.org/x/sys/unix"
)

// smallChunk is the size below which copying costs less than splicing.
const smallChunk = 4 << 10

// splice moves one chunk through a pipe, or by copying if no pipe is to be had.
func (d *direction) splice(fd uintptr) step {
	k := &d.kernel
	p, most := pipes.get()
	if p == nil {
		return d.moveMuch(fd)
	}
	n, err := splice(int(fd), p.w, most)
	if n <= 0 {
		pipes.put(p)
		switch err {
		case unix.EAGAIN:
			return waits
		case unix.EINVAL: // not this kind of socket
			k.noSplice = true
			return goesOn
		case nil:
			return d.end(atEOF, nil)
		}
		return d.end(readError, err)
	}
	if n >= smallChunk {
		k.small = 0
	} else if k.small++; k.small >= 2 {
		k.small, k.much = 0, false
	}
	k.pipe, k.inPipe = p, n
	if err := d.empty(); err != nil {
		return d.end(writeError, err)
	}
	return goesOn
}

// empty delivers what is in the pipe and gives the pipe back.
func (d *direction) empty() error {
	k := &d.kernel
	err := d.flush()
	p, left := k.pipe, k.inPipe
	k.pipe, k.inPipe = nil, 0
	if k.parked {
		k.parked = false
		pipes.unpark()
	}
	switch {
	case left == 0:
		pipes.put(p)
		return nil
	case err == errSpill:
		return d.spill(p, left)
	}
	pipes.drop(p)
	return err
}

// errSpill says that the bytes in the pipe must be delivered without it.
var errSpill = errors.New("relay: the pipe is needed elsewhere")

// pump is writable for bytes in a pipe.
func (d *direction) pump(fd uintptr) bool {
	k := &d.kernel
	for k.inPipe > 0 {
		n, err := splice(k.pipe.r, int(fd), k.inPipe)
		switch {
		case n > 0:
			k.inPipe -= n
			d.count(n)
		case err == unix.EAGAIN && (k.parked || pipes.park(k.inPipe)):
			k.parked = true
			return false
		case err == unix.EAGAIN: // too many wait with a pipe already
			k.refused = errSpill
			return true
		case err == unix.EINVAL: // not this kind of socket
			k.noSplice, k.refused = true, errSpill
			return true
		case err == nil: // cannot be: there are bytes in the pipe
			k.refused = unix.EIO
			return true
		default:
			k.refused = err
			return true
		}
	}
	return true
}

// spill takes n bytes out of the pipe, gives it back, and delivers them from memory.
func (d *direction) spill(p *pipe, n int) error {
	b := largeBuffers.Get().(*largeBuffer)
	defer largeBuffers.Put(b)
	for have := 0; have < n; {
		m, err := transfer(unix.SYS_READ, uintptr(p.r), b[have:n])
		if m <= 0 {
			pipes.drop(p)
			return err
		}
		have += m
	}
	pipes.put(p)
	return d.write(b[:n])
}

func splice(from, to, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(m), err
		}
	}
}
