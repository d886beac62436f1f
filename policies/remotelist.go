package policies

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"time"

	"viaduct/policies/lists"
	"viaduct/policies/source"
)

// List is a list of hosts or networks. The Ref of one that comes from a web server, which the programs hold, is bound to a source by whoever runs
// the policy.
type List struct {
	Name    string
	URL     string // "" = it is a file
	File    string // full path
	Entries int    // of the file

	// What follows is about a URL.
	Parse     lists.Options
	Refresh   time.Duration // 0 = default
	Timeout   time.Duration // of one look at the server, until the last byte; 0 = default
	MaxShrink int           // percent; 0 = default
	Via       string        // route to the web server; "" = direct
	TLS       *tls.Config   // nil = the system's authorities
	TLSKey    string        // what TLS is made of beside its authorities
	Ref       *lists.Ref
}

// remoteAttrs are of lists that come from a URL.
var remoteAttrs = []string{"refresh", "timeout", "max_size", "max_shrink", "via", "on_error"}

// Bounds of what a policy can ask for.
const (
	minListRefresh = time.Minute
	maxListTimeout = time.Hour
)

// remoteList reads a list that comes from a URL. Nothing is got here.
func (l *loader) remoteList(x *list, b *block, o lists.Options) {
	r := &List{Name: x.name, Refresh: b.duration("refresh"), Timeout: b.duration("timeout")}
	if o.Format == "" {
		o.Format = lists.Auto
	}
	if r.URL = b.text("url"); r.URL != "" {
		if err := source.CheckURL(r.URL, "a list"); err != nil {
			l.errorAt(b.rng("url"), "Wrong URL", upperFirst(err.Error()))
		} else if strings.HasPrefix(r.URL, "http://") && b.one("tls") != nil {
			l.errorAt(b.one("tls").DefRange, "Without effect", `"tls" is about https://, and the URL begins with http://.`)
		} else if strings.HasPrefix(r.URL, "http://") {
			l.noteAt(b.rng("url"), "List in the clear", "Whoever sits between here and the web server can change the list, and with it what its rules take. Use https:// if there is one.")
		}
	}
	if b.has("refresh") && r.Refresh < minListRefresh && r.Refresh != 0 {
		l.errorAt(b.rng("refresh"), "Wrong duration", `"refresh" is at least "1m": a list is a large thing to ask for.`)
	}
	if r.Timeout > maxListTimeout {
		l.errorAt(b.rng("timeout"), "Wrong duration", `"timeout" is at most "1h".`)
	}
	o.MaxSize = b.size("max_size", maxList)
	if b.has("max_shrink") {
		r.MaxShrink = b.number("max_shrink", 1, 100)
	}
	if a := b.attrs["via"]; a != nil {
		if r.Via = l.route(a.Expr, "list/"+x.name); strings.HasPrefix(r.Via, kindPAC+".") {
			l.errorAt(a.Expr.Range(), "List by a PAC script", "The way to a list must not depend on a script. Name an upstream, a pool, a chain or direct.")
		} else if r.Via == "direct" {
			r.Via = ""
		}
	}
	if t := b.one("tls"); t != nil {
		tb := l.open(t, listTLSSchema)
		c := tb.clientTLS()
		if r.TLS = c.config; c.serverName != "" {
			r.TLS.ServerName = c.serverName
		}
		r.TLS.NextProtos = nil // the transport says what it speaks
		r.TLSKey = fmt.Sprintf("%q %d %d %d %q %v %x", c.serverName, r.TLS.MinVersion, r.TLS.MaxVersion, r.TLS.CipherSuites, c.pins, r.TLS.InsecureSkipVerify, chainOf(r.TLS))
	}
	r.Parse = o
	r.Ref = lists.Later(b.oneOf("on_error", "deny", "empty") == "empty")
	x.ref, x.remote, x.read = r.Ref, r, true
}

// chainOf is a digest of the client certificate.
func chainOf(c *tls.Config) []byte {
	h := sha256.New()
	for _, cert := range c.Certificates {
		for _, der := range cert.Certificate {
			h.Write(der)
		}
	}
	return h.Sum(nil)
}

// SameTLS reports whether two lists trust the same, and show the same, so that a source can go on over a reload.
func (x *List) SameTLS(o *List) bool {
	if x.TLSKey != o.TLSKey || (x.TLS == nil) != (o.TLS == nil) {
		return false
	}
	return x.TLS == nil || x.TLS.RootCAs.Equal(o.TLS.RootCAs)
}

var listTLSSchema = schema(clientTLSAttrs)

// size reads a number of bytes with its unit: "64MiB". 0 = it is not written, or wrong.
func (b *block) size(name string, most int64) int64 {
	s := b.text(name)
	if s == "" {
		return 0
	}
	n, ok := parseSize(s)
	if !ok || n <= 0 || n > most {
		b.l.errorAt(b.rng(name), "Wrong size", fmt.Sprintf(`%q must be a number of bytes with its unit, "512KiB" or "64MiB", and at most "%dMiB".`, name, most>>20))
		return 0
	}
	return n
}

func parseSize(s string) (int64, bool) {
	for unit, shift := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			return n << shift, err == nil
		}
	}
	return 0, false
}
