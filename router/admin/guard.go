package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard lets in who may come in: over TCP only with the token, only under a name of loopback (a page elsewhere can make its
// own name lead to 127.0.0.1), and never on behalf of another site's page. A Unix socket is guarded by its file mode.
type guard struct {
	next  http.Handler
	tcp   bool
	token [sha256.Size]byte // of the token; compared in constant time, whatever its length
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if g.tcp && !localHost(r.Host) {
		problem(w, http.StatusMisdirectedRequest, "the control door does not answer to this host name")
		return
	}
	if !sameSite(r) {
		problem(w, http.StatusForbidden, "the control door does not serve pages of other sites")
		return
	}
	if g.tcp && !g.allowed(r) {
		h.Set("WWW-Authenticate", `Bearer realm="viaduct"`)
		problem(w, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	g.next.ServeHTTP(w, r)
}

const maxBody = 64 << 10

// allowed follows RFC 6750, section 2.1. A second Authorization field makes the first one worthless.
func (g *guard) allowed(r *http.Request) bool {
	fields := r.Header.Values("Authorization")
	if len(fields) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// localHost reports whether a Host field names this machine by a name that no DNS can give away.
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

// sameSite reports whether a browser, if it is one, sends this on behalf of a page of ours.
func sameSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
