package connmodel

import (
	"net/netip"
	"strings"
	"time"
)

// Protocol is how the client asked.
type Protocol string

// The protocols of ingress. ProtocolHTTP is a plain request in absolute form, ProtocolConnect a CONNECT tunnel.
const (
	ProtocolHTTP    Protocol = "http"
	ProtocolConnect Protocol = "connect"
	ProtocolSOCKS4  Protocol = "socks4"
	ProtocolSOCKS4a Protocol = "socks4a"
	ProtocolSOCKS5  Protocol = "socks5"
	// ProtocolRedirect and ProtocolTProxy are connections that the kernel sent here (transparent proxying); ProtocolForward is a
	// listener with a fixed target; ProtocolUDP is a SOCKS5 UDP association.
	ProtocolRedirect Protocol = "redirect"
	ProtocolTProxy   Protocol = "tproxy"
	ProtocolForward  Protocol = "forward"
	ProtocolUDP      Protocol = "socks5-udp"
)

// Need is a set of facts that evaluation has reached without having them.
type Need uint8

// The facts that are gathered only when a rule asks.
const (
	// NeedAddresses asks for the addresses of the target's name (Facts.Addresses).
	NeedAddresses Need = 1 << iota
	// NeedHello asks for a look at the client's first bytes behind the handshake, for the TLS ClientHello (Facts.Hello). When the
	// client speaks no TLS, or sends nothing in time, the fact is had and Hello stays nil.
	NeedHello
	// NeedRequest asks for the same look, for the head of a plain HTTP request (Facts.Request). Tunnels that the client asked for by
	// CONNECT are not looked into for one.
	NeedRequest
	// NeedName asks for the name that a client asks for inside, where a firewall sent its connection here (Facts.Named): that of its
	// ClientHello or of its plain HTTP request. It is had with either, or with NeedHello and NeedRequest together.
	NeedName
	// NeedHeader and NeedReach are facts that flows have at once, and that a record does not keep: the fields of a request (those that were
	// not sampled), and what the machine could reach. They are lacking in Facts of the past alone: see Facts.Gone.
	NeedHeader
	NeedReach
)

// String names the facts, for logs and explain.
func (n Need) String() string {
	var parts []string
	if n&NeedAddresses != 0 {
		parts = append(parts, "addresses")
	}
	if n&NeedHello != 0 {
		parts = append(parts, "client_hello")
	}
	if n&NeedRequest != 0 {
		parts = append(parts, "request")
	}
	if n&NeedName != 0 {
		parts = append(parts, "name")
	}
	if n&NeedHeader != 0 {
		parts = append(parts, "header")
	}
	if n&NeedReach != 0 {
		parts = append(parts, "reach")
	}
	return strings.Join(parts, "+")
}

// Facts is everything a decision may look at. The router fills it as the journey goes; a Decider only reads it.
// All names in it are canonical (see CanonicalHost).
type Facts struct {
	Listener string
	Client   netip.AddrPort // unmapped, without zone; zero for a Unix socket
	Time     time.Time      // stamped once per flow, in the gateway's time zone
	User     string         // proved to the listener; "" = nobody
	Protocol Protocol
	Target   Address
	TargetIP netip.Addr // Target.Host when it spells an address, else zero; where a name was found inside (Named), still that address
	Scheme   string     // "http" for plain requests, "" for tunnels: what is inside is not known

	// Have says which of the facts that are gathered on demand are here.
	Have Need
	// Addresses are the target's, from the one resolution of this flow; set when Have has NeedAddresses and the target is a
	// name. For a literal target rules look at TargetIP.
	Addresses []netip.Addr
	// Resolved is where they are from; nil = the machine's resolver.
	Resolved *Resolution

	// Hello is the ClientHello that a tunnel begins with; nil when Have lacks NeedHello, and when the client speaks no TLS.
	Hello *ClientHello

	// Request is the HTTP request: a plain one, one that a peek into a tunnel found, or one inside an intercepted tunnel. nil for
	// tunnels that were not looked into.
	Request *RequestFacts
	// Tunnel is the target of the tunnel that Request came in; zero for requests that came by themselves, and for tunnels.
	Tunnel Address

	// Reach knows what this machine can reach at present; nil = nothing is known, and so nothing can be reached.
	Reach Reach

	// HelloUnread says that the client began a ClientHello that could not be read, and RequestUnread the same of an HTTP request: a
	// rule whose outcome depends on it has none, and nothing fails open.
	HelloUnread, RequestUnread bool

	// Gone says of which facts something may not be known, and cannot be had any more: these are facts of the past, as a record tells them
	// (Flow.Facts). 0 = the flow is here.
	Gone Need

	// Record is what the facts are of, for filters, which ask of it what no rule can; nil for flows that are to be decided.
	Record *Flow
}

// LacksField reports whether it is not known whether the request has more lines of a header field than Request.Header knows.
func (f *Facts) LacksField(name string) bool {
	if f.Gone&NeedHeader == 0 || f.Request == nil {
		return false
	}
	k, ok := f.Request.Header.(interface{ Knows(name string) bool })
	return ok && !k.Knows(name)
}

// LacksReach reports whether it is not known whether an address could be reached.
func (f *Facts) LacksReach(to Address) bool {
	if f.Gone&NeedReach == 0 {
		return false
	}
	k, ok := f.Reach.(interface{ Knows(to Address) bool })
	return !ok || !k.Knows(to)
}

// Reach says what this machine can reach. What it says was found out before: it does no I/O.
type Reach interface {
	// Reachable reports whether a TCP connection to the address can be made. An address that nobody asked to be tried cannot be reached.
	Reachable(to Address) bool
}

// Lacks returns which of the facts in n are not known for f: they would have to be gathered, or were begun and could not be read. A
// literal target is its own address; what was not asked for by way of a tunnel has no ClientHello.
func (f *Facts) Lacks(n Need) Need {
	have := f.Have | NeedHeader | NeedReach
	if f.TargetIP.IsValid() {
		have |= NeedAddresses
	}
	if n&NeedName != 0 && !f.lacksName() {
		have |= NeedName
	}
	if n&(NeedHello|NeedRequest) == 0 {
		return n&^have | n&f.Gone
	}
	if f.HelloUnread {
		have &^= NeedHello
	}
	if f.RequestUnread {
		have &^= NeedRequest
	}
	return n&^(have|f.never()) | n&f.Gone
}

// never is what cannot be had of a flow's first bytes, because there is no tunnel, or because they are known to be a request.
func (f *Facts) never() Need {
	if f.Request == nil {
		switch f.Protocol {
		case ProtocolConnect:
			return NeedRequest
		case ProtocolSOCKS4, ProtocolSOCKS4a, ProtocolSOCKS5, ProtocolRedirect, ProtocolTProxy, ProtocolForward:
			return 0
		}
	}
	return NeedHello | NeedRequest
}

// SNIMismatch reports whether the client asked the server for another name than it asked the gateway for. A target that is an address
// has no name to compare, and neither has a client without SNI.
func (f *Facts) SNIMismatch() bool {
	return f.Hello != nil && f.Hello.SNI != "" && !f.TargetIP.IsValid() && f.Hello.SNI != f.Target.Host
}

// Misdirected reports whether f is a request for another host than that of the tunnel it came in. A tunnel to an address has the name that its TLS asked
// for, or else any.
func (f *Facts) Misdirected() bool {
	if f.Tunnel.IsZero() || f.Target == f.Tunnel {
		return false
	}
	name := ""
	if f.Hello != nil {
		name = f.Hello.SNI
	}
	return !f.Tunnel.IP().IsValid() || f.Target.Port != f.Tunnel.Port || name != "" && f.Target.Host != name
}

// RequestFacts is what rules may know of one HTTP request.
type RequestFacts struct {
	Method string
	Path   string // path and query as sent, beginning with "/" (or "*")
	Header HeaderLookup
}

// HeaderLookup finds the values of a header field by name, in any case. The http1 header types satisfy it.
type HeaderLookup interface {
	// Lookup returns the first value and whether there is one; several lines of one name are asked for by index i from 0.
	Lookup(name string, i int) (value string, ok bool)
}

// Decider takes facts and gives a decision. It does no I/O, reads no clock, and may be called from any goroutine.
type Decider interface {
	// Decide returns the decision for f. When evaluation reaches a rule that asks for a fact that f does not have yet,
	// it returns nil and what it needs: the caller gathers that, sets f.Have, and calls again.
	Decide(f *Facts) (*Decision, Need)
}

// ShadowDecider says what another policy would have decided. It does no I/O, reads no clock, gathers nothing, and may be called from any goroutine.
type ShadowDecider interface {
	// Shadow judges f, for which d was decided, with the facts that it has. What it returns is not changed by anybody.
	Shadow(f *Facts, d *Decision) *ShadowDecision
}

// DeciderFunc makes a function a Decider.
type DeciderFunc func(f *Facts) (*Decision, Need)

// Decide calls d.
func (d DeciderFunc) Decide(f *Facts) (*Decision, Need) { return d(f) }
