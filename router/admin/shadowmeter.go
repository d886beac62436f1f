package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"viaduct/connmodel"
)

// shadowKey is a rule that would have done something else than was done: of a shadow policy, or one marked shadow.
type shadowKey struct{ listener, policy, rule string }

// shadows counts what shadow rules and the shadow policy would have done else with a flow.
func (m *Meter) shadows(listener string, d *connmodel.Decision) {
	for i := range d.Shadow {
		if v := &d.Shadow[i]; v.Outcome != d.Outcome || v.Route != d.Route {
			m.shadowDiffers(shadowKey{listener, d.Policy, v.Rule})
		}
	}
	if s := d.ShadowPolicy; s.Differs(d) {
		m.shadowDiffers(shadowKey{listener, s.Policy, s.Rule})
	}
}

func (m *Meter) shadowDiffers(k shadowKey) {
	c, ok := m.byShadowRule.get(k)
	if !ok {
		c = m.byShadowRule.put(k, shadowKey{other, other, other}, func(k shadowKey) prometheus.Counter {
			return m.shadowFlows.WithLabelValues(text(k.listener), text(k.policy), text(k.rule))
		})
	}
	c.Inc()
}
