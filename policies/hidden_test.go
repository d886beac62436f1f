package policies

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reports is everything that can be shown of diagnostics.
func reports(t *testing.T, d Diagnostics) string {
	t.Helper()
	var text strings.Builder
	if err := d.WriteText(&text, false); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return text.String() + string(asJSON) + "\n" + d.Error()
}

// writtenSecrets are slips of the pen round a password, with % where it stands. Each must be reported without it.
var writtenSecrets = []struct{ file, text string }{
	{"p.hcl", `upstream "a" { auth { password = "ab\"%" } }`},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = \"ab\\\"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = \"x${\"%\"}\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = %\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = local.%\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = %(1)\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = \"a\" + \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    passwrd = \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth { passwrd = \"%\" }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    word = \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    word \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth = {\n    username = \"x\"\n    word = \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    word = upper(\n      \"}\",\n      %,\n    )\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\n  auth {\n    username = \"x\"\n    word = \"%\"\n  }\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://h:1\"\n  password = \"%\"\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://me:a/%@h:1\"\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"me:%@h:1\"\n}"},
	{"p.hcl", "upstream \"a\" {\n  url = \"http://me:x@y\\\"%@h:1\"\n}"},
	{"p.hcl", "locals {\n  corp = nosuch(\"%\")\n}\nupstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = local.corp\n  }\n}"},
	{"p.hcl", "variable \"password\" {\n  type = number\n  default = \"%\"\n}"},
	{"p.hcl.json", `{"upstream": {"a": {"url": "http://h:1", "auth": {"username": "x", "password": "ab\"%"}}}}`},
	{"p.hcl.json", `{"upstream": {"a": {"url": "http://h:1", "auth": {"username": "x", "passwrd": "%"}}}}`},
	{"p.hcl.json", "{\"upstream\": {\"a\": {\n\"url\": \"http://h:1\",\n\"auth\": {\n\"username\": \"x\",\n\"password\": \"ab\\\"%\"}}}}"},
	{"p.hcl.json", "{\"upstream\": {\"a\": {\n\"url\": \"http://h:1\",\n\"auth\": {\n\"username\": \"x\",\n\"word\": \"${%}\"\n}}}}"},
	{"p.hcl.json", "{\"upstream\": {\"a\": {\n\"url\": \"http://h:1\",\n\"auth\": {\n\"username\": \"x\",\n\"password\":\n\"${%}\"\n}}}}"},
	{"p.hcl.json", "{\"upstream\": {\"a\": {\n\"url\": \"http://h:1\",\n\"auth\": {\n\"username\": \"x\",\n\"password\": \"ab\"%\"\n}}}}"},
}

// TestWrittenSecrets: what is reported holds neither the password nor its length.
func TestWrittenSecrets(t *testing.T) {
	for _, x := range writtenSecrets {
		var said [2]string
		for i, secret := range []string{"SECRET1", "SECRET1SECRET1xx"} {
			src := strings.ReplaceAll(x.text, "%", secret) + "\n"
			_, d := Load(Options{Source: map[string][]byte{x.file: []byte(src)}})
			if len(d.List) == 0 {
				t.Fatalf("nothing is wrong with\n%s", src)
			}
			said[i] = reports(t, d)
			if strings.Contains(said[i], "SECRET") {
				t.Errorf("%s\nsays: %s", src, said[i])
			}
			_, d = Format(x.file, []byte(src))
			if len(d.List) > 0 && strings.Contains(reports(t, d), "SECRET") {
				t.Errorf("fmt of %s\nsays: %s", src, reports(t, d))
			}
		}
		if said[0] != said[1] {
			t.Errorf("%s\nthe length of the password shows:\n%s\n%s", x.text, said[0], said[1])
		}
	}
}

// TestHiddenLine shows what is left of a line with a password.
func TestHiddenLine(t *testing.T) {
	_, d := loadText("upstream \"a\" {\n  url = \"http://h:1\"\n  auth {\n    username = \"x\"\n    password = nosuch\n  }\n}\npolicy \"default\" {\n  otherwise { via = upstream.a }\n}\n", Options{})
	var b strings.Builder
	if err := d.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	const want = "p.hcl:5:16: error: Unknown name\n" +
		"      password = ***\n" +
		"                 ^^^\n" +
		"  There is no such name here. Texts are written in quotes.\n"
	if b.String() != want {
		t.Errorf("got\n%s\nexpected\n%s", b.String(), want)
	}
}

// TestOwnTextStaysWhole: a password as short as a letter takes nothing out of messages, so that they tell nothing of it.
func TestOwnTextStaysWhole(t *testing.T) {
	env := environ("HTTP_PROXY=http://u:p@10.0.0.1:8080")
	src, _ := Default(env)
	_, d := Load(Options{Source: map[string][]byte{DefaultFile: src}, Environ: env})
	if said := reports(t, d); !strings.Contains(said, "credentials go to this proxy over plain TCP") || strings.Contains(said, hiddenMark+"roxy") {
		t.Errorf("says %s", said)
	}
}

// TestSecretValues: functions repeat their arguments in errors, which are values of secrets here.
func TestSecretValues(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte("sesame-7f3a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environ("HTTP_PROXY=http://sesame-u:sesame-p@h:1")
	for _, e := range []string{`env(credential("c"))`, `file(credential("c"))`, `credential(credential("c"))`, `credential(local.s)`, `env(local.o.a)`,
		`env(proxy_password("HTTP_PROXY"))`, `proxy_username(credential("c"))`, `file("${credential("c")}/x")`, `{ a = 1 }[credential("c")]`} {
		for _, lenient := range []bool{false, true} {
			src := fmt.Sprintf("locals {\n  s = credential(\"c\")\n  o = { a = credential(\"c\") }\n  x = %s\n}\npolicy \"p\" {\n  rule \"r\" {\n    when = %s == client.user\n    via = direct\n  }\n}\n", e, e)
			_, d := loadText(src, Options{Credentials: dir, Environ: env, Lenient: lenient})
			if said := reports(t, d); len(d.List) == 0 || strings.Contains(said, "sesame") {
				t.Errorf("%s\nsays: %s", src, said)
			}
		}
	}
}

// TestMissingCredential: a strict load says as well as a lenient one what is missing.
func TestMissingCredential(t *testing.T) {
	for _, lenient := range []bool{false, true} {
		_, d := loadText("upstream \"a\" {\n  url = \"https://h:1\"\n  auth {\n    username = \"x\"\n    password = credential(\"corp\")\n  }\n}\npolicy \"default\" {\n  otherwise { via = upstream.a }\n}\n", Options{Lenient: lenient})
		if len(d.List) != 1 || d.List[0].Summary != "Cannot read credential" || !strings.Contains(d.List[0].Detail, "LoadCredential=corp:PATH") || d.HasErrors() == lenient {
			t.Errorf("lenient %v: %s", lenient, reports(t, d))
		}
	}
}
