// Package storetest says what a journal.Store has to do, as tests that every kind of store runs, and has the simplest one, which keeps records in memory.
package storetest

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
)

// Memory is a Store that keeps records in memory: the reference that others are held against. The zero Memory is empty.
type Memory struct {
	mu     sync.Mutex
	flows  []*connmodel.Flow
	closed bool
}

var _ journal.Store = (*Memory)(nil)

// Append implements journal.Store.
func (m *Memory) Append(ctx context.Context, flows []*connmodel.Flow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return journal.ErrClosed
	}
	m.flows = append(m.flows, flows...)
	return nil
}

// Close implements journal.Store.
func (m *Memory) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// all is every record in the order of q.
func (m *Memory) all(q *journal.Query) []*connmodel.Flow {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.flows)
	if !q.Oldest {
		slices.Reverse(list)
	}
	return list
}

// Each implements journal.Finder.
func (m *Memory) Each(ctx context.Context, q journal.Query, f func(*connmodel.Flow) error) error {
	list := m.all(&q)
	if !q.After.IsZero() {
		i := slices.IndexFunc(list, func(f *connmodel.Flow) bool { return f.ID == q.After })
		if i < 0 {
			return journal.ErrNotFound
		}
		list = list[i+1:]
	}
	n := 0
	for _, x := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !q.Since.IsZero() && x.End.Before(q.Since) || !q.Until.IsZero() && !x.End.Before(q.Until) || !q.Filter.Match(x) {
			continue
		}
		own := *x
		if err := f(&own); err != nil {
			return err
		}
		if n++; q.Limit > 0 && n == q.Limit {
			break
		}
	}
	return nil
}

// Get implements journal.Finder.
func (m *Memory) Get(ctx context.Context, id connmodel.ID) (found *connmodel.Flow, err error) {
	err = m.Each(ctx, journal.Query{}, func(f *connmodel.Flow) error {
		if f.ID == id {
			found = f
		}
		return nil
	})
	if err == nil && found == nil {
		err = journal.ErrNotFound
	}
	return found, err
}

// Find implements journal.Finder.
func (m *Memory) Find(ctx context.Context, part string) (ids []connmodel.ID, err error) {
	digits := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(part), "-", ""))
	if digits == "" || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, nil
	}
	err = m.Each(ctx, journal.Query{}, func(f *connmodel.Flow) error {
		if text := hex.EncodeToString(f.ID[:]); len(ids) < journal.MaxFound && (strings.HasPrefix(text, digits) || strings.HasSuffix(text, digits)) {
			ids = append(ids, f.ID)
		}
		return nil
	})
	return ids, err
}

// Count implements journal.Finder.
func (m *Memory) Count(ctx context.Context, q journal.Query) (n int64, err error) {
	q.Limit, q.After = 0, connmodel.ID{}
	err = m.Each(ctx, q, func(*connmodel.Flow) error { n++; return nil })
	return n, err
}
