package h2

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/net/http2/hpack"

	"viaduct/upstream/http1"
)

// outState is where the HTTP/1.1 that is written to a stream has come to.
type outState uint8

const (
	outHead   outState = iota // the head of the message, or of another after a 1xx
	outBody                   // its content
	outClose                  // its content, to the end of the stream
	outTunnel                 // bytes as they are
	outDone                   // the message is complete
)

// outgoing makes frames of the HTTP/1.1 that is written to a stream. It belongs to the Write that runs.
type outgoing struct {
	state outState
	text  []byte // of a head or trailer section that is not complete
	body  http1.Decoder
	err   error // sticky: the text is no HTTP, or was cut off within a piece
	heads int   // responses so far
}

// maxText bounds a head that is being written; ours are smaller.
const maxText = 128 << 10

var errText = errors.New("h2: the head that was written is too large")

// Write takes HTTP/1.1, or the tunnel's bytes, in pieces of any size. It returns when the connection has taken them, which
// the peer's windows may delay. What is no HTTP/1.1 as package http1 reads it is refused, and resets the stream.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.to.err != nil {
		return 0, s.to.err
	}
	if len(p) == 0 {
		return 0, s.check()
	}
	for n < len(p) {
		m, err := s.write(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// check is an empty Write.
func (s *Stream) check() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.to.state == outDone && s.err == nil && !s.closed {
		return nil
	}
	return s.writable()
}

// write takes the beginning of p.
func (s *Stream) write(p []byte) (int, error) {
	t := &s.to
	switch t.state {
	case outTunnel, outClose:
		return s.sendData(p, false)
	case outDone:
		if err := s.check(); err != nil {
			return 0, err
		}
		return 0, errSurplus
	case outBody:
		return s.writeBody(p)
	}
	before := len(t.text)
	if before+len(p) > maxText {
		p = p[:maxText-before]
	}
	t.text = append(t.text, p...)
	if bytes.IndexByte(p, '\n') < 0 && len(t.text) < maxText {
		return len(p), s.check()
	}
	n, err := s.writeHead(t.text)
	switch {
	case errors.Is(err, http1.ErrIncomplete) && len(t.text) < maxText:
		return len(p), s.check()
	case errors.Is(err, http1.ErrIncomplete):
		err = errText
	}
	t.text = nil
	if err != nil {
		s.broken(err)
		return 0, err
	}
	return max(n-before, 0), nil
}

// broken is the end of a stream that something was written to that cannot be sent, or was sent in part.
func (s *Stream) broken(err error) {
	s.to.err = err
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.open() {
		s.abort()
		s.fail(err)
	}
}

// writeBody takes the beginning of p as content. An end that can be seen goes out with the last of it.
func (s *Stream) writeBody(p []byte) (int, error) {
	t := &s.to
	if len(t.text) > 0 { // of a trailer section, whose beginning is there
		return s.writeTrailer(p)
	}
	n, content, err := t.body.Step(p)
	if err != nil {
		s.broken(err)
		return 0, err
	}
	switch {
	case content:
		done := t.body.Done()
		m, err := s.sendData(p[:n], done)
		if err != nil {
			if m > 0 || m < n {
				t.err = err // the decoder is ahead of what was sent
			}
			return m, err
		}
		if done {
			t.state = outDone
		}
		return n, nil
	case t.body.Done():
		return n, s.endBody()
	case n == 0:
		return s.writeTrailer(p)
	}
	return n, nil
}

// writeTrailer takes a trailer section, which is looked at as a whole.
func (s *Stream) writeTrailer(p []byte) (int, error) {
	t := &s.to
	before := len(t.text)
	if before+len(p) > maxText {
		s.broken(errText)
		return 0, errText
	}
	t.text = append(t.text, p...)
	n, _, err := t.body.Step(t.text)
	if err != nil {
		s.broken(err)
		return 0, err
	}
	if !t.body.Done() {
		return len(p), s.check()
	}
	t.text = nil
	return max(n-before, 0), s.endBody()
}

// endBody ends a chunked body: with its trailers, if it has some.
func (s *Stream) endBody() error {
	t := &s.to
	t.state = outDone
	var fields []hpack.HeaderField
	for _, f := range t.body.Trailer() {
		fields = append(fields, hpack.HeaderField{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	if len(fields) == 0 {
		_, err := s.sendData(nil, true)
		return err
	}
	return s.sendHeaders(fields, true, nil)
}

// sendHeaders sends a header list when there is room for it. first, which may be nil, is called before, with the lock held,
// and may refuse.
func (s *Stream) sendHeaders(fields []hpack.HeaderField, end bool, first func() error) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := s.writable(); err != nil {
			return err
		}
		if len(c.out) < outHeads {
			break
		}
		if err := s.waitSpace(); err != nil {
			return err
		}
	}
	if size := listSize(fields); c.peerList > 0 && size > uint64(c.peerList) {
		return &http1.Error{Status: 431, Reason: "header list larger than the peer takes", Section: "RFC 9113 6.5.2"}
	}
	if first != nil {
		if err := first(); err != nil {
			return err
		}
	}
	c.putHeaders(s.id, fields, end)
	if end {
		s.localEnded()
	}
	return nil
}

// waitSpace waits until something happens that others wait for, too, or until the stream's own end or deadline.
func (s *Stream) waitSpace() error {
	s.c.spaced = append(s.c.spaced, s)
	s.wcond.Wait()
	return s.writable()
}

func listSize(fields []hpack.HeaderField) (n uint64) {
	for _, f := range fields {
		n += uint64(f.Size())
	}
	return n
}

// appendFields adds the fields of h as HTTP/2 has them: names in small letters, none of those that are for one connection (RFC
// 9113 8.2.2).
func appendFields(fields []hpack.HeaderField, h http1.Header) []hpack.HeaderField {
	for _, f := range h {
		name := strings.ToLower(f.Name)
		switch {
		case connectionSpecific(name) || name == "host" || name == "content-length":
			continue
		case name == "te":
			if !h.HasToken("TE", "trailers") {
				continue
			}
			f.Value = "trailers"
			if hasField(fields, "te") {
				continue
			}
		case h.HasToken("Connection", name) && !endToEnd(name):
			continue
		}
		fields = append(fields, hpack.HeaderField{Name: name, Value: f.Value, Sensitive: secret(name)})
	}
	return fields
}

func hasField(fields []hpack.HeaderField, name string) bool {
	for i := range fields {
		if fields[i].Name == name {
			return true
		}
	}
	return false
}

// secret names the fields that are kept out of the compression table: on a connection that several clients share its size
// would tell one about another (RFC 7541 7.1.3).
func secret(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return false
}

// endToEnd names fields that Connection cannot take away, as in http1.
func endToEnd(name string) bool {
	h := http1.Header{{Name: "Connection", Value: name}, {Name: name, Value: ""}}
	h.StripHopByHop()
	return len(h) > 0
}
