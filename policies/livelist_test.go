package policies

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"viaduct/connmodel"
	"viaduct/policies/lists"
)

// urlLists are the lists of the policies here: ads, more and soft hold hosts, nets and far networks. soft is empty while it is not there.
const urlLists = `
list "ads" {
  url = "https://lists.example/ads"
}
list "more" {
  url = "https://lists.example/more"
}
list "soft" {
  url      = "https://lists.example/soft"
  on_error = "empty"
}
list "nets" {
  url  = "https://lists.example/nets"
  type = "networks"
}
list "far" {
  url  = "https://lists.example/far"
  type = "networks"
}
listener "desk" {
  address = "127.0.0.1:3128"
}
`

// listed is a policy of some rules over urlLists, of which none is there yet.
type listed struct {
	*Program
	lists map[string]*List
}

func loadListed(t *testing.T, rules string) *listed {
	t.Helper()
	c, d := loadText(urlLists+"policy \"default\" {\n"+rules+"\notherwise {\ndeny { status = 451 }\n}\n}\n", Options{})
	if c == nil {
		t.Fatal(d.Error())
	}
	p := &listed{c.Programs["default"], map[string]*List{}}
	for i := range c.Lists {
		p.lists[c.Lists[i].Name] = &c.Lists[i]
	}
	return p
}

// use puts something into a list; "" = it is not there.
func (p *listed) use(t *testing.T, name, text string) {
	t.Helper()
	l := p.lists[name]
	if text == "" {
		l.Ref.Use(nil)
		return
	}
	s, err := lists.Parse(strings.NewReader(text), "", l.Parse)
	if err != nil {
		t.Fatal(err)
	}
	s.Name = name
	l.Ref.Use(s)
}

// says decides, and gives the rule with the status of a refusal: "r", "r 503", or "needs addresses". Explain must say the same.
func (p *listed) says(t *testing.T, f *connmodel.Facts) string {
	t.Helper()
	word := func(d *connmodel.Decision, need connmodel.Need) string {
		switch {
		case d == nil:
			return "needs " + need.String()
		case d.Denial != nil:
			return fmt.Sprintf("%s %d", d.Rule, d.Denial.Status)
		}
		return d.Rule
	}
	got := word(p.Decide(f))
	d, need, _ := p.Explain(f)
	if e := word(d, need); e != got {
		t.Errorf("%s: decided %q, explained %q", f.Target.Host, got, e)
	}
	return got
}

// step is what an explanation says of a rule.
func (p *listed) step(f *connmodel.Facts, rule string) (matched bool, reason string) {
	_, _, trace := p.Explain(f)
	for _, s := range trace.Steps {
		if s.Rule == rule {
			return s.Matched, s.Reason
		}
	}
	return false, "not reached"
}

// flow is a tunnel; more is "client=ADDR", "addr=ADDR" (the name resolved to it), "none" (it has no addresses) or "sni=NAME".
func flow(host string, port uint16, more ...string) *connmodel.Facts {
	f := target(host, port)
	f.Listener = "desk"
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		switch key {
		case "client":
			f.Client = netip.AddrPort{}
			if value != "" {
				f.Client = netip.AddrPortFrom(netip.MustParseAddr(value), 1)
			}
		case "addr":
			f.Have |= connmodel.NeedAddresses
			f.Addresses = append(f.Addresses, netip.MustParseAddr(value))
		case "sni":
			f.Have |= connmodel.NeedHello
			f.Hello = &connmodel.ClientHello{SNI: value}
		}
	}
	return f
}

// TestListed says of single rules what they do with their lists there, and what without.
func TestListed(t *testing.T) {
	with := map[string]string{"ads": "||ads.example^\n@@||good.ads.example^\n192.0.2.9\n", "more": "*.more.example\n", "soft": "soft.example\n", "nets": "192.0.2.0/24\n2001:db8::/32\n", "far": "198.51.100.0/24\n"}
	const deny = "\ndeny {}\n}"
	for _, x := range []struct {
		name, rule     string
		f              *connmodel.Facts
		there, without string
	}{
		// host
		{"host", "match { host = list.ads }", flow("ads.example", 1), "r 403", "r 503"},
		{"below", "match { host = list.ads }", flow("x.ads.example", 1), "r 403", "r 503"},
		{"taken back", "match { host = list.ads }", flow("x.good.ads.example", 1), "otherwise 451", "r 503"},
		{"not in it", "match { host = list.ads }", flow("www.example", 1), "otherwise 451", "r 503"},
		{"address as host", "match { host = list.ads }", flow("192.0.2.9", 1), "r 403", "r 503"},
		{"two lists, the first", "match { host = [list.ads, list.more] }", flow("ads.example", 1), "r 403", "r 503"},
		{"two lists, the second", "match { host = [list.ads, list.more] }", flow("x.more.example", 1), "r 403", "r 503"},
		{"two lists, none", "match { host = [list.ads, list.more] }", flow("more.example", 1), "otherwise 451", "r 503"},
		{"beside a name", "match { host = [list.ads, \"own.example\"] }", flow("own.example", 1), "r 403", "r 403"},
		{"beside a pattern", "match { host = [list.ads, \"o*n.example\"] }", flow("own.example", 1), "r 403", "r 403"},
		{"beside a pattern, in it", "match { host = [list.ads, \"o*n.example\"] }", flow("ads.example", 1), "r 403", "r 503"},
		{"twice", "match { host = [list.ads, list.ads] }", flow("ads.example", 1), "r 403", "r 503"},
		// Other tests that say no make the list matter to nobody.
		{"another port", "match {\nhost = list.ads\nport = 80\n}", flow("ads.example", 1), "otherwise 451", "otherwise 451"},
		{"this port", "match {\nhost = list.ads\nport = 1\n}", flow("ads.example", 1), "r 403", "r 503"},
		{"another client", "match {\nhost = list.ads\nclient = \"172.16.0.0/12\"\n}", flow("ads.example", 1), "otherwise 451", "otherwise 451"},
		{"when says no", "match { host = list.ads }\nwhen = target.port == 80", flow("ads.example", 1), "otherwise 451", "otherwise 451"},
		{"when says yes", "match { host = list.ads }\nwhen = target.port == 1", flow("ads.example", 1), "r 403", "r 503"},
		{"another block", "match { host = list.ads }\nmatch { port = 1 }", flow("www.example", 1), "r 403", "r 403"},
		{"another block before", "match { port = 1 }\nmatch { host = list.ads }", flow("www.example", 1), "r 403", "r 403"},
		{"a block with another list", "match { host = list.ads }\nmatch { client = list.nets }", flow("www.example", 1, "client=192.0.2.5"), "r 403", "r 503"},
		// client
		{"client", "match { client = list.nets }", flow("www.example", 1, "client=192.0.2.5"), "r 403", "r 503"},
		{"client elsewhere", "match { client = list.nets }", flow("www.example", 1, "client=192.0.3.5"), "otherwise 451", "r 503"},
		{"client on a Unix socket", "match { client = list.nets }", flow("www.example", 1, "client="), "otherwise 451", "otherwise 451"},
		{"client, two lists", "match { client = [list.nets, list.far] }", flow("www.example", 1, "client=198.51.100.7"), "r 403", "r 503"},
		{"client, or a network", "match { client = [list.nets, \"10.0.0.0/8\"] }", flow("www.example", 1), "r 403", "r 403"},
		// address
		{"literal", "match { address = list.nets }", flow("192.0.2.5", 1), "r 403", "r 503"},
		{"literal IPv6", "match { address = list.nets }", flow("2001:db8::5", 1), "r 403", "r 503"},
		{"literal elsewhere", "match { address = list.nets }", flow("192.0.3.5", 1), "otherwise 451", "r 503"},
		{"embedded IPv4", "match { address = list.nets }", flow("64:ff9b::c000:205", 1), "r 403", "r 503"},
		{"6to4", "match { address = list.nets }", flow("2002:c000:205::1", 1), "r 403", "r 503"},
		{"not resolved", "match { address = list.nets }", flow("www.example", 1), "needs addresses", "needs addresses"},
		{"resolved", "match { address = list.nets }", flow("www.example", 1, "addr=203.0.113.1", "addr=192.0.2.5"), "r 403", "r 503"},
		{"resolved, embedded", "match { address = list.nets }", flow("www.example", 1, "addr=64:ff9b::c000:205"), "r 403", "r 503"},
		{"resolved elsewhere", "match { address = list.nets }", flow("www.example", 1, "addr=203.0.113.1"), "otherwise 451", "r 503"},
		{"literals only, a name", "match {\naddress = list.nets\nresolve = false\n}", flow("www.example", 1), "otherwise 451", "otherwise 451"},
		{"literals only", "match {\naddress = list.nets\nresolve = false\n}", flow("192.0.2.5", 1), "r 403", "r 503"},
		{"host and address", "match {\nhost = list.ads\naddress = list.nets\n}", flow("ads.example", 1, "addr=192.0.2.5"), "r 403", "r 503"},
		{"host and address, not resolved", "match {\nhost = list.ads\naddress = list.nets\n}", flow("ads.example", 1), "needs addresses", "needs addresses"},
		{"host is not in it, so nothing is resolved", "match {\nhost = list.ads\naddress = \"192.0.2.0/24\"\n}", flow("www.example", 1), "otherwise 451", "needs addresses"},
		// sni
		{"sni", "match { sni = list.ads }", flow("www.example", 443, "sni=ads.example"), "r 403", "r 503"},
		{"sni taken back", "match { sni = list.ads }", flow("www.example", 443, "sni=good.ads.example"), "otherwise 451", "r 503"},
		{"sni, or a name", "match { sni = [list.ads, \"own.example\"] }", flow("www.example", 443, "sni=own.example"), "r 403", "r 403"},
		{"no sni", "match { sni = list.ads }", flow("www.example", 443, "sni="), "otherwise 451", "otherwise 451"},
		{"sni not seen yet", "match { sni = list.ads }", flow("www.example", 443), "needs client_hello", "needs client_hello"},
		// not
		{"not host, in it", "match {\nport = 1\nnot { host = list.ads }\n}", flow("ads.example", 1), "otherwise 451", "r 503"},
		{"not host", "match {\nport = 1\nnot { host = list.ads }\n}", flow("www.example", 1), "r 403", "r 503"},
		{"not host, taken back", "match {\nport = 1\nnot { host = list.ads }\n}", flow("good.ads.example", 1), "r 403", "r 503"},
		{"not host, or a name", "match {\nport = 1\nnot { host = [list.ads, \"own.example\"] }\n}", flow("own.example", 1), "otherwise 451", "otherwise 451"},
		{"not client, in it", "match {\nnot { client = list.nets }\n}", flow("www.example", 1, "client=192.0.2.5"), "otherwise 451", "r 503"},
		{"not client", "match {\nnot { client = list.nets }\n}", flow("www.example", 1), "r 403", "r 503"},
		{"not address, in it", "match {\nnot { address = list.nets }\n}", flow("192.0.2.5", 1), "otherwise 451", "r 503"},
		{"not sni", "match {\nport = 443\nnot { sni = list.ads }\n}", flow("www.example", 443, "sni=x.example"), "r 403", "r 503"},
		{"not of which another test says no", "match {\nport = 1\nnot {\nhost = list.ads\nport = 80\n}\n}", flow("ads.example", 1), "r 403", "r 403"},
		{"two nots, of which one holds", "match {\nnot { host = list.ads }\nnot { port = 1 }\n}", flow("www.example", 1), "otherwise 451", "otherwise 451"},
		{"not beside a list", "match {\nhost = list.ads\nnot { client = list.nets }\n}", flow("ads.example", 1), "r 403", "r 503"},
		// on_error = "empty"
		{"soft", "match { host = list.soft }", flow("soft.example", 1), "r 403", "otherwise 451"},
		{"not soft", "match {\nport = 1\nnot { host = list.soft }\n}", flow("soft.example", 1), "otherwise 451", "r 403"},
		{"soft beside one that is not", "match { host = [list.soft, list.ads] }", flow("soft.example", 1), "r 403", "r 503"},
		// shadow
		{"shadow", "shadow = true\nmatch { host = list.ads }", flow("ads.example", 1), "otherwise 451", "otherwise 451"},
	} {
		p := loadListed(t, "rule \"r\" {\n"+x.rule+deny)
		many := loadListed(t, "rule \"r\" {\n"+x.rule+deny)
		many.few = 0 // the indexes of ports and users are asked, too
		for _, p := range []*listed{p, many} {
			if got := p.says(t, x.f); got != x.without {
				t.Errorf("%s, without lists: %s, expected %s", x.name, got, x.without)
			}
			for name, text := range with {
				p.use(t, name, text)
			}
			if got := p.says(t, x.f); got != x.there {
				t.Errorf("%s: %s, expected %s", x.name, got, x.there)
			}
		}
	}
}

// TestListedOrder: a list that is not there stops at the first rule that depends on it, not before, and not where nothing does.
func TestListedOrder(t *testing.T) {
	p := loadListed(t, `
rule "sure" {
  match { host = "sure.example" }
  via = direct
}
rule "watch" {
  shadow = true
  match { host = list.more }
  deny {}
}
rule "ads" {
  match {
    host = list.ads
    port = 443
  }
  deny {}
}
rule "web" {
  match { port = [80, 443] }
  via = direct
}
rule "nets" {
  match {
    address = list.nets
    resolve = false
  }
  deny {}
}`)
	for _, x := range []struct {
		f    *connmodel.Facts
		want string
	}{
		{flow("sure.example", 443), "sure"}, {flow("www.example", 443), "ads 503"}, {flow("www.example", 80), "web"},
		{flow("www.example", 22), "otherwise 451"}, {flow("192.0.2.1", 22), "nets 503"}, {flow("192.0.2.1", 80), "web"},
	} {
		if got := p.says(t, x.f); got != x.want {
			t.Errorf("%s: %s, expected %s", x.f.Target, got, x.want)
		}
	}
	d, _ := p.Decide(flow("www.example", 443))
	if d.Outcome != connmodel.OutcomeDeny || d.Policy != "default" || d.Rule != "ads" || d.File != "p.hcl" || d.Line == 0 || d.Route != "" || len(d.Shadow) != 0 {
		t.Errorf("%+v", d)
	}
	if r := d.Denial.Reason; !strings.HasPrefix(r, "this rule needs list.ads, and there is no copy of it yet: ") {
		t.Errorf("%q", r)
	}
	p.use(t, "more", "www.example\n") // what a shadow rule saw is told beside a refusal, too
	if d, _ := p.Decide(flow("www.example", 443)); d.Denial == nil || d.Denial.Status != 503 || len(d.Shadow) != 1 || d.Shadow[0].Rule != "watch" {
		t.Errorf("%+v", d)
	}
	p.use(t, "ads", "ads.example\n")
	if d, _ := p.Decide(flow("www.example", 443)); d.Rule != "web" || len(d.Shadow) != 1 {
		t.Errorf("%+v", d)
	}
	if d, _ := p.Decide(flow("www.example", 80)); len(d.Shadow) != 1 {
		t.Errorf("%+v", d)
	}
}

// TestListedWords holds what explanations say.
func TestListedWords(t *testing.T) {
	p := loadListed(t, `
rule "ads" {
  match { host = list.ads }
  deny {}
}
rule "both" {
  match {
    host = [list.more, "*.own.example"]
    port = 80
  }
  deny {}
}
rule "nets" {
  match {
    client = list.nets
    sni = list.more
  }
  deny {}
}
rule "far" {
  match {
    address = [list.far, "203.0.113.0/24"]
    resolve = false
  }
  deny {}
}`)
	check := func(f *connmodel.Facts, rule string, matched bool, want string) {
		t.Helper()
		if m, reason := p.step(f, rule); m != matched || !strings.Contains(reason, want) {
			t.Errorf("%s by %s: %v, %q, expected %q", f.Target, rule, m, reason, want)
		}
	}
	check(flow("ads.example", 1), "ads", false, "it depends on list.ads, of which there is no copy: nothing has been got from its URL")
	check(flow("ads.example", 1), "both", false, "not reached")
	p.use(t, "ads", "||ads.example^\n@@||good.ads.example^\nexact.example\n")
	p.use(t, "more", "*.more.example\n")
	p.use(t, "nets", "192.0.2.0/24\n")
	p.use(t, "far", "198.51.100.0/24\n")
	check(flow("ads.example", 1), "ads", true, "host ads.example is in list.ads, by its entry .ads.example")
	check(flow("a.b.ads.example", 1), "ads", true, "host a.b.ads.example is in list.ads, by its entry *.ads.example")
	check(flow("exact.example", 1), "ads", true, "host exact.example is in list.ads, by its entry exact.example")
	check(flow("good.ads.example", 1), "ads", false, "host good.ads.example is not in list.ads")
	check(flow("x.more.example", 80), "both", true, "host x.more.example is in list.more, by its entry *.more.example, port 80")
	check(flow("x.own.example", 80), "both", true, "host x.own.example is *.own.example, port 80")
	check(flow("www.example", 80), "both", false, "host www.example is not one of 2 patterns and lists (first: list.more)")
	check(flow("www.example", 1, "client=192.0.2.7", "sni=x.more.example"), "nets", true, "client 192.0.2.7 is in list.nets, sni x.more.example is in list.more, by its entry *.more.example")
	check(flow("www.example", 1, "client=192.0.2.7", "sni=www.example"), "nets", false, "sni www.example is not in list.more")
	check(flow("www.example", 1, "client=192.0.3.7", "sni=x.more.example"), "nets", false, "client 192.0.3.7 is not in list.nets")
	check(flow("198.51.100.7", 1), "far", true, "address 198.51.100.7 is in one of 2 networks and lists (first: list.far)")
	check(flow("192.0.2.1", 1), "far", false, "address 192.0.2.1 is not in one of 2 networks and lists (first: list.far)")
}

// TestListedExchange: a list is exchanged between decisions, and each is made by one set.
func TestListedExchange(t *testing.T) {
	p := loadListed(t, `
rule "ads" {
  match { host = list.ads }
  deny {}
}
rule "rest" {
  match {
    port = 443
    not { host = list.ads }
  }
  via = direct
}`)
	f := flow("www.example", 443)
	for _, x := range []struct{ text, want string }{{"", "ads 503"}, {"ads.example\n", "rest"}, {"www.example\n", "ads 403"}, {"||www.example^\n@@||www.example^\n", "rest"}, {"", "ads 503"}, {"*\n.example\n", "ads 403"}} {
		p.use(t, "ads", x.text)
		if got := p.says(t, f); got != x.want {
			t.Errorf("%q: %s, expected %s", x.text, got, x.want)
		}
	}
	// Both rules see the same set: a flow is in the list or it is not, and never comes to otherwise.
	in, out := p.lists["ads"].Ref, []*lists.Set{}
	for _, text := range []string{"www.example\n", "other.example\n"} {
		s, err := lists.Parse(strings.NewReader(text), "", lists.Options{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	in.Use(out[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d, _ := p.Decide(f); d.Rule == otherwiseName {
					t.Error("a decision has seen two sets")
					return
				}
			}
		})
	}
	for i := range 20_000 {
		in.Use(out[i&1])
	}
	close(stop)
	wg.Wait()
}

// TestListedShared: lists that two policies name are one, and a policy that names none asks none.
func TestListedShared(t *testing.T) {
	c, d := loadText(urlLists+`
policy "default" {
  rule "a" {
    match { host = list.ads }
    deny {}
  }
}
policy "guests" {
  rule "b" {
    match {
      client = list.nets
      host   = [list.ads, list.soft]
    }
    deny {}
  }
}
policy "plain" {
  rule "c" {
    match { host = "c.example" }
    deny {}
  }
}
`, Options{})
	if c == nil {
		t.Fatal(d.Error())
	}
	for name, want := range map[string]string{"default": "ads", "guests": "ads soft nets", "plain": ""} {
		var got []string
		for _, l := range c.Programs[name].live {
			got = append(got, l.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s asks the lists %q, expected %q", name, got, want)
		}
	}
	if len(c.Lists) == 0 || c.Programs["default"].live[0].ref != c.Programs["guests"].live[0].ref {
		t.Error("one list is two")
	}
}

// TestListedNamesTheRightList: of several lists that are not there, the one is named that the flow depends on.
func TestListedNamesTheRightList(t *testing.T) {
	p := loadListed(t, `
rule "shadow" {
  match { host = list.soft }
  shadow = true
  deny {}
}
rule "watched" {
  match { host = list.more }
  shadow = true
  deny {}
}
rule "two" {
  match {
    host   = [list.ads, "own.example", "*.wild*.example"]
    client = [list.nets, "10.0.0.0/8"]
    not {
      address = [list.far, "203.0.113.0/24"]
      resolve = false
    }
  }
  deny {}
}
rule "rest" {
  match { port = 2 }
  via = direct
}`)
	for _, c := range []struct {
		f    *connmodel.Facts
		want string
	}{
		{flow("www.example", 1, "client=10.0.0.7"), "list.ads"},
		{flow("own.example", 1, "client=192.0.2.7"), "list.nets"},
		{flow("a.wildly.example", 1, "client=192.0.2.7"), "list.nets"},
		{flow("www.example", 1, "client=192.0.2.7"), "list.ads"},
		{flow("192.0.2.9", 1, "client=10.0.0.7"), "list.ads"},
	} {
		d, _ := p.Decide(c.f)
		if d == nil || d.Denial == nil || d.Denial.Status != 503 || !strings.Contains(d.Denial.Reason, c.want+",") {
			t.Errorf("%s: %+v, expected %s", c.f.Target.Host, d, c.want)
		}
	}
	p.use(t, "ads", "192.0.2.9\n")
	if d, _ := p.Decide(flow("192.0.2.9", 1, "client=10.0.0.7")); d.Denial == nil || !strings.Contains(d.Denial.Reason, "list.far,") {
		t.Errorf("%+v", d)
	}
	// a shadow rule says so also when a later one takes the flow
	if m, reason := p.step(flow("203.0.113.9", 2, "client=192.0.2.7"), "watched"); m || !strings.Contains(reason, "depends on list.more") {
		t.Errorf("%v, %q", m, reason)
	}
}
