package policies

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies/geo/geotest"
)

// inCountry loads a policy beside a database of some networks.
func inCountry(t *testing.T, policy string, db []byte, lenient bool) (*Config, string) {
	t.Helper()
	dir := t.TempDir()
	if db != nil {
		if err := os.WriteFile(filepath.Join(dir, "c.mmdb"), db, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "p.hcl")
	if err := os.WriteFile(path, []byte("gateway {\n  geoip { file = \"c.mmdb\" }\n}\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	c, d := Load(Options{Paths: []string{path}, Lenient: lenient})
	var b strings.Builder
	d.WriteText(&b, false)
	return c, b.String()
}

var someCountries = map[string]string{"192.0.2.0/24": "DE", "198.51.100.0/24": "AT", "203.0.113.0/24": "US", "2001:db8::/32": "DE"}

const countryPolicy = `
policy "default" {
  rule "literal" {
    match {
      country = "US"
      resolve = false
    }
    via = direct
  }
  rule "guests" {
    match { client_country = ["US", "unknown"] }
    deny {}
  }
  rule "near" {
    match {
      country = ["DE", "AT"]
      not { country = "AT" }
      port = 443
    }
    via = direct
  }
  rule "condition" {
    when = target.country == "AT" && client.country != "AT"
    via  = direct
  }
  rule "unknown" {
    match { country = "unknown" }
    deny {}
  }
  otherwise {
    deny {}
  }
}
`

func TestCountryRules(t *testing.T) {
	c, said := inCountry(t, countryPolicy, geotest.Countries(time.Now(), someCountries), false)
	if c == nil || said != "" {
		t.Fatal(said)
	}
	p := c.Programs["default"]
	for _, tt := range []struct {
		client, host string
		port         uint16
		addresses    string
		want         string // rule, or need
		why          string
	}{
		{"192.0.2.1", "203.0.113.1", 443, "", "literal", "the country of 203.0.113.1 is US (United States) by GeoLite2-Country of "},
		{"192.0.2.1", "192.0.2.9", 443, "", "near", "the country of 192.0.2.9 is DE (Germany)"},
		{"192.0.2.1", "2001:db8::9", 443, "", "near", "DE (Germany)"},
		{"192.0.2.1", "64:ff9b::c000:209", 443, "", "near", "DE (Germany)"}, // NAT64 of 192.0.2.9
		{"192.0.2.1", "192.0.2.9", 80, "", "otherwise", "no rule above"},
		{"192.0.2.1", "x.example", 443, "", "addresses", "the addresses of x.example"},
		{"192.0.2.1", "x.example", 443, "192.0.2.4", "near", "the country of 192.0.2.4 is DE"},
		{"192.0.2.1", "x.example", 443, "192.0.2.4,198.51.100.1", "otherwise", ""}, // the not block holds for the other address
		{"192.0.2.1", "x.example", 443, "198.51.100.1", "condition", "target.country = \"AT\""},
		{"198.51.100.1", "x.example", 443, "198.51.100.1", "otherwise", ""},
		{"203.0.113.1", "x.example", 443, "", "guests", "client 203.0.113.1 is in US by"},
		{"10.0.0.1", "x.example", 443, "", "guests", "client 10.0.0.1 is in unknown"},
		{"", "x.example", 80, "10.9.9.9", "unknown", "the country of 10.9.9.9 is unknown by"}, // a Unix socket is in no country
	} {
		f := &connmodel.Facts{Target: connmodel.Address{Host: tt.host, Port: tt.port}, Protocol: connmodel.ProtocolConnect, Time: time.Now()}
		f.TargetIP = f.Target.IP()
		if tt.client != "" {
			f.Client = netip.AddrPortFrom(netip.MustParseAddr(tt.client), 999)
		}
		if tt.addresses != "" {
			f.Have = connmodel.NeedAddresses
			for a := range strings.SplitSeq(tt.addresses, ",") {
				f.Addresses = append(f.Addresses, netip.MustParseAddr(a))
			}
		}
		d, need := p.Decide(f)
		got := need.String()
		if d != nil {
			got = d.Rule
		}
		_, _, trace := p.Explain(f)
		why := trace.Steps[len(trace.Steps)-1].Reason
		if got != tt.want || !strings.Contains(why, tt.why) {
			t.Errorf("%s to %s (%s): %s, %q; want %s, %q", tt.client, tt.host, tt.addresses, got, why, tt.want, tt.why)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		f := &connmodel.Facts{Client: netip.MustParseAddrPort("192.0.2.1:9"), Target: connmodel.Address{Host: "192.0.2.9", Port: 443}, TargetIP: netip.MustParseAddr("192.0.2.9"), Have: connmodel.NeedAddresses}
		p.Decide(f)
	}); n > 1 && !raceEnabled { // the facts
		t.Errorf("%v allocations", n)
	}
}

func TestCountryProblems(t *testing.T) {
	good := geotest.Countries(time.Now(), someCountries)
	rule := func(match string) string {
		return "policy \"default\" {\n  rule \"a\" {\n    match { " + match + " }\n    via = direct\n  }\n}\n"
	}
	for _, tt := range []struct {
		name, policy string
		db           []byte
		lenient      bool
		want         string
	}{
		{"small letters", rule(`country = "de"`), good, false, `Countries are written in capitals: "DE".`},
		{"a name", rule(`country = "Germny"`), good, false, `Did you mean "DE" (Germany)?`},
		{"the kingdom", rule(`client_country = "UK"`), good, false, `The United Kingdom is "GB".`},
		{"a condition", "policy \"default\" {\n  rule \"a\" {\n    when = target.country == \"UK\"\n    via = direct\n  }\n}\n", good, false, `target.country is never "UK"`},
		{"a condition on the unknown", "policy \"default\" {\n  rule \"a\" {\n    when = client.country == \"unknown\"\n    via = direct\n  }\n}\n", good, false, `Where the country is not known client.country is "".`},
		{"resolve alone", rule(`resolve = false`), good, false, `there is neither beside it`},
		{"nothing asks", "policy \"default\" {\n  otherwise { via = direct }\n}\n", good, false, "warning: Not used"},
		{"no file", rule(`country = "DE"`), nil, false, "error: Cannot read file"},
		{"no file on a desk", rule(`country = "DE"`), nil, true, "warning: Cannot read file"},
		{"cut short", rule(`country = "DE"`), good[:len(good)-100], false, "error: Not a GeoIP database"},
		{"not even on a desk", rule(`country = "DE"`), []byte("x"), true, "error: Not a GeoIP database"},
		{"old", rule(`country = "DE"`), geotest.Countries(time.Now().Add(-40*24*time.Hour), someCountries), false, "which is 40 days old"},
		{"nothing reaches it", "policy \"default\" {\n  rule \"a\" {\n    match { country = [\"DE\", \"AT\"] }\n    via = direct\n  }\n  rule \"b\" {\n    match { country = \"DE\" }\n    deny {}\n  }\n}\n", good, false, "Rule never reached"},
	} {
		c, said := inCountry(t, tt.policy, tt.db, tt.lenient)
		if !strings.Contains(strings.Join(strings.Fields(said), " "), tt.want) || (c == nil) != strings.Contains(said, "error:") {
			t.Errorf("%s: %s\nwant %q", tt.name, said, tt.want)
		}
	}
	if c, said := inCountry(t, rule(`country = ["DE", "unknown"]`), nil, true); c == nil {
		t.Error(said)
	} else if d, _ := c.Programs["default"].Decide(&connmodel.Facts{TargetIP: netip.MustParseAddr("192.0.2.1"), Target: connmodel.Address{Host: "192.0.2.1", Port: 1}}); d == nil || d.Rule != "" {
		t.Errorf("without a database a rule takes something: %+v", d)
	}
	script, said := inCountry(t, rule(`country = "DE"`), good, false)
	if script == nil {
		t.Fatal(said)
	}
	if s := string(script.Programs["default"].ProxyPAC("PROXY gw:1")); strings.Contains(s, "DIRECT") {
		t.Errorf("a script cannot know countries: %s", s)
	}
}
