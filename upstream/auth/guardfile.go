package auth

import (
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
)

type entry struct {
	State      string    `json:"state"`
	Time       time.Time `json:"time"`
	Why        string    `json:"why,omitempty"`
	Credential string    `json:"credential"`
	Upstream   string    `json:"upstream"`
	Client     bool      `json:"client,omitempty"` // it is a client's own
}

const (
	saltName   = "salt"
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
			if err := s.write(saltName, salt); err != nil {
				return nil, err
			}
		}
	}
	s.salt = salt
	return salt, nil
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
func (s *store) write(name string, content []byte) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.dir, name))
	}
	if err == nil {
		err = s.sync()
	}
	return err
}

// remove deletes the file of a pair.
func (s *store) remove(key string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.sync()
}

func (s *store) sync() error {
	d, err := os.Open(s.dir)
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
		if e, ok, err := s.load(n.Name()); n.Name() != saltName && ok && err == nil && e.Client && e.State == entryClosed {
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
	return n, s.sync()
}
