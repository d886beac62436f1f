package pac

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestHostileStart: what a script does while it is read is bounded like a call, and it is no script then.
func TestHostileStart(t *testing.T) {
	const good = `function FindProxyForURL(u, h) { return "DIRECT" }; `
	for name, text := range map[string]string{
		"loop":                   good + `for (;;) {}`,
		"memory":                 good + `var a = []; for (;;) a.push(new Array(1000).fill(1))`,
		"recursion":              good + `function f() { return f() + 1 } f()`,
		"throws a trap":          good + `throw { toString: function () { for (;;) {} } }`,
		"the function is a trap": `Object.defineProperty(globalThis, "FindProxyForURL", { get: function () { for (;;) {} } })`,
		"a getter that throws":   `Object.defineProperty(globalThis, "FindProxyForURL", { get: function () { throw new Error("no") } })`,
		"deep text":              strings.Repeat("(", 200000),
		"deep arrays":            "var x = " + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + ";" + good,
		"a regular expression":   good + `/^(a+)+\1$/.test("` + strings.Repeat("a", 40) + `!")`,
		"NUL":                    "function FindProxyForURL(u, h) { return \"\x00",
	} {
		start := time.Now()
		s, err := New(context.Background(), text, Options{Time: 300 * time.Millisecond, Memory: 6 << 20})
		var se *ScriptError
		if err == nil {
			s.Close()
			if name != "deep arrays" { // may be read
				t.Errorf("%s: no error", name)
			}
		} else if !errors.As(err, &se) || len(err.Error()) > 600 {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// TestLargest: a script of the most bytes that a script may have is read and asked.
func TestLargest(t *testing.T) {
	var b strings.Builder
	b.WriteString("function FindProxyForURL(url, host) {\n")
	for i := 0; b.Len() < MaxSource-200; i++ {
		fmt.Fprintf(&b, "if (dnsDomainIs(host, \".d%d.example\")) return \"PROXY p%d:1\";\n", i, i)
	}
	b.WriteString("return \"DIRECT\" }")
	text, err := Decode([]byte(b.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	s := script(t, text, Options{Time: time.Minute})
	if a, err := s.Find(context.Background(), Query{"http://a.d12000.example/", "a.d12000.example"}); err != nil || entries(a) != "PROXY p12000:1" {
		t.Errorf("%s, %v", entries(a), err)
	}
}

// TestMemoryOverCalls: a script that keeps something of every call is begun anew when its engine is full, and no flow notices.
func TestMemoryOverCalls(t *testing.T) {
	s := script(t, `var kept = []; function FindProxyForURL(url, host) { kept.push(new Array(50000).fill(host)); return "PROXY p:1" }`, Options{Memory: 8 << 20, Engines: 1, CacheFor: -1, Time: 30 * time.Second})
	for i := range 60 {
		if a, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil || entries(a) != "PROXY p:1" {
			t.Fatalf("call %d: %s, %v", i, entries(a), err)
		}
	}
	if st := s.Stats(); st.Rebuilt == 0 || st.Engines > 1 {
		t.Errorf("%+v", st)
	}
}

// TestStateOfScripts says what of a call the next one in the same engine finds: what the script keeps itself, and nothing of ours. A limit that was hit
// takes all of it.
func TestStateOfScripts(t *testing.T) {
	s := script(t, `var n = 0; function FindProxyForURL(url, host) { n++; if (host == "loop") for (;;) {} if (host == "names") return dnsResolve("x") || "DIRECT"; return "PROXY p" + n + ":1" }`,
		Options{Engines: 1, CacheFor: -1, Time: 300 * time.Millisecond})
	for _, x := range []struct{ host, want string }{{"a", "PROXY p1:1"}, {"b", "PROXY p2:1"}, {"loop", ""}, {"a", "PROXY p1:1"}} {
		if a, _ := s.Find(context.Background(), Query{"http://a/", x.host}); entries(a) != x.want {
			t.Errorf("%s: %s, want %s", x.host, entries(a), x.want)
		}
	}
	s = script(t, `function FindProxyForURL(url, host) { if (host == "spoil") { isInNet = function () { return true }; FindProxyForURL = function () { return "PROXY spoilt:1" } } return isInNet("10.1.1.1", "11.0.0.0", "255.0.0.0") ? "PROXY a:1" : "PROXY b:1" }`,
		Options{Engines: 1, CacheFor: -1})
	for _, x := range []struct{ host, want string }{{"a", "PROXY b:1"}, {"spoil", "PROXY a:1"}, {"a", "PROXY spoilt:1"}} { // its own loss
		if a, _ := s.Find(context.Background(), Query{"http://a/", x.host}); entries(a) != x.want {
			t.Errorf("%s: %s, want %s", x.host, entries(a), x.want)
		}
	}
	s.Renew()
	if a, _ := s.Find(context.Background(), Query{"http://a/", "a"}); entries(a) != "PROXY b:1" {
		t.Errorf("begun anew: %s", entries(a))
	}
}

// FuzzTextFunctions compares the functions of texts with naive readings of what browsers do.
func FuzzTextFunctions(f *testing.F) {
	s, err := New(context.Background(), `function FindProxyForURL(a, b) { alert([isPlainHostName(a), dnsDomainIs(a, b), localHostOrDomainIs(a, b), dnsDomainLevels(a), shExpMatch(a, b)].join(" ")); return "DIRECT" }`,
		Options{Engines: 1, CacheFor: -1, Time: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	for _, x := range [][2]string{{"www.corp.example", "*.corp.example"}, {"www", "www.corp.example"}, {"", "*"}, {"aXbXc", "a*X?"}, {"a[b]c", "a[b]*"}, {"ä\u4e16", "?\u4e16"}, {"::1", "*:*"}, {"aaaaaaaa", "*a*a*b"}} {
		f.Add(x[0], x[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) || len(a) > 300 || len(b) > 60 || strings.ContainsRune(a+b, 0) {
			return
		}
		got, err := s.Find(context.Background(), Query{a, b})
		if err != nil || len(got.Alerts) != 1 {
			t.Fatal(err)
		}
		pattern := regexp.QuoteMeta(b)
		pattern = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(pattern)
		matches := regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(a)
		if strings.Contains(b, `\`) { // the replacer would take the half of an escaped backslash
			matches = globMatch(a, b)
		}
		want := fmt.Sprint(!strings.ContainsAny(a, ".:"), strings.HasSuffix(a, b), a == b || strings.HasPrefix(b, a+"."), strings.Count(a, "."), matches)
		if fields := strings.Fields(got.Alerts[0]); strings.ContainsRune(a, ':') && len(fields) == 5 { // of a colon browsers ask no more; we ask for an address
			want = fields[0] + want[strings.IndexByte(want, ' '):]
		}
		if got.Alerts[0] != want {
			t.Fatalf("%q, %q: %s, want %s", a, b, got.Alerts[0], want)
		}
	})
}

// BenchmarkFindParallel is many flows at once, for hosts that are asked about for the first time.
func BenchmarkFindParallel(b *testing.B) {
	for _, n := range []int{10, 120} {
		b.Run(fmt.Sprintf("%d rules", n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("function FindProxyForURL(url, host) {\n")
			for i := range n {
				fmt.Fprintf(&text, "if (shExpMatch(host, \"*.x%d.example\")) return \"PROXY p%d:8080\";\n", i, i)
			}
			text.WriteString("return \"PROXY a:8080; DIRECT\"; }")
			s := script(b, text.String(), Options{CacheFor: -1})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Find(context.Background(), Query{"https://www.elsewhere.example/", "www.elsewhere.example"}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
