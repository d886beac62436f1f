package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// here lets clients of a test reach its servers.
const here = `
variable "listen" { type = string }
variable "records" { type = string }
gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
}
policy "default" {
  rule "here" {
    match {
      address = ["127.0.0.1/32"]
      resolve = false
    }
    via = direct
  }
  otherwise {
    deny { reason = "nothing beyond this machine" }
  }
}
`

// carried fails the test unless a flow of that protocol went to target and ended well.
func (g gateway) carried(t *testing.T, p connmodel.Protocol, target string) {
	t.Helper()
	g.t = t // a copy
	g.await("a record of "+string(p)+" to "+target, func() bool {
		for _, f := range g.flows() {
			if f.Protocol == p && f.Target.String() == target && f.Error == nil && f.Down > 0 && f.Decision.Rule == "here" {
				return true
			}
		}
		return false
	})
}

// caFile writes the authority of a test where clients find it.
func caFile(t *testing.T, ca *upstreamtest.CA) string {
	t.Helper()
	path, err := ca.WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGitClone(t *testing.T) {
	peers.Need(t, "git")
	g := startGateway(t, here)
	ca := upstreamtest.MustCA(t)
	plain, err := peers.Git(t.Context(), t.TempDir(), peers.GitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	secure, err := peers.Git(t.Context(), t.TempDir(), peers.GitOptions{TLS: ca.ServerTLS(t, "127.0.0.1"), Size: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	for _, c := range []struct {
		name, proxy string
		repo        *peers.GitRepo
		protocol    connmodel.Protocol
	}{
		{"plain", "http://" + g.addr, plain, connmodel.ProtocolHTTP},
		{"by CONNECT", "http://" + g.addr, secure, connmodel.ProtocolConnect},
		{"by SOCKS5", "socks5h://" + g.addr, secure, connmodel.ProtocolSOCKS5},
		{"by SOCKS4a", "socks4a://" + g.addr, plain, connmodel.ProtocolSOCKS4a},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "clone")
			client(t, "git", "-c", "http.proxy="+c.proxy, "-c", "http.sslCAInfo="+caFile(t, ca), "clone", "-q", c.repo.CloneURL(), dir)
			if got := strings.TrimSpace(client(t, "git", "-c", "safe.directory=*", "-C", dir, "rev-parse", "HEAD")); got != c.repo.Commit {
				t.Errorf("cloned %s, expected %s", got, c.repo.Commit)
			}
			g.carried(t, c.protocol, c.repo.Addr())
		})
	}
}

func TestApt(t *testing.T) {
	peers.Need(t, "apt-get", "apt-ftparchive", "dpkg-deb", "gpg")
	g := startGateway(t, here)
	ca := upstreamtest.MustCA(t)
	plain, err := peers.Apt(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	secure, err := peers.Apt(t.Context(), t.TempDir(), ca.ServerTLS(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	for _, c := range []struct {
		name, proxy string
		repo        *peers.AptRepo
		protocol    connmodel.Protocol
	}{
		{"plain", "http://" + g.addr, plain, connmodel.ProtocolHTTP},
		{"by CONNECT", "http://" + g.addr, secure, connmodel.ProtocolConnect},
		{"by SOCKS5", "socks5h://" + g.addr, plain, connmodel.ProtocolSOCKS5},
	} {
		t.Run(c.name, func(t *testing.T) {
			deb, out, err := c.repo.AptGet(t.Context(), t.TempDir(), peers.AptGetOptions{Proxy: c.proxy, CAFile: caFile(t, ca)})
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if st, err := os.Stat(deb); err != nil || st.Size() == 0 {
				t.Errorf("%s: %v", deb, err)
			}
			g.carried(t, c.protocol, c.repo.Addr())
		})
	}
}

// startNginx is the server that browsers and downloaders of a test ask.
func startNginx(t *testing.T, ca *upstreamtest.CA) *peers.NginxProc {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	n, err := peers.Nginx(ctx, t.TempDir(), peers.NginxOptions{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestWget(t *testing.T) {
	peers.Need(t, "wget", "nginx")
	ca := upstreamtest.MustCA(t)
	n := startNginx(t, ca)
	g := startGateway(t, here)
	for _, c := range []struct {
		url, target string
		protocol    connmodel.Protocol
	}{
		{"http://" + n.Addr() + "/big", n.Addr(), connmodel.ProtocolHTTP},
		{"https://" + n.TLSAddr() + "/big", n.TLSAddr(), connmodel.ProtocolConnect},
	} {
		t.Run(string(c.protocol), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "big")
			client(t, "wget", "-q", "-e", "use_proxy=yes", "-e", "http_proxy=http://"+g.addr, "-e", "https_proxy=http://"+g.addr,
				"--ca-certificate="+caFile(t, ca), "-O", file, c.url)
			if st, err := os.Stat(file); err != nil || st.Size() != 1<<20 {
				t.Errorf("%v, %v", st, err)
			}
			g.carried(t, c.protocol, c.target)
		})
	}
}

func TestChromium(t *testing.T) {
	peers.Need(t, "chromium", "nginx")
	ca := upstreamtest.MustCA(t)
	n := startNginx(t, ca)
	g := startGateway(t, here)
	for _, c := range []struct {
		name, proxy, url, target string
		protocol                 connmodel.Protocol
	}{
		{"plain", "http://" + g.addr, "http://" + n.Addr() + "/headers", n.Addr(), connmodel.ProtocolHTTP},
		{"by CONNECT", "http://" + g.addr, "https://" + n.TLSAddr() + "/headers", n.TLSAddr(), connmodel.ProtocolConnect},
		{"by SOCKS5", "socks5://" + g.addr, "https://" + n.TLSAddr() + "/headers", n.TLSAddr(), connmodel.ProtocolSOCKS5},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := client(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--ignore-certificate-errors",
				"--user-data-dir="+t.TempDir(), "--proxy-server="+c.proxy, "--proxy-bypass-list=<-loopback>", "--timeout=20000", "--dump-dom", c.url)
			if !strings.Contains(out, "host: "+c.target) || !strings.Contains(out, "Chrome") {
				t.Errorf("the page is\n%s", out)
			}
			g.carried(t, c.protocol, c.target)
		})
	}
}
