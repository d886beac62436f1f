package policies

import (
	"net/netip"
	"slices"
	"testing"

	"viaduct/connmodel"
)

const kernelPolicy = `
listener "web" {
  address   = ":3129"
  protocols = ["redirect"]
}
policy "default" {
  rule "mail" {
    match { port = 25 }
    via = direct
  }
  rule "an address as host" {
    match { host = "192.0.2.66" }
    deny {}
  }
  rule "by name" {
    match {
      host = ["*.corp.example", "ads*.example", "/^x[0-9]+$/"]
      port = [80, 443]
    }
    verify_name = true
    via         = direct
  }
  rule "all but" {
    match {
      port = 8443
      not { host = "*.secret.example" }
    }
    via = direct
  }
  rule "when" {
    match { port = 8080 }
    when = endswith(target.host, ".when.example")
    via  = direct
  }
  rule "by address" {
    match { address = "192.0.2.0/24" }
    via = direct
  }
}
`

// TestNamesInside: where a firewall sent a connection, the name is asked for when it can change the outcome, and not before; it counts as
// host, and the address stays what it was.
func TestNamesInside(t *testing.T) {
	c, d := loadText(kernelPolicy, Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	p := c.Programs["default"]
	const none = ""
	for _, x := range []struct {
		target, name string
		asks         bool
		rule         string
	}{
		{"192.0.2.9:25", none, true, "mail"}, // the rule before it takes it whatever the name
		{"192.0.2.9:443", "www.corp.example", true, "by name"},
		{"192.0.2.9:443", "ads17.example", true, "by name"},
		{"192.0.2.9:80", "x17", true, "by name"},
		{"192.0.2.9:443", "other.example", true, "by address"},
		{"192.0.2.9:443", none, true, "by address"},
		{"203.0.113.9:443", none, true, ""},
		{"192.0.2.66:443", "www.corp.example", true, "an address as host"},
		{"203.0.113.9:8443", "www.secret.example", true, ""},
		{"203.0.113.9:8443", "www.public.example", true, "all but"},
		{"203.0.113.9:8443", none, true, "all but"},
		{"203.0.113.9:8080", "a.when.example", true, "when"},
		{"192.0.2.9:8080", "b.example", true, "by address"},
	} {
		for _, proto := range []connmodel.Protocol{connmodel.ProtocolRedirect, connmodel.ProtocolTProxy} {
			target, _ := connmodel.ParseAddress(x.target)
			f := &connmodel.Facts{Listener: "web", Protocol: proto, Target: target, TargetIP: target.IP()}
			want := x.asks && x.rule != "mail"
			_, need := p.Decide(f)
			_, need2, _ := p.Explain(f)
			if (need == connmodel.NeedName) != want || need != need2 || need&^connmodel.NeedName != 0 {
				t.Errorf("%s %q: needs %s, explained as %s", x.target, x.name, need, need2)
			}
			f.Have |= connmodel.NeedHello | connmodel.NeedRequest
			if x.name != none {
				f.Hello = &connmodel.ClientHello{SNI: x.name}
				f.Named(x.name)
			}
			if dec, need := p.Decide(f); need != 0 || dec.Rule != x.rule || f.TargetIP != netip.MustParseAddrPort(x.target).Addr() {
				_, _, trace := p.Explain(f)
				t.Errorf("%s %q: taken by %q (needs %s), expected %q\n%s", x.target, x.name, dec.Rule, need, x.rule, traceText(trace))
			}
		}
	}
	// Others are never asked for it: they have said it.
	f := &connmodel.Facts{Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "www.corp.example", Port: 443}}
	if dec, need := p.Decide(f); need != 0 || dec.Rule != "by name" || !dec.VerifyName {
		t.Errorf("%+v, needs %s", dec, need)
	}
	// What cannot be read keeps being asked for.
	target, _ := connmodel.ParseAddress("192.0.2.9:443")
	f = &connmodel.Facts{Protocol: connmodel.ProtocolRedirect, Target: target, TargetIP: target.IP(), HelloUnread: true, Have: connmodel.NeedRequest}
	if dec, need := p.Decide(f); dec != nil || need != connmodel.NeedName {
		t.Errorf("%+v, needs %s", dec, need)
	}
}

// TestForwardPolicy: a listener's target and balancers are read.
func TestForwardPolicy(t *testing.T) {
	c, d := loadText(`
listener "db" {
  address   = "127.0.0.1:5432"
  protocols = ["forward"]
  target    = "DB.corp.example:5432"
  proxy_protocol {
    from   = ["10.0.0.1", "fd00::/64"]
    others = "serve"
  }
}
listener "sock" {
  address = "unix:/run/viaduct/x.sock"
  proxy_protocol {}
}
gateway {
  direct {
    mark = "0x10"
  }
}
upstream "a" {
  url = "socks5h://a.example:1080"
}
upstream "b" {
  url  = "socks5h://b.example:1080"
  mark = 7
}
policy "default" {
  otherwise { via = [upstream.a, upstream.b] }
}
`, Options{})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	l := c.Listeners[0]
	if l.Target.String() != "db.corp.example:5432" || !slices.Equal(l.Protocols, []string{ProtocolForward}) {
		t.Errorf("%+v", l)
	}
	if p := l.ProxyProtocol; p == nil || !p.Others || len(p.From) != 2 || p.From[0] != netip.MustParsePrefix("10.0.0.1/32") {
		t.Errorf("%+v", l.ProxyProtocol)
	}
	if p := c.Listeners[1].ProxyProtocol; p == nil || p.Others || p.From != nil {
		t.Errorf("%+v", p)
	}
	if u := c.Upstreams; u.Direct.Mark != 16 || u.Upstreams[0].Mark != 16 || u.Upstreams[1].Mark != 7 {
		t.Errorf("marks %d, %d, %d", u.Direct.Mark, u.Upstreams[0].Mark, u.Upstreams[1].Mark)
	}
}
