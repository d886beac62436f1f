package policies

import (
	"fmt"
	"slices"
	"strings"

	"viaduct/connmodel"
)

// Report is the outcome of the test blocks of a configuration.
type Report struct {
	Results []TestResult `json:"results"`
	// Unreached are the rules that no test was decided by, policy by policy in written order; a shadow rule is reached when
	// it would have decided.
	Unreached []RuleInfo `json:"unreached"`
}

// TestResult is the outcome of one test.
type TestResult struct {
	Name        string   `json:"name"`
	File        string   `json:"file"`
	Line        int      `json:"line"`
	Pass        bool     `json:"pass"`
	Differences []string `json:"differences,omitempty"` // `via is direct, expected pool.corp`

	Decision *connmodel.Decision `json:"-"`
	Trace    *connmodel.Trace    `json:"-"`
}

// Failed is the number of tests that did not pass.
func (r *Report) Failed() int {
	n := 0
	for i := range r.Results {
		if !r.Results[i].Pass {
			n++
		}
	}
	return n
}

// RunTests decides every test of the configuration, by the code that serves, and compares.
func RunTests(c *Config) Report {
	rep := Report{Results: []TestResult{}, Unreached: []RuleInfo{}}
	reached := map[[2]string]bool{}
	for i := range c.Tests {
		rep.Results = append(rep.Results, runTest(c, &c.Tests[i], reached))
	}
	for _, name := range sortedNames(c.Programs) {
		for _, r := range c.Programs[name].Rules() {
			if !reached[[2]string{name, r.Rule}] {
				rep.Unreached = append(rep.Unreached, r)
			}
		}
	}
	return rep
}

func runTest(c *Config, t *Test, reached map[[2]string]bool) TestResult {
	r := TestResult{Name: t.Name, File: t.File, Line: t.Line}
	p := c.Programs[t.policy]
	if p == nil {
		r.Differences = []string{fmt.Sprintf("there is no policy %q", t.policy)}
		return r
	}
	f := t.facts
	reach := t.reach
	f.Reach = &reach
	d, need, trace := p.Explain(&f)
	for need != 0 {
		missing := t.gather(&f, need)
		if missing != "" {
			r.Trace = trace
			r.Differences = []string{missing}
			return r
		}
		d, need, trace = p.Explain(&f)
	}
	r.Decision, r.Trace = d, trace
	if missing := reach.missing(); missing != "" {
		r.Differences = []string{missing}
		return r
	}
	if d == nil {
		r.Differences = []string{"there is no decision"}
		return r
	}
	reached[[2]string{p.name, d.Rule}] = true
	for _, s := range d.Shadow {
		reached[[2]string{p.name, s.Rule}] = true
	}
	if f.Protocol == connmodel.ProtocolUDP && !d.Denied() {
		if why := c.noDatagrams(d); why != "" {
			r.Differences = t.expect.dropped(d, why)
			r.Pass = len(r.Differences) == 0
			return r
		}
	}
	r.Differences = append(t.expect.compare(c, d), t.comparePAC(c, d, &f)...)
	r.Pass = len(r.Differences) == 0
	return r
}

// dropped compares with a decision that datagrams cannot follow: it is a denial of theirs.
func (e *expectation) dropped(d *connmodel.Decision, why string) (diff []string) {
	if e.deny == nil || !*e.deny {
		diff = append(diff, fmt.Sprintf("the datagrams are dropped: the rule %q takes them, and %s", d.Rule, why))
	}
	if e.rule != "" && e.rule != d.Rule {
		diff = append(diff, fmt.Sprintf("rule is %q, expected %q", d.Rule, e.rule))
	}
	if e.reason != "" || e.status != 0 {
		diff = append(diff, "no rule denies them, so there is no reason and no status to expect")
	}
	return diff
}

// gather adds what the test says of facts that the decision depends on, or says what it should. A client that is not said to speak TLS
// or HTTP in its tunnel is silent there.
func (t *Test) gather(f *connmodel.Facts, need connmodel.Need) (missing string) {
	switch {
	case need&connmodel.NeedAddresses != 0:
		if t.resolve == nil {
			return fmt.Sprintf("the decision depends on the addresses of %s: say which it has in this test, with resolve = [\"…\"]", f.Target.Host)
		}
		f.Addresses = t.resolve
	case need&(connmodel.NeedName|connmodel.NeedRequest|connmodel.NeedHello) != 0 && t.inner != nil: // it is no ClientHello
		if need&(connmodel.NeedName|connmodel.NeedRequest) != 0 {
			f.Request = t.inner
			f.Named(t.innerHost)
		}
		need |= connmodel.NeedHello
	case need&(connmodel.NeedHello|connmodel.NeedName) != 0 && t.hello == nil && !t.silent:
		return `the decision depends on what the TLS client in the tunnel says: write sni = "name" (with alpn and ja4 if they matter), or sni = "" for a client that speaks no TLS`
	default:
		if f.Hello = t.hello; f.Hello != nil {
			f.Named(f.Hello.SNI)
		}
		if need&connmodel.NeedName != 0 {
			need |= connmodel.NeedHello | connmodel.NeedRequest
		}
	}
	f.Have |= need &^ connmodel.NeedName
	return ""
}

// compare says in words how a decision differs from what is expected.
func (e *expectation) compare(c *Config, d *connmodel.Decision) []string {
	var diff []string
	differs := func(what, is, expected string) {
		if is != expected {
			diff = append(diff, fmt.Sprintf("%s is %s, expected %s", what, orNone(is), orNone(expected)))
		}
	}
	if e.policy != "" {
		differs("policy", d.Policy, e.policy)
	}
	if e.rule != "" {
		differs("rule", quoteSome(d.Rule), quoteSome(e.rule))
	}
	if e.deny != nil && *e.deny != d.Denied() {
		differs("outcome", string(d.Outcome), map[bool]string{true: "deny", false: "via"}[*e.deny])
	}
	if d.Denied() {
		if e.status != 0 {
			differs("status", fmt.Sprint(d.Denial.Status), fmt.Sprint(e.status))
		}
		if e.reason != "" {
			differs("reason", quoteSome(d.Denial.Reason), quoteSome(e.reason))
		}
		if e.route != "" {
			differs("via", "", e.route)
		}
	} else {
		if e.reason != "" {
			differs("reason", "", quoteSome(e.reason))
		}
		if e.route != "" && c.hops(d.Route) != c.hops(e.route) {
			differs("via", d.Route, e.route)
		}
	}
	if e.tls != "" {
		differs("tls", tlsOf(d), e.tls)
	}
	if e.server != "" {
		differs("server", d.Server.String(), e.server)
	}
	if e.hasTags && !slices.Equal(e.tags, d.Tags) {
		differs("tags", strings.Join(d.Tags, ", "), strings.Join(e.tags, ", "))
	}
	return diff
}

// tlsOf is the mode of a decision, as a rule would say it.
func tlsOf(d *connmodel.Decision) string {
	switch {
	case d.Denied():
		return ""
	case d.TLS == nil:
		return string(connmodel.TLSPassthrough)
	}
	return string(d.TLS.Mode)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func quoteSome(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}

// hops writes a route with its chains taken apart, so that a chain equals the list of its hops.
func (c *Config) hops(route string) string {
	var out []string
	var walk func(name string, depth int)
	walk = func(name string, depth int) {
		for i := range c.Upstreams.Chains {
			if ch := &c.Upstreams.Chains[i]; name == "chain."+ch.Name && depth < 100 {
				for _, h := range ch.Hops {
					walk(h, depth+1)
				}
				return
			}
		}
		out = append(out, name)
	}
	for name := range strings.SplitSeq(route, " > ") {
		walk(name, 0)
	}
	return strings.Join(out, " > ")
}
