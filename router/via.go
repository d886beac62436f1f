package router

import (
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// maxVia bounds what a CONNECT carries of the gateways it came through, in bytes.
const maxVia = 2 << 10

// connectVia returns the Via field (RFC 9110, section 7.6.3) that the CONNECT requests of this flow carry to proxies: who passed it on
// to us, then ourselves. A request that has been here before goes round in circles and would take all connections there are; it is
// refused.
func (s *session) connectVia(p *pin, h http1.Header) (string, *connmodel.ConnError) {
	name := s.r.proxyName(p)
	own := "1.1 " + name
	if s.stream {
		own = "2 " + name
	}
	if !h.Has("Via") {
		return own, nil
	}
	if h.ViaContains(name) {
		return "", loop("the CONNECT has been through this gateway before (Via)")
	}
	var b strings.Builder
	for v := range h.Values("Via") {
		b.WriteString(v)
		b.WriteString(", ")
	}
	if b.Len() > maxVia {
		return "", loop("the CONNECT has been through too many gateways (Via)")
	}
	return b.String() + own, nil
}

func loop(message string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideViaduct, Kind: connmodel.KindProtocol, Code: 508, CodeOf: "http",
		Message: "loop: " + message, Blame: connmodel.BlameClient,
	}
}
