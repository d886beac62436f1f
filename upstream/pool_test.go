package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// farm is a pool of http proxies p0, p1, ...
type farm struct {
	proxies []*ut.Proxy
	config  Config
	to      connmodel.Address
}

func newFarm(t testing.TB, n int, spec PoolSpec, o ut.Options) *farm {
	f := &farm{to: addr(t, ut.NewOrigin(t, ut.Echo, ut.Options{}).Addr())}
	spec.Name = "pool"
	for i := range n {
		p, s := startProxy(t, nil, fmt.Sprintf("p%d", i), "http", o)
		f.proxies = append(f.proxies, p)
		f.config.Upstreams = append(f.config.Upstreams, s)
		spec.Members = append(spec.Members, "upstream."+s.Name)
	}
	f.config.Pools = []PoolSpec{spec}
	return f
}

func (f *farm) dial(ctx context.Context, t *Table) (*Conn, *connmodel.ConnError) {
	return t.Dial(ctx, &Request{Route: "pool.pool", Target: f.to}, nil)
}

// requests returns how many requests each proxy got.
func (f *farm) requests() []int {
	var n []int
	for _, p := range f.proxies {
		n = append(n, len(p.Requests()))
	}
	return n
}

func TestSelections(t *testing.T) {
	for _, c := range []struct {
		spec PoolSpec
		ok   func(n []int) bool
	}{
		{PoolSpec{}, func(n []int) bool { return n[0] == 60 }},
		{PoolSpec{Select: SelectFirstHealthy}, func(n []int) bool { return n[0] == 60 }},
		{PoolSpec{Select: SelectRoundRobin}, func(n []int) bool { return n[0] == 20 && n[1] == 20 }},
		{PoolSpec{Select: SelectRandom}, func(n []int) bool { return n[0] > 5 && n[1] > 5 && n[2] > 5 }},
		{PoolSpec{Select: SelectLeastConnections}, func(n []int) bool { return n[0] == 20 && n[1] == 20 }},
		{PoolSpec{Select: SelectFastest}, func(n []int) bool { return n[0] > 0 && n[1] > 0 && n[2] > 0 }},
		{PoolSpec{Select: SelectHash}, func(n []int) bool { return max(n[0], n[1], n[2]) == 60 }},
		{PoolSpec{Select: SelectHash, HashBy: HashByTarget}, func(n []int) bool { return max(n[0], n[1], n[2]) == 60 }},
	} {
		t.Run(c.spec.Select+c.spec.HashBy, func(t *testing.T) {
			f := newFarm(t, 3, c.spec, ut.Options{})
			tab := table(t, f.config)
			for range 60 {
				conn, err := f.dial(t.Context(), tab)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close() // they stay open, for least_connections
			}
			if n := f.requests(); n[0]+n[1]+n[2] != 60 || !c.ok(n) {
				t.Errorf("requests went %v", n)
			}
		})
	}
}

func TestLeastConnectionsFollowsTheLoad(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Select: SelectLeastConnections}, ut.Options{})
	tab := table(t, f.config)
	var held []*Conn
	for range 10 {
		c, err := f.dial(t.Context(), tab)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	before := f.requests()
	// Free everything that went by p0: the next five go there.
	for _, c := range held {
		if c.lease.hops[0].spec.Name == "p0" {
			c.Close()
		} else {
			defer c.Close()
		}
	}
	for range 5 {
		c, err := f.dial(t.Context(), tab)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if n := f.requests(); n[0] != before[0]+5 {
		t.Errorf("from %v to %v: the idle proxy should have got all five", before, n)
	}
}

func TestHashKeepsItsMemberAndMovesLittle(t *testing.T) {
	where := func(tab *Table) map[int]string {
		got := make(map[int]string)
		p := tab.routes["pool.pool"].pool
		for i := range 1000 {
			d := &dialing{t: tab, q: &Request{Client: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, tried: new(Tried)}
			m, _ := p.choose(d, time.Now())
			got[i] = m.route.name
		}
		return got
	}
	spec := func(n int) Config {
		c := Config{Pools: []PoolSpec{{Name: "pool", Select: SelectHash}}}
		for i := range n {
			s := Spec{Name: fmt.Sprintf("p%d", i), Scheme: "http", Address: connmodel.Address{Host: "10.9.9.9", Port: 1}}
			c.Upstreams = append(c.Upstreams, s)
			c.Pools[0].Members = append(c.Pools[0].Members, "upstream."+s.Name)
		}
		return c
	}
	four, again, three := where(table(t, spec(4))), where(table(t, spec(4))), where(table(t, spec(3)))
	counts := make(map[string]int)
	for i, m := range four {
		counts[m]++
		if again[i] != m {
			t.Fatalf("client %d went to %s, and in another process to %s", i, m, again[i])
		}
		if m != "upstream.p3" && three[i] != m {
			t.Fatalf("client %d moved from %s to %s although its member stayed", i, m, three[i])
		}
	}
	for m, n := range counts {
		if n < 150 || n > 350 {
			t.Errorf("%s got %d of 1000 clients", m, n)
		}
	}
}

func TestFailOver(t *testing.T) {
	f := newFarm(t, 3, PoolSpec{}, ut.Options{})
	f.proxies[0].Down()
	tab := table(t, f.config)
	r := recorder(f.to)
	c, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "by the second")
	s := r.Snapshot().Server
	if len(s.Attempts) != 2 || s.Attempts[0].Error == nil || s.Attempts[0].Error.Kind != connmodel.KindRefused || s.Attempts[0].Route != "p0" ||
		!s.Attempts[1].Connected() || s.Attempts[1].Route != "p1" || s.Route != "p1" || s.Via != "pool.pool" || s.Error != nil {
		t.Errorf("record: %+v", s)
	}
}

// TestAllMembersFail: the error of the flow says how many attempts there were and by which members; what it means is that of the last.
func TestAllMembersFail(t *testing.T) {
	f := newFarm(t, 3, PoolSpec{Retry: &connmodel.Retry{Attempts: 3, Backoff: time.Millisecond}}, ut.Options{})
	for _, p := range f.proxies {
		p.Down()
	}
	tab := table(t, f.config)
	r := recorder(f.to)
	_, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to}, r)
	if err == nil {
		t.Fatal("connected")
	}
	if want := "hop 1 (p2): 3 attempts failed (p0, p1, p2); the last: connection refused"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if err.Kind != connmodel.KindRefused || err.Blame != connmodel.BlameProxy || err.HopName != "p2" || !err.Retryable {
		t.Errorf("%+v", err)
	}
	for i, a := range r.Snapshot().Server.Attempts {
		if a.Error == nil || strings.Contains(a.Error.Message, "attempts failed") {
			t.Errorf("attempt %d: %v", i+1, a.Error)
		}
	}
	if _, err := tab.Dial(t.Context(), &Request{Route: "upstream.p0", Target: f.to}, nil); err == nil || strings.Contains(err.Message, "attempts") {
		t.Errorf("one attempt: %v", err)
	}
}

// TestNoMemberTwice: four attempts over three members that all fail try each once before one is tried again, and a second
// Dial with the same Tried goes on where the first ended.
func TestNoMemberTwice(t *testing.T) {
	f := newFarm(t, 3, PoolSpec{Select: SelectRandom, Retry: &connmodel.Retry{Attempts: 3, Backoff: time.Millisecond}}, ut.Options{Script: []ut.Behaviour{ut.Status(502, "")}})
	tab := table(t, f.config)
	if _, err := f.dial(t.Context(), tab); err == nil {
		t.Fatal("connected")
	}
	if n := fmt.Sprint(f.requests()); n != "[1 1 1]" {
		t.Errorf("requests %v", n)
	}
	tried := new(Tried)
	for range 3 {
		if _, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to, Tried: tried, Retry: &connmodel.Retry{Attempts: 1}}, nil); err == nil {
			t.Fatal("connected")
		}
	}
	if n := fmt.Sprint(f.requests()); n != "[2 2 2]" {
		t.Errorf("requests %v", n)
	}
	for _, m := range tab.Pools()[0].Members {
		if m.State != StateHealthy || m.Failures != 0 {
			t.Errorf("a target that is down counted against %+v", m)
		}
	}
}

func TestRetryRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		does  ut.Behaviour
		retry *connmodel.Retry
		want  int
	}{
		{"default", ut.Status(502, ""), nil, 2},
		{"denied is final", ut.Status(403, ""), nil, 1},
		{"one attempt", ut.Status(502, ""), &connmodel.Retry{Attempts: 1}, 1},
		{"on another kind", ut.Status(502, ""), &connmodel.Retry{Attempts: 3, On: []connmodel.Kind{connmodel.KindTimeout}}, 1},
		{"on this kind", ut.Status(502, ""), &connmodel.Retry{Attempts: 3, On: []connmodel.Kind{connmodel.KindUnreachable}}, 3},
		{"deadline", ut.Status(502, ""), &connmodel.Retry{Attempts: 100, Backoff: 60 * time.Millisecond, MaxBackoff: 60 * time.Millisecond, Deadline: 100 * time.Millisecond}, 0},
		{"same credentials are not shown twice", ut.Status(407, ""), &connmodel.Retry{Attempts: 3}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFarm(t, 2, PoolSpec{}, ut.Options{Script: []ut.Behaviour{c.does}, User: "u", Password: "p"})
			r := recorder(f.to)
			_, err := table(t, f.config).Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to, Retry: c.retry}, r)
			if err == nil {
				t.Fatal("connected")
			}
			n := f.requests()
			at := r.Snapshot().Server.Attempts
			if sum := n[0] + n[1]; sum > len(at) || c.want != 0 && sum != len(at) || c.want != 0 && sum != c.want || c.want == 0 && (sum < 2 || sum > 4) {
				t.Errorf("%d requests, %d attempts, want %d", sum, len(at), c.want)
			}
			for _, a := range at {
				if a.Error == nil || a.End.IsZero() {
					t.Errorf("attempt without end: %+v", a)
				}
			}
		})
	}
}

// TestNameKnownElsewhere: what our name servers do not know a proxy may; but nobody asks them twice.
func TestNameKnownElsewhere(t *testing.T) {
	to := listen(t, echo)
	name := connmodel.Address{Host: "inside.example", Port: to.Port}
	_, s := startProxy(t, nil, "p", "http", ut.Options{Hosts: map[string]string{name.String(): to.String()}})
	tab := table(t, Config{Upstreams: []Spec{s}, Resolver: fixed{}, Pools: []PoolSpec{{Name: "p", Members: []string{"direct", "upstream.p"}}}})
	c, err := tab.Dial(t.Context(), &Request{Route: "pool.p", Target: name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	r := recorder(name)
	_, err = tab.Dial(t.Context(), &Request{Route: "direct", Target: name, Retry: &connmodel.Retry{Attempts: 5}}, r)
	if n := len(r.Snapshot().Server.Attempts); err == nil || err.Kind != connmodel.KindDNS || n != 1 {
		t.Errorf("%d attempts: %v", n, err)
	}
}

func TestOtherCredentialsAreTried(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{}, ut.Options{User: "u", Password: "right"})
	f.config.Upstreams[0].Auth = &Auth{Username: "u", Password: NewSecret("wrong")}
	c, err := f.dial(t.Context(), table(t, f.config))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestBackoff(t *testing.T) {
	rt := &connmodel.Retry{Backoff: 200 * time.Millisecond, MaxBackoff: time.Second}
	for n, most := range map[int]time.Duration{1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 3: 800 * time.Millisecond, 4: time.Second, 60: time.Second} {
		seen := make(map[time.Duration]bool)
		for range 100 {
			d := backoff(rt, n, true)
			if d > most || d < most/2 {
				t.Fatalf("after attempt %d: %v, want %v less up to half", n, d, most)
			}
			seen[d] = true
		}
		if len(seen) < 10 {
			t.Errorf("after attempt %d: no jitter", n)
		}
	}
	if d := backoff(&connmodel.Retry{}, 1, true); d != 0 {
		t.Errorf("to another member after %v", d)
	}
	if d := backoff(&connmodel.Retry{}, 1, false); d < defaultBackoff/2 || d > defaultBackoff {
		t.Errorf("to the same member after %v", d)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget()
		granted := func() (n int) {
			for b.take(time.Now()) {
				n++
			}
			return n
		}
		if n := granted(); n != budgetFloor {
			t.Errorf("%d retries without dials, want the floor of %d", n, budgetFloor)
		}
		time.Sleep(2 * budgetWindow)
		for range 1000 {
			b.dialed(time.Now())
		}
		if n := granted(); n != budgetFloor+200 {
			t.Errorf("%d retries for 1000 dials, want %d", n, budgetFloor+200)
		}
		time.Sleep(budgetWindow / 2)
		if n := granted(); n != 0 {
			t.Errorf("%d more half a window later", n)
		}
		time.Sleep(budgetWindow/2 + time.Second)
		if n := granted(); n != budgetFloor {
			t.Errorf("%d retries when all is forgotten, want %d", n, budgetFloor)
		}
		if b.refusals() == 0 {
			t.Error("refusals are not counted")
		}
	})
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(EjectSpec{})
		bad := &connmodel.ConnError{Blame: connmodel.BlameProxy}
		fail := func() { h.failed(time.Now(), bad, false) }
		fail()
		fail()
		h.succeeded(time.Now(), 1, false)
		fail()
		fail()
		if !h.available(time.Now()) {
			t.Fatal("out after failures that were not in a row")
		}
		fail()
		length := 5 * time.Second
		for range 10 {
			if h.available(time.Now()) || h.state(time.Now()) != StateEjected {
				t.Fatal("not out")
			}
			if left := time.Until(h.returns()); left < length || left > length*6/5 {
				t.Fatalf("out for %v, want %v and up to a fifth", left, length)
			}
			time.Sleep(time.Until(h.returns()))
			if h.state(time.Now()) != StateHalfOpen {
				t.Fatal("not half-open")
			}
			ok, probe := h.claim(time.Now())
			if !ok || !probe {
				t.Fatal("nobody may find out")
			}
			if ok, _ := h.claim(time.Now()); ok || h.available(time.Now()) {
				t.Fatal("two may find out")
			}
			h.failed(time.Now(), bad, true)
			length = min(2*length, 5*time.Minute)
		}
		time.Sleep(time.Until(h.returns()))
		_, probe := h.claim(time.Now())
		h.undecided(probe) // that one was cancelled
		if ok, probe := h.claim(time.Now()); !ok || !probe {
			t.Fatal("a cancelled probe blocks the next")
		}
		h.succeeded(time.Now(), 1, true)
		if !h.available(time.Now()) || h.state(time.Now()) != StateHealthy {
			t.Fatal("not healed")
		}
		time.Sleep(time.Hour) // well for long: it begins anew
		fail()
		fail()
		fail()
		if left := time.Until(h.returns()); left > 6*time.Second {
			t.Errorf("out for %v after an hour without fault", left)
		}
	})
}

func TestAtLeastOneIsTried(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Eject: EjectSpec{Failures: 1, Time: time.Hour, MaxTime: time.Hour}}, ut.Options{})
	for _, p := range f.proxies {
		p.Down()
	}
	tab := table(t, f.config)
	for range 3 {
		if _, err := f.dial(t.Context(), tab); err == nil {
			t.Fatal("connected")
		}
	}
	for _, m := range tab.Pools()[0].Members {
		if m.State != StateEjected || m.LastError == "" {
			t.Fatalf("%+v", m)
		}
	}
	for _, p := range f.proxies {
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := f.dial(t.Context(), tab)
	if err != nil {
		t.Fatalf("with all members out nobody is asked: %v", err)
	}
	c.Close()
}

// TestFlapping has one of two proxies go up and down; hardly a client may notice, and it is used again when it is back.
func TestFlapping(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Eject: EjectSpec{Time: 50 * time.Millisecond, MaxTime: 200 * time.Millisecond}}, ut.Options{})
	tab := table(t, f.config)
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var dials, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := f.dial(t.Context(), tab)
				dials.Add(1)
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				c.Close()
			}
		})
	}
	for i := 0; ctx.Err() == nil; i++ {
		if i%2 == 0 {
			f.proxies[0].Down()
		} else if err := f.proxies[0].Up(); err != nil {
			t.Error(err)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	wg.Wait()
	n := f.requests()
	t.Logf("%d dials, %d failed; requests %v", dials.Load(), failed.Load(), n)
	if failed.Load()*100 > dials.Load() {
		t.Errorf("%d of %d dials failed", failed.Load(), dials.Load())
	}
	if n[0] == 0 || n[1] == 0 {
		t.Errorf("requests %v: both should have been used", n)
	}
}

// TestBlackHole: the first member swallows every packet.
func TestBlackHole(t *testing.T) {
	f := newFarm(t, 1, PoolSpec{Members: []string{"upstream.hole"}}, ut.Options{})
	hole := Spec{Name: "hole", Scheme: "http", Address: addr(t, ut.BlackHole(t)), Timeouts: HopTimeouts{Dial: time.Second}}
	f.config.Upstreams = append(f.config.Upstreams, hole)
	tab := table(t, f.config)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			start := time.Now()
			c, err := f.dial(t.Context(), tab)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
			if took := time.Since(start); took > 6*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	wg.Wait()
	tried := func() (n uint64) {
		for _, u := range tab.Status() {
			if u.Name == "hole" {
				n = u.Attempts
			}
		}
		return n
	}
	before := tried()
	c, err := f.dial(t.Context(), tab)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := tried(); before != 5 || n != before {
		t.Errorf("it was tried %d times, and is still tried first: then %d times", before, n)
	}
}

func TestMaxConnections(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{}, ut.Options{})
	f.config.Upstreams[0].MaxConnections = 2
	tab := table(t, f.config)
	var held []*Conn
	for range 4 {
		c, err := f.dial(t.Context(), tab)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if n := fmt.Sprint(f.requests()); n != "[2 2]" {
		t.Errorf("requests %v, want the third and fourth on the second", n)
	}
	_, err := tab.Dial(t.Context(), &Request{Route: "upstream.p0", Target: f.to}, nil)
	if err == nil || err.Kind != connmodel.KindLimit || err.Blame != connmodel.BlameLocal {
		t.Errorf("beyond the limit: %+v", err)
	}
	for _, c := range held {
		c.Close()
	}
	c, err := f.dial(t.Context(), tab)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := fmt.Sprint(f.requests()); n != "[3 2]" {
		t.Errorf("requests %v: the place was not given back", n)
	}
}

func TestActiveChecks(t *testing.T) {
	for _, connect := range []bool{false, true} {
		t.Run(fmt.Sprintf("connect=%v", connect), func(t *testing.T) {
			f := newFarm(t, 2, PoolSpec{Health: &HealthSpec{Every: 20 * time.Millisecond}}, ut.Options{})
			if connect {
				f.config.Pools[0].Health.Target = f.to
			}
			f.proxies[0].Down()
			tab := table(t, f.config)
			state := func(want string) {
				t.Helper()
				deadline := time.Now().Add(5 * time.Second)
				for tab.Pools()[0].Members[0].State != want {
					if time.Now().After(deadline) {
						t.Fatalf("%+v", tab.Pools()[0].Members[0])
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
			state(StateDown)
			r := recorder(f.to)
			c, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to}, r)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if n := len(r.Snapshot().Server.Attempts); n != 1 {
				t.Errorf("%d attempts: the member that is down was tried", n)
			}
			if err := f.proxies[0].Up(); err != nil {
				t.Fatal(err)
			}
			state(StateHealthy)
			if m := tab.Pools()[0].Members[0]; m.Check == nil || m.Check.At.IsZero() || !m.Check.OK || (m.Connect > 0) != connect {
				t.Errorf("%+v", m)
			}
			tab.Close() // returns when the checks have ended; goleak looks after it
		})
	}
}

func TestReloadKeepsHealth(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Eject: EjectSpec{Failures: 1, Time: time.Hour, MaxTime: time.Hour}}, ut.Options{})
	f.proxies[0].Down()
	old := table(t, f.config)
	c, err := f.dial(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	same, e := NewTable(f.config, old)
	if e != nil {
		t.Fatal(e)
	}
	defer same.Close()
	if m := same.Pools()[0].Members; m[0].State != StateEjected || m[1].State != StateHealthy || m[1].Open != 1 {
		t.Errorf("after a reload without change: %+v", m)
	}
	changed := f.config
	changed.Upstreams = append([]Spec(nil), f.config.Upstreams...)
	changed.Upstreams[0].Address = f.config.Upstreams[1].Address
	other, e := NewTable(changed, same)
	if e != nil {
		t.Fatal(e)
	}
	defer other.Close()
	if m := other.Pools()[0].Members; m[0].State != StateHealthy || m[0].Failures != 0 {
		t.Errorf("after its address changed: %+v", m[0])
	}
	c.Close()
	if n := other.Status()[1].Open; n != 0 {
		t.Errorf("%d open after the end of a connection of an older table", n)
	}
	if c.Key == other.Key(&Request{Route: "pool.pool", Target: f.to}, false) {
		t.Error("a connection of an older table would be used again")
	}
}

// TestNested: pools of chains and pools, and a pool inside a chain.
func TestNested(t *testing.T) {
	f := newFarm(t, 3, PoolSpec{}, ut.Options{})
	_, jump := startProxy(t, nil, "jump", "socks5h", ut.Options{})
	f.config.Upstreams = append(f.config.Upstreams, jump)
	f.config.Chains = []ChainSpec{{"partner", []string{"pool.pool", "upstream.jump"}}, {"fixed", []string{"upstream.p2", "upstream.jump"}}}
	f.config.Pools = append(f.config.Pools,
		PoolSpec{Name: "outer", Members: []string{"chain.partner", "chain.fixed", "direct"}, Retry: &connmodel.Retry{Attempts: 4}},
		PoolSpec{Name: "exits", Members: []string{"pool.pool", "direct"}, Retry: &connmodel.Retry{Attempts: 4}})
	f.proxies[0].Down()
	tab := table(t, f.config)
	attempts := func(route string) (out []string) {
		t.Helper()
		r := recorder(f.to)
		c, err := tab.Dial(t.Context(), &Request{Route: route, Target: f.to}, r)
		if err != nil {
			t.Fatal(err)
		}
		say(t, c, "nested")
		c.Close()
		for _, a := range r.Snapshot().Server.Attempts {
			out = append(out, a.Route)
		}
		return out
	}
	if got := fmt.Sprintf("%q", attempts("chain.partner")); got != `["p0 > jump" "p1 > jump"]` {
		t.Errorf("chain with a pool: %s", got)
	}
	f.proxies[1].Down()
	if got := fmt.Sprintf("%q", attempts("pool.outer")); got != `["p0 > jump" "p1 > jump" "p2 > jump"]` {
		t.Errorf("pool with a chain with a pool: %s", got)
	}
	f.proxies[2].Down()
	if got := attempts("pool.exits"); got[len(got)-1] != "direct" {
		t.Errorf("pool of a pool and direct: %q", got)
	}
	for _, u := range tab.Status() {
		if u.Open != 0 {
			t.Errorf("%+v", u)
		}
	}
}

func TestTableErrors(t *testing.T) {
	at := connmodel.Address{Host: "10.0.0.1", Port: 3128}
	var nine []string
	for range 9 {
		nine = append(nine, "upstream.a")
	}
	_, err := NewTable(Config{
		Upstreams: []Spec{{Name: "a", Scheme: "http", Address: at}, {Name: "a", Scheme: "http", Address: at}, {Name: "odd", Scheme: "gopher", Address: at},
			{Name: "colon", Scheme: "http", Address: at, Auth: &Auth{Username: "a:b"}}, {Name: "long", Scheme: "socks5", Address: at, Auth: &Auth{Username: "u"}},
			{Name: "four", Scheme: "socks4", Address: at, Auth: &Auth{Username: "u", Password: NewSecret("canary")}},
			{Name: "ctl", Scheme: "http", Address: at, Auth: &Auth{Username: "u", Password: NewSecret("canary\r\nX: y")}}},
		Pools:  []PoolSpec{{Name: "p", Members: []string{"chain.c"}}, {Name: "none"}, {Name: "how", Members: []string{"direct"}, Select: "best"}},
		Chains: []ChainSpec{{"c", []string{"upstream.a", "pool.p"}}, {"deep", nine}, {"lost", []string{"upstream.nobody"}}, {"empty", nil}},
	}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"upstream.a is declared twice", `scheme "gopher"`, "colon", "1 to 255", "SOCKS4 carries", "control character",
		"pool.p leads back to itself: pool.p > chain.c > pool.p", "pool.none has no members", `select = "best"`, "chain.deep has up to 9 proxies",
		"chain.lost names upstream.nobody", "chain.empty has no hops"} {
		if !containsText(err, want) {
			t.Errorf("the errors do not say %q", want)
		}
	}
	if containsText(err, "canary") {
		t.Errorf("a password is in %v", err)
	}
}

func containsText(err error, s string) bool { return strings.Contains(err.Error(), s) }
