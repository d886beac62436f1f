package upstream

import (
	"net"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/proxyproto"
)

// introduce writes the PROXY protocol header to the server: the first bytes that it gets, before TLS. The specification asks for one
// write; it has no answer.
func (a *attempt) introduce(conn net.Conn) *HopError {
	n, q := len(a.hops)+1, a.d.q
	rec := a.element1(n, q.Target)
	err := a.arm(time.Now(), a.d.t.dialTime)
	if err == nil {
		_, err = conn.Write(proxyproto.Append(make([]byte, 0, 128), *q.Header))
	}
	if err != nil {
		return a.failure(n, connmodel.PhaseDial, err)
	}
	rec.SentProxyHeader(q.Header.Version)
	return nil
}
