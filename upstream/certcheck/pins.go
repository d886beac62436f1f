package certcheck

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"viaduct/connmodel"
)

// Pins are keys of which a peer must show one, as connmodel.PinOf writes them.
type Pins []string

// ParsePin checks a pin as it is written in a policy.
func ParsePin(s string) error {
	b64, ok := strings.CutPrefix(s, "sha256/")
	if !ok || strings.HasPrefix(b64, "/") {
		return errors.New(`a pin is "sha256/" and 44 characters of base64`)
	}
	if b, err := base64.StdEncoding.Strict().DecodeString(b64); err != nil || len(b) != 32 || len(b64) != 44 { // line breaks would be read over
		return errors.New("behind sha256/ comes the base64 form of 32 bytes: 44 characters that end in =")
	}
	return nil
}

// VerifyConnection is for tls.Config: it runs in every handshake, those that resume a session included. Where the chain was verified,
// any certificate of any chain found will do. Else the peer's own certificate has to match: it alone was proved to be the peer's, the
// others could be anybody's.
func (p Pins) VerifyConnection(cs tls.ConnectionState) error {
	for _, chain := range cs.VerifiedChains {
		if slices.ContainsFunc(chain, p.has) {
			return nil
		}
	}
	if len(cs.VerifiedChains) == 0 && len(cs.PeerCertificates) > 0 && p.has(cs.PeerCertificates[0]) {
		return nil
	}
	return &PinError{sent: cs.PeerCertificates}
}

func (p Pins) has(c *x509.Certificate) bool { return slices.Contains(p, connmodel.PinOf(c)) }

// PinError says that a peer showed none of the pinned keys.
type PinError struct{ sent []*x509.Certificate }

// Error implements error.
func (e *PinError) Error() string { return "the certificate " + e.text() }

func (e *PinError) text() string {
	s := "has none of the pinned keys"
	if len(e.sent) > 0 {
		s += "; its own is " + connmodel.PinOf(e.sent[0])
	}
	return s + ". If it was changed on purpose, change pins"
}
