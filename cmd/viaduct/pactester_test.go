package main

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/policies/pac"
	"viaduct/upstream/upstreamtest/peers"
)

// pacCorpus is scripts whose answers libpacparser and we must give alike. Names are not looked up in them, and nothing depends on the time.
var pacCorpus = []string{
	`return "PROXY a.example:8080; SOCKS5 b.example:1080; DIRECT";`,
	`if (isPlainHostName(host)) return "DIRECT"; return "PROXY a:1";`,
	`if (dnsDomainIs(host, ".corp.example")) return "DIRECT"; return "PROXY a:1";`,
	`if (localHostOrDomainIs(host, "www.corp.example")) return "DIRECT"; return "PROXY a:1";`,
	`return "PROXY d" + dnsDomainLevels(host) + ":1";`,
	`if (shExpMatch(host, "*.corp.example")) return "PROXY h:1"; if (shExpMatch(url, "http://*/p?th*")) return "PROXY u:1"; return "DIRECT";`,
	`if (shExpMatch(url, "*/a.b*")) return "PROXY s:1"; return "DIRECT";`,
	`if (isInNet(host, "10.0.0.0", "255.0.0.0")) return "DIRECT"; if (isInNet(host, "192.0.2.128", "255.255.255.128")) return "PROXY n:1"; return "PROXY a:1";`,
	`if (/^(www|ftp)\./.test(host)) return "PROXY r:1"; return "DIRECT";`,
	`var m = {"www.corp.example": "PROXY m:1"}; return m[host] || "DIRECT";`,
	`host = host.toLowerCase(); if (host.substring(0, 3) == "www") return "PROXY w:" + host.length; return "DIRECT";`,
	`switch (url.split(":")[0]) { case "https": return "PROXY s:1"; case "http": return "PROXY h:1"; } return "DIRECT";`,
	`var n = 0; for (var i = 0; i < host.length; i++) n += host.charCodeAt(i); return "PROXY p" + (n % 7) + ":1";`,
	`if (url.indexOf("?") >= 0) return "PROXY q:1"; return unescape("DI%52ECT");`,
}

var pacURLs = []string{
	"http://www.corp.example/", "http://corp.example/", "http://intranet/", "http://www/", "http://www.corp.example.net/path", "http://a.b.c.corp.example/pith/x",
	"http://10.1.2.3/", "http://11.1.2.3/", "http://192.0.2.200/", "http://192.0.2.5/", "http://ftp.example/a.b(c)+d", "http://ftp.example/axb(c)+d",
	"http://x.example/p%20th?q=1", "https://www.corp.example/", "https://x.example:8443/", "http://xcorp.example/", "http://www.example:8080/path?a=b&c=d",
}

// TestPACOracle: an engine of another make, Debian's libpacparser, gives the same answers. (It takes brackets in the pattern of shExpMatch for a regular expression,
// which browsers do not; so there are none here.)
func TestPACOracle(t *testing.T) {
	peers.Need(t, "pactester")
	dir := t.TempDir()
	urls := filepath.Join(dir, "urls")
	if err := os.WriteFile(urls, []byte(strings.Join(pacURLs, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, body := range pacCorpus {
		text := "function FindProxyForURL(url, host) { " + body + " }\n"
		file := filepath.Join(dir, "script.pac")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, "pactester", "-p", file, "-f", urls).Output()
		cancel()
		if err != nil {
			t.Fatalf("script %d: pactester: %v", i, err)
		}
		theirs := map[string]string{}
		for line := range strings.Lines(string(out)) {
			if u, answer, ok := strings.Cut(strings.TrimSpace(line), " : "); ok {
				theirs[u] = answer
			}
		}
		if len(theirs) != len(pacURLs) {
			t.Fatalf("script %d: pactester answered %d of %d: %s", i, len(theirs), len(pacURLs), out)
		}
		s, err := pac.New(context.Background(), text, pac.Options{Engines: 1, Resolver: noNames{}})
		if err != nil {
			t.Fatalf("script %d: %v", i, err)
		}
		for _, u := range pacURLs {
			q, err := pac.QueryForURL(u)
			if err != nil {
				t.Fatal(err)
			}
			a, err := s.Find(context.Background(), pac.Query{URL: u, Host: q.Host})
			if err != nil || a.Text != theirs[u] {
				t.Errorf("%s of %s\nwe say %q (%v), libpacparser %q", body, u, a.Text, err, theirs[u])
			}
		}
		s.Close()
	}
}

// noNames knows no name.
type noNames struct{}

// Lookup implements pac.Resolver.
func (noNames) Lookup(context.Context, string) ([]netip.Addr, error) { return nil, nil }
