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

	Verdict    ChainVerdict // what was found of the peer's chain; "" = there was none, or nobody looked
	Problem    string       // the verdict in words; "" = all is well
	Unverified bool         // verify = false: the verdict, whatever it is, stopped nothing
	ClientAuth ClientAuth   // whether the peer asked for a certificate of ours; "" = it did not
}

// ClientAuth says what became of a peer's wish for our certificate.
type ClientAuth string

// What there is to say of it.
const (
	ClientAuthSent ClientAuth = "sent"
	ClientAuthNone ClientAuth = "none" // there was none, or none of an authority that the peer named
)

// Bounds of what one handshake may put into a record.
const (
	maxCertificates = 10
	maxSANs         = 100
	maxALPNOffers   = 20
	maxName         = 300 // octets of one name or protocol
)

// NewTLSInfo takes down the state of a handshake, finished or failed, in which the side that was the client offered offers. When the
// certificate was verified for an IP address, of which no SNI tells, the caller sets VerifiedName before it passes t on.
func NewTLSInfo(cs *tls.ConnectionState, offers []string, verified bool) *TLSInfo {
	t := &TLSInfo{SNI: bound(cs.ServerName, maxName), Resumed: cs.DidResume}
	t.Truncated = len(cs.ServerName) > maxName
	if cs.Version != 0 { // a handshake that failed may not have got so far
		t.Version = tls.VersionName(cs.Version)
	}
	if cs.CipherSuite != 0 {
		t.Cipher = tls.CipherSuiteName(cs.CipherSuite)
	}
	if alpn := cs.NegotiatedProtocol; cs.HandshakeComplete || alpn != "" {
		t.ALPN = &alpn
	}
	if verified {
		t.VerifiedName = cs.ServerName
	}
	t.ALPNOffers, t.Truncated = bounded(offers, maxALPNOffers, t.Truncated)
	t.AddCertificates(cs.PeerCertificates)
	return t
}

// AddCertificates takes down the chain as the peer sent it. It is for whoever makes t, before t is passed on.
func (t *TLSInfo) AddCertificates(chain []*x509.Certificate) {
	if len(chain) > maxCertificates {
		chain, t.Truncated = chain[:maxCertificates], true
	}
	now := time.Now()
	for _, c := range chain {
		cert, cut := NewCertificate(c)
		cert.Verdict = cert.VerdictAt(now)
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

// ChainVerdict says what is wrong with the chain of a peer, the worst first where several things are.
type ChainVerdict string

// The verdicts of a chain.
const (
	ChainOK           ChainVerdict = "ok"
	ChainExpired      ChainVerdict = "expired"           // a certificate that counts is not valid any more
	ChainNotYetValid  ChainVerdict = "not_yet_valid"     // ... or not yet
	ChainName         ChainVerdict = "name_mismatch"     // it is for other names
	ChainNoName       ChainVerdict = "no_name"           // it has no subject alternative name; the common name has not counted since RFC 9525
	ChainAuthority    ChainVerdict = "unknown_authority" // nobody who is trusted has signed it, or what leads there was not sent
	ChainSelfSigned   ChainVerdict = "self_signed"       // it is its own authority
	ChainOrder        ChainVerdict = "wrong_order"       // the peer's own certificate is not the first
	ChainWeak         ChainVerdict = "weak_signature"    // signed with an algorithm that can be forged
	ChainWeakKey      ChainVerdict = "weak_key"          // its key is too short
	ChainUsage        ChainVerdict = "wrong_usage"       // it is not for TLS servers (or, of clients, not for those)
	ChainPin          ChainVerdict = "pin_mismatch"      // none of the pinned keys is in it
	ChainInvalid      ChainVerdict = "invalid"           // anything else: see Problem
	ChainExpiringSoon ChainVerdict = "expires_soon"      // of warnings alone: nothing is wrong yet
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
	Pin       string // of its public key, as pins of the policy are written: "sha256/BASE64"
	Signature string // algorithm it is signed with: "SHA256-RSA"
	Verdict   Verdict
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
