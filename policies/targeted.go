package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// This file is about listeners whose clients know of no proxy, and about load balancers in front of listeners and servers.

var proxyProtocolSchema = schema(attrs("from", "others"))

// sole reads what belongs to a protocol that needs a listener for itself.
func (l *loader) sole(x *listenerBlock, b *block, n *Listener) {
	if len(n.Protocols) > 1 && !n.asks() {
		for _, e := range b.entries("protocols") {
			if !slices.Contains(soleProtocols, e.text) {
				continue
			}
			l.errorAt(e.r, "Protocols that cannot share a listener",
				fmt.Sprintf("Clients of a listener that speaks %q may wait for the server to speak first, so it cannot be told whether one wants something else. Give it a listener of its own.", e.text))
		}
	}
	if n.speaks(ProtocolRedirect) || n.speaks(ProtocolTProxy) {
		l.fromKernel(x, b, n)
	}
	if !n.speaks(ProtocolForward) {
		if b.has("target") {
			l.errorAt(b.attrs["target"].NameRange, "Without effect", `"target" is where all goes that comes by a listener of protocols = ["forward"]. Clients of this one say themselves where they want to go.`)
		}
		return
	}
	if !b.need("target", `where all goes that comes by it, such as "db.corp.example:5432"`) {
		return
	}
	n.Target = b.hostPort("target")
	x.target = n.Target
	l.servers = append(l.servers, serverAt{n.Target, b.rng("target")})
}

// fromKernel checks a listener that takes what a firewall sends here.
func (l *loader) fromKernel(x *listenerBlock, b *block, n *Listener) {
	if x.ok && x.end.network == "unix" {
		l.errorAt(b.rng("address"), "Unix socket of a transparent listener", "The kernel sends TCP connections here, so the listener needs an IP address and a port.")
	}
	for _, c := range b.blocks {
		if c.Type == "tls" || c.Type == "proxy_protocol" {
			l.errorAt(c.DefRange, "Without effect", fmt.Sprintf("Clients of a transparent listener know of no gateway: what they send is meant for the server, so %q cannot stand here.", c.Type))
		}
	}
}

func (n *Listener) speaks(protocol string) bool { return slices.Contains(n.Protocols, protocol) }

// asks reports whether clients say where they want to go.
func (n *Listener) asks() bool {
	return !slices.ContainsFunc(n.Protocols, func(p string) bool { return slices.Contains(soleProtocols, p) })
}

// proxyProtocol reads which peers are load balancers.
func (l *loader) proxyProtocol(c *hcl.Block, x *listenerBlock) *ProxyProtocol {
	b := l.open(c, proxyProtocolSchema)
	p := &ProxyProtocol{From: b.networks("from")}
	if others := b.oneOf("others", "refuse", "serve"); others == "serve" {
		p.Others = true
	}
	switch unix := x.ok && x.end.network == "unix"; {
	case unix:
		for name, a := range b.attrs {
			l.errorAt(a.NameRange, "Without effect", fmt.Sprintf("Who may connect to a Unix socket is a matter of its file mode, and all who do must send the header: leave %q out.", name))
		}
	case b.need("from", "networks of the load balancers whose word is taken, such as [\"10.0.0.10\"]") && b.has("from"):
		for i, n := range p.From {
			if n.Bits() == 0 {
				l.errorAt(b.rng("from"), "Everybody is a balancer", fmt.Sprintf("With %s whoever connects could say to be anybody else. Write the addresses of the load balancers.", p.From[i]))
				break
			}
		}
	}
	return p
}

// checkHeader warns of a PROXY protocol header that goes to servers that do not await it.
func (l *loader) checkHeader(b *block, r *rule) {
	if r.decision.ProxyProtocol == 0 || !r.decision.Server.IsZero() {
		return
	}
	narrow := len(r.blocks) > 0
	for _, t := range r.blocks {
		narrow = narrow && (t.hosts != nil || t.addresses != nil || t.listeners != nil)
	}
	if !narrow {
		l.warnAt(b.rng("send_proxy_protocol"), "Header to everybody", "Every server that the rule reaches gets the client's address in front of what the client says, and those that do not await it close the connection. "+
			"Name the servers: with match { host } or { address }, or with server.")
	}
}

// testForward reads the target of a test by a listener that has one itself, and reports whether it is such a test.
func (l *loader) testForward(b *block, f *connmodel.Facts, given []string) bool {
	a := b.attrs["listener"]
	if a == nil && (len(given) > 0 || len(l.listeners) == 0) {
		return false
	}
	x := (*listenerBlock)(nil)
	if a == nil {
		x = l.listeners[0]
	} else if t, ok := traversal(a.Expr); ok && len(t) == 2 {
		if name, ok := t[1].(hcl.TraverseAttr); ok {
			x = l.listenerNamed(name.Name)
		}
	} else if v, ok := l.quietly(a.Expr); ok {
		x = l.listenerNamed(v)
	}
	if x == nil || x.target.IsZero() {
		return false
	}
	if len(given) > 0 {
		l.errorAt(b.attrs[given[0]].NameRange, "Target of a forward listener", fmt.Sprintf("What comes by the listener %q goes to %s. Leave %s out.", x.src.Labels[0], x.target, strings.Join(given, ", ")))
	}
	f.Target, f.TargetIP, f.Protocol, f.Request, f.Scheme = x.target, x.target.IP(), connmodel.ProtocolForward, nil, ""
	return true
}

func (l *loader) listenerNamed(name string) *listenerBlock {
	for _, x := range l.listeners {
		if x.src.Labels[0] == name {
			return x
		}
	}
	return nil
}

// quietly is the text that an expression gives; what is wrong with it is reported by others.
func (l *loader) quietly(e hcl.Expression) (string, bool) {
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.IsMarked() || !v.IsKnown() || !v.Type().IsPrimitiveType() || v.Type().FriendlyName() != "string" {
		return "", false
	}
	return v.AsString(), true
}

// mark reads a mark of packets: a number, or a text such as "0x1".
func (b *block) mark(name string) uint32 {
	s := b.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 {
		b.l.errorAt(b.rng(name), "Wrong mark", fmt.Sprintf("%q is a number from 1 to 4294967295, which may be written as a text in hexadecimal: \"0x1\".", name))
		return 0
	}
	return uint32(n)
}

// testInner reads the plain request that a client sends whose connection a firewall sent here.
func (l *loader) testInner(b *block, t *Test) {
	var f connmodel.Facts
	l.testRequest(b, &f)
	t.inner, t.innerHost = f.Request, f.Target.Host
}

// checkInnerNames warns of rules that let clients through by a name that they come up with themselves: where a firewall sends connections here,
// the address that they go to is another matter.
func (l *loader) checkInnerNames(cfg *Config) {
	told := map[*rule]bool{}
	for i := range cfg.Listeners {
		n := &cfg.Listeners[i]
		if n.asks() || n.speaks(ProtocolForward) {
			continue
		}
		for _, p := range l.policies {
			if p.name != n.Policy {
				continue
			}
			for _, r := range p.rules {
				if told[r] || r.shadow || r.half || r.nameSaid || r.decision.Denied() || !r.decision.Server.IsZero() || !slices.ContainsFunc(r.blocks, n.byName) {
					continue
				}
				told[r] = true
				l.warnAt(r.decl, "Name not held against the address", fmt.Sprintf("The rule %q goes by the name that a client of the listener %q says inside (SNI or Host), and the connection goes to the address that it connects to, which need not be that name's. "+
					"Write verify_name = true, and the name must have that address; or send_name = true, and the name is dialled instead; or verify_name = false, if the name alone shall do.", r.name, n.Name))
			}
		}
	}
}

// byName reports whether a match block may take clients of the listener by a name.
func (n *Listener) byName(t *tests) bool {
	if t.hosts == nil || t.listeners != nil && !slices.Contains(t.listeners, n.Name) {
		return false
	}
	if t.protocols != nil && !slices.ContainsFunc(t.protocols, n.speaks) {
		return false
	}
	return len(t.hosts.lists) > 0 || slices.ContainsFunc(t.hosts.patterns, func(p hostPattern) bool { return !isAddress(p.index) })
}
