package router

import (
	"context"
	"slices"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/router/relay"
)

// life is where a session stands and what others may do to it: end it when it idles (drain), end it now (abort), or tell it that its
// client has left. It is also the context of the session's dials and hooks: it ends with abort and clientLeft, and costs nothing but a
// channel, where a context of package context would be kept in a list that all sessions share.
type life struct {
	mu    sync.Mutex
	state sessionState
	why   connmodel.CloseReason // why it was ended from outside; "" = it was not
	done  chan struct{}         // closed when why is set; made when somebody asks
	calls []*func()             // to be called when why is set
}

// sessionState says what may be done to a session.
type sessionState uint8

const (
	stateIdle      sessionState = iota // nothing is asked for: before the first byte, or between two plain requests
	stateHead                          // a request, or a handshake, has begun to come
	stateSniff                         // the tunnel's client has not said anything yet, and a rule asks what it says
	stateDial                          // it is decided, and the server is being reached
	stateExchange                      // a plain request is under way
	stateTunnel                        // relaying
	stateDatagrams                     // the control connection of a UDP association
	stateLinger                        // all is said; the connection is about to be closed
	stateStreams                       // the connection of HTTP/2 streams, which are sessions of their own
)

// enter notes the state that begins. It returns why the session was ended from outside, or "".
func (l *life) enter(st sessionState) connmodel.CloseReason {
	l.mu.Lock()
	l.state = st
	why := l.why
	l.mu.Unlock()
	return why
}

// ended returns why the session was ended from outside, or "".
func (l *life) ended() connmodel.CloseReason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// end sets why and wakes who waits on the context. The lock is held.
func (l *life) end(why connmodel.CloseReason) {
	if l.why != "" {
		return
	}
	l.why = why
	if l.done != nil {
		close(l.done)
	}
	for _, f := range l.calls {
		go (*f)()
	}
	l.calls = nil
}

// settle drops what only dials need, for the long time of a tunnel.
func (l *life) settle() {
	l.mu.Lock()
	l.calls = nil
	if l.why == "" {
		l.done = nil
	}
	l.mu.Unlock()
}

// Deadline implements context.Context.
func (l *life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (l *life) Value(any) any { return nil }

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.why != "" {
			close(l.done)
		}
	}
	return l.done
}

// Err implements context.Context.
func (l *life) Err() error {
	if l.ended() != "" {
		return context.Canceled
	}
	return nil
}

// AfterFunc is how package context registers with contexts that are not its own.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != "" {
		go f()
		return func() bool { return false }
	}
	p := &f
	l.calls = append(l.calls, p)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.calls, p)
		if i < 0 {
			return false
		}
		l.calls = slices.Delete(l.calls, i, i+1)
		return true
	}
}

// drainGrace is how long an idle connection may still bring a request that was on its way when the drain began.
const drainGrace = 50 * time.Millisecond

// drain ends a session that idles, and the wait for a client's first bytes; others finish what they do. It is for any goroutine.
func (s *session) drain() {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	switch {
	case s.life.state == stateIdle || s.life.state == stateSniff:
		s.conn.SetReadDeadline(time.Now().Add(drainGrace))
	case s.life.state == stateDatagrams && s.r.draining.Load():
		s.life.end(connmodel.CloseDrained) // datagrams have no end that could be waited for
	case s.life.state == stateStreams:
		s.multi.Shutdown()
	}
}

// abort ends the session at once, whatever it does, and reports whether that cut something: not an idle connection, and not one that
// has its answer already. It is for any goroutine and does not wait.
func (s *session) abort(reason connmodel.CloseReason) (cut bool) {
	l := &s.life
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.state {
	case stateLinger:
		return false
	case stateStreams: // its streams are aborted, and with the last of them it ends
		l.end(reason)
		s.multi.Shutdown()
		return false
	}
	first := l.why == ""
	l.end(reason)
	end := relay.Drained
	if reason == connmodel.CloseAdmin {
		end = relay.Canceled
	}
	s.tunnel.Abort(end)
	s.plain.Cancel()
	if l.state <= stateSniff {
		abortConn(s.conn)
	} // else the client gets its answer, if it has not begun to get one, or is reset
	return first && l.state != stateIdle
}

// closeFlow ends the flow that rec writes, or the tunnel that is looked into, at an operator's word, and reports whether it was still that one.
func (s *session) closeFlow(rec *connmodel.Recorder, inside *opened) bool {
	if inside == nil && s.flow.Load() != rec {
		return false
	}
	s.abort(connmodel.CloseAdmin)
	return true
}

// crowdedOut ends a session that has not said yet what it wants, and reports whether it did.
func (s *session) crowdedOut() bool {
	l := &s.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != "" || l.state != stateIdle && l.state != stateHead && l.state != stateStreams {
		return false
	}
	l.end(connmodel.CloseLimit)
	abortConn(s.conn)
	return true
}

// clientLeft gives up the dial of a client that is not there any more.
func (s *session) clientLeft() {
	s.life.mu.Lock()
	if s.life.state == stateDial {
		s.life.end(connmodel.CloseClient)
	}
	s.life.mu.Unlock()
}

// idle begins a wait for the next request, for at most keep. When the gateway or the listener is closing it is short: the client may not
// know yet, and a request that is on its way is answered, as the last one.
func (s *session) idle(keep time.Duration) bool {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	if s.life.why != "" {
		return false
	}
	if s.closing() {
		keep = min(keep, drainGrace)
	}
	s.life.state = stateIdle
	s.conn.SetReadDeadline(time.Now().Add(keep))
	return true
}

// closing reports whether this session shall take no further request.
func (s *session) closing() bool { return s.r.draining.Load() || s.door.gone.Load() }

// outside turns the end of a flow that was ended from outside into what the record says of it: nobody is to blame.
func (s *session) outside(e *connmodel.ConnError) *connmodel.ConnError {
	switch s.life.ended() {
	case "":
		return e
	case connmodel.CloseLimit:
		return &connmodel.ConnError{
			Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindLimit,
			Message: "closed to make room: too many clients have not said yet what they want", Blame: connmodel.BlameClient, Cause: e,
		}
	case connmodel.CloseClient:
		return &connmodel.ConnError{
			Phase: connmodel.PhaseDial, Side: connmodel.SideClient, Kind: connmodel.KindCanceled,
			Message: "the client left while the server was being reached", Cause: e,
		}
	default:
		phase := connmodel.PhaseDial
		if e != nil {
			phase = e.Phase
		}
		return &connmodel.ConnError{
			Phase: phase, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled,
			Message: "the gateway stopped, or an operator closed the connection", Cause: e,
		}
	}
}

// flowEnd says how a flow that did not go well ended.
func (s *session) flowEnd(e *connmodel.ConnError) connmodel.FlowEnd {
	end := connmodel.FlowEnd{Reason: reasonFor(e)}
	if why := s.life.ended(); why != "" {
		end.Reason = why
	}
	if e != nil && e.Side == connmodel.SideClient && (e.Kind == connmodel.KindReset || e.Kind == connmodel.KindEOF || e.Kind == connmodel.KindCanceled) {
		end.First = connmodel.SideClient
	}
	return end
}

// NetworkChanged says that this machine has other addresses or routes: connections that were kept for requests to come may lead nowhere, and are
// given up. Those that carry something go on. The table of routes is told by its owner.
func (r *Router) NetworkChanged() { r.kept.Clear() }
