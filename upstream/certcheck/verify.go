package certcheck

import (
	"crypto/x509"
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
	moved := false
	for range 3 { // dates, then the name, then the authority
		got, err := Verify(sent, roots, name, at)
		if err == nil {
			if len(all) == 0 {
				chains = got
			}
			return all, chains
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
			moved, at = true, sent[0].NotBefore.Add(sent[0].NotAfter.Sub(sent[0].NotBefore)/2)
		case connmodel.ChainName, connmodel.ChainNoName:
			name = ""
		default:
			return all, nil
		}
	}
	return all, nil
}
