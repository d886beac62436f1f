package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"viaduct/policies"
)

// Bounds of a command that prints a secret.
const (
	commandTime   = 15 * time.Second
	commandOutput = 64 << 10
	commandErrors = 1 << 10 // of what it says to standard error that is repeated
)

// commandEnv are the variables that a command is given, where we have them: what programs that keep passwords look for, and nothing else of ours.
var commandEnv = []string{"HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS",
	"GNUPGHOME", "PASSWORD_STORE_DIR", "KRB5CCNAME", "KRB5_CONFIG", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"}

const commandPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var errTooMuch = errors.New("it printed too much")

// runSecretCommand runs a command and returns what it printed. There is no shell; it has no input, and no more than its time, after which it is
// killed with its children. An error repeats the end of what it said to standard error, never what it printed.
func runSecretCommand(ctx context.Context, c policies.SecretCommand) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = []string{commandPath}
	for _, name := range commandEnv {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for children that hold the output and have left the group
	out, said := &limited{most: commandOutput, over: cancel}, &limited{most: commandErrors, tail: true}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Start(); err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", fmt.Errorf("it cannot be started: %w", err)
	}
	err := cmd.Wait()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left behind
	switch {
	case out.full:
		err = fmt.Errorf("%w: more than %d bytes", errTooMuch, commandOutput)
	case ctx.Err() == context.DeadlineExceeded:
		err = fmt.Errorf("it had not ended after %v, and was killed", commandTime)
	case ctx.Err() != nil:
		err = errors.New("it was ended")
	case errors.Is(err, exec.ErrWaitDelay):
		err = errors.New("it has ended, and left a process behind that holds its output")
	case err != nil:
		err = fmt.Errorf("it failed (%w)", err)
	}
	if err != nil {
		if words := said.words(out.b.String()); words != "" {
			err = fmt.Errorf("%w; it says %s", err, words)
		}
		return "", err
	}
	return out.b.String(), nil
}

// limited keeps a bounded part of what is written to it.
type limited struct {
	b    bytes.Buffer // a field of its own: what is embedded could be written to in other ways
	most int
	tail bool   // the end is kept, else the beginning
	full bool   // there was more
	over func() // called when there is more
}

func (l *limited) Write(b []byte) (int, error) {
	n := len(b)
	if l.tail {
		if len(b) > l.most {
			b = b[len(b)-l.most:]
		}
		if drop := l.b.Len() + len(b) - l.most; drop > 0 {
			l.b.Next(drop)
			l.full = true
		}
		l.b.Write(b)
		return n, nil
	}
	if l.b.Len()+len(b) > l.most {
		if !l.full && l.over != nil {
			l.over()
		}
		l.full = true
		return n, nil
	}
	l.b.Write(b)
	return n, nil
}

// words is what was said, on one line and in quotes, without anything that was printed as the secret.
func (l *limited) words(secret string) string {
	text := strings.TrimSpace(l.b.String())
	for _, s := range strings.Fields(secret) {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	if text == "" {
		return ""
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	return strconv.QuoteToASCII(strings.Join(lines, "; "))
}

// commands remembers what the commands of a configuration have printed.
type commands map[string]string

func commandKey(c policies.SecretCommand) string { return strings.Join(c.Argv, "\x00") }

// run is for a load: each command is run once, whatever is known of it.
func (m commands) run(ctx context.Context) func(policies.SecretCommand) (string, error) {
	return func(c policies.SecretCommand) (string, error) {
		if out, ok := m[commandKey(c)]; ok {
			return out, nil
		}
		out, err := runSecretCommand(ctx, c)
		if err == nil {
			m[commandKey(c)] = out
		}
		return out, err
	}
}

// refreshed returns the commands that are run again, each once, by the shortest time that one of its places asks for.
func refreshed(all []policies.SecretCommand) (out []policies.SecretCommand) {
	for _, c := range all {
		i := slices.IndexFunc(out, func(x policies.SecretCommand) bool { return commandKey(x) == commandKey(c) })
		switch {
		case c.Refresh == 0:
		case i < 0:
			out = append(out, c)
		default:
			out[i].Refresh = min(out[i].Refresh, c.Refresh)
		}
	}
	return out
}
