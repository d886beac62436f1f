package source

import (
	"os"
	"path/filepath"
)

// WriteFile writes a file that only its owner reads, whole or not at all: what fill writes goes to a file beside it first. A process that is killed
// meanwhile leaves the old file as it was.
func WriteFile(path string, fill func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing of that name
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// Rename moves a file that has been synced to its place, so that it is there after a power cut, too.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return nil // the file is in place: only that it stays there is not certain
	}
	defer dir.Close()
	_ = dir.Sync()
	return nil
}
