package upstream

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/connmodel"
)

// picks makes a table of a pool of n members that are never dialled, and returns one that chooses without telling how it went.
func picks(t *testing.T, n int, spec PoolSpec) (*pool, func() int) {
	t.Helper()
	c := Config{NoChecks: true}
	spec.Name = "p"
	for i := range n {
		name := string(rune('a' + i))
		c.Upstreams = append(c.Upstreams, Spec{Name: name, Scheme: "http", Address: connmodel.Address{Host: "192.0.2.1", Port: uint16(1 + i)}})
		spec.Members = append(spec.Members, "upstream."+name)
	}
	c.Pools = []PoolSpec{spec}
	tab, err := NewTable(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	p := tab.routes["pool.p"].pool
	return p, func() int {
		d := &dialing{t: tab, q: &Request{Client: netip.MustParseAddr("10.0.0.1")}, tried: new(Tried)}
		m, probe := p.choose(d, time.Now())
		m.undecided(probe)
		for i := range p.members {
			if p.members[i] == m {
				return i
			}
		}
		return -1
	}
}

func knockOut(m *member) {
	for range 3 {
		m.failed(time.Now(), faultOfProxy, false)
	}
}

// heal lets an ejected member come back.
func heal(t *testing.T, m *member) {
	t.Helper()
	time.Sleep(time.Until(m.returns()))
	_, probe := m.claim(time.Now())
	if m.succeeded(time.Now(), 1, probe); m.bad.Load() {
		t.Fatal("not healed")
	}
}

// TestFailBack: the first member is used again when it has been well for a while, and a flapping one takes the flows with it rarely.
func TestFailBack(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Minute, -1} {
		synctest.Test(t, func(t *testing.T) {
			p, pick := picks(t, 2, PoolSpec{FailBack: wait})
			first := p.members[0]
			if pick() != 0 {
				t.Fatal("not the first")
			}
			knockOut(first)
			if pick() != 1 {
				t.Fatal("not the second")
			}
			heal(t, first)
			if wait < 0 {
				if pick() != 0 {
					t.Error("not at once")
				}
				return
			}
			if wait == 0 {
				wait = defaultFailBack
			}
			time.Sleep(wait - 1)
			if pick() != 1 {
				t.Error("too early")
			}
			if p.outdated(p.members[1], time.Now()) {
				t.Error("a connection by the second is given up too early")
			}
			time.Sleep(time.Nanosecond)
			if pick() != 0 {
				t.Error("not back")
			}
			if !p.outdated(p.members[1], time.Now()) || p.outdated(first, time.Now()) {
				t.Error("a connection by the second would do for good")
			}
			knockOut(first)
			heal(t, first)
			knockOut(p.members[1]) // nobody else is there
			if pick() != 0 {
				t.Error("the one that is well is not taken")
			}
		})
	}
}

// TestFlappingFirstMember comes and goes every few seconds, as active checks see it, for an hour.
func TestFlappingFirstMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, pick := picks(t, 2, PoolSpec{Health: &HealthSpec{Every: time.Hour}, FailBack: 30 * time.Second})
		first := p.members[0]
		moves, last := 0, 0
		for i := range 360 {
			var err *connmodel.ConnError
			if i%3 != 0 {
				err = faultOfProxy
			}
			first.checked(time.Now(), CheckResult{At: time.Now(), Err: err}, nil)
			time.Sleep(10 * time.Second)
			if now := pick(); now != last {
				moves, last = moves+1, now
			}
		}
		if moves != 1 {
			t.Errorf("the flows moved %d times", moves)
		}
	})
}

// TestWarmUp: the share of a member that came back grows; that of one that was never out does not have to.
func TestWarmUp(t *testing.T) {
	for _, how := range []string{SelectRoundRobin, SelectRandom, SelectLeastConnections, SelectFastest, SelectHash, SelectFirstHealthy} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, pick := picks(t, 2, PoolSpec{Select: how, WarmUp: 100 * time.Second, FailBack: -1})
				share := func() float64 {
					n := 0
					for range 4000 {
						i := pick()
						if i == 0 {
							n++
						}
					}
					return float64(n) / 4000
				}
				if how == SelectFastest || how == SelectLeastConnections { // it would be given everything
					p.members[1].open.Add(1)
					p.members[0].pace.note(time.Now(), time.Millisecond)
					p.members[1].pace.note(time.Now(), time.Second)
				}
				whole := share()
				knockOut(p.members[0])
				heal(t, p.members[0])
				last := -1.0
				for range 5 {
					now := share()
					if how == SelectHash || how == SelectFirstHealthy {
						if now != whole {
							t.Errorf("%.2f of the flows, %.2f before: these do not warm up", now, whole)
						}
					} else if now <= last {
						t.Errorf("%.2f of the flows after %.2f", now, last)
					}
					if last == -1 && now > 0.2 && whole < 1 && how != SelectHash {
						t.Errorf("%.2f of the flows at once", now)
					}
					last = now
					time.Sleep(20 * time.Second)
				}
				if now := share(); now < whole-0.05 || now > whole+0.05 {
					t.Errorf("%.2f in the end, %.2f before", now, whole)
				}
				knockOut(p.members[1])
				heal(t, p.members[1])
				knockOut(p.members[0])
				heal(t, p.members[0])
				if a, b := pick(), pick(); a < 0 || b < 0 { // both warm up: somebody is taken all the same
					t.Error("nobody is taken")
				}
			})
		})
	}
}

// TestPaceForgets: an average that is old counts for little.
func TestPaceForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		note := func(after, took, want time.Duration) {
			t.Helper()
			time.Sleep(after)
			if p.note(time.Now(), took); time.Duration(p.mean.Load()).Round(time.Millisecond) != want {
				t.Errorf("%v, want %v", time.Duration(p.mean.Load()), want)
			}
		}
		note(time.Second, 100*time.Millisecond, 100*time.Millisecond)
		note(time.Millisecond, 200*time.Millisecond, 120*time.Millisecond)
		note(7500*time.Millisecond, 200*time.Millisecond, 160*time.Millisecond)
		note(time.Hour, 10*time.Millisecond, 10*time.Millisecond)
	})
}

// TestFastestLooksAgain: a member that was slow once is measured again, the one that was not for longest first.
func TestFastestLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, pick := picks(t, 3, PoolSpec{Select: SelectFastest})
		for i, took := range []time.Duration{10, 500, 300} {
			p.members[i].pace.note(time.Now(), took*time.Millisecond)
			time.Sleep(time.Second)
		}
		seen := map[int]int{}
		for range 32 * 40 {
			i := pick()
			seen[i]++
			p.members[i].pace.note(time.Now(), []time.Duration{10, 20, 5}[i]*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
		}
		if seen[1] == 0 || seen[2] < seen[0] {
			t.Errorf("flows went %v: the third is the fastest now", seen)
		}
	})
}
