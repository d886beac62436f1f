package policies

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/policies/lists"
)

const livePolicy = `
list "ads" {
  url = "http://127.0.0.1:1/ads.txt"
}
list "soft" {
  url      = "http://127.0.0.1:1/soft.txt"
  on_error = "empty"
}
list "nets" {
  url  = "http://127.0.0.1:1/nets.txt"
  type = "networks"
}
listener "desk" {
  address = "127.0.0.1:3128"
}
policy "default" {
  rule "first" {
    match { host = "sure.example" }
    via = direct
  }
  rule "ads" {
    match { host = [list.ads, list.soft, "own.example"] }
    deny {}
  }
  rule "nets" {
    match {
      address = list.nets
      resolve = false
    }
    deny {}
  }
  rule "clean" {
    match {
      port = 80
      not { host = list.ads }
    }
    via = direct
  }
  otherwise {
    deny { status = 451 }
  }
}
`

// TestLiveLists: a flow is decided by the lists of now, and refused where it depends on one that is not there.
func TestLiveLists(t *testing.T) {
	cfg, diags := Load(Options{Source: map[string][]byte{"a.hcl": []byte(livePolicy)}})
	if cfg == nil {
		t.Fatal(diags.Err())
	}
	p := cfg.Programs["default"]
	rule := func(target string) (string, *connmodel.Decision) {
		a, err := connmodel.ParseAddress(target)
		if err != nil {
			t.Fatal(err)
		}
		f := &connmodel.Facts{Target: a, TargetIP: a.IP(), Protocol: connmodel.ProtocolConnect, Time: time.Now()}
		d, need := p.Decide(f)
		if d == nil {
			t.Fatalf("%s: needs %s", target, need)
		}
		if e, _, _ := p.Explain(f); e.Rule != d.Rule {
			t.Errorf("%s: explained as %s, decided as %s", target, e.Rule, d.Rule)
		}
		return d.Rule, d
	}
	expect := func(target, want string, status int) {
		t.Helper()
		got, d := rule(target)
		is := 0
		if d.Denial != nil {
			is = d.Denial.Status
		}
		if got != want || is != status {
			t.Errorf("%s: %s, status %d; expected %s, status %d", target, got, is, want, status)
		}
	}
	expect("sure.example:443", "first", 0)
	expect("own.example:443", "ads", 403)
	expect("x.example:443", "ads", 503)
	if _, d := rule("x.example:443"); !strings.Contains(d.Denial.Reason, "list.ads") {
		t.Errorf("the list is not named: %q", d.Denial.Reason)
	}
	bodies := map[string]string{"ads": "ads.example\n||tree.example^\n@@||good.tree.example^\n", "nets": "192.0.2.0/24\n"}
	for i := range cfg.Lists {
		l := &cfg.Lists[i]
		body := bodies[l.Name]
		if body == "" {
			continue
		}
		w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) }))
		defer w.Close()
		src := lists.Open(lists.SourceOptions{Name: l.Name, URL: w.URL, List: l.Parse})
		defer src.Close()
		src.Wait(t.Context())
		l.Ref.Bind(src)
	}
	expect("ads.example:443", "ads", 403)
	expect("x.tree.example:443", "ads", 403)
	expect("good.tree.example:443", "otherwise", 451)
	expect("good.tree.example:80", "clean", 0)
	expect("192.0.2.7:443", "nets", 403)
	expect("192.0.3.7:443", "otherwise", 451)
}
