package policies

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestExplainGolden holds the words of explain to testdata/explain/golden.txt (go test -update writes it).
func TestExplainGolden(t *testing.T) {
	o := corpusOptions
	o.Paths = []string{"testdata/explain/policy.hcl"}
	c, d := Load(o)
	if c == nil {
		t.Fatal(d.Error())
	}
	base := connmodel.Facts{Listener: "l", Client: netip.MustParseAddrPort("10.1.2.3:4000"), Time: time.Date(2026, 11, 23, 10, 30, 0, 0, time.UTC), Protocol: connmodel.ProtocolConnect}
	var out strings.Builder
	for _, x := range []struct {
		title string
		edit  func(*connmodel.Facts)
	}{
		{"the last rule", func(f *connmodel.Facts) { f.Target = connmodel.Address{Host: "www.example.com", Port: 443} }},
		{"resolved", func(f *connmodel.Facts) {
			f.Target = connmodel.Address{Host: "www.example.com", Port: 443}
			f.Have, f.Addresses = connmodel.NeedAddresses, []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
		}},
		{"resolved to a private address", func(f *connmodel.Facts) {
			f.Target = connmodel.Address{Host: "www.example.com", Port: 443}
			f.Have, f.Addresses = connmodel.NeedAddresses, []netip.Addr{netip.MustParseAddr("10.9.9.9")}
		}},
		{"a literal address on a Unix socket", func(f *connmodel.Facts) {
			f.Target, f.Client, f.User = connmodel.Address{Host: "203.0.113.9", Port: 8080}, netip.AddrPort{}, "anna"
		}},
		{"a request", func(f *connmodel.Facts) {
			f.Target, f.Protocol, f.Scheme = connmodel.Address{Host: "api.example.com", Port: 80}, connmodel.ProtocolHTTP, "http"
			f.Request = &connmodel.RequestFacts{Method: "POST", Path: "/v1/x?y", Header: testFields{{"X-Team", "red"}}}
		}},
		{"a request that matches", func(f *connmodel.Facts) {
			f.Target, f.Protocol, f.Scheme = connmodel.Address{Host: "api.example.com", Port: 80}, connmodel.ProtocolHTTP, "http"
			f.Request = &connmodel.RequestFacts{Method: "GET", Path: "/v1/x?y", Header: testFields{{"x-team", "blue-2"}}}
		}},
		{"a name that the terminal must not believe", func(f *connmodel.Facts) {
			f.Target = connmodel.Address{Host: "a\x1b[2J.example", Port: 1}
			f.User = "\x1b]0;x\x07" + strings.Repeat("long", 100)
		}},
		{"at night", func(f *connmodel.Facts) {
			f.Target, f.Time = connmodel.Address{Host: "chess.games.example", Port: 443}, f.Time.Add(12*time.Hour)
		}},
	} {
		f := base
		x.edit(&f)
		f.TargetIP = f.Target.IP()
		d, need, trace := c.Programs["default"].Explain(&f)
		out.WriteString("== " + x.title + "\n" + traceText(trace))
		if d != nil {
			out.WriteString("-> " + string(d.Outcome) + " " + d.Route + " by " + d.Rule + ", shadow: " + shadowText(d) + "\n")
		} else {
			out.WriteString("-> needs " + need.String() + "\n")
		}
	}
	const golden = "testdata/explain/golden.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nexpected\n%s", out.String(), want)
	}
}

// TestAsks: the rule that keeps a flow from being decided, and none when nothing does.
func TestAsks(t *testing.T) {
	c, d := Load(Options{Source: map[string][]byte{"p.hcl": []byte(`policy "default" {
  rule "web" {
    match { port = 80 }
    via = direct
  }
  rule "lab" {
    match { address = "192.0.2.0/24" }
    via = direct
  }
  otherwise { via = direct }
}
`)}, Lenient: true})
	if c == nil {
		t.Fatal(d.Err())
	}
	p := c.Programs["default"]
	ask := func(port uint16, have connmodel.Need) string {
		rule, file, line := p.Asks(&connmodel.Facts{Target: connmodel.Address{Host: "a.example", Port: port}, Have: have})
		return fmt.Sprint(rule, file, line)
	}
	if got := ask(443, 0); got != fmt.Sprint("lab", "p.hcl", 6) {
		t.Error(got)
	}
	for _, got := range []string{ask(80, 0), ask(443, connmodel.NeedAddresses)} {
		if got != fmt.Sprint("", "", 0) {
			t.Error(got)
		}
	}
}
