package upstream

import (
	"errors"
	"net/http"
	"strconv"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// hostRow is a target that the hop's protocol has no way to say.
func hostRow(e *HopError) (verdict, bool) {
	if !errors.Is(e.Err, socks5.ErrName) && !errors.Is(e.Err, socks4.ErrHost) {
		return verdict{}, false
	}
	return verdict{whose: ours, kind: connmodel.KindProtocol, retry: true, text: e.Scheme + " has no way to say " + e.Beyond.Host}, true
}

// socks5Replies are the replies of RFC 1928, section 6.
var socks5Replies = map[socks5.Code]verdict{
	socks5.GeneralFailure:          {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.NotAllowed:              {whose: peers, kind: connmodel.KindDenied},
	socks5.NetworkUnreachable:      {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.HostUnreachable:         {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.ConnectionRefused:       {whose: nexts, kind: connmodel.KindRefused, retry: true},
	socks5.TTLExpired:              {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	socks5.CommandNotSupported:     {whose: peers, kind: connmodel.KindProtocol, retry: true},
	socks5.AddressTypeNotSupported: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
}

func socks5Row(e *HopError) (verdict, bool) {
	var r *socks5.ReplyError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v, known := socks5Replies[r.Code]
	if !known {
		v = verdict{whose: peers, kind: connmodel.KindProtocol, retry: true}
	}
	v.code, v.codeOf = int(r.Code), "socks5"
	v.text = refusalText(e, &v, "socks5: "+r.Code.String())
	return v, true
}

// refusalText is the sentence for a proxy that answered no.
func refusalText(e *HopError, v *verdict, said string) string {
	proxy := "hop " + strconv.Itoa(e.Hop) + " (" + e.Upstream + ")"
	switch {
	case v.kind == connmodel.KindDenied:
		return said + "; the proxy's rules do not allow " + e.beyond() + ", ask whoever runs it"
	case v.whose == nexts:
		return proxy + " could not reach " + e.beyond() + ": " + said
	}
	return said + ", when asked to connect to " + e.beyond()
}

func socks5AuthRow(e *HopError) (verdict, bool) {
	var a *socks5.AuthError
	switch {
	case !errors.As(e.Err, &a):
		return verdict{}, false
	case !a.NoMethod:
		return authVerdict("the proxy rejected the user name or password; check the credentials of upstream " + e.Upstream), true
	case a.Offered:
		return authVerdict("the proxy takes none of the ways to prove who we are that upstream " + e.Upstream + " can use (none, user and password)"), true
	}
	return authVerdict("the proxy wants a user name and password; add auth to upstream " + e.Upstream), true
}

func socks4Row(e *HopError) (verdict, bool) {
	var r *socks4.ReplyError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindProtocol, retry: true}
	switch r.Code {
	case socks4.Rejected: // the protocol has no other word, for rules as well as for targets that are down
		v = verdict{whose: nexts, kind: connmodel.KindUnreachable, retry: true}
	case socks4.NoIdent, socks4.IdentMismatch:
		v = authVerdict("the proxy does not accept the user name (" + r.Code.String() + "); check auth of upstream " + e.Upstream)
	}
	v.code, v.codeOf = int(r.Code), "socks4"
	if v.text == "" {
		v.text = refusalText(e, &v, "socks4: "+r.Code.String())
	}
	return v, true
}

// authVerdict is a proxy that did not let us in. Retryable, because another proxy may; dialing.spare sees to it that
// the same credentials are not shown again.
func authVerdict(text string) verdict {
	return verdict{whose: peers, kind: connmodel.KindAuth, retry: true, text: text}
}

// credentialsRow is what package auth says. A rejection is left to the row of the status, which the wire said.
func credentialsRow(e *HopError) (verdict, bool) {
	var a *auth.Error
	if !errors.As(e.Err, &a) || a.Kind == auth.Rejected && a.Scheme != auth.Negotiate {
		return verdict{}, false
	}
	v := authVerdict(a.Text)
	if e.client {
		v.whose = clients
	}
	switch a.Kind {
	case auth.Closed:
		v.text = "upstream " + e.Upstream + ": " + a.Text
	case auth.Waiting, auth.NotStored:
		v.whose = ours
	case auth.Malformed:
		v.kind, v.code, v.codeOf = connmodel.KindProtocol, 407, "http"
	default:
		v.code, v.codeOf = 407, "http"
		v.text += "; check auth of upstream " + e.Upstream
	}
	return v, true
}

// statuses are the answers of HTTP proxies to CONNECT that have a meaning of their own.
var statuses = map[int]verdict{
	400: {whose: peers, kind: connmodel.KindProtocol, retry: true, text: "it did not understand the request"},
	401: {whose: peers, kind: connmodel.KindDenied, text: "it wants a login of its own kind: is this a proxy, or a web server?"},
	403: {whose: peers, kind: connmodel.KindDenied},
	404: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	405: {whose: peers, kind: connmodel.KindDenied, text: "it does not allow CONNECT: is this a proxy, or a web server?"},
	407: {whose: peers, kind: connmodel.KindAuth, retry: true},
	408: {whose: peers, kind: connmodel.KindTimeout, retry: true},
	421: {whose: peers, kind: connmodel.KindDenied},
	429: {whose: peers, kind: connmodel.KindLimit, retry: true, text: "it has too many requests from us"},
	451: {whose: peers, kind: connmodel.KindDenied},
	500: {whose: nexts, kind: connmodel.KindUnreachable, retry: true}, // tinyproxy says so of any target, Squid of a name without address
	501: {whose: peers, kind: connmodel.KindProtocol, retry: true, text: "it does not know CONNECT"},
	502: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	503: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	504: {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	508: {whose: peers, kind: connmodel.KindProtocol, text: "it sees a loop of proxies"},
}

func statusRow(e *HopError) (verdict, bool) {
	var s *httpconnect.StatusError
	if !errors.As(e.Err, &s) {
		return verdict{}, false
	}
	v, known := statuses[s.Status]
	if !known {
		v = verdict{whose: peers, kind: connmodel.KindProtocol, retry: true, text: "that is no answer to CONNECT"}
		if s.Status/100 == 3 {
			v.text = "that is a redirect: is there a login page in the way?"
		}
	}
	if h, ok := hints[e.hint]; ok && s.Status >= 400 && v.kind != connmodel.KindAuth {
		v = verdict{whose: h.whose, kind: h.kind, retry: h.retry}
	}
	v.code, v.codeOf = s.Status, "http"
	said := "HTTP " + strconv.Itoa(s.Status)
	if t := http.StatusText(s.Status); t != "" {
		said += " " + t
	}
	if e.hint != "" {
		said += " (" + e.hint + ")"
	}
	switch {
	case v.kind == connmodel.KindAuth && e.shown && e.client:
		v.whose = clients
		v.text = said + ": the proxy rejected the user and password that the client has proved to us; on upstream " + e.Upstream + " they have to be the same (auth { from_client })"
	case v.kind == connmodel.KindAuth && e.shown:
		v.text = said + ": the proxy rejected our credentials; check those of upstream " + e.Upstream
	case v.kind == connmodel.KindAuth:
		v.text = said + ": the proxy wants credentials; add auth to upstream " + e.Upstream
	case v.text != "":
		v.text = refusalText(e, &verdict{}, said) + ": " + v.text
	default:
		v.text = refusalText(e, &v, said)
	}
	return v, true
}

// tooMuch are the bounds of the HTTP codec.
var tooMuch = []error{
	&http1.Error{Reason: "header section too large"},
	&http1.Error{Reason: "too many header fields"},
	&http1.Error{Reason: "too many informational responses"},
}

// formatRow is a peer that does not speak its protocol. The codecs' texts hold nothing of the peer's.
func formatRow(e *HopError) (verdict, bool) {
	var (
		connect *httpconnect.ProtocolError
		four    *socks4.ProtocolError
		five    *socks5.ProtocolError
		fault   *http1.Error
	)
	for _, bound := range tooMuch {
		if errors.Is(e.Err, bound) {
			return verdict{whose: peers, kind: connmodel.KindLimit, retry: true, text: "the answer of " + e.peer() + " was longer than we read: " + e.Err.Error()}, true
		}
	}
	switch {
	case errors.As(e.Err, &connect), errors.As(e.Err, &four), errors.As(e.Err, &five):
		return verdict{whose: peers, kind: connmodel.KindProtocol, retry: true,
			text: e.peer() + " does not speak " + e.Scheme + " as it should: " + e.Err.Error() + "; check the scheme and port of upstream " + e.Upstream}, true
	case errors.As(e.Err, &fault): // of the request: nothing was sent
		return verdict{whose: ours, kind: connmodel.KindInternal, text: "the request to " + e.peer() + " cannot be written: " + e.Err.Error()}, true
	}
	return verdict{}, false
}
