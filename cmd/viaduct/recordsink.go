package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router/admin"
)

// recordSink is where records go in the present configuration. The router keeps one sink for its life; a reload changes what is
// behind it, and no record goes to a writer that is closed.
type recordSink struct {
	mu  sync.RWMutex // held for reading by Record, which never waits inside
	to  string       // path, "stdout", "" = nowhere
	out *connmodel.RecordWriter
}

// Record implements connmodel.Sink.
func (s *recordSink) Record(f *connmodel.Flow) {
	s.mu.RLock()
	if s.out != nil {
		s.out.Record(f)
	}
	s.mu.RUnlock()
}

func recordsTo(r *policies.Records) string {
	switch {
	case r == nil:
		return ""
	case r.Stdout:
		return "stdout"
	}
	return r.Path
}

// prepare opens what r wants, unless records go there already. commit makes it count; abandon forgets it. One of the two is
// called.
func (s *recordSink) prepare(r *policies.Records, log *logrus.Logger) (commit, abandon func(), err error) {
	to := recordsTo(r)
	if to == s.target() {
		return s.reopen(log), func() {}, nil
	}
	var fresh *connmodel.RecordWriter
	if to != "" {
		o := connmodel.RecordOptions{Path: r.Path, OnError: func(err error) {
			if err != nil {
				log.WithError(err).WithField("records", to).Error("records cannot be written")
			} else {
				log.WithField("records", to).Info("records are written again")
			}
		}}
		if r.Stdout {
			o.Path, o.Writer = "", os.Stdout
		}
		_, before := os.Stat(r.Path)
		if fresh, err = connmodel.NewRecordWriter(o); err != nil {
			return nil, nil, err
		}
		abandon = func() {
			closeWriter(fresh, log)
			if !r.Stdout && errors.Is(before, fs.ErrNotExist) {
				removeEmpty(r.Path)
			}
		}
	} else {
		abandon = func() {}
	}
	return func() { closeWriter(s.swap(to, fresh), log) }, abandon, nil
}

// removeEmpty takes back a file that was made for a configuration that does not come.
func removeEmpty(path string) {
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() == 0 {
		os.Remove(path)
	}
}

func (s *recordSink) target() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.to
}

func (s *recordSink) swap(to string, w *connmodel.RecordWriter) (old *connmodel.RecordWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.to, s.out = s.out, to, w
	return old
}

// reopen returns a function that opens the path anew, after rotation.
func (s *recordSink) reopen(log *logrus.Logger) func() {
	return func() {
		s.mu.RLock()
		w := s.out
		s.mu.RUnlock()
		if w == nil {
			return
		}
		if err := w.Reopen(); err != nil {
			log.WithError(err).Error("records go on to the old file: the new one cannot be opened")
		}
	}
}

// close writes what is queued.
func (s *recordSink) close(log *logrus.Logger) { closeWriter(s.swap("", nil), log) }

func closeWriter(w *connmodel.RecordWriter, log *logrus.Logger) {
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		log.WithError(err).Error("not all records could be written")
	}
}

func (s *recordSink) status() *admin.RecordStatus {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.out == nil {
		return nil
	}
	st := &admin.RecordStatus{To: s.to, Written: s.out.Written(), Dropped: s.out.Dropped(), Failures: s.out.Failures()}
	if err := s.out.Err(); err != nil {
		st.Error = err.Error()
	}
	return st
}
