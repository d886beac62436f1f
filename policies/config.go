package policies

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/geo"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// Config is one loaded and checked configuration. Nothing in it is changed after Load.
type Config struct {
	Gateway   Gateway
	Listeners []Listener      // in written order
	Upstreams upstream.Config // upstreams, pools and chains, those written in place included; Resolver is left to the caller
	Programs  map[string]*Program
	Shadows   map[string]*ShadowPolicy // by the names of those that are the shadow of another (Listener.Shadow)
	PACs      []PAC
	Lists     []List
	Resolvers []resolve.Config
	// UpstreamResolvers says by whom upstreams have their own names looked up, where they say so: the name of a resolver, or SystemResolver.
	UpstreamResolvers map[string]string
	Tests             []Test
	Reaches           []connmodel.Address // that conditions ask network.reachable about, in the order of their texts
	// Signs are the places in rules that ask for certificates of the authority (Gateway.CA); empty = nobody needs one.
	Signs []hcl.Range

	// Files are those that were read as policy, in the order they were read; Data are the files they name (lists,
	// certificates, passwords): a change in any of them may change the configuration.
	Files []string
	Data  []string

	// SecretFiles are those of Data that secrets may come from, and SecretCommands are run for them: see Credentials.
	SecretFiles    []string
	SecretCommands []SecretCommand

	sources map[string][]byte // the text of Files
}

// Unverified names the upstreams and rules that take any certificate (verify = false): "upstream.corp", "rule partners/old appliance
// (viaduct.hcl:31)".
func (c *Config) Unverified() []string {
	var all []string
	for i := range c.Upstreams.Upstreams {
		if s := &c.Upstreams.Upstreams[i]; s.TLS != nil && s.TLS.InsecureSkipVerify {
			all = append(all, "upstream."+s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Programs)) {
		for _, r := range c.Programs[name].rules {
			if t := r.decision.TLS; t != nil && t.Config != nil && t.Config.InsecureSkipVerify {
				all = append(all, fmt.Sprintf("rule %s/%s (%s)", name, r.name, r.decision.Where()))
			}
		}
	}
	return all
}

// Gateway is what concerns the whole process. Zero values mean the default.
type Gateway struct {
	Name     string // in Via and Proxy-Status; "" = made up at start
	LogLevel string // error, warn, info (default), debug
	// LogFormat is text or json; "" = text.
	LogFormat string
	// Admin is the control door: "unix:/path" or "127.0.0.1:9090"; "" = a Unix socket in the runtime directory.
	Admin        string
	Door         Door           // who may use it over TCP
	Records      *Records       // nil = no records are written
	Journal      Journal        // of records that can be asked about; there is one unless Off
	State        string         // directory for what outlives the process; "" = $STATE_DIRECTORY, then XDG
	Timezone     *time.Location // in which rules see the time; nil = local
	DrainTimeout time.Duration  // how long a stop waits for tunnels; 0 = 30 s
	Limits       Limits
	Timeouts     connmodel.Timeouts // defaults for every flow
	CA           *CA                // nil = where "viaduct ca init" puts it
	Resolver     string             // name of that for all names looked up here; "" = the machine's
	GeoIP        *geo.Database      // nil = there is none, or it is not on this machine
	// GeoIPWarnAfter is how old the database may be before it is warned of; 0 = 30 days.
	GeoIPWarnAfter time.Duration
	Traces         *Traces       // nil = none are made
	WarnBefore     time.Duration // how long before its end a peer's certificate raises a warning; 0 = 14 days
}

// CA says where the certificate authority is that signs for intercepted connections: a directory, or two files.
type CA struct{ Path, Certificate, Key string }

// KeptFields are the header fields of requests that stand in records, whatever rules ask about.
func (g *Gateway) KeptFields() []string {
	if g.Records == nil {
		return nil
	}
	return g.Records.Headers
}

// Records says where the records of connections go beside the journal, and what more stands in them.
type Records struct {
	Path     string // "" = no file
	Stdout   bool
	Journald bool
	Headers  []string // fields of requests that stand in every record (Gateway.KeptFields)
}

// Journal says how records are kept that can be asked about later. The zero Journal is one in the default place.
type Journal struct {
	Off      bool
	Asked    bool          // the policy wants one: then one that cannot be opened is an error, and no warning
	Path     string        // directory; "" = "journal" in that of state
	Keep     time.Duration // 0 = 7 days
	KeepSize int64         // octets; 0 = 2 GiB
}

// Limits of the whole process; 0 = default.
type Limits struct {
	Connections int // client connections at once
	PerClient   int // of one client address, on each listener that does not say otherwise
}

// Listener is where clients connect.
type Listener struct {
	Name    string
	Network string // "tcp", "unix" or "systemd"
	// Address is host:port, the path of a socket, or the name of a socket that systemd passes.
	Address   string
	FileMode  uint32 // of a Unix socket; 0 = default
	ServePAC  bool   // GET /proxy.pac is answered with a script made of the policy
	Protocols []string
	Clients   []netip.Prefix // nil = everybody
	Policy    string         // name of a program
	Shadow    string         // of the policy that is asked beside it and decides nothing; "" = none
	Resolver  string         // of that policy; "" = the gateway's
	TLS       *ListenerTLS   // nil = clients speak no TLS to it
	Users     *Users         // nil = nobody is asked for a password
	Realm     string

	UDP *UDP // nil = SOCKS5 clients are refused UDP ASSOCIATE

	HandshakeTimeout time.Duration     // 0 = default
	KeepAliveTimeout time.Duration     // 0 = default
	SniffTimeout     time.Duration     // 0 = default
	MaxHeadBytes     int               // 0 = default
	PerClient        int               // 0 = no limit
	MaxStreams       int               // of HTTP/2, on one connection; 0 = default
	Target           connmodel.Address // where all goes that comes by a listener of protocol forward
	ProxyProtocol    *ProxyProtocol    // nil = no header is looked for
	File             string
	Line             int
}

// ProxyProtocol is which peers are load balancers that say first whose connection they bring.
type ProxyProtocol struct {
	From   []netip.Prefix // nil on a Unix socket: all are
	Others bool           // other peers may connect for themselves
}

// The protocols of a listener.
const (
	ProtocolHTTP     = "http"
	ProtocolSOCKS4   = "socks4" // with 4a
	ProtocolSOCKS5   = "socks5"
	ProtocolForward  = "forward" // alone, as the following ones
	ProtocolRedirect = "redirect"
	ProtocolTProxy   = "tproxy"
)
