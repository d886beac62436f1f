package admin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"viaduct/connmodel"
)

// everything counts something in every family of a Meter, under names that end in suffix.
func everything(m *Meter, suffix string) {
	l, up := "desk"+suffix, "corp_a"+suffix
	m.SessionOpened(l)
	m.SessionClosed(l)
	m.SessionRefused(l, "connection_limit")
	m.CertificateWarned(connmodel.SideHop, up, connmodel.ChainExpiringSoon)
	m.ClientTLS(l, time.Millisecond)
	f := flow()
	f.ID, f.Client = connmodel.NewID(f.Start), &connmodel.Client{Listener: l}
	f.Client.Start = f.Start.Add(-time.Millisecond)
	f.Decision = &connmodel.Decision{Policy: "default", Rule: "rule" + suffix}
	f.Error = f.Server.Attempts[0].Error
	a := &f.Server.Attempts[0]
	e := *a.Error
	a.Route, a.Error, e.HopName = up+" > jump"+suffix, &e, up
	f.Server.Attempts[1].Route = up + " > jump" + suffix
	f.Server.Attempts[1].Hops = []connmodel.HopResult{
		{Index: 1, Upstream: up, DNS: 1e6, TCP: 2e6, TLS: 3e6, Auth: 4e6, Connect: 5e6}, {Index: 2, Upstream: "jump" + suffix, Greeting: 1e6, Connect: 1e6}, {Index: 3, TLS: 1e6},
	}
	m.FlowClosed(f)
	m.FirstFlow(f)
}

func gather(t *testing.T, m *Meter) map[string]*dto.MetricFamily {
	t.Helper()
	x := NewMetrics(&fakeGateway{})
	x.registry.Unregister(x.meter.families())
	x.registry.MustRegister(m.families())
	list, err := x.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.MetricFamily{}
	for _, f := range list {
		all[f.GetName()] = f
	}
	return all
}

// seriesOf draws the labels of all series whose labels hold part.
func seriesOf(all map[string]*dto.MetricFamily, part string) (list []string) {
	for name, f := range all {
		for _, x := range f.Metric {
			var b strings.Builder
			for _, l := range x.Label {
				fmt.Fprintf(&b, " %s=%q", l.GetName(), l.GetValue())
			}
			if strings.Contains(b.String(), part) {
				list = append(list, name+b.String())
			}
		}
	}
	return list
}

// TestGoneNames: series of names that the configuration has no more are shown for a while after something was last counted in them.
func TestGoneNames(t *testing.T) {
	m := newMeter()
	names := func(suffix string) Names {
		return Names{Listeners: []string{"desk" + suffix}, Rules: [][2]string{{"default", "rule" + suffix}}, Upstreams: []string{"corp_a" + suffix, "jump" + suffix}}
	}
	now := time.Now()
	m.Configured(names("-old"))
	everything(m, "-old")
	before := len(seriesOf(gather(t, m), "-old"))
	if before < 20 {
		t.Fatalf("%d series", before)
	}
	m.prune(now.Add(time.Hour))
	if n := len(seriesOf(gather(t, m), "-old")); n != before {
		t.Errorf("of names in use %d of %d are left", n, before)
	}
	m.Configured(names("-new"))
	everything(m, "-new")
	everything(m, "-old") // it was under way
	m.SessionOpened("desk-old")
	m.prune(now)
	m.prune(now.Add(keepGone - time.Second))
	if n := len(seriesOf(gather(t, m), "-old")); n != before {
		t.Errorf("%d of %d are left too early", n, before)
	}
	everything(m, "-old") // one more tunnel has ended
	for i := range 3 {
		m.prune(now.Add(keepGone + time.Duration(i)*time.Second))
	}
	if n := len(seriesOf(gather(t, m), "-old")); n != before {
		t.Errorf("%d of %d are left although something was counted", n, before)
	}
	m.prune(now.Add(3 * keepGone))
	left := seriesOf(gather(t, m), "-old")
	for _, s := range left {
		if !strings.Contains(s, "listener=") { // a connection of that listener is still open
			t.Errorf("%s is left", s)
		}
	}
	m.SessionClosed("desk-old")
	m.prune(now.Add(3 * keepGone))
	m.prune(now.Add(5 * keepGone))
	if left := seriesOf(gather(t, m), "-old"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if n := len(seriesOf(gather(t, m), "-new")); n != before {
		t.Errorf("%d of %d of the names in use", n, before)
	}
	everything(m, "-old") // who comes very late is counted anew
	if n := len(seriesOf(gather(t, m), "-old")); n != before {
		t.Errorf("%d of %d came back", n, before)
	}
}

// TestEveryFamilyIsBounded drives all that counts with names that never repeat.
func TestEveryFamilyIsBounded(t *testing.T) {
	m := newMeter()
	for i := range maxChildren + 50 {
		everything(m, fmt.Sprint("-", i))
	}
	for name, f := range gather(t, m) {
		if !strings.HasPrefix(name, "viaduct_") {
			continue
		}
		most := maxChildren + 1
		if f.GetType() == dto.MetricType_HISTOGRAM {
			most = 6 * (maxTimed + 1)
		}
		if name == "viaduct_bytes_total" {
			most *= 2
		}
		if len(f.Metric) > most {
			t.Errorf("%s has %d series", name, len(f.Metric))
		}
	}
	if n := len(seriesOf(gather(t, m), `"other"`)); n < 12 {
		t.Errorf("only %d series are for the rest", n)
	}
}

// TestMadeUpNames: proxies that a PAC script names by URL are no labels, for it can make the names of hosts that clients ask for.
func TestMadeUpNames(t *testing.T) {
	m := newMeter()
	f := flow()
	refused := *f.Server.Attempts[0].Error
	refused.HopName = "http://secret.example:3128"
	f.Server.Attempts[0].Error = &refused
	f.Server.Attempts[0].Route = "http://secret.example:3128"
	f.Server.Attempts[1].Route = "socks5://secret.example > jump"
	f.Server.Attempts[1].Hops = []connmodel.HopResult{{Index: 1, Upstream: "http://secret.example:3128", TCP: 1}}
	m.FlowClosed(f)
	m.CertificateWarned(connmodel.SideHop, "https://secret.example", connmodel.ChainExpired)
	all := gather(t, m)
	if s := seriesOf(all, "secret"); len(s) > 0 {
		t.Errorf("%q", s)
	}
	if s := seriesOf(all, `="undeclared"`); len(s) != 6 {
		t.Errorf("%q", s)
	}
}

// TestExposition: the text is what Prometheus likes, histograms are native and classic at once, and some values say which flow they were.
func TestExposition(t *testing.T) {
	x := NewMetrics(&fakeGateway{})
	everything(x.meter, "")
	traced := flow()
	traced.End = traced.End.Add(time.Hour)
	traced.Span = &connmodel.Span{Trace: connmodel.TraceID{1}, Sampled: true}
	x.meter.FlowClosed(traced)
	problems, err := testutil.GatherAndLint(x.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "viaduct_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	get := func(accept string) string {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		x.handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return w.Body.String()
	}
	open := get("application/openmetrics-text; version=1.0.0")
	if !regexp.MustCompile(`viaduct_connect_duration_seconds_bucket\{[^}]*\} \d+ # \{flow_id="[0-9a-f-]{36}"\} 0\.`).MatchString(open) {
		t.Error("no exemplar of a connect")
	}
	if !strings.Contains(open, `trace_id="01000000000000000000000000000000"`) {
		t.Error("no trace in an exemplar")
	}
	if text := get("text/plain"); strings.Contains(text, "flow_id") || !strings.Contains(text, `viaduct_hop_phase_duration_seconds_bucket{hop="1",phase="tls",upstream="corp_a",le="0.005"} 1`) {
		t.Errorf("classic text:\n%s", text)
	}
	if b := get("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"); len(b) == 0 {
		t.Error("no protobuf")
	}
	native := 0
	for name, f := range gather(t, x.meter) {
		if f.GetType() != dto.MetricType_HISTOGRAM || !strings.HasPrefix(name, "viaduct_") {
			continue
		}
		for _, s := range f.Metric {
			if h := s.GetHistogram(); h.GetSchema() != 3 || len(h.PositiveSpan) == 0 || len(h.Bucket) == 0 {
				t.Errorf("%s: schema %d, %d spans, %d classic buckets", name, h.GetSchema(), len(h.PositiveSpan), len(h.Bucket))
			}
			native++
		}
	}
	if native < 10 {
		t.Errorf("%d histograms", native)
	}
}

// TestNativeIsBounded: times from a nanosecond to a year do not make more buckets than the bound.
func TestNativeIsBounded(t *testing.T) {
	m := newMeter()
	f := flow()
	for d := time.Nanosecond; d < 365*24*time.Hour; d += d/20 + 1 {
		f.Server.Attempts[1].End = f.Server.Attempts[1].Start.Add(d)
		m.FlowClosed(f)
	}
	h := gather(t, m)["viaduct_connect_duration_seconds"].Metric[0].GetHistogram()
	n := 0
	for _, s := range h.PositiveSpan {
		n += int(s.GetLength())
	}
	if n > maxNative || n == 0 {
		t.Errorf("%d buckets", n)
	}
}

// BenchmarkFlowClosed is what the end of a flow through one proxy costs in metrics. It must not allocate.
func BenchmarkFlowClosed(b *testing.B) {
	m := newMeter()
	f := flow()
	f.Server.Attempts = f.Server.Attempts[1:]
	f.Server.Attempts[0].Hops = []connmodel.HopResult{{Index: 1, Upstream: "corp_b", TCP: 150e3, Connect: 300e3}}
	b.ReportAllocs()
	for b.Loop() {
		m.FlowClosed(f)
	}
}

func TestFlowClosedDoesNotAllocate(t *testing.T) {
	m := newMeter()
	f := flow()
	f.Server.Attempts[1].Hops = []connmodel.HopResult{{Index: 1, Upstream: "corp_b", TCP: 150e3, TLS: 1e6, Connect: 300e3}, {Index: 2, TLS: 1e6}}
	for range 100 {
		m.FlowClosed(f)
	}
	if n := testing.AllocsPerRun(1000, func() { m.FlowClosed(f) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
