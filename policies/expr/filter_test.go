package expr

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"viaduct/connmodel"
	"viaduct/connmodel/journal/flowtest"
)

// filterCountry is a database of countries.
func filterCountry(a netip.Addr) string {
	if a.Is4() && a.As4()[0] == 10 {
		return "DE"
	}
	return ""
}

func filterOptions() FilterOptions {
	return FilterOptions{Now: flowtest.Epoch.Add(time.Hour), Zone: time.UTC, Country: filterCountry}
}

func mustFilter(t testing.TB, src string) *connmodel.Filter {
	t.Helper()
	f, diags := CompileFilter(src, filterOptions())
	if diags.HasErrors() {
		t.Fatalf("%s: %v", src, diags)
	}
	return f
}

// phrases makes expressions for a random number generator.
type phrases struct {
	*rand.Rand
	texts, numbers, addresses, lists, bools, times []string // names
	now                                            bool     // dates and times of day
}

func one[T any](p *phrases, list []T) T { return list[p.IntN(len(list))] }

// conditionPhrases are over the names of conditions, filterPhrases over those of records, too.
func conditionPhrases(r *rand.Rand) *phrases {
	return &phrases{
		Rand: r, now: true, bools: []string{"tls.hello", "tls.ech", "target.sni_mismatch"}, lists: []string{"tls.alpn"}, addresses: []string{"client.address", "target.ip"},
		texts:   []string{"client.user", "client.country", "listener", "protocol", "target.host", "target.scheme", "tls.sni", "tls.ja4", "request.method", "request.path", "request.query", `request.header["user-agent"]`, "now.weekday"},
		numbers: []string{"client.port", "target.port", "now.hour", "now.minute", "now.unix"},
	}
}

func filterPhrases(r *rand.Rand) *phrases {
	p := conditionPhrases(r)
	for _, f := range connmodel.FilterFields() {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			switch f.Type {
			case connmodel.FilterText:
				p.texts = append(p.texts, name)
			case connmodel.FilterNumber:
				p.numbers = append(p.numbers, name)
			case connmodel.FilterBool:
				p.bools = append(p.bools, name)
			case connmodel.FilterTime:
				p.times = append(p.times, name)
			case connmodel.FilterAddress:
				p.addresses = append(p.addresses, name)
			case connmodel.FilterTexts:
				p.lists = append(p.lists, name)
			case connmodel.FilterMap:
				p.texts = append(p.texts, name+`["tls"]`)
			}
		}
	}
	return p
}

func (p *phrases) condition(depth int) string {
	if depth > 0 {
		a, b := p.condition(depth-1), p.condition(depth-1)
		switch p.IntN(7) {
		case 0, 1:
			return "(" + a + " && " + b + ")"
		case 2, 3:
			return "(" + a + " || " + b + ")"
		case 4:
			return "!(" + a + ")"
		case 5:
			return fmt.Sprintf("(%s ? %s : %s)", p.condition(0), a, b)
		}
	}
	switch p.IntN(13) {
	case 0, 1:
		return p.text() + one(p, []string{" == ", " != "}) + p.text()
	case 2, 3:
		return p.number() + one(p, []string{" == ", " != ", " < ", " <= ", " > ", " >= "}) + p.number()
	case 4:
		return one(p, p.addresses) + one(p, []string{" == ", " != "}) + one(p, []string{"null", `"10.1.2.3"`, `"::1"`, one(p, p.addresses)})
	case 5:
		return fmt.Sprintf(`cidr(%s, "10.0.0.0/8", ["2001:db8::/32", "127.0.0.1"])`, one(p, append([]string{"target.addresses"}, p.addresses...)))
	case 6:
		return fmt.Sprintf("%s(%s, %s)", one(p, []string{"startswith", "endswith", "strcontains"}), p.text(), p.text())
	case 7:
		return fmt.Sprintf("%s(%s, %s)", one(p, []string{"glob", "regex"}), one(p, []string{`"*a*"`, `".*e$"`, `"[a-c]"`, `"?"`}), p.text())
	case 8:
		return fmt.Sprintf("contains([%s, %s], %s)", p.literal(), p.literal(), one(p, p.texts))
	case 9:
		return fmt.Sprintf("contains(%s, %s)", one(p, p.lists), one(p, []string{`"h2"`, `"audit"`, `"corp_a"`, p.text()}))
	case 10:
		return one(p, p.bools) + one(p, []string{"", " == true", " != false", " == " + one(p, p.bools)})
	case 11:
		if len(p.times) > 0 {
			return one(p, p.times) + one(p, []string{" == ", " != ", " < ", " <= ", " > ", " >= "}) + one(p, []string{`"1h"`, `"2026-11-28T09:01:00Z"`, `"2026-11-28T09:00:00.000001Z"`, `"58m"`, `"+7d"`, "started", "ended"})
		}
		return fmt.Sprintf("now.time %s %s", one(p, []string{"<", ">=", "=="}), one(p, []string{`"09:01"`, `"24:00"`}))
	}
	return fmt.Sprintf("contains([%s, %s, %s], %s)", p.digits(), p.digits(), p.digits(), one(p, p.numbers))
}

func (p *phrases) literal() string {
	s := flowtest.Text(p.Rand)
	if p.IntN(2) == 0 {
		s = one(p, []string{"www.example", "partner", "connect", "desk", "DE", "monday", "GET", "h2", "default", "direct", "refused", "ok", "jump"})
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "0")
	return string(hclQuote(s))
}

// hclQuote writes s as a literal of HCL.
func hclQuote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\x1b", `\u001b`, "${", "$${", "%{", "%%{").Replace(s)
	return `"` + s + `"`
}

func (p *phrases) text() string {
	switch p.IntN(8) {
	case 0, 1, 2:
		return p.literal()
	case 3:
		return fmt.Sprintf("%s(%s)", one(p, []string{"lower", "upper", "trimspace"}), one(p, p.texts))
	case 4:
		return fmt.Sprintf(`"%s${%s}"`, one(p, []string{"", "x"}), one(p, []string{one(p, p.texts), one(p, p.numbers), one(p, p.addresses)}))
	}
	return one(p, p.texts)
}

func (p *phrases) digits() string {
	return one(p, []string{"0", "1", "3", "443", "80", "9", "1000", "1048576", "2.5", "1024", "-1"})
}

func (p *phrases) number() string {
	switch p.IntN(8) {
	case 0, 1, 2:
		return p.digits()
	case 3:
		return "(" + one(p, p.numbers) + one(p, []string{" + 1", " - 3", " % 2", " / 2", " * 2"}) + ")"
	case 4:
		return fmt.Sprintf("%s(%s, %s)", one(p, []string{"min", "max"}), one(p, p.numbers), p.digits())
	case 5:
		return "length(" + one(p, []string{one(p, p.texts), one(p, p.lists)}) + ")"
	}
	return one(p, p.numbers)
}

// TestFiltersAgreeWithConditions: an expression that is a condition and a filter says the same of a flow, decided with the facts of its record or
// matched.
func TestFiltersAgreeWithConditions(t *testing.T) {
	n, both, holds := 6000, 0, 0
	if testing.Short() {
		n = 1500
	}
	r := rand.New(rand.NewPCG(1, 2))
	flows := make([]*connmodel.Flow, 60)
	for i := range flows {
		flows[i] = flowtest.Flow(r)
	}
	for range n {
		src := conditionPhrases(r).condition(r.IntN(3))
		e, diags := hclsyntax.ParseExpression([]byte(src), "t.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("%s: %v", src, diags)
		}
		c, _ := Compile(e, nil, Options{Country: filterCountry})
		f, diags := CompileFilter(src, filterOptions())
		if c == nil || f == nil {
			if c != nil {
				t.Errorf("%s is a condition, and no filter: %v", src, diags)
			}
			continue
		}
		both++
		for _, flow := range flows {
			facts, _ := flow.Facts()
			want := c.Eval(facts)
			if got := f.Match(flow); got != want {
				t.Fatalf("%s\nfilter %v, condition %v of %s", src, got, want, flow.AppendJSON(nil))
			}
			if want {
				holds++
			}
		}
	}
	if both < n/3 || holds < both {
		t.Errorf("only %d of %d are both, and they hold %d times", both, n, holds)
	}
}

// TestFiltersAgreeWithClosures: what is translated to comparisons of fields says the same as the closures of the compiler, of all fields.
func TestFiltersAgreeWithClosures(t *testing.T) {
	n, good, holds := 12000, 0, 0
	if testing.Short() {
		n = 3000
	}
	r := rand.New(rand.NewPCG(3, 4))
	flows := make([]*connmodel.Flow, 60)
	for i := range flows {
		flows[i] = flowtest.Flow(r)
		flows[i].End = flows[i].Start.Add(time.Duration(r.IntN(3)) * time.Second) // else their duration grows meanwhile
	}
	for range n {
		src := filterPhrases(r).condition(r.IntN(3))
		f, _ := CompileFilter(src, filterOptions())
		if f == nil {
			continue
		}
		good++
		closure := closureOf(t, src)
		for _, flow := range flows {
			want := closure.Match(flow)
			if got := f.Match(flow); got != want {
				t.Fatalf("%s\nfilter %v, closure %v of %s", src, got, want, flow.AppendJSON(nil))
			}
			if want {
				holds++
			}
		}
	}
	if good < n/3 || holds < good {
		t.Errorf("only %d of %d compile, and they hold %d times", good, n, holds)
	}
}

// closureOf compiles src and drops the form that stores translate.
func closureOf(t *testing.T, src string) *connmodel.Filter {
	t.Helper()
	e, _ := hclsyntax.ParseExpression([]byte(src), FilterFile, hcl.InitialPos)
	c := newCompiler(&hcl.EvalContext{Functions: filterFunctions()}, Options{Country: filterCountry})
	c.record = &recordScope{now: filterOptions().Now, zone: time.UTC}
	n := c.compile(e)
	if n.kind != kindBool {
		t.Fatalf("%s: %v", src, c.diags)
	}
	n.filter = nil
	return c.filterOf(n)
}

// TestFiltersForStores: what can be translated is not left to a closure.
func TestFiltersForStores(t *testing.T) {
	for src, want := range map[string]string{
		`target.host == "www.example" && bytes > 10`:                             "(target.host 0 && bytes 4)",
		`!(denied || error.kind != "timeout")`:                                   "!(denied 0 || !error.kind 0)",
		`"5s" < duration`:                                                        "duration 4",
		`started >= "1h"`:                                                        "started 5",
		`cidr(client.address, "10.0.0.0/8")`:                                     "client.address 9",
		`cidrcontains("10.0.0.0/8", target.ip)`:                                  "target.ip 9",
		`contains(["a", "b"], rule)`:                                             "rule 6",
		`contains([80, 443], target.port)`:                                       "target.port 6",
		`contains(["10.0.0.1", null], target.ip)`:                                "(target.ip 0 || target.ip 14)",
		`contains(upstreams, "jump")`:                                            "upstreams 7",
		`startswith(rule, "a") || endswith(rule, "b") || strcontains(rule, "c")`: "(rule 11 || rule 12 || rule 10)",
		`regex("^a", rule)`:                                                      "rule 13",
		`response.status == null`:                                                "response.status 14",
		`metadata.tls == "x"`:                                                    "metadata 0",
		`request.header["User-Agent"] == "x"`:                                    "request.header 0",
		`target.ip == "10.0.0.1"`:                                                "target.ip 0",
		`error`:                                                                  "error 0",
		`glob("a*", rule)`:                                                       "func",
		`lower(rule) == "x" && open`:                                             "(func && open 0)",
		`now.hour > 3`:                                                           "func",
		`true`:                                                                   "()",
	} {
		if got := shape(mustFilter(t, src)); got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
	if f, diags := CompileFilter(" \n", FilterOptions{}); f != nil || diags != nil {
		t.Errorf("blank: %v %v", f, diags)
	}
}

func shape(f *connmodel.Filter) string {
	switch f.Op {
	case connmodel.FilterTest:
		return f.Field.Name + " " + strconv.Itoa(int(f.Cmp))
	case connmodel.FilterFunc:
		return "func"
	case connmodel.FilterNot:
		return "!" + shape(f.Args[0])
	}
	var parts []string
	for _, a := range f.Args {
		parts = append(parts, shape(a))
	}
	op := " || "
	if f.Op == connmodel.FilterAnd {
		op = " && "
	}
	return "(" + strings.Join(parts, op) + ")"
}

// TestNull: what a record has not is not less and not more than anything.
func TestNull(t *testing.T) {
	flow := &connmodel.Flow{}
	for src, want := range map[string]bool{
		`response.status == 200`: false, `response.status != 200`: true, `response.status < 1000`: false, `response.status >= 0`: false, `!(response.status >= 0)`: true,
		`response.status == null`: true, `null != response.status`: false, `response.status + 1 > 0`: false, `response.status % 2 == 0`: false, `max(response.status, 1) >= 1`: false,
		`tostring(response.status) == ""`: true, `"${response.status}x" == "x"`: true, `contains([200, 404], response.status)`: false, `contains([200, null], response.status)`: true,
		`response.status <= 9007199254740992`: false, `cert.expires < "1h"`: false, `cert.expires == null`: true, `cert.expires > started`: false, `cert.expires != "1h"`: true,
		`client.address == null`: true, `server.peer != null`: false, `ended == null && open`: true, `error.hop == error.hop`: false, `(error ? 1 : error.hop) == 1`: false,
	} {
		if got := mustFilter(t, src).Match(flow); got != want {
			t.Errorf("%s: %v", src, got)
		}
		if got := closureOf(t, src).Match(flow); got != want {
			t.Errorf("closure of %s: %v", src, got)
		}
	}
}

var invalidFilters = []struct {
	src, at, want string
}{
	{`taget.host == "x"`, "1", `Did you mean "target"?`},
	{`host == "x"`, "1", `Did you mean "target.host"?`},
	{`dst == "x"`, "1", `target.host or target.port`},
	{`local.x == 1`, "1", `A record has no "local".`},
	{`upstream == "x"`, "1", `contains(upstreams, "name")`},
	{`error.knd == "x"`, "1", `Did you mean "error.kind"?`},
	{`error.kind == "timout"`, "15", `Did you mean "timeout"?`},
	{`outcome == "allow"`, "12", `It can be "", "deny", "via".`},
	{`target.host == "Example.com"`, "16", `Write "example.com"`},
	{`started > "1x"`, "11", `is no time`},
	{`duration > "5"`, "12", `is no length of time`},
	{`bytes > "5"`, "9", `Write 5 without quotes`},
	{`bytes`, "1", `A filter must be true or false, but this is a number.`},
	{`rule < "x"`, "1", `Only numbers and times have an order`},
	{`started + 1 > 2`, "1", `+ needs a number, but this is a time`},
	{`target.host = "x"`, "13", `Equal is written ==`},
	{`error and denied`, "7", `joined by &&`},
	{`error OR denied`, "7", `joined by ||`},
	{`rule == 'x'`, "9", `double quotes`},
	{`user == null`, "1", `What is not there is "".`},
	{`upstreams == "a"`, "1", `Use contains(upstreams, "a").`},
	{`metadata == "x"`, "1", `metadata.NAME`},
	{`metadata[rule] == "x"`, "10", `written out`},
	{`request.header == "x"`, "1", `name a field`},
	{`env("HOME") == "x"`, "1", `env is of policies`},
	{`file("/etc/passwd") == "x"`, "1", `file is of policies`},
	{`join("", ["a"]) == rule`, "1", `join is of policies`},
	{`nosuch(1)`, "1", `There is no function nosuch.`},
	{`matches(rule, "x")`, "1", `Use regex(pattern, text).`},
	{`regex("(", rule)`, "7", `is not a regular expression`},
	{`[for x in [1]: x] == [1]`, "1", `cannot be used in a filter`},
	{`upstreams[*] == [1]`, "1", `cannot be used`},
	{`lookup({a = 1}, rule, 0) == 1`, "8", `cannot be used in a filter`},
	{`error.hop == 1 &&`, "", ``},
	{`client.country == "ZZ"`, "19", ``},
	{strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "201", `nested more than`},
	{strings.Repeat("!", 300) + "error", "", `nested more than`},
	{strings.Repeat("error || ", 2000) + "error", "1", `may have 8192`},
}

func TestInvalidFilters(t *testing.T) {
	for _, tt := range invalidFilters {
		f, diags := CompileFilter(tt.src, filterOptions())
		name := tt.src[:min(len(tt.src), 40)]
		if f != nil || !diags.HasErrors() {
			t.Errorf("%s: compiles", name)
			continue
		}
		d := diags[0]
		if d.Subject == nil || tt.at != "" && strconv.Itoa(d.Subject.Start.Column) != tt.at || !strings.Contains(d.Detail, tt.want) {
			t.Errorf("%s: column %v: %s; want %s: %s", name, d.Subject, d.Detail, tt.at, tt.want)
		}
		if strings.Contains(d.Summary+d.Detail, "condition") && !strings.Contains(d.Detail, "Compare") && !strings.Contains(d.Detail, "joined") {
			t.Errorf("%s speaks of conditions: %s: %s", name, d.Summary, d.Detail)
		}
	}
}

func TestMoments(t *testing.T) {
	zone := time.FixedZone("there", 2*3600)
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"1h": "2026-11-28T11:00:00Z", "90s": "2026-11-28T11:58:30Z", "7d": "2026-11-21T12:00:00Z", "1d12h": "2026-11-27T00:00:00Z", "-1h": "2026-11-28T11:00:00Z", "+2d": "2026-11-30T12:00:00Z", "now": "2026-11-28T12:00:00Z", "0s": "2026-11-28T12:00:00Z",
		"2026-11-23T20:15:00Z": "2026-11-23T20:15:00Z", "2026-11-23T20:15:00.5+01:00": "2026-11-23T19:15:00.5Z", "2026-11-23 20:15": "2026-11-23T18:15:00Z", "2026-11-23T20:15": "2026-11-23T18:15:00Z", "2026-11-23 20:15:30": "2026-11-23T18:15:30Z",
		"2026-11-23": "2026-11-22T22:00:00Z", "20:15": "2026-11-28T18:15:00Z", "08:00:01": "2026-11-28T06:00:01Z",
		"": "", "x": "", "1": "", "--1h": "", "+-1h": "", "1x": "", "2026-13-01": "", "0000-01-01": "", "9999-01-01": "", "25:00": "", "d": "", "12345d": "",
	} {
		got, err := ParseMoment(s, now, zone)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: %v", s, got)
		case want != "" && (err != nil || got.UTC().Format(time.RFC3339Nano) != want):
			t.Errorf("%q: %v %v, want %v", s, got.UTC(), err, want)
		}
	}
}

// FuzzFilter compiles any text. Nothing may panic or take long, what compiles must match, and the form for stores agrees with the closures.
func FuzzFilter(f *testing.F) {
	for _, tt := range invalidFilters {
		f.Add(tt.src)
	}
	for _, tt := range valueTable {
		f.Add(tt.src)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		f.Add(filterPhrases(r).condition(2))
	}
	flows := []*connmodel.Flow{{}}
	for range 20 {
		flow := flowtest.Flow(r)
		flow.End = flow.Start.Add(time.Second)
		flows = append(flows, flow)
	}
	f.Fuzz(func(t *testing.T, src string) {
		start := time.Now()
		filter, diags := CompileFilter(src, filterOptions())
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
		for _, d := range diags {
			if d.Subject == nil || d.Detail == "" {
				t.Errorf("incomplete: %+v", d)
			}
		}
		if filter == nil {
			if strings.TrimSpace(src) != "" && !diags.HasErrors() {
				t.Error("nothing, and no error")
			}
			return
		}
		closure := closureOf(t, src)
		for _, flow := range flows {
			if filter.Match(flow) != closure.Match(flow) {
				t.Fatalf("%s: filter %v, closure %v", src, filter.Match(flow), closure.Match(flow))
			}
		}
	})
}
