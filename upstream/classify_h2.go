package upstream

import (
	"errors"
	"os"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/h2"
)

// h2Row is what a proxy says of a stream, or of the connection that carries it, in place of an answer (RFC 9113, section 7).
func h2Row(e *HopError) (verdict, bool) {
	var se *h2.StreamError
	var ce *h2.ConnError
	var code http2.ErrCode
	switch {
	case errors.As(e.Err, &se):
		code = se.Code
	case errors.As(e.Err, &ce):
		if code = ce.Code; errors.Is(ce.Err, os.ErrDeadlineExceeded) {
			return verdict{whose: peers, kind: connmodel.KindTimeout, retry: true, text: e.peer() + " is silent: the HTTP/2 connection to it is dead"}, true
		}
	case errors.Is(e.Err, h2.ErrNoExtendedConnect):
		return verdict{whose: peers, kind: connmodel.KindProtocol, retry: true, text: e.peer() + " takes no WebSocket over HTTP/2; set http2 = false of upstream " + e.Upstream}, true
	default:
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindReset, retry: true}
	ours := se != nil && !se.Remote || ce != nil && !ce.Remote // it broke a rule, and we ended it
	switch {
	case ours:
		v.kind, v.text = connmodel.KindProtocol, e.peer()+" does not speak HTTP/2 as it should: "+e.Err.Error()+"; http2 = false of upstream "+e.Upstream+" does without"
	case code == http2.ErrCodeRefusedStream:
		v.kind, v.text = connmodel.KindLimit, e.peer()+" took no further stream (REFUSED_STREAM)"
	case code == http2.ErrCodeEnhanceYourCalm:
		v.kind, v.text = connmodel.KindLimit, e.peer()+" says that we ask for too much (ENHANCE_YOUR_CALM)"
	case code == http2.ErrCodeConnect: // RFC 9113 8.5: its connection to the target broke
		v.whose, v.kind, v.text = nexts, connmodel.KindReset, e.peer()+" could not keep a connection to "+e.beyond()+" (CONNECT_ERROR)"
	case code == http2.ErrCodeHTTP11Required:
		v.kind, v.text = connmodel.KindProtocol, e.peer()+" wants HTTP/1.1 (HTTP_1_1_REQUIRED); set http2 = false of upstream "+e.Upstream
	case code == http2.ErrCodeInadequateSecurity:
		v.kind, v.text = connmodel.KindTLS, e.peer()+" finds the TLS connection not safe enough for HTTP/2 (INADEQUATE_SECURITY); check min_version and ciphers of upstream "+e.Upstream
	case code == http2.ErrCodeNo, code == http2.ErrCodeCancel:
		v.text = e.peer() + " reset the connection " + e.during()
	default:
		v.kind, v.text = connmodel.KindProtocol, e.peer()+" ended it by an error of HTTP/2 "+e.during()+": "+e.Err.Error()
	}
	return v, true
}
