package forward

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watch bounds the time of an exchange: how long the server may think, and how long a body may stand still. It is one timer
// that is set when the exchange begins and seldom after, not a deadline per read: what ends an exchange that has run out of time, or
// that is cancelled, is that the deadlines of its connections are put into the past. After that nobody sets them.
type watch struct {
	mu             sync.Mutex
	client, server net.Conn
	running        bool
	touched        bool // deadlines have been put into the past
	cause          cut

	timer *time.Timer // kept from exchange to exchange
	at    time.Time   // when it fires; zero: not set

	phase phase
	limit time.Duration // 0 = none
	since time.Time     // beginning of the phase, or the last look that saw bytes move
	moved atomic.Int64  // bytes written to either side
	seen  uint64

	uploading bool
	over      bool // the final response has come
	early     bool // bytes of the client's next request wait here: the end of its stream may be behind them, and means nothing
}

// phase is what the exchange waits for.
type phase uint8

const (
	thinking phase = iota // the server's response: limit counts from since whatever moves
	moving                // bytes of a body: limit counts from the last one
)

// cut is why an exchange was ended.
type cut uint8

const (
	cutNot      cut = iota
	cutResponse     // no response in time
	cutIdle         // no byte of a body for the idle timeout
	cutUpload       // the client's part of the request is broken
	cutLeft         // the client is not there any more
	cutCanceled
)

var longAgo = time.Unix(1, 0)

// begin starts an exchange. It has no limit yet.
func (w *watch) begin(client, server net.Conn) {
	w.mu.Lock()
	w.client, w.server, w.running, w.cause = client, server, true, cutNot
	w.phase, w.limit, w.uploading, w.over, w.touched, w.early = thinking, 0, false, false, false, true
	w.seen = 0
	w.moved.Store(0)
	w.mu.Unlock()
}

// end is the end of the exchange: deadlines of the client's connection are as they were without us.
func (w *watch) end() {
	w.mu.Lock()
	if w.running {
		w.running = false
		if w.touched && w.cause != cutCanceled {
			w.client.SetDeadline(time.Time{})
		}
		w.client, w.server = nil, nil
	}
	w.mu.Unlock()
}

// idle stops the timer, and reports whether it is certain not to run. What ended the exchange is forgotten: the next one may fail before
// it has begun.
func (w *watch) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = cutNot
	if w.at.IsZero() {
		return true
	}
	w.at = time.Time{}
	return w.timer.Stop()
}

// wait begins the wait for a response that may take limit.
func (w *watch) wait(limit time.Duration, early bool) { w.enter(thinking, limit, early, time.Now()) }

func (w *watch) enter(p phase, limit time.Duration, early bool, now time.Time) {
	w.mu.Lock()
	w.early = early
	w.set(p, limit, now)
	w.mu.Unlock()
}

// set begins a phase. The caller holds mu.
func (w *watch) set(p phase, limit time.Duration, now time.Time) {
	w.phase, w.limit, w.since = p, max(limit, 0), now
	w.arm(w.next(lookAfter, limit), now)
}

// A client whose server thinks is looked after when that has taken some time, and then again and again.
const (
	lookAfter = time.Second
	lookAgain = 500 * time.Millisecond
)

// next is how long after a look that saw no reason to end the exchange the next one is due, with left to the limit, if there is one; 0 =
// never. Bodies are looked at four times per limit, so that one that stands still is ended not much later than that. While the server
// thinks the client is looked after, every so often.
func (w *watch) next(often, left time.Duration) time.Duration {
	switch {
	case w.phase == moving:
		return min(left, max(w.limit/4, time.Millisecond))
	case w.limit > 0:
		return min(left, often)
	}
	return often
}

// arm makes check run in d, or before. The caller holds mu.
func (w *watch) arm(d time.Duration, now time.Time) {
	at := now.Add(d)
	if d <= 0 || !w.at.IsZero() && !at.Before(w.at) {
		return
	}
	w.at = at
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.check)
		return
	}
	w.timer.Reset(d)
}

// check ends the exchange if its time is over, and else comes back when it might be.
func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = time.Time{}
	if !w.running || w.cause != cutNot || w.phase == moving && w.limit <= 0 {
		return
	}
	now := time.Now()
	if w.phase == moving {
		// What the kernel has delivered counts, too: one write to a slow reader may take longer than the limit.
		if total := uint64(w.moved.Load()) + delivered(w.client) + delivered(w.server); total != w.seen {
			w.seen, w.since = total, now
		}
	}
	left := w.limit - now.Sub(w.since)
	switch {
	case w.phase == moving && left <= 0:
		w.cutNow(cutIdle)
	case w.phase == thinking && w.limit > 0 && left <= 0:
		w.cutNow(cutResponse)
	case w.phase == thinking && Gone(w.client, w.early):
		w.cutNow(cutLeft)
	default:
		w.arm(w.next(lookAgain, left), now)
	}
}

// cut ends the exchange.
func (w *watch) cut(why cut) {
	w.mu.Lock()
	w.cutNow(why)
	w.mu.Unlock()
}

func (w *watch) cutNow(why cut) {
	if !w.running || w.cause != cutNot && why != cutCanceled {
		return
	}
	w.cause, w.touched = why, true
	w.server.SetDeadline(longAgo)
	if why != cutResponse { // then the client has nothing to do with it
		w.client.SetDeadline(longAgo)
	}
}

// why returns what ended the exchange, if anything did.
func (w *watch) why() cut {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// clean reports whether the server's connection has no deadline of ours on it.
func (w *watch) clean() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.touched
}

// serverReadBy sets the read deadline of the server's connection, unless the exchange has been ended.
func (w *watch) serverReadBy(t time.Time) {
	w.mu.Lock()
	if w.cause == cutNot {
		w.server.SetReadDeadline(t)
	}
	w.mu.Unlock()
}

// upload begins an upload that runs beside the waiting. The deadline that the request head had is none for its body.
func (w *watch) upload(limit time.Duration) {
	w.mu.Lock()
	if w.cause == cutNot {
		w.client.SetReadDeadline(time.Time{})
		w.uploading = true
		w.set(moving, limit, time.Now())
	}
	w.mu.Unlock()
}

// uploaded is the end of the upload: the server has the time for a response from now on, if it did not answer before.
func (w *watch) uploaded(limit time.Duration, early bool) {
	w.mu.Lock()
	if w.uploading = false; !w.over {
		w.early = early
		w.set(thinking, limit, time.Now())
	}
	w.mu.Unlock()
}

// answered is the arrival of the final response head: what follows is a body.
func (w *watch) answered(limit time.Duration, now time.Time) {
	w.mu.Lock()
	w.over = true
	w.set(moving, limit, now)
	w.mu.Unlock()
}

// stopUpload makes the upload end, without ending the exchange.
func (w *watch) stopUpload() {
	w.mu.Lock()
	if w.cause == cutNot {
		w.client.SetReadDeadline(longAgo)
		w.server.SetWriteDeadline(longAgo)
		w.touched = true
	}
	w.mu.Unlock()
}

// release takes every deadline off both connections, for a tunnel. It reports false if the exchange has been ended.
func (w *watch) release() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause != cutNot {
		return false
	}
	w.client.SetDeadline(time.Time{})
	w.server.SetDeadline(time.Time{})
	w.limit, w.touched = 0, false
	return true
}

// Canceler ends exchanges from another goroutine: one that is under way, and every later one. The zero value is ready; it is for
// one client connection, which has one exchange at a time.
type Canceler struct {
	mu   sync.Mutex
	line *watch
	done bool
}

// Cancel ends the exchange at once. Carry then returns an error of kind canceled.
func (c *Canceler) Cancel() {
	c.mu.Lock()
	c.done = true
	if c.line != nil {
		c.line.cut(cutCanceled)
	}
	c.mu.Unlock()
}

func (c *Canceler) enter(w *watch) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.line = w
	}
	return !c.done
}

func (c *Canceler) leave() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.line = nil
	c.mu.Unlock()
}
