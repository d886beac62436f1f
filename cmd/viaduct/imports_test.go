package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of this module each package may import, by prefix: the architecture as a test. A package that is not
// listed is covered by its nearest listed parent. "std" alone means no package of this module.
var mayImport = map[string][]string{
	"connmodel":                   {},
	"connmodel/journal":           {"connmodel"},
	"connmodel/journal/storetest": {"connmodel", "connmodel/journal"},
	"connmodel/journald":          {"connmodel"},
	"upstream/http1":              {},
	"upstream/socks4":             {},
	"upstream/socks5":             {},
	"upstream/proxyproto":         {},
	"upstream/httpconnect":        {"upstream/http1"},
	"upstream/h2":                 {"upstream/http1"},
	"upstream/netwatch":           {},
	"upstream/auth":               {"connmodel", "upstream/http1"},
	"upstream/resolve":            {"connmodel", "upstream/http1", "upstream/certcheck"},
	"upstream":                    {"connmodel", "upstream/http1", "upstream/socks4", "upstream/socks5", "upstream/httpconnect", "upstream/h2", "upstream/auth", "upstream/resolve", "upstream/certcheck", "upstream/proxyproto"},
	"upstream/certcheck":          {"connmodel"},
	"upstream/doctor":             {"connmodel", "upstream", "upstream/http1", "upstream/httpconnect", "upstream/auth", "upstream/resolve", "upstream/certcheck"},
	"upstream/upstreamtest":       {},
	"policies/match":              {"connmodel"},
	"policies/pac":                {"connmodel", "policies/source"},
	"policies/source":             {},
	"policies/lists":              {"connmodel", "policies/match", "policies/source"},
	"policies/geo":                {},
	"policies/expr":               {"connmodel", "policies/match", "policies/geo"},
	"policies/importer":           {"connmodel", "policies"},
	"policies":                    {"connmodel", "upstream", "upstream/resolve", "upstream/certcheck", "policies/match", "policies/pac", "policies/geo", "policies/expr", "policies/lists", "policies/source"},
	"router/ingress":              {"connmodel", "upstream/http1", "upstream/socks4", "upstream/socks5", "upstream/httpconnect"},
	"router/intercept":            {"connmodel"},
	"router/relay":                {"connmodel"},
	"router/forward":              {"connmodel", "upstream/http1"},
	"router/admin":                {"connmodel"},
	"router/tracecontext":         {"connmodel"},
	"router/otel":                 {"connmodel"},
	"router": {"connmodel", "upstream", "upstream/certcheck", "upstream/resolve", "upstream/http1", "upstream/socks4", "upstream/socks5", "upstream/httpconnect", "upstream/h2", "upstream/proxyproto",
		"router/ingress", "router/intercept", "router/relay", "router/forward", "router/admin", "router/tracecontext"},
}

// hclPackages may be imported by policies and the program alone: nothing on the data path evaluates HCL.
var hclPackages = []string{"github.com/hashicorp/hcl/v2", "github.com/zclconf/go-cty"}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

func listPackages(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports,Deps"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %v\n%s", err, ee.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestImports holds the module's import graph against the table above.
func TestImports(t *testing.T) {
	all := listPackages(t, "viaduct/...")
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages of this module", len(all))
	}
	for _, p := range all {
		name := strings.TrimPrefix(p.ImportPath, "viaduct/")
		if strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "examples/") {
			continue // everything < cmd
		}
		allowed, ok := rule(name)
		if !ok {
			t.Errorf("%s: no rule says what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			own, isOwn := strings.CutPrefix(imp, "viaduct/")
			if isOwn && !slices.Contains(allowed, own) && !strings.HasPrefix(own, name+"/") && !(strings.HasPrefix(name, "upstream/upstreamtest") && strings.HasPrefix(own, "upstream/upstreamtest")) {
				t.Errorf("%s imports %s, which the architecture does not allow", name, own)
			}
			for _, h := range hclPackages {
				if strings.HasPrefix(imp, h) && name != "policies" && !strings.HasPrefix(name, "policies/") {
					t.Errorf("%s imports %s: HCL belongs to policies and the program", name, imp)
				}
			}
			if strings.HasPrefix(own, "upstream/upstreamtest") && isOwn && !strings.HasPrefix(name, "upstream/upstreamtest") {
				t.Errorf("%s imports %s, which is for tests", name, own)
			}
		}
	}
}

// TestNoHCLBelow asks for the whole closure: not even through another package may the data path depend on HCL.
func TestNoHCLBelow(t *testing.T) {
	for _, p := range listPackages(t, "viaduct/router/...", "viaduct/upstream/...", "viaduct/connmodel/...") {
		for _, d := range p.Deps {
			for _, h := range hclPackages {
				if strings.HasPrefix(d, h) {
					t.Errorf("%s depends on %s", p.ImportPath, d)
				}
			}
		}
	}
}

// TestNoOTelBelow: OpenTelemetry belongs to its package, so that a build can leave it out.
func TestNoOTelBelow(t *testing.T) {
	for _, p := range listPackages(t, "viaduct/router/...", "viaduct/upstream/...", "viaduct/connmodel/...", "viaduct/policies/...") {
		if p.ImportPath == "viaduct/router/otel" {
			continue
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(d, "go.opentelemetry.io/") || d == "viaduct/router/otel" {
				t.Errorf("%s depends on %s", p.ImportPath, d)
			}
		}
	}
}

func rule(name string) ([]string, bool) {
	for {
		if allowed, ok := mayImport[name]; ok {
			return allowed, true
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil, false
		}
		name = name[:i]
	}
}
