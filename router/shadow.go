package router

import (
	"runtime/debug"

	"viaduct/connmodel"
)

// shadowed returns a copy of d with what the listener's shadow policy says of the flow. Whatever becomes of that, the flow goes on as decided.
func (s *session) shadowed(p *pin, f *connmodel.Facts, d *connmodel.Decision) *connmodel.Decision {
	said := s.askShadow(p, f, d)
	if said == nil {
		return d
	}
	c := *d
	c.ShadowPolicy = said
	return &c
}

func (s *session) askShadow(p *pin, f *connmodel.Facts, d *connmodel.Decision) (said *connmodel.ShadowDecision) {
	defer func() {
		if r := recover(); r != nil {
			said = &connmodel.ShadowDecision{Undecided: "internal error"}
			s.shadowPanicked(r)
		}
	}()
	return p.l.Shadow.Shadow(f, d)
}

// shadowPanicked tells of a panic that no client notices.
func (s *session) shadowPanicked(p any) {
	defer func() { recover() }() // a log or meter that panics must not end the flow either
	s.r.stats.panics.Add(1)
	defer s.r.opt.Log.Event(LevelError, "panic in a shadow policy", "listener", s.name, "session", s.live.ID().String(), "panic", p, "stack", string(debug.Stack()))
	s.r.opt.Meter.Panicked()
}
