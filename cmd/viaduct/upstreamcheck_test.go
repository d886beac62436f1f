package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/router/admin"
	"viaduct/upstream/doctor"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// surgery is a place where checks are made, with a policy and a directory of state.
type surgery struct {
	t    *testing.T
	dir  string
	path string
}

func newSurgery(t *testing.T, url, auth string) *surgery {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &surgery{t: t, dir: t.TempDir(), path: path}
	s.policy(url, auth)
	return s
}

// policy writes one whose upstream corp has these lines in its auth block; "" = it has none.
func (s *surgery) policy(url, auth string) {
	s.t.Helper()
	if auth != "" {
		auth = "  auth {\n    name = \"corp-login\"\n" + auth + "\n  }\n"
	}
	text := "listener \"desk\" { address = \"127.0.0.1:1\" }\nupstream \"corp\" {\n  url = \"" + url + "\"\n" + auth + "}\npolicy \"default\" {\n  otherwise { via = upstream.corp }\n}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "viaduct.hcl"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *surgery) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), s.path, append([]string{"upstream", "check", "-c", "viaduct.hcl"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, append(cleanEnv(), "XDG_RUNTIME_DIR="+s.dir, "XDG_STATE_HOME="+s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// check makes one and returns the report of corp.
func (s *surgery) check(args ...string) *doctor.Report {
	s.t.Helper()
	cmd := s.command(append([]string{"corp", "--json"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	var res checkResult
	if e := json.Unmarshal(out, &res); e != nil || len(res.Checks) != 1 || res.Version != 1 {
		s.t.Fatalf("%v (%v): %s%s", e, err, out, said.Bytes())
	}
	if bytes.Contains(out, []byte("p4ss")) {
		s.t.Error("a password is in it")
	}
	if want := map[bool]int{true: 1, false: 0}[res.Verdict == doctor.Fail]; cmd.ProcessState.ExitCode() != want {
		s.t.Errorf("exit code %d with verdict %s", cmd.ProcessState.ExitCode(), res.Verdict)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			for _, x := range res.Checks[0].Steps {
				s.t.Logf("%s %s %s %s %q", x.Status, x.Name, x.Code, x.Says, x.Detail)
			}
		}
	})
	return res.Checks[0]
}

// wants fails the test unless the last step of that name went so.
func wants(t *testing.T, r *doctor.Report, step string, status doctor.Status, code, says string) *doctor.Step {
	t.Helper()
	s := r.Step(step)
	if s == nil {
		t.Errorf("there is no step %s", step)
		return &doctor.Step{}
	}
	if s.Status != status || code != "" && s.Code != code || !strings.Contains(s.Says, says) {
		t.Errorf("step %s: %s %q %q; want %s %q %q", step, s.Status, s.Code, s.Says, status, code, says)
	}
	if s.Status == doctor.Fail && (s.Means == "" || s.Code == "") {
		t.Errorf("step %s fails without a sentence", step)
	}
	return s
}

func TestCheckSquid(t *testing.T) {
	peers.Need(t, "squid", "digest_file_auth", "basic_ncsa_auth", "openssl")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{User: "svc", Password: "p4ss", Schemes: []string{"basic", "digest"}, Deny: []string{"127.0.0.66"}})
	auth := func(password, schemes string) string {
		return "username = \"svc\"\n password = \"" + password + "\"\n schemes = " + schemes
	}
	s := newSurgery(t, "http://"+squid.Addr(), auth("p4ss", `["digest", "basic"]`))
	r := s.check("--target", origin.Addr(), "--idle=200ms")
	offers := wants(t, r, "offers", doctor.OK, "", "digest is taken")
	if !strings.Contains(strings.Join(offers.Detail, "\n"), "basic, of the policy, is offered and comes after digest") {
		t.Errorf("%q", offers.Detail)
	}
	wants(t, r, "clock", doctor.OK, "", "agree")
	wants(t, r, "connect", doctor.OK, "", `credential "corp-login", 1 round(s)`)
	wants(t, r, "idle", doctor.OK, "", "bytes pass")

	wants(t, s.check("--target", "127.0.0.66:443"), "connect", doctor.Fail, "connect_403", "403")
	wants(t, s.check("--target", upstreamtest.Refused(t)), "connect", doctor.Fail, "connect_503", "503")

	// a WebSocket passes in a tunnel, and Squid takes the Upgrade out of a plain request
	ws := upstreamtest.NewOrigin(t, webSocket, upstreamtest.Options{})
	r = s.check("--target", origin.Addr(), "--websocket", "ws://"+ws.Addr()+"/chat", "--idle=200ms")
	var got []string
	for _, x := range r.Steps {
		if x.Name == "websocket" || x.Name == "idle" {
			got = append(got, x.Name+" "+string(x.Status)+" "+x.Code)
		}
	}
	if text := strings.Join(got, ", "); text != "websocket ok , websocket fail ws_refused, idle ok , idle ok " {
		t.Errorf("%s", text)
	}

	for _, scheme := range []string{"basic", "digest"} {
		s := newSurgery(t, "http://"+squid.Addr(), auth("wr0ng-p4ss", `["`+scheme+`"]`))
		shown := timesShown(squid, "svc")
		wants(t, s.check("--target", origin.Addr()), "connect", doctor.Fail, "connect_rejected", "")
		wants(t, s.check("--target", origin.Addr()), "connect", doctor.Fail, "credential_closed", "")
		if n := timesShown(squid, "svc") - shown; n != 1 {
			t.Errorf("%s: shown %d times", scheme, n)
		}
	}
}

// webSocket answers pings.
func webSocket(c net.Conn) {
	br := bufio.NewReader(c)
	q, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	if q.Header.Get("Upgrade") == "" {
		io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	sum := sha1.Sum([]byte(q.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	for {
		var h [6]byte
		if _, err := io.ReadFull(br, h[:]); err != nil {
			return
		}
		b := make([]byte, h[1]&0x7f)
		if _, err := io.ReadFull(br, b); err != nil {
			return
		}
		for i := range b {
			b[i] ^= h[2+i%4]
		}
		c.Write(append([]byte{0x8a, byte(len(b))}, b...))
	}
}

func TestCheckTLS(t *testing.T) {
	peers.Need(t, "squid", "basic_ncsa_auth", "openssl")
	ca := upstreamtest.MustCA(t)
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{User: "svc", Password: "p4ss", CA: ca})
	auth := "username = \"svc\"\n password = \"p4ss\""
	s := newSurgery(t, "https://"+squid.Addr(), auth)
	r := s.check("--target", origin.Addr())
	tls := wants(t, r, "tls", doctor.Fail, "cert_unknown_authority", "not trusted")
	if len(tls.Detail) == 0 || tls.Facts["version"] != "TLS 1.3" {
		t.Errorf("%q %v", tls.Detail, tls.Facts)
	}
	wants(t, r, "connect", doctor.Skip, "", "TLS with the proxy failed")
	if _, err := ca.WriteFile(s.dir); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(s.dir, "*.pem"))
	if len(names) == 0 {
		names, _ = filepath.Glob(filepath.Join(s.dir, "*.crt"))
	}
	s.policy("https://"+squid.Addr(), auth+"\n  }\n  tls {\n ca = [\""+filepath.Base(names[0])+"\"]")
	r = s.check("--target", origin.Addr())
	wants(t, r, "tls", doctor.Warn, "cert_expires_soon", "ends in")
	wants(t, r, "connect", doctor.OK, "", "")
}

func TestCheckNTLM(t *testing.T) {
	samba := sambaWith(t, "svc", "p4ss")
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	squid := squidWith(t, peers.SquidOptions{Schemes: []string{"ntlm"}, Samba: samba})
	r := newSurgery(t, "http://"+squid.Addr(), "username = \"svc\"\n password = \"p4ss\"\n schemes = [\"ntlm\"]").check("--target", origin.Addr())
	wants(t, r, "ntlm", doctor.OK, "", `domain "`+peers.SambaDomain+`"`)
	wants(t, r, "connect", doctor.OK, "", "corp-login")
	if n, err := samba.BadPasswords(t.Context(), "svc"); err != nil || n != 0 {
		t.Errorf("%d bad passwords, %v", n, err)
	}
	s := newSurgery(t, "http://"+squid.Addr(), "username = \"svc\"\n password = \"wr0ng-p4ss\"\n schemes = [\"ntlm\"]")
	wants(t, s.check("--target", origin.Addr(), "--no-credentials"), "ntlm", doctor.OK, "", "")
	wants(t, s.check("--target", origin.Addr()), "connect", doctor.Fail, "connect_rejected", "")
	wants(t, s.check("--target", origin.Addr()), "connect", doctor.Fail, "credential_closed", "")
	if n, err := samba.BadPasswords(t.Context(), "svc"); err != nil || n != 1 {
		t.Errorf("%d bad passwords, %v", n, err)
	}
}

func TestCheckKerberos(t *testing.T) {
	l := kerberosLand(t)
	_, port, _ := net.SplitHostPort(l.squid.Addr())
	target := l.origin.Addr()
	conf := "krb5_conf = \"" + l.kdc.Conf + "\"\n"
	with := func(t *testing.T, auth string) *surgery { return newSurgery(t, "http://localhost:"+port, conf+auth) }
	keytab, cache := filepath.Join(l.dir, "svc.keytab"), filepath.Join(l.dir, "cache")
	user := "username = \"svc\"\n schemes = [\"negotiate\"]\n"
	t.Run("password", func(t *testing.T) {
		r := with(t, user+"password = \"p4ss\"").check("--target", target)
		wants(t, r, "kerberos", doctor.OK, "", "svc@"+peers.KDCRealm+" by password, for HTTP/localhost")
		wants(t, r, "kdc", doctor.OK, "", "answers (tcp) and knows svc")
		wants(t, r, "clock", doctor.OK, "", "KDC agree")
		wants(t, r, "ticket", doctor.OK, "", "a ticket of svc@"+peers.KDCRealm+" for HTTP/localhost until ")
		wants(t, r, "connect", doctor.OK, "", "corp-login")
	})
	t.Run("keytab", func(t *testing.T) {
		r := with(t, user+"keytab = \""+keytab+"\"").check("--target", target)
		if k := wants(t, r, "kerberos", doctor.OK, "", "by keytab"); !strings.Contains(strings.Join(k.Detail, "\n"), "aes256-cts-hmac-sha1-96 (version 1)") {
			t.Errorf("%q", k.Detail)
		}
		wants(t, r, "ticket", doctor.OK, "", "aes256")
	})
	t.Run("keytab of another", func(t *testing.T) {
		s := with(t, "username = \"other\"\n schemes = [\"negotiate\"]\nkeytab = \""+keytab+"\"")
		wants(t, s.check("--target", target, "--no-credentials"), "kerberos", doctor.Fail, "keytab_principal", "but for svc@"+peers.KDCRealm)
	})
	t.Run("no keytab", func(t *testing.T) {
		wants(t, with(t, user+"keytab = \"/nosuch/keytab\"").check("--target", target, "--no-credentials"), "kerberos", doctor.Fail, "keytab_missing", "")
	})
	t.Run("cache", func(t *testing.T) {
		s := with(t, "ccache = \"FILE:"+cache+"\"")
		wants(t, s.check("--target", target), "kerberos", doctor.Fail, "ccache_missing", "")
		if err := l.kdc.Kinit(t.Context(), "svc", keytab, cache, "-l", "2s"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2100 * time.Millisecond)
		wants(t, s.check("--target", target), "kerberos", doctor.Fail, "ccache_expired", "ended")
		if err := l.kdc.Kinit(t.Context(), "svc", keytab, cache); err != nil {
			t.Fatal(err)
		}
		r := s.check("--target", target)
		wants(t, r, "kerberos", doctor.OK, "", "a ticket of svc@"+peers.KDCRealm+" until")
		wants(t, r, "connect", doctor.OK, "", "")
	})
	t.Run("service", func(t *testing.T) {
		wants(t, with(t, user+"password = \"p4ss\"\nspn = \"HTTP/nosuch.test\"").check("--target", target), "ticket", doctor.Fail, "ticket_no_service", "HTTP/nosuch.test")
	})
	t.Run("user", func(t *testing.T) {
		r := with(t, "username = \"nobody\"\n schemes = [\"negotiate\"]\npassword = \"p4ss\"").check("--target", target, "--no-credentials")
		wants(t, r, "kdc", doctor.Fail, "kdc_no_user", "does not know nobody@")
	})
	t.Run("realm", func(t *testing.T) {
		r := with(t, "username = \"svc@ELSEWHERE.TEST\"\n schemes = [\"negotiate\"]\npassword = \"p4ss\"").check("--target", target)
		wants(t, r, "kerberos", doctor.Fail, "kdc_none", "ELSEWHERE.TEST")
		wants(t, r, "ticket", doctor.Skip, "", "")
	})
	t.Run("conf", func(t *testing.T) {
		s := newSurgery(t, "http://localhost:"+port, "krb5_conf = \"/nosuch/krb5.conf\"\n"+user+"password = \"p4ss\"")
		wants(t, s.check("--target", target), "kerberos", doctor.Fail, "krb5_conf", "/nosuch/krb5.conf")
	})
	t.Run("not asked for", func(t *testing.T) { // a login that no flow would make is none to make here
		p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "p4ss"})
		s := newSurgery(t, "http://"+p.Addr(), conf+"username = \"svc\"\n schemes = [\"negotiate\", \"basic\"]\npassword = \"wr0ng-p4ss\"")
		wants(t, s.check("--target", target), "ticket", doctor.Skip, "", "basic")
	})
	if n := l.kdc.Rejections(); n != 0 {
		t.Errorf("%d logins were refused before a wrong password was used", n)
	}
	t.Run("wrong password", func(t *testing.T) {
		s := with(t, user+"password = \"wr0ng-p4ss\"")
		r := s.check("--target", target)
		wants(t, r, "ticket", doctor.Fail, "ticket_rejected", "the password or key is wrong")
		wants(t, s.check("--target", target), "ticket", doctor.Fail, "credential_closed", "")
		if n := l.kdc.Rejections(); n != 1 {
			t.Errorf("%d logins were refused", n)
		}
	})
	t.Run("kdc", func(t *testing.T) {
		if err := l.kdc.Stop(); err != nil {
			t.Fatal(err)
		}
		r := with(t, user+"password = \"p4ss\"").check("--target", target)
		wants(t, r, "kdc", doctor.Fail, "kdc_refused", "refused")
		wants(t, r, "ticket", doctor.Skip, "", "no KDC answers")
	})
}

func TestCheckDante(t *testing.T) {
	peers.Need(t, "danted")
	peers.NeedRoot(t, "users of dante need it")
	dante, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{User: "jump", Password: "p4ss"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dante.Close() })
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	r := newSurgery(t, "socks5h://"+dante.Addr(), "username = \"jump\"\n password = \"p4ss\"").check("--target", origin.Addr())
	wants(t, r, "offers", doctor.OK, "", "user and password")
	wants(t, r, "connect", doctor.OK, "", "corp-login")
	r = newSurgery(t, "socks5h://"+dante.Addr(), "username = \"jump\"\n password = \"wr0ng-p4ss\"").check("--target", origin.Addr())
	wants(t, r, "connect", doctor.Fail, "", "user name or password")
	if n := strings.Count(dante.Log(), "wr0ng"); n > 0 {
		t.Error("the password is in a log")
	}
	r = newSurgery(t, "socks5h://"+dante.Addr(), "").check("--target", origin.Addr())
	wants(t, r, "offers", doctor.Fail, "socks_wants_auth", "")
}

// Many looks and a gateway at the same time spend one attempt between them.
func TestCheckBesideAGateway(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "p4ss"})
	g := startGateway(t, proxyAuth, "proxy", p.Addr(), "password", "wr0ng-p4ss", "schemes", `["basic"]`)
	s := newSurgery(t, "http://"+p.Addr(), "username = \"svc\"\n password = \"wr0ng-p4ss\"")
	s.t = t
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := s.command("corp", "--target", "127.0.0.1:9")
			cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+g.dir) // where the gateway's door is: it says where its state is
			cmd.Run()
		})
	}
	hammer(t, g, "127.0.0.1:9", 20)
	wg.Wait()
	hammer(t, g, "127.0.0.1:9", 20)
	n := 0
	for _, q := range p.Requests() {
		if q.HasCredentials {
			n++
		}
	}
	if n != 1 {
		t.Errorf("shown %d times", n)
	}
	cmd := s.command("corp", "--target", "127.0.0.1:9")
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+g.dir)
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "its credential \"corp-login\" is closed") {
		t.Errorf("%s", out)
	}
}

// A state that belongs to another user is not written into: the gateway could not read it.
func TestCheckLeavesOthersState(t *testing.T) {
	peers.NeedRoot(t, "it takes root to give a directory away")
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "p4ss"})
	s := newSurgery(t, "http://"+p.Addr(), "username = \"svc\"\n password = \"p4ss\"")
	dir := filepath.Join(s.dir, "viaduct", "auth")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	wants(t, s.check("--target", "127.0.0.1:9"), "connect", doctor.Skip, "", "belongs to another user (12345)")
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%v", files)
	}
}

// Ctrl-C ends a look in good order.
func TestCheckInterrupted(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	s := newSurgery(t, "http://"+p.Addr(), "")
	cmd := s.command("corp", "--target", origin.Addr(), "--idle=5m")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(out)
	var all strings.Builder
	for !strings.Contains(all.String(), "connect") {
		line, err := br.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			t.Fatalf("%v: %s", err, all.String())
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	rest, _ := io.ReadAll(br)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitTrouble || !strings.Contains(string(rest), "interrupted") {
		t.Errorf("exit code %d: %s%s", code, all.String(), rest)
	}
}

// What a gateway thinks is set against what is seen here.
func TestCheckDiffers(t *testing.T) {
	for _, tt := range []struct {
		state, credential string
		here              doctor.Status
		says              string
	}{
		{admin.StateUp, "proven", doctor.OK, ""},
		{admin.StateUnknown, "", doctor.Fail, ""},
		{admin.StateDown, "", doctor.Fail, ""},
		{admin.StateFailing, "proven", doctor.OK, "Here the proxy works"},
		{admin.StateDown, "", doctor.Warn, "Here the proxy works"},
		{admin.StateUp, "proven", doctor.Fail, "here it fails"},
		{admin.StateFailing, admin.CredentialClosed, doctor.OK, "has closed the credential"},
	} {
		view := &doctor.Step{Name: "gateway", Status: doctor.OK, Facts: map[string]any{"state": tt.state, "credential_state": tt.credential}}
		(&practice{}).differ(view, &doctor.Report{Upstream: "corp", Verdict: tt.here})
		if want := tt.says != ""; !strings.Contains(view.Means, tt.says) || (view.Status == doctor.Warn) != want || (view.Try != "") != want {
			t.Errorf("%+v: %s %q %q", tt, view.Status, view.Means, view.Try)
		}
	}
}

// Many proxies are looked at a few at a time, and told of in their order, also where one of them takes long.
func TestCheckAllAtOnce(t *testing.T) {
	var first, last [9]time.Time // connections of each
	var mu sync.Mutex
	policy := "listener \"desk\" { address = \"127.0.0.1:1\" }\npolicy \"default\" {\n  otherwise { via = direct }\n}\n"
	for i := range 9 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					mu.Lock()
					if first[i].IsZero() {
						first[i] = time.Now()
					}
					mu.Unlock()
					defer func() {
						mu.Lock()
						last[i] = time.Now()
						mu.Unlock()
					}()
					buf := make([]byte, 1)
					c.SetReadDeadline(time.Now().Add(20 * time.Second))
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
					}
				}()
			}
		}()
		policy += fmt.Sprintf("upstream \"p%d\" { url = \"http://%s\" }\n", i, ln.Addr())
	}
	s := newSurgery(t, "http://127.0.0.1:1", "")
	if err := os.WriteFile(filepath.Join(s.dir, "viaduct.hcl"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := s.command("--all", "--timeout", "700ms", "--target", "127.0.0.1:9")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	at := 0
	for i := range 9 {
		k := strings.Index(string(out[at:]), fmt.Sprintf("upstream.p%d at http://", i))
		if k < 0 {
			t.Fatalf("p%d is not told of in its turn\n%s", i, out)
		}
		at += k
	}
	if strings.Count(string(out), "verdict ") != 9 || strings.Count(string(out), "\np") != 9 {
		t.Errorf("%s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	overlaps := 0
	for i := 1; i < len(first); i++ {
		if first[i].Before(last[i-1]) {
			overlaps++
		}
	}
	if overlaps < 3 { // of 8; in a row it would be none
		t.Errorf("%d of 9 were looked at beside the one before", overlaps)
	}
}
