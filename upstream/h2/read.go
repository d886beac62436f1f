package h2

import (
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readLoop reads frames until something ends the connection. It waits for nothing but them.
func (c *conn) readLoop() error {
	if err := c.readPreface(); err != nil {
		return err
	}
	for {
		var f http2.Frame
		fh, err := c.fr.ReadFrameHeader()
		if err == nil {
			f, err = c.fr.ReadFrameForHeader(fh)
		}
		c.mu.Lock()
		if c.dead {
			c.mu.Unlock()
			return c.err
		}
		c.lastRead = time.Now()
		c.pinged = time.Time{} // whatever it is, the peer is there
		if err != nil {
			err = c.readError(fh.Type, err)
		} else {
			err = c.take(f)
		}
		if err == nil && c.full() {
			err = &fault{http2.ErrCodeEnhanceYourCalm, "the peer takes less than it asks for"}
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// readPreface reads what a client begins with (RFC 9113 3.4), byte by byte as long as it is right.
func (c *conn) readPreface() error {
	if c.client {
		return nil
	}
	var b [len(http2.ClientPreface)]byte
	for n := 0; n < len(b); {
		m, err := c.in.Read(b[n:])
		n += m
		if string(b[:n]) != http2.ClientPreface[:n] {
			return &fault{http2.ErrCodeProtocol, errNoPreface.Error()}
		}
		if err != nil {
			if err == io.EOF && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// readError makes something of what the Framer says. A StreamError is of that stream alone. The caller holds mu.
func (c *conn) readError(t http2.FrameType, err error) error {
	if c.in.err != nil {
		return err
	}
	var se http2.StreamError
	var ce http2.ConnectionError
	switch {
	case errors.As(err, &se):
		if t == http2.FrameHeaders || t == http2.FrameContinuation || c.idle(se.StreamID) {
			return &fault{http2.ErrCodeProtocol, "malformed frame"} // for HEADERS: its fields are lost, and the table with them
		}
		if s := c.streams[se.StreamID]; s != nil {
			return c.reset(s, se.Code, "malformed frame")
		}
		return c.control(1)
	case errors.As(err, &ce):
		return &fault{http2.ErrCode(ce), "malformed frame"}
	case errors.Is(err, http2.ErrFrameTooLarge):
		return &fault{http2.ErrCodeFrameSize, "a frame larger than allowed"}
	}
	return &fault{http2.ErrCodeFrameSize, "malformed frame"}
}

// idle reports whether no stream of that id has been opened yet (RFC 9113 5.1). The caller holds mu, as in all that
// follows.
func (c *conn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID && !(c.goAway && !c.client) }

// take takes one frame.
func (c *conn) take(f http2.Frame) error {
	if _, ok := f.(*http2.SettingsFrame); !ok && !c.settled {
		return &fault{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.data(f)
	case *http2.HeadersFrame:
		c.block.begin(f.StreamID, f.StreamEnded())
		c.blockAt = c.lastRead
		return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			return c.control(1)
		}
		c.putPing(true, f.Data)
		return c.control(1)
	case *http2.WindowUpdateFrame:
		return c.window(f)
	case *http2.RSTStreamFrame:
		return c.peerReset(f)
	case *http2.GoAwayFrame:
		return c.peerGoAway(f)
	case *http2.PushPromiseFrame:
		return &fault{http2.ErrCodeProtocol, "PUSH_PROMISE"} // RFC 9113 8.4: nobody may here
	}
	return c.control(1) // PRIORITY, and what we do not know (RFC 9113 5.5)
}

func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if !c.settled {
			return &fault{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
		}
		if c.acks--; c.acks < 0 {
			return &fault{http2.ErrCodeProtocol, "SETTINGS acknowledged that were not sent"}
		}
		return nil
	}
	if f.NumSettings() > 64 {
		return &fault{http2.ErrCodeEnhanceYourCalm, "too many settings"}
	}
	for i := range f.NumSettings() {
		if err := c.setting(f.Setting(i)); err != nil {
			return err
		}
	}
	c.putSettingsAck()
	first := !c.settled
	c.settled = true
	c.spacious()
	if first {
		close(c.ready)
		return nil
	}
	return c.control(4)
}

func (c *conn) setting(s http2.Setting) error {
	if s.Valid() != nil {
		code := http2.ErrCodeProtocol
		if s.ID == http2.SettingInitialWindowSize {
			code = http2.ErrCodeFlowControl
		}
		return &fault{code, "a setting out of range"}
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.henc.SetMaxDynamicTableSize(min(s.Val, 4096))
	case http2.SettingEnablePush:
		if c.client && s.Val == 1 {
			return &fault{http2.ErrCodeProtocol, "a server that asks for pushes"} // RFC 9113 6.5.2
		}
	case http2.SettingMaxConcurrentStreams:
		c.peerMax = s.Val
	case http2.SettingInitialWindowSize:
		diff := int64(s.Val) - c.peerWin
		c.peerWin = int64(s.Val)
		for _, st := range c.streams { // RFC 9113 6.9.2: it may become negative
			if st.swin += diff; st.swin > 1<<31-1 {
				return &fault{http2.ErrCodeFlowControl, "window out of range"}
			}
			c.enqueue(st)
		}
		c.pump()
	case http2.SettingMaxFrameSize:
		c.peerFrame = int(s.Val)
	case http2.SettingMaxHeaderListSize:
		c.peerList = s.Val
	case http2.SettingEnableConnectProtocol:
		if c.extended && s.Val == 0 {
			return &fault{http2.ErrCodeProtocol, "extended CONNECT taken back"} // RFC 8441 3
		}
		c.extended = s.Val == 1
	}
	return nil
}

func (c *conn) window(f *http2.WindowUpdateFrame) error {
	if err := c.control(1); err != nil {
		return err
	}
	if f.StreamID == 0 {
		if c.swin += int64(f.Increment); c.swin > 1<<31-1 {
			return &fault{http2.ErrCodeFlowControl, "window out of range"}
		}
		c.pump()
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if c.idle(f.StreamID) {
			return &fault{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
		}
		return nil
	}
	if s.swin += int64(f.Increment); s.swin > 1<<31-1 {
		return c.reset(s, http2.ErrCodeFlowControl, "window out of range")
	}
	c.enqueue(s)
	c.pump()
	return nil
}

func (c *conn) peerReset(f *http2.RSTStreamFrame) error {
	s := c.streams[f.StreamID]
	if s == nil {
		if c.idle(f.StreamID) {
			return &fault{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
		}
		return c.control(1)
	}
	if c.client && f.ErrCode == http2.ErrCodeRefusedStream {
		c.softMax = max(c.count-1, 1)
	}
	s.fail(&StreamError{Code: f.ErrCode, Remote: true, Unprocessed: f.ErrCode == http2.ErrCodeRefusedStream})
	return c.early()
}

// reset resets a stream because of what the peer did.
func (c *conn) reset(s *Stream, code http2.ErrCode, reason string) error {
	c.putReset(s.id, code)
	s.fail(&StreamError{Code: code, Reason: reason})
	return c.early()
}

func (c *conn) peerGoAway(f *http2.GoAwayFrame) error {
	if err := c.control(4); err != nil {
		return err
	}
	c.goneAway = true
	e := &ConnError{Code: f.ErrCode, Remote: true, Unprocessed: true}
	if c.client {
		for id, s := range c.streams {
			if id > f.LastStreamID {
				s.fail(e)
			}
		}
	}
	if f.ErrCode != http2.ErrCodeNo {
		return &ConnError{Code: f.ErrCode, Remote: true}
	}
	c.spacious()
	c.settle()
	return nil
}

func (c *conn) data(f *http2.DataFrame) error {
	n := int64(f.Length) // padding counts, RFC 9113 6.9.1
	if n > c.rwin {
		return &fault{http2.ErrCodeFlowControl, "more data than the window of the connection"}
	}
	c.rwin -= n
	if c.unreturned += n; c.unreturned >= connWindow/2 { // at once: what is not read costs its stream's window alone
		c.putWindow(0, c.unreturned)
		c.rwin += c.unreturned
		c.unreturned = 0
	}
	data := f.Data()
	switch {
	case len(data) >= 1<<10:
		c.controls.earn(1)
	case len(data) == 0 && !f.StreamEnded():
		if err := c.control(1); err != nil {
			return err
		}
	}
	s := c.streams[f.StreamID]
	if s == nil || s.remoteEnd {
		switch {
		case c.idle(f.StreamID):
			return &fault{http2.ErrCodeProtocol, "DATA on an idle stream"}
		case s != nil:
			return c.reset(s, http2.ErrCodeStreamClosed, "DATA behind the end")
		case c.wasReset(f.StreamID), f.StreamID > c.lastID: // behind our GOAWAY
			return nil
		}
		c.putReset(f.StreamID, http2.ErrCodeStreamClosed)
		return c.early()
	}
	if n > s.rwin {
		return c.reset(s, http2.ErrCodeFlowControl, "more data than the window of the stream")
	}
	s.rwin -= n
	s.unread += n - int64(len(data))
	if reason := s.in.account(len(data), f.StreamEnded()); reason != "" {
		return c.reset(s, http2.ErrCodeProtocol, reason)
	}
	if !s.in.none {
		s.buf.put(data)
	}
	if f.StreamEnded() {
		s.remoteEnded()
	}
	if int64(len(data)) < n {
		s.consumed(0) // padding is read here: nobody else gives its window back
	}
	s.rcond.Broadcast()
	return nil
}

// fragment takes a piece of a header block.
func (c *conn) fragment(p []byte, end bool) error {
	if err := c.block.add(p); err != nil {
		return err
	}
	if !end {
		if len(p) == 0 {
			return c.control(10)
		}
		return nil
	}
	c.blockAt = time.Time{}
	if err := c.block.finish(); err != nil {
		return err
	}
	err := c.headers(c.block.id, c.block.fields, c.block.ended, c.block.large)
	c.block.clear()
	return err
}

// headers takes a header list that is complete.
func (c *conn) headers(id uint32, fields []hpack.HeaderField, end, large bool) error {
	if s := c.streams[id]; s != nil {
		switch {
		case s.remoteEnd:
			return c.reset(s, http2.ErrCodeStreamClosed, "HEADERS behind the end")
		case large:
			return c.reset(s, http2.ErrCodeEnhanceYourCalm, "header list too large")
		}
		return s.header(fields, end)
	}
	switch {
	case c.client && c.idle(id), id%2 == 0:
		return &fault{http2.ErrCodeProtocol, "HEADERS on an idle stream"}
	case id <= c.lastID:
		if c.wasReset(id) {
			return c.control(1)
		}
		return &fault{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	case c.goAway:
		return c.control(1) // RFC 9113 6.8: not looked at, and the peer knows
	}
	c.lastID = id
	c.controls.earn(2)
	return c.request(id, fields, end, large)
}
