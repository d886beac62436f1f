package importer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// answers is a server that says who it is: to requests of any form, and within tunnels.
func answers(t *testing.T, who string) (port string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			fmt.Fprint(w, who)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
		if _, err := http.ReadRequest(rw.Reader); err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(who), who)
		}
	}))
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// rig is a server, proxies, and what stands for their ports in configurations.
type rig struct {
	origin, a, b, c string
	hosts           []string
}

func newRig(t *testing.T) *rig {
	return &rig{answers(t, "direct"), answers(t, "a"), answers(t, "b"), answers(t, "c"),
		[]string{"www.corp.example", "corp.example", "api.partner.example", "x.files.partner.example", "other.example", "ads.example"}}
}

func (r *rig) fill(s string) string {
	return strings.NewReplacer("$ORIGIN", r.origin, "$A", r.a, "$B", r.b, "$C", r.c).Replace(s)
}

// ask is one request.
type ask struct {
	client, method, host, port string
}

func (r *rig) asks() (all []ask) {
	for _, client := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		for _, method := range []string{"GET", "POST", "CONNECT"} {
			for _, host := range r.hosts {
				all = append(all, ask{client, method, host, r.origin})
			}
			all = append(all, ask{client, method, "other.example", "1"})
		}
	}
	return all
}

// startSquid runs Squid with a configuration, and returns its address.
func (r *rig) startSquid(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // Squid gives up root before it reads the names of hosts
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	hold, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(hold.Addr())
	hosts := ""
	for _, h := range r.hosts {
		hosts += "127.0.0.1 " + h + "\n"
	}
	service := fmt.Sprintf("viaductimport%dp%s", os.Getpid(), port)
	tail := fmt.Sprintf("\nhttp_port 127.0.0.1:%s\nvisible_hostname squid.test\npid_filename none\ncache_log /dev/null\naccess_log none\ncoredump_dir %s\nnetdb_filename none\n"+
		"cache deny all\ncache_mem 0 MB\npinger_enable off\nshutdown_lifetime 0 seconds\nmax_filedescriptors 4096\ndns_nameservers 127.0.0.1\nhosts_file %s/hosts\n"+
		"minimum_direct_hops 0\nminimum_direct_rtt 0\nconnect_timeout 2 seconds\nforward_timeout 3 seconds\nretry_on_error off\n", port, dir, dir)
	for name, text := range map[string]string{"hosts": hosts, "squid.conf": config + tail} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path, _ := peers.Look("squid")
	cmd := exec.Command(path, "-N", "-n", service, "-d", "1", "-f", filepath.Join(dir, "squid.conf"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	hold.Release()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		litter, _ := filepath.Glob("/dev/shm/" + service + "-*")
		for _, f := range litter {
			os.Remove(f)
		}
	})
	addr := "127.0.0.1:" + port
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		select {
		case <-ended:
			t.Fatalf("Squid does not take the configuration:\n%s\n%s", config, out.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("Squid does not come up:\n%s", out.String())
		}
	}
}

// squidSays is what Squid does with a request: "denied", "direct", or the name of a peer.
func squidSays(t *testing.T, squid string, q ask) string {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(q.client)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", squid)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	target := net.JoinHostPort(q.host, q.port)
	r := bufio.NewReader(c)
	request := func(line string) *http.Response {
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", line, target)
		resp, err := http.ReadResponse(r, &http.Request{Method: q.method})
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		return resp
	}
	var resp *http.Response
	if q.method == "CONNECT" {
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		if resp, err = http.ReadResponse(r, &http.Request{Method: "CONNECT"}); err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if resp.StatusCode == 200 {
			q.method = "GET"
			resp = request("GET /")
		}
	} else {
		resp = request(q.method + " http://" + target + "/")
	}
	body, _ := io.ReadAll(resp.Body)
	why := resp.Header.Get("X-Squid-Error")
	switch {
	case strings.HasPrefix(why, "ERR_ACCESS_DENIED"), strings.HasPrefix(why, "ERR_CANNOT_FORWARD"), resp.StatusCode == 502 && strings.HasPrefix(why, "ERR_READ_ERROR"): // the latter when no peer may be used
		return "denied"
	case strings.HasPrefix(why, "ERR_CONNECT_FAIL"):
		return "direct"
	case resp.StatusCode == 200:
		return string(body)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, why)
}

// policySays is what the policy does with it: one word, or those of all that may come first.
func (r *rig) policySays(t *testing.T, cfg *policies.Config, q ask) []string {
	t.Helper()
	l := &cfg.Listeners[0]
	client := netip.MustParseAddr(q.client)
	if l.Clients != nil && !slices.ContainsFunc(l.Clients, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return []string{"denied"}
	}
	target, err := connmodel.ParseAddress(net.JoinHostPort(q.host, q.port))
	if err != nil {
		t.Fatal(err)
	}
	f := &connmodel.Facts{Listener: l.Name, Client: netip.AddrPortFrom(client, 1), Time: time.Now(), Target: target, Protocol: connmodel.ProtocolHTTP, Scheme: "http",
		Have: connmodel.NeedAddresses, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	if q.method == "CONNECT" {
		f.Protocol, f.Scheme = connmodel.ProtocolConnect, ""
	} else {
		f.Request = &connmodel.RequestFacts{Method: q.method, Path: "/"}
	}
	d, need := cfg.Programs[l.Policy].Decide(f)
	if d == nil {
		t.Fatalf("%+v: needs %s", q, need)
	}
	if d.Denied() {
		return []string{"denied"}
	}
	first := r.first(cfg, d.Route)
	if q.port == "1" && first[0] == "direct" && d.Route != "direct" { // where nobody listens: then a peer is asked
		first = append(first, "a", "b")
	}
	return first
}

func (r *rig) first(cfg *policies.Config, route string) []string {
	for _, u := range cfg.Upstreams.Upstreams {
		if "upstream."+u.Name == route {
			return []string{map[string]string{r.a: "a", r.b: "b", r.c: "c"}[fmt.Sprint(u.Address.Port)]}
		}
	}
	for _, p := range cfg.Upstreams.Pools {
		if p.Name != route && "pool."+p.Name != route {
			continue
		}
		if p.Select == "round_robin" || p.Select == "hash" {
			var all []string
			for _, m := range p.Members {
				all = append(all, r.first(cfg, m)...)
			}
			return all
		}
		return r.first(cfg, p.Members[0])
	}
	return []string{route}
}

func (r *rig) load(t *testing.T, config string) (*policies.Config, *Result) {
	t.Helper()
	res, err := Import(Options{Kind: Squid, Name: "squid.conf", Text: []byte(config)})
	if err != nil {
		t.Fatalf("%v\n%s", err, config)
	}
	cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"x.hcl": res.Policy}, Lenient: true})
	if cfg == nil {
		t.Fatalf("%v\n%s", diags.Err(), res.Policy)
	}
	return cfg, res
}

const debian = `
acl localnet src 127.0.0.2
acl SSL_ports port $ORIGIN
acl Safe_ports port 80 443 $ORIGIN
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost manager
http_access deny manager
http_access allow localhost
http_access allow localnet
http_access deny all
`

const twoPeers = `
cache_peer 127.0.0.1 parent $A 0 no-query no-digest name=a
cache_peer 127.0.0.1 parent $B 0 no-query no-digest name=b
`

var squidCases = []struct{ name, config string }{
	{"the usual", debian},
	{"no lines", "acl x port 80\n"},
	{"the last line denies, so the rest is allowed", "acl x dstdomain .partner.example\nhttp_access deny x\n"},
	{"the last line allows, so the rest is denied", "acl x dstdomain .partner.example\nacl y method POST\nhttp_access deny y\nhttp_access allow x\n"},
	{"peers, only for what could be cached", debian + twoPeers},
	{"peers for everything", debian + twoPeers + "nonhierarchical_direct off\n"},
	{"direct first", debian + twoPeers + "prefer_direct on\nnonhierarchical_direct off\n"},
	{"never direct", debian + twoPeers + "never_direct allow all\n"},
	{"never direct, but for some", debian + twoPeers + "acl intra dstdomain .corp.example\nalways_direct allow intra\nnever_direct allow all\n"},
	{"always direct by what is denied", debian + twoPeers + "acl intra dstdomain .corp.example\nalways_direct deny !intra\nnever_direct allow all\n"},
	{"never direct by what is denied", debian + twoPeers + "acl intra dstdomain .corp.example\nnever_direct deny intra\n"},
	{"peers of their own", debian + twoPeers + "acl p dstdomain .partner.example\nacl f dstdomain .files.partner.example\ncache_peer_access a allow p\ncache_peer_access a deny all\ncache_peer_access b deny f\nnever_direct allow all\n"},
	{"a peer for nothing else", debian + twoPeers + "acl p dstdomain .partner.example\ncache_peer_access a allow p\ncache_peer_access b allow p\nnever_direct allow all\n"},
	{"turns", debian + "cache_peer 127.0.0.1 parent $A 0 no-query no-digest round-robin name=a\ncache_peer 127.0.0.1 parent $B 0 no-query no-digest round-robin name=b\nnever_direct allow all\n"},
	{"addresses and names", "acl here dst 127.0.0.0/8\nacl re dstdom_regex -i ^[A-Z]+\\.corp\\.\nacl c src 127.0.0.2-127.0.0.3\nhttp_access deny c re\nhttp_access allow here !CONNECT\nhttp_access deny all\n"},
	{"a continued line", "acl m method GET \\\n  POST\nhttp_access allow \\\n m   # comment\nhttp_access deny all\n"},
	{"two sets of one kind", "acl x dstdomain .partner.example\nacl y dstdomain .files.partner.example .corp.example\nhttp_access allow x y\nhttp_access deny all\n"},
	{"an exception in what is allowed", "acl x dstdomain .partner.example\nacl y dstdomain .files.partner.example\nacl m method POST\nhttp_access allow x !y\nhttp_access deny m\nhttp_access allow localhost !x\nhttp_access deny all\n"},
	{"more for a set of Squid's own", "acl localhost src 127.0.0.3\nacl CONNECT method POST\nhttp_access deny CONNECT\nhttp_access allow localhost\n"},
	{"what is not known", "acl br browser curl\nacl x dstdomain .partner.example\nhttp_access deny br\nhttp_access allow x !br\nhttp_access allow localhost\nhttp_access deny all\n"},
}

// TestSquidAgrees asks Squid and the policy made of its configuration about the same requests.
func TestSquidAgrees(t *testing.T) {
	peers.Need(t, "squid")
	r := newRig(t)
	for _, tt := range squidCases {
		t.Run(tt.name, func(t *testing.T) { r.compare(t, r.fill(tt.config)) })
	}
	for seed := range uint64(map[bool]int{true: 3, false: 12}[testing.Short()]) {
		t.Run(fmt.Sprintf("random %d", seed), func(t *testing.T) { r.compare(t, r.fill(randomConfig(seed))) })
	}
}

// randomConfig makes lines of a few sets.
func randomConfig(seed uint64) string {
	g := rand.New(rand.NewPCG(seed, 7))
	sets := []string{"localhost", "c2", "c23", "corp", "partner", "files", "both", "post", "CONNECT", "origin", "get", "all"}
	var b strings.Builder
	b.WriteString("acl c2 src 127.0.0.2\nacl c23 src 127.0.0.2/31\nacl corp dstdomain .corp.example\nacl partner dstdomain .partner.example\nacl files dstdomain .files.partner.example\n" +
		"acl both dstdomain corp.example .files.partner.example\nacl post method POST\nacl get method GET CONNECT\nacl origin port $ORIGIN\n" + twoPeers)
	lines := func(what string, most int) {
		for range g.IntN(most + 1) {
			fmt.Fprintf(&b, "%s %s", what, []string{"allow", "deny"}[g.IntN(2)])
			for range 1 + g.IntN(3) {
				fmt.Fprintf(&b, " %s%s", []string{"", "", "!"}[g.IntN(3)], sets[g.IntN(len(sets))])
			}
			b.WriteString("\n")
		}
	}
	lines("http_access", 5)
	b.WriteString([]string{"http_access allow all\n", "http_access deny all\n", ""}[g.IntN(3)])
	lines("always_direct", 2)
	lines("never_direct", 3)
	lines("cache_peer_access a", 2)
	lines("cache_peer_access b", 1)
	b.WriteString([]string{"", "nonhierarchical_direct off\n", "prefer_direct on\n"}[g.IntN(3)])
	return b.String()
}

// compare wants the same answers; where the import says that something was lost, it may only be less open.
func (r *rig) compare(t *testing.T, config string) {
	cfg, res := r.load(t, config)
	squid := r.startSquid(t, config)
	for _, q := range r.asks() {
		theirs, ours := squidSays(t, squid, q), r.policySays(t, cfg, q)
		switch {
		case slices.Contains(ours, theirs):
		case len(res.Left) > 0 && (ours[0] == "denied" || theirs == "direct"):
		case len(cfg.Listeners[0].Clients) > 0 && ours[0] == "denied" && theirs != "denied" && !slices.ContainsFunc(cfg.Listeners[0].Clients, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(q.client)) }):
			t.Errorf("%+v: not let in, Squid says %s", q, theirs)
		default:
			t.Errorf("%+v: %s, Squid says %s", q, strings.Join(ours, " or "), theirs)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", config, res.Policy)
	}
}

// TestSquidHidesSecrets: lines that did not carry over are repeated without what helpers and sets hold that is a password.
func TestSquidHidesSecrets(t *testing.T) {
	r, err := Import(Options{Kind: Squid, Name: "squid.conf", Text: []byte("http_access deny all\nurl_rewrite_program /bin/r -p s3cret\nstore_id_program /bin/s s3cret\nacl c snmp_community s3cret\n" +
		"auth_param basic program /bin/ldap -w s3cret\ncachemgr_passwd s3cret all\nsnmp_access allow c\n")})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(r.Policy); strings.Contains(text, "s3cret") || !strings.Contains(text, "url_rewrite_program /bin/r …") || !strings.Contains(text, "acl c snmp_community ***") {
		t.Errorf("%s", text)
	}
	for _, l := range r.Left {
		if strings.Contains(l.Text+l.Why, "s3cret") {
			t.Errorf("%+v", l)
		}
	}
}
