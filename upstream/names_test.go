package upstream

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func (f lookupFunc) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return f(ctx, host)
}

func TestNamesOfProxiesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, false
		r := lookupFunc(func(context.Context, string) ([]netip.Addr, error) {
			if asked++; down {
				return nil, errors.New("no answer")
			}
			return ips("192.0.2.1"), nil
		})
		var n names
		look := func(want int, ok bool) {
			t.Helper()
			if got, err := n.lookup(t.Context(), r, "proxy.example", new(resolution)); (err == nil && len(got) == 1) != ok || asked != want {
				t.Errorf("%v, %v, asked %d times, want %d", got, err, asked, want)
			}
		}
		look(1, true)
		time.Sleep(namesFresh - 1)
		look(1, true)
		time.Sleep(time.Nanosecond)
		look(2, true)
		n.doubt()
		look(3, true)
		down = true
		time.Sleep(namesStale - 1)
		look(4, true) // the old one will do
		time.Sleep(time.Nanosecond)
		look(5, false)
	})
}

func TestTargetsAreAskedForEachTime(t *testing.T) {
	to := listen(t, echo)
	asked := map[string]int{}
	_, s := startProxy(t, nil, "p", "socks5", ut.Options{})
	s.Address.Host = "proxy.example"
	tab := table(t, Config{Upstreams: []Spec{s}, Resolver: lookupFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
		asked[host]++
		return ips("127.0.0.1"), nil
	})})
	for range 3 {
		c, err := tab.Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "server.example", Port: to.Port}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if asked["proxy.example"] != 1 || asked["server.example"] != 3 {
		t.Errorf("asked %v", asked)
	}
}
