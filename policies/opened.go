package policies

import (
	"fmt"
	"slices"

	"viaduct/connmodel"
)

// interceptPlan reads the tls block of a rule that opens TLS on both sides. Its attributes are about the server's side.
func (b *block) interceptPlan() *connmodel.TLSPlan {
	b.signs()
	b.withoutEffect("the server is offered what the client offers", "alpn")
	x := b.clientTLS()
	p := &connmodel.TLSPlan{Mode: connmodel.TLSIntercept, ServerName: x.serverName, Config: x.config}
	p.LearnRejects = b.oneOf("on_client_reject", "deny", "passthrough") == "passthrough"
	return p
}

// terminatePlan reads the tls block of a rule that takes a TLS client to a plain server. Its attributes are about the client's side.
func (b *block) terminatePlan() *connmodel.TLSPlan {
	b.withoutEffect("TLS ends here, and nothing is verified of a plain server", "server_name", "ca", "system_roots", "min_version", "max_version", "ciphers", "alpn", "pins", "verify", "on_client_reject")
	p := &connmodel.TLSPlan{Mode: connmodel.TLSTerminate}
	switch given := b.has("certificate"); {
	case given != b.has("key"):
		b.l.errorAt(b.src.DefRange, "Missing argument", "The certificate that clients are shown needs both: certificate and key. Without either, one is made by the authority.")
	case given:
		if pair, ok := b.keyPair(); ok {
			p.Certificate = &pair
		}
	default:
		b.signs()
	}
	return p
}

// signs notes that the rule asks for certificates of the authority, which is looked for by who runs the policy.
func (b *block) signs() { b.l.signs = append(b.l.signs, b.rng("mode")) }

// withoutEffect reports attributes that say nothing here.
func (b *block) withoutEffect(why string, names ...string) {
	for _, name := range slices.Sorted(slices.Values(names)) {
		if a := b.attrs[name]; a != nil {
			b.l.errorAt(a.NameRange, "Without effect", fmt.Sprintf("%q says nothing here: %s.", name, why))
		}
	}
}

// ofRequests reports whether the rule takes requests alone, and no tunnels.
func (r *rule) ofRequests() bool {
	for _, t := range r.blocks {
		if t.methods == nil && t.paths == nil && t.headers == nil && t.schemes == nil {
			return false
		}
	}
	return len(r.blocks) > 0
}
