package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shownDashboard is a "viaduct dashboard" that runs.
type shownDashboard struct {
	t           *testing.T
	cmd         *exec.Cmd
	host, token string
}

func showDashboard(t *testing.T, g *gateway, args ...string) *shownDashboard {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &shownDashboard{t: t, cmd: exec.Command(path, append([]string{"dashboard", "--no-open", "--admin", "unix:" + filepath.Join(g.dir, "viaduct", socketName)}, args...)...)}
	s.cmd.Env = cleanEnv()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), "http://")
	if s.host, s.token, _ = strings.Cut(rest, "/#token="); !ok || len(s.token) < 30 || !strings.HasPrefix(s.host, "127.0.0.1:") {
		t.Fatalf("it printed %q", line)
	}
	return s
}

func (s *shownDashboard) ask(method, path, body string, fields ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.host+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ":")
		v = strings.TrimSpace(v)
		switch {
		case k == "Host":
			req.Host = v
		case v == "":
			req.Header.Del(k)
		default:
			req.Header.Set(k, v)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(b)
}

func TestDashboardForwards(t *testing.T) {
	g := startGateway(t, here)
	s := showDashboard(t, g)
	_, port, _ := net.SplitHostPort(s.host)
	for _, c := range []struct {
		method, path, body string
		fields             []string
		want               int
	}{
		{"GET", "/", "", []string{"Authorization:"}, 200},
		{"HEAD", "/ui/main.js", "", []string{"Authorization:"}, 200},
		{"GET", "/ui/nothing.js", "", []string{"Authorization:"}, 404},
		{"GET", "/", "", []string{"Authorization:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 200}, // a link is followed
		{"GET", "/ui/main.js", "", []string{"Authorization:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"POST", "/", "", []string{"Authorization:"}, 401},
		{"GET", "/v1/status", "", nil, 200},
		{"GET", "/v1/status", "", []string{"Host: localhost:" + port}, 200},
		{"GET", "/v1/status", "", []string{"Host: rebound.example:" + port}, 421},
		{"GET", "/", "", []string{"Host: rebound.example"}, 421},
		{"GET", "/v1/status", "", []string{"Authorization:"}, 401},
		{"GET", "/v1/status", "", []string{"Authorization: Bearer wrong-wrong-wrong-wrong"}, 401},
		{"GET", "/metrics", "", []string{"Authorization:"}, 401},
		{"GET", "/metrics", "", nil, 200},
		{"GET", "/v1/status", "", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"GET", "/v1/status", "", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 403},
		{"GET", "/v1/status", "", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"GET", "/v1/status", "", []string{"Sec-Fetch-Site: same-origin", "Origin: http://" + s.host}, 200},
		{"GET", "/v1/status", "", []string{"Origin: http://evil.example"}, 403},
		{"GET", "/v1/status", "", []string{"Origin: https://" + s.host}, 403},
		{"POST", "/v1/reload", "", nil, 403},
		{"POST", "/v1/drain", "", nil, 403},
		{"DELETE", "/v1/connections/00000000-0000-0000-0000-000000000000", "", nil, 403},
		{"GET", "/debug/pprof/", "", nil, 403},
		{"POST", "/v1/explain", `{"target":"www.example.com:443","lookups":true}`, nil, 403},
		{"POST", "/v1/explain", `{"target":"www.example.com:443","LOOKUPS":true}`, nil, 403},
		{"POST", "/v1/explain", `{"target":"www.example.com:443","resolve":["system"]}`, nil, 403},
		{"POST", "/v1/explain", `{"target":"www.example.com:443","unheard":1}`, nil, 400},
		{"POST", "/v1/explain", `{"target":"` + strings.Repeat("x", 100_000) + `"}`, nil, 413},
	} {
		res, body := s.ask(c.method, c.path, c.body, c.fields...)
		if res.StatusCode != c.want {
			t.Errorf("%s %s %.60s %q: %d, want %d: %.300s", c.method, c.path, c.body, c.fields, res.StatusCode, c.want, body)
		}
		if strings.Contains(body, s.token) {
			t.Errorf("%s %s: the answer holds the token", c.method, c.path)
		}
	}
	// A question that asks for nothing but thinking gets to the door.
	if res, body := s.ask("POST", "/v1/explain", `{"target":"www.example.com:443"}`); res.StatusCode == 403 || res.StatusCode == 401 {
		t.Errorf("explain: %s: %s", res.Status, body)
	}
	_, body := s.ask("GET", "/v1/status", "")
	var st struct {
		Version string
		Door    *struct{ Write bool }
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil || st.Version == "" || st.Door == nil || st.Door.Write {
		t.Errorf("the status: %v, %+v", err, st)
	}

	// Another run does not take the token of this one; with --write it may do all.
	w := showDashboard(t, g, "--write")
	if res, _ := w.ask("GET", "/v1/status", "", "Authorization: Bearer "+s.token); res.StatusCode != 401 {
		t.Errorf("the token of another run: %s", res.Status)
	}
	if res, body := w.ask("POST", "/v1/reload", ""); res.StatusCode != 200 {
		t.Errorf("reload with --write: %s %s", res.Status, body)
	}
	if _, body := w.ask("GET", "/v1/status", ""); !strings.Contains(body, `"write": true`) {
		t.Errorf("the status does not say that the door takes changes: %.300s", body)
	}

	// Events come as they happen, and an interrupt ends all.
	req, _ := http.NewRequest("GET", "http://"+w.host+"/v1/events", nil)
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	events := bufio.NewReader(res.Body)
	await := func(word string) error {
		late := time.AfterFunc(20*time.Second, func() { res.Body.Close() })
		defer late.Stop()
		for {
			line, err := events.ReadString('\n')
			if err != nil {
				return fmt.Errorf("before %s: %w", word, err)
			}
			if strings.Contains(line, word) {
				return nil
			}
		}
	}
	if err := await("retry:"); err != nil {
		t.Fatal(err)
	}
	if res, _ := w.ask("POST", "/v1/reload", ""); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	if err := await("event: reload"); err != nil {
		t.Fatal(err)
	}
	w.cmd.Process.Signal(os.Interrupt)
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
	if err := await("never"); err == nil {
		t.Error("the stream goes on")
	}
}

func TestDashboardWithoutGateway(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--admin unix:/nowhere/admin.sock":                          "no gateway answers",
		"--listen 192.0.2.1:80":                                     "address of loopback",
		"--listen 0.0.0.0:0":                                        "address of loopback",
		"--listen localhost":                                        "address of loopback",
		"--admin unix:/nowhere/admin.sock --listen 127.0.0.1:99999": "address of loopback",
	} {
		cmd := exec.Command(path, append([]string{"dashboard", "--no-open"}, strings.Fields(args)...)...)
		cmd.Env = cleanEnv()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
}
