package policies

import (
	"crypto/x509"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"viaduct/upstream"
)

// Door says who may use a control door over TCP, and for what; over a Unix socket everything is allowed, but for Pprof.
type Door struct {
	Token upstream.Secret // zero = that of the file that is made for it; none when only certificates will do
	Write bool            // requests that change something are taken
	Pprof bool            // profiles are shown
	TLS   *DoorTLS        // nil = it speaks none
}

// DoorTLS is TLS of the control door.
type DoorTLS struct {
	Pair       KeyPair        // zero in lenient loads of files that are not here
	MinVersion uint16         // of TLS
	ClientCAs  *x509.CertPool // of those whose certificate stands for the token; nil = clients are asked for none
	Optional   bool           // the token will do, too
}

var (
	adminSchema    = schema(attrs("address", "token", "write", "pprof"), blocks("tls"))
	adminTLSSchema = schema(attrs("certificate", "key", "min_version", "client_ca", "client_certificate"))
)

// minDoorToken is what cannot be guessed, in bytes.
const minDoorToken = 16

// door reads the admin block.
func (l *loader) door(x *hcl.Block) (address string, d Door) {
	b := l.open(x, adminSchema)
	address = l.adminAddress(b)
	d.Write, d.Pprof = b.boolean("write", false), b.boolean("pprof", false)
	d.Token = b.doorToken("token")
	if t := b.one("tls"); t != nil {
		d.TLS = l.doorTLS(t)
		if b.has("token") && d.TLS.ClientCAs != nil && !d.TLS.Optional {
			l.errorAt(b.attrs["token"].NameRange, "Without effect", `Clients have to show a certificate, so nobody is asked for a token. Write client_certificate = "optional" if one of the two is enough.`)
		}
	}
	if l.gateway.admin.network == "unix" {
		for _, name := range [...]string{"token", "write"} {
			if b.has(name) {
				l.errorAt(b.attrs[name].NameRange, "Without effect", fmt.Sprintf("%q is for a door over TCP: whoever may open the socket may do everything.", name))
			}
		}
		if t := b.one("tls"); t != nil {
			l.errorAt(t.DefRange, "Without effect", "TLS is for a door over TCP: a Unix socket is guarded by its file mode.")
		}
	}
	return address, d
}

// doorToken reads what clients of the door have to show.
func (b *block) doorToken(name string) upstream.Secret {
	at := b.attrs[name]
	if at == nil {
		return upstream.Secret{}
	}
	raw := b.secret(name)
	text := b.l.clean(raw, b.rng(name), name)
	if isLiteral(at.Expr) && raw != "" || hasDefault(at.Expr) {
		b.l.warnAt(at.Expr.Range(), "Password in the policy", `Whoever reads this file reads the token. Write token = credential("name") or env("NAME").`)
	}
	if raw != "" && len(text) < minDoorToken {
		b.l.errorAt(at.Expr.Range(), "Token too short", fmt.Sprintf("The token of the control door has at least %d bytes: openssl rand -base64 32 makes a good one.", minDoorToken))
		return upstream.Secret{}
	}
	return upstream.NewSecret(text)
}

func (l *loader) doorTLS(x *hcl.Block) *DoorTLS {
	b := l.open(x, adminTLSSchema)
	t := &DoorTLS{MinVersion: b.tlsVersion("min_version")}
	var pairs ListenerTLS
	pairs.addPair(b, "the certificate that clients see")
	if len(pairs.Pairs) > 0 {
		t.Pair = pairs.Pairs[0]
	}
	l.lintPairs(&pairs, b, l.gateway.admin, 0)
	pairs.readClients(b)
	t.ClientCAs, t.Optional = pairs.ClientCAs, pairs.Optional
	return t
}
