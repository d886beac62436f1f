package peers_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// closer is what every starter returns.
type closer interface{ Close() error }

// up fails the test unless err is nil, and closes p with the test.
func up[P closer](t *testing.T, p P, err error) P {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// curl runs curl without the user's configuration and proxies, and returns
// stdout; err holds its exit code and stderr.
func curl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-q", "-sS", "--max-time", "10"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

func mustCurl(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := curl(t, args...)
	if err != nil || out != want {
		t.Errorf("curl %q: %q, %v; want %q", args, out, err, want)
	}
}

// failCurl expects curl to fail with this text in its complaint.
func failCurl(t *testing.T, complaint string, args ...string) {
	t.Helper()
	if out, err := curl(t, args...); err == nil || !strings.Contains(err.Error(), complaint) {
		t.Errorf("curl %q: %q, %v; want a complaint with %q", args, out, err, complaint)
	}
}

func nginx(t *testing.T, o peers.NginxOptions) *peers.NginxProc {
	t.Helper()
	n, err := peers.Nginx(t.Context(), t.TempDir(), o)
	return up(t, n, err)
}

const hello = "hello from nginx\n"

func TestNginx(t *testing.T) {
	peers.Need(t, "nginx", "curl")
	ca, dir := upstreamtest.MustCA(t), t.TempDir()
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := nginx(t, peers.NginxOptions{CA: ca, Names: []string{"origin.test"}, Root: dir})
	_, tlsPort, _ := net.SplitHostPort(n.TLSAddr())
	mustCurl(t, hello, "http://"+n.Addr()+"/")
	mustCurl(t, "a file", "http://"+n.Addr()+"/files/f")
	mustCurl(t, hello, "--cacert", caFile, "--connect-to", "origin.test:443:127.0.0.1:"+tlsPort, "https://origin.test/")
	mustCurl(t, "503", "-o", "/dev/null", "-w", "%{http_code}", "http://"+n.Addr()+"/status/503")
	out, err := curl(t, "-H", "Via: 1.1 x", "http://"+n.Addr()+"/headers?q")
	if err != nil || !strings.Contains(out, "via: 1.1 x\n") || !strings.Contains(out, "uri: /headers?q\n") {
		t.Errorf("headers: %q, %v", out, err)
	}
	if err := n.AwaitLog(t.Context(), `via="1.1 x"`); err != nil {
		t.Error(err)
	}
}

func TestSquid(t *testing.T) {
	peers.Need(t, "squid", "basic_ncsa_auth", "openssl", "nginx", "curl")
	n := nginx(t, peers.NginxOptions{})
	_, port, _ := net.SplitHostPort(n.Addr())
	s, err := peers.Squid(t.Context(), t.TempDir(), peers.SquidOptions{
		User: "ann", Password: "a secret#1", Deny: []string{"denied.test", "127.0.0.9"},
		Hosts: map[string]string{"origin.test": "127.0.0.1", "denied.test": "127.0.0.1"},
	})
	up(t, s, err)
	proxy := []string{"-x", "http://" + s.Addr(), "-U", "ann:a secret#1"}
	via := func(args ...string) []string { return append(append([]string(nil), proxy...), args...) }
	mustCurl(t, hello, via("http://"+n.Addr()+"/")...)
	mustCurl(t, hello, via("-p", "http://"+n.Addr()+"/")...)
	mustCurl(t, hello, via("-p", "http://origin.test:"+port+"/")...)
	mustCurl(t, "403", via("-o", "/dev/null", "-w", "%{http_code}", "http://denied.test:"+port+"/")...)
	failCurl(t, "403", via("-p", "http://127.0.0.9:"+port+"/")...)
	failCurl(t, "403", via("-p", "http://192.0.2.1:80/")...) // beyond loopback
	failCurl(t, "407", "-x", "http://"+s.Addr(), "-p", "http://"+n.Addr()+"/")
	failCurl(t, "407", "-x", "http://"+s.Addr(), "-U", "ann:wrong", "-p", "http://"+n.Addr()+"/")
	if err := s.AwaitLog(t.Context(), "CONNECT origin.test:"+port+" ann"); err != nil {
		t.Error(err)
	}
}

func TestSquidTLS(t *testing.T) {
	peers.Need(t, "squid-openssl", "nginx", "curl")
	ca := upstreamtest.MustCA(t)
	caFile, err := ca.WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := nginx(t, peers.NginxOptions{})
	s, err := peers.Squid(t.Context(), t.TempDir(), peers.SquidOptions{CA: ca})
	up(t, s, err)
	mustCurl(t, hello, "--proxy-cacert", caFile, "-x", "https://"+s.Addr(), "-p", "http://"+n.Addr()+"/")
	failCurl(t, "certificate", "-x", "https://"+s.Addr(), "-p", "http://"+n.Addr()+"/")
}

func TestDante(t *testing.T) {
	peers.Need(t, "danted", "openssl", "nginx", "curl")
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	n := nginx(t, peers.NginxOptions{})
	_, port, _ := net.SplitHostPort(n.Addr())
	name, hosts := "localhost", map[string]string(nil)
	if peers.Namespaces() {
		name, hosts = "origin.test", map[string]string{"origin.test": "127.0.0.1"}
	}
	d, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{
		User: "ann", Password: "a secret#1", Deny: []string{"127.0.0.9/32"}, Hosts: hosts,
	})
	up(t, d, err)
	proxy := []string{"-x", "socks5h://" + d.Addr(), "-U", "ann:a secret#1"}
	via := func(args ...string) []string { return append(append([]string(nil), proxy...), args...) }
	mustCurl(t, hello, via("http://"+n.Addr()+"/")...)
	mustCurl(t, hello, via("http://"+name+":"+port+"/")...)
	failCurl(t, "(2)", via("http://127.0.0.9:"+port+"/")...) // reply 02, not allowed
	failCurl(t, "rejected", "-x", "socks5h://"+d.Addr(), "-U", "ann:wrong", "http://"+n.Addr()+"/")
	failCurl(t, "curl: (97)", "-x", "socks5h://"+d.Addr(), "http://"+n.Addr()+"/")
	if err := d.AwaitLog(t.Context(), "username%ann@"); err != nil {
		t.Error(err)
	}
	d.Close()
	if after, _ := os.ReadFile("/etc/passwd"); string(after) != string(before) {
		t.Error("/etc/passwd was changed")
	}
}

func TestDanteOpen(t *testing.T) {
	peers.Need(t, "danted", "nginx", "curl")
	n := nginx(t, peers.NginxOptions{})
	d, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{})
	up(t, d, err)
	for _, scheme := range []string{"socks4", "socks5", "socks5h"} {
		mustCurl(t, hello, "-x", scheme+"://"+d.Addr(), "http://"+n.Addr()+"/")
	}
}

func TestTinyproxy(t *testing.T) {
	peers.Need(t, "tinyproxy", "nginx", "curl")
	n := nginx(t, peers.NginxOptions{})
	_, port, _ := net.SplitHostPort(n.Addr())
	name, hosts := "localhost", map[string]string(nil)
	if peers.Namespaces() {
		name, hosts = "origin.test", map[string]string{"origin.test": "127.0.0.1"}
	}
	open, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{Hosts: hosts})
	up(t, open, err)
	mustCurl(t, hello, "-x", "http://"+open.Addr(), "-p", "http://"+name+":"+port+"/")
	mustCurl(t, hello, "-x", "http://"+open.Addr(), "http://"+n.Addr()+"/")

	auth, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{User: "ann", Password: "s3cret"})
	up(t, auth, err)
	mustCurl(t, hello, "-x", "http://ann:s3cret@"+auth.Addr(), "-p", "http://"+n.Addr()+"/")
	failCurl(t, "407", "-x", "http://"+auth.Addr(), "-p", "http://"+n.Addr()+"/")
	failCurl(t, "401", "-x", "http://ann:no@"+auth.Addr(), "-p", "http://"+n.Addr()+"/")
	if _, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{User: "a b"}); err == nil {
		t.Error("a user with a space was taken")
	}
}

func TestMicrosocks(t *testing.T) {
	peers.Need(t, "microsocks", "nginx", "curl")
	n := nginx(t, peers.NginxOptions{})
	m, err := peers.Microsocks(t.Context(), t.TempDir(), peers.MicrosocksOptions{User: "ann", Password: "pw"})
	up(t, m, err)
	mustCurl(t, hello, "-x", "socks5h://ann:pw@"+m.Addr(), "http://"+n.Addr()+"/")
	failCurl(t, "curl: (97)", "-x", "socks5h://"+m.Addr(), "http://"+n.Addr()+"/")
	open, err := peers.Microsocks(t.Context(), t.TempDir(), peers.MicrosocksOptions{})
	up(t, open, err)
	mustCurl(t, hello, "-x", "socks5://"+open.Addr(), "http://"+n.Addr()+"/")
}

func TestHAProxyAndStunnel(t *testing.T) {
	peers.Need(t, "haproxy", "stunnel", "nginx", "curl")
	ca, clients := upstreamtest.MustCA(t), upstreamtest.MustCA(t)
	dir := t.TempDir()
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(dir, "client", clients.MustIssue(t, upstreamtest.CertOptions{Client: true}, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	n := nginx(t, peers.NginxOptions{})
	for _, http := range []bool{false, true} {
		h, err := peers.HAProxy(t.Context(), t.TempDir(), peers.HAProxyOptions{Backend: n.Addr(), HTTP: http})
		up(t, h, err)
		mustCurl(t, hello, "http://"+h.Addr()+"/")
	}
	s, err := peers.Stunnel(t.Context(), t.TempDir(), peers.StunnelOptions{Backend: n.Addr(), CA: ca})
	up(t, s, err)
	mustCurl(t, hello, "--cacert", caFile, "https://"+s.Addr()+"/")
	m, err := peers.Stunnel(t.Context(), t.TempDir(), peers.StunnelOptions{Backend: n.Addr(), CA: ca, ClientCA: clients})
	up(t, m, err)
	mustCurl(t, hello, "--cacert", caFile, "--cert", certFile, "--key", keyFile, "https://"+m.Addr()+"/")
	failCurl(t, "", "--cacert", caFile, "https://"+m.Addr()+"/")
}

func TestGit(t *testing.T) {
	peers.Need(t, "git", "tinyproxy")
	ca := upstreamtest.MustCA(t)
	caFile, err := ca.WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{})
	up(t, p, err)
	for _, config := range []*tls.Config{nil, ca.ServerTLS(t, "127.0.0.1")} {
		g, err := peers.Git(t.Context(), t.TempDir(), peers.GitOptions{TLS: config})
		up(t, g, err)
		into := filepath.Join(t.TempDir(), "clone")
		cmd := exec.CommandContext(t.Context(), "git", "-c", "http.proxy=http://"+p.Addr(), "-c", "http.sslCAInfo="+caFile, "clone", "-q", g.CloneURL(), into)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git clone: %v: %s", err, out)
		}
		head, err := exec.Command("git", "-C", into, "rev-parse", "HEAD").Output()
		if err != nil || strings.TrimSpace(string(head)) != g.Commit {
			t.Errorf("cloned %s, %v; want %s", head, err, g.Commit)
		}
	}
}

func TestApt(t *testing.T) {
	peers.Need(t, "apt-get", "apt-ftparchive", "dpkg-deb", "gpg", "squid", "basic_ncsa_auth", "openssl")
	s, err := peers.Squid(t.Context(), t.TempDir(), peers.SquidOptions{User: "ann", Password: "pw"})
	up(t, s, err)
	repo, err := peers.Apt(t.Context(), t.TempDir(), nil)
	up(t, repo, err)
	deb, out, err := repo.AptGet(t.Context(), t.TempDir(), peers.AptGetOptions{Proxy: "http://ann:pw@" + s.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("dpkg-deb", "--field", deb, "Package").Output(); err != nil || strings.TrimSpace(string(b)) != peers.AptPackage {
		t.Errorf("package %q, %v\n%s", b, err, out)
	}
	if err := s.AwaitLog(t.Context(), "InRelease ann"); err != nil {
		t.Error(err)
	}
	if _, _, err := repo.AptGet(t.Context(), t.TempDir(), peers.AptGetOptions{Proxy: "http://" + s.Addr()}); err == nil {
		t.Error("apt-get came through without credentials")
	}
}

// TestLife stops, kills and restarts each proxy on its port, and looks for
// processes that were left behind.
func TestLife(t *testing.T) {
	starters := []struct {
		need  string
		start func(context.Context, string) (*peers.Proc, error)
	}{
		{"squid", func(ctx context.Context, dir string) (*peers.Proc, error) {
			return peers.Squid(ctx, dir, peers.SquidOptions{})
		}},
		{"danted", func(ctx context.Context, dir string) (*peers.Proc, error) {
			return peers.Dante(ctx, dir, peers.DanteOptions{})
		}},
		{"tinyproxy", func(ctx context.Context, dir string) (*peers.Proc, error) {
			return peers.Tinyproxy(ctx, dir, peers.TinyproxyOptions{})
		}},
		{"microsocks", func(ctx context.Context, dir string) (*peers.Proc, error) {
			return peers.Microsocks(ctx, dir, peers.MicrosocksOptions{})
		}},
		{"haproxy", func(ctx context.Context, dir string) (*peers.Proc, error) {
			return peers.HAProxy(ctx, dir, peers.HAProxyOptions{Backend: "127.0.0.1:9"})
		}},
		{"nginx", func(ctx context.Context, dir string) (*peers.Proc, error) {
			n, err := peers.Nginx(ctx, dir, peers.NginxOptions{})
			if err != nil {
				return nil, err
			}
			return n.Proc, nil
		}},
	}
	for _, s := range starters {
		t.Run(s.need, func(t *testing.T) {
			peers.Need(t, s.need)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p, err := s.start(ctx, t.TempDir())
			up(t, p, err)
			hold, err := net.Dial("tcp", p.Addr()) // a connection is open when it goes
			if err != nil {
				t.Fatal(err)
			}
			defer hold.Close()
			gone := func(how string, pids []int) {
				t.Helper()
				if _, err := net.DialTimeout("tcp", p.Addr(), time.Second); err == nil {
					t.Errorf("accepts after %s", how)
				}
				for _, pid := range pids {
					if !awaitGone(pid) {
						t.Errorf("process %d is left after %s", pid, how)
					}
				}
				if p.Pid() != 0 {
					t.Errorf("has a pid after %s", how)
				}
			}
			pids := p.Pids()
			begin := time.Now()
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d processes, stopped in %v", len(pids), time.Since(begin).Round(time.Millisecond))
			gone("Stop", pids)
			if err := p.Stop(); err != nil {
				t.Errorf("second Stop: %v", err)
			}
			for range 2 { // once from stopped, once while running
				if err := p.Restart(ctx); err != nil {
					t.Fatal(err)
				}
			}
			pids = p.Pids()
			p.Kill()
			gone("Kill", pids)
			if err := p.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			pids = p.Pids()
			cancel()
			for _, pid := range pids {
				if !awaitGone(pid) {
					t.Errorf("process %d outlives its context", pid)
				}
			}
		})
	}
}

func awaitGone(pid int) bool {
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") { // an orphan's reaper may be slow
			return true
		}
	}
	return false
}

func TestFailToStart(t *testing.T) {
	peers.Need(t, "haproxy")
	_, err := peers.HAProxy(t.Context(), t.TempDir(), peers.HAProxyOptions{Backend: "no port here"})
	if err == nil || !strings.Contains(err.Error(), "ended while starting") || !strings.Contains(err.Error(), "ALERT") {
		t.Errorf("error %v", err)
	}
	if _, err := peers.HAProxy(t.Context(), t.TempDir(), peers.HAProxyOptions{Backend: "x:1\n  stats enable"}); err == nil {
		t.Error("a line end was taken into the configuration")
	}
}

// verdict records what Need does with a test.
type verdict struct{ skip, fatal string }

func (v *verdict) Helper()                          {}
func (v *verdict) Skipf(format string, args ...any) { v.skip = fmt.Sprintf(format, args...) }
func (v *verdict) Fatalf(format string, args ...any) {
	v.fatal = fmt.Sprintf(format, args...)
	panic(v)
}

func TestNeed(t *testing.T) {
	need := func(names ...string) (v verdict) {
		defer func() { recover() }()
		peers.Need(&v, names...)
		return v
	}
	t.Setenv(peers.RequireEnv, "")
	if v := need("sh"); v != (verdict{}) {
		t.Errorf("a program that is there: %+v", v)
	}
	if v := need("sh", "no-such-program"); v.skip != "not installed: no-such-program" || v.fatal != "" {
		t.Errorf("a missing program: %+v", v)
	}
	t.Setenv(peers.RequireEnv, "1")
	if v := need("no-such-program"); !strings.Contains(v.fatal, "no-such-program") || v.skip != "" {
		t.Errorf("a missing program that is required: %+v", v)
	}
}

// TestEarlyBytes keeps one fact about the peers in view: what an origin says
// first reaches the client through each of them.
func TestEarlyBytes(t *testing.T) {
	peers.Need(t, "squid", "tinyproxy", "danted", "microsocks")
	o := upstreamtest.NewOrigin(t, upstreamtest.Banner("220 ready\r\n"), upstreamtest.Options{})
	squid, err := peers.Squid(t.Context(), t.TempDir(), peers.SquidOptions{})
	up(t, squid, err)
	tiny, err := peers.Tinyproxy(t.Context(), t.TempDir(), peers.TinyproxyOptions{})
	up(t, tiny, err)
	for _, p := range []*peers.Proc{squid, tiny} {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", o.Addr(), o.Addr())
		var got []byte
		b := make([]byte, 512)
		for !strings.Contains(string(got), "220 ready\r\n") {
			n, err := c.Read(b)
			if got = append(got, b[:n]...); err != nil {
				t.Fatalf("%s: %q, %v", p.Name(), got, err)
			}
		}
		io.WriteString(c, "x")
	}
}
