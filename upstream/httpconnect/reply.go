package httpconnect

import "viaduct/upstream/http1"

// AppendEstablished writes the reply that opens a tunnel. h are further fields;
// framing fields have no place in it (RFC 9110 9.3.6) and are not written.
func AppendEstablished(dst []byte, h http1.Header) ([]byte, error) {
	return http1.AppendResponse(dst, &http1.Response{
		Status: 200, Reason: "Connection established", Header: without(h), KeepAlive: true,
	}, 1)
}

// without leaves out Content-Length, which a response without a body may keep.
func without(h http1.Header) http1.Header {
	if h.Has("Content-Length") {
		h = h.Clone()
		h.Del("Content-Length")
	}
	return h
}

// AppendRefused writes a reply that does not open one, with its body. The
// connection has to be closed behind it: the client may have sent the first
// bytes of its tunnel already, and those are no request (RFC 9110 9.3.6).
func AppendRefused(dst []byte, status int, reason string, h http1.Header, body []byte) ([]byte, error) {
	dst, err := http1.AppendResponse(dst, &http1.Response{
		Status: status, Reason: reason, Header: h,
		Body: http1.Framing{Kind: http1.BodyLength, Length: int64(len(body))},
	}, 1)
	if err != nil {
		return dst, err
	}
	return append(dst, body...), nil
}
