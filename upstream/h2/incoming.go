package h2

import (
	"strconv"

	"viaduct/upstream/http1"
)

// incoming makes HTTP/1.1 of what comes: it is read as head, then body.
type incoming struct {
	pre     []byte // HTTP/1.1 that goes before the data
	headed  bool   // the final head has come
	interim int    // 1xx before it
	raw     bool   // a tunnel: data as it is
	held    bool   // ... which we have not granted yet: nothing of it is read
	body    http1.Framing
	left    int64 // BodyLength: what is to come
	none    bool  // no content may come, whatever the length says; to a server: what comes is dropped
	server  bool
	chunk   int    // of a chunk that was begun, what is to be given out
	trailer []byte // field lines
	ended   bool   // the last chunk is in pre

	method string // of the request that this is, or answers
	accept string // client: of the WebSocket handshake
	socket bool   // WebSocket by extended CONNECT
}

// account takes n bytes of content off what was announced. It returns what is wrong, "" for nothing.
func (in *incoming) account(n int, end bool) string {
	switch {
	case !in.headed:
		return "DATA before HEADERS"
	case in.raw, in.none && in.server:
		return ""
	case in.none && n > 0:
		return "content where there is none"
	case in.none || in.body.Kind != http1.BodyLength:
		return ""
	}
	if in.left -= int64(n); in.left < 0 || end && in.left > 0 { // RFC 9113 8.1.1
		return "content unlike content-length"
	}
	return ""
}

// fill reads what is there into p.
func (s *Stream) fill(p []byte) (n int) {
	in := &s.in
	for n < len(p) {
		if len(in.pre) > 0 {
			m := copy(p[n:], in.pre)
			n += m
			if in.pre = in.pre[m:]; len(in.pre) == 0 {
				in.pre = nil
			}
			continue
		}
		have := s.buf.len()
		if in.held {
			break
		}
		if !in.chunked() {
			if have == 0 {
				break
			}
			m := s.buf.get(p[n:])
			n += m
			s.consumed(m)
			continue
		}
		switch {
		case in.chunk > 0:
			m := s.buf.get(p[n:min(len(p), n+in.chunk)])
			n += m
			if in.chunk -= m; in.chunk == 0 {
				in.pre = append(in.pre, "\r\n"...)
			}
			s.consumed(m)
		case have > 0:
			in.chunk = have
			in.pre = append(strconv.AppendInt(nil, int64(have), 16), "\r\n"...)
		case s.remoteEnd && !in.ended:
			in.ended = true
			in.pre = append(append([]byte("0\r\n"), in.trailer...), "\r\n"...)
			in.trailer = nil
		default:
			return n
		}
	}
	return n
}

func (in *incoming) chunked() bool { return !in.raw && in.body.Kind == http1.BodyChunked }

// ready reports whether fill would give something.
func (in *incoming) ready(s *Stream) bool {
	return len(in.pre) > 0 || s.buf.len() > 0 && !in.held || in.chunked() && s.remoteEnd && !in.ended
}

// drained reports whether all that has come has been read.
func (in *incoming) drained(s *Stream) bool { return !in.ready(s) && !in.held }

// complete reports whether a server has the whole request, whatever may still come.
func (in *incoming) complete(s *Stream) bool {
	return s.remoteEnd || in.none || in.body.Kind == http1.BodyLength && in.left == 0
}
