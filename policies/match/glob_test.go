package match_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"viaduct/policies/match"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		yes, not []string
	}{
		{"", []string{""}, []string{"a"}},
		{"*", []string{"", "a", "a.b/c"}, nil},
		{"***", []string{"", "a"}, nil},
		{"abc", []string{"abc"}, []string{"", "ab", "abcd", "ABC", "xabc"}},
		{"/api/*", []string{"/api/", "/api/a/b.c"}, []string{"/api", "/apix", "x/api/"}},
		{"*.example.com", []string{"a.example.com", "a.b.example.com", ".example.com"}, []string{"example.com", "a.example.comx"}},
		{"*ads*", []string{"ads", "xadsx", "ads.com"}, []string{"", "ad.s"}},
		{"a*a", []string{"aa", "aba", "aaa"}, []string{"a", "ab", ""}},
		{"ab*ba", []string{"abba", "abxba"}, []string{"aba"}},
		{"a*b*c", []string{"abc", "axxbxxc", "abbcbc"}, []string{"acb", "abcd", "ac"}},
		{"a*bc*bcd", []string{"abcbcd", "abcbcbcd"}, []string{"abcd", "abcbc"}},
		{"?", []string{"a", ".", "/", "\xff", "*"}, []string{"", "ab", "\u00e9"}},
		{"a?c", []string{"abc", "a.c"}, []string{"ac", "abbc"}},
		{"??*", []string{"ab", "abc"}, []string{"a", ""}},
		{"*??", []string{"ab", "abc"}, []string{"a", ""}},
		{"*?*?*", []string{"ab", "abc"}, []string{"a", ""}},
		{"*ab*ba*", []string{"abba", "xabxbax"}, []string{"xaba", "abxab", "xxabaxx"}},
		{"*a?*?b*", []string{"axxb", "aaabb"}, []string{"xaxb", "xxaxbx"}},
		{"a*?b*c", []string{"axbc", "abbc", "aabbcc"}, []string{"abc"}},
		{"ads[0-9].example.com", []string{"ads0.example.com", "ads9.example.com"}, []string{"ads.example.com", "adsa.example.com", "ads10.example.com"}},
		{"ads[0-9]*.com", []string{"ads0.com", "ads01x.com"}, []string{"ads.com", "adsx0.com"}},
		{"[a-cx]", []string{"a", "b", "c", "x"}, []string{"d", "-", "", "ax"}},
		{"[!a-c]", []string{"d", "!", "\xff"}, []string{"a", "b", ""}},
		{"[^a-c]", []string{"d", "^"}, []string{"a"}},
		{"[a^!]", []string{"a", "^", "!"}, []string{"b"}},
		{"[]]", []string{"]"}, []string{"[", ""}},
		{"[!]]", []string{"["}, []string{"]"}},
		{"[]-a]", []string{"]", "^", "_", "`", "a"}, []string{"-", "b"}},
		{"[-a]", []string{"-", "a"}, []string{"b"}},
		{"[a-]", []string{"-", "a"}, []string{"b"}},
		{"[a-c-e]", []string{"a", "b", "c", "-", "e"}, []string{"d"}},
		{"[a-a]", []string{"a"}, []string{"-", "b"}},
		{"[*][?][[]", []string{"*?["}, []string{"ab[", ""}},
		{`a\*b`, []string{`a\b`, `a\xyzb`}, []string{"a*b"}},
		{"]", []string{"]"}, []string{""}},
		{"b\u00fccher.*", []string{"b\u00fccher.example"}, []string{"bucher.example"}},
	} {
		g, err := match.CompileGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if g.String() != c.pattern {
			t.Errorf("%q prints as %q", c.pattern, g)
		}
		for _, s := range c.yes {
			if !g.Match(s) {
				t.Errorf("%q does not take %q", c.pattern, s)
			}
		}
		for _, s := range c.not {
			if g.Match(s) {
				t.Errorf("%q takes %q", c.pattern, s)
			}
		}
	}
	var zero match.Glob
	if !zero.Match("") || zero.Match("a") {
		t.Error("the zero Glob takes the empty string only")
	}
}

func TestGlobRefused(t *testing.T) {
	for _, c := range []struct {
		pattern string
		offset  int
		reason  string
	}{
		{"[", 0, "not closed"},
		{"ab[", 2, "not closed"},
		{"ab[a-z", 2, "not closed"},
		{"[]", 0, "not closed"},
		{"[!]", 0, "not closed"},
		{"[!", 0, "not closed"},
		{"x[z-a]", 2, "ends before it begins"},
		{"x[abz-a]", 4, "ends before it begins"},
		{"[\u00e9]", 1, "ASCII"},
		{"[a-\u00e9]", 1, "ASCII"},
		{strings.Repeat("a", 4097), 4096, "4096"},
	} {
		g, err := match.CompileGlob(c.pattern)
		var pe *match.PatternError
		if g != nil || !errors.As(err, &pe) || pe.Offset != c.offset || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%.20q: %v, want offset %d and %q", c.pattern, err, c.offset, c.reason)
		}
	}
}

func TestGlobSuffix(t *testing.T) {
	for pattern, want := range map[string]string{
		"ads*.example.com":     "example.com",
		"*.example.com":        "example.com",
		"*x.example.com":       "example.com",
		"*example.com":         "com",
		"ads[0-9].example.com": "example.com",
		"?.example.com":        "example.com",
		"a[.]b.example.com":    "example.com",
		"a*b[.]c.example.com":  "example.com",
		"a*b?.com":             "com",
		"ads.*":                "",
		"*":                    "",
		"*ads*":                "",
		"*com":                 "",
		"*.com*":               "",
		"*.":                   "",
		"*..com":               "",
		"*.COM":                "",
		"ads*.[c]om":           "",
		"www.example.com":      "",
		"":                     "",
	} {
		g, err := match.CompileGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := g.Suffix(); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", pattern, got, ok, want)
		}
	}
}

// What a glob takes, the index must offer under its suffix, or a rule would be passed over.
func TestGlobSuffixLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`([ab]|\*|\?|\[a-b\]|\.){1,10}`).Draw(t, "pattern")
		g, err := match.CompileGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		host := rapid.StringMatching(`[ab]{1,2}(\.[ab]{1,2}){0,3}`).Draw(t, "host")
		if domain, ok := g.Suffix(); ok && g.Match(host) && !takes("*."+domain, host) {
			t.Fatalf("%q takes %q, which is not below %q", pattern, host, domain)
		}
	})
}

// globRegexp says the same as the pattern in the language of regexp. Patterns and strings must be ASCII.
func globRegexp(pattern string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			end := i + 1
			if end < len(pattern) && (pattern[end] == '!' || pattern[end] == '^') {
				end++
			}
			end += 1 + strings.IndexByte(pattern[end+1:], ']')
			b.WriteString(classRegexp(pattern[i+1 : end]))
			i = end
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

func classRegexp(class string) string {
	var b strings.Builder
	b.WriteByte('[')
	if class[0] == '!' || class[0] == '^' {
		b.WriteByte('^')
		class = class[1:]
	}
	for i := 0; i < len(class); i++ {
		low, high := class[i], class[i]
		if i+2 < len(class) && class[i+1] == '-' {
			high = class[i+2]
			i += 2
		}
		for c := int(low); c <= int(high); c++ {
			b.WriteString(`\x{` + hexByte(byte(c)) + `}`)
		}
	}
	b.WriteByte(']')
	return b.String()
}

func hexByte(c byte) string {
	return string([]byte{"0123456789abcdef"[c>>4], "0123456789abcdef"[c&15]})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func checkGlob(t interface{ Fatalf(string, ...any) }, pattern, s string) {
	g, err := match.CompileGlob(pattern)
	if err != nil {
		var pe *match.PatternError
		if !errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(pattern) {
			t.Fatalf("%q: %v", pattern, err)
		}
		return
	}
	got := g.Match(s)
	if !ascii(pattern) || !ascii(s) || len(pattern) > 300 {
		return
	}
	expr := globRegexp(pattern)
	re, err := regexp.Compile(expr)
	if err != nil {
		t.Fatalf("%q compiled, but %s does not: %v", pattern, expr, err)
	}
	if want := re.MatchString(s); got != want {
		t.Fatalf("%q on %q: %v, but %s says %v", pattern, s, got, expr, want)
	}
}

func TestGlobIsTheRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`([abc]|\*|\?|\[!?[ab\]-][a-c-]{0,3}\]|ab){0,9}`).Draw(t, "pattern")
		for _, s := range rapid.SliceOfN(rapid.OneOf(rapid.StringMatching(`[abc\]-]{0,14}`), rapid.StringMatching(`[ab]{1,14}`)), 1, 10).Draw(t, "strings") {
			checkGlob(t, pattern, s)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c[!x-z]*", "aXbYc0")
	f.Add("*a*a*a*", "aaaa")
	f.Add("[]-a]*[^]]", "]x")
	f.Add("/api/*", "/api/v1")
	f.Add("[a-", "a")
	f.Add("[!-a-]?\n*", "b\n")
	f.Fuzz(func(t *testing.T, pattern, s string) { checkGlob(t, pattern, s) })
}

// The pattern on which a backtracking matcher needs longer than the age of the universe.
func TestGlobDoesNotBacktrack(t *testing.T) {
	g, err := match.CompileGlob(strings.Repeat("a*", 2000) + "b")
	if err != nil {
		t.Fatal(err)
	}
	h, err := match.CompileGlob(strings.Repeat("*a?", 1000) + "*b")
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Repeat("a", 64<<10)
	start := time.Now()
	if g.Match(s) || h.Match(s+"c") || !g.Match(s+"b") || !h.Match(s+"b") {
		t.Error("the wrong answer")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}
