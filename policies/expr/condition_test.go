package expr

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// TestNeeds checks that addresses are asked for only if the outcome depends on them. The facts are those of a plain
// request by anna on desk to a name, at 09:30.
func TestNeeds(t *testing.T) {
	const in, ten = `cidr(target.addresses, "10.0.0.0/8")`, `contains(target.addresses, "10.0.0.1")`
	for _, tt := range []struct {
		src   string
		need  bool
		value bool
	}{
		{in, true, false},
		{`!` + in, true, false},
		{in + ` && client.user == "bert"`, false, false},
		{`client.user == "bert" && ` + in, false, false},
		{in + ` && client.user == "anna"`, true, false},
		{in + ` || client.user == "anna"`, false, true},
		{in + ` || client.user == "bert"`, true, false},
		{`(` + in + ` || ` + ten + `) && client.user == "bert"`, false, false},
		{`!(` + in + ` || client.user == "anna")`, false, false},
		{`!(` + in + ` && client.user == "bert")`, false, true},
		{`client.user == "anna" ? now.hour == 9 : ` + in, false, true},
		{`client.user == "anna" ? ` + in + ` : now.hour == 9`, true, false},
		{in + ` ? client.user == "anna" : now.hour == 9`, false, true},
		{in + ` ? client.user == "anna" : now.hour == 3`, true, false},
		{in + ` == (client.user == "anna")`, true, false},
		{`length(target.addresses) > 2 && now.hour == 3`, false, false},
		{`(client.user == "bert" ? length(target.addresses) : 0) == 0`, false, true},
		{`(client.user == "anna" ? length(target.addresses) : 0) == 0`, true, false},
		{`(` + in + ` ? 1 : 0) == 0`, true, false},
		{`contains([length(target.addresses), 6], 5)`, true, false},
		{`contains([now.hour == 9, ` + in + `], true)`, false, true},
		{in + ` && false`, false, false},
		{in + ` || true`, false, true},
		{`client.user == "anna"`, false, true},
		{`target.ip == null || ` + in, false, true},
	} {
		c := compile(t, tt.src)
		value, need := c.Test(unresolved())
		if (need == connmodel.NeedAddresses) != tt.need || need != c.NeedsFor(unresolved()) {
			t.Errorf("%s\nneed %q, want %v", tt.src, need, tt.need)
		}
		if value != tt.value {
			t.Errorf("%s\nvalue %v, want %v", tt.src, value, tt.value)
		}
		if need&^c.Needs() != 0 {
			t.Errorf("%s\nneeds %q but says %q", tt.src, need, c.Needs())
		}
		literal := unresolved()
		literal.TargetIP = netip.MustParseAddr("10.0.0.1")
		if need := c.NeedsFor(literal); need != 0 {
			t.Errorf("%s\nneeds %q for a literal address", tt.src, need)
		}
	}
	if n := compile(t, in+` && false`).Needs(); n != 0 {
		t.Errorf("a condition that is always false needs %v", n)
	}
}

// TestNeedsOfFirstBytes: what is in the tunnel is asked for only if the value depends on it, and by each protocol only what it can have.
func TestNeedsOfFirstBytes(t *testing.T) {
	const address, hello, request = connmodel.NeedAddresses, connmodel.NeedHello, connmodel.NeedRequest
	const in = `cidr(target.addresses, "10.0.0.0/8")`
	for _, tt := range []struct {
		src            string
		connect, socks connmodel.Need
	}{
		{`tls.sni == "www.example"`, hello, hello},
		{`tls.hello`, hello, hello},
		{`!tls.ech && target.port == 443`, hello, hello},
		{`tls.ech && target.port == 80`, 0, 0},
		{`tls.ja4 == "x" || target.port == 443`, 0, 0},
		{`contains(tls.alpn, "h2")`, hello, hello},
		{`length(tls.alpn) > 1 && client.user == "anna"`, 0, 0},
		{`target.sni_mismatch`, hello, hello},
		{`request.method == "GET"`, 0, request},
		{`request.header["x"] == ""`, 0, request},
		{`request.path == "/a" || tls.sni == "a.example"`, hello, hello | request},
		{`tls.sni == "www.example" && ` + in, hello | address, hello | address},
		{in + ` ? tls.ech : target.port == 443`, hello | address, hello | address},
		{`(target.port == 80 ? length(tls.alpn) : 1) == 1`, 0, 0},
		{`(tls.ech ? 1 : length(target.addresses)) == 1`, hello | address, hello | address},
		{`!(tls.ech || ` + in + `)`, hello | address, hello | address},
	} {
		c := compile(t, tt.src)
		f := unseen()
		f.Have = 0
		if _, need := c.Test(f); need != tt.connect {
			t.Errorf("%s: a CONNECT needs %q, expected %q", tt.src, need, tt.connect)
		}
		f.Protocol = connmodel.ProtocolSOCKS5
		if _, need := c.Test(f); need != tt.socks || need&^c.Needs() != 0 {
			t.Errorf("%s: SOCKS needs %q of %q, expected %q", tt.src, need, c.Needs(), tt.socks)
		}
		f.Have = address | hello | request
		if _, need := c.Test(f); need != 0 {
			t.Errorf("%s: needs %q, and all is there", tt.src, need)
		}
		f.HelloUnread, f.RequestUnread, f.Addresses = true, true, nil
		if _, need := c.Test(f); need != tt.socks && tt.socks&address == 0 {
			t.Errorf("%s: needs %q of what could not be read, expected %q", tt.src, need, tt.socks&^address)
		}
		plain := unresolved()
		if _, need := c.Test(plain); need&^address != 0 {
			t.Errorf("%s: a plain request needs %q", tt.src, need)
		}
	}
	f := unseen()
	f.Have = 0
	f.TargetIP = netip.MustParseAddr("192.0.2.1")
	if need := compile(t, `target.sni_mismatch`).NeedsFor(f); need != 0 {
		t.Errorf("an address has no name to compare, and %q is asked for", need)
	}
	c := compile(t, `tls.sni == "a.example" && contains(tls.alpn, "h2") && request.method == "GET"`)
	f = unseen()
	if d := c.Describe(f); d != `tls.sni = (not looked at), tls.alpn = (not looked at), request.method = ""` {
		t.Errorf("%s", d)
	}
	if d := c.Describe(tunnel()); d != `tls.sni = "www.example", tls.alpn = ["h2", "http/1.1"], request.method = ""` {
		t.Errorf("%s", d)
	}
}

func TestDescribe(t *testing.T) {
	long := request()
	long.User = strings.Repeat("ä", 60)
	for _, tt := range []struct {
		src  string
		f    *connmodel.Facts
		want string
	}{
		{`now.hour > 18 && client.user != "bert"`, request(), `now.hour = 9, client.user = "anna"`},
		{`client.user == "a" || client.user == "b"`, request(), `client.user = "anna"`},
		{`client.address == null`, tunnel(), `client.address = null`},
		{`client.address == null || target.ip == null`, request(), `client.address = 10.20.1.7, target.ip = null`},
		{`cidr(target.addresses, "10.0.0.0/8")`, request(), `target.addresses = [10.9.0.5, fd00::5]`},
		{`cidr(target.addresses, "10.0.0.0/8")`, tunnel(), `target.addresses = [192.0.2.1]`},
		{`cidr(target.addresses, "10.0.0.0/8")`, unresolved(), `target.addresses = (not resolved)`},
		{`now.time < "10:00" && now.date > "2026-01-01"`, request(), `now.time = "09:30", now.date = "2026-11-23"`},
		{`request.header["User-Agent"] == "x"`, request(), `request.header["user-agent"] = "curl/8.1"`},
		{`request.header["user-agent"] == "x"`, tunnel(), `request.header["user-agent"] = ""`},
		{`request.header["Cookie"] == "x"`, request(), `request.header["cookie"] = (hidden)`},
		{`request.header["authorization"] == "x"`, request(), `request.header["authorization"] = ""`},
		{`client.user == "x"`, long, `client.user = "` + strings.Repeat("ä", 40) + `"…`},
		{`now.hour < 30 && local.on`, request(), `now.hour = 9`},
		{`local.on`, request(), ``},
	} {
		if got := compile(t, tt.src).Describe(tt.f); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.src, got, tt.want)
		}
	}
}

func TestDescribeCutsAtCharacters(t *testing.T) {
	f := request()
	f.User = "x" + strings.Repeat("ä", 60)
	if got, want := compile(t, `client.user == "x"`).Describe(f), `client.user = "x`+strings.Repeat("ä", 39)+`"…`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNames(t *testing.T) {
	c := compile(t, `request.path == "/" || client.user == "x" && request.header.host != ""`)
	if diff := cmp.Diff([]string{"request.path", "client.user", `request.header["host"]`}, c.Names()); diff != "" {
		t.Error(diff)
	}
	if !c.UsesRequest() || compile(t, `client.user == "x"`).UsesRequest() {
		t.Error("UsesRequest is wrong")
	}
}

func TestConstant(t *testing.T) {
	for src, want := range map[string]string{
		`true`: "true", `1 == 2`: "false", `local.on`: "true", `env("SET") == "x"`: "false",
		`client.user == "a" && false`: "false", `true || client.user == "a"`: "true",
		`now.hour < 24`: "true", `now.hour > 23`: "false", `now.hour == 24`: "false", `target.port <= 65535`: "true",
		`target.port == 70000`: "false", `now.hour * 60 + now.minute < 1440`: "true", `now.minute % 15 == 15`: "false",
		`now.time <= "24:00"`: "true", `startswith(client.user, "")`: "true", `contains([], client.user)`: "false",
		`length(client.user) >= 0`: "true", `abs(now.hour - 30) < 7`: "false", `min(now.hour, 3) < 4`: "true", `!(now.month > 12)`: "true",
		`client.user == "a"`: "", `now.hour < 23`: "", `target.port == 65535`: "", `length(client.user) > 0`: "", `now.unix > 0`: "",
		`target.port % 3 == 2`: "", `tonumber(client.user, 0) == -5`: "", `floor(now.hour / 2) == 11`: "",
	} {
		got := ""
		if v, ok := compile(t, src).Constant(); ok {
			got = map[bool]string{true: "true", false: "false"}[v]
		}
		if got != want {
			t.Errorf("%s: constant %q, want %q", src, got, want)
		}
	}
	for _, v := range []bool{true, false} {
		c := Fixed(v)
		if got, ok := c.Constant(); !ok || got != v || c.Eval(request()) != v || c.Needs() != 0 || c.Describe(request()) != "" {
			t.Errorf("Fixed(%v) is not", v)
		}
	}
}

// TestWarnings checks what is said of operands that change nothing.
func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ src, at, want string }{
		{`client.user == "a" && true`, "1,23", "This is always true: it has no effect here and can be left out."},
		{`client.user == "a" && false`, "1,23", "This is always false: so the whole is always false."},
		{`client.user == "a" || now.hour < 24`, "1,23", "This is always true: so the whole is always true."},
		{`client.user == "a" || target.port == 70000`, "1,23", "it has no effect here"},
		{`client.user == "a" || 1 > 2`, "1,23", "it has no effect here"},
		{`client.user == "a" && local.on`, "", ""},
		{`client.user == "a" || local.ports[0] == 80`, "", ""},
		{`client.user == "a" && contains(local.empty, client.user)`, "", ""},
		{`now.hour < 24`, "", ""}, // the condition as a whole: Constant says so
	} {
		_, diags := Compile(parse(t, tt.src), consts(), Options{})
		switch {
		case tt.want == "" && len(diags) > 0:
			t.Errorf("%s: %v", tt.src, diags)
		case tt.want == "":
		case len(diags) != 1 || diags[0].Severity != hcl.DiagWarning || !strings.Contains(diags[0].Detail, tt.want) || !strings.Contains(diags[0].Error(), tt.at):
			t.Errorf("%s: %v, want %s: %s", tt.src, diags, tt.at, tt.want)
		}
	}
}

// TestEverythingAtOnce checks that one run reports all that is wrong.
func TestEverythingAtOnce(t *testing.T) {
	src := `client.usr == 1 && nosuch(1) || target.port == "x" || cidr(client.address, "10.0.0.0/33", "y")`
	_, diags := Compile(parse(t, src), consts(), Options{})
	var columns []int
	for _, d := range diags {
		columns = append(columns, d.Subject.Start.Column)
		if d.Context == nil || d.Context.End.Byte != len(src) {
			t.Errorf("%s: the context is not the whole condition", d)
		}
	}
	slices.Sort(columns)
	if diff := cmp.Diff([]int{1, 20, 33, 55 + 21, 55 + 36}, columns); diff != "" {
		t.Error(diff)
	}
	_, diags = Compile(parse(t, strings.Repeat("true && ", 500)+"nosuch"), consts(), Options{})
	if !diags.HasErrors() || len(diags) != maxWarnings+1 {
		t.Errorf("behind many warnings an error is lost: %d", len(diags))
	}
	_, diags = Compile(parse(t, strings.Repeat("nosuch || ", 500)+"true"), consts(), Options{})
	if len(diags) != maxErrors {
		t.Errorf("%d errors", len(diags))
	}
}

func fromJSON(t *testing.T, src string) hcl.Expression {
	t.Helper()
	file, diags := json.Parse([]byte(src), "t.json")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	attrs, diags := file.Body.JustAttributes()
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return attrs["when"].Expr
}

// TestScopes checks that an inner scope comes first, and that a scope may bring no functions or not be there at all.
func TestScopes(t *testing.T) {
	outer := &hcl.EvalContext{Variables: map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{"x": cty.False}), "var": cty.True}}
	inner := outer.NewChild()
	inner.Variables = map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{"x": cty.True})}
	for _, tt := range []struct {
		src string
		ctx *hcl.EvalContext
	}{{`local.x && var`, inner}, {`!local.x && var`, outer}, {`startswith("ab", "a")`, outer}, {`startswith("ab", "a")`, nil}} {
		c, diags := Compile(parse(t, tt.src), tt.ctx, Options{})
		if diags.HasErrors() || !c.Eval(request()) {
			t.Errorf("%s: %v", tt.src, diags)
		}
	}
	if _, diags := Compile(parse(t, `local.x`), nil, Options{}); !diags.HasErrors() {
		t.Error("local.x exists without a scope")
	}
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{`{"when": "${client.user == \"anna\"}"}`, "true"},
		{`{"when": "${now.hour >= 9 && cidr(client.address, local.office)}"}`, "true"},
		{`{"when": "${now.hour < 9}"}`, "false"},
		{`{"when": true}`, "true"},
		{`{"when": "now.hour >= 9"}`, `t.json:1,11-24: Wrong type; A condition must be true or false, and this is a text. In JSON an expression is written as "${now.hour >= 9}".`},
		{`{"when": "${now.hor >= 9}"}`, `t.json:1,13-20: Unknown name; There is no now.hor. Did you mean "now.hour"?`},
		{`{"when": "a${now.hour}"}`, `this is a string`},
		{`{"when": "${now.hour >= }"}`, `t.json:1,`},
		{`{"when": 5}`, `this is a number`},
		{`{"when": ["${true}"]}`, `this is a list`},
		{`{"when": null}`, `this is null`},
	} {
		c, diags := Compile(fromJSON(t, tt.src), consts(), Options{})
		switch {
		case diags.HasErrors():
			if !strings.Contains(diags[0].Error(), tt.want) {
				t.Errorf("%s: %v\nwant %s", tt.src, diags[0], tt.want)
			}
		default:
			if got := map[bool]string{true: "true", false: "false"}[c.Eval(request())]; got != tt.want {
				t.Errorf("%s: %s, want %s", tt.src, got, tt.want)
			}
		}
	}
}

// TestDeep checks that no nesting harms, and that generated chains may be long.
func TestDeep(t *testing.T) {
	terms := make([]string, 3000)
	for i := range terms {
		terms[i] = `client.user == "u` + strings.Repeat("x", i%5) + `"`
	}
	if compile(t, strings.Join(terms, " || ")).Eval(request()) {
		t.Error("a chain of 3000 is wrong")
	}
	if !compile(t, "!("+strings.Join(terms, " || ")+")").Eval(request()) {
		t.Error("a chain of 3000 is wrong")
	}
	for _, src := range []string{
		strings.Repeat("(", 3000) + "true" + strings.Repeat(")", 3000),
		strings.Repeat("!", 3000) + "true",
		strings.Repeat("true ? (", 1000) + "true" + strings.Repeat(") : false", 1000),
		"1" + strings.Repeat(" + 1", 3000) + " == client.port",
		strings.Repeat("lower(", 1000) + "client.user" + strings.Repeat(")", 1000) + ` == "x"`,
		strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + " == null",
	} {
		_, diags := Compile(parse(t, src), consts(), Options{})
		if len(diags) == 0 || !strings.Contains(diags[0].Detail, "nested more than") {
			t.Errorf("%.30s…: %v", src, diags)
		}
	}
}

// TestLongList checks a list of a hundred thousand names.
func TestLongList(t *testing.T) {
	values := make([]cty.Value, 100_000)
	for i := range values {
		values[i] = cty.StringVal("h" + strconv.Itoa(i) + ".example")
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{"list": cty.ListVal(values)})}}
	c, diags := Compile(parse(t, `contains(local.list, target.host)`), ctx, Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	f := request()
	for host, want := range map[string]bool{"h0.example": true, "h99999.example": true, "h100000.example": false, "example": false} {
		if f.Target.Host = host; c.Eval(f) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
	values[70_000] = cty.StringVal("H.example")
	ctx.Variables["local"] = cty.ObjectVal(map[string]cty.Value{"list": cty.ListVal(values)})
	if _, diags := Compile(parse(t, `contains(local.list, target.host)`), ctx, Options{}); len(diags) != 1 || !strings.Contains(diags[0].Detail, `"h.example"`) {
		t.Errorf("%v", diags)
	}
}

// TestStrangeFacts evaluates everything with facts that should not occur: nothing may panic.
func TestStrangeFacts(t *testing.T) {
	facts := []*connmodel.Facts{{}, {Request: &connmodel.RequestFacts{}}, {Time: monday.AddDate(50000, 0, 0), Addresses: make([]netip.Addr, 3), Have: connmodel.NeedAddresses}}
	for _, tt := range valueTable {
		c := compile(t, tt.src)
		for _, f := range facts {
			c.Eval(f)
			c.Test(f)
			_ = c.Describe(f)
		}
	}
}

// TestScopeTable checks that every name of the manual compiles, and every function is there at load too.
func TestScopeTable(t *testing.T) {
	for _, n := range Scope() {
		test := map[string]string{
			"string": n.Name + ` != ""`, "number": n.Name + ` == 1`, "IP address": n.Name + ` == null`, "date": n.Name + ` == "2026-11-23"`,
			"time of day": n.Name + ` == "09:30"`, "list of IP addresses": `length(` + n.Name + `) == 1`, "map of strings": n.Name + `["x"] == ""`,
			"bool": n.Name, "list of strings": `contains(` + n.Name + `, "h2")`,
		}[n.Type]
		if test == "" || n.Meaning == "" {
			t.Errorf("%+v", n)
			continue
		}
		if strings.HasPrefix(n.Name, "listener") || n.Name == "protocol" || strings.HasPrefix(n.Name, "now.weekday") || n.Name == "target.host" {
			test = `length(` + n.Name + `) > 3`
		}
		compile(t, test)
	}
	load := Functions(FunctionOptions{})
	for _, f := range FactFunctions() {
		if _, ok := load[f.Name]; !ok && f.Name != "network.reachable" || f.Meaning == "" {
			t.Errorf("%s is not there at load", f.Signature)
		}
	}
}
