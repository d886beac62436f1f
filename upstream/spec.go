package upstream

import (
	"crypto/tls"
	"net/netip"
	"net/url"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/resolve"
)

// Config is everything a Table is made of. It is read once, by NewTable, and not kept.
type Config struct {
	Upstreams []Spec
	Pools     []PoolSpec
	Chains    []ChainSpec
	Dynamic   []DynamicSpec
	Resolver  resolve.Resolver   // for all names that have to be looked up here; nil = resolve.System()
	Resolvers []resolve.Resolver // others that upstreams and decisions use: they are told when the network changes
	Direct    DirectSpec

	// Guard keeps accounts from being locked by credentials that are wrong; nil = they are shown as often as asked.
	Guard *auth.Guard

	// CertificateWarning is told of certificates of proxies and servers that want attention: each handshake that shows one, from many
	// goroutines at once. It must not block. nil = observers of the flow are told alone.
	CertificateWarning func(*connmodel.CertificateWarning)
	WarnBefore         time.Duration // how long before its end a certificate wants attention; 0 = 14 days

	// NoChecks keeps the table from checking anything by itself: nothing will be dialled.
	NoChecks bool
	// Later says that the table is not in force yet, and may never be: Table.Begin is called when it is.
	Later bool
	// Changed is told when a member of a pool, or an upstream that is checked, is taken out or comes back, from many goroutines. It must not
	// block. nil = nobody is told.
	Changed func(*Change)
}

// Spec is one declared proxy.
type Spec struct {
	Name       string
	Scheme     string            // http https socks4 socks4a socks5 socks5h, or one registered with proxy.RegisterDialerType
	URL        *url.URL          // as written, without userinfo; only registered schemes need it
	Address    connmodel.Address // the proxy's own; loopback is allowed
	Auth       *Auth             // nil = none
	TLS        *tls.Config       // for https: own CA, client certificate, versions, pins (VerifyConnection); nil = defaults; ServerName in it is ignored
	Pins       []string          // those that TLS.VerifyConnection wants, for people; "" = none
	ServerName string            // name sent and verified; "" = Address.Host
	Resolver   resolve.Resolver  // for its own name, and what it makes us look up; nil = that of the Config
	Timeouts   HopTimeouts

	// SourceAddress, Interface, Mark and KeepAlive are about the socket to the proxy, so they count only where it is the first hop.
	SourceAddress netip.Addr
	Interface     string
	Mark          uint32        // of the packets (SO_MARK), by which a firewall tells our own; 0 = none. It needs CAP_NET_ADMIN
	KeepAlive     time.Duration // idle time before the first probe; 0 = 60 s, negative = no keepalive

	MaxConnections int  // at the same time, over all routes; 0 = no limit
	PlainConnect   bool // plain HTTP goes by CONNECT too
	NoHTTP2        bool // https: h2 is not offered; an ALPN of TLS that leaves it out is the same

	// Health is active checks of the upstream by itself, as the first hop. While they find it down it is passed over wherever there is a choice;
	// where there is none it is tried all the same. nil = it is checked in pools alone.
	Health *HealthSpec
}

// Auth is what a proxy wants to be shown. It goes to that proxy and to nothing else.
type Auth struct {
	Username   string
	Password   Secret
	Credential string // the name records and explain use; "" = "NAME of the upstream"

	// What follows is for HTTP proxies.
	Schemes     []string // of package auth, in the order of preference; nil = Basic, which is sent unasked
	Domain      string   // of the user, for NTLM
	Workstation string   // told to NTLM proxies; "" = none
	Keytab      string   // file with the key of Username, for Negotiate
	CCache      string   // file with tickets, for Negotiate
	Krb5Conf    string   // "" = $KRB5_CONFIG, /etc/krb5.conf
	SPN         string   // of the proxy; "" = HTTP/ and its host
	Canonical   bool     // ... the canonical name of its host
	Token       Secret   // for Bearer, and the value of Header
	Header      string   // name of a field that carries Token
	Realm       string   // tells accounts apart that have the same user name and password and are not the same; see auth.Config
	WarmURL     string   // http:// URL that logging in asks for by HEAD; "" = the root of the server that is wanted

	// FromClient says that what is shown is what the client of each flow has proved to us: see ClientLogin. Nothing else but Credential, Realm
	// and WarmURL has a meaning then.
	FromClient bool

	// Unread says that a part of it is not known here, such as what a command prints that was not run. Such a route can be looked at; a connection by
	// it fails before anything is shown, for what is left of the credential would be a failed logon.
	Unread bool
}

// HopTimeouts bound the parts of reaching one hop; zero = default.
type HopTimeouts struct {
	Dial      time.Duration // TCP connect, and resolving the proxy's name; default 10 s
	TLS       time.Duration // TLS handshake with the proxy; default 10 s
	Handshake time.Duration // CONNECT or SOCKS in total, the proxy's own connecting included; default 10 s
}

const (
	defaultHopTimeout = 10 * time.Second
	defaultDeadline   = 60 * time.Second
	defaultKeepAlive  = 60 * time.Second
)

// DirectSpec is about the sockets of the route "direct".
type DirectSpec struct {
	SourceAddress netip.Addr
	Interface     string
	Mark          uint32        // of the packets (SO_MARK), by which a firewall tells our own; 0 = none. It needs CAP_NET_ADMIN
	KeepAlive     time.Duration // as in Spec
	DialTimeout   time.Duration // one TCP connect, all addresses of a name together; 0 = 10 s
	TLSTimeout    time.Duration // TLS handshake with the server, on every route; 0 = 10 s
}

// Selections of a pool.
const (
	SelectFirstHealthy     = "first_healthy" // in written order; the default
	SelectRoundRobin       = "round_robin"
	SelectRandom           = "random"
	SelectLeastConnections = "least_connections"
	SelectFastest          = "fastest" // by the moving average of the time to connect
	SelectHash             = "hash"    // the same client (or target) gets the same member
)

// What SelectHash looks at.
const (
	HashByClient = "client"
	HashByTarget = "target"
)

// PoolSpec is routes that stand in for each other.
type PoolSpec struct {
	Name    string
	Members []string // route names
	Select  string   // "" = first_healthy
	HashBy  string   // "" = client
	Retry   *connmodel.Retry
	Eject   EjectSpec
	Health  *HealthSpec // nil = no active checks

	// FailBack is how long a member that comes before others must have been well again until it is chosen before them, for first_healthy, so that one
	// that comes and goes does not take all traffic with it each time; 0 = 10 s, negative = at once.
	FailBack time.Duration
	// WarmUp is how long the share of a member that came back grows until it is whole, for selections that spread; 0 = it is whole at once.
	WarmUp time.Duration
}

// EjectSpec says when a member is left out because real traffic found it at fault.
type EjectSpec struct {
	Disabled bool
	Failures int           // in a row; 0 = 3
	Time     time.Duration // of the first ejection; it doubles with each that follows soon; 0 = 5 s
	MaxTime  time.Duration // 0 = 5 min
}

// HealthSpec is active checks of a pool's members, or of one upstream.
type HealthSpec struct {
	Check                   // what is asked
	Every     time.Duration // from the end of a check to the next, give or take a tenth; 0 = 10 s
	Timeout   time.Duration // 0 = 10 s, or Every if that is less
	Healthy   int           // checks that go well in a row until it is let in again; 0 = 1
	Unhealthy int           // checks that fail in a row until it is taken out; 0 = 2
}

// ChainSpec is hops one after the other, the first nearest to us.
type ChainSpec struct {
	Name string
	Hops []string // route names: upstreams, pools, chains
}

// MaxHops bounds the number of proxies on one way.
const MaxHops = 8
