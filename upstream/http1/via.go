package http1

import "strings"

// AppendVia writes an element of a Via field (RFC 9110 7.6.3) for a message
// received as HTTP/1.minor by the proxy of that name: a host and port, or a
// pseudonym that is a token.
func AppendVia(dst []byte, minor uint8, name string) []byte {
	dst = append(dst, '1', '.', '0'+min(minor, 1), ' ')
	return append(dst, name...)
}

// ViaContains reports whether a proxy of that name has forwarded the message
// already: then it is in a loop.
func (h Header) ViaContains(name string) bool {
	found := false
	h.via(func(by string) { found = found || equalFold(by, name) })
	return found
}

// ViaCount is the number of proxies that forwarded the message before.
func (h Header) ViaCount() (n int) {
	h.via(func(string) { n++ })
	return n
}

// via calls each with the received-by of every element. A comment may hold
// commas and, nested and quoted, nearly everything (RFC 9110 5.6.5); malformed
// elements count with what they have.
func (h Header) via(each func(by string)) {
	for i := range h {
		if !equalFold(h[i].Name, "Via") {
			continue
		}
		for rest, comments := h[i].Value, true; rest != ""; {
			var element string
			if element, rest, comments = cutElement(rest, comments); element == "" {
				continue
			}
			by := element
			if sp := strings.IndexAny(element, " \t"); sp >= 0 {
				by = trimOWS(element[sp:])
			}
			if end := strings.IndexAny(by, " \t("); end >= 0 {
				by = by[:end]
			}
			each(by)
		}
	}
}

// cutElement takes the first element off a list, heeding comments as long as
// they end: one that does not must hide nothing, and is looked for only once.
func cutElement(s string, comments bool) (first, rest string, still bool) {
	depth := 0
	for i := 0; comments && i < len(s); i++ {
		switch s[i] {
		case '\\':
			if depth > 0 {
				i++
			}
		case '(':
			depth++
		case ')':
			depth = max(depth-1, 0)
		case ',':
			if depth == 0 {
				return trimOWS(s[:i]), s[i+1:], true
			}
		}
	}
	if comments && depth == 0 {
		return trimOWS(s), "", true
	}
	first, rest = cutList(s)
	return first, rest, false
}

// MaxForwards returns the Max-Forwards of a TRACE or OPTIONS request (RFC 9110
// 7.6.2); ok is false when there is none or it is no number.
func (h Header) MaxForwards() (n int, ok bool) {
	v, ok := parseDecimal(h.Get("Max-Forwards"))
	return int(min(v, 1<<30)), ok
}
