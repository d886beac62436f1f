package policies

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// DefaultFile is the name under which the policy that Default writes is loaded and shown.
const DefaultFile = "(default)"

// DefaultListen is where the default policy listens.
const DefaultListen = "127.0.0.1:3128"

// The proxy variables, in the order in which each pair is looked at, as net/http does.
var proxyVariables = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}

func isProxyVariable(name string) bool { return slices.Contains(proxyVariables, name) }

// Default writes the policy that Viaduct runs without a file: HTTP and SOCKS on 127.0.0.1:3128, and from there the proxies
// that HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name, but for what NO_PROXY names, else direct. User names and passwords in
// those variables do not get into the text: it calls proxy_username and proxy_password, which read them at load.
func Default(environ func(string) (string, bool)) ([]byte, Diagnostics) {
	g := &generator{environ: environ}
	g.readProxies()
	g.readNoProxy()
	var b strings.Builder
	g.write(&b)
	return hclwrite.Format([]byte(b.String())), Diagnostics{List: g.diags}
}

// generator collects what the environment says.
type generator struct {
	environ func(string) (string, bool)
	diags   hcl.Diagnostics
	from    []string // variables that have a say

	proxies     []*envProxy
	plain, rest *envProxy // for plain requests, and for tunnels

	everything bool // NO_PROXY=*
	noProxy    []noProxy
}

// envProxy is a proxy that a variable names.
type envProxy struct {
	variable, name, url string
	user, password      bool
}

// noProxy is what NO_PROXY says of one port; 0 = all ports.
type noProxy struct {
	port     uint16
	hosts    []string
	networks []string
}

func (g *generator) report(s hcl.DiagnosticSeverity, summary, format string, args ...any) {
	g.diags = append(g.diags, &hcl.Diagnostic{Severity: s, Summary: summary, Detail: fmt.Sprintf(format, args...)})
}

// lookup finds a variable by its upper, then its lower case name, as net/http does. Empty is as good as not set.
func (g *generator) lookup(name string) (variable, value string) {
	for _, n := range []string{name, strings.ToLower(name)} {
		if v, _ := g.environ(n); v != "" {
			return n, v
		}
	}
	return "", ""
}

func (g *generator) readProxies() {
	http := g.proxy("HTTP_PROXY")
	https := g.proxy("HTTPS_PROXY")
	all := g.proxy("ALL_PROXY")
	if g.plain = http; http == nil {
		g.plain = all
	}
	if g.rest = https; https == nil {
		g.rest = all
	}
	for _, p := range []*envProxy{g.plain, g.rest} {
		if p != nil && !slices.Contains(g.proxies, p) {
			g.proxies = append(g.proxies, p)
		}
	}
	if len(g.proxies) == 2 && g.plain.url == g.rest.url && g.sameUser() {
		g.proxies, g.rest = g.proxies[:1], g.plain
	}
}

// sameUser reports whether both variables hold the same user and password.
func (g *generator) sameUser() bool {
	_, a := g.lookup(strings.ToUpper(g.plain.variable))
	_, b := g.lookup(strings.ToUpper(g.rest.variable))
	x, err1 := parseProxyURL(a)
	y, err2 := parseProxyURL(b)
	return err1 == nil && err2 == nil && x.User.String() == y.User.String()
}

// proxy reads one variable; nil = there is no such proxy.
func (g *generator) proxy(name string) *envProxy {
	variable, value := g.lookup(name)
	if variable == "" {
		return nil
	}
	if cgi, _ := g.environ("REQUEST_METHOD"); cgi != "" && name == "HTTP_PROXY" {
		// A CGI server hands the client's header field "Proxy" to programs under this name (httpoxy).
		g.report(hcl.DiagWarning, "Proxy variable ignored", "%s is ignored, because REQUEST_METHOD is set: in a CGI program a client can set it by a header field.", variable)
		return nil
	}
	p := &envProxy{variable: variable, name: strings.ToLower(variable)}
	addr, err := p.parse(value)
	if err != nil {
		g.report(hcl.DiagError, "Wrong proxy variable", "The environment variable %s: %v. Write it as http://host:port (or https, socks4, socks4a, socks5, socks5h), or unset it.", variable, err)
		return nil
	}
	own := netip.MustParseAddrPort(DefaultListen)
	if addr.Port == own.Port() && reaches(own.Addr(), addr.Host, addr.IP()) {
		g.report(hcl.DiagWarning, "Proxy variable ignored", "%s is %s, which is this gateway itself: connections would come back to us for ever.", variable, addr)
		return nil
	}
	g.from = append(g.from, variable)
	return p
}

// usualPorts are those net/http takes for a proxy without one.
var usualPorts = map[string]uint16{"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

// parse takes the URL apart. Errors must not repeat it: it may hold a password.
func (p *envProxy) parse(value string) (connmodel.Address, error) {
	u, err := parseProxyURL(value)
	if err != nil {
		return connmodel.Address{}, err
	}
	scheme := strings.ToLower(u.Scheme)
	port, ok := usualPorts[scheme]
	if !ok {
		return connmodel.Address{}, fmt.Errorf("the scheme %q is not known%s", short(scheme), didYouMean(scheme, upstreamSchemes))
	}
	if s := u.Port(); s != "" {
		if port, err = connmodel.ParsePort(s); err != nil {
			return connmodel.Address{}, err
		}
	}
	if p.user = u.User.Username() != ""; p.user {
		_, p.password = u.User.Password()
	}
	a, err := connmodel.MakeAddress(u.Hostname(), port)
	p.url = scheme + "://" + a.String()
	return a, err
}

// parseProxyURL reads a URL, or host:port as an http proxy, as net/http does. Its errors do not repeat the text.
func parseProxyURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		if strings.Contains(text, "://") {
			return nil, errors.New("it is not a URL")
		}
		u, err = url.Parse("http://" + text)
	}
	if err != nil || u.Host == "" {
		return nil, errors.New("it is not a URL")
	}
	return u, nil
}

// readNoProxy follows golang.org/x/net/http/httpproxy: names with all below them, ".name" and "*.name" for those below
// only, addresses and networks (of literal targets), each but a network with a port if it has one, and "*".
func (g *generator) readNoProxy() {
	variable, value := g.lookup("NO_PROXY")
	if variable == "" || len(g.proxies) == 0 {
		return
	}
	g.from = append(g.from, variable)
	for e := range strings.SplitSeq(value, ",") {
		e = strings.ToLower(strings.TrimSpace(e))
		if e == "*" {
			g.everything = true
			return
		}
		if e == "" {
			continue
		}
		if err := g.addNoProxy(e); err != nil {
			g.report(hcl.DiagWarning, "Entry ignored", "%s holds %q, which is ignored: %v.", variable, short(e), err)
		}
	}
}

func (g *generator) addNoProxy(e string) error {
	if p, err := netip.ParsePrefix(e); err == nil {
		n := g.noProxyOf(0)
		n.networks = append(n.networks, connmodel.PlainPrefix(p).String())
		return nil
	}
	host, port := e, uint16(0)
	if h, s, err := net.SplitHostPort(e); err == nil {
		n, err := connmodel.ParsePort(s)
		if err != nil {
			return err
		}
		host, port = h, n
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		n := g.noProxyOf(port)
		n.networks = append(n.networks, a.Unmap().WithZone("").String())
		return nil
	}
	below := strings.TrimPrefix(strings.TrimPrefix(host, "*"), ".")
	name, err := connmodel.CanonicalHost(below)
	if err != nil {
		return err
	}
	if match.HostGlob(below) {
		return errors.New("it is not a host name")
	}
	form := "."
	if below != host {
		form = "*."
	}
	n := g.noProxyOf(port)
	n.hosts = append(n.hosts, form+name)
	return nil
}

func (g *generator) noProxyOf(port uint16) *noProxy {
	i := slices.IndexFunc(g.noProxy, func(n noProxy) bool { return n.port == port })
	if i < 0 {
		i = len(g.noProxy)
		g.noProxy = append(g.noProxy, noProxy{port: port})
	}
	return &g.noProxy[i]
}

func (g *generator) write(b *strings.Builder) {
	fmt.Fprintf(b, "# The policy that Viaduct runs without a file.\n")
	if len(g.from) > 0 {
		fmt.Fprintf(b, "# It follows these variables of the environment: %s.\n", strings.Join(g.from, ", "))
	} else {
		fmt.Fprintf(b, "# HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are not set, so everything goes direct.\n")
	}
	fmt.Fprintf(b, "\nlistener \"default\" {\naddress = %s # HTTP and SOCKS\n}\n", text(DefaultListen))
	for _, p := range g.proxies {
		p.write(b)
	}
	fmt.Fprintf(b, "\npolicy \"default\" {\n")
	b.WriteString(thisMachine)
	if len(g.proxies) > 0 && !g.everything {
		g.writeRules(b)
	}
	route := "direct"
	if g.rest != nil && !g.everything {
		route = "upstream." + g.rest.name
	}
	fmt.Fprintf(b, "otherwise { via = %s }\n}\n", route)
}

// thisMachine lets clients on this machine reach it. Neither block resolves a name.
const thisMachine = `# Servers on this machine are for clients on this machine.
rule "this machine" {
match {
client = ["127.0.0.0/8", "::1"]
address = ["127.0.0.0/8", "::1"]
resolve = false
}
match {
client = ["127.0.0.0/8", "::1"]
host = ["localhost", "*.localhost"]
}
via = direct
}

`

func (g *generator) writeRules(b *strings.Builder) {
	if len(g.noProxy) > 0 {
		fmt.Fprintf(b, "rule \"no proxy\" {\n")
		for _, n := range g.noProxy {
			n.write(b)
		}
		fmt.Fprintf(b, "via = direct\n}\n\n")
	}
	if g.plain != g.rest {
		route := "direct"
		if g.plain != nil {
			route = "upstream." + g.plain.name
		}
		fmt.Fprintf(b, "rule \"plain requests\" {\nmatch { protocol = \"http\" }\nvia = %s\n}\n\n", route)
	}
}

func (n *noProxy) write(b *strings.Builder) {
	port := ""
	if n.port != 0 {
		port = fmt.Sprintf("port = %d\n", n.port)
	}
	if len(n.hosts) > 0 {
		fmt.Fprintf(b, "match {\nhost = %s\n%s}\n", textList(n.hosts), port)
	}
	if len(n.networks) > 0 {
		fmt.Fprintf(b, "match {\naddress = %s\nresolve = false\n%s}\n", textList(n.networks), port)
	}
}

func (p *envProxy) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nupstream %s {\nurl = %s # %s\n", text(p.name), text(p.url), p.variable)
	if p.user {
		fmt.Fprintf(b, "auth {\nusername = proxy_username(%s)\n", text(p.variable))
		if p.password && !strings.HasPrefix(p.url, "socks4") {
			fmt.Fprintf(b, "password = proxy_password(%s)\n", text(p.variable))
		}
		b.WriteString("}\n")
	}
	b.WriteString("}\n")
}

// text writes a text as HCL.
func text(s string) string { return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes()) }

func textList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = text(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
