package intercept

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newTestCA(t testing.TB, o CreateOptions) *CA {
	t.Helper()
	ca, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// verify checks a minted certificate as a client does that trusts root.
func verify(cert *tls.Certificate, root *x509.Certificate, name string, at time.Time) error {
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(root)
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestCreate(t *testing.T) {
	ca := newTestCA(t, CreateOptions{Name: "Corp CA", Days: 30, Permit: []string{"*.corp.example", "10.0.0.0/8"}})
	c := ca.Cert
	if !c.IsCA || c.Subject.CommonName != "Corp CA" || c.SerialNumber.BitLen() < 64 || len(c.SubjectKeyId) != 20 {
		t.Errorf("the certificate is %+v", c)
	}
	if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("key usage %v", c.KeyUsage)
	}
	if life := c.NotAfter.Sub(c.NotBefore); life < 30*24*time.Hour || life > 31*24*time.Hour {
		t.Errorf("it lives for %v", life)
	}
	if got := Permits(c); len(got) != 2 || got[0] != "corp.example" || got[1] != "10.0.0.0/8" || !c.PermittedDNSDomainsCritical {
		t.Errorf("it permits %v", got)
	}
	if f := ca.Fingerprint(); len(f) != 95 || strings.Count(f, ":") != 31 {
		t.Errorf("fingerprint %q", f)
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, o := range []CreateOptions{
		{Name: strings.Repeat("x", 65)}, {Name: "a\nb"}, {Days: -1}, {Days: maxDays + 1},
		{Permit: []string{"no domain"}}, {Permit: []string{"a..b"}}, {Permit: []string{""}}, {Permit: []string{"10.0.0.0/33"}}, {Permit: []string{"1.2.3"}}, {Permit: []string{"fe80::1%eth0"}},
	} {
		if _, err := Create(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestStore(t *testing.T) {
	f := In(filepath.Join(t.TempDir(), "ca"))
	if _, err := Load(f); !errors.Is(err, ErrNone) {
		t.Errorf("without a file: %v", err)
	}
	ca := newTestCA(t, CreateOptions{})
	if err := ca.Write(f); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(f.Key)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", st.Mode(), err)
	}
	got, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != ca.Fingerprint() || len(got.Chain) != 0 {
		t.Errorf("read %s with %d in its chain", got.Fingerprint(), len(got.Chain))
	}
	other := newTestCA(t, CreateOptions{})
	if err := other.Write(f); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it was overwritten: %v", err)
	}
	if got, err := Load(f); err != nil || got.Fingerprint() != ca.Fingerprint() {
		t.Errorf("after the refusal: %v", err)
	}
	if strings.Contains(string(ca.PEM()), "PRIVATE") {
		t.Error("PEM shows a key")
	}
}

func TestLoadRefuses(t *testing.T) {
	ca, other := newTestCA(t, CreateOptions{}), newTestCA(t, CreateOptions{})
	key, _ := ca.keyPEM()
	otherKey, _ := other.keyPEM()
	m := new(Minter)
	leaf, err := m.Mint(ca, Wanted{Name: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert, key string
		mode      fs.FileMode
		want      string
	}{
		"others may read the key": {string(ca.PEM()), string(key), 0o640, "chmod 600"},
		"another key":             {string(ca.PEM()), string(otherKey), 0o600, "not the one of the certificate"},
		"no key":                  {string(ca.PEM()), "", 0o600, "holds no key"},
		"a broken key":            {string(ca.PEM()), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "cannot be read"},
		"an encrypted key":        {string(ca.PEM()), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600, "encrypted"},
		"no certificate":          {"", string(key), 0o600, "no certificate"},
		"a key among them":        {string(ca.PEM()) + string(key), string(key), 0o600, "certificates alone"},
		"a leaf":                  {string(PEM(leaf.Leaf)), string(key), 0o600, "not the one of"},
		"garbage":                 {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", string(key), 0o600, "cannot be read"},
	} {
		f := In(t.TempDir())
		os.WriteFile(f.Cert, []byte(c.cert), 0o644)
		os.WriteFile(f.Key, []byte(c.key), 0o600)
		os.Chmod(f.Key, c.mode)
		if _, err := Load(f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRotate: who trusts either authority goes on trusting what is minted.
func TestRotate(t *testing.T) {
	f := In(t.TempDir())
	first := newTestCA(t, CreateOptions{Name: "first", Days: 10})
	if err := first.Write(f); err != nil {
		t.Fatal(err)
	}
	second, old, err := Rotate(f, CreateOptions{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := LoadCerts(Files{Cert: old})
	if err != nil || len(kept) != 1 || !kept[0].Equal(first.Cert) {
		t.Errorf("the old certificate: %v", err)
	}
	loaded, err := Load(f)
	if err != nil || loaded.Fingerprint() != second.Fingerprint() || len(loaded.Chain) != 1 {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	var m Minter
	cert, err := m.Mint(loaded, Wanted{Name: "www.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []*x509.Certificate{first.Cert, second.Cert} {
		if err := verify(cert, root, "www.example.com", time.Now()); err != nil {
			t.Errorf("with %s trusted: %v", root.Subject.CommonName, err)
		}
	}
	if cross := second.Chain[0]; string(cross.AuthorityKeyId) != string(first.Cert.SubjectKeyId) {
		t.Error("the old authority's signature does not say whose it is")
	}
	third, _, err := Rotate(f, CreateOptions{Name: "second"}) // two of a name
	if err != nil || len(third.Chain) != 1 {
		t.Errorf("rotated again: %v", err)
	}
	if err == nil && string(third.Chain[0].AuthorityKeyId) != string(second.Cert.SubjectKeyId) {
		t.Error("of two authorities of one name the second looks signed by itself")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(f.Cert), "*"))
	if len(left) != 4 { // ca.pem, ca.key, two old ones
		t.Errorf("files: %v", left)
	}
	if st, _ := os.Stat(f.Key); st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v", st.Mode())
	}
	if _, _, err := Rotate(In(t.TempDir()), CreateOptions{}); !errors.Is(err, ErrNone) {
		t.Errorf("rotated nothing: %v", err)
	}
}
