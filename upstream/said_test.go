package upstream

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/upstreamtest"
)

// heard dials and returns what the proxies of the way said, a line each.
func heard(t *testing.T, tab *Table, q Request) (lines []string, all []Said, err *connmodel.ConnError) {
	t.Helper()
	q.Watch = func(s Said) {
		text := fmt.Sprintf("%d/%d %s %d %q", s.Attempt, s.Hop, s.Protocol, s.Code, s.Text)
		for _, f := range s.Fields {
			text += fmt.Sprintf(" %s: %q", f.Name, f.Value)
		}
		if s.Withheld {
			text += " withheld"
		}
		lines, all = append(lines, text), append(all, s)
	}
	if q.Target.IsZero() {
		q.Target = connmodel.Address{Host: "a.example", Port: 443}
	}
	c, err := tab.Dial(t.Context(), &q, nil)
	if err == nil {
		c.Close()
	}
	return lines, all, err
}

// What proxies answer is told with what says who they are, and nothing of what they were shown.
func TestSaid(t *testing.T) {
	answer := func(head string) connmodel.Address {
		return listen(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 16))
			io.WriteString(c, head)
		})
	}
	basic := base64.StdEncoding.EncodeToString([]byte("svc-p:p4ss"))
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, head string
		want       string
	}{
		{"yes", "HTTP/1.1 200 Connection established\r\nVia: 1.1 squid (squid/5.7)\r\nX-Other: 1\r\n\r\n", `1/1 http 200 "Connection established" Via: "1.1 squid (squid/5.7)"`},
		{"no reason", "HTTP/1.1 502\r\nProxy-Status: p; error=dns_error\r\n\r\n", `1/1 http 502 "Bad Gateway" Proxy-Status: "p; error=dns_error"`},
		{"escapes", "HTTP/1.1 403 a\xc2\x9bb\r\nServer: \xff\r\n\r\n", `1/1 http 403 "a\u009bb" Server: "\xff"`},
		{"long", "HTTP/1.1 403 " + long + "\r\n\r\n", `1/1 http 403 "` + long[:maxSaidText] + `..."`},
		{"our field", "HTTP/1.1 403 You said Basic " + basic + "\r\nVia: u=svc-p p=P4SS\r\nServer: s\r\n\r\n", `1/1 http 403 "" Server: "s" withheld`},
		{"a part of it", "HTTP/1.1 403 No\r\nVia: " + basic[3:12] + "\r\n\r\n", `1/1 http 403 "No" withheld`},
		{"many", "HTTP/1.1 403 No\r\n" + strings.Repeat("Via: x\r\n", 50) + "\r\n", `1/1 http 403 "No"` + strings.Repeat(` Via: "x"`, maxSaidFields)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := loginSpec("p", answer(tt.head))
			lines, _, _ := heard(t, table(t, Config{Upstreams: []Spec{spec}, Guard: auth.NewGuard(t.TempDir(), nil)}), Request{Route: "upstream.p"})
			if got := strings.Join(lines, "\n"); got != tt.want {
				t.Errorf("%s\nwant\n%s", got, tt.want)
			}
			spec.Auth = nil
			if lines, _, _ = heard(t, table(t, Config{Upstreams: []Spec{spec}}), Request{Route: "upstream.p"}); len(lines) != 1 {
				t.Errorf("without a credential: %q", lines)
			}
		})
	}
}

// Each round of a login is told, with what the proxy offers and without the tokens of the handshake.
func TestSaidRounds(t *testing.T) {
	at, _ := asking(t, func(c net.Conn, r *http.Request, _ int) bool {
		if v := r.Header.Get("Proxy-Authorization"); strings.HasPrefix(v, "Digest ") {
			_, response, _ := strings.Cut(v, `response="`)
			fmt.Fprintf(c, "HTTP/1.1 200 %s\r\nVia: 1.1 p\r\n\r\n", response[:20])
			return false
		}
		deny(c, "", fmt.Sprintf(digestOffer, "n0nce-n0nce-n0nce"), "NTLM TlRMTVNTUAACAAAA")
		return true
	})
	lines, _, err := heard(t, table(t, Config{Upstreams: []Spec{loginSpec("p", at, "digest")}, Guard: auth.NewGuard(t.TempDir(), nil)}), Request{Route: "upstream.p"})
	want := `1/1 http 407 "Proxy Authentication Required" Proxy-Authenticate: "digest realm=x, ntlm"` + "\n" + `1/1 http 200 "" Via: "1.1 p" withheld`
	if got := strings.Join(lines, "\n"); got != want || err != nil {
		t.Errorf("%s\n%v", got, err)
	}
}

// A caller names the members that are taken, whatever the pools think of them, and hears which attempt it was.
func TestPin(t *testing.T) {
	a, b, s := upstreamtest.NewHTTP(t, upstreamtest.Options{}), upstreamtest.NewHTTP(t, upstreamtest.Options{}), upstreamtest.NewSOCKS5(t, upstreamtest.Options{})
	b.Script(upstreamtest.Status(403, ""))
	s.Script(upstreamtest.SOCKSReply(5))
	tab := table(t, Config{Upstreams: []Spec{
		{Name: "a", Scheme: "http", Address: addressOf(t, a.Addr())}, {Name: "b", Scheme: "http", Address: addressOf(t, b.Addr())}, {Name: "s", Scheme: "socks5h", Address: addressOf(t, s.Addr())}},
		Pools:  []PoolSpec{{Name: "ab", Members: []string{"upstream.a", "upstream.b"}}, {Name: "all", Members: []string{"pool.ab", "upstream.s"}}},
		Chains: []ChainSpec{{Name: "two", Hops: []string{"pool.ab", "upstream.s"}}}})
	for _, tt := range []struct {
		route string
		pin   []string
		want  string
	}{
		{"pool.ab", []string{"upstream.b"}, `1/1 http 403 "Scripted"`},
		{"pool.all", []string{"pool.ab", "upstream.b"}, `1/1 http 403 "Scripted"`},
		{"pool.all", []string{"upstream.s"}, `1/1 socks5 5 "connection refused"`},
		{"chain.two", []string{"upstream.a"}, `1/1 http 200 "Connection established" | 1/2 socks5 5 "connection refused"`},
		{"chain.two", []string{"upstream.b"}, `1/1 http 403 "Scripted"`},
	} {
		lines, _, _ := heard(t, tab, Request{Route: tt.route, Pin: tt.pin, Retry: &connmodel.Retry{Attempts: 1}})
		if got := strings.Join(lines, " | "); got != tt.want {
			t.Errorf("%s %q: %s", tt.route, tt.pin, got)
		}
	}
	lines, _, _ := heard(t, tab, Request{Route: "pool.all", Pin: []string{"pool.ab", "upstream.b"}, Retry: &connmodel.Retry{Attempts: 2}})
	if len(lines) != 1 { // a denial is no reason for another attempt
		t.Errorf("%q", lines)
	}
}

func addressOf(t *testing.T, text string) connmodel.Address {
	t.Helper()
	a, err := connmodel.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
