package journal

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
)

// notices keeps what operators are told.
type notices struct {
	mu   sync.Mutex
	text []string
	errs []error
}

func (n *notices) notice(s string) {
	n.mu.Lock()
	n.text = append(n.text, s)
	n.mu.Unlock()
}

func (n *notices) error(err error) {
	n.mu.Lock()
	n.errs = append(n.errs, err)
	n.mu.Unlock()
}

func (n *notices) has(part string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.text, func(s string) bool { return strings.Contains(s, part) })
}

// clock is set by the test.
type clock struct{ ns atomic.Int64 }

func (c *clock) set(t time.Time) { c.ns.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.ns.Load()) }

// put records n flows and waits until they are written.
func put(t testing.TB, j *Journal, n int) (ids []connmodel.ID) {
	t.Helper()
	want := j.Status().Written + uint64(n)
	for i := range n {
		f := flow(i, false)
		ids = append(ids, f.ID)
		j.Record(f)
	}
	await(t, "written", func() bool { return j.Status().Written >= want })
	return ids
}

func TestSecondWriter(t *testing.T) {
	j := open(t, Options{})
	ids := put(t, j, 10)
	_, err := Open(Options{Dir: j.Dir()})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatalf("a second writer: %v", err)
	}
	// A successor waits while the first drains, and loses nothing of what it has to record meanwhile.
	j.Draining()
	next := open(t, Options{Dir: j.Dir()})
	if s := next.Status(); s.State != StateWaiting || s.Error == nil {
		t.Errorf("the successor: %+v", s)
	}
	for i := range 20 {
		f := flow(100+i, false)
		ids = append(ids, f.ID)
		next.Record(f)
	}
	closeNow(t, j)
	await(t, "the successor writes", func() bool { return next.Status().Written == 20 })
	if s := next.Status(); s.State != StateWriting || s.Error != nil || s.Dropped != 0 {
		t.Errorf("the successor: %+v", s)
	}
	var got []connmodel.ID
	for _, f := range find(t, reader(t, j.Dir()), Query{Oldest: true}) {
		got = append(got, f.ID)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("%d records, want %d", len(got), len(ids))
	}
}

// TestFullQueue holds the file locked: connections do not wait, records that have no room are counted, and things go on by themselves.
func TestFullQueue(t *testing.T) {
	var n notices
	j := open(t, Options{Queue: 100, OnError: n.error})
	put(t, j, 1)
	list, _ := listFiles(j.Dir())
	db, err := sql.Open("sqlite", "file:"+list[0].path())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 2000 {
		j.Record(flow(i, false))
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("recording took %v", d)
	}
	await(t, "the trouble is told", func() bool { return j.Status().State == StateFailing && j.Status().Dropped > 0 })
	if _, err := db.Exec("COMMIT"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	await(t, "it goes on", func() bool {
		s := j.Status()
		return s.State == StateWriting && s.Queued == 0 && s.Written+s.Dropped == 2001
	})
	n.mu.Lock()
	if len(n.errs) != 2 || n.errs[0] == nil || n.errs[1] != nil {
		t.Errorf("told: %v", n.errs)
	}
	n.mu.Unlock()
	if c, err := reader(t, j.Dir()).Count(t.Context(), Query{}); err != nil || uint64(c) != j.Status().Written {
		t.Errorf("%d records of %d: %v", c, j.Status().Written, err)
	}
}

func TestDaysAndRetention(t *testing.T) {
	var c clock
	var n notices
	day := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	c.set(day)
	j := open(t, Options{Keep: 3 * 24 * time.Hour, now: c.now, OnNotice: n.notice})
	for i := range 6 {
		c.set(day.AddDate(0, 0, i))
		put(t, j, 5)
	}
	names := func() (names []string) {
		list, err := listFiles(j.Dir())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			names = append(names, f.name())
		}
		return names
	}
	if got := fmt.Sprint(names()); got != "[2026-11-22.db 2026-11-23.db 2026-11-24.db 2026-11-25.db]" {
		t.Errorf("files: %s", got)
	}
	if s := j.Status(); s.Deleted != 2 || s.Files != 4 || s.Oldest.Format(dayLayout) != "2026-11-22" {
		t.Errorf("status: %+v", s)
	}
	// A clock that is set back neither loses records nor stops the writer, and what came later is found as later.
	c.set(day.AddDate(0, 0, 4))
	last := put(t, j, 5)
	if got := fmt.Sprint(names()); got != "[2026-11-22.db 2026-11-23.db 2026-11-24.db 2026-11-25.db]" {
		t.Errorf("files: %s", got)
	}
	if _, err := reader(t, j.Dir()).Get(t.Context(), last[0]); err != nil {
		t.Error(err)
	}
	// A file that somebody deletes while it is written to.
	os.Remove(filepath.Join(j.Dir(), "2026-11-24.db"))
	last = put(t, j, 5)
	if _, err := reader(t, j.Dir()).Get(t.Context(), last[4]); err != nil || !n.has("is not there any more") {
		t.Error(err, n.text)
	}
	// The whole directory.
	os.RemoveAll(j.Dir())
	last = put(t, j, 5)
	if _, err := reader(t, j.Dir()).Get(t.Context(), last[4]); err != nil {
		t.Error(err)
	}
}

// TestSize keeps within the size by deleting whole files, also of the day that is being written.
func TestSize(t *testing.T) {
	var n notices
	cha := rand.NewChaCha8([32]byte{1})
	j := open(t, Options{KeepSize: 8 * minPart, OnNotice: n.notice, Queue: 1 << 20})
	r := reader(t, j.Dir())
	r.Skipped = nil // files are deleted under it
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 3 { // who reads meanwhile is not harmed
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := r.Count(t.Context(), Query{}); err != nil {
					t.Errorf("reading while files come and go: %v", err)
					return
				}
			}
		})
	}
	rounds := 8
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		want := j.Status().Written + blockRecords
		for i := range blockRecords { // hard to compress
			f := flow(i, false)
			b := make([]byte, 12<<10)
			cha.Read(b)
			f.Metadata = map[string]string{}
			for k := range 16 {
				f.Metadata[fmt.Sprint(k)] = hex.EncodeToString(b[k*700 : (k+1)*700])
			}
			j.Record(f)
		}
		await(t, "written", func() bool { return j.Status().Written >= want })
	}
	close(stop)
	group.Wait()
	if s := j.Status(); s.Bytes > 16*minPart || s.Deleted == 0 || !n.has("kept for less time") {
		t.Errorf("%+v %v", s, n.text)
	}
}

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) { os.WriteFile(path, []byte(strings.Repeat("garbage ", 2000)), 0o600) },
		"foreign": func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			db.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var n notices
			dir := t.TempDir() + "/journal"
			os.Mkdir(dir, 0o700)
			today := file{dir, time.Now().UTC().Format(dayLayout), 1}
			damage(t, today.path())
			j := open(t, Options{Dir: dir, OnNotice: n.notice})
			put(t, j, 3)
			if !n.has("set aside") || j.Status().SetAside != 1 {
				t.Errorf("told: %v", n.text)
			}
			aside, _ := filepath.Glob(dir + "/*.corrupt-*")
			if len(aside) != 1 {
				t.Errorf("set aside: %v", aside)
			}
			if c, err := reader(t, dir).Count(t.Context(), Query{}); c != 3 || err != nil {
				t.Errorf("%d %v", c, err)
			}
		})
	}
	t.Run("newer", func(t *testing.T) {
		var n notices
		dir := t.TempDir() + "/journal"
		j := open(t, Options{Dir: dir})
		put(t, j, 3)
		closeNow(t, j)
		list, _ := listFiles(dir)
		db, _ := sql.Open("sqlite", "file:"+list[0].path())
		if _, err := db.Exec(fmt.Sprintf("PRAGMA user_version = %d", schemaVersion+1)); err != nil {
			t.Fatal(err)
		}
		db.Close()
		before, _ := os.ReadFile(list[0].path())
		j = open(t, Options{Dir: dir, OnNotice: n.notice})
		put(t, j, 2)
		after, _ := os.ReadFile(list[0].path())
		if string(before) != string(after) || !n.has("newer version") {
			t.Errorf("the file of a newer version was changed, or nobody told: %v", n.text)
		}
		r := reader(t, dir)
		var skipped []error
		r.Skipped = func(_ string, err error) { skipped = append(skipped, err) }
		if c, err := r.Count(t.Context(), Query{}); c != 2 || err != nil || len(skipped) != 1 || !errors.Is(skipped[0], errNewer) {
			t.Errorf("%d %v %v", c, err, skipped)
		}
	})
}

// TestRandomDamage flips octets of a file: reading gives records as they were written or leaves them out, and never fails otherwise; the writer goes on.
func TestRandomDamage(t *testing.T) {
	dir := t.TempDir() + "/journal"
	j := open(t, Options{Dir: dir})
	ids := map[connmodel.ID]bool{}
	for _, id := range put(t, j, 600) {
		ids[id] = true
	}
	closeNow(t, j)
	list, _ := listFiles(dir)
	sound, err := os.ReadFile(list[0].path())
	if err != nil {
		t.Fatal(err)
	}
	rounds := 25
	if testing.Short() {
		rounds = 6
	}
	for i := range rounds {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		broken := slices.Clone(sound)
		for range 1 + rng.IntN(40) {
			broken[rng.IntN(len(broken))] ^= byte(1 + rng.IntN(255))
		}
		if rng.IntN(4) == 0 {
			broken = broken[:rng.IntN(len(broken))]
		}
		sub := t.TempDir() + "/journal"
		os.Mkdir(sub, 0o700)
		path := filepath.Join(sub, list[0].name())
		os.WriteFile(path, broken, 0o600)
		r := reader(t, sub)
		r.Skipped = nil
		for _, q := range []Query{{}, {Light: true, Oldest: true}} {
			if err := r.Each(t.Context(), q, func(f *connmodel.Flow) error {
				if !ids[f.ID] {
					t.Errorf("round %d: a record that was never written: %s", i, f.ID)
				}
				return nil
			}); err != nil {
				t.Errorf("round %d: %v", i, err)
			}
		}
		w := open(t, Options{Dir: sub})
		more := put(t, w, 2)
		closeNow(t, w)
		if w.Status().SetAside == 0 { // then the damage was nowhere that writing looks
			if _, err := r.Get(t.Context(), more[1]); err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("round %d: %v", i, err)
			}
		}
	}
}

// TestBadRecord has a record whose encoding panics: the others are kept.
func TestBadRecord(t *testing.T) {
	var n notices
	j := open(t, Options{OnNotice: n.notice})
	f := flow(1, false)
	f.Server.Attempts[0].Hops = nil
	bad := *f
	bad.Metadata = map[string]string{"x": "y"}
	bad.Decision = &connmodel.Decision{ShadowPolicy: new(connmodel.ShadowDecision), Shadow: make([]connmodel.ShadowVerdict, 1)}
	w := &writer{j: j}
	w.flows = []*connmodel.Flow{f, nil, &bad}
	w.encode()
	if len(w.flows) != 2 || j.Status().Dropped != 1 || !n.has("cannot be encoded") {
		t.Errorf("%d kept, %+v, %v", len(w.flows), j.Status(), n.text)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/file", nil, 0o600)
	for path, want := range map[string]string{
		"relative":           "not an absolute path",
		dir + "/no/such/dir": "there is no directory " + dir + "/no/such",
		dir + "/file":        "is no directory",
	} {
		if _, err := Open(Options{Dir: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := OpenReader(dir + "/none"); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no journal: %v", err)
	}
	if st, err := os.Stat(open(t, Options{}).Dir()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory: %v", st.Mode())
	}
}

// TestReadersBeside reads with many while the writer writes: everything that was written when a query began is found.
func TestReadersBeside(t *testing.T) {
	j := open(t, Options{Queue: 1 << 16})
	r := reader(t, j.Dir())
	var group sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := int64(j.Status().Written)
				n := int64(0)
				var mu sync.Mutex
				err := r.Each(t.Context(), Query{Light: true, Oldest: i%2 == 0, Parallel: i%4 == 1}, func(*connmodel.Flow) error {
					mu.Lock()
					n++
					mu.Unlock()
					return nil
				})
				if err != nil || n < least {
					t.Errorf("%d records of %d: %v", n, least, err)
					return
				}
			}
		})
	}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		put(t, j, 300)
	}
	close(stop)
	group.Wait()
}
