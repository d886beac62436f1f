package journald

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/goleak"

	"viaduct/connmodel"
)

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// flow makes the record of a tunnel to host; fail says why it failed.
func flow(host, user string, fail *connmodel.ConnError) *connmodel.Flow {
	s := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: netip.MustParseAddrPort("10.1.2.3:4711")}, nil)
	s.Identified(connmodel.ProtocolConnect, user)
	to := connmodel.Address{Host: host, Port: 443}
	r := s.NewFlow(connmodel.ProtocolConnect, to, time.Time{})
	r.Decided(&connmodel.Decision{Policy: "default", Rule: "partner api", File: "viaduct.hcl", Line: 35, Outcome: connmodel.OutcomeVia, Route: "corp"}, nil)
	r.BeginDial(to, "corp", false)
	a := r.BeginAttempt("corp_a")
	if fail == nil {
		a.Connected(netip.MustParseAddrPort("10.0.0.1:5000"), netip.MustParseAddrPort("10.0.0.2:8080"))
	} else {
		a.Fail(fail)
		r.Fail(fail)
	}
	return r.Close(connmodel.FlowEnd{Reason: connmodel.CloseClient, Up: 517, Down: 4096})
}

var refused = &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideHop, Hop: 1, HopName: "corp_a", Kind: connmodel.KindRefused, Message: "connection refused"}

func TestMessageIsOneLine(t *testing.T) {
	got := Message(flow("api.partner.example", "eve\n\x1b[31mMESSAGE=forged\u202e", refused))
	for _, want := range []string{"connect api.partner.example:443 from 10.1.2.3", `as "eve\n\x1b[31m`, "by rule default/partner api", "517 bytes up, 4096 down", "connection refused"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if strings.ContainsFunc(got, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("%q steers terminals", got)
	}
	if got := Message(&connmodel.Flow{}); strings.Contains(got, "\n") {
		t.Errorf("a flow that knows nothing: %q", got)
	}
}

// TestTrouble has a journald that is away for a while: nothing waits, what fits into the queue comes later, the rest is counted.
func TestTrouble(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	said := make(chan error, 8)
	var got atomic.Int64
	w, err := New(Options{Queue: 4, OnError: func(err error) { said <- err }, send: func(string, journal.Priority, map[string]string) error {
		if down.Load() {
			return syscall.ECONNREFUSED
		}
		got.Add(1)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	const sent = 50
	for range sent {
		w.Record(flow("a.example", "", nil))
	}
	if err := <-said; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("told of %v", err)
	}
	down.Store(false)
	if err := <-said; err != nil {
		t.Errorf("told of %v", err)
	}
	if err := w.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if n := uint64(got.Load()); n < 4 || n > 6 || w.Written() != n || w.Dropped() != sent-n {
		t.Errorf("%d came, %d written, %d dropped of %d", n, w.Written(), w.Dropped(), sent)
	}
	w.Record(flow("late.example", "", nil))
	if w.Dropped() != sent-uint64(got.Load())+1 {
		t.Error("a record after the end is not counted as dropped")
	}
}

// TestCloseIsBounded: a journald that takes nothing and says nothing cannot hold a stop up.
func TestCloseIsBounded(t *testing.T) {
	hang := make(chan struct{})
	w, err := New(Options{send: func(string, journal.Priority, map[string]string) error { <-hang; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.Record(flow("a.example", "", nil))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed with %v", err)
	}
	close(hang)
	if err := w.Close(context.Background()); err != nil || w.Written() != 3 {
		t.Errorf("%v, %d written", err, w.Written())
	}
}

const inside = "VIADUCT_TEST_JOURNALD"

// TestRealJournald sends to systemd-journald, which runs in a mount namespace with a /run of its own, and reads back with journalctl.
func TestRealJournald(t *testing.T) {
	const program = "/lib/systemd/systemd-journald"
	if _, err := os.Stat(program); err != nil {
		t.Skip("there is no systemd-journald")
	}
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("there is no journalctl")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, for a mount namespace")
	}
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRealJournald$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skip("mount namespaces are not allowed here")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
	}{{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE}, {"tmpfs", "/run", "tmpfs", 0}} {
		if err := syscall.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/log/journal", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{}); !errors.Is(err, ErrNone) {
		t.Fatalf("without journald: %v", err)
	}
	d := exec.Command(program)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		d.Process.Kill()
		d.Wait()
	}()
	var w *Writer
	var err error
	for range 200 {
		if w, err = New(Options{}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	plainOne := flow("api.partner.example", "", nil)
	hostile := flow("b.example", "eve\nVIADUCT_TARGET=forged.example:1\x1b[31m", refused)
	for _, f := range []*connmodel.Flow{plainOne, hostile} {
		w.Record(f)
	}
	if err := w.Close(context.Background()); err != nil || w.Written() != 2 {
		t.Fatalf("%v, %d written", err, w.Written())
	}
	// What no datagram has room for goes as a file.
	huge := strings.Repeat("x", 4<<20)
	if err := journal.Send("huge", journal.PriInfo, map[string]string{"VIADUCT_FLOW": "huge", "VIADUCT_RECORD": huge}); err != nil {
		t.Errorf("an oversized record: %v", err)
	}

	got := look(t, "VIADUCT_TARGET=api.partner.example:443")
	if got["VIADUCT_FLOW"] != plainOne.ID.String() || got["VIADUCT_RULE"] != "partner api" || got["VIADUCT_CLIENT"] != "10.1.2.3" || got["PRIORITY"] != "6" || got["MESSAGE"] != Message(plainOne) {
		t.Errorf("read back %v", got)
	}
	var back connmodel.Flow
	text, _ := got["VIADUCT_RECORD"].(string)
	if err := json.Unmarshal([]byte(text), &back); err != nil || back.ID != plainOne.ID || back.Down != 4096 {
		t.Errorf("the record read back: %v, %+v", err, back)
	}
	got = look(t, "VIADUCT_ERROR_KIND=refused")
	if got["VIADUCT_TARGET"] != "b.example:443" || got["VIADUCT_ERROR_HOP"] != "corp_a" || got["PRIORITY"] != "4" {
		t.Errorf("read back %v", got)
	}
	if out, _ := exec.Command("journalctl", "-D", "/run/log/journal", "-o", "json", "VIADUCT_TARGET=forged.example:1").Output(); len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("a user made a field of its own: %s", out)
	}
	if got = look(t, "VIADUCT_FLOW=huge"); got["MESSAGE"] != "huge" {
		t.Errorf("read back %v", got)
	}
	if raw, _ := exec.Command("journalctl", "-D", "/run/log/journal", "--all", "-o", "cat", "--output-fields=VIADUCT_RECORD", "VIADUCT_FLOW=huge").Output(); len(bytes.TrimSpace(raw)) != len(huge) {
		t.Errorf("%d octets of %d came back", len(raw), len(huge))
	}
}

// look returns the entry that matches, waiting for it to come.
func look(t *testing.T, match string) (entry map[string]any) {
	t.Helper()
	for range 100 {
		out, _ := exec.Command("journalctl", "-D", "/run/log/journal", "-o", "json", match).Output()
		if out = bytes.TrimSpace(out); len(out) > 0 {
			if err := json.Unmarshal(out, &entry); err != nil {
				t.Fatalf("%s: %v: %.300s", match, err, out)
			}
			return entry
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no entry with %s", match)
	return nil
}
