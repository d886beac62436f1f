package expr

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal/flowtest"
)

const recordManual = "../../connmodel/README.md"

// fieldTable is the table of fields as the manual has it.
func fieldTable() string {
	var b strings.Builder
	b.WriteString("| Name | Type | Is |\n|---|---|---|\n")
	for _, f := range connmodel.FilterFields() {
		name := "`" + f.Name + "`"
		switch f.Name {
		case "request.header":
			name = "`request.header[\"name\"]`"
		case "metadata":
			name = "`metadata.NAME`"
		}
		for _, a := range f.Aliases {
			name += ", `" + a + "`"
		}
		typ := f.Type.String()
		switch {
		case f.Seconds:
			typ = "number of seconds, or a length of time"
		case f.Type == connmodel.FilterMap:
			typ = "text"
		}
		meaning := f.Meaning
		if _, rest, ok := strings.Cut(meaning, ": "); ok && f.Type == connmodel.FilterMap {
			meaning = rest
		}
		if f.Values != nil {
			meaning += ": `\"" + strings.Join(f.Values, "\"` `\"") + "\"`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, typ, meaning)
	}
	return b.String()
}

// TestManualOfFields holds the manual's table against the code's. With VIADUCT_UPDATE_MANUAL=1 in the environment it writes it.
func TestManualOfFields(t *testing.T) {
	text, err := os.ReadFile(recordManual)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- fields -->\n", "<!-- end of fields -->"
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the manual has no table of fields")
	}
	if want := fieldTable(); table != want {
		if os.Getenv("VIADUCT_UPDATE_MANUAL") == "1" {
			if err := os.WriteFile(recordManual, []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf("the table of fields in %s is another one than that of the code; VIADUCT_UPDATE_MANUAL=1 go test ./policies/expr writes it", recordManual)
	}
}

// TestManualExamples compiles the expressions that the manual shows, and matches records with them.
func TestManualExamples(t *testing.T) {
	text, err := os.ReadFile(recordManual)
	if err != nil {
		t.Fatal(err)
	}
	_, asking, ok := strings.Cut(string(text), "\n## Asking\n")
	if !ok {
		t.Fatal("the manual has no section Asking")
	}
	asking, _, _ = strings.Cut(asking, "\n## ")
	found := regexp.MustCompile(`--where '([^']+)'`).FindAllStringSubmatch(asking, -1)
	if len(found) < 8 {
		t.Fatalf("only %d examples", len(found))
	}
	start := flowtest.Epoch
	flows := []*connmodel.Flow{
		{Start: start, End: start.Add(3 * time.Hour), Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "api.partner.example", Port: 443}, Down: 2e9,
			Client:   &connmodel.Client{User: "anna", Listener: "desk"},
			Decision: &connmodel.Decision{Policy: "default", Rule: "partner api", Outcome: connmodel.OutcomeVia, Route: "pool.corp", Shadow: []connmodel.ShadowVerdict{{Rule: "next", Outcome: connmodel.OutcomeDeny}}},
			Server: &connmodel.Server{Route: "corp_b", Attempts: []connmodel.Attempt{{Hops: []connmodel.HopResult{{Upstream: "corp_a"}}, End: start, Error: &connmodel.ConnError{}}, {Hops: []connmodel.HopResult{{Upstream: "corp_b"}}, End: start}},
				Connection: connmodel.Connection{TLSInfo: &connmodel.TLSInfo{Verdict: connmodel.ChainOK, Certificates: []connmodel.Certificate{{NotAfter: start.Add(72 * time.Hour)}}}}}},
		{Start: start, End: start.Add(time.Second), Protocol: connmodel.ProtocolHTTP, Target: connmodel.Address{Host: "www.example", Port: 80}, Client: &connmodel.Client{Connection: connmodel.Connection{Peer: netip.MustParseAddrPort("10.1.2.3:4000")}},
			Decision: &connmodel.Decision{Policy: "default", Rule: "otherwise", Outcome: connmodel.OutcomeVia, Route: "pool.corp"}, Error: &connmodel.ConnError{Kind: connmodel.KindTimeout, HopName: "jump", Hop: 2, Blame: connmodel.BlameProxy},
			Request: &connmodel.Request{Method: "POST", Scheme: "http", Host: "www.example", Path: "/upload"}, Response: &connmodel.Response{Status: 502}, Up: 2e6},
		{Start: start, End: start.Add(time.Second), Protocol: connmodel.ProtocolSOCKS5, Target: connmodel.Address{Host: "x.games.example", Port: 443}, Client: &connmodel.Client{Connection: connmodel.Connection{Peer: netip.MustParseAddrPort("10.1.2.3:4000")}},
			Decision: &connmodel.Decision{Policy: "default", Rule: "no games", Outcome: connmodel.OutcomeDeny}, Error: &connmodel.ConnError{Kind: connmodel.KindDenied}},
	}
	for _, m := range found {
		f := mustFilter(t, m[1])
		n := 0
		for _, flow := range flows {
			if f.Match(flow) {
				n++
			}
		}
		if n == 0 || n == len(flows) {
			t.Errorf("%s: takes %d of %d records", m[1], n, len(flows))
		}
	}
}
