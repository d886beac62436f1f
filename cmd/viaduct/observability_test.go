package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"viaduct/router/intercept"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

const observability = "../../examples/observability"

// watchedHere has something of everything that a metric of examples/observability is about.
const watchedHere = `
variable "listen" { type = string }
variable "records" { type = string }
variable "door" { type = string }
variable "collector" { type = string }
variable "ca" { type = string }
variable "cert" { type = string }
variable "dead" { type = string }

gateway {
  admin { address = var.door }
  records { path = var.records }
  ca { path = var.ca }
  telemetry {
    traces { endpoint = var.collector }
  }
}
listener "desk" {
  address = var.listen
}
listener "safe" {
  address = "unix:${var.cert}.sock"
  tls {
    certificate = "${var.cert}.crt"
    key         = "${var.cert}.key"
  }
}
upstream "corp_a" {
  url = "http://${var.dead}"
  auth {
    username = "u"
    password = env("HOME")
  }
}
pool "corp" {
  members = [upstream.corp_a, direct]
}
policy "default" {
  rule "opened" {
    match { host = "opened.example" }
    via = direct
    tls { mode = "intercept" }
  }
  rule "here" {
    match {
      address = ["127.0.0.1/32"]
      resolve = false
    }
    via = pool.corp
  }
}
`

// watchedGateway is a gateway whose door is on TCP, with some flows behind it, and what its collector was sent.
type watchedGateway struct {
	*gateway
	at, token string
	origin    string
	spans     *atomic.Int64
	names     chan string // of spans
}

func startWatched(t *testing.T) *watchedGateway {
	t.Helper()
	w := &watchedGateway{spans: new(atomic.Int64), names: make(chan string, 1000)}
	otlp := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var m collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &m); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		for _, rs := range m.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					w.spans.Add(1)
					select {
					case w.names <- s.Name:
					default:
					}
				}
			}
		}
	})
	door, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Release)
	dead, err := upstreamtest.Reserve("127.0.0.1:0") // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dead.Release)
	ca, err := intercept.Create(intercept.CreateOptions{Name: "of a test"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := intercept.In(filepath.Join(dir, "ca"))
	if err := ca.Write(files); err != nil {
		t.Fatal(err)
	}
	pair, err := upstreamtest.MustCA(t).Issue([]string{"localhost"}, upstreamtest.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cert, _, err := upstreamtest.WriteFiles(dir, "door", pair)
	if err != nil {
		t.Fatal(err)
	}
	w.at = door.Addr()
	w.gateway = startGateway(t, watchedHere, "door", w.at, "collector", otlp, "ca", filepath.Dir(files.Cert), "cert", strings.TrimSuffix(cert, ".crt"), "dead", dead.Addr())
	w.await("the token of the door", func() bool {
		for _, path := range []string{filepath.Join(w.dir, "viaduct", "admin.token")} {
			if b, err := os.ReadFile(path); err == nil {
				w.token = strings.TrimSpace(string(b))
			}
		}
		return w.token != ""
	})
	w.origin = serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Header.Get("traceparent")) })
	for range 3 {
		w.get()
	}
	w.await("records", func() bool { return len(w.flows()) >= 3 })
	return w
}

// get makes a request that is part of a trace.
func (w *watchedGateway) get() {
	w.t.Helper()
	web := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: w.addr})}, Timeout: patience}
	defer web.CloseIdleConnections()
	r, _ := http.NewRequest("GET", w.origin, nil)
	r.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	res, err := web.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if got := string(b); !strings.HasPrefix(got, "00-4bf92f3577b34da6a3ce929d0e0e4736-") || strings.Contains(got, "00f067aa0ba902b7") {
		w.t.Errorf("the origin was told %q", got)
	}
}

// serveHTTP returns the URL of a server for the time of the test.
func serveHTTP(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Addr: s.Addr(), Handler: h}
	go srv.ListenAndServe()
	t.Cleanup(func() {
		srv.Close()
		s.Release()
	})
	return "http://" + s.Addr()
}

func total(line []*float64) (sum float64) {
	for _, x := range line {
		if x != nil {
			sum += *x
		}
	}
	return math.Round(sum)
}

// scrape returns what /metrics says.
func (w *watchedGateway) scrape() string { return w.ask("/metrics") }

func (w *watchedGateway) ask(path string) string {
	w.t.Helper()
	r, _ := http.NewRequest("GET", "http://"+w.at+path, nil)
	r.Header.Set("Authorization", "Bearer "+w.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		w.t.Fatalf("%s %v", res.Status, err)
	}
	return string(b)
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^(viaduct_[a-z0-9_]+)\{([^}]*)\}`)
	usedNames  = regexp.MustCompile(`\b(?:viaduct|process|go)_[a-z0-9_]+\b`)
	usedLabels = regexp.MustCompile(`\b(viaduct_[a-z0-9_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
)

// TestObservabilityNames holds the dashboard, the rules and METRICS.md against a real gateway: they use metrics and labels that it has, and
// every metric that it has is in the manual.
func TestObservabilityNames(t *testing.T) {
	w := startWatched(t)
	text := w.scrape()
	kinds, labels := map[string]string{}, map[string]map[string]bool{}
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		kinds[m[1]] = m[2]
	}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		name := familyOf(m[1], kinds)
		if labels[name] == nil {
			labels[name] = map[string]bool{}
		}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			labels[name][l[1]] = true
		}
	}
	if len(kinds) < 60 {
		t.Fatalf("only %d families:\n%s", len(kinds), text)
	}
	manual, err := os.ReadFile("../../router/admin/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range kinds {
		if strings.HasPrefix(name, "viaduct_") && !strings.Contains(string(manual), fmt.Sprintf("| `%s` | %s | ", name, kind)) {
			t.Errorf("METRICS.md does not have %s, a %s", name, kind)
		}
	}
	recorded := map[string]bool{}
	var rules string
	for _, file := range []string{"rules/recording.yml", "rules/alerts.yml"} {
		b, err := os.ReadFile(filepath.Join(observability, file))
		if err != nil {
			t.Fatal(err)
		}
		rules += string(b)
	}
	for _, m := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(rules, -1) {
		recorded[m[1]] = true
	}
	used := 0
	check := func(where, expr string) {
		for _, m := range regexp.MustCompile(`viaduct:[a-z0-9_:]+`).FindAllString(expr, -1) {
			if !recorded[m] {
				t.Errorf("%s: nobody records %s", where, m)
			}
		}
		for _, name := range usedNames.FindAllString(expr, -1) {
			used++
			// A family that has nothing to show yet is there with its first event: those are known by the manual.
			if f := familyOf(name, kinds); kinds[f] == "" && !strings.Contains(string(manual), "| `"+f+"` |") {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		for _, m := range usedLabels.FindAllStringSubmatch(expr, -1) {
			f := familyOf(m[1], kinds)
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				if name := l[1]; name != "job" && name != "instance" && !labels[f][name] && !regexp.MustCompile("`"+f+"` \\|[^|]*\\|[^|]*`"+name+"`").Match(manual) {
					t.Errorf("%s: %s has no label %s", where, f, name)
				}
			}
		}
	}
	check("rules", rules)
	for _, q := range dashboardQueries(t) {
		check("dashboard", q)
	}
	if used < 60 {
		t.Errorf("only %d names were found", used)
	}
	for _, name := range []string{"viaduct_upstream_up", "viaduct_upstream_credential_closed", "viaduct_config_last_reload_success", "viaduct_records_dropped_total", "viaduct_listener_certificate_not_after_timestamp_seconds",
		"viaduct_ca_not_after_timestamp_seconds", "viaduct_trace_flows_dropped_total", "viaduct_trace_spans_failed_total", "viaduct_panics_total", "process_open_fds", "process_max_fds", "viaduct_pool_member_up"} {
		if kinds[name] == "" {
			t.Errorf("%s, which alerts need, is not there", name)
		}
	}
	// The history of the last minutes has flows from when it began, and the proxy.
	w.await("flows in the history", func() bool {
		w.get()
		last := w.ask("/v1/history?range=5m")
		var h struct {
			Series    map[string][]*float64
			Upstreams []struct {
				Name string
				Up   []*float64
			}
		}
		if err := json.Unmarshal([]byte(last), &h); err != nil {
			t.Fatalf("%v\n%.300s", err, last)
		}
		return total(h.Series["flows"]) >= 3 && total(h.Series["attempts"]) >= 3 && len(h.Upstreams) == 1 && len(h.Upstreams[0].Up) == 300
	})
	w.await("spans", func() bool { return w.spans.Load() >= 3 })
	seen := map[string]bool{}
	w.await("a span of the failed hop", func() bool {
		select {
		case name := <-w.names:
			seen[name] = true
		default:
		}
		return seen["GET"] && seen["hop corp_a"] && seen["server"]
	})
}

// familyOf is the family that a sample belongs to.
func familyOf(name string, kinds map[string]string) string {
	for _, end := range []string{"_bucket", "_sum", "_count"} {
		if f, ok := strings.CutSuffix(name, end); ok && (kinds[f] == "histogram" || kinds[f] == "" && kinds[name] == "") {
			return f
		}
	}
	return name
}

// dashboardQueries are the expressions of all panels, of the annotations and of the variables.
func dashboardQueries(t *testing.T) (list []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(observability, "grafana/viaduct.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if s, ok := x.(string); ok && (k == "expr" || k == "query" && strings.HasPrefix(s, "label_values")) {
					list = append(list, s)
				}
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	if len(list) < 35 {
		t.Fatalf("%d queries", len(list))
	}
	return list
}

// TestAlertRules runs the tests of the rules, and shows that they can fail.
func TestAlertRules(t *testing.T) {
	peers.Need(t, "promtool")
	dir := filepath.Join(t.TempDir(), "observability")
	if err := os.CopyFS(dir, os.DirFS(observability)); err != nil {
		t.Fatal(err)
	}
	t.Log(client(t, "promtool", "check", "rules", filepath.Join(dir, "rules/recording.yml"), filepath.Join(dir, "rules/alerts.yml")))
	t.Log(client(t, "promtool", "test", "rules", filepath.Join(dir, "rules/tests.yml")))
	conf := prometheusConfig(t, dir, "127.0.0.1:9", "x", "15s")
	t.Log(client(t, "promtool", "check", "config", conf))
	alerts := filepath.Join(dir, "rules/alerts.yml")
	b, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^ +expr: [^|\n].*$`).FindAllIndex(b, -1)
	if len(names) < 8 {
		t.Fatalf("%d expressions", len(names))
	}
	for _, at := range names { // a rule that never holds must be noticed
		broken := slices.Concat(b[:at[0]], []byte("        expr: vector(1) > 2"), b[at[1]:])
		if err := os.WriteFile(alerts, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := tryClient(t, "promtool", "test", "rules", filepath.Join(dir, "rules/tests.yml")); err == nil {
			t.Errorf("nothing tests %s\n%s", b[at[0]:at[1]], out)
		}
		if testing.Short() {
			break
		}
	}
}

// prometheusConfig writes the configuration of the example for a test: another target, token and pace.
func prometheusConfig(t *testing.T, dir, target, token, every string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for old, now := range map[string]string{"/etc/prometheus/viaduct.token": secret, "127.0.0.1:9099": target, "15s": every} {
		if !strings.Contains(text, old) {
			t.Fatalf("prometheus.yml has no %s", old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	path := filepath.Join(dir, "test.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrometheus: a real Prometheus with the configuration of the example reads a real gateway, classic and native histograms, answers
// every query of the dashboard, and raises an alert when a reload is refused.
func TestPrometheus(t *testing.T) {
	peers.Need(t, "prometheus")
	w := startWatched(t)
	dir := filepath.Join(t.TempDir(), "observability")
	if err := os.CopyFS(dir, os.DirFS(observability)); err != nil {
		t.Fatal(err)
	}
	at, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(at.Release)
	path, _ := peers.Look("prometheus")
	log, err := os.Create(filepath.Join(dir, "prometheus.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := exec.Command(path, "--config.file="+prometheusConfig(t, dir, w.at, w.token, "1s"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+at.Addr(),
		"--enable-feature=native-histograms,exemplar-storage", "--log.level=warn")
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("prometheus:\n%s", b)
		}
	})
	ask := func(api string, q url.Values) (data json.RawMessage, problem string) {
		res, err := http.Get("http://" + at.Addr() + api + "?" + q.Encode())
		if err != nil {
			return nil, err.Error()
		}
		defer res.Body.Close()
		var a struct {
			Status, Error string
			Data          json.RawMessage
		}
		if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
			return nil, err.Error()
		}
		if a.Status != "success" {
			return nil, a.Error
		}
		return a.Data, ""
	}
	query := func(expr string) string {
		d, problem := ask("/api/v1/query", url.Values{"query": {expr}})
		return string(d) + problem
	}
	w.await("the first scrapes", func() bool {
		return strings.Contains(query(`viaduct_flows_total{job="viaduct", listener="desk"}`), `"3"]`)
	})
	w.await("a proxy that is down", func() bool { return strings.Contains(query(`viaduct_upstream_up{upstream="corp_a"} == 0`), `"corp_a"`) })
	w.await("native histograms", func() bool {
		return strings.Contains(query(`histogram_count(viaduct_connect_duration_seconds{route="direct"})`), `"3"]`)
	})
	if got := query(`histogram_quantile(0.5, viaduct_hop_phase_duration_seconds{upstream="", phase="tcp"})`); !strings.Contains(got, `"value":[`) || strings.Contains(got, "NaN") {
		t.Errorf("the time of tcp: %s", got)
	}
	if d, problem := ask("/api/v1/query_exemplars", url.Values{"query": {"viaduct_connect_duration_seconds"}, "start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Add(time.Hour).Unix())}}); problem != "" {
		t.Error(problem)
	} else if !strings.Contains(string(d), "4bf92f3577b34da6a3ce929d0e0e4736") {
		t.Logf("no exemplars with a trace (this Prometheus may take none of native histograms): %.300s", d)
	}
	fill := strings.NewReplacer("$job", "viaduct", "$instance", ".*", "$listener", ".*", "$upstream", ".*", "$__rate_interval", "10s")
	for _, q := range dashboardQueries(t) {
		if strings.HasPrefix(q, "label_values") {
			continue
		}
		if _, problem := ask("/api/v1/query", url.Values{"query": {fill.Replace(q)}}); problem != "" {
			t.Errorf("%s: %s", q, problem)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "viaduct.hcl"), []byte("nonsense {"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.cmd.Process.Signal(syscall.SIGHUP)
	w.await("the alert of the refused reload", func() bool {
		d, _ := ask("/api/v1/alerts", nil)
		var a struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
		json.Unmarshal(d, &a)
		for _, x := range a.Alerts {
			if x.Labels["alertname"] == "ViaductReloadFailed" && x.State == "firing" {
				return true
			}
		}
		return false
	})
}
