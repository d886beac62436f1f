package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
	"viaduct/examples/hooks/gateway/gatewaytest"
)

func TestTiming(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer origin.Close()
	l := gatewaytest.NewLog()
	_, c := gatewaytest.Start(t, gateway.Options{Records: records(l.Logger)})
	for range 2 {
		res, err := c.Get(origin.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	first := "http " + origin.Listener.Addr().String() + ": total "
	l.Wants(t, first, ", decision ", ", server connect ", ", request send ", ", waiting ", ", response receive ", first, "server connection reused", ", response receive ")
}

func TestBreakdown(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	f := connmodel.DummyFlow(connmodel.Address{Host: "host.example", Port: 443})
	f.Start, f.Decided, f.End = at(0), at(1), at(100)
	f.Client.Start = at(0)
	f.Server.Start, f.Server.TCPSetup, f.Server.TLSSetup = at(2), at(12), at(32)
	f.Server.Attempts = []connmodel.Attempt{{Number: 1, Hops: []connmodel.HopResult{{Upstream: "corp_a", DNS: 3 * time.Millisecond, TCP: 4 * time.Millisecond}, {Connect: time.Millisecond}}}}
	want := "connect host.example:443: total 100ms, decision 1ms, client waits for server 2ms, server connect 10ms, server TLS 20ms, corp_a DNS 3ms, corp_a TCP 4ms, server connect 1ms"
	if got := breakdown(f); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := breakdown(&connmodel.Flow{Protocol: connmodel.ProtocolConnect}); strings.Contains(got, ",") {
		t.Errorf("parts of nothing: %s", got)
	}
}
