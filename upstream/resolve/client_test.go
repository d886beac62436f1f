package resolve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"viaduct/upstream/upstreamtest"
)

func same(s string) (string, error) { return s, nil }

// servers reads servers as policies do.
func servers(t testing.TB, urls ...string) []Server {
	t.Helper()
	var all []Server
	for _, u := range urls {
		s, err := ParseServer(u, same)
		if err != nil {
			t.Fatalf("%s: %v", u, err)
		}
		all = append(all, s)
	}
	return all
}

// client makes a client whose first group has these servers.
func client(t testing.TB, o Config, conf *tls.Config, urls ...string) *Client {
	t.Helper()
	o.Name = "corp"
	o.Groups = append([]Group{{Servers: servers(t, urls...), TLS: conf}}, o.Groups...)
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ahead moves the clock of a client.
func ahead(c *Client, d time.Duration) {
	now := c.now
	c.now = func() time.Time { return now().Add(d) }
}

func some() map[string]upstreamtest.DNSName {
	big := upstreamtest.DNSName{TTL: 60}
	for i := range 60 {
		big.Addrs = append(big.Addrs, fmt.Sprintf("2001:db8::%x", i+1))
	}
	return map[string]upstreamtest.DNSName{
		"a.example":     {Addrs: []string{"192.0.2.1"}, TTL: 60},
		"both.example":  {Addrs: []string{"192.0.2.1", "2001:db8::1"}, TTL: 60},
		"six.example":   {Addrs: []string{"2001:db8::6"}, TTL: 60},
		"empty.example": {},
		"quiet.example": {NoSOA: true},
		"alias.example": {CNAME: "a.example", TTL: 20},
		"bare.example":  {CNAME: "alias.example", TTL: 20, Bare: true},
		"lost.example":  {CNAME: "nowhere.example", TTL: 20},
		"ring.example":  {CNAME: "gnir.example"},
		"gnir.example":  {CNAME: "ring.example"},
		"ring2.example": {CNAME: "gnir2.example", Bare: true},
		"gnir2.example": {CNAME: "ring2.example", Bare: true},
		"broken":        {RCode: dnsmessage.RCodeServerFailure},
		"no.example":    {RCode: dnsmessage.RCodeRefused},
		"lame.example":  {Referral: true},
		"big.example":   big,
		"zero.example":  {Addrs: []string{"192.0.2.9"}, TTL: 0},
	}
}

// TestAnswers is the table of what names can be, by every protocol.
func TestAnswers(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	d := upstreamtest.NewDNS(t, some(), ca.ServerTLS(t, "127.0.0.1", "localhost"))
	for _, url := range []string{"udp://" + d.Addr, "tcp://" + d.Addr, "tls://" + d.TLSAddr, "https://" + d.HTTPSAddr + "/dns-query", "https://" + d.HTTPSAddr + "/dns-query{?dns}"} {
		scheme, _, _ := strings.Cut(url, ":")
		c := client(t, Config{Family: PreferV4, Hosts: map[string][]netip.Addr{"written.example": {netip.MustParseAddr("198.51.100.1")}}}, &tls.Config{RootCAs: ca.Pool()}, url)
		for _, x := range []struct {
			name, want, from string
			result           Result
		}{
			{"a.example", "[192.0.2.1]", FromServer, OK},
			{"A.Example.", "[192.0.2.1]", FromCache, OK},
			{"both.example", "[192.0.2.1 2001:db8::1]", FromServer, OK},
			{"six.example", "[2001:db8::6]", FromServer, OK},
			{"alias.example", "[192.0.2.1]", FromServer, OK},
			{"bare.example", "[192.0.2.1]", FromServer, OK},
			{"written.example", "[198.51.100.1]", FromHosts, OK},
			{"x.localhost", "[127.0.0.1 ::1]", FromSpecial, OK},
			{"192.0.2.77", "[192.0.2.77]", FromLiteral, OK},
			{"nosuch.example", "[]", FromServer, NXDomain},
			{"lost.example", "[]", FromServer, NXDomain},
			{"hidden.onion", "[]", FromSpecial, NXDomain},
			{"empty.example", "[]", FromServer, NoData},
			{"quiet.example", "[]", FromServer, NoData},
			{"broken", "[]", FromServer, ServFail},
			{"no.example", "[]", FromServer, Refused},
			{"ring.example", "[]", FromServer, Failed},
			{"ring2.example", "[]", FromServer, Failed},
			{"lame.example", "[]", FromServer, Failed},
			{strings.Repeat("x", 64) + ".example", "[]", FromServer, Failed},
		} {
			a, err := c.Find(t.Context(), x.name)
			if fmt.Sprint(a.Addrs) != x.want || a.From != x.from {
				t.Errorf("%s %s: %v from %s, %v", scheme, x.name, a.Addrs, a.From, err)
			}
			var e *Error
			var de *net.DNSError
			switch {
			case x.result == OK && err != nil:
				t.Errorf("%s %s: %v", scheme, x.name, err)
			case x.result == OK:
			case !errors.As(err, &e) || e.Result != x.result || !errors.As(err, &de) || de.IsNotFound != (x.result == NXDomain || x.result == NoData):
				t.Errorf("%s %s: %v, expected %s", scheme, x.name, err, x.result)
			}
		}
		if a, err := c.Find(t.Context(), "big.example"); err != nil || len(a.Addrs) != 60 || !strings.HasPrefix(a.Server, scheme+"://127.0.0.1:") {
			t.Errorf("%s: %d addresses from %s, %v", scheme, len(a.Addrs), a.Server, err)
		}
	}
}

// TestLifeOfAnswers: time to live, its bounds, and that of what is not there.
func TestLifeOfAnswers(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	for _, x := range []struct {
		name   string
		o      Config
		good   time.Duration // it is not asked for again
		again  time.Duration // from the start: it is
		failed bool
	}{
		{"a.example", Config{}, 59 * time.Second, 61 * time.Second, false},
		{"alias.example", Config{}, 19 * time.Second, 21 * time.Second, false},
		{"bare.example", Config{}, 19 * time.Second, 21 * time.Second, false},
		{"a.example", Config{MaxTTL: 10 * time.Second}, 9 * time.Second, 11 * time.Second, false},
		{"zero.example", Config{MinTTL: 5 * time.Second}, 4 * time.Second, 6 * time.Second, false},
		{"zero.example", Config{}, -1, 0, false},
		{"nosuch.example", Config{}, 6 * time.Second, 8 * time.Second, true},
		{"empty.example", Config{}, 6 * time.Second, 8 * time.Second, true},
		{"quiet.example", Config{}, 4 * time.Second, 6 * time.Second, true},
		{"lost.example", Config{}, 6 * time.Second, 8 * time.Second, true},
		{"nosuch.example", Config{Negative: 2 * time.Second}, time.Second, 3 * time.Second, true},
		{"nosuch.example", Config{Negative: -1}, -1, 0, true},
		{"broken", Config{}, 500 * time.Millisecond, 2 * time.Second, true},
	} {
		x.o.Family = OnlyV4
		c := client(t, x.o, nil, "udp://"+d.Addr)
		start := time.Now()
		c.now = func() time.Time { return start }
		ask := func(at time.Duration) (asked bool) {
			c.now = func() time.Time { return start.Add(at) }
			before := len(d.Queries())
			if _, err := c.Lookup(t.Context(), x.name); (err != nil) != x.failed {
				t.Errorf("%s: %v", x.name, err)
			}
			return len(d.Queries()) > before
		}
		ask(0)
		if x.good >= 0 && ask(x.good) {
			t.Errorf("%s %+v: asked for again after %v", x.name, x.o, x.good)
		}
		if !ask(x.again) {
			t.Errorf("%s: not asked for again after %v", x.name, x.again)
		}
	}
}

func TestSplit(t *testing.T) {
	public := upstreamtest.NewDNS(t, map[string]upstreamtest.DNSName{"www.example": {Addrs: []string{"203.0.113.1"}, TTL: 60}, "to.example": {CNAME: "in.corp.example", TTL: 60, Bare: true}}, nil)
	corp := upstreamtest.NewDNS(t, map[string]upstreamtest.DNSName{"in.corp.example": {Addrs: []string{"10.1.1.1"}, TTL: 60}, "corp.example": {Addrs: []string{"10.1.1.2"}, TTL: 60}}, nil)
	lab := upstreamtest.NewDNS(t, map[string]upstreamtest.DNSName{"x.lab.corp.example": {Addrs: []string{"10.2.2.2"}, TTL: 60}}, nil)
	c := client(t, Config{Search: []string{"corp.example", "lab.corp.example"}, Groups: []Group{
		{Suffix: "corp.example", Servers: servers(t, "udp://"+corp.Addr)}, {Suffix: "lab.corp.example", Servers: servers(t, "udp://"+lab.Addr)},
		{Suffix: "system.example", System: true}}}, nil, "udp://"+public.Addr)
	for name, want := range map[string]string{
		"www.example": "203.0.113.1", "in.corp.example": "10.1.1.1", "corp.example": "10.1.1.2", "x.lab.corp.example": "10.2.2.2", "to.example": "10.1.1.1",
		"in": "10.1.1.1", "x": "10.2.2.2", "notcorp.example": "",
	} {
		a, err := c.Lookup(t.Context(), name)
		if got := strings.Trim(fmt.Sprint(a), "[]"); got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if public.Count("in.corp.example")+public.Count("x.lab.corp.example") != 0 || corp.Count("www.example") != 0 {
		t.Error("a name went to servers of others")
	}
}

// TestFaults is the table of servers that fail, with a good one behind.
func TestFaults(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	trusted := &tls.Config{RootCAs: ca.Pool()}
	flip := func(i int, bit byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] ^= bit; return b }
	}
	for _, x := range []struct {
		name, scheme string
		fault        upstreamtest.DNSFault
		want         string // of the first server's error; "" = it does well all the same
	}{
		{"silent", "udp", upstreamtest.DNSFault{Drop: true}, "no answer in time"},
		{"silent stream", "tcp", upstreamtest.DNSFault{Drop: true}, "no answer in time"},
		{"silent web", "https", upstreamtest.DNSFault{Drop: true}, "no answer in time"},
		{"wrong id", "udp", upstreamtest.DNSFault{Change: flip(0, 1)}, "no answer in time"},
		{"wrong id on a stream", "tls", upstreamtest.DNSFault{Change: flip(0, 1)}, "no answer in time"},
		{"a query", "udp", upstreamtest.DNSFault{Change: flip(2, 0x80)}, "no answer in time"},
		{"wrong question", "udp", upstreamtest.DNSFault{Change: flip(13, 1)}, "no answer in time"},
		{"wrong question on a stream", "tcp", upstreamtest.DNSFault{Change: flip(13, 1)}, "something else"},
		{"two questions", "tcp", upstreamtest.DNSFault{Change: func(b []byte) []byte { b[5] = 2; return b }}, "something else"},
		{"lost case", "udp", upstreamtest.DNSFault{Only: "udp", Change: func(b []byte) []byte {
			for i := 12; i < 22; i++ { // there is hardly a name of letters that is all lower case by chance, and then nothing is wrong
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return b
		}}, ""},
		{"truncated", "udp", upstreamtest.DNSFault{Only: "udp", Change: flip(2, 0x02)}, ""},
		{"truncated stream", "tcp", upstreamtest.DNSFault{Change: flip(2, 0x02)}, "cannot be read"},
		{"garbage", "udp", upstreamtest.DNSFault{Change: func(b []byte) []byte { return []byte("<html>") }}, "no answer in time"},
		{"garbage on a stream", "tcp", upstreamtest.DNSFault{Change: func(b []byte) []byte { return []byte("<html>") }}, "cannot be read"},
		{"half an answer", "udp", upstreamtest.DNSFault{Change: func(b []byte) []byte { return b[:len(b)-3] }}, "cannot be read"},
		{"no EDNS0", "udp", upstreamtest.DNSFault{}, ""},
		{"64 KiB of records", "tcp", upstreamtest.DNSFault{Change: func(b []byte) []byte { return huge(b) }}, ""},
		{"cut", "tcp", upstreamtest.DNSFault{Cut: true}, "closed the connection"},
		{"cut in TLS", "tls", upstreamtest.DNSFault{Cut: true}, "closed the connection"},
		{"closed after each", "tls", upstreamtest.DNSFault{Close: true}, ""},
		{"status", "https", upstreamtest.DNSFault{Status: 500}, "HTTP status 500"},
		{"redirect", "https", upstreamtest.DNSFault{Status: 302}, "HTTP status 302"},
		{"a page", "https", upstreamtest.DNSFault{Type: "text/html"}, "no DNS message"},
		{"garbage web", "https", upstreamtest.DNSFault{Change: func(b []byte) []byte { return []byte("x") }}, "something else"},
		{"endless web", "https", upstreamtest.DNSFault{Change: func(b []byte) []byte { return append(b, make([]byte, 70_000)...) }}, "cannot be read"},
		{"go away", "https", upstreamtest.DNSFault{GoAway: true}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			bad := upstreamtest.NewDNS(t, some(), ca.ServerTLS(t, "127.0.0.1"))
			good := upstreamtest.NewDNS(t, some(), nil)
			at := map[string]string{"udp": bad.Addr, "tcp": bad.Addr, "tls": bad.TLSAddr, "https": bad.HTTPSAddr}[x.scheme]
			bad.Fault(x.fault)
			c := client(t, Config{Timeout: 500 * time.Millisecond, Family: OnlyV4}, trusted, x.scheme+"://"+at, "udp://"+good.Addr)
			for _, name := range []string{"a.example", "both.example"} {
				a, err := c.Find(t.Context(), name)
				if err != nil || fmt.Sprint(a.Addrs) != "[192.0.2.1]" {
					t.Fatalf("%v, %v", a, err)
				}
				if by := x.scheme + "://" + at; (a.Server == by) != (x.want == "") {
					t.Errorf("%s is by %s", name, a.Server)
				}
			}
			if st := c.Status().Servers[0]; !strings.Contains(st.LastError, x.want) || (st.LastError != "") != (x.want != "") {
				t.Errorf("last error %q, expected %q", st.LastError, x.want)
			}
		})
	}
}

// huge makes an answer as long as can be, with the address in its last records.
func huge(b []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(b) != nil {
		panic("not our answer")
	}
	for i := range 2000 {
		m.Additionals = append(m.Additionals, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{1, byte(i), byte(i >> 8)}}})
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

func TestNoEDNS(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	d.Fault(upstreamtest.DNSFault{Change: func(b []byte) []byte {
		if qs := d.Queries(); qs[len(qs)-1].EDNS {
			b[3] = b[3]&0xf0 | 1 // FORMERR
			return b
		}
		return b
	}})
	c := client(t, Config{Family: OnlyV4}, nil, "tcp://"+d.Addr)
	for _, name := range []string{"a.example", "alias.example"} {
		if _, err := c.Lookup(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if n := len(d.Queries()); n != 3 {
		t.Errorf("%d queries: that the server knows no EDNS0 is not remembered", n)
	}
}

// TestTLSIsVerified: a name server that cannot prove who it is is told nothing.
func TestTLSIsVerified(t *testing.T) {
	ca, other := upstreamtest.MustCA(t), upstreamtest.MustCA(t)
	for _, x := range []struct {
		name  string
		conf  *tls.Config
		roots *tls.Config
		good  bool
	}{
		{"good", ca.ServerTLS(t, "127.0.0.1"), &tls.Config{RootCAs: ca.Pool()}, true},
		{"another name", ca.ServerTLS(t, "dns.example"), &tls.Config{RootCAs: ca.Pool()}, false},
		{"that name", ca.ServerTLS(t, "dns.example"), &tls.Config{RootCAs: ca.Pool(), ServerName: "dns.example"}, true},
		{"another authority", other.ServerTLS(t, "127.0.0.1"), &tls.Config{RootCAs: ca.Pool()}, false},
	} {
		d := upstreamtest.NewDNS(t, some(), x.conf)
		for _, url := range []string{"tls://" + d.TLSAddr, "https://" + d.HTTPSAddr} {
			c := client(t, Config{Family: OnlyV4}, x.roots, url)
			_, err := c.Lookup(t.Context(), "a.example")
			if (err == nil) != x.good || err != nil && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s, %s: %v", x.name, url, err)
			}
			if n := len(d.Queries()); !x.good && n != 0 {
				t.Errorf("%s: %d queries were told", x.name, n)
			}
		}
	}
}

// TestServersRest: one that did not answer is asked after the others, and comes back.
func TestServersRest(t *testing.T) {
	bad, good := upstreamtest.NewDNS(t, some(), nil), upstreamtest.NewDNS(t, some(), nil)
	bad.Fault(upstreamtest.DNSFault{Drop: true})
	c := client(t, Config{Timeout: 200 * time.Millisecond, Family: OnlyV4, Negative: -1}, nil, "udp://"+bad.Addr, "udp://"+good.Addr)
	for i := range 5 {
		if _, err := c.Lookup(t.Context(), fmt.Sprintf("n%d.example", i)); err == nil {
			t.Error("there is no such name")
		}
	}
	if n := len(bad.Queries()); n != 1 {
		t.Errorf("a dead server was asked %d times", n)
	}
	bad.Fault(upstreamtest.DNSFault{})
	ahead(c, firstRest+time.Millisecond)
	c.Lookup(t.Context(), "back.example")
	if n := len(bad.Queries()); n != 2 {
		t.Errorf("a server that is back was asked %d times", n)
	}
	if st := c.Status().Servers; st[0].Resting || st[0].Results["timeout"] != 1 || st[0].Results["nxdomain"] != 1 || st[1].Results["nxdomain"] != 5 || st[1].Latency <= 0 {
		t.Errorf("%+v", st)
	}
}

// TestAllFail: who said what is told.
func TestAllFail(t *testing.T) {
	silent := upstreamtest.NewDNS(t, some(), nil)
	silent.Fault(upstreamtest.DNSFault{Drop: true})
	broken := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Timeout: 100 * time.Millisecond, Family: OnlyV4}, nil, "udp://"+silent.Addr, "udp://"+broken.Addr)
	_, err := c.Lookup(t.Context(), "broken")
	want := "resolver corp: broken could not be looked up (udp://" + silent.Addr + ": no answer in time; udp://" + broken.Addr + ": SERVFAIL)"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nexpected %s", err, want)
	}
	if n := silent.Count("broken"); n != 2 {
		t.Errorf("%d attempts", n)
	}
	c = client(t, Config{Timeout: 100 * time.Millisecond}, nil, "udp://"+silent.Addr)
	var ne net.Error
	if _, err := c.Lookup(t.Context(), "a.example"); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%v", err)
	}
}

// TestSlowFamily: addresses of one kind do not wait for a server that drops the other.
func TestSlowFamily(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	d.Fault(upstreamtest.DNSFault{Change: func(b []byte) []byte {
		var p dnsmessage.Parser
		p.Start(b)
		if q, _ := p.Question(); q.Type == dnsmessage.TypeAAAA {
			return nil
		}
		return b
	}})
	c := client(t, Config{Timeout: 5 * time.Second}, nil, "udp://"+d.Addr)
	start := time.Now()
	a, err := c.Lookup(t.Context(), "both.example")
	if err != nil || fmt.Sprint(a) != "[192.0.2.1]" || time.Since(start) > 4*time.Second {
		t.Errorf("%v, %v after %v", a, err, time.Since(start))
	}
	if st := c.Status().Servers[0]; st.Resting || st.Failures != 0 {
		t.Errorf("%+v", st)
	}
	before := len(d.Queries())
	ahead(c, partTTL+time.Second)
	c.Lookup(t.Context(), "both.example")
	if len(d.Queries()) == before {
		t.Error("half an answer is kept as long as a whole one")
	}
}

func TestServeStale(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Timeout: 100 * time.Millisecond, Attempts: 1, ServeStale: time.Hour, Family: OnlyV4}, nil, "udp://"+d.Addr)
	c.Lookup(t.Context(), "a.example")
	d.Fault(upstreamtest.DNSFault{Drop: true})
	ahead(c, 2*time.Minute)
	for i, want := range []string{FromStale, FromStale} {
		if a, err := c.Find(t.Context(), "a.example"); err != nil || a.From != want || len(a.Addrs) != 1 {
			t.Errorf("%d: %+v, %v", i, a, err)
		}
	}
	if n := d.Count("a.example"); n != 2 {
		t.Errorf("%d queries: a failure is not remembered", n)
	}
	d.Set("a.example", upstreamtest.DNSName{Addrs: []string{"192.0.2.2"}, TTL: 60})
	d.Fault(upstreamtest.DNSFault{})
	ahead(c, time.Minute)
	if a, err := c.Find(t.Context(), "a.example"); err != nil || a.From != FromServer || fmt.Sprint(a.Addrs) != "[192.0.2.2]" {
		t.Errorf("%+v, %v", a, err)
	}
	d.Fault(upstreamtest.DNSFault{Drop: true})
	ahead(c, 3*time.Hour)
	if a, err := c.Find(t.Context(), "a.example"); err == nil {
		t.Errorf("%+v is too old", a)
	}
}

func TestStaleWhileSlow(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Timeout: 4 * time.Second, Attempts: 1, ServeStale: time.Hour, Family: OnlyV4}, nil, "udp://"+d.Addr)
	c.Lookup(t.Context(), "a.example")
	d.Fault(upstreamtest.DNSFault{Delay: 3 * time.Second})
	ahead(c, 2*time.Minute)
	start := time.Now()
	a, err := c.Find(t.Context(), "a.example")
	if took := time.Since(start); err != nil || a.From != FromStale || took < staleAnswer || took > 2900*time.Millisecond {
		t.Errorf("%+v, %v after %v", a, err, took)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) { // and what comes late is kept
		if e := c.cache.get("a.example"); e.until.After(c.now()) && e.from == FromServer {
			break
		} else if time.Now().After(end) {
			t.Fatal("the late answer was lost")
		}
	}
}

func TestNetworkChanged(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Family: OnlyV4}, nil, "tcp://"+d.Addr)
	ask := func() int {
		c.Lookup(t.Context(), "a.example")
		c.Lookup(t.Context(), "nosuch.example")
		return len(d.Queries())
	}
	ask()
	if n := ask(); n != 2 {
		t.Errorf("%d queries", n)
	}
	c.NetworkChanged()
	if n := ask(); n != 4 {
		t.Errorf("%d queries afterwards", n)
	}
	if d.Accepted() != 2 {
		t.Errorf("%d connections", d.Accepted())
	}
	sys := New(Options{Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, notFound("x") }}).(*resolver)
	sys.Lookup(t.Context(), "x")
	if sys.NetworkChanged(); len(sys.missing) != 0 {
		t.Error("the system's resolver remembers")
	}
}

// TestPipelining: many names go over one connection, and are answered in any order; when it dies with all of them they go over a new one.
func TestPipelining(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	names := some()
	for i := range 50 {
		names[fmt.Sprintf("n%d.example", i)] = upstreamtest.DNSName{Addrs: []string{fmt.Sprintf("192.0.2.%d", i+1)}, TTL: 60}
	}
	d := upstreamtest.NewDNS(t, names, ca.ServerTLS(t, "127.0.0.1"))
	for _, url := range []string{"tcp://" + d.Addr, "tls://" + d.TLSAddr, "https://" + d.HTTPSAddr} {
		c := client(t, Config{Family: OnlyV4, Timeout: 5 * time.Second}, &tls.Config{RootCAs: ca.Pool()}, url)
		before := d.Accepted()
		all := func() {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					a, err := c.Lookup(t.Context(), fmt.Sprintf("n%d.example", i))
					if err != nil || fmt.Sprint(a) != fmt.Sprintf("[192.0.2.%d]", i+1) {
						t.Errorf("%s: %v, %v", url, a, err)
					}
				})
			}
			wg.Wait()
		}
		d.Fault(upstreamtest.DNSFault{Delay: 20 * time.Millisecond})
		all()
		if n := d.Accepted() - before; n > 1 {
			t.Errorf("%s: %d connections", url, n)
		}
		d.HangUp()
		ahead(c, time.Hour)
		all()
	}
}

func TestOneSearchPerName(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	d.Fault(upstreamtest.DNSFault{Delay: 300 * time.Millisecond})
	c := client(t, Config{Family: OnlyV4, InFlight: 1}, nil, "udp://"+d.Addr)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 1 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			if _, err := c.Lookup(ctx, "a.example"); (err != nil) != (i%2 == 1) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := d.Count("a.example"); n != 1 {
		t.Errorf("%d queries", n)
	}
	gone, cancel := context.WithCancel(t.Context())
	wg.Go(func() { c.Lookup(gone, "six.example") })
	for len(d.Queries()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Lookup(t.Context(), "both.example"); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	cancel()
	wg.Wait()
	if _, err := c.Lookup(t.Context(), "both.example"); err != nil {
		t.Errorf("the place of a search that nobody waits for is not free: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Family: OnlyV4, CacheSize: 50}, nil, "udp://"+d.Addr)
	for i := range 200 {
		c.Lookup(t.Context(), fmt.Sprintf("n%d.example", i))
	}
	if n := c.Status().Entries; n > 50 || n < 30 {
		t.Errorf("%d entries", n)
	}
}

func TestAge(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	d := upstreamtest.NewDNS(t, some(), ca.ServerTLS(t, "127.0.0.1"))
	d.Fault(upstreamtest.DNSFault{Age: "50"})
	c := client(t, Config{Family: OnlyV4}, &tls.Config{RootCAs: ca.Pool()}, "https://"+d.HTTPSAddr)
	c.Lookup(t.Context(), "a.example")
	if left := time.Until(c.cache.get("a.example").until); left > 10*time.Second {
		t.Errorf("good for %v", left)
	}
}

// TestPadding: over TLS the length of a query does not tell the name.
func TestPadding(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	d := upstreamtest.NewDNS(t, some(), ca.ServerTLS(t, "127.0.0.1"))
	c := client(t, Config{}, &tls.Config{RootCAs: ca.Pool()}, "tls://"+d.TLSAddr)
	for _, name := range []string{"a.example", "x", strings.Repeat("long.", 30) + "example"} {
		c.Lookup(t.Context(), name)
	}
	for _, q := range d.Queries() {
		if q.Size%padding != 0 {
			t.Errorf("%s: %d octets", q.Name, q.Size)
		}
	}
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.53": "udp://10.0.0.53:53", "udp://10.0.0.53:5353": "udp://10.0.0.53:5353", "tcp://dns.example": "tcp://dns.example:53", "tls://[2001:db8::1]": "tls://[2001:db8::1]:853",
		"2001:db8::1": "udp://[2001:db8::1]:53", "https://dns.example/secret/path": "https://dns.example:443", "HTTPS://dns.example{?dns}": "https://dns.example:443",
		"udp://dns.example": "", "dns.example": "", "ftp://10.0.0.1": "", "tls://u:p@dns.example": "", "tls://dns.example/x": "", "https://dns.example/?a=b": "", "tcp://x:0": "", "": "", "tls://x:99999": "",
	} {
		s, err := ParseServer(text, same)
		if (err == nil) != (want != "") || err == nil && s.String() != want {
			t.Errorf("%s: %s, %v", text, s.String(), err)
		}
	}
}

// FuzzReply: whatever a server says, the answer is bounded and about what was asked.
func FuzzReply(f *testing.F) {
	d, err := upstreamtest.StartDNS(some(), nil)
	if err != nil {
		f.Fatal(err)
	}
	for name := range some() {
		q, _ := newQuestion(name, dnsmessage.TypeA, false)
		q.id = 7
		msg, _ := q.append(nil, false)
		if c, err := net.Dial("udp", d.Addr); err == nil {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write(msg)
			buf := make([]byte, 4096)
			if n, err := c.Read(buf); err == nil {
				f.Add(name, false, buf[:n])
			}
			c.Close()
		}
	}
	d.Close()
	f.Fuzz(func(t *testing.T, name string, six bool, msg []byte) {
		qtype := dnsmessage.TypeA
		if six {
			qtype = dnsmessage.TypeAAAA
		}
		q, err := newQuestion(strings.ToLower(name), qtype, false)
		if err != nil {
			return
		}
		q.id = 7
		r, err := parseReply(msg, q)
		if err != nil {
			if len(r.addrs) > 0 && err != errLoop {
				t.Errorf("addresses beside %v", err)
			}
			return
		}
		if len(r.addrs) > maxAddrs || r.missing && len(r.addrs) > 0 || r.ttl > 1<<31-1 || r.alias != "" && checkName(r.alias) != nil {
			t.Errorf("%+v", r)
		}
		for _, a := range r.addrs {
			if a.Is4() != (qtype == dnsmessage.TypeA) || a.Is4In6() {
				t.Errorf("%v in an answer to %v", a, qtype)
			}
		}
	})
}

func BenchmarkCached(b *testing.B) {
	d, err := upstreamtest.StartDNS(some(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	c := client(b, Config{}, nil, "udp://"+d.Addr)
	if _, err := c.Lookup(b.Context(), "both.example"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(b.Context(), "both.example"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestNobodyListens: connections that cannot be made fail all who wait for them, with what the kernel said.
func TestNobodyListens(t *testing.T) {
	for _, scheme := range []string{"tcp", "tls", "https"} {
		c := client(t, Config{Attempts: 1, Negative: -1}, nil, scheme+"://"+upstreamtest.Refused(t))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if _, err := c.Lookup(t.Context(), fmt.Sprintf("n%d.example", i)); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("%s: %v", scheme, err)
				}
			})
		}
		wg.Wait()
	}
}

// pipes are ways to a server that is a function of the connection, the first being 1.
type pipes struct {
	serve func(n int, c net.Conn)
	made  int
}

func (p *pipes) Stream(context.Context, string, string, uint16) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.made++
	go p.serve(p.made, theirs)
	return ours, nil
}

func (p *pipes) Datagrams(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("there is no way for datagrams")
}

// TestDeadWay: a connection whose way is gone without a word is given up, though names are asked for all the time; one on which a single query
// is never answered is not.
func TestDeadWay(t *testing.T) {
	for name, wanted := range map[string]int{"dead": 2, "one is swallowed": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipes{}
				p.serve = func(n int, c net.Conn) {
					defer c.Close()
					for i := 0; ; i++ {
						head := make([]byte, 2)
						if _, err := io.ReadFull(c, head); err != nil {
							return
						}
						q := make([]byte, int(head[0])<<8|int(head[1]))
						if _, err := io.ReadFull(c, q); err != nil {
							return
						}
						if i == 1 || name == "dead" && n == 1 && i > 0 {
							continue
						}
						q[2], q[3] = q[2]|0x80, q[3]&0xf0|3 // there is no such name
						if _, err := c.Write(append(head, q...)); err != nil {
							return
						}
					}
				}
				c := client(t, Config{Family: OnlyV4, Attempts: 1}, nil, "tcp://192.0.2.53")
				c.SetWays(p)
				var last error
				for i := range 40 {
					_, last = c.Lookup(t.Context(), fmt.Sprintf("n%d.example", i))
					time.Sleep(time.Second)
				}
				var e *Error
				if !errors.As(last, &e) || e.Result != NXDomain {
					t.Errorf("in the end: %v", last)
				}
				if p.made != wanted {
					t.Errorf("%d connections, want %d", p.made, wanted)
				}
				c.Close()
				synctest.Wait()
			})
		})
	}
}

// TestGivenUpIsNoFailure: a search that nobody waited for to its end does not make an answer past its time good for a while.
func TestGivenUpIsNoFailure(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	c := client(t, Config{Family: OnlyV4, ServeStale: time.Hour}, nil, "udp://"+d.Addr)
	c.Lookup(t.Context(), "a.example")
	ahead(c, 2*time.Minute)
	d.Fault(upstreamtest.DNSFault{Drop: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if a, err := c.Find(ctx, "a.example"); err == nil {
		t.Fatalf("%+v", a)
	}
	for c.Status().InFlight > 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // the search ends beside us
	d.Set("a.example", upstreamtest.DNSName{Addrs: []string{"192.0.2.2"}, TTL: 60})
	d.Fault(upstreamtest.DNSFault{})
	if a, err := c.Find(t.Context(), "a.example"); err != nil || a.From != FromServer || fmt.Sprint(a.Addrs) != "[192.0.2.2]" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestNetworkChangesMeanwhile: what the servers of the network before say late is for those who wait for it, and not for those who come now.
func TestNetworkChangesMeanwhile(t *testing.T) {
	d := upstreamtest.NewDNS(t, some(), nil)
	d.Fault(upstreamtest.DNSFault{Delay: time.Second})
	c := client(t, Config{Family: OnlyV4, Timeout: 5 * time.Second}, nil, "udp://"+d.Addr)
	before := make(chan error, 1)
	go func() {
		_, err := c.Lookup(t.Context(), "later.example")
		before <- err
	}()
	for d.Count("later.example") == 0 {
		time.Sleep(time.Millisecond)
	}
	d.Fault(upstreamtest.DNSFault{})
	d.Set("later.example", upstreamtest.DNSName{Addrs: []string{"192.0.2.7"}, TTL: 60})
	c.NetworkChanged()
	for i := range 2 {
		if i == 1 {
			<-before
		}
		if a, err := c.Find(t.Context(), "later.example"); err != nil || fmt.Sprint(a.Addrs) != "[192.0.2.7]" {
			t.Errorf("%d: %+v, %v", i, a, err)
		}
	}
}
