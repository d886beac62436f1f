package admin

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"viaduct/connmodel"
)

// Meter counts what the router tells it. Its methods may be called from any goroutine. Looking up a metric by its labels costs
// more than counting, so what belongs together is looked up together, once, and kept.
type Meter struct {
	sessionsOpen   *prometheus.GaugeVec
	sessions       *prometheus.CounterVec
	refused        *prometheus.CounterVec
	flows          *prometheus.CounterVec
	flowSeconds    *prometheus.HistogramVec
	bytes          *prometheus.CounterVec
	ruleFlows      *prometheus.CounterVec
	shadowFlows    *prometheus.CounterVec
	flowErrors     *prometheus.CounterVec
	attempts       *prometheus.CounterVec
	connectSeconds *prometheus.HistogramVec
	hopSeconds     *prometheus.HistogramVec

	handshakeSeconds *prometheus.HistogramVec
	clientTLSSeconds *prometheus.HistogramVec

	hopErrors     *prometheus.CounterVec
	certificates  *prometheus.CounterVec
	panics        prometheus.Counter
	byListener    cache[string, *listenerMetrics]
	byRefusal     cache[refusalKey, prometheus.Counter]
	byFlow        cache[flowKey, *flowMetrics]
	byRule        cache[ruleKey, *ruleMetrics]
	byShadow      cache[ruleKey, *ruleHits]
	byShadowRule  cache[shadowKey, prometheus.Counter]
	byError       cache[errorKey, prometheus.Counter]
	byAttempt     cache[attemptKey, *attemptMetrics]
	byHop         cache[hopKey, prometheus.Counter]
	byHopTime     cache[hopTimeKey, *hopTimes]
	byCertificate cache[certificateKey, prometheus.Counter]

	names names
}

type listenerMetrics struct {
	open     prometheus.Gauge
	total    prometheus.Counter
	up, down prometheus.Counter

	handshake, tls timer
}

// timer is one histogram.
type timer struct {
	prometheus.Observer
	told atomic.Int64 // second of the last exemplar
}

// observe counts what took so many seconds. Once a second it says which flow that was: finding out costs more than counting.
func (t *timer) observe(seconds float64, f *connmodel.Flow) {
	if now, told := f.End.Unix(), t.told.Load(); now != told && t.told.CompareAndSwap(told, now) {
		if o, ok := t.Observer.(prometheus.ExemplarObserver); ok {
			labels := prometheus.Labels{"flow_id": f.ID.String()}
			if f.Span != nil && f.Span.Sampled {
				labels["trace_id"] = f.Span.Trace.String()
			}
			o.ObserveWithExemplar(seconds, labels)
			return
		}
	}
	t.Observe(seconds)
}

type refusalKey struct{ listener, reason string }

type flowKey struct {
	listener string
	protocol connmodel.Protocol
	reason   connmodel.CloseReason
}

type flowMetrics struct {
	flows    prometheus.Counter
	seconds  timer
	listener *listenerMetrics
}

type ruleKey struct{ policy, rule string }

type errorKey struct {
	phase connmodel.Phase
	side  connmodel.Side
	kind  connmodel.Kind
}

type attemptKey struct {
	route  string
	result connmodel.Kind // "" = connected
}

type attemptMetrics struct {
	attempts prometheus.Counter
	seconds  *timer // nil unless it connected
}

type hopTimeKey struct {
	upstream string
	hop      int16
}

// hopTimes are the histograms of one hop, made when there is something to count in them.
type hopTimes struct {
	vec           *prometheus.HistogramVec
	upstream, hop string
	parts         [len(hopParts)]atomic.Pointer[prometheus.Observer]
}

// hopParts are the phases of a hop that take time, in the order of partsOf.
var hopParts = [...]connmodel.Phase{phaseDNS, phaseTCP, connmodel.PhaseTLS, connmodel.PhaseGreeting, connmodel.PhaseAuth, connmodel.PhaseConnect}

// Parts of connmodel's phases resolve and dial, as records call them.
const (
	phaseDNS connmodel.Phase = "dns"
	phaseTCP connmodel.Phase = "tcp"
)

func partsOf(h *connmodel.HopResult) [len(hopParts)]time.Duration {
	return [...]time.Duration{h.DNS, h.TCP, h.TLS, h.Greeting, h.Auth, h.Connect}
}

func (t *hopTimes) part(i int) prometheus.Observer {
	if o := t.parts[i].Load(); o != nil {
		return *o
	}
	o := t.vec.WithLabelValues(t.upstream, t.hop, string(hopParts[i])) // it gives everybody the same
	t.parts[i].Store(&o)
	return o
}

type hopKey struct {
	upstream string
	hop      int
	phase    connmodel.Phase
	kind     connmodel.Kind
}

type certificateKey struct {
	side     connmodel.Side
	upstream string
	reason   connmodel.ChainVerdict
}

// numConnectBuckets is how many connectBuckets there are.
const numConnectBuckets = 16

// Buckets in seconds: connecting goes from a socket on loopback to the deadline of a minute; flows last from one request to a
// day of ssh. They are for scrapers that do not take native histograms, whose buckets are finer and made as they are needed.
var (
	connectBuckets = [numConnectBuckets]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	partBuckets    = []float64{.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 10, 30, 60}
	flowBuckets    = []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300, 1800, 3600, 14400, 86400}
)

// Bounds of native histograms: buckets grow by a tenth, and when times are spread over more than maxNative of them the histogram is begun
// anew, once an hour at most; until then it becomes coarser.
const (
	nativeGrowth = 1.1
	maxNative    = 160
	nativeReset  = time.Hour
)

func newMeter() *Meter {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	times := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: nativeGrowth, NativeHistogramMaxBucketNumber: maxNative, NativeHistogramMinResetDuration: nativeReset,
		}, labels)
	}
	m := &Meter{
		sessionsOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "viaduct_sessions_open", Help: "Client connections that are open."}, []string{"listener"}),
		sessions:     counter("viaduct_sessions_total", "Client connections accepted.", "listener"),
		refused:      counter("viaduct_sessions_refused_total", "Client connections closed at accept.", "listener", "reason"),
		handshakeSeconds: times("viaduct_handshake_duration_seconds",
			"From accept until the first request of a client connection is read, its TLS handshake and proof of identity included.", partBuckets, "listener"),
		clientTLSSeconds: times("viaduct_client_tls_duration_seconds", "TLS handshakes with clients of a listener, from accept until they are done.", partBuckets, "listener"),
		flows:            counter("viaduct_flows_total", "Flows that have ended, by how the client asked and why they ended.", "listener", "protocol", "reason"),
		flowSeconds:      times("viaduct_flow_duration_seconds", "From the first byte of the request to the end of the flow.", flowBuckets, "protocol"),
		bytes: counter("viaduct_bytes_total",
			"Payload bytes of flows that have ended; up is toward the server. Requests in opened tunnels count with their tunnel.", "listener", "direction"),
		ruleFlows: counter("viaduct_rule_flows_total", "Flows that each rule took.", "policy", "rule"),
		shadowFlows: counter("viaduct_shadow_differences_total",
			"Flows with which a rule of a shadow policy, or a shadow rule, would have done something else.", "listener", "policy", "rule"),
		flowErrors:     counter("viaduct_flow_errors_total", "Flows that ended in an error, by where it happened and what it means.", "phase", "side", "kind"),
		attempts:       counter("viaduct_attempts_total", "Tries at routes, by the way taken and the result: connected, or the kind of error.", "route", "result"),
		connectSeconds: times("viaduct_connect_duration_seconds", "Attempts that connected: until the server was reached.", connectBuckets[:], "route"),
		hopSeconds: times("viaduct_hop_phase_duration_seconds",
			"What took time at a hop of an attempt, whether it connected or not: dns, tcp, tls, greeting, auth, connect. upstream is empty for the server itself.", partBuckets, "upstream", "hop", "phase"),
		hopErrors: counter("viaduct_hop_errors_total", "Errors blamed on a hop of a route.", "upstream", "hop", "phase", "kind"),
		certificates: counter("viaduct_certificate_warnings_total",
			"TLS handshakes in which a peer showed a certificate that ends soon or is not what it should be; upstream is empty for servers and clients.", "side", "upstream", "reason"),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "viaduct_panics_total", Help: "Flows that panicked. It must stay 0."}),
	}
	m.byListener.most, m.byAttempt.most, m.byHopTime.most = maxTimed, maxTimed, maxTimed
	return m
}

// families is the Meter as one collector.
func (m *Meter) families() prometheus.Collector {
	return collectorList{m.sessionsOpen, m.sessions, m.refused, m.handshakeSeconds, m.clientTLSSeconds, m.flows, m.flowSeconds, m.bytes, m.ruleFlows, m.shadowFlows, m.flowErrors,
		m.attempts, m.connectSeconds, m.hopSeconds, m.hopErrors, m.certificates, m.panics}
}

type collectorList []prometheus.Collector

func (l collectorList) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range l {
		c.Describe(ch)
	}
}

func (l collectorList) Collect(ch chan<- prometheus.Metric) {
	for _, c := range l {
		c.Collect(ch)
	}
}

func (m *Meter) listener(name string) *listenerMetrics {
	if c, ok := m.byListener.get(name); ok {
		return c
	}
	return m.byListener.put(name, other, func(name string) *listenerMetrics {
		return &listenerMetrics{
			open: m.sessionsOpen.WithLabelValues(text(name)), total: m.sessions.WithLabelValues(text(name)),
			up: m.bytes.WithLabelValues(text(name), "up"), down: m.bytes.WithLabelValues(text(name), "down"),
			handshake: timer{Observer: m.handshakeSeconds.WithLabelValues(text(name))},
			tls:       timer{Observer: m.clientTLSSeconds.WithLabelValues(text(name))},
		}
	})
}

// SessionOpened counts a client connection.
func (m *Meter) SessionOpened(listener string) {
	l := m.listener(listener)
	l.open.Inc()
	l.total.Inc()
}

// SessionClosed counts its end.
func (m *Meter) SessionClosed(listener string) { m.listener(listener).open.Dec() }

// SessionRefused counts a client that was turned away at accept. reason is one of a few fixed words.
func (m *Meter) SessionRefused(listener, reason string) {
	k := refusalKey{listener, reason}
	c, ok := m.byRefusal.get(k)
	if !ok {
		c = m.byRefusal.put(k, refusalKey{other, other}, func(k refusalKey) prometheus.Counter {
			return m.refused.WithLabelValues(text(k.listener), text(k.reason))
		})
	}
	c.Inc()
}

// FirstFlow counts the time that a client connection took until its first request was read. f is the flow that came of it, and has ended.
func (m *Meter) FirstFlow(f *connmodel.Flow) {
	c := f.Client
	if c == nil || c.Start.IsZero() {
		return
	}
	l := m.listener(c.Listener)
	l.handshake.observe(max(f.Start.Sub(c.Start), 0).Seconds(), f)
}

// ClientTLS counts a TLS handshake with a client that went well.
func (m *Meter) ClientTLS(listener string, took time.Duration) {
	m.listener(listener).tls.Observe(max(took, 0).Seconds())
}

// Panicked counts a flow whose goroutine panicked.
func (m *Meter) Panicked() { m.panics.Inc() }

// FlowClosed counts a flow that has ended, its attempts and their errors.
func (m *Meter) FlowClosed(f *connmodel.Flow) {
	k := flowKey{protocol: f.Protocol, reason: f.Reason}
	if f.Client != nil {
		k.listener = f.Client.Listener
	}
	c, ok := m.byFlow.get(k)
	if !ok {
		c = m.byFlow.put(k, flowKey{other, other, other}, m.newFlow)
	}
	c.flows.Inc()
	c.seconds.observe(f.End.Sub(f.Start).Seconds(), f)
	if q := f.Request; q == nil || q.Tunnel.IsZero() { // else they are among the bytes of the tunnel
		c.listener.up.Add(float64(f.Up))
		c.listener.down.Add(float64(f.Down))
	}
	if d := f.Decision; d != nil {
		m.rule(ruleKey{d.Policy, d.Rule}, f)
		if d.Shadow != nil || d.ShadowPolicy != nil {
			m.shadows(k.listener, d)
		}
		for i := range d.Shadow {
			m.shadow(ruleKey{d.Policy, d.Shadow[i].Rule}, f)
		}
		if p := d.ShadowPolicy; p != nil && p.Undecided == "" {
			m.shadow(ruleKey{p.Policy, p.Rule}, f)
		}
	}
	if e := f.Error; e != nil {
		m.flowError(errorKey{e.Phase, e.Side, e.Kind})
	}
	// A reused connection was counted by the flow that opened it.
	if s := f.Server; s != nil && !s.Reused {
		for i := range s.Attempts {
			m.attempt(&s.Attempts[i], f)
		}
	}
}

func (m *Meter) newFlow(k flowKey) *flowMetrics {
	return &flowMetrics{
		flows:    m.flows.WithLabelValues(text(k.listener), string(k.protocol), string(k.reason)),
		seconds:  timer{Observer: m.flowSeconds.WithLabelValues(string(k.protocol))},
		listener: m.listener(k.listener),
	}
}

func (m *Meter) flowError(k errorKey) {
	c, ok := m.byError.get(k)
	if !ok {
		c = m.byError.put(k, errorKey{other, other, other}, func(k errorKey) prometheus.Counter {
			return m.flowErrors.WithLabelValues(string(k.phase), string(k.side), string(k.kind))
		})
	}
	c.Inc()
}

func (m *Meter) attempt(a *connmodel.Attempt, f *connmodel.Flow) {
	k := attemptKey{route: declared(a.Route)}
	if a.Error != nil {
		k.result = a.Error.Kind
	}
	c, ok := m.byAttempt.get(k)
	if !ok {
		c = m.byAttempt.put(k, attemptKey{other, other}, m.newAttempt)
	}
	c.attempts.Inc()
	if c.seconds != nil {
		c.seconds.observe(a.End.Sub(a.Start).Seconds(), f)
	}
	for i := range a.Hops {
		m.hop(&a.Hops[i])
	}
	if e := a.Error; e != nil && e.Hop > 0 && e.HopName != "" {
		m.hopError(hopKey{declared(e.HopName), e.Hop, e.Phase, e.Kind})
	}
}

// hop counts what took time at a hop.
func (m *Meter) hop(h *connmodel.HopResult) {
	var c *hopTimes
	for i, d := range partsOf(h) {
		if d <= 0 {
			continue
		}
		if c == nil {
			k := hopTimeKey{declared(h.Upstream), h.Index}
			var ok bool
			if c, ok = m.byHopTime.get(k); !ok {
				c = m.byHopTime.put(k, hopTimeKey{upstream: other}, m.newHopTimes)
			}
		}
		c.part(i).Observe(d.Seconds())
	}
}

func (m *Meter) newHopTimes(k hopTimeKey) *hopTimes {
	return &hopTimes{vec: m.hopSeconds, upstream: text(k.upstream), hop: strconv.Itoa(int(k.hop))}
}

// undeclared stands for the proxies that PAC scripts name by URL and nobody declared: a script may make their names of anything.
const undeclared = "undeclared"

// declared is a name of a route or upstream as a label.
func declared(name string) string {
	if strings.IndexByte(name, ':') >= 0 { // names of the policy have none
		return undeclared
	}
	return name
}

func (m *Meter) newAttempt(k attemptKey) *attemptMetrics {
	if k.result != "" {
		return &attemptMetrics{attempts: m.attempts.WithLabelValues(text(k.route), string(k.result))}
	}
	return &attemptMetrics{attempts: m.attempts.WithLabelValues(text(k.route), "connected"), seconds: &timer{Observer: m.connectSeconds.WithLabelValues(text(k.route))}}
}

func (m *Meter) hopError(k hopKey) {
	c, ok := m.byHop.get(k)
	if !ok {
		c = m.byHop.put(k, hopKey{upstream: other, phase: other, kind: other}, func(k hopKey) prometheus.Counter {
			return m.hopErrors.WithLabelValues(text(k.upstream), strconv.Itoa(k.hop), string(k.phase), string(k.kind))
		})
	}
	c.Inc()
}

// CertificateWarned counts a certificate that wants attention.
func (m *Meter) CertificateWarned(side connmodel.Side, upstream string, reason connmodel.ChainVerdict) {
	k := certificateKey{side, declared(upstream), reason}
	c, ok := m.byCertificate.get(k)
	if !ok {
		c = m.byCertificate.put(k, certificateKey{other, other, other}, func(k certificateKey) prometheus.Counter {
			return m.certificates.WithLabelValues(string(k.side), text(k.upstream), string(k.reason))
		})
	}
	c.Inc()
}

// text makes a name fit for a label: Prometheus panics where it is not UTF-8.
func text(name string) string { return strings.ToValidUTF8(name, "?") }
