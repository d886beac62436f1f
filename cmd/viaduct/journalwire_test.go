package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
	"viaduct/router/admin"
)

func silentLog() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// someFlow is a record to keep.
func someFlow() *connmodel.Flow {
	s := connmodel.NewSession(connmodel.Accepted{Listener: "desk"}, nil)
	r := s.NewFlow(connmodel.ProtocolConnect, connmodel.Address{Host: "a.example", Port: 443}, time.Time{})
	return r.Close(connmodel.FlowEnd{Reason: connmodel.CloseClient})
}

func gatewayWith(j policies.Journal) *policies.Gateway { return &policies.Gateway{Journal: j} }

func take(t *testing.T, s *journalSink, j policies.Journal) {
	t.Helper()
	commit, _, err := s.prepare(gatewayWith(j), silentLog())
	if err != nil {
		t.Fatal(err)
	}
	commit()
}

func awaitJournal(t *testing.T, s *journalSink, what string, ok func(*admin.JournalStatus) bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(s.status()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s: %+v", what, s.status())
		}
	}
}

// TestJournalOpensLater: one that nobody asked for and that another process holds is opened when that lets go. What came meanwhile is counted.
func TestJournalOpensLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	first, err := journal.Open(journal.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := &journalSink{again: 20 * time.Millisecond}
	defer s.close(silentLog())
	if _, _, err := s.prepare(gatewayWith(policies.Journal{Asked: true, Path: dir}), silentLog()); err == nil || !strings.Contains(err.Error(), "is written to by process") {
		t.Errorf("where the policy asks for it: %v", err)
	}
	if s.status() != nil {
		t.Error("what failed has changed something")
	}
	take(t, s, policies.Journal{Path: dir})
	if st := s.status(); st.State != admin.JournalUnavailable || !strings.Contains(st.Error, "is written to by process") || st.Dir != dir {
		t.Errorf("%+v", st)
	}
	for range 5 {
		s.Record(someFlow())
	}
	if st := s.status(); st.Dropped != 5 {
		t.Errorf("%+v", st)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitJournal(t, s, "it is opened", func(st *admin.JournalStatus) bool { return st.State == admin.JournalWriting && st.Error == "" })
	s.Record(someFlow())
	awaitJournal(t, s, "it is written", func(st *admin.JournalStatus) bool { return st.Written == 1 && st.Dropped == 5 && st.Failures > 0 })
}

// TestJournalMoves while records come: each is in one of the two, and the counters go on.
func TestJournalMoves(t *testing.T) {
	base := t.TempDir()
	s := new(journalSink)
	defer s.close(silentLog())
	a, b, c := filepath.Join(base, "a"), filepath.Join(base, "b"), filepath.Join(base, "c")
	take(t, s, policies.Journal{Asked: true, Path: a})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 500 {
				s.Record(someFlow())
				time.Sleep(10 * time.Microsecond)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	take(t, s, policies.Journal{Asked: true, Path: b, Keep: time.Hour})
	group.Wait()
	awaitJournal(t, s, "all are written", func(st *admin.JournalStatus) bool { return st.Written == 2000 && st.Dropped == 0 && st.Dir == b })
	var n int64
	for _, dir := range []string{a, b} {
		r, err := journal.OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		k, err := r.Count(context.Background(), journal.Query{})
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	if n != 2000 {
		t.Errorf("%d records of 2000", n)
	}
	// Another length of time leaves it open; a configuration that does not come leaves nothing behind.
	open := s.j
	take(t, s, policies.Journal{Asked: true, Path: b, Keep: 2 * time.Hour})
	if st := s.status(); s.j != open || st.Keep != 7200 {
		t.Errorf("%+v", st)
	}
	_, abandon, err := s.prepare(gatewayWith(policies.Journal{Asked: true, Path: c}), silentLog())
	if err != nil {
		t.Fatal(err)
	}
	abandon()
	if _, err := os.Stat(c); !os.IsNotExist(err) {
		t.Errorf("the directory of a configuration that does not come: %v", err)
	}
	take(t, s, policies.Journal{Off: true})
	s.Record(someFlow())
	if s.status() != nil {
		t.Errorf("turned off: %+v", s.status())
	}
}

// TestRecordsToSeveralPlaces: a reload keeps the places that stay, and closes the one that goes.
func TestRecordsToSeveralPlaces(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	s := new(recordSink)
	set := func(r *policies.Records) {
		t.Helper()
		commit, _, err := s.prepare(r, silentLog())
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	set(&policies.Records{Path: a})
	kept := s.outs[0].w
	s.Record(someFlow())
	set(&policies.Records{Path: a})
	if len(s.outs) != 1 || s.outs[0].w != kept {
		t.Errorf("the same file was opened by another writer: %v", s.outs)
	}
	if _, _, err := s.prepare(&policies.Records{Path: filepath.Join(dir, "no", "such")}, silentLog()); err == nil {
		t.Error("a directory that is not there was taken")
	}
	s.Record(someFlow())
	set(&policies.Records{Path: b})
	s.Record(someFlow())
	set(nil)
	s.Record(someFlow())
	if st := s.status(); len(st) != 0 {
		t.Errorf("%+v", st)
	}
	for path, want := range map[string]int{a: 2, b: 1} {
		text, err := os.ReadFile(path)
		if err != nil || strings.Count(string(text), "\n") != want {
			t.Errorf("%s: %d records, %v, want %d", path, strings.Count(string(text), "\n"), err, want)
		}
	}
}
