package router

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

// TestClientCertificateWarning: the certificate of a client that ends soon is told of to observers and in the log; the client is served.
func TestClientCertificateWarning(t *testing.T) {
	var mu sync.Mutex
	var seen []connmodel.Event
	origin := okOrigin(t)
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		c.Listeners[0].TLS.ClientCAs, c.WarnBefore = ca.Pool(), time.Hour
		o.Hooks = &connmodel.Hooks{Observe: func(e connmodel.Event, _ func() *connmodel.Flow, _ *connmodel.Client) {
			if e.Kind == connmodel.EventCertificateWarning {
				mu.Lock()
				seen = append(seen, e)
				mu.Unlock()
			}
		}}
	})
	for _, left := range []time.Duration{30 * time.Minute, 2 * time.Hour} {
		cert := g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left)}, "anna")
		c, err := g.dialTLS(t, g.with(func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("GET http://" + strings.TrimPrefix(origin.URL, "http://") + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
		var b [16]byte
		c.Read(b[:])
		c.Close()
		f := g.records.next(t)
		if f.Client.TLSInfo == nil || f.Client.TLSInfo.Verdict != connmodel.ChainOK {
			t.Errorf("the record says %+v", f.Client.TLSInfo)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[0].Side != connmodel.SideClient || seen[0].Certificate.Reason != connmodel.ChainExpiringSoon || seen[0].Certificate.Side != connmodel.SideClient ||
		!strings.Contains(seen[0].Certificate.Message, "the client 127.0.0.1:") {
		t.Errorf("seen: %+v", seen)
	}
}
