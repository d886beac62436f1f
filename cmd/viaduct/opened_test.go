package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/router/intercept"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// openedHere opens what goes to this machine, but for what its path forbids.
const openedHere = `
variable "listen" { type = string }
variable "records" { type = string }
variable "ca" { type = string }
variable "origin" { type = string }
gateway {
  records { path = var.records }
  ca { path = var.ca }
}
listener "desk" {
  address = var.listen
}
policy "default" {
  rule "forbidden" {
    match { path = "/status/*" }
    deny { reason = "no status pages" }
  }
  rule "here" {
    match {
      address = ["127.0.0.1/32"]
      resolve = false
    }
    via = direct
    tls {
      mode = "intercept"
      ca   = var.origin
    }
  }
}
`

// openedGateway is a gateway that opens tunnels to nginx, and its authority's certificate.
func openedGateway(t *testing.T) (g *gateway, n *peers.NginxProc, authority string) {
	t.Helper()
	servers := upstreamtest.MustCA(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	n, err := peers.Nginx(ctx, t.TempDir(), peers.NginxOptions{CA: servers, HTTP2: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ca, err := intercept.Create(intercept.CreateOptions{Name: "opened by a test"})
	if err != nil {
		t.Fatal(err)
	}
	files := intercept.In(filepath.Join(t.TempDir(), "ca"))
	if err := ca.Write(files); err != nil {
		t.Fatal(err)
	}
	return startGateway(t, openedHere, "ca", filepath.Dir(files.Cert), "origin", caFile(t, servers)), n, files.Cert
}

// TestOpenedNginx: curl by HTTP/2 and HTTP/1.1, and wget and git's library by what they speak, each with its own trust in our authority.
func TestOpenedNginx(t *testing.T) {
	peers.Need(t, "curl", "wget", "nginx")
	g, n, authority := openedGateway(t)
	for _, version := range []string{"--http1.1", "--http2"} {
		out := client(t, "curl", "-sS", version, "--cacert", authority, "-x", "http://"+g.addr, "https://"+n.TLSAddr()+"/headers")
		want := map[string]string{"--http1.1": "protocol: HTTP/1.1", "--http2": "protocol: HTTP/2.0"}[version]
		if !strings.Contains(out, want) {
			t.Errorf("%s: nginx saw\n%s", version, out)
		}
		big := filepath.Join(t.TempDir(), "big")
		client(t, "curl", "-sS", version, "--cacert", authority, "-x", "http://"+g.addr, "-o", big, "https://"+n.TLSAddr()+"/big")
		if st, err := os.Stat(big); err != nil || st.Size() != 1<<20 {
			t.Errorf("%s: %v, %v", version, st, err)
		}
		if out := client(t, "curl", "-sS", version, "--cacert", authority, "-x", "socks5h://"+g.addr, "-w", "%{http_code}", "https://"+n.TLSAddr()+"/status/302"); !strings.Contains(out, "no status pages") || !strings.HasSuffix(out, "403") {
			t.Errorf("%s: denied with %s", version, out)
		}
	}
	file := filepath.Join(t.TempDir(), "big")
	client(t, "wget", "-q", "-e", "use_proxy=yes", "-e", "https_proxy=http://"+g.addr, "--ca-certificate="+authority, "-O", file, "https://"+n.TLSAddr()+"/big")
	if st, err := os.Stat(file); err != nil || st.Size() != 1<<20 {
		t.Errorf("wget: %v, %v", st, err)
	}
	if out, err := tryClient(t, "curl", "-sS", "-x", "http://"+g.addr, "https://"+n.TLSAddr()+"/"); err == nil || !strings.Contains(out, "certificate") {
		t.Errorf("without trust: %v, %s", err, out)
	}
	g.await("the record of a rejection", func() bool {
		for _, f := range g.flows() {
			if e := f.Error; e != nil && e.Kind == connmodel.KindTLS && e.Side == connmodel.SideClient && strings.Contains(e.Message, `does not accept a certificate of "opened by a test"`) {
				return true
			}
		}
		return false
	})
}

// TestOpenedChromium: a browser that has been told to trust the authority speaks HTTP/2 through an opened tunnel; one that has not is recorded
// as that.
func TestOpenedChromium(t *testing.T) {
	peers.Need(t, "chromium", "nginx", "certutil")
	g, n, authority := openedGateway(t)
	chromium, _ := peers.Look("chromium")
	browse := func(home string) (string, error) {
		return tryClient(t, "env", "HOME="+home, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
			"--user-data-dir="+t.TempDir(), "--proxy-server=http://"+g.addr, "--proxy-bypass-list=<-loopback>", "--timeout=20000", "--dump-dom",
			"https://"+n.TLSAddr()+"/headers")
	}
	home := t.TempDir()
	store := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "viaduct", "-i", authority}} {
		if out, err := exec.Command("certutil", append([]string{"-d", "sql:" + store}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
	out, err := browse(home)
	if err != nil || !strings.Contains(out, "host: "+n.TLSAddr()) || !strings.Contains(out, "protocol: HTTP/2.0") {
		t.Errorf("%v, the page is\n%s", err, out)
	}
	g.await("the record of the page", func() bool {
		for _, f := range g.flows() {
			if f.Request != nil && f.Request.Path == "/headers" && f.Request.Scheme == "https" && f.Response != nil && f.Response.Status == 200 {
				return true
			}
		}
		return false
	})
	if out, _ := browse(t.TempDir()); strings.Contains(out, "protocol: HTTP/2.0") {
		t.Errorf("a browser that does not trust the authority shows\n%s", out)
	}
	g.await("the record of a rejection", func() bool {
		for _, f := range g.flows() {
			if e := f.Error; e != nil && e.Kind == connmodel.KindTLS && e.Side == connmodel.SideClient && strings.Contains(e.Message, "does not accept") {
				return true
			}
		}
		return false
	})
}
