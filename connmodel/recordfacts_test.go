package connmodel

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// headerLines are fields of a request.
type headerLines [][2]string

func (h headerLines) Lookup(name string, i int) (string, bool) {
	for _, f := range h {
		if strings.EqualFold(f[0], name) {
			if i == 0 {
				return f[1], true
			}
			i--
		}
	}
	return "", false
}

// recordOf is what the record of a flow with these facts is, after it has been written and read.
func recordOf(t *testing.T, f *Facts, asked Address, fields []string) *Flow {
	t.Helper()
	r := &Flow{
		ID: testID(1), Session: testID(2), Protocol: f.Protocol, Target: asked, Start: f.Time, End: f.Time,
		Client:   &Client{Connection: Connection{ID: testID(2), Peer: f.Client}, Listener: f.Listener, User: f.User, Session: testID(2), Hello: f.Hello},
		Gathered: f.Gather(asked, fields),
	}
	if q := f.Request; q != nil && (f.Protocol == ProtocolHTTP || !f.Tunnel.IsZero()) {
		r.Request = &Request{Method: q.Method, Scheme: f.Scheme, Host: f.Target.Host, Path: bound(q.Path, maxPath), Within: f.Tunnel}
		if !f.Tunnel.IsZero() {
			r.Request.Tunnel = testID(3)
		}
	}
	var back Flow
	if err := json.Unmarshal(r.AppendJSON(nil), &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

var (
	noon     = time.Date(2026, 11, 3, 12, 0, 0, 123, time.UTC)
	asClient = netip.MustParseAddrPort("10.1.2.3:40000")
	byName   = Address{"www.example.com", 443}
	byNumber = Address{"192.0.2.7", 443}
	chrome   = &ClientHello{SNI: "www.example.com", ALPN: []string{"h2", "http/1.1"}, Versions: []uint16{0x304}, JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1"}
)

func factsOf(p Protocol, target Address) *Facts {
	return &Facts{Listener: "desk", Client: asClient, Time: noon, User: "ann", Protocol: p, Target: target, TargetIP: target.IP()}
}

// Facts come back from a record as they were, and what is missing is said.
func TestFactsOfRecords(t *testing.T) {
	get := &RequestFacts{Method: "GET", Path: "/a?b", Header: headerLines{{"User-Agent", "curl"}, {"user-agent", "two"}, {"Cookie", "secret"}}}
	for name, c := range map[string]struct {
		asked   Address
		fields  []string
		change  func(f *Facts)
		proto   Protocol
		missing Missing
	}{
		"tunnel, nothing asked": {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses | NeedHello)},
		"literal":               {asked: byNumber, proto: ProtocolConnect, missing: Missing(NeedHello)},
		"socks":                 {asked: byNumber, proto: ProtocolSOCKS5, missing: Missing(NeedHello | NeedRequest)},
		"addresses": {asked: byName, proto: ProtocolConnect, missing: Missing(NeedHello), change: func(f *Facts) {
			f.Have, f.Addresses = NeedAddresses, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::2")}
		}},
		"many addresses": {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses | NeedHello), change: func(f *Facts) {
			for i := range 40 {
				f.Addresses = append(f.Addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			f.Have = NeedAddresses
		}},
		"hello":       {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses), change: func(f *Facts) { f.Hello, f.Have = chrome, firstFacts }},
		"no hello":    {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses), change: func(f *Facts) { f.Have = firstFacts }},
		"bad hello":   {asked: byNumber, proto: ProtocolSOCKS5, change: func(f *Facts) { f.Have, f.HelloUnread = NeedRequest, true }},
		"request":     {asked: byName, proto: ProtocolHTTP, missing: Missing(NeedAddresses | NeedHeader), change: func(f *Facts) { f.Scheme, f.Request = "http", get }},
		"udp":         {asked: byName, proto: ProtocolUDP, missing: Missing(NeedAddresses), change: func(f *Facts) { f.Have = firstFacts }},
		"first":       {asked: byNumber, proto: ProtocolSOCKS5, missing: Missing(NeedHeader), change: func(f *Facts) { f.Request, f.Have = get, firstFacts }},
		"kernel":      {asked: byNumber, proto: ProtocolTProxy, missing: Missing(NeedName | NeedHello | NeedRequest)},
		"kernel sni":  {asked: byNumber, proto: ProtocolTProxy, change: func(f *Facts) { f.Hello, f.Have, f.Target = chrome, firstFacts, byName }},
		"kernel host": {asked: byNumber, proto: ProtocolRedirect, missing: Missing(NeedHeader), change: func(f *Facts) { f.Request, f.Have, f.Target = get, firstFacts, byName }},
		"inside": {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses | NeedHeader), change: func(f *Facts) {
			f.Scheme, f.Request, f.Hello, f.Have, f.Tunnel = "https", get, chrome, NeedHello, byName
		}},
		"inside kernel": {asked: byName, proto: ProtocolTProxy, missing: Missing(NeedHeader), change: func(f *Facts) {
			f.Scheme, f.Request, f.Hello, f.Have, f.Tunnel, f.TargetIP = "https", get, chrome, NeedHello, byName, byNumber.IP()
		}},
		"unix": {asked: byName, proto: ProtocolConnect, missing: Missing(NeedAddresses | NeedHello), change: func(f *Facts) { f.Client = netip.AddrPort{} }},
	} {
		f := factsOf(c.proto, c.asked)
		if c.change != nil {
			c.change(f)
		}
		got, missing := recordOf(t, f, c.asked, SampledFields([]string{"user-agent", "Cookie"})).Facts()
		if want := c.missing | Missing(NeedReach); missing != want {
			t.Errorf("%s: missing %v, want %v", name, missing, want)
		}
		want := *f
		if c.missing.Has(NeedAddresses) {
			want.Have, want.Addresses = want.Have&^NeedAddresses, nil
		}
		if q := want.Request; q != nil {
			if v, _ := got.Request.Header.Lookup("User-Agent", 1); v != "two" || got.LacksField("USER-AGENT") || !got.LacksField("cookie") || !got.LacksField("accept") || q.Method != got.Request.Method || q.Path != got.Request.Path {
				t.Errorf("%s: request %+v", name, got.Request)
			}
			if _, there := got.Request.Header.Lookup("cookie", 0); there {
				t.Errorf("%s: the record has a cookie", name)
			}
		}
		if want.KernelSent() && want.Request != nil {
			want.Have |= NeedRequest
		}
		got.Gone, got.Reach, want.Request, got.Request = 0, nil, nil, nil
		if d := cmp.Diff(&want, got, equal); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

const firstFacts = NeedHello | NeedRequest

// What was cut, or did not survive being written, is not known: nothing is decided by half a path.
func TestFactsOfCutRecords(t *testing.T) {
	long := strings.Repeat("p", 3000)
	for name, c := range map[string]struct {
		path  string
		value string
		knows bool // the field
		whole bool // the request
	}{
		"short":         {"/x", "v", true, true},
		"long path":     {"/" + long, "v", true, false},
		"long value":    {"/x", long, false, true},
		"value of 511":  {"/x", long[:511], true, true},
		"value of 512":  {"/x", long[:512], false, true},
		"no UTF-8":      {"/\xff", "\xe4", false, false},
		"replacement":   {"/x", "\ufffd", false, true},
		"path of 2047":  {"/" + long[:2046], "v", true, true},
		"control":       {"/\x1b\x00", "\x1b]0;x\a", true, true},
		"hidden joiner": {"/\u200b", "\u202e", true, true},
	} {
		f := factsOf(ProtocolHTTP, byName)
		f.Scheme, f.Request = "http", &RequestFacts{Method: "GET", Path: c.path, Header: headerLines{{"x-a", c.value}}}
		got, missing := recordOf(t, f, byName, []string{"x-a"}).Facts()
		if (got.Request != nil) != c.whole || got.Lacks(NeedRequest) != 0 == c.whole || missing.Has(NeedRequest) == c.whole {
			t.Errorf("%s: request %v, missing %v", name, got.Request, missing)
			continue
		}
		if c.whole && got.LacksField("x-a") == c.knows {
			t.Errorf("%s: field %v", name, got.Request.Header)
		}
	}
	f := factsOf(ProtocolConnect, Address{strings.Repeat("n", 63) + ".example", 443})
	if r := recordOf(t, f, f.Target, nil); true {
		r.Truncated = true
		if _, missing := r.Facts(); missing&MissingCut == 0 {
			t.Error("the name of a record that was cut is taken")
		}
	}
	if _, missing := (&Flow{}).Facts(); missing&MissingCut != 0 {
		t.Errorf("an empty record: %v", missing)
	}
}

func TestSampledFields(t *testing.T) {
	got := SampledFields([]string{"User-Agent", "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token"}, []string{"accept", "user-agent", ""})
	if d := cmp.Diff([]string{"accept", "user-agent"}, got); d != "" {
		t.Error(d)
	}
	var many []string
	for i := range 100 {
		many = append(many, strings.Repeat("x", i+1))
	}
	if n := len(SampledFields(many)); n != MaxSampledFields {
		t.Errorf("%d fields", n)
	}
}

// What needs nothing costs nothing.
func TestGatherNothing(t *testing.T) {
	f := factsOf(ProtocolConnect, byName)
	q := factsOf(ProtocolHTTP, byName)
	q.Scheme, q.Request = "http", &RequestFacts{Method: "GET", Path: "/"}
	if n := testing.AllocsPerRun(100, func() {
		if f.Gather(byName, []string{"user-agent"}) != nil || q.Gather(byName, nil) != nil {
			t.Error("something was kept")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestShadowDiffers(t *testing.T) {
	via := func(route string) *Decision { return &Decision{Outcome: OutcomeVia, Route: route} }
	for name, c := range map[string]struct {
		d    *Decision
		s    *ShadowDecision
		rule *ShadowVerdict
		want bool
	}{
		"none":               {d: via("direct")},
		"no decision":        {},
		"same":               {d: via("direct"), s: &ShadowDecision{Outcome: OutcomeVia, Route: "direct", TLS: TLSPassthrough}},
		"other route":        {d: via("direct"), s: &ShadowDecision{Outcome: OutcomeVia, Route: "pool.corp"}, want: true},
		"other server":       {d: via("direct"), s: &ShadowDecision{Outcome: OutcomeVia, Route: "direct", Server: byName}, want: true},
		"other TLS":          {d: via("direct"), s: &ShadowDecision{Outcome: OutcomeVia, Route: "direct", TLS: TLSIntercept}, want: true},
		"denied":             {d: via("direct"), s: &ShadowDecision{Outcome: OutcomeDeny}, want: true},
		"both denied":        {d: &Decision{Outcome: OutcomeDeny, Rule: "a"}, s: &ShadowDecision{Outcome: OutcomeDeny, Rule: "b"}},
		"undecided":          {d: via("direct"), s: &ShadowDecision{Undecided: "addresses"}},
		"shadow rule":        {d: via("direct"), rule: &ShadowVerdict{Outcome: OutcomeDeny}, want: true},
		"shadow rule agrees": {d: via("direct"), rule: &ShadowVerdict{Outcome: OutcomeVia, Route: "direct"}},
	} {
		if c.d != nil {
			c.d.ShadowPolicy = c.s
			if c.rule != nil {
				c.d.Shadow = []ShadowVerdict{*c.rule}
			}
		}
		if got := c.d.ShadowDiffers(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
