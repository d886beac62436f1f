package policies

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/upstream"
)

var authSchema = schema(attrs("username", "password", "name", "schemes", "domain", "workstation", "keytab", "ccache", "krb5_conf", "spn", "canonical_name", "token", "header", "realm", "warm_url", "from_client"))

// authSchemes are what an HTTP proxy can be shown, the best first.
var authSchemes = []string{"negotiate", "ntlm", "digest", "basic", "bearer"}

// auth reads what the proxy wants to be shown.
func (l *loader) auth(x *hcl.Block, scheme, host string) *upstream.Auth {
	b := l.open(x, authSchema)
	l.authHost, l.authUser = host, ""
	defer func() { l.authHost, l.authUser = "", "" }()
	if b.boolean("from_client", false) {
		return l.fromClient(b, scheme)
	}
	a := &upstream.Auth{Credential: b.text("name"), Domain: b.text("domain"), Workstation: b.text("workstation"), Realm: b.text("realm")}
	voids := l.voids
	if !b.has("token") && !b.has("ccache") {
		b.need("username", "the name the proxy knows")
	}
	a.Username = l.clean(b.secret("username"), b.rng("username"), "username")
	if l.authUser = a.Username; l.authUser == "" && b.has("username") && l.o.Lenient {
		a.Username = "unknown" // it comes from what is missing here
	}
	a.Token, a.Header = upstream.NewSecret(l.authSecret(b, "token", a)), b.text("header")
	password := l.authSecret(b, "password", a)
	a.Password = upstream.NewSecret(password)
	a.Unread = l.voids > voids
	switch scheme {
	case "http", "https":
		a.Schemes = b.authSchemes(a)
		a.WarmURL = b.warmURL("warm_url")
		a.SPN, a.Canonical = b.text("spn"), b.boolean("canonical_name", false)
		a.Keytab, a.CCache, a.Krb5Conf = b.path("keytab"), b.ccache("ccache"), b.path("krb5_conf")
		if b.checkKerberos(a); a.Keytab != "" {
			l.watches(a.Keytab)
		}
		if slices.Contains(a.Schemes, "basic") && strings.Contains(a.Username, ":") { // RFC 7617, section 2
			l.errorAt(b.rng("username"), "Wrong user name", "A user name for Basic authentication cannot hold a colon.")
		}
		return a
	case "socks5", "socks5h":
		if len(a.Username) > 255 || len(password) > 255 { // RFC 1929, section 2
			l.errorAt(x.DefRange, "User or password too long", "SOCKS5 takes at most 255 bytes of each.")
		}
	case "socks4", "socks4a":
		if b.has("password") {
			l.errorAt(b.rng("password"), "SOCKS4 has no passwords", "SOCKS4 sends a user id and nothing more. Leave the password out, or use socks5.")
		}
	}
	if strings.HasPrefix(scheme, "socks") {
		for _, name := range []string{"schemes", "domain", "workstation", "keytab", "ccache", "krb5_conf", "spn", "canonical_name", "token", "header", "realm", "warm_url"} {
			if name == "realm" && strings.HasPrefix(scheme, "socks5") {
				continue
			}
			if b.has(name) {
				l.errorAt(b.rng(name), "Without effect", fmt.Sprintf("%q is for http and https proxies; SOCKS knows a user name and a password.", name))
			}
		}
	}
	return a
}

// authSecret reads a secret of an auth block, and names the credential after where it comes from.
func (l *loader) authSecret(b *block, name string, a *upstream.Auth) string {
	raw := b.secret(name)
	text := l.clean(raw, b.rng(name), name)
	if at := b.attrs[name]; at != nil {
		if isLiteral(at.Expr) && raw != "" || hasDefault(at.Expr) {
			l.warnAt(at.Expr.Range(), "Password in the policy", `Whoever reads this file reads the `+name+`. Write `+name+` = credential("name") or env("NAME").`)
		}
		if a.Credential == "" {
			a.Credential = credentialName(at.Expr)
		}
	}
	return text
}

// authSchemes reads which schemes may be spoken, and what each of them needs. Without a word on it, it is the one that the rest is for.
func (b *block) authSchemes(a *upstream.Auth) []string {
	l := b.l
	lenient := l.o.Lenient
	if b.has("header") {
		if !isToken(a.Header) || isFraming(a.Header) {
			l.errorAt(b.rng("header"), "Wrong field name", "A field of the policy's own is one that neither frames nor routes the request, such as X-Gateway-Token.")
		}
		if b.has("schemes") {
			l.errorAt(b.rng("schemes"), "Without effect", "A proxy that is shown a field of its own is asked for nothing else: leave schemes out, or header.")
		}
		b.need("token", "the value of the field")
		if b.has("password") {
			l.errorAt(b.rng("password"), "Without effect", "With header the value of the field is token.")
		}
		return []string{"header"}
	}
	if !b.has("schemes") {
		if b.has("token") {
			if b.has("password") {
				l.errorAt(b.rng("token"), "Which of the two", `A token is for Bearer, a password for the other schemes. Write schemes = ["bearer", "basic"], in the order of preference, if the proxy may want either.`)
			}
			return []string{"bearer"}
		}
		if b.has("keytab") || b.has("ccache") {
			return []string{"negotiate"}
		}
		if b.has("domain") {
			return []string{"ntlm"}
		}
		return []string{"basic"}
	}
	var all []string
	for _, e := range b.entries("schemes") {
		switch {
		case !slices.Contains(authSchemes, e.text):
			l.errorAt(e.r, "Unknown scheme", fmt.Sprintf("%q is none of %s.%s", e.text, strings.Join(authSchemes, ", "), didYouMean(e.text, authSchemes)))
			continue
		case slices.Contains(all, e.text):
			l.errorAt(e.r, "Twice the same", fmt.Sprintf("%q is written twice.", e.text))
			continue
		case e.text == "bearer" && !b.has("token"):
			l.errorAt(e.r, "Missing argument", `"bearer" needs token.`)
		case e.text == "negotiate" && !b.has("ccache") && !(b.has("username") && (b.has("password") || b.has("keytab"))) && !lenient:
			l.errorAt(e.r, "Missing argument", `"negotiate" needs ccache, or username and one of keytab and password.`)
		case e.text != "bearer" && e.text != "negotiate" && !(b.has("username") && b.has("password")) && !lenient:
			l.errorAt(e.r, "Missing argument", fmt.Sprintf("%q needs username and password.", e.text))
		}
		all = append(all, e.text)
	}
	for _, name := range []string{"domain", "workstation"} {
		if b.has(name) && !slices.Contains(all, "ntlm") && len(all) > 0 {
			l.errorAt(b.rng(name), "Without effect", fmt.Sprintf(`%q is for NTLM, and "ntlm" is not among schemes.`, name))
		}
	}
	if len(all) == 0 { // an error was reported
		return []string{"basic"}
	}
	return all
}

// ccache reads where tickets are. Only files are read.
func (b *block) ccache(name string) string {
	s := b.text(name)
	kind, file, ok := strings.Cut(s, ":")
	switch {
	case !ok || strings.Contains(kind, "/"):
		return b.path(name)
	case kind == "FILE" && file != "":
		return pathOf(b.rng(name), file)
	}
	b.l.errorAt(b.rng(name), "Wrong credential cache", "Only files are read. Put the tickets into one, as KRB5CCNAME=FILE:/path does.")
	return ""
}

// checkKerberos reports what is for Kerberos and has no effect.
func (b *block) checkKerberos(a *upstream.Auth) {
	if slices.Contains(a.Schemes, "negotiate") {
		if b.has("spn") && b.has("canonical_name") {
			b.l.errorAt(b.rng("canonical_name"), "Without effect", `"spn" names the service already.`)
		}
		if b.has("keytab") && !b.has("username") {
			b.need("username", "whose key of the keytab is used")
		}
		return
	}
	for _, name := range []string{"keytab", "ccache", "krb5_conf", "spn", "canonical_name"} {
		if b.has(name) {
			b.l.errorAt(b.rng(name), "Without effect", fmt.Sprintf(`%q is for Kerberos, and "negotiate" is not among schemes.`, name))
		}
	}
}

// isFraming reports whether a field is not the policy's to write.
func isFraming(name string) bool {
	switch strings.ToLower(name) {
	case "host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "via", "expect":
		return true
	}
	return false
}

// warmURL reads what logging in asks for.
func (b *block) warmURL(name string) string {
	s := b.text(name)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		b.l.errorAt(b.rng(name), "Wrong URL", "Write a URL that the proxy fetches for anybody it lets in, such as http://intranet.corp.example/. It is asked for by HEAD.")
		return ""
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}

// sentAsIs reports whether one of the schemes sends the secret so that whoever listens can read it.
func sentAsIs(schemes []string) bool {
	return slices.ContainsFunc(schemes, func(s string) bool { return s == "basic" || s == "bearer" || s == "header" })
}
