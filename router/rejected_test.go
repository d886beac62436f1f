package router

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// TestRejectedPlainRequests: a proxy that answers plain requests with 407 is as much at fault as one that refuses tunnels so: it counts as
// failing and leaves its pool, although it can be connected to; and one that takes them again comes back.
func TestRejectedPlainRequests(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer origin.Close()
	no := upstreamtest.Status(407, "who")
	bad := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{no, no, no, no, upstreamtest.OK}})
	good := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	g := start(t, func(_ *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{
			Upstreams: []upstream.Spec{{Name: "bad", Scheme: "http", Address: address(t, bad.Addr())}, {Name: "good", Scheme: "http", Address: address(t, good.Addr())}},
			Pools:     []upstream.PoolSpec{{Name: "corp", Members: []string{"upstream.bad", "upstream.good"}, Eject: upstream.EjectSpec{Failures: 3, Time: 300 * time.Millisecond, MaxTime: 300 * time.Millisecond}}},
		})
		c.Listeners[0].Decider = always(via("pool.corp"))
	})
	ask := func() int {
		t.Helper()
		res, err := g.client(t).Get(origin.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for i := range 3 {
		if code := ask(); code != 502 {
			t.Fatalf("request %d: %d", i, code)
		}
	}
	table := g.Config().Routes
	if s := table.Status()[0]; s.Failures != 3 || s.InARow != 3 || s.Worked || !strings.Contains(s.LastError, "407") {
		t.Errorf("status: %+v", s)
	}
	if m := table.Pools()[0].Members[0]; m.State != upstream.StateEjected || !strings.Contains(m.LastError, "407") {
		t.Errorf("member: %+v", m)
	}
	if code := ask(); code != 200 {
		t.Errorf("after the ejection: %d", code)
	}
	// After its time it is tried by one request, which fails, and then by another.
	back := false
	for end := time.Now().Add(20 * time.Second); !back && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ask() // that a connection to the other one is kept does not matter
		m := table.Pools()[0].Members[0]
		back = m.State == upstream.StateHealthy && m.Worked
	}
	if s := table.Status()[0]; !back || s.Failures != 4 || s.InARow != 0 || !s.Worked {
		t.Errorf("it never came back: %+v, %+v", s, table.Pools()[0].Members[0])
	}
}

// asks is a decider that can tell which rule asks for addresses.
type asks struct{ rule, file string }

func (a asks) Decide(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
	if f.Have&connmodel.NeedAddresses == 0 {
		return nil, connmodel.NeedAddresses
	}
	return loopbackOpen(), 0
}

func (a asks) Asks(*connmodel.Facts) (string, string, int) { return a.rule, a.file, 7 }

// TestNameNotResolvedForARule: the error names the rule that asked.
func TestNameNotResolvedForARule(t *testing.T) {
	for says, d := range map[string]connmodel.Decider{
		`rule "lab" (lab.hcl:7) asks for the address of nosuch.example`: asks{"lab", "lab.hcl"},
		`rule "lab" asks for`: asks{"lab", ""},
		`a rule asks for`:     connmodel.DeciderFunc(asks{}.Decide),
	} {
		g := start(t, func(_ *Options, c *Config) {
			c.Resolver = fixedResolver{}
			c.Listeners[0].Decider = d
		})
		res := g.answer(t, "CONNECT nosuch.example:443 HTTP/1.1\r\nHost: nosuch.example:443\r\n\r\n")
		body, _ := io.ReadAll(res.Body)
		if f := g.records.next(t); res.StatusCode != 502 || !strings.Contains(string(body), says) || f.Error == nil || !strings.Contains(f.Error.Message, says) || f.Error.Kind != connmodel.KindDNS {
			t.Errorf("want %s\n%d %s\n%+v", says, res.StatusCode, body, f.Error)
		}
	}
}
