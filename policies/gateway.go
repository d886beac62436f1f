package policies

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones by name on machines without a zone database

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// gatewayBlock is what concerns the whole process.
type gatewayBlock struct {
	src    *hcl.Block
	admin  endpoint
	direct upstream.DirectSpec
	zone   *time.Location
}

var (
	gatewaySchema  = schema(attrs("name", "state", "timezone", "drain_timeout", "resolver"), blocks("log", "admin", "records", "journal", "limits", "timeouts", "direct", "ca", "certificates", "geoip", "telemetry"))
	logSchema      = schema(attrs("level", "format"))
	limitsSchema   = schema(attrs("connections", "connections_per_client"))
	timeoutsSchema = schema(attrs("idle", "half_closed", "connect", "response"))
	caSchema       = schema(attrs("path", "certificate", "key"))
	geoipSchema    = schema(attrs("file", "warn_after"))
	certsSchema    = schema(attrs("warn_before"))
	directSchema   = schema(attrs("source_address", "interface", "mark", "keepalive", "dial_timeout", "tls_timeout"))
)

func (l *loader) readGateway(b *hcl.Block) {
	if l.gateway != nil {
		l.errorAt(b.DefRange, "Duplicate block", fmt.Sprintf("There can be only one gateway block over all files; the first is at %s.", place(l.gateway.src.DefRange)))
		return
	}
	l.gateway = &gatewayBlock{src: b}
}

// plainName is what may stand in Via as a pseudonym (RFC 9110, section 7.6.3: a token).
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (l *loader) buildGateway() Gateway {
	var g Gateway
	if l.gateway == nil {
		return g
	}
	b := l.open(l.gateway.src, gatewaySchema)
	if g.Name = b.text("name"); g.Name != "" && !plainName.MatchString(g.Name) {
		l.errorAt(b.rng("name"), "Invalid name", "The name of the gateway stands in header fields: it begins with a letter or digit and holds letters, digits, dots, _ and - only, at most 63.")
	}
	g.State = b.path("state")
	g.DrainTimeout = b.duration("drain_timeout")
	if g.Resolver = b.resolver("resolver"); g.Resolver == SystemResolver {
		g.Resolver = ""
	}
	g.Timezone = b.timezone("timezone")
	l.gateway.zone = g.Timezone
	if x := b.one("log"); x != nil {
		c := l.open(x, logSchema)
		g.LogLevel = c.oneOf("level", "error", "warn", "info", "debug")
		g.LogFormat = c.oneOf("format", "text", "json")
	}
	if x := b.one("admin"); x != nil {
		g.Admin, g.Door = l.door(x)
	}
	if x := b.one("records"); x != nil {
		g.Records = l.records(x)
	}
	if x := b.one("journal"); x != nil {
		g.Journal = l.journal(x)
	}
	if x := b.one("limits"); x != nil {
		c := l.open(x, limitsSchema)
		g.Limits = Limits{c.number("connections", 1, 10_000_000), c.number("connections_per_client", 1, 1_000_000)}
	}
	g.Timeouts = l.timeouts(b.one("timeouts"))
	if x := b.one("ca"); x != nil {
		g.CA = l.authority(x)
	}
	if x := b.one("certificates"); x != nil {
		g.WarnBefore = l.open(x, certsSchema).duration("warn_before")
	}
	if x := b.one("telemetry"); x != nil {
		g.Traces = l.telemetry(x)
	}
	if x := b.one("geoip"); x != nil {
		l.buildGeoIP(x)
		g.GeoIP, g.GeoIPWarnAfter = l.geo.db, l.geo.warnAfter
	}
	if x := b.one("direct"); x != nil {
		c := l.open(x, directSchema)
		l.gateway.direct = upstream.DirectSpec{
			SourceAddress: c.address("source_address"), Interface: c.text("interface"), Mark: c.mark("mark"), KeepAlive: c.keepalive("keepalive"),
			DialTimeout: c.duration("dial_timeout"), TLSTimeout: c.duration("tls_timeout"),
		}
	}
	return g
}

func (l *loader) adminAddress(c *block) string {
	if !c.need("address", `a Unix socket ("unix:/run/viaduct/admin.sock") or an address of loopback ("127.0.0.1:9090")`) {
		return ""
	}
	s := c.text("address")
	if s == "" {
		return ""
	}
	e, ok := l.endpoint(s, c.rng("address"))
	if !ok {
		return ""
	}
	switch {
	case e.network == "systemd":
		l.errorAt(c.rng("address"), "Wrong address", "The control door makes its own socket: write unix:/path or an address.")
		return ""
	case e.network == "tcp" && !e.ip.IsLoopback():
		l.errorAt(c.rng("address"), "Control door open to the network", "Whoever reaches it can reload and read what is connected. Use a Unix socket, or an address of loopback, and ssh to get there.")
		return ""
	}
	l.gateway.admin = e
	if e.network == "unix" {
		return "unix:" + e.address
	}
	return e.address
}

// authority reads where the certificate authority is. Its files are not read here: the key is for the one who signs.
func (l *loader) authority(x *hcl.Block) *CA {
	c := l.open(x, caSchema)
	ca := &CA{Path: c.path("path"), Certificate: c.path("certificate"), Key: c.path("key")}
	files := c.has("certificate") || c.has("key")
	switch {
	case c.has("path") == files:
		l.errorAt(x.DefRange, "Authority without a place", `The authority is in a directory that "viaduct ca init" has filled, path = "/var/lib/viaduct/ca", or in two files: certificate and key.`)
	case c.has("certificate") != c.has("key"):
		l.errorAt(x.DefRange, "Missing argument", "An authority in files of its own needs both: certificate and key.")
	}
	return ca
}

// timeouts reads a timeouts block, which may be nil.
func (l *loader) timeouts(x *hcl.Block) connmodel.Timeouts {
	if x == nil {
		return connmodel.Timeouts{}
	}
	c := l.open(x, timeoutsSchema)
	return connmodel.Timeouts{
		Idle: c.duration("idle"), HalfClosed: c.duration("half_closed"),
		Connect: c.duration("connect"), Response: c.duration("response"),
	}
}

// path reads the name of a file, relative to the policy file.
func (b *block) path(name string) string {
	s := b.text(name)
	if s == "" {
		if b.has(name) && !b.l.diags.HasErrors() {
			b.l.errorAt(b.rng(name), "Empty path", fmt.Sprintf("%q names no file.", name))
		}
		return ""
	}
	return pathOf(b.rng(name), s)
}

func (b *block) timezone(name string) *time.Location {
	s := b.text(name)
	if s == "" {
		return nil
	}
	if strings.EqualFold(s, "local") {
		return time.Local
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		b.l.errorAt(b.rng(name), "Unknown time zone", fmt.Sprintf(`There is no time zone %q. Write one such as "Europe/Berlin", "UTC", or "local" (the default).`, s))
		return nil
	}
	return loc
}

// address reads an IP address.
func (b *block) address(name string) netip.Addr {
	s := b.text(name)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		b.l.errorAt(b.rng(name), "Wrong address", fmt.Sprintf("%q must be an IP address without a zone.", name))
		return netip.Addr{}
	}
	return a.Unmap()
}

// keepalive reads a time span, or "off".
func (b *block) keepalive(name string) time.Duration {
	if a := b.attrs[name]; a != nil && isLiteral(a.Expr) {
		if s := b.text(name); s == "off" {
			return -1
		}
	}
	return b.duration(name)
}

// endpoint is where something listens.
type endpoint struct {
	network, address string
	ip               netip.Addr // for tcp; unspecified = every address
	port             uint16
}

// endpoint reads "127.0.0.1:3128", ":3128", "[::1]:3128", "localhost:3128", "unix:/path" or "systemd:NAME".
func (l *loader) endpoint(s string, r hcl.Range) (endpoint, bool) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) || len(path) > 100 {
			l.errorAt(r, "Wrong address", "After unix: comes an absolute path of at most 100 bytes (the kernel takes no longer one).")
			return endpoint{}, false
		}
		return endpoint{network: "unix", address: filepath.Clean(path)}, true
	}
	if name, ok := strings.CutPrefix(s, "systemd:"); ok {
		if !plainName.MatchString(name) {
			l.errorAt(r, "Wrong address", "After systemd: comes the name that the socket unit gives with FileDescriptorName=.")
			return endpoint{}, false
		}
		return endpoint{network: "systemd", address: name}, true
	}
	whole := s
	if strings.HasPrefix(s, ":") {
		whole = "[::]" + s
	}
	a, err := connmodel.ParseAddress(whole)
	ip := a.IP()
	if err == nil && a.Host == "localhost" {
		a.Host, ip = "127.0.0.1", netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if err != nil || !ip.IsValid() {
		l.errorAt(r, "Wrong address", `Write an IP address and a port ("127.0.0.1:3128", "[::1]:3128", ":3128" for all), "unix:/path" or "systemd:NAME".`)
		return endpoint{}, false
	}
	return endpoint{"tcp", a.String(), ip, a.Port}, true
}
