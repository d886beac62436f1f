package auth

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// store keeps one small file for each pair in a directory of its own. The name of a file is a salted and slow hash of account, realm and
// secret, so a secret that changes has another file, and nobody learns it from the name.
type store struct {
	dir   string // "" = nothing is kept
	fault error  // why nothing can be kept

	mu   sync.Mutex
	salt []byte

	pruning    sync.Mutex
	rejections int // of clients since the start
}

func newStore(dir string) *store { return &store{dir: dir} }

// What the file of a pair says.
const (
	entryAttempt = "attempt" // it is being shown; no outcome yet
	entryClosed  = "closed"  // it was rejected
	entrySilent  = "silent"  // it was shown, and no answer came
)

type entry struct {
	State      string    `json:"state"`
	Time       time.Time `json:"time"`
	Why        string    `json:"why,omitempty"`
	Silent     int       `json:"silent,omitempty"` // attempts in a row that had no answer
	Credential string    `json:"credential"`
	Upstream   string    `json:"upstream"`
	Client     bool      `json:"client,omitempty"` // it is a client's own
}

const (
	saltName   = "salt"
	lockSuffix = ".lock"
	saltBytes  = 32
	hashRounds = 100_000 // some 30 ms, once for each credential and process
	maxEntry   = 64 << 10
)

// key names a pair. Without a directory it is made with a salt that lives as long as the process.
func (s *store) key(id *Identity) (string, error) {
	salt, err := s.getSalt()
	if err != nil {
		return "", err
	}
	k, err := pbkdf2.Key(sha256.New, id.Secret(), salt, hashRounds, 32)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(id.Account), id.Account, len(id.Realm), id.Realm)
	h.Write(k)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// getSalt reads the salt, or makes it. While the directory cannot be written there is none: the next time it is tried again.
func (s *store) getSalt() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.salt != nil || s.fault != nil {
		return s.salt, s.fault
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	if s.dir != "" {
		path := filepath.Join(s.dir, saltName)
		have, err := os.ReadFile(path)
		switch {
		case err == nil && len(have) == saltBytes:
			salt = have
		case err == nil:
			return nil, fmt.Errorf("%s does not hold %d bytes", path, saltBytes)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		default:
			if salt, err = s.newSalt(salt); err != nil {
				return nil, err
			}
		}
	}
	s.salt = salt
	return salt, nil
}

// newSalt puts the salt in place, unless another process was first: then it is that one's.
func (s *store) newSalt(salt []byte) ([]byte, error) {
	err := s.put(saltName, salt, os.Link)
	if errors.Is(err, fs.ErrExist) {
		if salt, err = os.ReadFile(filepath.Join(s.dir, saltName)); err == nil && len(salt) != saltBytes {
			err = fmt.Errorf("%s does not hold %d bytes", filepath.Join(s.dir, saltName), saltBytes)
		}
	}
	return salt, err
}

// keepSalt sees to it that the salt is on the disk with which the names of the files are made. Somebody may have removed the directory; then no
// later process would find what is written now.
func (s *store) keepSalt() error {
	if s.dir == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := os.ReadFile(filepath.Join(s.dir, saltName))
	if errors.Is(err, fs.ErrNotExist) {
		have, err = s.newSalt(s.salt)
	}
	if err == nil && !bytes.Equal(have, s.salt) {
		err = fmt.Errorf("%s is not the file that was there when the gateway started: start it again", filepath.Join(s.dir, saltName))
	}
	return err
}

// errHeld says that another process, or another guard, shows the credential this moment.
var errHeld = errors.New("another process shows it")

// lock takes the pair for this process, for as long as the file is open and the process lives.
func (s *store) lock(key string) (*os.File, error) {
	if s.dir == "" {
		return nil, nil
	}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(filepath.Join(s.dir, key+lockSuffix), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		for {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err != unix.EINTR {
				break
			}
		}
		switch {
		case err == nil && inPlace(f):
			return f, nil
		case err == nil: // whoever had it has removed the file in between
			f.Close()
			continue
		}
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, errHeld
		}
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
}

// inPlace reports whether a file is the one that others would open.
func inPlace(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// unlock removes the file while nobody else can have it: there may be one for each client.
func unlock(f *os.File) {
	if f != nil {
		if inPlace(f) { // somebody may have removed the directory
			os.Remove(f.Name())
		}
		f.Close()
	}
}

// await waits for the lock until ctx ends.
func (s *store) await(ctx context.Context, key string) (*os.File, error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		f, err := s.lock(key)
		if !errors.Is(err, errHeld) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

// load reads the file of a pair.
func (s *store) load(key string) (e entry, ok bool, err error) {
	if s.dir == "" {
		return e, false, nil
	}
	f, err := os.Open(filepath.Join(s.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	defer f.Close()
	b := make([]byte, maxEntry)
	n, err := f.Read(b)
	if n == 0 { // it was made and never written: an attempt that did not get further than that
		return entry{State: entryAttempt, Time: modified(f)}, true, nil
	}
	if err == nil {
		err = json.Unmarshal(b[:n], &e)
	}
	return e, true, err
}

func modified(f *os.File) time.Time {
	if st, err := f.Stat(); err == nil {
		return st.ModTime()
	}
	return time.Now()
}

// save writes the file of a pair; it is on the disk when it returns.
func (s *store) save(key string, e *entry) error {
	if s.dir == "" {
		return nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.write(key, append(b, '\n'))
}

// write puts a file in place whole or not at all, and waits for the disk.
func (s *store) write(name string, content []byte) error { return s.put(name, content, os.Rename) }

func (s *store) put(name string, content []byte, into func(from, to string) error) (err error) {
	if err := s.makeDir(); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is not there any more where it was renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = into(f.Name(), filepath.Join(s.dir, name))
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	return err
}

// makeDir makes the directory, and waits until those above it know it: what is written into it must be found after the power was cut.
func (s *store) makeDir() error {
	if st, err := os.Stat(s.dir); err == nil && st.IsDir() {
		return nil
	}
	var above []string
	for dir := s.dir; ; {
		up := filepath.Dir(dir)
		above = append(above, up)
		if _, err := os.Stat(up); err == nil || up == dir {
			break
		}
		dir = up
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, dir := range above {
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) { // one that we may enter and not read
			return err
		}
	}
	return nil
}

// remove deletes the file of a pair.
func (s *store) remove(key string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// prune keeps the number of files of clients bounded: the oldest rejections go. They are counted at every hundredth rejection.
func (s *store) prune(most int) {
	s.pruning.Lock()
	defer s.pruning.Unlock()
	if s.rejections++; s.dir == "" || s.rejections%100 != 1 {
		return
	}
	names, err := os.ReadDir(s.dir)
	if err != nil || len(names) <= most {
		return
	}
	type file struct {
		name string
		at   time.Time
	}
	var all []file
	for _, n := range names {
		if e, ok, err := s.load(n.Name()); n.Name() != saltName && ok && err == nil && e.Client && e.State != entryAttempt {
			all = append(all, file{n.Name(), e.Time})
		}
	}
	slices.SortFunc(all, func(a, b file) int { return a.at.Compare(b.at) })
	for _, f := range all[:max(len(all)-most, 0)] {
		os.Remove(filepath.Join(s.dir, f.name))
	}
}

// removeClients removes the files of clients that which takes.
func (s *store) removeClients(which func(*entry) bool) (n int, err error) {
	if s.dir == "" {
		return 0, nil
	}
	names, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, f := range names {
		if e, ok, err := s.load(f.Name()); f.Name() != saltName && ok && err == nil && e.Client && which(&e) {
			if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, syncDir(s.dir)
}

// Forget opens, in a directory that no gateway uses, what is closed because an upstream of that name rejected it, and returns how much that was.
func Forget(dir, upstream string) (n int, err error) {
	s := newStore(dir)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, f := range files {
		if b, e := hex.DecodeString(f.Name()); e != nil || len(b) != 16 {
			continue
		}
		e, ok, fault := s.load(f.Name())
		if !ok || fault != nil || e.Upstream != upstream {
			continue
		}
		lock, fault := s.lock(f.Name())
		if fault == nil {
			fault = s.remove(f.Name())
			unlock(lock)
		}
		if fault != nil {
			err = errors.Join(err, fault)
			continue
		}
		n++
	}
	return n, err
}
