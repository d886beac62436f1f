package policies

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// testBlock is a client, a target, and what must come out.
type testBlock struct{ src *hcl.Block }

// Test is a test block that has been read: see RunTests.
type Test struct {
	Name string
	File string
	Line int

	policy    string
	facts     connmodel.Facts
	resolve   []netip.Addr // nil = not said
	hello     *connmodel.ClientHello
	silent    bool                    // it is said that there is no hello
	inner     *connmodel.RequestFacts // plain request of a client that a firewall sent here; nil = none
	innerHost string                  // whom it is for
	reach     testReach
	expect    expectation
}

// expectation holds what the expect block says; nil and "" are not compared.
type expectation struct {
	rule, policy, server, reason string
	route                        string
	deny                         *bool
	status                       int
	tls                          string // mode
	tags                         []string
	hasTags                      bool
	pac                          []string // entries that the script gives
}

var (
	testSchema = schema(attrs("client", "listener", "user", "at", "policy", "connect", "request", "socks4", "socks4a", "socks5", "udp", "redirect", "tproxy", "resolve", "header", "sni", "alpn", "ja4", "reachable"),
		blocks("expect"))
	expectSchema = schema(attrs("rule", "via", "server", "deny", "reason", "policy", "tags", "tls", "pac"))
)

// targetAttrs say how the client asks, and for what.
var targetAttrs = []struct {
	name     string
	protocol connmodel.Protocol
}{
	{"redirect", connmodel.ProtocolRedirect}, {"tproxy", connmodel.ProtocolTProxy},
	{"connect", connmodel.ProtocolConnect}, {"request", connmodel.ProtocolHTTP}, {"socks4", connmodel.ProtocolSOCKS4},
	{"socks4a", connmodel.ProtocolSOCKS4a}, {"socks5", connmodel.ProtocolSOCKS5},
	{"udp", connmodel.ProtocolUDP},
}

// testTime is when a test takes place that says nothing of time: a Monday noon.
var testTime = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

func (l *loader) buildTest(x *testBlock) Test {
	b := l.open(x.src, testSchema)
	t := Test{Name: x.src.Labels[0], File: x.src.DefRange.Filename, Line: x.src.DefRange.Start.Line}
	f := &t.facts
	f.User = b.text("user")
	f.Time = l.testTime(b)
	if a := b.address("client"); a.IsValid() {
		f.Client = netip.AddrPortFrom(a, 40000)
	} else {
		f.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 40000)
	}
	l.testTarget(b, &t)
	for _, e := range b.entries("resolve") {
		a, err := netip.ParseAddr(e.text)
		if err != nil || a.Zone() != "" {
			l.errorAt(e.r, "Wrong address", `"resolve" lists the IP addresses that the name has in this test.`)
			continue
		}
		t.resolve = append(t.resolve, a.Unmap())
	}
	l.testHello(b, &t)
	t.reach = l.testReach(b)
	t.policy = l.testPolicy(b, f)
	if e := b.one("expect"); e != nil {
		l.expectation(e, &t)
	} else {
		l.errorAt(x.src.DefRange, "No expectation", "A test says what must come out: expect { rule = \"…\" }")
	}
	return t
}

// testTime reads a moment: with its zone, or in that of the gateway.
func (l *loader) testTime(b *block) time.Time {
	zone := time.Local
	if l.gateway != nil && l.gateway.zone != nil {
		zone = l.gateway.zone
	}
	s := b.text("at")
	if s == "" {
		y, m, d := testTime.Date()
		return time.Date(y, m, d, 12, 0, 0, 0, zone)
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.In(zone)
	}
	for _, form := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(form, s, zone); err == nil {
			return t
		}
	}
	l.errorAt(b.rng("at"), "Wrong time", `Write "2026-11-23 20:15", in the time zone of the gateway, or with a zone of its own: "2026-11-23T20:15:00Z".`)
	return testTime
}

// testTarget reads the one attribute that says what the client asks for.
func (l *loader) testTarget(b *block, t *Test) {
	f := &t.facts
	var given []string
	for _, a := range targetAttrs {
		if !b.has(a.name) {
			continue
		}
		if a.name == "request" && f.KernelSent() { // what the client says inside
			l.testInner(b, t)
			continue
		}
		if given = append(given, a.name); len(given) > 1 {
			l.errorAt(b.attrs[a.name].NameRange, "Two targets", fmt.Sprintf("The test has %q already. A client asks for one thing.", given[0]))
			continue
		}
		f.Protocol = a.protocol
		if a.name == "request" {
			l.testRequest(b, f)
		} else {
			f.Target = b.hostPort(a.name)
		}
	}
	if l.testForward(b, f, given) {
		if b.has("header") {
			l.errorAt(b.rng("header"), "Without effect", `Header fields are seen in a plain request only: request = "GET http://host/path".`)
		}
		return
	}
	if given == nil {
		l.errorAt(b.src.DefRange, "No target", `A test says what the client asks for: connect = "host:port", socks5 = "host:port", udp = "host:port", or request = "GET http://host/path".`)
	}
	if b.has("header") && !b.has("request") {
		l.errorAt(b.rng("header"), "Without effect", `Header fields are seen in a request only: request = "GET http://host/path".`)
	}
	f.TargetIP = f.Target.IP()
	if f.KernelSent() && !f.TargetIP.IsValid() && !f.Target.IsZero() {
		l.errorAt(b.rng(given[0]), "Wrong address", fmt.Sprintf("A firewall sends connections to addresses: %s = \"192.0.2.10:443\". The name is inside: sni = \"…\", or request = \"GET http://host/\".", given[0]))
	}
	if f.Protocol == connmodel.ProtocolUDP { // no first bytes: a datagram is no connection
		f.Have |= connmodel.NeedHello | connmodel.NeedRequest
	}
}

// testRequest reads "GET http://host/path", or "GET https://host/path": a request in a CONNECT tunnel to that host, which a rule opens.
func (l *loader) testRequest(b *block, f *connmodel.Facts) {
	s := b.text("request")
	if s == "" {
		return
	}
	r := b.rng("request")
	method, target, ok := strings.Cut(s, " ")
	if !ok {
		method, target = "GET", s
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !isToken(method) {
		l.errorAt(r, "Wrong request", `A request is written with its whole URL: "GET http://host/path". One of https is what a tunnel holds that a rule opens; for the tunnel itself use connect = "host:443".`)
		return
	}
	port := uint64(80)
	if u.Scheme == "https" {
		port = 443
	}
	if u.Port() != "" {
		port, err = strconv.ParseUint(u.Port(), 10, 16)
	}
	a, err2 := connmodel.MakeAddress(u.Hostname(), uint16(port))
	if err != nil || err2 != nil {
		l.errorAt(r, "Wrong request", fmt.Sprintf("%q holds no host and port that can be reached.", u.Host))
		return
	}
	f.Target, f.Scheme = a, u.Scheme
	if u.Scheme == "https" {
		f.Protocol, f.Tunnel = connmodel.ProtocolConnect, a
	}
	f.Request = &connmodel.RequestFacts{Method: method, Path: u.RequestURI(), Header: l.testHeader(b)}
}

// testFields are the header fields of a test.
type testFields [][2]string

// Lookup implements connmodel.HeaderLookup.
func (t testFields) Lookup(name string, i int) (string, bool) {
	for _, f := range t {
		if strings.EqualFold(f[0], name) {
			if i == 0 {
				return f[1], true
			}
			i--
		}
	}
	return "", false
}

func (l *loader) testHeader(b *block) testFields {
	fields := testFields{}
	v, r, ok := b.value("header")
	if !ok {
		return fields
	}
	if v.IsNull() || !(v.Type().IsObjectType() || v.Type().IsMapType()) {
		l.errorAt(r, "Wrong type", `"header" is a map of names and values.`)
		return fields
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		for _, x := range l.flatten(e, r, k.AsString()) {
			if s, ok := l.to(x, cty.String, r, "The value of a header field"); ok {
				fields = append(fields, [2]string{k.AsString(), s.AsString()})
			}
		}
	}
	return fields
}

// testHello reads what the TLS client in the tunnel says.
func (l *loader) testHello(b *block, t *Test) {
	h := &connmodel.ClientHello{Versions: []uint16{tls.VersionTLS13}}
	if s := b.text("sni"); s != "" {
		name, err := connmodel.CanonicalHost(s)
		if err != nil || isAddress(name) {
			l.errorAt(b.rng("sni"), "Wrong host", fmt.Sprintf("%q is no name that a TLS client can ask for.", s))
		}
		h.SNI, t.hello = name, h
	}
	for _, e := range b.entries("alpn") {
		h.ALPN, t.hello = append(h.ALPN, e.text), h
	}
	if s := b.text("ja4"); s != "" {
		h.JA4, t.hello = s, h
	}
	t.silent = b.has("sni") && t.hello == nil
	for _, name := range helloAttrs {
		if b.has(name) && t.facts.Protocol == connmodel.ProtocolHTTP {
			l.errorAt(b.rng(name), "Without effect", fmt.Sprintf("A plain request has no TLS, so %q says nothing. Write connect or socks5.", name))
		}
	}
}

// testPolicy is the policy named, else that of the listener, else the default.
func (l *loader) testPolicy(b *block, f *connmodel.Facts) string {
	listener := l.listenerNames(b)
	if len(listener) > 0 {
		f.Listener = listener[0]
	} else if len(l.listeners) > 0 && listener == nil {
		f.Listener = l.listeners[0].src.Labels[0]
	}
	if a := b.attrs["policy"]; a != nil {
		r, _ := l.reference(a.Expr, kindPolicy)
		return r.name
	}
	if len(listener) > 0 || len(l.listeners) > 0 {
		if d, ok := l.byName[kindListener][f.Listener]; ok {
			return l.policyOf(d.block.(*listenerBlock))
		}
		return ""
	}
	name := l.defaultPolicy()
	if name == "" {
		l.errorAt(b.src.DefRange, "No policy", "It is not clear which policy this test is of. Write policy = policy.NAME, or listener = listener.NAME.")
	}
	return name
}

// policyOf is the policy of a listener, whose own errors are reported elsewhere.
func (l *loader) policyOf(x *listenerBlock) string {
	content, _, _ := x.src.Body.PartialContent(schema(attrs("policy")))
	if a := content.Attributes["policy"]; a != nil {
		if t, ok := traversal(a.Expr); ok && len(t) == 2 {
			if name, ok := t[1].(hcl.TraverseAttr); ok {
				return name.Name
			}
		}
		return ""
	}
	return l.defaultPolicy()
}

func (l *loader) expectation(x *hcl.Block, t *Test) {
	b := l.open(x, expectSchema)
	if len(b.attrs) == 0 {
		l.errorAt(x.DefRange, "Empty block", `The test expects nothing. Write for instance rule = "…", via = direct or deny = true.`)
	}
	e := &t.expect
	e.reason = b.text("reason")
	e.tls = b.oneOf("tls", string(connmodel.TLSPassthrough), string(connmodel.TLSUpgrade), string(connmodel.TLSTerminate), string(connmodel.TLSIntercept))
	if s := b.hostPort("server"); !s.IsZero() {
		e.server = s.String()
	}
	if a := b.attrs["policy"]; a != nil {
		r, _ := l.reference(a.Expr, kindPolicy)
		e.policy = r.name
	}
	l.expectRule(b, t)
	if a := b.attrs["via"]; a != nil {
		e.route = l.expectRoute(a.Expr)
	}
	if b.has("tags") {
		e.hasTags = true
		if items, diags := hcl.ExprList(b.attrs["tags"].Expr); diags.HasErrors() || len(items) > 0 {
			for _, t := range b.entries("tags") {
				e.tags = append(e.tags, t.text)
			}
		}
	}
	l.expectPAC(b, e)
	l.expectDeny(b, e)
	if e.deny != nil && *e.deny && (b.has("via") || b.has("server")) {
		l.errorAt(b.rng("deny"), "Two outcomes", "The test expects a denial and a route. Keep one.")
	}
}

// expectRule checks that there is such a rule.
func (l *loader) expectRule(b *block, t *Test) {
	e := &t.expect
	if e.rule = b.text("rule"); e.rule == "" {
		return
	}
	policy := t.policy
	if e.policy != "" {
		policy = e.policy
	}
	d, ok := l.byName[kindPolicy][policy]
	if !ok {
		return
	}
	var names []string
	p := d.block.(*policyBlock)
	for _, r := range p.rules {
		names = append(names, r.name)
	}
	if p.otherwise != nil {
		names = append(names, otherwiseName)
	}
	if !slices.Contains(names, e.rule) {
		l.errorAt(b.rng("rule"), "Unknown rule", fmt.Sprintf("The policy %q has no rule %q.%s", policy, e.rule, didYouMeanOr(e.rule, names, "rule")))
	}
}

// expectRoute reads a route without declaring or using it: names joined by " > ".
func (l *loader) expectRoute(e hcl.Expression) string {
	items, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		items = []hcl.Expression{e}
	}
	var names []string
	for _, item := range items {
		if r, ok := l.reference(item, routeKinds...); ok {
			names = append(names, r.String())
		}
	}
	return strings.Join(names, " > ")
}

// expectDeny reads true, false, or the status of the denial.
func (l *loader) expectDeny(b *block, e *expectation) {
	v, r, ok := b.value("deny")
	if !ok {
		return
	}
	yes := true
	switch v.Type() {
	case cty.Bool:
		yes = v.True()
	case cty.Number:
		e.status = b.number("deny", 400, 599)
	default:
		l.errorAt(r, "Wrong type", `"deny" is true, false, or the status of the denial, such as 403.`)
		return
	}
	e.deny = &yes
}
