package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func secretOf(s string) func() string { return func() string { return s } }

func identity(secret string) Identity {
	return Identity{Account: `corp\svc`, Secret: secretOf(secret), Credential: "corp", Upstream: "a"}
}

func acquire(t *testing.T, p *Pair) *Attempt {
	t.Helper()
	a, err := p.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func refused(t *testing.T, p *Pair, kind Kind, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	a, err := p.Acquire(ctx)
	var e *Error
	if a != nil || !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Text, says) {
		t.Fatalf("%v, %v; want kind %d with %q", a, err, kind, says)
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Name() != saltName {
			names = append(names, f.Name())
		}
	}
	return names
}

func TestRejectionOutlivesTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "auth")
	var told []string
	tell := func(n Notice) { told = append(told, n.State.String()+": "+n.Text) }
	p := NewGuard(dir, tell).Pair(identity("wrong-c4n4ry"))
	a := acquire(t, p)
	if !a.Proving() || len(files(t, dir)) != 1 {
		t.Fatalf("proving %v, files %v", a.Proving(), files(t, dir))
	}
	a.Rejected("because")
	if a.Accepted(); a.Proving() || !p.Shut() {
		t.Error("an outcome after the first counts")
	}
	refused(t, p, Closed, "viaduct upstream reset a")

	// another process
	g := NewGuard(dir, tell)
	p = g.Pair(identity("wrong-c4n4ry"))
	refused(t, p, Closed, "because")
	if s, since, why := p.Status(); s != Shut || time.Since(since) > time.Minute || why != "because" {
		t.Errorf("%v %v %q", s, since, why)
	}
	if g.Pair(identity("wrong-c4n4ry")) != p {
		t.Error("the same identity has two pairs")
	}
	// the secret changes: it is another pair
	q := g.Pair(identity("better"))
	acquire(t, q).Accepted()
	if !q.Proven() || p.Proven() {
		t.Error("the new secret is not proven, or the old one is")
	}
	// and the old one comes back
	refused(t, NewGuard(dir, tell).Pair(identity("wrong-c4n4ry")), Closed, "because")
	// an operator opens it
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	if len(files(t, dir)) != 0 {
		t.Errorf("files: %v", files(t, dir))
	}
	acquire(t, p).Accepted()
	if len(told) < 5 {
		t.Errorf("told %q", told)
	}
	for _, f := range append(told, files(t, dir)...) {
		if strings.Contains(f, "c4n4ry") {
			t.Errorf("the secret is in %q", f)
		}
	}
}

func TestFilesHoldNoSecret(t *testing.T) {
	dir := t.TempDir()
	acquire(t, NewGuard(dir, nil).Pair(identity("c4n4ry-p4ss"))).Rejected("no")
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(path+string(b), "c4n4ry") {
			t.Errorf("%s: %s", path, b)
		}
		if st, _ := d.Info(); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What was under way when the process was killed counts as a rejection.
func TestKilledInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	acquire(t, NewGuard(dir, nil).Pair(identity("x")))
	p := NewGuard(dir, nil).Pair(identity("x"))
	refused(t, p, Closed, "the gateway ended while it was being shown")
	// a file that was made and never written, and one that nobody can read, count too
	for _, content := range []string{"", "{"} {
		if err := os.WriteFile(filepath.Join(dir, p.key), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, NewGuard(dir, nil).Pair(identity("x")), Closed, "")
	}
}

func TestOneAtATime(t *testing.T) {
	p := NewGuard(t.TempDir(), nil).Pair(identity("x"))
	first := acquire(t, p)
	refused(t, p, Waiting, "another connection")
	var under, most atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			a, err := p.Acquire(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if !a.Proving() {
				return
			}
			if n := under.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Millisecond)
			under.Add(-1)
			if i%2 == 0 {
				a.Unused()
			} else {
				a.Accepted()
			}
		})
	}
	first.Unused()
	wg.Wait()
	if most.Load() != 1 || !p.Proven() {
		t.Errorf("%d at the same time, proven %v", most.Load(), p.Proven())
	}
	// those who wait for one that is rejected are refused, all of them
	p = NewGuard(t.TempDir(), nil).Pair(identity("x"))
	first = acquire(t, p)
	for range 20 {
		wg.Go(func() {
			var e *Error
			if _, err := p.Acquire(t.Context()); !errors.As(err, &e) || e.Kind != Closed {
				t.Errorf("%v", err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	first.Rejected("no")
	wg.Wait()
}

func TestSilencePauses(t *testing.T) {
	dir := t.TempDir()
	p := NewGuard(dir, nil).Pair(identity("x"))
	acquire(t, p).Silent()
	refused(t, p, Waiting, "the next one is made in 10s")
	p.next = time.Now().Add(10 * time.Millisecond)
	acquire(t, p).Silent() // it waits for so short a pause
	if left := time.Until(p.next); left < 15*time.Second || left > 20*time.Second {
		t.Errorf("the second pause is %v", left)
	}
	for range 100 {
		p.next = time.Time{}
		acquire(t, p).Silent()
	}
	if left := time.Until(p.next); left > maxPause {
		t.Errorf("the pause is %v", left)
	}
	if len(files(t, dir)) != 0 {
		t.Errorf("files: %v", files(t, dir))
	}
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Accepted()
}

func TestNothingIsShownThatCannotBeWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, NewGuard(filepath.Join(file, "auth"), nil).Pair(identity("x")), NotStored, "gateway { state }")
	refused(t, BrokenGuard(errors.New("no home"), nil).Pair(identity("x")), NotStored, "no home")

	// the directory is lost later
	dir := filepath.Join(t.TempDir(), "auth")
	p := NewGuard(dir, nil).Pair(identity("x"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, p, NotStored, "gateway { state }")
	if s, _, _ := p.Status(); s != Unproven {
		t.Error(s)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Accepted()
}

func TestProvenAndThenRejected(t *testing.T) {
	dir := t.TempDir()
	p := NewGuard(dir, nil).Pair(identity("x"))
	acquire(t, p).Accepted()
	many := []*Attempt{acquire(t, p), acquire(t, p), acquire(t, p)}
	if many[0].Proving() {
		t.Error("a proven credential is being proved")
	}
	many[0].Silent()
	many[1].Rejected("changed")
	many[2].Rejected("changed too")
	refused(t, NewGuard(dir, nil).Pair(identity("x")), Closed, "changed")
}

// What is kept of clients' logins is bounded, and nothing that would be shown again is forgotten.
func TestClientsAreBounded(t *testing.T) {
	dir := t.TempDir()
	g := NewGuard(dir, nil)
	g.maxPairs = 20
	client := func(i int) *Pair {
		return g.Pair(Identity{Account: string(rune('a' + i)), Secret: secretOf("c4n4ry"), Client: true, Upstream: "a", Credential: "x"})
	}
	if p := client(0); p.id.Secret != nil {
		t.Error("the password lives as long as the pair")
	}
	for i := range 20 {
		if i%2 == 0 {
			acquire(t, client(i)).Accepted()
		} else {
			acquire(t, client(i)).Rejected("no")
		}
	}
	if n := g.Clients("a"); n != (ClientStatus{Proven: 10, Closed: 10}) {
		t.Errorf("%+v", n)
	}
	for i := 20; i < 24; i++ {
		acquire(t, client(i)).Accepted()
	}
	if len(g.pairs) > 20 {
		t.Errorf("%d pairs", len(g.pairs))
	}
	for i := range 20 {
		if i%2 == 1 {
			refused(t, client(i), Closed, "x is closed since")
		}
	}
	g.store.rejections = 100
	g.store.prune(6)
	if n := len(files(t, dir)); n != 6 {
		t.Errorf("%d files", n)
	}
	if n, err := NewGuard(dir, nil).ResetClients("b"); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := NewGuard(dir, nil).ResetClients("a"); n != 6 || err != nil || len(files(t, dir)) != 0 {
		t.Error(n, err)
	}
	// those that are being found out are not forgotten: nobody else is let in then
	h := NewGuard(t.TempDir(), nil)
	h.maxPairs = 2
	var open []*Attempt
	for i := range 2 {
		open = append(open, acquire(t, h.Pair(Identity{Account: string(rune('a' + i)), Secret: secretOf("x"), Client: true})))
	}
	refused(t, h.Pair(Identity{Account: "c", Secret: secretOf("x"), Client: true}), NotStored, "not settled")
	open[0].Accepted()
	acquire(t, h.Pair(Identity{Account: "c", Secret: secretOf("x"), Client: true})).Unused()
}
