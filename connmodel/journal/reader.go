package journal

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
)

// Reader finds records in the files of a journal, beside its writer or without one, in the same process or another. It writes nothing.
type Reader struct {
	dir string
	// Skipped is told of files that cannot be read, with why; nil = nobody is. Set it before the first query.
	Skipped func(path string, err error)
}

// OpenReader returns a Reader of the journal in dir.
func OpenReader(dir string) (*Reader, error) {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("journal: there is no journal at %s: %w", dir, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("journal: %s is no directory", dir)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Reader{dir: dir}, nil
}

// Dir is where the journal is.
func (r *Reader) Dir() string { return r.dir }

// Close lets go of everything; the Reader can be used further all the same.
func (r *Reader) Close(context.Context) error { return nil }

// block is the place of a block.
type block struct {
	seq   int64
	light []byte
	full  []byte
}

// hit is a record that was found.
type hit struct {
	flow *connmodel.Flow
	err  error
}

// Each calls f for the records that q means.
func (r *Reader) Each(ctx context.Context, q Query, f func(*connmodel.Flow) error) error {
	if err := q.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &search{r: r, q: q, f: f, cancel: cancel, skipTo: q.After}
	cond, args := where(q.Filter)
	s.cond, s.args = bounds(&q, cond, args)
	list, err := listFiles(r.dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !q.Oldest {
		slices.Reverse(list)
	}
	if !q.After.IsZero() {
		at, err := r.locate(ctx, q.After)
		if err != nil {
			return err
		}
		i := slices.Index(list, at.file)
		list, s.from, s.first = list[max(i, 0):], at.seq, at.file
	}
	for _, at := range list {
		if err := s.file(ctx, at); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
	}
	return nil
}

// errEnough ends a search that has found what it may.
var errEnough = errors.New("enough")

// bounds adds the times of q to cond.
func bounds(q *Query, cond string, args []any) (string, []any) {
	var all []string
	var with []any
	if !q.Since.IsZero() {
		all, with = append(all, "last_end >= ?"), append(with, q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		all, with = append(all, "first_end <= ?"), append(with, q.Until.UnixMicro())
	}
	if cond != "" {
		all, with = append(all, "("+cond+")"), append(with, args...)
	}
	return strings.Join(all, " AND "), with
}

// search is one query under way.
type search struct {
	r      *Reader
	q      Query
	f      func(*connmodel.Flow) error
	cancel context.CancelFunc
	cond   string
	args   []any
	found  int

	skipTo connmodel.ID // records up to this one are not wanted; zero = it has been met
	first  file         // where it is
	from   int64        // in which block
}

// file looks through one file. One that cannot be read is told of and left out: what the others have is still worth knowing.
func (s *search) file(ctx context.Context, at file) error {
	db, err := openReading(at.path())
	if err != nil {
		s.r.skip(at, err)
		return nil
	}
	defer db.Close()
	cond, args := s.cond, s.args
	if !s.skipTo.IsZero() && at == s.first {
		more := "seq <= ?"
		if s.q.Oldest {
			more = "seq >= ?"
		}
		if cond != "" {
			more = " AND " + more
		}
		cond, args = cond+more, append(slices.Clone(args), s.from)
	}
	// The numbers first and each block by itself: a reader that stays in one statement keeps the writer from emptying its log.
	seqs, err := s.seqs(ctx, db, cond, args)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.r.skip(at, err)
		return nil
	}
	if s.q.Parallel {
		return s.parallel(ctx, db, at, seqs)
	}
	return s.ordered(ctx, db, at, seqs)
}

func (r *Reader) skip(at file, err error) {
	if r.Skipped != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errEmpty) {
		r.Skipped(at.path(), err)
	}
}

func (s *search) seqs(ctx context.Context, db *sql.DB, cond string, args []any) (list []int64, err error) {
	q := "SELECT seq FROM block"
	if cond != "" {
		q += " WHERE " + cond
	}
	q += " ORDER BY seq"
	if !s.q.Oldest {
		q += " DESC"
	}
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		list = append(list, seq)
	}
	return list, rows.Err()
}

// fetch reads one block. full is left out where nobody will look at it.
func fetch(ctx context.Context, st *sql.Stmt, seq int64) (b block, err error) {
	b.seq = seq
	err = st.QueryRowContext(ctx, seq).Scan(&b.light, &b.full)
	return b, err
}

func (s *search) statement(ctx context.Context, db *sql.DB) (*sql.Stmt, error) {
	if s.q.Light {
		return db.PrepareContext(ctx, "SELECT light, NULL FROM data WHERE seq = ?")
	}
	return db.PrepareContext(ctx, "SELECT light, full FROM data WHERE seq = ?")
}

// ordered hands out the records of the blocks in their order, while others are being unpacked.
func (s *search) ordered(ctx context.Context, db *sql.DB, at file, seqs []int64) error {
	return s.unpack(ctx, db, at, seqs, func(hits []hit) error {
		for _, h := range hits {
			if err := s.give(h); err != nil {
				return err
			}
		}
		return nil
	}, nil)
}

// parallel hands out the records where they are unpacked.
func (s *search) parallel(ctx context.Context, db *sql.DB, at file, seqs []int64) error {
	return s.unpack(ctx, db, at, seqs, func([]hit) error { return nil }, func(f *connmodel.Flow) error { return s.f(f) })
}

func (s *search) give(h hit) error {
	if h.err != nil {
		return h.err
	}
	if err := s.f(h.flow); err != nil {
		return err
	}
	if s.found++; s.q.Limit > 0 && s.found >= s.q.Limit {
		return errEnough
	}
	return nil
}

// unpack reads the blocks one after the other and unpacks several at once; then is called with what each had, in order, on the caller's goroutine. With
// now, records are given to it where they are found, and not to then.
func (s *search) unpack(ctx context.Context, db *sql.DB, at file, seqs []int64, then func([]hit) error, now func(*connmodel.Flow) error) error {
	if len(seqs) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := s.statement(ctx, db)
	if err != nil {
		s.r.skip(at, err)
		return nil
	}
	defer st.Close()

	type job struct {
		b    block
		hits []hit
		err  error
		done chan struct{}
	}
	workers := max(runtime.GOMAXPROCS(0), 1)
	jobs := make(chan *job, workers)
	order := make(chan *job, 2*workers)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for j := range jobs {
				j.hits, j.err = s.records(&j.b, now)
				close(j.done)
			}
		})
	}
	group.Go(func() {
		defer close(jobs)
		defer close(order)
		for _, seq := range seqs {
			b, err := fetch(ctx, st, seq)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			j := &job{b: b, err: err, done: make(chan struct{})}
			if err != nil {
				close(j.done)
			}
			select {
			case order <- j:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
			jobs <- j
		}
	})
	var failed error
	for j := range order {
		<-j.done
		switch {
		case failed != nil:
		case ctx.Err() != nil:
			failed = ctx.Err()
		case damaged(j.err) || code(j.err) != 0:
			s.r.skip(at, j.err) // the rest of the file may be sound
		case j.err != nil:
			failed = j.err
		default:
			failed = then(j.hits)
		}
		if failed != nil {
			cancel()
		}
	}
	group.Wait()
	return failed
}

// records finds the records of a block that are meant, in the order of the query.
func (s *search) records(b *block, now func(*connmodel.Flow) error) ([]hit, error) {
	flows, lines, err := b.open(!s.q.Light)
	if err != nil {
		return nil, err
	}
	var hits []hit
	for k := range flows {
		i := k
		if !s.q.Oldest {
			i = len(flows) - 1 - k
		}
		f := flows[i]
		if !s.skipTo.IsZero() && b.seq == s.from && s.skip(flows, i) {
			continue
		}
		if !s.q.matches(f) {
			continue
		}
		if lines != nil {
			whole := new(connmodel.Flow)
			if err := json.Unmarshal(lines[i], whole); err != nil {
				return nil, fmt.Errorf("%w: %v", errLight, err)
			}
			f = whole
		}
		if now != nil {
			if err := now(f); err != nil {
				return nil, err
			}
			continue
		}
		hits = append(hits, hit{flow: f})
	}
	return hits, nil
}

// skip reports whether record i stands before or at the one that the query goes on behind.
func (s *search) skip(flows []*connmodel.Flow, i int) bool {
	at := slices.IndexFunc(flows, func(f *connmodel.Flow) bool { return f.ID == s.skipTo })
	if at < 0 {
		return false
	}
	if s.q.Oldest {
		return i <= at
	}
	return i >= at
}

// open unpacks the light form, and the lines if they are wanted.
func (b *block) open(whole bool) (flows []*connmodel.Flow, lines [][]byte, err error) {
	plain, err := unpack(b.light)
	if err != nil {
		return nil, nil, err
	}
	lr, err := readLight(plain)
	if err != nil {
		return nil, nil, err
	}
	if flows, err = lr.all(); err != nil || !whole {
		return flows, nil, err
	}
	text, err := unpack(b.full)
	if err != nil {
		return nil, nil, err
	}
	lines = bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'})
	if len(lines) != len(flows) {
		return nil, nil, errLight
	}
	return flows, lines, nil
}

// place is where a record stands.
type place struct {
	file file
	seq  int64
	i    int
	b    block
}

// locate finds the record of a flow. Ids begin with the time at which the flow began, so that most files need not be opened; those that seem too old come last,
// because clocks are set back.
func (r *Reader) locate(ctx context.Context, id connmodel.ID) (*place, error) {
	list, err := listFiles(r.dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	day := timeOf(id).Add(-time.Minute).UTC().Format(dayLayout)
	late := slices.DeleteFunc(slices.Clone(list), func(f file) bool { return f.day < day })
	early := slices.DeleteFunc(list, func(f file) bool { return f.day >= day })
	slices.Reverse(early)
	for _, at := range append(late, early...) {
		p, err := r.locateIn(ctx, at, id)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r.skip(at, err)
			continue
		}
		if p != nil {
			return p, nil
		}
	}
	return nil, ErrNotFound
}

// timeOf is the millisecond in an id (RFC 9562, section 5.7).
func timeOf(id connmodel.ID) time.Time {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return time.UnixMilli(ms)
}

func (r *Reader) locateIn(ctx context.Context, at file, id connmodel.ID) (*place, error) {
	db, err := openReading(at.path())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	s := &search{r: r, q: Query{Oldest: true}}
	seqs, err := s.seqs(ctx, db, "min_id <= ? AND max_id >= ?", []any{id[:], id[:]})
	if err != nil {
		return nil, err
	}
	st, err := s.statement(ctx, db)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	for _, seq := range seqs {
		b, err := fetch(ctx, st, seq)
		if err != nil {
			return nil, err
		}
		flows, _, err := b.open(false)
		if err != nil {
			r.skip(at, err)
			continue
		}
		if i := slices.IndexFunc(flows, func(f *connmodel.Flow) bool { return f.ID == id }); i >= 0 {
			return &place{file: at, seq: seq, i: i, b: b}, nil
		}
	}
	return nil, nil
}

// Get returns the whole record of a flow, or ErrNotFound.
func (r *Reader) Get(ctx context.Context, id connmodel.ID) (*connmodel.Flow, error) {
	p, err := r.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	_, lines, err := p.b.open(true)
	if err != nil {
		return nil, err
	}
	f := new(connmodel.Flow)
	if err := json.Unmarshal(lines[p.i], f); err != nil {
		return nil, fmt.Errorf("%w: %v", errLight, err)
	}
	return f, nil
}

// Find returns the ids that begin or end with part.
func (r *Reader) Find(ctx context.Context, part string) ([]connmodel.ID, error) {
	match, ok := idMatcher(part)
	if !ok {
		return nil, nil
	}
	var ids []connmodel.ID
	err := r.Each(ctx, Query{Light: true, Filter: &connmodel.Filter{Op: connmodel.FilterFunc, Func: func(f *connmodel.Flow) bool { return match(f.ID) }}}, func(f *connmodel.Flow) error {
		if ids = append(ids, f.ID); len(ids) == MaxFound {
			return errEnough
		}
		return nil
	})
	return ids, err
}

// idMatcher makes a test of what a person has typed of an id; ok is false where that can be none.
func idMatcher(part string) (match func(connmodel.ID) bool, ok bool) {
	digits := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(part), "-", ""))
	if digits == "" || len(digits) > 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, false
	}
	return func(id connmodel.ID) bool {
		var b [32]byte
		hex.Encode(b[:], id[:])
		return string(b[:len(digits)]) == digits || string(b[len(b)-len(digits):]) == digits
	}, true
}

// Count says how many records q means.
func (r *Reader) Count(ctx context.Context, q Query) (n int64, err error) {
	q.Light, q.Limit, q.After, q.Parallel = true, 0, connmodel.ID{}, false
	err = r.Each(ctx, q, func(*connmodel.Flow) error { n++; return nil })
	return n, err
}
