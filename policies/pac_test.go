package policies

import (
	"strings"
	"testing"
)

// TestPACInTests: a test block may expect what the script of a file gives, at the time of the test and with the addresses it names.
func TestPACInTests(t *testing.T) {
	const script = `function FindProxyForURL(url, host) {
	  if (isInNet(host, "10.0.0.0", "255.0.0.0")) return "DIRECT";
	  if (timeRange(20, 23)) return "PROXY night:1";
	  if (shExpMatch(url, "*/secret*")) return "HTTPS path:2";
	  if (host == "broken.example") throw "no";
	  return "proxy a:8080; SOCKS5 [2001:db8::1]:1080";
	}`
	block := func(target, expect string) string {
		return "test \"x\" {\n" + target + "\nexpect { " + expect + " }\n}\n"
	}
	for _, x := range []struct{ target, expect, difference string }{
		{`connect = "a.example:443"`, `pac = ["PROXY a:8080", "SOCKS5 [2001:db8::1]:1080"]`, ""},
		{`connect = "a.example:443"`, `pac = "PROXY a:8080; SOCKS5 [2001:db8::1]:1080"`, ""},
		{`connect = "a.example:443"`, `pac = ["DIRECT"]`, "pac is PROXY a:8080; SOCKS5 [2001:db8::1]:1080, expected DIRECT"},
		{"connect = \"a.example:443\"\nresolve = [\"10.1.1.1\"]", `pac = ["DIRECT"]`, ""},
		{"connect = \"a.example:443\"\nat = \"2026-01-05 22:00\"", `pac = ["PROXY night:1"]`, ""},
		{`request = "GET http://a.example/secret"`, `pac = ["HTTPS path:2"]`, ""},
		{`connect = "broken.example:443"`, `pac = ["DIRECT"]`, "pac fails (PAC script: it threw"},
		{`connect = "other.example:443"`, `pac = ["DIRECT"]`, "pac is not asked: via is direct"},
	} {
		c, d := Load(Options{Source: map[string][]byte{"x.hcl": []byte(`
gateway { timezone = "Europe/Berlin" }
pac "corp" { file = "corp.pac" }
policy "default" {
  rule "other" {
    match { host = "other.example" }
    via = direct
  }
  otherwise { via = pac.corp }
}
` + block(x.target, x.expect))}, ReadFile: func(string) ([]byte, error) { return []byte(script), nil }})
		if c == nil {
			t.Fatal(d.Err())
		}
		r := RunTests(c).Results[0]
		if got := strings.Join(r.Differences, "; "); r.Pass != (x.difference == "") || !strings.HasPrefix(got, x.difference) {
			t.Errorf("%s %s: %q, want %q", x.target, x.expect, got, x.difference)
		}
	}
}
