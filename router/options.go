package router

import (
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/router/intercept"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// Options are what a Router keeps over reloads. The zero value works: nothing is logged, recorded or watched.
type Options struct {
	// Hooks watch connections and may refuse or redirect them; nil = none.
	Hooks *connmodel.Hooks
	// Records takes the record of every flow; nil = none are kept. It must not block.
	Records connmodel.Sink
	// Log gets the decision line and the close line of every flow, and what goes wrong beside flows; nil = no logs.
	Log Log
	// Meter counts; nil = nothing is counted beyond Stats.
	Meter Meter
	// Watch is told of flows that are decided; nil = nobody is. Their ends are told by Records.
	Watch Watch
}

// Watch sees flows as they are. Its methods may be called from any goroutine, and must not block.
type Watch interface {
	// Watching reports whether Opened would do anything: it is asked for every flow.
	Watching() bool
	// Opened is given a snapshot of a flow that has just been decided.
	Opened(f *connmodel.Flow)
}

// Log writes the two canonical lines of a flow, and the rest. Its methods may be called from any goroutine.
type Log interface {
	// Decision is called when the decision of a flow is made.
	Decision(f FlowLine)
	// Close is called with the finished record.
	Close(f *connmodel.Flow)
	// Event reports something that concerns a listener or the router as a whole. kv are alternating keys and values.
	Event(level Level, message string, kv ...any)
}

// FlowLine is what is known when the decision is made.
type FlowLine struct {
	Flow     connmodel.ID
	Facts    *connmodel.Facts // not to be kept: it is used again
	Decision *connmodel.Decision
}

// Level of an Event.
type Level uint8

// The levels.
const (
	LevelInfo Level = iota
	LevelWarn
	LevelError
)

// Meter counts what happens, for metrics. Labels must stay bounded: a target never becomes one.
type Meter interface {
	SessionOpened(listener string)
	SessionClosed(listener string)
	SessionRefused(listener, reason string)
	FlowClosed(f *connmodel.Flow)
	// FirstFlow is called beside FlowClosed for the first flow of a client connection.
	FirstFlow(f *connmodel.Flow)
	// ClientTLS is called when the TLS handshake with a client is done, took being the time since it was accepted.
	ClientTLS(listener string, took time.Duration)
	CertificateWarned(side connmodel.Side, upstream string, reason connmodel.ChainVerdict)
	Panicked()
}

// Config is one generation of the configuration. A Router never changes it.
type Config struct {
	Generation uint64
	Listeners  []Listener
	Routes     *upstream.Table
	Resolver   resolve.Resolver // for names that rules or the next hop need resolved here; nil = the system's
	Limits     Limits
	// OwnAddresses are refused as targets beside the listeners: the control door, metrics.
	OwnAddresses []netip.AddrPort
	// Reach is what rules may know of the network; nil = nothing.
	Reach connmodel.Reach
	// Location is the time zone in which rules see the time; nil = local.
	Location *time.Location
	// WarnBefore is how long before its end a client's certificate raises a warning; 0 = 14 days. Those of proxies and servers: see
	// upstream.Config.
	WarnBefore time.Duration
	// CA signs what the clients of opened tunnels are shown; nil = there is none, and such tunnels are not opened, unless the rule has a
	// certificate of its own.
	CA *intercept.CA
	// Traces gives flows their places in distributed traces; nil = none is in one, and what clients say of traces passes untouched.
	Traces Tracing
	// Name identifies this gateway in Via and Proxy-Status; "" = "viaduct-" and 16 random hexadecimal digits, kept for the process' life.
	Name string
}

// Listener is where clients connect.
type Listener struct {
	Name      string
	Network   string // "tcp" (also ""), "unix" or "systemd"
	Address   string // "127.0.0.1:3128" (0.0.0.0 is IPv4 alone, "" and [::] are both), "/run/viaduct/proxy.sock"; the name of a socket for Network "systemd"
	Protocols Protocols
	Target    connmodel.Address // for Forward: where every connection goes
	Clients   []netip.Prefix    // networks that may connect; nil = all. Unix sockets are guarded by their file mode instead
	// ProxyProtocol says who has to tell, before anything else, whose connection it brings; nil = nobody. Clients and PerClient are
	// then about the client that is told.
	ProxyProtocol *ProxyProtocol
	PAC           func(gateway string) []byte // makes the script that GET /proxy.pac is answered with, gateway being the entry for this listener; nil = none
	FileMode      uint32                      // of a Unix socket; 0 = 0660
	Policy        string
	// Shadow is asked beside Decider, with what that has gathered, and decides nothing: what it says is recorded. nil = there is none.
	Shadow connmodel.ShadowDecider
	// Headers are the header fields of requests that records keep: connmodel.SampledFields has made them.
	Headers  []string
	Decider  connmodel.Decider
	Resolver resolve.Resolver // for names of targets that have to be looked up here; nil = that of the Config
	// Auth proves users by name and password; nil = nobody is asked. With it SOCKS4, which cannot prove anything, is refused.
	Auth  Authenticator
	Realm string // of the challenge; "" = "viaduct"
	// TLS is spoken with the clients before anything else; nil = it is not.
	TLS *ListenerTLS

	HandshakeTimeout time.Duration // from accept, and from the first byte of each further request, to a complete head; 0 = 10 s
	KeepAliveTimeout time.Duration // between two plain requests on one connection; 0 = 60 s
	SniffTimeout     time.Duration // how long a client may be silent behind its handshake, where a rule asks for its first bytes; 0 = 300 ms
	MaxHeadBytes     int           // 0 = 64 KiB
	UDP              *UDP          // UDP ASSOCIATE of SOCKS5; nil = refused
	PerClient        int           // connections of one client, and streams on them: an IPv4 address, or a /64 of IPv6; 0 = no limit
	MaxStreams       int           // of HTTP/2 at once on one connection; 0 = 250
}

// UDP says what the associations of a listener may hold. Zero fields = default.
type UDP struct {
	Idle         time.Duration // without a datagram: of an association, and of a target in it; 0 = 60 s
	Associations int           // at once; 0 = 1024
	PerClient    int           // of those, of one client (see Listener.PerClient); 0 = 32
	Targets      int           // at once in one association; 0 = 256
	// Nowhere says that no route of the policy carries datagrams: every association is refused (07).
	Nowhere bool
}

// Authenticator proves a user. It must take care of its own cost: it is asked for every connection.
type Authenticator interface {
	Verify(user, password string) bool
}

// ProxyProtocol is which peers of a listener are load balancers that send a header of the PROXY protocol. A header is believed from
// them alone, and demanded of them: without, whatever they pass on would be taken for their own.
type ProxyProtocol struct {
	From   []netip.Prefix // networks of the balancers; whoever may connect to a Unix socket is one
	Others bool           // further peers may connect, as clients for themselves: a header of theirs is garbage; else they are refused
}

// Protocols is a set of what a listener speaks, told apart by the first byte.
type Protocols uint16

// The protocols of a listener. Those of which nothing is asked go with no other: their clients may wait for the server to speak first.
const (
	HTTP Protocols = 1 << iota
	SOCKS4
	SOCKS5
	Forward      // a fixed target for programs that know no proxy: see Listener.Target
	Redirect     // connections that the kernel sent here by REDIRECT or DNAT: where to, it remembers
	TProxy       // connections that the kernel handed over by TPROXY: where to is the local end of the socket
	AllProtocols = HTTP | SOCKS4 | SOCKS5

	fromKernel = Redirect | TProxy
	targeted   = Forward | fromKernel // nothing is asked of the client: where it goes is known without
)

// Limits of the whole router.
type Limits struct {
	// Connections is how many clients may be connected at once, each stream of HTTP/2 counted as one more; 0 = what the descriptor limit allows, less a reserve. At most half of
	// them, but 32 in any case, may be at their handshake: beyond that the one that has been at it for longest is closed.
	Connections int
	// Timeouts are the defaults for every flow; zero fields = 1 h idle, 60 s half-closed, 60 s connect, 5 min response.
	Timeouts connmodel.Timeouts
}

// Defaults of the timeouts.
const (
	DefaultIdle       = time.Hour
	DefaultHalfClosed = 60 * time.Second
	DefaultConnect    = 60 * time.Second
	DefaultResponse   = 5 * time.Minute
	defaultHandshake  = 10 * time.Second
	defaultKeepAlive  = 60 * time.Second
)

// timeouts returns those of d over the router's over the defaults.
func (l *Limits) timeouts(d *connmodel.Decision) connmodel.Timeouts {
	t := d.Timeouts
	pick := func(v *time.Duration, general, fallback time.Duration) {
		if *v == 0 {
			*v = general
		}
		if *v == 0 {
			*v = fallback
		}
	}
	pick(&t.Idle, l.Timeouts.Idle, DefaultIdle)
	pick(&t.HalfClosed, l.Timeouts.HalfClosed, DefaultHalfClosed)
	pick(&t.Connect, l.Timeouts.Connect, DefaultConnect)
	pick(&t.Response, l.Timeouts.Response, DefaultResponse)
	return t
}
