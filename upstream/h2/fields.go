package h2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"viaduct/upstream/http1"
)

// list is a header list, taken apart (RFC 9113 8.2, 8.3).
type list struct {
	method, scheme, authority, path, protocol, status string

	has    uint8 // pseudo-fields that were there
	header http1.Header
	length int64 // content-length; -1 = none
	host   string
	hosts  int
}

const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasProtocol
	hasStatus
)

// kind of a list.
type kind uint8

const (
	requestList kind = iota
	responseList
	trailerList
)

// connectionSpecific names the fields that a message of HTTP/2 must not have (RFC 9113 8.2.2).
func connectionSpecific(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
		return true
	}
	return false
}

// parse takes fields apart. It returns what makes them malformed, "" for nothing.
func (l *list) parse(fields []hpack.HeaderField, k kind) string {
	*l = list{length: -1, header: make(http1.Header, 0, len(fields))}
	if len(fields) > maxFields+4 {
		return "too many fields"
	}
	cookie, regular := -1, false
	for _, f := range fields {
		if strings.HasPrefix(f.Name, ":") {
			if regular {
				return "a pseudo-field behind others" // RFC 9113 8.3
			}
			if reason := l.pseudo(f, k); reason != "" {
				return reason
			}
			continue
		}
		regular = true
		switch {
		case !http1.IsToken(f.Name):
			return "malformed field name"
		case strings.ToLower(f.Name) != f.Name:
			return "a field name in capitals" // RFC 9113 8.2.1
		case !http1.IsFieldValue(f.Value):
			return "malformed field value"
		case connectionSpecific(f.Name):
			return "a field of one connection"
		}
		switch f.Name {
		case "te":
			if f.Value != "trailers" || k == responseList {
				return "TE other than trailers"
			}
		case "host":
			if k == requestList {
				l.host = f.Value
				if l.hosts++; l.hosts > 1 {
					return "several Host fields"
				}
				continue
			}
		case "content-length":
			if k == trailerList {
				return "content-length in a trailer section"
			}
			if reason := l.contentLength(f.Value); reason != "" {
				return reason
			}
		case "cookie":
			if k == requestList { // RFC 9113 8.2.3
				if cookie >= 0 {
					l.header[cookie].Value += "; " + f.Value
					continue
				}
				cookie = len(l.header)
			}
		}
		l.header = append(l.header, http1.Field{Name: f.Name, Value: f.Value})
	}
	return ""
}

func (l *list) pseudo(f hpack.HeaderField, k kind) string {
	var to *string
	var bit uint8
	switch {
	case k == requestList && f.Name == ":method":
		to, bit = &l.method, hasMethod
	case k == requestList && f.Name == ":scheme":
		to, bit = &l.scheme, hasScheme
	case k == requestList && f.Name == ":authority":
		to, bit = &l.authority, hasAuthority
	case k == requestList && f.Name == ":path":
		to, bit = &l.path, hasPath
	case k == requestList && f.Name == ":protocol":
		to, bit = &l.protocol, hasProtocol
	case k == responseList && f.Name == ":status":
		to, bit = &l.status, hasStatus
	default:
		return "a pseudo-field that does not belong here"
	}
	switch {
	case l.has&bit != 0:
		return "a pseudo-field twice"
	case !http1.IsFieldValue(f.Value):
		return "malformed pseudo-field"
	}
	l.has |= bit
	*to = f.Value
	return ""
}

// contentLength accepts 1*DIGIT below 2^63; several must say the same.
func (l *list) contentLength(v string) string {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return "malformed content-length"
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return "malformed content-length"
	}
	if l.length >= 0 && l.length != n {
		return "several values of content-length"
	}
	l.length = n
	return ""
}

// framing is that of the message in HTTP/1.1. Where the length is not known it is chunked.
func (l *list) framing(end bool) (f http1.Framing, reason string) {
	switch {
	case end && l.length > 0:
		return f, "content unlike content-length"
	case l.length >= 0:
		return http1.Framing{Kind: http1.BodyLength, Length: l.length}, ""
	case end:
		return f, ""
	}
	return http1.Framing{Kind: http1.BodyChunked}, ""
}

// trailers takes a header list behind the content.
func (s *Stream) trailers(fields []hpack.HeaderField, end bool) string {
	if !end {
		return "HEADERS that neither begin nor end the message"
	}
	var l list
	if reason := l.parse(fields, trailerList); reason != "" {
		return reason
	}
	if s.in.raw {
		return "trailers in a tunnel"
	}
	if reason := s.in.account(0, true); reason != "" {
		return reason
	}
	if s.in.chunked() {
		b, err := http1.AppendHeader(nil, l.header)
		if err != nil {
			return "malformed trailer section"
		}
		s.in.trailer = b
	}
	s.remoteEnded()
	s.rcond.Broadcast()
	return ""
}
