package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies/lists"
)

// liveNames are the lists of the policies that this file makes, and whether they are of networks.
var liveNames = []struct {
	name     string
	networks bool
}{{"a", false}, {"b", false}, {"n", true}, {"m", true}}

var (
	liveHosts    = []string{"a.example", "b.example", "x.a.example", "y.x.a.example", "c.example", "192.0.2.7", "10.1.2.3", "2001:db8::7", "64:ff9b::c000:207"}
	liveEntries  = []string{"a.example", ".b.example", "*.a.example", ".x.a.example", "c.example", "192.0.2.7", "2001:db8::7"}
	liveNetworks = []string{"192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "198.51.100.0/24"}
	liveAddrs    = []string{"192.0.2.7", "10.1.2.3", "2001:db8::7", "198.51.100.9", "64:ff9b::a01:203"}
)

type liveMaker struct{ r *rand.Rand }

func (m liveMaker) one(of []string) string { return of[m.r.IntN(len(of))] }

func (m liveMaker) some(of []string) string {
	var out []string
	for range 1 + m.r.IntN(3) {
		out = append(out, m.one(of))
	}
	return strings.Join(out, "\n") + "\n"
}

// values is the right side of a test: lists, what is written out, or both.
func (m liveMaker) values(networks bool) string {
	var out []string
	for _, l := range liveNames {
		if l.networks == networks && m.r.IntN(2) == 0 {
			out = append(out, "list."+l.name)
		}
	}
	if len(out) == 0 || m.r.IntN(3) == 0 {
		own := []string{"a.example", "*.b.example", "x.*.example"}
		if networks {
			own = liveNetworks
		}
		out = append(out, fmt.Sprintf("%q", m.one(own)))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (m liveMaker) tests() string {
	var b strings.Builder
	has := func(n int) bool { return m.r.IntN(n) == 0 }
	if has(2) {
		fmt.Fprintf(&b, "host = %s\n", m.values(false))
	}
	if has(3) {
		fmt.Fprintf(&b, "client = %s\n", m.values(true))
	}
	if has(3) || b.Len() == 0 {
		fmt.Fprintf(&b, "address = %s\n", m.values(true))
		if has(2) {
			b.WriteString("resolve = false\n")
		}
	}
	if has(5) {
		fmt.Fprintf(&b, "sni = %s\n", m.values(false))
	}
	if has(4) {
		b.WriteString("port = 443\n")
	}
	return b.String()
}

func (m liveMaker) policy() string {
	var b strings.Builder
	for i := range 1 + m.r.IntN(6) {
		fmt.Fprintf(&b, "rule \"r%d\" {\n", i)
		for range 1 + m.r.IntN(2) {
			fmt.Fprintf(&b, "match {\n%s", m.tests())
			if m.r.IntN(3) == 0 {
				fmt.Fprintf(&b, "not {\n%s}\n", m.tests())
			}
			b.WriteString("}\n")
		}
		if m.r.IntN(6) == 0 {
			b.WriteString("shadow = true\n")
		}
		if m.r.IntN(5) == 0 {
			b.WriteString("when = target.port == 80 || length(target.addresses) > 1\n")
		}
		b.WriteString([]string{"via = direct\n}\n", "deny {}\n}\n"}[m.r.IntN(2)])
	}
	return "policy \"default\" {\n" + b.String() + "otherwise {\ndeny { status = 451 }\n}\n}\nlistener \"desk\" { address = \"127.0.0.1:3128\" }\n"
}

// load makes a program of a policy whose lists are files, or come from URLs.
func (m liveMaker) load(t *testing.T, policy string, text map[string]string, remote bool) (*Program, []List) {
	t.Helper()
	var b strings.Builder
	for _, l := range liveNames {
		kind := "hosts"
		if l.networks {
			kind = "networks"
		}
		from := fmt.Sprintf("file = %q", l.name+".txt")
		if remote {
			from = fmt.Sprintf("url = %q", "https://lists.example/"+l.name)
		}
		fmt.Fprintf(&b, "list %q {\n%s\ntype = %q\n}\n", l.name, from, kind)
	}
	cfg, diags := Load(Options{Source: map[string][]byte{"a.hcl": []byte(b.String() + policy)}, Generation: 1, ReadFile: func(path string) ([]byte, error) {
		if s, ok := text[strings.TrimSuffix(filepath.Base(path), ".txt")]; ok {
			return []byte(s), nil
		}
		return nil, fs.ErrNotExist
	}})
	if cfg == nil {
		t.Fatalf("%v\n%s", diags.Err(), policy)
	}
	return cfg.Programs["default"], cfg.Lists
}

func (m liveMaker) facts() *connmodel.Facts {
	host := m.one(liveHosts)
	f := &connmodel.Facts{Target: connmodel.Address{Host: host, Port: []uint16{80, 443}[m.r.IntN(2)]}, Protocol: connmodel.ProtocolConnect, Listener: "desk", Time: time.Now()}
	if m.r.IntN(5) > 0 {
		f.Client = netip.AddrPortFrom(netip.MustParseAddr(m.one(liveAddrs)), 5)
	}
	f.TargetIP = f.Target.IP()
	if !f.TargetIP.IsValid() && m.r.IntN(2) == 0 {
		f.Have |= connmodel.NeedAddresses
		for range m.r.IntN(3) {
			f.Addresses = append(f.Addresses, netip.MustParseAddr(m.one(liveAddrs)))
		}
	}
	if m.r.IntN(2) == 0 {
		f.Have |= connmodel.NeedHello | connmodel.NeedRequest
		if m.r.IntN(2) == 0 {
			f.Hello = &connmodel.ClientHello{SNI: m.one(liveHosts[:5])}
		}
	}
	return f
}

// fill gives lists what text says.
func fill(t *testing.T, all []List, text map[string]string, skip map[string]bool) {
	t.Helper()
	for i := range all {
		l := &all[i]
		if skip[l.Name] {
			l.Ref.Use(nil)
			continue
		}
		set := &lists.Set{}
		if body := text[l.Name]; body != "" {
			var err error
			if set, err = lists.Parse(strings.NewReader(body), "", l.Parse); err != nil {
				t.Fatal(err)
			}
		}
		set.Name = l.Name
		l.Ref.Use(set)
	}
}

// sameDecision holds two decisions against each other; where they stand in the files does not matter.
func sameDecision(a, b *connmodel.Decision) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Line, y.Line = 0, 0
	for i := range x.Shadow {
		x.Shadow[i].Line = 0
	}
	for i := range y.Shadow {
		y.Shadow[i].Line = 0
	}
	return reflect.DeepEqual(x, y)
}

// TestLiveListsAgree: a list that changes takes what the same entries in a file take, whatever tests stand beside it; and what is decided while lists
// are not there, other than the refusal that says so, is what would be decided whatever came to be in them.
func TestLiveListsAgree(t *testing.T) {
	rounds := 80
	if testing.Short() {
		rounds = 25
	}
	refused, decided := 0, 0
	for seed := range uint64(rounds) {
		m := liveMaker{rand.New(rand.NewPCG(7, seed))}
		policy, text := m.policy(), map[string]string{}
		for _, l := range liveNames {
			if text[l.name] = m.some(liveEntries); l.networks {
				text[l.name] = m.some(liveNetworks)
			}
		}
		filed, _ := m.load(t, policy, text, false)
		live, all := m.load(t, policy, nil, true)
		if m.r.IntN(2) == 0 { // the indexes of ports, users and listeners are asked, too
			filed.few, live.few = 0, 0
		}
		for range 30 {
			f := m.facts()
			say := func(what string, a, b any) {
				t.Fatalf("seed %d: %s: %+v and %+v\nfacts %+v\nlists %q\n%s", seed, what, a, b, f, text, policy)
			}
			fill(t, all, text, nil)
			want, wantNeed := filed.Decide(f)
			got, need := live.Decide(f)
			if need != wantNeed || !sameDecision(got, want) {
				say("file and URL", fmt.Sprintf("%+v %v", want, wantNeed), fmt.Sprintf("%+v %v", got, need))
			}
			if e, n, _ := live.Explain(f); n != need || !sameDecision(e, got) {
				say("explained and decided", e, got)
			}
			absent := map[string]bool{}
			for _, l := range liveNames {
				absent[l.name] = m.r.IntN(2) == 0
			}
			fill(t, all, text, absent)
			blind, blindNeed := live.Decide(f)
			if e, n, _ := live.Explain(f); n != blindNeed || !sameDecision(e, blind) {
				say("explained and decided without lists", e, blind)
			}
			if blind == nil {
				continue
			}
			if d := blind.Denial; d != nil && strings.HasPrefix(d.Reason, "this rule needs list.") {
				refused++
				continue
			}
			decided++
			for range 6 {
				other := map[string]string{}
				for _, l := range liveNames {
					switch other[l.name] = text[l.name]; {
					case !absent[l.name]:
					case m.r.IntN(3) == 0:
						other[l.name] = ""
					case l.networks:
						other[l.name] = m.some(liveNetworks)
					default:
						other[l.name] = m.some(liveEntries)
					}
				}
				fill(t, all, other, nil)
				seen, n := live.Decide(f)
				if n != 0 || seen.Rule != blind.Rule || seen.Outcome != blind.Outcome {
					say(fmt.Sprintf("decided without lists %v, and with %q", absent, other), blind, fmt.Sprint(seen, n))
				}
			}
		}
	}
	if refused < 100 || decided < 100 {
		t.Error(errors.New("too little was asked"), refused, decided)
	}
}
