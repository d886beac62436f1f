package admin

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Names are what the configuration in force has names for.
type Names struct {
	Listeners []string
	Rules     [][2]string // policy and rule
	Upstreams []string
}

// keepGone is how long series of names that the configuration has no more are shown after something was last counted in them: scrapers
// are to see how they ended.
const keepGone = 15 * time.Minute

// names finds series that nobody needs any more.
type names struct {
	mu    sync.Mutex
	known map[name]bool // nil = the configuration was never told
	gone  map[name]rest
}

// name is that of a listener, rule or upstream (kind), or of a way through upstreams.
type name struct{ kind, name, rule string }

// rest is since when nothing was counted under a name.
type rest struct {
	counted float64
	since   time.Time
}

// Configured tells which names are in use from now on. Series of others go, some time after they were last counted in, so that a policy whose
// names change does not make the metrics grow for ever.
func (m *Meter) Configured(n Names) {
	known := map[name]bool{}
	for _, x := range n.Listeners {
		known[name{"listener", x, ""}] = true
	}
	for _, x := range n.Rules {
		known[name{"rule", x[0], x[1]}] = true
	}
	for _, x := range append([]string{"", "direct", undeclared, other}, n.Upstreams...) {
		known[name{"upstream", x, ""}] = true
	}
	known[name{"listener", other, ""}], known[name{"rule", other, other}] = true, true
	m.names.mu.Lock()
	m.names.known = known
	m.names.mu.Unlock()
}

func (n *names) has(x name) bool {
	if x.kind != "route" {
		return n.known[x]
	}
	for hop := range strings.SplitSeq(x.name, " > ") {
		if !n.known[name{"upstream", hop, ""}] {
			return false
		}
	}
	return true
}

// prune takes series away whose time has come. It is called every minute or so.
func (m *Meter) prune(now time.Time) {
	n := &m.names
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		return
	}
	counted := map[name]float64{}
	var scratch dto.Metric
	count := func(x name, c any) {
		if n.has(x) {
			return
		}
		scratch.Reset()
		if w, ok := c.(prometheus.Metric); ok && w.Write(&scratch) == nil {
			counted[x] += scratch.GetCounter().GetValue() + float64(scratch.GetHistogram().GetSampleCount())
		}
	}
	open := map[name]bool{}
	m.byListener.each(func(l string, c *listenerMetrics) {
		x := name{"listener", l, ""}
		count(x, c.total)
		count(x, c.up)
		count(x, c.down)
		scratch.Reset()
		if c.open.Write(&scratch) == nil && scratch.GetGauge().GetValue() != 0 {
			open[x] = true
		}
	})
	m.byRefusal.each(func(k refusalKey, c prometheus.Counter) { count(name{"listener", k.listener, ""}, c) })
	m.byFlow.each(func(k flowKey, c *flowMetrics) { count(name{"listener", k.listener, ""}, c.flows) })
	m.byRule.each(func(k ruleKey, c *ruleMetrics) { count(name{"rule", k.policy, k.rule}, c) })
	m.byShadowRule.each(func(k shadowKey, c prometheus.Counter) { count(name{"listener", k.listener, ""}, c) })
	m.byAttempt.each(func(k attemptKey, c *attemptMetrics) { count(name{"route", k.route, ""}, c.attempts) })
	m.byHop.each(func(k hopKey, c prometheus.Counter) { count(name{"upstream", k.upstream, ""}, c) })
	m.byCertificate.each(func(k certificateKey, c prometheus.Counter) { count(name{"upstream", k.upstream, ""}, c) })
	m.byHopTime.each(func(k hopTimeKey, c *hopTimes) {
		for i := range c.parts {
			if o := c.parts[i].Load(); o != nil {
				count(name{"upstream", k.upstream, ""}, *o)
			}
		}
	})
	gone := map[name]rest{}
	over := map[name]bool{}
	for x, sum := range counted {
		r, ok := n.gone[x]
		if !ok || r.counted != sum || open[x] {
			r = rest{sum, now}
		}
		if now.Sub(r.since) >= keepGone {
			over[x] = true
			continue
		}
		gone[x] = r
	}
	n.gone = gone
	if len(over) > 0 {
		m.forget(over)
	}
}

// forget takes all series of names away.
func (m *Meter) forget(over map[name]bool) {
	m.byListener.drop(func(l string, _ *listenerMetrics) bool { return over[name{"listener", l, ""}] })
	m.byRefusal.drop(func(k refusalKey, _ prometheus.Counter) bool { return over[name{"listener", k.listener, ""}] })
	m.byFlow.drop(func(k flowKey, _ *flowMetrics) bool { return over[name{"listener", k.listener, ""}] })
	m.byRule.drop(func(k ruleKey, _ *ruleMetrics) bool { return over[name{"rule", k.policy, k.rule}] })
	m.byShadowRule.drop(func(k shadowKey, _ prometheus.Counter) bool { return over[name{"listener", k.listener, ""}] })
	m.byAttempt.drop(func(k attemptKey, _ *attemptMetrics) bool { return over[name{"route", k.route, ""}] })
	m.byHop.drop(func(k hopKey, _ prometheus.Counter) bool { return over[name{"upstream", k.upstream, ""}] })
	m.byHopTime.drop(func(k hopTimeKey, _ *hopTimes) bool { return over[name{"upstream", k.upstream, ""}] })
	m.byCertificate.drop(func(k certificateKey, _ prometheus.Counter) bool { return over[name{"upstream", k.upstream, ""}] })
	for x := range over {
		labels := prometheus.Labels{x.kind: text(x.name)}
		switch x.kind {
		case "listener":
			m.sessionsOpen.DeletePartialMatch(labels)
			m.sessions.DeletePartialMatch(labels)
			m.refused.DeletePartialMatch(labels)
			m.flows.DeletePartialMatch(labels)
			m.bytes.DeletePartialMatch(labels)
			m.shadowFlows.DeletePartialMatch(labels)
			m.handshakeSeconds.DeletePartialMatch(labels)
			m.clientTLSSeconds.DeletePartialMatch(labels)
		case "rule":
			m.ruleFlows.DeletePartialMatch(prometheus.Labels{"policy": text(x.name), "rule": text(x.rule)})
		case "route":
			m.attempts.DeletePartialMatch(labels)
			m.connectSeconds.DeletePartialMatch(labels)
		case "upstream":
			m.hopErrors.DeletePartialMatch(labels)
			m.hopSeconds.DeletePartialMatch(labels)
			m.certificates.DeletePartialMatch(labels)
		}
	}
}
