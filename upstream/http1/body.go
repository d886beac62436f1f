package http1

import "io"

// Body reads the content of one message. It belongs to its Reader: there is one
// at a time, and no head can be read before Done.
type Body struct {
	r     *Reader
	kind  Kind
	left  int64 // BodyLength: bytes to come
	chunk chunked
	done  bool
	err   error // sticky; io.EOF once done
}

// Body begins the body of the message whose head was read last. The value is
// good until the next call of Body.
func (r *Reader) Body(f Framing) *Body {
	b := &r.body
	trailer := b.chunk.trailer[:0]
	*b = Body{r: r, kind: f.Kind, left: f.Length}
	b.chunk.trailer = trailer
	if !f.HasBody() {
		b.finish()
	}
	return b
}

func (b *Body) finish() { b.done, b.err = true, io.EOF }

// Done reports whether the body came to its proper end, so that the next
// message can be read from the connection.
func (b *Body) Done() bool { return b.done }

// Trailer is the trailer section of a chunked body, after its end, without the
// fields that have no place there (RFC 9110 6.5.1).
func (b *Body) Trailer() Header { return b.chunk.trailer }

// Read reads content. It returns io.EOF at the proper end, with the last bytes
// when the end is known by then; io.ErrUnexpectedEOF when the connection ended
// before; an *Error when the framing is broken. After an error other than
// io.EOF the connection cannot be used again.
func (b *Body) Read(p []byte) (n int, err error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if left := b.Direct(); left < 0 || left >= smallBuffer {
		return b.readDirect(p, left) // a small rest is better read with what follows it
	}
	for n == 0 {
		var data []byte
		if data, err = b.next(false, len(p)); err != nil {
			return 0, err
		}
		n = copy(p, data)
		b.r.Discard(n)
	}
	b.settle()
	if b.done {
		return n, io.EOF
	}
	return n, nil
}

// readDirect reads content that has no framing in it straight from the
// connection.
func (b *Body) readDirect(p []byte, left int64) (int, error) {
	if left > 0 && int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.r.src.Read(p)
	b.Advance(int64(n))
	if err != nil && !b.done {
		err = b.fail(err)
	}
	if b.done {
		err = io.EOF
	}
	return n, err
}

// next returns the next piece of content, at most limit bytes, waiting for it
// if none is buffered. It is still in the buffer: the caller discards it.
func (b *Body) next(large bool, limit int) ([]byte, error) {
	for {
		data, err := b.buffered(limit)
		if len(data) > 0 || err != nil {
			return data, err
		}
		if err := b.r.fill(large); err != nil {
			return nil, b.fail(err)
		}
	}
}

// buffered returns the piece of content that is buffered already, nil if there
// is none, without waiting.
func (b *Body) buffered(limit int) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	for b.r.r < b.r.w {
		buf := b.r.Buffered()
		buf = buf[:min(len(buf), max(limit, 1))]
		switch b.kind {
		case BodyClose:
			return buf, nil
		case BodyLength:
			buf = buf[:min(int64(len(buf)), b.left)]
			if b.left -= int64(len(buf)); b.left == 0 {
				b.finish()
			}
			return buf, nil
		}
		if b.chunk.state != chData {
			buf = b.r.Buffered() // a trailer section is looked at as a whole
		}
		n, data, err := b.chunk.step(buf, b.r.lim)
		if err != nil {
			b.err = err
			return nil, err
		}
		if data {
			return buf[:n], nil
		}
		b.r.Discard(n)
		if b.chunk.state == chDone {
			b.finish()
			return nil, io.EOF
		}
		if n == 0 {
			return nil, nil
		}
	}
	return nil, nil
}

// settle takes the framing behind the data if it is buffered, so that the end
// is known as early as it can be.
func (b *Body) settle() {
	for b.kind == BodyChunked && b.err == nil && b.chunk.state != chData && b.r.r < b.r.w {
		n, _, err := b.chunk.step(b.r.Buffered(), b.r.lim)
		if err != nil {
			b.err = err // given with the next read
			return
		}
		b.r.Discard(n)
		if b.chunk.state == chDone {
			b.finish()
		}
		if n == 0 {
			return
		}
	}
}

// fail keeps what ended the reading of a body that was not done.
func (b *Body) fail(err error) error {
	if err == io.EOF {
		if b.kind == BodyClose {
			b.finish() // RFC 9112 6.3(8)
			return io.EOF
		}
		err = io.ErrUnexpectedEOF // RFC 9112 8
	}
	b.err = err
	return err
}

// ReadBuffered reads the content that is there already, without waiting, and
// returns how much that was: a glance at an error page.
func (b *Body) ReadBuffered(p []byte) (n int) {
	for n < len(p) {
		data, _ := b.buffered(len(p) - n)
		if len(data) == 0 {
			break
		}
		n += copy(p[n:], data)
		b.r.Discard(len(data))
	}
	b.settle()
	return n
}

// Drain reads and drops the rest of the body, at most max bytes of content, and
// reports whether its end was reached.
func (b *Body) Drain(max int64) (bool, error) {
	for !b.done {
		data, err := b.next(false, smallBuffer)
		if err != nil && err != io.EOF {
			return false, err
		}
		if max -= int64(len(data)); max < 0 {
			return false, nil
		}
		b.r.Discard(len(data))
		b.settle()
	}
	return true, nil
}

// Direct returns how many of the coming bytes of the connection are content
// without any framing between them, so that they may be moved without this
// package (splice): nothing of them is buffered. It is 0 when there are none such,
// -1 when there are all to the connection's end. Tell Advance what was moved.
func (b *Body) Direct() int64 {
	switch {
	case b.err != nil || b.r.r < b.r.w:
		return 0
	case b.kind == BodyClose:
		return -1
	case b.kind == BodyLength:
		return b.left
	case b.chunk.state == chData:
		return b.chunk.left
	}
	return 0
}

// Advance tells that n bytes of those that Direct named were moved. With n
// below what Direct said and the connection at its end, call Read to get
// io.ErrUnexpectedEOF.
func (b *Body) Advance(n int64) {
	switch b.kind {
	case BodyLength:
		if b.left -= n; b.left <= 0 {
			b.finish()
		}
	case BodyChunked:
		if b.chunk.left -= n; b.chunk.left <= 0 {
			b.chunk.state = chDataCR
		}
	}
}
