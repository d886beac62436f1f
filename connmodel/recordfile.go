package connmodel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// recordFile is a file of lines that is appended to.
type recordFile struct{ *os.File }

// openRecordFile opens path for appending, and creates it. Directories it does not create: one that is missing is more often a slip
// of the pen than a wish.
func openRecordFile(path string, mode uint32) (*recordFile, error) {
	if dir := missingDir(filepath.Dir(path)); dir != "" {
		return nil, fmt.Errorf("records: %s: there is no directory %s; create it, or write the path of one that is there", path, dir)
	}
	// Read and write, because mend looks at the last octet.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, os.FileMode(mode)&0o777)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return &recordFile{f}, nil
}

// missingDir returns the first directory on the way to dir, dir included, that is not there; "" = all are, or nobody may know.
func missingDir(dir string) (missing string) {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return missing
		}
		up := filepath.Dir(dir)
		if missing = dir; up == dir {
			return missing
		}
		dir = up
	}
}

// same reports whether f and g are the same file on disk.
func (f *recordFile) same(g *recordFile) bool {
	a, errA := f.Stat()
	b, errB := g.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// mend ends a line that a process before us was killed in, so that it spoils no other. When that fails, so will the next
// write, which reports it.
func (f *recordFile) mend() {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], st.Size()-1); err == nil && last[0] != '\n' {
		f.Write([]byte{'\n'})
	}
}
