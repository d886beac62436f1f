package expr

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"viaduct/connmodel"
)

// ScopeName is one name that a condition may use, for the manual.
type ScopeName struct {
	Name    string // "client.user"
	Type    string // "string", "number", "IP address", …
	Meaning string
}

// Scope lists the names of the flow that a condition may use, in the order of the manual. The names of load time
// (local.*, var.*) come on top.
func Scope() []ScopeName {
	list := make([]ScopeName, len(scope))
	for i, n := range scope {
		list[i] = ScopeName{n.name, n.typ, n.meaning}
	}
	return list
}

// name is one entry of the scope.
type name struct {
	name, typ, meaning string

	kind  kind
	str   func(*connmodel.Facts) string
	num   func(*connmodel.Facts) float64
	addr  func(*connmodel.Facts) netip.Addr
	test  func(*connmodel.Facts) bool
	texts func(*connmodel.Facts) []string
	// country is str for what has to be looked up in a database.
	country func(f *connmodel.Facts, of func(netip.Addr) string) string
	need    connmodel.Need                        // what has to be gathered for it
	reach   func(*connmodel.Facts) connmodel.Need // when; nil = always
	span    span
	domain  domain
	field   *connmodel.FilterField // of filters: what it is in a record
	// never says why the name is never null, "" if it can be.
	never string
}

func stringName(n, meaning, never string, get func(*connmodel.Facts) string, d domain) *name {
	d.name = n
	return &name{name: n, typ: "string", meaning: meaning, kind: kindString, str: get, domain: d, never: never}
}

func numberName(n, meaning string, lo, hi float64, get func(*connmodel.Facts) float64) *name {
	return &name{name: n, typ: "number", meaning: meaning, kind: kindNumber, num: get, span: span{lo, hi, true}}
}

// of says that the name's fact has to be gathered.
func (n *name) of(need connmodel.Need) *name {
	n.need = need
	return n
}

func countryName(n, meaning string, get func(*connmodel.Facts, func(netip.Addr) string) string) *name {
	return &name{name: n, typ: "string", meaning: meaning, kind: kindString, country: get, domain: domain{name: n, country: true}, never: `it is "" where the country is not known`}
}

func addressName(n, meaning string, get func(*connmodel.Facts) netip.Addr) *name {
	return &name{name: n, typ: "IP address", meaning: meaning, kind: kindAddress, addr: get}
}

// protocols are the values of `protocol`.
var protocols = []string{
	string(connmodel.ProtocolHTTP), string(connmodel.ProtocolConnect), string(connmodel.ProtocolSOCKS4),
	string(connmodel.ProtocolSOCKS4a), string(connmodel.ProtocolSOCKS5), string(connmodel.ProtocolUDP), string(connmodel.ProtocolForward),
	string(connmodel.ProtocolRedirect), string(connmodel.ProtocolTProxy),
}

// scope is the table of names, in the order of the manual.
var scope = slices.Concat([]*name{
	addressName("client.address", "address of the client; null when it came by a Unix socket",
		func(f *connmodel.Facts) netip.Addr { return f.Client.Addr() }),
	numberName("client.port", "port of the client; 0 when it came by a Unix socket", 0, 65535,
		func(f *connmodel.Facts) float64 { return float64(f.Client.Port()) }),
	stringName("client.user", `name the client has proved to the listener; "" when nobody logged in`, `it is "" when nobody logged in`,
		func(f *connmodel.Facts) string { return f.User }, domain{}),
	countryName("client.country", `country of the client's address by ISO 3166-1, such as "DE"; "" where that is not known`,
		func(f *connmodel.Facts, of func(netip.Addr) string) string {
			if a := f.Client.Addr(); a.IsValid() {
				return of(a)
			}
			return ""
		}),
	stringName("listener", "label of the listener that took the connection", "",
		func(f *connmodel.Facts) string { return f.Listener }, domain{}),
	stringName("protocol", `how the client asked: "http" (a plain request), "connect", "socks4", "socks4a", "socks5", "socks5-udp" (datagrams), "forward", "redirect" or "tproxy"`, "",
		func(f *connmodel.Facts) string { return string(f.Protocol) }, domain{values: protocols, lower: true}),
	stringName("target.host", "name or literal address asked for; lower case, without trailing dot or brackets", "",
		func(f *connmodel.Facts) string { return f.Target.Host }, domain{host: true, lower: true}).of(connmodel.NeedName),
	numberName("target.port", "port asked for", 0, 65535,
		func(f *connmodel.Facts) float64 { return float64(f.Target.Port) }),
	addressName("target.ip", "the address, when the client asked for a literal one; null for names",
		func(f *connmodel.Facts) netip.Addr { return f.TargetIP }),
	{name: "target.addresses", typ: "list of IP addresses", kind: kindAddresses, need: connmodel.NeedAddresses,
		meaning: "what the name resolves to, or the literal address; resolved only if the outcome depends on it, and never twice"},
	countryName("target.country", `country of the literal address, or of the first address that the name resolves to and whose country is known; "" when none is; resolved only if the outcome depends on it`,
		func(f *connmodel.Facts, of func(netip.Addr) string) string {
			if f.TargetIP.IsValid() {
				return of(f.TargetIP)
			}
			for _, a := range f.Addresses {
				if s := of(a); s != "" {
					return s
				}
			}
			return ""
		}).of(connmodel.NeedAddresses),
	stringName("target.scheme", `"http" for plain requests; "" for tunnels, since what is inside is not known`, `it is "" for tunnels`,
		func(f *connmodel.Facts) string { return f.Scheme }, domain{values: []string{"http", ""}, lower: true}),
	{name: "target.sni_mismatch", typ: "bool", kind: kindBool, need: connmodel.NeedHello,
		meaning: "true when a TLS client asks the server for another name than it asked the gateway for; false without SNI, and where the target is an address",
		test:    (*connmodel.Facts).SNIMismatch,
		reach: func(f *connmodel.Facts) connmodel.Need {
			if f.TargetIP.IsValid() {
				return 0
			}
			return f.Lacks(connmodel.NeedHello)
		}},
}, nowNames, tlsNames, []*name{
	stringName("request.method", `method of a plain request, as sent; "" for tunnels`, `it is "" for tunnels`,
		func(f *connmodel.Facts) string {
			if f.Request == nil {
				return ""
			}
			return f.Request.Method
		}, domain{method: true}).of(connmodel.NeedRequest),
	stringName("request.path", `path of a plain request, without the query, in one spelling (escapes decoded, no dot segments); "" for tunnels`, `it is "" for tunnels`,
		func(f *connmodel.Facts) string { path, _ := requestPath(f); return path }, domain{}).of(connmodel.NeedRequest),
	stringName("request.query", `query of a plain request, as sent, without the question mark; "" for tunnels`, `it is "" without a query`,
		func(f *connmodel.Facts) string { _, query := requestPath(f); return query }, domain{}).of(connmodel.NeedRequest),
	{name: "request.header", typ: "map of strings", kind: kindHeaders, need: connmodel.NeedRequest,
		meaning: `request.header["name"]: first value of a header field of a plain request, name in any case; "" when absent and for tunnels`},
})

func requestPath(f *connmodel.Facts) (path, query string) {
	if f.Request == nil {
		return "", ""
	}
	_, query, _ = strings.Cut(f.Request.Path, "?")
	return f.Request.RulePath(), query
}

func headerValue(f *connmodel.Facts, field string) string {
	if f.Request == nil || f.Request.Header == nil {
		return ""
	}
	v, _ := f.Request.Header.Lookup(field, 0)
	return v
}

// scopeTree is the scope by root and attribute; a root that is a value itself has it under "".
var scopeTree = func() map[string]map[string]*name {
	tree := make(map[string]map[string]*name)
	for _, n := range scope {
		root, attr, _ := strings.Cut(n.name, ".")
		if tree[root] == nil {
			tree[root] = make(map[string]*name)
		}
		tree[root][attr] = n
	}
	return tree
}()

// maxShown is how much of a text explain shows.
const maxShown = 80

// show appends the value of the name, as explain prints it.
func (n *name) show(dst []byte, f *connmodel.Facts) []byte {
	switch missing := f.Lacks(n.need); {
	case missing&connmodel.NeedAddresses != 0:
		return append(dst, "(not resolved)"...)
	case missing != 0:
		return append(dst, "(not looked at)"...)
	}
	switch n.kind {
	case kindBool:
		return strconv.AppendBool(dst, n.test(f))
	case kindTexts:
		return appendTexts(dst, n.texts(f))
	case kindNumber:
		return strconv.AppendFloat(dst, n.num(f), 'f', -1, 64)
	case kindString, kindDate, kindClock:
		return appendQuoted(dst, n.str(f))
	case kindAddress:
		return appendAddress(dst, n.addr(f))
	case kindAddresses:
		dst = append(dst, '[')
		for i, a := range targetAddresses(f) {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendAddress(dst, a)
		}
		return append(dst, ']')
	}
	return append(dst, "…"...)
}

func appendAddress(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(dst, "null"...)
	}
	return a.AppendTo(dst)
}

// appendQuoted appends s in quotes, cut when it is long.
func appendQuoted(dst []byte, s string) []byte {
	if len(s) <= maxShown {
		return strconv.AppendQuote(dst, s)
	}
	end := maxShown
	for end > maxShown-utf8.UTFMax && !utf8.RuneStart(s[end]) { // no half character
		end--
	}
	dst = strconv.AppendQuote(dst, s[:end])
	return append(dst, "…"...)
}

// targetAddresses is the list behind target.addresses. It allocates for a literal target: evaluation looks at the two
// cases itself (see anyTarget).
func targetAddresses(f *connmodel.Facts) []netip.Addr {
	if f.TargetIP.IsValid() {
		return []netip.Addr{f.TargetIP}
	}
	return f.Addresses
}

// anyTarget reports whether one of the target's addresses satisfies ok.
func anyTarget(f *connmodel.Facts, ok func(netip.Addr) bool) bool {
	if f.TargetIP.IsValid() {
		return ok(f.TargetIP)
	}
	return slices.ContainsFunc(f.Addresses, ok)
}
