package apitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair writes a certificate signed by ca, and its key, as PREFIX.pem and PREFIX.key; ca == nil makes an authority.
func pair(t *testing.T, prefix string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, use x509.ExtKeyUsage) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: filepath.Base(prefix)}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(100 * 24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{use}}
	by, byKey := ca, caKey
	if ca == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.IPAddresses = true, true, x509.KeyUsageCertSign, nil, nil
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: k}} {
		if err := os.WriteFile(prefix+name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// TestCommandsOverTLS: the commands reach a door that speaks TLS, by what the policy says of it or by flags, with the token or with a certificate.
func TestCommandsOverTLS(t *testing.T) {
	const policy = `
gateway {
  admin {
    address = "DOOR"
    tls {
      certificate        = "DIR/door.pem"
      key                = "DIR/door.key"
      client_ca          = "DIR/ca.pem"
      client_certificate = "optional"
    }
  }
}
listener "desk" {
  address = "LISTEN"
}
policy "default" {
  otherwise { via = direct }
}
`
	g := start(t, "tcp", policy, func(g *gateway) {
		ca, key := pair(t, filepath.Join(g.dir, "ca"), nil, nil, x509.ExtKeyUsageAny)
		pair(t, filepath.Join(g.dir, "door"), ca, key, x509.ExtKeyUsageServerAuth)
		pair(t, filepath.Join(g.dir, "anna"), ca, key, x509.ExtKeyUsageClientAuth)
		pair(t, filepath.Join(g.dir, "other"), nil, nil, x509.ExtKeyUsageAny)
	})
	door := strings.TrimPrefix(g.base, "http://")
	for _, c := range []struct {
		name, args string
		says       string
		fails      bool
	}{
		{"by the policy", "status -c DIR/viaduct.hcl", "running", false},
		{"by flags, with the token", "status --admin https://DOOR --admin-ca DIR/ca.pem --token-file DIR/state/admin.token", "running", false},
		{"by flags, with a certificate", "status --admin https://DOOR --admin-ca DIR/ca.pem --admin-cert DIR/anna.pem --admin-key DIR/anna.key", "running", false},
		{"an authority that did not sign", "status --admin https://DOOR --admin-ca DIR/other.pem --token-file DIR/state/admin.token", "certificate", true},
		{"half a certificate", "status --admin https://DOOR --admin-ca DIR/ca.pem --admin-cert DIR/anna.pem", "two files", true},
		{"in the clear", "status --admin DOOR --token-file DIR/state/admin.token", "DOOR", true},
		{"a flag without TLS", "status --admin DOOR --admin-ca DIR/ca.pem", "speaks TLS", true},
		{"what changes something", "reload -c DIR/viaduct.hcl", "write = true", true},
	} {
		replace := strings.NewReplacer("DIR", g.dir, "DOOR", door)
		cmd := exec.Command(viaduct, strings.Fields(replace.Replace(c.args))...)
		cmd.Env = g.env()
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.fails || !strings.Contains(string(out), replace.Replace(c.says)) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}

	// renewed in place: the next connection sees it
	before := shownBy(t, door)
	caPEM, _ := os.ReadFile(filepath.Join(g.dir, "ca.pem"))
	caKeyPEM, _ := os.ReadFile(filepath.Join(g.dir, "ca.key"))
	b, _ := pem.Decode(caPEM)
	ca, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b, _ = pem.Decode(caKeyPEM)
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pair(t, filepath.Join(g.dir, "door"), ca, key.(*ecdsa.PrivateKey), x509.ExtKeyUsageServerAuth)
	g.await("the renewed certificate", func() bool { return shownBy(t, door) != before })
}

// shownBy is the serial number of the certificate that a door shows.
func shownBy(t *testing.T, address string) string {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
