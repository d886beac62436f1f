package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// oracle is a Chooser that says what the test says.
type oracle struct {
	mu   sync.Mutex
	list []Candidate
	err  error
	path string
	to   connmodel.Address

	asked atomic.Int32
}

func (o *oracle) say(list []Candidate, err error) {
	o.mu.Lock()
	o.list, o.err = list, err
	o.mu.Unlock()
}

func (o *oracle) Choose(_ context.Context, to connmodel.Address, path string) ([]Candidate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.path, o.to = path, to
	o.asked.Add(1)
	return o.list, o.err
}

func proxyAt(a connmodel.Address, schemes ...string) Candidate {
	return Candidate{Address: a, Schemes: schemes}
}

// dynamicFarm is a farm of two proxies, the first with a password, and a dynamic route "pac.x".
func dynamicFarm(t *testing.T, edit func(*DynamicSpec)) (*farm, *oracle, *Table) {
	f := newFarm(t, 2, PoolSpec{}, ut.Options{})
	f.config.Upstreams[0].Auth = &Auth{Username: "ann", Password: NewSecret("secret"), Credential: "cred"}
	o := &oracle{}
	s := DynamicSpec{Name: "pac.x", Chooser: o, Undeclared: true}
	if edit != nil {
		edit(&s)
	}
	f.config.Dynamic = []DynamicSpec{s}
	return f, o, table(t, f.config)
}

func (f *farm) at(i int) connmodel.Address { return f.config.Upstreams[i].Address }

func TestDynamic(t *testing.T) {
	f, o, tab := dynamicFarm(t, nil)
	dial := func() (*Conn, *connmodel.ConnError, []*connmodel.Attempt) {
		r := recorder(f.to)
		c, err := tab.Dial(context.Background(), &Request{Route: "pac.x", Target: f.to, Path: "/p"}, r)
		var tried []*connmodel.Attempt
		if s := r.Snapshot().Server; s != nil {
			for i := range s.Attempts {
				tried = append(tried, &s.Attempts[i])
			}
		}
		if c != nil {
			c.Close()
		}
		return c, err, tried
	}
	names := func(tried []*connmodel.Attempt) string {
		var out []string
		for _, a := range tried {
			out = append(out, a.Route)
		}
		return strings.Join(out, ", ")
	}
	dead := addr(t, ut.Refused(t))
	for _, x := range []struct {
		name  string
		list  []Candidate
		err   error
		tried string
		want  string // part of the error; "" = it works
	}{
		{"declared", []Candidate{proxyAt(f.at(0), "http")}, nil, "p0", ""},
		{"in order, though the first fails", []Candidate{proxyAt(dead, "http"), proxyAt(f.at(1), "http")}, nil, "http://" + dead.String() + ", p1", ""},
		{"as direct", []Candidate{{Direct: true}}, nil, "direct", ""},
		{"direct last", []Candidate{proxyAt(dead, "http"), {Direct: true}, proxyAt(f.at(1), "http")}, nil, "http://" + dead.String() + ", direct", ""},
		{"another scheme is another proxy", []Candidate{proxyAt(f.at(0), "https"), proxyAt(f.at(1), "http")}, nil, "https://" + f.at(0).String() + ", p1", ""},
		{"one of several schemes", []Candidate{proxyAt(f.at(1), "socks4a", "socks5h", "http")}, nil, "p1", ""},
		{"twice the same", []Candidate{proxyAt(dead, "http"), proxyAt(dead, "http")}, nil, "http://" + dead.String(), "has to be declared"},
		{"nothing", nil, nil, "", "it names no way"},
		{"an error", []Candidate{{Direct: true}}, errors.New("the script threw"), "", "the script threw"},
	} {
		o.say(x.list, x.err)
		_, err, tried := dial()
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
		if got := names(tried); got != x.tried {
			t.Errorf("%s: tried %s, want %s", x.name, got, x.tried)
		}
		if o.path != "/p" {
			t.Errorf("%s: the path is %q", x.name, o.path)
		}
	}
	o.say(nil, errors.New("x"))
	if _, err, _ := dial(); err.Kind != connmodel.KindDenied || err.Side != connmodel.SideViaduct || err.Blame != connmodel.BlameLocal {
		t.Errorf("the error is %+v", err)
	}
}

// TestDynamicUndeclared: a proxy that nobody declared is shown no credentials, and is used only where a target might be.
func TestDynamicUndeclared(t *testing.T) {
	f, _, tab := dynamicFarm(t, func(s *DynamicSpec) {
		s.Owns = func(a netip.AddrPort) bool { return a.Port() == 3128 }
	})
	d := tab.routes["pac.x"].dynamic
	r, err := d.compile([]Candidate{proxyAt(connmodel.Address{Host: "proxy.example", Port: 8080}, "http"), proxyAt(f.at(0), "http")})
	if err != nil {
		t.Fatal(err)
	}
	free, declared := r.pool.members[0].route.way.hops[0], r.pool.members[1].route.way.hops[0]
	if free.auth != nil || free.credential != "" || declared.auth == nil || declared.check != nil || free.check == nil {
		t.Error("credentials are not where they belong")
	}
	for to, want := range map[string]string{"127.0.0.1:8080": "loopback", "169.254.169.254:80": "link-local", "[::ffff:127.0.0.1]:80": "loopback", "192.0.2.1:3128": "this gateway", "192.0.2.1:8080": "", "10.0.0.1:8080": ""} {
		err := free.check(netip.MustParseAddrPort(to))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", to, err, want)
		}
	}
	// Not at all, where the policy says so.
	f, o, tab := dynamicFarm(t, func(s *DynamicSpec) { s.Undeclared = false })
	o.say([]Candidate{proxyAt(connmodel.Address{Host: "proxy.example", Port: 8080}, "http"), proxyAt(f.at(1), "http")}, nil)
	c, cerr := tab.Dial(context.Background(), &Request{Route: "pac.x", Target: f.to}, nil)
	if cerr != nil {
		t.Fatal(cerr)
	}
	c.Close()
	o.say([]Candidate{proxyAt(connmodel.Address{Host: "proxy.example", Port: 8080}, "http")}, nil)
	if _, cerr = tab.Dial(context.Background(), &Request{Route: "pac.x", Target: f.to}, nil); cerr == nil || !strings.Contains(cerr.Error(), "http://proxy.example:8080") {
		t.Errorf("got %v", cerr)
	}
}

func TestDynamicOnError(t *testing.T) {
	f, o, tab := dynamicFarm(t, func(s *DynamicSpec) { s.OnError = "upstream.p1" })
	o.say(nil, errors.New("x"))
	c, err := tab.Dial(context.Background(), &Request{Route: "pac.x", Target: f.to}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := f.requests(); n[1] != 1 {
		t.Errorf("requests %v", n)
	}
	ch, ok := tab.Choose(context.Background(), &Request{Route: "pac.x", Target: f.to})
	if !ok || ch.Err != nil || len(ch.Asked) != 1 || ch.Asked[0].OnError != "upstream.p1" || ch.Asked[0].Err == nil || len(ch.Hops) != 1 {
		t.Errorf("%+v", ch)
	}
	for _, bad := range []DynamicSpec{{Name: "pac.x", Chooser: o, OnError: "upstream.none"}, {Name: "pool.pool", Chooser: o}} {
		if _, err := NewTable(Config{Upstreams: f.config.Upstreams, Pools: f.config.Pools, Dynamic: []DynamicSpec{bad}}, nil); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestDynamicKeys: a kept connection is found only by a request for which the same is chosen.
func TestDynamicKeys(t *testing.T) {
	f, o, tab := dynamicFarm(t, nil)
	q := &Request{Route: "pac.x", Target: f.to, Plain: true}
	o.say([]Candidate{proxyAt(f.at(0), "http")}, nil)
	c, err := tab.Dial(context.Background(), q, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if !c.Absolute || tab.Key(q, true) != c.Key {
		t.Error("the same is not found again")
	}
	other := *q
	other.Target.Port++
	if tab.Key(&other, true) != c.Key {
		t.Error("the proxy takes any target")
	}
	for _, list := range [][]Candidate{{proxyAt(f.at(1), "http")}, {{Direct: true}}, {proxyAt(f.at(0), "http"), {Direct: true}}, nil} {
		o.say(list, nil)
		if k := tab.Key(q, true); k == c.Key {
			t.Errorf("%v: the connection of another choice is found", list)
		}
	}
}

// TestDynamicHealth: a member that fails is left out by later flows, whatever else the answers hold, and over a reload.
func TestDynamicHealth(t *testing.T) {
	f, o, tab := dynamicFarm(t, nil)
	f.proxies[0].Close()
	attempts := func(tab *Table) int {
		r := recorder(f.to)
		c, err := tab.Dial(context.Background(), &Request{Route: "pac.x", Target: f.to}, r)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return len(r.Snapshot().Server.Attempts)
	}
	o.say([]Candidate{proxyAt(f.at(0), "http"), proxyAt(f.at(1), "http")}, nil)
	for range defaultEjectFailures {
		if n := attempts(tab); n != 2 {
			t.Fatalf("%d attempts", n)
		}
	}
	o.say([]Candidate{proxyAt(f.at(0), "http"), proxyAt(f.at(1), "http"), {Direct: true}}, nil)
	if n := attempts(tab); n != 1 {
		t.Errorf("%d attempts: the member is not left out", n)
	}
	next, err := NewTable(f.config, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if n := attempts(next); n != 1 {
		t.Errorf("%d attempts: the reload forgot", n)
	}
}

// TestDynamicBounds: a script that makes up proxies fills no memory.
func TestDynamicBounds(t *testing.T) {
	_, _, tab := dynamicFarm(t, nil)
	d := tab.routes["pac.x"].dynamic
	for i := range 5000 {
		if _, err := d.compile([]Candidate{proxyAt(connmodel.Address{Host: fmt.Sprintf("p%d.example", i), Port: 1}, "http"), {Direct: true}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.members) > maxMembers || len(d.chosen) > maxChosen {
		t.Errorf("%d members, %d answers", len(d.members), len(d.chosen))
	}
}

// TestDynamicChangesAreTold: what becomes of a member that was chosen is told as it is of a member of a pool, also by the table after a reload.
func TestDynamicChangesAreTold(t *testing.T) {
	var said changes
	f := newFarm(t, 1, PoolSpec{}, ut.Options{})
	dead := "198.51.100.1:9"
	o := &oracle{}
	f.config.Dynamic = []DynamicSpec{{Name: "pac.x", Chooser: o, Undeclared: true}}
	f.config.Changed = func(*Change) { t.Error("the table before is told") }
	was := table(t, f.config)
	o.say([]Candidate{proxyAt(connmodel.Address{Host: "198.51.100.1", Port: 9}, "http")}, nil)
	r, err := was.routes["pac.x"].dynamic.choose(t.Context(), f.to, "")
	if err != nil {
		t.Fatal(err)
	}
	f.config.Changed = said.tell
	now, err := NewTable(f.config, was)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(now.Close)
	m := r.pool.members[0]
	for range defaultEjectFailures {
		m.health.failed(time.Now(), faultOfProxy, false)
	}
	if got := said.take(); !strings.HasPrefix(got, "pac.x http://"+dead+": healthy > ejected") {
		t.Errorf("told %q", got)
	}
}
