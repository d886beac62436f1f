package upstream

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"viaduct/upstream/auth"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// This file is for those who look on while a way is gone (Request.Watch). No record has what is here: what a proxy says may quote requests, ours
// with the credentials. A flow of the gateway watches nothing, and pays one comparison with nil for each handshake.

// Said is what a proxy answered. It is bounded, and nothing of it is to be trusted or printed as it is.
type Said struct {
	Attempt  int // from 1
	Hop      int // from 1
	Upstream string
	Protocol string        // "http", "socks4", "socks5": whose Code it is
	Code     int           // HTTP status, or reply of SOCKS
	Text     string        // reason of HTTP; the name of a reply of SOCKS, which is ours
	Fields   []http1.Field // of HTTP, those that say who answers and why
	Took     time.Duration // since it was asked
	// Withheld says that something was left out because it repeats what was shown as a credential, or may.
	Withheld bool
}

// OK reports whether the proxy did what it was asked.
func (s *Said) OK() bool {
	switch s.Protocol {
	case "http":
		return s.Code/100 == 2
	case "socks4":
		return s.Code == int(socks4.Granted)
	}
	return s.Code == 0
}

// Bounds of an answer.
const (
	maxSaidText   = 200
	maxSaidFields = 12
)

// saidFields are those that tell who answers, and why.
var saidFields = []string{"Proxy-Status", "Via", "Server", "Proxy-Agent", "X-Squid-Error", "Retry-After", "Location"}

// onlooker passes on what one hop answers. nil = nobody looks on.
type onlooker struct {
	a    *attempt
	n    int
	sent []string // what stands in fields that prove who we are
}

// onlooker returns that of hop n.
func (a *attempt) onlooker(n int) *onlooker {
	if a.d.q.Watch == nil {
		return nil
	}
	return &onlooker{a: a, n: n}
}

// shows notes the field that is about to be sent.
func (w *onlooker) shows(f auth.Field) {
	if w == nil || f.Value == "" {
		return
	}
	if _, token, ok := strings.Cut(f.Value, " "); ok {
		w.sent = append(w.sent, token)
		return
	}
	w.sent = append(w.sent, f.Value)
}

// http tells of an answer of an HTTP proxy: res without err, or what err holds of one.
func (w *onlooker) http(s *steps, res *httpconnect.Result, err error) {
	if w == nil {
		return
	}
	var no *httpconnect.StatusError
	switch {
	case err == nil:
		w.answer(s, res.Status, res.Reason, res.Header)
	case errors.As(err, &no):
		w.answer(s, no.Status, no.Reason, no.Header)
	}
}

// answer tells of an HTTP head.
func (w *onlooker) answer(s *steps, status int, reason string, h http1.Header) {
	if w == nil {
		return
	}
	x := w.begin(s, "http", status)
	x.Text = w.clean(&x, reason)
	if x.Text == "" && !x.Withheld {
		x.Text = http.StatusText(status)
	}
	for _, name := range saidFields {
		for v := range h.Values(name) {
			if len(x.Fields) == maxSaidFields {
				break
			}
			if v = w.clean(&x, v); v != "" {
				x.Fields = append(x.Fields, http1.Field{Name: name, Value: v})
			}
		}
	}
	if offers := w.offers(&x, h); offers != "" {
		x.Fields = append(x.Fields, http1.Field{Name: "Proxy-Authenticate", Value: offers})
	}
	w.a.d.q.Watch(x)
}

// offers is what a proxy asks for: schemes with their realms, without the tokens of a handshake under way.
func (w *onlooker) offers(x *Said, h http1.Header) string {
	var fields, out []string
	for v := range h.Values("Proxy-Authenticate") {
		fields = append(fields, v)
	}
	all, _ := auth.Parse(fields)
	for i := range all {
		text := all[i].Scheme
		if realm, ok := all[i].Get("realm"); ok {
			text += " realm=" + realm
		}
		if text = w.clean(x, text); text != "" {
			out = append(out, text)
		}
	}
	return cutText(strings.Join(out, ", "))
}

// socks tells of a reply of SOCKS.
func (w *onlooker) socks(s *steps, scheme string, err error) {
	if w == nil {
		return
	}
	var five *socks5.ReplyError
	var four *socks4.ReplyError
	var no *socks5.AuthError
	protocol, granted, text := "socks5", 0, "succeeded"
	if scheme == schemeSOCKS4 || scheme == schemeSOCKS4a {
		protocol, granted, text = "socks4", int(socks4.Granted), socks4.Granted.String()
	}
	x := w.begin(s, protocol, granted)
	switch {
	case err == nil:
		x.Text = text
	case errors.As(err, &five):
		x.Code, x.Text = int(five.Code), five.Code.String()
	case errors.As(err, &four):
		x.Code, x.Text = int(four.Code), four.Code.String()
	case errors.As(err, &no) && no.NoMethod:
		x.Code, x.Text = 0xff, "no acceptable method"
	case errors.As(err, &no):
		x.Code, x.Text = 1, "user or password rejected"
	default:
		return
	}
	w.a.d.q.Watch(x)
}

func (w *onlooker) begin(s *steps, protocol string, code int) Said {
	return Said{Attempt: w.a.number, Hop: w.n, Upstream: w.a.hops[w.n-1].spec.Name, Protocol: protocol, Code: code, Took: time.Since(s.at)}
}

// clean bounds a text of the proxy's, and leaves out one that repeats what we have shown it.
func (w *onlooker) clean(x *Said, text string) string {
	if w.leaks(text) {
		x.Withheld = true
		return ""
	}
	return cutText(text)
}

func cutText(s string) string {
	if len(s) <= maxSaidText {
		return s
	}
	i := maxSaidText
	for i > maxSaidText-utf8.UTFMax && !utf8.RuneStart(s[i]) {
		i--
	}
	return s[:i] + "..."
}

// window is how much of a token in a text is taken for the token.
const window = 8

// leaks reports whether a text holds a secret of ours: a password or token in the forms that it is sent in, or a part of what was sent.
func (w *onlooker) leaks(text string) bool {
	if text == "" {
		return false
	}
	text = strings.ToLower(text)
	holds := func(secret string) bool { return secret != "" && strings.Contains(text, strings.ToLower(secret)) }
	password := func(user, secret string) bool {
		return secret != "" && (holds(secret) || holds(url.QueryEscape(secret)) || holds(url.PathEscape(secret)) ||
			holds(base64.StdEncoding.EncodeToString([]byte(secret))) || holds(base64.StdEncoding.EncodeToString([]byte(user+":"+secret))))
	}
	if a := w.a.hops[w.n-1].spec.Auth; a != nil && (password(a.Username, a.Password.Reveal()) || password("", a.Token.Reveal())) {
		return true
	}
	if p := w.a.d.q.Proved; p != nil && password(p.User, p.Password.Reveal()) {
		return true
	}
	for _, s := range w.sent {
		s = strings.ToLower(s)
		if strings.Contains(s, "response=") { // Digest: the rest of it is what the proxy itself has said, and the user
			_, s, _ = strings.Cut(s, "response=")
			s, _, _ = strings.Cut(strings.TrimPrefix(s, `"`), `"`)
		}
		for i := 0; i+window <= len(s); i++ {
			if strings.Contains(text, s[i:i+window]) {
				return true
			}
		}
		if len(s) < window && holds(s) {
			return true
		}
	}
	return false
}
