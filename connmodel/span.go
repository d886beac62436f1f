package connmodel

import "encoding/hex"

// TraceID and SpanID are what W3C Trace Context calls trace-id and parent-id. All zero is none.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// IsZero reports whether id is none.
func (id TraceID) IsZero() bool { return id == TraceID{} }

// IsZero reports whether id is none.
func (id SpanID) IsZero() bool { return id == SpanID{} }

// String returns 32 hexadecimal digits.
func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// String returns 16 hexadecimal digits.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// Span is the place of a flow in a distributed trace. It is never changed once made.
type Span struct {
	Trace   TraceID
	ID      SpanID // of the flow; zero = it has none, since nobody records it
	Parent  SpanID // what it is part of; zero = the trace begins here
	Sampled bool   // it is recorded
	Local   bool   // Parent is a span of this process: that of the tunnel that the request came in
	State   string // tracestate, as it came; "" = there was none. It is not part of the record
}

// Traced notes the place of the flow in a trace. The first one stays; nil notes nothing.
func (r *Recorder) Traced(s *Span) {
	if s == nil {
		return
	}
	if r.lock() && r.flow.Span == nil {
		r.flow.Span = s
	}
	r.unlock()
}

// Span returns what Traced noted, or nil.
func (r *Recorder) Span() *Span {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	return r.flow.Span
}

// span writes the members of a record that say where it is in a trace, with a comma before each.
func (e *encoder) span(s *Span) {
	if s == nil {
		return
	}
	e.raw(`,"trace_id":"`)
	e.b = hex.AppendEncode(e.b, s.Trace[:])
	if !s.ID.IsZero() {
		e.raw(`","span_id":"`)
		e.b = hex.AppendEncode(e.b, s.ID[:])
	}
	if !s.Parent.IsZero() {
		e.raw(`","parent_span_id":"`)
		e.b = hex.AppendEncode(e.b, s.Parent[:])
	}
	e.raw(`","trace_sampled":`)
	e.bool(s.Sampled)
}

// span returns what span has written. What is no identifier is left out: it helps nobody.
func (w *wireFlow) span() *Span {
	s := &Span{Sampled: w.TraceSampled}
	if !unhex(s.Trace[:], w.TraceID) || s.Trace.IsZero() {
		return nil
	}
	if !unhex(s.ID[:], w.SpanID) {
		s.ID = SpanID{}
	}
	if !unhex(s.Parent[:], w.ParentSpan) {
		s.Parent = SpanID{}
	}
	return s
}

func unhex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}
