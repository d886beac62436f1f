package policies

import (
	"fmt"
	"strings"
	"testing"

	"viaduct/connmodel"
)

const networkPolicy = `
listener "l" { address = "127.0.0.1:3128" }
locals { proxy = "Proxy.corp.example.:8080" }
upstream "corp" { url = "http://proxy.corp.example:8080" }
policy "default" {
  rule "office" {
    when = network.reachable(local.proxy) && now.hour >= 0 || target.port == 1 && network.reachable("192.0.2.1:80")
    via  = upstream.corp
  }
  rule "text" {
    match { host = "text.example" }
    deny { reason = "network.reachable(\"x\") is ${"a text"} here" } # network.reachable(
  }
  otherwise { via = direct }
}
`

func load(t *testing.T, name, text string) (*Config, string) {
	t.Helper()
	c, d := Load(Options{Source: map[string][]byte{name: []byte(text)}, Environ: environ()})
	var out strings.Builder
	d.WriteText(&out, false)
	return c, out.String()
}

type reachAddresses map[connmodel.Address]bool

func (r reachAddresses) Reachable(to connmodel.Address) bool { return r[to] }

// reachSet is what can be reached.
type reachSet map[string]bool

func (r reachSet) Reachable(to connmodel.Address) bool { return r[to.String()] }

func TestReachable(t *testing.T) {
	c, said := load(t, "x.hcl", networkPolicy)
	if c == nil {
		t.Fatal(said)
	}
	if got := fmt.Sprint(c.Reaches); got != "[192.0.2.1:80 proxy.corp.example:8080]" {
		t.Errorf("asks about %s", got)
	}
	p := c.Programs["default"]
	f := &connmodel.Facts{Listener: "l", Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "a.example", Port: 443}}
	rule := func() string {
		d, need := p.Decide(f)
		if need != 0 {
			t.Fatalf("needs %v", need)
		}
		return d.Rule
	}
	for _, s := range []struct {
		reach connmodel.Reach
		port  uint16
		want  string
	}{{nil, 443, "otherwise"}, {reachSet{}, 443, "otherwise"}, {reachSet{"proxy.corp.example:8080": true}, 443, "office"}, {reachSet{"192.0.2.1:80": true}, 443, "otherwise"}, {reachSet{"192.0.2.1:80": true}, 1, "office"}} {
		f.Reach, f.Target.Port = s.reach, s.port
		if got := rule(); got != s.want {
			t.Errorf("%v: %s, want %s", s.reach, got, s.want)
		}
	}
	if !raceEnabled {
		f.Reach = reachAddresses{{Host: "192.0.2.1", Port: 80}: true}
		if n := testing.AllocsPerRun(200, func() { p.Decide(f) }); n != 0 {
			t.Errorf("a decision allocates %v times", n)
		}
	}
	_, _, trace := p.Explain(f)
	if got := trace.Steps[0].Reason; !strings.Contains(got, `network.reachable("proxy.corp.example:8080") = false`) || !strings.Contains(got, `network.reachable("192.0.2.1:80") = true`) {
		t.Errorf("explained as %s", got)
	}
	f.Target.Host, f.Reach = "text.example", nil
	if d, _ := p.Decide(f); d.Denial == nil || d.Denial.Reason != `network.reachable("x") is a text here` {
		t.Errorf("a text was changed: %+v", d)
	}
}

func TestReachableInJSON(t *testing.T) {
	c, said := load(t, "x.hcl.json", `{"listener": {"l": {"address": "127.0.0.1:3128"}}, "policy": {"default": {"rule": {"office": {"when": "${!network.reachable(\"a.example:1\") || network.reachable(\"b.example:2\")}", "via": "direct"}},
		"otherwise": {"deny": {"reason": "network.reachable(\"x\")"}}}}}`)
	if c == nil || fmt.Sprint(c.Reaches) != "[a.example:1 b.example:2]" {
		t.Fatalf("%+v %s", c, said)
	}
	d, _ := c.Programs["default"].Decide(&connmodel.Facts{Reach: reachSet{"a.example:1": true}})
	if d.Denial == nil || d.Denial.Reason != `network.reachable("x")` {
		t.Errorf("%+v", d)
	}
}

func TestReachableMistakes(t *testing.T) {
	many := "false"
	for i := range 65 {
		many += fmt.Sprintf(" || network.reachable(\"p%d.example:80\")", i)
	}
	for when, want := range map[string]string{
		`network.reachable()`:                             `The arguments do not fit: write network.reachable("host:port").`,
		`network.reachable("a.example:1", "b.example:2")`: `The arguments do not fit`,
		`network.reachable("a.example")`:                  `Write host:port`,
		`network.reachable(target.host)`:                  `must be known at load`,
		`network.reachable(80)`:                           `takes a text here`,
		`network.reachable("0.0.0.0:80")`:                 `no address that a connection can be made to`,
		`network.reachable("127.0.0.1:3128")`:             `127.0.0.1:3128 is the address of the listener "l"`,
		`network.reachable("localhost:3128")`:             `is the address of the listener "l"`,
		`network.reachible("a.example:1")`:                ``,
		`network.reachable("a.example:1") == "yes"`:       `Wrong type`,
		many: `Too many addresses`,
	} {
		c, said := load(t, "x.hcl", "listener \"l\" { address = \"127.0.0.1:3128\" }\npolicy \"default\" {\n  rule \"r\" {\n    when = "+when+"\n    via = direct\n  }\n}\n")
		if c != nil || !strings.Contains(said, want) || strings.Contains(said, "network_reachable") {
			t.Errorf("%s: %s", when, said)
		}
	}
	if _, said := load(t, "x.hcl", "listener \"l\" { address = \"127.0.0.1:3128\" }\nlocals { x = network.reachable(\"a.example:1\") }\npolicy \"default\" {\n  otherwise { via = direct }\n}\n"); !strings.Contains(said, "only in the `when` of a rule") {
		t.Error(said)
	}
}

func TestReachableInTests(t *testing.T) {
	c, said := load(t, "x.hcl", networkPolicy+`
test "not said" {
  connect = "a.example:443"
  expect { via = direct }
}
test "nothing" {
  connect   = "a.example:443"
  reachable = []
  expect { via = direct }
}
test "office" {
  connect   = "a.example:443"
  reachable = ["PROXY.corp.example:8080"]
  expect { via = upstream.corp }
}
`)
	if c == nil {
		t.Fatal(said)
	}
	r := RunTests(c).Results
	if r[0].Pass || !strings.Contains(r[0].Differences[0], `reachable = ["proxy.corp.example:8080"]`) || !r[1].Pass || !r[2].Pass {
		t.Errorf("%+v", r)
	}
	for given, want := range map[string]string{`["proxy.corp.example:8081"]`: `Did you mean "proxy.corp.example:8080"?`, `["x"]`: "Write host:port"} {
		if c, said := load(t, "x.hcl", networkPolicy+"test \"t\" {\n  connect = \"a.example:443\"\n  reachable = "+given+"\n  expect { via = direct }\n}\n"); c != nil || !strings.Contains(strings.Join(strings.Fields(said), " "), want) {
			t.Errorf("%s: %s", given, said)
		}
	}
}

// A slip of the pen in the name of the function is told as one.
func TestReachableMisspelt(t *testing.T) {
	for _, tt := range []struct{ name, when, says string }{
		{"x.hcl", `network.reachible("a:1")`, `Did you mean "network.reachable"?`},
		{"x.hcl", `!network.reachabl("a:1") && now.hour > 3`, `Did you mean "network.reachable"?`},
		{"x.hcl", `network.up("a:1")`, `There is no function network.up.`},
		{"x.hcl", `target.host == "${network.reachible("a:1")}"`, `Did you mean "network.reachable"?`},
	} {
		c, said := load(t, tt.name, "listener \"l\" { address = \"127.0.0.1:3128\" }\npolicy \"default\" {\n  rule \"a\" {\n    when = "+tt.when+"\n    via = direct\n  }\n}\n")
		if c != nil || !strings.Contains(strings.Join(strings.Fields(said), " "), tt.says) || strings.Contains(said, "network_") {
			t.Errorf("%s: %s", tt.when, said)
		}
	}
	c, said := load(t, "x.json", `{"listener": {"l": {"address": "127.0.0.1:3128"}}, "policy": {"default": {"rule": {"a": {"when": "${network.reachible(\"a:1\")}", "via": "${direct}"}}}}}`)
	if c != nil || !strings.Contains(strings.Join(strings.Fields(said), " "), `There is no function network.reachible. Did you mean "network.reachable"?`) {
		t.Errorf("%s", said)
	}
}
