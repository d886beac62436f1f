package policies

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
)

// oneRule loads a policy with one rule of the given match blocks.
func oneRule(t *testing.T, blocks string) *Program {
	t.Helper()
	c, d := loadText("listener \"lan\" {\naddress = \"127.0.0.1:1\"\n}\npolicy \"default\" {\nrule \"r\" {\n"+blocks+"\nvia = direct\n}\n}\n", Options{})
	if c == nil {
		t.Fatal(d.Error())
	}
	return c.Programs["default"]
}

func target(host string, port uint16) *connmodel.Facts {
	a, err := connmodel.MakeAddress(host, port)
	if err != nil {
		panic(err)
	}
	return &connmodel.Facts{Client: netip.MustParseAddrPort("10.0.0.1:1"), Protocol: connmodel.ProtocolConnect, Target: a, TargetIP: a.IP(), Time: time.Now()}
}

// TestHostPatterns is a table of patterns, the hosts they take, and those they do not.
func TestHostPatterns(t *testing.T) {
	for _, x := range []struct{ pattern, takes, leaves string }{
		{"www.example.com", "www.example.com WWW.EXAMPLE.COM www.example.com.", "example.com a.www.example.com wwwxexample.com"},
		{"WWW.Example.COM.", "www.example.com", "example.com"},
		{"*.example.com", "www.example.com a.b.example.com", "example.com notexample.com"},
		{"*.Example.COM.", "www.example.com", "example.com"},
		{".example.com", "example.com www.example.com a.b.example.com", "notexample.com com"},
		{"ads*.example.com", "ads.example.com ads7.example.com ads.x.example.com", "x.ads.example.com ads.example.org"},
		{"*ads*", "ads.example myads.example x.ads.y", "adx.example"},
		{"*", "anything.example 192.0.2.1 2001:db8::1", ""},
		{"srv?.example", "srv1.example", "srv.example srv12.example"},
		{"srv[0-4].example", "srv4.example", "srv5.example"},
		{"/^cdn[0-9]+\\\\.example$/", "cdn1.example cdn42.example", "cdn.example xcdn1.example"},
		{"/ads/", "ads.example x.ads.example badsector.example", "adz.example"},
		{"bücher.example", "bücher.example xn--bcher-kva.example BÜCHER.example", "bucher.example"},
		{"*.bücher.example", "www.xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"192.0.2.1", "192.0.2.1", "192.0.2.10"},
		{"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"},
		{"[2001:DB8:0::1]", "2001:db8::1", "2001:db8::2"},
		{"2001:db8::1", "2001:db8:0:0::1", "2001:db8::2"},
	} {
		p := oneRule(t, "match { host = \""+x.pattern+"\" }")
		for _, h := range strings.Fields(x.takes) {
			if d, _ := p.Decide(target(h, 443)); d.Rule != "r" {
				t.Errorf("%s does not take %s", x.pattern, h)
			}
		}
		for _, h := range strings.Fields(x.leaves) {
			if d, _ := p.Decide(target(h, 443)); d.Rule != "" {
				t.Errorf("%s takes %s", x.pattern, h)
			}
		}
	}
}

// TestNeeds: a name is asked for only when evaluation really comes to an address, and everything cheaper in its rule holds.
func TestNeeds(t *testing.T) {
	const address = "address = \"192.0.2.0/24\"\n"
	for _, x := range []struct {
		name, rule string
		need       bool
	}{
		{"an address", "match {\n" + address + "}", true},
		{"another host", "match {\nhost = \"other.example\"\n" + address + "}", false},
		{"this host", "match {\nhost = \"www.example\"\n" + address + "}", true},
		{"another port", "match {\nport = 80\n" + address + "}", false},
		{"another time", "match {\ntime = \"2001-01-01\"\n" + address + "}", false},
		{"literal addresses", "match {\nresolve = false\n" + address + "}", false},
		{"when says no", "match {\n" + address + "}\nwhen = target.port == 80", false},
		{"when says yes", "match {\n" + address + "}\nwhen = target.port == 443", true},
		{"when asks", "when = cidr(target.addresses, \"192.0.2.0/24\")", true},
		{"when asks behind a no", "when = target.port == 80 && cidr(target.addresses, \"192.0.2.0/24\")", false},
		{"when asks before a no", "when = cidr(target.addresses, \"192.0.2.0/24\") && target.port == 80", false},
		{"another block holds", "match {\n" + address + "}\nmatch { host = \"www.example\" }", false},
		{"a not block", "match {\nnot { address = \"192.0.2.0/24\" }\n}", true},
		{"a not block that cannot hold", "match {\nport = 443\nnot {\nhost = \"other.example\"\n" + address + "}\n}", false},
		{"a shadow", "match {\n" + address + "}\nshadow = true", false},
	} {
		p := oneRule(t, x.rule)
		if _, need := p.Decide(target("www.example", 443)); (need != 0) != x.need {
			t.Errorf("%s: needs %q", x.name, need)
		}
		if d, need := p.Decide(target("203.0.113.9", 443)); need != 0 || d == nil {
			t.Errorf("%s: needs %q for a literal address", x.name, need)
		}
	}
}

// TestEarlierRuleNeedsNothing: a rule above the one that asks decides without a look-up.
func TestEarlierRuleNeedsNothing(t *testing.T) {
	c, d := loadText("policy \"default\" {\nrule \"first\" {\nmatch { host = \"*.example\" }\nvia = direct\n}\nrule \"asks\" {\nmatch { address = \"10.0.0.0/8\" }\ndeny {}\n}\n}\n", Options{})
	if c == nil {
		t.Fatal(d.Error())
	}
	p := c.Programs["default"]
	if d, need := p.Decide(target("www.example", 1)); need != 0 || d.Rule != "first" {
		t.Errorf("needs %s", need)
	}
	f := target("www.test", 1)
	if d, need := p.Decide(f); need != connmodel.NeedAddresses || d != nil {
		t.Errorf("decided %v without the addresses", d)
	}
	f.Have, f.Addresses = connmodel.NeedAddresses, []netip.Addr{netip.MustParseAddr("::ffff:10.1.1.1")}
	if d, _ := p.Decide(f); d.Rule != "asks" {
		t.Errorf("a mapped address is not seen: %q", d.Rule)
	}
	f.Addresses = []netip.Addr{netip.MustParseAddr("64:ff9b::a01:101")} // NAT64 of 10.1.1.1
	if d, _ := p.Decide(f); d.Rule != "asks" {
		t.Errorf("a translated address is not seen: %q", d.Rule)
	}
	f.Addresses = nil
	if d, need := p.Decide(f); need != 0 || d.Rule != "" || !d.Denied() || d.Denial.Status != 403 {
		t.Errorf("without otherwise: %+v", d)
	}
}

// TestOpens: what a match block opens, for flows that it takes and no others.
func TestOpens(t *testing.T) {
	p := oneRule(t, `match {
  client  = "10.0.0.0/8"
  address = ["127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "169.254.169.254", "::ffff:127.0.0.5"]
  resolve = false
}
match { host = ["localhost", "www.example"] }`)
	d, _ := p.Decide(target("127.0.0.1", 80))
	if got := opened(d); got != "127.0.0.0/8 169.254.169.254/32 127.0.0.5/32" {
		t.Errorf("the block with addresses opens %q", got)
	}
	if d, _ := p.Decide(target("localhost", 80)); opened(d) != "localhost" {
		t.Errorf("the block with localhost opens %q", opened(d))
	}
	f := target("127.0.0.1", 80)
	f.Client = netip.MustParseAddrPort("192.0.2.1:1")
	if d, _ := p.Decide(f); d.Rule != "" || opened(d) != "" {
		t.Errorf("a client from elsewhere: %q opens %q", d.Rule, opened(d))
	}
	p = oneRule(t, "match { host = [\"localhost\"] }\nmatch {\nnot { address = \"127.0.0.0/8\" }\nport = 443\n}")
	if d, _ := p.Decide(target("localhost", 80)); d.Rule != "r" || opened(d) != "" {
		t.Errorf("a rule that lists no loopback opens %q", opened(d))
	}
}

func TestWindows(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, x := range []struct {
		window  string
		in, out []string // 2026-11-23 is a Monday
	}{
		{"mon-fri 09:00-17:00", []string{"2026-11-23 09:00", "2026-11-27 16:59"}, []string{"2026-11-23 08:59", "2026-11-23 17:00", "2026-11-28 12:00"}},
		{"sat,sun", []string{"2026-11-28 00:00", "2026-11-29 23:59"}, []string{"2026-11-30 00:00", "2026-11-27 23:59"}},
		{"fri-mon", []string{"2026-11-27 00:00", "2026-11-29 12:00", "2026-11-30 23:59"}, []string{"2026-11-24 12:00"}},
		{"Monday", []string{"2026-11-23 12:00"}, []string{"2026-11-24 12:00"}},
		{"22:00-06:00", []string{"2026-11-23 22:00", "2026-11-23 05:59"}, []string{"2026-11-23 06:00", "2026-11-23 21:59"}},
		{"fri 22:00-06:00", []string{"2026-11-27 23:00", "2026-11-28 05:00"}, []string{"2026-11-27 05:00", "2026-11-28 23:00"}},
		{"18:00-24:00", []string{"2026-11-23 23:59"}, []string{"2026-11-24 00:00"}},
		{"2026-12-24..2026-12-26", []string{"2026-12-24 00:00", "2026-12-26 23:59"}, []string{"2026-12-23 23:59", "2026-12-27 00:00"}},
		{"2026-12-31 22:00-02:00", []string{"2026-12-31 23:00", "2027-01-01 01:59"}, []string{"2026-12-31 01:00", "2027-01-01 22:30"}},
		{"mon,wed-thu 10:00-11:00", []string{"2026-11-26 10:30"}, []string{"2026-11-24 10:30"}},
		{"sun 00:00-24:00", []string{"2026-11-29 00:00", "2026-11-29 23:59"}, []string{"2026-11-28 23:59"}},
		{"02:00-03:00", []string{"2026-10-25 02:30"}, []string{"2026-10-25 03:00"}}, // the night with two such hours
	} {
		w, err := parseWindow(x.window)
		if err != nil {
			t.Errorf("%s: %v", x.window, err)
			continue
		}
		for _, s := range x.in {
			if !w.holds(at(s)) {
				t.Errorf("%s does not hold at %s", x.window, s)
			}
		}
		for _, s := range x.out {
			if w.holds(at(s)) {
				t.Errorf("%s holds at %s", x.window, s)
			}
		}
	}
}

// TestRunTestsSaysWhatDiffers: failures in words, and the rules that no test reached.
func TestRunTestsSaysWhatDiffers(t *testing.T) {
	c, d := loadText(`
upstream "a" {
  url = "http://127.0.0.1:8080"
}
policy "default" {
  rule "one" {
    match { port = 1 }
    via    = upstream.a
    server = "192.0.2.1:2"
    tags   = ["x"]
  }
  rule "two" {
    match { port = 2 }
    deny { reason = "no" }
  }
  rule "asks" {
    match {
      port    = 3
      address = "192.0.2.0/24"
    }
    via = direct
  }
  rule "seen" {
    match { port = 4 }
    shadow = true
    deny {}
  }
  rule "never" {
    match { port = 5 }
    via = direct
  }
  otherwise { via = direct }
}
test "all wrong" {
  connect = "x.example:1"
  expect {
    rule   = "two"
    via    = direct
    server = "192.0.2.1:3"
    tags   = []
    deny   = false
  }
}
test "denied" {
  connect = "x.example:2"
  expect {
    deny   = 404
    reason = "yes"
  }
}
test "not denied" {
  connect = "x.example:4"
  expect { deny = true }
}
test "asks" {
  connect = "x.example:3"
  expect { rule = "asks" }
}
`, Options{})
	if c == nil {
		t.Fatal(d.Error())
	}
	r := RunTests(c)
	want := [][]string{
		{`rule is "one", expected "two"`, `via is upstream.a, expected direct`, `server is 192.0.2.1:2, expected 192.0.2.1:3`, `tags is x, expected none`},
		{`status is 403, expected 404`, `reason is "no", expected "yes"`},
		{`outcome is via, expected deny`},
		{`the decision depends on the addresses of x.example: say which it has in this test, with resolve = ["…"]`},
	}
	for i, w := range want {
		if got := r.Results[i]; got.Pass || fmt.Sprint(got.Differences) != fmt.Sprint(w) || got.Trace == nil {
			t.Errorf("%s: %q, expected %q", got.Name, got.Differences, w)
		}
	}
	if r.Failed() != 4 {
		t.Errorf("%d failed", r.Failed())
	}
	var unreached []string
	for _, x := range r.Unreached {
		unreached = append(unreached, x.Rule)
	}
	if got := strings.Join(unreached, ","); got != "asks,never" {
		t.Errorf("unreached: %s", got)
	}
}

// TestProgramIsShared: many goroutines decide by one program at once.
func TestProgramIsShared(t *testing.T) {
	p := bigPolicy(t, 1000, 100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				h := benchHosts[i%len(benchHosts)]
				if d, _ := p.Decide(benchFacts(h.host)); d.Rule != h.rule {
					t.Errorf("%s is taken by %s", h.host, d.Rule)
					return
				}
			}
		})
	}
	wg.Wait()
}
