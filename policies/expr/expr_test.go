package expr

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
)

// header is a HeaderLookup over pairs of name and value.
type header []string

func (h header) Lookup(name string, i int) (string, bool) {
	for j := 0; j+1 < len(h); j += 2 {
		if strings.EqualFold(h[j], name) {
			if i == 0 {
				return h[j+1], true
			}
			i--
		}
	}
	return "", false
}

// consts is the scope of load time that the tests use.
func consts() *hcl.EvalContext {
	return &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"local": cty.ObjectVal(map[string]cty.Value{
				"office":  cty.TupleVal([]cty.Value{cty.StringVal("10.20.0.0/16"), cty.StringVal("fd00:20::/32")}),
				"admins":  cty.TupleVal([]cty.Value{cty.StringVal("anna"), cty.StringVal("bert")}),
				"empty":   cty.EmptyTupleVal,
				"on":      cty.True,
				"limit":   cty.NumberIntVal(1024),
				"ports":   cty.TupleVal([]cty.Value{cty.NumberIntVal(80), cty.NumberIntVal(443)}),
				"teams":   cty.ObjectVal(map[string]cty.Value{"anna": cty.StringVal("red"), "carl": cty.StringVal("blue")}),
				"bad":     cty.UnknownVal(cty.String),
				"secret":  cty.StringVal("x").Mark("secret"),
				"nothing": cty.NullVal(cty.String),
			}),
			"var": cty.ObjectVal(map[string]cty.Value{"port": cty.StringVal("443"), "name": cty.StringVal("anna")}),
		},
		Functions: Functions(FunctionOptions{Environ: environ}),
	}
}

// monday is 2026-11-23, 09:30:15 in a zone of UTC+1.
var monday = time.Date(2026, 11, 23, 9, 30, 15, 0, time.FixedZone("CET", 3600))

// request is a plain request by a known user to a name.
func request() *connmodel.Facts {
	return &connmodel.Facts{
		Listener: "desk", Client: netip.MustParseAddrPort("10.20.1.7:50123"), Time: monday, User: "anna",
		Protocol: connmodel.ProtocolHTTP, Target: connmodel.Address{Host: "api.corp.example", Port: 8080}, Scheme: "http",
		Have: connmodel.NeedAddresses, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("fd00::5")},
		Request: &connmodel.RequestFacts{Method: "GET", Path: "/v1/items?id=3&x=y", Header: header{"User-Agent", "curl/8.1", "Content-Length", "1500", "Cookie", "s=1"}},
	}
}

// tunnel is a SOCKS tunnel by nobody from a Unix socket to a literal address.
func tunnel() *connmodel.Facts {
	return &connmodel.Facts{
		Listener: "lan", Time: monday.AddDate(0, 0, 5).Add(12 * time.Hour), Protocol: connmodel.ProtocolSOCKS5,
		Target: connmodel.Address{Host: "192.0.2.1", Port: 443}, TargetIP: netip.MustParseAddr("192.0.2.1"),
		Have:  connmodel.NeedHello | connmodel.NeedRequest,
		Hello: &connmodel.ClientHello{SNI: "www.example", ALPN: []string{"h2", "http/1.1"}, JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1", ECH: true},
	}
}

// unseen is a CONNECT tunnel to a name that was not looked into.
func unseen() *connmodel.Facts {
	f := tunnel()
	f.Protocol, f.Have, f.Hello = connmodel.ProtocolConnect, connmodel.NeedAddresses, nil
	f.Target.Host, f.TargetIP = "www.example", netip.Addr{}
	f.Addresses = []netip.Addr{netip.MustParseAddr("10.9.0.5")}
	return f
}

// unresolved is like request without the addresses of the target.
func unresolved() *connmodel.Facts {
	f := request()
	f.Have, f.Addresses = 0, nil
	return f
}

func parse(t testing.TB, src string) hclsyntax.Expression {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(src), "t.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", src, diags)
	}
	return e
}

// country knows the network of the tests' clients.
func country(a netip.Addr) string {
	if netip.MustParsePrefix("10.20.0.0/16").Contains(a) {
		return "DE"
	}
	return ""
}

func compile(t testing.TB, src string) *Condition {
	t.Helper()
	c, diags := Compile(parse(t, src), consts(), Options{Listeners: []string{"desk", "lan"}, Country: country})
	if diags.HasErrors() {
		t.Fatalf("%s\n%v", src, diags)
	}
	return c
}
