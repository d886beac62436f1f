package router

import (
	"bytes"
	"slices"

	"viaduct/connmodel"
)

// This file is what an operator sees of the flows that are open, and what may be done to one of them.

// openFlow is a flow that has no record yet.
type openFlow struct {
	rec *connmodel.Recorder
	s   *session
	t   *target // of a UDP association; nil otherwise
	// inside is what the flow is when it is a tunnel that is looked into; nil otherwise.
	inside *opened
}

// snapshot returns the flow as it is, with the bytes that its tunnel has carried so far.
func (o *openFlow) snapshot() *connmodel.Flow {
	f := o.rec.Snapshot()
	if o.t != nil {
		f.Up, f.Down = o.t.up.Load(), o.t.down.Load()
		return f
	}
	if o.inside != nil {
		f.Up, f.Down = o.inside.up.Load(), o.inside.down.Load()
		return f
	}
	f.Up, f.Down = max(f.Up, o.s.tunnel.Up()), max(f.Down, o.s.tunnel.Down())
	return f
}

// eachOpen calls f for every open flow. f must not block.
func (r *Router) eachOpen(f func(openFlow)) {
	r.sessions.each(func(s *session) {
		rec := s.flow.Load()
		if rec != nil {
			f(openFlow{rec: rec, s: s})
		}
		if o := s.inside.Load(); o != nil && o.rec != rec { // the tunnel itself, beside the request in it
			f(openFlow{rec: o.rec, s: s, inside: o})
		}
		if a := s.assoc.Load(); a != nil {
			a.each(func(t *target) { f(openFlow{rec: t.rec, s: s, t: t}) })
		}
	})
}

// Each calls f with a snapshot of every open flow, the one that began last first; sessions that are between flows are left out.
func (r *Router) Each(f func(*connmodel.Flow)) {
	r.Open(connmodel.ID{}, func(x *connmodel.Flow) bool { f(x); return true })
}

// Open is Each until f returns false, for the flows that began before the one called before, whether or not that is open; the zero ID = all.
// It returns how many are open, looked at or not; f may be nil then.
func (r *Router) Open(before connmodel.ID, f func(*connmodel.Flow) bool) (open int) {
	var list []openFlow
	r.eachOpen(func(o openFlow) {
		open++
		if f == nil {
			return
		}
		if id := o.rec.ID(); before.IsZero() || bytes.Compare(id[:], before[:]) < 0 {
			list = append(list, o)
		}
	})
	slices.SortFunc(list, func(a, b openFlow) int { // ids sort by time
		x, y := a.rec.ID(), b.rec.ID()
		return bytes.Compare(y[:], x[:])
	})
	for i := range list {
		if !f(list[i].snapshot()) {
			break
		}
	}
	return open
}

// OpenDecisions calls f with the decision of every open flow that has one. It costs less than Each. f must not block.
func (r *Router) OpenDecisions(f func(*connmodel.Decision)) {
	r.eachOpen(func(o openFlow) {
		if d := o.rec.Decision(); d != nil {
			f(d)
		}
	})
}

// watched tells whoever watches of a flow that is decided.
func (r *Router) watched(rec *connmodel.Recorder) {
	if w := r.opt.Watch; w != nil && w.Watching() {
		w.Opened(rec.Snapshot())
	}
}

// CloseFlow ends an open flow at once, whatever it does: its record says CloseAdmin. With a plain request, or a tunnel, goes the client's
// connection, or its stream; in a tunnel that is looked into requests of HTTP/2 that are under way are answered; a UDP association goes with all its targets, and one of these by itself is deaf for a while. It reports whether
// there was such a flow.
func (r *Router) CloseFlow(id connmodel.ID) bool {
	var found *openFlow
	r.eachOpen(func(o openFlow) {
		if o.rec.ID() == id {
			found = &o
		}
	})
	switch {
	case found == nil:
		return false
	case found.t != nil:
		return found.t.closeByAdmin()
	}
	return found.s.closeFlow(found.rec, found.inside)
}
