package connmodel

import (
	"net/netip"
	"time"
)

// AttemptRecorder writes one attempt. It stays valid while its Recorder does.
type AttemptRecorder struct {
	r *Recorder
	i int
}

// HopRecorder writes what happens at one hop of an attempt.
type HopRecorder struct {
	a AttemptRecorder
	i int
}

// BeginAttempt begins a try at a route, named with its member and hops ("corp_a > jump"). BeginDial must have been called.
func (r *Recorder) BeginAttempt(route string) AttemptRecorder {
	r.session.mu.Lock()
	n := len(r.server.Attempts)
	at := Attempt{Number: n + 1, Route: route, Start: time.Now()}
	if n == 0 {
		at.Hops = r.hops[:0]
	}
	r.server.Attempts = append(r.server.Attempts, at)
	r.session.mu.Unlock()
	return AttemptRecorder{r, n}
}

// Recorder returns the flow's recorder, or nil for the zero AttemptRecorder.
func (a AttemptRecorder) Recorder() *Recorder { return a.r }

func (a AttemptRecorder) attempt() *Attempt { return &a.r.server.Attempts[a.i] }

// BeginHop notes that the next hop, or the server itself (upstream ""), is being reached. Verbs of the zero
// AttemptRecorder and HopRecorder do nothing, so that dialling works without a record, for health checks.
func (a AttemptRecorder) BeginHop(upstream, protocol string, address Address) HopRecorder {
	if a.r == nil {
		return HopRecorder{}
	}
	a.r.session.mu.Lock()
	at := a.attempt()
	i := len(at.Hops)
	at.Hops = append(at.Hops, HopResult{Index: i + 1, Upstream: upstream, Protocol: protocol, Address: address, Start: time.Now()})
	a.r.session.mu.Unlock()
	return HopRecorder{a, i}
}

// Connected ends the attempt as the one that worked: local and peer are the ends of our socket.
func (a AttemptRecorder) Connected(local, peer netip.AddrPort) {
	if a.r == nil {
		return
	}
	r := a.r
	r.session.mu.Lock()
	at := a.attempt()
	if at.done {
		r.session.mu.Unlock()
		return
	}
	at.done, at.End = true, later(time.Now(), at.Start)
	s := &r.server
	s.Route, s.Local, s.Peer = at.Route, local, peer
	s.TCPSetup = later(at.End, s.Start)
	s.State = Active
	s.Error = nil
	if s.TLS {
		s.State = Open // until ServerTLSEstablished
	}
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventServerConnected, Side: SideServer, Attempt: a.i + 1})
}

// Fail ends the attempt with err.
func (a AttemptRecorder) Fail(err *ConnError) {
	if a.r == nil {
		return
	}
	r := a.r
	r.session.mu.Lock()
	at := a.attempt()
	if at.done {
		r.session.mu.Unlock()
		return
	}
	at.done, at.End, at.Error = true, later(time.Now(), at.Start), err
	r.server.Error = err
	r.session.mu.Unlock()
	r.emit(Event{Kind: EventServerConnectError, Side: err.Side, Hop: err.Hop, Attempt: a.i + 1, Error: err})
}

// HopPart is a part of reaching a hop that takes time of its own.
type HopPart uint8

// The parts.
const (
	PartDNS HopPart = iota
	PartTCP
	PartTLS
	PartGreeting
	PartAuth
	PartConnect
)

// Took notes how long a part took, added to what was noted before.
func (h HopRecorder) Took(p HopPart, d time.Duration) {
	h.update(func(hop *HopResult) {
		switch p {
		case PartDNS:
			hop.DNS += d
		case PartTCP:
			hop.TCP += d
		case PartTLS:
			hop.TLS += d
		case PartGreeting:
			hop.Greeting += d
		case PartAuth:
			hop.Auth += d
			hop.AuthRounds++
		case PartConnect:
			hop.Connect += d
		}
	})
}

// TCPConnected notes the socket to the first hop (or the server, when direct), and how long DNS and TCP took.
func (h HopRecorder) TCPConnected(local, peer netip.AddrPort, dns, tcp time.Duration) {
	h.update(func(hop *HopResult) { hop.Local, hop.Peer, hop.DNS, hop.TCP = local, peer, dns, tcp })
}

// TLSEstablished notes the finished TLS handshake with this hop.
func (h HopRecorder) TLSEstablished(info *TLSInfo, took time.Duration) {
	h.update(func(hop *HopResult) { hop.TLSInfo, hop.TLS = info, took })
	if h.a.r != nil {
		h.a.r.emit(Event{Kind: EventTLSEstablished, Side: SideHop, Hop: h.i + 1, Attempt: h.a.i + 1})
	}
}

// TLSStarted tells observers that a TLS handshake with this hop begins.
func (h HopRecorder) TLSStarted() {
	if h.a.r != nil {
		h.a.r.emit(Event{Kind: EventTLSStart, Side: SideHop, Hop: h.i + 1, Attempt: h.a.i + 1})
	}
}

// TLSFailed tells observers that it failed; the error itself is noted by Fail.
func (h HopRecorder) TLSFailed(err *ConnError) {
	if h.a.r != nil {
		h.a.r.emit(Event{Kind: EventTLSFailed, Side: SideHop, Hop: h.i + 1, Attempt: h.a.i + 1, Error: err})
	}
}

// UsedCredential notes the name of the credential that was sent to this hop.
func (h HopRecorder) UsedCredential(name string) {
	h.update(func(hop *HopResult) { hop.Credential = name })
}

// Bound notes the address the proxy says it used.
func (h HopRecorder) Bound(addr string) {
	h.update(func(hop *HopResult) { hop.BoundAddr = bound(addr, 262) })
}

// Done notes that this hop did its part.
func (h HopRecorder) Done() {
	h.update(func(hop *HopResult) { hop.Total = time.Since(hop.Start) })
}

// Fail notes the failure blamed on this hop.
func (h HopRecorder) Fail(err *ConnError) {
	h.update(func(hop *HopResult) { hop.Error, hop.Total = err, time.Since(hop.Start) })
}

// ResolvedBy notes who turned the target's name into an address: "viaduct", "upstream" or "literal".
func (a AttemptRecorder) ResolvedBy(who string) {
	if a.r == nil {
		return
	}
	a.r.session.mu.Lock()
	a.r.server.ResolvedBy = who
	a.r.session.mu.Unlock()
}

func (h HopRecorder) update(f func(*HopResult)) {
	if h.a.r == nil {
		return
	}
	h.a.r.session.mu.Lock()
	if at := h.a.attempt(); h.i < len(at.Hops) {
		f(&at.Hops[h.i])
	}
	h.a.r.session.mu.Unlock()
}
