package policies

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"viaduct/connmodel"
)

// The reference is a plain reading of the manual: rules in order, blocks in order, every test by itself. TestAgainstReference
// compares programs with it on policies and flows made at random.

type refBlock struct {
	listener, client, user, protocol, host, port, address, method, path, sni, alpn []string
	literal                                                                        bool
	nots                                                                           []*refBlock
}

type refRule struct {
	name   string
	blocks []*refBlock
	when   string
	shadow bool
	deny   bool
}

var refWhens = map[string]func(f *connmodel.Facts) verdict{
	`target.port == 443`: func(f *connmodel.Facts) verdict { return verdictOf(f.Target.Port == 443) },
	`client.user != "" && client.user != "bob"`: func(f *connmodel.Facts) verdict {
		return verdictOf(f.User != "" && f.User != "bob")
	},
	`cidr(target.addresses, "192.0.2.0/24")`: func(f *connmodel.Facts) verdict { return refAddress(f, []string{"192.0.2.0/24"}, false) },
	`target.port == 80 && cidr(target.addresses, "198.51.100.0/24")`: func(f *connmodel.Facts) verdict {
		if f.Target.Port != 80 {
			return no
		}
		return refAddress(f, []string{"198.51.100.0/24"}, false)
	},
	`tls.sni == "a.example"`: func(f *connmodel.Facts) verdict {
		return refHello(f, func(h *connmodel.ClientHello) bool { return h.SNI == "a.example" })
	},
	`!contains(tls.alpn, "h2")`: func(f *connmodel.Facts) verdict {
		return refNot(refHello(f, func(h *connmodel.ClientHello) bool { return h.Offers("h2") }))
	},
	`target.sni_mismatch && cidr(target.addresses, "192.0.2.0/24")`: func(f *connmodel.Facts) verdict {
		if f.TargetIP.IsValid() {
			return no
		}
		return refAnd(refHello(f, func(h *connmodel.ClientHello) bool { return h.SNI != "" && h.SNI != f.Target.Host }), refAddress(f, []string{"192.0.2.0/24"}, false))
	},
	`request.method == "GET" || target.port == 80`: func(f *connmodel.Facts) verdict {
		if f.Target.Port == 80 {
			return yes
		}
		return refRequest(f, func(r *connmodel.RequestFacts) bool { return r.Method == "GET" })
	},
}

// The third value by its need, as bits above those of no and yes.
func refUnknown(n connmodel.Need) verdict { return verdict(n * 2) }

func refAnd(a, b verdict) verdict {
	switch {
	case a == no || b == no:
		return no
	case a == yes && b == yes:
		return yes
	case a == yes:
		return b
	case b == yes:
		return a
	}
	return a | b
}

func refNot(v verdict) verdict {
	switch v {
	case yes:
		return no
	case no:
		return yes
	}
	return v
}

func refHello(f *connmodel.Facts, ok func(*connmodel.ClientHello) bool) verdict {
	if f.Protocol == "http" {
		return verdictOf(false)
	}
	if f.Have&connmodel.NeedHello == 0 && f.Request == nil || f.HelloUnread {
		return refUnknown(connmodel.NeedHello)
	}
	return verdictOf(f.Hello != nil && ok(f.Hello))
}

func refRequest(f *connmodel.Facts, ok func(*connmodel.RequestFacts) bool) verdict {
	if f.Request == nil && f.Protocol == "socks5" && (f.Have&connmodel.NeedRequest == 0 || f.RequestUnread) {
		return refUnknown(connmodel.NeedRequest)
	}
	return verdictOf(f.Request != nil && ok(f.Request))
}

func refIn(a netip.Addr, nets []string) bool {
	for _, n := range nets {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			p = netip.PrefixFrom(netip.MustParseAddr(n), netip.MustParseAddr(n).BitLen())
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func refAddress(f *connmodel.Facts, nets []string, literal bool) verdict {
	switch {
	case f.TargetIP.IsValid():
		return verdictOf(refIn(f.TargetIP, nets))
	case literal:
		return no
	case f.Have&connmodel.NeedAddresses == 0:
		return refUnknown(connmodel.NeedAddresses)
	}
	return verdictOf(slices.ContainsFunc(f.Addresses, func(a netip.Addr) bool { return refIn(a, nets) }))
}

func refHost(host string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		switch {
		case p[0] == '/':
			return regexp.MustCompile(p[1 : len(p)-1]).MatchString(host)
		case strings.HasPrefix(p, "*.") && !strings.ContainsAny(p[2:], "*?"):
			return strings.HasSuffix(host, p[1:]) && len(host) > len(p)-1
		case p[0] == '.':
			return host == p[1:] || strings.HasSuffix(host, p)
		case strings.ContainsAny(p, "*?"):
			return refGlob(p, host)
		}
		return host == p
	})
}

func refGlob(p, s string) bool {
	q := regexp.QuoteMeta(p)
	q = strings.ReplaceAll(strings.ReplaceAll(q, `\*`, `.*`), `\?`, `.`)
	return regexp.MustCompile("^(?:" + q + ")$").MatchString(s)
}

func refPort(port uint16, ranges []string) bool {
	return slices.ContainsFunc(ranges, func(r string) bool {
		var from, to int
		if n, _ := fmt.Sscanf(r, "%d-%d", &from, &to); n < 2 {
			to = from
		}
		return int(port) >= from && int(port) <= to
	})
}

func (b *refBlock) holds(f *connmodel.Facts) verdict {
	v := yes
	and := func(o verdict) { v = refAnd(v, o) }
	test := func(list []string, ok func() bool) {
		if list != nil {
			and(verdictOf(ok()))
		}
	}
	test(b.listener, func() bool { return slices.Contains(b.listener, f.Listener) })
	test(b.client, func() bool { return f.Client.IsValid() && refIn(f.Client.Addr(), b.client) })
	test(b.user, func() bool {
		return slices.ContainsFunc(b.user, func(p string) bool {
			return p == f.User || f.User != "" && strings.Contains(p, "*") && refGlob(p, f.User)
		})
	})
	test(b.protocol, func() bool { return slices.Contains(b.protocol, string(f.Protocol)) })
	test(b.host, func() bool { return refHost(f.Target.Host, b.host) })
	test(b.port, func() bool { return refPort(f.Target.Port, b.port) })
	if b.method != nil {
		and(refRequest(f, func(r *connmodel.RequestFacts) bool { return slices.Contains(b.method, r.Method) }))
	}
	if b.path != nil {
		and(refRequest(f, func(r *connmodel.RequestFacts) bool {
			path, _, _ := strings.Cut(r.Path, "?")
			return slices.ContainsFunc(b.path, func(p string) bool { return refGlob(p, path) })
		}))
	}
	if b.sni != nil {
		and(refHello(f, func(h *connmodel.ClientHello) bool { return h.SNI != "" && refHost(h.SNI, b.sni) }))
	}
	if b.alpn != nil {
		and(refHello(f, func(h *connmodel.ClientHello) bool { return slices.ContainsFunc(b.alpn, h.Offers) }))
	}
	if b.address != nil {
		and(refAddress(f, b.address, b.literal))
	}
	for _, n := range b.nots {
		and(refNot(n.holds(f)))
	}
	return v
}

// opens is what the block opens of loopback, as text.
func (r *refRule) opens(b *refBlock) string {
	if b == nil {
		return ""
	}
	var s []string
	loopback := func(n string) bool { return strings.HasPrefix(n, "127.") }
	for _, n := range b.address {
		if loopback(n) {
			s = append(s, n)
		}
	}
	if slices.Contains(b.host, "localhost") {
		for _, o := range r.blocks {
			if slices.ContainsFunc(o.address, loopback) {
				return strings.Join(append(s, "localhost"), " ")
			}
		}
	}
	return strings.Join(s, " ")
}

type refResult struct {
	rule   string
	need   connmodel.Need
	opens  string
	shadow string
}

func refDecide(rules []*refRule, f *connmodel.Facts) refResult {
	var shadow []string
	for _, r := range rules {
		blocks := r.blocks
		if blocks == nil {
			blocks = []*refBlock{nil}
		}
		waiting := ""
		waits := connmodel.Need(0)
		for _, b := range blocks {
			v := yes
			if b != nil {
				v = b.holds(f)
			}
			if r.when != "" {
				v = refAnd(v, refWhens[r.when](f))
			}
			switch {
			case v == no:
				continue
			case r.shadow:
				if v == yes && !slices.Contains(shadow, r.name) {
					shadow = append(shadow, r.name)
				}
				continue
			case v > yes:
				if waits == 0 {
					waiting = r.opens(b)
				}
				waits |= connmodel.Need(v / 2)
			case v == yes && (waits == 0 || waiting == r.opens(b) && waiting == ""):
				return refResult{rule: r.name, opens: r.opens(b), shadow: strings.Join(shadow, ",")}
			}
		}
		if waits&connmodel.NeedAddresses != 0 {
			return refResult{need: connmodel.NeedAddresses}
		}
		if waits != 0 {
			return refResult{need: waits}
		}
	}
	return refResult{shadow: strings.Join(shadow, ",")}
}

func hclList(list []string) string { return textList(list) }

func (b *refBlock) write(w *strings.Builder, name string) {
	fmt.Fprintf(w, "%s {\n", name)
	for _, a := range []struct {
		name string
		list []string
	}{{"listener", b.listener}, {"client", b.client}, {"user", b.user}, {"protocol", b.protocol}, {"host", b.host}, {"port", b.port},
		{"address", b.address}, {"method", b.method}, {"path", b.path}, {"sni", b.sni}, {"alpn", b.alpn}} {
		if a.list != nil {
			fmt.Fprintf(w, "%s = %s\n", a.name, hclList(a.list))
		}
	}
	if b.literal {
		fmt.Fprintf(w, "resolve = false\n")
	}
	for _, n := range b.nots {
		n.write(w, "not")
	}
	fmt.Fprintf(w, "}\n")
}

func refSource(rules []*refRule) string {
	var w strings.Builder
	w.WriteString("listener \"l1\" {\naddress = \"127.0.0.1:1\"\n}\nlistener \"l2\" {\naddress = \"127.0.0.1:2\"\n}\npolicy \"default\" {\n")
	for _, r := range rules {
		fmt.Fprintf(&w, "rule %q {\n", r.name)
		for _, b := range r.blocks {
			b.write(&w, "match")
		}
		if r.when != "" {
			fmt.Fprintf(&w, "when = %s\n", r.when)
		}
		if r.shadow {
			fmt.Fprintf(&w, "shadow = true\n")
		}
		if r.deny {
			fmt.Fprintf(&w, "deny {}\n}\n")
		} else {
			fmt.Fprintf(&w, "via = direct\n}\n")
		}
	}
	w.WriteString("}\n")
	return w.String()
}

func some(values ...string) *rapid.Generator[[]string] {
	return rapid.Custom(func(t *rapid.T) []string {
		if rapid.IntRange(0, 2).Draw(t, "tested") > 0 {
			return nil
		}
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, min(4, len(values)), rapid.ID[string]).Draw(t, "values")
	})
}

func drawBlock(t *rapid.T, nots bool) *refBlock {
	for {
		b := &refBlock{
			listener: some("l1", "l2").Draw(t, "listener"),
			client:   some("10.0.0.0/24", "10.0.0.0/8", "2001:db8::/32", "10.0.1.1").Draw(t, "client"),
			user:     some("anna", "", "*", "b*").Draw(t, "user"),
			protocol: some("http", "connect", "socks5").Draw(t, "protocol"),
			host: some("a.example", "*.a.example", ".a.example", "*.example", "b*.a.example", "*", "/^b/", "192.0.2.1", "c?b.a.example",
				"localhost", "*.b.a.example", "*b*.test", "x.test").Draw(t, "host"),
			port:    some("443", "80", "1-100", "8000-9000", "400-8080").Draw(t, "port"),
			address: some("192.0.2.0/24", "198.51.100.0/24", "127.0.0.0/8", "127.0.0.1/32", "2001:db8::/32").Draw(t, "address"),
			method:  some("GET", "POST").Draw(t, "method"),
			path:    some("/api/*", "/", "/a*b").Draw(t, "path"),
		}
		if b.method == nil && b.path == nil && (b.protocol == nil || len(b.protocol) > 1 || b.protocol[0] != "http") {
			b.sni = some("a.example", "*.a.example", ".b.a.example", "b*.example", "*", "/^x/").Draw(t, "sni")
			b.alpn = some("h2", "http/1.1").Draw(t, "alpn")
		}
		b.literal = b.address != nil && rapid.Bool().Draw(t, "literal")
		if nots && rapid.IntRange(0, 3).Draw(t, "not") == 0 {
			b.nots = append(b.nots, drawBlock(t, false))
		}
		if b.listener != nil || b.client != nil || b.user != nil || b.protocol != nil || b.host != nil || b.port != nil || b.address != nil || b.method != nil || b.path != nil || b.sni != nil || b.alpn != nil || b.nots != nil {
			return b
		}
	}
}

func drawRules(t *rapid.T) []*refRule {
	var rules []*refRule
	for i := range rapid.IntRange(1, 12).Draw(t, "rules") {
		r := &refRule{name: fmt.Sprintf("r%d", i), deny: rapid.Bool().Draw(t, "deny"), shadow: rapid.IntRange(0, 4).Draw(t, "shadow") == 0}
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "blocks") {
			r.blocks = append(r.blocks, drawBlock(t, true))
		}
		if rapid.IntRange(0, 3).Draw(t, "has when") == 0 {
			r.when = rapid.SampledFrom(sortedNames(refWhens)).Draw(t, "when")
		}
		rules = append(rules, r)
	}
	return rules
}

func drawFacts(t *rapid.T) *connmodel.Facts {
	f := &connmodel.Facts{
		Listener: rapid.SampledFrom([]string{"l1", "l2"}).Draw(t, "l"),
		User:     rapid.SampledFrom([]string{"", "anna", "bob"}).Draw(t, "u"),
		Protocol: rapid.SampledFrom([]connmodel.Protocol{"http", "connect", "socks5"}).Draw(t, "p"),
		Time:     time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
	if c := rapid.SampledFrom([]string{"10.0.0.1", "10.0.1.1", "2001:db8::5", "192.0.2.9", ""}).Draw(t, "c"); c != "" {
		f.Client = netip.AddrPortFrom(netip.MustParseAddr(c), 1)
	}
	f.Target.Host = rapid.SampledFrom([]string{"a.example", "b.a.example", "c.b.a.example", "example", "x.test", "abc.test", "localhost", "192.0.2.1",
		"2001:db8::1", "127.0.0.1", "cxb.a.example"}).Draw(t, "h")
	f.Target.Port = uint16(rapid.SampledFrom([]int{80, 443, 8080}).Draw(t, "port"))
	f.TargetIP = f.Target.IP()
	if f.Protocol == connmodel.ProtocolHTTP {
		f.Scheme = "http"
		f.Request = &connmodel.RequestFacts{Method: rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "m"),
			Path: rapid.SampledFrom([]string{"/", "/api/x?y=/b", "/axxb", "/axx?b"}).Draw(t, "path")}
	}
	return f
}

var refAddrs = []string{"192.0.2.7", "198.51.100.7", "127.0.0.1", "203.0.113.1", "2001:db8::9"}

func TestAgainstReference(t *testing.T) {
	asked, taken, shadowed := map[connmodel.Need]int{}, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		src := refSource(rules)
		c, d := Load(Options{Source: map[string][]byte{"r.hcl": []byte(src)}})
		if c == nil {
			t.Fatalf("%v\n%s", d.Error(), src)
		}
		p := c.Programs["default"]
		p.few = rapid.SampledFrom([]int{-1, fewCandidates}).Draw(t, "few") // with all indexes, and without
		for range 20 {
			f := drawFacts(t)
			for {
				want := refDecide(rules, f)
				got, need := p.Decide(f)
				same, sameNeed, trace := p.Explain(f)
				if need != sameNeed || (got == nil) != (same == nil) || got != nil && got.Rule != same.Rule {
					t.Fatalf("Explain disagrees with Decide: %v, %v\n%s", got, same, src)
				}
				if need != want.need || need == 0 && got.Rule != want.rule {
					t.Fatalf("%+v: decision %+v (need %s), expected %+v\n%s\n%s", f, got, need, want, src, traceText(trace))
				}
				if need == 0 {
					if o := opened(got); o != want.opens {
						t.Fatalf("%+v: opens %q, expected %q\n%s", f, o, want.opens, src)
					}
					if s := shadowText(got); s != want.shadow {
						t.Fatalf("%+v: shadow %q, expected %q\n%s", f, s, want.shadow, src)
					}
					checkTrace(t, got, trace)
					taken += boolInt(got.Rule != "")
					shadowed += len(got.Shadow)
					break
				}
				asked[need]++
				if f.Have&need != 0 {
					if !f.HelloUnread && !f.RequestUnread {
						t.Fatalf("%+v: asked twice for %s\n%s", f, need, src)
					}
					break // nothing fails open
				}
				refGather(t, f, need)
			}
		}
	})
	if len(asked) < 4 && !testing.Short() || taken == 0 || shadowed == 0 { // the short form draws a twentieth of the flows
		t.Errorf("the flows are too tame: asked %v, %d were taken, %d met a shadow rule", asked, taken, shadowed)
	}
}

// refGather gives f what is asked for, as the router would: a tunnel begins with a hello, with a request, with something else, or with
// what cannot be read.
func refGather(t *rapid.T, f *connmodel.Facts, need connmodel.Need) {
	f.Have |= need
	if need == connmodel.NeedAddresses {
		for _, a := range rapid.SliceOfN(rapid.SampledFrom(refAddrs), 1, 2).Draw(t, "addresses") {
			f.Addresses = append(f.Addresses, netip.MustParseAddr(a))
		}
		return
	}
	switch rapid.IntRange(0, 5).Draw(t, "begins with") {
	case 0, 1:
		if need&connmodel.NeedHello != 0 {
			f.Hello = &connmodel.ClientHello{
				SNI:  rapid.SampledFrom([]string{"", "a.example", "b.a.example", "x.test", "c.b.a.example"}).Draw(t, "sni"),
				ALPN: rapid.SampledFrom([][]string{nil, {"h2", "http/1.1"}, {"http/1.1"}}).Draw(t, "alpn"),
			}
		}
	case 2:
		if need&connmodel.NeedRequest != 0 {
			f.Request = &connmodel.RequestFacts{Method: "GET", Path: rapid.SampledFrom([]string{"/", "/api/x"}).Draw(t, "inner path")}
		}
	case 3:
		f.HelloUnread = need&connmodel.NeedHello != 0
	case 4:
		f.RequestUnread = need&connmodel.NeedRequest != 0
	}
}

func opened(d *connmodel.Decision) string {
	var s []string
	for _, p := range d.AllowAddresses {
		s = append(s, p.String())
	}
	if d.AllowLocalhost {
		s = append(s, "localhost")
	}
	return strings.Join(s, " ")
}

func shadowText(d *connmodel.Decision) string {
	var s []string
	for _, v := range d.Shadow {
		s = append(s, v.Rule)
	}
	return strings.Join(s, ",")
}

// checkTrace: the last rule tried is the one that decided, every other did not match, and each has a reason.
func checkTrace(t *rapid.T, d *connmodel.Decision, trace *connmodel.Trace) {
	for i, s := range trace.Steps {
		last := i == len(trace.Steps)-1 && d.Rule != ""
		if s.Reason == "" || s.Line == 0 || (s.Matched && !s.Shadow) != last || last && s.Rule != d.Rule {
			t.Fatalf("decided by %q, but the trace says\n%s", d.Rule, traceText(trace))
		}
	}
}

func traceText(trace *connmodel.Trace) string {
	var b strings.Builder
	for _, s := range trace.Steps {
		fmt.Fprintf(&b, "%s:%d %s matched=%v shadow=%v: %s\n", s.File, s.Line, s.Rule, s.Matched, s.Shadow, s.Reason)
	}
	return b.String()
}
