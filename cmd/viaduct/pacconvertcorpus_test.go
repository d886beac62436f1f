package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/pac"
)

// convertCorpus is scripts as companies have them. left is how many parts cannot be said in a policy; a script without any must come out
// the same for every host.
var convertCorpus = []struct {
	name, text string
	left       int
	differs    bool // though nothing was left: the comparison has to say so
}{
	{"the shortest", `function FindProxyForURL(url, host) { return "PROXY proxy.corp.example:8080"; }`, 0, false},
	{"classic", `// Corp proxy settings
function FindProxyForURL(url, host)
{
	if (isPlainHostName(host) || dnsDomainIs(host, ".corp.example"))
		return "DIRECT";
	else
		return "PROXY proxy.corp.example:8080; DIRECT";
}`, 0, false},
	{"many domains", `function FindProxyForURL(url, host) {
	var proxy = "PROXY p1.corp.example:3128; PROXY p2.corp.example:3128";
	var direct = "DIRECT";
	host = host.toLowerCase();
	if (isPlainHostName(host)) { return direct; }
	if (shExpMatch(host, "*.corp.example") ||
	    shExpMatch(host, "*.corp.test") ||
	    host == "portal.partner.example" ||
	    localHostOrDomainIs(host, "www.intra.example")) { return direct; }
	/* the bank wants its own line */
	if (dnsDomainIs(host, ".bank.example")) { return "PROXY line.corp.example:8081"; }
	return proxy;
}`, 0, false},
	{"private networks", `function FindProxyForURL(url, host) {
	if (isInNet(host, "10.0.0.0", "255.0.0.0") || isInNet(host, "172.16.0.0", "255.240.0.0") || isInNet(host, "192.168.0.0", "255.255.0.0") || isInNet(host, "127.0.0.0", "255.0.0.0"))
		return "DIRECT";
	return "PROXY p:8080";
}`, 0, false},
	{"resolved once", `function FindProxyForURL(url, host) {
	var resolved_ip = dnsResolve(host);
	if (isPlainHostName(host) || isInNet(resolved_ip, "10.0.0.0", "255.0.0.0") || isInNet(resolved_ip, "192.168.0.0", "255.255.0.0")) return "DIRECT";
	return "PROXY p:8080";
}`, 0, false},
	{"else if", `function FindProxyForURL(url, host) {
	if (host == "localhost") { return "DIRECT"; }
	else if (dnsDomainIs(host, ".de.corp.example")) { return "PROXY de.corp.example:8080"; }
	else if (dnsDomainIs(host, ".us.corp.example")) { return "PROXY us.corp.example:8080"; }
	else if (dnsDomainIs(host, ".corp.example")) { return "DIRECT"; }
	else { return "SOCKS5 socks.corp.example:1080; PROXY us.corp.example:8080"; }
}`, 0, false},
	{"nested", `function FindProxyForURL(url, host) {
	if (isInNet(host, "10.0.0.0", "255.0.0.0")) {
		if (host == "10.1.1.1") return "PROXY special:1";
		return "DIRECT";
	}
	return "PROXY p:8080";
}`, 0, false},
	{"exceptions", `function FindProxyForURL(url, host) {
	if (dnsDomainIs(host, ".corp.example") && !dnsDomainIs(host, ".dmz.corp.example") && !(host == "mail.corp.example")) return "DIRECT";
	return "PROXY p:8080";
}`, 0, false},
	{"by scheme", `function FindProxyForURL(url, host) {
	if (url.substring(0, 4) == "ftp:") return "PROXY ftp.corp.example:2121";
	if (shExpMatch(url, "https://*")) return "PROXY s.corp.example:8443";
	return "PROXY p:8080";
}`, 2, false},
	{"by time", `function FindProxyForURL(url, host) {
	if (weekdayRange("MON", "FRI") && timeRange(8, 18)) return "PROXY day:8080";
	return "PROXY night:8080";
}`, 1, false},
	{"a variable that is set on the way", `function FindProxyForURL(url, host) {
	var proxy = "PROXY one:8080";
	if (dnsDomainIs(host, ".two.example")) { proxy = "PROXY two:8080"; }
	return proxy;
}`, 3, false},
	{"a variable that is declared on the way", `function FindProxyForURL(url, host) {
	var proxy = "PROXY one:8080";
	if (dnsDomainIs(host, ".two.example")) { var proxy = "PROXY two:8080"; }
	return proxy;
}`, 3, false},
	{"a constant that is changed", `var proxy = "PROXY one:8080";
proxy = "PROXY two:8080";
function FindProxyForURL(url, host) { return proxy; }`, 1, false},
	{"a loop over a list", `var direct = [".a.example", ".b.example"];
function FindProxyForURL(url, host) {
	for (var i = 0; i < direct.length; i++) { if (dnsDomainIs(host, direct[i])) return "DIRECT"; }
	return "PROXY p:8080";
}`, 1, false},
	{"a regular expression", `function FindProxyForURL(url, host) {
	if (/^(www|ftp)\.corp\.example$/.test(host)) return "DIRECT";
	return "PROXY p:8080";
}`, 1, false},
	{"helpers", `function internal(h) { return dnsDomainIs(h, ".corp.example"); }
var blackhole = "PROXY 127.0.0.1:9";
function FindProxyForURL(url, host) {
	if (internal(host)) return "DIRECT";
	if (shExpMatch(host, "ads*.example") || shExpMatch(host, "*.doubleclick.example")) return blackhole;
	return "PROXY p:8080";
}`, 1, false},
	{"an assignment in a condition", `function FindProxyForURL(url, host) {
	if (isPlainHostName(host)) host = host + ".corp.example";
	if (dnsDomainIs(host, ".corp.example")) return "DIRECT";
	return "PROXY p:8080";
}`, 1, false},
	{"case matters", `function FindProxyForURL(url, host) {
	if (dnsDomainIs(host, ".Corp.Example")) return "PROXY never:1";
	if (shExpMatch(host, "WWW.*")) return "PROXY never:2";
	return "PROXY p:8080";
}`, 0, true},
	{"ends without a return", `function FindProxyForURL(url, host) {
	if (dnsDomainIs(host, ".corp.example")) return "DIRECT";
}`, 1, false},
}

// convertHosts is 200 hosts that are made of the names in a script and of others.
func convertHosts(text string, more []string) []string {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.FieldsFunc(text, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-') })
	words = slices.DeleteFunc(words, func(w string) bool { return strings.Trim(w, ".") == "" })
	hosts := slices.Clone(more)
	for i := 0; len(hosts) < 200 && i < 10000; i++ {
		h := strings.Trim(words[r.IntN(len(words))], ".")
		switch r.IntN(7) {
		case 0:
			h = fmt.Sprintf("%d.%d.%d.%d", []int{10, 11, 172, 192, 127, 8}[r.IntN(6)], []int{0, 1, 16, 31, 32, 168}[r.IntN(6)], r.IntN(256), r.IntN(256))
		case 1:
			h = "www." + h
		case 2:
			h = "x" + h
		case 3:
			h = strings.Trim(words[r.IntN(len(words))], ".") + "." + h
		case 4:
			h += ".example"
		case 5:
			_, h, _ = strings.Cut(h, ".")
		}
		if a, err := connmodel.MakeAddress(h, 443); err == nil && a.Host == h && !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// TestPACConvertCorpus converts each script, loads what came of it, and asks both about 200 hosts. What says that everything carried over
// must be right; where something did not, it is said.
func TestPACConvertCorpus(t *testing.T) {
	for _, x := range convertCorpus {
		t.Run(x.name, func(t *testing.T) {
			read, err := pac.Convert(x.text)
			if err != nil {
				t.Fatal(err)
			}
			c := &pacConversion{read: read, from: "corpus", upstreams: map[pac.Entry]string{}, pools: map[string]string{}, means: map[string]string{}}
			policy, err := c.policy()
			if err != nil {
				t.Fatal(err)
			}
			if len(read.Left) != x.left || c.odd != 0 {
				t.Errorf("left %q, want %d", read.Left, x.left)
			}
			read.Hosts = convertHosts(x.text, read.Hosts)
			if len(read.Hosts) < 150 {
				t.Errorf("only %d hosts", len(read.Hosts))
			}
			comment, differences, err := c.compare(context.Background(), x.text, policy)
			if err != nil {
				t.Fatalf("%v\n%s", err, policy)
			}
			if x.left == 0 && differences > 0 != x.differs {
				t.Errorf("%s\n%s", policy, comment)
			}
			if _, diags := policies.Load(policies.Options{Source: map[string][]byte{"converted.hcl": policy}}); diags.HasErrors() {
				t.Errorf("%v", diags.Err())
			}
		})
	}
}
