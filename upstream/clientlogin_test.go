package upstream

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/h2"
	ut "viaduct/upstream/upstreamtest"
)

func ann() *ClientLogin { return &ClientLogin{User: "ann", Password: NewSecret("c4n4ry")} }

// TestClientLoginsHaveNoTrunk: no HTTP/2 connection to a proxy, nor through one, that is shown a client's login is shared.
func TestClientLoginsHaveNoTrunk(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	first, mine := startH2(t, ca, "mine", ut.Options{User: "ann", Password: "c4n4ry"}, h2.ServerOptions{})
	second, behind := startH2(t, ca, "behind", ut.Options{}, h2.ServerOptions{})
	mine.Auth = &Auth{FromClient: true}
	tab := table(t, Config{Upstreams: []Spec{mine, behind}, Chains: []ChainSpec{{Name: "both", Hops: []string{"upstream.mine", "upstream.behind"}}, {Name: "back", Hops: []string{"upstream.behind", "upstream.mine"}}},
		Guard: auth.NewGuard(t.TempDir(), nil)})
	dial := func(route string) *connmodel.Flow {
		t.Helper()
		r := recorder(to)
		c, err := tab.Dial(t.Context(), &Request{Route: route, Target: to, Proved: ann()}, r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		say(t, c, "hello")
		if !c.Personal() {
			t.Error("it may be shared")
		}
		return r.Snapshot()
	}
	for range 3 {
		f := dial("upstream.mine")
		if hop := f.Server.Attempts[0].Hops[0]; *hop.TLSInfo.ALPN != "http/1.1" || hop.Reused || hop.Credential != "mine" {
			t.Errorf("%+v", hop)
		}
	}
	if n := first.conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 tunnels", n)
	}
	for range 3 {
		dial("chain.both")
	}
	if n := second.conns.Load(); n != 3 {
		t.Errorf("%d connections through the proxy for 3 tunnels", n)
	}
	for range 3 { // the trunk to a proxy that comes before is nobody's
		dial("chain.back")
	}
	if n := second.conns.Load(); n != 4 {
		t.Errorf("%d connections for 3 more tunnels", n-3)
	}
}

// TestChecksHaveNoClient: a check asks such a proxy without a login, and its 407 is as far as it goes.
func TestChecksHaveNoClient(t *testing.T) {
	heads := make(chan string, 10)
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		heads <- r.Method + " " + r.Header.Get("Proxy-Authorization")
		deny(c, "", "Basic realm=x")
		return true
	})
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "http", Address: at, Auth: &Auth{FromClient: true}}}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for _, kind := range []string{CheckConnect, CheckHTTP, CheckTCP} {
		res := tab.Check(t.Context(), "upstream.p", &Check{Kind: kind, Target: connmodel.Address{Host: "a.example", Port: 80}}, time.Now().Add(10*time.Second))
		if res.Err != nil || (kind != CheckTCP) != strings.Contains(res.Short, "is not shown") {
			t.Errorf("%s: %+v", kind, res)
		}
	}
	close(heads)
	for h := range heads {
		if !strings.HasSuffix(h, " ") {
			t.Errorf("asked %q", h)
		}
	}
}

// TestClientLoginThatBasicCannotSay: it is refused before anything is sent.
func TestClientLoginThatBasicCannotSay(t *testing.T) {
	at, conns := asking(t, func(c net.Conn, r *http.Request, _ int) bool { deny(c, ""); return false })
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "http", Address: at, Auth: &Auth{FromClient: true}}}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for _, l := range []*ClientLogin{{User: "a:b", Password: NewSecret("c4n4ry")}, {User: "ann", Password: NewSecret("c4n4ry\n")}, {User: "ann"}, {}, nil} {
		c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 443}, Proved: l}, nil)
		if c != nil || err == nil || err.Blame != connmodel.BlameClient || err.Kind != connmodel.KindAuth || err.HopName != "p" || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%v: %v", l, err)
		}
	}
	if conns.Load() != 0 {
		t.Error("the proxy was connected to")
	}
}

// TestUnreadCredential: a proxy whose secret is not known here is not even connected to, whatever it speaks; where another can be had, that is taken.
func TestUnreadCredential(t *testing.T) {
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	good := ut.NewHTTP(t, ut.Options{})
	for _, scheme := range []string{"http", "socks5h", "socks4a"} {
		at, conns := asking(t, func(c net.Conn, r *http.Request, _ int) bool { deny(c, "", "Basic realm=x"); return true })
		tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: scheme, Address: at, Auth: &Auth{Username: "svc", Unread: true}}, {Name: "good", Scheme: "http", Address: addr(t, good.Addr())}},
			Guard: auth.NewGuard(t.TempDir(), nil), Chains: []ChainSpec{{Name: "c", Hops: []string{"upstream.good", "upstream.p"}}},
			Pools: []PoolSpec{{Name: "two", Members: []string{"upstream.p", "upstream.good"}}}})
		for _, route := range []string{"upstream.p", "chain.c"} {
			for _, plain := range []bool{false, true} {
				c, err := tab.Dial(t.Context(), &Request{Route: route, Target: to, Plain: plain}, nil)
				if c != nil || err == nil || err.Blame != connmodel.BlameLocal || err.Kind != connmodel.KindAuth || !strings.Contains(err.Error(), "is not known here") {
					t.Errorf("%s, %s, plain %v: %v", scheme, route, plain, err)
				}
			}
		}
		c, err := tab.Dial(t.Context(), &Request{Route: "pool.two", Target: to}, nil)
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
		} else {
			c.Close()
		}
		if conns.Load() != 0 {
			t.Errorf("%s: the proxy was connected to", scheme)
		}
	}
}

// TestOneLoginForTwoProxies: what one rejected is not shown to the other, unless they have users of their own.
func TestOneLoginForTwoProxies(t *testing.T) {
	for _, realm := range []string{"", "own"} {
		var tables []Spec
		total := 0
		count := make(chan string, 10)
		for _, name := range []string{"a", "b"} {
			at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
				count <- name
				deny(c, "", "Basic realm=x")
				return true
			})
			s := Spec{Name: name, Scheme: "http", Address: at, Auth: &Auth{FromClient: true}}
			if name == "b" {
				s.Auth.Realm = realm
			}
			tables = append(tables, s)
		}
		tab := table(t, Config{Upstreams: tables, Guard: auth.NewGuard(t.TempDir(), nil), Pools: []PoolSpec{{Name: "p", Members: []string{"upstream.a", "upstream.b"}}}})
		for range 3 {
			if _, err := tab.Dial(t.Context(), &Request{Route: "pool.p", Target: connmodel.Address{Host: "a.example", Port: 443}, Proved: ann()}, nil); err == nil || err.Kind != connmodel.KindAuth {
				t.Error(err)
			}
		}
		close(count)
		for range count {
			total++
		}
		if want := map[string]int{"": 1, "own": 2}[realm]; total != want {
			t.Errorf("realm %q: shown %d times, want %d", realm, total, want)
		}
	}
}

// TestClientLoginKeys: connections of one login are not taken for another's.
func TestClientLoginKeys(t *testing.T) {
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool { return false })
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "http", Address: at, Auth: &Auth{FromClient: true}}, {Name: "q", Scheme: "http", Address: at}}})
	key := func(route string, l *ClientLogin) Key {
		return tab.Key(&Request{Route: route, Plain: true, Proved: l}, true)
	}
	if one, two := key("upstream.p", ann()), key("upstream.p", ann()); one != two {
		t.Error("the same login has two keys")
	}
	if key("upstream.p", ann()) == key("upstream.p", &ClientLogin{User: "ann", Password: NewSecret("x")}) || key("upstream.p", ann()) == key("upstream.p", nil) {
		t.Error("two logins have one key")
	}
	if key("upstream.q", ann()) != key("upstream.q", nil) {
		t.Error("the login tells connections apart where it is not shown")
	}
	if s := fmt.Sprintf("%#v %+v", key("upstream.p", ann()), ann()); strings.Contains(s, "c4n4ry") || strings.Contains(s, base64.StdEncoding.EncodeToString([]byte("ann:c4n4ry"))) {
		t.Error(s)
	}
}

// TestForgottenLogin: between two requests a kept connection has no login, and asks for it.
func TestForgottenLogin(t *testing.T) {
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		if r.Header.Get("Proxy-Authorization") == "" {
			deny(c, "", "Basic realm=x")
		} else {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	})
	tab := table(t, Config{Upstreams: []Spec{{Name: "p", Scheme: "http", Address: at, Auth: &Auth{FromClient: true}}}, Guard: auth.NewGuard(t.TempDir(), nil)})
	c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 80}, Plain: true, Proved: ann()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func() {
		t.Helper()
		name, value, err := c.Authorize("GET", "http://a.example/")
		if err != nil || name == "" {
			t.Fatal(name, err)
		}
		fmt.Fprintf(c, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n%s: %s\r\n\r\n", name, value)
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		c.Answered(200, nil)
	}
	send()
	c.Forget()
	if _, _, err := c.Authorize("GET", "http://a.example/"); err == nil || err.Kind != connmodel.KindAuth {
		t.Error(err)
	}
	if err := c.Renew(nil); err == nil {
		t.Error("no login will do")
	}
	if err := c.Renew(ann()); err != nil {
		t.Fatal(err)
	}
	send()
}
