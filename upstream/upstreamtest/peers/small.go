package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"viaduct/upstream/upstreamtest"
)

// TinyproxyOptions configures tinyproxy. The zero value asks for no credentials.
type TinyproxyOptions struct {
	// User and Password are required as Basic if User is not empty. tinyproxy's
	// configuration allows neither spaces nor quotes in them.
	User, Password string
	// Hosts are names it resolves, by hosts file. It needs Namespaces.
	Hosts map[string]string
	// Quiet logs errors alone, for benchmarks.
	Quiet bool
	// Upstream is a proxy that everything goes through: "http host:port" or
	// "socks5 host:port"; "" means none.
	Upstream string
}

// Tinyproxy starts tinyproxy. It connects to any port.
func Tinyproxy(ctx context.Context, dir string, o TinyproxyOptions) (*Proc, error) {
	path, err := mustLook("tinyproxy")
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(o.User+o.Password, " \t\"\r\n\x00") {
		return nil, fmt.Errorf("peers: tinyproxy takes no spaces or quotes in credentials")
	}
	if err := plain(o.Upstream); err != nil {
		return nil, err
	}
	own, err := place(dir, "tinyproxy")
	if err != nil {
		return nil, err
	}
	binds, err := bindHosts(own, o.Hosts)
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	level := "Connect"
	if o.Quiet {
		level = "Error"
	}
	text := fmt.Sprintf("Port %s\nListen 127.0.0.1\nTimeout 600\nMaxClients 20000\nAllow 127.0.0.0/8\nLogLevel %s\n", portOf(hold[0]), level)
	if o.User != "" {
		text += fmt.Sprintf("BasicAuth %s %s\n", o.User, o.Password)
	}
	if o.Upstream != "" {
		text += "Upstream " + o.Upstream + "\n"
	}
	conf, err := write(own, "tinyproxy.conf", text, 0o600)
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	return begin(ctx, "tinyproxy", spec{
		path: path, args: []string{"-d", "-c", conf}, dir: own, addr: hold[0].Addr(), binds: binds,
	}, hold...)
}

// MicrosocksOptions configures microsocks. The zero value asks for no credentials.
type MicrosocksOptions struct {
	// User and Password are required by RFC 1929 if User is not empty. They are
	// arguments, visible to ps.
	User, Password string
	// Hosts are names it resolves, by hosts file. It needs Namespaces.
	Hosts map[string]string
}

// Microsocks starts microsocks, SOCKS5 alone.
func Microsocks(ctx context.Context, dir string, o MicrosocksOptions) (*Proc, error) {
	path, err := mustLook("microsocks")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "microsocks")
	if err != nil {
		return nil, err
	}
	binds, err := bindHosts(own, o.Hosts)
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	args := []string{"-i", "127.0.0.1", "-p", portOf(hold[0])}
	if o.User != "" {
		args = append(args, "-u", o.User, "-P", o.Password)
	}
	return begin(ctx, "microsocks", spec{path: path, args: args, dir: own, addr: hold[0].Addr(), binds: binds}, hold...)
}

// HAProxyOptions configures haproxy.
type HAProxyOptions struct {
	// Backend is the "host:port" everything goes to.
	Backend string
	// HTTP uses mode http with keep-alive on both sides; otherwise mode tcp.
	HTTP bool
	// Send makes it say in front of each connection whose it is: "send-proxy" is version 1 of the PROXY protocol, "send-proxy-v2"
	// version 2; "" says nothing.
	Send string
	// Accept makes it await that of its clients, and tell the backend of it as X-Forwarded-For (with HTTP).
	Accept bool
}

// HAProxy starts haproxy in front of one backend, without a log.
func HAProxy(ctx context.Context, dir string, o HAProxyOptions) (*Proc, error) {
	path, err := mustLook("haproxy")
	if err != nil {
		return nil, err
	}
	if err := plain(o.Backend, o.Send); err != nil {
		return nil, err
	}
	own, err := place(dir, "haproxy")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	mode := "tcp"
	if o.HTTP {
		mode = "http\n  option http-keep-alive\n  http-reuse always"
	}
	accept := ""
	if o.Accept {
		accept = " accept-proxy"
		mode += "\n  option forwardfor"
	}
	text := fmt.Sprintf(`global
  maxconn 8000
defaults
  mode %s
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind %s%s
  server origin %s %s
`, mode, hold[0].Addr(), accept, o.Backend, o.Send)
	conf, err := write(own, "haproxy.cfg", text, 0o644)
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	return begin(ctx, "haproxy", spec{path: path, args: []string{"-db", "-f", conf}, dir: own, addr: hold[0].Addr()}, hold...)
}

// StunnelOptions configures stunnel.
type StunnelOptions struct {
	// Backend is the plain "host:port" behind it, a proxy for instance.
	Backend string
	// CA issues its certificate, for "localhost" and 127.0.0.1.
	CA *upstreamtest.CA
	// ClientCA, if set, makes it require a client certificate of that authority.
	ClientCA *upstreamtest.CA
}

// Stunnel starts stunnel, which puts TLS in front of a backend.
func Stunnel(ctx context.Context, dir string, o StunnelOptions) (*Proc, error) {
	path, err := mustLook("stunnel")
	if err != nil {
		return nil, err
	}
	if err := plain(o.Backend); err != nil {
		return nil, err
	}
	own, err := place(dir, "stunnel")
	if err != nil {
		return nil, err
	}
	cert, err := o.CA.Issue([]string{"localhost", "127.0.0.1"}, upstreamtest.CertOptions{})
	if err != nil {
		return nil, err
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(own, "stunnel", cert)
	if err != nil {
		return nil, err
	}
	text := "foreground = yes\npid =\n[tls]\n"
	if o.ClientCA != nil {
		file := filepath.Join(own, "client-ca.crt")
		if err := os.WriteFile(file, o.ClientCA.PEM(), 0o644); err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		text += "verifyChain = yes\nCAfile = " + file + "\n"
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	text += fmt.Sprintf("accept = %s\nconnect = %s\ncert = %s\nkey = %s\n", hold[0].Addr(), o.Backend, certFile, keyFile)
	conf, err := write(own, "stunnel.conf", text, 0o644)
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	return begin(ctx, "stunnel", spec{path: path, args: []string{conf}, dir: own, addr: hold[0].Addr()}, hold...)
}

// NghttpxOptions configures nghttpx.
type NghttpxOptions struct {
	// Backend is the "host:port" of an HTTP/1.1 proxy that it hands everything to.
	Backend string
	// CA issues its certificate, for "localhost" and 127.0.0.1.
	CA *upstreamtest.CA
}

// Nghttpx starts nghttpx as a forward proxy with TLS in front, which takes h2.
func Nghttpx(ctx context.Context, dir string, o NghttpxOptions) (*Proc, error) {
	path, err := mustLook("nghttpx")
	if err != nil {
		return nil, err
	}
	if err := plain(o.Backend); err != nil {
		return nil, err
	}
	host, port, ok := strings.Cut(o.Backend, ":")
	if !ok {
		return nil, fmt.Errorf("peers: %q is no host:port", o.Backend)
	}
	own, err := place(dir, "nghttpx")
	if err != nil {
		return nil, err
	}
	cert, err := o.CA.Issue([]string{"localhost", "127.0.0.1"}, upstreamtest.CertOptions{})
	if err != nil {
		return nil, err
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(own, "nghttpx", cert)
	if err != nil {
		return nil, err
	}
	conf, err := write(own, "nghttpx.conf", "workers=1\n", 0o644)
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	return begin(ctx, "nghttpx", spec{path: path, args: []string{
		"--conf=" + conf, "--http2-proxy", "--frontend=127.0.0.1," + portOf(hold[0]), "--backend=" + host + "," + port,
		"--log-level=NOTICE", "--accesslog-file=/dev/null", keyFile, certFile,
	}, dir: own, addr: hold[0].Addr()}, hold...)
}
