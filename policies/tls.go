package policies

import (
	"crypto/tls"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

const maxPEM = 4 << 20

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// tlsVersion reads the lowest version of TLS; 1.2 unless it says otherwise.
func (b *block) tlsVersion(name string) uint16 {
	s := b.text(name)
	if s == "" {
		return tls.VersionTLS12
	}
	v, ok := tlsVersions[s]
	if !ok {
		b.l.errorAt(b.rng(name), "Unknown value", fmt.Sprintf(`%q can be "1.2" or "1.3". Older versions are broken.`, name))
	}
	return v
}

// keyPair reads the attributes certificate and key.
func (b *block) keyPair() (tls.Certificate, bool) {
	certFile, keyFile := b.text("certificate"), b.text("key")
	if certFile == "" || keyFile == "" {
		return tls.Certificate{}, false
	}
	cert, _, ok1 := b.l.dataFile(b.rng("certificate"), certFile, maxPEM, "certificate")
	key, _, ok2 := b.l.dataFile(b.rng("key"), keyFile, maxPEM, "key")
	if !ok1 || !ok2 {
		return tls.Certificate{}, false
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		b.l.errorAt(b.rng("certificate"), "Certificate and key", fmt.Sprintf("They cannot be used together: %v.", err))
		return tls.Certificate{}, false
	}
	return pair, true
}

// serverName reads a name to send and verify.
func (b *block) serverName(name string) string {
	s := b.text(name)
	if s == "" {
		return ""
	}
	host, err := connmodel.CanonicalHost(s)
	if err != nil {
		b.l.errorAt(b.rng(name), "Wrong name", fmt.Sprintf("%v.", err))
	}
	return host
}

var planSchema = schema(attrs("mode", "on_client_reject"), clientTLSAttrs)

// tlsPlan reads the tls block of a rule.
func (l *loader) tlsPlan(x *hcl.Block) *connmodel.TLSPlan {
	b := l.open(x, planSchema)
	if !b.need("mode", `"passthrough" leaves the bytes alone, "upgrade" takes a plain client over TLS to the server, "terminate" a TLS client to a plain server, "intercept" opens TLS on both sides`) {
		return nil
	}
	modes := []string{string(connmodel.TLSPassthrough), string(connmodel.TLSUpgrade), string(connmodel.TLSTerminate), string(connmodel.TLSIntercept)}
	switch mode := b.text("mode"); mode {
	case string(connmodel.TLSUpgrade):
		b.withoutEffect("no TLS of a client ends here", "on_client_reject")
		x := b.clientTLS()
		p := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, ServerName: x.serverName, Config: x.config}
		b.plainALPN(p)
		return p
	case string(connmodel.TLSPassthrough):
		for name, a := range b.attrs {
			if name != "mode" {
				l.errorAt(a.NameRange, "Without effect", fmt.Sprintf(`With mode = "passthrough" Viaduct makes no TLS itself, so %q says nothing. Use mode = "upgrade", or leave it out.`, name))
			}
		}
		return &connmodel.TLSPlan{Mode: connmodel.TLSPassthrough}
	case string(connmodel.TLSIntercept):
		return b.interceptPlan()
	case string(connmodel.TLSTerminate):
		return b.terminatePlan()
	case "":
		return nil
	default:
		l.errorAt(b.rng("mode"), "Unknown value", fmt.Sprintf("\"mode\" can be %s.%s", oneOf(modes), didYouMean(mode, modes)))
	}
	return nil
}
