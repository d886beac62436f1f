package connmodel

import "strings"

// What a filter asks that rules ask, too: it is read from the facts of the record, so that it means the same.

func filterFacts(f *Flow) (x Facts) {
	f.FactsTo(&x)
	return x
}

func (f *Facts) hello() *ClientHello {
	if f.Hello == nil {
		return &noHello
	}
	return f.Hello
}

func (f *Facts) request() *RequestFacts {
	if f.Request == nil {
		return &noRequest
	}
	return f.Request
}

func targetHost(f *Flow) string {
	if f.Gathered == nil && f.Protocol != ProtocolRedirect && f.Protocol != ProtocolTProxy {
		return f.Target.Host // as is usual
	}
	x := filterFacts(f)
	return x.Target.Host
}

func targetScheme(f *Flow) string {
	x := filterFacts(f)
	return x.Scheme
}

func sniMismatch(f *Flow) bool {
	x := filterFacts(f)
	return x.SNIMismatch()
}

func requestQuery(f *Flow) string {
	x := filterFacts(f)
	_, query, _ := strings.Cut(x.request().Path, "?")
	return query
}

func requestHeader(f *Flow, name string) string {
	x := filterFacts(f)
	if h := x.request().Header; h != nil {
		v, _ := h.Lookup(name, 0)
		return v
	}
	return ""
}

// shadowOf is what the shadow policy would have decided, else the first shadow rule that held.
func shadowOf(f *Flow) ShadowDecision {
	d := decisionOf(f)
	switch {
	case d.ShadowPolicy != nil:
		return *d.ShadowPolicy
	case len(d.Shadow) > 0:
		v := &d.Shadow[0]
		return ShadowDecision{Rule: v.Rule, File: v.File, Line: v.Line, Outcome: v.Outcome, Route: v.Route}
	}
	return noVerdict
}
