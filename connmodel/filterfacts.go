package connmodel

import "strings"

// What a filter asks that rules ask, too.

func targetHost(f *Flow) string {
	if h := helloOf(f); h.SNI != "" && (f.Protocol == ProtocolRedirect || f.Protocol == ProtocolTProxy) {
		return h.SNI
	}
	return f.Target.Host
}

func targetScheme(f *Flow) string {
	if f.Request == nil {
		return ""
	}
	return f.Request.Scheme
}

func sniMismatch(f *Flow) bool {
	h := helloOf(f)
	return h.SNI != "" && !f.Target.IP().IsValid() && h.SNI != f.Target.Host
}

func requestFacts(f *Flow) RequestFacts {
	if f.Request == nil {
		return RequestFacts{}
	}
	return RequestFacts{Method: f.Request.Method, Path: f.Request.Path}
}

func requestQuery(f *Flow) string {
	_, query, _ := strings.Cut(requestFacts(f).Path, "?")
	return query
}

func requestHeader(*Flow, string) string { return "" }

// shadow is the first verdict of a shadow rule.
func shadowOf(f *Flow) *ShadowVerdict {
	if list := decisionOf(f).Shadow; len(list) > 0 {
		return &list[0]
	}
	return &noVerdict
}

// shadowDiffers reports whether a shadow rule would have done something else than was done.
func shadowDiffers(f *Flow) bool {
	d := decisionOf(f)
	for i := range d.Shadow {
		if v := &d.Shadow[i]; v.Outcome != d.Outcome || v.Route != d.Route {
			return true
		}
	}
	return false
}
