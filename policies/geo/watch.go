package geo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// WatchEvery is how often a file is looked at.
const WatchEvery = 3 * time.Second

// Watch looks at the file every so often until ctx ends, and takes a new one into use; it returns then. A file that cannot be used leaves the last good
// one in use, which tell is told, once for each such file. tell is called from here.
func (db *Database) Watch(ctx context.Context, every time.Duration, tell func(problem bool, text string)) {
	t := time.NewTicker(every)
	defer t.Stop()
	last := db.inUse() // by a watch before this one it may be another than that of Open
	failed := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now, used := MarkOf(db.path), db.inUse()
		settled := now == last // a file that is still being written is left alone
		last = now
		switch {
		case now == used:
			db.note("") // it was away for a while, or is what it was again
			failed = used
		case settled && now != failed:
			if err := db.renew(now); err != nil {
				failed = now
				db.note(err.Error())
				tell(true, fmt.Sprintf("the GeoIP database %s cannot be used, and %s stays in use: %v", db.path, db, err))
				continue
			}
			failed = now
			tell(false, fmt.Sprintf("the GeoIP database %s was replaced: %s is in use", db.path, db))
		}
	}
}

// Mark tells files apart: another file, or the same one with other content. The zero Mark is that of no file.
type Mark struct {
	there   bool
	inode   uint64
	size    int64
	changed time.Time
}

// MarkOf looks at a file.
func MarkOf(path string) Mark {
	st, err := os.Stat(path)
	if err != nil {
		return Mark{}
	}
	m := Mark{there: true, size: st.Size(), changed: st.ModTime()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		m.inode = s.Ino
	}
	return m
}

// inUse is the mark of the file that is in use.
func (db *Database) inUse() Mark {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.read
}

// renew reads the file and takes it into use.
func (db *Database) renew(m Mark) error {
	data, err := readFile(db.path)
	if err != nil {
		return err
	}
	c, err := read(data)
	if err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.now.Store(c)
	db.since, db.failed, db.read = time.Now(), "", m
	db.loads++
	return nil
}

// note keeps why the file is not in use.
func (db *Database) note(why string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.failed = why
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var e *os.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil && st.Size() > MaxSize {
		err = fmt.Errorf("it is larger than %d bytes", MaxSize)
	}
	if err != nil {
		return nil, err
	}
	data := make([]byte, st.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}
