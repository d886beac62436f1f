package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/router/admin"
)

// FuzzExplainQuestion: whatever is asked at the control door, it is answered, or said to be wrong in words of the question and not of the command line;
// nothing is looked up and nothing panics.
func FuzzExplainQuestion(f *testing.F) {
	for _, q := range []string{
		`{"target":"https://www.example.com/a?b"}`, `{"target":"a.example:443","client":"10.1.2.3","user":"ann"}`, `{"target":"http://[::1]:80/"}`,
		`{"target":"udp://a.example:53"}`, `{"target":"a.example:1","protocol":"socks4a","sni":"b.example","alpn":["h2"]}`, `{"target":"a:1","sni":""}`,
		`{"target":"http://a.example/","method":"POST","headers":["X-Key: canary","x:"]}`, `{"target":"a.example:443","resolve":["10.0.0.1","::1"]}`,
		`{"target":"a.example:443","reachable":["10.0.0.1:80"]}`, `{"target":"a.example:443","at":"20:15"}`, `{"target":"1.2.3.4:1","listener":"desk","protocol":"redirect"}`,
		`{"target":"xn--a:0"}`, `{"target":"http://\u0000/"}`, `{"target":"a:1","ja4":"t13d"}`, `{"target":"wss://a.example/x","headers":["Host: b"]}`,
	} {
		f.Add(q)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "viaduct.hcl")
	f.Setenv("XDG_STATE_HOME", dir)
	f.Setenv("XDG_RUNTIME_DIR", dir)
	listen := filepath.Join(dir, "l")
	const src = `
gateway {
  admin { address = "unix:DIR/s" }
}
listener "desk" {
  address = "127.0.0.1:PORT"
}
upstream "a" { url = "http://127.0.0.1:9" }
policy "default" {
  rule "key" {
    match { header = { "X-Key" = "canary-key" } }
    via = upstream.a
  }
  rule "sni" {
    match { sni = "*.b.example" }
    via = upstream.a
  }
  rule "address" {
    match { address = ["10.0.0.0/8"] }
    when = now.hour > 25 || client.user == "ann"
    via  = upstream.a
  }
  otherwise { via = direct }
}
`
	if err := os.WriteFile(path, []byte(strings.NewReplacer("DIR", dir, "127.0.0.1:PORT", "unix:"+listen).Replace(src)), 0o600); err != nil {
		f.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s := newService(&source{}, []string{path}, log)
	if diags, err := s.load(); err != nil {
		f.Fatal(diags, err)
	}
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	f.Cleanup(func() { s.stop(hurry) })
	f.Fuzz(func(t *testing.T, body string) {
		var q admin.Question
		if len(body) > 4096 || json.Unmarshal([]byte(body), &q) != nil || len(q.Resolve) == 1 && (q.Resolve[0] == "policy" || q.Resolve[0] == "system") {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		a, err := s.explain(ctx, &q, false)
		var bad *admin.BadRequest
		switch {
		case errors.As(err, &bad):
			if bad.Detail == "" {
				t.Error("wrong without a word")
			}
		case err != nil:
			t.Errorf("%s: %v", body, err)
		default:
			b, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), "canary-key") {
				t.Errorf("%s: shows what the rule compares with: %s", body, b)
			}
		}
	})
}
