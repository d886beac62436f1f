package connmodel

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// TLSInfo is what is known of TLS on one connection. It is made once, by a handshake, and not changed afterwards.
type TLSInfo struct {
	Version      string   // "TLS 1.3"
	Cipher       string   // IANA name
	SNI          string   // name sent; "" = none
	VerifiedName string   // name the certificate was checked against; "" when it was not checked
	ALPN         *string  // nil = not known, "" = none was agreed
	ALPNOffers   []string // at most maxALPNOffers
	Certificates []Certificate
	Truncated    bool // something above was cut to keep the record bounded
	Resumed      bool
}

// Bounds of what one handshake may put into a record.
const (
	maxCertificates = 10
	maxSANs         = 100
	maxALPNOffers   = 20
	maxName         = 300 // octets of one name or protocol
)

// NewTLSInfo takes down the state of a finished handshake, in which the side that was the client offered offers. When the
// certificate was verified for an IP address, of which no SNI tells, the caller sets VerifiedName before it passes t on.
func NewTLSInfo(cs *tls.ConnectionState, offers []string, verified bool) *TLSInfo {
	t := &TLSInfo{
		Version: tls.VersionName(cs.Version),
		Cipher:  tls.CipherSuiteName(cs.CipherSuite),
		SNI:     bound(cs.ServerName, maxName),
		Resumed: cs.DidResume,
	}
	t.Truncated = len(cs.ServerName) > maxName
	alpn := cs.NegotiatedProtocol
	t.ALPN = &alpn
	if verified {
		t.VerifiedName = cs.ServerName
	}
	t.ALPNOffers, t.Truncated = bounded(offers, maxALPNOffers, t.Truncated)
	t.addCertificates(cs.PeerCertificates)
	return t
}

func (t *TLSInfo) addCertificates(chain []*x509.Certificate) {
	if len(chain) > maxCertificates {
		chain, t.Truncated = chain[:maxCertificates], true
	}
	for _, c := range chain {
		cert, cut := NewCertificate(c)
		t.Truncated = t.Truncated || cut
		t.Certificates = append(t.Certificates, cert)
	}
}

// bounded copies list, of at most most elements of at most maxName octets; cut is true already, or when something was left
// out.
func bounded(list []string, most int, cut bool) ([]string, bool) {
	if len(list) > most {
		list, cut = list[:most], true
	}
	var out []string
	for _, s := range list {
		cut = cut || len(s) > maxName
		out = append(out, bound(s, maxName))
	}
	return out, cut
}

// Verdict says what the calendar says of a certificate.
type Verdict string

// The verdicts.
const (
	CertOK          Verdict = "ok"
	CertNotYetValid Verdict = "not_yet_valid"
	CertExpired     Verdict = "expired"
)

// Certificate is one certificate as sent by a peer, leaf first in a list of them.
type Certificate struct {
	Subject   string
	Issuer    string
	SANs      SANs
	NotBefore time.Time
	NotAfter  time.Time
	Serial    string // hexadecimal
	KeyType   string // "RSA 2048", "ECDSA P-256", "Ed25519"
	SHA256    string // of the DER form, hexadecimal
	IsCA      bool
}

// SANs are the subject alternative names by their kind.
type SANs struct {
	DNS []string `json:"dns"`
	IP  []string `json:"ip"`
	URI []string `json:"uri"`
}

// VerdictAt says whether the certificate is valid at t by its dates alone.
func (c *Certificate) VerdictAt(t time.Time) Verdict {
	switch {
	case t.Before(c.NotBefore):
		return CertNotYetValid
	case t.After(c.NotAfter):
		return CertExpired
	}
	return CertOK
}
