package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies/expr"
)

// rule is one condition with an outcome. It is read from a rule or an otherwise block, and kept by the Program.
type rule struct {
	name     string
	decl     hcl.Range
	blocks   []*tests // of which one has to hold; none = everything
	when     *expr.Condition
	whenText string
	shadow   bool
	nameSaid bool // it says what becomes of names found inside (verify_name, send_name)
	half     bool // it could not be read in full, so that it may seem to take more than it says
	decision connmodel.Decision
}

var (
	ruleAttrs       = attrs("via", "server", "tags", "resolve_locally", "plain_connect", "send_proxy_protocol", "verify_name", "send_name")
	ruleBlocks      = blocks("deny", "tls", "retry", "timeouts", "headers")
	ruleSchema      = schema(ruleAttrs, attrs("when", "shadow"), ruleBlocks, blocks("match"))
	otherwiseSchema = schema(ruleAttrs, ruleBlocks)
	denySchema      = schema(attrs("status", "reason"))
	headersSchema   = schema(attrs("set", "remove"))
)

func (l *loader) buildRule(p *policyBlock, x *hcl.Block, name string) *rule {
	s := ruleSchema
	if x.Type == otherwiseName {
		s = otherwiseSchema
	}
	before, voids := len(l.diags), l.voids
	b := l.open(x, s)
	r := &rule{name: name, decl: x.DefRange, shadow: b.boolean("shadow", false)}
	for _, m := range b.blocks {
		if m.Type == "match" {
			r.blocks = append(r.blocks, l.buildMatch(m))
		}
	}
	r.condition(l, b)
	r.decision = connmodel.Decision{Generation: l.o.Generation, Policy: p.name, Rule: name, File: r.decl.Filename, Line: r.decl.Start.Line}
	l.outcome(b, p, r)
	l.checkHeader(b, r)
	r.half = l.diags[before:].HasErrors() || l.voids > voids
	l.earlyYes(r, b.rng("when"))
	return r
}

// condition compiles when.
func (r *rule) condition(l *loader, b *block) {
	a := b.attrs["when"]
	if a == nil {
		return
	}
	rng := a.Expr.Range()
	consts := &hcl.EvalContext{Variables: map[string]cty.Value{"local": l.known("local"), "var": l.known("var")}, Functions: l.context(rng.Filename).Functions}
	l.at, l.condition, l.ofSecret = rng, true, l.isOfSecret(a.Expr)
	c, diags := expr.Compile(a.Expr, consts, expr.Options{Listeners: sortedNames(l.byName[kindListener]), Country: l.countryOf()})
	l.condition = false
	l.ofValue(diags)
	if c == nil {
		return
	}
	r.when, r.whenText = c, l.textAt(rng)
	l.asksNetwork(c.Reaches())
	if l.geo != nil && slices.ContainsFunc(c.Names(), func(n string) bool { return strings.HasSuffix(n, ".country") }) {
		l.geo.used = true
	}
	if v, constant := c.Constant(); constant && v {
		l.warnAt(rng, "Condition always true", "This `when` is true for every flow, so it does nothing. Leave it out.")
	} else if constant {
		l.warnAt(rng, "Condition always false", "This `when` is false for every flow, so the rule takes nothing. Leave the rule out.")
	}
}

// known is a root of the load-time scope for conditions. What a lenient load could not read is an empty text there.
func (l *loader) known(root string) cty.Value {
	v := l.values[root]
	if !l.o.Lenient {
		return v
	}
	filled, err := cty.Transform(v, func(_ cty.Path, v cty.Value) (cty.Value, error) {
		if v.Type() == cty.String && !v.IsKnown() {
			return cty.StringVal("").WithSameMarks(v), nil
		}
		return v, nil
	})
	if err != nil {
		return v
	}
	return filled
}

// textAt is the source of an expression, on one line.
func (l *loader) textAt(r hcl.Range) string {
	src := l.sources[r.Filename]
	if !r.CanSliceBytes(src) {
		return ""
	}
	s := strings.Join(strings.Fields(string(r.SliceBytes(src))), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// outcome reads via or deny and what goes with it.
func (l *loader) outcome(b *block, p *policyBlock, r *rule) {
	d := &r.decision
	deny, via := b.one("deny"), b.attrs["via"]
	what := title(b.src)
	switch {
	case deny != nil && via != nil:
		l.errorAt(deny.DefRange, "Two outcomes", fmt.Sprintf("%s says both via and deny. Keep one.", what))
		l.lost = true
		return
	case deny != nil:
		l.denial(b, deny, d)
		return
	case via == nil:
		l.errorAt(b.src.DefRange, "No outcome", fmt.Sprintf("%s must say what happens: via = a route, or deny { }.", what))
		return
	}
	d.Outcome = connmodel.OutcomeVia
	d.Route = l.route(via.Expr, p.name+"/"+r.name)
	d.Server = b.hostPort("server")
	l.servers = append(l.servers, serverAt{d.Server, b.rng("server")})
	d.LocalResolve = b.boolean("resolve_locally", false)
	d.PlainConnect = b.boolean("plain_connect", false)
	d.VerifyName = b.boolean("verify_name", false)
	d.SendName = b.boolean("send_name", false)
	r.nameSaid = b.has("verify_name") || b.has("send_name")
	d.ProxyProtocol = b.number("send_proxy_protocol", 1, 2)
	d.Tags = l.tags(b)
	if t := b.one("tls"); t != nil {
		before := len(l.signs)
		if d.TLS = l.tlsPlan(t); r.ofRequests() {
			l.signs = l.signs[:before] // who is shown a certificate has no request yet
		} else if d.TLS.Opens() && !r.shadow && saysYesIn(r.blocks) {
			l.noteAt(t.DefRange, "Yes before the server is reached", fmt.Sprintf("The rule %q opens TLS, and behind CONNECT and SOCKS a client begins it when it has been told yes. What keeps Viaduct from the server is told inside, by a page with status 502.", r.name))
		}
	}
	d.Retry = l.retry(b.one("retry"))
	d.Timeouts = l.timeouts(b.one("timeouts"))
	if h := b.one("headers"); h != nil {
		l.headers(h, d)
	}
}

// denial reads a deny block. Nothing that is about a connection may stand beside it.
func (l *loader) denial(b *block, x *hcl.Block, d *connmodel.Decision) {
	c := l.open(x, denySchema)
	d.Outcome = connmodel.OutcomeDeny
	d.Denial = &connmodel.Denial{Status: 403, Reason: c.text("reason")}
	if s := c.number("status", 400, 599); s != 0 {
		if d.Denial.Status = s; s == 407 { // RFC 9110, section 15.5.8: it must come with a challenge
			l.errorAt(c.rng("status"), "Number out of range", "407 asks for a password, and is given by a listener with an authenticate block only. Use 403.")
		}
	}
	if len(d.Denial.Reason) > 500 {
		l.errorAt(c.rng("reason"), "Text too long", "The reason is a sentence for the person in front of the browser: at most 500 bytes.")
	}
	d.Tags = l.tags(b)
	for _, name := range []string{"server", "resolve_locally", "plain_connect", "send_proxy_protocol", "verify_name", "send_name"} {
		if a := b.attrs[name]; a != nil {
			l.errorAt(a.NameRange, "Without effect", fmt.Sprintf("The rule denies, so %q says nothing.", name))
		}
	}
	for _, o := range b.blocks {
		if slices.Contains([]string{"tls", "retry", "timeouts", "headers"}, o.Type) {
			l.errorAt(o.DefRange, "Without effect", fmt.Sprintf("The rule denies, so %q says nothing.", o.Type))
		}
	}
}

func (l *loader) tags(b *block) []string {
	var tags []string
	for _, e := range b.entries("tags") {
		t := e.text
		if t == "" || len(t) > 64 || strings.ContainsAny(t, " ,\"") || slices.Contains(tags, t) {
			l.errorAt(e.r, "Wrong tag", `A tag is a word of at most 64 bytes without blanks, commas and quotes, and stands once.`)
			continue
		}
		tags = append(tags, t)
	}
	return tags
}

// ownFields are header fields that a policy cannot set or remove, because the connection depends on them.
var ownFields = []string{
	"connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade", "via",
}

func (l *loader) headers(x *hcl.Block, d *connmodel.Decision) {
	b := l.open(x, headersSchema)
	if v, r, ok := b.value("set"); ok {
		if !v.CanIterateElements() || !(v.Type().IsObjectType() || v.Type().IsMapType()) {
			l.errorAt(r, "Wrong type", `"set" is a map of names and values: { "X-Team" = "blue" }.`)
		} else {
			for it := v.ElementIterator(); it.Next(); {
				name, value := it.Element()
				if s, ok := l.to(value, cty.String, r, "The value of a header field"); ok && l.fieldName(name.AsString(), r) {
					d.SetHeaders = append(d.SetHeaders, connmodel.HeaderEdit{Name: name.AsString(), Value: strings.TrimSpace(l.clean(s.AsString(), r, name.AsString()))})
				}
			}
		}
	}
	for _, e := range b.entries("remove") {
		if l.fieldName(e.text, e.r) {
			d.RemoveHeaders = append(d.RemoveHeaders, e.text)
		}
	}
}

// fieldName wants a token (RFC 9110, section 5.1) that is not ours.
func (l *loader) fieldName(name string, r hcl.Range) bool {
	if !isToken(name) {
		l.errorAt(r, "Wrong header field", fmt.Sprintf("%q is no name of a header field.", name))
		return false
	}
	if slices.Contains(ownFields, strings.ToLower(name)) {
		l.errorAt(r, "Header field of the connection", fmt.Sprintf("%s belongs to the connection and is set by Viaduct itself.", name))
		return false
	}
	return true
}

func isToken(s string) bool {
	return s != "" && len(s) <= 256 && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	}) < 0
}

// opens says what of the refused ranges a match block opens for its rule: the prefixes it lists itself that lie wholly in
// one, and the name localhost, where the rule lists a prefix of loopback and the block names it.
func (r *rule) opens(t *tests) (prefixes []netip.Prefix, localhost bool) {
	if t == nil {
		return nil, false
	}
	prefixes = t.addresses.opening()
	if t.hosts == nil || !t.hosts.namesLocalhost() {
		return prefixes, false
	}
	for _, b := range r.blocks {
		for _, p := range b.addresses.opening() {
			if p.Addr().IsLoopback() {
				return prefixes, true
			}
		}
	}
	return prefixes, false
}
