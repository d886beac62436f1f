package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// listenerBlock is where clients connect.
type listenerBlock struct {
	src    *hcl.Block
	end    endpoint
	ok     bool
	target connmodel.Address // of protocol forward
}

var (
	listenerSchema = schema(attrs("address", "protocols", "clients", "policy", "mode", "handshake_timeout", "keepalive_timeout", "sniff_timeout", "max_head_bytes", "target", "serve_pac", "shadow"),
		blocks("tls", "authenticate", "limits", "udp", "proxy_protocol"))
	authenticateSchema   = schema(attrs("htpasswd", "realm"))
	listenerLimitsSchema = schema(attrs("connections_per_client", "streams_per_connection"))
)

// askedProtocols are told apart by the first byte, so that they can share a listener; soleProtocols need one for themselves.
var (
	askedProtocols    = []string{ProtocolHTTP, ProtocolSOCKS4, ProtocolSOCKS5}
	soleProtocols     = []string{ProtocolForward, ProtocolRedirect, ProtocolTProxy}
	listenerProtocols = append(slices.Clone(askedProtocols), soleProtocols...)
)

func (l *loader) buildListener(x *listenerBlock, g Gateway) Listener {
	b := l.open(x.src, listenerSchema)
	n := Listener{
		Name: x.src.Labels[0], File: x.src.DefRange.Filename, Line: x.src.DefRange.Start.Line,
		HandshakeTimeout: b.duration("handshake_timeout"), KeepAliveTimeout: b.duration("keepalive_timeout"),
		SniffTimeout: l.sniffTimeout(b),
		MaxHeadBytes: b.number("max_head_bytes", 1024, 1<<20), PerClient: g.Limits.PerClient,
	}
	if b.need("address", `where clients connect, such as "127.0.0.1:3128"`) {
		if s := b.text("address"); s != "" {
			x.end, x.ok = l.endpoint(s, b.rng("address"))
			n.Network, n.Address = x.end.network, x.end.address
		}
	}
	n.Protocols = l.protocols(b)
	l.sole(x, b, &n)
	n.Clients = b.networks("clients")
	if c := b.one("proxy_protocol"); c != nil {
		n.ProxyProtocol = l.proxyProtocol(c, x)
	}
	n.FileMode = l.fileMode(b, x)
	if n.ServePAC = b.boolean("serve_pac", false); n.ServePAC && (!slices.Contains(n.Protocols, ProtocolHTTP) || n.Network == "unix") {
		l.errorAt(b.rng("serve_pac"), "Without effect", "Browsers ask for a PAC script by HTTP, at an address: the listener needs the protocol http and must not be a Unix socket.")
	}
	if t := b.one("tls"); t != nil {
		n.TLS = l.listenerTLS(t, x.end, g.WarnBefore)
	}
	if a := b.one("authenticate"); a != nil {
		l.authenticate(a, &n)
	}
	if c := b.one("limits"); c != nil {
		limits := l.open(c, listenerLimitsSchema)
		if k := limits.number("connections_per_client", 1, 1_000_000); k > 0 {
			n.PerClient = k
		}
		if n.MaxStreams = limits.number("streams_per_connection", 1, 10_000); limits.has("streams_per_connection") && (n.TLS == nil || !n.TLS.HTTP2) {
			l.errorAt(limits.rng("streams_per_connection"), "Streams without HTTP/2", `Only HTTP/2 has streams, and this listener speaks none: it needs a tls block, without http2 = false.`)
		}
	}
	if u := b.one("udp"); u != nil {
		l.udp(u, &n)
	}
	n.Policy = l.listenerPolicy(b)
	n.Shadow = l.shadowOf(b, n.Policy)
	if d, ok := l.byName[kindPolicy][n.Policy]; ok {
		n.Resolver = d.block.(*policyBlock).resolver
	}
	l.checkListener(x, b, &n)
	return n
}

// maxSniff bounds the wait for a client that is silent because it waits itself.
const maxSniff = 30 * time.Second

func (l *loader) sniffTimeout(b *block) time.Duration {
	d := b.duration("sniff_timeout")
	if d > maxSniff {
		l.errorAt(b.rng("sniff_timeout"), "Number out of range", `"sniff_timeout" keeps clients waiting that wait for the server themselves: at most 30s.`)
	}
	return d
}

func (l *loader) protocols(b *block) []string {
	if !b.has("protocols") {
		return slices.Clone(askedProtocols)
	}
	var list []string
	for _, e := range b.entries("protocols") {
		switch p := e.text; {
		case !slices.Contains(listenerProtocols, p):
			l.errorAt(e.r, "Unknown value", fmt.Sprintf("A listener speaks %s (socks4 includes 4a).%s", oneOf(listenerProtocols), didYouMean(p, listenerProtocols)))
		case !slices.Contains(list, p):
			list = append(list, p)
		}
	}
	return list
}

// fileMode reads the mode of a Unix socket, as a text of octal digits.
func (l *loader) fileMode(b *block, x *listenerBlock) uint32 {
	s := b.text("mode")
	if s == "" {
		return 0
	}
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o777 {
		l.errorAt(b.rng("mode"), "Wrong file mode", `"mode" is a text of octal digits, such as "0660".`)
		return 0
	}
	if x.ok && x.end.network != "unix" {
		l.errorAt(b.rng("mode"), "Mode without a file", `"mode" is the file mode of a Unix socket, and this listener has none.`)
	}
	return uint32(mode)
}

// networks reads networks and addresses; a list of networks may stand among them.
func (b *block) networks(name string) []netip.Prefix {
	var all []netip.Prefix
	for _, e := range b.mixed(name, listNetworks) {
		if e.list != nil && e.list.ref != nil {
			b.l.errorAt(e.r, "List that changes", fmt.Sprintf("%q is read when the policy is, and list.%s comes from a URL and changes meanwhile. Name a list from a file here, or let everybody in and test the client in a rule: match { client = list.%s }.", name, e.list.name, e.list.name))
			continue
		}
		if e.list != nil {
			all = append(all, e.list.networks...)
			continue
		}
		if p, ok := b.l.network(e.text, e.r, name); ok {
			all = append(all, p)
		}
	}
	return all
}

func (l *loader) network(s string, r hcl.Range, name string) (netip.Prefix, bool) {
	p, err := match.ParseNetwork(s)
	if err != nil {
		l.errorAt(r, "Wrong network", fmt.Sprintf("%q: %s. Write an address or a network, such as 10.20.0.0/16 or fd00:20::/32.", name, reasonOfPattern(err)))
		return p, false
	}
	return p, true
}

func (l *loader) authenticate(a *hcl.Block, n *Listener) {
	c := l.open(a, authenticateSchema)
	if n.Realm = c.text("realm"); len(n.Realm) > 100 {
		l.errorAt(c.rng("realm"), "Text too long", "The realm is shown to people who are asked for a password: at most 100 bytes.")
	}
	n.Users = noUsers() // without its file nobody gets in
	if !c.need("htpasswd", `a file made by "htpasswd -B"`) {
		return
	}
	s := c.text("htpasswd")
	if s == "" {
		return
	}
	r := c.rng("htpasswd")
	if src, full, ok := l.dataFile(r, s, maxHtpasswd, "file of users"); ok {
		n.Users = l.readUsers(src, full, r)
	}
}

// listenerPolicy is the policy that is named, else the one called "default", else the only one.
func (l *loader) listenerPolicy(b *block) string {
	if a := b.attrs["policy"]; a != nil {
		r, ok := l.reference(a.Expr, kindPolicy)
		if !ok {
			return ""
		}
		l.used[r.String()] = true
		return r.name
	}
	name := l.defaultPolicy()
	if name == "" {
		detail := fmt.Sprintf("The listener %q does not say which policy decides, and none is called \"default\". Write policy = policy.NAME.", b.src.Labels[0])
		if len(l.policies) == 0 {
			detail = `There is no policy, so nothing would decide. Write one: policy "default" { otherwise { via = direct } }`
		}
		l.errorAt(b.src.DefRange, "No policy", detail)
	}
	l.used["policy."+name] = true
	return name
}

func (l *loader) defaultPolicy() string {
	if _, ok := l.byName[kindPolicy]["default"]; ok {
		return "default"
	}
	if len(l.byName[kindPolicy]) == 1 {
		return sortedNames(l.byName[kindPolicy])[0]
	}
	return ""
}

// checkListener looks for what would make the listener a danger or of no use.
func (l *loader) checkListener(x *listenerBlock, b *block, n *Listener) {
	if !x.ok {
		return
	}
	open := x.end.network == "tcp" && !x.end.ip.IsLoopback()
	if open && n.asks() && !b.has("clients") && n.Users == nil && !n.TLS.guards() {
		l.errorAt(b.rng("address"), "Open proxy", "Anybody who reaches this address could use the gateway. Say who may, with clients = [networks], an authenticate block or required client certificates (tls), or listen on 127.0.0.1.")
	}
	if n.Users != nil && !n.asks() {
		l.errorAt(b.one("authenticate").DefRange, "Nobody to be asked", "Clients of this listener know of no gateway, so they cannot be asked for a password. Say who may connect with clients = [networks].")
	} else if n.Users != nil && open && n.TLS == nil {
		l.warnAt(b.src.DefRange, "Passwords in the clear", "Clients send their passwords to this listener over plain TCP, where others on the network can read them. Give it a tls block, let it be reached over a protected network only, or listen on 127.0.0.1.")
	}
	if n.Users != nil && b.has("protocols") && slices.Contains(n.Protocols, ProtocolSOCKS4) {
		l.errorAt(b.rng("protocols"), "SOCKS4 cannot prove a user", `A listener with authenticate does not take socks4, which knows no passwords. Leave it out.`)
	}
	if n.Users != nil {
		n.Protocols = slices.DeleteFunc(n.Protocols, func(p string) bool { return p == ProtocolSOCKS4 })
	}
	if x.end.network == "unix" && b.has("clients") {
		l.errorAt(b.rng("clients"), "Networks of a Unix socket", `Who may connect to a Unix socket is a matter of its file mode: use mode = "0660" instead of clients.`)
	}
	for _, o := range l.listeners {
		if o == x {
			return
		}
		if o.ok && o.end.network == x.end.network && o.end.address == x.end.address {
			l.errorAt(b.rng("address"), "Address already taken", fmt.Sprintf("The listener %q at %s has the same address.", o.src.Labels[0], place(o.src.DefRange)))
			x.ok = false // once is enough, also for a third listener and for what leads back here
			return
		}
	}
}
