package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// mixed is three proxies, of which p2 stands outside of scripts, and choosers "pac.x" and "pac.y".
type mixed struct {
	*farm
	x, y *oracle
}

func newMixed(t *testing.T, edit func(*Config)) (*mixed, *Table) {
	f := newFarm(t, 3, PoolSpec{}, ut.Options{})
	m := &mixed{f, &oracle{}, &oracle{}}
	f.config.Pools = []PoolSpec{{Name: "mix", Members: []string{"pac.x", "upstream.p2"}}}
	f.config.Chains = []ChainSpec{{Name: "jump", Hops: []string{"pac.x", "upstream.p2"}}, {Name: "last", Hops: []string{"upstream.p2", "pac.x"}}}
	f.config.Dynamic = []DynamicSpec{{Name: "pac.x", Chooser: m.x, Undeclared: true}, {Name: "pac.y", Chooser: m.y, Undeclared: true}}
	if edit != nil {
		edit(&f.config)
	}
	return m, table(t, f.config)
}

func (m *mixed) dial(tab *Table, route string) (tried []string, err *connmodel.ConnError) {
	r := recorder(m.to)
	c, err := tab.Dial(context.Background(), &Request{Route: route, Target: m.to}, r)
	if c != nil {
		c.Close()
	}
	if s := r.Snapshot().Server; s != nil {
		for i := range s.Attempts {
			tried = append(tried, s.Attempts[i].Route)
		}
	}
	return tried, err
}

// TestChoiceInPool: the entries of a script in their order, then the next member.
func TestChoiceInPool(t *testing.T) {
	m, tab := newMixed(t, nil)
	dead := addr(t, ut.Refused(t))
	gone := "http://" + dead.String()
	for _, x := range []struct {
		name  string
		list  []Candidate
		err   error
		tried string
	}{
		{"the first entry", []Candidate{proxyAt(m.at(0), "http"), proxyAt(m.at(1), "http")}, nil, "p0"},
		{"the second entry", []Candidate{proxyAt(dead, "http"), proxyAt(m.at(1), "http")}, nil, gone + ", p1"},
		{"all entries, then the next member", []Candidate{proxyAt(dead, "http"), proxyAt(dead, "https"), proxyAt(dead, "socks5")}, nil, gone + ", https://" + dead.String() + ", socks5://" + dead.String() + ", p2"},
		{"no entry", nil, nil, "p2"},
		{"the script fails", nil, errors.New("it threw"), "p2"},
		{"direct", []Candidate{{Direct: true}}, nil, "direct"},
	} {
		m.x.say(x.list, x.err)
		asked := m.x.asked.Load()
		tried, err := m.dial(tab, "pool.mix")
		if got := strings.Join(tried, ", "); err != nil || got != x.tried {
			t.Errorf("%s: tried %s (%v), want %s", x.name, got, err, x.tried)
		}
		if n := m.x.asked.Load() - asked; n != 1 {
			t.Errorf("%s: the script was asked %d times", x.name, n)
		}
	}
	m.x.say(nil, errors.New("it threw"))
	c, _ := tab.Choose(context.Background(), &Request{Route: "pool.mix", Target: m.to})
	if c.Err != nil || len(c.Asked) != 1 || c.Asked[0].OnError != OnErrorNext || len(c.Hops) != 1 || len(c.Hops[0].Members) != 1 {
		t.Errorf("%+v", c)
	}
}

// TestChoiceKnownTwice: a proxy that the script named and that failed is not tried again because it is the next member, too.
func TestChoiceKnownTwice(t *testing.T) {
	m, tab := newMixed(t, func(c *Config) { c.Pools[0].Members = []string{"pac.x", "upstream.p0", "upstream.p2"} })
	m.proxies[0].Close()
	m.x.say([]Candidate{proxyAt(m.at(0), "http")}, nil)
	if tried, err := m.dial(tab, "pool.mix"); err != nil || strings.Join(tried, ", ") != "p0, p2" {
		t.Errorf("tried %v: %v", tried, err)
	}
}

// TestChoiceHealth: what is known of the entries, and of the script as a member, outlives flows whose answers differ.
func TestChoiceHealth(t *testing.T) {
	m, tab := newMixed(t, nil)
	m.proxies[0].Close()
	m.x.say([]Candidate{proxyAt(m.at(0), "http")}, nil)
	for range defaultEjectFailures {
		if tried, err := m.dial(tab, "pool.mix"); err != nil || len(tried) != 2 {
			t.Fatalf("tried %v: %v", tried, err)
		}
	}
	for _, list := range [][]Candidate{{proxyAt(m.at(0), "http")}, {proxyAt(m.at(0), "http"), proxyAt(m.at(1), "http")}} {
		m.x.say(list, nil)
		if tried, err := m.dial(tab, "pool.mix"); err != nil || len(tried) != 1 || tried[0] == "p0" {
			t.Errorf("%v: tried %v: %v", list, tried, err)
		}
	}
	st := tab.Choosers()
	if len(st) != 2 || st[0].Name != "pac.x" || len(st[0].Members) != 2 || st[0].Members[0].Route != "upstream.p0" || st[0].Members[0].State != StateEjected || st[0].Members[1].State != StateHealthy {
		t.Errorf("%+v", st)
	}
	for _, u := range tab.Status() {
		if want := u.Name != "p2"; want != (len(u.Members) > 0 && u.Members[0].Pool == "pac.x") && u.Name != "p2" {
			t.Errorf("%s: %+v", u.Name, u.Members)
		}
	}
}

// TestChoiceRoundRobin: a script has one turn, and goes by its own order in it.
func TestChoiceRoundRobin(t *testing.T) {
	m, tab := newMixed(t, func(c *Config) { c.Pools[0].Select = SelectRoundRobin })
	var got []string
	for i := range 4 {
		m.x.say([]Candidate{proxyAt(m.at(i%2), "http"), {Direct: true}}, nil) // the turn goes on over answers that differ
		tried, err := m.dial(tab, "pool.mix")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tried...)
	}
	if s := strings.Join(got, ", "); s != "p0, p2, p0, p2" {
		t.Errorf("went %s", s)
	}
}

func TestChoiceRefuses(t *testing.T) {
	m, tab := newMixed(t, func(c *Config) { c.Dynamic[0].Refuse = true })
	m.x.say(nil, errors.New("it threw"))
	if tried, err := m.dial(tab, "pool.mix"); err == nil || err.Kind != connmodel.KindDenied || len(tried) != 0 {
		t.Errorf("tried %v: %v", tried, err)
	}
	// A route of its own takes the place of the script.
	m, tab = newMixed(t, func(c *Config) { c.Dynamic[0].OnError = "upstream.p1" })
	m.x.say(nil, errors.New("it threw"))
	if tried, err := m.dial(tab, "pool.mix"); err != nil || strings.Join(tried, ", ") != "p1" {
		t.Errorf("tried %v: %v", tried, err)
	}
	if tried, err := m.dial(tab, "chain.jump"); err != nil || strings.Join(tried, ", ") != "p1 > p2" {
		t.Errorf("tried %v: %v", tried, err)
	}
}

// TestChoiceInChain: a script in front is asked the way to the next hop, one at the end the way to the target.
func TestChoiceInChain(t *testing.T) {
	m, tab := newMixed(t, func(c *Config) { c.Dynamic[0].OnError = "direct" })
	for _, x := range []struct {
		route string
		list  []Candidate
		err   error
		about connmodel.Address
		tried string
	}{
		{"chain.jump", []Candidate{proxyAt(m.at(0), "http")}, nil, m.at(2), "p0 > p2"},
		{"chain.jump", []Candidate{{Direct: true}}, nil, m.at(2), "p2"},
		{"chain.jump", nil, errors.New("x"), m.at(2), "p2"},
		{"chain.last", []Candidate{proxyAt(m.at(1), "http")}, nil, m.to, "p2 > p1"},
		{"chain.last", []Candidate{{Direct: true}}, nil, m.to, "p2"},
	} {
		m.x.say(x.list, x.err)
		tried, err := m.dial(tab, x.route)
		if got := strings.Join(tried, ", "); err != nil || got != x.tried || m.x.to != x.about {
			t.Errorf("%s %v: tried %s (%v) of %s, want %s of %s", x.route, x.list, got, err, m.x.to, x.tried, x.about)
		}
	}
	// Behind another proxy, too, one that nobody declared must not be where a target might not.
	m.x.say([]Candidate{proxyAt(connmodel.Address{Host: "127.0.0.1", Port: 9}, "http")}, nil)
	if _, err := m.dial(tab, "chain.last"); err == nil || err.Kind != connmodel.KindDenied || !strings.Contains(err.Error(), "has to be declared") {
		t.Errorf("got %v", err)
	}
}

func TestChoiceChecked(t *testing.T) {
	m, _ := newMixed(t, nil)
	for name, edit := range map[string]func(*Config){
		"leads to pool.mix on errors": func(c *Config) { c.Dynamic[1].OnError = "pool.mix" },
		"leads back to itself":        func(c *Config) { c.Dynamic[0].OnError = "pool.mix" },
		"stands before":               func(c *Config) { c.Chains[0].Hops = []string{"pac.x", "pac.y"} },
		"declared twice":              func(c *Config) { c.Dynamic[1].Name = "pac.x" },
	} {
		c := m.config
		c.Dynamic, c.Chains = append([]DynamicSpec(nil), c.Dynamic...), append([]ChainSpec(nil), c.Chains...)
		edit(&c)
		if _, err := NewTable(c, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChoiceBounds: answers that never end fill no memory, and kept connections are found by the same answers alone.
func TestChoiceBounds(t *testing.T) {
	m, tab := newMixed(t, nil)
	q := &Request{Route: "pool.mix", Target: m.to, Plain: true}
	seen := map[Key]bool{}
	for i := range 3000 {
		m.x.say([]Candidate{proxyAt(connmodel.Address{Host: fmt.Sprintf("p%d.example", i), Port: 1}, "http")}, nil)
		seen[tab.Key(q, true)] = true
	}
	if len(seen) != 3000 || len(tab.settled.all) > maxChosen {
		t.Errorf("%d keys, %d routes kept", len(seen), len(tab.settled.all))
	}
	var flow Choices
	q.Choices = &flow
	asked := m.x.asked.Load()
	tab.Key(q, true)
	c, err := tab.Dial(context.Background(), &Request{Route: "pool.mix", Target: m.to, Choices: &flow}, nil)
	if err == nil {
		c.Close()
	}
	if n := m.x.asked.Load() - asked; n != 1 {
		t.Errorf("asked %d times for one flow", n)
	}
}

// TestChoicesInRecord: what each script named, why one named nothing and what took its place. Which way was gone the attempts say.
func TestChoicesInRecord(t *testing.T) {
	m, tab := newMixed(t, func(c *Config) {
		c.Dynamic = append(c.Dynamic, DynamicSpec{Name: "pac.direct", Chooser: &oracle{err: errors.New("it is ill")}, OnError: connmodel.RouteDirect},
			DynamicSpec{Name: "pac.deny", Chooser: &oracle{err: errors.New("it is ill")}})
	})
	dead := addr(t, ut.Refused(t))
	for _, x := range []struct {
		route string
		list  []Candidate
		err   error
		want  string
		tried string
	}{
		{"pac.x", []Candidate{proxyAt(dead, "http"), proxyAt(m.at(1), "http"), {Direct: true}}, nil, "pac.x [http://" + dead.String() + " upstream.p1 direct]", "http://" + dead.String() + ", p1"},
		{"pool.mix", nil, errors.New("no script"), "pac.x [] no script, next", "p2"},
		{"chain.jump", []Candidate{proxyAt(m.at(0), "http")}, nil, "pac.x to " + m.at(2).String() + " [upstream.p0]", "p0 > p2"},
		{"pac.direct", nil, nil, "pac.direct [] it is ill, direct", "direct"},
		{"pac.deny", nil, nil, "pac.deny [] it is ill, deny", ""},
		{"upstream.p1", nil, nil, "", "p1"},
	} {
		m.x.say(x.list, x.err)
		r := recorder(m.to)
		r.Decided(&connmodel.Decision{Rule: "r", Route: x.route}, nil)
		if c, _ := tab.Dial(t.Context(), &Request{Route: x.route, Target: m.to}, r); c != nil {
			c.Close()
		}
		s, d := r.Snapshot().Server, r.Snapshot().Decision
		var got, tried []string
		for _, c := range d.Choices {
			text := c.Route
			if !c.To.IsZero() {
				text += " to " + c.To.String()
			}
			if text += fmt.Sprint(" ", c.Ways); c.Error != "" {
				text += " " + c.Error + ", " + c.OnError
			}
			got = append(got, text)
		}
		for i := range s.Attempts {
			tried = append(tried, s.Attempts[i].Route)
		}
		if strings.Join(got, "; ") != x.want || strings.Join(tried, ", ") != x.tried {
			t.Errorf("%s: %q, tried %q", x.route, got, tried)
		}
		f := new(connmodel.Flow)
		if err := f.UnmarshalJSON(r.Close(connmodel.FlowEnd{}).AppendJSON(nil)); err != nil || fmt.Sprint(f.Decision.Choices) != fmt.Sprint(d.Choices) {
			t.Errorf("%s: read back: %v %v", x.route, err, f.Decision)
		}
	}
}
