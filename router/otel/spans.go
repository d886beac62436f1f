package otel

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"viaduct/connmodel"
)

// maxSpans bounds what one flow brings: a pool that was tried to the end may have 64 attempts of 32 hops.
const maxSpans = 200

// ids gives spans the identifiers that the flow was given when it began; its parts get new ones.
type ids struct{}

type idKey struct{}

// NewIDs implements sdktrace.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if s, ok := ctx.Value(idKey{}).(*connmodel.Span); ok {
		return trace.TraceID(s.Trace), trace.SpanID(s.ID)
	}
	return trace.TraceID(random16()), trace.SpanID(random8())
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if s, ok := ctx.Value(idKey{}).(*connmodel.Span); ok {
		return trace.SpanID(s.ID)
	}
	return trace.SpanID(random8())
}

// maker makes the spans of one flow.
type maker struct {
	t    *Tracer
	f    *connmodel.Flow
	left int
	cut  bool
}

// spans makes one span for the flow, and in it those of the decision, of each attempt with its hops and their parts, and of what was carried.
func (t *Tracer) spans(f *connmodel.Flow) {
	m := &maker{t: t, f: f, left: maxSpans}
	ctx := context.WithValue(context.Background(), idKey{}, f.Span)
	if !f.Span.Parent.IsZero() {
		c := trace.SpanContextConfig{TraceID: trace.TraceID(f.Span.Trace), SpanID: trace.SpanID(f.Span.Parent), TraceFlags: trace.FlagsSampled, Remote: !f.Span.Local}
		if state, err := trace.ParseTraceState(f.Span.State); err == nil {
			c.TraceState = state
		}
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(c))
	}
	ctx, root := t.tracer.Start(ctx, nameOf(f), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(f.Start), trace.WithAttributes(rootAttributes(f)...))
	ctx = context.WithValue(ctx, idKey{}, nil)
	if !f.Decided.IsZero() {
		m.child(ctx, "decide", trace.SpanKindInternal, f.Start, f.Decided, decisionAttributes(f.Decision))
	}
	if s := f.Server; s != nil {
		for i := range s.Attempts {
			if a := &s.Attempts[i]; !a.Start.Before(f.Start) { // else it was another flow's, whose connection this one uses
				m.attempt(ctx, a)
			}
		}
	}
	m.carried(ctx)
	if m.cut {
		root.SetAttributes(attribute.Bool("viaduct.spans.truncated", true))
	}
	if e := f.Error; e != nil {
		fail(root, e, e.Kind != connmodel.KindDenied && e.Side != connmodel.SideClient)
	}
	root.End(trace.WithTimestamp(f.End))
}

// nameOf is the name of a flow's span: the method, or how the client asked. It holds nothing that a client made up.
func nameOf(f *connmodel.Flow) string {
	switch {
	case f.Request != nil:
		return method(f.Request.Method)
	case f.Protocol == connmodel.ProtocolConnect:
		return "CONNECT"
	case f.Protocol == "":
		return "unknown"
	}
	return string(f.Protocol)
}

// method returns m if it is one that is known, and _OTHER otherwise, as the conventions want it.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return m
	}
	return "_OTHER"
}

// begin begins a span within ctx; end it with End. ok is false when there are enough.
func (m *maker) begin(ctx context.Context, name string, kind trace.SpanKind, from time.Time, list []attribute.KeyValue) (context.Context, trace.Span, bool) {
	if m.left == 0 {
		m.cut = true
		return ctx, nil, false
	}
	m.left--
	ctx, s := m.t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(from), trace.WithAttributes(list...))
	return ctx, s, true
}

func (m *maker) child(ctx context.Context, name string, kind trace.SpanKind, from, to time.Time, list []attribute.KeyValue) {
	if _, s, ok := m.begin(ctx, name, kind, from, list); ok {
		s.End(trace.WithTimestamp(later(to, from)))
	}
}

func later(t, than time.Time) time.Time {
	if t.Before(than) {
		return than
	}
	return t
}

// attempt makes the span of one try at a route.
func (m *maker) attempt(ctx context.Context, a *connmodel.Attempt) {
	ctx, s, ok := m.begin(ctx, "attempt", trace.SpanKindInternal, a.Start, []attribute.KeyValue{
		attribute.Int("viaduct.attempt.number", a.Number), attribute.String("viaduct.route.used", a.Route),
	})
	if !ok {
		return
	}
	end := later(a.End, a.Start)
	for i := range a.Hops {
		m.hop(ctx, &a.Hops[i], end)
	}
	if a.Error != nil {
		fail(s, a.Error, true)
	}
	s.End(trace.WithTimestamp(end))
}

// hop makes the span of a proxy, or of the server itself, and in it one for each part that took time. Records have how long the parts took
// and not when they began: they follow each other.
func (m *maker) hop(ctx context.Context, h *connmodel.HopResult, attempted time.Time) {
	name := "server"
	if h.Upstream != "" {
		name = "hop " + h.Upstream
	}
	ctx, s, ok := m.begin(ctx, name, trace.SpanKindClient, h.Start, hopAttributes(h))
	if !ok {
		return
	}
	at := h.Start
	for _, p := range [...]struct {
		name string
		took time.Duration
	}{{"dns", h.DNS}, {"tcp", h.TCP}, {"tls", h.TLS}, {"greeting", h.Greeting}, {"auth", h.Auth}, {"connect", h.Connect}} {
		if p.took > 0 {
			m.child(ctx, p.name, trace.SpanKindInternal, at, at.Add(p.took), nil)
			at = at.Add(p.took)
		}
	}
	end := at
	if h.Total > 0 {
		end = later(h.Start.Add(h.Total), at)
	} else if h.Error == nil {
		end = later(attempted, at)
	}
	if h.Error != nil {
		fail(s, h.Error, true)
	}
	s.End(trace.WithTimestamp(end))
}

// carried makes the span of the request or tunnel once the way was there.
func (m *maker) carried(ctx context.Context) {
	f := m.f
	if f.Server == nil || f.Decided.IsZero() {
		return
	}
	from, connected := f.Decided, false
	for i := range f.Server.Attempts {
		if a := &f.Server.Attempts[i]; a.Connected() {
			from, connected = later(a.End, from), true
		}
	}
	if !connected && !f.Server.Reused {
		return
	}
	name, kind := "relay", trace.SpanKindInternal
	list := []attribute.KeyValue{attribute.Int64("viaduct.bytes.up", f.Up), attribute.Int64("viaduct.bytes.down", f.Down)}
	if q := f.Request; q != nil {
		name, kind = method(q.Method), trace.SpanKindClient
		list = append(list, attribute.String("http.request.method", method(q.Method)))
		list = append(list, address("server.", f.Server.Address)...)
		if f.Server.Reused {
			list = append(list, attribute.Bool("viaduct.connection.reused", true), attribute.String("viaduct.route.used", f.Server.Route))
		}
		if p := f.Response; p != nil {
			list = append(list, attribute.Int("http.response.status_code", p.Status))
		}
	}
	_, s, ok := m.begin(ctx, name, kind, from, list)
	if !ok {
		return
	}
	if p := f.Response; p != nil {
		s.AddEvent("response", trace.WithTimestamp(p.Start))
		if p.Status >= 400 && f.Request != nil { // for clients the conventions call that an error
			s.SetStatus(codes.Error, "")
			s.SetAttributes(attribute.String("error.type", strconv.Itoa(p.Status)))
		}
	}
	if e := f.Error; e != nil {
		fail(s, e, true)
	}
	s.End(trace.WithTimestamp(later(f.End, from)))
}

// fail notes an error; isError says that it makes the span a failed one. A client that is refused, or leaves, is no failure of ours.
func fail(s trace.Span, e *connmodel.ConnError, isError bool) {
	if isError {
		s.SetStatus(codes.Error, e.Error())
	}
	list := []attribute.KeyValue{
		attribute.String("error.type", string(e.Kind)), attribute.String("viaduct.error.phase", string(e.Phase)), attribute.String("viaduct.error.side", string(e.Side)),
		attribute.String("viaduct.error.message", e.Error()),
	}
	if e.Hop > 0 {
		list = append(list, attribute.Int("viaduct.error.hop", e.Hop), attribute.String("viaduct.error.hop_name", e.HopName))
	}
	if e.Blame != "" {
		list = append(list, attribute.String("viaduct.error.blame", string(e.Blame)))
	}
	if e.CodeOf != "" {
		list = append(list, attribute.Int("viaduct.error.code", e.Code), attribute.String("viaduct.error.code_of", e.CodeOf))
	}
	s.SetAttributes(list...)
}

func rootAttributes(f *connmodel.Flow) []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.String("viaduct.flow.id", f.ID.String()), attribute.String("viaduct.session.id", f.Session.String()),
		attribute.Int64("viaduct.generation", int64(f.Generation)), attribute.String("viaduct.protocol", string(f.Protocol)),
		attribute.Int64("viaduct.bytes.up", f.Up), attribute.Int64("viaduct.bytes.down", f.Down), attribute.String("viaduct.close_reason", string(f.Reason)),
	}
	if f.First != "" {
		list = append(list, attribute.String("viaduct.closed_first", string(f.First)))
	}
	list = append(list, address("server.", f.Target)...)
	if c := f.Client; c != nil {
		list = append(list, attribute.String("viaduct.listener", c.Listener))
		list = append(list, socket("client.", c.From())...)
		list = append(list, socket("network.peer.", c.Peer)...)
		list = append(list, socket("network.local.", c.Local)...)
		if c.User != "" {
			list = append(list, attribute.String("user.name", c.User))
		}
		list = append(list, tlsAttributes(c.TLSInfo, false)...)
		if h := c.Hello; h != nil && h.SNI != "" {
			list = append(list, attribute.String("viaduct.tunnel.sni", h.SNI))
		}
	}
	if s := f.Server; s != nil && s.Route != "" {
		list = append(list, attribute.String("viaduct.route.used", s.Route))
	}
	list = append(list, decisionAttributes(f.Decision)...)
	switch q := f.Request; {
	case q != nil:
		list = append(list, attribute.String("http.request.method", method(q.Method)), attribute.String("url.scheme", q.Scheme))
		if method(q.Method) != q.Method {
			list = append(list, attribute.String("http.request.method_original", q.Method))
		}
		path, _, _ := strings.Cut(q.Path, "?") // what is asked for may be secret
		list = append(list, attribute.String("url.path", path))
		if !q.Tunnel.IsZero() {
			list = append(list, attribute.String("viaduct.tunnel.flow.id", q.Tunnel.String()))
		}
	case f.Protocol == connmodel.ProtocolConnect:
		list = append(list, attribute.String("http.request.method", "CONNECT"))
	}
	switch {
	case f.Response != nil:
		list = append(list, attribute.Int("http.response.status_code", f.Response.Status))
	case f.Reply != nil && (f.Protocol == connmodel.ProtocolHTTP || f.Protocol == connmodel.ProtocolConnect || f.Request != nil):
		list = append(list, attribute.Int("http.response.status_code", int(f.Reply.Code)))
	case f.Reply != nil:
		list = append(list, attribute.Int("viaduct.reply.code", int(f.Reply.Code)))
	}
	return list
}

func decisionAttributes(d *connmodel.Decision) []attribute.KeyValue {
	if d == nil {
		return nil
	}
	list := []attribute.KeyValue{
		attribute.String("viaduct.policy", d.Policy), attribute.String("viaduct.rule", d.Rule), attribute.String("viaduct.outcome", string(d.Outcome)),
	}
	if at := d.Where(); at != "" {
		list = append(list, attribute.String("viaduct.rule.location", at))
	}
	if d.Route != "" {
		list = append(list, attribute.String("viaduct.route", d.Route))
	}
	if len(d.Tags) > 0 {
		list = append(list, attribute.StringSlice("viaduct.tags", d.Tags))
	}
	return list
}

func hopAttributes(h *connmodel.HopResult) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.Int("viaduct.hop.index", int(h.Index)), attribute.String("network.protocol.name", h.Protocol)}
	list = append(list, address("server.", h.Address)...)
	list = append(list, socket("network.peer.", h.Peer)...)
	list = append(list, socket("network.local.", h.Local)...)
	for _, x := range [...]struct{ key, value string }{{"viaduct.upstream", h.Upstream}, {"viaduct.credential", h.Credential}, {"viaduct.hop.bound_address", h.BoundAddr}} {
		if x.value != "" {
			list = append(list, attribute.String(x.key, x.value))
		}
	}
	if h.AuthRounds > 0 {
		list = append(list, attribute.Int("viaduct.hop.auth_rounds", int(h.AuthRounds)))
	}
	if h.Reused {
		list = append(list, attribute.Bool("viaduct.connection.reused", true))
	}
	if r := h.Resolved; r != nil {
		list = append(list, attribute.String("viaduct.resolver", r.Resolver), attribute.String("viaduct.resolved_from", r.From))
	}
	return append(list, tlsAttributes(h.TLSInfo, true)...)
}

// tlsAttributes are those of a handshake. toServer says that the other end is the server of it.
func tlsAttributes(t *connmodel.TLSInfo, toServer bool) []attribute.KeyValue {
	if t == nil {
		return nil
	}
	list := []attribute.KeyValue{attribute.String("tls.protocol.name", "tls"), attribute.Bool("tls.resumed", t.Resumed)}
	if v, ok := strings.CutPrefix(t.Version, "TLS "); ok {
		list = append(list, attribute.String("tls.protocol.version", v))
	}
	if t.Cipher != "" {
		list = append(list, attribute.String("tls.cipher", t.Cipher))
	}
	if t.ALPN != nil && *t.ALPN != "" {
		list = append(list, attribute.String("tls.next_protocol", *t.ALPN))
	}
	if t.SNI != "" {
		list = append(list, attribute.String("tls.client.server_name", t.SNI))
	}
	if t.Verdict != "" {
		list = append(list, attribute.String("viaduct.tls.verdict", string(t.Verdict)))
	}
	if len(t.Certificates) > 0 {
		who, c := "tls.client.", &t.Certificates[0]
		if toServer {
			who = "tls.server."
		}
		list = append(list, attribute.String(who+"subject", c.Subject), attribute.String(who+"issuer", c.Issuer), attribute.String(who+"not_after", c.NotAfter.UTC().Format(time.RFC3339)),
			attribute.String(who+"hash.sha256", strings.ToUpper(c.SHA256)))
	}
	return list
}

func address(prefix string, a connmodel.Address) []attribute.KeyValue {
	if a.IsZero() {
		return nil
	}
	return []attribute.KeyValue{attribute.String(prefix+"address", a.Host), attribute.Int(prefix+"port", int(a.Port))}
}

func socket(prefix string, a netip.AddrPort) []attribute.KeyValue {
	if !a.IsValid() {
		return nil
	}
	return []attribute.KeyValue{attribute.String(prefix+"address", a.Addr().String()), attribute.Int(prefix+"port", int(a.Port()))}
}
