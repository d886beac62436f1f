package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"viaduct/examples/hooks/gateway"
	"viaduct/examples/hooks/gateway/gatewaytest"
)

func TestCertificates(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	cert := origin.Certificate()
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	addr := origin.Listener.Addr().String()
	for want, now := range map[string]time.Time{
		"": cert.NotBefore.Add(time.Hour), "certificate expired": cert.NotAfter.Add(time.Hour), "certificate not yet valid": cert.NotBefore.Add(-time.Hour), "certificate expires in 1h0m0s": cert.NotAfter.Add(-time.Hour),
	} {
		l := gatewaytest.NewLog()
		_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger, 24*time.Hour, func() time.Time { return now }), Decider: overTLS(&tls.Config{RootCAs: roots})})
		res, err := c.Get("http://" + addr)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		res.Body.Close()
		warning := ""
		if want != "" {
			warning = "WARNING: " + want
		}
		l.Wants(t, addr+`: certificate subject: "O=Acme Co"`, `issuer: "O=Acme Co"`, "valid from: 1970-01-01T00:00:00Z", "valid until: 2084-01-29T16:00:00Z", warning, `SAN entries: "example.com `, "127.0.0.1")
		if want == "" {
			if text := l.Text(); strings.Contains(text, "WARNING") {
				t.Errorf("warned of a valid certificate:\n%s", text)
			}
		}
	}
}

// A certificate that nobody vouches for is an error and never passed over.
func TestUnknownIssuer(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request went through") }))
	origin.Config.ErrorLog = gatewaytest.NewLog().Logger
	defer origin.Close()
	l := gatewaytest.NewLog()
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger, 0, time.Now), Decider: overTLS(&tls.Config{RootCAs: x509.NewCertPool()})})
	res, err := c.Get("http://" + origin.Listener.Addr().String())
	if err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatal(res, err)
	}
	res.Body.Close()
	l.Wants(t, "TLS with "+origin.Listener.Addr().String()+" failed: server: ")
}
