package main

import (
	"context"
	"fmt"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies"
)

// todayAnswer is what the present policy would decide for a flow of the past.
type todayAnswer struct {
	From string `json:"policy_from"` // where the policy was read
	// Same says that it would do what was done: the same outcome, route, server and mode of TLS, by whichever rule.
	Same    bool     `json:"same"`
	Missing []string `json:"missing,omitempty"` // what rules ask and the record does not know; what was decided does not depend on it
	Problem string   `json:"problem,omitempty"` // why it cannot be asked
	// Explanation is that of "viaduct explain"; nil with Problem.
	Explanation *explanation `json:"explanation,omitempty"`
}

// todayFor asks a policy about the facts of a record, by the code of explain. Nothing is looked up, fetched or tried for it.
func todayFor(ctx context.Context, cfg *policies.Config, f *connmodel.Flow) (*todayAnswer, error) {
	t := &todayAnswer{From: said(cfg.Files)}
	facts, missing := f.Facts()
	l := listenerOf(cfg, facts.Listener)
	switch {
	case f.Target.IsZero():
		t.Problem = "nothing was asked for, so there is nothing to decide"
	case missing&connmodel.MissingCut != 0:
		t.Problem = "it cannot be said: the record was cut where it tells what was asked for"
	case l == nil:
		t.Problem = fmt.Sprintf("the policy has no listener %q", facts.Listener)
	}
	if t.Problem != "" {
		return t, nil
	}
	if zone := cfg.Gateway.Timezone; zone != nil {
		facts.Time = facts.Time.In(zone)
	} else {
		facts.Time = facts.Time.Local()
	}
	q := &question{noDNS: true, told: true}
	x, err := newExplainer(cfg, q)
	if err != nil {
		return nil, err
	}
	defer x.table.Close()
	asked := *facts
	d, need, _ := cfg.Programs[l.Policy].Explain(&asked)
	if t.Explanation, err = x.flow(ctx, l, facts); err != nil {
		return nil, err
	}
	e := t.Explanation
	if d == nil {
		e.Open = "a rule asks for what the record does not know: " + strings.Join(connmodel.Missing(need).Words(), ", ")
		e.Rules = e.Rules[:min(len(e.Rules), 1000)]
		return t, nil
	}
	now := &connmodel.ShadowDecision{Outcome: d.Outcome, Route: d.Route, Server: d.Server, TLS: d.TLS.ModeOf()}
	t.Same = f.Decision != nil && !now.Differs(f.Decision)
	return t, nil
}

func listenerOf(cfg *policies.Config, name string) *policies.Listener {
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Name == name {
			return &cfg.Listeners[i]
		}
	}
	return nil
}

// sameAs reports whether what is explained is what d did: outcome, route, server and mode of TLS, by whichever rule.
func sameAs(e *explanation, d *connmodel.Decision) bool {
	if d == nil || e.Open != "" || e.Refused != "" || e.Outcome != string(d.Outcome) {
		return false
	}
	mode := connmodel.TLSMode(e.TLS)
	if mode == "" {
		mode = connmodel.TLSPassthrough
	}
	return d.Denied() || e.Via == d.Route && e.Server == d.Server.String() && mode == d.TLS.ModeOf()
}
