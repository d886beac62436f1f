package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// Real proxies in front of a real server: the chain of two of them, what each says, and what it means when one refuses.
func TestTraceThroughPeers(t *testing.T) {
	peers.Need(t, "squid", "danted", "tinyproxy", "nginx", "basic_ncsa_auth", "digest_file_auth", "openssl")
	ca := upstreamtest.MustCA(t)
	server, err := peers.Nginx(t.Context(), t.TempDir(), peers.NginxOptions{CA: ca, Names: []string{"127.0.0.1", "localhost"}, HTTP2: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	squid := squidWith(t, peers.SquidOptions{User: "svc", Password: traceSecret, Schemes: []string{"digest", "basic"}, Deny: []string{"127.0.0.66"}})
	secure := squidWith(t, peers.SquidOptions{User: "svc", Password: traceSecret, CA: ca})
	dante, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{User: "svc", Password: traceSecret, Deny: []string{"127.0.0.9/32"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dante.Close() })
	tiny, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tiny.Close() })
	x := newTracing(t, "")
	file, err := ca.WriteFile(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Replace(authBlock, "username", "schemes = [\"digest\"]\n    username", 1)
	x.policy(upstreamBlock("squid", "http://"+squid.Addr(), digest) + upstreamBlock("secure", "https://"+secure.Addr(), authBlock+"\n  tls { ca = \""+filepath.Base(file)+"\" }") +
		upstreamBlock("strict", "https://"+secure.Addr(), authBlock) + upstreamBlock("dante", "socks5h://"+dante.Addr(), authBlock) + upstreamBlock("tiny", "http://"+tiny.Addr(), "") +
		"chain \"two\" { hops = [upstream.squid, upstream.dante] }\n" +
		"policy \"default\" {\n  rule \"up\" {\n    match {\n      user = \"up\"\n      address = \"127.0.0.0/8\"\n    }\n    via = chain.two\n    tls {\n      mode = \"upgrade\"\n      ca = \"" + filepath.Base(file) + "\"\n    }\n  }\n  rule \"two\" {\n    match { address = \"127.0.0.0/8\" }\n    via = chain.two\n  }\n}\n")
	_, port, _ := net.SplitHostPort(server.Addr())
	_, secured, _ := net.SplitHostPort(server.TLSAddr())
	for _, tt := range []struct {
		name  string
		args  []string
		code  int
		lines []string
	}{
		{"two", []string{"127.0.0.1:" + port}, 0, []string{`^1. squid at`, `^ok    reply .*407 Proxy Authentication Required;.*Via: 1.1 .*squid.*; Proxy-Authenticate: digest realm=`, `^ok    auth .*1 round, credential "login"$`, `^ok    connect .*200 Connection established`,
			`^2. dante at socks5h://`, `^ok    greeting `, `^ok    auth .*credential "login"$`, `^ok    connect .*socks5 reply 0, succeeded, from 127.0.0.1:\d+$`, `^verdict   OK  reached .* through squid > dante$`}},
		{"request", []string{"http://127.0.0.1:" + port + "/status/503", "--method", "GET"}, 0, []string{`^warn  request .*GET: HTTP 503 Service Temporarily Unavailable; Server: nginx`, `word of a proxy on the way`}},
		{"upgrade", []string{"--user", "up", "http://127.0.0.1:" + secured + "/"}, 0, []string{`^3. the server`, `^ok    tls .*TLS 1.[23], .*verified for 127.0.0.1$`, `^ok    request .*HEAD: HTTP 200 OK; Server: nginx`}},
		{"tls", []string{"--tls", "127.0.0.1:" + secured}, 0, []string{`^warn  tls .*TLS 1.[23], \w+, ALPN h2`, `^ +1. CN=`, `^verdict   WARNING .*unknown_authority`, `^means     .*the proxy opens TLS and shows its own`}},
		{"refused by the first", []string{"--via", "squid", "127.0.0.66:" + port}, 1, []string{`^FAIL  connect .*403 Forbidden;.*Server: squid.*X-Squid-Error: ERR_ACCESS_DENIED 0`, `^means     The proxy let us in and does not allow this target`}},
		{"refused by the second", []string{"127.0.0.9:" + port}, 1, []string{`^2. dante at`, `^FAIL  connect .*socks5 reply 2, connection not allowed by ruleset$`, `^means     The proxy's rules do not allow this target`}},
		{"nobody there", []string{"--via", "squid", upstreamtest.Refused(t)}, 1, []string{`^FAIL  connect .*503 Service Unavailable;.*X-Squid-Error: ERR_CONNECT_FAIL 111`, `^FAIL  server .*could not reach`, `^means     The proxy let us in and could not reach the target`}},
		{"nobody there, tinyproxy", []string{"--via", "tiny", upstreamtest.Refused(t)}, 1, []string{`^FAIL  connect .*5\d\d `, `^FAIL  server `, `^means     The proxy `}},
		{"tinyproxy", []string{"--via", "tiny", "http://127.0.0.1:" + port + "/"}, 0, []string{`^1. tiny at`, `^ok    open .*asked for the page itself`, `^ok    request .*HTTP 200 OK`}},
		{"https proxy", []string{"--via", "secure", "127.0.0.1:" + port}, 0, []string{`^1. secure at https://`, `^ok    tls .*TLS 1.3.*verified for 127.0.0.1$`, `^ +1. CN=.*, until `, `^ok    connect .*credential "login"$`}},
		{"https proxy, not trusted", []string{"--via", "strict", "127.0.0.1:" + port}, 1, []string{`^1. strict at https://`, `^FAIL  tls .*not trusted`, `^verdict   FAILED  not reached: hop 1 \(strict\)`, `^means     The certificate was issued by an authority`, `^try       Give the company's CA as ca in the tls block of upstream strict`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out := x.run(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d", code)
			}
			wantLines(t, out, tt.lines...)
		})
	}
	code, out := x.run("--all", "127.0.0.1:"+port)
	wantLines(t, out, `^WAY `, `^squid > dante +decides +yes`, `^squid +- +yes`, `^secure +- +yes`, `^strict +- +no`, `^dante +- +yes`, `^tiny +- +yes`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A wrong password is shown to real proxies once, however often somebody traces.
func TestTraceLockoutPeers(t *testing.T) {
	peers.Need(t, "squid", "basic_ncsa_auth", "digest_file_auth", "openssl")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{User: "svc", Password: "the right one", Schemes: []string{"basic", "digest"}})
	for _, scheme := range []string{"basic", "digest"} {
		x := newTracing(t, upstreamBlock("corp", "http://"+squid.Addr(), strings.Replace(authBlock, "username", "schemes = [\""+scheme+"\"]\n    username", 1))+localRule("upstream.corp", ""))
		before := timesShown(squid, "svc")
		for range 3 {
			for _, target := range []string{origin.Addr(), "http://" + origin.Addr() + "/"} {
				if code, out := x.run(target); code != 1 || !strings.Contains(out, "FAILED") {
					t.Errorf("exit code %d\n%s", code, out)
				}
			}
		}
		if n := timesShown(squid, "svc") - before; n != 1 {
			t.Errorf("%s: shown %d times", scheme, n)
		}
	}
}
