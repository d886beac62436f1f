package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// What a trace prints is never taken back: parts that are settled in any look at the record stay what and where they are in every later one.
func TestPartsAreSettled(t *testing.T) {
	type b = upstreamtest.Behaviour
	slow := upstreamtest.Slow(time.Millisecond)
	for _, tt := range []struct {
		first, second b
		login         bool
	}{
		{slow, slow, true}, {slow, upstreamtest.SOCKSReply(2), false}, {upstreamtest.Status(407, "no"), slow, true}, {upstreamtest.Status(502, "no"), slow, false}, {slow, upstreamtest.HalfReply, true},
		{upstreamtest.ResetAfterRequest, slow, false}, {slow, upstreamtest.SilenceAfterRequest, true}, {slow, upstreamtest.AuthReply(1, 1), true}, {upstreamtest.Reset, slow, false}, {slow, upstreamtest.Coalesce, false},
	} {
		t.Run(tt.first.Name+" then "+tt.second.Name, func(t *testing.T) {
			o := upstreamtest.Options{}
			if tt.login {
				o.User, o.Password = "svc", traceSecret
			}
			p, q := upstreamtest.NewHTTP(t, o), upstreamtest.NewSOCKS5(t, o)
			p.Script(tt.first)
			q.Script(tt.second)
			echo := upstreamtest.NewOrigin(t, upstreamtest.Banner("hello"), upstreamtest.Options{})
			spec := func(name, scheme, addr string) upstream.Spec {
				a, err := connmodel.ParseAddress(addr)
				if err != nil {
					t.Fatal(err)
				}
				s := upstream.Spec{Name: name, Scheme: scheme, Address: a}
				if tt.login {
					s.Auth = &upstream.Auth{Username: "svc", Password: upstream.NewSecret(traceSecret)}
				}
				return s
			}
			table, err := upstream.NewTable(upstream.Config{Upstreams: []upstream.Spec{spec("dead", "http", upstreamtest.Refused(t)), spec("p", "http", p.Addr()), spec("q", "socks5h", q.Addr())},
				Pools: []upstream.PoolSpec{{Name: "some", Members: []string{"upstream.dead", "upstream.p"}}}, Chains: []upstream.ChainSpec{{Name: "two", Hops: []string{"pool.some", "upstream.q"}}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			to, err := connmodel.ParseAddress(echo.Addr())
			if err != nil {
				t.Fatal(err)
			}
			rec := connmodel.NewSession(connmodel.Accepted{}, nil).NewFlow(connmodel.ProtocolConnect, to, time.Time{})
			var mu sync.Mutex
			var said []upstream.Said
			var looks [][]part
			look := func() {
				mu.Lock()
				defer mu.Unlock()
				looks = append(looks, partsOf(rec.Snapshot(), said))
			}
			over, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-over:
						return
					case <-time.After(200 * time.Microsecond):
						look()
					}
				}
			}()
			c, _ := table.Dial(t.Context(), &upstream.Request{Route: "chain.two", Target: to, Deadline: time.Now().Add(500 * time.Millisecond), Watch: func(s upstream.Said) {
				look()
				mu.Lock()
				said = append(said, s)
				mu.Unlock()
				look()
			}}, rec)
			if c != nil {
				c.Close()
			}
			close(over)
			<-done
			look()
			last := looks[len(looks)-1]
			text := func(p *part) string {
				if p.step == nil {
					return fmt.Sprint(p.attempt, p.hop, p.head, p.again)
				}
				return fmt.Sprint(p.attempt, p.hop, p.step.Name, p.step.Status, p.step.Took, p.step.Says)
			}
			for _, parts := range looks {
				for i := range parts {
					if !parts[i].settled {
						break
					}
					if i >= len(last) || text(&parts[i]) != text(&last[i]) {
						t.Fatalf("part %d was %s and is %v", i, text(&parts[i]), last[min(i, len(last)-1)])
					}
				}
			}
			for i := range last {
				if !last[i].settled {
					t.Errorf("not settled in the end: %s", text(&last[i]))
				}
			}
			if len(last) < 4 {
				t.Errorf("%d parts, %d looks", len(last), len(looks))
			}
		})
	}
}

// Each choice of a route is taken in turn, and of very many a few.
func TestWaysOf(t *testing.T) {
	one := func(name string) upstream.HopInfo { return upstream.HopInfo{Kind: "upstream", Name: name} }
	pool := func(name string, members ...upstream.MemberInfo) upstream.HopInfo {
		return upstream.HopInfo{Kind: "pool", Name: name, Members: members}
	}
	member := func(route string, hops ...upstream.HopInfo) upstream.MemberInfo {
		return upstream.MemberInfo{Route: route, Hops: hops}
	}
	ab := pool("pool.ab", member("upstream.a", one("a")), member("upstream.b", one("b")))
	for _, tt := range []struct {
		hops []upstream.HopInfo
		want string
	}{
		{[]upstream.HopInfo{one("a")}, "[a []]"},
		{[]upstream.HopInfo{{Kind: "direct", Name: "direct"}}, "[direct []]"},
		{[]upstream.HopInfo{ab, one("j")}, "[a > j [upstream.a] b > j [upstream.b]]"},
		{[]upstream.HopInfo{ab, ab}, "[a > a [upstream.a upstream.a] a > b [upstream.a upstream.b] b > a [upstream.b upstream.a] b > b [upstream.b upstream.b]]"},
		{[]upstream.HopInfo{pool("pool.x", member("pool.ab", ab), member("chain.c", one("c"), one("d")))}, "[a [pool.ab upstream.a] b [pool.ab upstream.b] c > d [chain.c]]"},
	} {
		var got []string
		for _, w := range waysOf(tt.hops) {
			got = append(got, fmt.Sprint(w.name(), " ", w.pins))
		}
		if text := fmt.Sprint(got); text != tt.want {
			t.Errorf("%s, want %s", text, tt.want)
		}
	}
	var many []upstream.MemberInfo
	for i := range 10_000 {
		many = append(many, member(fmt.Sprint("upstream.", i), one(fmt.Sprint(i))))
	}
	big := pool("pool.big", many...)
	if n := len(waysOf([]upstream.HopInfo{big, big, big, big, big, big, big, big})); n > 4*maxWays+1 || n < maxWays {
		t.Errorf("%d ways", n)
	}
}
