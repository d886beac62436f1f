package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// asking is a proxy of which each request is answered by f, which writes to c and reports whether the connection goes on.
func asking(t *testing.T, f func(c net.Conn, r *http.Request, conns int) bool) (connmodel.Address, *atomic.Int32) {
	t.Helper()
	var conns atomic.Int32
	return listen(t, func(c net.Conn) {
		n := int(conns.Add(1))
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil || !f(c, r, n) {
				return
			}
		}
	}), &conns
}

func deny(c net.Conn, more string, challenges ...string) {
	b := "HTTP/1.1 407 Proxy Authentication Required\r\n"
	for _, x := range challenges {
		b += "Proxy-Authenticate: " + x + "\r\n"
	}
	io.WriteString(c, b+more+"Content-Length: 5\r\n\r\nsorry")
}

const digestOffer = `Digest realm="x", nonce="%s", qop="auth"`

func loginSpec(name string, at connmodel.Address, schemes ...string) Spec {
	return Spec{Name: name, Scheme: "http", Address: at, Auth: &Auth{Username: "svc-" + name, Password: NewSecret("p4ss"), Schemes: schemes}}
}

func connectTo(t *testing.T, tab *Table, route string) (*Conn, *connmodel.ConnError) {
	t.Helper()
	return tab.Dial(t.Context(), &Request{Route: route, Target: connmodel.Address{Host: "a.example", Port: 443}}, nil)
}

// A proxy that closes the connection with its 407 is asked again on another one, and the answer goes there.
func TestClosingProxy(t *testing.T) {
	at, conns := asking(t, func(c net.Conn, r *http.Request, n int) bool {
		if strings.HasPrefix(r.Header.Get("Proxy-Authorization"), "Digest ") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhello")
			return false
		}
		deny(c, "Proxy-Connection: close\r\nConnection: close\r\n", fmt.Sprintf(digestOffer, "n"))
		return false
	})
	tab := table(t, Config{Upstreams: []Spec{loginSpec("p", at, "digest", "basic")}, Guard: auth.NewGuard(t.TempDir(), nil)})
	r := recorder(connmodel.Address{Host: "a.example", Port: 443})
	c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 443}}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if string(c.Early) != "hello" {
		t.Errorf("early %q", c.Early)
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
	if h := r.Snapshot().Server.Attempts[0].Hops[0]; h.AuthRounds != 1 || h.Credential != "p" {
		t.Errorf("%+v", h)
	}
}

func TestProxyThatAsksForEver(t *testing.T) {
	for name, f := range map[string]func(c net.Conn, n int, k *atomic.Int32) bool{
		"another nonce each time": func(c net.Conn, _ int, k *atomic.Int32) bool {
			deny(c, "", fmt.Sprintf(digestOffer+", stale=true", fmt.Sprint(k.Add(1))))
			return true
		},
		"closes each time": func(c net.Conn, _ int, k *atomic.Int32) bool {
			deny(c, "Connection: close\r\n", fmt.Sprintf(digestOffer+", stale=true", fmt.Sprint(k.Add(1))))
			return false
		},
		"another offer after the answer": func(c net.Conn, _ int, k *atomic.Int32) bool {
			if k.Add(1) == 1 {
				deny(c, "", fmt.Sprintf(digestOffer, "n"))
			} else {
				deny(c, "", "Basic realm=x")
			}
			return true
		},
	} {
		var asked, basic atomic.Int32
		at, _ := asking(t, func(c net.Conn, r *http.Request, n int) bool {
			if strings.HasPrefix(r.Header.Get("Proxy-Authorization"), "Basic") {
				basic.Add(1)
			}
			return f(c, n, &asked)
		})
		tab := table(t, Config{Upstreams: []Spec{loginSpec("p", at, "digest", "basic")}, Guard: auth.NewGuard(t.TempDir(), nil)})
		_, err := connectTo(t, tab, "upstream.p")
		if err == nil || err.Kind != connmodel.KindAuth || err.Code != 407 || basic.Load() != 0 || asked.Load() > 10 {
			t.Errorf("%s: %v, asked %d times, shown Basic %d times", name, err, asked.Load(), basic.Load())
		}
	}
}

// A member whose credential is closed is passed over, and the others go on.
func TestClosedCredentialInAPool(t *testing.T) {
	bad, badConns := asking(t, func(c net.Conn, r *http.Request, _ int) bool { deny(c, "", "Basic realm=x"); return true })
	good, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		return false
	})
	guard := auth.NewGuard(t.TempDir(), nil)
	conf := Config{Upstreams: []Spec{loginSpec("bad", bad), loginSpec("good", good)}, Guard: guard,
		Pools: []PoolSpec{{Name: "p", Members: []string{"upstream.bad", "upstream.good"}, Eject: EjectSpec{Disabled: true}}}}
	tab := table(t, conf)
	for i := range 20 {
		c, err := connectTo(t, tab, "pool.p")
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		c.Close()
	}
	if n := badConns.Load(); n != 1 {
		t.Errorf("%d connections to the one that rejects", n)
	}
	_, err := connectTo(t, tab, "upstream.bad")
	if err == nil || err.Kind != connmodel.KindAuth || err.Hop != 1 || !strings.Contains(err.Error(), "is closed since") || badConns.Load() != 1 {
		t.Errorf("%v, %d connections", err, badConns.Load())
	}
	s := tab.Status()
	if s[0].CredentialState != "closed" || s[1].CredentialState != "proven" || !strings.Contains(s[0].CredentialWhy, "407") {
		t.Errorf("%+v", s)
	}
	if m := tab.Pools()[0].Members; m[0].State != StateDown || !strings.Contains(m[0].LastError, "is closed since") || m[1].State != StateHealthy {
		t.Errorf("%+v", m)
	}
	// over a reload, too; and until somebody opens it
	next, e := NewTable(conf, tab)
	if e != nil {
		t.Fatal(e)
	}
	defer next.Close()
	if _, err := connectTo(t, next, "upstream.bad"); err == nil || badConns.Load() != 1 {
		t.Errorf("%v, %d connections", err, badConns.Load())
	}
	if was, ok, err := next.ResetCredential("bad"); was != "closed" || !ok || err != nil {
		t.Error(was, ok, err)
	}
	if _, ok, _ := next.ResetCredential("nosuch"); ok {
		t.Error("there is no such upstream")
	}
	if _, err := connectTo(t, next, "upstream.bad"); err == nil || badConns.Load() != 2 {
		t.Errorf("%v, %d connections", err, badConns.Load())
	}
}

// The one on whose behalf a credential is shown first may leave: what the proxy says of it is waited for all the same.
func TestTheAnswerIsWaitedFor(t *testing.T) {
	at, conns := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		time.Sleep(200 * time.Millisecond)
		deny(c, "", "Basic realm=x")
		return true
	})
	tab := table(t, Config{Upstreams: []Spec{loginSpec("p", at)}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := tab.Dial(ctx, &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 443}}, nil)
		cancel()
		if err == nil {
			t.Fatal("no error")
		}
	}
	if s := tab.Status()[0]; s.CredentialState != "closed" || conns.Load() != 1 {
		t.Errorf("%s after %d connections", s.CredentialState, conns.Load())
	}
}

// A plain request goes out when the proxy has let us in.
func TestPlainIsPrecededByALogin(t *testing.T) {
	for _, closing := range []bool{false, true} {
		var heads, shown atomic.Int32
		at, conns := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
			if r.Method != "HEAD" || r.URL.String() != "http://warm.example/x" {
				t.Errorf("%s %s before the login", r.Method, r.URL)
			}
			heads.Add(1)
			if r.Header.Get("Proxy-Authorization") == "" {
				io.WriteString(c, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: "+fmt.Sprintf(digestOffer, "n")+"\r\nContent-Length: 500\r\n\r\n") // to a HEAD: no body
				return true
			}
			shown.Add(1)
			if closing {
				io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
				return false
			}
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n")
			return true
		})
		spec := loginSpec("p", at, "digest")
		spec.Auth.WarmURL = "http://warm.example/x"
		tab := table(t, Config{Upstreams: []Spec{spec}, Guard: auth.NewGuard(t.TempDir(), nil)})
		q := &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 80}, Plain: true}
		c, err := tab.Dial(t.Context(), q, nil)
		if err != nil {
			t.Fatal(err)
		}
		name, value, err := c.Authorize("GET", "http://a.example/")
		if err != nil || name != "Proxy-Authorization" || !strings.Contains(value, "nc=00000002") || !c.Fickle() {
			t.Errorf("%q %q %v", name, value, err)
		}
		c.Answered(200, nil)
		c.Close()
		want := map[bool]int32{false: 1, true: 2}[closing]
		for end := time.Now().Add(5 * time.Second); conns.Load() < want && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		if tab.Status()[0].CredentialState != "proven" || shown.Load() != 1 || conns.Load() != want {
			t.Errorf("%s, shown %d times on %d connections", tab.Status()[0].CredentialState, shown.Load(), conns.Load())
		}
		if closing {
			continue
		}
		// it is known: no login, unless a body can be sent once only
		if c, err = tab.Dial(t.Context(), q, nil); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if heads.Load() != 2 {
			t.Errorf("%d requests", heads.Load())
		}
		q.Login = true
		if c, err = tab.Dial(t.Context(), q, nil); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if heads.Load() != 4 {
			t.Errorf("%d requests", heads.Load())
		}
	}
}

func TestTwoProxiesEachWithItsOwn(t *testing.T) {
	var second atomic.Value
	inner, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		if v := r.Header.Get("Proxy-Authorization"); v != "" {
			second.Store(v)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			return false
		}
		deny(c, "", fmt.Sprintf(digestOffer, "inner"))
		return true
	})
	outer := listen(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		r, err := http.ReadRequest(br)
		if err != nil || r.Header.Get("Proxy-Authorization") != "Basic c3ZjLW91dGVyOnA0c3M=" {
			t.Errorf("%v %v", r, err)
			return
		}
		next, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer next.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(next, br)
		io.Copy(c, next)
	})
	tab := table(t, Config{Upstreams: []Spec{loginSpec("outer", outer), loginSpec("inner", inner, "digest")}, Guard: auth.NewGuard(t.TempDir(), nil),
		Chains: []ChainSpec{{"c", []string{"upstream.outer", "upstream.inner"}}}})
	c, err := connectTo(t, tab, "chain.c")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if v, _ := second.Load().(string); !strings.Contains(v, `username="svc-inner"`) {
		t.Errorf("%q", v)
	}
}

// A ticket of a user in many groups has tens of kilobytes.
func TestLargeCredential(t *testing.T) {
	large := strings.Repeat("x", 60<<10)
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		if r.Header.Get("Proxy-Authorization") != "Bearer "+large {
			t.Errorf("%d bytes came", len(r.Header.Get("Proxy-Authorization")))
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		return false
	})
	spec := loginSpec("p", at, "bearer")
	spec.Auth = &Auth{Schemes: []string{"bearer"}, Token: NewSecret(large)}
	c, err := connectTo(t, table(t, Config{Upstreams: []Spec{spec}, Guard: auth.NewGuard(t.TempDir(), nil)}), "upstream.p")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A reload in the middle of an attempt begins no other: the connections of the new configuration wait for the old one's.
func TestReloadWhileItIsShown(t *testing.T) {
	var shown atomic.Int32
	seen, release := make(chan struct{}), make(chan struct{})
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		if shown.Add(1) == 1 {
			close(seen)
		}
		<-release
		deny(c, "", "Basic realm=x")
		return true
	})
	dir := t.TempDir()
	conf := Config{Upstreams: []Spec{loginSpec("p", at)}, Guard: auth.NewGuard(dir, nil)}
	tab := table(t, conf)
	results := make(chan *connmodel.ConnError, 10)
	dial := func(tab *Table) {
		_, err := tab.Dial(context.Background(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "a.example", Port: 443}}, nil)
		results <- err
	}
	go dial(tab)
	<-seen
	next, err := NewTable(conf, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	tab.Close()
	other := conf
	other.Guard = auth.NewGuard(dir, nil) // as another process has it
	beside := table(t, other)
	for range 3 {
		go dial(next)
		go dial(beside)
	}
	time.Sleep(50 * time.Millisecond)
	if n := shown.Load(); n != 1 {
		t.Errorf("shown %d times at the same time", n)
	}
	close(release)
	for range 7 {
		if err := <-results; err == nil || err.Kind != connmodel.KindAuth {
			t.Errorf("%v", err)
		}
	}
	if n := shown.Load(); n != 1 || next.Status()[0].CredentialState != "closed" || beside.Status()[0].CredentialState != "closed" {
		t.Errorf("shown %d times; %s, %s", n, next.Status()[0].CredentialState, beside.Status()[0].CredentialState)
	}
}
