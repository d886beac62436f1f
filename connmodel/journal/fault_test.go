package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
)

// wall is a clock that tests set.
type wall struct {
	mu sync.Mutex
	t  time.Time
}

func (c *wall) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *wall) set(t time.Time) {
	c.mu.Lock()
	c.t = t
	c.mu.Unlock()
}

// told collects what a journal says.
type told struct {
	mu   sync.Mutex
	list []string
}

func (n *told) add(text string) {
	n.mu.Lock()
	n.list = append(n.list, text)
	n.mu.Unlock()
}

func (n *told) has(part string) bool { return n.count(part) > 0 }

func (n *told) count(part string) (k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.list {
		if strings.Contains(s, part) {
			k++
		}
	}
	return k
}

func (n *told) error(err error) {
	if err == nil {
		n.add("works again")
	} else {
		n.add("fails: " + err.Error())
	}
}

// ids are those of the records that a query finds.
func ids(t testing.TB, r Finder, q Query) (list []connmodel.ID) {
	t.Helper()
	for _, f := range find(t, r, q) {
		list = append(list, f.ID)
	}
	return list
}

// record hands over n records, and fails the test when one of them has to wait.
func record(t testing.TB, j *Journal, n int) (list []connmodel.ID) {
	t.Helper()
	var longest time.Duration
	for i := range n {
		f := flow(i, false)
		began := time.Now()
		j.Record(f)
		longest = max(longest, time.Since(began))
		list = append(list, f.ID)
	}
	if longest > 500*time.Millisecond { // a disk takes seconds; a busy machine does not
		t.Errorf("a record waited for %v", longest)
	}
	return list
}

// TestLockedFile: somebody holds the file locked for seconds. Records wait in the queue, nobody else does, and none is lost.
func TestLockedFile(t *testing.T) {
	var said told
	j := open(t, Options{OnError: said.error})
	want := record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 10 })
	list, err := listFiles(j.Dir())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	db, err := sql.Open("sqlite", "file:"+list[0].path())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	want = append(want, record(t, j, 1000)...)
	await(t, "it fails", func() bool { return j.Status().State == StateFailing })
	if st := j.Status(); st.Error == nil || st.Failures == 0 {
		t.Errorf("status of a journal that cannot be written: %+v", st)
	}
	if got := ids(t, reader(t, j.Dir()), Query{Oldest: true}); len(got) != 10 {
		t.Errorf("a reader meanwhile finds %d records", len(got))
	}
	if _, err := c.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	await(t, "written", func() bool { return j.Status().Written == 1010 })
	if got := ids(t, reader(t, j.Dir()), Query{Oldest: true}); !slices.Equal(got, want) {
		t.Errorf("%d records, not %d in their order", len(got), len(want))
	}
	if st := j.Status(); st.Dropped != 0 || st.State != StateWriting || st.Error != nil {
		t.Errorf("%+v", st)
	}
	if said.count("fails") != 1 || said.count("works again") != 1 {
		t.Errorf("said %q", said.list)
	}
}

// TestDropsAreSaid: what the queue has no room for is counted, and said when it begins and when it is over.
func TestDropsAreSaid(t *testing.T) {
	var said told
	j := open(t, Options{Queue: 10, OnNotice: said.add})
	record(t, j, 1)
	await(t, "written", func() bool { return j.Status().Written == 1 })
	list, _ := listFiles(j.Dir())
	db, err := sql.Open("sqlite", "file:"+list[0].path())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	record(t, j, 5)
	await(t, "it fails", func() bool { return j.Status().State == StateFailing })
	record(t, j, 500)
	await(t, "it is said", func() bool { return said.has("records are dropped") })
	if _, err := c.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	await(t, "its end is said", func() bool { return said.has("no more records are dropped") })
	st := j.Status()
	if st.Dropped == 0 || st.Written+st.Dropped+uint64(st.Queued) != 506 {
		t.Errorf("%+v", st)
	}
	if said.count("records are dropped") != 2 || !said.has(fmt.Sprintf("%d were lost", st.Dropped)) { // the end says it too
		t.Errorf("said %q, and %d are lost", said.list, st.Dropped)
	}
}

// inside tells the test binary that it runs in a mount namespace.
const inside = "VIADUCT_TEST_JOURNAL_NS"

// ownMounts runs the test in a mount namespace of its own and reports whether this is that run.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, for a mount namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("mount namespaces are not allowed here")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func mount(t *testing.T, dir, options string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk under a journal. Recording goes on, what finds no room is counted, and with room again it goes on by itself.
func TestFullDisk(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	dir := t.TempDir()
	mount(t, dir, "size=2m", 0)
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	var said told
	j := open(t, Options{Dir: filepath.Join(dir, "journal"), Queue: 100, OnError: said.error})
	before, total := record(t, j, 50), uint64(50)
	await(t, "written", func() bool { return j.Status().Written == 50 })
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	f.Close()
	for deadline := time.Now().Add(20 * time.Second); j.Status().State != StateFailing; {
		if time.Now().After(deadline) {
			t.Fatal("a full disk was not noticed")
		}
		record(t, j, 250)
		total += 250
		time.Sleep(10 * time.Millisecond)
	}
	record(t, j, 1000)
	total += 1000
	if st := j.Status(); st.Dropped == 0 || st.Failures == 0 || st.Error == nil {
		t.Errorf("with a full disk: %+v", st)
	}
	if got := ids(t, reader(t, j.Dir()), Query{Oldest: true}); len(got) < 50 || !slices.Equal(got[:50], before) {
		t.Errorf("a reader meanwhile finds %d records", len(got))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	done := func() bool {
		st := j.Status()
		return st.State == StateWriting && st.Queued == 0 && st.Written+st.Dropped == total
	}
	await(t, "it works again", done)
	total += 20
	last := record(t, j, 20)
	await(t, "written", done)
	got := ids(t, reader(t, j.Dir()), Query{Oldest: true})
	if len(got) != int(j.Status().Written) || !slices.Equal(got[len(got)-20:], last) {
		t.Errorf("%d records of %d", len(got), j.Status().Written)
	}
	if said.count("fails") != 1 || said.count("works again") != 1 {
		t.Errorf("said %q", said.list)
	}
}

// TestReadOnlyDisk: the file system becomes read-only, and writable again.
func TestReadOnlyDisk(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	dir := t.TempDir()
	mount(t, dir, "size=8m", 0)
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	at := filepath.Join(dir, "journal")
	j := open(t, Options{Dir: at})
	record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 10 })
	closeNow(t, j)
	mount(t, dir, "size=8m", syscall.MS_REMOUNT|syscall.MS_RDONLY)
	k, err := Open(Options{Dir: at})
	if err == nil {
		record(t, k, 5)
		await(t, "it fails", func() bool { return k.Status().State == StateFailing })
		mount(t, dir, "size=8m", syscall.MS_REMOUNT)
		await(t, "written", func() bool { return k.Status().Written == 5 })
		closeNow(t, k)
	} else {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("opened on a read-only disk: %v", err)
		}
		mount(t, dir, "size=8m", syscall.MS_REMOUNT)
	}
	if _, err := Open(Options{Dir: filepath.Join(dir, "no", "such")}); err == nil || !strings.Contains(err.Error(), "there is no directory") {
		t.Errorf("below a directory that is not there: %v", err)
	}
}

// TestDirectoryGoes: somebody removes the whole directory under a running journal.
func TestDirectoryGoes(t *testing.T) {
	j := open(t, Options{})
	record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 10 })
	if err := os.RemoveAll(j.Dir()); err != nil {
		t.Fatal(err)
	}
	want := record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 20 })
	if got := ids(t, reader(t, j.Dir()), Query{Oldest: true}); !slices.Equal(got, want) {
		t.Errorf("%d records", len(got))
	}
}

// TestSuccessor: a second writer is told who writes; a successor of one that drains waits, and loses nothing.
func TestSuccessor(t *testing.T) {
	j := open(t, Options{})
	before := record(t, j, 10)
	_, err := Open(Options{Dir: j.Dir()})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatalf("a second writer: %v", err)
	}
	j.Draining()
	var said told
	k := open(t, Options{Dir: j.Dir(), OnError: said.error})
	if st := k.Status(); st.State != StateWaiting || st.Error == nil {
		t.Errorf("the successor: %+v", st)
	}
	after := record(t, k, 600)
	before = append(before, record(t, j, 5)...)
	if st := k.Status(); st.State != StateWaiting || st.Written != 0 {
		t.Errorf("the successor: %+v", st)
	}
	closeNow(t, j)
	await(t, "the successor writes", func() bool { return k.Status().Written == 600 })
	if got := ids(t, reader(t, j.Dir()), Query{Oldest: true}); !slices.Equal(got, append(before, after...)) {
		t.Errorf("%d records", len(got))
	}
	if st := k.Status(); st.State != StateWriting || st.Error != nil || st.Dropped != 0 {
		t.Errorf("the successor: %+v", st)
	}
	// One that ends before it got the journal says what it lost.
	k.Draining()
	l, err := Open(Options{Dir: j.Dir()})
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, 7)
	closeBounded(t, l)
	if st := l.Status(); st.Dropped != 7 {
		t.Errorf("%+v", st)
	}
}

func closeBounded(t *testing.T, j *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	j.Close(ctx) // its error is told by the status
	if ctx.Err() != nil {
		t.Fatal("the end of a journal takes for ever")
	}
}

// TestRotation goes over midnight, with readers in the middle of a file that is deleted under them.
func TestRotation(t *testing.T) {
	c := &wall{t: time.Date(2026, 11, 20, 23, 59, 0, 0, time.UTC)}
	j := open(t, Options{Keep: 48 * time.Hour, now: c.now})
	var all []connmodel.ID
	for day := range 6 {
		all = append(all, record(t, j, 300)...)
		n := uint64(300 * (day + 1))
		await(t, "written", func() bool { return j.Status().Written == n })
		if day == 3 { // a reader begins with what is there, and takes its time
			r := reader(t, j.Dir())
			var got []connmodel.ID
			err := r.Each(t.Context(), Query{Oldest: true}, func(f *connmodel.Flow) error {
				if got = append(got, f.ID); len(got) == 10 {
					c.set(c.now().Add(24 * time.Hour))
					all = append(all, record(t, j, 1)...)
					n++
					await(t, "the next day", func() bool { return j.Status().Written == n })
				}
				return nil
			})
			if err != nil || len(got) < 600 {
				t.Errorf("a reader over rotation and retention: %d records, %v", len(got), err)
			}
			all = all[:len(all)-1]
			break
		}
		c.set(c.now().Add(24 * time.Hour))
	}
	st := j.Status()
	if st.Files > 4 || st.Deleted == 0 {
		t.Errorf("%+v", st)
	}
	got := ids(t, reader(t, j.Dir()), Query{Oldest: true})
	if len(got) < 600 || !slices.Equal(got[:len(got)-1], all[len(all)-len(got)+1:]) {
		t.Errorf("%d records are left, or they have another order", len(got))
	}
}

// TestClockGoesBack by a day: nothing is lost, and the order within a file is that in which records came.
func TestClockGoesBack(t *testing.T) {
	c := &wall{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	j := open(t, Options{now: c.now})
	a := record(t, j, 100)
	await(t, "written", func() bool { return j.Status().Written == 100 })
	c.set(c.now().Add(-24 * time.Hour))
	b := record(t, j, 100)
	await(t, "written", func() bool { return j.Status().Written == 200 })
	c.set(c.now().Add(24*time.Hour + time.Minute))
	d := record(t, j, 100)
	await(t, "written", func() bool { return j.Status().Written == 300 })
	r := reader(t, j.Dir())
	if got := ids(t, r, Query{Oldest: true}); !slices.Equal(got, slices.Concat(b, a, d)) {
		t.Errorf("%d records in another order", len(got))
	}
	for _, id := range []connmodel.ID{a[3], b[3], d[3]} {
		if _, err := r.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	var paged []connmodel.ID
	for after := (connmodel.ID{}); ; {
		page := ids(t, r, Query{Limit: 70, After: after})
		paged = append(paged, page...)
		if len(page) < 70 {
			break
		}
		after = page[len(page)-1]
	}
	slices.Reverse(paged)
	if !slices.Equal(paged, slices.Concat(b, a, d)) {
		t.Errorf("pages have %d records in another order", len(paged))
	}
}

// TestVersions: a file of a newer version is left as it is, an older one is brought up to date, and a database of somebody else is set aside.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	today := file{dir, time.Now().UTC().Format(dayLayout), 1}
	make := func(statements string) {
		db, err := sql.Open("sqlite", "file:"+today.path())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
	}
	make(fmt.Sprintf("CREATE TABLE hologram (x); PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion+1))
	before, err := os.ReadFile(today.path())
	if err != nil {
		t.Fatal(err)
	}
	var said told
	j := open(t, Options{Dir: dir, OnNotice: said.add})
	record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 10 })
	closeNow(t, j)
	if after, err := os.ReadFile(today.path()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a file of a newer version was changed: %v", err)
	}
	if !said.has("newer version") {
		t.Errorf("said %q", said.list)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	var skipped error
	r.Skipped = func(_ string, err error) { skipped = err }
	if got := ids(t, r, Query{}); len(got) != 10 || !errors.Is(skipped, errNewer) {
		t.Errorf("%d records, skipped because %v", len(got), skipped)
	}

	os.RemoveAll(dir)
	os.Mkdir(dir, 0o700)
	make("CREATE TABLE accounts (name, secret); INSERT INTO accounts VALUES ('a', 'b')")
	j = open(t, Options{Dir: dir, OnNotice: said.add})
	record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == 10 })
	if aside, _ := filepath.Glob(filepath.Join(dir, "*.corrupt-*")); len(aside) != 1 || j.Status().SetAside != 1 {
		t.Errorf("a database of somebody else: %v, %+v", aside, j.Status())
	}
	closeNow(t, j)

	// The next version, as it may look one day: its step is made on the file that has records.
	db, err := openDatabase(today.path(), "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	steps := slices.Concat(migrations, []string{"ALTER TABLE block ADD COLUMN weather TEXT NOT NULL DEFAULT 'fine'"})
	if err := migrate(db, schemaVersion, schemaVersion+1, steps); err != nil {
		t.Fatal(err)
	}
	var weather string
	var version, n int
	if err := db.QueryRow("SELECT weather, (SELECT sum(n) FROM block) FROM block").Scan(&weather, &n); err != nil || weather != "fine" || n != 10 {
		t.Errorf("migrated: %q, %d records, %v", weather, n, err)
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != schemaVersion+1 {
		t.Errorf("version %d, %v", version, err)
	}
	// A step that fails leaves the file as it was.
	if err := migrate(db, schemaVersion+1, schemaVersion+2, slices.Concat(steps, []string{"CREATE TABLE half (x); SELECT nonsense FROM nowhere"})); err == nil {
		t.Error("a step that fails was taken")
	}
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").Scan(&n); err != nil || n != 0 {
		t.Errorf("half a step is left: %d, %v", n, err)
	}
}

// TestDamageWhileRunning overwrites the file under its writer.
func TestDamageWhileRunning(t *testing.T) {
	var said told
	j := open(t, Options{OnNotice: said.add, look: 50 * time.Millisecond})
	record(t, j, 2000)
	await(t, "written", func() bool { return j.Status().Written == 2000 })
	list, _ := listFiles(j.Dir())
	for _, name := range []string{list[0].path(), list[0].path() + "-wal"} {
		st, err := os.Stat(name)
		if err != nil {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		noise := bytes.Repeat([]byte{0xa5}, int(st.Size()))
		f.WriteAt(noise, 0)
		f.Close()
	}
	n := uint64(2000)
	for deadline := time.Now().Add(20 * time.Second); j.Status().SetAside == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("the damage was not noticed: %+v", j.Status())
		}
		record(t, j, 250)
		n += 250
		await(t, "written", func() bool { return j.Status().Written == n })
	}
	if !said.has("set aside") {
		t.Errorf("said %q", said.list)
	}
	last := record(t, j, 10)
	await(t, "written", func() bool { return j.Status().Written == n+10 })
	if got := ids(t, reader(t, j.Dir()), Query{Limit: 10}); len(got) != 10 || got[0] != last[9] {
		t.Errorf("the new file has %d records", len(got))
	}
}

// TestRoomWhileFailing: files that are too old go while writing fails, too, since it may fail for want of the room that they take.
func TestRoomWhileFailing(t *testing.T) {
	j := open(t, Options{look: 20 * time.Millisecond})
	today := j.opt.now().UTC().Format(dayLayout)
	for _, s := range sideFiles {
		os.Remove(filepath.Join(j.Dir(), today+suffix+s))
	}
	inTheWay := filepath.Join(j.Dir(), today+suffix)
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	j.Record(flow(1, false))
	await(t, "a failed write", func() bool { return j.Status().Failures > 0 })
	old := filepath.Join(j.Dir(), "2020-01-01"+suffix)
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the old file is deleted", func() bool { _, err := os.Stat(old); return os.IsNotExist(err) })
	if s := j.Status(); s.State != StateFailing || s.Written != 0 {
		t.Errorf("%+v", s)
	}
	os.Remove(inTheWay)
	await(t, "the record is written", func() bool { return j.Status().Written == 1 })
}

// TestAsideOfOthers: what only looks as if it had been set aside is not the journal's to delete.
func TestAsideOfOthers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"2026-11-28.db.corrupt-20261128T150000", "2026-11-28.2.db.corrupt-20261128T150000-2-wal", "orders.db.corrupt-by-hand", ".db.corrupt-"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := listAside(dir)
	if len(list) != 2 || !strings.HasPrefix(list[0].name, "2026-11-28.") || !strings.HasPrefix(list[1].name, "2026-11-28.") {
		t.Errorf("%+v", list)
	}
}
