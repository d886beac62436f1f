package policies

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// loadText loads one file in memory.
func loadText(src string, o Options) (*Config, Diagnostics) {
	o.Source = map[string][]byte{"p.hcl": []byte(src)}
	return Load(o)
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"20.hcl":          "policy \"default\" {\notherwise { via = upstream.a }\n}\n",
		"10.hcl.json":     `{"upstream": {"a": {"url": "http://127.0.0.1:8080"}}}`,
		"a.test.hcl":      "test \"t\" {\nconnect = \"x.example:1\"\nexpect { via = upstream.a }\n}\n",
		".hidden.hcl":     "syntax error",
		"notes.txt":       "syntax error",
		"b.hcl~":          "syntax error",
		"sub/deeper.hcl":  "syntax error",
		"folder.hcl/x.md": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, text)
	}
	c, d := Load(Options{Paths: []string{dir, filepath.Join(dir, "20.hcl")}})
	if c == nil {
		t.Fatal(d.Error())
	}
	var names []string
	for _, f := range c.Files {
		names = append(names, filepath.Base(f))
	}
	if got := strings.Join(names, " "); got != "10.hcl.json 20.hcl a.test.hcl" {
		t.Errorf("read %s", got)
	}
	checkTests(t, c)
}

func TestNothingToLoad(t *testing.T) {
	for _, paths := range [][]string{nil, {"nosuch.hcl"}, {t.TempDir()}} {
		if c, d := Load(Options{Paths: paths}); c != nil || !d.HasErrors() || len(d.List) != 1 {
			t.Errorf("%v: %v", paths, d.List)
		}
	}
}

const variableSource = `
variable "port" {
  type = number
  default = 1
}
variable "nets" {
  type = list(string)
}
variable "name" {
  default = "x.example"
}
policy "default" {
  rule "r" {
    match {
      host   = var.name
      port   = var.port
      client = var.nets
    }
    via = direct
  }
}
test "t" {
  client  = "10.1.1.1"
  connect = "y.example:22"
  expect { rule = "r" }
}
`

func TestVariables(t *testing.T) {
	c, d := loadText(variableSource, Options{
		Vars:    map[string]string{"port": "22", "name": "y.example"},
		Environ: environ("VIADUCT_VAR_port=33", `VIADUCT_VAR_nets=["10.0.0.0/8", "fd00::/8"]`),
	})
	if c == nil {
		t.Fatal(d.Error())
	}
	checkTests(t, c)
	for _, x := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"port": "many"}, "Wrong type"},
		{map[string]string{"nets": "[10"}, "Wrong value of variable"},
		{map[string]string{"prot": "1", "nets": `["10.0.0.0/8"]`}, `Did you mean "port"?`},
		{nil, "Variable not set"},
	} {
		if c, d := loadText(variableSource, Options{Vars: x.vars}); c != nil || !strings.Contains(d.Error(), x.want) {
			t.Errorf("%v: %s", x.vars, d.Error())
		}
	}
}

const secretSource = `
listener "l" {
  address = "127.0.0.1:1"
  authenticate { htpasswd = "nosuch" }
}
upstream "a" {
  url = "https://${env("NOSUCH_HOST")}:1"
  tls { ca = "nosuch.pem" }
  auth {
    username = "x"
    password = credential("canary")
  }
}
policy "default" {
  rule "r" {
    match { host = "x.example" }
    via = upstream.a
  }
  otherwise { via = direct }
}
test "t" {
  connect = "x.example:1"
  expect { via = upstream.a }
}
`

// TestLenient: without the secrets of the service a policy can be checked and asked, and a strict load refuses it.
func TestLenient(t *testing.T) {
	c, d := loadText(secretSource, Options{})
	if c != nil {
		t.Error("a strict load takes missing files")
	}
	errors, _ := d.Count()
	if errors != 4 {
		t.Errorf("%d errors, expected one for each of htpasswd, ca, credential, env: %s", errors, d.Error())
	}
	c, d = loadText(secretSource, Options{Lenient: true})
	if c == nil {
		t.Fatal(d.Error())
	}
	if _, warnings := d.Count(); warnings != 4 {
		t.Errorf("%d warnings, expected 4: %v", warnings, d.List)
	}
	checkTests(t, c)
	if u := c.Listeners[0].Users; u == nil || u.Verify("anna", "x") || u.Verify("", "") {
		t.Error("without its file of users a listener lets somebody in")
	}
	if a := c.Upstreams.Upstreams[0].Address.String(); a != "unknown.invalid:1" {
		t.Errorf("an upstream without a known URL is at %s", a)
	}
	if c.Upstreams.Upstreams[0].TLS.RootCAs == nil {
		t.Error("without its file of certificates an upstream trusts the system's")
	}
}

// TestLenientCondition: a condition on what is not here compiles.
func TestLenientCondition(t *testing.T) {
	const src = "locals {\n  admin = env(\"NOSUCH\")\n}\npolicy \"default\" {\n  rule \"r\" {\n    when = client.user == local.admin || client.user == env(\"NOSUCH2\")\n    via = direct\n  }\n}\n"
	c, d := loadText(src, Options{Lenient: true})
	if _, warnings := d.Count(); c == nil || warnings < 2 {
		t.Error(d.Error(), d.List)
	}
	if c, _ := loadText(src, Options{}); c != nil {
		t.Error("a strict load takes missing variables")
	}
}

// TestSecretsStayHidden: the password must be in no text that can be made of a configuration or its diagnostics.
func TestSecretsStayHidden(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "canary"), "sesame-7f3a\n")
	src := strings.NewReplacer(`env("NOSUCH_HOST")`, `"p.example"`, `ca = "nosuch.pem"`, `min_version = "1.2"`, "authenticate { htpasswd = \"nosuch\" }", "").Replace(secretSource)
	c, d := loadText(src, Options{Credentials: dir})
	if c == nil {
		t.Fatal(d.Error())
	}
	a := c.Upstreams.Upstreams[0].Auth
	if a.Password.Reveal() != "sesame-7f3a" || a.Credential != "canary" {
		t.Errorf("the credential is %v, named %q", a.Password.Reveal(), a.Credential)
	}
	asJSON, _ := json.Marshal(c.Upstreams.Upstreams[0].Auth)
	for _, text := range []string{fmt.Sprintf("%v %+v", c.Upstreams.Upstreams, a), fmt.Sprintf("%#v", *a), string(asJSON)} {
		if strings.Contains(text, "sesame") {
			t.Errorf("the password shows: %s", text)
		}
	}
	for _, bad := range []string{
		"upstream \"a\" {\n  url = \"http://me:sesame-7f3a@p.example\"\n}\n",
		"upstream \"a\" {\n  url = \"htp://me:sesame-7f3a@p.example:1\"\n}\n",
		"upstream \"a\" {\n  url = \"http://p.example:1\"\n  auth {\n    username = \"x\"\n    password = \"sesame-7f3a\"\n  }\n}\n",
		"locals {\n  x = credential(\"canary\")\n}\nupstream \"a\" {\n  url = \"http://${local.x}:1\"\n}\n",
		"locals {\n  x = credential(\"canary\")\n}\nupstream \"a\" {\n  url = upper(local.x) + 1\n}\n",
		"policy \"p\" {\n  rule \"r\" {\n    when = credential(\"canary\") == client.user\n    via = direct\n  }\n}\n",
		"locals {\n  x = tonumber(credential(\"canary\"))\n}\n",
		"locals {\n  x = { a = credential(\"canary\") }\n  y = local.x.b\n}\n",
	} {
		_, d := loadText(bad, Options{Credentials: dir})
		var text strings.Builder
		d.WriteText(&text, true)
		asJSON, _ := json.Marshal(d)
		if len(d.List) == 0 || strings.Contains(text.String()+string(asJSON)+d.Error(), "sesame") {
			t.Errorf("%s\nsays: %s", bad, text.String())
		}
	}
}

func TestCredentialNames(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), "\n")
	write(t, filepath.Join(dir, "good"), "x y\r\n")
	l := &loader{o: Options{Credentials: dir}}
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/b", "nosuch", "empty", "a\x00"} {
		if v, err := l.credential(name); err == nil {
			t.Errorf("credential(%q) is %q", name, v)
		}
	}
	if v, err := l.credential("good"); v != "x y" {
		t.Errorf("credential is %q, %v", v, err)
	}
}

func TestGeneration(t *testing.T) {
	c, d := loadText("policy \"default\" {\nrule \"a\" {\nmatch { port = 1 }\nvia = direct\n}\n}\n", Options{Generation: 7})
	if c == nil {
		t.Fatal(d.Error())
	}
	for port := range uint16(2) {
		got, _ := c.Programs["default"].Decide(&connmodel.Facts{Target: connmodel.Address{Host: "x", Port: port + 1}, Time: time.Now()})
		if got.Generation != 7 || got.Policy != "default" || got.Line == 0 || got.File != "p.hcl" {
			t.Errorf("decision %+v", got)
		}
	}
}

func TestFormat(t *testing.T) {
	got, d := Format("p.hcl", []byte("policy \"x\" {\n# why\notherwise { via=direct }\n}\n"))
	if d.HasErrors() || string(got) != "policy \"x\" {\n  # why\n  otherwise { via = direct }\n}\n" {
		t.Errorf("got %q, %v", got, d.Error())
	}
	if got, d := Format("p.hcl", []byte("policy {{")); !d.HasErrors() || string(got) != "policy {{" {
		t.Errorf("a file that cannot be parsed becomes %q", got)
	}
	if got, d := Format("p.hcl.json", []byte(`{ }`)); d.HasErrors() || string(got) != `{ }` {
		t.Errorf("JSON becomes %q", got)
	}
}

// TestDiagnosticsText shows how a problem is printed.
func TestDiagnosticsText(t *testing.T) {
	src := "policy \"default\" {\n\totherwise { via = upstream.corp_b }\n}\nupstream \"corp_a\" {\n  url = \"http://127.0.0.1:1\"\n}\n"
	_, d := loadText(src, Options{})
	var b strings.Builder
	if err := d.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	const want = "p.hcl:2:20: error: Unknown name\n" +
		"  \totherwise { via = upstream.corp_b }\n" +
		"  \t                  ^^^^^^^^^^^^^^^\n" +
		"  There is no upstream \"corp_b\". Did you mean \"corp_a\"?\n"
	if b.String() != want {
		t.Errorf("got\n%s\nexpected\n%s", b.String(), want)
	}
	asJSON, _ := json.Marshal(d)
	const wantJSON = `{"valid":false,"errors":1,"warnings":0,"diagnostics":[{"severity":"error","summary":"Unknown name",` +
		`"detail":"There is no upstream \"corp_b\". Did you mean \"corp_a\"?","file":"p.hcl","line":2,"column":20,"end_line":2,"end_column":35,` +
		`"snippet":"\totherwise { via = upstream.corp_b }"}]}`
	if string(asJSON) != wantJSON {
		t.Errorf("got %s", asJSON)
	}
	if err := d.Err(); err == nil || err.Error() != `p.hcl:2: Unknown name: There is no upstream "corp_b". Did you mean "corp_a"?` {
		t.Errorf("the error is %v", err)
	}
}
