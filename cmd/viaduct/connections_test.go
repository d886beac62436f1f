package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/connmodel/journal/flowtest"
	"viaduct/policies"
)

// filledJournal keeps n records in a journal of its own, which is still written to.
func filledJournal(t *testing.T, n int) (dir string, ids []connmodel.ID, j *journal.Journal) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "journal")
	j, err := journal.Open(journal.Options{Dir: dir, Queue: n + 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		j.Close(ctx)
	})
	r := rand.New(rand.NewPCG(21, 22))
	for i := range n {
		f := flowtest.Flow(r)
		f.Start = time.Now().Add(-time.Minute)
		f.End = time.Now()
		f.Up = int64(i)
		ids = append(ids, f.ID)
		j.Record(f)
	}
	for end := time.Now().Add(20 * time.Second); j.Status().Written < uint64(n); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d of %d records are written", j.Status().Written, n)
		}
	}
	return dir, ids, j
}

// viaductOut runs a command of this program.
func viaductOut(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	root, started := newRoot()
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(args)
	code, say := codeOf(root.ExecuteContext(t.Context()), *started)
	if say != nil {
		fmt.Fprintln(&e, "viaduct:", say)
	}
	return o.String(), e.String(), code
}

// TestNewestLast asks for the newest of many: they come in the order of a log, whether they are few enough to be held or not.
func TestNewestLast(t *testing.T) {
	t.Setenv("VIADUCT_CONFIG", "")
	n := heldFlows + 300
	dir, ids, _ := filledJournal(t, n)
	for _, limit := range []int{0, 1, 10, heldFlows, heldFlows + 1, heldFlows + 200, n, n + 1, 2 * n} {
		out, errs, code := viaductOut(t, "connections", "--journal", dir, "--json", "--limit", fmt.Sprint(limit))
		if code != 0 {
			t.Fatalf("%d: %s", code, errs)
		}
		var got []connmodel.ID
		for l := range strings.Lines(out) {
			f := new(connmodel.Flow)
			if err := json.Unmarshal([]byte(l), f); err != nil {
				t.Fatal(err)
			}
			got = append(got, f.ID)
		}
		want := ids
		if limit > 0 && limit < n {
			want = ids[n-limit:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d records, %d are meant, or in another order", limit, len(got), len(want))
		}
	}
	out, errs, _ := viaductOut(t, "connections", "--journal", dir)
	if strings.Count(out, "\n") != tableLimit+1 || !strings.Contains(errs, "these are the newest 100 of those that ended since") {
		t.Errorf("%d lines; %s", strings.Count(out, "\n"), errs)
	}
	out, errs, _ = viaductOut(t, "connections", "--journal", dir, "--where", fmt.Sprintf("bytes_up >= %d", n-3))
	if strings.Count(out, "\n") != 4 || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
}

// TestWhereIsWrong: a mistake in an expression is one of usage, and warnings are told beside the answer.
func TestWhereIsWrong(t *testing.T) {
	t.Setenv("VIADUCT_CONFIG", "")
	dir, _, _ := filledJournal(t, 1)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--where", `user = "x"`}, exitUsage, "Equal is written =="},
		{[]string{"--where", `user == "x`}, exitUsage, "filter:1:"},
		{[]string{"--where", `env("HOME") == "x"`}, exitUsage, "env is of policies"},
		{[]string{"--where", `error || true`}, exitOK, "warning"},
		{[]string{"--where", `client.country == "DE"`}, exitUsage, "GeoIP"},
		{[]string{"--where", strings.Repeat("(", 5000)}, exitUsage, "too deep"},
		{[]string{"--since", "1h", "--until", "2h"}, exitUsage, "--since is not before --until"},
		{[]string{"--limit", "-1"}, exitUsage, "--limit -1"},
		{[]string{"--follow", "--har"}, exitUsage, "with --follow write --json"},
		{[]string{"--since", "\x1b[31m"}, exitUsage, `"\x1b[31m" is no time`},
	} {
		_, errs, code := viaductOut(t, append([]string{"connections", "--journal", dir}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs, "\x1b") {
			t.Errorf("%q: %d %q", c.args, code, errs)
		}
	}
}

// TestJournalThatCannotBeRead says in a sentence what is the matter.
func TestJournalThatCannotBeRead(t *testing.T) {
	t.Setenv("VIADUCT_CONFIG", "")
	t.Setenv("VIADUCT_ADMIN", "unix:"+filepath.Join(t.TempDir(), "none.sock"))
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	_, errs, code := viaductOut(t, "connections")
	if code != exitProblems || !strings.Contains(errs, "there is no journal at "+os.Getenv("STATE_DIRECTORY")+"/journal: has a gateway run here?") {
		t.Errorf("%d %s", code, errs)
	}
	off := filepath.Join(t.TempDir(), "off.hcl")
	if err := os.WriteFile(off, []byte("gateway {\n  journal { enabled = false }\n}\nlistener \"a\" { address = \"127.0.0.1:3128\" }\npolicy \"default\" {\n  otherwise { via = direct }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := viaductOut(t, "connections", "-c", off); code != exitProblems || !strings.Contains(errs, "the policy keeps no journal") {
		t.Errorf("%d %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := viaductOut(t, "connections", "--journal", file); code != exitProblems || !strings.Contains(errs, "is no directory") {
		t.Errorf("%d %s", code, errs)
	}
	if os.Getuid() == 0 {
		return // may read everything
	}
	dir := filepath.Join(t.TempDir(), "journal")
	if err := os.Mkdir(dir, 0); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := viaductOut(t, "connections", "--journal", dir); code != exitProblems || !strings.Contains(errs, "may not be read by user") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestConnectionByPart finds one by the parts of its id.
func TestConnectionByPart(t *testing.T) {
	t.Setenv("VIADUCT_CONFIG", "")
	t.Setenv("VIADUCT_ADMIN", "unix:"+filepath.Join(t.TempDir(), "none.sock"))
	dir, ids, _ := filledJournal(t, 20)
	id := ids[7].String()
	for _, part := range []string{id, strings.ToUpper(id), ids[7].Short(), id[len(id)-12:]} {
		out, errs, code := viaductOut(t, "connection", "--journal", dir, part)
		if code != 0 || !strings.Contains(out, id) {
			t.Errorf("%s: %d %s", part, code, errs)
		}
	}
	if _, errs, code := viaductOut(t, "connection", "--journal", dir, id[:6]); code != exitProblems || !strings.Contains(errs, "is of several connections") || !strings.Contains(errs, "and perhaps more") {
		t.Errorf("%d %s", code, errs)
	}
	if _, errs, code := viaductOut(t, "connection", "--journal", dir, "ffffffff"); code != exitProblems || !strings.Contains(errs, "the journal has no connection ffffffff, and whether one is open cannot be asked") {
		t.Errorf("%d %s", code, errs)
	}
	for _, bad := range []string{"", "xyz", "abc", "../../etc", strings.Repeat("0", 50)} {
		if _, errs, code := viaductOut(t, "connection", "--journal", dir, bad); code != exitUsage {
			t.Errorf("%q: %d %s", bad, code, errs)
		}
	}
}

// TestFollow shows what ends while it looks, once, and ends when it is asked to.
func TestFollow(t *testing.T) {
	dir, ids, j := filledJournal(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out watched
	q := &connectionsQuery{limit: 2, asJSON: true, out: &out, errs: &out, from: time.Now().Add(-time.Hour)}
	q.dir, q.notes = dir, &out
	w, _ := q.writer(time.UTC, time.Now())
	done := make(chan error, 1)
	go func() { done <- q.showNew(ctx, w) }()
	out.await(t, ids[2].String())
	r := rand.New(rand.NewPCG(5, 5))
	var more []string
	for range 3 {
		f := flowtest.Flow(r)
		f.End = time.Now()
		more = append(more, f.ID.String())
		j.Record(f)
		out.await(t, f.ID.String())
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	text := out.String()
	if strings.Contains(text, ids[0].String()) || !strings.Contains(text, ids[1].String()) || strings.Count(text, "\n") != 5 {
		t.Errorf("%d lines", strings.Count(text, "\n"))
	}
	for _, id := range more {
		if strings.Count(text, `{"id":"`+id) != 1 {
			t.Errorf("%s is not there once", id)
		}
	}
}

// TestToday asks policies of today about the past.
func TestToday(t *testing.T) {
	cfg := func(rule string) *policies.Config {
		text := "listener \"desk\" { address = \"127.0.0.1:3128\" }\nupstream \"corp\" { url = \"http://proxy.corp.example:8080\" }\npolicy \"default\" {\n" + rule + "\n  otherwise { via = direct }\n}\n"
		c, diags := policies.Load(policies.Options{Source: map[string][]byte{"p.hcl": []byte(text)}})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return c
	}
	f := &connmodel.Flow{Start: flowtest.Epoch, Protocol: connmodel.ProtocolConnect, Target: connmodel.Address{Host: "www.example", Port: 443},
		Client: &connmodel.Client{Listener: "desk"}, Decision: &connmodel.Decision{Outcome: connmodel.OutcomeVia, Route: "direct"}}
	for _, c := range []struct {
		rule, outcome, open string
		same                bool
	}{
		{"", "via", "", true},
		{"rule \"r\" {\n match { host = \"www.example\" }\n via = direct\n }", "via", "", true},
		{"rule \"r\" {\n match { host = \"www.example\" }\n via = upstream.corp\n }", "via", "", false},
		{"rule \"r\" {\n match { host = \"www.example\" }\n deny {}\n }", "deny", "", false},
		{"rule \"r\" {\n match { address = [\"10.0.0.0/8\"] }\n via = upstream.corp\n }", "", "the record does not know: the addresses of the target", false},
		{"rule \"r\" {\n match { sni = \"a.example\" }\n via = upstream.corp\n }", "", "the ClientHello in the tunnel", false},
	} {
		got, err := todayFor(t.Context(), cfg(c.rule), f)
		if err != nil || got.Problem != "" {
			t.Fatalf("%s: %v %+v", c.rule, err, got)
		}
		if e := got.Explanation; e.Outcome != c.outcome || got.Same != c.same || !strings.Contains(e.Open, c.open) || c.open == "" && e.Open != "" {
			t.Errorf("%s: %+v, same %v", c.rule, e, got.Same)
		}
	}
	other := *f
	other.Client = &connmodel.Client{Listener: "lab"}
	if got, _ := todayFor(t.Context(), cfg(""), &other); !strings.Contains(got.Problem, `no listener "lab"`) {
		t.Errorf("%+v", got)
	}
	other = *f
	other.Target = connmodel.Address{}
	if got, _ := todayFor(t.Context(), cfg(""), &other); got.Problem == "" {
		t.Errorf("%+v", got)
	}
}

// watched is output that a test looks at while it is written.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *watched) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(w.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come: %s", text, w.String())
		}
	}
}
