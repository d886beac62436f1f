package policies

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// writePair writes a self-signed certificate and its key.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

const tlsSource = `
listener "l" {
  address = "127.0.0.1:1"
}
upstream "u" {
  url = "https://p.example:1"
  tls {
    ca          = ["b.crt", "a.crt"]
    certificate = "a.crt"
    key         = "a.key"
    server_name = "Inner.Example."
  }
}
policy "default" {
  rule "up" {
    match { port = 80 }
    via = upstream.u
    tls {
      mode        = "upgrade"
      ca          = "b.crt"
      system_roots = true
      server_name = "up.example"
      min_version = "1.1"
      max_version = "1.2"
      ciphers     = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"]
      alpn        = ["ssh", "http/1.1"]
      pins        = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
      verify      = false
      certificate = "b.crt"
      key         = "b.key"
    }
  }
  rule "pass" {
    match { port = 81 }
    via = direct
    tls { mode = "passthrough" }
  }
}
`

// TestTLSFiles: certificates, keys and authorities end up where TLS is made, from files beside the policy.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "a")
	writePair(t, dir, "b")
	load := func(src string) (*Config, Diagnostics) {
		return Load(Options{Source: map[string][]byte{filepath.Join(dir, "p.hcl"): []byte(src)}})
	}
	c, d := load(tlsSource)
	if c == nil {
		t.Fatal(d.Error())
	}
	u := c.Upstreams.Upstreams[0]
	if u.TLS == nil || u.TLS.RootCAs == nil || len(u.TLS.Certificates) != 1 || u.ServerName != "inner.example" || u.TLS.MinVersion != tls.VersionTLS12 {
		t.Errorf("the upstream has %+v, name %q", u.TLS, u.ServerName)
	}
	up, _ := c.Programs["default"].Decide(target("x.example", 80))
	if p := up.TLS; p == nil || p.Mode != connmodel.TLSUpgrade || p.Config == nil || p.Config.RootCAs == nil || len(p.Config.Certificates) != 1 {
		t.Errorf("the upgrade has %+v", p)
	}
	if p := up.TLS; p.ServerName != "up.example" || p.Config.MinVersion != tls.VersionTLS11 || p.Config.MaxVersion != tls.VersionTLS12 || !p.Config.InsecureSkipVerify ||
		!slices.Equal(p.Config.CipherSuites, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}) || !slices.Equal(p.Config.NextProtos, []string{"ssh", "http/1.1"}) ||
		p.Config.VerifyConnection == nil || p.Config.VerifyConnection(tls.ConnectionState{}) == nil {
		t.Errorf("the upgrade has %+v", p)
	}
	if errors, warnings := d.Count(); errors != 0 || warnings != 3 { // the old version, the weak suite, and that nothing is verified
		t.Errorf("%d warnings: %v", warnings, d.List)
	}
	if pass, _ := c.Programs["default"].Decide(target("x.example", 81)); pass.TLS == nil || pass.TLS.Mode != connmodel.TLSPassthrough {
		t.Errorf("passthrough has %+v", pass.TLS)
	}
	if len(c.Data) != 4 {
		t.Errorf("the files behind the policy are %v", c.Data)
	}
	for _, x := range []struct{ old, new, want string }{
		{`key         = "a.key"`, `key         = "b.key"`, "Certificate and key"},
		{"    key         = \"a.key\"\n    server_name", "    server_name", "both: certificate and key"},
		{`server_name = "Inner.Example."`, `server_name = "a b"`, "Wrong name"},
		{`ca          = "b.crt"`, `ca          = ["b.crt", "a.key"]`, "No certificate"},
		{`ca          = "b.crt"`, `ca          = []`, "Empty list"},
		{`mode = "passthrough"`, `mode = "intersept"`, "Did you mean"},
		{`{ mode = "passthrough" }`, "{\nmode = \"intercept\"\n on_client_reject = \"pass\"\n}", `"on_client_reject" can be`},
		{`{ mode = "passthrough" }`, "{\nmode = \"passthrough\"\n on_client_reject = \"deny\"\n}", "Without effect"},
		{`{ mode = "passthrough" }`, "{\nmode = \"upgrade\"\n on_client_reject = \"deny\"\n}", "Without effect"},
		{`{ mode = "passthrough" }`, "{\nmode = \"terminate\"\n on_client_reject = \"deny\"\n}", "Without effect"},
		{`{ mode = "passthrough" }`, "{\nmode = \"terminate\"\n ca = \"a.crt\"\n}", "Without effect"},
		{`{ mode = "passthrough" }`, "{\nmode = \"terminate\"\n certificate = \"a.crt\"\n}", "both: certificate and key"},
		{`{ mode = "passthrough" }`, "{\nmode = \"terminate\"\n certificate = \"a.crt\"\n key = \"b.key\"\n}", "Certificate and key"},
		{`certificate = "a.crt"`, `certificate = "a.key"`, "Certificate and key"},
	} {
		src := strings.Replace(tlsSource, x.old, x.new, 1)
		if src == tlsSource {
			t.Fatalf("%q is not in the source", x.old)
		}
		if c, d := load(src); c != nil || !strings.Contains(d.Error(), x.want) {
			t.Errorf("%s: %s", x.new, d.Error())
		}
	}
}

const openedSource = `
policy "default" {
  rule "opened" {
    match {
      host = ["www.example.com", "*.corp.example"]
      port = 443
    }
    via = direct
    tls {
      mode             = "intercept"
      ca               = "a.crt"
      on_client_reject = "passthrough"
    }
  }
  rule "ended" {
    match { host = "x.example" }
    match {
      host = "/^o.*example$/"
      port = 444
    }
    via = direct
    tls {
      mode        = "terminate"
      certificate = "a.crt"
      key         = "a.key"
    }
  }
  rule "made" {
    match { host = "z[0-9]*.example" }
    match { host = ["*", "y.example"] }
    via = direct
    tls { mode = "terminate" }
  }
}
test "inside" {
  request = "GET https://www.example.com/x"
  expect {
    rule = "opened"
    tls  = "intercept"
  }
}
`

// TestOpened: what rules say of tunnels that are opened gets where it is needed, and so does who needs the authority.
func TestOpened(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "a")
	c, d := Load(Options{Source: map[string][]byte{filepath.Join(dir, "p.hcl"): []byte(openedSource)}})
	if c == nil {
		t.Fatal(d.Error())
	}
	checkTests(t, c)
	for _, x := range []struct {
		host  string
		port  uint16
		rule  string
		mode  connmodel.TLSMode
		learn bool
		shown bool
		names bool
	}{
		{"www.example.com", 443, "opened", connmodel.TLSIntercept, true, false, true},
		{"a.corp.example", 443, "opened", connmodel.TLSIntercept, true, false, true},
		{"x.example", 443, "ended", connmodel.TLSTerminate, false, true, true},
		{"other.example", 444, "ended", connmodel.TLSTerminate, false, true, true},
		{"other.example", 443, "made", connmodel.TLSTerminate, false, false, false},
	} {
		d, _ := c.Programs["default"].Decide(target(x.host, x.port))
		p := d.TLS
		if d.Rule != x.rule || p == nil || p.Mode != x.mode || p.LearnRejects != x.learn || (p.Certificate != nil) != x.shown || d.NamesHost != x.names {
			t.Errorf("%s:%d: rule %q, %+v, names %v", x.host, x.port, d.Rule, p, d.NamesHost)
		}
		if p.Mode == connmodel.TLSIntercept && (p.Config == nil || p.Config.RootCAs == nil) {
			t.Errorf("%s: toward the server there is %+v", x.host, p.Config)
		}
	}
	var lines []int
	for _, r := range c.Signs {
		lines = append(lines, r.Start.Line)
	}
	if !slices.Equal(lines, []int{10, 32}) {
		t.Errorf("the authority is needed at lines %v", lines)
	}
}
