package main

import (
	"context"
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

	"viaduct/router/admin"
	"viaduct/upstream/upstreamtest"
)

// What is checked once an hour is found out at once only because the kernel tells of the network.
const roamingPolicy = `
variable "records" {}
gateway {
  records { path = var.records }
}
listener "desk" { address = "127.0.0.1:3128" }
upstream "corp" {
  url = "http://proxy.test:8080"
  timeouts { dial = "2s" }
}
upstream "watched" {
  url = "http://proxy.test:8080"
  health {
    every     = "1h"
    unhealthy = 1
  }
}
pool "checked" {
  members = [upstream.corp]
  health {
    every     = "1h"
    timeout   = "3s"
    unhealthy = 1
    http      = "http://web.test/"
  }
}
pac "script" {
  url     = "http://web.test/proxy.pac"
  refresh = "1h"
}
policy "default" {
  rule "office" {
    match {
      host    = "web.test"
      address = "192.0.2.0/24"
    }
    when = network.reachable("proxy.test:8080")
    via  = pool.checked
  }
  rule "watched" {
    match { host = "never.test" }
    via = upstream.watched
  }
  rule "script" {
    match { host = "script.test" }
    via = pac.script
  }
  rule "home" {
    match { host = "home.test" }
    when = !network.reachable("proxy.test:8080")
    deny { reason = "at home" }
  }
}
`

// TestRoaming starts a gateway on a machine without network, plugs the network in, and pulls it out again.
func TestRoaming(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	w := newLandscape(t, map[string]string{"proxy.test": server4, "web.test": other4, "script.test": other4})
	w.in(w.gateway, "ip link set to-s down && ip link set to-c down && ip address flush dev to-s && ip address flush dev to-c")
	web := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/proxy.pac" {
			rw.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
			io.WriteString(rw, `function FindProxyForURL(url, host) { return "PROXY proxy.test:8080"; }`)
			return
		}
		io.WriteString(rw, "hello from the server")
	})}
	ln := w.listen(w.server, other4+":80")
	go web.Serve(ln)
	t.Cleanup(func() { web.Close() })
	local, err := net.Listen("tcp", "127.0.0.1:0") // where the proxy, whose own sockets are of this process, finds the same server
	if err != nil {
		t.Fatal(err)
	}
	go web.Serve(local)
	proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, local.Addr().String())
	}})
	door := w.listen(w.server, server4+":8080")
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go proxy.ServeConn(c)
		}
	}()

	dir, err := os.MkdirTemp("", "vr-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gateway{t: t, dir: dir, records: filepath.Join(dir, "records.ndjson"), log: filepath.Join(dir, "log")}
	if err := os.WriteFile(filepath.Join(dir, "viaduct.hcl"), []byte(roamingPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	logFile, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	g.cmd = exec.Command("ip", "netns", "exec", w.gateway, path, "run", "viaduct.hcl", "--var", "records="+g.records)
	g.cmd.Dir, g.cmd.Stdout, g.cmd.Stderr = dir, logFile, logFile
	g.cmd.Env = append(cleanEnv(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.stop)
	says := func(text string) bool {
		b, _ := os.ReadFile(g.log)
		return strings.Contains(string(b), text)
	}
	g.await("the gateway to run", func() bool { return says("viaduct runs") })
	status := func(what string, ok func(s *admin.Status) bool) {
		t.Helper()
		var s admin.Status
		g.await(what, func() bool { s = admin.Status{}; g.door("/v1/status", &s); return ok(&s) })
	}
	ask := func(url string) string {
		out, err := w.try(w.gateway, "curl", "-sS", "--max-time", "20", "-x", "http://127.0.0.1:3128", url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		}
		return out
	}

	status("everything to be found down", func(s *admin.Status) bool {
		return s.Network.Watched && len(s.Reach) == 1 && s.Reach[0].Known && !s.Reach[0].Reachable && s.Pools[0].Members[0].State == "down" && s.Upstreams[1].State == "down" &&
			s.PACs[0].State == "loading"
	})
	if out := ask("http://home.test/"); !strings.Contains(out, "at home") {
		t.Errorf("without network: %s", out)
	}

	start := time.Now()
	w.in(w.gateway, "ip address add 192.0.2.1/24 dev to-s && ip link set to-s up")
	status("everything to be found up", func(s *admin.Status) bool {
		return s.Network.Changes > 0 && s.Reach[0].Reachable && s.Pools[0].Members[0].State == "healthy" && s.Upstreams[1].State == "up" && s.PACs[0].State == "fresh"
	})
	t.Logf("found up %v after the network", time.Since(start).Round(time.Millisecond))
	if out := ask("http://web.test/"); out != "hello from the server" {
		t.Errorf("with network: %s", out)
	}
	if out := ask("http://script.test/"); out != "hello from the server" {
		t.Errorf("with network, by the script: %s", out)
	}
	routes := map[string]bool{}
	g.await("the records", func() bool {
		for _, f := range g.flows() {
			if f.Server != nil {
				routes[f.Decision.Rule+" "+f.Server.Route] = true
			}
		}
		return routes["office corp"] && len(routes) > 1
	})

	w.in(w.gateway, "ip link set to-s down")
	status("the proxy to be out of reach", func(s *admin.Status) bool {
		return s.Network.Changes > 1 && !s.Reach[0].Reachable && s.Pools[0].Members[0].State == "down" && s.Upstreams[1].State == "down"
	})
	if out := ask("http://home.test/"); !strings.Contains(out, "at home") {
		t.Errorf("the network is gone: %s", out)
	}
	for _, text := range []string{"network: addresses or routes have changed", `new 192.0.2.1/24`, `gone 192.0.2.1/24`, "network: proxy.test:8080 can be reached", "health: upstream.watched is well again",
		"health: pool.checked: upstream.corp is well again"} {
		if !says(text) {
			t.Errorf("the log does not say %q", text)
		}
	}
}
