package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// lineDialer is a scheme that a program brings: "host:port user\n" is sent, "ok\n" comes back.
type lineDialer struct {
	u       *url.URL
	forward proxy.Dialer
}

func (d *lineDialer) Dial(network, addr string) (net.Conn, error) {
	c, err := d.forward.Dial("tcp", d.u.Host)
	if err != nil {
		return nil, fmt.Errorf("line: %w", err)
	}
	fmt.Fprintf(c, "%s %s\n", addr, d.u.User)
	answer := make([]byte, 3)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "ok\n" {
		c.Close()
		return nil, fmt.Errorf("line: %s said %q to %s: %w", d.u, answer, d.u.User, errors.Join(err, errLine))
	}
	return c, nil
}

var errLine = errors.New("not ok")

// contextLineDialer also takes a context.
type contextLineDialer struct{ lineDialer }

func (d *contextLineDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.forward.(proxy.ContextDialer).DialContext(ctx, "tcp", d.u.Host)
	if err != nil {
		return nil, err
	}
	inner := lineDialer{d.u, already{c}}
	return inner.Dial(network, addr)
}

type already struct{ net.Conn }

func (a already) Dial(string, string) (net.Conn, error) { return a.Conn, nil }

func init() {
	proxy.RegisterDialerType("line", func(u *url.URL, d proxy.Dialer) (proxy.Dialer, error) {
		if u.Query().Get("bad") != "" {
			return nil, fmt.Errorf("bad parameter in %s", u)
		}
		return &lineDialer{u, d}, nil
	})
	proxy.RegisterDialerType("linectx", func(u *url.URL, d proxy.Dialer) (proxy.Dialer, error) {
		return &contextLineDialer{lineDialer{u, d}}, nil
	})
}

// lineProxy serves the scheme; what it was asked goes to asked.
func lineProxy(t *testing.T, answer string, asked chan<- string) connmodel.Address {
	return listen(t, func(c net.Conn) {
		var line []byte
		for b := make([]byte, 1); ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			if b[0] == '\n' {
				break
			}
			line = append(line, b[0])
		}
		asked <- string(line)
		io.WriteString(c, answer)
		if answer != "ok\n" {
			io.Copy(io.Discard, c)
			return
		}
		to, _, _ := strings.Cut(string(line), " ")
		s, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer s.Close()
		go func() { io.Copy(s, c); s.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, s)
	})
}

func TestRegisteredScheme(t *testing.T) {
	to := listen(t, echo)
	for _, scheme := range []string{"line", "linectx"} {
		for _, chain := range [][]string{{"own"}, {"before", "own"}, {"own", "behind"}, {"before", "own", "behind"}, {"tls", "own", "tls2"}} {
			t.Run(scheme+" "+strings.Join(chain, ">"), func(t *testing.T) {
				ca := ut.MustCA(t)
				asked := make(chan string, 10)
				own := Spec{Name: "own", Scheme: scheme, Address: lineProxy(t, "ok\n", asked), Auth: &Auth{Username: "user", Password: NewSecret(canary), Credential: "cred"}}
				own.URL = &url.URL{Scheme: scheme, Host: own.Address.String()}
				before, b := startProxy(t, ca, "before", "socks5h", ut.Options{})
				behind, e := startProxy(t, ca, "behind", "http", ut.Options{})
				_, x := startProxy(t, ca, "tls", "https", ut.Options{})
				_, y := startProxy(t, ca, "tls2", "https", ut.Options{})
				c := Config{Upstreams: []Spec{own, b, e, x, y}, Chains: []ChainSpec{{Name: "c"}}}
				for _, h := range chain {
					c.Chains[0].Hops = append(c.Chains[0].Hops, "upstream."+h)
				}
				tab := table(t, c)
				r := recorder(to)
				conn, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: to}, r)
				if err != nil {
					t.Fatal(err)
				}
				say(t, conn, "by a scheme of our own")
				conn.Close()
				if got := <-asked; !strings.HasSuffix(got, " user:"+canary) {
					t.Errorf("the proxy was asked %q", got)
				}
				for _, p := range []*ut.Proxy{before, behind} {
					for _, q := range p.Requests() {
						if q.HasCredentials || leaks(string(q.Head)) {
							t.Errorf("another hop saw credentials: %+v", q)
						}
					}
				}
				hops := r.Snapshot().Server.Attempts[0].Hops
				if len(hops) != len(chain)+1 {
					t.Fatalf("record: %+v", hops)
				}
				for i, h := range chain {
					if hops[i].Upstream != h || hops[i].Error != nil || h == "own" && (hops[i].Protocol != scheme || hops[i].Credential != "cred") {
						t.Errorf("element %d: %+v", i, hops[i])
					}
				}
			})
		}
	}
}

func TestRegisteredSchemeFails(t *testing.T) {
	to := listen(t, echo)
	asked := make(chan string, 10)
	u := func(scheme string, a connmodel.Address) *url.URL { return &url.URL{Scheme: scheme, Host: a.String()} }
	no, mute := lineProxy(t, "no\n", asked), lineProxy(t, "", asked)
	gone := addr(t, ut.Refused(t))
	a := &Auth{Username: "user", Password: NewSecret(canary)}
	_, before := startProxy(t, nil, "before", "http", ut.Options{Script: []ut.Behaviour{ut.Status(403, "")}})
	tab := table(t, Config{Upstreams: []Spec{
		{Name: "no", Scheme: "line", URL: u("line", no), Address: no, Auth: a},
		{Name: "mute", Scheme: "line", URL: u("line", mute), Address: mute, Auth: a, Timeouts: HopTimeouts{Handshake: 100 * time.Millisecond, Dial: 100 * time.Millisecond}},
		{Name: "mutectx", Scheme: "linectx", URL: u("linectx", mute), Address: mute, Auth: a, Timeouts: HopTimeouts{Handshake: 100 * time.Millisecond}},
		{Name: "gone", Scheme: "line", URL: u("line", gone), Address: gone, Auth: a}, before,
	}, Chains: []ChainSpec{{"denied", []string{"upstream.before", "upstream.no"}}}})
	for _, c := range []struct {
		route string
		hop   int
		kind  connmodel.Kind
	}{
		{"upstream.no", 1, connmodel.KindProtocol},
		{"upstream.mute", 1, connmodel.KindTimeout},
		{"upstream.mutectx", 1, connmodel.KindTimeout},
		{"upstream.gone", 1, connmodel.KindRefused},
		{"chain.denied", 1, connmodel.KindDenied},
	} {
		r := recorder(to)
		_, err := tab.Dial(t.Context(), &Request{Route: c.route, Target: to}, r)
		if err == nil || err.Hop != c.hop || err.Kind != c.kind || err.Side != connmodel.SideHop {
			t.Errorf("%s: %+v", c.route, err)
		}
		if text := printed(err) + printed(err.Cause); leaks(text) {
			t.Errorf("%s shows the password: %s", c.route, text)
		}
	}
	_, err := NewTable(Config{Upstreams: []Spec{{Name: "bad", Scheme: "line", URL: &url.URL{Scheme: "line", Host: "h:1", RawQuery: "bad=1"}, Auth: a}}}, nil)
	if err == nil || !containsText(err, "bad parameter") || leaks(err.Error()) {
		t.Errorf("at load: %v", err)
	}
}
