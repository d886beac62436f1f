package router

import (
	"viaduct/connmodel"
	"viaduct/router/tracecontext"
	"viaduct/upstream/http1"
)

// Tracing gives flows their places in distributed traces, and takes their records. Its methods may be called from any goroutine, and do
// not wait.
type Tracing interface {
	// Begin returns where a flow is in a trace, or nil when it is in none. ok says that parent was told.
	Begin(parent connmodel.Span, ok bool) *connmodel.Span
	// Record takes the record of a flow that Begin has returned a place for.
	Record(f *connmodel.Flow)
}

// trace finds out of which trace a flow is part, where the configuration wants to know: what the fields of its request say (h; nil = there
// are none), or for a request in an opened tunnel, the tunnel's trace.
func (s *session) trace(p *pin, rec *connmodel.Recorder, h *http1.Header) *connmodel.Span {
	t := p.gen.cfg.Traces
	if t == nil {
		return nil
	}
	var parent connmodel.Span
	ok := false
	if h != nil {
		parent, ok = tracecontext.Parse(h.Values(tracecontext.Traceparent), h.Values(tracecontext.Tracestate))
	}
	if o := s.inner; !ok && o != nil {
		if on := o.rec.Span(); on != nil && !on.ID.IsZero() {
			parent, ok = connmodel.Span{Trace: on.Trace, Parent: on.ID, Sampled: on.Sampled, Local: true, State: on.State}, true
		}
	}
	span := t.Begin(parent, ok)
	rec.Traced(span)
	return span
}

// tellTrace puts the flow's own span into the fields that go on. Where nobody records it they stay as they came: the client's span is then
// the last that there is.
func tellTrace(h *http1.Header, span *connmodel.Span) {
	if span == nil || span.ID.IsZero() {
		return
	}
	h.Set(tracecontext.Traceparent, string(tracecontext.AppendParent(nil, span)))
	if span.State == "" {
		h.Del(tracecontext.Tracestate)
	} else {
		h.Set(tracecontext.Tracestate, span.State)
	}
}

// traced hands the record of a flow that is in a trace to whoever makes spans of it.
func (r *Router) traced(f *connmodel.Flow) {
	if f.Span == nil {
		return
	}
	if g := r.current.Load(); g != nil && g.cfg.Traces != nil {
		g.cfg.Traces.Record(f)
	}
}
