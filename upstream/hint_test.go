package upstream

import (
	"testing"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// TestHints: proxies that say more than a status are understood, and their word is in the message.
func TestHints(t *testing.T) {
	for _, c := range []struct {
		status int
		field  string
		kind   connmodel.Kind
		side   connmodel.Side
		says   string
	}{
		{503, "X-Squid-Error: ERR_DNS_FAIL 0", connmodel.KindDNS, connmodel.SideServer, "ERR_DNS_FAIL"},
		{503, "X-Squid-Error: ERR_CONNECT_FAIL 111", connmodel.KindRefused, connmodel.SideServer, "ERR_CONNECT_FAIL 111"},
		{503, "X-Squid-Error: ERR_CONNECT_FAIL 110", connmodel.KindTimeout, connmodel.SideServer, "could not reach"},
		{503, "X-Squid-Error: ERR_ODD <b>", connmodel.KindUnreachable, connmodel.SideServer, "503 Service Unavailable"},
		{403, "X-Squid-Error: ERR_ACCESS_DENIED 0", connmodel.KindDenied, connmodel.SideHop, "rules do not allow"},
		{502, `Proxy-Status: origin.example; error=tls_alert_received, edge; error=connection_refused; details="x"`, connmodel.KindRefused, connmodel.SideServer, "connection_refused"},
		{502, "Proxy-Status: edge; error=http_request_denied", connmodel.KindDenied, connmodel.SideHop, "http_request_denied"},
		{502, "Proxy-Status: edge; error=", connmodel.KindUnreachable, connmodel.SideServer, "502"},
		{407, "Proxy-Status: edge; error=dns_error", connmodel.KindAuth, connmodel.SideHop, "407"},
	} {
		_, s := startProxy(t, nil, "p", "http", ut.Options{Script: []ut.Behaviour{ut.Status(c.status, "", c.field)}})
		_, err := table(t, Config{Upstreams: []Spec{s}}).Dial(t.Context(), &Request{Route: "upstream.p", Target: connmodel.Address{Host: "x.example", Port: 1}}, nil)
		if err == nil || err.Kind != c.kind || err.Side != c.side || err.Code != c.status || !containsText(err, c.says) {
			t.Errorf("%d with %s: %+v", c.status, c.field, err)
		}
	}
}
