package apitest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// viaduct is the program under test.
var viaduct string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vapi")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	viaduct = filepath.Join(dir, "viaduct")
	build := exec.Command("go", "build", "-o", viaduct, "./cmd/viaduct")
	build.Dir = root()
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// root is the directory of the module under test.
func root() string {
	if dir := os.Getenv("VIADUCT_ROOT"); dir != "" {
		return dir
	}
	return "../../../.."
}

// gateway is a process with a control door.
type gateway struct {
	t      *testing.T
	dir    string
	listen string // of its listener
	http   *http.Client
	base   string // URL of the door
	token  string
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// start runs a gateway with a policy, in which LISTEN, DOOR and DIR stand for what they are. door is "unix" or "tcp".
func start(t *testing.T, door, policy string, before func(g *gateway)) *gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "va")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gateway{t: t, dir: dir, listen: freePort(t)}
	address := "unix:" + filepath.Join(dir, "s")
	g.base = "http://localhost"
	if door == "tcp" {
		address = freePort(t)
		g.base = "http://" + address
	}
	g.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			return d.DialContext(ctx, "unix", path)
		}
		return d.DialContext(ctx, "tcp", address)
	}}}
	g.policy(strings.NewReplacer("LISTEN", g.listen, "DOOR", address, "DIR", dir).Replace(policy))
	if before != nil {
		before(g)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(viaduct, "run", filepath.Join(dir, "viaduct.hcl"))
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, g.env()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("log of the gateway:\n%s", b)
		}
		log.Close()
	})
	g.await("the gateway", func() bool {
		c, err := net.Dial("tcp", g.listen)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if door == "tcp" {
		b, err := os.ReadFile(filepath.Join(dir, "state", "admin.token"))
		if err != nil {
			t.Fatal(err)
		}
		g.token = strings.TrimSpace(string(b))
	}
	return g
}

func (g *gateway) env() []string {
	return append(os.Environ(), "STATE_DIRECTORY="+filepath.Join(g.dir, "state"), "RUNTIME_DIRECTORY=", "CREDENTIALS_DIRECTORY=", "XDG_RUNTIME_DIR="+g.dir)
}

func (g *gateway) policy(text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, "viaduct.hcl"), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) await(what string, ok func() bool) {
	g.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			g.t.Fatalf("%s: not in 30 s", what)
		}
	}
}

// tunnel opens a tunnel through the gateway to an echo server.
func (g *gateway) tunnel(to string) net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.listen)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
	if err != nil || res.StatusCode != 200 {
		g.t.Fatalf("CONNECT %s: %v %v", to, res, err)
	}
	return c
}

func echoServer(t *testing.T) string {
	t.Helper()
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
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	return ln.Addr().String()
}

// listServer has a list at /good, and nothing elsewhere.
func listServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, "ads.example\ntracker.example\n")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// silentDNS is a name server that says nothing.
func silentDNS(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}
