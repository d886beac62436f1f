package forward

import (
	"io"
	"net"
	"sync/atomic"

	"viaduct/upstream/http1"
)

// spliceMin is what must be still to come of a body of known length for it to go through the kernel.
const spliceMin = 128 << 10

// stream writes head and the rest of body to dst, which is to, reading from: a large body of known length is moved by the kernel
// where both are plain sockets. last, if not nil, is set before the last of it is written. Errors are those of http1.Copy.
func (x *exchange) stream(dst io.Writer, from, to net.Conn, in *http1.Reader, head []byte, body *http1.Body, out http1.Framing, last *atomic.Bool) (n int64, err error) {
	if out.Kind != http1.BodyLength || out.Length-int64(len(in.Buffered())) < spliceMin {
		return http1.Copy(dst, head, body, out)
	}
	s := newSplicer(x, from, to)
	if s == nil {
		return http1.Copy(dst, head, body, out)
	}
	first := len(head)
	head = append(head, in.Buffered()...)
	n = int64(body.ReadBuffered(head[first:]))
	if _, err := dst.Write(head); err != nil {
		return 0, &http1.WriteError{Err: err}
	}
	m, more, err := s.move(body, last)
	n += m
	if err != nil || !more {
		return n, err
	}
	m, err = http1.Copy(dst, nil, body, http1.Framing{Kind: http1.BodyLength, Length: out.Length - n})
	return n + m, err
}
