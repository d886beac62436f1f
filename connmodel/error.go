package connmodel

import (
	"strconv"
	"strings"
)

// Phase is the station of the journey where something failed.
type Phase string

// The phases, in the order of the journey.
const (
	PhaseAccept    Phase = "accept"
	PhaseHandshake Phase = "handshake"
	PhaseSniff     Phase = "sniff"
	PhaseDecide    Phase = "decide"
	PhaseResolve   Phase = "resolve"
	PhaseDial      Phase = "dial"
	PhaseTLS       Phase = "tls"
	PhaseGreeting  Phase = "greeting"
	PhaseAuth      Phase = "auth"
	PhaseConnect   Phase = "connect"
	PhaseRequest   Phase = "request"
	PhaseRelay     Phase = "relay"
)

// Side says whose end of the journey it was.
type Side string

// The sides.
const (
	SideClient  Side = "client"
	SideHop     Side = "hop"
	SideServer  Side = "server"
	SideViaduct Side = "viaduct"
)

// Kind is what the failure means, in words a table of answers can use.
type Kind string

// The kinds.
const (
	KindRefused     Kind = "refused"     // RST in answer to our SYN, or a proxy that says so
	KindUnreachable Kind = "unreachable" // no route to host or network
	KindTimeout     Kind = "timeout"     // a deadline of ours or of a proxy passed
	KindDNS         Kind = "dns"         // the name has no address, or no server told us
	KindAuth        Kind = "auth"        // credentials wanted, or rejected
	KindDenied      Kind = "denied"      // a rule said no: ours, or a proxy's
	KindTLS         Kind = "tls"         // handshake, verification or alert
	KindProtocol    Kind = "protocol"    // the peer does not speak what it should
	KindReset       Kind = "reset"       // RST in an open connection
	KindEOF         Kind = "eof"         // closed where more was due
	KindLimit       Kind = "limit"       // one of our bounds was met
	KindCanceled    Kind = "canceled"    // the client left, or the gateway stops
	KindInternal    Kind = "internal"    // our fault
)

// Blame says whose fault a failure is, as far as health and retries care.
type Blame string

// The blames. A target that is down does not eject the proxy that said so; a client that hangs up blames nobody.
const (
	BlameNobody Blame = ""
	BlameProxy  Blame = "proxy"
	BlameTarget Blame = "target"
	BlameClient Blame = "client"
	BlameLocal  Blame = "viaduct"
)

// ConnError is a failure as plain data: where it happened, what it means, what the wire said, and what may be done.
// It is never changed once made, so pointers to it may be shared.
type ConnError struct {
	Phase   Phase
	Side    Side
	Hop     int    // 1-based index of the hop in the chain; 0 when no hop is concerned
	HopName string // name of the upstream at that hop
	Kind    Kind
	Message string // one sentence for people, without the prefix that names the hop
	Code    int    // the wire's own code: HTTP status, SOCKS reply, TLS alert; 0 = none
	CodeOf  string // what Code is: "http", "socks4", "socks5", "tls"; "" when there is none
	Blame   Blame
	// Retryable is true when another attempt, on this route or another, can help.
	Retryable bool
	// Verdict says what is wrong with the peer's certificates, where they are why; "" = they are not.
	Verdict ChainVerdict
	// Cause is the error this was made from, for errors.As; nil after a JSON round trip.
	Cause error
}

// Error returns for instance "hop 2 (jump): socks5: connection not allowed by ruleset".
func (e *ConnError) Error() string {
	if e == nil {
		return "<nil>"
	}
	var b strings.Builder
	switch {
	case e.Side == SideHop && e.Hop > 0:
		b.WriteString("hop ")
		b.WriteString(strconv.Itoa(e.Hop))
		if e.HopName != "" {
			b.WriteString(" (" + e.HopName + ")")
		}
		b.WriteString(": ")
	case e.Side == SideServer:
		b.WriteString("server: ")
	case e.Side == SideClient:
		b.WriteString("client: ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Cause }

// Timeout reports whether a deadline was missed, in the manner of net.Error.
func (e *ConnError) Timeout() bool { return e.Kind == KindTimeout }
