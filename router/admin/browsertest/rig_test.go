package browsertest

import (
	"bytes"
	"encoding/json"
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

	"viaduct/upstream/upstreamtest"
)

// program is the gateway of this tree, built once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "viaduct")
	cmd := exec.Command("go", "build", "-o", path, "viaduct/cmd/viaduct")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// scratch is removed when all tests have run.
var scratch string

// rig is a gateway with proxies before it and servers at the far end, all of them real.
type rig struct {
	t       *testing.T
	dir     string
	policy  string // path
	clients string // address of the listener
	door    string // address of the control door
	token   string
	cmd     *exec.Cmd
	ended   chan struct{}

	corpA, corpB, edge *upstreamtest.Proxy
	jump               *upstreamtest.Proxy
	echo               *upstreamtest.Origin
	web                *upstreamtest.HTTPOrigin
}

const token = "test-token-of-the-browser-tests-0123456789"

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

const policyText = `# Who goes where from the head office.
gateway {
  name  = "edge-1.fra.example"
  state = %[1]q
  admin {
    address = %[2]q
    write   = true
  }
  log { level = "error" }
}

listener "desk" {
  address = %[3]q
}

upstream "corp_a" {
  url = "http://%[4]s"
}

upstream "corp_b" {
  url = "http://%[5]s" # the second site
}

upstream "edge" {
  url = "https://%[6]s"
  tls {
    ca          = %[8]q
    server_name = "edge.corp.example"
  }
}

upstream "jump" {
  url = "socks5h://%[7]s"
}

pool "corp" {
  members = [upstream.corp_b, upstream.corp_a]
}

policy "default" {
  rule "partner api" {
    match {
      host = "api.partner.example"
      port = 443
    }
    via    = [upstream.corp_a, upstream.jump] # two hops
    server = "10.9.0.5:8443"
    tags   = ["partner", "audited"]
  }
  rule "old edge" {
    match { host = "*.edge.example" }
    via = upstream.edge
  }
  rule "no games" {
    match { host = "*.games.example" }
    deny { reason = "not during office hours" }
  }
  rule "soon through jump" {
    match { host = ["www.shop.example", "cdn.shop.example"] }
    shadow = true
    via    = upstream.jump
  }
  rule "night batch" {
    match { host = "batch.example" }
    when = now.hour < 4 && client.address != "192.0.2.1"
    via  = upstream.jump
  }
  rule "far site" {
    match { host = ["*.far.example", "<img*"] }
    via = [upstream.corp_a, upstream.jump]
  }
  otherwise { via = pool.corp }
}
`

// newRig starts all of it. Names that clients ask for are known to the proxies alone.
// edit may change the policy before it is used.
func newRig(t *testing.T, edit ...func(policy string) string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), token: token}
	r.echo = upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	r.web = upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	hosts := map[string]string{"10.9.0.5:8443": r.echo.Addr(), "www.shop.example:80": r.web.Addr(), "www.shop.example:443": r.echo.Addr(), "cdn.shop.example:443": r.echo.Addr(), "mail.example:993": r.echo.Addr(), "git.example:22": r.echo.Addr(), "db.far.example:5432": r.echo.Addr(), "closed.far.example:80": "127.0.0.1:1"}
	ca := upstreamtest.MustCA(t)
	expired := ca.MustIssue(t, upstreamtest.Expired(), "edge.corp.example", "proxy.corp.example")
	r.jump = upstreamtest.NewSOCKS5(t, upstreamtest.Options{Hosts: hosts})
	forA := map[string]string{r.jump.Addr(): r.jump.Addr()}
	for k, v := range hosts {
		forA[k] = v
	}
	r.corpA = upstreamtest.NewHTTP(t, upstreamtest.Options{Hosts: forA})
	r.corpB = upstreamtest.NewHTTP(t, upstreamtest.Options{Hosts: hosts})
	config := ca.ServerTLS(t, "edge.corp.example")
	config.Certificates = config.Certificates[:0]
	config.Certificates = append(config.Certificates, expired)
	r.edge = upstreamtest.NewHTTP(t, upstreamtest.Options{TLS: config})
	caFile, err := ca.WriteFile(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	r.clients, r.door = freePort(t), freePort(t)
	r.policy = filepath.Join(r.dir, "office.hcl")
	state := filepath.Join(r.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	r.write(filepath.Join(state, "admin.token"), token+"\n")
	text := fmt.Sprintf(policyText, state, r.door, r.clients, r.corpA.Addr(), r.corpB.Addr(), r.edge.Addr(), r.jump.Addr(), caFile)
	for _, f := range edit {
		text = f(text)
	}
	r.write(r.policy, text)
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) write(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// start runs the gateway until its door answers.
func (r *rig) start() {
	r.t.Helper()
	bin, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	r.cmd = exec.Command(bin, "run", filepath.Base(r.policy))
	r.cmd.Dir = r.dir
	r.cmd.Env = append(os.Environ(), "HOME="+r.dir, "XDG_RUNTIME_DIR="+r.dir, "XDG_STATE_HOME="+r.dir, "VIADUCT_CONFIG=", "VIADUCT_ADMIN=", "NOTIFY_SOCKET=")
	var said bytes.Buffer
	r.cmd.Stdout, r.cmd.Stderr = &said, &said
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait()
		close(ended)
	}(r.cmd, r.ended)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		if _, code := r.get("/v1/status"); code == http.StatusOK {
			return
		}
		select {
		case <-r.ended:
			r.t.Fatalf("the gateway has ended:\n%s", &said)
		default:
		}
		if time.Now().After(end) {
			r.t.Fatal("the gateway does not answer")
		}
	}
}

// stop ends the gateway; what is open is cut by the second signal.
func (r *rig) stop() {
	for range 2 {
		r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.ended:
			return
		case <-time.After(time.Second):
		}
	}
	<-r.ended
}

// get asks the door.
func (r *rig) get(path string) ([]byte, int) {
	req, _ := http.NewRequest("GET", "http://"+r.door+path, nil)
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return b, res.StatusCode
}

// open is how many flows are open.
func (r *rig) open() int {
	r.t.Helper()
	b, code := r.get("/v1/connections?limit=1")
	var x struct{ Open int }
	if err := json.Unmarshal(b, &x); err != nil {
		r.t.Fatalf("%d: %v: %s", code, err, b)
	}
	return x.Open
}

// connect opens a tunnel to target and returns it with the status of the answer.
func (r *rig) connect(target string) (net.Conn, int) {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.clients, 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	return c, r.status(c)
}

// status reads a head of an answer, byte by byte: what follows is not ours.
func (r *rig) status(c net.Conn) int {
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		if _, err := c.Read(b); err != nil {
			r.t.Fatalf("the answer ended: %v: %q", err, head)
		}
	}
	var code int
	fmt.Sscanf(string(head), "HTTP/1.1 %d", &code)
	return code
}

// tunnel is an open one that has carried n bytes each way.
func (r *rig) tunnel(target string, n int) net.Conn {
	r.t.Helper()
	c, code := r.connect(target)
	if code != 200 {
		r.t.Fatalf("CONNECT %s: %d", target, code)
	}
	if n > 0 {
		go c.Write(bytes.Repeat([]byte("x"), n))
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			r.t.Fatalf("through the tunnel to %s: %v", target, err)
		}
	}
	c.SetDeadline(time.Time{})
	return c
}

// fails asks for a tunnel that there is none of.
func (r *rig) fails(target string) {
	r.t.Helper()
	c, code := r.connect(target)
	c.Close()
	if code == 200 {
		r.t.Fatalf("CONNECT %s: 200", target)
	}
}

// socks asks for a name that HTTP would not take, by SOCKS5.
func (r *rig) socks(name string, port int) {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.clients, 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte{5, 1, 0})
	io.ReadFull(c, make([]byte, 2))
	c.Write(append(append([]byte{5, 1, 0, 3, byte(len(name))}, name...), byte(port>>8), byte(port)))
	io.Copy(io.Discard, io.LimitReader(c, 10))
}

// page asks for a plain page.
func (r *rig) page(url string, fields ...string) int {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.clients, 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	host := strings.SplitN(strings.TrimPrefix(url, "http://"), "/", 2)[0]
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", url, host, strings.Join(fields, ""))
	code := r.status(c)
	io.Copy(io.Discard, c)
	return code
}

// life lets flows of all kinds go by: what the page has to show.
func (r *rig) life(rounds int) {
	r.t.Helper()
	for i := range rounds {
		r.tunnel("api.partner.example:443", 2000*(i+1)).Close()
		r.tunnel("mail.example:993", 300).Close()
		r.page("http://www.shop.example/bytes/40000")
		r.tunnel("cdn.shop.example:443", 70_000).Close()
		if i%2 == 0 {
			r.fails("chess.games.example:443")
			r.fails("closed.far.example:80")
			r.fails("old.edge.example:443")
		}
	}
}

// until waits for something to become so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
