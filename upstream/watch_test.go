package upstream

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

var (
	faultOfProxy  = &connmodel.ConnError{Blame: connmodel.BlameProxy, Message: "it hangs"}
	faultOfTarget = &connmodel.ConnError{Blame: connmodel.BlameTarget, Message: "no such server"}
	faultOfOurs   = &connmodel.ConnError{Blame: connmodel.BlameLocal, Message: "no descriptors"}
)

// changes collects what is told, as "pool.p upstream.a: healthy > down".
type changes struct {
	mu  sync.Mutex
	all []string
}

func (c *changes) tell(x *Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !x.Target.IsZero() {
		c.all = append(c.all, fmt.Sprintf("target: %s > %s", x.From, x.To))
		return
	}
	c.all = append(c.all, strings.TrimSpace(fmt.Sprintf("%s %s: %s > %s %s", x.Pool, x.Route, x.From, x.To, x.Why)))
}

func (c *changes) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.all, "\n")
	c.all = nil
	return s
}

func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said changes
		h := newHealth(EjectSpec{}).of("pool.p", "upstream.a", said.tell).with(EjectSpec{}, &HealthSpec{Healthy: 3, Unhealthy: 4})
		check := func(err *connmodel.ConnError) string {
			time.Sleep(time.Second)
			h.checked(time.Now(), CheckResult{Check: "tcp", At: time.Now(), Err: err}, nil)
			return h.state(time.Now())
		}
		for i, c := range []struct {
			err  *connmodel.ConnError
			want string
		}{
			{faultOfProxy, StateHealthy}, {faultOfProxy, StateHealthy}, {faultOfProxy, StateHealthy}, {nil, StateHealthy}, // not in a row
			{faultOfProxy, StateHealthy}, {faultOfProxy, StateHealthy}, {faultOfOurs, StateHealthy}, {faultOfProxy, StateHealthy}, {faultOfProxy, StateDown},
			{nil, StateDown}, {nil, StateDown}, {faultOfProxy, StateDown}, {nil, StateDown}, {nil, StateDown}, {nil, StateHealthy}, {nil, StateHealthy},
		} {
			if got := check(c.err); got != c.want {
				t.Fatalf("step %d: %s, want %s", i, got, c.want)
			}
		}
		if got := said.take(); got != "pool.p upstream.a: healthy > down the check (tcp) failed 4 times in a row: it hangs\npool.p upstream.a: down > healthy" {
			t.Errorf("told: %s", got)
		}
		if since, ok := h.well(time.Now()); !ok || since != time.Second {
			t.Errorf("well for %v, %v", since, ok)
		}
	})
}

// TestChecksGoneAreForgotten: a member that was down is not for ever, when the policy has no checks any more, or others.
func TestChecksGoneAreForgotten(t *testing.T) {
	for name, next := range map[string]*HealthSpec{"none": nil, "others": {Check: Check{Kind: CheckTLS}}, "same": {Unhealthy: 1}} {
		h := newHealth(EjectSpec{}).with(EjectSpec{}, &HealthSpec{Unhealthy: 1})
		h.checked(time.Now(), CheckResult{Check: "tcp", At: time.Now(), Err: faultOfProxy}, nil)
		if h.state(time.Now()) != StateDown || h.available(time.Now()) {
			t.Fatal("not down")
		}
		if h.with(EjectSpec{}, next); (h.state(time.Now()) == StateDown) != (name == "same") || h.available(time.Now()) != (name != "same") {
			t.Errorf("%s: %s", name, h.state(time.Now()))
		}
	}
}

// TestTargetOfChecksIsDown: what no route reaches is itself at fault; what another reaches is the route's.
func TestTargetOfChecksIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &goal{routes: 2}
		a, b := newHealth(EjectSpec{}).with(EjectSpec{}, new(HealthSpec)), newHealth(EjectSpec{}).with(EjectSpec{}, new(HealthSpec))
		check := func(h *health, err *connmodel.ConnError) {
			at := time.Now()
			time.Sleep(time.Second)
			if h.checked(time.Now(), CheckResult{At: at, Err: err}, g); err == nil {
				g.good.Store(clock(at))
			}
		}
		check(a, nil)
		check(b, nil)
		for range 5 {
			check(a, faultOfTarget)
			check(b, faultOfTarget)
		}
		if a.bad.Load() || b.bad.Load() {
			t.Fatal("down, although nobody reaches the target")
		}
		check(b, nil)
		if check(a, faultOfTarget); !a.bad.Load() {
			t.Error("not down, although another gets there")
		}
		check(a, nil)
		g.routes = 1
		check(a, faultOfTarget)
		if check(a, faultOfTarget); !a.bad.Load() {
			t.Error("not down, and nobody else asks")
		}
	})
}

// TestTellsApart drives the same with proxies: one that answers connections and refuses every tunnel is taken out by a check that goes through it
// (and not by one that only knocks); a target that is down takes nobody out.
func TestTellsApart(t *testing.T) {
	for _, kind := range []string{CheckTCP, CheckConnect, CheckHTTP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			origin := ut.NewHTTPOrigin(t, ut.Options{})
			f := newFarm(t, 3, PoolSpec{Select: SelectRoundRobin}, ut.Options{})
			f.to = addr(t, origin.Addr())
			spec := &HealthSpec{Every: 25 * time.Millisecond, Timeout: 10 * time.Second, Check: Check{Kind: kind, Target: f.to, Path: "/status/200"}}
			f.config.Pools[0].Health = spec
			f.proxies[1].Script(ut.Status(503, "no"))
			var said changes
			f.config.Changed = said.tell
			tab := table(t, f.config)
			rounds := func(n uint64) []MemberStatus {
				t.Helper()
				return awaitMembers(t, tab, func(all []MemberStatus) bool {
					for _, m := range all {
						if m.Check == nil || m.Check.Made < n {
							return false
						}
					}
					return true
				})
			}
			m := rounds(5)
			if want := map[bool]string{true: StateHealthy, false: StateDown}[kind == CheckTCP]; m[0].State != StateHealthy || m[2].State != StateHealthy || m[1].State != want {
				t.Fatalf("%+v", m)
			}
			if kind != CheckTCP && (m[1].Why == "" || m[1].Since.IsZero() || m[1].Check.OK || m[1].Check.InARow < 2 || m[1].Check.Error == "" || m[1].Check.Next.IsZero() || !strings.Contains(said.take(), "upstream.p1: healthy > down")) {
				t.Errorf("%+v, %+v", m[1], m[1].Check)
			}
			origin.Down()
			m = rounds(m[0].Check.Made + 5)
			if m[0].State != StateHealthy || m[2].State != StateHealthy {
				t.Errorf("the target is down: %+v", m)
			}
			if kind == CheckTCP {
				return
			}
			if got := said.take(); got != "target: healthy > down" {
				t.Errorf("told: %s", got)
			}
			f.proxies[1].Script()
			if err := origin.Up(); err != nil {
				t.Fatal(err)
			}
			rounds(m[0].Check.Made + 5)
			if got := said.take(); !strings.HasPrefix(got, "target: down > healthy\n") && !strings.HasSuffix(got, "\ntarget: down > healthy") || !strings.Contains(got, "upstream.p1: down > healthy") {
				t.Errorf("told: %s", got)
			}
		})
	}
}

// awaitMembers waits until the members of the first pool are as wanted.
func awaitMembers(t *testing.T, tab *Table, ok func([]MemberStatus) bool) []MemberStatus {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		all := tab.Pools()[0].Members
		if ok(all) {
			return all
		}
		if time.Now().After(deadline) {
			for _, m := range all {
				t.Errorf("%+v, %+v", m, m.Check)
			}
			t.FailNow()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestManyMembers: a thousand members in three pools are asked once each round, not more than the bound at a time, and all end with the table.
func TestManyMembers(t *testing.T) {
	var open, most, total atomic.Int64
	at := listen(t, func(c net.Conn) {
		n := open.Add(1)
		defer open.Add(-1)
		total.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		io.Copy(io.Discard, c)
	})
	var c Config
	var names []string
	for i := range 1000 {
		c.Upstreams = append(c.Upstreams, Spec{Name: fmt.Sprintf("p%d", i), Scheme: "http", Address: at})
		names = append(names, fmt.Sprintf("upstream.p%d", i))
	}
	for i := range 3 {
		c.Pools = append(c.Pools, PoolSpec{Name: fmt.Sprintf("pool%d", i), Members: names, Health: &HealthSpec{Every: time.Minute, Check: Check{Kind: CheckTCP}}})
	}
	tab := table(t, c)
	asked := func(m []MemberStatus) bool {
		for i := range m {
			if m[i].Check.At.IsZero() {
				return false
			}
		}
		return true
	}
	awaitMembers(t, tab, asked)
	for _, p := range tab.Pools() {
		if !asked(p.Members) {
			t.Error("a pool was not told")
		}
	}
	for end := time.Now().Add(30 * time.Second); total.Load() < 1000 && time.Now().Before(end); { // the checks are over when the kernel has taken them
		time.Sleep(5 * time.Millisecond)
	}
	if n := total.Load(); n != 1000 {
		t.Errorf("%d connections for 1000 proxies in 3 pools", n)
	}
	if n := most.Load(); n > 2*maxChecks { // those that are closed are counted for a moment longer
		t.Errorf("%d at once", n)
	}
	next, err := NewTable(c, tab) // a reload checks nothing anew
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	tab.Close()
	if m := next.Pools()[1].Members[7].Check; m.At.IsZero() || time.Until(m.Next) < 10*time.Second {
		t.Errorf("after a reload: %+v", m)
	}
	time.Sleep(50 * time.Millisecond)
	if n := total.Load(); n != 1000 {
		t.Errorf("%d connections after a reload", n)
	}
	next.NetworkChanged()
	awaitMembers(t, next, func(m []MemberStatus) bool {
		for i := range m {
			if m[i].Check.Made < 2 {
				return false
			}
		}
		return true
	})
}

// TestCloseDuringChecks that hang.
func TestCloseDuringChecks(t *testing.T) {
	f := newFarm(t, 5, PoolSpec{Health: &HealthSpec{Every: time.Hour, Timeout: time.Hour}}, ut.Options{Script: []ut.Behaviour{ut.Silence}})
	f.config.Pools[0].Health.Target = f.to
	tab := table(t, f.config)
	for _, p := range f.proxies {
		for p.Accepted() == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	start := time.Now()
	tab.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if m := tab.Pools()[0].Members[0]; m.State != StateHealthy || m.Check.Made != 0 {
		t.Errorf("%+v", m) // the end is nobody's fault
	}
}

// TestUpstreamHealth: an upstream with checks of its own is passed over in pools and chains, shown in status, and tried where there is no choice.
func TestUpstreamHealth(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{}, ut.Options{})
	_, jump := startProxy(t, nil, "jump", "socks5h", ut.Options{})
	f.config.Upstreams = append(f.config.Upstreams, jump)
	f.config.Upstreams[0].Health = &HealthSpec{Every: 20 * time.Millisecond}
	f.config.Chains = []ChainSpec{{"c", []string{"upstream.p0", "upstream.jump"}}}
	o := &oracle{list: []Candidate{proxyAt(f.at(0), "http"), proxyAt(f.at(1), "http")}}
	f.config.Dynamic = []DynamicSpec{{Name: "pac.x", Chooser: o}}
	f.config.Pools = append(f.config.Pools, PoolSpec{Name: "chains", Members: []string{"chain.c", "upstream.p1"}})
	var said changes
	f.config.Changed = said.tell
	f.proxies[0].Down()
	tab := table(t, f.config)
	await := func(down bool) UpstreamStatus {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			if s := tab.Status()[0]; s.Down == down && s.Check.Made > 0 {
				return s
			} else if time.Now().After(deadline) {
				t.Fatalf("%+v", s)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if s := await(true); s.Why == "" || s.Since.IsZero() || s.Check.Check != "tcp" || len(s.Members) != 1 || s.Members[0].State != StateDown || s.Members[0].Why != s.Why {
		t.Errorf("%+v", s)
	}
	for _, route := range []string{"pool.pool", "pool.chains", "pac.x"} {
		r := recorder(f.to)
		c, err := tab.Dial(t.Context(), &Request{Route: route, Target: f.to}, r)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if n := r.Snapshot().Server.Attempts; len(n) != 1 || n[0].Route != "p1" {
			t.Errorf("%s: %+v", route, n)
		}
	}
	if err := f.proxies[0].Up(); err != nil {
		t.Fatal(err)
	}
	c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p0", Target: f.to}, nil) // whatever the checks say
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	await(false)
	if got := said.take(); !strings.HasPrefix(got, "upstream.p0: healthy > down") || !strings.Contains(got, "upstream.p0: down > healthy") {
		t.Errorf("told: %s", got)
	}
}

// TestNetworkChange: what is out is tried again at once.
func TestNetworkChange(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Health: &HealthSpec{Every: time.Hour, Unhealthy: 1}, Eject: EjectSpec{Failures: 1, Time: time.Hour, MaxTime: time.Hour}}, ut.Options{})
	for _, p := range f.proxies {
		p.Down()
	}
	tab := table(t, f.config)
	awaitMembers(t, tab, func(m []MemberStatus) bool { return m[0].State == StateDown && m[1].State == StateDown })
	if _, err := f.dial(t.Context(), tab); err == nil {
		t.Fatal("connected")
	}
	for _, p := range f.proxies {
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
	}
	tab.NetworkChanged()
	awaitMembers(t, tab, func(m []MemberStatus) bool { return m[0].State == StateHealthy && m[1].State == StateHealthy })
}

// TestKnockingHealsNothing: a proxy that takes connections and resets every tunnel is left out because of its traffic, and a check that only
// knocks does not let it in again; one that goes through it would, when it is well.
func TestKnockingHealsNothing(t *testing.T) {
	refusedTunnel := &connmodel.ConnError{Blame: connmodel.BlameProxy, Phase: connmodel.PhaseConnect, Message: "reset"}
	refusedDial := &connmodel.ConnError{Blame: connmodel.BlameProxy, Phase: connmodel.PhaseDial, Message: "refused"}
	brokenTLS := &connmodel.ConnError{Blame: connmodel.BlameProxy, Phase: connmodel.PhaseTLS, Message: "no certificate"}
	for _, c := range []struct {
		failed *connmodel.ConnError
		res    CheckResult
		heals  bool
	}{
		{refusedTunnel, CheckResult{kind: CheckTCP}, false}, {refusedDial, CheckResult{kind: CheckTCP}, true}, {brokenTLS, CheckResult{kind: CheckTCP}, false},
		{brokenTLS, CheckResult{kind: CheckTLS}, true}, {refusedTunnel, CheckResult{kind: CheckTLS}, false}, {refusedTunnel, CheckResult{kind: CheckConnect, Route: 1}, true},
		{refusedTunnel, CheckResult{kind: CheckConnect, Short: "a login"}, false}, {brokenTLS, CheckResult{kind: CheckConnect, Short: "a login"}, true},
	} {
		h := newHealth(EjectSpec{}).with(EjectSpec{}, new(HealthSpec))
		for range 3 {
			h.failed(time.Now(), c.failed, false)
		}
		c.res.At = time.Now()
		h.checked(time.Now(), c.res, nil)
		if got := h.state(time.Now()); (got == StateHealthy) != c.heals {
			t.Errorf("%s, check %s: %s", c.failed.Message, c.res.kind, got)
		}
	}
}

// TestReloadDuringChecks: tables come and go while checks hang and flows run; what is known stays, nothing is left behind, and nobody waits.
func TestReloadDuringChecks(t *testing.T) {
	f := newFarm(t, 6, PoolSpec{Select: SelectRoundRobin, Health: &HealthSpec{Every: 10 * time.Millisecond, Timeout: 10 * time.Second}}, ut.Options{})
	f.config.Pools[0].Health.Target = f.to
	f.proxies[5].Script(ut.Silence)
	var told atomic.Int64
	f.config.Changed = func(*Change) { told.Add(1) }
	tab, err := NewTable(f.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for i := range rounds {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if c, err := tab.Dial(t.Context(), &Request{Route: "pool.pool", Target: f.to, Deadline: time.Now().Add(time.Second)}, nil); err == nil {
					c.Close()
				}
			})
		}
		if i%5 == 0 {
			tab.NetworkChanged()
		}
		next, err := NewTable(f.config, tab)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if tab.Close(); time.Since(start) > 5*time.Second {
			t.Fatalf("Close took %v", time.Since(start))
		}
		wg.Wait()
		tab = next
	}
	defer tab.Close()
	awaitMembers(t, tab, func(m []MemberStatus) bool {
		for i := range 5 {
			if m[i].Check.Made == 0 || m[i].State != StateHealthy {
				return false
			}
		}
		return true
	})
	for _, u := range tab.Status()[:5] {
		if u.InARow > 0 {
			t.Errorf("%+v", u)
		}
	}
}

// TestNetworkChangeEndsHangingChecks: what waits for an answer in the network of before does not delay what is found out in the new one.
func TestNetworkChangeEndsHangingChecks(t *testing.T) {
	f := newFarm(t, 1, PoolSpec{Health: &HealthSpec{Every: time.Hour, Timeout: time.Hour}}, ut.Options{Script: []ut.Behaviour{ut.Silence, ut.OK}})
	f.config.Pools[0].Health.Target = f.to
	tab := table(t, f.config)
	for f.proxies[0].Accepted() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	tab.NetworkChanged()
	m := awaitMembers(t, tab, func(m []MemberStatus) bool { return m[0].Check.OK })
	if m[0].Check.Made != 1 || m[0].State != StateHealthy {
		t.Errorf("%+v", m[0].Check)
	}
}

// TestTableThatIsNotTaken: one that is made and thrown away, since something else of its configuration is wrong, changes nothing of what the one
// in force knows and does.
func TestTableThatIsNotTaken(t *testing.T) {
	f := newFarm(t, 2, PoolSpec{Health: &HealthSpec{Every: 10 * time.Millisecond, Unhealthy: 1}}, ut.Options{})
	f.config.Pools[0].Health.Target = f.to
	f.config.Upstreams[1].Health = &HealthSpec{Every: 10 * time.Millisecond}
	f.proxies[0].Script(ut.Silence)
	f.config.Pools[0].Health.Timeout = 50 * time.Millisecond
	var said, other changes
	f.config.Changed = said.tell
	tab := table(t, f.config)
	awaitMembers(t, tab, func(m []MemberStatus) bool {
		return m[0].State == StateDown && m[1].Check != nil && m[1].Check.Made > 0
	})
	said.take()

	next := f.config
	next.Upstreams = append([]Spec(nil), f.config.Upstreams...)
	next.Upstreams[1].Health = nil
	next.Pools = append([]PoolSpec(nil), f.config.Pools...)
	next.Pools[0].Health, next.Pools[0].Eject = nil, EjectSpec{Disabled: true}
	next.Changed, next.Later = other.tell, true
	trial, err := NewTable(next, tab)
	if err != nil {
		t.Fatal(err)
	}
	trial.Close()
	next.Pools[0].Members = []string{"upstream.none"}
	if _, err := NewTable(next, tab); err == nil {
		t.Fatal("no error")
	}
	before := tab.Pools()[0].Members
	if before[0].State != StateDown || before[0].Check == nil || before[1].Check == nil {
		t.Fatalf("%+v", before)
	}
	m := awaitMembers(t, tab, func(m []MemberStatus) bool {
		return m[0].Check.Made > before[0].Check.Made+1 && m[1].Check.Made > before[1].Check.Made+1
	})
	if m[0].State != StateDown || tab.Status()[1].Check == nil {
		t.Errorf("%+v", m)
	}
	f.proxies[0].Script()
	awaitMembers(t, tab, func(m []MemberStatus) bool { return m[0].State == StateHealthy })
	if a, b := said.take(), other.take(); !strings.Contains(a, "down > healthy") || b != "" {
		t.Errorf("told: %q, %q", a, b)
	}

	next.Pools[0].Members = f.config.Pools[0].Members
	taken, err := NewTable(next, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	taken.Begin()
	if m := taken.Pools()[0].Members; m[0].Check != nil || taken.Status()[1].Check != nil {
		t.Errorf("the new one has begun: %+v", m)
	}
}
