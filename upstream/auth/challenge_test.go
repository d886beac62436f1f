package auth

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string
		want   []Challenge
		err    error
	}{
		{"none", nil, nil, nil},
		{"empty", []string{"", " , ,"}, nil, nil},
		{"one word", []string{"Negotiate"}, []Challenge{{Scheme: "negotiate"}}, nil},
		{"several lines", []string{"Negotiate", "NTLM", `Basic realm="x"`},
			[]Challenge{{Scheme: "negotiate"}, {Scheme: "ntlm"}, {Scheme: "basic", Params: []Param{{"realm", "x"}}}}, nil},
		{"one line", []string{`Negotiate, NTLM,Digest realm="a, b", nonce="n" , qop="auth,auth-int", stale=FALSE, Basic realm="x"`},
			[]Challenge{{Scheme: "negotiate"}, {Scheme: "ntlm"},
				{Scheme: "digest", Params: []Param{{"realm", "a, b"}, {"nonce", "n"}, {"qop", "auth,auth-int"}, {"stale", "FALSE"}}},
				{Scheme: "basic", Params: []Param{{"realm", "x"}}}}, nil},
		{"token68", []string{"NTLM TlRMTVNTUAAC+/-._~==, Basic realm=x"},
			[]Challenge{{Scheme: "ntlm", Token68: "TlRMTVNTUAAC+/-._~=="}, {Scheme: "basic", Params: []Param{{"realm", "x"}}}}, nil},
		{"token68 then spaces", []string{"NTLM abc= \t"}, []Challenge{{Scheme: "ntlm", Token68: "abc="}}, nil},
		{"escapes", []string{`Basic realm="a\"b\\c"`}, []Challenge{{Scheme: "basic", Params: []Param{{"realm", `a"b\c`}}}}, nil},
		{"bad whitespace", []string{"Basic  realm = \"x\" , charset = UTF-8"}, []Challenge{{Scheme: "basic", Params: []Param{{"realm", "x"}, {"charset", "UTF-8"}}}}, nil},
		{"empty quoted", []string{`Basic realm=""`}, []Challenge{{Scheme: "basic", Params: []Param{{"realm", ""}}}}, nil},
		{"unquoted end", []string{`Basic realm="x`, "NTLM"}, []Challenge{{Scheme: "basic"}, {Scheme: "ntlm"}}, errUnquoted},
		{"escape at end", []string{`Basic realm="x\`}, []Challenge{{Scheme: "basic"}}, errUnquoted},
		{"control", []string{"Basic realm=\"a\x01b\""}, []Challenge{{Scheme: "basic"}}, errControl},
		{"line break", []string{"Basic realm=\"a\\\nb\""}, []Challenge{{Scheme: "basic"}}, errControl},
		{"no scheme", []string{`="x"`}, nil, errNoScheme},
		{"parameter first", []string{`realm="x"`}, nil, errParamAtHead},
		{"no value", []string{"Basic realm="}, []Challenge{{Scheme: "basic", Token68: "realm="}}, nil},
		{"no value either", []string{"Basic a=b, realm=,"}, []Challenge{{Scheme: "basic", Params: []Param{{"a", "b"}}}}, errNoValue},
		{"trailing", []string{`Basic realm="x" y`}, []Challenge{{Scheme: "basic"}}, errTrailing},
		{"two words", []string{"Basic foo bar"}, []Challenge{{Scheme: "basic"}, {Scheme: "foo", Token68: "bar"}}, nil},
		{"too long", []string{"NTLM", "NTLM " + strings.Repeat("a", maxChallengeBytes)}, []Challenge{{Scheme: "ntlm"}}, errTooLong},
		{"too many", []string{strings.Repeat("x,", 17)}, func() (all []Challenge) {
			for range maxChallenges {
				all = append(all, Challenge{Scheme: "x"})
			}
			return all
		}(), errTooMany},
		{"too many parameters", []string{"x " + strings.Repeat("a=b,", 33)}, []Challenge{{Scheme: "x", Params: func() (all []Param) {
			for range maxParams {
				all = append(all, Param{"a", "b"})
			}
			return all
		}()}}, errTooMany},
	} {
		got, err := Parse(tt.fields)
		if d := cmp.Diff(tt.want, got); d != "" || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v\n%s", tt.name, err, tt.err, d)
		}
	}
}

// FuzzParse holds what the rest relies on: bounds, and that nothing which could end a line gets through.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "Negotiate, NTLM TlRM=, Basic realm=\"x\\\"\", Digest nonce=a, qop=\"auth\"", "a b=c, d", "x =", "x y z", "\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		all, err := Parse([]string{a, b})
		if len(all) > maxChallenges {
			t.Fatal(len(all))
		}
		for i := range all {
			c := &all[i]
			if c.Scheme == "" || strings.ContainsAny(c.Scheme, "\r\n\x00 \",") || strings.ContainsAny(c.Token68, "\r\n\x00 \",") || len(c.Params) > maxParams {
				t.Fatalf("%+v", c)
			}
			for _, p := range c.Params {
				if p.Name == "" || strings.ContainsAny(p.Name+p.Value, "\r\n\x00") {
					t.Fatalf("%+v", p)
				}
			}
			if c.Token68 != "" && len(c.Params) > 0 && err == nil && !strings.Contains(a+b, c.Token68) {
				t.Fatalf("%+v", c)
			}
			if n, err := readDigest(c); err == nil && strings.ContainsAny(n.c.Algorithm, " \t\r\n\",") {
				t.Fatalf("%+v", n)
			}
		}
	})
}
