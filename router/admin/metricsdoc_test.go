package admin

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsManual holds METRICS.md against what is counted. With -update it writes the table anew.
func TestMetricsManual(t *testing.T) {
	const mark = "TestMetricsManual -update -->\n\n"
	b, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	head, table, ok := strings.Cut(string(b), mark)
	if !ok {
		t.Fatal("METRICS.md has no place for the table")
	}
	want := metricsTable(t)
	if *update {
		if err := os.WriteFile("METRICS.md", []byte(head+mark+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("METRICS.md does not say what is counted now. Run: go test ./router/admin -run TestMetricsManual -update")
	}
}

var descParts = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

func metricsTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| Metric | Kind | Labels | |\n|---|---|---|---|\n")
	m := newMeter()
	row := func(d *prometheus.Desc, kind string) {
		p := descParts.FindStringSubmatch(d.String())
		if p == nil {
			t.Fatalf("%s is of another form", d)
		}
		labels := ""
		for _, l := range strings.Split(p[3], ",") {
			if l != "" {
				labels += ", `" + l + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p[1], kind, strings.TrimPrefix(labels, ", "), strings.ReplaceAll(p[2], `\"`, `"`))
	}
	describe := func(c prometheus.Collector, kind func(name string) string) {
		ch := make(chan *prometheus.Desc, 1000)
		c.Describe(ch)
		close(ch)
		for d := range ch {
			row(d, kind(d.String()))
		}
	}
	for _, c := range m.families().(collectorList) {
		describe(c, func(string) string {
			switch c.(type) {
			case *prometheus.HistogramVec:
				return "histogram"
			case *prometheus.GaugeVec:
				return "gauge"
			}
			return "counter"
		})
	}
	describe(&statusCollector{}, func(d string) string {
		if strings.Contains(d, `_total", help`) {
			return "counter"
		}
		return "gauge"
	})
	return b.String()
}
