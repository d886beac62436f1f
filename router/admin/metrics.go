package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is everything /metrics shows: what Meter counts as it happens, and what Status says when somebody looks.
type Metrics struct {
	registry *prometheus.Registry
	meter    *Meter
}

// NewMetrics returns metrics with their own registry. gw is asked for its status at every scrape.
func NewMetrics(gw Gateway) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), meter: newMeter()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.meter.families(),
		&statusCollector{gw: gw},
	)
	return m
}

// Meter returns what the router counts with.
func (m *Metrics) Meter() *Meter { return m.meter }

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
}
