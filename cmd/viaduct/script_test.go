package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"viaduct/upstream/upstreamtest/peers"
)

// TestMain makes this test binary be viaduct when a script, or a test that starts a gateway, runs it under that name.
func TestMain(m *testing.M) {
	testscript.Main(cleanly{m}, map[string]func(){"viaduct": main})
}

// cleanly keeps tests out of the state of whoever runs them, and takes away what they have built.
type cleanly struct{ m *testing.M }

func (c cleanly) Run() int {
	defer removeBinary()
	state, err := os.MkdirTemp("", "viaduct-test-state-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(state)
	os.Setenv("XDG_STATE_HOME", state)
	os.Unsetenv("STATE_DIRECTORY")
	return c.m.Run()
}

// TestScripts runs the journeys in testdata/script: each is a policy, servers, clients and what must come out, in one file.
// The commands they use beyond testscript's own are in scriptcmd_test.go.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Condition:           scriptCondition,
		Cmds:                scriptCommands,
	})
}

// proxyVariables of whoever runs the tests must not get in.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}

func setupScript(env *testscript.Env) error {
	for _, name := range append(proxyVariables, "VIADUCT_CONFIG", "VIADUCT_ADMIN", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY") {
		env.Setenv(name, "")
	}
	runtime := filepath.Join(env.WorkDir, "run")
	if err := os.MkdirAll(runtime, 0o700); err != nil {
		return err
	}
	env.Setenv("XDG_RUNTIME_DIR", runtime)
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("TZ", "UTC")
	repo, err := filepath.Abs("../..")
	env.Setenv("REPO", repo)
	env.Values[testKey{}] = env.T()
	return err
}

// testKey finds the running subtest among the values of a script.
type testKey struct{}

// peerTester lets peers.Need skip or fail a script.
type peerTester struct{ t testscript.T }

func (p peerTester) Helper() {}

func (p peerTester) Skipf(format string, args ...any) { p.t.Skip(fmt.Sprintf(format, args...)) }

func (p peerTester) Fatalf(format string, args ...any) { p.t.Fatal(fmt.Sprintf(format, args...)) }

var _ peers.Tester = peerTester{}

// scriptCondition knows [root].
func scriptCondition(cond string) (bool, error) {
	if cond == "root" {
		return os.Getuid() == 0, nil
	}
	return false, errors.New("unknown condition " + strings.TrimSpace(cond))
}
