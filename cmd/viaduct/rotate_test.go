package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/router/admin"
)

// pickyProxy is a proxy that takes one credential, which can change, and counts what it is shown.
type pickyProxy struct {
	addr string

	mu    sync.Mutex
	takes string // value of Proxy-Authorization
	shown map[string]int
}

func newPickyProxy(t *testing.T) *pickyProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &pickyProxy{addr: l.Addr().String(), shown: map[string]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *pickyProxy) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		v := r.Header.Get("Proxy-Authorization")
		p.mu.Lock()
		p.shown[v]++
		good := v == p.takes
		p.mu.Unlock()
		switch {
		case !good:
			io.WriteString(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nProxy-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n")
		case r.Method == "CONNECT":
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			return
		default:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// take changes what it takes.
func (p *pickyProxy) take(v string) {
	p.mu.Lock()
	p.takes = v
	p.mu.Unlock()
}

func (p *pickyProxy) count(v string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown[v]
}

const rotating = `
variable "listen" { type = string }
variable "records" { type = string }
variable "file" { type = string }
variable "netrc" { type = string }
variable "command" { type = string }
variable "credential" { type = string }
variable "socks" { type = string }
variable "dir" { type = string }

gateway {
  log { level = "debug" }
  records { path = var.records }
}
listener "desk" { address = var.listen }
locals { from_file = trimspace(file("${var.dir}/secrets/corp")) }
upstream "file" {
  url = "http://${var.file}"
  auth {
    username = "svc"
    password = local.from_file
  }
}
upstream "netrc" {
  url = "http://${var.netrc}"
  auth {
    username = netrc_login("${var.dir}/netrc")
    password = netrc("${var.dir}/netrc")
  }
}
upstream "command" {
  url = "http://${var.command}"
  auth { token = command(["/bin/sh", "-c", "echo run >> /proc/self/fd/2; cat \"$STATE_DIRECTORY/token\""], "1s") }
}
upstream "credential" {
  url = "http://${var.credential}"
  auth {
    username = "svc"
    password = credential("corp")
  }
}
upstream "socks" {
  url = "socks5h://${var.socks}"
  auth {
    username = "svc"
    password = env("VIADUCT_TEST_PASSWORD")
  }
}
policy "default" {
  rule "file" {
    match { host = "file.example" }
    via = upstream.file
  }
  rule "netrc" {
    match { host = "netrc.example" }
    via = upstream.netrc
  }
  rule "command" {
    match { host = "command.example" }
    via = upstream.command
  }
  rule "credential" {
    match { host = "credential.example" }
    via = upstream.credential
  }
  rule "socks" {
    match { host = "socks.example" }
    via = upstream.socks
  }
  otherwise { via = direct }
}
`

// rotatingGateway is a gateway whose secrets come from everywhere; where they are is in dir.
func rotatingGateway(t *testing.T) (g *gateway, dir string, proxies map[string]*pickyProxy) {
	t.Helper()
	dir = t.TempDir()
	proxies = map[string]*pickyProxy{}
	vars := []string{"socks", "127.0.0.1:9"}
	for _, name := range []string{"file", "netrc", "command", "credential"} {
		proxies[name] = newPickyProxy(t)
		vars = append(vars, name, proxies[name].addr)
	}
	// as Kubernetes does it: secrets/corp -> ..data/corp, ..data -> ..1
	must(t, os.MkdirAll(filepath.Join(dir, "secrets", "..1"), 0o700))
	write(t, filepath.Join(dir, "secrets", "..1", "corp"), "c4n4ry-file-1\n")
	must(t, os.Symlink("..1", filepath.Join(dir, "secrets", "..data")))
	must(t, os.Symlink("..data/corp", filepath.Join(dir, "secrets", "corp")))
	write(t, filepath.Join(dir, "netrc"), "machine 127.0.0.1 login svc password c4n4ry-netrc-1\n")
	write(t, filepath.Join(dir, "token"), "c4n4ry-command-1\n")
	must(t, os.Mkdir(filepath.Join(dir, "credentials"), 0o700))
	write(t, filepath.Join(dir, "credentials", "corp"), "c4n4ry-credential-1")
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "credentials"))
	t.Setenv("STATE_DIRECTORY", dir)
	t.Setenv("VIADUCT_TEST_PASSWORD", "c4n4ry-env-1")
	t.Setenv("GOTRACEBACK", "crash") // the most that a traceback can say
	g = startGateway(t, rotating, append(vars, "dir", dir)...)
	return g, dir, proxies
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// through asks for a page by the proxy of that name, and returns the status.
func (g *gateway) through(name string, tunnel bool) int {
	g.t.Helper()
	target := name + ".example:80"
	status, err := request(g.addr, target, tunnel)
	if err != nil {
		g.t.Fatal(err)
	}
	return status
}

func (g *gateway) logged() string {
	g.t.Helper()
	b, err := os.ReadFile(g.log)
	must(g.t, err)
	return string(b)
}

// shownAs is what each proxy is shown of a secret.
func shownAs(name, secret string) string {
	if name == "command" {
		return "Bearer " + secret
	}
	return basicOf("svc", secret)
}

func TestSecretsRotate(t *testing.T) {
	g, dir, proxies := rotatingGateway(t)
	good := func(round int) {
		t.Helper()
		for name, p := range proxies {
			want := shownAs(name, fmt.Sprintf("c4n4ry-%s-%d", name, round))
			p.take(want)
			g.await(name+" to use its new secret", func() bool { return g.through(name, round%2 == 0) == 200 })
			if n := p.count(want); n == 0 {
				t.Errorf("%s was not shown its secret", name)
			}
		}
	}
	good(1)
	generation := g.generation()

	// each in the way of its kind: a swapped link, a file that is replaced, one that is written over, another output
	must(t, os.Mkdir(filepath.Join(dir, "secrets", "..2"), 0o700))
	write(t, filepath.Join(dir, "secrets", "..2", "corp"), "c4n4ry-file-2\n")
	must(t, os.Symlink("..2", filepath.Join(dir, "secrets", "..tmp")))
	must(t, os.Rename(filepath.Join(dir, "secrets", "..tmp"), filepath.Join(dir, "secrets", "..data")))
	must(t, os.RemoveAll(filepath.Join(dir, "secrets", "..1")))
	write(t, filepath.Join(dir, "netrc.new"), "machine 127.0.0.1 login svc password c4n4ry-netrc-2\n")
	must(t, os.Rename(filepath.Join(dir, "netrc.new"), filepath.Join(dir, "netrc")))
	write(t, filepath.Join(dir, "token"), "c4n4ry-command-2\n")
	write(t, filepath.Join(dir, "credentials", "corp"), "c4n4ry-credential-2")
	g.await("the log to say so", func() bool { return strings.Count(g.logged(), "its secret has changed") == 4 })
	good(2)
	if now := g.generation(); now != generation {
		t.Errorf("it was a reload: generation %d, then %d", generation, now)
	}
	out := g.command("upstream", "list")
	if !strings.Contains(out, "SECRET SINCE") || strings.Contains(out, "c4n4ry") {
		t.Errorf("list:\n%s", out)
	}

	// what cannot be taken up changes nothing, and is said once
	write(t, filepath.Join(dir, "credentials", "corp"), "")
	g.await("the log to say that it is empty", func() bool { return strings.Contains(g.logged(), "is empty") })
	write(t, filepath.Join(dir, "netrc"), "machine 127.0.0.1 login svc password \"c4n4ry-broken\n")
	g.await("the log to say that it is broken", func() bool { return strings.Contains(g.logged(), "a quote is not closed") })
	must(t, os.Remove(filepath.Join(dir, "token")))
	g.await("the log to say that the command failed", func() bool { return strings.Contains(g.logged(), "exit status 1") })
	time.Sleep(2500 * time.Millisecond) // the command is run twice more
	if n := strings.Count(g.logged(), "exit status 1"); n != 1 {
		t.Errorf("said %d times", n)
	}
	for name := range proxies {
		if status := g.through(name, true); status != 200 {
			t.Errorf("%s: %d with the secret before", name, status)
		}
	}
	// and is taken up when it can be
	write(t, filepath.Join(dir, "credentials", "corp"), "c4n4ry-credential-3")
	write(t, filepath.Join(dir, "netrc"), "machine 127.0.0.1 login svc password c4n4ry-netrc-3\n")
	write(t, filepath.Join(dir, "token"), "c4n4ry-command-3\n")
	write(t, filepath.Join(dir, "secrets", "..2", "corp"), "c4n4ry-file-3\n")
	g.await("the new ones", func() bool { return strings.Count(g.logged(), "its secret has changed") == 8 })
	good(3)
	if !strings.Contains(g.logged(), "can be read again") {
		t.Error("the log does not say that all is well again")
	}
	// a secret in use that the proxy rejects is closed, and open again with the next
	p := proxies["file"]
	p.take(shownAs("file", "c4n4ry-file-4"))
	old := p.count(shownAs("file", "c4n4ry-file-3"))
	for range 5 {
		if status := g.through("file", true); status != 502 {
			t.Errorf("%d", status)
		}
	}
	if n := p.count(shownAs("file", "c4n4ry-file-3")); n != old+1 {
		t.Errorf("a rejected secret was shown %d times", n-old)
	}
	write(t, filepath.Join(dir, "secrets", "..2", "corp"), "c4n4ry-file-4\n")
	g.await("the pair to be open", func() bool { return g.through("file", true) == 200 })
	if strings.Contains(g.logged(), "c4n4ry") {
		t.Error("a secret is in the log")
	}
}

func (g *gateway) generation() uint64 {
	g.t.Helper()
	var s admin.Status
	g.door("/v1/status", &s)
	return s.Generation
}

// TestSecretsStayInside looks for every secret, in every spelling, in all that the program writes.
func TestSecretsStayInside(t *testing.T) {
	g, dir, proxies := rotatingGateway(t)
	var said bytes.Buffer
	for name, p := range proxies {
		for _, tunnel := range []bool{true, false} {
			for _, takes := range []string{"nothing", shownAs(name, "c4n4ry-"+name+"-1")} {
				p.take(takes)
				target := name + ".example:80"
				head := fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, target)
				if tunnel {
					head = fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
				}
				c, err := net.Dial("tcp", g.addr)
				must(t, err)
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, head)
				b := make([]byte, 16<<10)
				for {
					n, err := c.Read(b)
					said.Write(b[:n])
					if err != nil || n > 0 && tunnel {
						break
					}
				}
				c.Close()
				g.command("upstream", "reset", name)
			}
		}
	}
	g.through("socks", true)
	config := filepath.Join(g.dir, "viaduct.hcl")
	var vars []string
	for i, a := range g.cmd.Args {
		if a == "--var" {
			vars = append(vars, a, g.cmd.Args[i+1])
		}
	}
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"upstream", "list"}, {"upstream", "list", "--json"}, {"reload"}, {"reload", "--json"},
		append([]string{"explain", "-c", config, "--json", "http://file.example/"}, vars...), append([]string{"explain", "-c", config, "http://command.example/"}, vars...),
		append([]string{"validate", config}, vars...), append([]string{"validate", "--json", "--run-commands", config}, vars...),
	} {
		said.WriteString(g.command(args...))
	}
	said.WriteString(metrics(t, g))
	for _, path := range []string{"/v1/status", "/v1/connections"} {
		var any map[string]any
		g.door(path, &any)
		fmt.Fprint(&said, any)
	}
	// broken sources, told of by those who ask and by the log
	for _, broken := range []string{"c4n4ry\x01", "\"c4n4ry", "machine c4n4ry password"} {
		write(t, filepath.Join(dir, "netrc"), broken)
		write(t, filepath.Join(dir, "credentials", "corp"), "c4n4ry-credential\x02x")
		said.WriteString(g.fails("reload"))
		said.WriteString(g.fails("reload", "--json"))
		said.WriteString(g.fails(append([]string{"run", config}, vars...)...))
	}
	// and the runtime's own words on the way out
	g.cmd.Process.Signal(syscall.SIGABRT)
	g.cmd.Wait()
	write(t, filepath.Join(dir, "netrc"), "default login svc password c4n4ry-netrc-1\n")
	write(t, filepath.Join(dir, "credentials", "corp"), "c4n4ry-credential-1")
	g.again()
	log := g.logged()
	if !strings.Contains(log, "goroutine ") {
		t.Errorf("there is no traceback:\n%.2000s", log)
	}
	said.WriteString(log)
	for _, file := range []string{g.records} {
		b, err := os.ReadFile(file)
		must(t, err)
		said.Write(b)
	}
	filepath.WalkDir(filepath.Join(g.dir, "viaduct"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			fmt.Fprintln(&said, path, string(b))
		}
		return nil
	})
	text := said.String()
	if len(text) < 10_000 {
		t.Errorf("only %d bytes were looked at", len(text))
	}
	for _, name := range []string{"file", "netrc", "command", "credential", "env"} {
		secret := "c4n4ry-" + name + "-1"
		for what, s := range spellings(secret) {
			if i := strings.Index(text, s); i >= 0 {
				t.Errorf("%s (%s) is in %q", secret, what, text[max(i-200, 0):min(i+100, len(text))])
			}
		}
	}
	if i := strings.Index(text, "c4n4ry"); i >= 0 {
		t.Errorf("c4n4ry is in %q", text[max(i-200, 0):min(i+100, len(text))])
	}
}

// spellings are the forms in which a secret could get out. In base64 it looks different at each of three offsets.
func spellings(secret string) map[string]string {
	all := map[string]string{"as it is": secret, "hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))), "URL": url.QueryEscape("*" + secret),
		"Basic": base64.StdEncoding.EncodeToString([]byte("svc:" + secret)), "reversed": reversed(secret)}
	for pad := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + secret))
		all[fmt.Sprintf("base64 at %d", pad)] = b[(pad*8+5)/6+1 : len(b)-4]
	}
	return all
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// fails runs viaduct beside the gateway, and wants it to say no.
func (g *gateway) fails(args ...string) string {
	g.t.Helper()
	cmd := exec.Command(g.cmd.Path, args...)
	cmd.Dir, cmd.Env = g.dir, g.cmd.Env
	out, err := cmd.CombinedOutput()
	if err == nil {
		g.t.Errorf("viaduct %v goes well:\n%s", args, out)
	}
	return string(out)
}
