package router

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"viaduct/connmodel"
)

// shadowFunc makes a function a shadow policy.
type shadowFunc func(f *connmodel.Facts, d *connmodel.Decision) *connmodel.ShadowDecision

func (s shadowFunc) Shadow(f *connmodel.Facts, d *connmodel.Decision) *connmodel.ShadowDecision {
	return s(f, d)
}

// The shadow of a listener is asked once for every flow, with what is at hand; what it says stands in the record, and changes nothing.
func TestShadowPolicy(t *testing.T) {
	var asked atomic.Int32
	var kept *connmodel.Decision
	decide := func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
		kept = loopbackOpen()
		return kept, 0
	}
	g := sniffing(t, decide, func(_ *Options, c *Config) {
		c.Listeners[0].Shadow = shadowFunc(func(f *connmodel.Facts, d *connmodel.Decision) *connmodel.ShadowDecision {
			asked.Add(1)
			switch {
			case d.Route != connmodel.RouteDirect:
				t.Errorf("asked beside %+v", d)
			case strings.HasSuffix(f.Target.Host, "localhost"):
				return &connmodel.ShadowDecision{Policy: "next", Rule: "lists", Undecided: f.Lacks(connmodel.NeedAddresses).String()}
			case f.Request != nil && f.Request.Path == "/nothing":
				return nil
			}
			return &connmodel.ShadowDecision{Policy: "next", Rule: "no", Outcome: connmodel.OutcomeDeny}
		})
	})
	server := echo(t)
	c := g.tunnel(t, server)
	if err := shake(c, []byte("not refused")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	f := g.records.next(t)
	if s := f.Decision.ShadowPolicy; s == nil || s.Outcome != connmodel.OutcomeDeny || s.Rule != "no" || !f.Decision.ShadowDiffers() || f.Error != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	if kept.ShadowPolicy != nil {
		t.Error("the decision that all flows share was changed")
	}
	c = g.tunnel(t, local(server))
	if err := shake(c, []byte("not resolved either")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if f = g.records.next(t); f.Decision.ShadowPolicy.Undecided != "addresses" || f.Decision.ShadowDiffers() || f.Gathered != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	origin := okOrigin(t)
	client := g.client(t)
	for i, path := range []string{"/a", "/nothing", "/b"} { // on one connection
		res, err := client.Get(origin.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if f = g.records.next(t); (f.Decision.ShadowPolicy == nil) != (i == 1) || res.StatusCode != 200 {
			t.Errorf("%s: %d, %s", path, res.StatusCode, f.AppendJSON(nil))
		}
	}
	if n := asked.Load(); n != 5 {
		t.Errorf("asked %d times", n)
	}
}

// A shadow that panics fails nothing. It is told of.
func TestShadowPanics(t *testing.T) {
	var events eventLog
	var r *Router
	g := start(t, func(o *Options, c *Config) {
		o.Log = &events
		c.Listeners[0].Shadow = shadowFunc(func(*connmodel.Facts, *connmodel.Decision) *connmodel.ShadowDecision { panic("oh") })
	})
	r = g.Router
	c := g.tunnel(t, echo(t))
	if err := shake(c, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	f := g.records.next(t)
	if s := f.Decision.ShadowPolicy; s == nil || s.Undecided != "internal error" || f.Panicked || f.Error != nil {
		t.Errorf("the record: %s", f.AppendJSON(nil))
	}
	if n := r.stats.panics.Swap(0); n != 1 || events.count("panic in a shadow policy") != 1 {
		t.Errorf("%d panics, %q", n, events.list)
	}
}

// Requests in an opened tunnel are each judged, and records tell whose they are and what its client said first, on shared connections too.
func TestShadowInside(t *testing.T) {
	for name, http2 := range map[string]bool{"http/1.1": false, "h2": true} {
		r := openingGateway(t, func(r *openRig, _ *Options, c *Config) {
			c.Listeners[0].Auth = anyUser{}
			c.Listeners[0].Shadow = shadowFunc(func(f *connmodel.Facts, d *connmodel.Decision) *connmodel.ShadowDecision {
				if f.Request == nil {
					return &connmodel.ShadowDecision{Policy: "next", Rule: "tunnel", Outcome: connmodel.OutcomeVia, Route: connmodel.RouteDirect}
				}
				return &connmodel.ShadowDecision{Policy: "next", Rule: f.Request.Path + " " + f.User + " " + f.Hello.SNI, Outcome: connmodel.OutcomeDeny}
			})
		})
		srv, _ := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
		host := "www.example.com:" + portOf(srv.Listener.Addr().String())
		c := r.web(t)
		if http2 {
			c = r.web2(t)
		}
		c.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr, User: url.UserPassword("ann", "ok")})
		for _, path := range []string{"/one", "/two"} {
			res, err := c.Get("https://" + host + path)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			f := r.records.find(t, "a request", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == path })
			s := f.Decision.ShadowPolicy
			if res.StatusCode != 200 || s == nil || s.Rule != path+" ann www.example.com" || f.Client.User != "ann" || f.Client.Hello == nil || f.Request.Within.String() != host {
				t.Errorf("%s: %d, %s", name, res.StatusCode, f.AppendJSON(nil))
			}
		}
		c.CloseIdleConnections()
		tunnel := r.records.find(t, "the tunnel", isTunnel)
		if s := tunnel.Decision.ShadowPolicy; s == nil || s.Rule != "tunnel" || tunnel.Client.User != "ann" || tunnel.Client.Hello == nil {
			t.Errorf("%s: %s", name, tunnel.AppendJSON(nil))
		}
	}
}

// Fields of requests are kept where they are asked for, within bounds, and no secret.
func TestSampledFields(t *testing.T) {
	g := start(t, func(_ *Options, c *Config) {
		c.Listeners[0].Headers = connmodel.SampledFields([]string{"User-Agent", "Cookie", "X-None"})
	})
	origin := okOrigin(t)
	q, _ := http.NewRequest("GET", origin.URL, nil)
	q.Header.Set("User-Agent", strings.Repeat("A", 5000))
	q.Header.Set("Cookie", "session=secret")
	res, err := g.client(t).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	f := g.records.next(t)
	text := string(f.AppendJSON(nil))
	if h := f.Gathered; h == nil || len(h.Headers) != 2 || h.Headers[0].Name != "user-agent" || len(h.Headers[0].Values[0]) != 512 || h.Headers[1].Name != "x-none" || h.Headers[1].Values != nil || strings.Contains(text, "secret") {
		t.Errorf("%s", text)
	}
}
