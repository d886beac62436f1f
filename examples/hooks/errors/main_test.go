package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
	"viaduct/examples/hooks/gateway/gatewaytest"
)

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestErrorsAreTold(t *testing.T) {
	l := gatewaytest.NewLog()
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger, connmodel.Address{})})
	dead := closedPort(t)
	for range 2 {
		res, err := c.Get("http://" + dead)
		if err != nil || res.StatusCode != http.StatusBadGateway {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	l.Wants(t, "attempt 1 to reach "+dead+" failed: server: ", "connection error (refused, number 1): server: ", "target: "+dead+", client: Client(127.0.0.1:", `blame: "target"`,
		"server: Server("+dead+", closed, error=refused) after ", "connection error (refused, number 2)")
}

func TestFallback(t *testing.T) {
	backup := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "backup") }))
	defer backup.Close()
	to, err := connmodel.ParseAddress(backup.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := gatewaytest.NewLog()
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger, to)})
	dead := closedPort(t)
	res, err := c.Get("http://" + dead)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusOK || string(body) != "backup" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	l.Wants(t, "attempt 1 to reach "+dead+" failed", "sending "+dead+" to "+to.String()+" instead")
}

// A fallback that is down too ends the matter.
func TestFallbackIsDown(t *testing.T) {
	l := gatewaytest.NewLog()
	to, err := connmodel.ParseAddress(closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: hooks(l.Logger, to)})
	res, err := c.Get("http://" + closedPort(t))
	if err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatal(res, err)
	}
	res.Body.Close()
	l.Wants(t, "instead", "to reach "+to.String()+" failed", "connection error (refused, number 1)")
}

func TestCategory(t *testing.T) {
	for kind, want := range map[connmodel.Kind]string{
		connmodel.KindRefused: "connection", connmodel.KindTimeout: "connection", connmodel.KindDNS: "name", connmodel.KindTLS: "certificate or TLS", connmodel.KindDenied: "permission",
		connmodel.KindAuth: "permission", connmodel.KindCanceled: "client left", connmodel.KindInternal: "fault", connmodel.KindProtocol: "fault",
	} {
		// The message says "connection" every time: it does not count.
		if got := category(&connmodel.ConnError{Kind: kind, Message: "connection trouble"}); got != want {
			t.Errorf("%s is %q", kind, got)
		}
	}
}
