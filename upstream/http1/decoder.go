package http1

// Decoder takes a body out of bytes that somebody pushes, where a Reader would
// pull them: for a connection that is written HTTP/1.1 and carries something
// else.
type Decoder struct {
	kind  Kind
	left  int64
	chunk chunked
	lim   Limits
	done  bool
}

// NewDecoder begins the body of a message with that framing.
func NewDecoder(f Framing, lim Limits) Decoder {
	return Decoder{kind: f.Kind, left: f.Length, lim: lim.withDefaults(), done: !f.HasBody()}
}

// Done reports whether the body came to its proper end. One that lasts to the end
// of the connection (BodyClose) never does.
func (d *Decoder) Done() bool { return d.done }

// Trailer is the trailer section of a chunked body, after its end.
func (d *Decoder) Trailer() Header { return d.chunk.trailer }

// Step looks at the bytes that come next and returns how many of them it took,
// and whether they are content. 0 without an error means that more bytes are
// needed than buf has, which must be given again with them in front: a trailer
// section is taken as a whole; or that the body is done. Errors are of type
// *Error.
func (d *Decoder) Step(buf []byte) (n int, content bool, err error) {
	if d.done || len(buf) == 0 {
		return 0, false, nil
	}
	switch d.kind {
	case BodyClose:
		return len(buf), true, nil
	case BodyLength:
		n = int(min(int64(len(buf)), d.left))
		d.left -= int64(n)
		d.done = d.left == 0
		return n, true, nil
	}
	n, content, e := d.chunk.step(buf, d.lim)
	d.done = d.chunk.state == chDone
	if e != nil {
		return n, false, e
	}
	return n, content, nil
}
