package connmodel

import (
	"net/netip"
	"sync"
	"time"
)

// Session is one accepted client connection while it lives. It owns the Client, and all flows on it share its lock, so
// that a snapshot is never half written. Sessions and Recorders are the only writers of connection facts.
type Session struct {
	mu     sync.Mutex
	client Client
	hooks  *Hooks
}

// Accepted is what a listener knows of a new connection.
type Accepted struct {
	Listener string
	Peer     netip.AddrPort // zero for a Unix socket
	Local    netip.AddrPort
	TLS      bool // the listener wants TLS
	Time     time.Time
}

// NewSession begins a session. hooks may be nil. The caller runs hooks.ClientConnected itself, because it may refuse.
func NewSession(a Accepted, hooks *Hooks) *Session {
	s := &Session{hooks: hooks}
	id := NewID(a.Time)
	s.client = Client{
		Connection: Connection{
			ID: id, Address: AddressFrom(a.Peer), Peer: a.Peer, Local: a.Local,
			State: Active, TLS: a.TLS, Start: a.Time, TCPSetup: a.Time,
		},
		Listener: a.Listener,
		Session:  id,
	}
	if a.TLS {
		s.client.State = Open
	}
	return s
}

// ID is the session's id, which is the client's.
func (s *Session) ID() ID { return s.client.ID }

// Client returns a snapshot of the client.
func (s *Session) Client() Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// Identified notes how the client asks and who it proved to be.
func (s *Session) Identified(p Protocol, user string) {
	s.mu.Lock()
	if s.client.Protocol == "" {
		s.client.Protocol = p
	}
	s.client.User = user
	s.mu.Unlock()
}

// TLSEstablished notes the finished TLS handshake with the client.
func (s *Session) TLSEstablished(info *TLSInfo) {
	s.mu.Lock()
	if s.client.TLSSetup.IsZero() && s.client.State.Has(Open) {
		s.client.TLS, s.client.TLSInfo = true, info
		s.client.TLSSetup = later(time.Now(), s.client.TCPSetup)
		s.client.State = Active
	}
	s.mu.Unlock()
}

// Fail notes an error of the client's connection: garbage, a missed deadline, a reset. The first one stays.
func (s *Session) Fail(err *ConnError) {
	s.mu.Lock()
	if s.client.Error == nil {
		s.client.Error = err
	}
	s.mu.Unlock()
}

// Close ends the session. Further calls do nothing.
func (s *Session) Close() {
	s.mu.Lock()
	done := !s.client.End.IsZero()
	if !done {
		s.client.end(time.Now())
	}
	var snap Client
	if !done && s.hooks.wants() {
		snap = s.client
	}
	s.mu.Unlock()
	if !done {
		s.hooks.clientDisconnected(&snap)
	}
}

// end closes c at t, whatever it was.
func (c *Connection) end(t time.Time) {
	c.State = Closed
	c.End = later(later(later(t, c.Start), c.TCPSetup), c.TLSSetup)
}

// readClosed clears CanRead; the last direction to go closes the connection.
func (c *Connection) readClosed(t time.Time) {
	if c.State.Has(CanRead) {
		c.State &^= CanRead
		c.closeIfDone(t)
	}
}

func (c *Connection) writeClosed(t time.Time) {
	if c.State.Has(CanWrite) {
		c.State &^= CanWrite
		c.closeIfDone(t)
	}
}

func (c *Connection) closeIfDone(t time.Time) {
	if c.State == Open {
		c.end(t)
	}
}

func later(t, than time.Time) time.Time {
	if t.Before(than) {
		return than
	}
	return t
}

// Recorder writes one flow: verbs that check the transition, stamp the time and emit the event. A Recorder belongs to the
// goroutine of its session, but its verbs and Snapshot may be called from any.
type Recorder struct {
	session *Session
	flow    Flow
	server  Server

	// Room for the usual flow, so that it costs one allocation.
	attempts [1]Attempt
	hops     [3]HopResult
}

// NewFlow begins a flow on the session.
func (s *Session) NewFlow(p Protocol, target Address, at time.Time) *Recorder {
	r := &Recorder{session: s}
	r.flow = Flow{ID: NewID(at), Session: s.client.ID, Target: target, Protocol: p, Start: at}
	return r
}

// ID returns the flow's id.
func (r *Recorder) ID() ID { return r.flow.ID }

// Session returns the session the flow belongs to.
func (r *Recorder) Session() *Session { return r.session }

// Snapshot returns a copy that nobody changes. Strings, errors, decisions and TLS facts are shared: they are immutable.
func (r *Recorder) Snapshot() *Flow {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	return r.snapshot()
}

func (r *Recorder) snapshot() *Flow {
	f := r.flow
	c := r.session.client
	f.Client = &c
	if r.flow.Server != nil {
		s := r.server
		s.Attempts = make([]Attempt, len(r.server.Attempts))
		copy(s.Attempts, r.server.Attempts)
		for i := range s.Attempts {
			s.Attempts[i].Hops = append([]HopResult(nil), s.Attempts[i].Hops...)
		}
		f.Server = &s
	}
	if f.Request != nil {
		q := *f.Request
		f.Request = &q
	}
	if f.Response != nil {
		p := *f.Response
		f.Response = &p
	}
	if len(f.Metadata) > 0 {
		m := make(map[string]string, len(f.Metadata))
		for k, v := range f.Metadata {
			m[k] = v
		}
		f.Metadata = m
	}
	return &f
}

// Decided notes the decision. trace may be nil.
func (r *Recorder) Decided(d *Decision, trace *Trace) {
	r.session.mu.Lock()
	r.flow.Decision, r.flow.Trace = d, trace
	if d != nil {
		r.flow.Generation = d.Generation
	}
	r.flow.Decided = later(time.Now(), r.flow.Start)
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventDecision})
}

// Requested notes the plain HTTP request of this flow.
func (r *Recorder) Requested(q Request) {
	q.Path = bound(q.Path, maxPath)
	r.session.mu.Lock()
	r.flow.Request = &q
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventRequest})
}

// RequestSent notes that the last byte of the request has been passed on.
func (r *Recorder) RequestSent() {
	r.session.mu.Lock()
	if q := r.flow.Request; q != nil && q.End.IsZero() {
		q.End = later(time.Now(), q.Start)
	}
	r.session.mu.Unlock()
}

// Responded notes the response head.
func (r *Recorder) Responded(status int, at time.Time) {
	r.session.mu.Lock()
	r.flow.Response = &Response{Status: status, Start: at}
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventResponse})
}

// ResponseDone notes that the last byte of the response has been passed on.
func (r *Recorder) ResponseDone() {
	r.session.mu.Lock()
	if p := r.flow.Response; p != nil && p.End.IsZero() {
		p.End = later(time.Now(), p.Start)
	}
	r.session.mu.Unlock()
}

// Replied notes the answer that Viaduct itself gave to the client. The first one stays.
func (r *Recorder) Replied(code int, early bool) {
	r.session.mu.Lock()
	if r.flow.Reply == nil {
		r.flow.Reply = &Reply{Code: code, Early: early, Time: time.Now()}
	}
	r.session.mu.Unlock()
}

// SetMetadata attaches a free value; at most maxMetadata of them, bounded in size. It reports whether it was kept.
func (r *Recorder) SetMetadata(key, value string) bool {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	if _, have := r.flow.Metadata[key]; !have && len(r.flow.Metadata) >= maxMetadata {
		return false
	}
	if r.flow.Metadata == nil {
		r.flow.Metadata = make(map[string]string)
	}
	r.flow.Metadata[bound(key, maxText)] = bound(value, maxText)
	return true
}

// Bounds of free text in a record.
const (
	maxMetadata = 32
	maxText     = 1 << 10
	maxPath     = 2 << 10
)

func bound(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// BeginDial freezes the plan: from here on the server's address is what it is. via is the route's name.
func (r *Recorder) BeginDial(address Address, via string, tls bool) {
	now := time.Now()
	r.session.mu.Lock()
	if r.flow.Server == nil {
		r.server = Server{Connection: Connection{ID: NewID(now), Address: address, TLS: tls, Start: now}, Via: via, frozen: true}
		r.server.Attempts = r.attempts[:0]
		r.flow.Server = &r.server
	}
	r.session.mu.Unlock()
}

// ReuseServer notes that a kept connection serves this flow: s is a snapshot of the flow that opened it.
func (r *Recorder) ReuseServer(s *Server) {
	r.session.mu.Lock()
	r.server = *s
	r.server.Reused, r.server.frozen = true, true
	r.server.Attempts = append([]Attempt(nil), s.Attempts...)
	r.server.State, r.server.End, r.server.Error = Active, time.Time{}, nil
	r.flow.Server = &r.server
	r.session.mu.Unlock()
}

// ReadClosed notes that side's peer has sent its last byte (FIN).
func (r *Recorder) ReadClosed(side Side) { r.closedHalf(side, (*Connection).readClosed, true) }

// WriteClosed notes that we have sent our last byte to side.
func (r *Recorder) WriteClosed(side Side) { r.closedHalf(side, (*Connection).writeClosed, false) }

func (r *Recorder) closedHalf(side Side, half func(*Connection, time.Time), first bool) {
	now := time.Now()
	r.session.mu.Lock()
	if first && r.flow.First == "" {
		r.flow.First = side
	}
	switch {
	case side == SideClient:
		half(&r.session.client.Connection, now)
	case r.flow.Server != nil:
		half(&r.server.Connection, now)
	}
	r.session.mu.Unlock()
}

// ServerTLSEstablished notes the finished TLS handshake with the server itself (an upgrade).
func (r *Recorder) ServerTLSEstablished(info *TLSInfo) {
	r.session.mu.Lock()
	if r.flow.Server != nil && r.server.TLSSetup.IsZero() {
		r.server.TLS, r.server.TLSInfo = true, info
		r.server.TLSSetup = later(later(time.Now(), r.server.Start), r.server.TCPSetup)
		if r.server.State == Open {
			r.server.State = Active
		}
	}
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventTLSEstablished, Side: SideServer})
}

// Fail notes the error of the flow; the first one stays. A failed connection is also noted on the end it belongs to.
func (r *Recorder) Fail(err *ConnError) {
	if err == nil {
		return
	}
	r.session.mu.Lock()
	first := r.flow.Error == nil
	if first {
		r.flow.Error = err
		switch {
		case err.Side == SideClient && r.session.client.Error == nil:
			r.session.client.Error = err
		case r.flow.Server != nil && r.server.Error == nil && (err.Side == SideServer || err.Side == SideHop):
			r.server.Error = err
		}
	}
	r.session.mu.Unlock()
	if first {
		r.emit(Event{Kind: EventError, Error: err})
	}
}

// Panicked notes that the goroutine of this flow panicked.
func (r *Recorder) Panicked() {
	r.session.mu.Lock()
	r.flow.Panicked = true
	r.session.mu.Unlock()
}

// Closed is the end of a flow.
type FlowEnd struct {
	Reason CloseReason
	First  Side // who closed first; "" keeps what ReadClosed noted
	Up     int64
	Down   int64
	// KeepServer leaves the server connection open in the record: it is kept for the next flow.
	KeepServer bool
	// KeepClient leaves the client open: more flows may follow on this session.
	KeepClient bool
}

// Close ends the flow and returns its record, which nobody changes any more. A second call returns nil.
func (r *Recorder) Close(e FlowEnd) *Flow {
	now := time.Now()
	r.session.mu.Lock()
	if !r.flow.End.IsZero() {
		r.session.mu.Unlock()
		return nil
	}
	f := &r.flow
	f.Up, f.Down = max(f.Up, e.Up), max(f.Down, e.Down)
	f.Reason = e.Reason
	if e.First != "" {
		f.First = e.First
	}
	f.End = later(now, f.Start)
	disconnected := false
	if f.Server != nil && !e.KeepServer && r.server.End.IsZero() {
		disconnected = r.server.State != Closed
		r.server.end(now)
	}
	if !e.KeepClient && r.session.client.End.IsZero() && r.session.client.State != Closed {
		r.session.client.end(now)
	}
	c := r.session.client
	f.Client = &c
	r.session.mu.Unlock()
	if disconnected {
		r.emit(Event{Kind: EventServerDisconnected, Side: SideServer})
	}
	return f
}

// emit tells the observers, with a snapshot, outside the lock.
func (r *Recorder) emit(e Event) {
	h := r.session.hooks
	if !h.wants() {
		return
	}
	e.Session, e.Flow, e.Time = r.session.client.ID, r.flow.ID, time.Now()
	h.observe(e, r.Snapshot)
}
