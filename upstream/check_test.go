package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	ut "viaduct/upstream/upstreamtest"
)

func soonish() time.Time { return time.Now().Add(10 * time.Second) }

func httpCheck(t *testing.T, url string, status ...StatusRange) *Check {
	t.Helper()
	c, err := HTTPCheck(url)
	if err != nil {
		t.Fatal(err)
	}
	c.Status = status
	return c
}

// TestCheckKinds asks each kind of every sort of proxy and of direct.
func TestCheckKinds(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewHTTPOrigin(t, ut.Options{})
	secure := ut.NewHTTPOrigin(t, ut.Options{TLS: ca.ServerTLS(t, "127.0.0.1")})
	to := addr(t, origin.Addr())
	var c Config
	for _, s := range []string{"http", "https", "socks4", "socks4a", "socks5", "socks5h"} {
		_, spec := startProxy(t, ca, s, s, ut.Options{})
		c.Upstreams = append(c.Upstreams, spec)
	}
	c.Chains = []ChainSpec{{"two", []string{"upstream.socks5", "upstream.https"}}}
	tab := table(t, c)
	https := httpCheck(t, strings.Replace(secure.URL("/status/204"), "http://", "https://", 1))
	https.TLS = &tls.Config{RootCAs: ca.Pool()}
	head := httpCheck(t, origin.URL("/status/200"))
	head.Method = "HEAD"
	for _, route := range []string{"upstream.http", "upstream.https", "upstream.socks4", "upstream.socks4a", "upstream.socks5", "upstream.socks5h", "chain.two", "direct"} {
		for _, k := range []struct {
			check  *Check
			name   string
			status int
		}{
			{&Check{Kind: CheckTCP}, "tcp", 0}, {&Check{Kind: CheckTLS}, "tls", 0}, {&Check{Target: to}, "connect " + to.String(), 0},
			{httpCheck(t, origin.URL("/a?token=x")), "GET http://" + to.String() + "/a", 200},
			{httpCheck(t, origin.URL("/status/404"), StatusRange{200, 299}, StatusRange{404, 404}), "GET http://" + to.String() + "/status/404", 404},
			{head, "HEAD http://" + to.String() + "/status/200", 200},
			{https, "GET https://" + addr(t, secure.Addr()).String() + "/status/204", 204},
		} {
			res := tab.Check(t.Context(), route, k.check, soonish())
			if route == "direct" && (k.name == "tcp" || k.name == "tls") {
				if res.Err == nil || res.Err.Blame != connmodel.BlameLocal {
					t.Errorf("direct %s: %+v", k.name, res)
				}
				continue
			}
			if res.Err != nil || res.Status != k.status || res.Check != k.name || res.Took <= 0 || res.Short != "" || (res.Route > 0) != (k.name != "tcp" && k.name != "tls") {
				t.Errorf("%s %s: %+v", route, k.name, res)
			}
		}
	}
	for _, u := range tab.Status() {
		if u.Open != 0 {
			t.Errorf("%s has %d open", u.Name, u.Open)
		}
	}
}

// TestCheckBlame: who is at fault when a check fails.
func TestCheckBlame(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewHTTPOrigin(t, ut.Options{})
	secure := ut.NewHTTPOrigin(t, ut.Options{TLS: ca.ServerTLS(t, "127.0.0.1")})
	nowhere := ut.Refused(t)
	https := httpCheck(t, strings.Replace(secure.URL("/"), "http://", "https://", 1))
	for _, c := range []struct {
		name  string
		do    ut.Behaviour
		check *Check
		kind  connmodel.Kind
		blame connmodel.Blame
		says  string
	}{
		{"proxy silent", ut.Silence, &Check{Target: addr(t, origin.Addr())}, connmodel.KindTimeout, connmodel.BlameProxy, "did not answer in time"},
		{"proxy silent, absolute", ut.Silence, httpCheck(t, origin.URL("/")), connmodel.KindTimeout, connmodel.BlameProxy, "did not answer in time"},
		{"proxy leaves", ut.CloseAfterRequest, httpCheck(t, origin.URL("/")), connmodel.KindEOF, connmodel.BlameProxy, "closed the connection"},
		{"proxy resets", ut.Reset, &Check{Target: addr(t, origin.Addr())}, connmodel.KindReset, connmodel.BlameProxy, "reset"},
		{"proxy talks junk", ut.Junk, &Check{Target: addr(t, origin.Addr())}, connmodel.KindProtocol, connmodel.BlameProxy, "does not speak http"},
		{"proxy denies", ut.Status(403, "no"), &Check{Target: addr(t, origin.Addr())}, connmodel.KindDenied, connmodel.BlameTarget, "do not allow"},
		{"proxy wants a login", ut.Status(407, "no"), &Check{Target: addr(t, origin.Addr())}, connmodel.KindAuth, connmodel.BlameProxy, "add auth"},
		{"proxy wants a login, absolute", ut.Status(407, "no"), httpCheck(t, origin.URL("/")), connmodel.KindAuth, connmodel.BlameProxy, "add auth"},
		{"target down", ut.OK, &Check{Target: addr(t, nowhere)}, connmodel.KindUnreachable, connmodel.BlameTarget, "could not reach"},
		{"captive portal", ut.Status(302, "login", "Location: http://portal/"), httpCheck(t, origin.URL("/")), connmodel.KindProtocol, connmodel.BlameTarget, "answered with 302, expected 200-299"},
		{"wrong status", ut.OK, httpCheck(t, origin.URL("/status/503")), connmodel.KindProtocol, connmodel.BlameTarget, "answered with 503"},
		{"server hangs, absolute", ut.OK, httpCheck(t, origin.URL("/hang")), connmodel.KindTimeout, connmodel.BlameProxy, "in time"},
		{"certificate", ut.OK, https, connmodel.KindTLS, connmodel.BlameTarget, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, s := startProxy(t, nil, "p", "http", ut.Options{Script: []ut.Behaviour{c.do}})
			tab := table(t, Config{Upstreams: []Spec{s}})
			wait := 10 * time.Second
			if c.kind == connmodel.KindTimeout {
				wait = 1200 * time.Millisecond
			}
			res := tab.Check(t.Context(), "upstream.p", c.check, time.Now().Add(wait))
			if res.Err == nil || res.Err.Kind != c.kind || res.Err.Blame != c.blame || !strings.Contains(res.Err.Message, c.says) {
				t.Errorf("%+v", res.Err)
			}
		})
	}
}

// TestCheckReadsLittle: through a tunnel the answer comes from the server itself, bounded.
func TestCheckReadsLittle(t *testing.T) {
	var wrote atomic.Int64
	endless := listen(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for {
			n, err := io.WriteString(c, "X-Filler: "+strings.Repeat("f", 1000)+"\r\n")
			if wrote.Add(int64(n)); err != nil {
				return
			}
		}
	})
	garbage := listen(t, func(c net.Conn) { c.Read(make([]byte, 4096)); io.WriteString(c, "what?\r\n\r\n") })
	early := listen(t, func(c net.Conn) { c.Read(make([]byte, 4096)) })
	tab := table(t, Config{})
	for at, says := range map[connmodel.Address]string{endless: "header section too large", garbage: "is no answer to", early: "closed the connection"} {
		res := tab.Check(t.Context(), "direct", httpCheck(t, "http://"+at.String()+"/"), soonish())
		if res.Err == nil || res.Err.Blame != connmodel.BlameTarget || res.Err.Side != connmodel.SideServer || !strings.Contains(res.Err.Message, says) {
			t.Errorf("%s: %+v", says, res.Err)
		}
	}
}

func TestHTTPCheckURLs(t *testing.T) {
	for url, want := range map[string]string{
		"http://a.example/": "GET http://a.example/", "https://A.example": "GET https://a.example/", "http://[2001:db8::1]/x": "GET http://[2001:db8::1]/x",
		"http://a.example:8080/x?y=z": "GET http://a.example:8080/x", "https://a.example:443/": "GET https://a.example/", "https://192.0.2.1:80/": "GET https://192.0.2.1:80/",
	} {
		c, err := HTTPCheck(url)
		if err != nil || c.ready().String() != want {
			t.Errorf("%s: %v, %v", url, c, err)
		}
	}
	for _, url := range []string{"", "a.example", "ftp://a.example/", "http://u:p@a.example/", "http:///x", "http://a.example:0/", "http:a", "http://a b/"} {
		if c, err := HTTPCheck(url); err == nil {
			t.Errorf("%s: %v", url, c)
		}
	}
}

// countingProxy wants Basic and says how often it was shown a credential, right or wrong.
type countingProxy struct {
	at           connmodel.Address
	right, wrong atomic.Int32
	bare         atomic.Int32
	password     atomic.Value // string
}

func newCountingProxy(t *testing.T) *countingProxy {
	p := &countingProxy{}
	p.password.Store("p4ss")
	p.at, _ = asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		r.Header["Authorization"] = r.Header["Proxy-Authorization"]
		_, pw, ok := r.BasicAuth()
		switch {
		case !ok:
			p.bare.Add(1)
			deny(c, "", "Basic realm=x")
		case pw != p.password.Load():
			p.wrong.Add(1)
			deny(c, "", "Basic realm=x")
		case r.Method == "CONNECT":
			p.right.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			return false
		default:
			p.right.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	})
	return p
}

// TestChecksNeverProve: a credential that no flow has proved is not shown; one that is proved is; one that has become wrong is rejected once, over
// many members and checks at the same time; and a closed one is not shown at all.
func TestChecksNeverProve(t *testing.T) {
	for _, kind := range []string{CheckConnect, CheckHTTP} {
		t.Run(kind, func(t *testing.T) {
			p := newCountingProxy(t)
			c := Config{Guard: auth.NewGuard(t.TempDir(), nil)}
			for i := range 20 { // the same account everywhere
				s := loginSpec(fmt.Sprintf("p%d", i), p.at)
				s.Auth.Username = "svc"
				c.Upstreams = append(c.Upstreams, s)
			}
			tab := table(t, c)
			check := &Check{Target: connmodel.Address{Host: "a.example", Port: 443}}
			if kind == CheckHTTP {
				check = httpCheck(t, "http://a.example/")
			}
			all := func() (results []CheckResult) {
				results = make([]CheckResult, 20)
				var wg sync.WaitGroup
				for i := range results {
					wg.Go(func() { results[i] = tab.Check(t.Context(), fmt.Sprintf("upstream.p%d", i), check, soonish()) })
				}
				wg.Wait()
				return results
			}
			for i, res := range all() {
				if res.Err != nil || res.Short == "" || res.Route != 0 || !strings.Contains(res.Short, fmt.Sprintf("p%d", i)) {
					t.Fatalf("%+v", res)
				}
			}
			if p.right.Load()+p.wrong.Load() != 0 || p.bare.Load() != 20 {
				t.Fatalf("unproven: shown %d times", p.right.Load())
			}
			conn, err := connectTo(t, tab, "upstream.p3")
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			for _, res := range all() {
				if res.Err != nil || res.Short != "" {
					t.Fatalf("proven: %+v", res)
				}
			}
			if p.bare.Load() != 20 || p.right.Load() < 21 {
				t.Errorf("proven: shown %d times, left out %d times", p.right.Load(), p.bare.Load())
			}
			p.password.Store("another")
			for _, res := range append(all(), all()...) {
				if res.Err == nil || res.Err.Kind != connmodel.KindAuth {
					t.Fatalf("wrong: %+v", res)
				}
			}
			if n := p.wrong.Load(); n != 1 {
				t.Errorf("a wrong password was shown %d times", n)
			}
		})
	}
}

// TestChecksOfSOCKSLogins: nobody guards those, and they are shown by checks only while flows get in with them.
func TestChecksOfSOCKSLogins(t *testing.T) {
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	p, s := startProxy(t, nil, "p", "socks5h", ut.Options{User: "u", Password: "right"})
	c := Config{Upstreams: []Spec{s}}
	tab := table(t, c)
	check := &Check{Target: addr(t, origin.Addr())}
	if res := tab.Check(t.Context(), "upstream.p", check, soonish()); res.Err != nil || res.Short == "" || len(p.Requests()) != 0 {
		t.Fatalf("%+v", res)
	}
	conn, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: check.Target}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if res := tab.Check(t.Context(), "upstream.p", check, soonish()); res.Err != nil || res.Short != "" || len(p.Requests()) != 2 {
		t.Fatalf("%+v", res)
	}
	p.Script(ut.AuthReply(1, 1))
	before := 0
	for i := range 5 {
		res := tab.Check(t.Context(), "upstream.p", check, soonish())
		if i == 0 {
			if res.Err == nil || res.Err.Kind != connmodel.KindAuth {
				t.Fatalf("%+v", res)
			}
			before = len(p.Requests())
			continue
		}
		if res.Err != nil || res.Short == "" || len(p.Requests()) != before {
			t.Fatalf("%d: %+v, %d requests", i, res, len(p.Requests()))
		}
	}
	next, e := NewTable(c, tab) // a reload makes nothing forgotten
	if e != nil {
		t.Fatal(e)
	}
	defer next.Close()
	if res := next.Check(t.Context(), "upstream.p", check, soonish()); res.Short == "" {
		t.Fatalf("after a reload: %+v", res)
	}
	p.Script()
	if conn, err = next.Dial(t.Context(), &Request{Route: "upstream.p", Target: check.Target}, nil); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if res := next.Check(t.Context(), "upstream.p", check, soonish()); res.Err != nil || res.Short != "" {
		t.Fatalf("after a flow got in: %+v", res)
	}
}

// TestCheckEndsWithItsContext, in the middle of a handshake and of an answer.
func TestCheckEndsWithItsContext(t *testing.T) {
	origin := ut.NewHTTPOrigin(t, ut.Options{})
	_, s := startProxy(t, nil, "p", "http", ut.Options{Script: []ut.Behaviour{ut.Silence}})
	tab := table(t, Config{Upstreams: []Spec{s}})
	for _, c := range []struct {
		route string
		check *Check
	}{{"upstream.p", &Check{Target: addr(t, origin.Addr())}}, {"direct", httpCheck(t, origin.URL("/hang"))}, {"upstream.p", httpCheck(t, origin.URL("/"))}} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		start := time.Now()
		res := tab.Check(ctx, c.route, c.check, time.Now().Add(time.Minute))
		if res.Err == nil || time.Since(start) > 20*time.Second {
			t.Errorf("%+v after %v", res, time.Since(start))
		}
	}
}

// TestChecksNeverProveWhatIsAskedForLate: a proxy may let a HEAD in, and ask who we are when it is to fetch.
func TestChecksNeverProveWhatIsAskedForLate(t *testing.T) {
	for _, open := range []bool{true, false} {
		var shown, fetched atomic.Int32
		at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
			if r.Header.Get("Proxy-Authorization") != "" {
				shown.Add(1)
			}
			switch {
			case r.Method == "HEAD":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			case open:
				fetched.Add(1)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			default:
				fetched.Add(1)
				deny(c, "", "Basic realm=x")
			}
			return true
		})
		for _, guard := range []*auth.Guard{auth.NewGuard(t.TempDir(), nil), nil} {
			tab := table(t, Config{Guard: guard, Upstreams: []Spec{loginSpec("p", at)}})
			fetched.Store(0)
			for range 3 {
				res := tab.Check(t.Context(), "upstream.p", httpCheck(t, "http://a.example/"), soonish())
				if res.Err != nil || (res.Short == "") != open || (res.Route == 0) == open {
					t.Errorf("open %v: %+v", open, res)
				}
			}
			if shown.Load() != 0 || fetched.Load() != 3 {
				t.Errorf("open %v: shown %d times, asked %d times", open, shown.Load(), fetched.Load())
			}
		}
	}
}
