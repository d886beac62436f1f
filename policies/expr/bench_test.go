package expr

import (
	"fmt"
	"strings"
	"testing"

	"viaduct/connmodel"
)

func facts() []*connmodel.Facts { return []*connmodel.Facts{request(), tunnel(), unresolved()} }

// cheap are conditions that must not allocate, and that benchmarks measure.
var cheap = []struct{ name, src string }{
	{"UserAndSuffix", `client.user == "anna" && endswith(target.host, ".corp.example")`},
	{"OfficeHours", `now.hour >= 9 && now.hour < 17 && client.user != "admin"`},
	{"TimeOfDay", `now.time >= "09:00" && now.time < "17:30" && !contains(["saturday", "sunday"], now.weekday)`},
	{"Date", `now.date == "2026-11-23" && now.unix > 5 && now.year > 2000`},
	{"Networks", `cidr(client.address, local.office) && target.port != 25`},
	{"ManyNetworks", `cidr(client.address, [for i in range(200) : "10.${i}.0.0/16"])`},
	{"ManyNames", `contains([for i in range(1000) : "user${i}"], client.user) || client.user == "anna"`},
	{"Header", `startswith(request.header["user-agent"], "curl/") && request.method == "GET"`},
	{"Glob", `glob("*.corp.*", target.host)`},
	{"Regex", `regex("^[a-z]+\\.corp\\.", target.host)`},
	{"Addresses", `target.ip == null && cidr(target.addresses, "10.0.0.0/8")`},
	{"Text", `lower(substr(trimprefix(request.path, "/"), 0, 2)) == "v1"`},
	{"Number", `tonumber(request.header["content-length"], 0) > 1000 && target.port % 2 == 0`},
	{"Choice", `(client.user == "anna" ? 8080 : 443) == target.port && lookup(local.teams, client.user, "") == "red"`},
}

func BenchmarkEval(b *testing.B) {
	for _, tt := range cheap {
		b.Run(tt.name, func(b *testing.B) {
			c, f := compile(b, tt.src), request()
			if !c.Eval(f) {
				b.Fatal("not true: not all of it is measured")
			}
			b.ReportAllocs()
			for b.Loop() {
				c.Eval(f)
			}
		})
	}
}

// BenchmarkHundredRules evaluates a hundred conditions of which the last holds.
func BenchmarkHundredRules(b *testing.B) {
	var list []*Condition
	for i := range 99 {
		list = append(list, compile(b, fmt.Sprintf(`client.user == "anna" && endswith(target.host, ".corp%d.example")`, i)))
	}
	list = append(list, compile(b, `client.user == "anna" && endswith(target.host, ".corp.example")`))
	f := request()
	b.ReportAllocs()
	for b.Loop() {
		for i, c := range list {
			if c.Eval(f) != (i == 99) {
				b.Fatal("wrong rule")
			}
		}
	}
}

// BenchmarkHCL evaluates by HCL what BenchmarkEval does by closures; the context is built once.
func BenchmarkHCL(b *testing.B) {
	for _, tt := range cheap[:5] {
		b.Run(tt.name, func(b *testing.B) {
			e, ctx := parse(b, strings.NewReplacer(`now.time >= "09:00" && now.time < "17:30" && `, "").Replace(tt.src)), hclContext(request())
			b.ReportAllocs()
			for b.Loop() {
				if _, diags := e.Value(ctx); diags.HasErrors() {
					b.Fatal(diags)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	e, context := parse(b, cheap[0].src), consts()
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := Compile(e, context, Options{}); diags.HasErrors() {
			b.Fatal(diags)
		}
	}
}
