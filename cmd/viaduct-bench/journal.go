package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
)

// What is measured of the journal: what it costs a tunnel (Viaduct with it against Viaduct without it, the same policy, the same run), how
// many records its writer takes a second, and how long "viaduct plan" takes to replay many of them.

// writeCommand makes this program a gateway's end of a journal: it writes records as fast as the journal takes them.
const writeCommand = "write-journal"

// journalName and noJournalName are Viaduct with and without.
const (
	journalName   = "viaduct-journal"
	noJournalName = "viaduct-no-journal"
)

// minute of replay is the goal for so many records.
const planGoal = 1_000_000

// startCommand stands for a program that is run anew for each sample.
func startCommand(_ context.Context, _ *env, r role, _ string) (*process, error) {
	return &process{doors: map[role]door{r: {}}, pids: func() []int { return nil }, stop: func() error { return nil }}, nil
}

func startViaductJournal(ctx context.Context, e *env, _ role, _ string) (*process, error) {
	return e.gateway(ctx, gatewayKind{simple: true, journal: true})
}

// writeMain is the process: it writes as many records as it is told into a journal of its own, and ends when they are on the disk.
func writeMain(args []string) int {
	f := flag.NewFlagSet(writeCommand, flag.ContinueOnError)
	n, dir := f.Int("count", 100_000, ""), f.String("dir", "", "")
	if f.Parse(args) != nil {
		return 2
	}
	if err := writeJournal(*dir, *n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func writeJournal(dir string, n int) error {
	j, err := journal.Open(journal.Options{Dir: dir, KeepSize: 64 << 30})
	if err != nil {
		return err
	}
	end := time.Now()
	for i := range n {
		if i%256 == 0 {
			for j.Status().Queued > 2048 { // in service what comes too fast is dropped; here all of it counts
				time.Sleep(100 * time.Microsecond)
			}
		}
		j.Record(someFlow(i, end.Add(-time.Duration(n-i)*50*time.Millisecond)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		return err
	}
	if s := j.Status(); s.Written != uint64(n) || s.Dropped != 0 {
		return fmt.Errorf("%d records written and %d dropped, of %d", s.Written, s.Dropped, n)
	}
	return nil
}

// someFlow is the i-th of many flows as offices have them: some hundred clients, some thousand targets, a few rules, two routes, one in
// twenty refused and one in fifty failed.
func someFlow(i int, end time.Time) *connmodel.Flow {
	start := end.Add(-time.Duration(20+i%400) * time.Millisecond)
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 3), byte(i % 200)}), uint16(20000+i%40000))
	rule := i % policyRules
	host := fmt.Sprintf("www.site%d.example", rule)
	if rule%10 == 4 {
		host = fmt.Sprintf("host%d.site%d.example", i%50, rule)
	}
	f := &connmodel.Flow{
		ID: connmodel.NewID(start), Session: connmodel.NewID(start), Generation: 1, Protocol: connmodel.ProtocolConnect,
		Target: connmodel.Address{Host: host, Port: 443}, Start: start, Decided: start.Add(30 * time.Microsecond), End: end,
		Up: int64(500 + i%3000), Down: int64(4000 + i%200_000), First: connmodel.SideClient, Reason: connmodel.CloseClient,
		Decision: &connmodel.Decision{Generation: 1, Policy: "default", Rule: fmt.Sprintf("site %d", rule), File: "policy.hcl", Line: 20 + 4*rule, Outcome: connmodel.OutcomeVia, Route: "upstream.http_hop"},
		Client: &connmodel.Client{Listener: "direct", Protocol: connmodel.ProtocolConnect, User: fmt.Sprintf("user%d", i%150), Connection: connmodel.Connection{
			ID: connmodel.NewID(start), Address: connmodel.AddressFrom(client), Peer: client, Local: netip.MustParseAddrPort("10.0.0.1:3128"), State: connmodel.Closed, Start: start, TCPSetup: start, End: end}},
		Reply: &connmodel.Reply{Code: 200, Time: start.Add(9 * time.Millisecond)},
	}
	f.Client.Session = f.Session
	switch {
	case i%20 == 7:
		f.Decision = &connmodel.Decision{Generation: 1, Policy: "default", Rule: "blocked", File: "policy.hcl", Line: 12, Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 403}}
		f.Reason, f.Reply.Code, f.Up, f.Down = connmodel.CloseDenied, 403, 0, 0
		return f
	case rule%2 == 1:
		f.Decision = &connmodel.Decision{Generation: 1, Policy: "default", Rule: "otherwise", File: "policy.hcl", Line: 9, Outcome: connmodel.OutcomeVia, Route: connmodel.RouteDirect}
	}
	hop := connmodel.HopResult{Index: 1, Upstream: "http_hop", Protocol: "http", Address: connmodel.Address{Host: "proxy.example", Port: 8080}, Peer: netip.MustParseAddrPort("10.9.0.1:8080"),
		Start: start, DNS: 200 * time.Microsecond, TCP: 900 * time.Microsecond, Connect: 7 * time.Millisecond, Total: 8 * time.Millisecond}
	server := connmodel.HopResult{Index: 2, Protocol: "tcp", Address: f.Target, Start: start.Add(8 * time.Millisecond)}
	attempt := connmodel.Attempt{Number: 1, Route: "http_hop", Start: start, End: start.Add(8 * time.Millisecond), Hops: []connmodel.HopResult{hop, server}}
	f.Server = &connmodel.Server{Via: f.Decision.Route, Route: "http_hop", ResolvedBy: "upstream", Attempts: []connmodel.Attempt{attempt}, Connection: connmodel.Connection{
		ID: connmodel.NewID(start), Address: f.Target, State: connmodel.Closed, Start: start, TCPSetup: attempt.End, End: end}}
	if i%50 == 3 {
		e := &connmodel.ConnError{Phase: connmodel.PhaseConnect, Side: connmodel.SideHop, Hop: 1, HopName: "http_hop", Kind: connmodel.KindTimeout, Blame: connmodel.BlameProxy,
			Message: "the proxy did not answer within 10s", Code: 504, CodeOf: "http"}
		a := &f.Server.Attempts[0]
		a.Error, a.Hops[0].Error, a.Hops = e, e, a.Hops[:1]
		f.Error, f.Server.Error, f.Reason, f.Reply.Code = e, e, connmodel.CloseFailed, 504
	}
	return f
}

// sampleWriter writes records into a journal that is new, and into one a second time with a single record: what starting takes is taken off.
func sampleWriter(ctx context.Context, b *bench, _ *process, _ door) ([]float64, error) {
	n := b.o.records
	cpu, took, err := b.writeRecords(ctx, n, "")
	if err != nil {
		return nil, err
	}
	cpu1, took1, err := b.writeRecords(ctx, 1, "")
	if err != nil {
		return nil, err
	}
	if took <= took1 || cpu <= cpu1 {
		return nil, errors.New("one record takes as long as many")
	}
	return []float64{micros(cpu-cpu1) / float64(n-1), float64(n-1) / (took - took1).Seconds()}, nil
}

// writeRecords runs the writer on the proxy's CPU. dir "" = a directory that is removed afterwards.
func (b *bench) writeRecords(ctx context.Context, n int, dir string) (cpu, took time.Duration, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp(b.env.dir, "journal-"); err != nil {
			return 0, 0, err
		}
		defer os.RemoveAll(dir)
	}
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, self, writeCommand, "-count", strconv.Itoa(n), "-dir", filepath.Join(dir, "journal"))
	var problems bytes.Buffer
	cmd.Stderr = &problems
	begun := time.Now()
	if err := pinned(b.env.cpus.proxy, b.env.cpus.load, cmd.Run); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, problems.Bytes())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), time.Since(begun), nil
}

// samplePlan replays a journal through a policy in which every other rule leads elsewhere. It has both CPUs, as the command has where it is
// used; the journal is made once for a run.
func samplePlan(ctx context.Context, b *bench, _ *process, _ door) ([]float64, error) {
	e, n := b.env, b.o.planned
	if e.journal == "" {
		dir, err := os.MkdirTemp(e.dir, "planned-")
		if err != nil {
			return nil, err
		}
		b.say("  writing a journal of %d records", n)
		if _, _, err := b.writeRecords(ctx, n, dir); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "next.hcl"), planPolicy(), 0o644); err != nil {
			return nil, err
		}
		e.journal = dir
	}
	cmd := exec.CommandContext(ctx, e.binary, "plan", "next.hcl", "--journal", filepath.Join(e.journal, "journal"), "--since", "30d", "--json")
	cmd.Dir = e.journal
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+e.journal, "VIADUCT_CONFIG=")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	begun := time.Now()
	err := unpinned(e.cpus, cmd.Run)
	took := time.Since(begun)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 { // 1 = there are changes
		return nil, fmt.Errorf("viaduct plan: %w: %s", err, problems.Bytes())
	}
	var answer struct {
		Flows int  `json:"flows"`
		Moved part `json:"moved"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.Flows != n || answer.Moved.Flows == 0 {
		return nil, fmt.Errorf("viaduct plan: %d flows of %d, %d moved: %w", answer.Flows, n, answer.Moved.Flows, err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return []float64{float64(n) / took.Seconds(), took.Seconds() / float64(n) * planGoal, micros(cpu) / float64(n)}, nil
}

type part struct {
	Flows int `json:"flows"`
}

// planPolicy is the generated policy of 1,000 rules, with another upstream for every other rule.
func planPolicy() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "listener \"direct\" { address = \"127.0.0.1:3128\" }\nupstream \"http_hop\" { url = \"http://proxy.example:8080\" }\nupstream \"new_hop\" { url = \"http://new.example:8080\" }\npolicy \"default\" {\n")
	for i := range policyRules {
		via := "upstream.http_hop"
		if i%4 == 0 {
			via = "upstream.new_hop"
		}
		fmt.Fprintf(&b, "  rule \"site %d\" {\n    match { host = \"*.site%d.example\" }\n    via = %s\n  }\n", i, i, via)
	}
	b.WriteString("  otherwise { via = direct }\n}\n")
	return b.Bytes()
}
