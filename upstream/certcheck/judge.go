package certcheck

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// Finding is what is wrong with a chain. The zero value says that nothing was looked at.
type Finding struct {
	Verdict connmodel.ChainVerdict
	// Text goes on where "the certificate of X" leaves off: "is not for ...". It is "" for ChainOK.
	Text string
}

// OK is the finding of a chain with which all is well.
var OK = Finding{Verdict: connmodel.ChainOK}

// Sent returns the chain that a failed handshake was about, where err holds it.
func Sent(err error) []*x509.Certificate {
	var v *tls.CertificateVerificationError
	var p *PinError
	switch {
	case errors.As(err, &v):
		return v.UnverifiedCertificates
	case errors.As(err, &p):
		return p.sent
	}
	return nil
}

// Judge says what err, of a verification or a handshake, means for the chain that was sent, leaf first; it may be nil where it is not
// known. ok is false when err is not about certificates.
func Judge(err error, sent []*x509.Certificate) (f Finding, ok bool) {
	var (
		pin     *PinError
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		weak    x509.InsecureAlgorithmError
		roots   x509.SystemRootsError
		other   *tls.CertificateVerificationError
	)
	switch {
	case err == nil:
		return OK, true
	case errors.As(err, &pin):
		return Finding{connmodel.ChainPin, pin.text()}, true
	case errors.As(err, &name):
		return nameFinding(name, sent), true
	case errors.As(err, &unknown):
		return authorityFinding(unknown, sent), true
	case errors.As(err, &invalid):
		return invalidFinding(invalid, sent), true
	case errors.As(err, &weak):
		return Finding{connmodel.ChainWeak, "is signed with an algorithm that can be forged (" + x509.SignatureAlgorithm(weak).String() + "); it must be issued anew"}, true
	case errors.As(err, &roots):
		return Finding{connmodel.ChainInvalid, "cannot be checked: this machine has no authorities to trust; install ca-certificates, or set ca"}, true
	case errors.As(err, &other):
		return Finding{connmodel.ChainInvalid, "was not accepted: " + quote(other.Err.Error())}, true
	case strings.Contains(err.Error(), "invalid signature by the server certificate"): // no type for it, as below
		if f, is := misplaced(sent); is {
			return f, true
		}
		return Finding{connmodel.ChainInvalid, "does not belong to the key that the other end uses (its signature is wrong); certificate and key there must be a pair"}, true
	case strings.Contains(err.Error(), "keys are insecure"): // crypto/rsa has no type for it
		return Finding{connmodel.ChainWeakKey, "has a key that is too short to be safe; it must be issued anew"}, true
	}
	return Finding{}, false
}

func nameFinding(e x509.HostnameError, sent []*x509.Certificate) Finding {
	if f, is := misplaced(sent); is {
		return f
	}
	wanted := "is not for " + quote(e.Host)
	switch all := Names(e.Certificate); {
	case e.Certificate == nil:
		return Finding{connmodel.ChainName, wanted + "; check server_name"}
	case len(all) == 0:
		text := wanted + ": it has no name at all (no subject alternative name"
		if cn := e.Certificate.Subject.CommonName; cn != "" {
			text += "; its common name, " + quote(cn) + ", does not count"
		}
		return Finding{connmodel.ChainNoName, text + "); it must be issued anew"}
	default:
		return Finding{connmodel.ChainName, wanted + " but for " + list(all) + "; check server_name"}
	}
}

func authorityFinding(e x509.UnknownAuthorityError, sent []*x509.Certificate) Finding {
	if f, is := misplaced(sent); is {
		return f
	}
	if len(sent) == 0 {
		if e.Cert == nil {
			return Finding{connmodel.ChainAuthority, "is signed by an authority that is not trusted; add its CA with ca"}
		}
		sent = []*x509.Certificate{e.Cert}
	}
	leaf := sent[0]
	path := Path(sent)
	for _, c := range path {
		if insecure(c.SignatureAlgorithm) && !selfSigned(c) {
			text := "is signed with an algorithm that can be forged (" + c.SignatureAlgorithm.String() + "); it must be issued anew"
			if c != leaf {
				text = "hangs on one of " + issued(c) + " that is signed with an algorithm that can be forged (" + c.SignatureAlgorithm.String() + ")"
			}
			return Finding{connmodel.ChainWeak, text}
		}
	}
	top := path[len(path)-1]
	switch {
	case selfSigned(leaf):
		return Finding{connmodel.ChainSelfSigned, "is self-signed, and not itself trusted; if it is the right one, give it as ca"}
	case selfSigned(top):
		return Finding{connmodel.ChainAuthority, "is signed by an authority that is not trusted (" + quote(top.Subject.String()) + "); add its CA with ca"}
	case len(sent) > len(path):
		return Finding{connmodel.ChainAuthority, "is signed by an authority that is not trusted (" + quote(top.Issuer.String()) +
			"), and the other certificates that were sent do not lead on from there: a wrong or missing intermediate certificate; else add its CA with ca"}
	}
	return Finding{connmodel.ChainAuthority, "is signed by an authority that is not trusted (" + quote(top.Issuer.String()) +
		"), whose own certificate was not sent: an intermediate certificate is missing at the other end, or add its CA with ca"}
}

func invalidFinding(e x509.CertificateInvalidError, sent []*x509.Certificate) Finding {
	c := e.Cert
	if e.Reason == x509.Expired && c != nil {
		verdict := connmodel.ChainExpired
		if time.Now().Before(c.NotBefore) {
			verdict = connmodel.ChainNotYetValid
		}
		what := "is not valid now: it is so"
		if len(sent) > 0 && c != sent[0] && !c.Equal(sent[0]) {
			what = "hangs on one of " + issued(c) + " that is not valid now: it is so"
		}
		return Finding{verdict, what + " from " + day(c.NotBefore) + " to " + day(c.NotAfter) + "; it must be renewed, or a clock is wrong"}
	}
	if f, is := misplaced(sent); is {
		return f
	}
	if e.Reason == x509.IncompatibleUsage {
		return Finding{connmodel.ChainUsage, "cannot be used: it is not meant for TLS servers (extended key usage); it must be issued anew"}
	}
	return Finding{connmodel.ChainInvalid, "cannot be used: " + quote(e.Error())}
}

// misplaced says that the peer sends a certificate of an authority first, where its own belongs (RFC 8446, section 4.4.2).
func misplaced(sent []*x509.Certificate) (Finding, bool) {
	if len(sent) < 2 || !sent[0].IsCA {
		return Finding{}, false
	}
	for i, c := range sent[1:] {
		if !c.IsCA {
			return Finding{connmodel.ChainOrder, "is not the first that is sent: an authority's is (" + quote(sent[0].Subject.String()) + "), its own (" + quote(c.Subject.String()) +
				") only in place " + strconv.Itoa(i+2) + "; the file of certificates at the other end must begin with its own"}, true
		}
	}
	return Finding{}, false
}

// Path returns the certificates that follow from the first of sent, each signed by the next, as far as they were sent.
func Path(sent []*x509.Certificate) []*x509.Certificate {
	if len(sent) == 0 {
		return nil
	}
	path := []*x509.Certificate{sent[0]}
	for len(path) < maxPath {
		c := path[len(path)-1]
		i := slices.IndexFunc(sent, func(x *x509.Certificate) bool {
			return bytes.Equal(x.RawSubject, c.RawIssuer) && x.IsCA && !slices.Contains(path, x)
		})
		if i < 0 {
			break
		}
		path = append(path, sent[i])
	}
	return path
}

// maxPath bounds how much of a chain is looked at: nobody has longer ones.
const maxPath = 10

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

func insecure(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// shortKey reports whether the key of a certificate is one that authorities have not been allowed to sign since 2014.
func shortKey(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && k.N.BitLen() < 2048
}

// issued names a certificate that is not the leaf.
func issued(c *x509.Certificate) string { return quote(c.Subject.String()) }

// Names returns the names that a certificate is for.
func Names(c *x509.Certificate) []string {
	if c == nil {
		return nil
	}
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

// maxNames bounds how many names of a certificate a message lists.
const maxNames = 5

func list(names []string) string {
	out := ""
	for i, n := range names {
		switch {
		case i == maxNames:
			return out + " and " + strconv.Itoa(len(names)-maxNames) + " more"
		case i > 0:
			out += ", "
		}
		out += quote(n)
	}
	return out
}

// maxQuoted bounds a text of the peer's in a message.
const maxQuoted = 200

// quote makes a text of the peer's fit for a line of a log.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return strconv.QuoteToASCII(s)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
