package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/policies"
	"viaduct/upstream/upstreamtest/peers"
)

// TestExamples holds every scenario in examples to what it says of itself: its policy has neither errors nor warnings, its tests
// pass and reach every rule, it is in the usual layout, and the commands of its README do what they do without an error.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/viaduct.hcl")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %d scenarios, %v", len(files), err)
	}
	secrets := t.TempDir()
	if err := os.WriteFile(filepath.Join(secrets, "corp"), []byte("example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", secrets)
			t.Setenv("VIADUCT_CONFIG", "")
			file = withCertificates(t, file)
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if out, diags := policies.Format(file, src); diags.HasErrors() || !bytes.Equal(out, src) {
				t.Errorf("not in the usual layout: viaduct fmt %s", file)
			}
			cfg, diags := policies.Load(policies.Options{Paths: []string{file}, Environ: os.LookupEnv})
			if len(diags.List) > 0 {
				t.Fatalf("%v", diags.List)
			}
			if _, table, _, problems, err := wireUp(cfg, nil); err != nil || len(problems) > 0 {
				t.Error(err, problems)
			} else {
				table.Close()
			}
			rep := policies.RunTests(cfg)
			for _, r := range rep.Results {
				if !r.Pass {
					t.Errorf("%s:%d: %s: %q", r.File, r.Line, r.Name, r.Differences)
				}
			}
			if len(rep.Results) < 2 || len(rep.Unreached) > 0 {
				t.Errorf("%d tests; not reached: %v", len(rep.Results), rep.Unreached)
			}
			runReadme(t, filepath.Dir(file))
		})
	}
}

// withCertificates returns file, or, where the scenario has a script that makes certificates for trying it out, a copy of it that has them.
func withCertificates(t *testing.T, file string) string {
	t.Helper()
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "certificates.sh")); err != nil {
		return file
	}
	peers.Need(t, "openssl")
	own := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err := os.CopyFS(own, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", filepath.Join(own, "certificates.sh")).CombinedOutput(); err != nil {
		t.Fatalf("certificates.sh: %v\n%s", err, out)
	}
	return filepath.Join(own, filepath.Base(file))
}

// runReadme runs the commands of a README that open nothing.
func runReadme(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(dir))
	ran := 0
	for line := range strings.Lines(string(text)) {
		command, ok := strings.CutPrefix(line, "    viaduct ")
		if !ok || strings.HasPrefix(command, "run ") {
			continue
		}
		var out bytes.Buffer
		root, _ := newRoot()
		root.SetArgs(strings.Fields(command))
		root.SetOut(&out)
		root.SetErr(&out)
		if err := root.Execute(); err != nil {
			t.Errorf("viaduct %s%v\n%s", command, err, &out)
		}
		ran++
	}
	if ran == 0 {
		t.Error("the README shows no command")
	}
}
