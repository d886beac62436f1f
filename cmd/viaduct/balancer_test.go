package main

import (
	"os/exec"
	"strings"
	"testing"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

const balancerPolicy = `
variable "listen" {}
variable "records" {}
variable "plain" {}
variable "secure" {}
variable "ca" {}
variable "haproxy" {}

gateway {
  records { path = var.records }
}
listener "behind" {
  address = var.listen
  proxy_protocol {
    from   = "127.0.0.1"
    others = "refuse"
  }
}
policy "default" {
  rule "nginx, version 1" {
    match { host = "one.example" }
    via                 = direct
    server              = var.plain
    send_proxy_protocol = 1
  }
  rule "nginx over TLS, version 2" {
    match { host = "two.example" }
    via                 = direct
    server              = var.secure
    send_proxy_protocol = 2
    tls {
      mode        = "upgrade"
      server_name = "localhost"
      ca          = var.ca
    }
  }
  rule "haproxy, version 1" {
    match { host = "three.example" }
    via                 = direct
    server              = var.haproxy
    send_proxy_protocol = 1
  }
  rule "haproxy, version 2" {
    match { host = "four.example" }
    via                 = direct
    server              = var.haproxy
    send_proxy_protocol = 2
  }
}
`

// TestBalancers: HAProxy in front of the gateway says whose connection it brings, and nginx and HAProxy behind it are told the same.
func TestBalancers(t *testing.T) {
	peers.Need(t, "haproxy", "nginx", "curl")
	ca := upstreamtest.MustCA(t)
	dir := t.TempDir()
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	told, err := peers.Nginx(t.Context(), dir, peers.NginxOptions{CA: ca, ProxyProtocol: true})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	plain, err := peers.Nginx(t.Context(), dir, peers.NginxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	back, err := peers.HAProxy(t.Context(), dir, peers.HAProxyOptions{Backend: plain.Addr(), HTTP: true, Accept: true})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	g := startGateway(t, balancerPolicy, "plain", told.Addr(), "secure", told.TLSAddr(), "ca", caFile, "haproxy", back.Addr())
	for _, send := range []string{"send-proxy", "send-proxy-v2"} {
		front, err := peers.HAProxy(t.Context(), dir, peers.HAProxyOptions{Backend: g.addr, Send: send})
		if err != nil {
			t.Fatal(err)
		}
		defer front.Close()
		for _, host := range []string{"one", "two", "three", "four"} {
			t.Run(send+" "+host, func(t *testing.T) {
				// An address of its own shows that it is the client's and not the balancer's.
				out, err := exec.Command("curl", "-sS", "--max-time", "20", "--interface", "127.0.0.7", "-x", "http://"+front.Addr(), "http://"+host+".example/headers").CombinedOutput()
				want := "told: 127.0.0.7:"
				if host == "three" || host == "four" {
					want = "x-forwarded-for: 127.0.0.7\n"
				}
				if err != nil || !strings.Contains(string(out), want) {
					t.Fatalf("%v: %s", err, out)
				}
				if strings.HasPrefix(want, "told") && !strings.Contains(string(out), " at "+front.Addr()+"\n") {
					t.Errorf("not told where the client connected to, %s: %s", front.Addr(), out)
				}
			})
		}
	}
	g.await("the records", func() bool {
		n := 0
		for _, f := range g.flows() {
			if f.Client.Proxied != nil && f.Client.From().Addr().String() == "127.0.0.7" && f.Response != nil {
				n++
			}
		}
		return n == 8
	})
	if out, err := exec.Command("curl", "-sS", "--max-time", "20", "-x", "http://"+g.addr, "http://one.example/").CombinedOutput(); err == nil {
		t.Errorf("without a header: %s", out)
	}
}
