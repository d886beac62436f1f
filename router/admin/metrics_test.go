package admin

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
)

// scrape returns what /metrics says, without the families of Go and the process.
func scrape(t *testing.T, gw Gateway, count func(*Meter)) string {
	t.Helper()
	m := NewMetrics(gw)
	if count != nil {
		count(m.Meter())
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, x := range f.GetMetric() {
			var labels []string
			for _, l := range x.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := x.GetCounter().GetValue() + x.GetGauge().GetValue() + float64(x.GetHistogram().GetSampleCount())
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","), v)
		}
	}
	return b.String()
}

// flow is one that failed over: the first attempt was refused by its proxy.
func flow() *connmodel.Flow {
	now := time.Now()
	refused := &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideHop, Hop: 1, HopName: "corp_a", Kind: connmodel.KindRefused}
	return &connmodel.Flow{
		Client: &connmodel.Client{Listener: "desk"}, Protocol: connmodel.ProtocolConnect, Reason: connmodel.CloseClient,
		Target: connmodel.Address{Host: "secret.example", Port: 443}, Decision: &connmodel.Decision{Policy: "default", Rule: "partner api"},
		Start: now.Add(-time.Second), End: now, Up: 100, Down: 2000,
		Server: &connmodel.Server{Route: "corp_b > jump", Attempts: []connmodel.Attempt{
			{Number: 1, Route: "corp_a > jump", Start: now.Add(-time.Second), End: now.Add(-900 * time.Millisecond), Error: refused},
			{Number: 2, Route: "corp_b > jump", Start: now.Add(-900 * time.Millisecond), End: now.Add(-800 * time.Millisecond)},
		}},
	}
}

func TestMetrics(t *testing.T) {
	got := scrape(t, &fakeGateway{}, func(m *Meter) {
		m.SessionOpened("desk")
		m.SessionOpened("desk")
		m.SessionClosed("desk")
		m.SessionRefused("lan", "client_network")
		m.CertificateWarned(connmodel.SideHop, "corp_a", connmodel.ChainExpiringSoon)
		m.CertificateWarned(connmodel.SideServer, "", connmodel.ChainExpired)
		m.CertificateWarned(connmodel.SideServer, "", connmodel.ChainExpired)
		f := flow()
		m.FlowClosed(f)
		f = flow()
		f.Server.Reused = true // its attempts belong to another flow
		m.FlowClosed(f)
		m.FlowClosed(&connmodel.Flow{Client: &connmodel.Client{Listener: "desk"}, Reason: connmodel.CloseFailed, Start: f.Start, End: f.End, // nothing is known of it
			Error: &connmodel.ConnError{Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol}})
	})
	for _, line := range []string{
		"viaduct_sessions_open{listener=desk} 1",
		"viaduct_sessions_total{listener=desk} 2",
		"viaduct_sessions_refused_total{listener=lan,reason=client_network} 1",
		"viaduct_flows_total{listener=desk,protocol=connect,reason=client_closed} 2",
		"viaduct_flows_total{listener=desk,protocol=,reason=failed} 1",
		"viaduct_certificate_warnings_total{reason=expires_soon,side=hop,upstream=corp_a} 1",
		"viaduct_certificate_warnings_total{reason=expired,side=server,upstream=} 2",
		"viaduct_flow_errors_total{kind=protocol,phase=handshake,side=client} 1",
		"viaduct_rule_flows_total{policy=default,rule=partner api} 2",
		"viaduct_bytes_total{direction=up,listener=desk} 200",
		"viaduct_bytes_total{direction=down,listener=desk} 4000",
		"viaduct_attempts_total{result=refused,route=corp_a > jump} 1",
		"viaduct_attempts_total{result=connected,route=corp_b > jump} 1",
		"viaduct_connect_duration_seconds{route=corp_b > jump} 1",
		"viaduct_hop_errors_total{hop=1,kind=refused,phase=dial,upstream=corp_a} 1",
		"viaduct_panics_total{} 0",
		"viaduct_config_generation{} 4",
		"viaduct_config_last_reload_success{} 1",
		"viaduct_config_last_reload_timestamp_seconds{} 1.7e+09",
		"viaduct_upstream_up{upstream=corp?_a} 1",
		"viaduct_upstream_up{upstream=corp_b} 0",
		"viaduct_pool_member_up{member=upstream.corp_a,pool=corp} 1",
		"viaduct_pool_member_up{member=upstream.corp_b,pool=corp} 0",
		"viaduct_pool_member_ejections_total{member=upstream.corp_b,pool=corp} 3",
		"viaduct_records_written_total{to=file} 10",
		"viaduct_records_dropped_total{to=file} 2",
		"viaduct_records_written_total{to=journald} 9",
		"viaduct_journal_records_total{} 11",
		"viaduct_journal_dropped_total{} 3",
		"viaduct_journal_failures_total{} 4",
		"viaduct_journal_queued_records{} 5",
		"viaduct_journal_bytes{} 6",
		"viaduct_journal_files{} 7",
		"viaduct_journal_set_aside_total{} 8",
		"viaduct_journal_deleted_files_total{} 9",
		"viaduct_journal_writing{} 1",
		"viaduct_journal_oldest_timestamp_seconds{} 1.7e+09",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	if strings.Contains(got, "secret.example") {
		t.Error("a target is in the metrics")
	}
	if t.Failed() {
		t.Log(got)
	}
	if got := scrape(t, &fakeGateway{fail: true}, nil); !strings.Contains(got, "viaduct_config_last_reload_success{} 0\n") {
		t.Errorf("a failed reload:\n%s", got)
	}
}

// TestBounded: names that are not text do not panic, and a configuration that changes for years does not grow the metrics
// without end.
func TestBounded(t *testing.T) {
	got := scrape(t, &fakeGateway{}, func(m *Meter) {
		m.SessionOpened("caf\xe9")
		f := flow()
		for i := range maxChildren + 500 {
			f.Decision = &connmodel.Decision{Policy: "default", Rule: fmt.Sprintf("rule\xff%d", i)}
			m.FlowClosed(f)
		}
	})
	if !strings.Contains(got, "viaduct_sessions_total{listener=caf?} 1\n") {
		t.Error("a name that is not UTF-8")
	}
	if !strings.Contains(got, "viaduct_rule_flows_total{policy=other,rule=other} 500\n") {
		t.Error("there is no bound")
	}
}

// TestAtOnce is for the race detector, and counts.
func TestAtOnce(t *testing.T) {
	got := scrape(t, &fakeGateway{}, func(m *Meter) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := range 200 {
					f := flow()
					f.Client.Listener = fmt.Sprint("l", (i+n)%5)
					m.SessionOpened(f.Client.Listener)
					m.FlowClosed(f)
					m.SessionClosed(f.Client.Listener)
				}
			})
		}
		wg.Wait()
	})
	for i := range 5 {
		if line := fmt.Sprintf("viaduct_flows_total{listener=l%d,protocol=connect,reason=client_closed} 320\n", i); !strings.Contains(got, line) {
			t.Errorf("no %s", line)
		}
	}
}

// TestMetricsOverHTTP: the text form parses as such, by its first lines.
func TestMetricsOverHTTP(t *testing.T) {
	c, url, _ := serve(t, &fakeGateway{}, true)
	res, err := c.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !strings.HasPrefix(string(b), "# HELP ") || !strings.Contains(string(b), "\nprocess_open_fds ") {
		t.Errorf("%s %v\n%.200s", res.Status, err, b)
	}
}

// BenchmarkFlow is what a flow costs in metrics.
func BenchmarkFlow(b *testing.B) {
	m := newMeter()
	f := flow()
	b.ReportAllocs()
	for b.Loop() {
		m.SessionOpened("desk")
		m.FlowClosed(f)
		m.SessionClosed("desk")
	}
}

func BenchmarkFlowDirect(b *testing.B) {
	m := newMeter()
	f := flow()
	f.Server.Attempts = f.Server.Attempts[1:]
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.SessionOpened("desk")
			m.FlowClosed(f)
			m.SessionClosed("desk")
		}
	})
}
