package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/upstream/upstreamtest/peers"
)

// TestMain lets the test binary be the bare relay, and the writer of records, that the bench starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		os.Exit(bareMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == writeCommand {
		os.Exit(writeMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestShort runs the bench as CI does, and holds what is exact against its bounds: not a cost in time, which is noise here.
func TestShort(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the program for seconds")
	}
	chart := filepath.Join(t.TempDir(), "chart.svg")
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"--short", "--json", "--svg", chart, "--measure", "idle,connect,connect-http,connect-socks,connect-ntlm,socks,plain,pac,opened,opened-tunnel,bulk,latency"}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	// 200 tunnels: what the process opens for itself meanwhile is worth a hundredth.
	if v := value(t, &r, "idle-descriptors"); v < 1.99 || v > 2.02 {
		t.Errorf("an idle tunnel holds %v descriptors, want 2", v)
	}
	if v := value(t, &r, "idle-pipes"); v != 0 {
		t.Errorf("an idle tunnel holds %v pipes, want none", v)
	}
	for _, name := range []string{"connect", "connect-http", "connect-socks", "connect-ntlm", "connect-ntlm-rate", "socks", "plain", "pac", "pac-rate", "opened", "opened-rate", "opened-tunnel", "opened-tunnel-rate", "bulk", "bulk-rate"} {
		if v := value(t, &r, name); v <= 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
	svg, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, svg)
	if !bytes.Contains(svg, []byte("Viaduct, everything on")) {
		t.Error("Viaduct is not in the chart")
	}
}

// TestOpenedPeers runs those who open tunnels beside Viaduct. What they cost is so far apart that noise does not blur it.
func TestOpenedPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the programs for seconds")
	}
	peers.Need(t, "squid-openssl", "security_file_certgen", "mitmdump")
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"--short", "--json", "--require-peers", "--only", "viaduct,squid-bump,mitmproxy", "--measure", "opened,opened-tunnel", "--requests", "4000"}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	ours, theirs := value(t, &r, "opened"), r.table("opened").row("mitmproxy")
	if squid := r.table("opened").row("squid-bump"); squid == nil || squid.Error != "" || len(squid.Samples) == 0 {
		t.Errorf("squid: %+v", squid)
	}
	if theirs == nil || theirs.Error != "" || ours*2 > theirs.Median {
		t.Errorf("an intercepted request costs %v µs, mitmproxy's %+v", ours, theirs)
	}
}

// TestLoginAndScriptPeers runs cntlm and pactester beside Viaduct. What they cost is so far apart that noise does not blur it.
func TestLoginAndScriptPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the programs for seconds")
	}
	peers.Need(t, "cntlm", "pactester")
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"--short", "--json", "--require-peers", "--only", "viaduct,cntlm,pactester", "--measure", "connect-ntlm,pac"}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for measure, peer := range map[string]string{"connect-ntlm": "cntlm", "pac": "pactester"} {
		ours, theirs := value(t, &r, measure), r.table(measure).row(peer)
		if theirs == nil || theirs.Error != "" || ours > theirs.Median {
			t.Errorf("%s costs %v µs, %s %+v", measure, ours, peer, theirs)
		}
	}
}

// TestSystemCalls counts those of a tunnel, with 1,000 rules, records and log lines.
func TestSystemCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the program for seconds")
	}
	peers.Need(t, "strace")
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"--short", "--json", "--only", "viaduct", "--measure", "syscalls"}, &out, &progress)
	if err != nil && strings.Contains(err.Error(), "strace does not attach") && os.Getenv(peers.RequireEnv) != "1" {
		t.Skip(err) // a container may forbid it
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if v := value(t, &r, "syscalls"); v < 15 || v > 34 {
		t.Errorf("a tunnel takes %v system calls, want at most 34: %v", v, r.Calls[viaductName])
	}
}

func value(t *testing.T, r *report, name string) float64 {
	t.Helper()
	tab := r.table(name)
	if tab == nil || tab.row(viaductName) == nil {
		t.Fatalf("%s was not measured", name)
	}
	w := tab.row(viaductName)
	if w.Error != "" || len(w.Samples) == 0 {
		t.Fatalf("%s: %s", name, w.Error)
	}
	return w.Median
}

func wellFormed(t *testing.T, b []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--only nobody", `there is no contender "nobody"`},
		{"--measure speed", `there is no measure "speed"`},
		{"--rounds 0", "--rounds must be between"},
		{"--idle 5", "--idle must be between"},
		{"extra", "no arguments are expected"},
		{"--nonsense", "not defined"},
	} {
		if _, err := parse(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
	o, err := parse([]string{"--short", "--rounds", "3", "--only", "squid,viaduct"}, io.Discard)
	if err != nil || o.rounds != 3 || o.tunnels != 500 || len(o.only) != 2 {
		t.Errorf("--short with --rounds 3: %+v, %v", o, err)
	}
}

func TestParseCalls(t *testing.T) {
	const table = "    calls syscall\n--------- ----------------\n     1200 splice\n      400 accept4\n--------- ----------------\n     1600 total\n"
	calls, err := parseCalls(table)
	if err != nil || len(calls) != 2 || calls["splice"] != 1200 || calls["accept4"] != 400 {
		t.Errorf("%v, %v", calls, err)
	}
	if _, err := parseCalls("    calls syscall\n"); err == nil {
		t.Error("an empty table was taken for a count")
	}
}

// TestRatioOfRounds shows why rounds are compared one by one: half of these were disturbed, for both.
func TestRatioOfRounds(t *testing.T) {
	floor := &row{Samples: []float64{50, 100, 52, 110}, Median: 76}
	if got := ratio(&row{Samples: []float64{60, 120, 78, 132}, Median: 99}, floor); got != 1.2 {
		t.Errorf("ratio %v, want 1.2", got)
	}
	if got := ratio(&row{Samples: []float64{152}, Median: 152}, floor); got != 2 {
		t.Errorf("ratio of medians %v, want 2", got)
	}
}

// TestMediansAndRatios checks what the table says.
func TestMediansAndRatios(t *testing.T) {
	r := newReport(&options{rounds: 2})
	m := measures[2]
	if m.name != "connect" {
		t.Fatal(m.name)
	}
	by := map[string]*contender{}
	for _, c := range contenders {
		by[c.name] = c
	}
	for name, values := range map[string][]float64{"squid": {300, 330, 900}, floorName: {50, 60}, viaductName: {66, 66, 10}} {
		for _, v := range values {
			r.add(m, by[name], []float64{v})
		}
	}
	r.failed(m, by["tinyproxy"], errors.New("refused"))
	r.finish()
	tab := r.table("connect")
	squid := tab.row("squid")
	if squid.Median != 330 || squid.Low != 300 || squid.High != 900 || squid.ToFloor != 6 || squid.ToViaduct != 5 {
		t.Errorf("squid: %+v", squid)
	}
	if tab.Rows[0].Name != floorName || tab.Rows[0].Median != 55 || tab.row(viaductName).ToFloor != 1.2 {
		t.Errorf("floor: %+v", tab.Rows[0])
	}
	var text bytes.Buffer
	if err := r.writeText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failed", "330", "6.00", "reached  a CONNECT tunnel with 1,000 rules and records costs at most 1.3 x the bare relay: 1.20 x floor"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing:\n%s", want, text.String())
		}
	}
	wellFormed(t, r.svg())
}
