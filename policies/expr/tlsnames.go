package expr

import (
	"viaduct/connmodel"
)

// tlsNames are what a TLS client says first in its tunnel. Without TLS, and in plain requests, the texts are "", the lists empty and the
// rest false.
var tlsNames = []*name{
	{name: "tls.hello", typ: "bool", kind: kindBool, need: connmodel.NeedHello,
		meaning: "true when the tunnel begins with the ClientHello of a TLS client",
		test:    func(f *connmodel.Facts) bool { return f.Hello != nil }},
	stringName("tls.sni", `server name that the TLS client asks for, in the spelling of target.host; "" without one`, `it is "" without one`,
		func(f *connmodel.Facts) string { return hello(f).SNI }, domain{host: true, lower: true, empty: true}).of(connmodel.NeedHello),
	{name: "tls.alpn", typ: "list of strings", kind: kindTexts, need: connmodel.NeedHello,
		meaning: `protocols that the TLS client offers, as in contains(tls.alpn, "h2")`,
		texts:   func(f *connmodel.Facts) []string { return hello(f).ALPN }},
	stringName("tls.ja4", `JA4 fingerprint of the TLS client; "" without TLS`, `it is "" without TLS`,
		func(f *connmodel.Facts) string { return hello(f).JA4 }, domain{}).of(connmodel.NeedHello),
	{name: "tls.ech", typ: "bool", kind: kindBool, need: connmodel.NeedHello,
		meaning: "true when the ClientHello holds an encrypted one (browsers may send one that is only pretence), so that tls.sni need not be the name meant",
		test:    func(f *connmodel.Facts) bool { return hello(f).ECH }},
}

var noHello connmodel.ClientHello

// hello is what the client said, or nothing.
func hello(f *connmodel.Facts) *connmodel.ClientHello {
	if f.Hello == nil {
		return &noHello
	}
	return f.Hello
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if i == 8 {
			dst = append(dst, "…"...)
			break
		}
		dst = appendQuoted(dst, s)
	}
	return append(dst, ']')
}
