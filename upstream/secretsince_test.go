package upstream

import (
	"os"
	"path/filepath"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// TestSecretsSince: the time is kept while the secret is the same, whatever else changes; a keytab is known by what it holds.
func TestSecretsSince(t *testing.T) {
	keytab := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(keytab, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := connmodel.Address{Host: "127.0.0.1", Port: 9}
	guard := auth.NewGuard(t.TempDir(), nil)
	config := func(password, credential string) Config {
		return Config{Guard: guard, Upstreams: []Spec{
			{Name: "basic", Scheme: "http", Address: at, Auth: &Auth{Username: "u", Password: NewSecret(password), Credential: credential}},
			{Name: "socks", Scheme: "socks5", Address: at, Auth: &Auth{Username: "u", Password: NewSecret(password), Credential: credential}},
			{Name: "keytab", Scheme: "http", Address: at, Auth: &Auth{Username: "u", Keytab: keytab, Schemes: []string{"negotiate"}}},
			{Name: "none", Scheme: "http", Address: at}, {Name: "client", Scheme: "http", Address: at, Auth: &Auth{FromClient: true}},
		}}
	}
	tab := table(t, config("p", "x"))
	next := func(c Config) *Table {
		t.Helper()
		n, err := NewTable(c, tab)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		return n
	}
	before := tab.Secrets()
	if len(before) != 3 {
		t.Errorf("%v", before)
	}
	changed := func(n *Table) (names []string) {
		for name, at := range n.Secrets() {
			if !at.Equal(before[name]) {
				names = append(names, name)
			}
		}
		return names
	}
	if got := changed(next(config("p", "y"))); len(got) != 0 {
		t.Errorf("another name changes %v", got)
	}
	if got := changed(next(config("q", "x"))); len(got) != 2 {
		t.Errorf("another password changes %v", got)
	}
	if err := os.WriteFile(keytab, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := changed(next(config("p", "x"))); len(got) != 1 || got[0] != "keytab" {
		t.Errorf("another key changes %v", got)
	}
}
