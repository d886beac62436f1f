package resolve

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Bounds of connections to one server.
const (
	maxStreams    = 4                // at once
	maxPipelined  = 100              // queries under way on one, before another is opened
	streamIdle    = 10 * time.Second // without a query: closed (RFC 7766, section 6.2.3)
	streamStall   = 10 * time.Second // without a message while answers are owed: given up
	maxUnasked    = 100              // messages that answer nothing
	streamConnect = 10 * time.Second // TCP and TLS
)

// streams are the connections to a server over TCP or TLS. Queries are pipelined on them (RFC 7766, section 6.2.1.1), and answered in any
// order.
type streams struct {
	s   *server
	tls *tls.Config // nil = TCP

	mu   sync.Mutex
	open []*stream
}

// stream is one connection.
type stream struct {
	all    *streams
	ready  chan struct{} // closed when conn or err is set
	giveUp context.CancelFunc
	conn   net.Conn

	mu      sync.Mutex
	waiting map[uint16]chan []byte
	owed    time.Time // since when an answer is owed, or since the last message while others are; zero = none is
	err     error
	used    bool // it has carried an answer
	ended   chan struct{}

	writing sync.Mutex
}

// ask asks on one of the connections. If that is an old one that turns out to be dead the query goes on a new one.
func (x *streams) ask(ctx context.Context, q *question) (reply, error) {
	for again := false; ; again = true {
		t := x.get(again)
		msg, err := t.exchange(ctx, q, x.tls != nil)
		if err != nil && !again && t.wasUsed() && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return reply{}, because(ctx, err)
		}
		r, err := parseReply(msg, q)
		if err == nil && r.truncated { // on a stream that means nothing
			err = errGarbage
		}
		return r, err
	}
}

// get returns a connection, which may still be in the making.
func (x *streams) get(fresh bool) *stream {
	x.mu.Lock()
	defer x.mu.Unlock()
	var best *stream
	least := 0
	for _, t := range x.open {
		if n := t.load(); best == nil || n < least {
			best, least = t, n
		}
	}
	if best != nil && (!fresh && least < maxPipelined || len(x.open) >= maxStreams) {
		return best
	}
	t := &stream{all: x, ready: make(chan struct{}), ended: make(chan struct{}), waiting: make(map[uint16]chan []byte)}
	ctx, cancel := context.WithTimeout(context.Background(), streamConnect)
	t.giveUp = cancel
	x.open = append(x.open, t)
	go t.run(ctx)
	return t
}

func (x *streams) close() {
	x.mu.Lock()
	open := x.open
	x.open = nil
	x.mu.Unlock()
	for _, t := range open {
		t.end(net.ErrClosed)
	}
}

func (x *streams) drop(t *stream) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, o := range x.open {
		if o == t {
			x.open = append(x.open[:i:i], x.open[i+1:]...)
			return
		}
	}
}

func (t *stream) load() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

func (t *stream) wasUsed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// run connects, and reads answers until the connection ends.
func (t *stream) run(ctx context.Context) {
	conn, err := t.connect(ctx)
	t.giveUp()
	if err != nil {
		t.end(err) // before anybody takes it for ready
		close(t.ready)
		return
	}
	t.mu.Lock()
	if t.err != nil { // closed meanwhile
		t.mu.Unlock()
		conn.Close()
		close(t.ready)
		return
	}
	t.conn = conn
	t.rest()
	t.mu.Unlock()
	close(t.ready)
	t.end(t.read())
}

func (t *stream) connect(ctx context.Context) (net.Conn, error) {
	s := t.all.s
	conn, err := s.c.ways().Stream(ctx, s.via, s.spec.Host, s.spec.Port)
	if err != nil || t.all.tls == nil {
		return conn, err
	}
	c := tls.Client(conn, t.all.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// rest sets until when the connection may be silent. The lock is held. A query that nobody waits for any more is owed its answer all the same, and
// those that come later give it no more time: else a connection whose way is gone would be kept for as long as somebody asks.
func (t *stream) rest() {
	until := time.Now().Add(streamIdle)
	if !t.owed.IsZero() {
		until = t.owed.Add(streamStall)
	}
	t.conn.SetReadDeadline(until)
}

func (t *stream) read() error {
	var size [2]byte
	unasked := 0
	for {
		if _, err := io.ReadFull(t.conn, size[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint16(size[:])
		if n < 12 {
			return errGarbage
		}
		msg := make([]byte, n)
		if _, err := io.ReadFull(t.conn, msg); err != nil {
			return err
		}
		id := binary.BigEndian.Uint16(msg)
		t.mu.Lock()
		to := t.waiting[id]
		delete(t.waiting, id)
		if to != nil {
			t.used = true
		}
		if t.owed = (time.Time{}); len(t.waiting) > 0 {
			t.owed = time.Now()
		}
		t.rest()
		t.mu.Unlock()
		if to != nil {
			to <- msg // there is room for one
		} else if unasked++; unasked > maxUnasked {
			return errForeign
		}
	}
}

// end fails what waits, and closes the connection.
func (t *stream) end(err error) {
	t.all.drop(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	t.err = err
	t.giveUp()
	close(t.ended)
	if t.conn != nil {
		t.conn.Close()
	}
}

// exchange sends a query under an id of this connection, and waits for the answer.
func (t *stream) exchange(ctx context.Context, q *question, padded bool) ([]byte, error) {
	select {
	case <-t.ready:
	case <-t.ended:
		return nil, t.why()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	to := make(chan []byte, 1)
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return nil, t.why()
	}
	if len(t.waiting) >= 1<<15 {
		t.mu.Unlock()
		return nil, errors.New("too many queries are under way on one connection")
	}
	for t.waiting[q.id] != nil {
		q.id = uint16(rand.Uint32())
	}
	t.waiting[q.id] = to
	if t.owed.IsZero() {
		t.owed = time.Now()
	}
	t.rest()
	t.mu.Unlock()
	defer t.leave(q.id, to)

	msg, err := q.append(make([]byte, 2, 512), padded)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	t.writing.Lock()
	t.conn.SetWriteDeadline(time.Now().Add(streamStall))
	_, err = t.conn.Write(msg)
	t.writing.Unlock()
	if err != nil {
		t.end(err)
		return nil, err
	}
	select {
	case msg := <-to:
		return msg, nil
	case <-t.ended:
		select { // it may have come just before the end
		case msg := <-to:
			return msg, nil
		default:
			return nil, t.why()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave forgets a query that nobody waits for.
func (t *stream) leave(id uint16, to chan []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[id] == to {
		delete(t.waiting, id)
	}
}

func (t *stream) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
