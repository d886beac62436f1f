package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

const transparentPolicy = `
variable "records" {}
variable "ca" {}

gateway {
  records { path = var.records }
  ca { path = "ca" }
  %[2]s
}
listener "web" {
  address   = ":3129"
  protocols = ["%[1]s"]
  clients   = ["10.20.0.0/16", "fd00:20::/32", "127.0.0.0/8", "192.0.2.0/24"]
}
policy "default" {
  rule "bad by name" {
    match { host = "bad.test" }
    deny { reason = "not this one" }
  }
  rule "good by name" {
    match { host = ["good.test", "*.good.test"] }
    verify_name = true
    via         = direct
  }
  rule "opened" {
    match {
      host = "opened.test"
      port = 443
    }
    verify_name = true
    via         = direct
    tls {
      mode = "intercept"
      ca   = var.ca
    }
  }
  rule "named, wherever it is" {
    match { host = "moved.test" }
    send_name = true
    via       = direct
  }
  rule "nameless by address" {
    match {
      address = ["192.0.2.11", "2001:db8::11"]
      port    = [80, 443]
    }
    via = direct
  }
  otherwise {
    deny { reason = "not by this address" }
  }
}
`

// transparent is a gateway on the middle machine of a landscape.
type transparent struct {
	*landscape
	g       *gateway
	ca      string // of the servers
	trusted string // by clients: that, and the gateway's
}

// startTransparent runs the gateway, with a ruleset of the example, and servers that say which of them they are.
func startTransparent(t *testing.T, protocol, gatewayBlock string, user string) *transparent {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	w := newLandscape(t, map[string]string{
		"good.test": server4 + " " + server6, "www.good.test": server4, "moved.test": other4, "bad.test": server4, "opened.test": other4 + " " + other6,
	})
	dir, err := os.MkdirTemp("", "vt-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	x := &transparent{landscape: w, g: &gateway{t: t, dir: dir, records: filepath.Join(dir, "records.ndjson"), log: filepath.Join(dir, "log")}}
	x.servers(t, dir)
	policy := fmt.Sprintf(transparentPolicy, protocol, gatewayBlock)
	if err := os.WriteFile(filepath.Join(dir, "viaduct.hcl"), []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	x.authority(path, dir, user)
	x.ruleset(protocol, user)
	logFile, err := os.Create(x.g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	args := []string{"netns", "exec", w.gateway, "setpriv", "--reuid", user, "--clear-groups"}
	if protocol == "tproxy" {
		args = append(args, "--inh-caps", "+net_admin", "--ambient-caps", "+net_admin")
	}
	args = append(args, path, "run", "viaduct.hcl", "--var", "records="+x.g.records, "--var", "ca="+x.ca)
	cmd := exec.Command("ip", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, logFile, logFile
	cmd.Env = append(cleanEnv(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.g.cmd = cmd
	t.Cleanup(x.g.stop)
	x.g.await("the gateway to run", func() bool {
		b, _ := os.ReadFile(x.g.log)
		return strings.Contains(string(b), "viaduct runs")
	})
	return x
}

// authority makes what signs for the servers whose connections are opened, and has clients trust it.
func (x *transparent) authority(path, dir, user string) {
	x.t.Helper()
	at := filepath.Join(dir, "ca")
	if out, err := exec.Command(path, "ca", "init", "--dir", at).CombinedOutput(); err != nil {
		x.t.Fatalf("%v: %s", err, out)
	}
	x.in(x.gateway, "chown -R "+user+" "+at)
	certs, err := filepath.Glob(filepath.Join(at, "*.pem"))
	if err != nil {
		x.t.Fatal(err)
	}
	x.trusted = filepath.Join(dir, "trusted.pem")
	for _, file := range append(certs, x.ca) {
		b, err := os.ReadFile(file)
		if err != nil {
			x.t.Fatal(err)
		}
		if bytes.Contains(b, []byte("PRIVATE KEY")) {
			continue
		}
		f, err := os.OpenFile(x.trusted, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.Write(b)
			f.Close()
		}
		if err != nil {
			x.t.Fatal(err)
		}
	}
}

// ruleset loads the example's, with the user that the gateway runs as.
func (x *transparent) ruleset(protocol, user string) {
	x.t.Helper()
	src, err := os.ReadFile("../../examples/transparent/" + protocol + ".nft")
	if err != nil {
		x.t.Fatal(err)
	}
	text := strings.Replace(string(src), "define gateway = viaduct", "define gateway = "+user, 1)
	file := filepath.Join(x.g.dir, "rules.nft")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		x.t.Fatal(err)
	}
	x.in(x.gateway, "nft -f "+file)
	if protocol == "tproxy" {
		routes, err := filepath.Abs("../../examples/transparent/tproxy-routes.sh")
		if err != nil {
			x.t.Fatal(err)
		}
		x.in(x.gateway, routes)
		x.in(x.gateway, routes) // twice does no harm
	}
}

// servers starts HTTP and TLS servers on every address of the servers' machine.
func (x *transparent) servers(t *testing.T, dir string) {
	t.Helper()
	ca := upstreamtest.MustCA(t)
	var err error
	if x.ca, err = ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	os.Chmod(x.ca, 0o644)
	config := ca.ServerTLS(t, "good.test", "www.good.test", "moved.test", "bad.test", "other.test", "opened.test", server4, other4, server6, other6)
	for _, ip := range []string{server4, other4, server6, other6} {
		for _, port := range []string{"80", "443"} {
			ln := x.listen(x.server, net.JoinHostPort(ip, port))
			if port == "443" {
				ln = tls.NewListener(ln, config)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				host, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
				fmt.Fprintf(w, "%s host=%s from=%s\n", host, r.Host, r.RemoteAddr)
			}), ErrorLog: log.New(io.Discard, "", 0)}
			go srv.Serve(ln)
			t.Cleanup(func() { srv.Close() })
		}
		talk := x.listen(x.server, net.JoinHostPort(ip, "25"))
		go func() {
			for {
				c, err := talk.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "220 ready\r\n")
				c.Close()
			}
		}()
	}
}

// curl asks from the client's machine; the name has that address there.
func (x *transparent) curl(url, address string) (string, error) {
	name := strings.Split(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), "/")[0]
	port := "80"
	if strings.HasPrefix(url, "https:") {
		port = "443"
	}
	out, err := exec.Command("ip", "netns", "exec", x.client, "curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", x.trusted,
		"--resolve", name+":"+port+":"+address, url).CombinedOutput()
	return string(out), err
}

// TestTransparent: curl on a machine that knows no proxy, nftables with the rulesets of the example, servers behind the gateway.
func TestTransparent(t *testing.T) {
	for _, protocol := range []string{"redirect", "tproxy"} {
		t.Run(protocol, func(t *testing.T) {
			block, user := "", "65534"
			if protocol == "tproxy" {
				block = "direct {\n    mark = 2\n  }"
			}
			x := startTransparent(t, protocol, block, user)
			n := 0
			next := func() *connmodel.Flow {
				n++
				x.g.await(fmt.Sprintf("record %d", n), func() bool { return len(x.g.flows()) >= n })
				f := x.g.flows()[n-1]
				if string(f.Protocol) != protocol {
					t.Errorf("protocol %s", f.Protocol)
				}
				return f
			}
			for _, tt := range []struct {
				name, url, address string
				want               string // at the beginning of what comes; "" = nothing does
				rule, kind, says   string
			}{
				{"TLS by name", "https://good.test/", server4, server4 + " host=good.test", "good by name", "", ""},
				{"TLS by name below", "https://www.good.test/", server4, server4, "good by name", "", ""},
				{"TLS by name, IPv6", "https://good.test/", server6, server6, "good by name", "", ""},
				{"HTTP by name", "http://good.test/", server4, server4 + " host=good.test", "good by name", "", ""},
				{"HTTP by name, IPv6", "http://good.test/", server6, server6, "good by name", "", ""},
				{"by address", "https://" + other4 + "/", other4, other4, "nameless by address", "", ""},
				{"a name that says nothing, by address", "https://other.test/", other6, other6, "nameless by address", "", ""},
				{"the name's own address", "https://moved.test/", server4, other4 + " host=moved.test", "named, wherever it is", "", ""},
				{"denied by SNI", "https://bad.test/", server4, "", "bad by name", "denied", "not this one"},
				{"denied by Host", "http://bad.test/", server4, "Viaduct refused", "bad by name", "denied", "not this one"},
				{"a spoofed SNI", "https://good.test/", other4, "", "good by name", "denied", "which is not an address of that name"},
				{"a spoofed Host", "http://good.test/", other4, "Viaduct refused", "good by name", "denied", "which is not an address of that name"},
				{"a name that nobody knows", "https://nosuch.good.test/", server4, "", "good by name", "dns", "could not be held against"},
				{"another address", "https://" + server4 + "/", server4, "", "otherwise", "denied", "not by this address"},
			} {
				t.Run(tt.name, func(t *testing.T) {
					out, err := x.curl(tt.url, tt.address)
					if tt.want == "" && err == nil || !strings.HasPrefix(out, tt.want) {
						t.Errorf("%v: %s", err, out)
					}
					f := next()
					host := tt.address
					if f.Request != nil && tt.kind == "" { // a flow of its own, in that of the connection
						name := strings.TrimSuffix(strings.TrimPrefix(tt.url, "http://"), "/")
						if f.Target.Host != name || f.Request.Tunnel.IsZero() || f.Server.Address.Host != tt.address || f.Response == nil || f.Response.Status != 200 {
							t.Errorf("request %+v to %s by way of %+v", f.Request, f.Target, f.Server)
						}
						tunnel := next()
						if f.Request.Tunnel != tunnel.ID {
							t.Errorf("the request is in %s, the connection is %s", f.Request.Tunnel, tunnel.ID)
						}
						f = tunnel
					}
					if f.Decision == nil || f.Decision.Rule != tt.rule {
						t.Errorf("decision %+v", f.Decision)
					}
					if e := f.Error; e != nil && e.Side == connmodel.SideClient && e.Kind == connmodel.KindReset {
						f.Error = nil // curl does not wait for the end of TLS
					}
					if tt.kind == "" && f.Error != nil || tt.kind != "" && (f.Error == nil || string(f.Error.Kind) != tt.kind || !strings.Contains(f.Error.Message, tt.says)) {
						t.Errorf("error %v", f.Error)
					}
					port := uint16(443)
					if strings.HasPrefix(tt.url, "http:") {
						port = 80
					}
					if f.Target != (connmodel.Address{Host: host, Port: port}) {
						t.Errorf("target %s", f.Target)
					}
					if ip := f.Client.Peer.Addr().String(); ip != client4 && ip != client6 {
						t.Errorf("client %s", ip)
					}
				})
			}
			t.Run("each request of a connection is decided by itself", func(t *testing.T) {
				out, err := x.try(x.client, "curl", "-sS", "--max-time", "20", "--noproxy", "*", "--resolve", "good.test:80:"+server4,
					"-w", "connects=%{num_connects} status=%{http_code}\n", "http://good.test/1",
					"--next", "-sS", "-w", "connects=%{num_connects} status=%{http_code}\n", "-H", "Host: bad.test", "http://good.test/2",
					"--next", "-sS", "-w", "connects=%{num_connects} status=%{http_code}\n", "-H", "Host: moved.test", "http://good.test/3",
					"--next", "-sS", "-w", "connects=%{num_connects} status=%{http_code}\n", "-H", "Host: nosuch.good.test", "http://good.test/4")
				if err != nil || !strings.Contains(out, "connects=1 status=200") || strings.Count(out, "connects=0 ") != 3 ||
					!strings.Contains(out, "not this one") || !strings.Contains(out, other4+" host=moved.test") || !strings.Contains(out, "nosuch.good.test") {
					t.Errorf("%v: %s", err, out)
				}
				for range 5 {
					next()
				}
			})
			for _, to := range []string{other4, other6} {
				t.Run("opened, "+to, func(t *testing.T) {
					out, err := x.curl("https://opened.test/", to)
					if err != nil || !strings.HasPrefix(out, to+" host=opened.test") {
						t.Errorf("%v: %s", err, out)
					}
					f := next()
					if f.Request == nil || f.Request.Scheme != "https" || f.Server.Address != (connmodel.Address{Host: to, Port: 443}) || f.Server.TLSInfo == nil || f.Server.TLSInfo.VerifiedName != "opened.test" {
						t.Errorf("request %+v, server %+v", f.Request, f.Server)
					}
					next()
				})
			}
			t.Run("opened, with a spoofed name", func(t *testing.T) {
				if out, err := x.curl("https://opened.test/", server4); err == nil {
					t.Errorf("answered: %s", out)
				}
				if f := next(); f.Error == nil || f.Error.Kind != connmodel.KindDenied || f.Server != nil {
					t.Errorf("%+v", f.Error)
				}
			})
			t.Run("made to the listener itself", func(t *testing.T) {
				out, err := x.try(x.client, "curl", "-sS", "--max-time", "20", "--noproxy", "*", "http://"+gateway4+":3129/")
				if err == nil {
					t.Errorf("answered: %s", out)
				}
				if f := next(); f.Error == nil || f.Error.Kind != connmodel.KindDenied || f.Decision != nil || f.Reply != nil {
					t.Errorf("%+v", f.Error)
				}
			})
		})
	}
}

// TestTransparentLoop: the gateway's own connections that its firewall sends back to it are recognised, and end.
func TestTransparentLoop(t *testing.T) {
	x := startTransparent(t, "redirect", "", "65534")
	// The rules that let the gateway's own connections pass are taken away.
	x.in(x.gateway, "nft flush chain inet viaduct output && nft add rule inet viaduct output tcp dport 80 redirect to :3129")
	out, err := x.curl("http://"+other4+"/", other4) // it gets a page of ours, or a reset
	if strings.HasPrefix(out, other4) {
		t.Errorf("answered: %v, %s", err, out)
	}
	x.g.await("the loop to be refused", func() bool {
		for _, f := range x.g.flows() {
			if f.Error != nil && strings.Contains(f.Error.Message, "came back to us") {
				return true
			}
		}
		return false
	})
	time.Sleep(300 * time.Millisecond) // a loop would go on meanwhile
	if n := len(x.g.flows()); n > 50 {
		t.Errorf("%d flows for one request", n)
	}
	// And with the rules nothing of that is left: programs of the gateway itself are served too.
	x.ruleset("redirect", "65534")
	out, err = x.try(x.gateway, "curl", "-sS", "--max-time", "20", "--noproxy", "*", "http://"+other4+"/")
	if err != nil || !strings.HasPrefix(out, other4) {
		t.Errorf("%v: %s", err, out)
	}
}
