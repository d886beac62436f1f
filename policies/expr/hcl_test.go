package expr

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

	"viaduct/connmodel"
)

// hclContext holds the facts as HCL would see them, on top of the constants.
func hclContext(f *connmodel.Facts) *hcl.EvalContext {
	address := func(a netip.Addr) cty.Value {
		if !a.IsValid() {
			return cty.NullVal(cty.String)
		}
		return cty.StringVal(a.String())
	}
	number := func(n int) cty.Value { return cty.NumberIntVal(int64(n)) }
	var addresses []cty.Value
	for _, a := range targetAddresses(f) {
		addresses = append(addresses, address(a))
	}
	var offers []cty.Value
	for _, p := range hello(f).ALPN {
		offers = append(offers, cty.StringVal(p))
	}
	path, query := requestPath(f)
	method, fields := "", map[string]cty.Value{}
	for _, name := range []string{"user-agent", "USER-AGENT", "x-none", "content-length", "x-user", "x-forwarded-for", "x-day"} {
		fields[name] = cty.StringVal(headerValue(f, name))
	}
	if f.Request != nil {
		method = f.Request.Method
	}
	ctx := consts().NewChild()
	ctx.Variables = map[string]cty.Value{
		"client": cty.ObjectVal(map[string]cty.Value{
			"address": address(f.Client.Addr()), "port": number(int(f.Client.Port())), "user": cty.StringVal(f.User),
		}),
		"listener": cty.StringVal(f.Listener),
		"protocol": cty.StringVal(string(f.Protocol)),
		"target": cty.ObjectVal(map[string]cty.Value{
			"host": cty.StringVal(f.Target.Host), "port": number(int(f.Target.Port)), "ip": address(f.TargetIP),
			"addresses": cty.TupleVal(addresses), "scheme": cty.StringVal(f.Scheme), "sni_mismatch": cty.BoolVal(f.SNIMismatch()),
		}),
		"tls": cty.ObjectVal(map[string]cty.Value{
			"hello": cty.BoolVal(f.Hello != nil), "sni": cty.StringVal(hello(f).SNI), "alpn": cty.TupleVal(offers),
			"ja4": cty.StringVal(hello(f).JA4), "ech": cty.BoolVal(hello(f).ECH),
		}),
		"now": cty.ObjectVal(map[string]cty.Value{
			"hour": number(f.Time.Hour()), "minute": number(f.Time.Minute()), "second": number(f.Time.Second()),
			"weekday": cty.StringVal(strings.ToLower(f.Time.Weekday().String())), "day": number(f.Time.Day()),
			"month": number(int(f.Time.Month())), "year": number(f.Time.Year()), "unix": number(int(f.Time.Unix())),
			"date": cty.StringVal(f.Time.Format(time.DateOnly)), "time": cty.StringVal(f.Time.Format("15:04")),
		}),
		"request": cty.ObjectVal(map[string]cty.Value{
			"method": cty.StringVal(method), "path": cty.StringVal(path), "query": cty.StringVal(query), "header": cty.MapVal(fields),
		}),
	}
	return ctx
}

// byHCL evaluates an expression by HCL itself.
func byHCL(e hclsyntax.Expression, f *connmodel.Facts) (bool, error) {
	v, diags := e.Value(hclContext(f))
	if diags.HasErrors() {
		return false, diags
	}
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.Bool {
		return false, fmt.Errorf("not a bool: %#v", v)
	}
	return v.True(), nil
}

// TestValuesAsHCL evaluates the table by HCL. What HCL cannot evaluate is what we have beyond it, and is counted.
func TestValuesAsHCL(t *testing.T) {
	beyond := 0
	for _, tt := range valueTable {
		e := parse(t, tt.src)
		for _, x := range []struct {
			f    *connmodel.Facts
			want bool
		}{{request(), tt.request}, {tunnel(), tt.tunnel}} {
			got, err := byHCL(e, x.f)
			switch {
			case err != nil:
				beyond++
				if !strings.Contains(tt.src, "now.") && !strings.Contains(tt.src, "::ffff") && !strings.Contains(tt.src, "address") {
					t.Errorf("%s: %v", tt.src, err)
				}
			case strings.Contains(tt.src, "::ffff:"), strings.Contains(tt.src, `"x0"`): // a text to HCL; HCL has a negative zero
			case got != x.want:
				t.Errorf("%s: HCL says %v, the table %v", tt.src, got, x.want)
			}
		}
	}
	if beyond > 16 {
		t.Errorf("%d evaluations are beyond HCL", beyond)
	}
}

// exprGen draws expressions of a type as source, most of them valid.
type exprGen struct{ t *rapid.T }

func (g exprGen) pick(list ...string) string { return rapid.SampledFrom(list).Draw(g.t, "pick") }

func (g exprGen) boolean(depth int) string {
	if depth <= 0 {
		return g.pick(`true`, `false`, `local.on`, `client.user == "anna"`, `listener == "desk"`, `target.port == 443`, `target.ip == null`,
			`client.address != null`, `now.weekday == "monday"`, `contains(local.admins, client.user)`, `cidr(client.address, local.office)`,
			`cidr(target.addresses, "10.0.0.0/8", "fd00::/8")`, `contains(target.addresses, "10.9.0.5")`, `protocol == "socks5"`,
			`now.date == "2026-11-23"`, `request.header["user-agent"] != ""`, `target.ip == client.address`)
	}
	d := depth - 1
	switch rapid.IntRange(0, 14).Draw(g.t, "bool") {
	case 0, 1:
		return g.boolean(d) + " && " + g.boolean(d)
	case 2, 3:
		return "(" + g.boolean(d) + " || " + g.boolean(d) + ")"
	case 4:
		return "!(" + g.boolean(d) + ")"
	case 5:
		return "(" + g.boolean(d) + " ? " + g.boolean(d) + " : " + g.boolean(d) + ")"
	case 6:
		return "(" + g.boolean(d) + ") " + g.pick("==", "!=") + " (" + g.boolean(d) + ")"
	case 7, 8:
		return g.number(d) + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.number(d)
	case 9, 10:
		return g.text(d) + g.pick(" == ", " != ") + g.text(d)
	case 11:
		return g.pick("startswith", "endswith", "strcontains") + "(" + g.text(d) + ", " + g.text(d) + ")"
	case 12:
		return `glob("` + g.pick("*", "a*", "*.example", "?nna", "[a-m]*", "/v1/*") + `", ` + g.text(d) + ")"
	case 13:
		return "contains([" + g.text(d) + ", " + g.text(d) + "], " + g.text(d) + ")"
	}
	return "contains([" + g.number(d) + ", 443, 9], " + g.number(d) + ")"
}

func (g exprGen) number(depth int) string {
	if depth <= 0 {
		return g.pick("0", "1", "2", "9", "443", "0.5", "-3", "8080", "client.port", "target.port", "now.hour", "now.minute", "now.day",
			"now.month", "now.year", "now.unix", "local.limit", "length(target.addresses)")
	}
	d := depth - 1
	switch rapid.IntRange(0, 10).Draw(g.t, "number") {
	case 0, 1:
		return "(" + g.number(d) + g.pick(" + ", " - ", " * ") + g.number(d) + ")"
	case 2:
		return "-(" + g.number(d) + ")"
	case 3:
		return "(" + g.number(d) + g.pick(" / 2", " / 4", " % 7", " % 60", " / -8", " % -7") + ")"
	case 4:
		return g.pick("min", "max") + "(" + g.number(d) + ", " + g.number(d) + ")"
	case 5:
		return g.pick("abs", "floor", "ceil") + "(" + g.number(d) + ")"
	case 6:
		return "length(" + g.text(d) + ")"
	case 7:
		return "tonumber(" + g.text(d) + ", " + g.number(d) + ")"
	case 8:
		return "(" + g.boolean(d) + " ? " + g.number(d) + " : " + g.number(d) + ")"
	case 9:
		return "lookup({ anna = 1, lan = 2 }, " + g.text(d) + ", " + g.number(d) + ")"
	}
	return "element([1, 2, " + g.number(d) + "], floor(" + g.number(d) + "))"
}

func (g exprGen) text(depth int) string {
	if depth <= 0 {
		return g.pick(`""`, `"anna"`, `"a"`, `"443"`, `"lan"`, `"desk"`, "client.user", "listener", "target.host", "request.path",
			"request.query", "request.method", `request.header["user-agent"]`, `request.header["content-length"]`, "var.name", "now.weekday", "protocol")
	}
	d := depth - 1
	switch rapid.IntRange(0, 8).Draw(g.t, "text") {
	case 0:
		return g.pick("lower", "upper", "trimspace") + "(" + g.text(d) + ")"
	case 1:
		return g.pick("trimprefix", "trimsuffix", "trim") + "(" + g.text(d) + ", " + g.text(d) + ")"
	case 2:
		return `replace(` + g.text(d) + `, "` + g.pick("a", ".", "nn") + `", ` + g.text(d) + ")"
	case 3:
		return "substr(" + g.text(d) + ", " + g.pick("0", "1", "-2", "5", "now.hour - 12") + ", " + g.pick("1", "3", "-1", "0", "now.month") + ")"
	case 4:
		return "coalesce(" + g.text(d) + ", " + g.text(d) + ")"
	case 5:
		return "tostring(" + g.pick(g.number(d)+" + 0", g.boolean(d), "client.address", "target.ip") + ")"
	case 6:
		return `"<${` + g.text(d) + `}-${` + g.number(d) + ` + 0}>"` // + 0: HCL has a negative zero
	case 7:
		return "(" + g.boolean(d) + " ? " + g.text(d) + " : " + g.text(d) + ")"
	}
	return `lookup(local.teams, ` + g.text(d) + ", " + g.text(d) + ")"
}

// drawFacts draws facts among which the comparisons above are about as often true as false.
func drawFacts(t *rapid.T) *connmodel.Facts {
	f := request()
	if rapid.Bool().Draw(t, "tunnel") {
		f = tunnel()
	}
	f.Have |= connmodel.NeedAddresses
	f.User = rapid.SampledFrom([]string{"", "anna", "bert", "Zoë", "443"}).Draw(t, "user")
	f.Target.Port = rapid.SampledFrom([]uint16{1, 9, 80, 443, 8080, 65535}).Draw(t, "port")
	f.Time = monday.Add(time.Duration(rapid.IntRange(0, 400*24*3600).Draw(t, "seconds")) * time.Second)
	return f
}

// TestAsHCL compares generated conditions with what HCL makes of them.
func TestAsHCL(t *testing.T) {
	compiled, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := exprGen{t}
		src := g.boolean(rapid.IntRange(0, 4).Draw(t, "depth"))
		e, diags := hclsyntax.ParseExpression([]byte(src), "t.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("%s: %v", src, diags)
		}
		c, diags := Compile(e, consts(), Options{})
		if diags.HasErrors() {
			refused++
			return
		}
		compiled++
		f := drawFacts(t)
		want, err := byHCL(e, f)
		if err != nil {
			t.Fatalf("%s\ncompiles, but HCL says %v", src, err)
		}
		if got := c.Eval(f); got != want {
			t.Fatalf("%s\ngot %v, HCL says %v (%s)", src, got, want, c.Describe(f))
		}
		if v, fixed := c.Constant(); fixed && v != want {
			t.Fatalf("%s\nsaid to be always %v", src, v)
		}
		checkNeeds(t, src, c, f)
	})
	if compiled < refused {
		t.Errorf("only %d of %d conditions compile", compiled, compiled+refused)
	}
	t.Logf("%d compiled, %d refused", compiled, refused)
}

// checkNeeds checks that without addresses the condition gives its value, or asks for them; and that a value given
// without them does not depend on what they are.
func checkNeeds(t *rapid.T, src string, c *Condition, f *connmodel.Facts) {
	if f.TargetIP.IsValid() {
		return
	}
	lacking := *f
	lacking.Have, lacking.Addresses = 0, nil
	got, need := c.Test(&lacking)
	if need&^c.Needs() != 0 || need != c.NeedsFor(&lacking) {
		t.Fatalf("%s\nneeds %v, which is not in %v", src, need, c.Needs())
	}
	if need != 0 {
		return
	}
	for _, list := range [][]netip.Addr{nil, f.Addresses, {netip.MustParseAddr("10.9.0.5")}, {netip.MustParseAddr("8.8.8.8")}} {
		with := *f
		with.Addresses = list
		if c.Eval(&with) != got {
			t.Fatalf("%s\nwithout addresses %v, with %v %v", src, got, list, !got)
		}
	}
}
