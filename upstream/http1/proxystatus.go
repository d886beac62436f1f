package http1

import "strconv"

// ProxyStatus is one member of a Proxy-Status field (RFC 9209): what a proxy
// has to say of a response. Empty parts are left out.
type ProxyStatus struct {
	Name           string // of the proxy
	Error          string // a type of RFC 9209 2.3, such as "connection_timeout"; must be a token
	NextHop        string // who was asked
	NextProtocol   string // ALPN identifier
	ReceivedStatus int    // what the next hop answered
	Details        string // for a human
}

// AppendProxyStatus writes the value of a Proxy-Status field. Every byte given
// comes out harmless: a name that is no token is written as a string, what a
// structured string cannot hold (RFC 8941 3.3.3) becomes "?".
func AppendProxyStatus(dst []byte, s ProxyStatus) []byte {
	dst = appendItem(dst, s.Name)
	if isSFToken(s.Error) {
		dst = append(dst, "; error="...)
		dst = append(dst, s.Error...)
	}
	if s.NextHop != "" {
		dst = appendItem(append(dst, "; next-hop="...), s.NextHop)
	}
	if s.NextProtocol != "" {
		dst = appendItem(append(dst, "; next-protocol="...), s.NextProtocol)
	}
	if s.ReceivedStatus > 0 {
		dst = append(dst, "; received-status="...)
		dst = strconv.AppendInt(dst, int64(s.ReceivedStatus), 10)
	}
	if s.Details != "" {
		dst = appendSFString(append(dst, "; details="...), s.Details)
	}
	return dst
}

// appendItem writes s as a token if it is one, else as a string.
func appendItem(dst []byte, s string) []byte {
	if isSFToken(s) {
		return append(dst, s...)
	}
	return appendSFString(dst, s)
}

// isSFToken is RFC 8941 3.3.4: a letter or "*", then tchar, ":" and "/".
func isSFToken(s string) bool {
	if s == "" || s[0] != '*' && (lower(s[0]) < 'a' || lower(s[0]) > 'z') {
		return false
	}
	for i := range len(s) {
		if classes[s[i]]&clToken == 0 && s[i] != ':' && s[i] != '/' {
			return false
		}
	}
	return true
}

func appendSFString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c > 0x7e:
			dst = append(dst, '?')
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
