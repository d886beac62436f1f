package connmodel

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesTheKeys holds the manual of the record against a record: every key of a record is in it, and every key in its tables
// and lists that looks like one exists.
func TestReadmeNamesTheKeys(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var keys = map[string]bool{}
	for _, file := range []string{"testdata/full.golden.json", "testdata/tunnel.golden.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var flow map[string]any
		if err := json.Unmarshal(b, &flow); err != nil {
			t.Fatal(err)
		}
		collect(flow, keys)
		mine := map[string]bool{}
		delete(flow, "metadata") // its keys are those of hooks
		if g, _ := flow["gathered"].(map[string]any); g != nil {
			g["headers"] = nil // its keys are names of header fields
		}
		collect(flow, mine)
		for k := range mine {
			if !strings.Contains(string(text), "`"+k+"`") {
				t.Errorf("README.md does not name %q", k)
			}
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+(?:_[a-z]+)+)`").FindAllStringSubmatch(string(text), -1) {
		k := m[1]
		if FilterFieldNamed(k) != nil || reasons[k] || strings.HasPrefix(k, "viaduct_") || strings.HasPrefix(k, "udp_") || strings.HasPrefix(k, "datagrams_") { // metadata of datagrams: a test of router knows them
			continue
		}
		if !keys[k] {
			t.Errorf("README.md names %q, which no record has", k)
		}
	}
}

var reasons = map[string]bool{
	string(CloseClient): true, string(CloseServer): true, string(CloseClientReset): true, string(CloseServerReset): true,
	string(CloseIdle): true, string(ChainName): true, string(ChainNoName): true, string(ChainAuthority): true, string(ChainSelfSigned): true,
	string(ChainOrder): true, string(ChainWeak): true, string(ChainWeakKey): true, string(ChainUsage): true, string(ChainPin): true, string(CertNotYetValid): true, string(CloseHalfIdle): true, "corp_a": true, "client_hello": true,
}

func collect(v any, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			keys[k] = true
			collect(x, keys)
		}
	case []any:
		for _, x := range v {
			collect(x, keys)
		}
	}
}
