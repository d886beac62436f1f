package policies

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
)

// clientTLSAttrs say how Viaduct makes TLS as a client. They mean the same in the tls block of a rule and of an upstream.
var clientTLSAttrs = attrs("ca", "system_roots", "server_name", "min_version", "max_version", "ciphers", "alpn", "certificate", "key", "pins", "verify")

// clientTLS is what they say.
type clientTLS struct {
	config     *tls.Config // pins are in it as VerifyConnection, so that whoever uses it cannot pass them over
	serverName string
	pins       []string
	alpn       []named // as offered, with their places
}

// clientTLS reads clientTLSAttrs.
func (b *block) clientTLS() clientTLS {
	x := clientTLS{config: &tls.Config{}, serverName: b.serverName("server_name")}
	b.versions(x.config)
	b.ciphers(x.config)
	b.roots(x.config)
	x.alpn = b.alpn()
	for _, e := range x.alpn {
		x.config.NextProtos = append(x.config.NextProtos, e.text)
	}
	if b.has("certificate") != b.has("key") {
		b.l.errorAt(b.src.DefRange, "Missing argument", "A client certificate needs both: certificate and key.")
	} else if cert, ok := b.keyPair(); ok {
		x.config.Certificates = []tls.Certificate{cert}
	}
	if x.pins = b.pins(); x.pins != nil {
		x.config.VerifyConnection = certcheck.Pins(x.pins).VerifyConnection
	}
	b.verify(x.config, x.pins)
	return x
}

// verify reads whether the certificate is checked. That it is not must be seen wherever somebody looks.
func (b *block) verify(conf *tls.Config, pins []string) {
	if b.boolean("verify", true) {
		return
	}
	conf.InsecureSkipVerify = true
	detail := "Whoever is in the way can pass for the other end and read everything, passwords included. Give its CA with ca, or pin its key with pins (viaduct cert prints it), and leave verify out."
	if len(pins) > 0 {
		detail = "Name, dates and authority are not checked: what is left is that the other end's own key is one of pins."
	}
	b.l.warnAt(b.rng("verify"), "Certificate not verified", detail)
}

var oldVersions = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11}

// versions reads min_version and max_version. Old versions are for old servers that nobody can mend, and said to be.
func (b *block) versions(conf *tls.Config) {
	read := func(name string, otherwise uint16) uint16 {
		s := b.text(name)
		if s == "" {
			return otherwise
		}
		if v, ok := tlsVersions[s]; ok {
			return v
		}
		if v, ok := oldVersions[s]; ok {
			b.l.warnAt(b.rng(name), "Old version of TLS", fmt.Sprintf("TLS %s has been broken and withdrawn (RFC 8996). Allow it for nothing but a server that has no other.", s))
			return v
		}
		b.l.errorAt(b.rng(name), "Unknown value", fmt.Sprintf(`%q can be "1.2" or "1.3"; "1.0" and "1.1" are for servers that have nothing better.`, name))
		return otherwise
	}
	conf.MinVersion = read("min_version", tls.VersionTLS12)
	conf.MaxVersion = read("max_version", 0)
	if conf.MaxVersion != 0 && conf.MaxVersion < conf.MinVersion {
		what := "min_version"
		if !b.has("min_version") {
			what += `, which is "1.2" unless it is written`
		}
		b.l.errorAt(b.rng("max_version"), "Versions that exclude each other", "max_version is below "+what+": no handshake could be made.")
	}
}

// ciphers reads the suites of TLS 1.2 by their IANA names.
func (b *block) ciphers(conf *tls.Config) {
	if !b.has("ciphers") {
		return
	}
	if conf.MinVersion >= tls.VersionTLS13 {
		b.l.errorAt(b.rng("ciphers"), "Without effect", "The cipher suites of TLS 1.3 are fixed, and min_version allows nothing else. Leave ciphers out.")
		return
	}
	var names []string
	ids, weak := map[string]uint16{}, map[string]bool{}
	for i, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
				continue
			}
			ids[s.Name], weak[s.Name] = s.ID, i == 1
			names = append(names, s.Name)
		}
	}
	for _, e := range b.entries("ciphers") {
		id, known := ids[e.text]
		switch {
		case e.text == "TLS_AES_128_GCM_SHA256" || e.text == "TLS_AES_256_GCM_SHA384" || e.text == "TLS_CHACHA20_POLY1305_SHA256":
			b.l.errorAt(e.r, "Without effect", fmt.Sprintf("%s is of TLS 1.3, whose suites are fixed. Name suites of TLS 1.2, and leave this one out.", e.text))
		case !known:
			b.l.errorAt(e.r, "Unknown cipher suite", fmt.Sprintf("%q is no cipher suite of TLS 1.2 by its IANA name, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256.%s", e.text, didYouMean(e.text, names)))
		case slices.Contains(conf.CipherSuites, id):
			b.l.errorAt(e.r, "Duplicate name", fmt.Sprintf("%s stands here twice.", e.text))
		default:
			if weak[e.text] {
				b.l.warnAt(e.r, "Weak cipher suite", fmt.Sprintf("%s is not safe any more. Allow it for nothing but a server that has no other.", e.text))
			}
			conf.CipherSuites = append(conf.CipherSuites, id)
		}
	}
}

// roots reads who is trusted: the system's authorities, or those of ca, or both.
func (b *block) roots(conf *tls.Config) {
	system := b.boolean("system_roots", false)
	if !b.has("ca") {
		if b.has("system_roots") {
			b.l.errorAt(b.rng("system_roots"), "Without effect", "Without ca the system's authorities are trusted, and they alone. system_roots says whether they are trusted beside those of ca.")
		}
		return
	}
	conf.RootCAs = x509.NewCertPool() // an unreadable file must not mean: trust the system's
	if system {
		if pool, err := x509.SystemCertPool(); err == nil {
			conf.RootCAs = pool
		} else {
			b.l.errorAt(b.rng("system_roots"), "No system roots", fmt.Sprintf("The authorities that this machine trusts cannot be read: %v.", err))
		}
	}
	for _, e := range b.entries("ca") {
		if e.text == "" {
			b.l.errorAt(e.r, "Empty path", `"ca" names no file.`)
			continue
		}
		if pem, full, ok := b.l.dataFile(e.r, e.text, maxPEM, "file of certificates"); ok && !conf.RootCAs.AppendCertsFromPEM(pem) {
			b.l.errorAt(e.r, "No certificate", fmt.Sprintf("%s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).", full))
		}
	}
}

// maxALPN bounds the offers; together they fit into any ClientHello.
const maxALPN = 16

// alpn reads the protocols that are offered (RFC 7301), the most wanted first.
func (b *block) alpn() []named {
	var all []named
	for _, e := range b.entries("alpn") {
		switch {
		case e.text == "" || len(e.text) > 255:
			b.l.errorAt(e.r, "Wrong protocol", `A protocol of ALPN has 1 to 255 bytes, such as "http/1.1" or "h2".`)
		case slices.ContainsFunc(all, func(x named) bool { return x.text == e.text }):
			b.l.errorAt(e.r, "Duplicate name", fmt.Sprintf("%q stands here twice.", e.text))
		case len(all) == maxALPN:
			b.l.errorAt(e.r, "Too many protocols", fmt.Sprintf("At most %d protocols can be offered.", maxALPN))
			return all
		default:
			all = append(all, e)
		}
	}
	return all
}

func (b *block) pins() []string {
	var all []string
	for _, e := range b.entries("pins") {
		if err := certcheck.ParsePin(e.text); err != nil {
			hint := ""
			if strings.HasPrefix(e.text, "sha256//") {
				hint = " Write one slash where curl writes two."
			}
			b.l.errorAt(e.r, "Wrong pin", fmt.Sprintf("%s.%s viaduct cert HOST:PORT prints the pins of a server.", upperFirst(err.Error()), hint))
			continue
		}
		if !slices.Contains(all, e.text) {
			all = append(all, e.text)
		}
	}
	return all
}

// hopALPN looks at what is offered to a proxy: what is agreed on must be a protocol that is spoken to it.
func (b *block) hopALPN(x clientTLS, protocols []string) {
	for _, e := range x.alpn {
		if !slices.Contains(protocols, e.text) {
			b.l.errorAt(e.r, "Wrong protocol", fmt.Sprintf("To a proxy Viaduct speaks %s, so it can offer nothing else.%s", oneOf(protocols), didYouMean(e.text, protocols)))
		}
	}
}

// plainALPN looks at what is offered to a server whose client speaks for itself.
func (b *block) plainALPN(p *connmodel.TLSPlan) {
	if slices.Contains(p.Config.NextProtos, "h2") {
		b.l.warnAt(b.rng("alpn"), "Protocol of the client", `The bytes of a plain client go to the server as they are. If the server takes up "h2", clients that speak HTTP/1.1 will not be understood.`)
	}
}
