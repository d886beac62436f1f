package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"viaduct/router/admin"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// proxyAuth is a policy with one proxy that wants to know who we are.
const proxyAuth = `
variable "listen" { type = string }
variable "records" { type = string }
variable "proxy" { type = string }
variable "password" { type = string }
variable "schemes" { type = list(string) }

gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
}
upstream "corp" {
  url = "http://${var.proxy}"
  auth {
    username = "svc"
    password = var.password
    name     = "corp-login"
    schemes  = var.schemes
  }
}
policy "default" {
  rule "all" {
    match { address = ["127.0.0.0/8"] }
    via = upstream.corp
  }
}
`

// again starts the gateway's own command once more, after it has ended.
func (g *gateway) again() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	old := g.cmd
	g.cmd = exec.Command(old.Path, old.Args[1:]...)
	g.cmd.Dir, g.cmd.Stdout, g.cmd.Stderr, g.cmd.Env, g.cmd.SysProcAttr = old.Dir, log, log, old.Env, old.SysProcAttr
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.await("the gateway to listen", func() bool {
		c, err := net.Dial("tcp", g.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// command runs viaduct beside the gateway.
func (g *gateway) command(args ...string) string {
	g.t.Helper()
	cmd := exec.Command(g.cmd.Path, args...)
	cmd.Dir, cmd.Env = g.dir, g.cmd.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("viaduct %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// hammer sends requests, half of them by CONNECT, and returns how many got through.
func hammer(t *testing.T, g *gateway, target string, n int) (good int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, 20)
	for i := range n {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			status, err := request(g.addr, target, i%2 == 0)
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
			if status == 200 {
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return good
}

// request asks the gateway for a tunnel, or for a page, and returns the status.
func request(gateway, target string, tunnel bool) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", gateway)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	head := fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, target)
	if tunnel {
		head = fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	}
	if _, err := c.Write([]byte(head)); err != nil {
		return 0, err
	}
	line := make([]byte, 12)
	for n := 0; n < len(line); {
		m, err := c.Read(line[n:])
		if n += m; err != nil {
			return 0, fmt.Errorf("%w after %q", err, line[:n])
		}
	}
	var status int
	_, err = fmt.Sscanf(string(line), "HTTP/1.1 %d", &status)
	return status, err
}

// timesShown counts how often Squid was shown a user and said no.
func timesShown(squid *peers.Proc, user string) (n int) {
	for line := range strings.Lines(squid.Log()) {
		if strings.Contains(line, "_DENIED/407") && strings.Contains(line, " "+user+" ") {
			n++
		}
	}
	return n
}

func squidWith(t *testing.T, o peers.SquidOptions) *peers.Proc {
	t.Helper()
	squid, err := peers.Squid(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { squid.Close() })
	return squid
}

func TestSquidWithDigest(t *testing.T) {
	peers.Need(t, "squid", "digest_file_auth", "basic_ncsa_auth", "openssl", "curl")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{User: "svc", Password: "p4ss", Schemes: []string{"basic", "digest"}, NonceUses: 5})
	g := startGateway(t, proxyAuth, "proxy", squid.Addr(), "password", "p4ss", "schemes", `["digest", "basic"]`)

	client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, origin.URL("/one"))
	f := g.next(0)
	hop := f.Server.Attempts[0].Hops[0]
	if hop.Credential != "corp-login" || hop.AuthRounds != 1 || hop.Error != nil {
		t.Errorf("hop: %+v", hop)
	}
	// a nonce is good for five: some of these are asked again
	for i := range 12 {
		client(t, "curl", "-sSf", "-x", "http://"+g.addr, origin.URL(fmt.Sprintf("/plain/%d?q=a,b%%22", i)))
		client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, origin.URL("/tunnel"))
	}
	// bodies: one that is here at once, and one that is not, to a proxy that asks again in between
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		client(t, "curl", "-sSf", "-x", "http://"+g.addr, "-d", "small", origin.URL(fmt.Sprintf("/small/%d", i)))
		client(t, "curl", "-sSf", "-x", "http://"+g.addr, "-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+big, origin.URL(fmt.Sprintf("/big/%d", i)))
	}
	var small, large int
	for _, r := range origin.Requests() {
		switch {
		case strings.HasPrefix(r.Target, "/small/") && r.Method == "POST" && string(r.Body) == "small":
			small++
		case strings.HasPrefix(r.Target, "/big/") && r.Method == "POST" && len(r.Body) == 1<<20:
			large++
		}
		if bytes.Contains(bytes.ToLower(r.Head), []byte("proxy-authorization")) {
			t.Errorf("the server was shown our credentials: %s %s", r.Method, r.Target)
		}
	}
	if small != 8 || large != 8 {
		t.Errorf("%d small and %d large bodies came whole", small, large)
	}
	// Squid is started anew, and knows the nonce no more
	if err := squid.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, origin.URL("/after"))
	if out := g.command("upstream", "list"); !strings.Contains(out, "corp-login") || !strings.Contains(out, "digest, basic") || !strings.Contains(out, "proven") {
		t.Errorf("list:\n%s", out)
	}
}

func sambaWith(t *testing.T, user, password string) *peers.Samba {
	t.Helper()
	peers.Need(t, append([]string{"squid"}, peers.SambaNeeds...)...)
	peers.NeedRoot(t, "winbindd needs it")
	samba, err := peers.NewSamba(t.Context(), t.TempDir(), user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { samba.Close() })
	return samba
}

func TestSquidWithNTLM(t *testing.T) {
	peers.Need(t, "curl")
	samba := sambaWith(t, "svc", "p4ss")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{Schemes: []string{"ntlm"}, Samba: samba})
	g := startGateway(t, proxyAuth, "proxy", squid.Addr(), "password", "p4ss", "schemes", `["ntlm"]`)
	for i := range 3 {
		client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, origin.URL("/tunnel"))
		client(t, "curl", "-sSf", "-x", "http://"+g.addr, origin.URL(fmt.Sprintf("/plain/%d", i)))
	}
	f := g.next(0)
	if hop := f.Server.Attempts[0].Hops[0]; hop.Credential != "corp-login" || hop.AuthRounds != 1 || hop.Error != nil {
		t.Errorf("hop: %+v", hop)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	client(t, "curl", "-sSf", "-x", "http://"+g.addr, "-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+big, origin.URL("/big"))
	whole := false
	for _, r := range origin.Requests() {
		whole = whole || r.Method == "POST" && r.Target == "/big" && len(r.Body) == 1<<20
		if bytes.Contains(bytes.ToLower(r.Head), []byte("proxy-authorization")) {
			t.Errorf("the server was shown our credentials: %s %s", r.Method, r.Target)
		}
	}
	if !whole {
		t.Error("the large body did not come whole")
	}
	if good := hammer(t, g, origin.Addr(), 60); good != 60 {
		t.Errorf("%d of 60 got through", good)
	}
}

func TestWrongPasswordAtSamba(t *testing.T) {
	samba := sambaWith(t, "svc", "p4ss")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{Schemes: []string{"ntlm"}, Samba: samba})
	g := startGateway(t, proxyAuth, "proxy", squid.Addr(), "password", "wr0ng-p4ss", "schemes", `["ntlm"]`)
	onlyOnce(t, g, origin.Addr(), func() int {
		n, err := samba.BadPasswords(t.Context(), "svc")
		if err != nil {
			t.Fatal(err)
		}
		return n
	})
	g.command("upstream", "reset", "corp")
	hammer(t, g, origin.Addr(), 20)
	if n, err := samba.BadPasswords(t.Context(), "svc"); n != 2 || err != nil { // it does count
		t.Errorf("shown %d times after the reset (%v)", n, err)
	}
}

func TestWrongPasswordIsShownOnce(t *testing.T) {
	peers.Need(t, "squid", "digest_file_auth", "basic_ncsa_auth", "openssl")
	for _, scheme := range []string{"basic", "digest"} {
		t.Run(scheme, func(t *testing.T) {
			origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
			squid := squidWith(t, peers.SquidOptions{User: "svc", Password: "p4ss", Schemes: []string{scheme}})
			g := startGateway(t, proxyAuth, "proxy", squid.Addr(), "password", "wr0ng-p4ss", "schemes", `["`+scheme+`"]`)
			onlyOnce(t, g, origin.Addr(), func() int { return timesShown(squid, "svc") })

			// an operator opens it, and that is one more
			if out := g.command("upstream", "reset", "corp"); !strings.Contains(out, "was closed") {
				t.Error(out)
			}
			hammer(t, g, origin.Addr(), 20)
			if n := timesShown(squid, "svc"); n != 2 {
				t.Errorf("shown %d times after the reset", n)
			}
			// the secret changes: no reset is needed
			setPassword(g, "p4ss")
			g.command("reload")
			if good := hammer(t, g, origin.Addr(), 20); good != 20 {
				t.Errorf("%d of 20 got through with the right password", good)
			}
			if n := timesShown(squid, "svc"); n != 2 {
				t.Errorf("shown %d times in the end", n)
			}
		})
	}
}

// A password that is wrong at a SOCKS5 proxy is shown once, too.
func TestWrongPasswordAtDante(t *testing.T) {
	peers.Need(t, "danted", "openssl")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	dante, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{User: "jumper", Password: "dante-secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dante.Close() })
	policy := strings.NewReplacer("http://", "socks5h://", `"svc"`, `"jumper"`, "    schemes  = var.schemes\n", "").Replace(proxyAuth)
	g := startGateway(t, policy+"locals { none = var.schemes }\n", "proxy", dante.Addr(), "password", "wr0ng-p4ss", "schemes", "[]")
	rejected := func() int { return strings.Count(dante.Log(), "password authentication failed for user") }
	onlyOnceFor(t, g, origin.Addr(), rejected, "SOCKS5")
	g.command("upstream", "reset", "corp")
	hammer(t, g, origin.Addr(), 20)
	if n := rejected(); n != 2 { // it does count
		t.Errorf("shown %d times after the reset", n)
	}
	setPassword(g, "dante-secret")
	g.command("reload")
	if good := hammer(t, g, origin.Addr(), 20); good != 20 {
		t.Errorf("%d of 20 got through with the right password", good)
	}
	if n := rejected(); n != 2 {
		t.Errorf("shown %d times in the end", n)
	}
}

// setPassword makes the next reading of the policy see another password.
func setPassword(g *gateway, password string) {
	file := filepath.Join(g.dir, "viaduct.hcl")
	b, err := os.ReadFile(file)
	if err != nil {
		g.t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("var.password"), []byte(`"`+password+`"`))
	b = append(b, "\nlocals { unused = var.password }\n"...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// onlyOnce sends a thousand requests, kills the gateway in between, starts it anew, stops it and starts it again: the credential, which is wrong,
// is shown once in all.
func onlyOnce(t *testing.T, g *gateway, target string, count func() int) {
	t.Helper()
	onlyOnceFor(t, g, target, count, "407")
}

// onlyOnceFor is onlyOnce for a credential that is closed because of why.
func onlyOnceFor(t *testing.T, g *gateway, target string, count func() int, why string) {
	t.Helper()
	good := hammer(t, g, target, 400)
	if n := count(); n != 1 {
		t.Errorf("shown %d times by 400 requests", n)
	}
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.again()
	good += hammer(t, g, target, 300)
	g.cmd.Process.Signal(syscall.SIGTERM)
	g.cmd.Wait()
	g.again()
	good += hammer(t, g, target, 300)
	if n := count(); n != 1 || good != 0 {
		t.Errorf("shown %d times by 1000 requests, of which %d got through", n, good)
	}
	var s admin.Status
	g.door("/v1/status", &s)
	if c := s.Upstreams[0].Credential; c == nil || c.State != admin.CredentialClosed || c.Since == nil || !strings.Contains(c.Why, why) || s.Upstreams[0].Up {
		t.Errorf("status: %+v, %+v", s.Upstreams[0], c)
	}
	if out := g.command("status"); !strings.Contains(out, `viaduct upstream reset corp`) {
		t.Errorf("status:\n%s", out)
	}
	if m := metrics(t, g); !strings.Contains(m, `viaduct_upstream_credential_closed{upstream="corp"} 1`) {
		t.Error("the metric does not say that it is closed")
	}
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log, []byte("it was rejected and is closed")) || !bytes.Contains(log, []byte("it stays closed since")) {
		t.Error("the log does not say that it is closed")
	}
	records, _ := os.ReadFile(g.records)
	all := append(append(log, records...), metrics(t, g)+g.command("status", "--json")+g.command("upstream", "list", "--json")...)
	for _, secret := range []string{"wr0ng-p4ss", base64.StdEncoding.EncodeToString([]byte("svc:wr0ng-p4ss")), "Proxy-Authorization"} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("%q is in log, records, status or metrics", secret)
		}
	}
}

func metrics(t *testing.T, g *gateway) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(g.dir, "viaduct", socketName))
	}}}
	res, err := c.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	b.ReadFrom(res.Body)
	return b.String()
}

// A gateway that is killed while a credential is being shown does not show it again: it may have been counted.
func TestKilledWhileACredentialIsShown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 100)
	go func() { // a proxy that thinks
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				if n == 0 {
					return // one that waited for the first
				}
				asked <- string(b[:n])
				c.Read(b) // until the gateway is gone
			}()
		}
	}()
	g := startGateway(t, proxyAuth, "proxy", l.Addr().String(), "password", "p4ss", "schemes", `["basic"]`)
	for i := range 5 {
		go request(g.addr, "127.0.0.1:9", i%2 == 0)
	}
	select {
	case head := <-asked:
		if !strings.Contains(head, "Proxy-Authorization: Basic c3ZjOnA0c3M=\r\n") {
			t.Errorf("asked %q", head)
		}
	case <-time.After(patience):
		t.Fatal("the proxy was not asked")
	}
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.again()
	hammer(t, g, "127.0.0.1:9", 50)
	if out := g.command("status"); !strings.Contains(out, "the gateway ended while it was being shown") {
		t.Errorf("status:\n%s", out)
	}
	select {
	case head := <-asked:
		t.Errorf("asked again: %q", head)
	default:
	}
	if out := g.command("upstream", "reset", "corp"); !strings.Contains(out, "was closed") {
		t.Error(out)
	}
	go request(g.addr, "127.0.0.1:9", true)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Error("the proxy was not asked after the reset")
	}
}

// In the steady state a tunnel through an NTLM proxy takes no rounds of its own.
func TestSquidNTLMStaysWarm(t *testing.T) {
	peers.Need(t, "curl")
	samba := sambaWith(t, "svc", "p4ss")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{Schemes: []string{"ntlm"}, Samba: samba})
	policy := strings.Replace(proxyAuth, "    schemes  = var.schemes\n", "    schemes  = var.schemes\n    warm_url = \""+origin.URL("/warm")+"\"\n", 1)
	g := startGateway(t, policy, "proxy", squid.Addr(), "password", "p4ss", "schemes", `["ntlm"]`)
	warm := 0
	g.await("tunnels without rounds", func() bool {
		n := g.flowsOrNone()
		client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, origin.URL("/tunnel"))
		hop := g.next(n).Server.Attempts[0].Hops[0]
		if hop.AuthRounds == 0 && hop.Reused {
			warm++
		}
		return warm == 5
	})
}

// Two gateways with one directory of state, such as one that drains and its successor, show a password that is wrong once together.
func TestTwoGatewaysShowItOnce(t *testing.T) {
	var shown, asked atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				asked.Add(1)
				if strings.Contains(string(b[:n]), "Proxy-Authorization: ") {
					shown.Add(1)
				}
				time.Sleep(300 * time.Millisecond) // as a directory does with wrong passwords
				io.WriteString(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
			}()
		}
	}()
	policy := strings.Replace(proxyAuth, "gateway {\n", fmt.Sprintf("gateway {\n  state = %q\n", t.TempDir()), 1)
	var all []*gateway
	for range 2 {
		all = append(all, startGateway(t, policy, "proxy", l.Addr().String(), "password", "wr0ng-p4ss", "schemes", `["basic"]`))
	}
	var wg sync.WaitGroup
	for _, g := range all {
		wg.Go(func() {
			if good := hammer(t, g, "127.0.0.1:9", 50); good != 0 {
				t.Errorf("%d got through", good)
			}
		})
	}
	wg.Wait()
	if shown.Load() != 1 {
		t.Errorf("shown %d times", shown.Load())
	}
	for _, g := range all {
		if out := g.command("upstream", "list"); !strings.Contains(out, "closed") {
			t.Errorf("it is not closed:\n%s", out)
		}
	}
}
