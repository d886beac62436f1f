package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
	"viaduct/examples/hooks/gateway/gatewaytest"
)

func TestWatchTunnel(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	l := gatewaytest.NewLog()
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger)})
	c.Transport.(*http.Transport).TLSClientConfig = origin.Client().Transport.(*http.Transport).TLSClientConfig
	res, err := c.Get(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	c.CloseIdleConnections()
	addr := origin.Listener.Addr().String()
	// Which end is the first is left to chance: the client says goodbye in TLS before it closes its socket, and the origin may close its own at
	// that word; what the origin says after the client has gone, the client's system answers with a reset.
	l.Wants(t, "Client connected from: 127.0.0.1:", "Connecting to: "+addr+" (attempt 1)", "Connection state: closed", "Connected: Server("+addr+", active) by direct",
		"Server ready for writing", "Server ready for reading", " connect "+addr+" rule=direct route=direct ", " attempts=1 ", " by=")
}

func TestWatchTLS(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	l := gatewaytest.NewLog()
	d := gateway.Direct()
	d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, ServerName: "example.com", Config: &tls.Config{RootCAs: origin.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger), Decider: gateway.Always(d)})
	res, err := c.Get("http://" + origin.Listener.Addr().String())
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	res.Body.Close()
	l.Wants(t, "Connecting to: ", "TLS cipher: TLS_", `SNI: "example.com"`, "Certificate count: 1")
}
