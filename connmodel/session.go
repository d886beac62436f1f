package connmodel

import (
	"net/netip"
	"sync"
	"time"
)

// Session is one accepted client connection while it lives. It owns the Client, and all flows on it share its lock, so
// that a snapshot is never half written. Sessions and Recorders are the only writers of connection facts.
//
// Verbs may be called from any goroutine and in any order: one that does not fit what happened before does nothing.
type Session struct {
	mu     sync.Mutex
	client Client
	hooks  *Hooks
	events *eventQueue // nil when nobody observes
	closed bool
	many   bool // see Multiplexed
}

// Accepted is what a listener knows of a new connection.
type Accepted struct {
	Listener string
	Peer     netip.AddrPort // zero for a Unix socket
	Local    netip.AddrPort
	TLS      bool      // the listener wants TLS
	Time     time.Time // zero = now
}

// NewSession begins a session. hooks may be nil. The caller runs hooks.CallClientConnected itself, because it may refuse.
func NewSession(a Accepted, hooks *Hooks) *Session {
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	s := &Session{hooks: hooks}
	if hooks.wants() {
		s.events = new(eventQueue)
	}
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

// Connected tells observers that the client is here, once hooks have let it in. It is the session's first event.
func (s *Session) Connected() {
	if s.events == nil {
		return
	}
	s.mu.Lock()
	s.push(Event{Kind: EventClientConnected, Time: s.client.Start, Side: SideClient})
	s.unlock()
}

// Identified notes how the client asks and who it proved to be.
func (s *Session) Identified(p Protocol, user string) {
	s.mu.Lock()
	s.identified(p, user)
	s.mu.Unlock()
}

func (s *Session) identified(p Protocol, user string) {
	if s.client.Protocol == "" {
		s.client.Protocol = p
	}
	s.client.User = user
}

// Multiplexed says that flows share the connection at the same time, as the streams of HTTP/2 do. Then each has a user of its own, and the
// end of one, or its error, is none of the client.
func (s *Session) Multiplexed() {
	s.mu.Lock()
	s.many = true
	s.mu.Unlock()
}

// TLSStarted notes that the client has begun its TLS handshake.
func (s *Session) TLSStarted() {
	if s.events == nil {
		return
	}
	s.mu.Lock()
	s.push(Event{Kind: EventTLSStart, Time: stamp(s.client.Start), Side: SideClient})
	s.unlock()
}

// TLSFailed notes that the TLS handshake with the client failed, and why; info is what is known of it all the same, or nil.
func (s *Session) TLSFailed(err *ConnError, info *TLSInfo) {
	s.mu.Lock()
	if c := &s.client; c.TLSSetup.IsZero() && !s.closed {
		if c.TLSInfo == nil {
			c.TLSInfo = info
		}
		s.push(Event{Kind: EventTLSFailed, Time: stamp(c.Start), Side: SideClient, Error: err})
	}
	s.unlock()
	s.Fail(err)
}

// Introduced notes what a load balancer said of the client, before anything else came.
func (s *Session) Introduced(h ProxyHeader) {
	s.mu.Lock()
	if s.client.Proxied == nil {
		s.client.Proxied = &h
		if h.Source.IsValid() {
			s.client.Address = AddressFrom(h.Source)
		}
	}
	s.mu.Unlock()
}

// TLSEstablished notes the finished TLS handshake with the client.
func (s *Session) TLSEstablished(info *TLSInfo) {
	s.mu.Lock()
	if c := &s.client; c.TLSSetup.IsZero() && c.State.Has(Open) {
		c.TLS, c.TLSInfo = true, info
		c.TLSSetup = later(stamp(c.Start), c.TCPSetup)
		if c.State == Open {
			c.State = Active
		}
		s.push(Event{Kind: EventTLSEstablished, Time: c.TLSSetup, Side: SideClient})
	}
	s.unlock()
}

// CertificateWarning tells observers that the client's certificate wants attention.
func (s *Session) CertificateWarning(w *CertificateWarning) {
	if s.events == nil {
		return
	}
	s.mu.Lock()
	if !s.closed {
		s.push(Event{Kind: EventCertificateWarning, Time: stamp(s.client.Start), Side: SideClient, Certificate: w})
	}
	s.unlock()
}

// Fail notes an error of the client's connection: garbage, a missed deadline, a reset. The first one stays.
func (s *Session) Fail(err *ConnError) {
	if err == nil {
		return
	}
	s.mu.Lock()
	if s.client.Error == nil && !s.closed {
		s.client.Error = err
		s.push(Event{Kind: EventError, Time: stamp(s.client.Start), Side: err.Side, Error: err})
	}
	s.unlock()
}

// Close ends the session. Further calls do nothing.
func (s *Session) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.client.end(stamp(s.client.Start))
		s.push(Event{Kind: EventClientDisconnected, Time: s.client.End, Side: SideClient, Error: s.client.Error})
	}
	s.unlock()
}

// end closes c at t; when it is closed already, the first end stays.
func (c *Connection) end(t time.Time) {
	c.State = Closed
	if c.End.IsZero() {
		c.End = later(later(later(t, c.Start), c.TCPSetup), c.TLSSetup)
	}
}

// halfClosed clears one of CanRead and CanWrite; the last to go closes the connection.
func (c *Connection) halfClosed(half State, t time.Time) {
	if c.State.Has(half) {
		c.State &^= half
		if c.State == Open {
			c.end(t)
		}
	}
}

// stamp is now, told as base and what the monotonic clock has counted since: when somebody sets the wall clock back, the
// times of one connection still do not run backwards.
func stamp(base time.Time) time.Time { return base.Add(max(time.Since(base), 0)) }

func later(t, than time.Time) time.Time {
	if t.Before(than) {
		return than
	}
	return t
}
