package certcheck

import (
	"crypto/x509"
	"errors"
	"time"

	"viaduct/connmodel"
)

// Verify does what crypto/tls does with the chain of a server: roots nil = the system's; name "" = no name is checked.
func Verify(sent []*x509.Certificate, roots *x509.CertPool, name string, at time.Time) ([][]*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at, Intermediates: x509.NewCertPool()}
	for i, c := range sent {
		if i > 0 {
			o.Intermediates.AddCert(c)
		}
	}
	return sent[0].Verify(o)
}

// Findings returns everything that is wrong with a chain, where a handshake fails at the first of it: none = it is accepted, by the
// chains that are returned.
func Findings(sent []*x509.Certificate, roots *x509.CertPool, name string, at time.Time) (all []Finding, chains [][]*x509.Certificate) {
	if len(sent) == 0 {
		return []Finding{{connmodel.ChainInvalid, "is missing: none was sent"}}, nil
	}
	now, moved := at, false
	for range 3 { // dates, then the name, then the authority
		got, err := Verify(sent, roots, name, at)
		if err == nil {
			if len(all) == 0 {
				chains = got
			}
			return all, chains
		}
		if moved && validAt(err, now) {
			return all, nil // the fault is that of the moment which was tried, and the authority cannot be judged at it
		}
		f, _ := Judge(err, sent)
		if f.Verdict == "" {
			f = Finding{connmodel.ChainInvalid, "was not accepted: " + quote(err.Error())}
		}
		all = append(all, f)
		switch f.Verdict {
		case connmodel.ChainExpired, connmodel.ChainNotYetValid:
			if moved {
				return all, nil
			}
			moved, at = true, nearest(sent[0], at) // the authorities of today were most likely there then
		case connmodel.ChainName, connmodel.ChainNoName:
			name = ""
		default:
			return all, nil
		}
	}
	return all, nil
}

// nearest returns the moment at which c is valid that lies nearest to at.
func nearest(c *x509.Certificate, at time.Time) time.Time {
	switch {
	case at.Before(c.NotBefore):
		return c.NotBefore
	case at.After(c.NotAfter):
		return c.NotAfter
	}
	return at
}

// validAt reports whether err is about the dates of a certificate that is valid at the moment now.
func validAt(err error, now time.Time) bool {
	var e x509.CertificateInvalidError
	return errors.As(err, &e) && e.Reason == x509.Expired && e.Cert != nil && nearest(e.Cert, now).Equal(now)
}
