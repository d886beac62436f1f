package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	suffix    = ".db"
	dayLayout = "2006-01-02"
)

// file is one database of the journal, by its name.
type file struct {
	dir  string
	day  string // 2026-11-28
	part int    // from 1
}

// name is "2026-11-28.db", and "2026-11-28.2.db" for further parts of a day.
func (f file) name() string {
	if f.part == 1 {
		return f.day + suffix
	}
	return f.day + "." + strconv.Itoa(f.part) + suffix
}

func (f file) path() string { return filepath.Join(f.dir, f.name()) }

// date is when the day begins.
func (f file) date() time.Time {
	t, _ := time.Parse(dayLayout, f.day) // parseFile has seen to it
	return t
}

// size is what the database takes on disk, its log included.
func (f file) size() (n int64) {
	for _, s := range sideFiles {
		if st, err := os.Stat(f.path() + s); err == nil {
			n += st.Size()
		}
	}
	return n
}

// sideFiles are the endings of what SQLite keeps of a database.
var sideFiles = [...]string{"", "-wal", "-shm"}

// remove deletes the database. A reader that has it open goes on with it.
func (f file) remove() error {
	err := os.Remove(f.path())
	for _, s := range sideFiles[1:] {
		os.Remove(f.path() + s)
	}
	return err
}

// setAside renames a database that cannot be used and returns its new name.
func (f file) setAside(now time.Time) (string, error) {
	base := f.day
	if f.part > 1 {
		base += "." + strconv.Itoa(f.part)
	}
	base += asideMark + now.UTC().Format("20060102T150405")
	to := base
	for i := 2; ; i++ {
		if _, err := os.Lstat(filepath.Join(f.dir, to)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = base + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(f.path(), filepath.Join(f.dir, to)); err != nil {
		return "", fmt.Errorf("journal: a damaged file cannot be set aside: %w", err)
	}
	os.Rename(f.path()+"-wal", filepath.Join(f.dir, to+"-wal")) // what is in it may be worth more than the rest
	os.Remove(f.path() + "-shm")
	return to, nil
}

// asideMark stands in the names of files that were set aside.
const asideMark = suffix + ".corrupt-"

// aside is a file that was set aside.
type aside struct {
	name string
	size int64
	at   time.Time // it was last written
}

// listAside returns the files of dir that were set aside, the first one first.
func listAside(dir string) (list []aside) {
	entries, _ := os.ReadDir(dir) // where it cannot be read, nothing is known of it
	for _, e := range entries {
		base, _, ok := strings.Cut(e.Name(), asideMark)
		if _, ours := parseFile(dir, base+suffix); !ok || !ours || !e.Type().IsRegular() {
			continue // somebody else's
		}
		if st, err := e.Info(); err == nil {
			list = append(list, aside{e.Name(), st.Size(), st.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b aside) int { return a.at.Compare(b.at) })
	return list
}

// parseFile reads the name of a database; ok is false for other files.
func parseFile(dir, name string) (f file, ok bool) {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return file{}, false
	}
	day, part, more := strings.Cut(base, ".")
	f = file{dir: dir, day: day, part: 1}
	if more {
		n, err := strconv.Atoi(part)
		if err != nil || n < 2 || n > 1_000_000 || strconv.Itoa(n) != part {
			return file{}, false
		}
		f.part = n
	}
	t, err := time.Parse(dayLayout, day)
	return f, err == nil && t.Format(dayLayout) == day
}

// listFiles returns the databases of dir, oldest first.
func listFiles(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []file
	for _, e := range entries {
		if f, ok := parseFile(dir, e.Name()); ok && e.Type().IsRegular() {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, compareFiles)
	return list, nil
}

func compareFiles(a, b file) int {
	return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.part, b.part))
}

// IsFile reports whether a name is that of a file that belongs to a journal, those that were set aside not included.
func IsFile(name string) bool {
	if name == lockName {
		return true
	}
	for _, s := range sideFiles {
		if base, ok := strings.CutSuffix(name, s); ok {
			if _, ok := parseFile("", base); ok {
				return true
			}
		}
	}
	return false
}
