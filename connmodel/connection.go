package connmodel

import (
	"net/netip"
	"time"
)

// Connection is what client and server have in common. As part of a Flow it is a snapshot: plain data, changed by nobody.
type Connection struct {
	ID      ID
	Address Address        // client: where it comes from; server: what is asked for (the plan)
	Peer    netip.AddrPort // the remote end of our socket; for a server behind hops, the first hop's
	Local   netip.AddrPort // our end of the socket
	State   State
	TLS     bool       // TLS is wanted on this connection, by us or by the peer
	Error   *ConnError // this endpoint should not be tried again as is; an ordinary end does not set it
	TLSInfo *TLSInfo   // TLS as established, or what is known of a client's handshake that failed; nil before, and without TLS

	// Wall clock for people, monotonic for durations; zero = never happened.
	Start    time.Time // client: accepted; server: just before name resolution, after the decision
	TCPSetup time.Time // the socket (server: the whole route) is up
	TLSSetup time.Time // the TLS handshake is done
	End      time.Time // both directions are closed
}

// TLSEstablished reports whether the TLS handshake was completed. It is derived, never assigned.
func (c *Connection) TLSEstablished() bool { return !c.TLSSetup.IsZero() }

// Client is the connection from the program that uses the gateway.
type Client struct {
	Connection
	Listener string
	Protocol Protocol // of the first request; "" while unknown
	User     string   // proved to the listener
	Session  ID       // equals ID: the session is this connection, accept to close
	// Proxied is what a load balancer in front of us said of the client; Address is then the client's, and Peer the balancer's. nil =
	// there was no such header.
	Proxied *ProxyHeader

	// Hello is what a TLS client said first in its tunnel; nil = it was not looked into, or the client spoke no TLS.
	Hello *ClientHello
}

// From is where the client connects from: what a load balancer told, else the other end of the socket. Zero for a Unix socket.
func (c *Client) From() netip.AddrPort {
	if c.Proxied != nil && c.Proxied.Source.IsValid() {
		return c.Proxied.Source
	}
	return c.Peer
}

// ProxyHeader is a header of the PROXY protocol.
type ProxyHeader struct {
	Version     int            // 1 or 2
	Source      netip.AddrPort // the client; zero when the balancer did not say
	Destination netip.AddrPort // where the client connected to; zero likewise
	Own         bool           // the balancer speaks for itself, as in a health check
}

// Server is the connection toward the far end, through the route.
type Server struct {
	Connection
	Via        string // name of the route as the decision gave it
	Route      string // what was really used, member and hops by name: "corp_a > jump"; "direct"
	ResolvedBy string // who turned the target's name into an address: "viaduct", "upstream", "literal"; "" = nobody yet
	Attempts   []Attempt
	Reused     bool // a kept connection served this flow
	Truncated  bool // attempts or hops were left out to keep the record bounded
}

// Attempt is one try at one route.
type Attempt struct {
	Number int    // from 1
	Route  string // member and hops by name
	Start  time.Time
	End    time.Time // when it was decided, either way; zero = still going on
	Hops   []HopResult
	Error  *ConnError // nil when it connected
}

// Connected reports whether this attempt is the one that worked.
func (a *Attempt) Connected() bool { return !a.End.IsZero() && a.Error == nil }

// HopResult is what happened at one proxy of the way, or, as last element, at the server itself.
type HopResult struct {
	Upstream string         // name of the declared upstream; "" for the server itself
	Protocol string         // "http", "https", "socks4", "socks4a", "socks5", "socks5h", a registered scheme; "tcp" for the server
	Address  Address        // the proxy's, or the server's address as asked for
	Peer     netip.AddrPort // reached; only where we ourselves connected
	Local    netip.AddrPort

	Start time.Time
	// How long each part took; zero = did not happen here.
	DNS      time.Duration // resolving Address; Resolved says by whom
	TCP      time.Duration // connecting to it, from us or (for hop 2 and deeper) nothing: see Connect of the hop before
	TLS      time.Duration // TLS handshake with it
	Greeting time.Duration // SOCKS method negotiation
	Auth     time.Duration // proving our credentials
	Connect  time.Duration // asking it to connect to the next hop or server, until its answer
	Total    time.Duration

	Index      int16  // from 1
	AuthRounds int16  // authentication messages sent
	ProxyProto int16  // version of the PROXY protocol header that was sent to it; 0 = none
	Reused     bool   // a connection to it that other flows share was there already: TLSInfo is of when that was made
	Credential string // name of the credential used; never the secret
	TLSInfo    *TLSInfo
	Resolved   *Resolution // where the addresses of Address's name are from; nil = the machine's resolver, or there was none to find
	BoundAddr  string      // address the proxy says it used, bounded; "" = none said
	Error      *ConnError  // the failure blamed on this hop
}

// Resolution is how a resolver of the policy came to the addresses of a name.
type Resolution struct {
	Resolver string        // its name
	From     string        // "server", "cache", "stale", "hosts", "special", "system"
	Server   string        // that said it, as in "tls://192.0.2.53:853"; "" = none did
	Took     time.Duration // of the lookup
}

// Request is the HTTP request of a flow.
type Request struct {
	Method string
	Scheme string
	Host   string
	Path   string  // bounded
	Tunnel ID      // the flow of the tunnel that it came in; zero = it came by itself
	Within Address // that tunnel's target
	Start  time.Time
	End    time.Time // last byte of the body sent on
}

// Response is the HTTP response of a flow.
type Response struct {
	Status int
	Start  time.Time // first byte of the head
	End    time.Time // last byte of the body passed on
}

// Reply is the answer that the client got from Viaduct itself.
type Reply struct {
	Code  int32 // HTTP status, SOCKS reply
	Early bool  // the "yes" was sent before the server was reached
	Time  time.Time
}

// CloseReason says why a flow ended.
type CloseReason string

// The close reasons.
const (
	CloseClient      CloseReason = "client_closed"    // FIN from the client first, both directions completed
	CloseServer      CloseReason = "server_closed"    // FIN from the server first, both directions completed
	CloseClientReset CloseReason = "client_reset"     // RST from the client
	CloseServerReset CloseReason = "server_reset"     // RST from the server or a hop
	CloseIdle        CloseReason = "idle_timeout"     // no byte for the idle timeout
	CloseHalfIdle    CloseReason = "half_closed_idle" // one side had ended, and the other was silent
	CloseDrained     CloseReason = "drained"          // the gateway stopped
	CloseAdmin       CloseReason = "admin"            // an operator closed it
	CloseDenied      CloseReason = "denied"           // a decision refused it
	CloseFailed      CloseReason = "failed"           // it could not be established; see Error
	CloseDone        CloseReason = "done"             // a plain request was answered
	CloseLimit       CloseReason = "limit"            // one of our bounds was met
	CloseInternal    CloseReason = "internal"         // our fault
)

// Flow is one target asked for on a session: one CONNECT, one SOCKS request, one plain HTTP request. A Flow value is a
// snapshot, or, once closed, the record.
type Flow struct {
	ID         ID
	Session    ID
	Generation uint64
	Client     *Client
	Server     *Server // nil until dialling begins
	Target     Address
	Protocol   Protocol
	Decision   *Decision
	Gathered   *Gathered // what the decision looked at that stands nowhere else; nil = nothing
	Trace      *Trace    // only when it was asked for
	Span       *Span     // its place in a distributed trace; nil = none
	Error      *ConnError
	Request    *Request // nil for tunnels, but for one that was refused for the request it began with
	Response   *Response
	Reply      *Reply
	Metadata   map[string]string

	Start   time.Time
	Decided time.Time // the decision was made
	End     time.Time
	Up      int64 // payload bytes client to server
	Down    int64 // payload bytes server to client
	First   Side  // who closed first; "" = nobody yet, or both at our hands
	Reason  CloseReason
	// Panicked is true when the goroutine of this flow panicked; Error then says internal.
	Panicked bool
	// Truncated is true when this was read from a record that had to be cut to stay bounded.
	Truncated bool
}

// Trace is every rule tried, in order, with the reason it did or did not match.
type Trace struct {
	Steps []TraceStep
}

// TraceStep is one rule tried.
type TraceStep struct {
	Rule    string
	File    string
	Line    int
	Matched bool
	Shadow  bool
	Reason  string // "host www.example.com is not below corp.example"
}
