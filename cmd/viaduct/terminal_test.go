package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain text, with = +":  "plain text, with = +",
		"line\nbreak\r\ttab":    `line\nbreak\r\ttab`,
		"\x1b[31mred\x1b]0;t\a": `\x1b[31mred\x1b]0;t\a`,
		"\u009b31m":             `\u009b31m`, // CSI as one character
		"gnp\u202eexe":          `gnp\u202eexe`,
		"\u2066x\u2069\u200b":   `\u2066x\u2069\u200b`,
		"bad\xff\xc3(utf8":      `bad\xff\xc3(utf8`,
		"zero\x00":              `zero\x00`,
		"del\x7f":               `del\x7f`,
		"bücher, 日本, 😀":         "bücher, 日本, 😀",
		"nbsp\u00a0":            `nbsp\u00a0`,
		"tag\U000e0041":         `tag\U000e0041`,
		"\u3164\u2800":          `\u3164\u2800`,
		"e\u0301":               "e\u0301",
		"\ud7ff":                `\ud7ff`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := printable("x" + strings.Repeat("\u0301", 500)); utf8.RuneCountInString(got) != 1+maxMarks {
		t.Errorf("%d characters of marks stay", utf8.RuneCountInString(got)-1)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b[0m", "\u202e", "\xff", "日本", "e\u0301", strings.Repeat("x", 300)} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		got := printable(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q is no UTF-8", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q holds %U", got, r)
			}
		}
		if printable(got) != got {
			t.Errorf("%q changes once more", got)
		}
		width = max(0, min(width, 500))
		if x := fit(got, width); cells(x) != width {
			t.Errorf("%q in %d: %q has %d", got, width, x, cells(x))
		}
	})
}

func TestFit(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{{"abc", 5, "abc  "}, {"abcdef", 4, "abc…"}, {"日本語", 4, "日… "}, {"日本", 4, "日本"}, {"abc", 0, ""}, {"abc", 1, "…"}} {
		if got := fit(c.in, c.width); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.in, c.width, got, c.want)
		}
	}
	t.Setenv("LC_ALL", "C")
	if got := fit("abcdef", 4); got != "abc~" {
		t.Errorf("%q", got)
	}
}
