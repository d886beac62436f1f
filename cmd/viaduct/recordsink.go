package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/connmodel/journald"
	"viaduct/policies"
	"viaduct/router/admin"
)

// recordSink is where records go, beside the journal, in the present configuration: a file, standard output, journald, or several of them. The router keeps
// one sink for its life; a reload changes what is behind it, and no record goes to a writer that is closed.
type recordSink struct {
	mu   sync.RWMutex // held for reading by Record, which never waits inside
	outs []recordOut  // changed as a whole
}

// recordOut is one place.
type recordOut struct {
	recordPlace
	w recordWriter
}

// recordPlace names a place: its kind, and of a file the path.
type recordPlace struct{ kind, path string }

// The kinds of places. They are labels of metrics.
const (
	recordFile     = "file"
	recordStdout   = "stdout"
	recordJournald = "journald"
)

func (p recordPlace) String() string {
	if p.kind == recordFile {
		return p.path
	}
	return p.kind
}

// recordWriter is what connmodel.RecordWriter and journald.Writer have in common.
type recordWriter interface {
	connmodel.Sink
	Written() uint64
	Dropped() uint64
	Failures() uint64
	Err() error
	Reopen() error
	Close(ctx context.Context) error
}

// Record implements connmodel.Sink.
func (s *recordSink) Record(f *connmodel.Flow) {
	s.mu.RLock()
	for i := range s.outs {
		s.outs[i].w.Record(f)
	}
	s.mu.RUnlock()
}

func recordsTo(r *policies.Records) (to []recordPlace) {
	if r == nil {
		return nil
	}
	if r.Path != "" {
		to = append(to, recordPlace{recordFile, r.Path})
	}
	if r.Stdout {
		to = append(to, recordPlace{kind: recordStdout})
	}
	if r.Journald {
		to = append(to, recordPlace{kind: recordJournald})
	}
	return to
}

// prepare opens what r wants, except for where records go already. commit makes it count; abandon forgets it. One of the two is
// called.
func (s *recordSink) prepare(r *policies.Records, log *logrus.Logger) (commit, abandon func(), err error) {
	var next, fresh []recordOut
	var undo []func()
	abandon = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, to := range recordsTo(r) {
		if o, ok := s.at(to); ok {
			next = append(next, o)
			continue
		}
		o, back, err := openRecords(to, log)
		if err != nil {
			abandon()
			return nil, nil, err
		}
		next, fresh, undo = append(next, o), append(fresh, o), append(undo, back)
	}
	return func() {
		old := s.swap(next)
		for _, o := range old {
			if !slices.Contains(next, o) {
				closeWriter(o.w, log)
			}
		}
		for _, o := range next {
			if !slices.Contains(fresh, o) {
				reopenWriter(o.w, log) // a reload is what log rotation may ask for, too
			}
		}
	}, abandon, nil
}

// openRecords opens one place; back takes that back.
func openRecords(to recordPlace, log *logrus.Logger) (o recordOut, back func(), err error) {
	told := func(err error) {
		if err != nil {
			log.WithError(err).WithField("records", to.String()).Error("records cannot be written")
		} else {
			log.WithField("records", to.String()).Info("records are written again")
		}
	}
	var w recordWriter
	back = func() { closeWriter(w, log) }
	switch to.kind {
	case recordJournald:
		if w, err = journald.New(journald.Options{OnError: told}); err != nil {
			err = fmt.Errorf("records { journald = true }: %w", err)
		}
	case recordStdout:
		w, err = connmodel.NewRecordWriter(connmodel.RecordOptions{Writer: os.Stdout, OnError: told})
	default:
		_, before := os.Stat(to.path)
		w, err = connmodel.NewRecordWriter(connmodel.RecordOptions{Path: to.path, OnError: told})
		if errors.Is(before, fs.ErrNotExist) {
			back = func() {
				closeWriter(w, log)
				removeEmpty(to.path)
			}
		}
	}
	return recordOut{to, w}, back, err
}

// removeEmpty takes back a file that was made for a configuration that does not come.
func removeEmpty(path string) {
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() == 0 {
		os.Remove(path)
	}
}

func (s *recordSink) at(to recordPlace) (recordOut, bool) {
	outs := s.all()
	if i := slices.IndexFunc(outs, func(o recordOut) bool { return o.recordPlace == to }); i >= 0 {
		return outs[i], true
	}
	return recordOut{}, false
}

func (s *recordSink) all() []recordOut {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.outs
}

func (s *recordSink) swap(next []recordOut) (old []recordOut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.outs = s.outs, next
	return old
}

// reopen opens files anew, after rotation.
func (s *recordSink) reopen(log *logrus.Logger) {
	for _, o := range s.all() {
		reopenWriter(o.w, log)
	}
}

func reopenWriter(w recordWriter, log *logrus.Logger) {
	if err := w.Reopen(); err != nil {
		log.WithError(err).Error("records go on to the old file: the new one cannot be opened")
	}
}

// close writes what is queued, in all places at once: one that hangs takes no time from the others.
func (s *recordSink) close(log *logrus.Logger) {
	var group sync.WaitGroup
	for _, o := range s.swap(nil) {
		group.Go(func() { closeWriter(o.w, log) })
	}
	group.Wait()
}

// closeRecords is how long the end of a writer may take.
const closeRecords = 10 * time.Second

func closeWriter(w recordWriter, log *logrus.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), closeRecords)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		log.WithError(err).Error("not all records could be written")
	}
}

func (s *recordSink) status() (list []admin.RecordStatus) {
	for _, o := range s.all() {
		st := admin.RecordStatus{To: o.String(), Kind: o.kind, Written: o.w.Written(), Dropped: o.w.Dropped(), Failures: o.w.Failures()}
		if err := o.w.Err(); err != nil {
			st.Error = err.Error()
		}
		list = append(list, st)
	}
	return list
}
