package router

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

// firsts counts what is told of the beginnings of connections.
type firsts struct {
	noMeter
	mu    sync.Mutex
	flows []*connmodel.Flow
	tls   []time.Duration
}

func (m *firsts) FirstFlow(f *connmodel.Flow) {
	m.mu.Lock()
	m.flows = append(m.flows, f)
	m.mu.Unlock()
}

func (m *firsts) ClientTLS(_ string, took time.Duration) {
	m.mu.Lock()
	m.tls = append(m.tls, took)
	m.mu.Unlock()
}

// TestFirstFlows: a client connection is counted once, with the flow it was made for: not for a further request on it, nor for requests in
// an opened tunnel, and not when nothing came.
func TestFirstFlows(t *testing.T) {
	origin := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	target := echo(t)
	for _, c := range []struct {
		name string
		do   func(t *testing.T, g *gateway)
		want string // protocols of the flows
	}{
		{"a tunnel", func(t *testing.T, g *gateway) { g.tunnel(t, target).Close() }, "connect"},
		{"three requests", func(t *testing.T, g *gateway) {
			web := g.client(t)
			for range 3 {
				get(t, web, origin.URL, 200)
			}
			web.CloseIdleConnections()
		}, "http"},
		{"a request and then a tunnel", func(t *testing.T, g *gateway) {
			c := dialTo(t, g.addr)
			r := bufio.NewReader(c)
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
			if res, err = http.ReadResponse(r, &http.Request{Method: "CONNECT"}); err != nil || res.StatusCode != 200 {
				t.Fatal(err)
			}
			c.Close()
		}, "http"},
		{"nothing", func(t *testing.T, g *gateway) { dialTo(t, g.addr).Close() }, ""},
		{"garbage", func(t *testing.T, g *gateway) {
			c := dialTo(t, g.addr)
			io.WriteString(c, "\x00\x01garbage\r\n\r\n")
			io.Copy(io.Discard, c)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &firsts{}
			g := start(t, func(o *Options, _ *Config) { o.Meter = m })
			c.do(t, g)
			g.shutdownIn(10 * time.Second)
			var got []string
			for _, f := range m.flows {
				got = append(got, string(f.Protocol))
				if took := f.Start.Sub(f.Client.Start); took < 0 || took > time.Minute {
					t.Errorf("it took %v", took)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("counted %q, want %q", s, c.want)
			}
		})
	}
	t.Run("an opened tunnel", func(t *testing.T) {
		m := &firsts{}
		r := openingGateway(t, func(_ *openRig, o *Options, _ *Config) { o.Meter = m })
		web := r.web(t)
		site := r.origin(t, hello("x"), "localhost")
		for range 2 {
			get(t, web, "https://localhost:"+portOf(site.Listener.Addr().String())+"/", 200)
		}
		web.CloseIdleConnections()
		r.shutdownIn(10 * time.Second)
		tunnels := 0
		for _, f := range r.records.flows {
			if f.Request == nil {
				tunnels++
			}
		}
		if len(m.flows) != tunnels || tunnels == 0 || m.flows[0].Request != nil {
			t.Errorf("%d flows counted, %d tunnels", len(m.flows), tunnels)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		m := &firsts{}
		cert, err := upstreamtest.MustCA(t).Issue([]string{"localhost"}, upstreamtest.CertOptions{})
		if err != nil {
			t.Fatal(err)
		}
		g := start(t, func(o *Options, c *Config) {
			o.Meter = m
			c.Listeners[0].TLS = &ListenerTLS{Pairs: []KeyPair{{Certificate: cert}}}
		})
		c := tls.Client(dialTo(t, g.addr), &tls.Config{InsecureSkipVerify: true})
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatal(line, err)
		}
		c.Close()
		bad := dialTo(t, g.addr)
		io.WriteString(bad, "\x16\x03\x01\x00\x05hello")
		io.Copy(io.Discard, bad)
		g.shutdownIn(10 * time.Second)
		if len(m.tls) != 1 || m.tls[0] <= 0 || len(m.flows) != 1 {
			t.Errorf("%v handshakes, %d flows", m.tls, len(m.flows))
		}
	})
}
