package router

import (
	"strconv"
	"unicode/utf8"

	"viaduct/connmodel"
)

// answer is what a failure looks like to an HTTP client.
type answer struct {
	status int
	error  string // error type of RFC 9209, section 2.3
}

// answers is the one table from what a failure means to what an HTTP client is told. SOCKS clients: see socks5Reply.
var answers = map[connmodel.Kind]answer{
	connmodel.KindRefused:     {502, "connection_refused"},
	connmodel.KindUnreachable: {502, "destination_ip_unroutable"},
	connmodel.KindTimeout:     {504, "connection_timeout"},
	connmodel.KindDNS:         {502, "dns_error"},
	connmodel.KindAuth:        {502, "proxy_configuration_error"},
	connmodel.KindDenied:      {403, "http_request_denied"},
	connmodel.KindTLS:         {502, "tls_protocol_error"},
	connmodel.KindProtocol:    {502, "http_protocol_error"},
	connmodel.KindReset:       {502, "connection_terminated"},
	connmodel.KindEOF:         {502, "connection_terminated"},
	connmodel.KindLimit:       {503, "connection_limit_reached"},
	connmodel.KindCanceled:    {503, "proxy_internal_response"},
	connmodel.KindInternal:    {500, "proxy_internal_error"},
}

// answerFor returns what an HTTP client is told about e.
func answerFor(e *connmodel.ConnError) answer {
	a, ok := answers[e.Kind]
	if !ok {
		a = answers[connmodel.KindInternal]
	}
	switch {
	case e.Side == connmodel.SideClient && e.CodeOf == "http" && e.Code >= 400:
		return answer{e.Code, "http_request_error"} // our parser's own verdict on the request
	case e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct && e.Code == 0:
		return answer{403, "destination_ip_prohibited"}
	case e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct && e.CodeOf == "http":
		return answer{e.Code, "http_request_denied"} // deny { status }
	case e.Kind == connmodel.KindTimeout && e.Phase == connmodel.PhaseResolve:
		return answer{504, "dns_timeout"}
	case e.Kind == connmodel.KindTimeout && (e.Phase == connmodel.PhaseRequest || e.Phase == connmodel.PhaseRelay):
		return answer{504, "connection_read_timeout"}
	case e.Kind == connmodel.KindTLS && e.CodeOf == "tls":
		return answer{502, "tls_alert_received"}
	case e.Kind == connmodel.KindTLS && e.Verdict != "":
		return answer{502, "tls_certificate_error"}
	case e.Kind == connmodel.KindLimit && (e.Side == connmodel.SideHop || e.Side == connmodel.SideServer):
		return answer{502, "http_response_header_section_size"} // it said more than we read
	case e.Kind == connmodel.KindProtocol && e.Code == 508:
		return answer{508, "proxy_loop_detected"}
	}
	return a
}

// socks5Reply is the same for SOCKS5 (RFC 1928, section 6).
func socks5Reply(e *connmodel.ConnError) byte {
	if e.CodeOf == "socks5" && e.Side == connmodel.SideViaduct && e.Phase == connmodel.PhaseHandshake {
		return byte(e.Code) // our own word
	}
	switch e.Kind {
	case connmodel.KindDenied:
		return 0x02 // not allowed by ruleset
	case connmodel.KindRefused:
		return 0x05
	case connmodel.KindUnreachable, connmodel.KindDNS, connmodel.KindTimeout:
		return 0x04 // host unreachable
	}
	return 0x01 // general failure
}

// appendProxyStatus writes the value of a Proxy-Status field (RFC 9209): who we are, what failed, which hop, what it said.
func appendProxyStatus(dst []byte, name string, a answer, e *connmodel.ConnError) []byte {
	dst = append(dst, name...)
	dst = append(dst, "; error="...)
	dst = append(dst, a.error...)
	if e.HopName != "" {
		dst = append(dst, "; next-hop="...)
		dst = appendSFString(dst, e.HopName)
	}
	if e.CodeOf == "http" && e.Side == connmodel.SideHop {
		dst = append(dst, "; received-status="...)
		dst = strconv.AppendInt(dst, int64(e.Code), 10)
	}
	if a.error == "tls_alert_received" {
		dst = append(dst, "; alert-id="...)
		dst = strconv.AppendInt(dst, int64(e.Code), 10)
	}
	dst = append(dst, "; details="...)
	return appendSFString(dst, e.Error())
}

// appendSFString writes an sf-string (RFC 9651, section 3.3.3): printable ASCII in quotes.
func appendSFString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s) && i < 512; i++ {
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

// appendPage writes the readable body of a failure: plain text, so that curl users and browsers can both read it.
func appendPage(dst []byte, f *flowText, e *connmodel.ConnError) []byte {
	if e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct {
		dst = append(dst, "Viaduct refused the connection"...)
	} else {
		dst = append(dst, "Viaduct could not carry the connection"...)
	}
	if f.target != "" {
		dst = append(dst, " to "...)
		dst = appendPlain(dst, f.target)
	}
	dst = append(dst, ".\n\n  "...)
	dst = appendPlain(dst, e.Error())
	dst = append(dst, '\n')
	if f.rule != "" {
		dst = append(dst, "  rule: "...)
		dst = appendPlain(dst, f.rule)
		if f.route != "" {
			dst = append(dst, ", route: "...)
			dst = appendPlain(dst, f.route)
		}
		dst = append(dst, '\n')
	}
	dst = append(dst, "  flow: "...)
	dst = append(dst, f.id...)
	return append(dst, '\n')
}

// flowText is what the page of a failure says about its flow.
type flowText struct{ id, target, rule, route string }

// appendPlain writes text without control characters and terminal escapes.
func appendPlain(dst []byte, s string) []byte {
	for i, c := range s {
		if i > 1024 {
			return append(dst, "..."...)
		}
		if c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xa0) || c == utf8.RuneError {
			c = '?'
		}
		dst = utf8.AppendRune(dst, c)
	}
	return dst
}

// reasonPhrase names the statuses that answers uses.
func reasonPhrase(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 421:
		return "Misdirected Request"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 451:
		return "Unavailable For Legal Reasons"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	case 508:
		return "Loop Detected"
	}
	return "Error"
}

// appendErrorHTTP writes the whole answer to an HTTP client. The connection is closed after it when close is set, which is
// always so after a refused CONNECT (RFC 9110, section 9.3.6: what follows may be meant for the tunnel).
func appendErrorHTTP(dst []byte, name string, f *flowText, e *connmodel.ConnError, realm string, head, close bool) []byte {
	a := answerFor(e)
	body := appendPage(make([]byte, 0, 512), f, e)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(a.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reasonPhrase(a.status)...)
	if a.status == 407 {
		dst = append(dst, "\r\nProxy-Authenticate: Basic realm="...)
		dst = appendSFString(dst, realm)
		dst = append(dst, `, charset="UTF-8"`...)
	}
	dst = append(dst, "\r\nProxy-Status: "...)
	dst = appendProxyStatus(dst, name, a, e)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	if close {
		dst = append(dst, "\r\nConnection: close"...)
	}
	dst = append(dst, "\r\n\r\n"...)
	if head {
		return dst
	}
	return append(dst, body...)
}
