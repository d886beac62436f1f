package resolve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// TestDnsmasq asks a name server of many company networks and home routers.
func TestDnsmasq(t *testing.T) {
	peers.Need(t, "dnsmasq")
	records := []string{"host-record=www.example,192.0.2.1,2001:db8::1,60", "host-record=six.example,2001:db8::6,60", "host-record=short.example,192.0.2.2,5",
		"cname=alias.example,www.example,20"}
	for i := range 100 {
		records = append(records, fmt.Sprintf("host-record=many.example,2001:db8::%x", i+16))
	}
	p, err := peers.Dnsmasq(t.Context(), t.TempDir(), peers.DnsmasqOptions{Records: records})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	for _, scheme := range []string{"udp", "tcp"} {
		c := client(t, Config{Family: PreferV4, Timeout: 5 * time.Second}, nil, scheme+"://"+p.Addr())
		ask(t, c, scheme, map[string]string{
			"www.example": "[192.0.2.1 2001:db8::1]", "WWW.example.": "[192.0.2.1 2001:db8::1]", "six.example": "[2001:db8::6]",
			"alias.example": "[192.0.2.1 2001:db8::1]", "nosuch.example": "nxdomain", "www.other": "refused",
		})
		if a, err := c.Lookup(t.Context(), "many.example"); err != nil || len(a) < 60 {
			t.Errorf("%s: %d addresses, %v", scheme, len(a), err)
		}
		c.Lookup(t.Context(), "short.example")
		if left := time.Until(c.cache.get("short.example").until); left <= 0 || left > 5*time.Second {
			t.Errorf("%s: good for %v", scheme, left)
		}
	}
	// It goes and comes back.
	c := client(t, Config{Family: OnlyV4, Timeout: time.Second, Attempts: 1}, nil, "tcp://"+p.Addr())
	ask(t, c, "before", map[string]string{"www.example": "[192.0.2.1]"})
	p.Kill()
	if _, err := c.Lookup(t.Context(), "short.example"); err == nil {
		t.Error("nobody is there")
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ahead(c, failureTTL)
	ask(t, c, "after", map[string]string{"short.example": "[192.0.2.2]"})
}

// TestUnbound asks over all four protocols.
func TestUnbound(t *testing.T) {
	peers.Need(t, "unbound")
	ca := upstreamtest.MustCA(t)
	data := []string{"www.example. 60 IN A 192.0.2.1", "www.example. 60 IN AAAA 2001:db8::1", "short.example. 5 IN A 192.0.2.2", "text.example. 60 IN TXT nothing",
		"example. 3600 IN SOA ns.example. admin.example. 1 3600 600 86400 9"}
	for i := range 100 {
		data = append(data, fmt.Sprintf("many.example. 60 IN AAAA 2001:db8::%x", i+16))
	}
	p, err := peers.Unbound(t.Context(), t.TempDir(), peers.UnboundOptions{Zones: []string{"example."}, CA: ca, Names: []string{"dns.example", "127.0.0.1"}, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	for _, url := range []string{"udp://" + p.Addr(), "tcp://" + p.Addr(), "tls://" + p.TLSAddr(), "https://" + p.HTTPSAddr() + "/dns-query", "https://" + p.HTTPSAddr() + "/dns-query{?dns}"} {
		scheme, _, _ := strings.Cut(url, ":")
		for _, conf := range []*tls.Config{{RootCAs: ca.Pool()}, {RootCAs: ca.Pool(), ServerName: "dns.example"}} {
			c := client(t, Config{Family: PreferV4, Timeout: 5 * time.Second}, conf, url)
			ask(t, c, url, map[string]string{"www.example": "[192.0.2.1 2001:db8::1]", "text.example": "nodata", "nosuch.example": "nxdomain", "www.other": "refused"})
			if a, err := c.Lookup(t.Context(), "many.example"); err != nil || len(a) != maxAddrs {
				t.Errorf("%s: %d addresses, %v", scheme, len(a), err)
			}
			if left := time.Until(c.cache.get("nosuch.example").until); left <= 0 || left > 9*time.Second {
				t.Errorf("%s: that there is no such name is good for %v", scheme, left)
			}
		}
	}
	for _, url := range []string{"tls://" + p.TLSAddr(), "https://" + p.HTTPSAddr() + "/dns-query"} {
		for _, conf := range []*tls.Config{nil, {RootCAs: ca.Pool(), ServerName: "other.example"}} {
			c := client(t, Config{Family: OnlyV4}, conf, url)
			if _, err := c.Lookup(t.Context(), "www.example"); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
	c := client(t, Config{Family: OnlyV4}, &tls.Config{RootCAs: ca.Pool()}, "https://"+p.HTTPSAddr()+"/elsewhere")
	if _, err := c.Lookup(t.Context(), "www.example"); err == nil || !strings.Contains(err.Error(), "HTTP status 404") {
		t.Errorf("%v", err)
	}
}

// ask looks names up; what is expected is addresses, or the word of a result.
func ask(t *testing.T, c *Client, what string, want map[string]string) {
	t.Helper()
	for name, want := range want {
		a, err := c.Lookup(t.Context(), name)
		got := fmt.Sprint(a)
		var e *Error
		if errors.As(err, &e) {
			got = e.Result.String()
		}
		if got != want {
			t.Errorf("%s: %s: %s, expected %s (%v)", what, name, got, want, err)
		}
	}
}
