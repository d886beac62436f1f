package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/auth"
	"viaduct/upstream/upstreamtest"
)

// fixed is a resolver of one answer.
type fixed struct {
	addrs []netip.Addr
	err   error
}

func (f fixed) Lookup(context.Context, string) ([]netip.Addr, error) { return f.addrs, f.err }

func address(t *testing.T, s string) connmodel.Address {
	t.Helper()
	a, err := connmodel.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// look checks a proxy "corp" with one target.
func look(t *testing.T, spec upstream.Spec, target string, change func(*Options)) *Report {
	t.Helper()
	spec.Name = "corp"
	spec.Timeouts = upstream.HopTimeouts{Dial: 2 * time.Second, TLS: 2 * time.Second, Handshake: 2 * time.Second}
	o := Options{Spec: spec, Route: "upstream.corp", Target: address(t, target), Asked: true, Timeout: 2 * time.Second}
	if change != nil {
		change(&o)
	}
	if o.Table == nil {
		c := upstream.Config{Upstreams: []upstream.Spec{o.Spec}, Resolver: o.Resolver, Guard: auth.NewGuard(t.TempDir(), nil)}
		if o.NoCredentials != "" {
			c.Upstreams[0].Auth = nil
		}
		table, err := upstream.NewTable(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Table = table
	}
	defer o.Table.Close()
	r := Run(t.Context(), o)
	if t.Failed() {
		return r
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := json.MarshalIndent(r, "", " ")
			t.Logf("%s", b)
		}
	})
	for _, s := range r.Steps {
		if s.Status == Fail && (s.Means == "" || s.Code == "" || regexp.MustCompile(`\{[a-z]+\}`).MatchString(s.Means+s.Try+s.Says)) {
			t.Errorf("step %s fails without its sentence: %q %q %q", s.Name, s.Code, s.Means, s.Try)
		}
	}
	return r
}

// has fails the test unless the last step of that name went so.
func has(t *testing.T, r *Report, step string, status Status, code, says string) *Step {
	t.Helper()
	s := r.Step(step)
	if s == nil {
		t.Errorf("there is no step %s", step)
		return &Step{}
	}
	if s.Status != status || code != "" && s.Code != code || !strings.Contains(s.Says, says) {
		t.Errorf("step %s: %s %q %q; want %s %q %q", step, s.Status, s.Code, s.Says, status, code, says)
	}
	return s
}

// Every way in which a port is not the proxy that the policy says, and every answer of one that is.
func TestFaults(t *testing.T) {
	user := &upstream.Auth{Username: "svc", Password: upstream.NewSecret("s3cret")}
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	for _, tt := range []struct {
		name   string
		scheme string
		auth   *upstream.Auth
		proxy  func(*testing.T) string
		step   string
		status Status
		code   string
		says   string
	}{
		{"refused", "http", nil, func(t *testing.T) string { return upstreamtest.Refused(t) }, "tcp", Fail, "tcp_refused", "refused"},
		{"black hole", "http", nil, func(t *testing.T) string { return upstreamtest.BlackHole(t) }, "tcp", Fail, "tcp_timeout", "in time"},
		{"ssh", "http", nil, behaves(upstreamtest.Greeting("ssh", []byte("SSH-2.0-x\r\n"))), "protocol", Fail, "port_ssh", "SSH-2.0-x"},
		{"mail", "http", nil, behaves(upstreamtest.Greeting("mail", []byte("220 mail.example ESMTP\r\n"))), "protocol", Fail, "port_mail_or_ftp", "220"},
		{"silence", "http", nil, behaves(upstreamtest.Silence), "protocol", Fail, "port_silent", "says nothing"},
		{"closes", "http", nil, behaves(upstreamtest.CloseAtOnce), "protocol", Fail, "port_closed", ""},
		{"garbage", "http", nil, behaves(upstreamtest.Greeting("garbage", []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09"))), "protocol", Fail, "port_unknown", ""},
		{"http is socks5", "http", nil, func(t *testing.T) string { return upstreamtest.NewSOCKS5(t, upstreamtest.Options{}).Addr() }, "protocol", Fail, "port_socks5", "SOCKS5"},
		{"http is https", "http", nil, func(t *testing.T) string {
			return upstreamtest.NewHTTP(t, upstreamtest.Options{TLS: upstreamtest.MustCA(t).ServerTLS(t, "127.0.0.1")}).Addr()
		}, "protocol", Fail, "port_tls", "TLS"},
		{"https is http", "https", nil, behaves(upstreamtest.OK), "protocol", Fail, "port_http", "plain HTTP"},
		{"https is ssh", "https", nil, behaves(upstreamtest.Greeting("ssh", []byte("SSH-2.0-x\r\n"))), "tls", Fail, "tls_not_spoken", ""},
		{"socks5 is http", "socks5h", nil, behaves(upstreamtest.OK), "protocol", Fail, "port_http", ""},
		{"wants credentials", "http", nil, behaves(upstreamtest.Status(407, "who", `Proxy-Authenticate: Basic realm="the house"`)), "offers", Fail, "offers_no_auth", `realm "the house"`},
		{"407 with nothing", "http", user, behaves(upstreamtest.Answer("bare", []byte("HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n"))), "offers", Fail, "offers_nothing", ""},
		{"offers nothing of ours", "http", user, behaves(upstreamtest.Status(407, "", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM")), "offers", Fail, "offers_none_usable", "negotiate, ntlm"},
		{"malformed offers", "http", user, behaves(upstreamtest.Status(407, "", `Proxy-Authenticate: Digest realm="x`)), "offers", Fail, "", ""},
		{"rejected", "http", user, behaves(upstreamtest.Status(407, "", `Proxy-Authenticate: Basic realm="x"`)), "connect", Fail, "connect_rejected", "rejected"},
		{"forbidden", "http", nil, behaves(upstreamtest.Status(403, "no")), "connect", Fail, "connect_403", "403"},
		{"cannot reach", "http", nil, behaves(upstreamtest.Status(502, "no")), "connect", Fail, "connect_502", ""},
		{"overloaded", "http", nil, behaves(upstreamtest.Status(503, "no")), "connect", Fail, "connect_503", ""},
		{"slow target", "http", nil, behaves(upstreamtest.Status(504, "no")), "connect", Fail, "connect_504", ""},
		{"web server", "http", nil, behaves(upstreamtest.Status(405, "no")), "connect", Fail, "connect_405", ""},
		{"socks refuses methods", "socks5h", nil, func(t *testing.T) string {
			return upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.MethodReply(5, 0xff)}}).Addr()
		}, "offers", Fail, "socks_wants_auth", ""},
		{"socks rejects", "socks5h", user, func(t *testing.T) string {
			return upstreamtest.NewSOCKS5(t, upstreamtest.Options{User: "svc", Password: "other"}).Addr()
		}, "connect", Fail, "socks_rejected", "rejected the user name or password"},
		{"socks says no", "socks5h", nil, func(t *testing.T) string {
			return upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SOCKSReply(2)}}).Addr()
		}, "connect", Fail, "socks5_2", ""},
		{"socks4 says no", "socks4a", nil, func(t *testing.T) string {
			return upstreamtest.NewSOCKS4(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SOCKSReply(0x5b)}}).Addr()
		}, "connect", Fail, "socks4_91", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && slices.Contains([]string{"silence", "black hole", "http is socks5", "https is http", "socks5 is http"}, tt.name) {
				t.Skip("it waits")
			}
			t.Parallel()
			r := look(t, upstream.Spec{Scheme: tt.scheme, Address: address(t, tt.proxy(t)), Auth: tt.auth}, origin.Addr(), nil)
			has(t, r, tt.step, tt.status, tt.code, tt.says)
			if r.Verdict != Fail {
				t.Errorf("verdict %s: %s", r.Verdict, r.Says)
			}
			b, err := json.Marshal(r)
			if err != nil || bytes.Contains(b, []byte("s3cret")) || bytes.Contains(b, []byte("c3ZjOnMzY3JldA")) {
				t.Errorf("a secret is in it, or it is no JSON (%v)", err)
			}
		})
	}
}

func behaves(b upstreamtest.Behaviour) func(*testing.T) string {
	return func(t *testing.T) string {
		return upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{b}}).Addr()
	}
}

// A proxy with which all is well, of each kind.
func TestWell(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	user := &upstream.Auth{Username: "svc", Password: upstream.NewSecret("s3cret")}
	o := upstreamtest.Options{User: "svc", Password: "s3cret"}
	for scheme, start := range map[string]func(upstreamtest.TB, upstreamtest.Options) *upstreamtest.Proxy{
		"http": upstreamtest.NewHTTP, "socks5h": upstreamtest.NewSOCKS5, "socks4a": upstreamtest.NewSOCKS4} {
		t.Run(scheme, func(t *testing.T) {
			a, o := *user, o
			if scheme == "socks4a" {
				a.Password, o.Password = upstream.Secret{}, ""
			}
			p := start(t, o)
			r := look(t, upstream.Spec{Scheme: scheme, Address: address(t, p.Addr()), Auth: &a}, origin.Addr(), func(o *Options) { o.Idle = 300 * time.Millisecond })
			if r.Verdict != OK || r.Says != "all is well" {
				t.Errorf("verdict %s: %s", r.Verdict, r.Says)
			}
			has(t, r, "idle", OK, "", "bytes pass")
		})
	}
}

// Of several addresses of a name one that answers is enough, and the others are warned of.
func TestAddresses(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	a := address(t, p.Addr())
	a.Host = "proxy.test"
	r := look(t, upstream.Spec{Scheme: "http", Address: a}, p.Addr(), func(o *Options) {
		o.Resolver = fixed{addrs: []netip.Addr{netip.MustParseAddr("127.0.0.77"), netip.MustParseAddr("127.0.0.1")}}
	})
	var got []string
	for _, s := range r.Steps {
		if s.Name == "tcp" {
			got = append(got, string(s.Status)+" "+s.Code)
		}
	}
	if strings.Join(got, ", ") != "warn tcp_refused, ok " || r.Verdict != Warn {
		t.Errorf("%q, verdict %s", got, r.Verdict)
	}
	has(t, r, "dns", OK, "", "127.0.0.77, 127.0.0.1")
	for _, tt := range []struct {
		err  error
		code string
	}{{&net.DNSError{IsNotFound: true}, "dns_not_found"}, {&net.DNSError{IsTimeout: true}, "dns_timeout"}, {&net.DNSError{Err: "server misbehaving"}, "dns_failed"}} {
		r := look(t, upstream.Spec{Scheme: "http", Address: a}, p.Addr(), func(o *Options) { o.Resolver = fixed{err: tt.err} })
		has(t, r, "dns", Fail, tt.code, "proxy.test")
		has(t, r, "connect", Skip, "", "cannot be reached")
	}
}

// What is wrong with the certificates of a proxy is said by its verdict.
func TestCertificates(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	for _, e := range upstreamtest.TLSEnds(t, ca, "127.0.0.1") {
		if e.Config == nil {
			continue
		}
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			p := upstreamtest.NewHTTP(t, upstreamtest.Options{TLS: e.Config})
			r := look(t, upstream.Spec{Scheme: "https", Address: address(t, p.Addr()), TLS: &tls.Config{RootCAs: ca.Pool()}}, origin.Addr(), nil)
			s := r.Step("tls")
			switch {
			case e.OK:
				if s.Status == Fail || r.Step("connect").Status != OK {
					t.Errorf("%s %s; connect %s", s.Status, s.Says, r.Step("connect").Says)
				}
			case e.Verdict != "":
				has(t, r, "tls", Fail, "cert_"+e.Verdict, "")
			default:
				has(t, r, "tls", Fail, "", "")
			}
		})
	}
}

// A credential is shown once: a second look at the same state shows nothing.
func TestShownOnce(t *testing.T) {
	for scheme, start := range map[string]func(upstreamtest.TB, upstreamtest.Options) *upstreamtest.Proxy{"http": upstreamtest.NewHTTP, "socks5h": upstreamtest.NewSOCKS5} {
		t.Run(scheme, func(t *testing.T) {
			p := start(t, upstreamtest.Options{User: "svc", Password: "right"})
			dir := t.TempDir()
			spec := upstream.Spec{Scheme: scheme, Address: address(t, p.Addr()), Auth: &upstream.Auth{Username: "svc", Password: upstream.NewSecret("wrong")}}
			check := func() *Report {
				return look(t, spec, p.Addr(), func(o *Options) {
					o.Idle = time.Second
					table, err := upstream.NewTable(upstream.Config{Upstreams: []upstream.Spec{o.Spec}, Guard: auth.NewGuard(dir, nil)}, nil)
					if err != nil {
						t.Fatal(err)
					}
					o.Table = table
				})
			}
			if s := has(t, check(), "connect", Fail, "", "rejected"); s.Code != "connect_rejected" && s.Code != "socks_rejected" {
				t.Errorf("%s", s.Code)
			}
			r := check()
			has(t, r, "config", Fail, "credential_closed", "closed since")
			has(t, r, "connect", Fail, "credential_closed", "")
			has(t, r, "idle", Skip, "", "")
			n := 0
			for _, q := range p.Requests() {
				if q.HasCredentials {
					n++
				}
			}
			if n != 1 {
				t.Errorf("shown %d times", n)
			}
		})
	}
}

// Without credentials nothing is shown, and what can be found out is.
func TestNoCredentials(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "right"})
	r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr()), Auth: &upstream.Auth{Username: "svc", Password: upstream.NewSecret("wrong")}}, p.Addr(),
		func(o *Options) { o.NoCredentials = "--no-credentials says so" })
	has(t, r, "offers", OK, "", "basic is taken")
	has(t, r, "connect", Skip, "", "--no-credentials")
	for _, q := range p.Requests() {
		if q.HasCredentials {
			t.Error("it was shown")
		}
	}
	if !strings.Contains(r.Says, "no tunnel was asked for") {
		t.Errorf("verdict %s %s", r.Verdict, r.Says)
	}
}

// Clocks that differ are seen in Date.
func TestClock(t *testing.T) {
	at := time.Now().Add(-20 * time.Minute).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Status(403, "no", "Date: "+at)}})
	s := has(t, look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr())}, p.Addr(), nil), "clock", Warn, "clock_skew", "behind this one")
	if d, ok := s.Facts["skew_s"].(float64); !ok || d > -1100 || d < -1300 {
		t.Errorf("%v", s.Facts)
	}
}

// Who ends an idle tunnel is told apart.
func TestIdle(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	for _, tt := range []struct {
		name   string
		origin upstreamtest.Handler
		proxy  upstreamtest.Behaviour
		tls    bool
		status Status
		code   string
	}{
		{"kept", upstreamtest.Echo, upstreamtest.OK, false, OK, ""},
		{"closed", func(c net.Conn) { time.Sleep(200 * time.Millisecond) }, upstreamtest.OK, false, Warn, "idle_closed"},
		{"reset", func(c net.Conn) { time.Sleep(200 * time.Millisecond); c.Write([]byte("x")) }, upstreamtest.ResetAfter(1), false, Fail, "idle_reset"},
		{"dead", upstreamtest.Discard, upstreamtest.OK, false, Fail, "idle_dead"},
		{"target by TLS", func(c net.Conn) { time.Sleep(200 * time.Millisecond); c.Close() }, upstreamtest.OK, true, Warn, "idle_target"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && tt.name == "dead" {
				t.Skip("it waits")
			}
			t.Parallel()
			o := upstreamtest.Options{}
			if tt.tls {
				o.TLS = ca.ServerTLS(t, "target.test")
			}
			origin := upstreamtest.NewOrigin(t, tt.origin, o)
			target := origin.Addr()
			p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{tt.proxy}, Hosts: map[string]string{"target.test:443": origin.Addr()}})
			if tt.tls {
				target = "target.test:443"
			}
			r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr())}, target, func(o *Options) { o.Idle, o.Roots = time.Second, ca.Pool() })
			has(t, r, "idle", tt.status, tt.code, "")
			if tt.tls {
				has(t, r, "target", OK, "", "is good")
			}
		})
	}
}

// An authority that nobody knows in place of the target's is interception.
func TestIntercepted(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{TLS: ca.ServerTLS(t, "target.test")})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Hosts: map[string]string{"target.test:443": origin.Addr()}})
	r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr())}, "target.test:443", func(o *Options) { o.Roots = x509.NewCertPool() })
	has(t, r, "target", Warn, "target_intercepted", "")
}

// The look ends with its context, in whatever step.
func TestInterrupted(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Silence}})
	spec := upstream.Spec{Name: "corp", Scheme: "http", Address: address(t, p.Addr())}
	table, err := upstream.NewTable(upstream.Config{Upstreams: []upstream.Spec{spec}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	r := Run(ctx, Options{Table: table, Spec: spec, Route: "upstream.corp", Target: address(t, p.Addr()), Timeout: time.Minute, Idle: time.Minute})
	if took := time.Since(start); took > 20*time.Second || !strings.Contains(r.Says, "interrupted") || r.Verdict == Fail {
		t.Errorf("%s, %v", r.Says, took)
	}
}

// Every code in the package has a sentence, and no word in a sentence is left to chance.
func TestSentences(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:fail|warn)\("([a-z0-9_]+)"|return "([a-z]+_[a-z0-9_]+)"|code(?::?)= "([a-z0-9_]+)"`).FindAllSubmatch(b, -1) {
			code := string(m[1]) + string(m[2]) + string(m[3])
			n++
			if _, ok := sentences[code]; !ok && !strings.HasSuffix(code, "_") {
				t.Errorf("%s: no sentence for %s", f.Name(), code)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d codes were found: the expression that finds them is broken", n)
	}
	words := (&exam{Options: &Options{}}).words()
	for code, s := range sentences {
		for _, m := range regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(s.means+s.try, -1) {
			if _, ok := words[m[1]]; !ok {
				t.Errorf("%s: nothing stands for %s", code, m[0])
			}
		}
		if s.means == "" || !strings.HasSuffix(s.means, ".") && !strings.HasSuffix(s.means, "?") {
			t.Errorf("%s: %q", code, s.means)
		}
	}
	for _, v := range []connmodel.ChainVerdict{connmodel.ChainExpired, connmodel.ChainNotYetValid, connmodel.ChainName, connmodel.ChainNoName, connmodel.ChainAuthority, connmodel.ChainSelfSigned,
		connmodel.ChainOrder, connmodel.ChainWeak, connmodel.ChainUsage, connmodel.ChainPin, connmodel.ChainInvalid, connmodel.ChainExpiringSoon} {
		if _, ok := sentences[certCode(v)]; !ok {
			t.Errorf("no sentence for %s", certCode(v))
		}
	}
	for _, k := range []connmodel.Kind{connmodel.KindRefused, connmodel.KindUnreachable, connmodel.KindTimeout, connmodel.KindDNS, connmodel.KindAuth, connmodel.KindDenied, connmodel.KindTLS,
		connmodel.KindProtocol, connmodel.KindReset, connmodel.KindEOF, connmodel.KindLimit, connmodel.KindInternal, connmodel.KindCanceled} {
		if _, ok := sentences["connect_"+string(k)]; !ok {
			t.Errorf("no sentence for connect_%s", k)
		}
	}
}

// What a peer says is fit for a terminal.
func TestClean(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Status(407, "", "Proxy-Authenticate: Basic realm=\"\u009b31m\u202eevil\"", "Server: \u009b2J")}})
	r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr())}, p.Addr(), nil)
	for _, s := range r.Steps {
		for _, text := range append([]string{s.Says, s.Means, s.Try}, s.Detail...) {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' && (r < 0xa1 || r == 0x202e) }) {
				t.Errorf("%q", text)
			}
		}
	}
}

// The JSON form is an interface: fields may be added here, and not changed.
func TestJSON(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Status(407, "", "Proxy-Authenticate: Basic realm=x", "Server: squid")}})
	r := look(t, upstream.Spec{Scheme: "http", Address: address(t, p.Addr())}, p.Addr(), nil)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	text := []string{"upstream", "url", "target", "started", "verdict", "says"}
	for _, key := range text {
		if _, ok := m[key].(string); !ok {
			t.Errorf("%s is %v", key, m[key])
		}
	}
	if _, ok := m["took_ms"].(float64); !ok || len(m) != len(text)+2 {
		t.Errorf("%v", m)
	}
	known := map[string]string{"step": "string", "status": "string", "took_ms": "float64", "says": "string", "code": "string", "means": "string", "try": "string", "detail": "[]interface {}", "facts": "map[string]interface {}"}
	seen := map[string]bool{}
	for _, s := range m["steps"].([]any) {
		for key, v := range s.(map[string]any) {
			if seen[key] = true; fmt.Sprintf("%T", v) != known[key] {
				t.Errorf("%s is %T", key, v)
			}
		}
	}
	if len(seen) != len(known) {
		t.Errorf("only %v were seen", seen)
	}
}
