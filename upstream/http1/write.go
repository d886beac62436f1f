package http1

import "strconv"

// AppendField writes a field line. It refuses what would make two of it or
// change its name: a name that is no token, a control character in the value
// (RFC 9110 5.5).
func AppendField(dst []byte, name, value string) ([]byte, error) {
	if !IsToken(name) || !clean(value) {
		return dst, errUnsafeToWrite
	}
	dst = append(dst, name...)
	dst = append(dst, ':', ' ')
	dst = append(dst, value...)
	return append(dst, '\r', '\n'), nil
}

// AppendHeader writes every field of h as it is, without the empty line.
func AppendHeader(dst []byte, h Header) ([]byte, error) {
	var err error
	for i := range h {
		if dst, err = AppendField(dst, h[i].Name, h[i].Value); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// AppendRequest writes the head of a request as HTTP/1.1, the target in the
// form given: OriginForm to a server, AbsoluteForm to a proxy, AuthorityForm
// with CONNECT. Host comes from r.Authority (RFC 9112 3.2.2), Content-Length and
// Transfer-Encoding from r.Body, Connection and Upgrade from r.KeepAlive (false
// writes "close") and r.Upgrade; fields of these names in r.Header are not
// written. Other hop-by-hop fields are the caller's to remove, see
// StripHopByHop. RFC 9110 7.2 wants Host first.
func AppendRequest(dst []byte, r *Request, form Form) ([]byte, error) {
	start := len(dst)
	if !IsToken(r.Method) {
		return dst, errUnsafeToWrite
	}
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst, err := appendTarget(dst, r, form)
	if err != nil {
		return dst[:start], err
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst, err = appendAuthority(dst, r.Authority())
	if err != nil {
		return dst[:start], err
	}
	dst = append(dst, "\r\n"...)
	dst, err = appendOthers(dst, r.Header, r.Body.Kind != BodyChunked)
	if err != nil {
		return dst[:start], err
	}
	if form == AuthorityForm {
		return append(dst, "\r\n"...), nil // RFC 9110 9.3.6: no content
	}
	if r.Body.Kind == BodyClose {
		return dst[:start], errFramingClash // RFC 9112 6.3: requests cannot end so
	}
	dst = appendFraming(dst, r.Body)
	dst, err = appendConnection(dst, r.KeepAlive, 1, r.Upgrade, r.Header.HasToken("TE", "trailers"))
	if err != nil {
		return dst[:start], err
	}
	return append(dst, "\r\n"...), nil
}

// appendTarget writes the request target anew from its parts.
func appendTarget(dst []byte, r *Request, form Form) ([]byte, error) {
	t := &r.Target
	path := t.Path
	if checkPath(path) != nil || path == "" && form != AuthorityForm {
		return dst, errUnsafeToWrite
	}
	var err error
	switch form {
	case AuthorityForm:
		if t.Port == 0 {
			return dst, errUnsafeToWrite
		}
		return appendAuthority(dst, t.Authority)
	case AbsoluteForm:
		if t.Scheme != "http" && t.Scheme != "https" {
			return dst, errUnsafeToWrite
		}
		dst = append(append(dst, t.Scheme...), "://"...)
		if dst, err = appendAuthority(dst, r.Authority()); err != nil {
			return dst, err
		}
		if path == "*" {
			return dst, nil // RFC 9112 3.2.4
		}
	}
	if path[0] != '/' && path != "*" {
		return dst, errUnsafeToWrite
	}
	return append(dst, path...), nil
}

// appendAuthority writes an authority that somebody may have put together.
func appendAuthority(dst []byte, a Authority) ([]byte, error) {
	class := uint8(clHost)
	if a.IPLiteral {
		class = clIPv6
	}
	if a.Host == "" || !all(a.Host, class) {
		return dst, errUnsafeToWrite
	}
	return a.Append(dst), nil
}

// AppendResponse writes the head of a response as HTTP/1.1. Content-Length and
// Transfer-Encoding come from r.Body; where that is BodyNone the header's own
// Content-Length stays if the status allows one: in an answer to HEAD and in a
// 304 it tells a size (RFC 9110 8.6). Connection and Upgrade come from
// r.KeepAlive and r.Upgrade; clientMinor is the minor version of the one it goes
// to, 0 wants keep-alive said. Fields of these names in r.Header are not written.
func AppendResponse(dst []byte, r *Response, clientMinor uint8) ([]byte, error) {
	start := len(dst)
	if r.Status < 100 || r.Status > 999 || !clean(r.Reason) {
		return dst, errUnsafeToWrite
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ') // RFC 9112 4: there even without a reason
	dst = append(dst, r.Reason...)
	dst = append(dst, "\r\n"...)
	dst, err := appendOthers(dst, r.Header, r.Body.Kind != BodyChunked && r.Body.Kind != BodyNone)
	if err != nil {
		return dst[:start], err
	}
	bare := r.Status < 200 || r.Status == 204
	switch {
	case r.Body.Kind != BodyNone && bare:
		return dst[:start], errFramingClash // RFC 9112 6.3(1)
	case r.Body.Kind == BodyNone && !bare:
		if n, ok := parseDecimal(r.Header.Get("Content-Length")); ok {
			dst = appendFraming(dst, Framing{Kind: BodyLength, Length: n})
		}
	default:
		dst = appendFraming(dst, r.Body)
	}
	switch {
	case r.Status == 101:
		dst, err = appendConnection(dst, true, 1, r.Upgrade, false)
	case r.Status >= 200:
		dst, err = appendConnection(dst, r.KeepAlive, clientMinor, "", false)
	}
	if err != nil {
		return dst[:start], err
	}
	return append(dst, "\r\n"...), nil
}

func appendFraming(dst []byte, f Framing) []byte {
	switch f.Kind {
	case BodyLength:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, max(f.Length, 0), 10)
		dst = append(dst, "\r\n"...)
	case BodyChunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return dst
}

// appendConnection writes the Connection field, and Upgrade with it: each field
// of one hop must be named there (RFC 9110 7.6.1).
func appendConnection(dst []byte, keepAlive bool, minor uint8, upgrade string, te bool) ([]byte, error) {
	var err error
	if upgrade != "" {
		if dst, err = AppendField(dst, "Upgrade", upgrade); err != nil {
			return dst, err
		}
	}
	n := len(dst)
	dst = append(dst, "Connection: "...)
	bare := len(dst)
	option := func(on bool, s string) {
		if on {
			if len(dst) > bare {
				dst = append(dst, ", "...)
			}
			dst = append(dst, s...)
		}
	}
	option(!keepAlive, "close")
	option(keepAlive && minor == 0, "keep-alive")
	option(upgrade != "", "Upgrade")
	option(te, "TE")
	if len(dst) == bare {
		return dst[:n], nil
	}
	return append(dst, "\r\n"...), nil
}

// appendOthers writes the fields that AppendRequest and AppendResponse do not
// write from elsewhere. Trailer means something with chunked alone, and is a
// hint (RFC 9110 6.6.2): one that announces a field we do not pass on late is
// left out, as strict receivers refuse the message for it.
func appendOthers(dst []byte, h Header, dropTrailer bool) ([]byte, error) {
	var err error
	for i := range h {
		if written(h[i].Name) || equalFold(h[i].Name, "Trailer") && (dropTrailer || !allAllowedInTrailer(h[i].Value)) {
			continue
		}
		if dst, err = AppendField(dst, h[i].Name, h[i].Value); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// written reports whether the writers make the field of this name themselves.
func written(name string) bool {
	switch len(name) {
	case 4:
		return equalFold(name, "Host")
	case 7:
		return equalFold(name, "Upgrade")
	case 10:
		return equalFold(name, "Connection")
	case 14:
		return equalFold(name, "Content-Length")
	case 17:
		return equalFold(name, "Transfer-Encoding")
	}
	return false
}
