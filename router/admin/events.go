package admin

import (
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// The types of events.
const (
	EventOpened   = "connection_opened" // a flow is decided; data is its record so far
	EventClosed   = "connection_closed" // data is its record
	EventReload   = "reload"            // data is a ReloadResult
	EventUpstream = "upstream"          // data is an UpstreamEvent
	EventDrain    = "drain"             // data is a DrainResult
	EventLagged   = "lagged"            // data says how many events this reader did not get
)

var eventTypes = []string{EventOpened, EventClosed, EventReload, EventUpstream, EventDrain}

// UpstreamEvent is a change of an upstream, or of a member of a pool.
type UpstreamEvent struct {
	Pool  string `json:"pool,omitempty"` // "pool.corp"; "" = the upstream by itself
	Route string `json:"route"`          // "upstream.corp_a"
	State string `json:"state"`          // healthy, ejected, half_open, down, drained, undrained
	Why   string `json:"why,omitempty"`
}

// Bounds of Events.
const (
	maxSubscribers = 32
	maxRing        = 1024        // events that are kept for those who come back
	maxRingBytes   = 4 << 20     //
	maxQueue       = 1024        // events that wait for one reader
	maxQueueBytes  = 1 << 20     //
	maxInbox       = 4096        // flows that wait to be told
	afterLast      = time.Minute // flows are told to the ring for so long after the last reader has left
)

// Events is what happens, told to whoever listens. While nobody does, a flow costs one atomic load; a reader that is slow loses events, and is
// told how many: nobody waits for it. Its methods may be called from any goroutine.
type Events struct {
	awake atomic.Bool // somebody listens, or did a moment ago
	inbox chan told
	lost  atomic.Uint64 // flows for which the inbox had no room

	mu     sync.Mutex
	seq    uint64 // of the last event
	first  uint64 // what was before is of another process
	gap    uint64 // events up to this one have flows between them that were not told
	ring   []*event
	bytes  int // in ring
	subs   []*subscriber
	closed bool
	sleep  *time.Timer
	stop   chan struct{} // ends the one who takes from the inbox; nil = there is none
	ended  chan struct{} // that one has ended
}

// told is a flow on its way to the readers.
type told struct {
	opened bool
	flow   *connmodel.Flow
}

// event is one event, as it is written. It is shared and not changed.
type event struct {
	seq  uint64
	kind string
	data []byte          // one line of JSON
	flow *connmodel.Flow // of the events of connections
}

// size is what an event counts for in a bound.
func (x *event) size() int { return len(x.data) + 256 }

// NewEvents returns a hub that nobody listens to.
func NewEvents() *Events {
	// Sequences of a process are beyond those of one before: so whoever comes back with an old one is known.
	begin := uint64(time.Now().UnixMilli()) * 1000
	return &Events{inbox: make(chan told, maxInbox), seq: begin, first: begin}
}

// Watching reports whether Opened and Record do anything.
func (e *Events) Watching() bool { return e.awake.Load() }

// Opened tells of a flow that is decided. f is a snapshot.
func (e *Events) Opened(f *connmodel.Flow) {
	if e.awake.Load() {
		e.tell(told{true, f})
	}
}

// Record implements connmodel.Sink: it tells of a flow that has ended.
func (e *Events) Record(f *connmodel.Flow) {
	if e.awake.Load() {
		e.tell(told{false, f})
	}
}

func (e *Events) tell(x told) {
	select {
	case e.inbox <- x:
	default:
		e.lost.Add(1)
	}
}

// Notify tells of something that is no flow.
func (e *Events) Notify(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		return // plain data of this package: it cannot fail
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.publish(&event{kind: kind, data: b})
	}
}

// publish numbers an event and hands it out. The lock is held.
func (e *Events) publish(x *event) {
	e.seq++
	x.seq = e.seq
	e.ring = append(e.ring, x)
	e.bytes += x.size()
	for len(e.ring) > maxRing || e.bytes > maxRingBytes && len(e.ring) > 1 {
		e.bytes -= e.ring[0].size()
		e.ring[0] = nil
		e.ring = e.ring[1:]
	}
	for _, s := range e.subs {
		s.push(x)
	}
}

// run hands out flows, as long as somebody listens.
func (e *Events) run(stop, ended chan struct{}) {
	defer close(ended)
	for {
		select {
		case <-stop:
			return
		case t := <-e.inbox:
			x := &event{kind: EventClosed, flow: t.flow, data: t.flow.AppendJSON(nil)}
			if t.opened {
				x.kind = EventOpened
			}
			lost := e.lost.Swap(0)
			e.mu.Lock()
			for _, s := range e.subs {
				s.miss(lost)
			}
			if lost > 0 {
				e.gap = e.seq
			}
			e.publish(x)
			e.mu.Unlock()
		}
	}
}

// selection is what a reader wants to be told.
type selection struct {
	types  []string          // nil = all
	filter *connmodel.Filter // of flows; nil = all
}

func (w *selection) wants(x *event) bool {
	if w.types != nil && !slices.Contains(w.types, x.kind) {
		return false
	}
	return x.flow == nil || w.filter.Match(x.flow)
}

// subscriber is one reader.
type subscriber struct {
	selection
	wake chan struct{} // has one token when there is something to take

	mu     sync.Mutex
	queue  []*event
	bytes  int
	missed uint64
}

// push queues an event, in place of the oldest ones if there is no room.
func (s *subscriber) push(x *event) {
	if !s.wants(x) {
		return
	}
	s.mu.Lock()
	for len(s.queue) > 0 && (len(s.queue) >= maxQueue || s.bytes+x.size() > maxQueueBytes) {
		s.bytes -= s.queue[0].size()
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.missed++
	}
	s.queue = append(s.queue, x)
	s.bytes += x.size()
	s.mu.Unlock()
	s.nudge()
}

func (s *subscriber) miss(n uint64) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.missed += n
	s.mu.Unlock()
	s.nudge()
}

func (s *subscriber) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what has come, and how much was lost before it.
func (s *subscriber) take() (all []*event, missed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, missed = s.queue, s.missed
	s.queue, s.bytes, s.missed = nil, 0, 0
	return all, missed
}

// subscribe begins to tell a reader, who has seen everything up to last: what the ring has beyond it comes first. last == 0 is a reader who
// wants what comes from now on. nil = there are too many, or it is over.
func (e *Events) subscribe(w selection, last uint64) *subscriber {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.subs) >= maxSubscribers {
		return nil
	}
	s := &subscriber{selection: w, wake: make(chan struct{}, 1)}
	if last != 0 {
		e.replay(s, last)
	}
	e.subs = append(e.subs, s)
	if e.sleep != nil {
		e.sleep.Stop()
		e.sleep = nil
	}
	if e.stop == nil {
		e.gap = e.seq // nobody listened: flows went by
		e.stop, e.ended = make(chan struct{}), make(chan struct{})
		go e.run(e.stop, e.ended)
		e.awake.Store(true)
	}
	return s
}

// replay gives a reader what it has missed, and says so when something is not there any more. How much that is is not known: one stands for it.
func (e *Events) replay(s *subscriber, last uint64) {
	oldest := e.seq + 1
	if len(e.ring) > 0 {
		oldest = e.ring[0].seq
	}
	switch {
	case last > e.seq || last < e.first:
		s.missed = 1 // of another process
		last = 0
	case last+1 < oldest:
		s.missed = oldest - last - 1
	case last < e.gap || e.stop == nil && last < e.seq:
		s.missed = 1
	case e.stop == nil:
		s.missed = 1 // flows may have gone by since
	}
	for _, x := range e.ring {
		if x.seq > last {
			s.push(x)
		}
	}
}

// unsubscribe ends telling a reader.
func (e *Events) unsubscribe(s *subscriber) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs = slices.DeleteFunc(slices.Clone(e.subs), func(x *subscriber) bool { return x == s })
	if len(e.subs) == 0 && e.stop != nil && !e.closed {
		e.sleep = time.AfterFunc(afterLast, e.doze)
	}
}

// doze stops telling flows when nobody has come back.
func (e *Events) doze() {
	e.mu.Lock()
	if len(e.subs) > 0 || e.stop == nil || e.closed {
		e.mu.Unlock()
		return
	}
	e.rest()
	e.mu.Unlock()
}

// rest ends the telling of flows and lets go of those in the ring. The lock is held.
func (e *Events) rest() {
	e.awake.Store(false)
	close(e.stop)
	e.stop = nil
	e.gap = e.seq
	e.ring = slices.DeleteFunc(e.ring, func(x *event) bool { return x.flow != nil })
	e.bytes = 0
	for _, x := range e.ring {
		e.bytes += x.size()
	}
	for { // flows that were on their way
		select {
		case <-e.inbox:
		default:
			return
		}
	}
}

// Subscribers is how many readers there are.
func (e *Events) Subscribers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subs)
}

// Close ends it: there are no readers any more, and will be none. It is for the end of the process; the streams end with their door.
func (e *Events) Close() {
	e.mu.Lock()
	if e.sleep != nil {
		e.sleep.Stop()
	}
	ended := e.ended
	if e.closed = true; e.stop != nil {
		e.rest()
	}
	e.subs = nil
	e.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// eventID reads what a reader has seen last.
func eventID(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n > 0
}
