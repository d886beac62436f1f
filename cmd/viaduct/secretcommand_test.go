package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"viaduct/policies"
)

func shell(script string) policies.SecretCommand {
	return policies.SecretCommand{Argv: []string{"/bin/sh", "-c", script}}
}

func TestSecretCommand(t *testing.T) {
	t.Setenv("VIADUCT_TEST_LEAK", "c4n4ry")
	t.Setenv("HOME", "/home/of-this-test")
	out, err := runSecretCommand(t.Context(), shell(`echo "$HOME $VIADUCT_TEST_LEAK $(pwd) $(cat | wc -c)"; echo quiet >&2`))
	if err != nil || out != "/home/of-this-test  / 0\n" {
		t.Errorf("%q %v", out, err)
	}
	for script, says := range map[string]string{
		`echo c4n4ry; echo "no key for c4n4ry" >&2; exit 3`: `exit status 3); it says "no key for ***"`,
		`echo c4n4ry; kill -9 $$`:                           "killed",
		`head -c 70000 /dev/zero`:                           "it printed too much",
		`yes c4n4ry`:                                        "it printed too much",
		`printf 'a\033[2J\nb' >&2; exit 1`:                  `it says "a\x1b[2J; b"`,
		`head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`:  `xxx"`,
	} {
		out, err := runSecretCommand(t.Context(), shell(script))
		if err == nil || out != "" || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "c4n4ry") || len(err.Error()) > 2000 {
			t.Errorf("%s: %.100q %.100v", script, out, err)
		}
	}
	for _, path := range []string{"/nosuch/program", "/etc/passwd", "/"} {
		if _, err := runSecretCommand(t.Context(), policies.SecretCommand{Argv: []string{path}}); err == nil || !strings.Contains(err.Error(), "cannot be started") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A command that is ended takes its children with it, and what it leaves behind is ended, too.
func TestSecretCommandWithChildren(t *testing.T) {
	gone := func(file string) {
		t.Helper()
		b, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || pid == 0 {
			t.Fatalf("%q %v", b, err)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			st, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			if err != nil || strings.Contains(string(st), ") Z ") || syscall.Kill(pid, 0) != nil {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the child lives: %s", st)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := runSecretCommand(ctx, shell("sleep 1000 & echo $! > "+file+"; wait"))
		done <- err
	}()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(file); strings.HasSuffix(string(b), "\n") {
			break
		} else if time.Now().After(end) {
			t.Fatal("it does not start")
		}
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "ended") {
		t.Error(err)
	}
	gone(file)

	file = filepath.Join(t.TempDir(), "pid")
	if out, err := runSecretCommand(t.Context(), shell("sleep 1000 >/dev/null 2>&1 & echo $! > "+file+"; echo secret")); err != nil || out != "secret\n" {
		t.Error(out, err)
	}
	gone(file)
	file = filepath.Join(t.TempDir(), "pid")
	if _, err := runSecretCommand(t.Context(), shell("sleep 1000 & echo $! > "+file+"; echo c4n4ry")); err == nil || !strings.Contains(err.Error(), "holds its output") {
		t.Error(err)
	}
	gone(file)
}
