package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
)

const secretsPolicy = `
listener "desk" { address = "127.0.0.1:3128" }
upstream "a" {
  url = "http://127.0.0.1:8080"
  auth {
    username = netrc_login("netrc")
    password = netrc("netrc")
  }
}
upstream "b" {
  url = "http://proxy-b.example:8080"
  auth {
    username = "bob"
    password = netrc("netrc")
  }
}
upstream "c" {
  url = "http://127.0.0.1:8082"
  auth { token = command(["/usr/bin/pass", "show", "corp"], "15m") }
}
upstream "d" {
  url = "socks5h://127.0.0.1:1080"
  auth {
    username = "u"
    password = local.pw
  }
}
locals { pw = trimspace(file("secret")) }
policy "default" {
  rule "b" {
    match { host = "b.example" }
    via = upstream.b
  }
  rule "c" {
    match { host = "c.example" }
    via = upstream.c
  }
  rule "d" {
    match { host = "d.example" }
    via = upstream.d
  }
  otherwise { via = upstream.a }
}
`

// secretFiles are the files of a policy in memory.
type secretFiles map[string]string

func (f secretFiles) read(path string) ([]byte, error) {
	if s, ok := f[path]; ok {
		return []byte(s), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func TestSecretSources(t *testing.T) {
	files := secretFiles{"netrc": "machine 127.0.0.1 login ann password c4n4ry-1\nmachine proxy-b.example login eve password no\nmachine proxy-b.example login bob password c4n4ry-2\n",
		"secret": "c4n4ry-4\n"}
	said, failed := "c4n4ry-3\n", error(nil)
	var ran []string
	o := Options{Source: map[string][]byte{"viaduct.hcl": []byte(secretsPolicy)}, ReadFile: files.read, Command: func(c SecretCommand) (string, error) {
		ran = append(ran, strings.Join(c.Argv, " ")+" "+c.Refresh.String())
		return said, failed
	}}
	cfg, d := Load(o)
	if cfg == nil {
		t.Fatal(d.Err())
	}
	shown := func() (all []string) {
		for i := range cfg.Upstreams.Upstreams {
			a := cfg.Upstreams.Upstreams[i].Auth
			all = append(all, fmt.Sprintf("%s=%s:%s%s", a.Credential, a.Username, a.Password.Reveal(), a.Token.Reveal()))
		}
		return all
	}
	if got := strings.Join(shown(), " "); got != "netrc=ann:c4n4ry-1 netrc=bob:c4n4ry-2 pass=:c4n4ry-3 =u:c4n4ry-4" {
		t.Errorf("got %s", got)
	}
	if len(ran) != 1 || ran[0] != "/usr/bin/pass show corp 15m0s" {
		t.Errorf("ran %q", ran)
	}
	if strings.Join(cfg.SecretFiles, " ") != "netrc secret" || len(cfg.SecretCommands) != 1 || cfg.SecretCommands[0].Refresh != 15*time.Minute {
		t.Errorf("%q %+v", cfg.SecretFiles, cfg.SecretCommands)
	}

	// they change
	files["secret"], said = "new-4\n", "new-3\n"
	files["netrc"] = strings.ReplaceAll(files["netrc"], "c4n4ry", "new")
	o.Source = nil
	auths, d := cfg.Credentials(o)
	if d.HasErrors() {
		t.Fatal(d.Err())
	}
	for i, want := range []string{"new-1", "new-2", "new-3", "new-4"} {
		u := &cfg.Upstreams.Upstreams[i]
		a := auths[u.Name]
		if a.Password.Reveal()+a.Token.Reveal() != want || a.Equal(u.Auth) {
			t.Errorf("%s: %s", u.Name, a.Password.Reveal())
		}
	}
	// and go wrong
	for name, f := range map[string]func(){
		"gone":            func() { delete(files, "netrc") },
		"not there":       func() { files["netrc"] = "machine x login ann password c4n4ry\n" },
		"broken":          func() { files["netrc"] = "machine 127.0.0.1 password \"c4n4ry" },
		"a control byte":  func() { files["secret"] = "c4n4ry\x01c4n4ry" },
		"command failed":  func() { failed = errors.New("no key") },
		"several lines":   func() { said = "c4n4ry\nc4n4ry\n" },
		"nothing printed": func() { said = "\n" },
	} {
		keep, keepSaid := secretFiles{"netrc": files["netrc"], "secret": files["secret"]}, said
		f()
		if auths, d := cfg.Credentials(o); auths != nil || !d.HasErrors() || strings.Contains(d.Err().Error(), "c4n4ry") {
			t.Errorf("%s: %v %v", name, auths, d.Err())
		}
		files["netrc"], files["secret"], said, failed = keep["netrc"], keep["secret"], keepSaid, nil
	}
	if auths, d := cfg.Credentials(o); auths == nil {
		t.Error(d.Err())
	}

	// on a desk
	o.Source, o.Command, o.Lenient = map[string][]byte{"viaduct.hcl": []byte(secretsPolicy)}, nil, true
	cfg, d = Load(o)
	if cfg == nil || len(d.Notes) != 1 || !strings.Contains(d.Notes[0].Detail, "--run-commands") {
		t.Errorf("%v %+v", d.Err(), d.Notes)
	}
}

func TestWrongSecretSources(t *testing.T) {
	files := secretFiles{"netrc": "default login u password p\n"}
	for expr, says := range map[string]string{
		`command(["pass"])`:                              "full path",
		`command("/bin/cat /x")`:                         "as a list",
		`command([])`:                                    "full path",
		`command(["/bin/cat", 1])`:                       "are texts",
		`command(["/bin/cat", credential("x")])`:         "cannot be among them",
		`command(["/bin/cat"], "1ms")`:                   "at least",
		`command(["/bin/cat"], "1m", "x")`:               "how often it is run again",
		`netrc(credential("x"))`:                         "cannot be a secret itself",
		`netrc("netrc", "a", "b", "c")`:                  "no more",
		`netrc("nosuch")`:                                "There is no nosuch",
		`netrc("netrc", "")`:                             "Say for which machine",
		`"${command(["/bin/cat"])}${netrc("netrc")}"`:    "",
		`upper(netrc("netrc", "any.example", "u"))`:      "",
		`trimspace(command(["/bin/cat", "-"], "1h30m"))`: "",
	} {
		src := `listener "desk" { address = "127.0.0.1:3128" }
upstream "a" {
  url = "http://127.0.0.1:8080"
  auth {
    username = "u"
    password = ` + expr + `
  }
}
policy "default" {
  otherwise { via = upstream.a }
}
`
		o := Options{Source: map[string][]byte{"viaduct.hcl": []byte(src)}, ReadFile: func(path string) ([]byte, error) {
			if strings.HasSuffix(path, "/x") {
				return []byte("c4n4ry"), nil
			}
			return files.read(path)
		}, Credentials: "/creds", Command: func(SecretCommand) (string, error) { return "s", nil }}
		_, d := Load(o)
		switch text := fmt.Sprint(d.Err()); {
		case says == "" && d.HasErrors():
			t.Errorf("%s: %s", expr, text)
		case says != "" && (!d.HasErrors() || strings.Contains(text, "c4n4ry")):
			t.Errorf("%s: %s", expr, text)
		case says != "":
			var b strings.Builder
			d.WriteText(&b, false)
			if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), says) {
				t.Errorf("%s: %s", expr, b.String())
			}
		}
	}
	// elsewhere than where a secret may stand
	for _, line := range []string{`deny { reason = command(["/bin/cat"]) }`, `deny { reason = netrc("netrc", "a") }`} {
		src := "listener \"desk\" { address = \"127.0.0.1:3128\" }\npolicy \"default\" {\n  otherwise {\n    " + line + "\n  }\n}\n"
		_, d := Load(Options{Source: map[string][]byte{"viaduct.hcl": []byte(src)}, ReadFile: files.read, Command: func(SecretCommand) (string, error) { return "c4n4ry", nil }})
		if !d.HasErrors() || !strings.Contains(fmt.Sprint(d.Err()), "Secret in an open place") || strings.Contains(fmt.Sprint(d.Err()), "c4n4ry") {
			t.Errorf("%s: %v", line, d.Err())
		}
	}
}

// TestUnreadSecrets: what a load has not got of a credential is said, so that nobody shows the rest of it.
func TestUnreadSecrets(t *testing.T) {
	for _, c := range []struct {
		auth, scheme string
		run, lenient bool
		unread       bool
	}{
		{`password = command(["/bin/x"])`, "http", false, false, true},
		{`password = command(["/bin/x"])`, "socks5", false, true, true},
		{`password = command(["/bin/x"])`, "socks5", true, false, false},
		{`password = credential("x")`, "http", true, true, true},
		{`password = credential("x")`, "socks5", true, true, true},
		{`password = "written out"`, "http", false, false, false},
		{`password = local.p`, "http", true, true, true},
	} {
		src := `listener "d" { address = "127.0.0.1:1" }
upstream "p" {
  url = "` + c.scheme + `://127.0.0.1:8080"
  auth {
    username = "svc"
    ` + c.auth + `
  }
}
locals { p = "x${env("UNSET")}" }
policy "default" {
  otherwise { via = upstream.p }
}
`
		o := Options{Source: map[string][]byte{"v.hcl": []byte(src)}, Lenient: c.lenient, Environ: func(string) (string, bool) { return "", false }}
		if c.run {
			o.Command = func(SecretCommand) (string, error) { return "out", nil }
		}
		if !c.lenient {
			o.Environ = func(n string) (string, bool) { return "v", n == "UNSET" }
		}
		cfg, diags := Load(o)
		if cfg == nil {
			t.Errorf("%+v: %v", c, diags.Err())
			continue
		}
		if a := cfg.Upstreams.Upstreams[0].Auth; a.Unread != c.unread {
			t.Errorf("%+v: unread %v", c, a.Unread)
		}
	}
	o := Options{Source: map[string][]byte{"v.hcl": []byte(`listener "d" { address = "127.0.0.1:1" }
upstream "p" {
  url = "http://127.0.0.1:8080"
  auth {
    username = env("UNSET")
    password = "read"
  }
}
policy "default" {
  otherwise { via = upstream.p }
}
`)}, Lenient: true}
	if cfg, diags := Load(o); cfg == nil || !cfg.Upstreams.Upstreams[0].Auth.Unread {
		t.Errorf("a user name that is not known: %v", diags.Err())
	}
}
