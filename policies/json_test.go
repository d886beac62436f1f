package policies

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// TestJSONTwin: both files say the same, so both configurations are the same but for where things stand.
func TestJSONTwin(t *testing.T) {
	load := func(path string) *Config {
		o := corpusOptions
		o.Paths = []string{path}
		c, d := Load(o)
		if c == nil {
			t.Fatal(d.Error())
		}
		checkTests(t, c)
		return c
	}
	native, json := load("testdata/valid/twin.hcl"), load("testdata/valid/twin.hcl.json")
	place := cmpopts.IgnoreFields(connmodel.Decision{}, "File", "Line")
	secret := cmp.Comparer(func(a, b upstream.Secret) bool { return a.Equal(b) })
	values := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	if diff := cmp.Diff(native.Upstreams, json.Upstreams, secret, values); diff != "" {
		t.Errorf("upstreams, -native +json:\n%s", diff)
	}
	if diff := cmp.Diff(native.Listeners, json.Listeners, cmpopts.IgnoreFields(Listener{}, "File", "Line"), values); diff != "" {
		t.Errorf("listeners, -native +json:\n%s", diff)
	}
	a, b := native.Programs["default"], json.Programs["default"]
	for i := range native.Tests {
		f := native.Tests[i].facts
		f.Addresses, f.Have = native.Tests[i].resolve, connmodel.NeedAddresses
		x, _ := a.Decide(&f)
		y, _ := b.Decide(&f)
		if diff := cmp.Diff(x, y, place, values); diff != "" {
			t.Errorf("%s, -native +json:\n%s", native.Tests[i].Name, diff)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	for _, x := range []struct{ name, src, summary, detail string }{
		{"order", `{"policy": {"p": {"rule": {"a": {"via": "direct"}, "b": {"via": "direct"}}}}}`, "Rules without an order", "array"},
		{"order in an array", `{"policy": {"p": {"rule": [{"a": {"via": "direct"}, "b": {"via": "direct"}}]}}}`, "Rules without an order", "array"},
		{"one rule", `{"policy": {"p": {"rule": {"a": {"via": "direct"}}}}}`, "", ""},
		{"reference", `{"policy": {"p": {"otherwise": {"via": "upstream.nosuch"}}}}`, "Unknown name", "nosuch"},
		{"computed", `{"policy": {"p": {"otherwise": {"via": "${true ? 1 : 2}"}}}}`, "Not a reference", "direct"},
		{"when as text", `{"policy": {"p": {"rule": [{"a": {"when": "now.hour > 3", "via": "direct"}}]}}}`, "Wrong type", "${now.hour > 3}"},
		{"when", `{"policy": {"p": {"rule": [{"a": {"when": "${now.huor > 3}", "via": "direct"}}]}}}`, "Unknown name", "now.hour"},
		{"attribute", `{"policy": {"p": {"otherwise": {"vai": "direct", "via": "direct"}}}}`, "Extraneous JSON object property", "vai"},
		{"syntax", `{"policy": `, "", ""},
		{"huge number", `{"locals": {"a": 1e999, "x": -1.5e+0020000000, "y": "x${local.x}"}}`, "Number too large", "three digits"},
		{"deep", strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), "Nested too deep", "200"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, d := Load(Options{Source: map[string][]byte{"p.hcl.json": []byte(x.src)}})
			if x.name == "one rule" {
				if c == nil {
					t.Error(d.Error())
				}
				return
			}
			if c != nil || !strings.Contains(d.Error(), x.summary) || !strings.Contains(d.Error(), x.detail) {
				t.Errorf("got %q", d.Error())
			}
		})
	}
}
