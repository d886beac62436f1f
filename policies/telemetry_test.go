package policies

import (
	"strings"
	"testing"
	"time"
)

func loadTraces(t *testing.T, body string) (*Traces, Diagnostics) {
	t.Helper()
	src := "gateway {\n  telemetry {\n    traces {\n" + body + "\n    }\n  }\n}\n"
	cfg, d := Load(Options{Source: map[string][]byte{"a.hcl": []byte(src)}, Environ: func(name string) (string, bool) { return "Bearer s3cret", name == "COLLECTOR_TOKEN" }})
	if cfg == nil {
		return nil, d
	}
	return cfg.Gateway.Traces, d
}

func TestTraces(t *testing.T) {
	x, d := loadTraces(t, `
      endpoint     = "https://collector.corp.example/otlp"
      headers      = { authorization = env("COLLECTOR_TOKEN"), X-Scope-OrgID = "edge" }
      service_name = "edge"
      sample       = 0.25
      start        = false
      timeout      = "5s"
      tls { server_name = "collector" }`)
	if x == nil || len(d.List) > 0 {
		t.Fatal(d.List)
	}
	if x.Endpoint != "https://collector.corp.example/otlp" || x.Headers["authorization"] != "Bearer s3cret" || x.Headers["X-Scope-OrgID"] != "edge" || x.Service != "edge" || *x.Sample != .25 || *x.Start || x.Timeout != 5*time.Second ||
		x.TLS == nil || x.TLS.ServerName != "collector" {
		t.Errorf("%+v", x)
	}
	if x, d := loadTraces(t, ""); x == nil || len(d.List) > 0 || x.Headers != nil || x.Sample != nil || x.Start != nil || x.TLS != nil {
		t.Errorf("an empty block leaves all to the environment: %+v %v", x, d.List)
	}
	for _, c := range []struct{ body, says string }{
		{`endpoint = "127.0.0.1:4318"`, "Wrong URL"},
		{`endpoint = "grpc://127.0.0.1:4317"`, "Wrong URL"},
		{`endpoint = "http://127.0.0.1:4317"`, "Port of another protocol"},
		{`endpoint = "http://a:s3cret@127.0.0.1:4318"`, "Password in a URL"},
		{`sample = 1.5`, "Number out of range"},
		{`sample = "many"`, ""},
		{`timeout = "5m"`, "Duration out of range"},
		{`headers = "authorization: s3cret"`, "Wrong type"},
		{`headers = { content-length = "s3cret" }`, "Wrong field name"},
		{`headers = { "a b" = "s3cret" }`, "Wrong field name"},
		{`headers = { a = "s3cret\r\nb: c" }`, "Wrong field value"},
		{`headers = { x-api-key = "s3cret" }`, "Password in the policy"},
		{`headers = { a = nosuch("s3cret") }`, ""},
		{"headers = {\n        authorization = \"x\"\n        a = \"s3cret\\r\"\n      }", "Wrong field value"},
		{"endpoint = \"http://a:4318\"\n      tls { server_name = \"s\" }", "Without effect"},
		{`smaple = 1`, "Unsupported argument"},
	} {
		_, d := loadTraces(t, c.body)
		var b strings.Builder
		if err := d.WriteText(&b, false); err != nil {
			t.Fatal(err)
		}
		if len(d.List) == 0 || !strings.Contains(b.String(), c.says) {
			t.Errorf("%s: %s", c.body, b.String())
		}
		if strings.Contains(b.String(), "s3cret") {
			t.Errorf("%s: a secret is shown:\n%s", c.body, b.String())
		}
	}
}
