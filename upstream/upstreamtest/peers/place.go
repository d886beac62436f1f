package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"viaduct/upstream/upstreamtest"
)

// place makes a directory for one program below dir, one that a daemon which
// gives up root can still enter.
func place(dir, name string) (string, error) {
	own, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	if own, err = filepath.Abs(own); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	if err := os.Chmod(own, 0o755); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	if os.Getuid() == 0 {
		openWay(own)
	}
	return own, nil
}

// openWay lets others pass through, not list, the directories between dir and
// the system's temporary directory: those of tests are 0700.
func openWay(dir string) {
	top := filepath.Clean(os.TempDir())
	if !strings.HasPrefix(dir, top+"/") {
		return
	}
	for d := filepath.Dir(dir); d != top; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && st.Mode()&0o001 == 0 {
			os.Chmod(d, st.Mode().Perm()|0o011)
		}
	}
}

// ports reserves n loopback ports.
func ports(n int) ([]*upstreamtest.Reservation, error) {
	var rs []*upstreamtest.Reservation
	for range n {
		r, err := upstreamtest.Reserve("127.0.0.1:0")
		if err != nil {
			for _, r := range rs {
				r.Release()
			}
			return nil, fmt.Errorf("peers: %w", err)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

func portOf(r *upstreamtest.Reservation) string {
	_, port, _ := net.SplitHostPort(r.Addr())
	return port
}

func write(dir, name, text string, mode os.FileMode) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	return path, nil
}

// bind is a file that the program sees in place of one of the system's.
type bind struct{ file, over string }

// wrap makes a command that mounts binds in a namespace of its own and then
// becomes the program. Root needs a mount namespace; an ordinary user gets it
// in a user namespace, where it is root over nothing but itself.
func wrap(attr *syscall.SysProcAttr, binds []bind, path string, args []string) (string, []string) {
	if os.Getuid() == 0 {
		attr.Unshareflags = syscall.CLONE_NEWNS // Go makes its mounts private
	} else {
		attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	const script = `while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"`
	a := []string{"-c", script, "sh"}
	for _, b := range binds {
		a = append(a, b.file, b.over)
	}
	a = append(append(a, "--", path), args...)
	return "/bin/sh", a
}

// Namespaces reports whether programs can be lent files in a mount namespace
// of their own. A container may forbid it even to root; then Hosts works with
// Squid alone, and Dante's user becomes one of the system for the time being.
func Namespaces() bool {
	attr := new(syscall.SysProcAttr)
	path, args := wrap(attr, []bind{{"/etc/hosts", "/etc/hosts"}}, "true", nil)
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = attr
	return cmd.Run() == nil
}

// hostsFile writes names in the form of hosts(5).
func hostsFile(dir string, hosts map[string]string) (string, error) {
	names := make([]string, 0, len(hosts))
	for n := range hosts {
		names = append(names, n)
	}
	sort.Strings(names)
	text := "127.0.0.1 localhost\n"
	for _, n := range names {
		text += hosts[n] + " " + n + "\n"
	}
	return write(dir, "hosts", text, 0o644)
}

// bindHosts lends the program a hosts file; none if hosts is empty.
func bindHosts(dir string, hosts map[string]string) ([]bind, error) {
	if len(hosts) == 0 {
		return nil, nil
	}
	if !Namespaces() {
		return nil, errors.New("peers: Hosts needs a mount namespace, which is not allowed here")
	}
	file, err := hostsFile(dir, hosts)
	if err != nil {
		return nil, err
	}
	return []bind{{file, "/etc/hosts"}}, nil
}

// crypt hashes a password for a passwd file (SHA-512 crypt). The password goes
// by stdin, out of sight of ps.
func crypt(password string) (string, error) {
	path, err := mustLook("openssl")
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("peers: openssl passwd: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// plain refuses what would break out of a line of a configuration.
func plain(values ...string) error {
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n\x00") {
			return fmt.Errorf("peers: a value holds a line end or NUL")
		}
	}
	return nil
}
