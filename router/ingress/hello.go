package ingress

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"viaduct/connmodel"
)

// Bounds of what is kept of a hello. More ALPN offers than maxOffers make it malformed, because rules look at them; of the
// rest, which only records show, the end is cut.
const (
	maxOffers   = 64
	maxVersions = 16
	maxSuites   = 128
)

// Extensions that are looked into (IANA, TLS ExtensionType Values).
const (
	extServerName = 0
	extSignatures = 13
	extALPN       = 16
	extVersions   = 43
	extECH        = 0xfe0d
)

// The reasons why a complete message is not a ClientHello that can be used.
var (
	errSyntax     = errors.New("the ClientHello is cut short, or its lengths contradict each other")
	errTwice      = errors.New("the ClientHello has an extension twice")
	errManyOffers = errors.New("the ClientHello offers more than 64 protocols by ALPN")
	errManyNames  = errors.New("the ClientHello has several server names")
)

// NameError says that the server name of a ClientHello is none: the reason ends a sentence that begins with it. The rest of the hello is
// sound, and has the reason as SNIError.
type NameError struct{ Reason string }

// Error implements error.
func (e *NameError) Error() string { return "the server name (SNI) in the ClientHello " + e.Reason }

// reader takes a message apart. After bad is set it gives nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() int {
	if v := r.take(1); v != nil {
		return int(v[0])
	}
	return 0
}

func (r *reader) u16() int {
	if v := r.take(2); v != nil {
		return int(binary.BigEndian.Uint16(v))
	}
	return 0
}

// vector8 and vector16 take what is written behind its length.
func (r *reader) vector8() reader  { return reader{b: r.take(r.u8())} }
func (r *reader) vector16() reader { return reader{b: r.take(r.u16())} }

// facts is what is read of a hello, before it is bounded.
type facts struct {
	legacy     uint16
	suites     []byte // pairs of octets
	extensions []uint16
	signatures []byte
	versions   []byte
	hasName    bool
	firstALPN  []byte
}

// isGREASE reports whether v is one of the values that mean nothing (RFC 8701).
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// pairs calls f with each number of a list that is none of GREASE.
func pairs(list []byte, f func(uint16)) {
	for ; len(list) > 1; list = list[2:] {
		if v := binary.BigEndian.Uint16(list); !isGREASE(v) {
			f(v)
		}
	}
}

// parseHello reads the body of a ClientHello message. With a *NameError it returns the rest of the hello too.
func parseHello(msg []byte) (*connmodel.ClientHello, error) {
	r := reader{b: msg}
	x := facts{legacy: uint16(r.u16())}
	r.take(32)
	id, suites := r.vector8(), r.vector16()
	methods := r.vector8()
	if r.bad || len(id.b) > 32 || len(suites.b) == 0 || len(suites.b)%2 != 0 || len(methods.b) == 0 {
		return nil, errSyntax
	}
	x.suites = suites.b
	h := &connmodel.ClientHello{}
	var nameErr error
	if len(r.b) > 0 {
		list := r.vector16()
		if r.bad || len(r.b) > 0 {
			return nil, errSyntax
		}
		x.extensions = make([]uint16, 0, 24)
		for len(list.b) > 0 {
			kind := uint16(list.u16())
			body := list.vector16()
			if list.bad {
				return nil, errSyntax
			}
			x.extensions = append(x.extensions, kind)
			err := x.extension(h, kind, body)
			if e, ok := err.(*NameError); ok {
				h.SNIError = e.Reason
				if e != errAddress { // a server takes an address for no name, or for a connection without one
					nameErr = e
				}
			} else if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(x.extensions)
	for i := 1; i < len(x.extensions); i++ {
		if x.extensions[i] == x.extensions[i-1] {
			return nil, errTwice // RFC 8446, section 4.2
		}
	}
	h.Versions = x.offered(h)
	pairs(x.suites, func(v uint16) { h.CipherSuites = bounded(h, h.CipherSuites, v, maxSuites) })
	h.JA4 = x.ja4()
	return h, nameErr
}

func bounded(h *connmodel.ClientHello, list []uint16, v uint16, most int) []uint16 {
	if len(list) == most {
		h.Truncated = true
		return list
	}
	return append(list, v)
}

// offered are the versions, highest preference first. Clients that know no TLS 1.3 name the highest alone.
func (x *facts) offered(h *connmodel.ClientHello) (list []uint16) {
	if x.versions == nil {
		return []uint16{x.legacy}
	}
	pairs(x.versions, func(v uint16) { list = bounded(h, list, v, maxVersions) })
	return list
}

func (x *facts) extension(h *connmodel.ClientHello, kind uint16, body reader) error {
	switch kind {
	case extServerName:
		x.hasName = true
		return readName(h, body)
	case extALPN:
		return x.readALPN(h, body)
	case extVersions:
		v := body.vector8()
		if body.bad || len(body.b) > 0 || len(v.b) == 0 || len(v.b)%2 != 0 {
			return errSyntax
		}
		x.versions = v.b
	case extSignatures:
		v := body.vector16()
		if body.bad || len(body.b) > 0 || len(v.b) == 0 || len(v.b)%2 != 0 {
			return errSyntax
		}
		x.signatures = v.b
	case extECH:
		h.ECH = true
	}
	return nil
}

// readName reads the extension of RFC 6066, section 3.
func readName(h *connmodel.ClientHello, body reader) error {
	list := body.vector16()
	if body.bad || len(body.b) > 0 || len(list.b) == 0 {
		return errSyntax
	}
	found := false
	var bad error
	for len(list.b) > 0 {
		kind, name := list.u8(), list.vector16()
		switch {
		case list.bad || len(name.b) == 0:
			return errSyntax
		case kind != 0:
		case found:
			return errManyNames
		default:
			found = true
			h.SNI, bad = canonicalName(name.b)
		}
	}
	return bad
}

// errAddress is the one wrong name that harms nobody: sloppy clients send the address that they connect to.
var errAddress = &NameError{"is an address"}

// canonicalName makes a server name what targets look like. Addresses are no server names (RFC 6066, section 3).
func canonicalName(b []byte) (string, error) {
	if i := slices.IndexFunc(b, func(c byte) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return "", &NameError{"holds a control character or a blank"}
	}
	if len(b) > 254 { // with a trailing dot
		return "", &NameError{"is longer than 253 bytes"}
	}
	s := string(b)
	if _, err := netip.ParseAddr(strings.Trim(s, "[].")); err == nil {
		return "", errAddress
	}
	name, err := connmodel.CanonicalHost(s)
	if err != nil {
		return "", &NameError{"is no host name: " + err.Error()}
	}
	if _, err := netip.ParseAddr(name); err == nil { // written in full-width digits, say
		return "", errAddress
	}
	return name, nil
}

// readALPN reads the extension of RFC 7301, section 3.1.
func (x *facts) readALPN(h *connmodel.ClientHello, body reader) error {
	list := body.vector16()
	if body.bad || len(body.b) > 0 || len(list.b) == 0 {
		return errSyntax
	}
	for len(list.b) > 0 {
		p := list.vector8()
		switch {
		case list.bad || len(p.b) == 0:
			return errSyntax
		case len(h.ALPN) == maxOffers:
			return errManyOffers
		case len(h.ALPN) == 0:
			x.firstALPN = p.b
		}
		h.ALPN = append(h.ALPN, offer(p.b))
	}
	return nil
}

// offer is a protocol as text, without an allocation for the usual ones.
func offer(b []byte) string {
	switch string(b) {
	case "h2":
		return "h2"
	case "http/1.1":
		return "http/1.1"
	}
	return string(b)
}
