package router

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
)

func TestAnAddressMovesBetweenOverlappingListeners(t *testing.T) {
	target := echo(t)
	g := start(t, nil)
	port := g.Addrs()["desk"].(*net.TCPAddr).Port
	addr := g.addr
	held := g.tunnel(t, target)
	for i, to := range []string{"0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"} {
		c := g.next(func(c *Config) { c.Listeners[0].Address = fmt.Sprintf("%s:%d", to, port) })
		if i == 0 { // from port 0, which is another address
			c.Listeners[0].Name = "moved"
		}
		if err := g.Apply(c); err != nil {
			t.Fatalf("to %s: %v", to, err)
		}
		g.addr = addr
		if err := shake(g.tunnel(t, target), []byte("new")); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
		if len(g.Addrs()) != 1 {
			t.Errorf("to %s: listening on %v", to, g.Addrs())
		}
		// Nobody else can share the port afterwards.
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			t.Errorf("to %s: the port is free for others", to)
		}
	}
	if err := shake(held, []byte("old")); err != nil {
		t.Errorf("the tunnel of before: %v", err)
	}
	// Both at once cannot be.
	err := g.Apply(g.next(func(c *Config) {
		l := c.Listeners[0]
		l.Name, l.Address = "wide", fmt.Sprintf("0.0.0.0:%d", port)
		c.Listeners = append(c.Listeners, l)
	}))
	if err == nil || !strings.Contains(err.Error(), `listener "wide": 0.0.0.0:`) || !strings.Contains(err.Error(), "overlaps with 127.0.0.1:") {
		t.Errorf("two listeners that overlap: %v", err)
	}
	if err := shake(g.tunnel(t, target), []byte("still")); err != nil {
		t.Error(err)
	}
}

func TestAnIPv4WildcardIsIPv4Alone(t *testing.T) {
	ln, err := bindTCP("0.0.0.0:0", false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a := ln.Addr().(*net.TCPAddr); a.IP.To4() == nil {
		t.Errorf("0.0.0.0 was bound as %s", a)
	}
}

func TestListenersWithPortZeroEachGetTheirOwn(t *testing.T) {
	g := start(t, func(o *Options, c *Config) {
		second := c.Listeners[0]
		second.Name = "second"
		c.Listeners = append(c.Listeners, second)
	})
	before := g.Addrs()
	if len(before) != 2 || before["desk"].String() == before["second"].String() {
		t.Fatalf("listening on %v", before)
	}
	if err := g.Apply(g.next(func(*Config) {})); err != nil {
		t.Fatal(err)
	}
	if after := g.Addrs(); after["desk"].String() != before["desk"].String() || after["second"].String() != before["second"].String() {
		t.Errorf("a reload moved %v to %v", before, after)
	}
}

func TestOwnAddressesInEverySpelling(t *testing.T) {
	g := start(t, func(o *Options, c *Config) {
		l := c.Listeners[0]
		l.Name, l.Address = "wild", "[::]:0"
		four := l
		four.Name, four.Address = "wild4", "0.0.0.0:0"
		c.Listeners = append(c.Listeners, l, four)
		c.OwnAddresses = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}
	})
	addrs := g.Addrs()
	port := func(name string) int { return addrs[name].(*net.TCPAddr).Port }
	targets := []string{g.addr, fmt.Sprintf("0.0.0.0:%d", port("desk")), fmt.Sprintf("[::ffff:127.0.0.1]:%d", port("desk")), fmt.Sprintf("localhost:%d", port("desk")), "127.0.0.1:9"}
	for _, wild := range []string{"wild", "wild4"} {
		targets = append(targets, fmt.Sprintf("127.0.0.1:%d", port(wild)), fmt.Sprintf("127.8.8.8:%d", port(wild)), fmt.Sprintf("0.0.0.0:%d", port(wild)))
		list, _ := net.InterfaceAddrs()
		for _, a := range list {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
				targets = append(targets, fmt.Sprintf("%s:%d", ip.IP, port(wild)))
			}
		}
	}
	targets = append(targets, fmt.Sprintf("[::1]:%d", port("wild")))
	open := loopbackOpen()
	open.AllowAddresses = append(open.AllowAddresses, netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/128"))
	if err := g.Apply(g.next(func(c *Config) {
		for i := range c.Listeners {
			c.Listeners[i].Decider = always(open)
		}
	})); err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		resp := g.answer(t, fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target))
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 403 || !strings.Contains(string(body), "this gateway itself") {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
	// server = our own door is no way around it.
	self := loopbackOpen()
	self.Server = address(t, g.addr)
	if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].Decider = always(self) })); err != nil {
		t.Fatal(err)
	}
	if resp := g.answer(t, "CONNECT x.example:80 HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 403 {
		t.Errorf("server = own listener: %d", resp.StatusCode)
	}
}

// TestServerOpensOnlyItself: a rule's own server may be a refused address; what a client asks for, or a hook puts there, may not.
func TestServerOpensOnlyItself(t *testing.T) {
	target := echo(t)
	d := loopbackOpen()
	d.AllowAddresses, d.AllowLocalhost, d.Server = nil, false, address(t, target)
	wide := loopbackOpen()
	wide.AllowAddresses = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} // no way to open loopback
	g := start(t, func(o *Options, c *Config) {
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
			if f.Target.Host == "wide.example" || f.TargetIP.IsValid() {
				return wide, 0
			}
			return d, 0
		})
	})
	if err := shake(g.tunnel(t, "inside.example:80"), []byte("by server =")); err != nil {
		t.Error(err)
	}
	if resp := g.answer(t, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 403 {
		t.Errorf("0.0.0.0/0 opened loopback: %d", resp.StatusCode)
	}
}

func TestUnixSocketModesAndFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.sock")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	g := start(t, func(o *Options, c *Config) {
		c.Listeners = append(c.Listeners, Listener{Name: "sock", Network: "unix", Address: path, FileMode: 0o600, Protocols: AllProtocols, Decider: always(loopbackOpen())})
	})
	mode := func() os.FileMode {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	if m := mode(); m != 0o600 {
		t.Errorf("mode %o", m)
	}
	inode := func() uint64 { st, _ := os.Stat(path); return st.Sys().(*syscall.Stat_t).Ino }
	before := inode()
	if err := g.Apply(g.next(func(c *Config) { c.Listeners[1].FileMode = 0o666; c.Listeners[1].Address = dir + "//p.sock" })); err != nil {
		t.Fatal(err)
	}
	if m := mode(); m != 0o666 || inode() != before {
		t.Errorf("after a change of its mode alone: mode %o, another file: %v", m, inode() != before)
	}
	if err := g.Apply(g.next(func(c *Config) { c.Listeners = c.Listeners[:1] })); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of a dropped listener: %v", err)
	}
	// What is in the way: a stale socket goes, a live one and an ordinary file stay.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	add := func(path string) error {
		return g.Apply(g.next(func(c *Config) {
			c.Listeners = append(c.Listeners[:1:1], Listener{Name: "sock", Network: "unix", Address: path, Protocols: HTTP, Decider: always(loopbackOpen())})
		}))
	}
	if err := add(path); err != nil {
		t.Errorf("over a stale socket: %v", err)
	}
	live := filepath.Join(dir, "live.sock")
	other, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := add(live); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("over a live socket: %v", err)
	}
	file := filepath.Join(dir, "file")
	os.WriteFile(file, []byte("precious"), 0o600)
	if err := add(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	g.shutdownIn(time.Second)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file after Shutdown: %v", err)
	}
}

// TestSystemdSocketsComeBack: a socket that one reload drops is there for the next.
func TestSystemdSocketsComeBack(t *testing.T) {
	original, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	for range 3 {
		ln, err := adopt("web", original)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			c, err := ln.Accept()
			if err == nil {
				c.Close()
			}
			done <- err
		}()
		c, err := net.Dial("tcp", original.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
		ln.Close()
	}
	if _, err := inherited("nothing"); err == nil || !strings.Contains(err.Error(), `no socket named "nothing"`) {
		t.Errorf("a name that systemd did not pass: %v", err)
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	r := New(Options{})
	if err := r.Apply(&Config{Listeners: []Listener{{Name: "a"}}}); err == nil || !strings.Contains(err.Error(), "Routes") ||
		!strings.Contains(err.Error(), "Decider") || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("an empty configuration: %v", err)
	}
	g := start(t, nil)
	same := func(c *Config) {
		l := c.Listeners[0]
		l.Name, l.Address = "x", "127.0.0.1:1"
		y := l
		y.Name = "y"
		c.Listeners = append(c.Listeners, l, y)
	}
	if err := g.Apply(g.next(same)); err == nil || !strings.Contains(err.Error(), `already the address of listener "x"`) {
		t.Errorf("one address twice: %v", err)
	}
}

func TestShutdownAndApplyAgain(t *testing.T) {
	g := start(t, nil)
	c := g.Config()
	g.shutdownIn(time.Second)
	if cut, took := g.shutdownIn(time.Minute); cut != 0 || took > 10*time.Second {
		t.Errorf("a second Shutdown cut %d in %v", cut, took)
	}
	if err := g.Apply(c); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply after Shutdown: %v", err)
	}
}

// TestLimitPerClientSurvivesReloads: sessions that were not counted when they began are not given back either.
func TestLimitPerClientSurvivesReloads(t *testing.T) {
	target := echo(t)
	g := start(t, nil)
	uncounted := []net.Conn{g.tunnel(t, target), g.tunnel(t, target)}
	if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].PerClient = 1 })); err != nil {
		t.Fatal(err)
	}
	counted := g.tunnel(t, target)
	for _, c := range uncounted {
		c.Close()
	}
	waitFor(t, func() bool { return g.Stats().SessionsOpen == 1 })
	if c, err := g.open(target); err == nil {
		c.Close()
		t.Error("a second connection of one client was let in: the limit is 1")
	}
	if err := shake(counted, []byte("the one")); err != nil {
		t.Error(err)
	}
	if a, b := clientKey(netip.MustParseAddr("2001:db8::1")), clientKey(netip.MustParseAddr("2001:db8::ffff:1")); a != b {
		t.Errorf("one /64 counts as two clients: %s, %s", a, b)
	}
}

// TestIdleListenersHoldNoPlace: the limit is of clients, not of listeners.
func TestIdleListenersHoldNoPlace(t *testing.T) {
	target := echo(t)
	g := start(t, func(o *Options, c *Config) {
		for i := range 4 {
			l := c.Listeners[0]
			l.Name = fmt.Sprint("spare", i)
			c.Listeners = append(c.Listeners, l)
		}
		c.Limits.Connections = 2
	})
	a, b := g.tunnel(t, target), g.tunnel(t, target)
	for _, c := range []net.Conn{a, b} {
		if err := shake(c, []byte("in")); err != nil {
			t.Error(err)
		}
	}
	a.Close()
	spare := *g
	spare.addr = g.Addrs()["spare3"].String()
	if err := shake(spare.tunnel(t, target), []byte("by another door")); err != nil {
		t.Error(err)
	}
}
