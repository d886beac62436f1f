package connmodel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lines reads the records of a file, and fails where one is torn.
func lines(t *testing.T, path string) []Flow {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}

func parse(t *testing.T, b []byte) (list []Flow) {
	t.Helper()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("the last line is torn: %q", b[max(0, len(b)-40):])
	}
	for line := range bytes.Lines(b) {
		var f Flow
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("%v: %q", err, line[:min(len(line), 100)])
		}
		list = append(list, f)
	}
	return list
}

func numbered(i int) *Flow {
	f := typical()
	f.Up = int64(i)
	return f
}

// eventually waits for what other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestRecordsReachTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.ndjson")
	w, err := NewRecordWriter(RecordOptions{Path: path, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	const goroutines, each = 8, 200
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				w.Record(numbered(g*each + i))
			}
		})
	}
	wg.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.Record(numbered(0))
	if w.Written() != goroutines*each || w.Dropped() != 1 || w.Failures() != 0 {
		t.Errorf("written %d, dropped %d, failures %d", w.Written(), w.Dropped(), w.Failures())
	}
	seen := map[int64]bool{}
	for _, f := range lines(t, path) {
		seen[f.Up] = true
	}
	if len(seen) != goroutines*each {
		t.Errorf("%d different records", len(seen))
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if err := w.Close(t.Context()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := w.Reopen(); err != nil {
		t.Errorf("reopened after the end: %v", err)
	}
}

// A single record is visible at once, without more of them and without Close; appending goes on after a restart.
func TestRecordsAreVisibleSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	for i := range 3 {
		w, err := NewRecordWriter(RecordOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		w.Record(numbered(i))
		eventually(t, "record in the file", func() bool { return w.Written() == 1 && len(lines(t, path)) == i+1 })
		w.Close(t.Context())
	}
}

func TestRecordWriterOptions(t *testing.T) {
	for _, o := range []RecordOptions{{}, {Path: "x", Writer: io.Discard}, {Path: "/dev/null/x"}, {Path: t.TempDir()}} {
		if _, err := NewRecordWriter(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// scripted is a writer that does what a test tells it.
type scripted struct {
	mu    sync.Mutex
	got   bytes.Buffer
	write func(b []byte) (int, error) // nil = all is well
}

func (s *scripted) Write(b []byte) (int, error) {
	s.mu.Lock()
	f := s.write
	s.mu.Unlock()
	if f != nil {
		n, err := f(b)
		s.mu.Lock()
		s.got.Write(b[:n])
		s.mu.Unlock()
		return n, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

func (s *scripted) set(f func([]byte) (int, error)) {
	s.mu.Lock()
	s.write = f
	s.mu.Unlock()
}

// A writer that hangs costs records and never waiting.
func TestSlowWriterDropsAndNeverWaits(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 1000)
	s := &scripted{write: func(b []byte) (int, error) { entered <- struct{}{}; <-release; return len(b), nil }}
	w, err := NewRecordWriter(RecordOptions{Writer: s, Queue: 10})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(0))
	<-entered
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1000 {
			w.Record(numbered(i))
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Record waits")
	}
	if w.Dropped() != 990 {
		t.Errorf("dropped %d of 1000 with a queue of 10", w.Dropped())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close with a deadline passed: %v", err)
	}
	close(release)
	if err := w.Close(t.Context()); err != nil || w.Written() != 11 {
		t.Errorf("%v, written %d", err, w.Written())
	}
	parse(t, s.got.Bytes())
}

// A full disk: the failure is told once, nothing is written twice or torn, and it goes on by itself.
func TestFullDiskRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		s := &scripted{}
		w, err := NewRecordWriter(RecordOptions{Writer: s, Queue: 100, OnError: func(err error) { told = append(told, err) }})
		if err != nil {
			t.Fatal(err)
		}
		w.Record(numbered(0))
		synctest.Wait()
		room := 100
		s.set(func(b []byte) (int, error) { n := min(room, len(b)); room -= n; return n, syscall.ENOSPC })
		for i := range 200 {
			w.Record(numbered(1 + i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(told) != 1 || !errors.Is(told[0], syscall.ENOSPC) || !errors.Is(w.Err(), syscall.ENOSPC) || w.Failures() < 10 || w.Failures() > 30 {
			t.Errorf("told %v, failures %d in a minute", told, w.Failures())
		}
		s.set(nil)
		time.Sleep(2 * longestRetry)
		synctest.Wait()
		if len(told) != 2 || told[1] != nil || w.Err() != nil {
			t.Errorf("told %v", told)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(parse(t, s.got.Bytes())); uint64(n) != w.Written() || w.Written()+w.Dropped() != 201 || n < 101 {
			t.Errorf("%d lines, written %d, dropped %d", n, w.Written(), w.Dropped())
		}
	})
}

func TestCloseGivesUpOnAFullDisk(t *testing.T) {
	for name, write := range map[string]func([]byte) (int, error){
		"error": func([]byte) (int, error) { return 0, syscall.ENOSPC },
		"torn":  func(b []byte) (int, error) { return len(b) / 2, syscall.EIO },
		"short": func(b []byte) (int, error) { return 0, nil },
		"lies":  func(b []byte) (int, error) { return 0, io.ErrClosedPipe },
	} {
		w, err := NewRecordWriter(RecordOptions{Writer: &scripted{write: write}, Queue: 50})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			w.Record(numbered(i))
		}
		if err := w.Close(t.Context()); err == nil {
			t.Errorf("%s: Close says nothing", name)
		}
		if w.Written()+w.Dropped() != 50 {
			t.Errorf("%s: written %d, dropped %d of 50", name, w.Written(), w.Dropped())
		}
	}
}

func TestDevFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	var told atomic.Int32
	w, err := NewRecordWriter(RecordOptions{Path: "/dev/full", OnError: func(err error) {
		if errors.Is(err, syscall.ENOSPC) {
			told.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(1))
	eventually(t, "told of the full disk", func() bool { return told.Load() == 1 })
	if err := w.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) || w.Dropped() != 1 || w.Written() != 0 {
		t.Errorf("%v, dropped %d, written %d", err, w.Dropped(), w.Written())
	}
}

// A file system that is really full, and gets room again. It needs the right to mount.
func TestTinyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "records")
	w, err := NewRecordWriter(RecordOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(0))
	eventually(t, "first record", func() bool { return w.Written() == 1 })
	os.WriteFile(filler, make([]byte, 1<<20), 0o600) // as much as there is room
	for i := range 20 {
		w.Record(numbered(1 + i))
	}
	eventually(t, "disk full", func() bool { return w.Err() != nil })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all written", func() bool { return w.Written() == 21 })
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	list := lines(t, path)
	for i, f := range list {
		if f.Up != int64(i) {
			t.Errorf("line %d is record %d", i, f.Up)
		}
	}
	if len(list) != 21 || w.Dropped() != 0 {
		t.Errorf("%d lines, dropped %d", len(list), w.Dropped())
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path, old := filepath.Join(dir, "r"), filepath.Join(dir, "r.1")
	w, err := NewRecordWriter(RecordOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(1))
	eventually(t, "written", func() bool { return w.Written() == 1 })
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(2)) // before Reopen: still to the old file
	eventually(t, "written", func() bool { return w.Written() == 2 })
	for range 3 {
		if err := w.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	w.Record(numbered(3))
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, b := lines(t, old), lines(t, path); len(a) != 2 || len(b) != 1 || b[0].Up != 3 {
		t.Errorf("%d in the old file, %d in the new", len(a), len(b))
	}
}

func TestMissingDirectoryIsNotMade(t *testing.T) {
	dir := t.TempDir()
	_, err := NewRecordWriter(RecordOptions{Path: filepath.Join(dir, "lgo", "viaduct", "r")})
	if want := "there is no directory " + filepath.Join(dir, "lgo") + ";"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s was made", left[0].Name())
	}
}

func TestReopenFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "r")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := NewRecordWriter(RecordOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(filepath.Dir(path), moved); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil { // a file where the directory was
		t.Fatal(err)
	}
	if err := w.Reopen(); err == nil {
		t.Error("Reopen says nothing")
	}
	w.Record(numbered(1))
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(lines(t, filepath.Join(moved, "r"))); n != 1 {
		t.Errorf("%d lines in the old file", n)
	}
}

// A line that only half fits goes whole into the file opened after it, and is finished where the file is the same.
func TestTornLineAfterReopen(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "r")
		f, err := openRecordFile(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		w := &RecordWriter{Queue: NewQueue(1, nil), opt: RecordOptions{Path: path, Mode: 0o600}, out: f, fresh: make(chan *recordFile, 1)}
		w.encode(numbered(1))
		first := len(w.buf)
		w.encode(numbered(2))
		n, _ := f.Write(w.buf[:first+10])
		w.off = n
		if rotated {
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
		}
		w.reopen()
		if err := w.write(); err != nil {
			t.Fatal(err)
		}
		got := lines(t, path)
		if rotated && (len(got) != 1 || got[0].Up != 2) || !rotated && len(got) != 2 {
			t.Errorf("rotated %v: %d lines", rotated, len(got))
		}
		w.out.Close()
	}
}

func TestTornLineOfTheProcessBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	whole := append(numbered(1).AppendJSON(nil), '\n')
	if err := os.WriteFile(path, append(whole, whole[:50]...), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := NewRecordWriter(RecordOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(2))
	w.Close(t.Context())
	b, _ := os.ReadFile(path)
	all := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(all) != 3 || !json.Valid([]byte(all[0])) || json.Valid([]byte(all[1])) || !json.Valid([]byte(all[2])) {
		t.Errorf("%d lines", len(all))
	}
}

// A process killed while it writes leaves whole lines, but possibly the last.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("CONNMODEL_TEST_RECORDS"); path != "" {
		w, err := NewRecordWriter(RecordOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("writing")
		for i := 0; ; i++ {
			w.Record(numbered(i))
		}
	}
	path := filepath.Join(t.TempDir(), "r")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), "CONNMODEL_TEST_RECORDS="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "writing\n" {
		t.Errorf("%q, %v", line, err)
	}
	eventually(t, "a good many lines", func() bool { st, err := os.Stat(path); return err == nil && st.Size() > 4<<20 })
	cmd.Process.Kill()
	cmd.Wait()
	b, _ := os.ReadFile(path)
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	last := int64(-1)
	for _, f := range parse(t, b) {
		if f.Up <= last {
			t.Fatalf("record %d after %d", f.Up, last)
		}
		last = f.Up
	}
	if last < 100 {
		t.Errorf("only %d records", last)
	}
}

// A record that cannot be encoded takes no other with it.
func TestRecordThatPanics(t *testing.T) {
	s := &scripted{}
	var told []string
	w, err := NewRecordWriter(RecordOptions{Writer: s, OnError: func(err error) { told = append(told, fmt.Sprint(err)) }})
	if err != nil {
		t.Fatal(err)
	}
	w.Record(numbered(1))
	w.Record(nil)
	w.Record(numbered(2))
	w.Close(t.Context())
	if n := len(parse(t, s.got.Bytes())); n != 2 || w.Dropped() != 1 || w.Written() != 2 || len(told) == 0 || !strings.Contains(told[0], "cannot be encoded") {
		t.Errorf("%d lines, dropped %d, told %q", n, w.Dropped(), told)
	}
}

func TestSinks(t *testing.T) {
	var got []string
	mk := func(name string) Sink {
		return SinkFunc(func(f *Flow) { got = append(got, name+strconv.FormatInt(f.Up, 10)) })
	}
	Sinks{mk("a"), mk("b")}.Record(numbered(7))
	expect(t, got, "a7", "b7")
}

// BenchmarkRecordWriter measures what a record costs the whole process at some 20,000 a second: user and system time, the
// writer's goroutine and the kernel's part of writing the file included, less what the pacing itself costs.
func BenchmarkRecordWriter(b *testing.B) {
	w, err := NewRecordWriter(RecordOptions{Path: filepath.Join(b.TempDir(), "r")})
	if err != nil {
		b.Fatal(err)
	}
	f := typical()
	pace := func(record func(*Flow)) time.Duration {
		before := cpu()
		for i := range b.N {
			record(f)
			if i%200 == 199 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		return cpu() - before
	}
	alone := pace(func(*Flow) {})
	b.ResetTimer()
	before := cpu()
	pace(w.Record)
	w.Close(context.Background())
	b.ReportMetric(float64(cpu()-before-alone)/float64(b.N), "cpu-ns/record")
	if w.Dropped() > 0 {
		b.Errorf("dropped %d", w.Dropped())
	}
}

// BenchmarkRecord is the part of it that the connection's goroutine pays.
func BenchmarkRecord(b *testing.B) {
	w, err := NewRecordWriter(RecordOptions{Writer: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	f := typical()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Record(f)
		}
	})
	w.Close(context.Background())
	b.ReportMetric(100*float64(w.Dropped())/float64(b.N), "%dropped")
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
