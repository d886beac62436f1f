package connmodel

// eventQueue keeps the events of one session in order when several goroutines write to it. It exists only where somebody
// observes.
type eventQueue struct {
	list []queuedEvent
	busy bool // a goroutine is handing out events; others leave theirs in the list
}

type queuedEvent struct {
	Event
	rec    *Recorder // nil for events of the session itself
	client *Client   // snapshot, for those
}

// push notes an event of the session itself. The lock is held.
func (s *Session) push(e Event) {
	if s.events == nil {
		return
	}
	c := s.client
	e.Session = c.ID
	s.events.list = append(s.events.list, queuedEvent{Event: e, client: &c})
}

// push notes an event of the flow. The lock is held.
func (r *Recorder) push(e Event) {
	q := r.session.events
	if q == nil {
		return
	}
	e.Session, e.Flow = r.session.client.ID, r.flow.ID
	q.list = append(q.list, queuedEvent{Event: e, rec: r})
}

// unlock ends a verb: it gives the lock back and hands out what was pushed, in the order of the verbs. Observers run
// without the lock, one at a time for a session; a verb that finds another goroutine at it does not wait.
func (s *Session) unlock() {
	if s.events == nil || s.events.busy || len(s.events.list) == 0 {
		s.mu.Unlock()
		return
	}
	q := s.events
	q.busy = true
	defer func() { // also when an observer ends its goroutine
		q.busy = false
		s.mu.Unlock()
	}()
	for len(q.list) > 0 {
		e := q.list[0]
		q.list = append(q.list[:0], q.list[1:]...)
		s.hand(e)
	}
}

func (s *Session) hand(e queuedEvent) {
	s.mu.Unlock()
	defer s.mu.Lock()
	if e.rec == nil {
		s.hooks.observe(e.Event, nil, e.client)
		return
	}
	s.hooks.observe(e.Event, e.rec.Snapshot, nil)
}
