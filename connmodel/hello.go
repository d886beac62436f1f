package connmodel

import "slices"

// ClientHello is what the first flight of a TLS client says in the clear (RFC 8446, section 4.1.2). It is plain data, made once by
// whoever peeked at it and not changed afterwards. All lists are bounded; Truncated says that one was cut.
type ClientHello struct {
	SNI          string   // server name asked for (RFC 6066, section 3), canonical as in Address; "" = none was sent
	ALPN         []string // protocols offered (RFC 7301), in the client's order; nil = the extension was absent
	Versions     []uint16 // TLS versions offered, highest preference first, without GREASE (RFC 8701)
	CipherSuites []uint16 // in the client's order, without GREASE
	ECH          bool     // an encrypted_client_hello extension is there (RFC 9849): SNI is then that of the outer hello
	JA4          string   // fingerprint of the client, "t13d1516h2_8daaf6152771_b186095e22b6"
	Truncated    bool

	// SNIError says why the name that was sent is none and was not used, as the end of "the server name ..."; "" = nothing was wrong.
	SNIError string
}

// Offers reports whether the client offered the protocol by ALPN. h may be nil.
func (h *ClientHello) Offers(protocol string) bool {
	return h != nil && slices.Contains(h.ALPN, protocol)
}
