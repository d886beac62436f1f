package otel

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	wire "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"viaduct/connmodel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a collector: it takes OTLP as it is on the wire.
type receiver struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc] // nil = it takes everything
	mu     sync.Mutex
	spans  []*wire.Span
	about  map[string]string // of the resource
	header http.Header       // of the last request
	asked  atomic.Int64
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	r.asked.Add(1)
	if f := r.answer.Load(); f != nil {
		(*f)(w, q)
		return
	}
	r.take(w, q)
}

func (r *receiver) take(w http.ResponseWriter, q *http.Request) {
	var body io.Reader = q.Body
	if q.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &m)
	}
	if err != nil || q.URL.Path != "/v1/traces" || q.Method != "POST" || q.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(q.Method, q.URL.Path, err), 400)
		return
	}
	r.mu.Lock()
	r.header = q.Header
	r.about = map[string]string{}
	for _, rs := range m.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			r.about[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	r.mu.Unlock()
	out, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(out)
}

func (r *receiver) got() []*wire.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

func start(t *testing.T, o Options) *Tracer {
	t.Helper()
	x, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		x.Shutdown(ctx)
	})
	return x
}

func shutdown(t *testing.T, x *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := x.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// failedOver is a flow whose first attempt was refused, and that went through two proxies then.
func failedOver(span *connmodel.Span) *connmodel.Flow {
	begun := time.Date(2026, 11, 28, 13, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	h2 := "h2"
	refused := &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideHop, Hop: 1, HopName: "corp_a", Kind: connmodel.KindRefused, Message: "connection refused", Blame: connmodel.BlameProxy}
	f := &connmodel.Flow{
		ID: connmodel.NewID(begun), Session: connmodel.NewID(begun), Generation: 3, Span: span, Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "www.example.com", Port: 443},
		Client: &connmodel.Client{Listener: "desk", User: "anna"}, Start: begun, Decided: at(1), End: at(500), Up: 100, Down: 2000, Reason: connmodel.CloseClient, First: connmodel.SideClient,
		Decision: &connmodel.Decision{Policy: "default", Rule: "partner api", File: "viaduct.hcl", Line: 35, Outcome: connmodel.OutcomeVia, Route: "pool.corp", Tags: []string{"a"}},
		Reply:    &connmodel.Reply{Code: 200},
		Server: &connmodel.Server{Route: "corp_b > jump", Attempts: []connmodel.Attempt{
			{Number: 1, Route: "corp_a > jump", Start: at(2), End: at(5), Error: refused, Hops: []connmodel.HopResult{
				{Index: 1, Upstream: "corp_a", Protocol: "http", Address: connmodel.Address{Host: "a.corp.example", Port: 8080}, Start: at(2), DNS: ms(1), Total: ms(3), Error: refused},
			}},
			{Number: 2, Route: "corp_b > jump", Start: at(6), End: at(40), Hops: []connmodel.HopResult{
				{Index: 1, Upstream: "corp_b", Protocol: "https", Address: connmodel.Address{Host: "b.corp.example", Port: 443}, Peer: netip.MustParseAddrPort("192.0.2.1:443"), Start: at(6), DNS: ms(2), TCP: ms(3), TLS: ms(4),
					Auth: ms(5), Connect: ms(6), Total: ms(20), Credential: "corp", AuthRounds: 2, TLSInfo: &connmodel.TLSInfo{Version: "TLS 1.3", ALPN: &h2, Certificates: []connmodel.Certificate{{Subject: "CN=b"}}}},
				{Index: 2, Upstream: "jump", Protocol: "socks5h", Address: connmodel.Address{Host: "jump.example", Port: 1080}, Start: at(26), Greeting: ms(4), Connect: ms(9), Total: ms(13)},
			}},
		}},
	}
	f.Client.Peer = netip.MustParseAddrPort("192.0.2.7:51000")
	return f
}

// tree draws spans as lines of "name kind [from-to ms] status", children below their parents, in the order of their beginning.
func tree(spans []*wire.Span, zero time.Time) string {
	var b strings.Builder
	known := map[string]bool{}
	for _, s := range spans {
		known[string(s.SpanId)] = true
	}
	var below func(parent string, depth int)
	list := slices.Clone(spans)
	slices.SortStableFunc(list, func(x, y *wire.Span) int { return int(x.StartTimeUnixNano) - int(y.StartTimeUnixNano) })
	below = func(parent string, depth int) {
		for _, s := range list {
			p := string(s.ParentSpanId)
			if p != parent && !(parent == "" && !known[p]) {
				continue
			}
			ms := func(n uint64) int64 { return time.Unix(0, int64(n)).Sub(zero).Milliseconds() }
			fmt.Fprintf(&b, "%s%s %s %d-%d", strings.Repeat("  ", depth), s.Name, strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")), ms(s.StartTimeUnixNano), ms(s.EndTimeUnixNano))
			if s.Status.GetCode() == wire.Status_STATUS_CODE_ERROR {
				fmt.Fprintf(&b, " failed: %s", s.Status.Message)
			}
			b.WriteString("\n")
			below(string(s.SpanId), depth+1)
		}
	}
	below("", 0)
	return b.String()
}

func attributes(s *wire.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		switch {
		case a.Value.GetStringValue() != "":
			m[a.Key] = a.Value.GetStringValue()
		case a.Value.GetArrayValue() != nil:
			m[a.Key] = fmt.Sprint(len(a.Value.GetArrayValue().Values), " values")
		case a.Value.GetBoolValue():
			m[a.Key] = "true"
		default:
			m[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return m
}

func TestSpans(t *testing.T) {
	r := newReceiver(t)
	x := start(t, Options{Endpoint: r.URL, Headers: map[string]string{"authorization": "Bearer s3cret"}, Service: "edge", Version: "1.2.3", Instance: "i", Sample: 1, Start: true})
	parent := connmodel.Span{Trace: connmodel.TraceID{1, 15: 2}, Parent: connmodel.SpanID{3, 7: 4}, Sampled: true, State: "rojo=1"}
	span := x.Begin(parent, true)
	f := failedOver(span)
	x.Record(f)
	shutdown(t, x)
	spans := r.got()
	const want = `CONNECT server 0-500
  decide internal 0-1
  attempt internal 2-5 failed: hop 1 (corp_a): connection refused
    hop corp_a client 2-5 failed: hop 1 (corp_a): connection refused
      dns internal 2-3
  attempt internal 6-40
    hop corp_b client 6-26
      dns internal 6-8
      tcp internal 8-11
      tls internal 11-15
      auth internal 15-20
      connect internal 20-26
    hop jump client 26-39
      greeting internal 26-30
      connect internal 30-39
  relay internal 40-500
`
	if got := tree(spans, f.Start); got != want {
		t.Errorf("got\n%s", got)
	}
	for _, s := range spans {
		if string(s.TraceId) != string(span.Trace[:]) {
			t.Errorf("%s is in trace %x", s.Name, s.TraceId)
		}
		a := attributes(s)
		var want map[string]string
		switch s.Name {
		case "CONNECT":
			if string(s.SpanId) != string(span.ID[:]) || string(s.ParentSpanId) != string(parent.Parent[:]) || s.TraceState != "rojo=1" || s.Flags&0x300 != 0x300 {
				t.Errorf("root %x in %x, state %q, flags %x", s.SpanId, s.ParentSpanId, s.TraceState, s.Flags)
			}
			want = map[string]string{"viaduct.flow.id": f.ID.String(), "server.address": "www.example.com", "server.port": "443", "client.address": "192.0.2.7", "network.peer.port": "51000", "user.name": "anna",
				"viaduct.rule": "partner api", "viaduct.rule.location": "viaduct.hcl:35", "viaduct.route.used": "corp_b > jump", "viaduct.bytes.down": "2000", "http.response.status_code": "200", "http.request.method": "CONNECT",
				"viaduct.close_reason": "client_closed", "viaduct.tags": "1 values"}
		case "hop corp_b":
			want = map[string]string{"server.address": "b.corp.example", "network.peer.address": "192.0.2.1", "viaduct.hop.index": "1", "viaduct.credential": "corp", "tls.protocol.version": "1.3", "tls.next_protocol": "h2", "tls.server.subject": "CN=b"}
		case "hop corp_a":
			want = map[string]string{"error.type": "refused", "viaduct.error.phase": "dial", "viaduct.error.hop_name": "corp_a"}
		}
		for k, v := range want {
			if a[k] != v {
				t.Errorf("%s: %s is %q, want %q", s.Name, k, a[k], v)
			}
		}
	}
	if r.about["service.name"] != "edge" || r.about["service.version"] != "1.2.3" || r.about["service.instance.id"] != "i" || r.header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("resource %v", r.about)
	}
	if s := x.Status(); s.Flows != 1 || s.Dropped != 0 || s.Exported != uint64(len(spans)) || s.Failed != 0 || s.Error != "" {
		t.Errorf("%+v", s)
	}
}

// TestPlainRequest: what is asked for may be secret, methods may be made up, and a connection that was there was opened by another flow.
func TestPlainRequest(t *testing.T) {
	r := newReceiver(t)
	x := start(t, Options{Endpoint: r.URL + "/", Sample: 1, Start: true})
	f := failedOver(x.Begin(connmodel.Span{}, false))
	f.Protocol, f.Reply = connmodel.ProtocolHTTP, nil
	f.Request = &connmodel.Request{Method: "EVIL\x1b[31m", Scheme: "http", Host: "www.example.com", Path: "/a?token=s3cret", Tunnel: connmodel.NewID(f.Start)}
	f.Response = &connmodel.Response{Status: 404, Start: f.Start.Add(50 * time.Millisecond)}
	for i := range f.Server.Attempts {
		f.Server.Attempts[i].Start = f.Start.Add(-time.Hour)
	}
	f.Server.Reused = true
	x.Record(f)
	denied := failedOver(x.Begin(connmodel.Span{}, false))
	denied.Server = nil
	denied.Error = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Message: "no games"}
	x.Record(denied)
	x.Record(&connmodel.Flow{}) // not traced
	x.Record(&connmodel.Flow{Span: x.Begin(connmodel.Span{}, false)})
	shutdown(t, x)
	var names []string
	for _, s := range r.got() {
		names = append(names, s.Name)
		if a := attributes(s); s.Kind == wire.Span_SPAN_KIND_SERVER && s.Name == "_OTHER" && (a["url.path"] != "/a" || a["viaduct.tunnel.flow.id"] == "" || a["http.response.status_code"] != "404") {
			t.Errorf("%v", a)
		}
		if s.Name == "CONNECT" && (s.Status.GetCode() == wire.Status_STATUS_CODE_ERROR || attributes(s)["error.type"] != "denied") {
			t.Errorf("a denied flow: %v", s)
		}
		if strings.Contains(s.String(), "s3cret") {
			t.Errorf("a secret got out: %v", s)
		}
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "CONNECT _OTHER _OTHER decide decide unknown" {
		t.Error(got)
	}
}

// TestManyAttempts: a record as large as records get makes no more spans than the bound.
func TestManyAttempts(t *testing.T) {
	r := newReceiver(t)
	x := start(t, Options{Endpoint: r.URL, Sample: 1, Start: true})
	f := failedOver(x.Begin(connmodel.Span{}, false))
	for len(f.Server.Attempts) < 64 {
		f.Server.Attempts = append(f.Server.Attempts, f.Server.Attempts[1])
	}
	x.Record(f)
	shutdown(t, x)
	if n := len(r.got()); n != maxSpans+1 {
		t.Errorf("%d spans", n)
	}
	for _, s := range r.got() {
		if s.Name == "CONNECT" && attributes(s)["viaduct.spans.truncated"] != "true" {
			t.Error("it does not say so")
		}
	}
}

// TestSampling holds the choice against the SDK's samplers: programs that record the same share record the same traces.
func TestSampling(t *testing.T) {
	for _, share := range []float64{0, .001, .1, .5, 1} {
		x := &Tracer{o: Options{Start: true}, bound: ratioBound(share)}
		sampler := sdktrace.TraceIDRatioBased(share)
		const n = 20_000
		recorded := 0
		for range n {
			s := x.Begin(connmodel.Span{}, false)
			if s == nil {
				continue
			}
			recorded++
			if s.Trace.IsZero() || s.ID.IsZero() || !s.Parent.IsZero() || !s.Sampled {
				t.Fatalf("%+v", s)
			}
			if d := sampler.ShouldSample(sdktrace.SamplingParameters{TraceID: trace.TraceID(s.Trace)}).Decision; d != sdktrace.RecordAndSample {
				t.Fatalf("the SDK does not record %v", s.Trace)
			}
		}
		if got := float64(recorded) / n; got < share-.02 || got > share+.02 {
			t.Errorf("%v: %v", share, got)
		}
	}
	for _, c := range []struct {
		name           string
		start, sampled bool
		share          float64
	}{
		{"the parent's word goes", true, true, 0}, {"... either way", true, false, 1}, {"also where none begins here", false, true, 0},
	} {
		x := &Tracer{o: Options{Start: c.start}, bound: ratioBound(c.share)}
		p := connmodel.Span{Trace: connmodel.TraceID{1}, Parent: connmodel.SpanID{2}, Sampled: c.sampled}
		s := x.Begin(p, true)
		if s == nil || s.Sampled != c.sampled || s.ID.IsZero() == c.sampled || s.Trace != p.Trace || s.Parent != p.Parent {
			t.Errorf("%s: %+v", c.name, s)
		}
		if s := x.Begin(connmodel.Span{}, false); (s != nil) != (c.start && c.share == 1) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// TestFaults: whatever the collector does, taking a record is quick, every record and span is accounted for, and the end comes in time.
func TestFaults(t *testing.T) {
	const flows = 5000
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	for _, c := range []struct {
		name   string
		answer func(r *receiver) http.HandlerFunc
		url    string
		fails  bool
		says   string
	}{
		{"down", nil, "http://127.0.0.1:1", true, "refused"},
		{"deaf", nil, "http://" + deaf.Addr().String(), true, ""},
		{"429 for ever", func(*receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "3600")
				http.Error(w, "slow down", http.StatusTooManyRequests)
			}
		}, "", true, ""},
		{"503 once", func(r *receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) {
				if r.asked.Load() == 1 {
					w.Header().Set("Retry-After", "0")
					http.Error(w, "not yet", http.StatusServiceUnavailable)
					return
				}
				r.take(w, q)
			}
		}, "", false, ""},
		{"400", func(*receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "bad\n\x1b[31mlevel=error msg=forged "+strings.Repeat("x", 5000), 400)
			}
		}, "", true, "400 Bad Request"},
		{"garbage", func(*receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-protobuf")
				w.Write([]byte("\xff\xff\xff\xff"))
			}
		}, "", true, ""},
		{"endless", func(*receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Content-Type", "application/x-protobuf")
				b := make([]byte, 64<<10)
				for range 1000 {
					if _, err := w.Write(b); err != nil {
						return
					}
				}
			}
		}, "", true, ""},
		{"elsewhere", func(*receiver) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/steal")
				w.WriteHeader(307)
			}
		}, "", true, "not followed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := c.url
			if url == "" {
				r := newReceiver(t)
				h := c.answer(r)
				r.answer.Store(&h)
				url = r.URL
			}
			timeout, grace := 300*time.Millisecond, 2*time.Second
			if !c.fails { // it is tried again after a second
				timeout, grace = 20*time.Second, 30*time.Second
			}
			var told atomic.Int64
			x := start(t, Options{Endpoint: url, Headers: map[string]string{"x-api-key": "s3cret"}, Sample: 1, Start: true, Timeout: timeout, OnError: func(err error) {
				if err != nil {
					told.Add(1)
				}
			}})
			begun := time.Now()
			for range flows {
				x.Record(failedOver(x.Begin(connmodel.Span{}, false)))
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("records took %v", took)
			}
			ctx, cancel := context.WithTimeout(context.Background(), grace)
			defer cancel()
			begun = time.Now()
			err := x.Shutdown(ctx)
			if took := time.Since(begun); took > grace+8*time.Second {
				t.Errorf("the end took %v", took)
			}
			s := x.Status()
			if s.Flows+s.Dropped != flows || s.Exported+s.Failed != 16*s.Flows || s.Exported+s.Failed == 0 {
				t.Errorf("%v %+v", err, s)
			}
			if c.fails != (s.Failed > 0) || c.fails != (s.Exported == 0) || c.fails != (told.Load() > 0) {
				t.Errorf("%d times told: %+v", told.Load(), s)
			}
			if strings.Contains(s.Error, "s3cret") || len(s.Error) > 400 || strings.ContainsAny(s.Error, "\n\r\x1b") || !strings.Contains(s.Error, c.says) {
				t.Errorf("says %q", s.Error)
			}
		})
	}
}

// TestAfterTheEnd: who still has the Tracer may go on using it.
func TestAfterTheEnd(t *testing.T) {
	r := newReceiver(t)
	x := start(t, Options{Endpoint: r.URL, Sample: 1, Start: true})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				x.Record(failedOver(x.Begin(connmodel.Span{}, false)))
			}
		})
	}
	shutdown(t, x)
	wg.Wait()
	shutdown(t, x)
	if s := x.Status(); s.Flows+s.Dropped != 2000 || s.Exported != 16*s.Flows {
		t.Errorf("%+v", s)
	}
}

func TestResolve(t *testing.T) {
	half, yes := .5, false
	for _, c := range []struct {
		name string
		s    Settings
		env  map[string]string
		want string // endpoint, service, sample, start, timeout, headers; or an error
	}{
		{"nothing", Settings{}, nil, "http://localhost:4318  1 true 0s map[]"},
		{"the policy goes first", Settings{Endpoint: "http://a:1", Service: "s", Sample: &half, Start: &yes, Timeout: time.Second, Headers: map[string]string{}},
			map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, "http://a:1 s 0.5 false 1s map[]"},
		{"the environment", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25",
			"OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c, d=e", "OTEL_EXPORTER_OTLP_TIMEOUT": "1500"}, "http://b x 0.25 true 1.5s map[a:b c d:e]"},
		{"traces before all", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/x", "OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=r"}, "https://c/x r 1 true 0s map[]"},
		{"off", Settings{}, map[string]string{"OTEL_SDK_DISABLED": "true"}, "off"},
		{"no URL", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "error"},
		{"a password in the URL", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:s3cret@b"}, "error"},
		{"no headers", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"}, "error"},
		{"a line break in a header", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=s3cret%0d%0ab"}, "error"},
		{"no sampler", Settings{}, map[string]string{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "error"},
		{"no share", Settings{}, map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "error"},
		{"no such file", Settings{}, map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nonexistent"}, "error"},
	} {
		o, off, err := Resolve(c.s, func(k string) string { return c.env[k] })
		got := fmt.Sprint(o.Endpoint, " ", o.Service, " ", o.Sample, " ", o.Start, " ", o.Timeout, " ", o.Headers)
		if off {
			got = "off"
		} else if err != nil {
			got = "error"
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}

// BenchmarkFlow is what a connection pays: finding its place in a trace and handing over its record.
func BenchmarkFlow(b *testing.B) {
	for _, share := range []float64{0, 1} {
		b.Run(fmt.Sprint(share), func(b *testing.B) {
			x := &Tracer{o: Options{Start: true}, bound: ratioBound(share), queue: make(chan *connmodel.Flow, 1)}
			f := failedOver(nil)
			b.ReportAllocs()
			for b.Loop() {
				f.Span = x.Begin(connmodel.Span{}, false)
				x.Record(f)
			}
		})
	}
}

// BenchmarkSpans is what a traced flow costs the goroutine that makes spans, without sending them.
func BenchmarkSpans(b *testing.B) {
	p := sdktrace.NewTracerProvider(sdktrace.WithIDGenerator(ids{}))
	defer p.Shutdown(context.Background())
	x := &Tracer{o: Options{Start: true}, bound: ratioBound(1), tracer: p.Tracer("x")}
	f := failedOver(x.Begin(connmodel.Span{}, false))
	b.ReportAllocs()
	for b.Loop() {
		x.spans(f)
	}
}
