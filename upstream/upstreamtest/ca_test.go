package upstreamtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"

	"viaduct/upstream/upstreamtest"
)

// TestCertificates handshakes with each kind of certificate and asks the
// client for its verdict.
func TestCertificates(t *testing.T) {
	ca, other := upstreamtest.MustCA(t), upstreamtest.MustCA(t)
	tests := []struct {
		name  string
		cert  tls.Certificate
		fault any // nil, or the type of the client's error
	}{
		{"good", ca.MustIssue(t, upstreamtest.CertOptions{}, "o.test"), nil},
		{"expired", ca.MustIssue(t, upstreamtest.Expired(), "o.test"), x509.CertificateInvalidError{}},
		{"not yet", ca.MustIssue(t, upstreamtest.NotYetValid(), "o.test"), x509.CertificateInvalidError{}},
		{"wrong name", ca.MustIssue(t, upstreamtest.CertOptions{}, "x.test", "127.0.0.1"), x509.HostnameError{}},
		{"name in CN only", ca.MustIssue(t, upstreamtest.CertOptions{CNOnly: true}, "o.test"), x509.HostnameError{}},
		{"self-signed", ca.MustIssue(t, upstreamtest.CertOptions{SelfSigned: true}, "o.test"), x509.UnknownAuthorityError{}},
		{"another CA", other.MustIssue(t, upstreamtest.CertOptions{}, "o.test"), x509.UnknownAuthorityError{}},
		{"a client's", ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, "o.test"), x509.CertificateInvalidError{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{
				TLS: &tls.Config{Certificates: []tls.Certificate{tt.cert}},
			})
			c := tls.Client(dial(t, o.Addr()), &tls.Config{RootCAs: ca.Pool(), ServerName: "o.test"})
			err := c.HandshakeContext(t.Context())
			var ok bool
			switch tt.fault.(type) {
			case nil:
				ok = err == nil
			case x509.CertificateInvalidError:
				_, ok = errors.AsType[x509.CertificateInvalidError](err)
			case x509.HostnameError:
				_, ok = errors.AsType[x509.HostnameError](err)
			case x509.UnknownAuthorityError:
				_, ok = errors.AsType[x509.UnknownAuthorityError](err)
			}
			if !ok {
				t.Errorf("handshake: %v, want %T", err, tt.fault)
			}
		})
	}
	if _, err := ca.Issue(nil, upstreamtest.CertOptions{}); err == nil {
		t.Error("a certificate without a name was issued")
	}
}

func TestWriteFiles(t *testing.T) {
	ca, dir := upstreamtest.MustCA(t), t.TempDir()
	cert, key, err := upstreamtest.WriteFiles(dir, "o", ca.MustIssue(t, upstreamtest.CertOptions{}, "o.test", "::1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", st.Mode(), err)
	}
	file, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file)
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
		t.Errorf("CA file: %v", err)
	}
}
