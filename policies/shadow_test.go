package policies

import (
	"net/netip"
	"strings"
	"testing"

	"viaduct/connmodel"
)

const shadowBase = `
listener "desk" {
  address = "127.0.0.1:1"
  policy  = policy.now
  %LISTENER%
}
listener "lan" {
  address = "127.0.0.1:2"
  policy  = policy.now
}
upstream "a" {
  url = "http://192.0.2.201:1"
}
upstream "b" {
  url = "http://192.0.2.202:1"
}
policy "now" {
  %POLICY%
  rule "both" {
    match { host = "chain.example" }
    via = [upstream.a, upstream.b]
  }
  rule "no" {
    match { host = "no.example" }
    deny {}
  }
  otherwise { via = direct }
}
policy "next" {
  rule "the same two" {
    match { host = "chain.example" }
    via = [upstream.a, upstream.b]
  }
  rule "quiet" {
    match { host = "quiet.example" }
    shadow = true
    deny {}
  }
  rule "not any more" {
    match { host = ["no.example", "other.example"] }
    via = upstream.a
  }
  rule "server" {
    match { host = "server.example" }
    via    = direct
    server = "10.0.0.1:1"
  }
  rule "network" {
    match { address = "192.0.2.0/24" }
    via = upstream.b
  }
  rule "either" {
    match { sni = "*.example" }
    via = direct
  }
  otherwise { via = direct }
}
`

func shadowSource(listener, policy string) string {
	return strings.NewReplacer("%LISTENER%", listener, "%POLICY%", policy).Replace(shadowBase)
}

func TestShadowPolicies(t *testing.T) {
	c, d := loadText(shadowSource("shadow = policy.next", ""), Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	if len(d.List)+len(d.Notes) > 0 { // nobody is told yes early for a policy that takes no flow
		t.Errorf("says %s and %v", reports(t, d), d.Notes)
	}
	if c.Listeners[0].Shadow != "next" || c.Listeners[1].Shadow != "" {
		t.Fatalf("shadows %q, %q", c.Listeners[0].Shadow, c.Listeners[1].Shadow)
	}
	s := c.Shadows["next"]
	resolved := []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	for _, row := range []struct {
		host    string
		addrs   []netip.Addr
		want    string
		differs bool
	}{
		{"chain.example", nil, "the same two via chain.now/both", false},
		{"no.example", nil, "not any more via upstream.a", true},
		{"other.example", nil, "not any more via upstream.a", true},
		{"server.example", nil, "server via direct 10.0.0.1:1", true},
		{"quiet.example", nil, "network undecided addresses", false},
		{"www.test", nil, "network undecided addresses", false},
		{"www.test", resolved, "network via upstream.b", true},
		{"www.test", []netip.Addr{netip.MustParseAddr("198.51.100.1")}, "either via direct", false}, // whatever it says inside
		{"192.0.2.1", nil, "network via upstream.b", true},
	} {
		f := &connmodel.Facts{Listener: "desk", Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: row.host, Port: 443}}
		if f.TargetIP = f.Target.IP(); row.addrs != nil {
			f.Addresses, f.Have = row.addrs, connmodel.NeedAddresses
		}
		have := f.Have
		real, _ := c.Programs["now"].Decide(f)
		got := s.Shadow(f, real)
		text := got.Rule + " " + string(got.Outcome) + " " + got.Route
		if !got.Server.IsZero() {
			text += " " + got.Server.String()
		}
		if got.Undecided != "" {
			text = got.Rule + " undecided " + got.Undecided
		}
		if strings.TrimSpace(text) != row.want || got.Differs(real) != row.differs || got.Policy != "next" || got.Line == 0 || f.Have != have {
			t.Errorf("%s %v: %s, differs %v", row.host, row.addrs, text, got.Differs(real))
		}
	}
}

// A request for another host than its tunnel is refused unless a rule names that host: by a shadow, too.
func TestShadowOfMisdirected(t *testing.T) {
	c, d := loadText(shadowSource("shadow = policy.next", ""), Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	f := &connmodel.Facts{
		Listener: "desk", Protocol: connmodel.ProtocolConnect, Scheme: "https", Target: connmodel.Address{Host: "elsewhere.test", Port: 443}, Have: connmodel.NeedAddresses | connmodel.NeedHello,
		Tunnel: connmodel.Address{Host: "front.test", Port: 443}, Hello: &connmodel.ClientHello{SNI: "front.test"}, Request: &connmodel.RequestFacts{Method: "GET", Path: "/"},
	}
	if got := c.Shadows["next"].Shadow(f, nil); got.Outcome != connmodel.OutcomeDeny {
		t.Errorf("%+v", got)
	}
	f.Target.Host = "other.example" // is named
	if got := c.Shadows["next"].Shadow(f, nil); got.Outcome != connmodel.OutcomeVia {
		t.Errorf("%+v", got)
	}
}

func TestShadowWritten(t *testing.T) {
	for _, row := range []struct{ listener, policy, want string }{
		{"", "shadow = policy.next", "next next"},
		{"shadow = policy.next", "", "next"},
		{"shadow = policy.now", "", "Shadow of itself"},
		{"", "shadow = policy.now", "Shadow of itself"},
		{"shadow = policy.nxt", "", `Did you mean "next"`},
		{"shadow = upstream.a", "", "Unknown name"},
		{`shadow = "next"`, "", "Not a reference"},
		{"", "", "No listener uses the policy \"next\""},
	} {
		c, d := loadText(shadowSource(row.listener, row.policy), Options{})
		said := reports(t, d)
		if c != nil {
			said += strings.TrimSpace(c.Listeners[0].Shadow + " " + c.Listeners[1].Shadow)
		}
		if !strings.Contains(said, row.want) {
			t.Errorf("%s %s: %s", row.listener, row.policy, said)
		}
	}
}

// A shadow is never a reason for a certificate authority. As a policy that decides it is.
func TestShadowSignsNothing(t *testing.T) {
	src := `
listener "desk" {
  address = "127.0.0.1:1"
  policy  = policy.now
  shadow  = policy.next
}
policy "first" {
  rule "open" {
    match { host = "a.example" }
    via = direct
    tls { mode = "intercept" }
  }
}
policy "now" {
  otherwise { via = direct }
}
policy "next" {
  rule "open" {
    match { host = "b.example" }
    via = direct
    tls { mode = "intercept" }
  }
}
policy "last" {
  rule "open" {
    match { host = "c.example" }
    via = direct
    tls { mode = "intercept" }
  }
}
`
	c, d := loadText(src, Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	var lines []int
	for _, r := range c.Signs {
		lines = append(lines, r.Start.Line)
	}
	if len(lines) != 2 || lines[0] != 11 || lines[1] != 28 || len(d.Notes) != 2 {
		t.Errorf("signs %v, notes %v", lines, d.Notes)
	}
}

// A shadow policy that decides costs no allocation.
func TestShadowAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	c, _ := loadText(shadowSource("shadow = policy.next", ""), Options{})
	f := &connmodel.Facts{Listener: "desk", Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "other.example", Port: 443}}
	real, _ := c.Programs["now"].Decide(f)
	s := c.Shadows["next"]
	if n := testing.AllocsPerRun(200, func() { s.Shadow(f, real) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
