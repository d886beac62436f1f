package connmodel

import (
	"errors"
	"maps"
	"time"
	"unicode/utf8"
)

// Recorder writes one flow: verbs that check the transition, stamp the time and emit the event. Its verbs and Snapshot may
// be called from any goroutine. After Close they change nothing: the record is out.
type Recorder struct {
	session *Session
	flow    Flow
	server  Server
	trying  int32 // attempts that are not decided yet
	up      bool  // an attempt connected, or a kept connection is used
	down    bool  // server_disconnected was told

	// Room for the usual flow, so that it costs one allocation: one attempt through one proxy.
	attempts [1]Attempt
	hops     [2]HopResult
	reply    Reply
}

// NewFlow begins a flow on the session, at the time its first byte came; zero = now.
func (s *Session) NewFlow(p Protocol, target Address, at time.Time) *Recorder {
	if at.IsZero() {
		at = time.Now()
	}
	at = later(at, s.client.Start)
	r := &Recorder{session: s}
	r.flow.ID, r.flow.Session, r.flow.Target, r.flow.Protocol, r.flow.Start = NewID(at), s.client.ID, target, p, at
	return r
}

// ID returns the flow's id.
func (r *Recorder) ID() ID { return r.flow.ID }

// Session returns the session the flow belongs to.
func (r *Recorder) Session() *Session { return r.session }

// lock takes the lock and reports whether the flow can still be written. unlock is due in either case.
func (r *Recorder) lock() (open bool) {
	r.session.mu.Lock()
	return r.flow.End.IsZero()
}

func (r *Recorder) unlock() { r.session.unlock() }

func (r *Recorder) now() time.Time { return stamp(r.flow.Start) }

// Snapshot returns a copy that nobody changes. Strings, errors, decisions and TLS facts are shared: they are immutable.
func (r *Recorder) Snapshot() *Flow {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	f := r.flow
	if f.Client == nil { // a closed flow has its own, and so has one of many on a session
		c := r.session.client
		if r.session.many {
			c.User = ""
		}
		f.Client = &c
	}
	if f.Server != nil {
		f.Server = r.server.clone()
	}
	f.Request, f.Response, f.Reply = clone(f.Request), clone(f.Response), clone(f.Reply)
	f.Metadata = maps.Clone(f.Metadata)
	return &f
}

// Identified notes how the client asks and who it proved to be, for this flow.
func (r *Recorder) Identified(p Protocol, user string) {
	if r.lock() {
		r.session.identified(p, user)
		if r.session.many { // another flow may say something else at once
			c := r.session.client
			r.flow.Client = &c
		}
	}
	r.unlock()
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func (s *Server) clone() *Server {
	c := *s
	c.Attempts = append([]Attempt(nil), s.Attempts...)
	for i := range c.Attempts {
		c.Attempts[i].Hops = append([]HopResult(nil), c.Attempts[i].Hops...)
	}
	return &c
}

// Decided notes the decision. trace may be nil. A plain request that is decided twice keeps the later one.
func (r *Recorder) Decided(d *Decision, trace *Trace) {
	if r.lock() {
		r.flow.Decision, r.flow.Trace = d, trace
		if d != nil {
			r.flow.Generation = d.Generation
		}
		r.flow.Decided = r.now()
		r.push(Event{Kind: EventDecision, Time: r.flow.Decided})
	}
	r.unlock()
}

// Gathered notes what the decision looked at that stands nowhere else in the record; nil = nothing. g is not changed any more.
func (r *Recorder) Gathered(g *Gathered) {
	if g == nil {
		return
	}
	if r.lock() {
		r.flow.Gathered = g
	}
	r.unlock()
}

// Inside notes that the flow is a request in a tunnel that a user opened, whose client said hello first; hello may be nil. On a connection that flows
// share, the client of the record is then theirs.
func (r *Recorder) Inside(user string, hello *ClientHello) {
	if r.lock() && r.session.many {
		c := r.session.client
		c.User, c.Hello = user, hello
		r.flow.Client = &c
	}
	r.unlock()
}

// Target is what the flow asks for.
func (r *Recorder) Target() Address { return r.flow.Target }

// Start is when the flow's first byte came: the time that rules see.
func (r *Recorder) Start() time.Time { return r.flow.Start }

// ClientHello notes what the TLS client in the tunnel said first. The first one stays.
func (r *Recorder) ClientHello(h *ClientHello) {
	open := r.lock()
	c := &r.session.client
	if r.session.many { // every flow has a tunnel of its own
		own := *c
		if own.User = ""; r.flow.Client != nil {
			own = *r.flow.Client
		}
		c = &own
	}
	if open && c.Hello == nil {
		c.Hello = h
		if r.session.many {
			r.flow.Client = c
		}
		r.push(Event{Kind: EventTLSClientHello, Time: r.now(), Side: SideClient})
	}
	r.unlock()
}

// Decision returns the decision of a flow that is open, or nil.
func (r *Recorder) Decision() *Decision {
	defer r.unlock()
	if !r.lock() {
		return nil
	}
	return r.flow.Decision
}

// Requested notes the plain HTTP request of this flow. A zero q.Start is the flow's.
func (r *Recorder) Requested(q Request) {
	q.Method, q.Scheme, q.Host, q.Path = bound(q.Method, maxText), bound(q.Scheme, maxText), bound(q.Host, maxText), bound(q.Path, maxPath)
	q.Start = later(q.Start, r.flow.Start)
	if r.lock() {
		r.flow.Request = &q
		r.push(Event{Kind: EventRequest, Time: r.now()})
	}
	r.unlock()
}

// RequestSent notes that the last byte of the request has been passed on.
func (r *Recorder) RequestSent() {
	if open := r.lock(); open {
		if q := r.flow.Request; q != nil && q.End.IsZero() {
			q.End = later(r.now(), q.Start)
		}
	}
	r.unlock()
}

// Responded notes the final response head; at is when its first byte came, zero = now. The first call stays.
func (r *Recorder) Responded(status int, at time.Time) {
	if r.lock() && r.flow.Response == nil {
		if at.IsZero() {
			at = r.now()
		}
		r.flow.Response = &Response{Status: status, Start: later(at, r.flow.Start)}
		r.push(Event{Kind: EventResponse, Time: r.flow.Response.Start})
	}
	r.unlock()
}

// ResponseDone notes that the last byte of the response has been passed on.
func (r *Recorder) ResponseDone() {
	if open := r.lock(); open {
		if p := r.flow.Response; p != nil && p.End.IsZero() {
			p.End = later(r.now(), p.Start)
		}
	}
	r.unlock()
}

// Replied notes the answer that Viaduct itself gave to the client. The first one stays.
func (r *Recorder) Replied(code int, early bool) {
	if r.lock() && r.flow.Reply == nil {
		r.reply = Reply{Code: int32(code), Early: early, Time: r.now()}
		r.flow.Reply = &r.reply
	}
	r.unlock()
}

// Transferred notes how many payload bytes have gone each way so far. They never decrease.
func (r *Recorder) Transferred(up, down int64) {
	if r.lock() {
		r.flow.Up, r.flow.Down = max(r.flow.Up, up), max(r.flow.Down, down)
	}
	r.unlock()
}

// SetMetadata attaches a free value; at most maxMetadata of them, bounded in size. It reports whether it was kept.
func (r *Recorder) SetMetadata(key, value string) bool {
	key = bound(key, maxText)
	defer r.unlock()
	if !r.lock() {
		return false
	}
	if _, have := r.flow.Metadata[key]; !have && len(r.flow.Metadata) >= maxMetadata {
		return false
	}
	if r.flow.Metadata == nil {
		r.flow.Metadata = make(map[string]string)
	}
	r.flow.Metadata[key] = bound(value, maxText)
	return true
}

// Bounds of a record while it is written.
const (
	maxMetadata = 32
	maxText     = 1 << 10 // octets of free text
	maxPath     = 2 << 10
	maxAttempts = 64
	maxChoices  = 8
	maxWays     = 16 // of a choice
	maxHops     = 32
)

// bound cuts s to most octets, between two characters, and shows that it did.
func bound(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:runeStart(s, most)] + "..."
}

// runeStart returns the last place at or before i < len(s) where a character of s begins.
func runeStart(s string, i int) int {
	for j := i; j > 0 && j > i-utf8.UTFMax; j-- {
		if utf8.RuneStart(s[j]) {
			return j
		}
	}
	return i // no UTF-8 anyway
}

// ErrFrozen says that a server's address and route cannot be changed: it is being reached, or in use.
var ErrFrozen = errors.New("connmodel: the server is frozen once dialling has begun")

// BeginDial freezes the plan: from here on the server's address and route are what they are. via is the route's name. Calling
// it again with the same plan does nothing. Another plan is taken once all attempts have failed; while one is under way, and
// in any state but closed, it is ErrFrozen.
func (r *Recorder) BeginDial(address Address, via string, tls bool) error {
	defer r.unlock()
	if !r.lock() {
		return ErrFrozen
	}
	s := &r.server
	if r.flow.Server == nil {
		now := r.now()
		s.ID, s.Start, s.Address, s.Via, s.TLS = NewID(now), now, address, via, tls
		s.Attempts = r.attempts[:0]
		r.flow.Server = s
		return nil
	}
	if s.Address == address && s.Via == via && s.TLS == tls {
		return nil
	}
	if r.up || r.trying > 0 || s.State != Closed {
		return ErrFrozen
	}
	s.Address, s.Via, s.TLS = address, via, tls
	return nil
}

// Chose notes what others than the policy chose in the route that was decided. The decision, which many flows share, is copied for it. A later call
// replaces it; without a decision it does nothing. Choices and ways beyond a bound are left out.
func (r *Recorder) Chose(all []Choice) {
	if r.lock() && r.flow.Decision != nil {
		d := *r.flow.Decision
		d.Choices = make([]Choice, min(len(all), maxChoices))
		for i, c := range all[:len(d.Choices)] {
			c.Route, c.Error, c.OnError = bound(c.Route, maxName), bound(c.Error, maxText), bound(c.OnError, maxName)
			c.Ways, _ = bounded(c.Ways, maxWays, false)
			d.Choices[i] = c
		}
		r.flow.Decision = &d
	}
	r.unlock()
}

// ReuseServer notes that a kept connection serves this flow: s is a snapshot of the flow that opened it.
func (r *Recorder) ReuseServer(s *Server) {
	if r.lock() && !r.up && r.trying == 0 {
		failed := r.server.Attempts // of a dial before, on this flow
		r.server = *s
		r.server.Reused, r.up = true, true
		r.server.Attempts = append(failed, s.Attempts...)
		r.server.State, r.server.End, r.server.Error = Active, time.Time{}, nil
		r.flow.Server = &r.server
	}
	r.unlock()
}

// ReuseFailed notes that the kept connection was dead: it counts as an attempt that failed with err, and another may be dialled,
// by the same plan or another. Where the flow made an attempt of its own on a connection that flows share (HopRecorder.Reused), it is that attempt;
// observers, who have been told that it connected, are told by the error of server_disconnected.
func (r *Recorder) ReuseFailed(err *ConnError) {
	defer r.unlock()
	if !r.lock() || !r.up {
		return
	}
	shared := !r.server.Reused && r.trying == 0 && r.server.shared()
	if !r.server.Reused && !shared {
		return
	}
	now := r.now()
	r.server.end(now)
	if shared {
		r.serverLost(err)
	} else {
		r.serverGone()
	}
	old, s := r.server, &r.server
	*s = Server{Connection: Connection{ID: NewID(now), Address: old.Address, TLS: old.TLS, Start: now}, Via: old.Via, ResolvedBy: old.ResolvedBy}
	for _, a := range old.Attempts { // those of this flow; the others opened the connection for another
		if shared && a.Error == nil {
			a.Error = err
		}
		if !a.Start.Before(r.flow.Start) && a.Error != nil {
			s.Attempts = append(s.Attempts, a)
		}
	}
	r.up, r.down = false, false
	if r.flow.First == SideServer {
		r.flow.First = ""
	}
	if shared {
		s.Error = err
		return
	}
	if len(s.Attempts) == maxAttempts {
		s.Truncated, s.Error = true, err
		return
	}
	n := len(s.Attempts)
	at := Attempt{Number: n + 1, Route: old.Route, Start: later(r.flow.Decided, r.flow.Start)}
	s.Attempts = append(s.Attempts, at)
	r.push(Event{Kind: EventServerConnect, Time: at.Start, Side: SideServer, Attempt: n + 1})
	r.trying++
	r.attemptFailed(n, err)
}

// shared reports whether the attempt that worked went by a connection that flows share and that was there already.
func (s *Server) shared() bool {
	if len(s.Attempts) == 0 {
		return false
	}
	a := &s.Attempts[len(s.Attempts)-1]
	for i := range a.Hops {
		if a.Hops[i].Reused {
			return a.Error == nil
		}
	}
	return false
}

// ReadClosed notes that side's peer has sent its last byte (FIN).
func (r *Recorder) ReadClosed(side Side) { r.halfClosed(side, CanRead) }

// WriteClosed notes that we have sent our last byte to side.
func (r *Recorder) WriteClosed(side Side) { r.halfClosed(side, CanWrite) }

func (r *Recorder) halfClosed(side Side, half State) {
	if r.lock() {
		if half == CanRead && r.flow.First == "" {
			r.flow.First = side
		}
		if side == SideClient {
			if !r.session.many {
				r.session.client.halfClosed(half, stamp(r.session.client.Start))
			}
		} else if r.up {
			r.server.halfClosed(half, r.now())
			r.serverGone()
		}
	}
	r.unlock()
}

// serverGone tells, once, that a server that was up is closed. The lock is held.
func (r *Recorder) serverGone() { r.serverLost(nil) }

// serverLost is serverGone for a server that turned out not to be there.
func (r *Recorder) serverLost(err *ConnError) {
	if r.up && !r.down && r.server.State == Closed {
		r.down = true
		r.push(Event{Kind: EventServerDisconnected, Time: r.server.End, Side: SideServer, Error: err})
	}
}

// ServerTLSEstablished notes the finished TLS handshake with the server itself (an upgrade), where it was not made as part of
// an attempt.
func (r *Recorder) ServerTLSEstablished(info *TLSInfo) {
	if s := &r.server; r.lock() && r.up && s.TLSSetup.IsZero() && s.State != Closed {
		s.TLS, s.TLSInfo = true, info
		s.TLSSetup = later(r.now(), s.TCPSetup)
		if s.State == Open {
			s.State = Active
		}
		r.push(Event{Kind: EventTLSEstablished, Time: s.TLSSetup, Side: SideServer})
	}
	r.unlock()
}

// Fail notes the error of the flow; the first one stays. It is also noted on the end it belongs to.
func (r *Recorder) Fail(err *ConnError) {
	if err == nil {
		return
	}
	if r.lock() && r.flow.Error == nil {
		r.flow.Error = err
		switch {
		case err.Side == SideClient && r.session.client.Error == nil && !r.session.many:
			r.session.client.Error = err
		case r.flow.Server != nil && r.server.Error == nil && (err.Side == SideServer || err.Side == SideHop):
			r.server.Error = err
		}
		r.push(Event{Kind: EventError, Time: r.now(), Side: err.Side, Hop: err.Hop, Error: err})
	}
	r.unlock()
}

// Panicked notes that the goroutine of this flow panicked.
func (r *Recorder) Panicked() {
	if r.lock() {
		r.flow.Panicked = true
	}
	r.unlock()
}

// FlowEnd says how a flow ended.
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

// Close ends the flow and returns its record, which nobody changes any more. A second call returns nil. An attempt that is
// still under way ends with it, as canceled.
func (r *Recorder) Close(e FlowEnd) *Flow {
	defer r.unlock()
	if !r.lock() {
		return nil
	}
	f, s, now := &r.flow, &r.server, r.now()
	for i := 0; r.trying > 0 && i < len(s.Attempts); i++ {
		if s.Attempts[i].End.IsZero() {
			r.attemptFailed(i, errAbandoned)
		}
	}
	f.Up, f.Down = max(f.Up, e.Up), max(f.Down, e.Down)
	f.Reason = e.Reason
	if e.First != "" {
		f.First = e.First
	}
	if f.Server != nil && !(e.KeepServer && r.up && s.State == Active) {
		s.end(now)
		r.serverGone()
	}
	if !e.KeepClient && !r.session.many {
		r.session.client.end(stamp(r.session.client.Start))
	}
	f.End = later(now, f.Decided)
	c := r.session.client
	if r.session.many {
		c.User = ""
		if f.Client != nil {
			c.User, c.Hello = f.Client.User, f.Client.Hello
		}
	}
	f.Client = &c
	return f
}

// errAbandoned ends attempts whose flow ended before them.
var errAbandoned = &ConnError{Phase: PhaseDial, Side: SideViaduct, Kind: KindCanceled, Message: "the flow ended before the attempt did"}
