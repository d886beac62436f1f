package peers

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"viaduct/upstream/upstreamtest"
)

// DnsmasqOptions configures dnsmasq. It forwards nothing: names that it does
// not know do not exist.
type DnsmasqOptions struct {
	// Records are lines of its configuration, such as
	// "host-record=www.example,192.0.2.1,2001:db8::1,60" or
	// "cname=alias.example,www.example,20".
	Records []string
}

// Dnsmasq starts dnsmasq, a name server for UDP and TCP on one port.
func Dnsmasq(ctx context.Context, dir string, o DnsmasqOptions) (*Proc, error) {
	path, err := mustLook("dnsmasq")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "dnsmasq")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user=root\n" // it could not read its file otherwise, and has no need to be another
	}
	text := fmt.Sprintf("%sport=%s\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\nlocal=/example/\nlog-queries\nlog-facility=-\npid-file=\n%s\n",
		user, portOf(hold[0]), strings.Join(o.Records, "\n"))
	conf, err := write(own, "dnsmasq.conf", text, 0o644)
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	return begin(ctx, "dnsmasq", spec{path: path, args: []string{"--keep-in-foreground", "--conf-file=" + conf}, dir: own, addr: hold[0].Addr()}, hold...)
}

// UnboundOptions configures unbound. It recurses nowhere: names below its
// zones that it has no data for do not exist, others are refused.
type UnboundOptions struct {
	// Zones are names for which it answers alone.
	Zones []string
	// Data are records, such as "www.example. 60 IN A 192.0.2.1".
	Data []string
	// CA makes the certificate for TLS and HTTPS, for these names; empty means
	// 127.0.0.1.
	CA    *upstreamtest.CA
	Names []string
}

// UnboundProc is unbound, with its other ports.
type UnboundProc struct {
	*Proc
	tls, https string
}

// TLSAddr is the "host:port" of DNS over TLS.
func (u *UnboundProc) TLSAddr() string { return u.tls }

// HTTPSAddr is the "host:port" of DNS over HTTPS; its path is /dns-query.
func (u *UnboundProc) HTTPSAddr() string { return u.https }

// Unbound starts unbound, a name server for UDP, TCP, TLS and HTTPS.
func Unbound(ctx context.Context, dir string, o UnboundOptions) (*UnboundProc, error) {
	path, err := mustLook("unbound")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "unbound")
	if err != nil {
		return nil, err
	}
	if len(o.Names) == 0 {
		o.Names = []string{"127.0.0.1"}
	}
	cert, err := o.CA.Issue(o.Names, upstreamtest.CertOptions{})
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(own, "unbound", cert)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	hold, err := ports(3)
	if err != nil {
		return nil, err
	}
	release := func() {
		for _, h := range hold {
			h.Release()
		}
	}
	user := ""
	if os.Getuid() == 0 {
		user = "root"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  directory: %q\n  chroot: \"\"\n  username: %q\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  verbosity: 1\n  log-queries: yes\n  do-daemonize: no\n", own, user)
	b.WriteString("  num-threads: 1\n  module-config: \"iterator\"\n  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  local-zone: \".\" refuse\n")
	for _, h := range hold {
		fmt.Fprintf(&b, "  interface: 127.0.0.1@%s\n", portOf(h))
	}
	fmt.Fprintf(&b, "  tls-port: %s\n  https-port: %s\n  tls-service-pem: %q\n  tls-service-key: %q\n", portOf(hold[1]), portOf(hold[2]), certFile, keyFile)
	sort.Strings(o.Zones)
	for _, z := range o.Zones {
		fmt.Fprintf(&b, "  local-zone: %q static\n", z)
	}
	for _, d := range o.Data {
		fmt.Fprintf(&b, "  local-data: '%s'\n", d)
	}
	b.WriteString("remote-control:\n  control-enable: no\n")
	conf, err := write(own, "unbound.conf", b.String(), 0o644)
	if err != nil {
		release()
		return nil, err
	}
	p, err := begin(ctx, "unbound", spec{path: path, args: []string{"-d", "-p", "-c", conf}, dir: own, addr: hold[0].Addr()}, hold...)
	if err != nil {
		return nil, err
	}
	return &UnboundProc{Proc: p, tls: hold[1].Addr(), https: hold[2].Addr()}, nil
}
