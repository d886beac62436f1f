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

// killed is what the kernel does for a process that dies.
func killed(p *Pair) { p.lock.Close() }

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Name() != saltName && !strings.HasSuffix(f.Name(), lockSuffix) { // there is a lock while it is shown
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
	p := NewGuard(dir, nil).Pair(identity("x"))
	acquire(t, p)
	killed(p)
	p = NewGuard(dir, nil).Pair(identity("x"))
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
	if err := p.forget(); err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Silent() // it waits for so short a pause
	if left := time.Until(p.next); left < nextPause-time.Minute || left > nextPause {
		t.Errorf("the second pause is %v", left)
	}
	for range 100 {
		p.next = time.Time{}
		if err := p.forget(); err != nil { // as if the time had passed
			t.Fatal(err)
		}
		acquire(t, p).Silent()
	}
	if left := time.Until(p.next); left > nextPause || left < nextPause-time.Minute {
		t.Errorf("the pause is %v", left)
	}
	// a process that comes after this one waits as long, also when the clock was set meanwhile
	for _, at := range []time.Time{time.Now(), time.Now().Add(24 * time.Hour)} {
		if err := p.g.store.save(p.key, &entry{State: entrySilent, Time: at, Silent: 2}); err != nil {
			t.Fatal(err)
		}
		q := NewGuard(dir, nil).Pair(identity("x"))
		refused(t, q, Waiting, "the next one is made in 30m0s")
	}
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Accepted()
	if len(files(t, dir)) != 0 {
		t.Errorf("files: %v", files(t, dir))
	}
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

// Two processes with one directory, such as one that drains and its successor, are as careful as one.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	a, b := NewGuard(dir, nil).Pair(identity("x")), NewGuard(dir, nil).Pair(identity("x"))
	if a.key != b.key {
		t.Fatal("they do not mean the same")
	}
	first := acquire(t, a)
	refused(t, b, Waiting, "another gateway")
	// one that starts meanwhile does not take it for killed
	c := NewGuard(dir, nil).Pair(identity("x"))
	if c.Shut() {
		t.Fatal("it is taken for one that was killed")
	}
	var wg sync.WaitGroup
	for _, p := range []*Pair{b, c} {
		wg.Go(func() {
			at, err := p.Acquire(t.Context())
			var e *Error
			if at != nil || !errors.As(err, &e) || e.Kind != Closed || !strings.Contains(e.Text, "because") {
				t.Errorf("%v %v", at, err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	first.Rejected("because")
	wg.Wait()
	if s, since, why := b.Status(); s != Shut || time.Since(since) > time.Minute || why != "because" {
		t.Errorf("%v %v %q", s, since, why)
	}
	// an outcome of one says nothing on the disk that another has to say
	d, e := NewGuard(dir, nil).Pair(identity("y")), NewGuard(dir, nil).Pair(identity("y"))
	acquire(t, d).Accepted()
	at := acquire(t, e)
	at.Silent()
	refused(t, NewGuard(dir, nil).Pair(identity("y")), Waiting, "the last attempts had no answer")
	// the one that shows it dies
	e.Reset()
	acquire(t, e)
	killed(e)
	refused(t, NewGuard(dir, nil).Pair(identity("y")), Closed, "the gateway ended while it was being shown")
}

func TestManyGuardsOneSalt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var keys sync.Map
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { keys.Store(NewGuard(dir, nil).Pair(identity("x")).key, true) })
	}
	wg.Wait()
	n := 0
	keys.Range(func(k, _ any) bool { n++; return k != "" })
	if n != 1 {
		t.Errorf("%d keys", n)
	}
	for _, f := range files(t, dir) {
		t.Errorf("%s is left", f)
	}
}

// Whoever removes the directory makes the gateway forget what was closed, but not what is closed after that.
func TestDirectoryIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "auth")
	p := NewGuard(dir, nil).Pair(identity("x"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Rejected("because")
	refused(t, NewGuard(dir, nil).Pair(identity("x")), Closed, "because")
	// another gateway has made it anew: nothing that is written now would be found
	p = NewGuard(dir, nil).Pair(identity("y"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	NewGuard(dir, nil).Pair(identity("z"))
	refused(t, p, NotStored, "start it again")
}

// What was not used for long is proved anew: passwords are changed over night.
func TestProofAges(t *testing.T) {
	p := NewGuard(t.TempDir(), nil).Pair(identity("x"))
	acquire(t, p).Accepted()
	p.good.Store(1) // an hour ago
	if p.Proven() || p.Shut() {
		t.Fatal("an old proof counts, or closes")
	}
	first := acquire(t, p)
	refused(t, p, Waiting, "another connection")
	if !first.Proving() {
		t.Error("an old proof counts")
	}
	first.Accepted()
	// what is used stays proven
	p.good.Store(ticks() + int64(proofAge/2))
	acquire(t, p).Accepted()
	if left := p.good.Load() - ticks(); left < int64(proofAge-time.Minute) {
		t.Errorf("%v are left", time.Duration(left))
	}
	// but what was closed meanwhile is not opened by that
	late := acquire(t, p)
	acquire(t, p).Rejected("no")
	late.Accepted()
	if p.Proven() || !p.Shut() {
		t.Error("it was opened by an answer that was late")
	}
}

// An answer may come when nobody waits for it any more.
func TestLateAnswers(t *testing.T) {
	dir := t.TempDir()
	for name, f := range map[string]func(a *Attempt){"accepted": (*Attempt).Accepted, "rejected": func(a *Attempt) { a.Rejected("late") }, "unused": (*Attempt).Unused, "silent": (*Attempt).Silent} {
		p := NewGuard(dir, nil).Pair(identity(name))
		late := acquire(t, p).Late()
		refused(t, p, Waiting, "the next one is made in 10s")
		if !p.Doubtful() {
			t.Error(name, "no doubt")
		}
		f(late)
		s, _, _ := p.Status()
		if want := map[string]State{"accepted": Proven, "rejected": Shut, "unused": Unproven, "silent": Unproven}[name]; s != want || s != Shut && p.Doubtful() != (s == Unproven) {
			t.Errorf("%s: %v", name, s)
		}
		if late.Late(); p.silent > 1 {
			t.Error(name, "counted twice")
		}
	}
}

// A gateway that ends while an answer is outstanding takes it for one that did not come.
func TestGuardIsClosed(t *testing.T) {
	dir := t.TempDir()
	g := NewGuard(dir, nil)
	at := acquire(t, g.Pair(identity("x")))
	g.Close()
	at.Accepted()
	refused(t, NewGuard(dir, nil).Pair(identity("x")), Waiting, "the last attempts had no answer")
}

func TestAccounts(t *testing.T) {
	for _, name := range []string{"svc", `CORP\svc`, "svc@corp.example", `corp\SVC`, "SVC@CORP.EXAMPLE"} {
		if a := Account(name); a != "svc" {
			t.Errorf("%s: %s", name, a)
		}
	}
}

// What a stopped gateway left is opened by the name of the upstream.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	g := NewGuard(dir, nil)
	other := identity("other")
	other.Upstream = "b"
	acquire(t, g.Pair(identity("x"))).Rejected("no")
	acquire(t, g.Pair(other)).Rejected("no")
	if n, err := Forget(dir, "a"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	g = NewGuard(dir, nil)
	if g.Pair(identity("x")).Shut() || !g.Pair(other).Shut() {
		t.Error("the wrong one was opened")
	}
	if n, err := Forget(dir, "a"); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := Forget(filepath.Join(dir, "nosuch"), "a"); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	// one that is being shown this moment is not
	acquire(t, g.Pair(identity("x")))
	if n, err := Forget(dir, "a"); n != 0 || !errors.Is(err, errHeld) {
		t.Fatal(n, err)
	}
}

// TestRejectionOfAnotherProcess: what another process was rejected with is shown no more, though it is proven here.
func TestRejectionOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	var told []string
	here := NewGuard(dir, func(n Notice) { told = append(told, n.State.String()+": "+n.Text) }).Pair(identity("secret"))
	acquire(t, here).Accepted()
	acquire(t, here) // and the disk was looked at
	there := NewGuard(dir, nil).Pair(identity("secret"))
	a := acquire(t, there)
	soon := func() { time.Sleep(time.Duration(lookEvery)) }
	if soon(); acquire(t, here).Proving() {
		t.Fatal("an attempt of others is taken for an answer")
	}
	a.Rejected("the password was changed")
	soon()
	refused(t, here, Closed, "the password was changed")
	if s, _, why := here.Status(); s != Shut || why != "the password was changed" || here.Proven() || !here.Shut() {
		t.Errorf("%v, %q", s, why)
	}
	if len(told) != 2 || !strings.HasPrefix(told[1], "closed: another process was rejected with it") {
		t.Errorf("told %q", told)
	}
	if err := here.Reset(); err != nil {
		t.Fatal(err)
	}
	if a := acquire(t, here); !a.Proving() {
		t.Error("it is proven after it was opened")
	} else {
		a.Accepted()
	}
	soon()
	if acquire(t, here).Proving() {
		t.Error("what was opened and accepted is closed again")
	}
}
