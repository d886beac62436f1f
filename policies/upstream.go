package policies

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/net/proxy"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// upstreamBlock is one proxy.
type upstreamBlock struct {
	src      *hcl.Block
	spec     upstream.Spec
	resolver string // "" = the gateway's
	url      hcl.Range
}

var (
	upstreamSchema = schema(attrs("url", "source_address", "interface", "mark", "keepalive", "max_connections", "plain_connect", "http2", "resolver"), blocks("auth", "tls", "timeouts", "health"))
	hopTLSSchema   = schema(clientTLSAttrs)
	hopTimeSchema  = schema(attrs("dial", "tls", "handshake"))
)

// unknownURL stands for a URL that a lenient load cannot know.
const unknownURL = "https://unknown.invalid:1"

var upstreamSchemes = []string{"http", "https", "socks4", "socks4a", "socks5", "socks5h"}

func (l *loader) buildUpstream(x *upstreamBlock) {
	b := l.open(x.src, upstreamSchema)
	x.spec.Name = x.src.Labels[0]
	x.url = b.rng("url")
	if b.need("url", `where the proxy is, such as "http://proxy.corp.example:8080"`) {
		if s := b.text("url"); s != "" {
			l.upstreamURL(x, s)
		}
	}
	if l.o.Lenient && x.spec.Scheme == "" { // its URL is made of what is missing here
		l.upstreamURL(x, unknownURL)
	}
	s := &x.spec
	if s.Mark = b.mark("mark"); s.Mark == 0 && l.gateway != nil {
		s.Mark = l.gateway.direct.Mark
	}
	s.SourceAddress, s.Interface, s.KeepAlive = b.address("source_address"), b.text("interface"), b.keepalive("keepalive")
	s.MaxConnections = b.number("max_connections", 1, 10_000_000)
	s.PlainConnect = b.boolean("plain_connect", false)
	if b.has("plain_connect") && s.Scheme != "" && s.Scheme != "http" && s.Scheme != "https" {
		l.errorAt(b.rng("plain_connect"), "Without effect", "Only an http or https proxy can be asked by CONNECT.")
	}
	x.resolver = b.resolver("resolver")
	s.NoHTTP2 = !b.boolean("http2", true)
	if b.has("http2") && s.Scheme != "" && s.Scheme != "https" {
		l.errorAt(b.rng("http2"), "Without effect", "HTTP/2 is spoken to an https proxy alone, which agrees to it in the TLS handshake (ALPN).")
	}
	if t := b.one("timeouts"); t != nil {
		c := l.open(t, hopTimeSchema)
		s.Timeouts = upstream.HopTimeouts{Dial: c.duration("dial"), TLS: c.duration("tls"), Handshake: c.duration("handshake")}
	}
	if s.Health = l.health(b.one("health")); s.Health != nil && s.Health.Kind == upstream.CheckTLS && s.Scheme != "" && s.Scheme != "https" {
		l.errorAt(b.one("health").DefRange, "TLS to a proxy without TLS", fmt.Sprintf("The scheme of the URL is %s, so no TLS is spoken to this proxy. Check it with tcp = true, or further with connect or http.", s.Scheme))
	}
	if t := b.one("tls"); t != nil {
		c := l.open(t, hopTLSSchema)
		x := c.clientTLS()
		s.TLS, s.ServerName, s.Pins = x.config, x.serverName, x.pins
		c.hopALPN(x, upstream.ALPN())
		if b.has("http2") && len(x.alpn) > 0 && s.NoHTTP2 == slices.Contains(x.config.NextProtos, "h2") {
			l.errorAt(b.rng("http2"), "Contradiction", "http2 and tls.alpn say different things about \"h2\". Leave one of them out.")
		}
		if s.Scheme != "" && s.Scheme != "https" {
			l.errorAt(t.DefRange, "TLS to a proxy without TLS", fmt.Sprintf("The scheme of the URL is %s, so no TLS is spoken to this proxy. Write https:// if it does.", s.Scheme))
		}
	}
	if a := b.one("auth"); a != nil {
		s.Auth = l.auth(a, s.Scheme, s.Address.Host)
		l.checkClear(x, a)
	}
}

// upstreamURL takes the URL apart. Its text may hold a password, so it is never repeated in a message.
func (l *loader) upstreamURL(x *upstreamBlock, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		l.errorAt(x.url, "Wrong URL", fmt.Sprintf("Write scheme://host:port, with one of the schemes %s.", strings.Join(upstreamSchemes, ", ")))
		return
	}
	x.spec.Scheme = strings.ToLower(u.Scheme)
	if !l.checkScheme(x, u) {
		return
	}
	if u.User != nil {
		l.errorAt(x.url, "Password in a URL", "URLs are shown in logs and records. Write the user into an auth block: auth { username = … password = credential(…) }, on lines of their own.")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		if slices.Contains(upstreamSchemes, x.spec.Scheme) {
			l.errorAt(x.url, "Wrong URL", "A proxy is a host and a port; nothing comes after the port.")
		}
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if u.Port() != "" && (err != nil || port == 0) {
		l.errorAt(x.url, "Wrong port", "A port is a number from 1 to 65535.")
		return
	}
	if err != nil {
		l.errorAt(x.url, "Missing port", "Proxies have no usual port, so the URL must say it, as in http://proxy.corp.example:8080.")
		return
	}
	a, err := connmodel.MakeAddress(u.Hostname(), uint16(port))
	if err != nil {
		l.errorAt(x.url, "Wrong URL", upperFirst(err.Error()))
		return
	}
	x.spec.Address = a
	bare := *u
	bare.User, bare.Host, bare.Scheme = nil, a.String(), x.spec.Scheme
	x.spec.URL = &bare
}

// checkScheme wants one of ours, or one that the program has registered with x/net/proxy.
func (l *loader) checkScheme(x *upstreamBlock, u *url.URL) bool {
	if slices.Contains(upstreamSchemes, x.spec.Scheme) {
		return true
	}
	bare := *u
	bare.User = nil
	if _, err := proxy.FromURL(&bare, proxy.Direct); err == nil {
		return true
	}
	l.errorAt(x.url, "Unknown scheme", fmt.Sprintf("%q is none of %s, and the program has registered no other of that name.%s",
		x.spec.Scheme, strings.Join(upstreamSchemes, ", "), didYouMean(x.spec.Scheme, upstreamSchemes)))
	return false
}

// secret reads a text where a secret may stand.
func (b *block) secret(name string) string {
	a := b.attrs[name]
	if a == nil {
		return ""
	}
	v, ok := b.l.evaluate(a.Expr)
	if !ok {
		return ""
	}
	plain, _ := v.UnmarkDeep()
	s, ok := b.l.to(plain, cty.String, a.Expr.Range(), quoted(name))
	if !ok {
		return ""
	}
	return s.AsString()
}

// hasDefault reports whether a text written out stands in for an environment variable.
func hasDefault(e hcl.Expression) bool {
	s, ok := syntax(e)
	if !ok {
		return false
	}
	w := &callFinder{}
	hclsyntax.Walk(s, w)
	return slices.ContainsFunc(w.calls, func(c *hclsyntax.FunctionCallExpr) bool {
		if c.Name != "env" || len(c.Args) < 2 || !isLiteral(c.Args[1]) {
			return false
		}
		v, diags := c.Args[1].Value(nil)
		return !diags.HasErrors() && !v.IsNull() && v.Type() == cty.String && v.AsString() != ""
	})
}

// credentialName is what records call a secret: the argument of the function that reads it.
func credentialName(e hcl.Expression) string {
	s, ok := syntax(e)
	if !ok {
		return ""
	}
	w := &callFinder{}
	hclsyntax.Walk(s, w)
	for _, c := range w.calls {
		if len(c.Args) == 0 || !slices.Contains([]string{"credential", "env", "proxy_password", "file", "netrc", "command"}, c.Name) {
			continue
		}
		if c.Name == "command" {
			if v, diags := c.Args[0].Value(nil); !diags.HasErrors() && v.Type().IsTupleType() && v.LengthInt() > 0 {
				if p := v.Index(cty.Zero); p.Type() == cty.String && !p.IsNull() {
					return path.Base(p.AsString())
				}
			}
			continue
		}
		if v, diags := c.Args[0].Value(nil); !diags.HasErrors() && !v.IsNull() && v.Type() == cty.String {
			return v.AsString()
		}
	}
	return ""
}

// checkClear warns of passwords that go over the network as they are.
func (l *loader) checkClear(x *upstreamBlock, a *hcl.Block) {
	s := &x.spec
	if s.Auth.Password.IsZero() && s.Auth.Token.IsZero() && !s.Auth.FromClient || s.Address.IsZero() || s.Address.IP().IsLoopback() || isLocalhost(s.Address.Host) {
		return
	}
	switch s.Scheme {
	case "http":
		if !sentAsIs(s.Auth.Schemes) {
			return
		}
		l.warnAt(a.DefRange, "Password in the clear", "Basic credentials go to this proxy over plain TCP, where others on the network can read them. Use an https:// proxy if there is one.")
	case "socks5", "socks5h":
		l.warnAt(a.DefRange, "Password in the clear", "The password goes to this SOCKS proxy over plain TCP, where others on the network can read it. Reach it through an https hop, or over a protected network.")
	}
}

// isLocalhost follows RFC 6761, section 6.3.
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
