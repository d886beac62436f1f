package policies

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/policies/expr"
	"viaduct/policies/geo/geotest"
)

// section is a part of the manual with its examples.
type section struct {
	title    string
	examples map[string][]byte
}

// readManual cuts the manual into its sections. The examples of one section make one configuration.
func readManual(t *testing.T) (text string, sections []section) {
	t.Helper()
	src, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var block *strings.Builder
	kind, start := "", 0
	for n, line := range strings.Split(string(src), "\n") {
		title, isTitle := strings.CutPrefix(strings.Replace(line, "### ", "## ", 1), "## ") // a part of a section is one, too
		switch {
		case block == nil && isTitle:
			sections = append(sections, section{title, map[string][]byte{}})
		case block == nil && (line == "```hcl" || line == "```json"):
			block, kind, start = &strings.Builder{}, line[3:], n
			block.WriteString(strings.Repeat("\n", boolInt(kind == "hcl")*(n+1))) // so that lines are those of the manual
		case block != nil && line == "```":
			name := fmt.Sprintf("README.md:%d.%s", start+1, kind)
			sections[len(sections)-1].examples[name] = []byte(block.String())
			block = nil
		case block != nil:
			block.WriteString(line + "\n")
		}
	}
	return string(src), sections
}

// TestManual loads every example of the manual and runs its tests.
func TestManual(t *testing.T) {
	_, sections := readManual(t)
	examples := 0
	for _, s := range sections {
		if len(s.examples) == 0 {
			continue
		}
		examples += len(s.examples)
		t.Run(s.title, func(t *testing.T) {
			c, d := Load(Options{Source: s.examples, Lenient: true, ReadFile: func(path string) ([]byte, error) {
				switch filepath.Base(path) {
				case "ads.txt":
					return []byte("ads.example\n"), nil
				case "lab.pac":
					return []byte(`function FindProxyForURL(url, host) { return "DIRECT" }`), nil
				case "GeoLite2-Country.mmdb":
					return geotest.Countries(time.Now(), map[string]string{"198.51.100.0/24": "DE", "203.0.113.0/24": "US", "192.0.2.0/24": "CH"}), nil
				case "partners.txt":
					return []byte("192.0.2.0/24\n"), nil
				}
				return nil, errors.New("not on this desk")
			}})
			if c == nil {
				var b strings.Builder
				d.WriteText(&b, false)
				t.Fatal(b.String())
			}
			checkTests(t, c)
			checkTable(t, c)
			for name, src := range s.examples {
				if formatted, _ := Format(name, src); strings.TrimSpace(string(formatted)) != strings.TrimSpace(string(src)) {
					t.Errorf("%s is not laid out as fmt does", name)
				}
			}
		})
	}
	if examples < 14 {
		t.Errorf("the manual has only %d examples", examples)
	}
}

// TestManualIsComplete: every attribute and block that a file may hold, every name and every function of conditions is in it.
func TestManualIsComplete(t *testing.T) {
	text, _ := readManual(t)
	has := func(what, name string) {
		if !strings.Contains(text, name) {
			t.Errorf("the manual does not mention the %s %s", what, name)
		}
	}
	for _, s := range expr.Scope() {
		if s.Name == "request.header" {
			has("name", "`request.header[")
			continue
		}
		has("name", "`"+s.Name+"`")
	}
	for _, f := range expr.FactFunctions() {
		has("function", f.Name)
	}
	for name := range (&loader{o: Options{Environ: environ()}}).functions(".") {
		if name == "credential" || name == "env" || name == "file" || strings.HasPrefix(name, "proxy_") {
			has("function", name+"(")
		}
	}
	for kind, s := range allSchemas {
		for _, a := range s.Attributes {
			if !strings.Contains(text, a.Name) {
				t.Errorf("the manual does not mention %s.%s", kind, a.Name)
			}
		}
		for _, b := range s.Blocks {
			has("block", b.Type)
		}
	}
}

var allSchemas = map[string]*hcl.BodySchema{
	"gateway": gatewaySchema, "log": logSchema, "admin": adminSchema, "admin tls": adminTLSSchema, "records": recordsSchema, "limits": limitsSchema,
	"timeouts": timeoutsSchema, "direct": directSchema, "ca": caSchema, "certificates": certsSchema, "geoip": geoipSchema, "telemetry": telemetrySchema, "traces": tracesSchema, "variable": variableSchema, "listener": listenerSchema,
	"listener tls": listenerTLSSchema, "pair": pairSchema, "authenticate": authenticateSchema, "listener limits": listenerLimitsSchema, "udp": udpSchema,
	"upstream": upstreamSchema, "auth": authSchema,
	"upstream tls": hopTLSSchema, "upstream timeouts": hopTimeSchema, "pool": poolSchema, "health": healthSchema, "retry": retrySchema,
	"eject": ejectSchema, "chain": chainSchema, "list": listSchema, "pac": pacSchema, "resolver": resolverSchema, "domain": domainSchema, "cache": cacheSchema, "policy": policySchema, "rule": ruleSchema, "deny": denySchema,
	"headers": headersSchema, "match": matchSchema, "tls": planSchema, "test": testSchema, "expect": expectSchema, "file": fileSchema,
}
