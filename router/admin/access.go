package admin

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
)

// Access says who may come in over TCP, and what they may do. Over a Unix socket, which is guarded by its file mode, everything is allowed.
type Access struct {
	// Token is asked for; it has at least 16 bytes. "" = there is none, and TLS must ask for a client certificate.
	Token string
	// TLS is spoken when it is not nil. A client certificate that it verifies stands for the token. It is cloned.
	TLS *tls.Config
	// Write allows requests that change something. Without it the door answers questions alone.
	Write bool
	// Pprof shows the profiles of package net/http/pprof, here and over a Unix socket.
	Pprof bool
}

// ErrNoToken says that a TCP listener would be open to every user of the machine.
var ErrNoToken = errors.New("control door: over TCP it needs a token of at least 16 bytes, or certificates of clients")

const minToken = 16

// policy is an Access as it is looked at.
type policy struct {
	Access
	sum [sha256.Size]byte // of the token; compared in constant time, whatever its length
}

// Check says why a door would not be opened with a.
func (a *Access) Check(tcp bool) error {
	_, err := a.check(tcp)
	return err
}

func (a *Access) check(tcp bool) (*policy, error) {
	p := &policy{Access: *a, sum: sha256.Sum256([]byte(a.Token))}
	certificates := a.TLS != nil && a.TLS.ClientCAs != nil && a.TLS.ClientAuth >= tls.VerifyClientCertIfGiven
	if tcp && len(a.Token) < minToken && !(a.Token == "" && certificates) {
		return nil, ErrNoToken
	}
	if a.TLS != nil {
		p.TLS = a.TLS.Clone()
		p.TLS.MinVersion = max(p.TLS.MinVersion, tls.VersionTLS12)
		p.TLS.NextProtos = []string{"http/1.1"}
	}
	return p, nil
}
