package connmodel

import (
	"net/netip"
	"time"
)

// AttemptRecorder writes one attempt. Verbs of the zero AttemptRecorder and HopRecorder do nothing, so that dialling works
// without a record, for health checks.
type AttemptRecorder struct {
	r *Recorder
	i int
}

// HopRecorder writes what happens at one hop of an attempt.
type HopRecorder struct {
	a AttemptRecorder
	i int
}

// BeginAttempt begins a try at a route, named with its member and hops ("corp_a > jump"). BeginDial must have been called, and
// no attempt may have connected before; otherwise, and beyond maxAttempts, it returns the zero AttemptRecorder.
func (r *Recorder) BeginAttempt(route string) AttemptRecorder {
	defer r.unlock()
	if !r.lock() || r.flow.Server == nil || r.up {
		return AttemptRecorder{}
	}
	n := len(r.server.Attempts)
	if n == maxAttempts {
		r.server.Truncated = true
		return AttemptRecorder{}
	}
	at := Attempt{Number: n + 1, Route: bound(route, maxText), Start: r.now()}
	if n == 0 {
		at.Hops = r.hops[:0]
	}
	r.server.Attempts = append(r.server.Attempts, at)
	r.trying++
	r.push(Event{Kind: EventServerConnect, Time: at.Start, Side: SideServer, Attempt: n + 1})
	return AttemptRecorder{r, n}
}

// Recorder returns the flow's recorder, or nil for the zero AttemptRecorder.
func (a AttemptRecorder) Recorder() *Recorder { return a.r }

// lock takes the lock and returns the attempt while it is undecided, else nil. Unless it returns nil, unlock is due.
func (a AttemptRecorder) lock() *Attempt {
	if a.r == nil {
		return nil
	}
	a.r.session.mu.Lock()
	if a.i < len(a.r.server.Attempts) {
		if at := &a.r.server.Attempts[a.i]; at.End.IsZero() {
			return at
		}
	}
	a.r.session.mu.Unlock()
	return nil
}

// BeginHop notes that the next hop, or the server itself (upstream ""), is being reached.
func (a AttemptRecorder) BeginHop(upstream, protocol string, address Address) HopRecorder {
	at := a.lock()
	if at == nil {
		return HopRecorder{}
	}
	defer a.r.unlock()
	i := len(at.Hops)
	if i == maxHops {
		a.r.server.Truncated = true
		return HopRecorder{}
	}
	at.Hops = append(at.Hops, HopResult{Index: int16(i + 1), Upstream: upstream, Protocol: protocol, Address: address, Start: a.r.now()})
	return HopRecorder{a, i}
}

// ResolvedBy notes who turned the target's name into an address: "viaduct", "upstream" or "literal".
func (a AttemptRecorder) ResolvedBy(who string) {
	if at := a.lock(); at != nil {
		a.r.server.ResolvedBy = who
		a.r.unlock()
	}
}

// Connected ends the attempt as the one that worked: local and peer are the ends of our socket. When another attempt of the
// flow was faster, this one ends as canceled.
func (a AttemptRecorder) Connected(local, peer netip.AddrPort) {
	at := a.lock()
	if at == nil {
		return
	}
	r := a.r
	defer r.unlock()
	if r.up {
		r.attemptFailed(a.i, errSlower)
		return
	}
	s := &r.server
	r.trying--
	at.End = r.now()
	s.Route, s.Local, s.Peer, s.Error = at.Route, local, peer, nil
	if own := at.serverTLS(); own == nil {
		// What is there is of another attempt, unless this one is alone and its TLSStarted said when the route was up.
		if s.TLSInfo != nil || s.TCPSetup.IsZero() || r.trying > 0 {
			s.TLSInfo, s.TLSSetup, s.TCPSetup = nil, time.Time{}, at.End
		}
	} else if own.TLSInfo != s.TLSInfo { // what is there is another attempt's, which was slower in the end
		s.TLS, s.TLSInfo, s.TLSSetup, s.TCPSetup = true, own.TLSInfo, at.End, later(at.End.Add(-own.TLS), s.Start)
	}
	s.State = Active
	if s.TLS && s.TLSSetup.IsZero() {
		s.State = Open // until ServerTLSEstablished
	}
	r.up = true
	r.push(Event{Kind: EventServerConnected, Time: at.End, Side: SideServer, Attempt: a.i + 1})
}

// serverTLS returns the hop in which this attempt made TLS with the server itself, or nil.
func (a *Attempt) serverTLS() *HopResult {
	if n := len(a.Hops); n > 0 && a.Hops[n-1].Upstream == "" && a.Hops[n-1].TLSInfo != nil {
		return &a.Hops[n-1]
	}
	return nil
}

var errSlower = &ConnError{Phase: PhaseDial, Side: SideViaduct, Kind: KindCanceled, Message: "another attempt was faster"}

// Fail ends the attempt with err.
func (a AttemptRecorder) Fail(err *ConnError) {
	if at := a.lock(); at != nil {
		a.r.attemptFailed(a.i, err)
		a.r.unlock()
	}
}

// attemptFailed decides attempt i. What it noted of the server is taken back: the next attempt begins anew, and the hops keep
// it. The lock is held.
func (r *Recorder) attemptFailed(i int, err *ConnError) {
	if err == nil {
		err = &ConnError{Phase: PhaseDial, Side: SideViaduct, Kind: KindInternal, Message: "the attempt failed without saying why"}
	}
	at, s := &r.server.Attempts[i], &r.server
	r.trying--
	at.End, at.Error = r.now(), err
	if !r.up {
		s.Error = err
		if own := at.serverTLS(); r.trying == 0 || own != nil && own.TLSInfo == s.TLSInfo {
			s.TCPSetup, s.TLSSetup, s.TLSInfo = time.Time{}, time.Time{}, nil
		}
		if r.trying == 0 {
			s.State, s.Local, s.Peer = Closed, netip.AddrPort{}, netip.AddrPort{}
		}
	}
	r.push(Event{Kind: EventServerConnectError, Time: at.End, Side: err.Side, Hop: err.Hop, Attempt: i + 1, Error: err})
}

// lock takes the lock and returns the hop while its attempt is undecided, else nil. Unless it returns nil, unlock is due.
func (h HopRecorder) lock() *HopResult {
	at := h.a.lock()
	if at == nil {
		return nil
	}
	return &at.Hops[h.i]
}

func (h HopRecorder) unlock() { h.a.r.unlock() }

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
	hop := h.lock()
	if hop == nil {
		return
	}
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
	h.unlock()
}

// TCPConnected notes the socket to the first hop (or the server, when direct), and how long DNS and TCP took.
func (h HopRecorder) TCPConnected(local, peer netip.AddrPort, dns, tcp time.Duration) {
	hop := h.lock()
	if hop == nil {
		return
	}
	hop.Local, hop.Peer, hop.DNS, hop.TCP = local, peer, dns, tcp
	if s := &h.a.r.server; !h.a.r.up && s.State == Closed {
		s.State, s.Local, s.Peer = Open, local, peer // Open alone: the socket is up, the route is not
	}
	h.unlock()
}

// isServer reports whether hop is the server itself and this attempt can still be the one that reaches it.
func (h HopRecorder) isServer(hop *HopResult) bool { return hop.Upstream == "" && !h.a.r.up }

func (hop *HopResult) side() Side {
	if hop.Upstream == "" {
		return SideServer
	}
	return SideHop
}

// TLSStarted notes that a TLS handshake with this hop begins. Where the hop is the server, the route to it is up.
func (h HopRecorder) TLSStarted() {
	hop := h.lock()
	if hop == nil {
		return
	}
	now := h.a.r.now()
	if s := &h.a.r.server; h.isServer(hop) && s.TLSSetup.IsZero() {
		s.TCPSetup = now
	}
	h.push(hop, Event{Kind: EventTLSStart, Time: now})
	h.unlock()
}

// TLSEstablished notes the finished TLS handshake with this hop. Where the hop is the server itself, it is also noted there.
func (h HopRecorder) TLSEstablished(info *TLSInfo, took time.Duration) {
	hop := h.lock()
	if hop == nil {
		return
	}
	if info == nil {
		info = new(TLSInfo) // a handshake of which nothing is known
	}
	now := h.a.r.now()
	hop.TLSInfo, hop.TLS = info, took
	if s := &h.a.r.server; h.isServer(hop) && s.TLSSetup.IsZero() {
		s.TLS, s.TLSInfo = true, info
		if s.TCPSetup.IsZero() {
			s.TCPSetup = later(now.Add(-took), s.Start)
		}
		s.TLSSetup = later(now, s.TCPSetup)
	}
	h.push(hop, Event{Kind: EventTLSEstablished, Time: now})
	h.unlock()
}

// TLSFailed notes what was seen of the peer in a handshake that failed; info may be nil. The error itself is noted by Fail.
func (h HopRecorder) TLSFailed(err *ConnError, info *TLSInfo, took time.Duration) {
	if hop := h.lock(); hop != nil {
		hop.TLSInfo, hop.TLS = info, took
		h.push(hop, Event{Kind: EventTLSFailed, Time: h.a.r.now(), Error: err})
		h.unlock()
	}
}

// CertificateWarning tells observers that a certificate of this hop wants attention.
func (h HopRecorder) CertificateWarning(w *CertificateWarning) {
	if hop := h.lock(); hop != nil {
		h.push(hop, Event{Kind: EventCertificateWarning, Time: h.a.r.now(), Certificate: w})
		h.unlock()
	}
}

func (h HopRecorder) push(hop *HopResult, e Event) {
	e.Side, e.Hop, e.Attempt = hop.side(), h.i+1, h.a.i+1
	h.a.r.push(e)
}

// UsedCredential notes the name of the credential that was sent to this hop.
func (h HopRecorder) UsedCredential(name string) {
	if hop := h.lock(); hop != nil {
		hop.Credential = bound(name, maxText)
		h.unlock()
	}
}

// SentProxyHeader notes that a PROXY protocol header of that version was sent to this hop.
func (h HopRecorder) SentProxyHeader(version int) {
	if hop := h.lock(); hop != nil {
		hop.ProxyProto = int16(version)
		h.unlock()
	}
}

// Reused notes that the way to this hop, a connection that flows share, was there already: info is what its TLS handshake showed, nil
// without TLS; local and peer are the ends of our socket where this is the first hop.
func (h HopRecorder) Reused(info *TLSInfo, local, peer netip.AddrPort) {
	if hop := h.lock(); hop != nil {
		hop.Reused, hop.TLSInfo, hop.Local, hop.Peer = true, info, local, peer
		h.unlock()
	}
}

// NotReused takes Reused back: that connection was dead, and another is made.
func (h HopRecorder) NotReused() {
	if hop := h.lock(); hop != nil {
		if hop.Reused {
			hop.Reused, hop.TLSInfo, hop.Local, hop.Peer = false, nil, netip.AddrPort{}, netip.AddrPort{}
		}
		h.unlock()
	}
}

// Bound notes the address the proxy says it used.
func (h HopRecorder) Bound(addr string) {
	if hop := h.lock(); hop != nil {
		hop.BoundAddr = bound(addr, 262)
		h.unlock()
	}
}

// Resolved notes where the addresses of this hop's name are from; nil notes nothing. r is not changed any more.
func (h HopRecorder) Resolved(r *Resolution) {
	if r == nil {
		return
	}
	if hop := h.lock(); hop != nil {
		hop.Resolved = r
		h.unlock()
	}
}

// Done notes that this hop did its part.
func (h HopRecorder) Done() {
	if hop := h.lock(); hop != nil {
		hop.Total = time.Since(hop.Start)
		h.unlock()
	}
}

// Fail notes the failure blamed on this hop.
func (h HopRecorder) Fail(err *ConnError) {
	if hop := h.lock(); hop != nil {
		hop.Error, hop.Total = err, time.Since(hop.Start)
		h.unlock()
	}
}
