package policies

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"viaduct/connmodel"
)

const helloPolicy = `
listener "desk" {
  address = "127.0.0.1:3128"
  sniff_timeout = "150ms"
}
policy "default" {
  rule "names" {
    match {
      port = 443
      sni = ["*.corp.example", "intranet", "/^x[0-9]+$/"]
    }
    via = direct
  }
  rule "protocols" {
    match {
      port = 443
      alpn = ["h2", "spdy/3"]
      not { ja4 = "t13d*" }
    }
    via = direct
  }
  rule "watch" {
    match { ja4 = "*" }
    shadow = true
    deny {}
  }
  rule "liars" {
    match { port = [443, 8443] }
    when = target.sni_mismatch && cidr(target.addresses, "192.0.2.0/24")
    deny {}
  }
  rule "api" {
    match {
      port = 80
      path = "/api/*"
    }
    via = direct
  }
  otherwise {
    deny {}
  }
}
`

// TestHelloRules: each fact is asked for when it can change the outcome and not before, and the words say what was seen.
func TestHelloRules(t *testing.T) {
	c, d := loadText(helloPolicy, Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	if c.Listeners[0].SniffTimeout.Milliseconds() != 150 {
		t.Errorf("sniff_timeout is %v", c.Listeners[0].SniffTimeout)
	}
	p := c.Programs["default"]
	const address, hello, request = connmodel.NeedAddresses, connmodel.NeedHello, connmodel.NeedRequest
	for _, x := range []struct {
		name, target string
		proto        connmodel.Protocol
		hello        *connmodel.ClientHello
		request      *connmodel.RequestFacts
		needs        []connmodel.Need
		rule         string
		words        string // of one of the steps
	}{
		{"another port", "www.example:22", "connect", nil, nil, nil, "otherwise", "port 22 is not 443"},
		{"a name", "www.example:443", "connect", &connmodel.ClientHello{SNI: "a.corp.example"}, nil, []connmodel.Need{hello}, "names", "port 443, sni a.corp.example is *.corp.example"},
		{"a name as it is", "www.example:443", "socks5", &connmodel.ClientHello{SNI: "intranet"}, nil, []connmodel.Need{hello}, "names", "sni intranet"},
		{"by an expression", "www.example:443", "socks4a", &connmodel.ClientHello{SNI: "x17"}, nil, []connmodel.Need{hello}, "names", "sni x17 is /^x[0-9]+$/"},
		{"another name", "www.example:443", "connect", &connmodel.ClientHello{SNI: "www.example", ALPN: []string{"http/1.1"}}, nil, []connmodel.Need{hello}, "otherwise", "sni www.example is not one of 3 patterns (first: *.corp.example)"},
		{"an offer", "www.example:443", "connect", &connmodel.ClientHello{SNI: "www.example", ALPN: []string{"h2", "http/1.1"}}, nil, []connmodel.Need{hello}, "protocols", "alpn h2,http/1.1 has one of 2 protocols (first: h2)"},
		{"an offer with the wrong fingerprint", "www.example:443", "connect", &connmodel.ClientHello{SNI: "www.example", ALPN: []string{"h2"}, JA4: "t13d1"}, nil, []connmodel.Need{hello}, "otherwise", "its not block holds: ja4 t13d1"},
		{"no name", "www.example:443", "connect", &connmodel.ClientHello{}, nil, []connmodel.Need{hello}, "otherwise", "the client sends no server name (SNI)"},
		{"no TLS", "www.example:443", "connect", nil, nil, []connmodel.Need{hello}, "otherwise", "the client sends no ClientHello"},
		{"a mismatch asks for the addresses before", "www.example:8443", "connect", &connmodel.ClientHello{SNI: "other.example"}, nil, []connmodel.Need{address, hello}, "liars", "with target.sni_mismatch = true, target.addresses = [192.0.2.1]"},
		{"a literal target has no mismatch", "192.0.2.1:8443", "connect", nil, nil, nil, "otherwise", "when target.sni_mismatch"},
		{"a request in SOCKS", "www.example:80", "socks5", nil, &connmodel.RequestFacts{Method: "GET", Path: "/api/x"}, []connmodel.Need{request}, "api", "path /api/x is /api/*"},
		{"no request in SOCKS", "www.example:80", "socks5", nil, nil, []connmodel.Need{request}, "otherwise", "the client sends no plain HTTP request in its tunnel"},
		{"CONNECT is not looked into for a request", "www.example:80", "connect", nil, nil, nil, "otherwise", "it is a tunnel"},
	} {
		target, err := connmodel.ParseAddress(x.target)
		if err != nil {
			t.Fatal(err)
		}
		f := &connmodel.Facts{Listener: "desk", Protocol: x.proto, Target: target, TargetIP: target.IP()}
		var asked []connmodel.Need
		var steps *connmodel.Trace
		for len(asked) < 5 {
			d, need := p.Decide(f)
			_, need2, trace := p.Explain(f)
			steps = trace
			if need != need2 {
				t.Fatalf("%s: Explain needs %s, Decide %s", x.name, need2, need)
			}
			if need == 0 {
				if d.Rule != x.rule {
					t.Errorf("%s: taken by %q, expected %q\n%s", x.name, d.Rule, x.rule, traceText(trace))
				}
				break
			}
			if last := trace.Steps[len(trace.Steps)-1]; last.Matched || !strings.Contains(last.Reason, "it depends on") {
				t.Errorf("%s: needs %s, and says %+v", x.name, need, last)
			}
			asked = append(asked, need)
			f.Have |= need
			switch need {
			case address:
				f.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			case hello:
				f.Hello = x.hello
			case request:
				f.Request = x.request
			}
		}
		if !slices.Equal(asked, x.needs) {
			t.Errorf("%s: asked for %v, expected %v", x.name, asked, x.needs)
		}
		if text := traceText(steps); !strings.Contains(text, x.words) {
			t.Errorf("%s: says nothing of %q\n%s", x.name, x.words, text)
		}
	}
}

// TestUnreadHelloRefuses: a rule that depends on what could not be read keeps asking for it, others decide.
func TestUnreadHelloRefuses(t *testing.T) {
	c, _ := loadText(helloPolicy, Options{})
	p := c.Programs["default"]
	f := &connmodel.Facts{Protocol: "connect", Target: connmodel.Address{Host: "www.example", Port: 443}, HelloUnread: true, Have: connmodel.NeedRequest | connmodel.NeedAddresses}
	if d, need := p.Decide(f); d != nil || need != connmodel.NeedHello {
		t.Errorf("%+v, %s", d, need)
	}
	f.Target.Port = 22
	if d, need := p.Decide(f); need != 0 || d.Rule != "otherwise" {
		t.Errorf("%+v, %s", d, need)
	}
}

// TestNotesOfEarlyYes: validate says which rules have clients told yes before the server is reached, and at which place.
func TestNotesOfEarlyYes(t *testing.T) {
	for _, x := range []struct {
		rule, note string // the line that is named, and the attribute; "" = none
	}{
		{"match { sni = \"a.example\" }\nvia = direct", `2:"sni"`},
		{"match {\nport = 443\nalpn = \"h2\"\n}\nvia = direct", `2:"alpn"`},
		{"match { port = 443 }\nmatch {\nport = 80\nja4 = \"t13*\"\n}\nvia = direct", `3:"ja4"`},
		{"match {\nport = 443\nnot { sni = \"a.example\" }\n}\nvia = direct", `2:"sni"`},
		{"when = tls.ech\nvia = direct", `2:"when"`},
		{"match { port = 443 }\nwhen = target.sni_mismatch\ndeny {}", `3:"when"`},
		{"match { path = \"/a\" }\nvia = direct", `2:"path"`},
		{"match {\nmethod = \"GET\"\nprotocol = \"socks5\"\n}\nvia = direct", `2:"method"`},
		{"match {\nmethod = \"GET\"\nprotocol = \"connect\"\n}\nvia = direct", ""},
		{"match {\nmethod = \"GET\"\nprotocol = \"http\"\n}\nvia = direct", ""},
		{"match {\nmethod = \"GET\"\nscheme = \"http\"\n}\nvia = direct", ""},
		{"match { sni = \"a.example\" }\nshadow = true\nvia = direct", ""},
		{"match { host = \"a.example\" }\nwhen = client.user == \"\"\nvia = direct", ""},
		{"match { port = 443 }\nvia = direct\ntls { mode = \"intercept\" }", `4:"r"`},
		{"match {\nport = 443\npath = \"/a\"\nprotocol = \"connect\"\n}\nvia = direct\ntls { mode = \"terminate\" }", ""},
	} {
		c, d := loadText("policy \"default\" {\nrule \"r\" {\n"+x.rule+"\n}\n}\n", Options{})
		if c == nil {
			t.Errorf("%s\n%s", x.rule, reports(t, d))
			continue
		}
		got := ""
		for _, n := range d.Notes {
			_, attr, _ := strings.Cut(n.Detail, `"`)
			attr, _, _ = strings.Cut(attr, `"`)
			got += string(rune('0'+n.Subject.Start.Line-1)) + `:"` + attr + `"`
		}
		if got != x.note {
			t.Errorf("%s\nnotes %s, expected %s", x.rule, got, x.note)
		}
		if len(d.List) > 0 {
			t.Errorf("%s\n%s", x.rule, reports(t, d))
		}
	}
	_, d := loadText(helloPolicy, Options{})
	var b strings.Builder
	if err := d.WriteNotes(&b, false); err != nil || strings.Count(b.String(), ": note: Yes before the server is reached") != 4 {
		t.Errorf("%v\n%s", err, b.String())
	}
	js, err := d.MarshalJSON()
	if err != nil || strings.Count(string(js), `"severity":"note"`) != 4 || !strings.Contains(string(js), `"warnings":0,"diagnostics":[],"notes":[`) {
		t.Errorf("%v\n%s", err, js)
	}
}

// TestReachOfHello: what a rule above takes by the ClientHello is seen as covered, and only that.
func TestReachOfHello(t *testing.T) {
	for _, x := range []struct {
		first, second string
		covered       bool
	}{
		{`sni = "*.example"`, `sni = "a.example"`, true},
		{`sni = "*.example"`, `sni = ["a.example", "*.b.example"]`, true},
		{`sni = "*.example"`, `sni = "example"`, false},
		{`sni = "a.example"`, `sni = "*.example"`, false},
		{`sni = "a.example"`, `host = "a.example"`, false},
		{`host = "a.example"`, `sni = "a.example"`, false},
		{`alpn = ["h2", "http/1.1"]`, `alpn = "h2"`, true},
		{`alpn = "h2"`, `alpn = ["h2", "http/1.1"]`, false},
		{`alpn = "h2"`, `port = 443`, false},
		{`ja4 = "t13d*"`, `ja4 = "t13d*"`, true},
		{`ja4 = "t13d*"`, `ja4 = "t12d*"`, false},
		{`port = 443`, "port = 443\nsni = \"a.example\"", true},
	} {
		src := "policy \"default\" {\nrule \"first\" {\nmatch {\n" + x.first + "\n}\nvia = direct\n}\nrule \"second\" {\nmatch {\n" + x.second + "\n}\ndeny {}\n}\n}\n"
		c, d := loadText(src, Options{})
		if c == nil {
			t.Fatal(reports(t, d))
		}
		if got := strings.Contains(reports(t, d), "Rule never reached"); got != x.covered {
			t.Errorf("%s, then %s: said to be covered %v", x.first, x.second, got)
		}
	}
}

// TestHelloInTests: a test block says what the client sends; where it matters and is not said, the test fails with what to write.
func TestHelloInTests(t *testing.T) {
	c, d := loadText(helloPolicy+`
test "said" {
  connect = "www.example:443"
  sni = "A.corp.example."
  expect { rule = "names" }
}
test "offers" {
  socks5 = "www.example:443"
  alpn = ["h2"]
  expect { rule = "protocols" }
}
test "silent" {
  connect = "www.example:443"
  sni = ""
  resolve = ["192.0.2.1"]
  expect { deny = true }
}
test "not said" {
  connect = "www.example:443"
  expect { rule = "names" }
}
test "does not matter" {
  connect = "www.example:22"
  expect { deny = true }
}
test "nothing in SOCKS" {
  socks5 = "www.example:80"
  expect { deny = true }
}
`, Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	for _, r := range RunTests(c).Results {
		switch {
		case r.Name == "not said":
			if r.Pass || !strings.Contains(strings.Join(r.Differences, " "), `write sni = "name"`) {
				t.Errorf("%s: %v", r.Name, r.Differences)
			}
		case !r.Pass:
			t.Errorf("%s: %v\n%s", r.Name, r.Differences, traceText(r.Trace))
		}
	}
}
