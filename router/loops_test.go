package router

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// TestLoops: whichever end of a connection of our own is seen first, the second one shows it.
func TestLoops(t *testing.T) {
	to := serveTCP(t, func(c net.Conn) { time.Sleep(time.Second) })
	var l loops
	a, b := dialTo(t, to), dialTo(t, to)
	if l.made(a) {
		t.Error("nobody has come yet")
	}
	back := &session{peer: addrPort(a.LocalAddr())}
	if !l.came(back) || !back.local {
		t.Error("our own connection is not recognised")
	}
	l.left(back)
	first := &session{peer: addrPort(b.LocalAddr())}
	if l.came(first) {
		t.Error("a program of this machine is taken for ourselves")
	}
	if !l.made(b) {
		t.Error("our own connection that came first is not recognised")
	}
	l.left(first)
	if l.made(b) {
		t.Error("it has left")
	}
	a.Close()
	if again := (&session{peer: back.peer}); l.came(again) {
		t.Error("the port is another's meanwhile")
	}
	if far := (&session{peer: someone}); l.came(far) || far.local {
		t.Error("a client from elsewhere is looked at")
	}
	for range 3 { // connections are not remembered for ever
		l.turned = time.Now().Add(-2 * lately)
		l.made(dialTo(t, to))
	}
	if len(l.cur)+len(l.old) > 2 {
		t.Errorf("%d connections are remembered", len(l.cur)+len(l.old))
	}
}

// names is a resolver.
type names map[string][]netip.Addr

func (n names) Lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if list, ok := n[host]; ok {
		return list, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// TestVerifyName: the name has the address, has not, is nobody's; an address as name is compared.
func TestVerifyName(t *testing.T) {
	g := start(t, func(_ *Options, c *Config) {
		c.Resolver = names{"good.example": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, "other.example": {netip.MustParseAddr("198.51.100.1")}}
	})
	p := g.doors[keyOf(&g.Config().Listeners[0])].pin.Load()
	d := &connmodel.Decision{VerifyName: true}
	for _, tt := range []struct {
		to, name string
		kind     connmodel.Kind
		says     string
	}{
		{"192.0.2.1:443", "good.example", "", ""},
		{"[2001:db8::1]:443", "good.example", "", ""},
		{"192.0.2.1:443", "", "", ""},
		{"192.0.2.1:443", "other.example", connmodel.KindDenied, "connects to 192.0.2.1, which is not an address of that name (it has 198.51.100.1)"},
		{"192.0.2.1:443", "nosuch.example", connmodel.KindDNS, "could not be held against the address 192.0.2.1"},
		{"192.0.2.1:80", "192.0.2.1", "", ""},
		{"192.0.2.1:80", "192.0.2.2", connmodel.KindDenied, "asks for 192.0.2.2 and connects to 192.0.2.1"},
	} {
		target := address(t, tt.to)
		f := &connmodel.Facts{Protocol: connmodel.ProtocolRedirect, Target: target, TargetIP: target.IP(), Have: firstBytes}
		if err := f.Named(tt.name); err != nil {
			t.Fatal(err)
		}
		s := &session{r: g.Router, desk: new(desk)}
		e := s.checkNamed(p, nil, f, d)
		if tt.kind == "" && e != nil || tt.kind != "" && (e == nil || e.Kind != tt.kind || !strings.Contains(e.Message, tt.says)) {
			t.Errorf("%s, %q: %v", tt.to, tt.name, e)
		}
		if to := Destination(f, d); to != target {
			t.Errorf("%s, %q: goes to %s", tt.to, tt.name, to)
		}
		if to := Destination(f, &connmodel.Decision{SendName: true}); tt.name != "" && to.Host != tt.name {
			t.Errorf("%s, %q: goes to %s", tt.to, tt.name, to)
		}
	}
}

// TestNotSentHere: without a firewall a transparent listener refuses everybody, as clients of the listener itself.
func TestNotSentHere(t *testing.T) {
	g := start(t, func(_ *Options, c *Config) { c.Listeners[0].Protocols = Redirect })
	isReset(t, g.addr)
	if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindDenied || !strings.Contains(f.Error.Message, "was not redirected here by a firewall") || f.Protocol != connmodel.ProtocolRedirect || f.Decision != nil {
		t.Errorf("error %v, record %+v", f.Error, f)
	}
	c := g.next(func(c *Config) { c.Listeners[0].Protocols = TProxy })
	err := g.Apply(c)
	var missing *transparentError
	if errors.As(err, &missing) || err != nil && strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Skip("not the capability for tproxy here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	isReset(t, g.addr)
	if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindDenied || !strings.Contains(f.Error.Message, "an address of this gateway itself") || f.Protocol != connmodel.ProtocolTProxy {
		t.Errorf("error %v, record %+v", f.Error, f)
	}
}
