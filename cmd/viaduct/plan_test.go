package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
)

// planFor joins a policy as plan does.
func planFor(t testing.TB, src string) *planSide {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.hcl")
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, diags := policies.Load(policies.Options{Paths: []string{path}, Lenient: true})
	if cfg == nil {
		t.Fatal(diags.Error())
	}
	rc, table, _, _, err := wireUp(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return newPlanSide(cfg, rc)
}

const planBase = `
listener "desk" {
  address = "127.0.0.1:3128"
}
listener "lan" {
  address = "127.0.0.1:3129"
  protocols = ["http"]
}
listener "mail" {
  address = "127.0.0.1:2525"
  protocols = ["forward"]
  target = "mail.example:25"
}
upstream "a" {
  url = "http://192.0.2.1:8080"
}
upstream "b" {
  url = "http://192.0.2.2:8080"
}
pool "p" {
  members = [upstream.a, upstream.b]
}
pac "script" {
  url = "http://wpad.example/proxy.pac"
}
`

// planFlow is a tunnel that was decided so, at some time, by some client.
func planFlow(host string, was string) *connmodel.Flow {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	f := &connmodel.Flow{
		ID: connmodel.NewID(at), Session: connmodel.NewID(at), Generation: 1, Target: connmodel.Address{Host: host, Port: 443}, Protocol: connmodel.ProtocolConnect,
		Client: &connmodel.Client{Connection: connmodel.Connection{Peer: netip.MustParseAddrPort("10.0.0.1:4711")}, Listener: "desk", User: "ann"},
		Start:  at, Decided: at, End: at.Add(time.Second), Up: 100, Down: 1000, Reason: connmodel.CloseClient,
		Decision: &connmodel.Decision{Generation: 1, Policy: "default", Rule: "was", File: "old.hcl", Line: 3, Outcome: connmodel.OutcomeVia, Route: was},
	}
	switch was {
	case "deny":
		f.Decision.Outcome, f.Decision.Route, f.Decision.Denial = connmodel.OutcomeDeny, "", &connmodel.Denial{Status: 403}
	case "":
		f.Decision = nil
	}
	return f
}

// planSays replays one flow and returns what is said of it in one line.
func planSays(t testing.TB, next, old *planSide, f *connmodel.Flow) string {
	t.Helper()
	var back connmodel.Flow
	if err := json.Unmarshal(f.AppendJSON(nil), &back); err != nil {
		t.Fatal(err)
	}
	p := newPlanReplay(next, old)
	p.take(&back)
	tally := p.tally()
	switch {
	case tally.notAsked == 1:
		return "not asked"
	case tally.same == 1:
		return fmt.Sprintf("same, other rule %d", tally.otherRule)
	}
	for _, k := range planTitles {
		for _, g := range tally.sorted(k.kind) {
			j := g.report(3)
			return strings.TrimSuffix(k.title+": "+j.headline(k.kind)+"; "+j.rules(k.kind), "; ")
		}
	}
	return "nothing"
}

func TestPlanSays(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		policy string // its rules
		flow   func() *connmodel.Flow
		want   string
	}{
		"same":          {"otherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") }, "same, other rule 1"},
		"the same rule": {"rule \"was\" {\nvia = direct\n}", func() *connmodel.Flow { return planFlow("a.example", "direct") }, "same, other rule 0"},
		"denied": {"rule \"no\" {\nmatch { host = \"a.example\" }\ndeny {}\n}\notherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`newly refused: via direct  ->  refused; by rule "no" (FILE:27), before rule "was" (old.hcl:3)`},
		"no rule": {"rule \"some\" {\nmatch { host = \"b.example\" }\nvia = direct\n}", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`newly refused: via direct  ->  refused; by no rule of policy default, before rule "was" (old.hcl:3)`},
		"allowed": {"otherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "deny") }, `newly let through: refused  ->  via direct; by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"moved":   {"otherwise { via = pool.p }", func() *connmodel.Flow { return planFlow("a.example", "direct") }, `moved: via direct  ->  via pool.p; by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"to a server": {"rule \"s\" {\nvia = direct\nserver = \"10.9.9.9:8443\"\n}", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`moved: via direct  ->  via direct to 10.9.9.9:8443; by rule "s" (FILE:27), before rule "was" (old.hcl:3)`},
		"TLS": {"rule \"s\" {\nvia = direct\ntls {\nmode = \"upgrade\"\n}\n}", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`moved: via direct  ->  via direct, tls upgrade; by rule "s" (FILE:27), before rule "was" (old.hcl:3)`},
		"TLS no more": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "direct")
			f.Decision.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSIntercept}
			return f
		}, `moved: via direct, tls intercept  ->  via direct; by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"addresses": {"rule \"net\" {\nmatch { address = \"192.0.2.0/24\" }\nvia = upstream.a\n}\notherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`cannot be told: rule "net" (FILE:27) asks for what the record does not know: the addresses of the target; before via direct, by rule "was" (old.hcl:3)`},
		"addresses either way": {"rule \"net\" {\nmatch { address = \"192.0.2.0/24\" }\nvia = direct\n}\notherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			"same, other rule 1"},
		"addresses known": {"rule \"net\" {\nmatch { address = \"192.0.2.0/24\" }\nvia = upstream.a\n}\notherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "direct")
			f.Gathered = &connmodel.Gathered{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
			return f
		}, `moved: via direct  ->  via upstream.a; by rule "net" (FILE:27), before rule "was" (old.hcl:3)`},
		"reach": {"rule \"up\" {\nwhen = network.reachable(\"192.0.2.77:80\")\nvia = upstream.a\n}\notherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`cannot be told: rule "up" (FILE:27) asks for what the record does not know: what could be reached then (network.reachable); before via direct, by rule "was" (old.hcl:3)`},
		"hello": {"rule \"s\" {\nmatch { sni = \"b.example\" }\ndeny {}\n}\notherwise { via = direct }", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`cannot be told: rule "s" (FILE:27) asks for what the record does not know: the ClientHello in the tunnel; before via direct, by rule "was" (old.hcl:3)`},
		"header": {"rule \"h\" {\nmatch { header = { \"x-team\" = \"blue\" } }\ndeny {}\n}\notherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "direct")
			f.Protocol, f.Request = connmodel.ProtocolHTTP, &connmodel.Request{Method: "GET", Scheme: "http", Host: "a.example", Path: "/"}
			return f
		}, `cannot be told: rule "h" (FILE:27) asks for what the record does not know: header fields of the request that were not kept; before via direct, by rule "was" (old.hcl:3)`},
		"list": {"rule \"l\" {\nmatch { host = list.ads }\ndeny {}\n}\notherwise { via = direct }\n}\ngateway {\nstate = \"" + dir + "\"\n}\nlist \"ads\" {\nurl = \"http://lists.example/ads\"\ntype = \"hosts\"\n",
			func() *connmodel.Flow { return planFlow("a.example", "direct") }, `cannot be told: rule "l" (FILE:27) needs list.ads, of which there is no copy here; before via direct, by rule "was" (old.hcl:3)`},
		"gone": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "direct")
			f.Client.Listener = "old"
			return f
		}, `listeners that are gone: old`},
		"at the door": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "direct")
			f.Client.Listener, f.Protocol = "lan", connmodel.ProtocolSOCKS5
			return f
		}, `newly refused: via direct  ->  refused: the listener does not speak socks5; before rule "was" (old.hcl:3)`},
		"another target": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("mx.example", "direct")
			f.Client.Listener, f.Protocol, f.Target.Port = "mail", connmodel.ProtocolForward, 25
			return f
		}, `moved: via direct  ->  via direct to mail.example:25; by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"loopback": {"otherwise { via = direct }", func() *connmodel.Flow { return planFlow("127.0.0.1", "direct") },
			`newly refused: via direct  ->  refused: the destination is one that a rule must list itself (loopback, link-local, metadata, the gateway); by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"loopback before": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("127.0.0.1", "direct")
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Message: "refused: 127.0.0.1 is a loopback address"}
			return f
		}, "same, other rule 1"},
		"loopback of a name before": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("evil.example", "direct")
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Message: "refused: 127.0.0.1 is a loopback address"}
			return f
		}, "same, other rule 1"},
		"loopback opened": {"rule \"l\" {\nmatch { address = \"127.0.0.0/8\" }\nvia = direct\n}", func() *connmodel.Flow {
			f := planFlow("127.0.0.1", "direct")
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Message: "refused: 127.0.0.1 is a loopback address"}
			return f
		}, `newly let through: refused: the destination is one that a rule must list itself (loopback, link-local, metadata, the gateway)  ->  via direct; by rule "l" (FILE:27), before rule "was" (old.hcl:3)`},
		"misdirected": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("other.example", "direct")
			f.Request = &connmodel.Request{Method: "GET", Scheme: "https", Host: "other.example", Path: "/", Tunnel: connmodel.NewID(f.Start), Within: connmodel.Address{Host: "front.example", Port: 443}}
			return f
		}, `newly refused: via direct  ->  refused: the request is for another host than its tunnel (421); by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"misdirected before": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("other.example", "direct")
			f.Request = &connmodel.Request{Method: "GET", Scheme: "https", Host: "other.example", Path: "/", Tunnel: connmodel.NewID(f.Start), Within: connmodel.Address{Host: "front.example", Port: 443}}
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 421, CodeOf: "http"}
			return f
		}, "same, other rule 1"},
		"could not be resolved": {"otherwise { via = direct }", func() *connmodel.Flow {
			f := planFlow("a.example", "")
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseResolve, Side: connmodel.SideViaduct, Kind: connmodel.KindDNS}
			return f
		}, `newly let through: refused: a rule asked for what could not be found out  ->  via direct; by rule "otherwise" (FILE:27)`},
		"not asked": {"otherwise {\ndeny {}\n}", func() *connmodel.Flow {
			f := planFlow("a.example", "")
			f.Error = &connmodel.ConnError{Phase: connmodel.PhaseAuth, Side: connmodel.SideClient, Kind: connmodel.KindAuth, Code: 407}
			return f
		}, "not asked"},
		"a proxy less": {"otherwise { via = pool.p }", func() *connmodel.Flow {
			f := planFlow("a.example", "pool.p")
			f.Server = &connmodel.Server{Via: "pool.p", Route: "c"}
			return f
		}, `moved: via pool.p, by c  ->  via pool.p, by others: c is not among its ways any more; by rule "otherwise" (FILE:27), before rule "was" (old.hcl:3)`},
		"a member": {"otherwise { via = pool.p }", func() *connmodel.Flow {
			f := planFlow("a.example", "pool.p")
			f.Server = &connmodel.Server{Via: "pool.p", Route: "b"}
			return f
		}, "same, other rule 1"},
		"chain in place": {"rule \"c\" {\nvia = [pool.p, upstream.b]\n}", func() *connmodel.Flow {
			f := planFlow("a.example", "chain.default/c")
			f.Server = &connmodel.Server{Via: "chain.default/c", Route: "a > b"}
			return f
		}, "same, other rule 1"},
		"chain in place, other hops": {"rule \"c\" {\nvia = [upstream.b, upstream.a]\n}", func() *connmodel.Flow {
			f := planFlow("a.example", "chain.default/c")
			f.Server = &connmodel.Server{Via: "chain.default/c", Route: "a > b"}
			return f
		}, `moved: via chain.default/c, by a > b  ->  via chain.default/c, by others: a > b is not among its ways any more; by rule "c" (FILE:27), before rule "was" (old.hcl:3)`},
		"script": {"otherwise { via = pac.script }", func() *connmodel.Flow {
			f := planFlow("a.example", "pac.script")
			f.Server = &connmodel.Server{Via: "pac.script", Route: "whatever it said"}
			return f
		}, "same, other rule 1"},
		"time": {"rule \"t\" {\nmatch { time = \"tue 10:00-11:00\" }\nvia = upstream.a\n}\notherwise { via = direct }\n}\ngateway {\ntimezone = \"UTC\"\n", func() *connmodel.Flow { return planFlow("a.example", "direct") },
			`moved: via direct  ->  via upstream.a; by rule "t" (FILE:27), before rule "was" (old.hcl:3)`},
	} {
		rules := c.policy
		s := planFor(t, planBase+"policy \"default\" {\n"+rules+"\n}\n")
		got := strings.ReplaceAll(planSays(t, s, nil, c.flow()), s.cfg.Files[0], "FILE")
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// Two policies on the same traffic: what was really done does not matter.
func TestPlanAgainst(t *testing.T) {
	old := planFor(t, planBase+"policy \"default\" {\nrule \"c\" {\nmatch { host = \"c.example\" }\nvia = [upstream.a, upstream.b]\n}\nrule \"same name\" {\nmatch { host = \"d.example\" }\nvia = [upstream.a, upstream.b]\n}\nrule \"n\" {\nmatch { address = \"192.0.2.0/24\" }\nvia = direct\n}\notherwise { via = upstream.a }\n}\n")
	next := planFor(t, planBase+"policy \"default\" {\nrule \"renamed\" {\nmatch { host = \"c.example\" }\nvia = [upstream.a, upstream.b]\n}\nrule \"same name\" {\nmatch { host = \"d.example\" }\nvia = [upstream.b, upstream.a]\n}\notherwise { via = upstream.b }\n}\n")
	for host, want := range map[string]string{
		"c.example": "same, other rule 1",
		"d.example": `moved: via chain.default/same name, by upstream.a > upstream.b  ->  via chain.default/same name, by upstream.b > upstream.a; by rule "same name" (NEW:31), before rule "same name" (OLD:31)`,
		"a.example": `cannot be told: rule "n" (OLD:35), of what it is compared with, asks for what the record does not know: the addresses of the target`,
		"10.1.1.1":  `moved: via upstream.a  ->  via upstream.b; by rule "otherwise" (NEW:35), before rule "otherwise" (OLD:39)`,
		"192.0.2.9": `moved: via direct  ->  via upstream.b; by rule "otherwise" (NEW:35), before rule "n" (OLD:35)`,
	} {
		got := planSays(t, next, old, planFlow(host, "deny"))
		if got = strings.NewReplacer(old.cfg.Files[0], "OLD", next.cfg.Files[0], "NEW").Replace(got); got != want {
			t.Errorf("%s:\n got %s\nwant %s", host, got, want)
		}
	}
}

// What is counted is the same however many count, and bounded.
func TestPlanCounts(t *testing.T) {
	s := planFor(t, planBase+"policy \"default\" {\nrule \"no\" {\nmatch { port = 443 }\ndeny {}\n}\notherwise { via = upstream.a }\n}\n")
	const n = 20_000
	p := newPlanReplay(s, nil)
	done := make(chan bool)
	for w := range 4 {
		go func() {
			for i := w; i < n; i += 4 {
				f := planFlow(fmt.Sprintf("h%d.example", i%1000), "direct")
				f.Client.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
				f.Client.User = fmt.Sprint("u", i%10)
				f.Generation = uint64(i % 3)
				if i%2 == 1 {
					f.Target.Port = 80
				}
				f.Decision.Rule = fmt.Sprint("was", i%1500)
				p.take(f)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	tally := p.tally()
	r := tally.report(5, 2)
	if r.Flows != n || r.Denied.Flows != n/2 || r.Moved.Flows != n/2 || r.Denied.Up != 100*n/2 || r.Denied.Down != 1000*n/2 || r.Denied.Users != 5 || !r.Changes || len(r.Generations) != 3 {
		t.Errorf("%+v", r)
	}
	if len(r.Denied.Groups) != 5 || r.Denied.MoreGroups != 745 || len(r.Denied.Groups[0].Examples) != 2 || r.Denied.Groups[0].Flows < r.Denied.Groups[4].Flows {
		t.Errorf("groups %+v", r.Denied.Groups)
	}
	if !r.Denied.MoreClients || r.Denied.Clients != maxPlanCounted {
		t.Errorf("%d clients, more %v", r.Denied.Clients, r.Denied.MoreClients)
	}
	many := newPlanReplay(s, nil)
	for i := range 3 * maxPlanGroups {
		f := planFlow("a.example", "direct")
		f.Decision.Rule = fmt.Sprint("was", i)
		many.take(f)
	}
	if r = many.tally().report(2000, 1); len(r.Denied.Groups) != maxPlanGroups || r.Denied.MoreGroups != 1 || r.Denied.Flows != 3*maxPlanGroups {
		t.Errorf("%d groups, %d more, %d flows", len(r.Denied.Groups), r.Denied.MoreGroups, r.Denied.Flows)
	}
	one := newPlanReplay(s, nil)
	for i := range 5000 {
		one.take(planFlow(fmt.Sprintf("%d.example", i), "direct"))
	}
	g := one.tally().sorted(planDenied)[0]
	if j := g.report(2); j.moreWords() != "and more than 254 other targets" {
		t.Error(j.moreWords())
	}
	if len(g.targets) != maxPlanTargets || !g.moreTargets || g.flows != 5000 {
		t.Errorf("%d targets", len(g.targets))
	}
}

// Nothing that a client says reaches a terminal as it is.
func TestPlanIsPrintable(t *testing.T) {
	s := planFor(t, planBase+"policy \"default\" {\notherwise {\ndeny {}\n}\n}\n")
	p := newPlanReplay(s, nil)
	f := planFlow("\x1b[2Jevil\u202e.example", "direct")
	f.Client.User, f.Decision.Rule, f.Decision.Policy, f.Decision.Route = "\x1b]0;x\a", "\x9b31m", "\n", "via\x1b"
	p.take(f)
	var text bytes.Buffer
	r := p.tally().report(3, 3)
	r.Journal, r.Notes = "\x1b[1m", []string{"\x1b[1m"}
	if err := r.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, c := range text.String() {
		if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u202e' {
			t.Fatalf("%q in\n%q", c, text.String())
		}
	}
}

// planJournal writes flows into a journal.
func planJournal(t testing.TB, flows func(yield func(*connmodel.Flow) bool)) *journal.Reader {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	j, err := journal.Open(journal.Options{Dir: dir, Keep: -1, KeepSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for f := range flows {
		for j.Status().Queued > 8000 {
			time.Sleep(time.Millisecond)
		}
		j.Record(f)
		n++
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if s := j.Status(); s.Written != n || s.Dropped != 0 {
		t.Fatalf("%d of %d records were written, %d dropped", s.Written, n, s.Dropped)
	}
	r, err := journal.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// planFlows are n flows of an office: many clients, users and hosts, four ways.
func planFlows(n int) func(yield func(*connmodel.Flow) bool) {
	routes := []string{"direct", "pool.p", "upstream.a", "deny"}
	return func(yield func(*connmodel.Flow) bool) {
		base := time.Now().Add(-6 * 24 * time.Hour)
		for i := range n {
			f := planFlow(fmt.Sprintf("host%d.site%d.example", i*7919%5000, i%97), routes[i%4])
			f.Start = base.Add(time.Duration(i) * 5 * time.Second / 10)
			f.End = f.Start.Add(time.Second)
			f.ID, f.Session = connmodel.NewID(f.Start), connmodel.NewID(f.Start)
			f.Client.ID = f.Session
			f.Client.User = fmt.Sprint("user", i%300)
			f.Client.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, byte(i % 50), byte(i % 251)}), uint16(i%60000+1024))
			if i%4 < 3 {
				f.Server = &connmodel.Server{Connection: connmodel.Connection{ID: f.Session, Address: f.Target, Start: f.Start, TCPSetup: f.Start, End: f.End}, Via: routes[i%4], Route: []string{"direct", "a", "a"}[i%4], ResolvedBy: "upstream",
					Attempts: []connmodel.Attempt{{Number: 1, Route: "a", Start: f.Start, End: f.Start, Hops: []connmodel.HopResult{{Index: 1, Upstream: "a", Protocol: "http", Address: f.Target, Start: f.Start}}}}}
			}
			if i%5 == 0 {
				f.Protocol, f.Target.Port = connmodel.ProtocolHTTP, 80
				f.Request = &connmodel.Request{Method: "GET", Scheme: "http", Host: f.Target.Host, Path: fmt.Sprint("/page/", i), Start: f.Start}
				f.Gathered = &connmodel.Gathered{Headers: []connmodel.HeaderSample{{Name: "user-agent", Values: []string{"Mozilla/5.0 (X11; Linux x86_64)"}}}}
			}
			if i%9 == 0 {
				f.Gathered = &connmodel.Gathered{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}}
			}
			if !yield(f) {
				return
			}
		}
	}
}

// planPolicy is a policy of some size.
func planPolicy(rules int) string {
	var b strings.Builder
	b.WriteString(planBase + "policy \"default\" {\n")
	for i := range rules {
		fmt.Fprintf(&b, "rule \"r%d\" {\nmatch { host = [\"*.site%d.example\", \"x%d.example\"] }\nvia = %s\n}\n", i, i*13, i, []string{"direct", "pool.p", "upstream.a", "upstream.b"}[i%4])
	}
	b.WriteString("rule \"agent\" {\nmatch { header = { \"user-agent\" = \"curl*\" } }\ndeny {}\n}\nrule \"net\" {\nmatch { address = \"192.0.2.0/25\" }\nvia = upstream.b\n}\notherwise { via = direct }\n}\n")
	return b.String()
}

// The journal gives back, in its light form, all that plan looks at: a replay of it says what one of the flows themselves says.
func TestPlanOfAJournal(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 3_000
	}
	s := planFor(t, planPolicy(50))
	direct := newPlanReplay(s, nil)
	r := planJournal(t, func(yield func(*connmodel.Flow) bool) {
		for f := range planFlows(n) {
			direct.take(f)
			if !yield(f) {
				return
			}
		}
	})
	replay := newPlanReplay(s, nil)
	if err := r.Each(t.Context(), journal.Query{Light: true, Parallel: true}, replay.take); err != nil {
		t.Fatal(err)
	}
	got, want := replay.tally().report(1000, 0), direct.tally().report(1000, 0)
	for _, x := range []*planReport{got, want} {
		for _, part := range x.parts() {
			for i := range part.Groups {
				part.Groups[i].MoreTargets, part.Groups[i].of = 0, nil
				part.Groups[i].First, part.Groups[i].Last = time.Time{}, time.Time{}
			}
		}
		x.First, x.Last = nil, nil
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) || got.Flows != int64(n) || got.Denied.Flows+got.Moved.Flows == 0 || got.Open.Flows == 0 {
		t.Errorf("the journal says\n%s\nthe flows\n%s", a, b)
	}
}

// BenchmarkPlan is what plan does with each record of a journal: go test -run - -bench Plan ./cmd/viaduct. With VIADUCT_PLAN_RECORDS=1000000 it is
// the run that the manual speaks of.
func BenchmarkPlan(b *testing.B) {
	n := 50_000
	fmt.Sscan(os.Getenv("VIADUCT_PLAN_RECORDS"), &n)
	s := planFor(b, planPolicy(1000))
	r := planJournal(b, planFlows(n))
	b.ResetTimer()
	for b.Loop() {
		replay := newPlanReplay(s, nil)
		if err := r.Each(b.Context(), journal.Query{Light: true, Parallel: true}, replay.take); err != nil {
			b.Fatal(err)
		}
		if replay.tally().flows != int64(n) {
			b.Fatal("flows are missing")
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func TestPlanBar(t *testing.T) {
	now := time.Now()
	b := &planBar{replay: newPlanReplay(nil, nil), since: now.Add(-time.Hour), until: now, began: now}
	b.replay.done.Store(1234567)
	b.replay.at.Store(now.Add(-15 * time.Minute).UnixNano())
	if got, want := b.line(now.Add(10*time.Second)), "replaying [=======.......................]  25 %  1,234,567 flows  123,456/s"; got != want {
		t.Errorf("%s", got)
	}
	b.replay.at.Store(now.Add(-2 * time.Hour).UnixNano())
	if got := b.line(now); !strings.Contains(got, "100 %") {
		t.Errorf("%s", got)
	}
}
