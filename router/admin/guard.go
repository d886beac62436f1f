package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
)

// guard lets in who may come in. Only under a name of this machine: a page elsewhere can make its own name lead to 127.0.0.1, or to a port
// that ssh forwards to the socket. Never on behalf of another site's page. Over TCP with the token, or a certificate, and only to ask, unless
// the policy says otherwise; a Unix socket is guarded by its file mode.
type guard struct {
	api    *api
	tcp    bool
	policy atomic.Pointer[policy]
	turned [len(refusals)]atomic.Uint64
	slow   slowdown
}

// The reasons why a request is turned away, in the order of refusals.
const (
	refusedHost = iota
	refusedOrigin
	refusedToken
	refusedReadOnly
)

var refusals = [...]string{"host", "origin", "token", "read_only"}

func (g *guard) refused() map[string]uint64 {
	var m map[string]uint64
	for i := range g.turned {
		if n := g.turned[i].Load(); n > 0 {
			if m == nil {
				m = map[string]uint64{}
			}
			m[refusals[i]] = n
		}
	}
	return m
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	refuse := func(why int, code int, detail string) {
		g.turned[why].Add(1)
		problem(w, code, detail)
	}
	if !ourName(r.Host, g.tcp) {
		refuse(refusedHost, http.StatusMisdirectedRequest, "the control door does not answer to this host name")
		return
	}
	if !sameSite(r) {
		refuse(refusedOrigin, http.StatusForbidden, "the control door does not serve pages of other sites")
		return
	}
	rt := g.api.find(r)
	p := g.policy.Load()
	if g.tcp && !rt.open() && !p.knows(r) {
		if retry := g.slow.failed(r.Context()); retry != "" {
			h.Set("Retry-After", retry)
			refuse(refusedToken, http.StatusTooManyRequests, "too many requests without a good token")
			return
		}
		h.Set("WWW-Authenticate", `Bearer realm="viaduct"`)
		refuse(refusedToken, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	if g.tcp && rt.changes() && !p.Write {
		refuse(refusedReadOnly, http.StatusForbidden, "over TCP the control door answers questions alone: allow more with gateway { admin { write = true } }, or use the Unix socket")
		return
	}
	if rt.profiles() && !p.Pprof {
		problem(w, http.StatusNotFound, "profiles are shown with gateway { admin { pprof = true } }")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	g.api.serve(w, r, caller{write: !g.tcp || p.Write})
}

const maxBody = 64 << 10

// caller is what the one who asks may do.
type caller struct{ write bool }

// knows reports whether a request shows the token, or came with a certificate that was verified.
func (p *policy) knows(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	return p.Token != "" && p.shown(r)
}

// shown follows RFC 6750, section 2.1. A second Authorization field makes the first one worthless.
func (p *policy) shown(r *http.Request) bool {
	fields := r.Header.Values("Authorization")
	if len(fields) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], p.sum[:]) == 1
}

// ourName reports whether a Host field names this machine by a name that no DNS can give away. To a Unix socket people write whatever comes
// to their mind in place of a host, so a word alone will do there: a browser sends one for port 80 or 443 alone, to which ssh of an ordinary
// user forwards nothing.
func ourName(host string, tcp bool) bool {
	if localHost(host) {
		return true
	}
	return !tcp && !strings.ContainsAny(host, ".:")
}

// localHost reports whether a Host field is one of loopback.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// sameSite reports whether a browser, if it is one, sends this on behalf of a page of ours, or of somebody who has typed the address.
func sameSite(r *http.Request) bool {
	if sites := r.Header.Values("Sec-Fetch-Site"); len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin" && sites[0] != "none" {
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Host != "" && u.Scheme == scheme && strings.EqualFold(u.Host, r.Host)
}
