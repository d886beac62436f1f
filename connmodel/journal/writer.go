package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"viaduct/connmodel"
)

// writer makes blocks of records and puts them into the file of the day. It belongs to one goroutine.
type writer struct {
	j    *Journal
	file file
	db   *sql.DB     // nil while no file is open
	id   os.FileInfo // of the file when it was opened

	size     int64     // of the file, in the status
	measured time.Time // when

	flows []*connmodel.Flow // that are not written yet; at most blockRecords
	ready bool              // the block below is of flows

	digest      digest
	light       lightWriter
	lines       []byte
	plain       []byte
	lightPacked []byte
	fullPacked  []byte

	saidFull bool // that records were deleted for want of room
}

func (w *writer) take(f *connmodel.Flow) { w.flows, w.ready = append(w.flows, f), false }

// flush writes the flows. When that fails it tries again with growing pauses until it works, and returns false when stop is closed first; what is left then
// stays. Files are deleted meanwhile as at other times: it may be the room that they take which is missing.
func (w *writer) flush(stop <-chan struct{}) bool {
	looked := time.Now()
	for retry := firstRetry; w.once() != nil; retry = min(2*retry, longestRetry) {
		w.j.tellDrops()
		if time.Since(looked) >= w.j.opt.look {
			w.tidy()
			looked = time.Now()
		}
		t := time.NewTimer(retry)
		select {
		case <-t.C:
		case <-stop:
			t.Stop()
			return false
		}
	}
	w.j.tellDrops()
	return true
}

// once tries to write the flows.
func (w *writer) once() error {
	if len(w.flows) > 0 {
		if err := w.write(); err != nil {
			w.j.enter(StateFailing)
			w.j.Failed(err)
			return err
		}
		w.j.Wrote(len(w.flows))
		clear(w.flows)
		w.flows, w.ready = w.flows[:0], false
		w.measure()
	}
	w.j.enter(StateWriting)
	w.j.Worked()
	return nil
}

// measureEvery is how often the size of the file is looked at.
const measureEvery = time.Second

// measure keeps the size in the status near the truth between two looks at all files.
func (w *writer) measure() {
	if now := time.Now(); now.Sub(w.measured) >= measureEvery {
		size := w.file.size()
		w.j.mu.Lock()
		w.j.bytes += size - w.size
		w.j.mu.Unlock()
		w.size, w.measured = size, now
	}
}

// write puts the block into the file of today.
func (w *writer) write() error {
	w.encode()
	if len(w.flows) == 0 {
		return nil
	}
	if err := w.rotate(); err != nil {
		return err
	}
	err := w.insert()
	if damaged(err) {
		if err = w.discard(err); err == nil {
			err = w.insert()
		}
	}
	if err != nil {
		// Whatever it was (the disk was full, a file system is read-only, somebody holds a lock), a file opened anew is where to go on.
		w.close()
		return fmt.Errorf("journal: %s: %w", w.file.name(), err)
	}
	return nil
}

func (w *writer) insert() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	d := &w.digest
	res, err := tx.Exec(insertBlock, d.n, d.firstEnd, d.lastEnd, d.firstStart, d.lastStart, d.minID[:], d.maxID[:], d.errors, d.denied, d.differs, d.maxBytes, d.maxDuration, d.cut, d.words)
	if err != nil {
		return err
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(insertData, seq, w.lightPacked, w.fullPacked); err != nil {
		return err
	}
	return tx.Commit()
}

// encode makes the block of the flows. A record that makes an encoder panic must not take the others with it.
func (w *writer) encode() {
	for !w.ready && len(w.flows) > 0 {
		if bad, why := w.tryEncode(); bad >= 0 {
			w.flows = slices.Delete(w.flows, bad, bad+1)
			w.j.Lost(1)
			w.j.notice("a record was dropped, because it cannot be encoded: %v", why)
			continue
		}
		w.plain = w.light.bytes(w.plain[:0])
		w.lightPacked = pack(w.lightPacked, w.plain)
		w.fullPacked = pack(w.fullPacked, w.lines)
		w.ready = true
	}
}

func (w *writer) tryEncode() (bad int, why any) {
	bad = -1
	i := 0
	defer func() {
		if why = recover(); why != nil {
			bad = i
		}
	}()
	w.digest.reset()
	w.light.reset()
	w.lines = w.lines[:0]
	for ; i < len(w.flows); i++ {
		f := w.flows[i]
		w.lines = append(f.AppendJSON(w.lines), '\n')
		w.light.add(f)
		w.digest.add(f)
	}
	return bad, nil
}

// rotate sees to it that the right file is open: that of the day, while it is there and not too large.
func (w *writer) rotate() error {
	day := w.j.opt.now().UTC().Format(dayLayout)
	if w.db != nil {
		st, err := os.Stat(w.file.path())
		_, keep := w.j.keep()
		switch {
		case err != nil || !os.SameFile(st, w.id):
			w.j.notice("%s is not there any more; a new file is begun", w.file.path())
		case w.file.day != day:
		case keep > 0 && w.file.size() > max(keep/8, minPart): // with its log, which grows while readers keep it from being emptied
			w.finish()
			return w.openPart(day, w.file.part+1)
		default:
			return nil
		}
		w.finish()
	}
	return w.open()
}

// open opens the last file of today, or begins one.
func (w *writer) open() error {
	day := w.j.opt.now().UTC().Format(dayLayout)
	part := 1
	list, err := listFiles(w.j.opt.Dir)
	if err != nil {
		if err := makeDir(w.j.opt.Dir); err != nil { // somebody has removed it
			return err
		}
	}
	for _, f := range list {
		if f.day == day {
			part = max(part, f.part)
		}
	}
	return w.openPart(day, part)
}

func (w *writer) openPart(day string, part int) error {
	w.close()
	for range 100 { // files of a newer version, after a step back, are passed over
		w.file = file{w.j.opt.Dir, day, part}
		err := w.openFile()
		switch {
		case err == nil:
			w.tidy()
			return nil
		case errors.Is(err, errNewer):
			w.j.notice("%s was written by a newer version, and is left as it is", w.file.path())
			part++
		case damaged(err):
			if err := w.setAside(err); err != nil {
				return err
			}
		default:
			return fmt.Errorf("journal: %s: %w", w.file.name(), err)
		}
	}
	return fmt.Errorf("journal: no file of %s can be opened", day)
}

func (w *writer) openFile() error {
	db, err := openWriting(w.file.path())
	if err != nil {
		return err
	}
	if w.id, err = os.Stat(w.file.path()); err != nil {
		db.Close()
		return err
	}
	w.db = db
	return nil
}

// discard sets the file that is open aside, because of why, and begins another.
func (w *writer) discard(why error) error {
	w.close()
	if err := w.setAside(why); err != nil {
		return err
	}
	return w.openPart(w.file.day, w.file.part)
}

func (w *writer) setAside(why error) error {
	to, err := w.file.setAside(w.j.opt.now())
	if err != nil {
		return err
	}
	w.j.aside.Add(1)
	w.j.notice("%s was damaged (%v) and is set aside as %s; a new file is begun", w.file.path(), why, to)
	return nil
}

// finish closes a file that is not written to any more, with its log emptied into it.
func (w *writer) finish() {
	if w.db != nil {
		w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)") // else it is done when it is opened the next time
	}
	w.close()
}

func (w *writer) close() {
	if w.db != nil {
		w.db.Close()
		w.db = nil
	}
}

// verify looks through the blocks and reads the last one as a reader would, past what the writer remembers of the file: damage under its hands it would not notice otherwise.
func (w *writer) verify() {
	if w.db == nil {
		return
	}
	err := readable(w.file)
	if damaged(err) {
		if err = w.discard(err); err == nil {
			return
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.close() // writing finds out, and begins a new one
	}
}

// readable reports whether a file can be looked through and its last block read.
func readable(f file) error {
	db, err := openReading(f.path())
	if err != nil {
		return err
	}
	defer db.Close()
	var n int64
	if err := db.QueryRow("SELECT count(*) FROM block").Scan(&n); err != nil { // walks every page of the table, as queries do
		return err
	}
	b := block{}
	err = db.QueryRow("SELECT d.seq, d.light, d.full FROM data d JOIN block b ON b.seq = d.seq ORDER BY d.seq DESC LIMIT 1").Scan(&b.seq, &b.light, &b.full)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, _, err = b.open(true)
	}
	return err
}

// tidy deletes files that are too old, and the oldest while all together are too large; and looks how much there is. The file that is written to stays.
func (w *writer) tidy() {
	list, err := listFiles(w.j.opt.Dir)
	if err != nil {
		return // writing will say so
	}
	age, most := w.j.keep()
	now := w.j.opt.now()
	oldest, today := now.Add(-age), now.UTC().Format(dayLayout)
	var total int64
	sizes := make([]int64, len(list))
	for i, f := range list {
		sizes[i] = f.size()
		total += sizes[i]
		if f == w.file {
			w.size, w.measured = sizes[i], time.Now()
		}
	}
	aside := listAside(w.j.opt.Dir)
	for _, a := range aside {
		total += a.size
	}
	for _, a := range aside { // those that went wrong first
		if age > 0 && a.at.Before(oldest) || most > 0 && total > most {
			if os.Remove(filepath.Join(w.j.opt.Dir, a.name)) == nil {
				total -= a.size
			}
		}
	}
	kept := list[:0]
	for i, f := range list {
		old := age > 0 && !f.date().Add(24*time.Hour).After(oldest)
		large := most > 0 && total > most
		current := f == w.file || w.db == nil && f.day == today // nothing is open yet when another process had it before us
		if current || !old && !large {
			kept = append(kept, f)
			continue
		}
		if err := f.remove(); err != nil {
			w.j.notice("%s cannot be deleted: %v", f.path(), err)
			kept = append(kept, f)
			continue
		}
		total -= sizes[i]
		w.j.deleted.Add(1)
		if !old && !w.saidFull {
			w.saidFull = true
			w.j.notice("%s was deleted, because the journal may take %d MiB; records are kept for less time than they should be", f.path(), most>>20)
		}
	}
	w.j.mu.Lock()
	w.j.bytes, w.j.files, w.j.oldest = total, len(kept), time.Time{}
	if len(kept) > 0 {
		w.j.oldest = kept[0].date()
	}
	w.j.mu.Unlock()
}
