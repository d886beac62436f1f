package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"viaduct/upstream/upstreamtest"
)

// buildViaduct builds the program that is measured.
func buildViaduct(ctx context.Context, dir string) (string, error) {
	to := filepath.Join(dir, "viaduct")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", to, "viaduct/cmd/viaduct").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build viaduct/cmd/viaduct: %w\n%s", err, out)
	}
	return to, nil
}

// startViaduct runs the real program with a generated policy: one process with a listener for each way.
func startViaduct(ctx context.Context, e *env, _ role, _ string) (*process, error) {
	return e.gateway(ctx, gatewayKind{journal: true})
}

func startViaductBare(ctx context.Context, e *env, _ role, _ string) (*process, error) {
	return e.gateway(ctx, gatewayKind{simple: true})
}

// ways are the listeners of the generated policy, by the role that each plays.
var ways = []struct {
	role  role
	name  string
	route string
}{{roleConnect, "direct", "direct"}, {roleHTTPHop, "http_hop", "upstream.http_hop"}, {roleSOCKSHop, "socks_hop", "upstream.socks_hop"}, {roleOpened, "opened", "direct"}, {roleNTLMHop, "ntlm_hop", "upstream.ntlm_hop"}}

// gatewayKind is how Viaduct is configured.
type gatewayKind struct {
	simple  bool // a few rules, no records
	journal bool
}

func (e *env) gateway(ctx context.Context, kind gatewayKind) (*process, error) {
	dir, err := os.MkdirTemp(e.dir, "viaduct-")
	if err != nil {
		return nil, err
	}
	doors := map[role]door{}
	var ports []*upstreamtest.Reservation
	release := func() {
		for _, r := range ports {
			r.Release()
		}
	}
	for _, w := range ways {
		r, err := upstreamtest.Reserve("127.0.0.1:0")
		if err != nil {
			release()
			return nil, err
		}
		ports = append(ports, r)
		doors[w.role] = door{r.Addr(), speakCONNECT}
	}
	doors[rolePlain] = doors[roleConnect]
	doors[roleJournal] = doors[roleConnect]
	doors[rolePAC] = door{} // nobody connects
	doors[roleSOCKS] = door{doors[roleConnect].addr, speakSOCKS5}
	policy, err := e.writePolicy(dir, doors, kind)
	if err != nil {
		release()
		return nil, err
	}
	p, err := e.runViaduct(ctx, dir, policy, doors)
	if err != nil {
		release()
		return nil, err
	}
	stop := p.stop
	p.stop = func() error { defer release(); return stop() }
	return p, nil
}

func (e *env) runViaduct(ctx context.Context, dir, policy string, doors map[role]door) (*process, error) {
	log := filepath.Join(dir, "log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	args := []string{"run", policy}
	if e.built { // an older one may not know it; what is measured is in /proc, where only root sees it otherwise
		args = append(args, "--dumpable")
	}
	cmd := exec.CommandContext(ctx, e.binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "NOTIFY_SOCKET=", "LISTEN_FDS=")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	p := &process{doors: doors, pids: func() []int { return tree(pid) }, stop: func() error { return ended(cmd, syscall.SIGTERM) }}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", doors[roleConnect].addr)
		if err == nil {
			c.Close()
			return p, nil
		}
		// A process that has ended and is not waited for yet is a zombie: its state is the first field after its name.
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		dead := bytes.Contains(st, []byte(") Z "))
		if dead || time.Now().After(end) || ctx.Err() != nil {
			cmd.Process.Kill()
			cmd.Wait()
			text, _ := os.ReadFile(log)
			return nil, fmt.Errorf("viaduct run does not accept connections: %w\n%s", err, text)
		}
	}
}

// Size of the generated policy.
const (
	policyRules = 1000
	policyHosts = 100_000
)

// writePolicy writes the policy that is run, and the files it names.
func (e *env) writePolicy(dir string, doors map[role]door, kind gatewayKind) (string, error) {
	simple := kind.simple
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	level, format := "info", e.o.log
	if format == logOff {
		level, format = "error", "text"
	}
	if simple {
		level = "error"
	}
	line("gateway {")
	line("  admin { address = %q }", "unix:"+filepath.Join(dir, "admin.sock"))
	line("  drain_timeout = \"1s\"")
	authority, key, err := upstreamtest.WriteFiles(dir, "authority", e.authorities.proxies.Certificate())
	if err != nil {
		return "", err
	}
	line("  ca {\n    certificate = %q\n    key         = %q\n  }", authority, key)
	line("  log {\n    level  = %q\n    format = %q\n  }", level, format)
	if !kind.journal && e.built { // an older one has none
		line("  journal { enabled = false }")
	}
	if !simple {
		line("  records { path = %q }", filepath.Join(dir, "records.ndjson"))
	}
	line("}")
	for _, w := range ways {
		line("listener %q { address = %q }", w.name, doors[w.role].addr)
	}
	line("upstream \"http_hop\" { url = %q }", "http://"+e.httpHop)
	line("upstream \"socks_hop\" { url = %q }", "socks5h://"+e.socksHop)
	line("upstream \"ntlm_hop\" {\n  url = %q\n  auth {\n    username = %q\n    domain   = %q\n    password = %q\n    schemes  = [\"ntlm\"]\n    warm_url = \"http://warm.example/\"\n  }\n}", "http://"+e.ntlmHop, ntlmUser, ntlmDomain, ntlmPassword)
	rules := policyRules - len(ways) - 1
	if simple {
		rules = 0
	} else {
		line("list \"blocked\" { file = %q }", "blocked.txt")
		if err := os.WriteFile(filepath.Join(dir, "blocked.txt"), hostList(), 0o644); err != nil {
			return "", err
		}
	}
	line("policy \"default\" {")
	if !simple {
		line("  rule \"blocked\" {\n    match { host = list.blocked }\n    deny {}\n  }")
	}
	for i := range rules {
		line("  rule \"site %d\" {\n    match { %s }\n    via = upstream.http_hop\n  }", i, someMatch(i))
	}
	for _, w := range ways {
		line("  rule %q {\n    match {\n      listener = %q\n      address = [\"127.0.0.0/8\"]\n    }\n    via = %s", w.name, w.name, w.route)
		if w.role == roleOpened {
			line("    tls {\n      mode = \"intercept\"\n      ca   = %q\n    }", e.authorities.serversAt)
		}
		line("  }")
	}
	line("}")
	path := filepath.Join(dir, "policy.hcl")
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

// someMatch is the condition of one of the rules that do not take the load: mostly names, as policies have them, and some networks.
func someMatch(i int) string {
	switch i % 10 {
	case 8:
		return fmt.Sprintf(`client = ["10.%d.%d.0/24"]`, i/250, i%250)
	case 9:
		return fmt.Sprintf(`port = [%d]`, 20000+i)
	case 4:
		return fmt.Sprintf(`host = "*.site%d.example"`, i)
	}
	return fmt.Sprintf(`host = ["site%d.example", "www.site%d.example"]`, i, i)
}

func hostList() []byte {
	var b bytes.Buffer
	for i := range policyHosts {
		fmt.Fprintf(&b, "host-%d.zone%d.blocked.example\n", i, i%977)
	}
	return b.Bytes()
}
