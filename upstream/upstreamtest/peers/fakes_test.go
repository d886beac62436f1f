package peers_test

import (
	"strings"
	"testing"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// TestFakesWithCurl lets a client that nobody here wrote judge the scripted
// proxies: what tests rely on as correct behaviour has to be so.
func TestFakesWithCurl(t *testing.T) {
	peers.Need(t, "curl")
	const greeting = "hello from the origin\n"
	ca := upstreamtest.MustCA(t)
	caFile, err := ca.WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	plain := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	secure := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{TLS: ca.ServerTLS(t, "origin.test")})
	options := upstreamtest.Options{
		User: "ann", Password: "a secret", Hosts: map[string]string{"origin.test:443": secure.Addr()},
	}
	overTLS := options
	overTLS.TLS = ca.ServerTLS(t, "127.0.0.1")
	http, https := upstreamtest.NewHTTP(t, options), upstreamtest.NewHTTP(t, overTLS)
	socks4, socks5 := upstreamtest.NewSOCKS4(t, options), upstreamtest.NewSOCKS5(t, options)

	for _, tt := range []struct {
		scheme string
		p      *upstreamtest.Proxy
		names  bool // the proxy is given names
	}{
		{"http", http, true}, {"https", https, true},
		{"socks4", socks4, false}, {"socks4a", socks4, true}, {"socks5", socks5, false}, {"socks5h", socks5, true},
	} {
		t.Run(tt.scheme, func(t *testing.T) {
			via := []string{"--proxy-cacert", caFile, "--cacert", caFile, "-x", tt.scheme + "://" + tt.p.Addr(), "-U", "ann:a secret"}
			mustCurl(t, greeting, append(via, plain.URL("/"))...)
			mustCurl(t, greeting, append(via, "-p", plain.URL("/"))...)
			mustCurl(t, "sent", append(via, "-d", "sent", "-H", "Transfer-Encoding: chunked", plain.URL("/echo"))...)
			if tt.names {
				mustCurl(t, greeting, append(via, "https://origin.test/")...)
				if got := tt.p.Targets(); got[len(got)-1] != "origin.test:443" {
					t.Errorf("targets %q", got)
				}
			}
			for i, r := range tt.p.Requests() {
				if r.Accepted && r.User != "ann" {
					t.Errorf("request %d accepted from %q", i, r.User)
				}
			}
		})
	}
	for _, r := range plain.Requests() {
		if strings.Contains(strings.ToLower(string(r.Head)), "proxy-") {
			t.Errorf("the origin was sent a field for the proxy: %q", r.Head)
		}
	}

	http.Script(upstreamtest.Status(503, "busy\n"))
	failCurl(t, "503", "-x", "http://ann:a%20secret@"+http.Addr(), "-p", plain.URL("/"))
	socks5.Script(upstreamtest.SOCKSReply(5))
	failCurl(t, "(5)", "-x", "socks5h://ann:a%20secret@"+socks5.Addr(), plain.URL("/"))
	socks5.Script(upstreamtest.Bound(strings.Repeat("n", 255)))
	mustCurl(t, greeting, "-x", "socks5h://ann:a%20secret@"+socks5.Addr(), plain.URL("/"))
	for _, path := range []string{"/chunked/9000", "/until-close/9000", "/bytes/9000"} {
		out, err := curl(t, plain.URL(path))
		if err != nil || len(out) != 9000 || out[251] != 0 || out[250] != 250 {
			t.Errorf("%s: %d bytes, %v", path, len(out), err)
		}
	}
	failCurl(t, "curl: (18)", plain.URL("/short/1000")) // transfer closed early
}
