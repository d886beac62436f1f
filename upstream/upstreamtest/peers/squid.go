package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"viaduct/upstream/upstreamtest"
)

// SquidOptions configures Squid. The zero value takes plain HTTP from anyone
// on loopback and connects to any port there.
type SquidOptions struct {
	// User and Password are required as Basic, checked by basic_ncsa_auth, if
	// User is not empty. The program openssl makes the hash.
	User, Password string
	// Schemes are what is offered, in this order: "basic"; "digest", which is
	// checked by digest_file_auth; "ntlm", which is checked by Samba;
	// "negotiate", which is checked by negotiate_kerberos_auth. None is "basic"
	// alone.
	Schemes []string
	// Samba keeps the accounts for "ntlm".
	Samba *Samba
	// Keytab is the file with the key of Service, for "negotiate"; KDC its
	// krb5.conf.
	Keytab, Service, KDC string
	// NonceUses is how often a nonce of Digest may be used; 0 is Squid's 50.
	NonceUses int
	// CA, if set, makes the port an https_port with a certificate for
	// "localhost" and 127.0.0.1. It needs a squid with TLS ("squid-openssl").
	CA *upstreamtest.CA
	// Deny are names and addresses that are answered with 403.
	Deny []string
	// Hosts are names Squid resolves, by hosts file, beside the system's DNS,
	// which is never asked.
	Hosts map[string]string
	// NoAccessLog leaves the access log out, for benchmarks.
	NoAccessLog bool
	// Bump, if set, makes Squid open every CONNECT tunnel (ssl_bump), with certificates signed by this authority. It needs
	// "squid-openssl".
	Bump *upstreamtest.CA
	// Roots is a file of the certificates that servers of opened tunnels are verified by; "" means the system's.
	Roots string
	// Parent is the "host:port" of an HTTP proxy that everything goes through.
	Parent string
}

// Squid starts Squid without a cache. Targets outside loopback are refused.
func Squid(ctx context.Context, dir string, o SquidOptions) (*Proc, error) {
	path, err := mustLook("squid")
	if err != nil {
		return nil, err
	}
	if err := plain(append([]string{o.User, o.Password, o.Parent}, o.Deny...)...); err != nil {
		return nil, err
	}
	own, err := place(dir, "squid")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	text, err := squidConfig(own, hold[0].Addr(), o)
	if err == nil {
		_, err = write(own, "squid.conf", text, 0o644)
	}
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	// Squids of one service name share memory segments in /dev/shm, and one that
	// was killed leaves them to fail the next.
	var binds []bind
	if o.Samba != nil {
		binds = o.Samba.binds
	}
	service := fmt.Sprintf("viaduct%dp%s", os.Getpid(), portOf(hold[0]))
	return begin(ctx, "squid", spec{
		path: path, dir: own, addr: hold[0].Addr(),
		args:  []string{"-N", "-n", service, "-d", "1", "-f", filepath.Join(own, "squid.conf")},
		logs:  []string{filepath.Join(own, "var", "access.log")},
		binds: binds, env: o.env(),
		litter: "/dev/shm/" + service + "-*",
	}, hold...)
}

func squidConfig(dir, addr string, o SquidOptions) (string, error) {
	hosts, err := hostsFile(dir, o.Hosts)
	if err != nil {
		return "", err
	}
	// Squid gives up root before it opens its logs.
	state := filepath.Join(dir, "var")
	if err := os.Mkdir(state, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(state, 0o777); err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if o.Bump != nil {
		err = squidBump(line, dir, addr, o)
	} else {
		err = squidPort(line, dir, addr, o.CA)
	}
	if err != nil {
		return "", err
	}
	line("visible_hostname squid.test")
	line("pid_filename none")
	line("cache_log /dev/null") // -d sends the same to stderr
	line("cache_store_log none")
	if o.NoAccessLog {
		line("access_log none")
	} else {
		line("access_log stdio:%s/access.log", state)
		line("buffered_logs off")
	}
	line("netdb_filename none")
	line("coredump_dir %s", state)
	line("cache deny all")
	line("cache_mem 0 MB")
	line("memory_pools off")
	line("pinger_enable off")
	line("shutdown_lifetime 0 seconds")
	line("max_filedescriptors 16384") // squid sizes its tables by it
	line("dns_nameservers 127.0.0.1")
	line("dns_timeout 1 second")
	line("hosts_file %s", hosts)
	if o.authenticates() {
		if err := squidAuth(line, dir, o); err != nil {
			return "", err
		}
	}
	if o.Parent != "" {
		host, port, err := net.SplitHostPort(o.Parent)
		if err != nil {
			return "", fmt.Errorf("peers: squid: parent: %w", err)
		}
		line("cache_peer %s parent %s 0 no-query no-digest no-netdb-exchange default", host, port)
		line("never_direct allow all")
	}
	line("acl loopback dst 127.0.0.0/8 ::1/128")
	for i, d := range o.Deny {
		kind := "dstdomain -n" // no reverse lookup of addresses
		if net.ParseIP(d) != nil {
			kind = "dst"
		}
		line("acl denied%d %s %s", i, kind, d)
		line("http_access deny denied%d", i)
	}
	line("http_access deny !loopback")
	if o.authenticates() {
		line("http_access allow known")
	} else {
		line("http_access allow all")
	}
	line("http_access deny all")
	return b.String(), nil
}

func (o *SquidOptions) env() []string {
	if o.KDC == "" {
		return nil
	}
	return []string{"KRB5_CONFIG=" + o.KDC, "KRB5_KTNAME=" + o.Keytab}
}

func (o *SquidOptions) authenticates() bool { return o.User != "" || len(o.Schemes) > 0 }

func squidPort(line func(string, ...any), dir, addr string, ca *upstreamtest.CA) error {
	if ca == nil {
		line("http_port %s", addr)
		return nil
	}
	cert, err := ca.Issue([]string{"localhost", "127.0.0.1"}, upstreamtest.CertOptions{})
	if err != nil {
		return err
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(dir, "squid", cert)
	if err != nil {
		return err
	}
	line("https_port %s tls-cert=%s tls-key=%s", addr, certFile, keyFile)
	return nil
}

// squidBump makes a port that opens tunnels. The helper that signs keeps its certificates in a directory of its own.
func squidBump(line func(string, ...any), dir, addr string, o SquidOptions) error {
	helper, err := mustLook("security_file_certgen")
	if err != nil {
		return err
	}
	certFile, keyFile, err := upstreamtest.WriteFiles(dir, "bump", o.Bump.Certificate())
	if err != nil {
		return err
	}
	db := filepath.Join(dir, "ssl_db")
	if out, err := exec.Command(helper, "-c", "-s", db, "-M", "4MB").CombinedOutput(); err != nil {
		return fmt.Errorf("peers: squid: %s: %w\n%s", helper, err, out)
	}
	if err := openUp(db); err != nil {
		return err
	}
	line("http_port %s ssl-bump tls-cert=%s tls-key=%s generate-host-certificates=on dynamic_cert_mem_cache_size=4MB", addr, certFile, keyFile)
	line("sslcrtd_program %s -s %s -M 4MB", helper, db)
	line("sslcrtd_children 1 startup=1 idle=1")
	line("acl hello at_step SslBump1")
	line("ssl_bump peek hello")
	line("ssl_bump bump all")
	if o.Roots != "" {
		line("tls_outgoing_options cafile=%s", o.Roots)
	}
	return nil
}

// openUp lets Squid, which gives up root, write below dir.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o666)
		if d.IsDir() {
			mode = 0o777
		}
		return os.Chmod(path, mode)
	})
}

func squidAuth(line func(string, ...any), dir string, o SquidOptions) error {
	schemes := o.Schemes
	if len(schemes) == 0 {
		schemes = []string{"basic"}
	}
	for _, s := range schemes {
		var err error
		switch s {
		case "basic":
			err = squidBasic(line, dir, o)
		case "digest":
			err = squidDigest(line, dir, o)
		case "negotiate":
			err = squidNegotiate(line, o)
		case "ntlm":
			err = squidNTLM(line, o)
		default:
			err = fmt.Errorf("peers: squid: no scheme %q", s)
		}
		if err != nil {
			return err
		}
	}
	line("acl known proxy_auth REQUIRED")
	return nil
}

func squidNegotiate(line func(string, ...any), o SquidOptions) error {
	helper, err := mustLook("negotiate_kerberos_auth")
	if err != nil {
		return err
	}
	line("auth_param negotiate program %s -k %s -s %s -r -t none", helper, o.Keytab, o.Service)
	line("auth_param negotiate children 10 startup=1 idle=1")
	line("auth_param negotiate keep_alive on")
	return nil
}

func squidNTLM(line func(string, ...any), o SquidOptions) error {
	helper, err := mustLook("ntlm_auth")
	if err != nil {
		return err
	}
	if o.Samba == nil {
		return fmt.Errorf("peers: squid: ntlm without Samba")
	}
	line("auth_param ntlm program %s --configfile=%s --helper-protocol=squid-2.5-ntlmssp", helper, o.Samba.conf)
	line("auth_param ntlm children 20 startup=2 idle=2")
	line("auth_param ntlm keep_alive on")
	return nil
}

func squidDigest(line func(string, ...any), dir string, o SquidOptions) error {
	helper, err := mustLook("digest_file_auth")
	if err != nil {
		return err
	}
	file, err := write(dir, "digest", o.User+":"+o.Password+"\n", 0o644)
	if err != nil {
		return err
	}
	line("auth_param digest program %s %s", helper, file)
	line("auth_param digest children 1 startup=1 idle=1")
	line("auth_param digest realm squid.test")
	if o.NonceUses > 0 {
		line("auth_param digest nonce_max_count %d", o.NonceUses)
	}
	return nil
}

func squidBasic(line func(string, ...any), dir string, o SquidOptions) error {
	helper, err := mustLook("basic_ncsa_auth")
	if err != nil {
		return err
	}
	hash, err := crypt(o.Password)
	if err != nil {
		return err
	}
	file, err := write(dir, "htpasswd", o.User+":"+hash+"\n", 0o644) // read by the helper, not as root
	if err != nil {
		return err
	}
	line("auth_param basic program %s %s", helper, file)
	line("auth_param basic children 1 startup=1 idle=1")
	line("auth_param basic realm squid.test")
	return nil
}
