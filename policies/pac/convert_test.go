package pac

import (
	"fmt"
	"strings"
	"testing"
)

func said(c *Converted) string {
	var b strings.Builder
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "%d:", r.Line)
		for _, m := range r.Match {
			fmt.Fprintf(&b, " [%s]", matchText(m))
		}
		fmt.Fprintf(&b, " -> %s\n", r.Answer)
	}
	fmt.Fprintf(&b, "else %s\n", c.Otherwise)
	for _, l := range c.Left {
		b.WriteString("left " + l + "\n")
	}
	return b.String()
}

func matchText(m ConvertedMatch) string {
	s := strings.Join(append(m.Hosts, m.Addresses...), " ")
	for _, n := range m.Not {
		s += " not(" + matchText(n) + ")"
	}
	return s
}

func TestConvert(t *testing.T) {
	for _, x := range []struct{ body, want string }{
		{`return "DIRECT";`, "else DIRECT\n"},
		{`if (isPlainHostName(host)) return "DIRECT"; return "PROXY p:1";`, "1: [/^[^.:]+$/] -> DIRECT\nelse PROXY p:1\n"},
		{`if (dnsDomainIs(host, ".a.example") || host == "b.example" || "C.example" === host || shExpMatch(host, "*.d.example")) { return 'DIRECT' } else { return "PROXY p:1" }`,
			"1: [*.a.example b.example c.example *.d.example] -> DIRECT\nelse PROXY p:1\n"},
		{`if (dnsDomainIs(host, "a.example")) return "A"; else if (localHostOrDomainIs(host, "w.b.example")) return "B"; else return "C";`,
			"1: [a.example *.a.example] -> A\n1: [w.b.example w] -> B\nelse C\n"},
		{`var ip = dnsResolve(host); if (isInNet(ip, "10.0.0.0", "255.0.0.0") || isInNet(host, "192.168.3.0", "255.255.255.0") || isInNetEx(host, "2001:db8::/32")) return "DIRECT"; return p;`,
			"1: [10.0.0.0/8 192.168.3.0/24 2001:db8::/32] -> DIRECT\nelse PROXY c:1; DIRECT\n"},
		{`if (shExpMatch(host, "*.a.example") && !dnsDomainIs(host, ".x.a.example") && !isPlainHostName(host)) return "A"; return "B"`,
			"1: [*.a.example not(*.x.a.example) not(/^[^.:]+$/)] -> A\nelse B\n"},
		{`host = host.toLowerCase(); if (dnsDomainIs(host, ".a.example")) { if (host == "b.a.example") return "B"; } return "C"`, "else C\nleft "},
		{`if (isInNet(host, "10.0.0.0", "255.0.0.0")) { if (host == "b") return "B"; return "A"; } return "C"`, "1: [b 10.0.0.0/8] -> B\n1: [10.0.0.0/8] -> A\nelse C\n"},
		{`if (weekdayRange("MON")) { return "A"; } else { return "B"; }`, "else B\nleft line 1: the condition of an if"},
		{`if (url.substring(0, 5) == "http:") { if (host == "x") return "A"; } return "B"`, "else B\nleft line 1: the condition of an if"},
		{`for (;;) {} return "B"`, "else B\nleft line 1: a statement"},
		{`if (host == "a") { var x = 1; } else { return "C" } return "B"`, "else B\nleft "},
		{`if (isInNet(host, "10.0.0.0", "255.0.255.0")) return "A"; return "B"`, "else B\nleft line 1: the condition"},
		{`if (dnsDomainIs(host, "a b")) return "A"; return q + "x"`, "else \nleft line 1: the condition"},
		{`return p + "; SOCKS s:1"`, "else PROXY c:1; DIRECT; SOCKS s:1\n"},
		{"// if (\n/* return */ return \"A\"", "else A\n"},
		{`if (host == "a") return "A"`, "1: [a] -> A\nelse \nleft line 1: the function ends"},
	} {
		c, err := Convert("var p = \"PROXY c:1\" + '; DIRECT'; function other(x) { return 1 } function FindProxyForURL(url, host) { " + x.body + " }")
		if err != nil {
			t.Errorf("%s: %v", x.body, err)
			continue
		}
		if got := said(c); !strings.HasPrefix(got, x.want) || strings.HasSuffix(x.want, "\n") && got != x.want {
			t.Errorf("%s:\n%swant\n%s", x.body, got, x.want)
		}
	}
	for _, bad := range []string{"", "x", "function FindProxyForURL(", "function FindProxyForURL(u, h)", "\"", "/*", "function FindProxyForURL2(u, h) {}"} {
		if _, err := Convert(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzConvert(f *testing.F) {
	f.Add(`function FindProxyForURL(url, host) { if (host == "a" || !(dnsDomainIs(host, ".b") && isInNet(host, "10.0.0.0", "255.0.0.0"))) return "DIRECT"; else { return 'PROXY x:1' } }`)
	f.Add(`var p = "x" + "y"; function FindProxyForURL(u,h){var ip=dnsResolve(h);if(weekdayRange("MON")){if(1)return p}else return 1}`)
	f.Add(`function FindProxyForURL(u,h){if((((h==="x")))){};;{}{}`)
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 5000 || strings.Count(src, "(") > 400 || strings.Count(src, "{") > 400 {
			return
		}
		c, err := Convert(src)
		if err == nil && len(c.Hosts) == 0 {
			t.Fatal("nothing to compare")
		}
	})
}
