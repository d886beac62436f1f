package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// openTo waits until a flow to target is open, and returns its id.
func (g *gateway) openTo(t *testing.T, target string) (id connmodel.ID) {
	t.Helper()
	waitFor(t, func() bool {
		g.Each(func(f *connmodel.Flow) {
			if f.Target.String() == target && f.Decision != nil {
				id = f.ID
			}
		})
		return !id.IsZero()
	})
	return id
}

// closedByAdmin waits for the record of a flow, which an operator has closed.
func (g *gateway) closedByAdmin(t *testing.T, id connmodel.ID) *connmodel.Flow {
	t.Helper()
	var found *connmodel.Flow
	waitFor(t, func() bool {
		g.records.mu.Lock()
		defer g.records.mu.Unlock()
		for _, f := range g.records.flows {
			if f.ID == id {
				found = f
			}
		}
		return found != nil
	})
	if found.Reason != connmodel.CloseAdmin {
		t.Errorf("%s ended with %s (%v)", found.Target, found.Reason, found.Error)
	}
	return found
}

// TestCloseFlow ends one flow of each kind while others of its kind go on.
func TestCloseFlow(t *testing.T) {
	waiting := make(chan struct{}, 8)
	release := make(chan struct{})
	slow := serveTCP(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			waiting <- struct{}{}
			<-release
		}
	})
	defer close(release)
	t.Run("tunnel", func(t *testing.T) {
		a, b := echo(t), echo(t)
		g := start(t, nil)
		closed, other := g.tunnel(t, a), g.tunnel(t, b)
		id := g.openTo(t, a)
		if !g.CloseFlow(id) || g.CloseFlow(connmodel.NewID(time.Now())) {
			t.Error("the tunnel is not found, or one that there is not")
		}
		if _, err := closed.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on")
		}
		g.closedByAdmin(t, id)
		if g.CloseFlow(id) {
			t.Error("closed twice")
		}
		if err := shake(other, []byte("still")); err != nil {
			t.Errorf("the other: %v", err)
		}
	})
	t.Run("plain request", func(t *testing.T) {
		g := start(t, nil)
		c := g.dial(t)
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", slow)
		<-waiting
		id := g.openTo(t, slow)
		if !g.CloseFlow(id) {
			t.Fatal("not found")
		}
		g.closedByAdmin(t, id)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if b, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("the client's connection goes on: %q", b)
		}
	})
	t.Run("while dialling", func(t *testing.T) {
		r := stuck{go_: make(chan struct{})}
		defer close(r.go_)
		g := start(t, func(_ *Options, c *Config) { c.Routes = routes(t, upstream.Config{Resolver: r}) })
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT slow.example:443 HTTP/1.1\r\nHost: slow.example:443\r\n\r\n")
		id := g.openTo(t, "slow.example:443")
		if !g.CloseFlow(id) {
			t.Fatal("not found")
		}
		if f := g.closedByAdmin(t, id); f.Error == nil || f.Error.Kind != connmodel.KindCanceled {
			t.Errorf("error %v", f.Error)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
		if err == nil && res.StatusCode < 500 {
			t.Errorf("the client is told %s", res.Status)
		}
	})
	t.Run("stream of HTTP/2", func(t *testing.T) {
		a, b := echo(t), echo(t)
		g := startH2(t, nil)
		c := g.h2(t)
		closed, other := c.mustTunnel(a), c.mustTunnel(b)
		defer closed.end()
		defer other.end()
		id := g.openTo(t, a)
		if !g.CloseFlow(id) {
			t.Fatal("not found")
		}
		g.closedByAdmin(t, id)
		if err := closed.shake([]byte("x")); err == nil {
			t.Error("it goes on")
		}
		if err := other.shake([]byte("still")); err != nil {
			t.Errorf("the other stream of the connection: %v", err)
		}
	})
	t.Run("target of datagrams", func(t *testing.T) {
		a, b := packetEcho(t).String(), packetEcho(t).String()
		g := start(t, withUDP(UDP{}))
		c := g.associate(t)
		c.exchange(a, "one")
		c.exchange(b, "two")
		id := g.openTo(t, a)
		if !g.CloseFlow(id) || g.CloseFlow(id) {
			t.Error("the target is not found, or twice")
		}
		g.closedByAdmin(t, id)
		c.send(a, "is anybody there?")
		c.nothing(b)
		c.exchange(b, "three")
	})
	t.Run("association", func(t *testing.T) {
		a := packetEcho(t).String()
		g := start(t, withUDP(UDP{}))
		c := g.associate(t)
		c.exchange(a, "one")
		var id connmodel.ID
		g.Each(func(f *connmodel.Flow) {
			if f.Target.IsZero() {
				id = f.ID
			}
		})
		if !g.CloseFlow(id) {
			t.Fatal("not found")
		}
		g.closedByAdmin(t, id)
		c.ended()
	})
}
