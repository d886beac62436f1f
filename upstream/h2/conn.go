package h2

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is one connection, at either end. One lock guards it with all of its streams; nothing blocks while it is held.
// Two goroutines are its own: one reads frames and never waits for anything else, one writes what is in out.
type conn struct {
	nc     net.Conn
	client bool
	opt    options
	in     source
	fr     *http2.Framer // for reading
	block  block         // header block being read
	server *Server       // whose it is; nil at a client
	wdone  chan struct{} // the writer has ended
	ready  chan struct{} // the peer's SETTINGS are here, or never will be
	done   chan struct{} // all has ended
	timer  *time.Timer
	start  time.Time

	mu       sync.Mutex
	streams  map[uint32]*Stream
	fresh    map[*Stream]struct{} // client: streams without an id yet
	count    int                  // client: streams open, those without an id yet among them
	lastID   uint32               // server: highest of the peer; client: highest of ours
	recent   [recentResets]uint32
	recentAt int
	quiet    bool  // it ended in good order
	err      error // why it ended; nil while it is open
	ending   bool
	dead     bool // nothing more is put into out

	goneAway    bool   // the peer has said GOAWAY
	goAway      bool   // we have
	goAwayFirst bool   // Shutdown came before Serve
	quietEnd    bool   // close when the last stream ends
	settled     bool   // the peer's SETTINGS are here
	acks        int    // SETTINGS of ours that are not acknowledged
	extended    bool   // the peer takes extended CONNECT
	peerMax     uint32 // streams it takes at the same time
	softMax     int    // ... as found out: it refused one beyond that; 0 = none
	peerFrame   int    // bytes of a frame it takes
	peerList    uint32 // bytes of a header list it takes; 0 = no limit
	peerWin     int64  // initial window of streams that we write to

	rwin, unreturned int64 // window of the connection for what we read
	swin             int64 // ... and write
	extra            int64 // bytes by which windows of streams may still grow

	out    []byte    // frames to be written
	ring   []*Stream // those with data to write, in the order of their turn
	wake   sync.Cond // for the writer
	space  sync.Cond // for a place
	spaced []*Stream // whose writers wait for room in out, or for the peer's SETTINGS
	henc   *hpack.Encoder
	hbuf   hbuffer

	lastRead  time.Time // when the last frame came
	writing   time.Time // since when a write has been under way; zero = none is
	pinged    time.Time // when our PING went out; zero = none is
	blockAt   time.Time // since when a header block has been coming; zero = none is
	idleSince time.Time // zero while there are streams
	controls  bucket
	resets    bucket
}

// recentResets is how many streams that we have reset are remembered: the peer may have sent more on them before it knew.
const recentResets = 128

// source reads from the connection and keeps its error apart from those of the Framer.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

func newConn(nc net.Conn, client bool, opt options) *conn {
	opt.defaults(client)
	c := &conn{
		nc: nc, client: client, opt: opt, streams: make(map[uint32]*Stream), fresh: make(map[*Stream]struct{}),
		wdone: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{}), start: time.Now(),
		peerMax: 100, peerFrame: minFrameSize, peerWin: 65535, rwin: 65535, swin: 65535, extra: int64(opt.MaxBuffered),
		controls: newBucket(controlBurst, controlRate), resets: newBucket(resetBurst, resetRate),
	}
	if !client {
		c.peerMax = 0 // nothing is pushed
	}
	c.lastRead, c.idleSince = c.start, c.start
	c.wake.L, c.space.L = &c.mu, &c.mu
	c.in.r = nc
	if len(opt.Early) > 0 {
		c.in.r = io.MultiReader(&early{opt.Early}, nc)
	}
	c.fr = http2.NewFramer(nil, bufio.NewReaderSize(&c.in, 8<<10))
	c.fr.SetMaxReadFrameSize(frameSize)
	c.fr.SetReuseFrames()
	c.block.init(opt.HeaderBytes)
	c.henc = hpack.NewEncoder(&c.hbuf)
	return c
}

// early gives bytes that were read already.
type early struct{ b []byte }

// Read implements io.Reader.
func (e *early) Read(p []byte) (int, error) {
	if len(e.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, e.b)
	e.b = e.b[n:]
	return n, nil
}

// begin sends our SETTINGS and starts the writer.
func (c *conn) begin() {
	c.mu.Lock()
	if c.client {
		c.out = append(c.buffer(), http2.ClientPreface...)
	}
	set := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: uint32(c.opt.Window)},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.opt.HeaderBytes)},
	}
	if c.client {
		set = append(set, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		set = append(set, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.opt.MaxStreams)})
	}
	if c.opt.ExtendedConnect {
		set = append(set, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	c.putSettings(set)
	c.putWindow(0, connWindow-65535)
	c.rwin, c.acks = connWindow, 1
	c.timer = time.AfterFunc(c.period(), c.tick)
	if c.goAwayFirst {
		c.shutdown()
	}
	c.mu.Unlock()
	go c.writeLoop()
}

// run reads until the connection ends, and sees it closed. It returns why it ended; nil for good order.
func (c *conn) run() error {
	err := c.readLoop()
	c.mu.Lock()
	c.end(err)
	if err = c.err; c.quiet {
		err = nil
	}
	c.mu.Unlock()
	<-c.wdone
	c.linger()
	c.nc.Close()
	close(c.done)
	return err
}

// What a connection that we have ended is granted: time to take our last frames, and bytes of its own that are dropped
// meanwhile; closing a socket with something unread in it would be a reset, and take the GOAWAY with it.
const (
	closeTime  = time.Second
	lingerTime = 500 * time.Millisecond
	lingerMost = 1 << 20
)

func (c *conn) linger() {
	if c.in.err != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.nc, lingerMost)
}

// end ends the connection: every stream fails, GOAWAY goes out if it can, and then the connection is closed. Only the
// first call counts. The caller holds mu.
func (c *conn) end(err error) {
	if c.ending {
		return
	}
	ce := new(ConnError)
	code := http2.ErrCodeNo
	var f *fault
	switch {
	case errors.As(err, &f):
		code = f.code
		ce.Code, ce.Reason = f.code, f.reason
		ce.NotHTTP2 = c.client && !c.settled && code != http2.ErrCodeSettingsTimeout
	case errors.As(err, &ce):
	default:
		ce.Err, ce.Remote = err, true
	}
	c.quiet = (err == io.EOF || ce == errDone) && c.count == 0 && len(c.streams) == 0
	c.err = ce
	if !c.settled {
		close(c.ready)
	}
	c.ending = true // forgetting the last stream must not end it again
	for _, s := range c.streams {
		s.fail(ce)
	}
	for s := range c.fresh {
		fresh := *ce
		fresh.Unprocessed = true
		s.fail(&fresh)
	}
	if !c.goAway || code != http2.ErrCodeNo {
		c.putGoAway(code)
	}
	c.goAway, c.dead = true, true
	c.timer.Stop()
	c.nc.SetWriteDeadline(time.Now().Add(closeTime))
	c.wake.Broadcast()
	c.spacious()
}

// errDone is the end of a connection that nobody needs any more.
var errDone = &ConnError{Reason: "closed"}

// close ends the connection at once.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil { // it has not begun
		c.nc.Close()
		return
	}
	c.end(errDone)
}

// spacious wakes those who wait for room or a place. The caller holds mu.
func (c *conn) spacious() {
	for i, s := range c.spaced {
		s.wcond.Broadcast()
		c.spaced[i] = nil
	}
	c.spaced = c.spaced[:0]
	c.space.Broadcast()
}

// settle ends the connection when it has no streams and is to have no more. The caller holds mu.
func (c *conn) settle() {
	if (c.quietEnd || c.goneAway) && c.count == 0 && len(c.streams) == 0 {
		c.end(errDone)
	}
}

// shutdown says GOAWAY and lets open streams come to their end. The caller holds mu.
func (c *conn) shutdown() {
	if !c.goAway && !c.dead {
		c.putGoAway(http2.ErrCodeNo)
		c.goAway = true
	}
	c.quietEnd = true
	c.settle()
}

// wasReset reports whether we have reset that stream not long ago. The caller holds mu.
func (c *conn) wasReset(id uint32) bool {
	for _, r := range c.recent {
		if r == id {
			return true
		}
	}
	return false
}

// period is how often the clock of the connection is looked at.
func (c *conn) period() time.Duration {
	p := min(c.opt.HandshakeTimeout, c.opt.PingInterval, c.opt.PingTimeout, c.opt.WriteTimeout)
	if c.opt.IdleTimeout > 0 {
		p = min(p, c.opt.IdleTimeout)
	}
	return max(p/4, 5*time.Millisecond)
}

// tick looks at everything that may take too long. The connection below has no deadlines while it is open.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	now := time.Now()
	o := &c.opt
	switch {
	case !c.settled && now.Sub(c.start) > o.HandshakeTimeout:
		c.end(&fault{http2.ErrCodeSettingsTimeout, "no preface in time"})
	case !c.blockAt.IsZero() && now.Sub(c.blockAt) > o.HandshakeTimeout:
		c.end(&fault{http2.ErrCodeEnhanceYourCalm, "a header block that does not end"})
	case !c.writing.IsZero() && now.Sub(c.writing) > o.WriteTimeout:
		c.end(&ConnError{Remote: true, Reason: "the peer takes nothing", Err: os.ErrDeadlineExceeded})
	case !c.pinged.IsZero() && now.Sub(c.pinged) > o.PingTimeout:
		c.end(&ConnError{Remote: true, Reason: "the peer does not answer PING", Err: os.ErrDeadlineExceeded})
	case o.IdleTimeout > 0 && !c.idleSince.IsZero() && now.Sub(c.idleSince) > o.IdleTimeout:
		c.shutdown()
	case c.pinged.IsZero() && c.settled && now.Sub(c.lastRead) > o.PingInterval:
		c.pinged = now
		c.putPing(false, pingData)
	}
	if !c.dead {
		c.timer.Reset(c.period())
	}
}

var noTime time.Time

var pingData = [8]byte{'v', 'i', 'a', 'd', 'u', 'c', 't'}
