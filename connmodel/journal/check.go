package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"viaduct/connmodel"
)

// FileState is what Check found of a file.
type FileState struct {
	Name    string
	Bytes   int64
	Blocks  int
	Records int64     // that can be read
	First   time.Time // end of the first flow; zero = there is none
	Last    time.Time // and of the last
	// Aside says that the file was set aside as damaged before. Nothing else is known of it then.
	Aside bool
	// Problems are what is wrong with it, at most maxProblems; nil = it is sound.
	Problems []string
}

// maxProblems bounds what is said of one file.
const maxProblems = 10

// Check looks at every octet of the journal in dir, which may be in use, and tells of one file after the other, oldest first; those that were set aside come
// last. It writes nothing.
func Check(ctx context.Context, dir string, each func(FileState) error) error {
	if _, err := OpenReader(dir); err != nil {
		return err
	}
	list, err := listFiles(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, f := range list {
		s := FileState{Name: f.name(), Bytes: f.size()}
		if err := s.check(ctx, f); err != nil {
			return err
		}
		if _, err := os.Stat(f.path()); errors.Is(err, fs.ErrNotExist) {
			continue // retention has deleted it meanwhile
		}
		if err := each(s); err != nil {
			return err
		}
	}
	for _, a := range listAside(dir) {
		if strings.HasSuffix(a.name, sideFiles[1]) { // the log of another
			continue
		}
		if err := each(FileState{Name: a.name, Bytes: a.size, Aside: true}); err != nil {
			return err
		}
	}
	return nil
}

func (s *FileState) problem(format string, args ...any) {
	if len(s.Problems) < maxProblems {
		s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
	}
}

// check returns an error only when ctx has ended.
func (s *FileState) check(ctx context.Context, f file) error {
	db, err := openReading(f.path())
	if errors.Is(err, errEmpty) {
		return nil
	}
	if err != nil {
		s.problem("%v", err)
		return ctx.Err()
	}
	defer db.Close()
	if err := s.integrity(ctx, db); err != nil {
		s.problem("%v", err)
	}
	st, err := db.PrepareContext(ctx, "SELECT light, full FROM data WHERE seq = ?")
	if err != nil {
		s.problem("%v", err)
		return ctx.Err()
	}
	defer st.Close()
	// A page of blocks at a time, so that a check of a large file does not hold the writer's log.
	for after := int64(0); ctx.Err() == nil; {
		page, err := blocksAfter(ctx, db, after)
		if err != nil {
			s.problem("%v", err)
			break
		}
		if len(page) == 0 {
			break
		}
		for _, b := range page {
			after = b.seq
			s.block(ctx, st, b)
		}
	}
	return ctx.Err()
}

func (s *FileState) integrity(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if text != "ok" {
			s.problem("%s", text)
		}
	}
	return rows.Err()
}

// blockRow is what the table of blocks says of one.
type blockRow struct {
	seq, n, firstEnd, lastEnd int64
}

func blocksAfter(ctx context.Context, db *sql.DB, seq int64) (page []blockRow, err error) {
	rows, err := db.QueryContext(ctx, "SELECT seq, n, first_end, last_end FROM block WHERE seq > ? ORDER BY seq LIMIT 500", seq)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b blockRow
		if err := rows.Scan(&b.seq, &b.n, &b.firstEnd, &b.lastEnd); err != nil {
			return nil, err
		}
		page = append(page, b)
	}
	return page, rows.Err()
}

// block reads a block in both forms and compares them.
func (s *FileState) block(ctx context.Context, st *sql.Stmt, row blockRow) {
	s.Blocks++
	b, err := fetch(ctx, st, row.seq)
	if err != nil {
		s.problem("block %d: %v", row.seq, err)
		return
	}
	flows, lines, err := b.open(true)
	if err != nil {
		s.problem("block %d: %v", row.seq, err)
		return
	}
	if int64(len(flows)) != row.n {
		s.problem("block %d has %d records and should have %d", row.seq, len(flows), row.n)
	}
	for i, f := range flows {
		whole := new(connmodel.Flow)
		if err := json.Unmarshal(lines[i], whole); err != nil {
			s.problem("block %d, record %d: %v", row.seq, i+1, err)
			continue
		}
		if whole.ID != f.ID {
			s.problem("block %d, record %d: its two forms are of two flows", row.seq, i+1)
			continue
		}
		s.Records++
		if s.First.IsZero() || f.End.Before(s.First) {
			s.First = f.End
		}
		if f.End.After(s.Last) {
			s.Last = f.End
		}
	}
}
