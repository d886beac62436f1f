package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
	"viaduct/router/admin"
)

// journalSink is the journal in the present configuration. The router keeps one sink for its life; a reload changes what is behind it.
type journalSink struct {
	mu   sync.RWMutex     // held for reading by Record, which never waits inside
	j    *journal.Journal // nil = none is open
	want journalPlace
	err  error  // why none is open though one is wanted; nil = one is, or none is wanted
	done uint64 // records that journals before this one have written
	bad  uint64 // their failures, and attempts to open one that failed

	lost atomic.Uint64 // records that came while none was open, and those that journals before this one have lost

	again  time.Duration      // how often one that could not be opened is tried again; 0 = openAgain
	cancel context.CancelFunc // of trying again; nil = nobody does
	trying sync.WaitGroup
}

// journalPlace is what a configuration says of the journal.
type journalPlace struct {
	dir   string // "" = none is wanted
	own   bool   // it is in the directory of state, which is ours to make
	asked bool
	keep  time.Duration
	size  int64
}

// openAgain is how often a journal that could not be opened is tried again.
const openAgain = 10 * time.Second

// Record implements connmodel.Sink.
func (s *journalSink) Record(f *connmodel.Flow) {
	s.mu.RLock()
	if s.j != nil {
		s.j.Record(f)
		s.mu.RUnlock()
		return
	}
	if s.err != nil {
		s.lost.Add(1)
	}
	s.mu.RUnlock()
}

// journalAt says where the policy wants the journal.
func journalAt(g *policies.Gateway) (p journalPlace, err error) {
	c := &g.Journal
	if c.Off {
		return p, nil
	}
	p = journalPlace{dir: c.Path, asked: c.Asked, keep: c.Keep, size: c.KeepSize}
	if p.dir == "" {
		state, err := stateDir(g.State)
		if err != nil {
			return p, err
		}
		p.dir, p.own = filepath.Join(state, "journal"), true
	}
	p.dir, err = filepath.Abs(p.dir)
	return p, err
}

// open opens the journal.
func (p journalPlace) open(log *logrus.Logger) (*journal.Journal, error) {
	if p.own {
		if err := os.MkdirAll(filepath.Dir(p.dir), 0o700); err != nil {
			return nil, err
		}
	}
	entry := log.WithField("journal", p.dir)
	return journal.Open(journal.Options{
		Dir: p.dir, Keep: p.keep, KeepSize: p.size,
		OnError: func(err error) {
			if err != nil {
				entry.WithError(err).Error("the journal cannot be written; records wait, and those that find no room are dropped")
			} else {
				entry.Info("the journal is written again")
			}
		},
		OnNotice: func(text string) { entry.Warn("journal: " + text) },
	})
}

// prepare opens the journal that g wants, unless it is the one that is open. commit makes it count; abandon forgets it. One of the two is called. A
// journal that nobody asked for and that cannot be opened is no error.
func (s *journalSink) prepare(g *policies.Gateway, log *logrus.Logger) (commit, abandon func(), err error) {
	p, failed := journalAt(g)
	s.giveUp() // else what is tried again could be opened between the look and what is opened here
	s.mu.RLock()
	open, have := s.j, s.want.dir
	s.mu.RUnlock()
	if failed == nil && open != nil && have == p.dir {
		return func() {
			open.Keep(p.keep, p.size)
			s.mu.Lock()
			s.want = p
			s.mu.Unlock()
		}, func() {}, nil
	}
	var fresh *journal.Journal
	made := false
	if failed == nil && p.dir != "" {
		_, before := os.Stat(p.dir)
		made = errors.Is(before, fs.ErrNotExist)
		fresh, failed = p.open(log)
	}
	if failed != nil && p.asked {
		s.goOn(log)
		return nil, nil, fmt.Errorf("gateway { journal }: %w", failed)
	}
	return func() { s.commit(p, fresh, failed, log) }, func() {
		defer s.goOn(log)
		if fresh != nil {
			closeJournal(fresh, log)
			if made && fresh.Status().Written == 0 {
				removeJournal(p.dir)
			}
		}
	}, nil
}

// commit puts fresh in the place of the journal that is open.
func (s *journalSink) commit(p journalPlace, fresh *journal.Journal, failed error, log *logrus.Logger) {
	s.giveUp()
	old := s.swap(p, fresh, failed)
	if failed != nil {
		log.WithError(failed).WithField("journal", p.dir).Warn("no journal is kept: it cannot be opened, which is tried again; gateway { journal { enabled = false } } turns it off")
		s.tryAgain(p, log)
	}
	s.retire(old, log)
}

func (s *journalSink) swap(p journalPlace, fresh *journal.Journal, failed error) (old *journal.Journal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed != nil {
		s.bad++
	}
	old, s.j, s.want, s.err = s.j, fresh, p, failed
	return old
}

// retire closes a journal and remembers its counts.
func (s *journalSink) retire(old *journal.Journal, log *logrus.Logger) {
	if old == nil {
		return
	}
	closeJournal(old, log)
	st := old.Status()
	s.mu.Lock()
	s.done, s.bad = s.done+st.Written, s.bad+st.Failures
	s.mu.Unlock()
	s.lost.Add(st.Dropped)
}

// goOn tries again what was tried before a configuration that did not come.
func (s *journalSink) goOn(log *logrus.Logger) {
	s.mu.RLock()
	want, failing := s.want, s.j == nil && s.err != nil
	s.mu.RUnlock()
	if failing {
		s.tryAgain(want, log)
	}
}

// tryAgain opens the journal when that becomes possible.
func (s *journalSink) tryAgain(p journalPlace, log *logrus.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.trying.Go(func() {
		t := time.NewTicker(orDefault(s.again, openAgain))
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			if p.dir == "" { // there was no place for state, and there will be none
				return
			}
			fresh, err := p.open(log)
			if ctx.Err() != nil {
				if fresh != nil {
					closeJournal(fresh, log)
				}
				return
			}
			s.swap(p, fresh, err)
			if err == nil {
				log.WithField("journal", p.dir).Info("the journal is kept from now on")
				return
			}
		}
	})
}

// giveUp ends trying again.
func (s *journalSink) giveUp() {
	if s.cancel != nil {
		s.cancel()
		s.trying.Wait()
		s.cancel = nil
	}
}

// draining tells the process that comes after us that we are about to end.
func (s *journalSink) draining() {
	if j := s.journal(); j != nil {
		j.Draining()
	}
}

// journal returns the one that is open, or nil.
func (s *journalSink) journal() *journal.Journal {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.j
}

// close writes what is queued.
func (s *journalSink) close(log *logrus.Logger) {
	s.giveUp()
	s.retire(s.swap(journalPlace{}, nil, nil), log)
}

func closeJournal(j *journal.Journal, log *logrus.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), closeRecords)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		log.WithError(err).Error("not all records could be written to the journal")
	}
}

// removeJournal takes back a directory that was made for a configuration that does not come. What is in it are the files of a journal that nothing was
// written to; with anything else in it, it stays.
func removeJournal(dir string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range list {
		if !journal.IsFile(e.Name()) {
			return
		}
	}
	for _, e := range list {
		os.Remove(filepath.Join(dir, e.Name()))
	}
	os.Remove(dir)
}

// status returns nil when no journal is wanted.
func (s *journalSink) status() *admin.JournalStatus {
	s.mu.RLock()
	j, p, err, lost, done, bad := s.j, s.want, s.err, s.lost.Load(), s.done, s.bad
	s.mu.RUnlock()
	if p.dir == "" && err == nil {
		return nil
	}
	st := &admin.JournalStatus{Dir: p.dir, State: admin.JournalUnavailable, Keep: orDefault(p.keep, journal.DefaultKeep).Seconds(), KeepSize: orDefault(p.size, journal.DefaultKeepSize)}
	if j != nil {
		now := j.Status()
		st.State, err = string(now.State), now.Error
		st.Written, st.Dropped, st.Failures, st.SetAside, st.Deleted = now.Written, now.Dropped, now.Failures, now.SetAside, now.Deleted
		st.Queued, st.Bytes, st.Files, st.Oldest = now.Queued, now.Bytes, now.Files, maybe(now.Oldest)
	}
	st.Written, st.Dropped, st.Failures = st.Written+done, st.Dropped+lost, st.Failures+bad
	if err != nil {
		st.Error = err.Error()
	}
	return st
}

func orDefault[T time.Duration | int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}
