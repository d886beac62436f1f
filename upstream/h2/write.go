package h2

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Bounds of what waits to be written. Data stops at outData, so that what is small has not to wait for much; heads at outHeads, which
// leaves them room however much data there is; frames that answer the peer's may go beyond it, and at outMost the peer takes
// nothing and asks for more.
const (
	outData  = 64 << 10
	outHeads = 128 << 10
	outMost  = 384 << 10
)

var outPool = sync.Pool{New: func() any { b := make([]byte, 0, outData+frameSize+1024); return &b }}

// buffer is out, made ready to be appended to. The caller holds mu, as in all of this file.
func (c *conn) buffer() []byte {
	if c.out == nil {
		c.out = (*outPool.Get().(*[]byte))[:0]
	}
	return c.out
}

func putOut(b []byte) {
	if cap(b) <= 2*outData {
		outPool.Put(&b)
	}
}

// writeLoop writes what is in out until the connection ends.
func (c *conn) writeLoop() {
	defer close(c.wdone)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.out) == 0 && !c.dead {
			c.wake.Wait()
		}
		b := c.out
		if len(b) == 0 {
			break
		}
		c.out = nil
		c.writing = time.Now()
		c.pump()
		c.spacious()
		c.mu.Unlock()
		_, err := c.nc.Write(b)
		putOut(b)
		c.mu.Lock()
		c.writing = time.Time{}
		if err != nil {
			c.end(err)
			c.out = nil
			c.mu.Unlock()
			c.nc.Close() // the reader has nothing to wait for
			c.mu.Lock()
			return
		}
	}
	c.mu.Unlock()
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	c.mu.Lock()
}

// frame appends a frame whose payload is p.
func (c *conn) frame(t http2.FrameType, flags http2.Flags, id uint32, p []byte) {
	if c.dead {
		return
	}
	n := len(p)
	b := append(c.buffer(), byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	c.out = append(b, p...)
	c.wake.Signal()
}

// full reports whether the peer makes us say more than it takes.
func (c *conn) full() bool { return len(c.out) > outMost }

func (c *conn) putSettings(set []http2.Setting) {
	p := make([]byte, 0, 6*len(set))
	for _, s := range set {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	c.frame(http2.FrameSettings, 0, 0, p)
}

func (c *conn) putSettingsAck() { c.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil) }

func (c *conn) putPing(ack bool, data [8]byte) {
	var f http2.Flags
	if ack {
		f = http2.FlagPingAck
	}
	c.frame(http2.FramePing, f, 0, data[:])
}

func (c *conn) putWindow(id uint32, n int64) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(n))
	c.frame(http2.FrameWindowUpdate, 0, id, p[:])
}

func (c *conn) putReset(id uint32, code http2.ErrCode) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(code))
	c.frame(http2.FrameRSTStream, 0, id, p[:])
	c.recent[c.recentAt] = id
	c.recentAt = (c.recentAt + 1) % len(c.recent)
}

func (c *conn) putGoAway(code http2.ErrCode) {
	last := c.lastID
	if c.client {
		last = 0 // nothing is pushed
	}
	var p [8]byte
	binary.BigEndian.PutUint32(p[:4], last)
	binary.BigEndian.PutUint32(p[4:], uint32(code))
	c.frame(http2.FrameGoAway, 0, 0, p[:])
}

// hbuffer is what the HPACK encoder writes to.
type hbuffer struct{ b []byte }

// Write implements io.Writer.
func (h *hbuffer) Write(p []byte) (int, error) {
	h.b = append(h.b, p...)
	return len(p), nil
}

// putHeaders encodes a header list and appends it, in as many frames as it takes. The order of encoding must be that on the
// wire, so both happen here.
func (c *conn) putHeaders(id uint32, fields []hpack.HeaderField, end bool) {
	if c.dead {
		return
	}
	c.hbuf.b = c.hbuf.b[:0]
	for _, f := range fields {
		c.henc.WriteField(f)
	}
	b := c.hbuf.b
	t := http2.FrameHeaders
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(b), minFrameSize)
		if n == len(b) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.frame(t, flags, id, b[:n])
		if b = b[n:]; len(b) == 0 {
			break
		}
		t, flags = http2.FrameContinuation, 0
	}
	if cap(c.hbuf.b) > 16<<10 {
		c.hbuf.b = nil
	}
}

// putData appends a DATA frame and takes it off both windows.
func (c *conn) putData(s *Stream, p []byte, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	c.frame(http2.FrameData, flags, s.id, p)
	s.swin -= int64(len(p))
	c.swin -= int64(len(p))
	c.controls.earn(2) // the peer will give the windows back
	if end {
		s.localEnded()
	}
}

// pump appends data of the streams that have some, a frame of each in turn, while there is room.
func (c *conn) pump() {
	for len(c.ring) > 0 && len(c.out) < outData && c.swin > 0 && !c.dead {
		s := c.ring[0]
		c.ring[0] = nil
		c.ring = c.ring[1:]
		n := min(int64(len(s.pending)), s.swin, c.swin, int64(min(c.peerFrame, frameSize)))
		if n <= 0 || s.err != nil || s.closed { // taken back, or to wait for its window
			s.queued = false
			continue
		}
		last := n == int64(len(s.pending))
		c.putData(s, s.pending[:n], last && s.pendingEnd)
		if s.pending = s.pending[n:]; !last {
			c.ring = append(c.ring, s)
			continue
		}
		s.queued = false
		s.wcond.Broadcast()
	}
	if len(c.ring) == 0 {
		c.ring = nil
	}
}

// enqueue gives s its turn, if it has something to write and a window for it.
func (c *conn) enqueue(s *Stream) {
	if !s.queued && len(s.pending) > 0 && s.swin > 0 {
		s.queued = true
		c.ring = append(c.ring, s)
	}
}
