package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Samba is a winbindd that keeps the accounts of a standalone server, for
// Squid's NTLM helper: no domain is needed. It lives in directories of its own
// and, for the one place that its clients look at whatever they are told, in a
// mount namespace.
type Samba struct {
	dir, conf string
	binds     []bind
	cmd       *exec.Cmd
	done      chan struct{}
}

// SambaDomain is the name of the server, which stands where a domain would.
const SambaDomain = "VIATEST"

// SambaNeeds are the programs that Samba and Squid's helper for it want.
var SambaNeeds = []string{"winbindd", "ntlm_auth", "pdbedit", "wbinfo"}

// NewSamba starts winbindd with one account that takes NTLMv2 alone and counts
// wrong passwords, without ever being locked by them. It needs root.
func NewSamba(ctx context.Context, dir, user, password string) (*Samba, error) {
	if os.Getuid() != 0 || !Namespaces() {
		return nil, errors.New("peers: samba needs root and a mount namespace")
	}
	if !userName.MatchString(user) {
		return nil, fmt.Errorf("peers: samba: %q is no name for a system user", user)
	}
	own, err := place(dir, "samba")
	if err != nil {
		return nil, err
	}
	s := &Samba{dir: own}
	for _, d := range []string{"private", "state", "cache", "lock", "pid", "ncalrpc", "log", "run", "run/winbindd"} {
		if err := os.Mkdir(filepath.Join(own, d), 0o755); err != nil {
			return nil, err
		}
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	line := user + ":x:60998:60998::/nonexistent:/usr/sbin/nologin\n"
	file, err := write(own, "passwd", line+without(string(passwd), user), 0o644)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/samba", 0o755); err != nil { // what is mounted over
		return nil, err
	}
	s.binds = []bind{{filepath.Join(own, "run"), "/run/samba"}, {file, "/etc/passwd"}}
	s.conf, err = write(own, "smb.conf", sambaConfig(own), 0o644)
	if err != nil {
		return nil, err
	}
	if err := s.run(ctx, password+"\n"+password+"\n", "pdbedit", "-s", s.conf, "-a", "-t", "-u", user); err != nil {
		return nil, err
	}
	if err := s.run(ctx, "", "pdbedit", "-s", s.conf, "-P", "bad lockout attempt", "-C", "1000"); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

func sambaConfig(dir string) string {
	return fmt.Sprintf(`[global]
workgroup = %s
netbios name = %[1]s
server role = standalone server
security = user
passdb backend = tdbsam:%[2]s/private/passdb.tdb
private dir = %[2]s/private
state directory = %[2]s/state
cache directory = %[2]s/cache
lock directory = %[2]s/lock
pid directory = %[2]s/pid
ncalrpc dir = %[2]s/ncalrpc
log file = %[2]s/log/%%m.log
ntlm auth = ntlmv2-only
interfaces = lo
bind interfaces only = yes
load printers = no
disable spoolss = yes
`, SambaDomain, dir)
}

// command makes a command that sees the server.
func (s *Samba) command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := mustLook(name)
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	path, args = wrap(attr, s.binds, path, args)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, attr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd, nil
}

func (s *Samba) run(ctx context.Context, stdin, name string, args ...string) error {
	cmd, err := s.command(ctx, name, args...)
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("peers: %s: %w: %s", name, err, out)
	}
	return nil
}

func (s *Samba) start(ctx context.Context) error {
	cmd, err := s.command(context.WithoutCancel(ctx), "winbindd", "-F", "--no-process-group", "-s", s.conf, "--debug-stdout", "-d", "1")
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Setpgid = true
	log, err := os.Create(filepath.Join(s.dir, "winbindd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func() { cmd.Wait(); close(s.done) }()
	for end := time.Now().Add(readyTimeout); ; time.Sleep(50 * time.Millisecond) {
		if s.run(ctx, "", "wbinfo", "-p") == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			text, _ := os.ReadFile(log.Name())
			s.Close()
			return fmt.Errorf("peers: winbindd is not ready\n%s", text)
		}
	}
	// Squid's helpers run as the user proxy, and want the door that only members of a group find open.
	group := "proxy"
	if out, err := exec.Command("chgrp", group, filepath.Join(s.dir, "state", "winbindd_privileged")).CombinedOutput(); err != nil {
		s.Close()
		return fmt.Errorf("peers: chgrp: %w: %s", err, out)
	}
	return nil
}

// BadPasswords is how many wrong passwords the account was tried with since the last right one.
func (s *Samba) BadPasswords(ctx context.Context, user string) (int, error) {
	cmd, err := s.command(ctx, "pdbedit", "-s", s.conf, "-v", "-u", user)
	if err != nil {
		return 0, err
	}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "Bad password count"); ok {
			return strconv.Atoi(strings.Trim(v, " :\t\n"))
		}
	}
	return 0, fmt.Errorf("peers: pdbedit says nothing of bad passwords:\n%s", out)
}

// Log is what winbindd wrote.
func (s *Samba) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "winbindd.log"))
	return string(b)
}

// Close ends winbindd and its children, those that left its group included: they would go on writing into a directory that is being removed.
func (s *Samba) Close() error {
	pids := family(s.cmd.Process.Pid)
	syscall.Kill(s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
	}
	endGroup(s.cmd.Process.Pid)
	for _, pid := range pids {
		if alive(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	awaitDead(pids)
	return nil
}
