package policies

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/hcl/v2"
	"github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/bcrypt"
)

const (
	maxHtpasswd = 16 << 20
	maxCost     = 15     // of bcrypt: some 2 s of a core
	maxProved   = 10_000 // pairs of user and password remembered as right
)

// Users are the names and passwords of a listener, from an htpasswd file with bcrypt hashes. It is safe for concurrent use, and takes up what the
// file says later.
//
// A bcrypt comparison takes some 50 ms of a core by design, so pairs that were right are remembered, by a keyed hash that
// means nothing outside this process; and no more comparisons run at once than there are cores. A user who does not exist
// costs as much as a wrong password.
type Users struct {
	path  string // of the file; "" = there is none
	now   atomic.Pointer[roll]
	slots chan struct{}
}

// roll is what the file said at one time, and what was found out of that.
type roll struct {
	sum   [sha256.Size]byte // of the file
	file  *htpasswd.File
	names map[string]bool
	dummy []byte // hash of one of them, to compare with when there is no such user

	key   [32]byte
	mu    sync.RWMutex
	known map[[32]byte]struct{}
}

func newRoll() *roll {
	r := &roll{names: map[string]bool{}, known: map[[32]byte]struct{}{}}
	rand.Read(r.key[:]) // never fails
	return r
}

func noUsers() *Users {
	u := &Users{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	u.now.Store(newRoll())
	return u
}

// Len is the number of users.
func (u *Users) Len() int { return len(u.now.Load().names) }

// File is the path of the file; "" = there is none.
func (u *Users) File() string { return u.path }

// Renew reads the file again and reports whether it says something else than before. What a reload would refuse is an error, and then those who
// were users before stay it.
func (u *Users) Renew() (changed bool, err error) {
	src, err := readBounded(u.path, maxHtpasswd)
	if err != nil {
		return false, fmt.Errorf("the file of users: %s", reasonOf(err, u.path))
	}
	old := u.now.Load()
	if sha256.Sum256(src) == old.sum {
		return false, nil
	}
	r, faults := parseUsers(src, u.path)
	if len(faults) > 0 {
		return false, fmt.Errorf("the file of users: %s", faults[0])
	}
	u.now.Store(r)
	return true, nil
}

// Verify reports whether the password is the user's.
func (u *Users) Verify(user, password string) bool {
	r := u.now.Load()
	if user == "" || len(r.names) == 0 || len(password) > 72 { // bcrypt looks at no more; RFC 1929 and Basic allow longer ones
		return false
	}
	pair := r.pair(user, password)
	r.mu.RLock()
	_, right := r.known[pair]
	r.mu.RUnlock()
	if right {
		return true
	}
	u.slots <- struct{}{}
	defer func() { <-u.slots }()
	if !r.names[user] {
		_ = bcrypt.CompareHashAndPassword(r.dummy, []byte(password)) // as slow as for a user who exists
		return false
	}
	if !r.file.Match(user, password) {
		return false
	}
	r.mu.Lock()
	if len(r.known) >= maxProved {
		clear(r.known)
	}
	r.known[pair] = struct{}{}
	r.mu.Unlock()
	return true
}

// pair is a keyed hash of user and password. The NUL cannot be part of a user: names with it are refused at load.
func (r *roll) pair(user, password string) (sum [32]byte) {
	h := hmac.New(sha256.New, r.key[:])
	h.Write([]byte(user))
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// readUsers reads an htpasswd file and reports every line that is no user with a bcrypt hash.
func (l *loader) readUsers(src []byte, path string, r hcl.Range) *Users {
	u := noUsers()
	now, faults := parseUsers(src, path)
	for _, f := range faults {
		l.errorAt(r, "Wrong file of users", f)
	}
	if len(faults) > 0 {
		return u
	}
	u.path = path
	u.now.Store(now)
	if u.Len() == 0 {
		l.warnAt(r, "No users", fmt.Sprintf("%s names nobody, so nobody gets in.", path))
	}
	return u
}

// parseUsers returns the users of an htpasswd file, or what is wrong with it: the first few faults.
func parseUsers(src []byte, path string) (u *roll, faults []string) {
	u = newRoll()
	u.sum = sha256.Sum256(src)
	report := func(line int, why string) {
		if len(faults) < 5 {
			faults = append(faults, fmt.Sprintf("%s:%d: %s", path, line, why))
		}
	}
	n := 0
	for line := range bytes.Lines(src) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, hash, ok := strings.Cut(text, ":")
		switch cost, err := bcrypt.Cost([]byte(hash)); {
		case !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }):
			report(n, "not of the form name:hash.")
		case err != nil:
			report(n, fmt.Sprintf("the hash of %q is not bcrypt. Make it with: htpasswd -B %s %s", name, path, name))
		case cost > maxCost:
			report(n, fmt.Sprintf("the hash of %q has the cost %d, which takes minutes to compare; at most %d is allowed.", name, cost, maxCost))
		case u.names[name]:
			report(n, fmt.Sprintf("the user %q occurs twice.", name))
		default:
			u.names[name] = true
			if u.dummy == nil {
				u.dummy = []byte(hash)
			}
		}
	}
	f, err := htpasswd.NewFromReader(bytes.NewReader(src), []htpasswd.PasswdParser{htpasswd.AcceptBcrypt}, func(error) {})
	if err != nil {
		return nil, append(faults, fmt.Sprintf("%s: %v.", path, err))
	}
	u.file = f
	return u, faults
}
