package policies

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// tracer watches an evaluation. The nil *tracer, which Decide uses, sees nothing.
type tracer struct {
	left    [byWhen + 1]match.Bits // what each index left; nil = it was not asked
	outcome map[uint32]verdict
	taken   int // clause, -1 = none
	waiting *clause
	direct  bool // see candidates
}

func (t *tracer) keep(a attribute, b match.Bits) {
	if t != nil {
		t.left[a] = append(match.Bits{}, b...)
	}
}

func (t *tracer) tried(id uint32, v verdict) {
	if t != nil {
		t.outcome[id] = v
	}
}

func (t *tracer) took(id uint32) {
	if t != nil {
		t.taken = int(id)
	}
}

func (t *tracer) waits(c *clause) {
	if t != nil {
		t.waiting = c
	}
}

// Explain decides as Decide does, by the same code, and says for every rule that was tried why it did or did not match.
func (p *Program) Explain(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need, *connmodel.Trace) {
	t := &tracer{outcome: map[uint32]verdict{}, taken: -1}
	var d *connmodel.Decision
	var need connmodel.Need
	if d = p.fallback; len(p.clauses) > 0 {
		s := p.scratch.Get().(*scratch)
		t.direct = p.candidates(s, f, t)
		d, need = p.walk(s.found, t.direct, f, t)
		p.scratch.Put(s)
	}
	return d, need, p.trace(t, f, need)
}

// trace puts what the tracer saw into words, rule by rule, up to the one that decided.
func (p *Program) trace(t *tracer, f *connmodel.Facts, need connmodel.Need) *connmodel.Trace {
	out := &connmodel.Trace{}
	for id := 0; id < len(p.clauses); {
		r, end := p.clauses[id].rule, id
		for end < len(p.clauses) && p.clauses[end].rule == r {
			end++
		}
		step := connmodel.TraceStep{Rule: r.name, File: r.decl.Filename, Line: r.decl.Start.Line, Shadow: r.shadow}
		step.Matched, step.Reason = p.explainRule(t, f, id, end)
		out.Steps = append(out.Steps, step)
		if id <= t.taken && t.taken < end || t.waiting != nil && t.waiting.rule == r {
			return out
		}
		id = end
	}
	if need != 0 {
		return out
	}
	if n := len(p.rules); n > 0 && p.rules[n-1].name == otherwiseName {
		o := p.rules[n-1]
		out.Steps = append(out.Steps, connmodel.TraceStep{Rule: o.name, File: o.decl.Filename, Line: o.decl.Start.Line, Matched: true, Reason: "no rule above took it"})
	}
	return out
}

// explainRule looks at the clauses from id up to end, which are those of one rule.
func (p *Program) explainRule(t *tracer, f *connmodel.Facts, id, end int) (matched bool, reason string) {
	var best attribute
	var words string
	for c := id; c < end; c++ {
		switch v := t.outcome[uint32(c)]; {
		case v == yes && (p.clauses[c].rule.shadow || t.taken == c):
			return true, p.whyYes(&p.clauses[c], f)
		case v == unknown && t.taken < 0 && p.clauses[c].rule.shadow:
			return false, "it depends on the addresses of the target, and a shadow rule causes no look-up"
		case v == unknown && t.taken < 0:
			return false, fmt.Sprintf("it depends on the addresses of %s, which have to be resolved first", f.Target.Host)
		}
	}
	for c := id; c < end; c++ {
		if by, why := p.whyNot(t, f, uint32(c)); by >= best {
			best, words = by, why
		}
	}
	if n := len(p.clauses[id].rule.blocks); n > 1 {
		words = fmt.Sprintf("none of %d match blocks holds; the nearest: %s", n, words)
	}
	return false, words
}

// whyNot finds the test that kept a clause from holding: by an index, or when it was verified.
func (p *Program) whyNot(t *tracer, f *connmodel.Facts, id uint32) (attribute, string) {
	c := &p.clauses[id]
	by, v := byNothing, yes
	if c.rest != nil {
		by, v = c.rest.first(f)
	}
	direct := byNothing
	if t.direct {
		direct = c.direct(f)
	}
	for a := byListener; a <= byWhen; a++ {
		if a == direct || t.left[a] != nil && !t.left[a].Has(id) || v == no && a == by {
			return a, c.tests.notWords(a, f)
		}
	}
	if c.rule.when != nil {
		return byWhen, whenWords(c.rule, f, "false")
	}
	return byNothing, "it does not hold"
}

func whenWords(r *rule, f *connmodel.Facts, value string) string {
	s := fmt.Sprintf("when %s is %s", r.whenText, value)
	if d := r.when.Describe(f); d != "" {
		s += ", with " + d
	}
	return s
}

// one names the patterns of a test: the one there is, or how many.
func (w words) one() string { return w.of("patterns") }

func (w words) of(what string) string {
	if w.n == 1 && !strings.HasPrefix(w.first, "list.") {
		return w.first
	}
	return fmt.Sprintf("one of %d %s (first: %s)", w.n, what, w.first)
}

func wordsOf(list []string) words {
	if len(list) == 0 {
		return words{}
	}
	return words{len(list), list[0]}
}

// short bounds what comes from a client.
func short(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strings.ToValidUTF8(printable(s), "?")
}

// notWords says why a test does not hold.
func (t *tests) notWords(a attribute, f *connmodel.Facts) string {
	switch a {
	case byListener:
		return fmt.Sprintf("listener %s is not %s", f.Listener, wordsOf(t.listeners).of("listeners"))
	case byClient:
		return fmt.Sprintf("client %s is not in %s", clientText(f), t.clients.words.of("networks"))
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
	case byNot:
		return fmt.Sprintf("its not block holds: %s", t.holdingNot(f).yesWords(f))
	}
	return "it does not hold"
}

func (t *tests) notRequestWords(a attribute, f *connmodel.Facts) string {
	if f.Request == nil {
		return "there is no plain HTTP request to look at: it is a tunnel"
	}
	switch a {
	case byMethod:
		return fmt.Sprintf("method %s is not %s", short(f.Request.Method), wordsOf(t.methods).of("methods"))
	case byPath:
		path, _, _ := strings.Cut(f.Request.Path, "?")
		return fmt.Sprintf("path %s is not %s", short(path), wordsOf(texts(t.paths)).one())
	}
	h := failingHeader(t.headers, f)
	if h == nil {
		h = &t.headers[0]
	}
	return fmt.Sprintf("header %s is not %s", h.name, wordsOf(texts(h.values)).one())
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
func (t *tests) holdingNot(f *connmodel.Facts) *tests {
	for _, n := range t.nots {
		if _, v := n.first(f); v == yes {
			return n
		}
	}
	return &tests{}
}

// whyYes says why a clause holds.
func (p *Program) whyYes(c *clause, f *connmodel.Facts) string {
	if c.tests == nil && c.rule.when == nil {
		return "it takes everything"
	}
	var parts []string
	if c.tests != nil {
		parts = append(parts, c.tests.yesWords(f))
	}
	if c.rule.when != nil {
		parts = append(parts, whenWords(c.rule, f, "true"))
	}
	return strings.Join(parts, "; ")
}

// yesWords names the facts that made a block hold.
func (t *tests) yesWords(f *connmodel.Facts) string {
	var s []string
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	if t.listeners != nil {
		add("listener %s", f.Listener)
	}
	if t.clients != nil {
		add("client %s is in %s", clientText(f), t.clients.words.of("networks"))
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
		if by := t.hosts.matching(f.Target.Host); by == f.Target.Host {
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
		path, _, _ := strings.Cut(f.Request.Path, "?")
		add("path %s is %s", short(path), wordsOf(texts(t.paths)).one())
	}
	for i := range t.headers {
		add("header %s is %s", t.headers[i].name, wordsOf(texts(t.headers[i].values)).one())
	}
	if t.addresses != nil {
		add("address %s is in %s", addressText(f), t.addresses.words.of("networks"))
	}
	if len(t.nots) > 0 {
		add("no not block holds")
	}
	return strings.Join(s, ", ")
}

// matching names the pattern that takes a host, as it is written.
func (h *hosts) matching(host string) string {
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
	return words{len(ws), ws[0].text}
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

// RuleInfo names a rule of a policy.
type RuleInfo struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Shadow bool   `json:"shadow,omitempty"`
}

// Name is the label of the policy.
func (p *Program) Name() string { return p.name }

// Rules are the rules in written order, otherwise last if there is one.
func (p *Program) Rules() []RuleInfo {
	all := make([]RuleInfo, len(p.rules))
	for i, r := range p.rules {
		all[i] = RuleInfo{p.name, r.name, r.decl.Filename, r.decl.Start.Line, r.shadow}
	}
	return all
}
