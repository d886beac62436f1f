package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"viaduct/examples/hooks/gateway"
	"viaduct/examples/hooks/gateway/gatewaytest"
)

func TestBlock(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer origin.Close()
	l := gatewaytest.NewLog()
	var b blocklist
	_, c := gatewaytest.Start(t, gateway.Options{Hooks: b.hooks(l.Logger)})
	get := func() error {
		res, err := c.Get(origin.URL)
		if err == nil {
			res.Body.Close()
		}
		c.CloseIdleConnections()
		return err
	}
	if err := get(); err != nil {
		t.Fatalf("with no list: %v", err)
	}
	for _, list := range []string{"127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "::ffff:127.0.0.0/104"} {
		if err := b.Set(list); err != nil {
			t.Fatal(err)
		}
		if err := get(); err == nil {
			t.Errorf("%s: served", list)
		}
	}
	if err := b.Set("127.0.0.2,192.0.2.0/24,"); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
	l.Wants(t, "Client 127.0.0.1:", " connected", " blocked by 127.0.0.1/32", " blocked by 127.0.0.0/8", " blocked by 127.0.0.0/8", " connected")
	if err := b.Set("nonsense"); err == nil {
		t.Error("nonsense is taken")
	}
}
