package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file that the one writer holds locked. It stays when the journal is closed: removing it could take it from the next.
const lockName = "writer.lock"

// lock is held by the one writer of a journal. The kernel lets it go when the process ends, however that happens.
type lock struct{ f *os.File }

// LockedError says that another process writes to the journal.
type LockedError struct {
	Dir      string
	PID      int  // of the holder; 0 = not known
	Draining bool // the holder is about to end
}

// Error says who holds it and what to do.
func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	if e.Draining {
		return fmt.Sprintf("journal: %s is still written to by %s, which is about to end", e.Dir, who)
	}
	return fmt.Sprintf("journal: %s is written to by %s already; two gateways need a directory each", e.Dir, who)
}

// takeLock locks dir for writing, or returns a LockedError.
func takeLock(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("journal: %s cannot be locked: %w", f.Name(), err)
		}
		return nil, holder(dir, f)
	}
	l := &lock{f}
	l.say("")
	return l, nil
}

// holder reads who has the lock.
func holder(dir string, f *os.File) *LockedError {
	e := &LockedError{Dir: dir}
	b := make([]byte, 64)
	n, _ := f.ReadAt(b, 0)
	pid, state, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	e.PID, _ = strconv.Atoi(pid)
	e.Draining = state == "draining"
	return e
}

// say writes who holds the lock, and what it is about to do. That it fails, on a full disk, harms nobody.
func (l *lock) say(state string) {
	text := strings.TrimSpace(strconv.Itoa(os.Getpid())+" "+state) + "\n"
	if l.f.Truncate(0) == nil {
		l.f.WriteAt([]byte(text), 0)
	}
}

func (l *lock) release() { l.f.Close() }
