package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// Tests of what a TLS client says first in its tunnel: sni, alpn and ja4. What they need is gathered only when everything else in the
// block holds; behind CONNECT and SOCKS the client must be told yes for it, which earlyYes says.

// helloAttrs are the attributes that look at the ClientHello.
var helloAttrs = []string{"sni", "alpn", "ja4"}

// requestAttrs are those that look at an HTTP request.
var requestAttrs = []string{"method", "path", "header"}

func (l *loader) helloTests(b *block, t *tests) {
	if t.snis = b.hostTest("sni"); t.snis != nil {
		for i := range t.snis.patterns {
			if p := &t.snis.patterns[i]; p.index != "" && isAddress(strings.TrimLeft(p.index, "*.")) {
				l.errorAt(b.rng("sni"), "Pattern that never matches", fmt.Sprintf("%q is an address, and the server name (SNI) of a TLS client never is one. Use host or address.", p.text))
			}
		}
		t.snis.buildSet()
	}
	for _, e := range b.entries("alpn") {
		switch p := e.text; {
		case p == "" || len(p) > 255:
			l.errorAt(e.r, "Wrong protocol", `A protocol of ALPN has 1 to 255 bytes, such as "h2" or "http/1.1".`)
		case p == "http1.1", p == "HTTP/1.1", p == "http2", p == "http/2", p == "H2":
			want := map[bool]string{true: "h2", false: "http/1.1"}[strings.HasSuffix(p, "2")]
			l.errorAt(e.r, "Wrong protocol", fmt.Sprintf("No client offers %q by ALPN. Write %q.", p, want))
		default:
			t.alpn = append(t.alpn, p)
		}
	}
	t.ja4 = b.patterns("ja4", readJA4)
	if !t.asksHello() {
		return
	}
	name := helloAttrs[slices.IndexFunc(helloAttrs, b.has)]
	if t.protocols != nil && !slices.ContainsFunc(t.protocols, isTunnel) {
		l.errorAt(b.rng(name), "Test that never holds", fmt.Sprintf("%q looks at what a TLS client says in a tunnel, and the block takes plain requests only.", name))
	}
	if t.asksRequest() {
		l.errorAt(b.rng(name), "Test that never holds", fmt.Sprintf("A tunnel begins with a ClientHello or with a plain HTTP request, never with both: %q and %s in one block exclude each other.",
			name, oneOf(slices.DeleteFunc(slices.Clone(requestAttrs), func(a string) bool { return !b.has(a) }))))
	}
}

// readJA4 reads a fingerprint, or a glob of it.
func readJA4(s string) (pattern, error) {
	if s == "" {
		return pattern{}, fmt.Errorf("the fingerprint is empty")
	}
	if !strings.ContainsAny(s, "*?[") {
		if len(s) != len("t13d1516h2_8daaf6152771_e5627efa2ab1") || strings.Count(s, "_") != 2 || s[0] != 't' {
			return pattern{}, fmt.Errorf("%q is no JA4 fingerprint of TLS, such as t13d1516h2_8daaf6152771_e5627efa2ab1, and no glob such as t13d*h2_*", s)
		}
		return pattern{text: s}, nil
	}
	g, err := match.CompileGlob(s)
	return pattern{text: s, glob: g}, err
}

// isTunnel reports whether flows of the protocol may have a ClientHello.
func isTunnel(p string) bool {
	return connmodel.Protocol(p) != connmodel.ProtocolHTTP && connmodel.Protocol(p) != connmodel.ProtocolUDP
}

// saysYes reports whether a client of the protocol is told yes before it says anything in its tunnel.
func saysYes(p string) bool {
	switch connmodel.Protocol(p) {
	case connmodel.ProtocolConnect, connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a, connmodel.ProtocolSOCKS5:
		return true
	}
	return false
}

// saysYesIn reports whether one of the blocks takes clients that are told yes; without blocks a rule takes all.
func saysYesIn(blocks []*tests) bool {
	return len(blocks) == 0 || slices.ContainsFunc(blocks, func(t *tests) bool {
		return t.protocols == nil || slices.ContainsFunc(t.protocols, saysYes)
	})
}

// asksFirst says what of a client's first bytes the block asks for, by the name of an attribute; "" = nothing.
func (t *tests) asksFirst() string {
	yes := t.protocols == nil || slices.ContainsFunc(t.protocols, saysYes)
	socks := t.protocols == nil || slices.ContainsFunc(t.protocols, func(p string) bool { return saysYes(p) && p != string(connmodel.ProtocolConnect) })
	switch {
	case yes && t.snis != nil:
		return "sni"
	case yes && t.alpn != nil:
		return "alpn"
	case yes && t.ja4 != nil:
		return "ja4"
	case socks && t.asksRequest() && t.schemes == nil:
		return requestAttrs[slices.Index([]bool{t.methods != nil, t.paths != nil, t.headers != nil}, true)]
	}
	for _, n := range t.nots {
		if a := n.asksFirst(); a != "" && (yes && n.asksHello() || socks) {
			return a
		}
	}
	return ""
}

// earlyYes notes the rule for whose sake a client of CONNECT or SOCKS is told yes before its server is reached.
func (l *loader) earlyYes(r *rule, at hcl.Range) {
	if r.shadow || r.half {
		return
	}
	what := ""
	for _, t := range r.blocks {
		if what = t.asksFirst(); what != "" {
			at = t.rng
			break
		}
	}
	if what == "" && r.when != nil && r.when.Needs()&(connmodel.NeedHello|connmodel.NeedRequest) != 0 && saysYesIn(r.blocks) {
		what = "when"
	}
	if what == "" {
		return
	}
	behind := "CONNECT and SOCKS"
	if slices.Contains(requestAttrs, what) { // CONNECT tunnels are not looked into for requests
		behind = "SOCKS"
	}
	why := fmt.Sprintf("%q looks at what the client says in its tunnel, and", what)
	l.noteAt(at, "Yes before the server is reached", fmt.Sprintf("%s behind %s it says nothing before it is told yes. Flows that come as far as the rule %q are told so at once, and wait for the client's first bytes (sniff_timeout of the listener, 300 ms) if it is silent; what fails after that is told by a TLS alert, or by closing. Tests of host and port beside it keep others from waiting.", why, behind, r.name))
}
