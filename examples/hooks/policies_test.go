// Package hooks has the usage examples of the connection API as Viaduct does them: policies where a policy can say it, programs
// where it takes code. See README.md.
package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/policies"
)

// Every policy here loads without a word, and its tests pass and reach every rule.
func TestPolicies(t *testing.T) {
	files, err := filepath.Glob("*.hcl")
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		c, d := policies.Load(policies.Options{Paths: []string{file}})
		if len(d.List) > 0 {
			var b strings.Builder
			d.WriteText(&b, false)
			t.Errorf("%s:\n%s", file, b.String())
			continue
		}
		report := policies.RunTests(c)
		for _, r := range report.Results {
			if !r.Pass {
				t.Errorf("%s: %s: %s", file, r.Name, strings.Join(r.Differences, "; "))
			}
		}
		if len(report.Results) == 0 || len(report.Unreached) > 0 {
			t.Errorf("%s: %d tests, rules they do not reach: %v", file, len(report.Results), report.Unreached)
		}
	}
}

// README.md names every example that there is, and none that there is not.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs, _ := filepath.Glob("*/main.go")
	files, _ := filepath.Glob("*.hcl")
	for _, f := range append(programs, files...) {
		name := strings.TrimSuffix(f, "/main.go")
		if !strings.Contains(string(b), "("+name+")") {
			t.Errorf("README.md does not link to %s", name)
		}
	}
	for _, part := range strings.Split(string(b), "](")[1:] {
		link, _, _ := strings.Cut(part, ")")
		if _, err := os.Stat(link); err != nil {
			t.Errorf("README.md: %v", err)
		}
	}
}
