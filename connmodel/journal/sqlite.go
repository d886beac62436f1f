package journal

import (
	"cmp"
	"context"
	"errors"

	"viaduct/connmodel"
)

// SQLite is a journal as a Store: the one writer, and a reader beside it. What records on the data path uses the Journal by itself, which never waits.
type SQLite struct {
	*Reader
	j *Journal
}

var _ Store = (*SQLite)(nil)

// OpenStore opens the journal that o says, for writing and reading. See Open for the errors.
func OpenStore(o Options) (*SQLite, error) {
	j, err := Open(o)
	if err != nil {
		return nil, err
	}
	r, err := OpenReader(o.Dir)
	if err != nil {
		return nil, errors.Join(err, j.Close(context.Background()))
	}
	return &SQLite{r, j}, nil
}

// Append implements Store.
func (s *SQLite) Append(ctx context.Context, flows []*connmodel.Flow) error {
	return s.j.Append(ctx, flows)
}

// Close implements Store.
func (s *SQLite) Close(ctx context.Context) error { return s.j.Close(ctx) }

// ErrClosed says that a journal is closed.
var ErrClosed = errors.New("journal: it is closed")

// Append queues the flows behind those that were recorded before, waits for room where there is none, and returns when they are kept. Unlike Record it
// waits for the disk. With an error some of them may be kept, and those that are not are tried again until the journal is closed.
func (j *Journal) Append(ctx context.Context, flows []*connmodel.Flow) error {
	for _, f := range flows {
		if !j.Put(ctx, f) {
			return cmp.Or(ctx.Err(), ErrClosed)
		}
	}
	kept := make(chan error, 1)
	select {
	case j.barrier <- kept:
		return <-kept
	case <-ctx.Done():
		return ctx.Err()
	case <-j.Stop():
		return ErrClosed
	}
}
