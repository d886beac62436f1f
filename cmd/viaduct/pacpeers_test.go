package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest/peers"
)

// TestPACPeers: a PAC script names Squid, which wants a password, and tinyproxy; when Squid stops, tinyproxy stands in, under its name.
func TestPACPeers(t *testing.T) {
	peers.Need(t, "curl", "squid", "tinyproxy", "nginx", "openssl")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	keep := func(p *peers.Proc, err error) *peers.Proc {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	squid := keep(peers.Squid(ctx, dir, peers.SquidOptions{User: "svc", Password: "squid-secret"}))
	tinyproxy := keep(peers.Tinyproxy(ctx, dir, peers.TinyproxyOptions{}))
	web, err := peers.Nginx(ctx, t.TempDir(), peers.NginxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	keep(web.Proc, nil)
	script := filepath.Join(dir, "corp.pac")
	if err := os.WriteFile(script, []byte(`function FindProxyForURL(url, host) {
  return "PROXY `+squid.Addr()+`; PROXY `+tinyproxy.Addr()+`";
}`), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, `
variable "listen" { type = string }
variable "records" { type = string }
variable "squid" { type = string }
variable "tinyproxy" { type = string }
variable "script" { type = string }
gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
}
upstream "squid" {
  url = "http://${var.squid}"
  auth {
    username = "svc"
    password = "squid-secret"
  }
}
upstream "tinyproxy" {
  url = "http://${var.tinyproxy}"
}
pac "corp" {
  file = var.script
}
policy "default" {
  rule "here" {
    match { address = ["127.0.0.1/32"] }
    via = pac.corp
  }
}
`, "squid", squid.Addr(), "tinyproxy", tinyproxy.Addr(), "script", script)
	seen := 0
	ask := func(way string, args ...string) *connmodel.Flow {
		t.Helper()
		args = append([]string{"-sS", "-x", "http://" + g.addr, "http://" + web.Addr() + "/headers"}, args...)
		if body := client(t, "curl", args...); !strings.Contains(body, "host: "+web.Addr()) {
			t.Errorf("through %s:\n%s", way, body)
		}
		f := g.next(seen)
		seen++
		if f.Error != nil || f.Server == nil || f.Server.Route != way || f.Decision.Route != "pac.corp" {
			t.Fatalf("%v", f)
		}
		return f
	}
	ask("squid", "-p")
	ask("squid")
	if err := squid.Stop(); err != nil {
		t.Fatal(err)
	}
	f := ask("tinyproxy", "-p")
	if a := f.Server.Attempts; len(a) != 2 || a[0].Error == nil || a[0].Error.HopName != "squid" || a[0].Error.Kind != connmodel.KindRefused {
		t.Errorf("attempts %+v", a)
	}
	ask("tinyproxy")
}
