package pac

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"viaduct/connmodel"
)

func TestParseResult(t *testing.T) {
	for _, x := range []struct {
		text, want string
		problems   int
	}{
		{"DIRECT", "DIRECT", 0}, {"direct", "DIRECT", 0}, {" DIRECT ; ", "DIRECT", 0},
		{"PROXY a.example:8080", "PROXY a.example:8080", 0}, {"pRoXy A.Example:8080", "PROXY a.example:8080", 0}, {"PROXY  a:1 ;HTTP b:2;  HTTPS c:3", "PROXY a:1; PROXY b:2; HTTPS c:3", 0},
		{"SOCKS a:1; SOCKS4 b:2; SOCKS5 c:3; DIRECT", "SOCKS a:1; SOCKS4 b:2; SOCKS5 c:3; DIRECT", 0},
		{"PROXY a; HTTPS b; SOCKS c", "PROXY a:80; HTTPS b:443; SOCKS c:1080", 0},
		{"PROXY [2001:db8::1]:8080; PROXY [2001:db8::2]", "PROXY [2001:db8::1]:8080; PROXY [2001:db8::2]:80", 0},
		{"PROXY a:1; PROXY A:1; DIRECT; DIRECT", "PROXY a:1; DIRECT", 0},
		{"PROXY a:1; RUBBISH b:2; DIRECT", "PROXY a:1; DIRECT", 1}, {"PROXY\ta:1", "PROXY a:1", 0},
		{"PROXY a:0; PROXY b:70000; PROXY c:x; PROXY d:1 e; PROXY; DIRECT x; PROXY f:6", "PROXY f:6", 6},
		{"PROXY http://a:1/; PROXY user:secret@b:2; PROXY c:3", "PROXY c:3", 2},
		{strings.Repeat("PROXY a:1;", 40), "PROXY a:1", 0}, // the same again is no further entry
		{"", "", 0}, {";;", "", 0}, {"DIRECTLY", "", 1}, {"PROXY", "", 1}, {"PROXY a:1:2", "", 1}, {"<html>", "", 1}, {"null", "", 1}, {"undefined", "", 1}, {"PROXY a:1, DIRECT", "", 1},
	} {
		got, problems, err := ParseResult(x.text)
		if s := entries(Answer{Entries: got}); s != x.want || len(problems) != x.problems || (err != nil) != (x.want == "") {
			t.Errorf("%q: %s, %q, %v; want %s", x.text, s, problems, err, x.want)
		}
		if strings.Contains(strings.Join(problems, "\n"), "secret") {
			t.Errorf("%q: a password is in %q", x.text, problems)
		}
	}
	many := ""
	for i := range 50 {
		many += "PROXY a:" + string(rune('1'+i%9)) + string(rune('0'+i/9)) + ";"
	}
	if got, problems, err := ParseResult(many); len(got) != MaxEntries || len(problems) != 1 || err != nil {
		t.Errorf("%d entries, %q, %v", len(got), problems, err)
	}
}

func FuzzParseResult(f *testing.F) {
	for _, s := range []string{"DIRECT", "PROXY a:1; SOCKS5 [::1]:1080", "proxy x; ;;", "PROXY u:p@h:1", "HTTPS \xff:1", "PROXY a:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, problems, err := ParseResult(text)
		if (err == nil) != (len(got) > 0) || len(got) > MaxEntries || len(problems) > MaxEntries+1 {
			t.Fatalf("%d entries, %d problems, %v", len(got), len(problems), err)
		}
		var se *ScriptError
		if err != nil && !errors.As(err, &se) {
			t.Fatalf("%T", err)
		}
		for _, p := range problems {
			if len(p) > 1000 || !utf8.ValidString(p) {
				t.Fatalf("problem %q", p)
			}
		}
		for _, e := range got {
			if e.Kind == Direct && !strings.Contains(strings.ToUpper(text), "DIRECT") {
				t.Fatal("DIRECT, and the script did not say so")
			}
			again, _, err := ParseResult(e.String())
			if err != nil || len(again) != 1 || again[0] != e {
				t.Fatalf("%s is read as %v, %v", e, again, err)
			}
		}
	})
}

func TestDecode(t *testing.T) {
	const fn = "function FindProxyForURL(u, h) { return \"PROXY proxy:1\" } // Büro €"
	utf16le := "\xff\xfe"
	utf16be := "\xfe\xff"
	for _, r := range fn {
		utf16le += string([]byte{byte(r), byte(r >> 8)})
		utf16be += string([]byte{byte(r >> 8), byte(r)})
	}
	cp1252 := strings.NewReplacer("ü", "\xfc", "€", "\x80").Replace(fn)
	for name, x := range map[string]struct{ body, contentType string }{
		"plain": {fn, ""}, "utf-8": {fn, "application/x-ns-proxy-autoconfig; charset=utf-8"}, "with a mark": {"\xef\xbb\xbf" + fn, "text/plain; charset=iso-8859-1"},
		"utf-16le": {utf16le, ""}, "utf-16be": {utf16be, "text/javascript"}, "utf-16le by name": {utf16le[2:], "text/plain; charset=UTF-16LE"}, "utf-16be by name": {utf16be[2:], "text/plain; charset=utf-16be"},
		"windows-1252": {cp1252, ""}, "windows-1252 by name": {cp1252, "text/plain; charset=windows-1252"}, "said to be utf-8": {cp1252, "text/plain; charset=utf-8"}, "unknown charset": {fn, "text/plain; charset=klingon"}, "bad type": {fn, ";;;"},
	} {
		if got, err := Decode([]byte(x.body), x.contentType); err != nil || got != fn {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := Decode([]byte("// \xc3\xbc"), "text/plain; charset=latin1"); err != nil || got != "// Ã¼" {
		t.Errorf("latin1: %q, %v", got, err)
	}
	for body, want := range map[string]string{
		"": "empty", " \n\t": "empty", "\xef\xbb\xbf": "empty", "function\x00": "zero bytes", "<!DOCTYPE html><title>Login</title>": "HTML", "  <html>": "HTML", "<?xml version='1.0'?>": "HTML",
		"<!-- x --><html>": "HTML", "\xff\xfea": "odd", strings.Repeat("x", MaxSource+1): "more than",
	} {
		if _, err := Decode([]byte(body), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", body, err, want)
		}
	}
	if _, err := Decode([]byte("<!-- hide\nfunction FindProxyForURL() {}"), ""); err != nil {
		t.Errorf("a comment as in HTML: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("function FindProxyForURL(u, h) {}"), "text/plain; charset=utf-8")
	f.Add([]byte("\xff\xfea\x00"), "")
	f.Add([]byte("\xfe\xff\xd8\x00\x00a"), "x")
	f.Add([]byte("\x80\xff"), "text/plain; charset=latin1")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		text, err := Decode(body, contentType)
		if err != nil {
			if text != "" {
				t.Fatal("a text beside an error")
			}
			return
		}
		if !utf8.ValidString(text) || len(text) > 3*len(body) || strings.TrimSpace(text) == "" || strings.IndexByte(text, 0) >= 0 {
			t.Fatalf("%q from %q", text, body)
		}
	})
}

func TestQueryFor(t *testing.T) {
	for _, x := range []struct{ target, path, url, host string }{
		{"www.example.com:443", "", "https://www.example.com/", "www.example.com"},
		{"www.example.com:8443", "", "https://www.example.com:8443/", "www.example.com"},
		{"www.example.com:80", "", "http://www.example.com/", "www.example.com"},
		{"www.example.com:80", "/a?b=c", "http://www.example.com/a?b=c", "www.example.com"},
		{"www.example.com:8080", "/a#b", "http://www.example.com:8080/a", "www.example.com"},
		{"www.example.com:443", "/a", "http://www.example.com:443/a", "www.example.com"},
		{"www.example.com:80", "*", "http://www.example.com/", "www.example.com"},
		{"[2001:db8::1]:443", "", "https://[2001:db8::1]/", "2001:db8::1"},
		{"[2001:db8::1]:8443", "", "https://[2001:db8::1]:8443/", "2001:db8::1"},
		{"192.0.2.1:22", "", "https://192.0.2.1:22/", "192.0.2.1"},
	} {
		a, err := connmodel.ParseAddress(x.target)
		if err != nil {
			t.Fatal(err)
		}
		if q := QueryFor(a, x.path); q.URL != x.url || q.Host != x.host {
			t.Errorf("%s %s: %+v", x.target, x.path, q)
		}
	}
	a, _ := connmodel.ParseAddress("a:80")
	if q := QueryFor(a, "/"+strings.Repeat("x", 20000)); len(q.URL) != maxURL {
		t.Errorf("%d bytes", len(q.URL))
	}
}
