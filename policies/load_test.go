package policies

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"viaduct/upstream"
)

// environ is an environment of a test.
func environ(pairs ...string) func(string) (string, bool) {
	m := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		m[k] = v
	}
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

var corpusOptions = Options{Environ: environ("CORP_PASSWORD=hunter3"), Credentials: "testdata/credentials"}

var expected = regexp.MustCompile(`# (ERROR|WARNING): ([^#\n]*?)(?: (\d+))?\s*(?:#|$)`)

// expectations reads the comments of a file of the corpus: "# ERROR: summary", with a number when it comes that often.
func expectations(src string) []string {
	var all []string
	for i, line := range strings.Split(src, "\n") {
		for rest := line; ; {
			m := expected.FindStringSubmatchIndex(rest)
			if m == nil {
				break
			}
			n := 1
			if m[6] >= 0 {
				n, _ = strconv.Atoi(rest[m[6]:m[7]])
			}
			for range n {
				all = append(all, fmt.Sprintf("%d %s: %s", i+1, rest[m[2]:m[3]], strings.TrimSpace(rest[m[4]:m[5]])))
			}
			rest = rest[m[5]:]
		}
	}
	slices.Sort(all)
	return all
}

func found(d Diagnostics) []string {
	var all []string
	for _, x := range d.List {
		severity, line := "ERROR", 0
		if x.Severity == hcl.DiagWarning {
			severity = "WARNING"
		}
		if x.Subject != nil {
			line = x.Subject.Start.Line
		}
		all = append(all, fmt.Sprintf("%d %s: %s", line, severity, x.Summary))
	}
	slices.Sort(all)
	return all
}

// TestCorpus loads every file of testdata/valid and testdata/invalid: what is found wrong must be what the comments say,
// no more and no less, on those lines. The test blocks of valid files must pass.
func TestCorpus(t *testing.T) {
	for _, kind := range []string{"valid", "invalid"} {
		files, _ := filepath.Glob("testdata/" + kind + "/*.hcl")
		if len(files) < 2 {
			t.Fatalf("the corpus of %s files is gone", kind)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				src, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				o := corpusOptions
				o.Paths = []string{file}
				c, d := Load(o)
				var text strings.Builder
				d.WriteText(&text, false)
				if diff := cmp.Diff(expectations(string(src)), found(d)); diff != "" {
					t.Errorf("-expected +found:\n%s\n%s", diff, text.String())
				}
				if d.HasErrors() != (kind == "invalid") || (c == nil) != d.HasErrors() {
					t.Fatalf("errors: %v, config: %v\n%s", d.HasErrors(), c != nil, text.String())
				}
				if c != nil {
					checkTests(t, c)
					checkTable(t, c)
				}
			})
		}
	}
}

// checkTable: what Load takes, a table of routes can be built of.
func checkTable(t *testing.T, c *Config) {
	t.Helper()
	u := c.Upstreams
	u.NoChecks = true // a test asks nobody
	table, err := upstream.NewTable(u, nil)
	if err != nil {
		t.Errorf("the routes cannot be built: %v", err)
		return
	}
	table.Close()
}

// checkTests runs the test blocks of a configuration.
func checkTests(t *testing.T, c *Config) {
	t.Helper()
	for _, r := range RunTests(c).Results {
		if !r.Pass {
			t.Errorf("%s:%d: test %q: %s", r.File, r.Line, r.Name, strings.Join(r.Differences, "; "))
		}
	}
}
