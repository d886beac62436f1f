package http1

import (
	"io"
	"strconv"
)

// Copy writes head, then the rest of the body with the framing that head
// announced: out is BodyLength for a body of that length, BodyChunked (each
// piece is a chunk, then the trailers; extensions are never passed on), or
// BodyClose. Small messages that are there already leave in one write. It
// returns how many bytes of content were written. An error of dst comes as a
// *WriteError, everything else is b's, as Body.Read says. After an error the
// last chunk is not written and the caller must break the connection, by a reset
// where out is BodyClose, so that the receiver cannot take the part for the
// whole.
//
// No buffer is held while it waits for the body, if the Reader can do that.
func Copy(dst io.Writer, head []byte, b *Body, out Framing) (n int64, err error) {
	if !b.fits(out) {
		return 0, errFramingClash // RFC 9112 6: never promise what the body may not keep
	}
	c := copier{dst: dst, chunked: out.Kind == BodyChunked}
	defer c.release()
	c.add(head)
	for c.err == nil {
		data, err := b.buffered(largeBuffer)
		switch {
		case len(data) > 0:
			n += int64(len(data))
			c.content(data)
			b.r.Discard(len(data))
		case err == io.EOF:
			c.end(b.Trailer())
			c.flush()
			return n, c.wrapped()
		case err != nil:
			c.flush() // what came in order may go out; the end may not
			return n, err
		default:
			if c.flush(); c.err != nil {
				return n, c.wrapped()
			}
			c.release()
			if err := b.r.fill(true); err != nil && b.fail(err) != io.EOF {
				return n, b.err
			}
		}
	}
	return n, c.wrapped()
}

// fits reports whether what is left of the body can be written with framing f.
func (b *Body) fits(f Framing) bool {
	switch f.Kind {
	case BodyNone:
		return b.done
	case BodyLength:
		return (b.done || b.kind == BodyLength) && f.Length == b.left
	}
	return true
}

// copier gathers what is to be written.
type copier struct {
	dst     io.Writer
	chunked bool
	buf     []byte // gathered, not yet written; of largePool, nil while empty
	err     error  // of dst
}

func (c *copier) wrapped() error {
	if c.err != nil {
		return &WriteError{c.err}
	}
	return nil
}

// chunkFraming is room for a size line and the CRLF behind the data.
const chunkFraming = 16 + 2 + 2

// content takes a piece of the body, of at most largeBuffer bytes.
func (c *copier) content(data []byte) {
	if !c.chunked {
		c.add(data)
		return
	}
	for len(data) > 0 && c.err == nil {
		if largeBuffer-len(c.buf) < chunkFraming+min(len(data), 1<<10) {
			c.flush()
		}
		c.hold()
		piece := data[:min(len(data), largeBuffer-len(c.buf)-chunkFraming)]
		data = data[len(piece):]
		c.buf = strconv.AppendUint(c.buf, uint64(len(piece)), 16)
		c.buf = append(c.buf, "\r\n"...)
		c.buf = append(c.buf, piece...)
		c.buf = append(c.buf, "\r\n"...)
	}
}

// end writes the last chunk and the trailers.
func (c *copier) end(trailer Header) {
	if !c.chunked {
		return
	}
	last, err := AppendHeader([]byte("0\r\n"), trailer)
	if err != nil {
		last = last[:3]
	}
	c.add(append(last, "\r\n"...))
}

// add takes bytes as they are. Those that fill a buffer alone are not gathered.
func (c *copier) add(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if len(c.buf)+len(p) > largeBuffer {
		c.flush()
	}
	if len(c.buf) == 0 && len(p) >= smallBuffer && c.err == nil {
		_, c.err = c.dst.Write(p)
		return
	}
	if c.err == nil {
		c.hold()
		c.buf = append(c.buf, p...)
	}
}

func (c *copier) hold() {
	if c.buf == nil {
		c.buf = getBuffer(true)[:0]
	}
}

func (c *copier) flush() {
	if len(c.buf) > 0 && c.err == nil {
		_, c.err = c.dst.Write(c.buf)
	}
	c.buf = c.buf[:0]
}

func (c *copier) release() {
	if c.buf != nil {
		putBuffer(c.buf)
		c.buf = nil
	}
}
