package admin

import (
	"fmt"
	"strings"
	"testing"

	"viaduct/connmodel"
)

// Differences of shadows are counted by listener and rule, within the bound of all labels; what agrees or is not known is none.
func TestShadowDifferences(t *testing.T) {
	with := func(change func(d *connmodel.Decision)) *connmodel.Flow {
		f := flow()
		f.Decision = &connmodel.Decision{Policy: "now", Rule: "r", Outcome: connmodel.OutcomeVia, Route: "direct"}
		change(f.Decision)
		return f
	}
	next := func(s connmodel.ShadowDecision) *connmodel.Flow {
		s.Policy = "next"
		return with(func(d *connmodel.Decision) { d.ShadowPolicy = &s })
	}
	got := scrape(t, &fakeGateway{}, func(m *Meter) {
		m.FlowClosed(next(connmodel.ShadowDecision{Rule: "no", Outcome: connmodel.OutcomeDeny}))
		m.FlowClosed(next(connmodel.ShadowDecision{Rule: "no", Outcome: connmodel.OutcomeDeny}))
		m.FlowClosed(next(connmodel.ShadowDecision{Rule: "same", Outcome: connmodel.OutcomeVia, Route: "direct"}))
		m.FlowClosed(next(connmodel.ShadowDecision{Rule: "asks", Undecided: "addresses"}))
		m.FlowClosed(with(func(d *connmodel.Decision) {
			d.Shadow = []connmodel.ShadowVerdict{{Rule: "would", Outcome: connmodel.OutcomeDeny}, {Rule: "would not", Outcome: connmodel.OutcomeVia, Route: "direct"}}
		}))
		for i := range maxChildren + 98 {
			m.FlowClosed(next(connmodel.ShadowDecision{Rule: fmt.Sprintf("many\xff%d", i), Outcome: connmodel.OutcomeDeny}))
		}
	})
	for _, line := range []string{
		"viaduct_shadow_differences_total{listener=desk,policy=next,rule=no} 2",
		"viaduct_shadow_differences_total{listener=desk,policy=now,rule=would} 1",
		"viaduct_shadow_differences_total{listener=other,policy=other,rule=other} 100",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	for _, rule := range []string{"rule=same", "rule=asks", "rule=would not"} {
		if strings.Contains(got, rule+"}") {
			t.Errorf("%s is counted", rule)
		}
	}
}
