package policies

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// canaries is a policy with a secret, which begins with "canary", in every place where one may be written.
const canaries = `
variable "api_token" {
  type    = string
  default = "canary-variable"
}
variable "named" {
  type    = string
  default = "canary-named-variable"
}
variable "harmless" {
  type    = string
  default = "shown-variable"
}
locals {
  pw       = "canary-local"
  inner    = "canary-inner"
  outer    = "${local.inner}!"
  db_password = "canary-never-used"
  open     = "shown-local"
  # the old one was canary-local
  fields   = { "X-From" = "canary-object" }
  corp     = "canary-by-index"
}
gateway {
  admin {
    address = "127.0.0.1:9090"
    token   = "canary-token-of-the-door" // token = canary-comment-1
  }
  telemetry {
    traces {
      endpoint = "http://127.0.0.1:4318"
      headers = {
        Authorization = "Bearer canary-export"
        "X-Corp"      = local["corp"]
        "User-Agent"  = "shown-exporter"
      }
    }
  }
}
listener "desk" {
  address = "127.0.0.1:3128"
}
upstream "a" {
  url = "http://127.0.0.1:1"
  auth {
    username = "shown-user"
    password = local.pw
  }
}
upstream "b" {
  url = "http://127.0.0.1:2"
  auth {
    username = "shown-user"
    password = trimspace(<<EOT
canary-heredoc
EOT
    )
    # password = "canary-comment-2"
  }
}
upstream "c" {
  url = "http://127.0.0.1:3"
  auth { token = env("NOSUCH_VARIABLE", "canary-default") }
}
upstream "d" {
  url = "http://127.0.0.1:4"
  auth {
    username = "shown-user"
    password = "${var.named}canary-template${local.outer}"
  }
}
upstream "e" {
  url = "http://127.0.0.1:5"
  auth {
    username = "shown-user"
    password = join("-", ["canary-list-1", "canary-list-2"])
  }
}
upstream "f" {
  url = "http://127.0.0.1:6"
  auth {
    header = "X-Gateway-Token"
    token  = true ? "canary-yes" : "canary-no"
  }
}
upstream "g" {
  url = "http://127.0.0.1:7"
  auth {
    username = "shown-user"
    password = env("HOME")
  }
}
list "ads" {
  url      = "https://lists.example/x?token=canary-query&v=shown-query"
  on_error = "empty"
}
/* a proxy that was: http://joe:canary-comment-3@old.example:8080/ */
policy "default" {
  rule "fields" {
    match { header = { "X-Api-Key" = "canary-match", "User-Agent" = "shown-agent*" } }
    via = upstream.a
    headers {
      set = { "Authorization" = "canary-set", "X-Team" = "canary-team", "User-Agent" = "shown-set" }
    }
  }
  rule "condition" {
    when = request.header["X-Secret"] == "canary-when" || request.header["user-agent"] == "shown-when" || startswith(request.header["cookie"], "canary-call")
    via  = upstream.b
  }
  rule "computed" {
    when = client.user == "shown-client"
    via  = upstream.c
    headers { set = local.fields }
  }
  otherwise { via = direct }
}
test "with a field" {
  request = "GET http://a.example/"
  header  = { "Authorization" = "canary-test" }
  expect { via = direct }
}
`

// TestRedacted: no secret that is written in a policy is shown, wherever it stands; what is none is, and the rest is HCL still.
func TestRedacted(t *testing.T) {
	src := canaries
	c, d := loadText(src, Options{Lenient: true, Environ: environ("HOME=sesame-home")})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	files := c.Redacted()
	if len(files) != 1 {
		t.Fatalf("%d files", len(files))
	}
	text := files[0].Text
	if i := strings.Index(text, "canary"); i >= 0 {
		t.Errorf("shown: %s", text[max(0, i-60):min(len(text), i+60)])
	}
	for _, word := range regexp.MustCompile(`shown-[a-z]+`).FindAllString(src, -1) {
		if !strings.Contains(text, word) {
			t.Errorf("%s is not shown", word)
		}
	}
	for _, whole := range []string{`password = env("HOME")`, `password = local.pw`, `token = env("NOSUCH_VARIABLE", "***")`, `address = "127.0.0.1:9090"`, `token   = "***"`} {
		if !strings.Contains(text, whole) {
			t.Errorf("there is no %s in\n%s", whole, text)
		}
	}
	if _, diags := parse("p.hcl", []byte(text)); diags.HasErrors() {
		t.Errorf("what is left is no HCL: %v\n%s", diags, text)
	}
	if strings.Count(text, "\n") != strings.Count(src, "\n") {
		t.Error("lines were lost: what diagnostics and rules say of places would be wrong")
	}
	hide := c.Concealer()
	if got := hide("header x-api-key is not canary-match"); got != "header x-api-key is not ***" {
		t.Errorf("concealed: %s", got)
	}
}

// TestRedactedJSON is the same for the other syntax.
func TestRedactedJSON(t *testing.T) {
	const src = `{
  "locals": {"pw": "canary-local", "my_secret": ["canary-never-used"], "open": "shown-local"},
  "variable": {"api_token": {"type": "string", "default": "canary-variable"}},
  "gateway": {"admin": {"address": "127.0.0.1:9090", "token": "canary-token-of-the-door"},
    "telemetry": {"traces": {"endpoint": "http://127.0.0.1:4318", "headers": {"Authorization": "Bearer canary-export", "User-Agent": "shown-exporter"}}}},
  "listener": {"desk": {"address": "127.0.0.1:3128"}},
  "upstream": {
    "a": {"url": "http://127.0.0.1:1", "auth": {"username": "shown-user", "password": "canary \"quoted\" one"}},
    "b": {"url": "http://127.0.0.1:2", "auth": [{"username": "shown-user", "password": "${local.pw}"}]},
    "c": {"url": "http://127.0.0.1:3", "auth": {"username": "shown-user", "password": "${env(\"HOME\")}"}},
    "d": {"url": "http://127.0.0.1:4", "auth": {"username": "shown-user", "password": "${join(\"\", [\"canary-list\"])}"}}
  },
  "policy": {"default": {
    "rule": {"r": {"match": {"header": {"X-Key": "canary-match", "User-Agent": "shown-agent"}}, "via": "${upstream.a}",
      "when": "${request.header[\"X-Api-Key\"] == \"canary-when\"}",
      "headers": {"set": {"X-Team": "canary-set", "User-Agent": "shown-set"}}}},
    "otherwise": {"via": "direct"}}}
}`
	c, d := Load(Options{Source: map[string][]byte{"p.hcl.json": []byte(src)}, Lenient: true, Environ: environ("HOME=x")})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	text := c.Redacted()[0].Text
	if i := strings.Index(text, "canary"); i >= 0 {
		t.Errorf("shown: %s\n%s", text[max(0, i-60):min(len(text), i+60)], text)
	}
	for _, word := range append(regexp.MustCompile(`shown-[a-z]+`).FindAllString(src, -1), `${local.pw}`, `${env(\"HOME\")}`) {
		if !strings.Contains(text, word) {
			t.Errorf("%s is not shown in\n%s", word, text)
		}
	}
	if _, diags := parse("p.hcl.json", []byte(text)); diags.HasErrors() {
		t.Errorf("what is left is no JSON: %v", diags)
	}
}

// TestSecretAttributes: every attribute that this package reads as a secret is one that Redacted hides. The sources are asked, so that nobody forgets.
func TestSecretAttributes(t *testing.T) {
	reads := regexp.MustCompile(`(?:\.secret|authSecret\(b, |\.doorToken)\(?"(\w+)"`)
	var hidden []string
	for _, names := range secretAttrs {
		hidden = append(hidden, names...)
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 20 {
		t.Fatal(err, len(files))
	}
	found := map[string]bool{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || f == "functions.go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reads.FindAllStringSubmatch(string(b), -1) {
			if found[m[1]] = true; m[1] != "username" && !slices.Contains(hidden, m[1]) { // who is not a secret, though one may tell it
				t.Errorf("%s: %q is read as a secret and shown", f, m[1])
			}
		}
	}
	for _, name := range hidden {
		if !found[name] {
			t.Errorf("nothing reads %q as a secret: does this test find them?", name)
		}
	}
}

// FuzzRedacted: whatever a password is written like, it is not shown where the policy loads.
func FuzzRedacted(f *testing.F) {
	for _, e := range []string{`"canary-1"`, `"a${"canary-1"}b"`, "<<X\ncanary-1\nX\n", `upper("canary-1")`, `[for x in ["canary-1"]: x][0]`, `{a = "canary-1"}["a"]`, `("canary-1")`,
		`"x" == "y" ? "canary-1" : "canary-1"`, `env("NOSUCH", "canary-1")`, `"canary-1" # canary-1`, `jsonencode("canary-1")`} {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, e string) {
		if len(e) > 200 || !strings.Contains(e, "canary-1") {
			return
		}
		for _, of := range sourceFunctions { // what they are asked for is a name
			if of != "env" && strings.Contains(e, of) {
				return
			}
		}
		src := "listener \"l\" {\n  address = \"127.0.0.1:1\"\n}\nupstream \"a\" {\n  url = \"http://127.0.0.1:1\"\n  auth {\n    username = \"x\"\n    password = " + e + "\n  }\n}\npolicy \"default\" {\n  otherwise { via = upstream.a }\n}\n"
		c, _ := loadText(src, Options{Lenient: true, Environ: environ()})
		if c == nil {
			return
		}
		if a := c.Upstreams.Upstreams[0].Auth; a == nil || !strings.Contains(a.Password.Reveal(), "canary-1") {
			return // it is not the password
		}
		if text := c.Redacted()[0].Text; strings.Contains(text, "canary-1") {
			t.Errorf("%s\nis shown as\n%s", e, text)
		}
	})
}
