package connmodel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func certify(t *testing.T, tpl *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificate(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spiffe, _ := url.Parse("spiffe://corp/x")
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for want, key := range map[string]crypto.Signer{"ECDSA P-256": ec, "Ed25519": ed, "RSA 2048": rs} {
		x := certify(t, &x509.Certificate{
			SerialNumber: big.NewInt(0x1f2e), Subject: pkix.Name{CommonName: "host.example", Organization: []string{"Örg"}}, NotBefore: from, NotAfter: from.Add(time.Hour),
			DNSNames: []string{"host.example", "*.host.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")}, URIs: []*url.URL{spiffe}, IsCA: true, BasicConstraintsValid: true,
		}, key)
		sum := sha256.Sum256(x.Raw)
		spki := sha256.Sum256(x.RawSubjectPublicKeyInfo)
		got, cut := NewCertificate(x)
		exp := Certificate{
			Subject: "CN=host.example,O=Örg", Issuer: "CN=host.example,O=Örg", NotBefore: from, NotAfter: from.Add(time.Hour), Serial: "1f2e", KeyType: want, SHA256: hex.EncodeToString(sum[:]), IsCA: true,
			Pin: "sha256/" + base64.StdEncoding.EncodeToString(spki[:]), Signature: x.SignatureAlgorithm.String(),
			SANs: SANs{DNS: []string{"host.example", "*.host.example"}, IP: []string{"192.0.2.1", "2001:db8::1"}, URI: []string{"spiffe://corp/x"}},
		}
		if d := cmp.Diff(exp, got); d != "" || cut {
			t.Errorf("cut %v\n%s", cut, d)
		}
		for at, verdict := range map[time.Time]Verdict{from.Add(-time.Second): CertNotYetValid, from: CertOK, from.Add(time.Hour): CertOK, from.Add(time.Hour + 1): CertExpired} {
			if v := got.VerdictAt(at); v != verdict {
				t.Errorf("at %v: %s", at, v)
			}
		}
	}
}

// What a hostile server sends as a chain is bounded before it is kept.
func TestCertificatesAreBounded(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	tpl := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 4000), Subject: pkix.Name{CommonName: strings.Repeat("x", 1<<16)}}
	for i := range 500 {
		tpl.DNSNames = append(tpl.DNSNames, fmt.Sprint(i, ".", strings.Repeat("y", 1000)))
		tpl.IPAddresses = append(tpl.IPAddresses, net.IPv4(10, 0, byte(i>>8), byte(i)))
		tpl.URIs = append(tpl.URIs, &url.URL{Scheme: "x", Host: "h", Path: strings.Repeat("/z", 1000)})
	}
	leaf := certify(t, tpl, key)
	cs := &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "host.example", NegotiatedProtocol: "h2", DidResume: true}
	for range 30 {
		cs.PeerCertificates = append(cs.PeerCertificates, leaf)
	}
	offers := make([]string, 100)
	for i := range offers {
		offers[i] = strings.Repeat("o", 1000)
	}
	info := NewTLSInfo(cs, offers, true)
	if !info.Truncated || len(info.Certificates) != maxCertificates || len(info.ALPNOffers) != maxALPNOffers || *info.ALPN != "h2" || info.VerifiedName != "host.example" || info.Version != "TLS 1.3" || !info.Resumed {
		t.Errorf("%d certificates, %d offers, truncated %v", len(info.Certificates), len(info.ALPNOffers), info.Truncated)
	}
	c := info.Certificates[0]
	if len(c.Subject) > maxText+3 || len(c.Serial) > 67 || len(c.SANs.DNS) != maxSANs || len(c.SANs.IP) != maxSANs || len(c.SANs.URI) != maxSANs || len(c.SANs.DNS[0]) > maxName+3 || len(c.SANs.URI[0]) > maxName+3 {
		t.Errorf("%d octets of subject, %d of serial, %d names", len(c.Subject), len(c.Serial), len(c.SANs.DNS))
	}
	if b := info.AppendJSON(nil); len(b) > MaxRecord {
		t.Errorf("%d octets of JSON", len(b))
	}
	if plain := NewTLSInfo(&tls.ConnectionState{ServerName: "x", HandshakeComplete: true}, nil, false); plain.VerifiedName != "" || plain.Truncated || *plain.ALPN != "" {
		t.Errorf("%+v", plain)
	}
	if failed := NewTLSInfo(&tls.ConnectionState{ServerName: "x"}, nil, false); failed.SNI != "x" || failed.Version != "" || failed.Cipher != "" || failed.ALPN != nil {
		t.Errorf("a handshake that got nowhere: %+v", failed)
	}
}
