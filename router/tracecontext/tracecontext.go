// Package tracecontext reads and writes the header fields of W3C Trace Context (Level 2), by which programs tell each other of which trace
// a request is part. It is strict, as the recommendation is: what is not right is taken for not there. It makes no spans and exports
// nothing.
package tracecontext

import (
	"encoding/hex"
	"iter"
	"strings"

	"viaduct/connmodel"
)

// The fields.
const (
	Traceparent = "traceparent"
	Tracestate  = "tracestate"
)

const (
	maxState   = 512 // octets of tracestate that are passed on; more may be cut (section 3.3.1.5), and then is left out as a whole
	maxMembers = 32
	sampled    = 0x01
)

// Parse reads the fields of a request, each given as the values of its lines. ok is false when there is no traceparent, more than one of
// them, or one that is not valid: then the request begins a trace anew, and its tracestate means nothing.
func Parse(traceparent, tracestate iter.Seq[string]) (s connmodel.Span, ok bool) {
	n := 0
	for v := range traceparent {
		if n++; n > 1 {
			return connmodel.Span{}, false
		}
		s, ok = ParseParent(v)
	}
	if ok {
		s.State = parseState(tracestate)
	}
	return s, ok
}

// ParseParent reads one traceparent: the trace, the span that its sender is at, as Parent, and whether it is recorded.
func ParseParent(v string) (s connmodel.Span, ok bool) {
	// version-traceid-parentid-flags; versions to come may have more behind another dash (section 4.3).
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || len(v) > 55 && (v[:2] == "00" || v[55] != '-') {
		return connmodel.Span{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], v[:2]) || version[0] == 0xff || !unhex(s.Trace[:], v[3:35]) || !unhex(s.Parent[:], v[36:52]) || !unhex(flags[:], v[53:55]) {
		return connmodel.Span{}, false
	}
	if s.Trace.IsZero() || s.Parent.IsZero() {
		return connmodel.Span{}, false
	}
	s.Sampled = flags[0]&sampled != 0
	return s, true
}

// unhex reads lower case digits alone.
func unhex(dst []byte, s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// AppendParent appends a traceparent of version 00 that names the flow's own span.
func AppendParent(b []byte, s *connmodel.Span) []byte {
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, s.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, s.ID[:])
	if s.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

// parseState joins the lines of tracestate, or returns "" when one of their members is not valid, there are too many, or they are too long.
func parseState(lines iter.Seq[string]) string {
	var b strings.Builder
	seen := map[string]bool{}
	for line := range lines {
		if len(line) > 4*maxState {
			return ""
		}
		for m := range strings.SplitSeq(line, ",") {
			m = strings.Trim(m, " \t")
			if m == "" {
				continue // section 3.3.1.1: empty members are allowed
			}
			key, value, found := strings.Cut(m, "=")
			if !found || !validKey(key) || !validValue(value) || seen[key] || len(seen) == maxMembers {
				return ""
			}
			seen[key] = true
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(m)
			if b.Len() > maxState {
				return ""
			}
		}
	}
	return b.String()
}

// validKey is section 3.3.1.3.1: a lower case letter or digit, then those and _-*/, with one @ between a tenant and a system.
func validKey(k string) bool {
	tenant, system, multi := strings.Cut(k, "@")
	part := func(s string, longest int, digit bool) bool {
		if s == "" || len(s) > longest || !(s[0] >= 'a' && s[0] <= 'z' || digit && s[0] >= '0' && s[0] <= '9') {
			return false
		}
		for i := range len(s) {
			c := s[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '*' && c != '/' {
				return false
			}
		}
		return true
	}
	if multi {
		return part(tenant, 241, true) && part(system, 14, false)
	}
	return part(k, 256, true)
}

// validValue is section 3.3.1.3.2: up to 256 printable characters without comma and equals sign, of which the last is no blank.
func validValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
