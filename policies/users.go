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

	"github.com/hashicorp/hcl/v2"
	"github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/bcrypt"
)

const (
	maxHtpasswd = 16 << 20
	maxCost     = 15     // of bcrypt: some 2 s of a core
	maxProved   = 10_000 // pairs of user and password remembered as right
)

// Users are the names and passwords of a listener, from an htpasswd file with bcrypt hashes. It is safe for concurrent use.
//
// A bcrypt comparison takes some 50 ms of a core by design, so pairs that were right are remembered, by a keyed hash that
// means nothing outside this process; and no more comparisons run at once than there are cores. A user who does not exist
// costs as much as a wrong password.
type Users struct {
	file  *htpasswd.File
	names map[string]bool
	dummy []byte // hash of one of them, to compare with when there is no such user

	key   [32]byte
	slots chan struct{}
	mu    sync.RWMutex
	known map[[32]byte]struct{}
}

func noUsers() *Users {
	u := &Users{names: map[string]bool{}, known: map[[32]byte]struct{}{}, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	rand.Read(u.key[:]) // never fails
	return u
}

// Len is the number of users.
func (u *Users) Len() int { return len(u.names) }

// Verify reports whether the password is the user's.
func (u *Users) Verify(user, password string) bool {
	if user == "" || len(u.names) == 0 || len(password) > 72 { // bcrypt looks at no more; RFC 1929 and Basic allow longer ones
		return false
	}
	pair := u.pair(user, password)
	u.mu.RLock()
	_, right := u.known[pair]
	u.mu.RUnlock()
	if right {
		return true
	}
	u.slots <- struct{}{}
	defer func() { <-u.slots }()
	if !u.names[user] {
		_ = bcrypt.CompareHashAndPassword(u.dummy, []byte(password)) // as slow as for a user who exists
		return false
	}
	if !u.file.Match(user, password) {
		return false
	}
	u.mu.Lock()
	if len(u.known) >= maxProved {
		clear(u.known)
	}
	u.known[pair] = struct{}{}
	u.mu.Unlock()
	return true
}

// pair is a keyed hash of user and password. The NUL cannot be part of a user: names with it are refused at load.
func (u *Users) pair(user, password string) (sum [32]byte) {
	h := hmac.New(sha256.New, u.key[:])
	h.Write([]byte(user))
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// readUsers reads an htpasswd file and reports every line that is no user with a bcrypt hash.
func (l *loader) readUsers(src []byte, path string, r hcl.Range) *Users {
	u := noUsers()
	bad := 0
	report := func(line int, why string) {
		if bad++; bad <= 5 {
			l.errorAt(r, "Wrong file of users", fmt.Sprintf("%s:%d: %s", path, line, why))
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
		l.errorAt(r, "Wrong file of users", fmt.Sprintf("%s: %v.", path, err))
		return noUsers()
	}
	u.file = f
	if len(u.names) == 0 && bad == 0 {
		l.warnAt(r, "No users", fmt.Sprintf("%s names nobody, so nobody gets in.", path))
	}
	return u
}
