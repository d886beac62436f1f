package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"viaduct/policies"
)

const repository = "../.."

// TestReadmePolicies loads every HCL block of README.md and runs its tests.
func TestReadmePolicies(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md shows no policy")
	}
	for _, b := range blocks {
		cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"viaduct.hcl": []byte(b[1])}, Lenient: true})
		if diags.HasErrors() {
			var sb strings.Builder
			diags.WriteText(&sb, false)
			t.Fatalf("README.md: a policy does not load:\n%s", sb.String())
		}
		rep := policies.RunTests(cfg)
		if len(rep.Results) == 0 {
			t.Error("README.md: the policy has no test")
		}
		for _, r := range rep.Results {
			if !r.Pass {
				t.Errorf("README.md: test %q fails: %v", r.Name, r.Differences)
			}
		}
	}
}

// TestReadmePaths opens every file and folder that README.md and the package comment of router name.
func TestReadmePaths(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^[A-Z_]{6,}$`).Find(text); m != nil {
		t.Errorf("README.md holds a placeholder: %s", m)
	}
	seen := 0
	for _, m := range regexp.MustCompile("`([a-z0-9_./-]+)`|\\]\\(([a-zA-Z0-9_./-]+)\\)").FindAllStringSubmatch(string(text), -1) {
		path := m[1] + m[2]
		if !strings.Contains(path, "/") && !strings.HasSuffix(path, ".go") {
			switch path {
			case "connmodel", "policies", "upstream", "router", "examples":
			default:
				continue
			}
		}
		if strings.HasPrefix(path, "golang.org/") || strings.HasPrefix(path, "/") {
			continue
		}
		seen++
		if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
			t.Errorf("README.md names %s, which is not there", path)
		}
	}
	if seen < 15 {
		t.Errorf("README.md names only %d paths: the expression that finds them is broken", seen)
	}
	doc, err := os.ReadFile(filepath.Join(repository, "router/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`[a-z]+\.go\b|\b(relay|forward)/`).FindAllString(string(doc), -1)
	if len(files) < 10 {
		t.Errorf("router/doc.go names only %d files", len(files))
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(repository, "router", f)); err != nil {
			t.Errorf("router/doc.go names %s, which is not there", f)
		}
	}
}
