package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/router/admin"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// secureHere is here with TLS toward clients, and certificates of theirs.
const secureHere = `
variable "tls" { type = string }
variable "client_certificate" { type = string }
` + `
variable "listen" { type = string }
variable "records" { type = string }
gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
  tls {
    certificate        = "${var.tls}/gate.crt"
    key                = "${var.tls}/gate.key"
    client_ca          = "${var.tls}/ca.crt"
    client_certificate = var.client_certificate
  }
}
policy "default" {
  rule "staff" {
    match {
      user    = "anna"
      address = ["127.0.0.1/32"]
      resolve = false
    }
    via  = direct
    tags = ["staff"]
  }
  rule "here" {
    match {
      address = ["127.0.0.1/32"]
      resolve = false
    }
    via = direct
  }
}
`

// secureGateway is a gateway to which clients speak TLS.
type secureGateway struct {
	*gateway
	ca   *upstreamtest.CA
	dir  string // of gate.crt, anna.crt, ca.crt and their keys
	spki string // of the certificate, for Chromium
}

func startSecure(t *testing.T, clientCertificate string) *secureGateway {
	t.Helper()
	ca, dir := upstreamtest.MustCA(t), t.TempDir()
	gate := ca.MustIssue(t, upstreamtest.CertOptions{}, "127.0.0.1", "localhost")
	for name, cert := range map[string]struct{ o upstreamtest.CertOptions }{"anna": {upstreamtest.CertOptions{Client: true}}} {
		if _, _, err := upstreamtest.WriteFiles(dir, name, ca.MustIssue(t, cert.o, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := upstreamtest.WriteFiles(dir, "gate", gate); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(gate.Leaf.RawSubjectPublicKeyInfo)
	g := startGateway(t, secureHere, "tls", dir, "client_certificate", clientCertificate)
	return &secureGateway{g, ca, dir, base64.StdEncoding.EncodeToString(sum[:])}
}

// last awaits a record that ok takes, and fails the test when none comes.
func (g *secureGateway) last(what string, ok func(f *connmodel.Flow) bool) *connmodel.Flow {
	g.t.Helper()
	var found *connmodel.Flow
	g.await("a record of "+what, func() bool {
		for _, f := range g.flows() {
			if ok(f) {
				found = f
			}
		}
		return found != nil
	})
	return found
}

func TestCurlOverTLS(t *testing.T) {
	peers.Need(t, "curl", "nginx")
	g := startSecure(t, "optional")
	n := startNginx(t, g.ca)
	ca := filepath.Join(g.dir, "ca.crt")
	anna := []string{"--proxy-cert", filepath.Join(g.dir, "anna.crt"), "--proxy-key", filepath.Join(g.dir, "anna.key")}
	for _, c := range []struct {
		name, url, user, rule string
		args                  []string
		protocol              connmodel.Protocol
	}{
		{"plain", "http://" + n.Addr() + "/headers", "", "here", nil, connmodel.ProtocolHTTP},
		{"by CONNECT", "https://" + n.TLSAddr() + "/headers", "", "here", nil, connmodel.ProtocolConnect},
		{"plain, with a certificate", "http://" + n.Addr() + "/headers?anna", "anna", "staff", anna, connmodel.ProtocolHTTP},
		{"by CONNECT, with a certificate", "https://" + n.TLSAddr() + "/headers", "anna", "staff", anna, connmodel.ProtocolConnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(g.flows())
			args := append([]string{"-sS", "-x", "https://" + g.addr, "--proxy-cacert", ca, "--cacert", ca}, c.args...)
			if out := client(t, "curl", append(args, c.url)...); !strings.Contains(out, "host: 127.0.0.1") {
				t.Errorf("curl got %s", out)
			}
			f := g.next(before)
			if f.Protocol != c.protocol || f.Client.User != c.user || f.Decision.Rule != c.rule || !f.Client.TLSEstablished() || f.Error != nil {
				t.Errorf("record: %s, user %q, rule %s, %v", f.Protocol, f.Client.User, f.Decision.Rule, f.Error)
			}
		})
	}

	// What goes wrong is told on both sides.
	for _, c := range []struct {
		name      string
		args      []string
		curl, log string
	}{
		{"http:// for https://", []string{"-x", "http://" + g.addr, "http://" + n.Addr() + "/"}, "use https:// in the URL of the proxy", "speaks plain HTTP"},
		{"http:// for https://, with CONNECT", []string{"-x", "http://" + g.addr, "https://" + n.TLSAddr() + "/"}, "400", "speaks plain HTTP"},
		{"socks5:// without TLS", []string{"-x", "socks5://" + g.addr, "http://" + n.Addr() + "/"}, "", "speaks plain SOCKS5"},
		{"a CA it does not know", []string{"-x", "https://" + g.addr, "http://" + n.Addr() + "/"}, "certificate", "does not know the authority that signed the certificate of this listener"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(g.flows())
			out, err := tryClient(t, "curl", append([]string{"-sS"}, c.args...)...)
			if err == nil && c.curl != "use https:// in the URL of the proxy" || !strings.Contains(out, c.curl) {
				t.Errorf("curl says %s %v", out, err)
			}
			if f := g.next(before); f.Error == nil || !strings.Contains(f.Error.Message, c.log) {
				t.Errorf("the record says %v", f.Error)
			}
		})
	}
}

func TestCurlNeedsItsCertificate(t *testing.T) {
	peers.Need(t, "curl", "nginx")
	g := startSecure(t, "required")
	n := startNginx(t, g.ca)
	args := []string{"-sS", "-x", "https://" + g.addr, "--proxy-cacert", filepath.Join(g.dir, "ca.crt")}
	out, err := tryClient(t, "curl", append(args, "http://"+n.Addr()+"/")...)
	if err == nil {
		t.Errorf("curl got %s", out)
	}
	g.last("a client without a certificate", func(f *connmodel.Flow) bool {
		return f.Error != nil && strings.Contains(f.Error.Message, "the client has no certificate, and this listener asks for one")
	})
	args = append(args, "--proxy-cert", filepath.Join(g.dir, "anna.crt"), "--proxy-key", filepath.Join(g.dir, "anna.key"))
	if out := client(t, "curl", append(args, "http://"+n.Addr()+"/")...); !strings.Contains(out, "hello from nginx") {
		t.Errorf("curl got %s", out)
	}

	// The certificate is renewed in place, and the next connection has it.
	pinned := func() string {
		out, err := tryClient(t, "openssl", "s_client", "-connect", g.addr, "-cert", filepath.Join(g.dir, "anna.crt"), "-key", filepath.Join(g.dir, "anna.key"))
		serial := regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----(.*?)-----END`).FindStringSubmatch(out)
		if serial == nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
		return serial[1]
	}
	old := pinned()
	if _, _, err := upstreamtest.WriteFiles(g.dir, "gate", g.ca.MustIssue(t, upstreamtest.CertOptions{}, "127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	g.await("the new certificate", func() bool { return pinned() != old })
	var st admin.Status
	g.door("/v1/status", &st)
	if l := st.Listeners[0]; !l.TLS || l.CertificateEnd == nil || time.Until(*l.CertificateEnd) < time.Hour {
		t.Errorf("status: %+v", l)
	}
	if out := client(t, "curl", append(args, "http://"+n.Addr()+"/")...); !strings.Contains(out, "hello from nginx") {
		t.Errorf("curl got %s", out)
	}
}

// TestCertificatesOfTheExample: those that examples/https-listener makes do what its README says.
func TestCertificatesOfTheExample(t *testing.T) {
	peers.Need(t, "curl", "openssl", "nginx")
	dir := filepath.Dir(withCertificates(t, filepath.Join("..", "..", "examples", "https-listener", "viaduct.hcl")))
	if err := os.Rename(filepath.Join(dir, "staff-ca.crt"), filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	policy := strings.NewReplacer(`"anna"`, `"anna@ops.corp.example"`, "client_certificate =", "user_from = \"san_email\"\nclient_certificate =").Replace(secureHere)
	g := startGateway(t, policy, "tls", dir, "client_certificate", "required")
	n := startNginx(t, upstreamtest.MustCA(t))
	out := client(t, "curl", "-sS", "-x", "https://"+g.addr, "--proxy-cacert", filepath.Join(dir, "servers-ca.crt"),
		"--proxy-cert", filepath.Join(dir, "anna.crt"), "--proxy-key", filepath.Join(dir, "anna.key"), "http://"+n.Addr()+"/")
	if !strings.Contains(out, "hello from nginx") {
		t.Errorf("curl got %s", out)
	}
	if f := g.next(0); f.Client.User != "anna@ops.corp.example" || f.Decision.Rule != "staff" || len(f.Client.TLSInfo.Certificates) != 1 {
		t.Errorf("record: user %q, rule %s, %+v", f.Client.User, f.Decision.Rule, f.Client.TLSInfo)
	}
}

// TestOpenSSLCarriesSOCKS5: SOCKS over TLS by way of a client of TLS that knows no SOCKS.
func TestOpenSSLCarriesSOCKS5(t *testing.T) {
	peers.Need(t, "openssl", "nginx")
	g := startSecure(t, "optional")
	n := startNginx(t, g.ca)
	_, p, err := net.SplitHostPort(n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path, _ := peers.Look("openssl")
	cmd := exec.CommandContext(ctx, path, "s_client", "-connect", g.addr, "-quiet", "-verify_return_error", "-CAfile", filepath.Join(g.dir, "ca.crt"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Write(append([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port)}, "GET /headers HTTP/1.0\r\n\r\n"...))
	in.Close() // it stays until the other side has said all
	said, err := io.ReadAll(out)
	cmd.Wait()
	if err != nil || !bytes.HasPrefix(said, []byte("\x05\x00\x05\x00\x00\x01")) || !bytes.Contains(said, []byte("uri: /headers")) {
		t.Errorf("%q %v", said, err)
	}
	f := g.last("SOCKS5", func(f *connmodel.Flow) bool { return f.Protocol == connmodel.ProtocolSOCKS5 })
	if f.Error != nil || !f.Client.TLSEstablished() || f.Target.String() != n.Addr() {
		t.Errorf("record: %v, to %s", f.Error, f.Target)
	}

	// An old version of TLS is told so, and the record says what would do.
	if out, err := tryClient(t, "openssl", "s_client", "-connect", g.addr, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"); err == nil {
		t.Errorf("TLS 1.1 was taken:\n%s", out)
	}
	g.last("TLS 1.1", func(f *connmodel.Flow) bool {
		return f.Error != nil && strings.Contains(f.Error.Message, "the client speaks TLS 1.1, TLS 1.0, and this listener asks for TLS 1.2 or later")
	})
}

func TestChromiumOverTLS(t *testing.T) {
	peers.Need(t, "chromium", "nginx")
	g := startSecure(t, "optional")
	n := startNginx(t, g.ca)
	for _, c := range []struct {
		name, url, target string
		protocol          connmodel.Protocol
	}{
		{"plain", "http://" + n.Addr() + "/headers", n.Addr(), connmodel.ProtocolHTTP},
		{"by CONNECT", "https://" + n.TLSAddr() + "/headers", n.TLSAddr(), connmodel.ProtocolConnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := client(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--ignore-certificate-errors",
				"--user-data-dir="+t.TempDir(), "--proxy-server=https://"+g.addr, "--proxy-bypass-list=<-loopback>", "--timeout=20000", "--dump-dom", c.url)
			if !strings.Contains(out, "host: "+c.target) || !strings.Contains(out, "Chrome") {
				t.Errorf("the page is\n%s", out)
			}
			f := g.last("Chromium", func(f *connmodel.Flow) bool {
				return f.Target.String() == c.target && f.Protocol == c.protocol && (f.Request == nil || f.Request.Path == "/headers")
			}) // not the icon, which nobody waits for
			if a := f.Client.TLSInfo.ALPN; f.Error != nil || a == nil || *a != "h2" {
				t.Errorf("record: %v, ALPN %v of %v", f.Error, a, f.Client.TLSInfo.ALPNOffers)
			}
		})
	}
}

// TestNghttpOverTLS: nghttp and h2load know no proxies, but can be told what to ask for.
func TestNghttpOverTLS(t *testing.T) {
	peers.Need(t, "nghttp", "h2load", "nginx")
	g := startSecure(t, "optional")
	n := startNginx(t, g.ca)
	as := []string{"-H:scheme: http", "-H:authority: " + n.Addr()}
	out := client(t, "nghttp", append(as, "-v", "https://"+g.addr+"/headers")...)
	if !strings.Contains(out, "host: "+n.Addr()) || !strings.Contains(out, "SETTINGS_ENABLE_CONNECT_PROTOCOL(0x08):1") {
		t.Errorf("nghttp says\n%s", out)
	}
	const requests = 2000
	out = client(t, "h2load", append(as, "-n", strconv.Itoa(requests), "-c", "4", "-m", "50", "https://"+g.addr+"/headers")...)
	if !strings.Contains(out, fmt.Sprintf("%d succeeded, 0 failed, 0 errored", requests)) {
		t.Errorf("h2load says\n%s", out)
	}
	g.await("the records", func() bool {
		b, err := os.ReadFile(g.records)
		return err == nil && bytes.Count(b, []byte("\n")) > requests
	})
	for _, f := range g.flows() {
		if f.Error != nil || f.Protocol != connmodel.ProtocolHTTP || *f.Client.TLSInfo.ALPN != "h2" {
			t.Fatalf("record: %v", f.Error)
		}
	}
}
