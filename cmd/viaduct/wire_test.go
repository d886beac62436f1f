package main

import (
	"net/netip"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies"
)

// TestListenerThatCannotBe has a listener that policies let through and the router cannot open: it is reported with its place, for
// run and validate alike, and other listeners can be explained.
func TestListenerThatCannotBe(t *testing.T) {
	const text = `listener "good" {
  address = "127.0.0.1:3128"
}
listener "bad" {
  address = "127.0.0.1:3129"
}
policy "default" {
  otherwise { via = direct }
}
`
	cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"viaduct.hcl": []byte(text)}})
	if cfg == nil {
		t.Fatal(diags.Err())
	}
	cfg.Listeners[1].Protocols = []string{"gopher"}

	rc, table, _, problems, err := wireUp(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	table.Close()
	if len(rc.Listeners) != 2 {
		t.Errorf("%d listeners", len(rc.Listeners))
	}
	const want = `viaduct.hcl:4: Listener cannot be opened: Listener "bad": the protocol "gopher" is not known.`
	if got := (policies.Diagnostics{List: problems}).Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}

	f := &connmodel.Facts{Listener: "good", Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "www.example.com", Port: 443},
		Client: netip.MustParseAddrPort("127.0.0.1:40000"), Time: time.Now()}
	e, err := explainFlow(t.Context(), cfg, &cfg.Listeners[0], f, &question{})
	if err != nil || e.Via != "direct" {
		t.Errorf("%+v, %v", e, err)
	}
}
