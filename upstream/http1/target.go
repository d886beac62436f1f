package http1

import (
	"net/netip"
	"strconv"
	"strings"
)

// Form is one of the four forms of a request target (RFC 9112 3.2).
type Form uint8

const (
	OriginForm    Form = iota // /path?query
	AbsoluteForm              // http://host/path?query
	AuthorityForm             // host:port, with CONNECT alone
	AsteriskForm              // *, with OPTIONS alone
)

func (f Form) String() string {
	return [...]string{"origin", "absolute", "authority", "asterisk"}[f&3]
}

// maxHost is the longest host name: 253 octets and a trailing dot.
const maxHost = 254

// Authority is host and port, of a target or of a Host field.
type Authority struct {
	Host      string // as written, without brackets; letters, digits, - . _ ~ only, or an IPv6 address
	Port      uint16 // 1-65535; 0 when none was written
	IPLiteral bool   // was in brackets: Host is an IPv6 address
}

// String is the authority as it is written in a message.
func (a Authority) String() string { return string(a.Append(nil)) }

// Append writes the authority as it stands in a Host field or a target.
func (a Authority) Append(dst []byte) []byte {
	if a.IPLiteral {
		dst = append(dst, '[')
		dst = append(dst, a.Host...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, a.Host...)
	}
	if a.Port != 0 {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(a.Port), 10)
	}
	return dst
}

// Target is a request target, taken apart.
type Target struct {
	Form      Form
	Scheme    string // "http" or "https", absolute form only
	Authority        // absolute and authority form
	Path      string // path and query as written; never empty in absolute form: "/", or "*" for OPTIONS without a path
}

// String is the target as it would be written in a request line.
func (t Target) String() string {
	switch t.Form {
	case AbsoluteForm:
		return t.Scheme + "://" + t.Authority.String() + t.Path
	case AuthorityForm:
		return t.Authority.String()
	}
	return t.Path
}

// EffectivePort is the port to connect to: the one written, else that of the
// scheme, else 0.
func (t *Target) EffectivePort() uint16 {
	switch {
	case t.Port != 0:
		return t.Port
	case t.Scheme == "http":
		return 80
	case t.Scheme == "https":
		return 443
	}
	return 0
}

// Faults of targets.
var (
	errTargetForm  = &Error{400, "request target of the wrong form for its method", "RFC 9112 3.2"}
	errTargetChar  = &Error{400, "forbidden character in the request target", "RFC 3986 3.3"}
	errScheme      = &Error{400, "scheme other than http or https", "RFC 9110 4.2"}
	errUserinfo    = &Error{400, "user information in the request target", "RFC 9110 4.2.4"}
	errHostEmpty   = &Error{400, "empty host", "RFC 9110 4.2.1"}
	errHostChar    = &Error{400, "forbidden character in the host", "RFC 3986 3.2.2"}
	errHostLong    = &Error{400, "host too long", "RFC 1035 2.3.4"}
	errIPLiteral   = &Error{400, "malformed IPv6 address", "RFC 3986 3.2.2"}
	errPort        = &Error{400, "port is not a number from 1 to 65535", "RFC 3986 3.2.3"}
	errConnectPort = &Error{400, "CONNECT without a port", "RFC 9110 9.3.6"}
)

// ParseTarget takes a request target apart. Its fault is an *Error.
func ParseTarget(method, raw string) (t Target, err error) {
	if e := t.parse(method, raw); e != nil {
		return Target{}, e
	}
	return t, nil
}

// ParseAuthority takes a host with an optional port apart: the value of a Host
// field, an authority of a URI without userinfo. Its fault is an *Error.
func ParseAuthority(s string) (a Authority, err error) {
	if e := a.parse(s); e != nil {
		return Authority{}, e
	}
	return a, nil
}

// NewAuthority makes the authority of a host as text, an IPv6 address without
// brackets or a name, and a port. Its fault is an *Error.
func NewAuthority(host string, port uint16) (Authority, error) {
	a := Authority{Host: host, Port: port}
	if strings.IndexByte(host, ':') >= 0 {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" {
			return Authority{}, errIPLiteral
		}
		a.IPLiteral = true
		return a, nil
	}
	if err := checkName(host); err != nil {
		return Authority{}, err
	}
	return a, nil
}

func (t *Target) parse(method, raw string) *Error {
	switch {
	case method == "CONNECT": // RFC 9112 3.2.3
		t.Form = AuthorityForm
		if err := t.Authority.parse(raw); err != nil {
			return err
		}
		if t.Port == 0 {
			return errConnectPort // RFC 9110 9.3.6: there is no default port
		}
		return nil
	case raw == "*":
		if method != "OPTIONS" {
			return errTargetForm // RFC 9112 3.2.4
		}
		t.Form, t.Path = AsteriskForm, raw
		return nil
	case strings.HasPrefix(raw, "/"):
		t.Form, t.Path = OriginForm, raw
		return checkPath(raw)
	}
	return t.parseAbsolute(method, raw)
}

func (t *Target) parseAbsolute(method, raw string) *Error {
	t.Form = AbsoluteForm
	switch { // RFC 3986 3.1: schemes are case-insensitive
	case len(raw) >= 7 && equalFold(raw[:7], "http://"):
		t.Scheme, raw = "http", raw[7:]
	case len(raw) >= 8 && equalFold(raw[:8], "https://"):
		t.Scheme, raw = "https", raw[8:]
	case strings.Contains(raw, "://"):
		return errScheme
	default:
		return errTargetForm
	}
	end := strings.IndexAny(raw, "/?#")
	if end < 0 {
		end = len(raw)
	}
	if err := t.Authority.parse(raw[:end]); err != nil {
		return err
	}
	t.Path = raw[end:]
	switch {
	case t.Path == "" && method == "OPTIONS":
		t.Path = "*" // RFC 9112 3.2.4
		return nil
	case t.Path == "":
		t.Path = "/" // RFC 9112 3.2.1
	case t.Path[0] != '/':
		t.Path = "/" + t.Path
	}
	return checkPath(t.Path)
}

// checkPath checks path and query. A fragment never belongs in a request (RFC
// 9110 7.1); a backslash is a slash to some servers and so is refused, except
// in a query, where browsers send it as it is.
func checkPath(s string) *Error {
	i := 0
	for i < len(s) && classes[s[i]]&clPath != 0 {
		i++
	}
	if i < len(s) && s[i] == '?' {
		i++
		for i < len(s) && classes[s[i]]&clQuery != 0 {
			i++
		}
	}
	if i < len(s) {
		return errTargetChar
	}
	return nil
}

// parse takes RFC 3986 3.2 without userinfo, and of reg-name only what a name
// that can be resolved is written with: no percent-encoding, no sub-delims.
func (a *Authority) parse(s string) *Error {
	if strings.IndexByte(s, '@') >= 0 {
		return errUserinfo
	}
	rest := ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return errIPLiteral
		}
		a.Host, rest, a.IPLiteral = s[1:end], s[end+1:], true
		ip, err := netip.ParseAddr(a.Host)
		if err != nil || !ip.Is6() || ip.Zone() != "" { // RFC 6874 zones have no meaning beyond one host
			return errIPLiteral
		}
		if rest != "" && rest[0] != ':' {
			return errIPLiteral
		}
	} else {
		a.Host = s
		if i := strings.IndexByte(s, ':'); i >= 0 {
			a.Host, rest = s[:i], s[i:]
		}
		if err := checkName(a.Host); err != nil {
			return err
		}
	}
	if len(rest) > 1 { // an empty port means none, RFC 3986 3.2.3
		port, ok := parsePort(rest[1:])
		if !ok {
			return errPort
		}
		a.Port = port
	}
	return nil
}

func checkName(host string) *Error {
	switch {
	case host == "":
		return errHostEmpty
	case len(host) > maxHost:
		return errHostLong
	case !all(host, clHost):
		return errHostChar
	}
	return nil
}

// parsePort takes 1 to 5 digits of a value from 1 to 65535.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 {
		return 0, false
	}
	n := uint32(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint32(s[i]-'0')
	}
	return uint16(n), n >= 1 && n <= 65535
}
