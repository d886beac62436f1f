package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

func addr(t testing.TB, s string) connmodel.Address {
	t.Helper()
	a, err := connmodel.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var schemes = Schemes()

// startProxy starts a proxy that speaks scheme, and returns it with its specification.
func startProxy(t testing.TB, ca *upstreamtest.CA, name, scheme string, o upstreamtest.Options) (*upstreamtest.Proxy, Spec) {
	t.Helper()
	s := Spec{Name: name, Scheme: scheme}
	var p *upstreamtest.Proxy
	switch scheme {
	case "http":
		p = upstreamtest.NewHTTP(t, o)
	case "https":
		o.TLS = ca.ServerTLS(t, "127.0.0.1")
		p = upstreamtest.NewHTTP(t, o)
		s.TLS = &tls.Config{RootCAs: ca.Pool()}
	case "socks4", "socks4a":
		p = upstreamtest.NewSOCKS4(t, o)
	default:
		p = upstreamtest.NewSOCKS5(t, o)
	}
	s.Address = addr(t, p.Addr())
	if o.User != "" {
		s.Auth = &Auth{Username: o.User, Password: NewSecret(o.Password), Credential: "credential of " + name}
	}
	return p, s
}

func TestChains(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	to := addr(t, origin.Addr())
	var ways [][]string
	for _, a := range schemes {
		ways = append(ways, []string{a})
		for _, b := range schemes {
			ways = append(ways, []string{a, b})
		}
	}
	ways = append(ways, []string{"https", "https", "https"}, []string{"https", "socks5h", "https", "http"},
		[]string{"http", "socks4a", "socks5", "https"}, []string{"socks5", "https", "socks4", "socks5h"})
	for _, way := range ways {
		t.Run(strings.Join(way, ">"), func(t *testing.T) {
			c := Config{Chains: []ChainSpec{{Name: "c"}}}
			var proxies []*upstreamtest.Proxy
			for i, scheme := range way {
				o := upstreamtest.Options{User: fmt.Sprintf("user%d", i), Password: fmt.Sprintf("canary-%d", i)}
				if strings.HasPrefix(scheme, "socks4") {
					o.Password = ""
				}
				p, s := startProxy(t, ca, fmt.Sprintf("p%d", i), scheme, o)
				proxies = append(proxies, p)
				c.Upstreams = append(c.Upstreams, s)
				c.Chains[0].Hops = append(c.Chains[0].Hops, "upstream."+s.Name)
			}
			tab := table(t, c)
			r := recorder(to)
			conn, cerr := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: to}, r)
			if cerr != nil {
				t.Fatal(cerr)
			}
			say(t, conn, "through the chain")
			if err := conn.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			for i, p := range proxies {
				q := p.Requests()
				if len(q) != 1 {
					t.Fatalf("proxy %d saw %d requests", i, len(q))
				}
				want := to.String()
				if i+1 < len(proxies) {
					want = proxies[i+1].Addr()
				}
				if q[0].Target != want || q[0].User != fmt.Sprintf("user%d", i) || !q[0].Accepted {
					t.Errorf("proxy %d was asked for %s by %s, want %s by user%d", i, q[0].Target, q[0].User, want, i)
				}
				for j := range proxies {
					if j != i && (strings.Contains(string(q[0].Head), fmt.Sprintf("user%d", j)) || strings.Contains(q[0].Password, fmt.Sprintf("canary-%d", j))) {
						t.Errorf("proxy %d saw the credentials of proxy %d", i, j)
					}
				}
			}
			checkRecord(t, r, way)
			// The same way by the dialers, hop applied to hop.
			var d interface {
				DialContext(context.Context, string, string) (net.Conn, error)
			} = new(net.Dialer)
			for i := range way {
				h, _ := tab.Hop(fmt.Sprintf("p%d", i))
				d = h.Dialer(d)
			}
			nc, err := d.DialContext(t.Context(), "tcp", to.String())
			if err != nil {
				t.Fatal(err)
			}
			say(t, nc, "through the dialers")
			nc.Close()
			for _, u := range tab.Status() {
				if u.Open != 0 || u.Attempts != 1 || u.Failures != 0 {
					t.Errorf("status after the end: %+v", u)
				}
			}
		})
	}
}

// checkRecord checks that each hop of the one attempt is in the record with what belongs to it.
func checkRecord(t *testing.T, r *connmodel.Recorder, way []string) {
	t.Helper()
	s := r.Snapshot().Server
	if len(s.Attempts) != 1 || !s.Attempts[0].Connected() {
		t.Fatalf("attempts: %+v", s.Attempts)
	}
	hops := s.Attempts[0].Hops
	if len(hops) != len(way)+1 {
		t.Fatalf("%d elements in the record, want %d", len(hops), len(way)+1)
	}
	for i, scheme := range way {
		h := hops[i]
		if h.Protocol != scheme || h.Upstream != fmt.Sprintf("p%d", i) || h.Error != nil || h.Credential != "credential of "+h.Upstream ||
			h.Connect <= 0 || h.Total < h.Connect || (i == 0) != (h.TCP > 0) || (scheme == "https") != (h.TLSInfo != nil && h.TLS > 0) {
			t.Errorf("element %d: %+v", i, h)
		}
		if strings.HasPrefix(scheme, "socks5") && (h.Greeting <= 0 || h.Auth <= 0 || h.AuthRounds != 1) {
			t.Errorf("element %d has no times of greeting and auth: %+v", i, h)
		}
	}
	if last := hops[len(way)]; last.Upstream != "" || last.Protocol != "tcp" || int(last.Index) != len(way)+1 {
		t.Errorf("last element: %+v", last)
	}
}

func TestEarlyBytes(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	for _, scheme := range schemes {
		t.Run(scheme, func(t *testing.T) {
			origin := upstreamtest.NewOrigin(t, upstreamtest.Banner("220 hello\r\n"), upstreamtest.Options{})
			_, s := startProxy(t, ca, "p", scheme, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Coalesce}})
			to := addr(t, origin.Addr())
			c, cerr := table(t, Config{Upstreams: []Spec{s}}).Dial(t.Context(), &Request{Route: "upstream.p", Target: to}, nil)
			if cerr != nil {
				t.Fatal(cerr)
			}
			defer c.Close()
			if string(c.Early) != "220 hello\r\n" {
				t.Errorf("early bytes %q", c.Early)
			}
			if _, tcp := c.Conn.(*net.TCPConn); tcp == (scheme == "https") {
				t.Errorf("%s gives a %T", scheme, c.Conn)
			}
		})
	}
}

func TestEarlyBytesGoToTheNextHandshake(t *testing.T) {
	// The first proxy answers, and in the same segment comes what the second one "says first": the second's handshake sees
	// it as out of turn.
	_, first := startProxy(t, nil, "a", "http", upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Early([]byte("\x05\x00"))}})
	_, second := startProxy(t, nil, "b", "socks5h", upstreamtest.Options{})
	tab := table(t, Config{Upstreams: []Spec{first, second}, Chains: []ChainSpec{{"c", []string{"upstream.a", "upstream.b"}}}})
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	_, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: addr(t, origin.Addr())}, nil)
	if err == nil || err.Hop != 2 || err.HopName != "b" || err.Kind != connmodel.KindProtocol {
		t.Fatalf("error %+v, want a fault of protocol at hop 2", err)
	}
}

func TestAbsolute(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	p, s := startProxy(t, ca, "p", "https", upstreamtest.Options{User: "u", Password: "canary"})
	_, first := startProxy(t, ca, "first", "socks5h", upstreamtest.Options{})
	tab := table(t, Config{Upstreams: []Spec{s, first}, Chains: []ChainSpec{{"c", []string{"upstream.first", "upstream.p"}}}})
	to := connmodel.Address{Host: "www.example.com", Port: 80}
	r := recorder(to)
	q := &Request{Route: "chain.c", Target: to, Plain: true}
	c, err := tab.Dial(t.Context(), q, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name, value, no := c.Authorize("GET", "http://www.example.com/")
	if !c.Absolute || name != "Proxy-Authorization" || value != "Basic dTpjYW5hcnk=" || no != nil || c.Key != tab.Key(q, true) {
		t.Errorf("absolute %v, %q %q %v, key %v", c.Absolute, name, value, no, c.Key)
	}
	if n := len(p.Requests()); n != 0 {
		t.Errorf("the proxy got %d requests before the one that was to come", n)
	}
	if by := r.Snapshot().Server.ResolvedBy; by != "upstream" {
		t.Errorf("resolved by %q", by)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(s, "dTpj") {
		t.Errorf("printed: %s", s)
	}
	// With PlainConnect, and through a last hop that is no HTTP proxy, it is a tunnel.
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	for _, q := range []*Request{
		{Route: "chain.c", Plain: true, PlainConnect: true},
		{Route: "upstream.first", Plain: true},
		{Route: "direct", Plain: true},
	} {
		q.Target = addr(t, origin.Addr())
		c, err := tab.Dial(t.Context(), q, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Absolute || c.Credential() != "" || c.Key != tab.Key(q, false) {
			t.Errorf("%s: absolute %v, key %v", q.Route, c.Absolute, c.Key)
		}
		say(t, c, "tunnel")
		c.Close()
	}
}

func TestHalfCloseThroughAChain(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.HalfClose, upstreamtest.Options{})
	ca := upstreamtest.MustCA(t)
	_, a := startProxy(t, ca, "a", "https", upstreamtest.Options{})
	_, b := startProxy(t, ca, "b", "socks5", upstreamtest.Options{})
	tab := table(t, Config{Upstreams: []Spec{a, b}, Chains: []ChainSpec{{"c", []string{"upstream.b", "upstream.a"}}}})
	c, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: addr(t, origin.Addr())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "abc")
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(c); err != nil || len(all) == 0 {
		t.Errorf("after our half-close came %q, %v", all, err)
	}
}
