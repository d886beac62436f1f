package router

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/router/tracecontext"
)

// tracer records everything that has no parent, and what parents want.
type tracer struct {
	mu    sync.Mutex
	n     byte
	never bool // of what has no parent
	flows []*connmodel.Flow
}

func (t *tracer) Begin(parent connmodel.Span, ok bool) *connmodel.Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok {
		if t.never {
			return nil
		}
		parent = connmodel.Span{Trace: connmodel.TraceID{15: 9}, Sampled: true}
	}
	if parent.Sampled {
		t.n++
		parent.ID = connmodel.SpanID{7: t.n}
	}
	return &parent
}

func (t *tracer) Record(f *connmodel.Flow) {
	t.mu.Lock()
	t.flows = append(t.flows, f)
	t.mu.Unlock()
}

const sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// seen is an origin that answers with what it is told of traces.
func seen(t *testing.T) *httptest.Server {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header[http.CanonicalHeaderKey(tracecontext.Traceparent)], r.Header[http.CanonicalHeaderKey(tracecontext.Tracestate)])
	}))
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// TestTraceOfPlainRequest: what a client says of its trace goes on with our span in it, and untouched where nothing is traced.
func TestTraceOfPlainRequest(t *testing.T) {
	origin := seen(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-"
	for _, c := range []struct {
		name    string
		off     bool
		never   bool
		fields  string
		want    string
		span    bool
		sampled bool
	}{
		{"off: nothing", true, false, "", "[] []", false, false},
		{"off: untouched", true, false, "traceparent: " + sent + "\r\nTraceState: a=1\r\ntracestate: b=2 , c=3\r\n", `["` + sent + `"] ["a=1" "b=2 , c=3"]`, false, false},
		{"off: what is broken, too", true, false, "traceparent: x\r\ntraceparent: y\r\n", `["x" "y"] []`, false, false},
		{"child", false, false, "traceparent: " + sent + "\r\nTraceState: a=1\r\ntracestate: b=2 , c=3\r\n", `["` + trace + `0000000000000001-01"] ["a=1,b=2,c=3"]`, true, true},
		{"child where no trace begins", false, true, "traceparent: " + sent + "\r\n", `["` + trace + `0000000000000001-01"] []`, true, true},
		{"not recorded", false, false, "traceparent: " + trace + "00f067aa0ba902b7-00\r\ntracestate: b=2\r\n", `["` + trace + `00f067aa0ba902b7-00"] ["b=2"]`, true, false},
		{"begun", false, false, "", `["00-00000000000000000000000000000009-0000000000000001-01"] []`, true, true},
		{"begun anew", false, false, "traceparent: 00-x\r\ntracestate: b=2\r\n", `["00-00000000000000000000000000000009-0000000000000001-01"] []`, true, true},
		{"two parents", false, false, "traceparent: " + sent + "\r\ntraceparent: " + sent + "\r\n", `["00-00000000000000000000000000000009-0000000000000001-01"] []`, true, true},
		{"none begins", false, true, "traceparent: 00-x\r\ntracestate: b=2\r\n", `["00-x"] ["b=2"]`, false, false},
		{"named in Connection", false, false, "traceparent: " + sent + "\r\nConnection: traceparent\r\n", "[] []", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := &tracer{never: c.never}
			g := start(t, func(_ *Options, conf *Config) {
				if !c.off {
					conf.Traces = tr
				}
			})
			res := g.answer(t, "GET "+origin.URL+"/ HTTP/1.1\r\nHost: x\r\n"+c.fields+"\r\n")
			body, _ := io.ReadAll(res.Body)
			if string(body) != c.want {
				t.Errorf("the origin was told %s, want %s", body, c.want)
			}
			f := g.records.next(t)
			if (f.Span != nil) != c.span || f.Span != nil && f.Span.Sampled != c.sampled {
				t.Errorf("record: %+v", f.Span)
			}
			g.shutdownIn(10 * time.Second) // what is behind the record is done then
			if n := len(tr.flows); n != boolInt(c.span) {
				t.Errorf("%d flows were handed on", n)
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestTraceOfTunnels: CONNECT is read, SOCKS has nothing to read, and a configuration without traces has none from then on.
func TestTraceOfTunnels(t *testing.T) {
	tr := &tracer{}
	g := start(t, func(_ *Options, c *Config) { c.Traces = tr })
	target := echo(t)
	c := dialTo(t, g.addr)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\ntraceparent: %s\r\n\r\n", target, sent)
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		t.Fatal(line, err)
	}
	c.Close()
	if f := g.records.next(t); f.Span == nil || f.Span.Parent.String() != "00f067aa0ba902b7" || f.Span.ID.IsZero() || f.Span.Local {
		t.Errorf("CONNECT: %+v", f.Span)
	}
	c = dialTo(t, g.addr)
	c.Write([]byte("\x05\x01\x00"))
	io.ReadFull(c, make([]byte, 2))
	a := address(t, target)
	ip := a.IP().As4()
	c.Write(append(append([]byte("\x05\x01\x00\x01"), ip[:]...), byte(a.Port>>8), byte(a.Port)))
	io.ReadFull(c, make([]byte, 10))
	c.Close()
	if f := g.records.next(t); f.Span == nil || !f.Span.Parent.IsZero() {
		t.Errorf("SOCKS: %+v", f.Span)
	}
	if err := g.Apply(g.next(func(c *Config) { c.Traces = nil })); err != nil {
		t.Fatal(err)
	}
	g.tunnel(t, target).Close()
	if f := g.records.next(t); f.Span != nil {
		t.Errorf("without traces: %+v", f.Span)
	}
}

// TestTraceInOpenedTunnel: a request in a tunnel is part of what its client says, or else of the tunnel.
func TestTraceInOpenedTunnel(t *testing.T) {
	tr := &tracer{}
	r := openingGateway(t, func(_ *openRig, _ *Options, c *Config) { c.Traces = tr })
	origin := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Header.Get("traceparent")) }), "localhost")
	web := r.web(t)
	u := "https://localhost:" + portOf(origin.Listener.Addr().String()) + "/"
	if got := get(t, web, u, 200); got != "00-00000000000000000000000000000009-0000000000000002-01" { // 1 is the tunnel's
		t.Errorf("without a parent the origin was told %q", got)
	}
	q, _ := http.NewRequest("GET", u, nil)
	q.Header.Set("traceparent", sent)
	res, err := web.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.HasPrefix(string(body), "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000") || string(body) == sent {
		t.Errorf("with a parent the origin was told %q", body)
	}
	web.CloseIdleConnections()
	r.shutdownIn(10 * time.Second)
	var requests []*connmodel.Flow
	tunnels := map[connmodel.ID]*connmodel.Flow{} // one, or two when the client was quick
	for _, f := range r.records.flows {
		if f.Request != nil {
			requests = append(requests, f)
		} else {
			tunnels[f.ID] = f
		}
	}
	if len(requests) != 2 {
		t.Fatalf("%d requests, %d tunnels", len(requests), len(tunnels))
	}
	for i, f := range requests {
		tunnel := tunnels[f.Request.Tunnel]
		switch {
		case tunnel == nil || tunnel.Span == nil || f.Span == nil:
			t.Errorf("request %d: %+v in %+v", i, f, tunnel)
		case i == 0 && (!f.Span.Local || f.Span.Parent != tunnel.Span.ID || f.Span.Trace != tunnel.Span.Trace):
			t.Errorf("without a parent: %+v in %+v", f.Span, tunnel.Span)
		case i == 1 && (f.Span.Local || f.Span.Parent.String() != "00f067aa0ba902b7"):
			t.Errorf("with a parent: %+v", f.Span)
		}
	}
}

// TestCarried: bytes of open tunnels are known while they are open, those of opened ones too, and once.
func TestCarried(t *testing.T) {
	r := openingGateway(t, func(r *openRig, _ *Options, _ *Config) {
		r.decide = func(f *connmodel.Facts) *connmodel.Decision {
			if f.Target.Host == "127.0.0.1" {
				return loopbackOpen()
			}
			return nil
		}
	})
	c := r.tunnel(t, echo(t))
	if err := shake(c, []byte("12345")); err != nil {
		t.Fatal(err)
	}
	wait := func(want string) {
		t.Helper()
		deadline, got := time.Now().Add(10*time.Second), ""
		for {
			open, up, down := r.Carried()
			if got = fmt.Sprint(open, up, down); got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s, want %s", got, want)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wait("1 5 5")
	origin := r.origin(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, "1234567") }), "localhost")
	web := r.web(t)
	get(t, web, "https://localhost:"+portOf(origin.Listener.Addr().String())+"/", 200)
	wait("2 5 12")
	web.CloseIdleConnections()
	wait("1 5 5")
	c.Close()
	wait("0 0 0")
}
