package policies

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// one names the patterns of a test: the one there is, or how many.
func (w words) one() string {
	if w.open && w.n == 1 {
		return "in " + w.first
	}
	return w.of("patterns")
}

func (w words) of(what string) string {
	if w.open {
		if w.n == 1 {
			return w.first
		}
		return fmt.Sprintf("one of %d %s and lists (first: %s)", w.n, what, w.first)
	}
	if w.n == 1 && !strings.HasPrefix(w.first, "list.") {
		return w.first
	}
	return fmt.Sprintf("one of %d %s (first: %s)", w.n, what, w.first)
}

func wordsOf(list []string) words {
	if len(list) == 0 {
		return words{}
	}
	return words{n: len(list), first: list[0]}
}

// short bounds what comes from a client.
func short(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strings.ToValidUTF8(printable(s), "?")
}

// notWords says why a test does not hold.
func (t *tests) notWords(a attribute, f *connmodel.Facts, in sets) string {
	switch a {
	case byListener:
		return fmt.Sprintf("listener %s is not %s", f.Listener, wordsOf(t.listeners).of("listeners"))
	case byClient:
		return fmt.Sprintf("client %s is not in %s", clientText(f), t.clients.words.of("networks"))
	case byOrigin:
		return t.origins.clientWords(f)
	case byTime:
		return fmt.Sprintf("time %s is not in %s", timeText(f), windowWords(t.windows).of("times"))
	case byUser:
		return fmt.Sprintf("user %s is not %s", userText(f), wordsOf(texts(t.users)).of("users"))
	case byProtocol:
		return fmt.Sprintf("protocol %s is not %s", f.Protocol, wordsOf(t.protocols).of("protocols"))
	case byScheme:
		return fmt.Sprintf("scheme is not %s: what a tunnel carries is not known", wordsOf(t.schemes).one())
	case byHost:
		return fmt.Sprintf("host %s is not %s", short(f.Target.Host), t.hosts.words.one())
	case byPort:
		return fmt.Sprintf("port %d is not %s", f.Target.Port, t.ports.words.of("ports"))
	case byMethod, byPath, byHeader:
		return t.notRequestWords(a, f)
	case byAddress:
		return t.addressWords(f)
	case byCountry:
		return t.countries.notWords(t.literal, f)
	case bySNI, byALPN, byJA4:
		return t.notHelloWords(a, f)
	case byNot:
		return fmt.Sprintf("its not block holds: %s", t.holdingNot(f, in).yesWords(f, in))
	}
	return "it does not hold"
}

func (t *tests) notRequestWords(a attribute, f *connmodel.Facts) string {
	if f.Request == nil {
		if f.Have&connmodel.NeedRequest != 0 && f.Protocol != connmodel.ProtocolConnect {
			return "the client sends no plain HTTP request in its tunnel"
		}
		return "there is no plain HTTP request to look at: it is a tunnel"
	}
	switch a {
	case byMethod:
		return fmt.Sprintf("method %s is not %s", short(f.Request.Method), wordsOf(t.methods).of("methods"))
	case byPath:
		path := f.Request.RulePath()
		return fmt.Sprintf("path %s is not %s", short(path), wordsOf(texts(t.paths)).one())
	}
	h := failingHeader(t.headers, f)
	if h == nil {
		h = &t.headers[0]
	}
	return fmt.Sprintf("header %s is not %s", h.name, wordsOf(texts(h.values)).one())
}

func (t *tests) notHelloWords(a attribute, f *connmodel.Facts) string {
	h := f.Hello
	switch {
	case h == nil && f.Request != nil:
		return "there is no ClientHello to look at: it is a plain HTTP request"
	case h == nil:
		return "the client sends no ClientHello: it speaks no TLS, or waits for the server"
	case a == bySNI && h.SNI == "":
		return "the client sends no server name (SNI)"
	case a == bySNI:
		return fmt.Sprintf("sni %s is not %s", short(h.SNI), t.snis.words.one())
	case a == byALPN:
		return fmt.Sprintf("alpn %s is not %s", offersText(h), wordsOf(t.alpn).of("protocols"))
	}
	return fmt.Sprintf("ja4 %s is not %s", short(h.JA4), wordsOf(texts(t.ja4)).one())
}

func offersText(h *connmodel.ClientHello) string {
	if len(h.ALPN) == 0 {
		return "none"
	}
	return short(strings.Join(h.ALPN, ","))
}

func (t *tests) addressWords(f *connmodel.Facts) string {
	switch {
	case f.TargetIP.IsValid():
		return fmt.Sprintf("address %s is not in %s", f.TargetIP, t.addresses.words.of("networks"))
	case t.literal:
		return fmt.Sprintf("the target is the name %s, and resolve = false looks at literal addresses only", short(f.Target.Host))
	case len(f.Addresses) == 1:
		return fmt.Sprintf("address %s of %s is not in %s", f.Addresses[0], short(f.Target.Host), t.addresses.words.of("networks"))
	}
	return fmt.Sprintf("none of the %d addresses of %s is in %s", len(f.Addresses), short(f.Target.Host), t.addresses.words.of("networks"))
}

// holdingNot is the not block that holds.
func (t *tests) holdingNot(f *connmodel.Facts, in sets) *tests {
	for _, n := range t.nots {
		if _, v := n.first(f, in); v == yes {
			return n
		}
	}
	return &tests{}
}

// whyYes says why a clause holds.
func (p *Program) whyYes(c *clause, f *connmodel.Facts, in sets) string {
	if c.tests == nil && c.rule.when == nil {
		return "it takes everything"
	}
	var parts []string
	if c.tests != nil {
		parts = append(parts, c.tests.yesWords(f, in))
	}
	if c.rule.when != nil {
		parts = append(parts, whenWords(c.rule, f, "true"))
	}
	return strings.Join(parts, "; ")
}

// yesWords names the facts that made a block hold.
func (t *tests) yesWords(f *connmodel.Facts, in sets) string {
	var s []string
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	if t.listeners != nil {
		add("listener %s", f.Listener)
	}
	if t.clients != nil {
		add("client %s is in %s", clientText(f), t.clients.words.of("networks"))
	}
	if t.origins != nil {
		add("client %s is in %s by %s", clientText(f), t.origins.codeOf(f.Client.Addr()), t.origins.db)
	}
	if t.windows != nil {
		add("time %s is in %s", timeText(f), windowWords(t.windows).of("times"))
	}
	if t.users != nil {
		add("user %s", userText(f))
	}
	if t.protocols != nil {
		add("protocol %s", f.Protocol)
	}
	if t.schemes != nil {
		add("scheme %s", f.Scheme)
	}
	if t.hosts != nil {
		if by := t.hosts.matching(f.Target.Host, in); by == f.Target.Host {
			add("host %s", by)
		} else {
			add("host %s is %s", short(f.Target.Host), by)
		}
	}
	if t.ports != nil {
		add("port %d", f.Target.Port)
	}
	if t.methods != nil {
		add("method %s", short(f.Request.Method))
	}
	if t.paths != nil {
		path := f.Request.RulePath()
		add("path %s is %s", short(path), wordsOf(texts(t.paths)).one())
	}
	for i := range t.headers {
		add("header %s is %s", t.headers[i].name, wordsOf(texts(t.headers[i].values)).one())
	}
	if t.addresses != nil {
		add("address %s is in %s", addressText(f), t.addresses.words.of("networks"))
	}
	if t.countries != nil {
		add("%s", t.countries.yesWords(f))
	}
	if t.snis != nil {
		if by := t.snis.matching(f.Hello.SNI, in); by == f.Hello.SNI {
			add("sni %s", by)
		} else {
			add("sni %s is %s", short(f.Hello.SNI), by)
		}
	}
	if t.alpn != nil {
		add("alpn %s has %s", offersText(f.Hello), wordsOf(t.alpn).of("protocols"))
	}
	if t.ja4 != nil {
		add("ja4 %s", short(f.Hello.JA4))
	}
	if len(t.nots) > 0 {
		add("no not block holds")
	}
	return strings.Join(s, ", ")
}

// matching names the pattern that takes a host, as it is written.
func (h *hosts) matching(host string, in sets) string {
	for i := range h.patterns {
		p := &h.patterns[i]
		below, isBelow := strings.CutPrefix(p.index, "*.")
		tree, isTree := strings.CutPrefix(p.index, ".")
		switch {
		case p.index != "" && p.index == host, p.takes(host), isBelow && strings.HasSuffix(host, "."+below),
			isTree && (host == tree || strings.HasSuffix(host, p.index)):
			return p.text
		}
	}
	if by := in.entryOf(h.live, host); by != "" {
		return by
	}
	return h.words.one()
}

func clientText(f *connmodel.Facts) string {
	if !f.Client.Addr().IsValid() {
		return "on a Unix socket"
	}
	return f.Client.Addr().String()
}

func timeText(f *connmodel.Facts) string { return f.Time.Format("Mon 2006-01-02 15:04") }

func userText(f *connmodel.Facts) string {
	if f.User == "" {
		return "nobody"
	}
	return strconv.Quote(short(f.User))
}

func windowWords(ws []*window) words {
	if len(ws) == 0 {
		return words{}
	}
	return words{n: len(ws), first: ws[0].text}
}

func addressText(f *connmodel.Facts) string {
	if f.TargetIP.IsValid() {
		return f.TargetIP.String()
	}
	all := make([]string, 0, 4)
	for _, a := range f.Addresses[:min(4, len(f.Addresses))] {
		all = append(all, netip.Addr.String(a))
	}
	return strings.Join(all, ", ")
}
