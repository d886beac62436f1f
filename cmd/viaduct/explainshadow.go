package main

import (
	"fmt"
	"io"

	"viaduct/connmodel"
	"viaduct/policies"
)

// shadowStep is what the shadow policy of the listener says of a flow, by the facts that the decision had.
type shadowStep struct {
	Policy    string `json:"policy"`
	Rule      string `json:"rule,omitempty"` // that would take it, or that asks for what is not known
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
	Outcome   string `json:"outcome,omitempty"`
	Via       string `json:"via,omitempty"`
	Server    string `json:"server,omitempty"`
	TLS       string `json:"tls,omitempty"`
	Undecided string `json:"undecided,omitempty"` // what was not known, as records have it
	Differs   bool   `json:"differs"`             // from what is decided
}

// shadowed asks the shadow policy, where there is one.
func (e *explanation) shadowed(cfg *policies.Config, l *policies.Listener, f *connmodel.Facts, d *connmodel.Decision) {
	p := cfg.Shadows[l.Shadow]
	if p == nil {
		return
	}
	s := p.Shadow(f, d)
	e.Shadow = &shadowStep{
		Policy: s.Policy, Rule: s.Rule, File: s.File, Line: s.Line, Outcome: string(s.Outcome), Via: s.Route, Server: s.Server.String(), TLS: string(s.TLS),
		Undecided: s.Undecided, Differs: s.Differs(d),
	}
}

func (s *shadowStep) print(w io.Writer, p palette) {
	by := "no rule takes it"
	if s.Rule != "" {
		by = fmt.Sprintf("rule %q, %s:%d", s.Rule, s.File, s.Line)
	}
	what := ""
	switch {
	case s.Undecided != "":
		what = "does not know: it depends on what nobody has gathered: " + s.Undecided
	case s.Outcome == string(connmodel.OutcomeDeny):
		what = "would refuse it"
	default:
		what = "via " + s.Via
		if s.Server != "" {
			what += " to " + s.Server
		}
		if s.TLS != "" {
			what += ", tls " + s.TLS
		}
	}
	switch {
	case s.Differs:
		what = p.bad("differs: ") + what
	case s.Undecided == "":
		what = "the same: " + what
	}
	fmt.Fprintf(w, "%-9s policy %s %s (%s)\n", "shadow", s.Policy, what, by)
}
