package policies

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// FuzzLoad: no file makes the loader panic, hang, or give a configuration that cannot decide.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*", "testdata/invalid/*"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			src, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(src), strings.HasSuffix(name, ".json"))
		}
	}
	for _, s := range []string{"", "x = ", "a {\n", strings.Repeat("(", 5000), "locals {\nx = " + strings.Repeat("[", 300) + "\n}\n", "locals {\nx = " + strings.Repeat("!", 1000) + "true\n}",
		"locals {\nx = \"" + strings.Repeat("${\"", 300) + "\"\n}\n", "locals {\n" + strings.Repeat("x = x ? ", 300) + "\n}", "\xff\xfe", "locals {\n  a = local\n}"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	facts := &connmodel.Facts{Listener: "l", Client: netip.MustParseAddrPort("10.0.0.1:1"), Protocol: connmodel.ProtocolHTTP, Scheme: "http", Time: time.Unix(1e9, 0),
		Target: connmodel.Address{Host: "www.example.com", Port: 80}, Have: connmodel.NeedAddresses, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Request: &connmodel.RequestFacts{Method: "GET", Path: "/", Header: testFields{}}}
	f.Fuzz(func(t *testing.T, src string, json bool) {
		name := map[bool]string{false: "f.hcl", true: "f.hcl.json"}[json]
		o := Options{Source: map[string][]byte{name: []byte(src)}, ReadFile: func(string) ([]byte, error) { return []byte("a.example\n10.0.0.0/8\n"), nil }, Lenient: true}
		c, d := Load(o)
		if err := d.WriteText(io.Discard, true); err != nil {
			t.Fatal(err)
		}
		if (c == nil) != d.HasErrors() {
			t.Fatalf("config %v, diagnostics %v", c != nil, d.List)
		}
		if formatted, fd := Format(name, []byte(src)); c != nil && (fd.HasErrors() || len(formatted) == 0 && src != "") {
			t.Fatal("a file that loads cannot be formatted")
		}
		if c == nil {
			return
		}
		RunTests(c)
		for _, p := range c.Programs {
			got, need := p.Decide(facts)
			same, _, trace := p.Explain(facts)
			if need != 0 || got == nil || same.Rule != got.Rule || trace == nil {
				t.Fatalf("decision %v, need %s, explained as %v", got, need, same)
			}
		}
	})
}

// FuzzPatterns: texts of a match block.
func FuzzPatterns(f *testing.F) {
	for _, s := range []string{"*.example.com", ".example", "/a+/", "[::1]", "[a-z]*.example", "mon-fri 09:00-17:00", "2026-01-01..2026-02-01", "10.0.0.0/8", "BÜCHER.example.", "1h30m", "7d", "*.", "."} {
		f.Add(s, "www.example.com")
	}
	f.Fuzz(func(t *testing.T, s, host string) {
		if len(host) > 255 {
			return
		}
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 10*time.Second {
				t.Fatalf("it took %s", took)
			}
		}()
		if h, err := parseHost(s); err == nil && h.index == "" {
			h.takes(host)
		}
		if w, err := parseWindow(s); err == nil {
			w.holds(time.Unix(int64(len(host))*100_000, 0))
		}
		if d, ok := parseDuration(s); ok && d > 0 && len(s) == 0 {
			t.Fatal(d)
		}
	})
}

// FuzzDefault: no environment makes a default policy that does not load, or that shows a password.
func FuzzDefault(f *testing.F) {
	f.Add("http://u:sesame@p.example:8080", "socks5h://q:1", "", "corp.example,10.0.0.0/8,*.x")
	f.Add("p:1", "", "https://[::1]:3128", "*")
	f.Add("http://p${x}:1", "http://p\"\n:1", "socks4a://%:1", "a${b}c,\"x\",%{y}")
	f.Fuzz(func(t *testing.T, http, https, all, no string) {
		m := map[string]string{"HTTP_PROXY": http, "HTTPS_PROXY": https, "ALL_PROXY": all, "NO_PROXY": no}
		env := func(n string) (string, bool) { v, ok := m[n]; return v, ok }
		src, d := Default(env)
		if d.HasErrors() {
			return
		}
		c, ld := Load(Options{Source: map[string][]byte{DefaultFile: src}, Environ: env})
		if c == nil {
			t.Fatalf("%v\n%s", ld.Error(), src)
		}
	})
}
