package router

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// forwardTo makes the gateway's listener one with a fixed target.
func forwardTo(t *testing.T, target string, change func(*Options, *Config)) *gateway {
	t.Helper()
	return start(t, func(o *Options, c *Config) {
		l := &c.Listeners[0]
		l.Protocols, l.Target = Forward, address(t, target)
		d := *loopbackOpen()
		d.AllowAddresses, d.AllowLocalhost = nil, false // a target that the policy names needs no rule that opens its range
		l.Decider = always(&d)
		if change != nil {
			change(o, c)
		}
	})
}

func dialTo(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// isReset wants a connection that is reset, be it before the client knows that it was made.
func isReset(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	var b []byte
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		b, err = io.ReadAll(c)
	}
	if len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %q, %v", b, err)
	}
}

// TestForward: nobody has to say anything, whoever speaks first, and half-closes pass through.
func TestForward(t *testing.T) {
	t.Run("the client speaks first", func(t *testing.T) {
		g := forwardTo(t, echo(t), nil)
		c := dialTo(t, g.addr)
		if err := shake(c, []byte("\x05first bytes that look like SOCKS")); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		f := g.records.next(t)
		if f.Protocol != connmodel.ProtocolForward || f.Reason != connmodel.CloseClient || f.Error != nil || f.Reply != nil || f.Up != f.Down || f.Up == 0 || f.Client.Protocol != connmodel.ProtocolForward {
			t.Errorf("record %+v", f)
		}
	})
	t.Run("the server speaks first", func(t *testing.T) {
		g := forwardTo(t, serveTCP(t, func(c net.Conn) { io.WriteString(c, "220 ready\r\n"); io.Copy(c, c) }), nil)
		c := dialTo(t, g.addr)
		b := make([]byte, 11)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 ready\r\n" {
			t.Fatalf("%q, %v", b, err)
		}
	})
	t.Run("all is said and closed before the server is reached", func(t *testing.T) {
		g := forwardTo(t, serveTCP(t, func(c net.Conn) {
			b, _ := io.ReadAll(c)
			c.Write(b)
		}), nil)
		c := dialTo(t, g.addr)
		io.WriteString(c, "all of it")
		c.CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "all of it" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a rule sends it elsewhere", func(t *testing.T) {
		other := serveTCP(t, func(c net.Conn) { io.WriteString(c, "other") })
		g := forwardTo(t, "192.0.2.1:5432", func(_ *Options, c *Config) {
			d := *loopbackOpen()
			d.Server = address(t, other)
			c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
				if f.Protocol != connmodel.ProtocolForward || f.Target.String() != "192.0.2.1:5432" || !f.TargetIP.IsValid() || f.User != "" {
					t.Errorf("facts %+v", f)
				}
				return &d, 0
			})
		})
		if b, err := io.ReadAll(dialTo(t, g.addr)); string(b) != "other" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("on a Unix socket", func(t *testing.T) {
		path := t.TempDir() + "/s"
		forwardTo(t, echo(t), func(_ *Options, c *Config) { c.Listeners[0].Network, c.Listeners[0].Address = "unix", path })
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := shake(c, []byte("x")); err != nil {
			t.Error(err)
		}
	})
}

// TestForwardRefused: whatever keeps the client from its server, it is reset, told nothing, and recorded.
func TestForwardRefused(t *testing.T) {
	closed := serveTCP(t, func(net.Conn) {})
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	dead := ln.Addr().String()
	ln.Close()
	for _, tt := range []struct {
		name, target string
		change       func(*Options, *Config)
		kind         connmodel.Kind
		reason       connmodel.CloseReason
	}{
		{"denied", closed, func(_ *Options, c *Config) {
			c.Listeners[0].Decider = always(&connmodel.Decision{Policy: "p", Rule: "r", Outcome: connmodel.OutcomeDeny})
		}, connmodel.KindDenied, connmodel.CloseDenied},
		{"the server is down", dead, nil, connmodel.KindRefused, connmodel.CloseFailed},
		{"a name that is nobody's", "nosuch.invalid:5432", nil, connmodel.KindDNS, connmodel.CloseFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := forwardTo(t, tt.target, tt.change)
			isReset(t, g.addr)
			f := g.records.next(t)
			if f.Error == nil || f.Error.Kind != tt.kind || f.Reason != tt.reason || f.Reply != nil || f.Target.String() != tt.target {
				t.Errorf("record %+v, error %v", f, f.Error)
			}
		})
	}
}

// TestForwardLoop: a target that is one of our own listeners is refused, also when it is named by the policy.
func TestForwardLoop(t *testing.T) {
	g := forwardTo(t, "127.0.0.1:1", nil)
	c := g.next(func(c *Config) { c.Listeners[0].Target = address(t, g.addr) })
	if err := g.Apply(c); err != nil {
		t.Fatal(err)
	}
	isReset(t, g.addr)
	if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindDenied || !strings.Contains(f.Error.Message, "this gateway itself") {
		t.Errorf("error %v", f.Error)
	}
}

// TestTargetOfMachine: what the policy names may be on this machine, what a name turns out to be may not.
func TestTargetOfMachine(t *testing.T) {
	g := &generation{cfg: &Config{}}
	d := loopbackOpen()
	d.AllowAddresses, d.AllowLocalhost = nil, false
	here := connmodel.Address{Host: "127.0.0.1", Port: 5432}
	local := connmodel.Address{Host: "localhost", Port: 5432}
	name := connmodel.Address{Host: "db.example", Port: 5432}
	for _, tt := range []struct {
		name   string
		l      *Listener
		target connmodel.Address
		ok     bool
	}{
		{"no listener", nil, here, false},
		{"a listener that asks", &Listener{}, here, false},
		{"the listener's own", &Listener{Target: here}, here, true},
		{"localhost", &Listener{Target: local}, local, true},
		{"another port", &Listener{Target: here}, connmodel.Address{Host: "127.0.0.1", Port: 22}, false},
		{"a name that is here", &Listener{Target: name}, name, false},
	} {
		if e := g.checkAddress(tt.l, d, tt.target, loopback4, tt.target.Port); (e == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, e)
		}
	}
	e := *d
	e.Server = connmodel.Address{Host: "10.0.0.1", Port: 1}
	if err := g.checkAddress(&Listener{Target: here}, &e, here, loopback4, 5432); err == nil {
		t.Error("the listener's target is allowed although the rule names another server")
	}
}

// TestForwardDrain: an open forward goes on while the gateway drains, and is cut at its end.
func TestForwardDrain(t *testing.T) {
	g := forwardTo(t, echo(t), nil)
	c := dialTo(t, g.addr)
	if err := shake(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if cut, _ := g.shutdownIn(200 * time.Millisecond); cut != 1 {
		t.Errorf("%d cut", cut)
	}
	if f := g.records.next(t); f.Reason != connmodel.CloseDrained {
		t.Errorf("reason %s", f.Reason)
	}
}

// TestProtocolsOfAListener: what cannot be told apart is refused when the configuration is applied.
func TestProtocolsOfAListener(t *testing.T) {
	target := connmodel.Address{Host: "db.example", Port: 1}
	r := New(Options{})
	for _, l := range []Listener{
		{Protocols: Forward},
		{Protocols: Forward | HTTP, Target: target},
		{Protocols: HTTP, Target: target},
		{},
	} {
		l.Name, l.Address, l.Decider = "l", "127.0.0.1:0", always(loopbackOpen())
		if err := r.Apply(&Config{Routes: routes(t, upstream.Config{}), Listeners: []Listener{l}}); err == nil {
			t.Errorf("%+v is taken", l)
			shut(r)
		}
	}
}
