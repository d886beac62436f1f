package admin

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"viaduct/connmodel"
)

// ruleMetrics is what is counted of a rule: since the start for metrics, and since its generation came for people.
type ruleMetrics struct {
	prometheus.Counter
	hits ruleHits
}

// ruleHits counts the flows of one generation. A flow of one before that ends late counts for nothing. The zero value has none.
type ruleHits struct {
	now atomic.Pointer[generationHits]
}

type generationHits struct {
	generation uint64
	flows      atomic.Uint64
	last       atomic.Int64 // nanoseconds since 1970
}

func (h *ruleHits) count(f *connmodel.Flow) {
	for {
		g := h.now.Load()
		switch {
		case g != nil && g.generation == f.Generation:
			g.flows.Add(1)
			g.last.Store(f.End.UnixNano())
			return
		case g != nil && g.generation > f.Generation:
			return
		}
		h.now.CompareAndSwap(g, &generationHits{generation: f.Generation})
	}
}

func (h *ruleHits) of(generation uint64) (flows uint64, last time.Time) {
	g := h.now.Load()
	if g == nil || g.generation != generation {
		return 0, time.Time{}
	}
	if flows = g.flows.Load(); flows > 0 {
		last = time.Unix(0, g.last.Load())
	}
	return flows, last
}

func (m *Meter) rule(k ruleKey, f *connmodel.Flow) {
	c, ok := m.byRule.get(k)
	if !ok {
		c = m.byRule.put(k, ruleKey{other, other}, func(k ruleKey) *ruleMetrics {
			return &ruleMetrics{Counter: m.ruleFlows.WithLabelValues(text(k.policy), text(k.rule))}
		})
	}
	c.Inc()
	c.hits.count(f)
}

// shadow counts a flow that a shadow rule would have taken.
func (m *Meter) shadow(k ruleKey, f *connmodel.Flow) {
	c, ok := m.byShadow.get(k)
	if !ok {
		c = m.byShadow.put(k, ruleKey{other, other}, func(ruleKey) *ruleHits { return new(ruleHits) })
	}
	c.count(f)
}

// RuleHits returns how many flows a rule has taken, or a shadow rule or the rule of a shadow policy would have, since its generation came, and when the
// last of them ended. Flows that are open are not in it. known is false when there are more rules than are counted one by one, so that this one may
// have taken some of those that are counted together.
func (m *Meter) RuleHits(policy, rule string, shadow bool, generation uint64) (flows uint64, last time.Time, known bool) {
	k, all := ruleKey{policy, rule}, ruleKey{other, other}
	if shadow {
		if c, ok := m.byShadow.peek(k); ok {
			flows, last = c.of(generation)
			return flows, last, true
		}
		_, more := m.byShadow.peek(all)
		return 0, time.Time{}, !more
	}
	if c, ok := m.byRule.peek(k); ok {
		flows, last = c.hits.of(generation)
		return flows, last, true
	}
	_, more := m.byRule.peek(all)
	return 0, time.Time{}, !more
}
