package importer

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// want is what becomes of a request: "deny", or a route; not let in is "out".
type want struct{ client, target, route string }

// ask runs the policy for CONNECT to each target, by the first listener.
func checkImport(t *testing.T, kind Kind, text string, env map[string]string, wants []want) *Result {
	t.Helper()
	environ := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	r, err := Import(Options{Kind: kind, Name: string(kind) + ".conf", Text: []byte(text), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if again, diags := policies.Format("x.hcl", r.Policy); diags.HasErrors() || !bytes.Equal(again, r.Policy) {
		t.Errorf("not laid out as fmt does:\n%s", r.Policy)
	}
	cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"x.hcl": r.Policy}, Lenient: true, Environ: environ})
	if cfg == nil {
		t.Fatalf("%v\n%s", diags.Err(), r.Policy)
	}
	l := &cfg.Listeners[0]
	for _, w := range wants {
		a, err := connmodel.ParseAddress(w.target)
		if err != nil {
			t.Fatal(err)
		}
		client := netip.MustParseAddr(w.client)
		got := "out"
		let := len(l.Clients) == 0
		for _, p := range l.Clients {
			let = let || p.Contains(client)
		}
		if let {
			f := &connmodel.Facts{Listener: l.Name, Client: netip.AddrPortFrom(client, 1), Time: time.Now(), Target: a, TargetIP: a.IP(), Protocol: connmodel.ProtocolConnect}
			if d, need := cfg.Programs[l.Policy].Decide(f); d == nil {
				got = "needs " + need.String()
			} else if got = d.Route; d.Denied() {
				got = "deny"
			}
		}
		if got != w.route {
			t.Errorf("%s to %s: %s, want %s\n%s", w.client, w.target, got, w.route, r.Policy)
		}
	}
	return r
}

const cntlmConf = `# office
Username	svc
Domain		CORP
Password	"p#a s3cret"  # not here
PassNTLMv2      D5826E9C665C37C80B53397D5C07BBCB
Proxy		10.0.0.41:8080
Proxy		proxy-b.corp.example:8081
NoProxy		localhost, 127.0.0.*, 10.*, *.corp.example
Listen		3128
Tunnel		11443:remote.example:443
SOCKS5Proxy	8010
SOCKS5Users	dave:hunter2
Gateway		yes
Allow		10.1.0.0/16
Deny		10.0.0.0/8
Allow		127.0.0.1
Deny		0/0
Header		User-Agent: Mozilla/4.0 (compatible)
Header		Connection: close
ISAScannerSize  1024
Flags		0x06820000
`

func TestCntlm(t *testing.T) {
	r := checkImport(t, Cntlm, cntlmConf, nil, []want{
		{"10.1.2.3", "www.example:443", "pool.parents"},
		{"10.1.2.3", "wiki.corp.example:443", "direct"},
		{"10.1.2.3", "10.9.9.9:443", "direct"},
		{"10.1.2.3", "corp.example:443", "pool.parents"},
		{"10.2.2.3", "www.example:443", "out"},
		{"192.168.1.1", "www.example:443", "out"},
		{"127.0.0.1", "localhost:8080", "direct"},
		{"127.0.0.1", "127.0.0.5:8080", "direct"},
	})
	text := string(r.Policy)
	for _, s := range []string{"s3cret", "hunter2", "D5826E9C"} {
		if strings.Contains(text, s) {
			t.Errorf("%s is in the policy", s)
		}
	}
	for _, s := range []string{`username = "svc"`, `domain   = "CORP"`, `password = credential("cntlm")`, `target    = "remote.example:443"`, `protocols = ["socks5"]`, `htpasswd = "socks5.htpasswd"`,
		`"User-Agent" = "Mozilla/4.0 (compatible)"`, "cntlm.conf:5: passntlmv2 ***", "ISA and GFI", `"0.0.0.0:3128"`} {
		if !strings.Contains(text, s) {
			t.Errorf("the policy lacks %s\n%s", s, text)
		}
	}
	if len(r.Left) != 4 {
		t.Errorf("%+v", r.Left)
	}
	checkImport(t, Cntlm, "Proxy a.example:1\nGateway yes\n", nil, []want{{"8.8.8.8", "x.example:1", "out"}, {"10.0.0.1", "x.example:1", "upstream.a_example"}})
	checkImport(t, Cntlm, "Proxy a.example 1\nListen 127.0.0.1:99\nNoProxy *\n", nil, []want{{"127.0.0.1", "x.example:1", "direct"}})
	odd := checkImport(t, Cntlm, "Proxy a.example:1\nPassword=s3cret\nPASSWORD:s3cret\n=s3cret\n", nil, []want{{"127.0.0.1", "x.example:1", "upstream.a_example"}})
	if strings.Contains(string(odd.Policy), "s3cret") || len(odd.Left) != 3 || !strings.Contains(string(odd.Policy), ":2: password ***") {
		t.Errorf("%s", odd.Policy)
	}
	checkImport(t, Cntlm, "Username x\n", nil, []want{{"127.0.0.1", "x.example:1", "deny"}})
}

// TestCntlmTakesIt: the fixture is one that cntlm itself takes.
func TestCntlmTakesIt(t *testing.T) {
	peers.Need(t, "cntlm")
	path := filepath.Join(t.TempDir(), "cntlm.conf")
	pairs := []string{"proxy-b.corp.example", "127.0.0.1"}
	for _, p := range []string{"3128", "11443", "8010"} {
		hold, err := upstreamtest.Reserve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(hold.Addr())
		hold.Release()
		pairs = append(pairs, p, port)
	}
	conf := strings.NewReplacer(pairs...).Replace(cntlmConf)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, _ := peers.Look("cntlm")
	cmd := exec.Command(bin, "-f", "-v", "-c", path, "-P", path+".pid")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := time.AfterFunc(2*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	ended.Stop()
	said := out.String()
	for _, line := range strings.Split(said, "\n") {
		if strings.Contains(line, "Ignoring config file option") || strings.Contains(line, "Parent proxy address missing") {
			t.Errorf("cntlm says: %s", line)
		}
	}
	if !strings.Contains(said, "New ACL rule: allow 10.1.0.0/16") && !strings.Contains(said, "Cannot bind") {
		t.Errorf("cntlm says nothing of the rules:\n%s", said)
	}
}

const pxIni = `[proxy]
; comment
server = proxy.corp.example:8080, 10.0.0.2:8081
listen = 127.0.0.1
port = 3199
gateway = 1
hostonly = 0
allow = 10.1.*.*,192.168.0.1-192.168.0.9, 127.0.0.1
noproxy = 10.0.0.0/8, *.corp.example,intra,172.16.0.1-172.16.0.2,<local>
useragent = Mozilla/5.0
username = CORP\svc
auth = ONLYNTLM
odd = secret

[client]
client_auth = BASIC
client_username = joe

[settings]
workers = 2
threads = 5
idle = 45
socktimeout = 20.0
log = 1
`

func TestPx(t *testing.T) {
	r := checkImport(t, Px, pxIni, nil, []want{
		{"10.1.0.1", "www.example:443", "pool.servers"},
		{"10.1.0.1", "10.3.3.3:80", "direct"},
		{"10.1.0.1", "a.corp.example:443", "direct"},
		{"10.1.0.1", "intra:443", "direct"},
		{"10.1.0.1", "172.16.0.3:443", "pool.servers"},
		{"192.168.0.9", "172.16.0.2:443", "direct"},
		{"192.168.0.10", "x.example:443", "out"},
		{"127.0.0.1", "localhost:1", "direct"},
	})
	for _, s := range []string{`domain   = "CORP"`, `schemes  = ["ntlm"]`, `"User-Agent" = "Mozilla/5.0"`, `idle = "45s"`, `dial = "20000ms"`, "px.conf:13: odd = ***", `htpasswd = "clients.htpasswd"`} {
		if !strings.Contains(string(r.Policy), s) {
			t.Errorf("the policy lacks %s\n%s", s, r.Policy)
		}
	}
	checkImport(t, Px, "[proxy]\npac = http://wpad.example/wpad.dat\n", nil, []want{{"127.0.0.1", "x.example:1", "pac.px"}})
	checkImport(t, Px, "[proxy]\nserver =\ngateway = 1\n", nil, []want{{"127.0.0.1", "x.example:1", "deny"}, {"8.8.8.8", "x.example:1", "out"}})
	for auth, want := range map[string]string{"": "negotiate ntlm digest basic", "ANYSAFE": "negotiate ntlm digest", "NONTLM": "negotiate digest basic", "SAFENONTLM": "negotiate digest", "KERBEROS": "negotiate",
		"basic": "basic", "NONE": "", "nonsense": "negotiate ntlm digest"} {
		if got, _ := pxSchemes(auth); strings.Join(got, " ") != want {
			t.Errorf("%s: %v", auth, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	checkImport(t, Environment, "", map[string]string{"https_proxy": "http://u:p4ss@proxy.example:8080", "NO_PROXY": "corp.example,.lab.example"}, []want{
		{"127.0.0.1", "x.example:443", "upstream.https_proxy"}, {"127.0.0.1", "corp.example:443", "direct"}, {"127.0.0.1", "lab.example:443", "upstream.https_proxy"}, {"127.0.0.1", "a.lab.example:443", "direct"},
	})
}

// TestSquidFiles: includes, files of values, and what is wrong with them.
func TestSquidFiles(t *testing.T) {
	files := map[string]string{
		"/etc/squid/conf.d/a.conf": "acl ads dstdomain \"/etc/squid/ads\"\nhttp_access deny ads\n", "/etc/squid/conf.d/b.conf": "http_access allow localhost\n",
		"/etc/squid/ads": ".ads.example # x\n\ntracker.example\n", "/loop": "include /loop\n", "/bin": "\x00",
	}
	o := Options{Kind: Squid, Name: "/etc/squid/squid.conf", Read: func(p string) ([]byte, error) {
		if s, ok := files[p]; ok {
			return []byte(s), nil
		}
		return nil, os.ErrNotExist
	}, Glob: func(p string) (out []string, err error) {
		for f := range files {
			if ok, _ := filepath.Match(p, f); ok {
				out = append(out, f)
			}
		}
		return out, nil
	}}
	o.Text = []byte("include /etc/squid/conf.d/*.conf\nhttp_access deny all\n")
	r, err := Import(o)
	if err != nil || !strings.Contains(string(r.Policy), `".ads.example", "tracker.example"`) {
		t.Fatalf("%v\n%s", err, r.Policy)
	}
	long := strings.Repeat("acl a port 80\n", 400_000)
	for text, want := range map[string]string{
		"include /loop\n":                           "/loop:1: files include each other",
		"x\ninclude /missing\n":                     "squid.conf:2: /missing cannot be read",
		"acl a dstdomain \"/nope\"\n":               "squid.conf:1: /nope cannot be read",
		"include /bin\n":                            "/bin:1: there is a NUL byte",
		"http_access allow nobody\n":                `squid.conf:1: acl "nobody" is not defined`,
		"http_access perhaps all\n":                 "neither allow nor deny",
		"if true\n":                                 "conditional lines",
		"a\x00b":                                    "NUL byte",
		long:                                        "longer than",
		"acl a port 1\nacl a src 1.1.1.1\n":         "is of type port already",
		"cache_peer x parent 99999 0\n":             "is no port",
		"cache_peer_access x deny all\n":            `no cache_peer "x"`,
		"acl a dstdomain x\nacl a dstdom_regex y\n": "already",
		"http_port nonsense\n":                      "is no port",
		"configuration_includes_quoted_values on\n": "quotes mean something else",
	} {
		o.Text = []byte(text)
		if _, err := Import(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	o.Text = []byte("cache_peer p.example parent 1 0 login=joe:s3cret%21\ncachemgr_passwd s3cret all\nexternal_acl_type x %SRC /bin/helper -p s3cret\nauth_param basic program /bin/ldap -w s3cret x\nhttp_access allow localhost\n")
	if r, err := Import(o); err != nil || strings.Contains(string(r.Policy), "s3cret") || !strings.Contains(string(r.Policy), `username = "joe"`) {
		t.Errorf("%v\n%s", err, r.Policy)
	}
}

func TestGuess(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Kind
	}{
		{"/etc/cntlm.conf", "", Cntlm}, {"squid-office.conf", "", Squid}, {"px.ini", "", Px}, {"x", cntlmConf, Cntlm}, {"x", pxIni, Px}, {"x", debian, Squid}, {"x", "hello\n", ""},
	} {
		if got := Guess(tt.name, []byte(tt.text)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestNetworks(t *testing.T) {
	for s, want := range map[string]string{"10.1/16": "10.1.0.0/16", "0/0": "0.0.0.0/0", "10.0.0.0/255.0.0.0": "10.0.0.0/8", "::1": "::1/128", "10.0.0.1": "10.0.0.1/32", "10.0.0.0/255.0.255.0": "", "x": "", "10.0.0.0/33": "", "/8": ""} {
		if p, err := network(s); (err != nil) != (want == "") || err == nil && p.String() != want {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	a, b := netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("192.168.0.9")
	list, err := span(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for x := a.Prev(); x.Compare(b.Next()) <= 0; x = x.Next() {
		in := 0
		for _, p := range list {
			if p.Contains(x) {
				in++
			}
		}
		if (in == 1) != (!x.Less(a) && !b.Less(x)) {
			t.Errorf("%s is in %d of %v", x, in, list)
		}
	}
	if list, _ := span(netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255")); len(list) != 1 || list[0] != everyIPv4 {
		t.Errorf("%v", list)
	}
	if left := subtract([]netip.Prefix{everyIPv4}, netip.MustParsePrefix("10.0.0.1/32")); len(left) != 32 {
		t.Errorf("%v", left)
	}
}

// FuzzImport: what is made can always be loaded, whatever it is made of.
func FuzzImport(f *testing.F) {
	f.Add(uint8(0), []byte(cntlmConf))
	f.Add(uint8(1), []byte(pxIni))
	for i := range squidCases {
		f.Add(uint8(2), []byte(strings.NewReplacer("$ORIGIN", "8080", "$A", "13128", "$B", "13129").Replace(squidCases[i].config)))
	}
	f.Add(uint8(2), []byte("acl t time MTW 09:00-17:30\nacl u proxy_auth REQUIRED\nauth_param basic program /x/ncsa_auth /etc/users\nhttp_access allow u t\nhttps_port 443 cert=/c key=/k name=x\nacl p myportname x\nhttp_access deny p\ncache_peer a.example parent 1 0 login=NEGOTIATE:x tls sslcert=/c max-conn=3 connect-timeout=4\n"))
	f.Fuzz(func(t *testing.T, kind uint8, text []byte) {
		k := []Kind{Cntlm, Px, Squid}[kind%3]
		Guess("x", text)
		_, err := Import(Options{Kind: k, Name: "x.conf", Text: text, Read: func(string) ([]byte, error) { return nil, os.ErrNotExist }})
		if err != nil && strings.Contains(err.Error(), "the policy that was made") && !strings.Contains(err.Error(), "Upstream is this gateway") { // which is what the text says
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
