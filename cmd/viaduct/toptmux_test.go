package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// tmuxWindow is a tmux server of its own with one window.
type tmuxWindow struct {
	t      *testing.T
	socket string
}

func newTerminal(t *testing.T, width, height int, dir string, env []string, command ...string) *tmuxWindow {
	t.Helper()
	x := &tmuxWindow{t, filepath.Join(dir, "tmux")}
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "-c", dir}
	for _, e := range env {
		args = append(args, "-e", e)
	}
	// It stays when the program ends, so that what it left on the screen can be seen.
	args = append(args, "--", "sh", "-c", `"$@"; echo "exit $?"; stty -a | tr ';' '\n' | grep -o -- '-*echo\b' | head -1; exec sleep 1000`, "sh")
	x.tmux(append(args, command...)...)
	t.Cleanup(func() { exec.Command("tmux", "-S", x.socket, "kill-server").Run() })
	return x
}

func (x *tmuxWindow) tmux(args ...string) string {
	x.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", x.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color")
	out, err := cmd.CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (x *tmuxWindow) screen() string { return x.tmux("capture-pane", "-p") }

func (x *tmuxWindow) keys(keys ...string) { x.tmux(append([]string{"send-keys"}, keys...)...) }

// await waits until the screen matches, and returns it.
func (x *tmuxWindow) await(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		s := x.screen()
		if re.MatchString(s) {
			return s
		}
		if time.Now().After(end) {
			x.t.Fatalf("waited for %s on\n%s", pattern, s)
		}
	}
}

const topPolicy = `
gateway {
  records { path = var.records }
}
variable "listen" { type = string }
variable "records" { type = string }
variable "gone" { type = string }
listener "desk" { address = var.listen }
upstream "corp_a" { url = "http://${var.gone}" }
policy "default" {
  rule "no games" {
    match { host = "*.games.example" }
    deny { reason = "not here" }
  }
  rule "corp" {
    match { host = "*.corp.example" }
    via = upstream.corp_a
  }
  rule "here" {
    match { address = ["127.0.0.0/8"] }
    via = direct
  }
}
`

// TestTopInATerminal is the journey of somebody who watches a real gateway in a real terminal.
func TestTopInATerminal(t *testing.T) {
	peers.Need(t, "tmux")
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	g := startGateway(t, topPolicy, "gone", upstreamtest.Refused(t))
	ask := func(target string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	tunnel := ask(origin.Addr())
	env := []string{"XDG_RUNTIME_DIR=" + g.dir, "XDG_STATE_HOME=" + g.dir, "HOME=" + g.dir, "LC_ALL=C.UTF-8", "VIADUCT_CONFIG=", "VIADUCT_ADMIN=", "RUNTIME_DIRECTORY=", "NO_COLOR="}
	x := newTerminal(t, 80, 24, g.dir, env, g.cmd.Path, "top", "--interval", "200ms")
	x.await(`(?s)viaduct .* running .*\[1 Open 1\].*AGE▲.*` + origin.Addr() + `.*q quit`)

	// What flows is seen to flow.
	for range 3 {
		tunnel.Write([]byte(strings.Repeat("x", 50_000)))
	}
	x.await(`150 kB`)

	// Its page, and back.
	x.keys("Enter")
	x.await(`(?s)CONNECT .*result +open.*here.*viaduct\.hcl:\d+.*attempt.*relay`)
	x.keys("Escape")
	x.await(`AGE▲`)

	ask("x.games.example:443")
	ask("x.corp.example:443")
	x.keys("3")
	x.await(`corp_a +failing.*refused`)
	x.keys("?")
	x.await(`ctrl-C`)
	x.keys("?")

	// Smaller and larger, without a trace of what was there before.
	x.tmux("resize-window", "-x", "40", "-y", "12")
	x.keys("1")
	x.await(`(?s)^viaduct [^\n]{1,33}\n.*\[1 Open 1\]`)
	x.tmux("resize-window", "-x", "132", "-y", "30")
	x.await(`(?s)RULE.*ROUTE.*here`)

	// The gateway goes, and another comes.
	x.keys("p")
	x.await(`PAUSED`)
	x.keys("p")
	tunnel.Close() // or the gateway drains for long
	restart := g.restart()
	x.await(`LOST for .*connect`)
	restart()
	x.await(`(?s)running .*Open 0`)

	x.keys("q")
	s := x.await(`exit 0`)
	if strings.Contains(s, "AGE") || !strings.Contains(s, "\necho") {
		t.Errorf("the terminal is not as it was:\n%s", s)
	}
}

// TestTopPlainTerminal: no colours, no UTF-8, and ctrl-C; and what is no terminal.
func TestTopPlainTerminal(t *testing.T) {
	peers.Need(t, "tmux")
	g := startGateway(t, topPolicy, "gone", upstreamtest.Refused(t))
	env := []string{"XDG_RUNTIME_DIR=" + g.dir, "XDG_STATE_HOME=" + g.dir, "HOME=" + g.dir, "LC_ALL=C", "NO_COLOR=1", "VIADUCT_CONFIG=", "VIADUCT_ADMIN=", "RUNTIME_DIRECTORY="}
	x := newTerminal(t, 80, 24, g.dir, env, g.cmd.Path, "top")
	s := x.await(`AGE\^`)
	for _, c := range s {
		if c > 0x7e {
			t.Errorf("%q on\n%s", c, s)
			break
		}
	}
	if s := x.tmux("capture-pane", "-p", "-e"); regexp.MustCompile(`\x1b\[[0-9;]*[34][0-7]`).MatchString(s) {
		t.Errorf("colours: %q", s)
	}
	x.keys("C-c")
	x.await(`exit 0`)

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 1, "viaduct connections --json"},
		{[]string{"--limit", "0"}, 2, "--limit"},
		{[]string{"--interval", "1ms"}, 2, "--interval"},
		{[]string{"--once"}, 0, "[1 Open 0]"},
		{[]string{"--once", "--admin", "unix:/nonexistent"}, 1, "no gateway answers"},
	} {
		cmd := exec.Command(g.cmd.Path, append([]string{"top"}, c.args...)...)
		cmd.Env = append(cleanEnv(), env...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "\x1b") {
			t.Errorf("top %v: exit %d\n%s", c.args, code, out)
		}
	}
}
