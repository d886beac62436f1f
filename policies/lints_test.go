package policies

import (
	"os"
	"strings"
	"testing"
)

// TestNoFalseLints: where something could not be read, nothing is said to be unused or never reached that may not be.
func TestNoFalseLints(t *testing.T) {
	for _, src := range []string{
		"upstream \"corp\" {\n  url = \"http://127.0.0.1:1\"\n}\npolicy \"default\" {\n  otherwise { via = upstream.crp }\n}\n",
		"upstream \"corp\" {\n  url = \"http://127.0.0.1:1\"\n}\npolicy \"default\" {\n  otherwise { vai = upstream.corp }\n}\n",
		"list \"ads\" {\n  file = \"testdata/lists/ads.txt\"\n}\nlocals {\n  x = [list.ads, nosuch]\n}\npolicy \"default\" {\n  rule \"r\" {\n    match { host = local.x }\n    via = direct\n  }\n}\n",
		"policy \"default\" {\n  rule \"a\" {\n    match { user = nosuch }\n    via = direct\n  }\n  rule \"b\" {\n    match { port = 1 }\n    via = direct\n  }\n}\n",
	} {
		_, d := loadText(src, Options{})
		if errors, warnings := d.Count(); errors == 0 || warnings > 0 {
			t.Errorf("%s\nsays %s", src, reports(t, d))
		}
	}
	// What a lenient load does not know is no test that takes everything, as far as a warning goes.
	const src = "policy \"default\" {\n  rule \"a\" {\n    match { user = env(\"NOSUCH\") }\n    via = direct\n  }\n  rule \"b\" {\n    match { port = 1 }\n    via = direct\n  }\n}\n"
	if _, d := loadText(src, Options{Lenient: true}); strings.Contains(reports(t, d), "Rule never reached") {
		t.Error(reports(t, d))
	}
}

func TestWords(t *testing.T) {
	for src, want := range map[string]string{
		"upstream \"a\" {\n  url = \"http://h:1\"\n}\nupstream \"a\" {\n  url = \"http://h:1\"\n}\n":                 "There is an upstream \"a\" already",
		"upstream \"corp\" {\n  url = \"http://h:1\"\n}\npolicy \"default\" {\n  otherwise { via = pool.corp }\n}\n": "There is an upstream of that name: upstream.corp.",
		"upstream \"a b\" {\n  url = \"http://h:1\"\n}\n":                                                            "The name of an upstream",
		"listener \"lan\" {\n  address = \":1\"\n  clients = [\"10.0.0.0/8\"]\n  tls {}\n}\n":                        "p.hcl:4:3: error: Missing argument\n    tls {}\n    ^^^\n  The block \"tls\" needs \"certificate\"",
	} {
		if _, d := loadText(src, Options{}); !strings.Contains(reports(t, d), want) {
			t.Errorf("%s\nsays %s", src, reports(t, d))
		}
	}
}

// TestTour: a whole configuration of an office loads, with its tests, on a machine without its files.
func TestTour(t *testing.T) {
	src, err := os.ReadFile("testdata/tour.hcl")
	if err != nil {
		t.Fatal(err)
	}
	c, d := loadText(string(src), Options{Lenient: true})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	checkTests(t, c)
	for _, x := range d.List {
		if x.Summary != "Cannot read file" && x.Summary != "Cannot read credential" && x.Summary != "Passwords in the clear" {
			t.Errorf("%s: %s", x.Summary, x.Detail)
		}
	}
}
