package certcheck

import (
	"crypto/tls"
	"slices"
)

// Same reports whether two configurations of a client mean the same, so that what was learnt by one holds for the other. What
// VerifyConnection wants and the name that is sent are the caller's to compare.
func Same(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.MinVersion != b.MinVersion || a.MaxVersion != b.MaxVersion || a.InsecureSkipVerify != b.InsecureSkipVerify ||
		!slices.Equal(a.NextProtos, b.NextProtos) || !slices.Equal(a.CipherSuites, b.CipherSuites) || (a.VerifyConnection == nil) != (b.VerifyConnection == nil) || (a.RootCAs == nil) != (b.RootCAs == nil) ||
		a.RootCAs != nil && !a.RootCAs.Equal(b.RootCAs) {
		return false
	}
	return slices.EqualFunc(a.Certificates, b.Certificates, func(x, y tls.Certificate) bool {
		return slices.EqualFunc(x.Certificate, y.Certificate, slices.Equal[[]byte])
	})
}
