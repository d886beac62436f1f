package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"

	"viaduct/connmodel"
)

func certificateRow(e *HopError) (verdict, bool) {
	text, ok := certificateText(e)
	if !ok {
		return verdict{}, false
	}
	// Another way leads to the same server, but another proxy may have a certificate that is right.
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: text}, true
}

func alertRow(e *HopError) (verdict, bool) {
	a, ok := connmodel.PeerAlert(e.Err)
	if !ok {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), code: int(a), codeOf: "tls"}
	v.text = e.peer() + " ended the TLS handshake: " + a.Error()
	switch a {
	case 40:
		v.text += "; it has no version or cipher in common with us, or wants a client certificate"
	case 70:
		v.text += "; it speaks no TLS version that we allow, check min_version"
	case 42, 43, 44, 45, 46, 48, 116:
		v.text += "; it does not accept our client certificate, or wants one"
	case 112:
		v.text += "; it does not know the name we asked for, check server_name"
	}
	return v, true
}

func recordRow(e *HopError) (verdict, bool) {
	var r tls.RecordHeaderError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: e.peer() + " does not speak TLS"}
	if h := string(r.RecordHeader[:]); h == "HTTP/" {
		v.text += ", it answered with plain HTTP"
	}
	if e.server() {
		v.text += "; check the port, and whether the rule should have tls at all"
	} else {
		v.text += "; should the url of upstream " + e.Upstream + " be http://?"
	}
	return v, true
}

// tlsRow is what is left of a TLS handshake: crypto/tls has no types for it.
func tlsRow(e *HopError) (verdict, bool) {
	if e.Phase != connmodel.PhaseTLS {
		return verdict{}, false
	}
	text := e.Err.Error()
	if len(text) > 200 {
		text = text[:200]
	}
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: "the TLS handshake with " + e.peer() + " failed: " + strconv.QuoteToASCII(text)}, true
}

// certificateText says what is wrong with a certificate, and what to do.
func certificateText(e *HopError) (string, bool) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var other *tls.CertificateVerificationError
	who := "the certificate of " + e.peer()
	switch {
	case errors.As(e.Err, &name):
		return who + " is not for " + strconv.QuoteToASCII(name.Host) + " but for " + certNames(name.Certificate) + "; check server_name", true
	case errors.As(e.Err, &unknown):
		return who + " is signed by an authority that is not trusted" + issuer(unknown.Cert) + "; add its CA with ca", true
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return who + " is not valid now: it is so from " + invalid.Cert.NotBefore.UTC().Format("2006-01-02 15:04 MST") + " to " +
			invalid.Cert.NotAfter.UTC().Format("2006-01-02 15:04 MST") + "; it must be renewed, or a clock is wrong", true
	case errors.As(e.Err, &invalid):
		return who + " cannot be used: " + strconv.QuoteToASCII(invalid.Error()), true
	case errors.As(e.Err, &other):
		return who + " was not accepted: " + strconv.QuoteToASCII(other.Err.Error()), true
	}
	return "", false
}

// maxNames bounds how many names of a certificate a message lists.
const maxNames = 5

func certNames(c *x509.Certificate) string {
	if c == nil {
		return "other names"
	}
	var all []string
	all = append(all, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name at all (it has no subject alternative name)"
	}
	out := ""
	for i, n := range all {
		switch {
		case i == maxNames:
			return out + " and " + strconv.Itoa(len(all)-maxNames) + " more"
		case i > 0:
			out += ", "
		}
		out += strconv.QuoteToASCII(n)
	}
	return out
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return " (" + strconv.QuoteToASCII(c.Issuer.String()) + ")"
}
