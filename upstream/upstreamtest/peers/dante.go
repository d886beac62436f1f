package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// DanteOptions configures Dante. The zero value asks for no credentials.
type DanteOptions struct {
	// User and Password are required by RFC 1929 if User is not empty. Dante
	// checks them against the system's passwd and shadow files; it is lent
	// files that have this user besides, see Dante.
	User, Password string
	// Deny are addresses and names that are refused (reply 02).
	Deny []string
	// Hosts are names Dante resolves, by hosts file. It needs Namespaces.
	Hosts map[string]string
	// UDP lets clients associate.
	UDP bool
	// Quiet logs errors alone, for benchmarks.
	Quiet bool
}

// Dante starts danted, a SOCKS4 and SOCKS5 proxy, for targets on loopback.
//
// Its method "username" asks getpwnam and getspnam and nothing else. To leave
// the system's user database alone, danted runs in a mount namespace in which
// passwd and shadow are files of our own; an ordinary user gets one by way of a
// user namespace. Where neither is allowed (a confined container) and we are
// root, the user is added by useradd and removed again by Close; a name that
// exists already, another Dante's for instance, is then an error.
func Dante(ctx context.Context, dir string, o DanteOptions) (*Proc, error) {
	path, err := mustLook("danted")
	if err != nil {
		return nil, err
	}
	if err := plain(append([]string{o.User, o.Password}, o.Deny...)...); err != nil {
		return nil, err
	}
	own, err := place(dir, "dante")
	if err != nil {
		return nil, err
	}
	binds, err := bindHosts(own, o.Hosts)
	if err != nil {
		return nil, err
	}
	var clean []func()
	if o.User != "" {
		files, remove, err := danteUser(own, o.User, o.Password)
		if err != nil {
			return nil, err
		}
		binds, clean = append(binds, files...), remove
	}
	undo := func() {
		for _, f := range clean {
			f()
		}
	}
	hold, err := ports(1)
	if err != nil {
		undo()
		return nil, err
	}
	conf, err := write(own, "danted.conf", danteConfig(portOf(hold[0]), o, len(binds) > 0), 0o644)
	if err != nil {
		hold[0].Release()
		undo()
		return nil, err
	}
	p, err := begin(ctx, "danted", spec{
		path: path, dir: own, addr: hold[0].Addr(), binds: binds,
		args: []string{"-f", conf, "-p", filepath.Join(own, "danted.pid")},
	}, hold...)
	if err != nil {
		undo()
		return nil, err
	}
	p.clean = clean
	return p, nil
}

func danteConfig(port string, o DanteOptions, namespace bool) string {
	method, log := "none", "error connect"
	if o.User != "" {
		method = "username"
	}
	if o.Quiet {
		log = "error"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "logoutput: stderr\ninternal: 127.0.0.1 port = %s\nexternal: 127.0.0.1\n", port)
	fmt.Fprintf(&b, "clientmethod: none\nsocksmethod: %s\n", method)
	if os.Getuid() == 0 || namespace {
		// One user throughout: a user namespace has no other.
		b.WriteString("user.privileged: root\nuser.unprivileged: root\n")
	}
	fmt.Fprintf(&b, "client pass {\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n  log: %s\n}\n", log)
	for _, d := range o.Deny {
		fmt.Fprintf(&b, "socks block {\n  from: 127.0.0.0/8 to: %s\n  log: error connect\n}\n", d)
	}
	command := "connect"
	if o.UDP {
		command = "connect udpassociate udpreply"
	}
	fmt.Fprintf(&b, "socks pass {\n  from: 127.0.0.0/8 to: 127.0.0.0/8\n  command: %s\n  log: %s\n}\n", command, log)
	if o.UDP { // clients say 0.0.0.0 where they do not know their own address
		fmt.Fprintf(&b, "socks pass {\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n  command: udpassociate\n  log: %s\n}\n", log)
	}
	return b.String()
}

var userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

// danteUser makes user known to a program that is given the files, or else to
// the system, which remove undoes.
func danteUser(dir, user, password string) (files []bind, remove []func(), err error) {
	if !userName.MatchString(user) {
		return nil, nil, fmt.Errorf("peers: dante: %q is no name for a system user", user)
	}
	hash, err := crypt(password)
	if err != nil {
		return nil, nil, err
	}
	if !Namespaces() {
		if os.Getuid() != 0 {
			return nil, nil, fmt.Errorf("peers: dante: user/password needs root or user namespaces")
		}
		remove, err := addUser(user, hash)
		return nil, []func(){remove}, err
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, nil, fmt.Errorf("peers: %w", err)
	}
	line := user + ":x:60999:60999::/nonexistent:/usr/sbin/nologin\n"
	passwdFile, err := write(dir, "passwd", line+without(string(passwd), user), 0o644)
	if err != nil {
		return nil, nil, err
	}
	shadowFile, err := write(dir, "shadow", user+":"+hash+":19000:0:99999:7:::\n", 0o600)
	if err != nil {
		return nil, nil, err
	}
	return []bind{{passwdFile, "/etc/passwd"}, {shadowFile, "/etc/shadow"}}, nil, nil
}

// without drops the lines of user.
func without(passwd, user string) string {
	var b strings.Builder
	for line := range strings.Lines(passwd) {
		if !strings.HasPrefix(line, user+":") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// addUser adds a system user that cannot log in; it refuses to touch one that
// is there.
func addUser(user, hash string) (remove func(), err error) {
	useradd, err := mustLook("useradd")
	if err != nil {
		return nil, err
	}
	userdel, err := mustLook("userdel")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--password", hash, user)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("peers: useradd %s: %w: %s", user, err, out)
	}
	return func() { exec.Command(userdel, user).Run() }, nil
}
