package main

import (
	"bytes"
	"context"
	"encoding/json"
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

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// binary builds viaduct as users do, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "viaduct-test-*")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "viaduct")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return path, err
})

var binaryDir string // "" = not built

func removeBinary() {
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
}

// gateway is a real viaduct in a process of its own.
type gateway struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string
	addr    string // of the listener
	records string
	log     string
}

// startGateway runs the policy, whose variable "listen" is the address to listen on and which may write records to the variable
// "records". More variables come as name, value.
func startGateway(t *testing.T, policy string, vars ...string) *gateway {
	t.Helper()
	return startGatewayIn(t, policy, nil, vars...)
}

// startGatewayIn does it where the policy has files beside it, by name.
func startGatewayIn(t *testing.T, policy string, files map[string]string, vars ...string) *gateway {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// Short, for the socket of the control door.
	dir, err := os.MkdirTemp("", "vg-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	hold, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hold.Release)
	g := &gateway{t: t, dir: dir, addr: hold.Addr(), records: filepath.Join(dir, "records.ndjson"), log: filepath.Join(dir, "log")}
	file := filepath.Join(dir, "viaduct.hcl")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"run", "viaduct.hcl", "--var", "listen=" + g.addr, "--var", "records=" + g.records}
	for i := 0; i+1 < len(vars); i += 2 {
		args = append(args, "--var", vars[i]+"="+vars[i+1])
	}
	g.cmd = exec.Command(path, args...)
	g.start()
	t.Cleanup(g.stop)
	return g
}

// start runs the program, and waits until it listens.
func (g *gateway) start() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	g.cmd.Dir, g.cmd.Stdout, g.cmd.Stderr = g.dir, log, log
	g.cmd.Env = append(cleanEnv(), "XDG_RUNTIME_DIR="+g.dir, "XDG_STATE_HOME="+g.dir)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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

// restart ends the program, and returns what runs it again.
func (g *gateway) restart() (again func()) {
	g.t.Helper()
	g.stop()
	cmd := exec.Command(g.cmd.Path, g.cmd.Args[1:]...)
	return func() {
		g.t.Helper()
		g.cmd = cmd
		g.start()
	}
}

// cleanEnv is the environment without what would lead clients and gateway elsewhere.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasSuffix(strings.ToUpper(name), "_PROXY"), strings.HasPrefix(name, "GIT_"), name == "CURL_CA_BUNDLE", name == "SSL_CERT_FILE", strings.HasPrefix(name, "VIADUCT_VAR_"), name == "VIADUCT_CONFIG", name == "NOTIFY_SOCKET":
		default:
			env = append(env, v)
		}
	}
	return env
}

// stop drains, and fails the test when the gateway does not end well or a flow panicked.
func (g *gateway) stop() {
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		g.t.Errorf("the gateway is gone: %v", err)
	}
	// A second one ends the waiting for what clients have left open.
	again := time.AfterFunc(5*time.Second, func() { g.cmd.Process.Signal(syscall.SIGTERM) })
	defer again.Stop()
	if err := g.cmd.Wait(); err != nil {
		g.t.Errorf("the gateway ended with %v", err)
	}
	log, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Error(err)
	}
	if g.t.Failed() {
		g.t.Logf("log of the gateway:\n%s", log)
	}
	if bytes.Contains(log, []byte("panic")) {
		g.t.Errorf("a flow panicked:\n%s", log)
	}
}

func (g *gateway) await(what string, ok func() bool) {
	g.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(g.log)
			g.t.Fatalf("waited %v for %s\n%s", patience, what, log)
		}
	}
}

// flows reads all records, whole lines only.
func (g *gateway) flows() []*connmodel.Flow {
	g.t.Helper()
	b, err := os.ReadFile(g.records)
	if err != nil {
		g.t.Fatal(err)
	}
	var all []*connmodel.Flow
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		f := new(connmodel.Flow)
		if err := json.Unmarshal(line, f); err != nil {
			g.t.Fatalf("record: %v\n%s", err, line)
		}
		all = append(all, f)
	}
	return all
}

// next awaits the record after the first n.
func (g *gateway) next(n int) *connmodel.Flow {
	g.t.Helper()
	var all []*connmodel.Flow
	g.await("a record", func() bool { all = g.flows(); return len(all) > n })
	return all[n]
}

// door asks the control door.
func (g *gateway) door(path string, v any) {
	g.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(g.dir, "viaduct", socketName))
	}}}
	res, err := c.Get("http://localhost" + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		g.t.Fatal(err)
	}
}

// client runs a program in a directory of its own and returns what it said. It fails the test when the program does.
func client(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tryClient(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func tryClient(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, ok := peers.Look(name)
	if !ok {
		t.Fatalf("%s is not here, and the test did not say that it needs it", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	dir := t.TempDir()
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "HOME="+dir, "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
