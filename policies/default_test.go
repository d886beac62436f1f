package policies

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpproxy"

	"viaduct/connmodel"
)

// loadDefault makes and loads the default policy of an environment.
func loadDefault(t testing.TB, env func(string) (string, bool)) (*Config, string) {
	t.Helper()
	src, d := Default(env)
	if d.HasErrors() {
		t.Fatal(d.Error())
	}
	c, d := Load(Options{Source: map[string][]byte{DefaultFile: src}, Environ: env})
	if c == nil {
		t.Fatalf("%v\n%s", d.Error(), src)
	}
	if formatted, _ := Format(DefaultFile, src); string(formatted) != string(src) {
		t.Errorf("the default policy is not laid out as fmt does:\n%s", src)
	}
	return c, string(src)
}

func askDefault(c *Config, protocol connmodel.Protocol, host string, port uint16) *connmodel.Decision {
	a, err := connmodel.MakeAddress(host, port)
	if err != nil {
		panic(err)
	}
	f := &connmodel.Facts{Listener: "default", Client: netip.MustParseAddrPort("127.0.0.1:4000"), Protocol: protocol, Target: a, TargetIP: a.IP(), Time: time.Now()}
	d, need := c.Programs["default"].Decide(f)
	if need != 0 {
		panic("the default policy resolves names")
	}
	return d
}

// TestDefaultAgainstGo compares the default policy with what net/http would do in the same environment.
func TestDefaultAgainstGo(t *testing.T) {
	noProxies := []string{"", "*", "corp.example", ".corp.example", "*.corp.example", "corp.example:8443", "a.example,*", "10.0.0.0/8",
		"192.0.2.7", "192.0.2.7:80", "[2001:db8::7]:443", "2001:db8::/32", " Corp.Example , other.test", "bücher.example", "::1,127.0.0.1",
		".corp.example:443,corp.example:80", "10.1.2.3/8", "corp.example.", "host:notaport", ":80", "169.254.169.254"}
	proxies := [][2]string{{"http://p1.test:3128", "http://p2.test:3129"}, {"http://p1.test:3128", ""}, {"", "p2.test:3129"},
		{"http://p1.test:3128", "http://p1.test:3128"}, {"https://p1.test", "socks5://p2.test"}}
	hosts := []string{"corp.example", "www.corp.example", "notcorp.example", "a.b.corp.example", "other.test", "xn--bcher-kva.example", "10.1.2.3",
		"192.0.2.7", "2001:db8::7", "localhost", "127.0.0.1", "::1", "www.example.com", "169.254.169.254"}
	compared, viaProxy := 0, 0
	for _, np := range noProxies {
		if np == "corp.example." {
			continue // Go would compare the dot, and never match; here it is one name with or without it
		}
		for _, p := range proxies {
			env := environ("HTTP_PROXY="+p[0], "HTTPS_PROXY="+p[1], "NO_PROXY="+np)
			c, src := loadDefault(t, env)
			want := (&httpproxy.Config{HTTPProxy: p[0], HTTPSProxy: p[1], NoProxy: np}).ProxyFunc()
			for _, host := range hosts {
				for _, port := range []uint16{80, 443, 8443} {
					for scheme, protocol := range map[string]connmodel.Protocol{"http": connmodel.ProtocolHTTP, "https": connmodel.ProtocolConnect} {
						u := &url.URL{Scheme: scheme, Host: connmodel.Address{Host: host, Port: port}.String()}
						proxy, err := want(u)
						if err != nil {
							t.Fatal(err)
						}
						d := askDefault(c, protocol, host, port)
						expected := connmodel.RouteDirect
						if proxy != nil {
							expected = proxyRoute(c, proxy)
							viaProxy++
						}
						if compared++; d.Route != expected {
							t.Fatalf("HTTP_PROXY=%s HTTPS_PROXY=%s NO_PROXY=%s: %s goes %s, in Go %s\n%s", p[0], p[1], np, u, d.Route, expected, src)
						}
					}
				}
			}
		}
	}
	if viaProxy == 0 || viaProxy == compared {
		t.Errorf("%d of %d went by a proxy", viaProxy, compared)
	}
}

// proxyRoute finds the upstream of a proxy URL.
func proxyRoute(c *Config, u *url.URL) string {
	for _, s := range c.Upstreams.Upstreams {
		if s.Scheme == u.Scheme && s.Address.Host == u.Hostname() {
			return "upstream." + s.Name
		}
	}
	return "no upstream for " + u.String()
}

func TestDefaultVariables(t *testing.T) {
	for _, x := range []struct {
		name          string
		env           []string
		plain, tunnel string // routes
		warning       string
	}{
		{"nothing", nil, "direct", "direct", ""},
		{"lower case", []string{"http_proxy=http://p:1", "https_proxy=http://q:2"}, "upstream.http_proxy", "upstream.https_proxy", ""},
		{"upper case first", []string{"http_proxy=http://p:1", "HTTP_PROXY=http://q:2"}, "upstream.http_proxy", "direct", ""},
		{"empty is not set", []string{"HTTP_PROXY=", "http_proxy=http://p:1"}, "upstream.http_proxy", "direct", ""},
		{"all", []string{"ALL_PROXY=socks5h://p:1"}, "upstream.all_proxy", "upstream.all_proxy", ""},
		{"all for tunnels", []string{"ALL_PROXY=socks5h://p:1", "HTTP_PROXY=http://q:2"}, "upstream.http_proxy", "upstream.all_proxy", ""},
		{"both the same", []string{"HTTP_PROXY=http://u:x@p:1", "HTTPS_PROXY=http://u:x@p:1"}, "upstream.http_proxy", "upstream.http_proxy", ""},
		{"other users", []string{"HTTP_PROXY=http://u:x@p:1", "HTTPS_PROXY=http://v:x@p:1"}, "upstream.http_proxy", "upstream.https_proxy", ""},
		{"ourselves", []string{"HTTP_PROXY=http://127.0.0.1:3128", "HTTPS_PROXY=http://localhost:3128"}, "direct", "direct", "Proxy variable ignored"},
		{"ourselves mapped", []string{"ALL_PROXY=socks5://[::ffff:127.0.0.1]:3128"}, "direct", "direct", "Proxy variable ignored"},
		{"CGI", []string{"HTTP_PROXY=http://p:1", "HTTPS_PROXY=http://q:2", "REQUEST_METHOD=GET"}, "direct", "upstream.https_proxy", "Proxy variable ignored"},
		{"bad entry", []string{"ALL_PROXY=http://p:1", "NO_PROXY=a b,good.example"}, "upstream.all_proxy", "upstream.all_proxy", "Entry ignored"},
	} {
		t.Run(x.name, func(t *testing.T) {
			env := environ(x.env...)
			_, d := Default(env)
			warnings := fmt.Sprint(found(d))
			if (x.warning != "") != (len(d.List) > 0) || !strings.Contains(warnings, x.warning) {
				t.Errorf("warnings are %s, expected %q", warnings, x.warning)
			}
			c, src := loadDefault(t, env)
			if got := askDefault(c, connmodel.ProtocolHTTP, "www.example.com", 80).Route; got != x.plain {
				t.Errorf("plain requests go %s, expected %s\n%s", got, x.plain, src)
			}
			for _, p := range []connmodel.Protocol{connmodel.ProtocolConnect, connmodel.ProtocolSOCKS5} {
				if got := askDefault(c, p, "www.example.com", 443).Route; got != x.tunnel {
					t.Errorf("%s goes %s, expected %s\n%s", p, got, x.tunnel, src)
				}
			}
		})
	}
}

func TestDefaultRefuses(t *testing.T) {
	for _, value := range []string{"ftp://p:1", "http://", "http://p:99999", "http://canary:sesame@[::1", "socks://p:1", "http://0x7f.1:80", "http://canary:sesame@p q:1", "sesame://canary"} {
		_, d := Default(environ("HTTPS_PROXY=" + value))
		if !d.HasErrors() {
			t.Errorf("%s is taken", value)
			continue
		}
		if e := d.Error(); !strings.Contains(e, "HTTPS_PROXY") || strings.Contains(e, "canary:") || strings.Contains(e, "@") {
			t.Errorf("%s: the error does not name the variable, or repeats its value: %s", value, e)
		}
	}
}

func TestDefaultKeepsPasswords(t *testing.T) {
	env := environ("HTTP_PROXY=http://us%20er:pa%24%7Bs@p.example:8080", "ALL_PROXY=socks4://id:ignored@q.example:1080")
	c, src := loadDefault(t, env)
	if strings.Contains(src, "pa$") || strings.Contains(src, "pa%24") || strings.Contains(src, "us er") {
		t.Errorf("the policy holds the user or password:\n%s", src)
	}
	a := c.Upstreams.Upstreams[0].Auth
	if a == nil || a.Username != "us er" || a.Password.Reveal() != "pa${s" || a.Credential != "HTTP_PROXY" {
		t.Errorf("credentials are %+v", a)
	}
	if b := c.Upstreams.Upstreams[1].Auth; b == nil || b.Username != "id" || !b.Password.IsZero() {
		t.Errorf("SOCKS4 credentials are %+v", b)
	}
}

// TestDefaultLoopback: clients on this machine reach it, by literal address and as localhost; others and other names do not
// get it opened.
func TestDefaultLoopback(t *testing.T) {
	c, _ := loadDefault(t, environ("ALL_PROXY=http://p.example:8080"))
	loop := netip.MustParseAddr("127.0.0.1")
	for _, x := range []struct {
		host            string
		direct, literal bool
		localhost       bool
	}{
		{"127.0.0.1", true, true, false}, {"127.3.2.1", true, true, false}, {"::1", true, true, false},
		{"localhost", true, false, true}, {"x.localhost", true, false, true},
		{"www.example.com", false, false, false}, {"10.0.0.1", false, false, false},
	} {
		d := askDefault(c, connmodel.ProtocolConnect, x.host, 8080)
		opens := false
		for _, p := range d.AllowAddresses {
			opens = opens || p.Contains(loop)
		}
		if (d.Route == "direct") != x.direct || opens != x.literal || d.AllowLocalhost != x.localhost {
			t.Errorf("%s goes %s, opens loopback %v and localhost %v", x.host, d.Route, opens, d.AllowLocalhost)
		}
	}
	f := &connmodel.Facts{Client: netip.MustParseAddrPort("192.0.2.1:1"), Target: connmodel.Address{Host: "127.0.0.1", Port: 80}, TargetIP: loop}
	if d, _ := c.Programs["default"].Decide(f); d.Rule != "otherwise" || d.AllowAddresses != nil {
		t.Errorf("a client from elsewhere is taken by %q", d.Rule)
	}
}
