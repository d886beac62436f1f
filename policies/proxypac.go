package policies

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// maxProxyPAC bounds the script that is made of a policy; hosts beyond it are left to the gateway.
const maxProxyPAC = 768 << 10

// ProxyPAC makes a PAC script of the policy: what goes direct whatever else is known of the flow is DIRECT, all else goes to gateway, which is
// an entry such as "PROXY gw.corp.example:3128". Where a rule above might take a host for a reason that a script cannot see (the client,
// the time, a list), the host is left to the gateway, which decides. Nothing is DIRECT that the gateway would not send direct.
func (p *Program) ProxyPAC(gateway string) []byte {
	w := &pacWriter{}
	w.line("// Made by viaduct of the policy %q. What is not said here to go direct is decided by the gateway.", p.name)
	w.line("function FindProxyForURL(url, host) {")
	w.line("  var gateway = %s;", strconv.Quote(gateway))
	w.line("  host = host.toLowerCase();")
	w.line("  var literal = /^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(host);")
	open := true
	for _, r := range p.rules {
		if r.shadow || r.name == otherwiseName {
			continue
		}
		if open = w.rule(r); !open {
			break
		}
	}
	if open && goesDirect(p.fallback) {
		w.line("  return \"DIRECT\";")
	} else {
		w.line("  return gateway;")
	}
	w.line("}")
	return []byte(w.b.String())
}

// goesDirect reports whether a browser that connects itself does the same as the gateway would.
func goesDirect(d *connmodel.Decision) bool {
	return !d.Denied() && d.Route == connmodel.RouteDirect && d.Server.IsZero() && d.TLS == nil && d.ProxyProtocol == 0
}

type pacWriter struct{ b strings.Builder }

func (w *pacWriter) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// rule writes what a rule says, and reports whether others may follow.
func (w *pacWriter) rule(r *rule) bool {
	if len(r.blocks) == 0 {
		return false // it takes everything, or everything for which its condition holds
	}
	for _, t := range r.blocks {
		if w.b.Len() > maxProxyPAC {
			return false
		}
		if !w.block(t, r.when == nil, goesDirect(&r.decision)) {
			return false
		}
	}
	return true
}

// block writes a match block. exact is that nothing else of the rule has to hold.
func (w *pacWriter) block(t *tests, exact, direct bool) bool {
	exact = exact && t.listeners == nil && t.clients == nil && t.windows == nil && t.users == nil && t.protocols == nil && t.schemes == nil && t.ports == nil &&
		t.methods == nil && t.paths == nil && t.headers == nil && t.snis == nil && t.alpn == nil && t.ja4 == nil && t.nots == nil && t.countries == nil && t.origins == nil
	if t.hosts != nil {
		cond, ok := hostCondition(t.hosts)
		if !ok {
			return false
		}
		outcome := "gateway"
		if exact && direct && t.addresses == nil {
			outcome = `"DIRECT"`
		}
		w.line("  if (%s) return %s;", cond, outcome)
		return true
	}
	if t.addresses == nil {
		return false
	}
	return w.networks(t, exact, direct)
}

// networks writes a block of addresses. A script knows those of hosts that are addresses; a name may have any.
func (w *pacWriter) networks(t *tests, exact, direct bool) bool {
	n := t.addresses
	if n.listed {
		return false
	}
	outcome := "gateway"
	if exact && direct {
		outcome = `"DIRECT"`
	}
	six := false
	for _, p := range n.own {
		if p = p.Masked(); !p.Addr().Is4() {
			six = true
			continue
		}
		mask := net.IP(net.CIDRMask(p.Bits(), 32)).String()
		w.line("  if (literal && isInNet(host, %q, %q)) return %s;", p.Addr(), mask, outcome)
	}
	if six {
		w.line("  if (host.indexOf(\":\") >= 0) return gateway;")
	}
	if !direct && !t.literal { // a name may have such an address: what follows must not send it direct
		w.line("  if (!literal && host.indexOf(\":\") < 0) return gateway;")
	}
	return true
}

// hostCondition is the test of hosts in JavaScript; false when a script cannot make it.
func hostCondition(h *hosts) (string, bool) {
	if h.listed || len(h.lists) > 0 || h.set != nil && len(h.patterns) == 0 {
		return "", false
	}
	var all []string
	for i := range h.patterns {
		switch x := &h.patterns[i]; {
		case x.regex != nil && x.text == "/^[^.:]+$/":
			all = append(all, "isPlainHostName(host) && host.indexOf(\":\") < 0")
		case x.regex != nil:
			return "", false
		case x.glob != nil:
			g := x.glob.String()
			if strings.ContainsAny(g, "[]") {
				return "", false
			}
			all = append(all, fmt.Sprintf("shExpMatch(host, %q)", g))
		case strings.HasPrefix(x.index, "*."):
			all = append(all, fmt.Sprintf("dnsDomainIs(host, %q)", x.index[1:]))
		case strings.HasPrefix(x.index, "."):
			all = append(all, fmt.Sprintf("host == %q || dnsDomainIs(host, %q)", x.index[1:], x.index))
		default:
			if _, err := netip.ParseAddr(x.index); err == nil && strings.Contains(x.index, ":") {
				return "", false // browsers spell them in more than one way
			}
			all = append(all, fmt.Sprintf("host == %q", x.index))
		}
	}
	return strings.Join(all, " || "), len(all) > 0
}
