package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Guard keeps accounts from being locked. It knows of each pair of a credential and a realm (what keeps the accounts) whether it was
// accepted, and what was not yet is shown by one connection at a time. A rejection closes the pair, without a timer, until the secret
// changes or Reset is called, over restarts: what is kept of that is one small file for each pair, written before the credential is sent.
//
// One Guard serves all tables of a process.
type Guard struct {
	store *store
	tell  func(Notice)

	mu    sync.Mutex
	pairs map[string]*Pair
	keys  map[[sha256.Size]byte]string // of identities that were asked for: to make a key takes its time
	own   [16]byte                     // in the names of keys

	maxPairs int // see maxPairs
}

// BrokenGuard returns a guard that cannot write anything down because of err, so that no credential that is not proven is shown.
func BrokenGuard(err error, tell func(Notice)) *Guard {
	g := NewGuard("", tell)
	g.store.fault = err
	return g
}

// Notice is something that happened to a pair, for the log.
type Notice struct {
	Credential, Upstream string
	State                State
	Text                 string
}

// NewGuard returns a guard that keeps its files in dir, which is made when it is needed; "" = it remembers nothing. tell is told what
// changes, from any goroutine; nil = nobody is.
func NewGuard(dir string, tell func(Notice)) *Guard {
	if tell == nil {
		tell = func(Notice) {}
	}
	g := &Guard{store: newStore(dir), tell: tell, pairs: make(map[string]*Pair), keys: make(map[[sha256.Size]byte]string), maxPairs: maxPairs}
	rand.Read(g.own[:]) // never fails
	return g
}

// State is what is known of a pair.
type State uint8

// The states.
const (
	Unproven State = iota // it was not accepted yet since the process started
	Proving               // one connection is showing it
	Proven                // it was accepted
	Shut                  // it was rejected
)

// String names the state.
func (s State) String() string { return [...]string{"unproven", "proving", "proven", "closed"}[s] }

// Identity is what a pair is of.
type Identity struct {
	Account string        // the user, with its domain
	Realm   string        // who keeps the account; "" = the same for all proxies that are shown this account
	Secret  func() string // password, token, or the bytes of a key
	// Credential and Upstream are names for people: they do not tell pairs apart.
	Credential, Upstream string
	// Client says that it is a client's own user and password, of which there are as many as users, and not one of the policy's.
	Client bool
}

const (
	// maxKeys bounds the identities of a process that are known by a quick hash: each change of a secret makes one, and each client's login.
	maxKeys = 10_000
	// maxPairs bounds what is known of clients' logins. Beyond it those are forgotten that can be found out again without harm.
	maxPairs = 20_000
	// maxClientFiles bounds the rejected logins of clients that are kept on the disk. Beyond it the oldest is forgotten.
	maxClientFiles = 10_000
)

// Pair returns the pair of id, the same one for the same account, realm and secret.
func (g *Guard) Pair(id Identity) *Pair {
	name := sha256.Sum256(fmt.Appendf(g.own[:len(g.own):len(g.own)], "%q %q %q", id.Account, id.Realm, id.Secret()))
	g.mu.Lock()
	key, err := g.keys[name], error(nil)
	g.mu.Unlock()
	if key == "" {
		key, err = g.store.key(&id) // takes its time, in which others go on
	}
	id.Secret = nil // it is needed no more, and must not live as long as the pair
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		return &Pair{g: g, id: id, broken: err}
	}
	if _, known := g.keys[name]; !known {
		for old := range g.keys {
			if len(g.keys) < maxKeys {
				break
			}
			delete(g.keys, old)
		}
		g.keys[name] = key
	}
	if p := g.pairs[key]; p != nil {
		return p
	}
	if id.Client && len(g.pairs) >= g.maxPairs && !g.forget() {
		return &Pair{g: g, id: id, broken: fmt.Errorf("%d logins of clients are not settled", g.maxPairs)}
	}
	p := &Pair{g: g, key: key, id: id}
	g.pairs[key] = p
	p.restore()
	return p
}

// forget drops some pairs of clients that nothing is lost with: those that are proven, and will be proved once more, and those that are
// closed, which the disk knows. The lock is held.
func (g *Guard) forget() bool {
	n := 0
	for key, p := range g.pairs {
		if !p.id.Client {
			continue
		}
		if s, _, _ := p.Status(); s == Proven || s == Shut && g.store.dir != "" {
			delete(g.pairs, key)
			if n++; n >= max(g.maxPairs/100, 1) {
				break
			}
		}
	}
	return n > 0
}

// ClientStatus is what is known of the logins of clients that were shown to an upstream.
type ClientStatus struct{ Proven, Closed, Unproven int }

// Clients counts them, as far as they were used since the start.
func (g *Guard) Clients(upstream string) (n ClientStatus) {
	for _, p := range g.clients(upstream) {
		switch s, _, _ := p.Status(); s {
		case Proven:
			n.Proven++
		case Shut:
			n.Closed++
		default:
			n.Unproven++
		}
	}
	return n
}

func (g *Guard) clients(upstream string) (all []*Pair) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pairs {
		if p.id.Client && p.id.Upstream == upstream {
			all = append(all, p)
		}
	}
	return all
}

// ResetClients opens all logins of clients again that an upstream rejected, also those that this process has not met yet. It returns how many
// there were.
func (g *Guard) ResetClients(upstream string) (n int, err error) {
	for _, p := range g.clients(upstream) {
		if p.Shut() {
			if err := p.Reset(); err != nil {
				return n, err
			}
			n++
		}
	}
	more, err := g.store.removeClients(func(e *entry) bool { return e.Upstream == upstream && e.State == entryClosed })
	return n + more, err
}

// Pair is one credential in one realm.
type Pair struct {
	g      *Guard
	key    string
	id     Identity
	broken error // the state directory cannot be used
	fast   atomic.Bool

	mu      sync.Mutex
	state   State
	since   time.Time
	why     string        // for Shut
	settled chan struct{} // while Proving: closed when that ends
	silent  int           // attempts in a row that had no answer
	next    time.Time     // no attempt before
}

// restore takes over what an earlier process left.
func (p *Pair) restore() {
	e, ok, err := p.g.store.load(p.key)
	switch {
	case err != nil: // something is there that cannot be read: it may be a rejection
		p.shut(time.Now(), "what is kept of it cannot be read ("+err.Error()+"), so it may have been rejected before")
	case !ok:
		return
	case e.State == entryAttempt:
		p.shut(e.Time, "the gateway ended while it was being shown, so whether it was rejected is not known")
	default:
		p.shut(e.Time, e.Why)
	}
	p.g.tell(p.notice("it stays closed since " + p.since.Format(time.RFC3339) + ": " + p.why))
}

func (p *Pair) shut(at time.Time, why string) {
	p.fast.Store(false)
	p.state, p.since, p.why = Shut, at, why
}

func (p *Pair) notice(text string) Notice {
	return Notice{Credential: p.id.Credential, Upstream: p.id.Upstream, State: p.state, Text: text}
}

// Proven reports whether the pair was accepted: then it may be shown at any time, by any number.
func (p *Pair) Proven() bool { return p.fast.Load() }

// Shut reports whether the pair is closed.
func (p *Pair) Shut() bool {
	if p.fast.Load() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == Shut
}

// Status returns the state, since when it is so, and why it is closed.
func (p *Pair) Status() (s State, since time.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.since, p.why
}

// pauses after attempts that had no answer: their number is bounded because each may have been counted against the account.
const (
	firstPause = 10 * time.Second
	maxPause   = 10 * time.Minute
)

// Closed returns the error of a closed pair, else nil.
func (p *Pair) Closed() *Error {
	if p.fast.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Shut {
		return nil
	}
	return p.closedError()
}

func (p *Pair) closedError() *Error {
	if p.id.Client {
		return &Error{Kind: Closed, Text: fmt.Sprintf("%s is closed since %s: %s; the same password is not tried again; it goes on with another password, which has to be the same at both ends, or after \"viaduct upstream reset %s\"",
			p.id.Credential, p.since.Format(time.RFC3339), p.why, p.id.Upstream)}
	}
	return &Error{Kind: Closed, Text: fmt.Sprintf("credential %q is closed since %s: %s; it is used again when its secret changes, or after \"viaduct upstream reset %s\"",
		p.id.Credential, p.since.Format(time.RFC3339), p.why, p.id.Upstream)}
}

// Acquire asks to show the credential. When it is not proven the caller alone may, and must settle the attempt; others wait, until ctx
// ends. It is on the disk then.
func (p *Pair) Acquire(ctx context.Context) (*Attempt, error) {
	if p.fast.Load() {
		return &Attempt{p: p}, nil
	}
	if p.broken != nil {
		return nil, p.notStored(p.broken)
	}
	for {
		p.mu.Lock()
		wait, pause := p.settled, time.Until(p.next)
		switch {
		case p.state == Proven:
			p.mu.Unlock()
			return &Attempt{p: p}, nil
		case p.state == Shut:
			err := p.closedError()
			p.mu.Unlock()
			return nil, err
		case p.state == Unproven && pause <= 0:
			p.state, p.settled = Proving, make(chan struct{})
			p.mu.Unlock()
			return p.begin()
		}
		p.mu.Unlock()
		if err := sleep(ctx, wait, pause); err != nil {
			text := "another connection is still finding out whether it is accepted"
			if wait == nil {
				text = "the last attempts had no answer, and the next one is made in " + pause.Round(time.Second).String()
			}
			return nil, &Error{Kind: Waiting, Text: fmt.Sprintf("credential %q was not accepted yet, and %s", p.id.Credential, text), Err: err}
		}
	}
}

// sleep waits for another's attempt, or for a pause.
func sleep(ctx context.Context, settled chan struct{}, pause time.Duration) error {
	var timer <-chan time.Time
	if settled == nil {
		if at, ok := ctx.Deadline(); ok && time.Until(at) < pause {
			return context.DeadlineExceeded
		}
		t := time.NewTimer(pause)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-settled:
	case <-timer:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// begin writes the attempt down.
func (p *Pair) begin() (*Attempt, error) {
	err := p.g.store.save(p.key, &entry{State: entryAttempt, Time: time.Now(), Credential: p.id.Credential, Upstream: p.id.Upstream, Client: p.id.Client})
	if err != nil {
		p.g.store.remove(p.key) // half of it may be there
		p.mu.Lock()
		p.settle(Unproven)
		p.mu.Unlock()
		return nil, p.notStored(err)
	}
	return &Attempt{p: p, proving: true}, nil
}

func (p *Pair) notStored(err error) *Error {
	return &Error{Kind: NotStored, Err: err, Text: fmt.Sprintf("credential %q was not accepted yet and is not shown, because that cannot be written down first: %v; "+
		"give the gateway a directory that it can write (gateway { state })", p.id.Credential, err)}
}

// settle ends Proving; p.mu is held.
func (p *Pair) settle(s State) {
	if p.settled != nil {
		close(p.settled)
		p.settled = nil
	}
	p.state, p.since = s, time.Now()
	p.fast.Store(s == Proven)
}

// Reset opens a closed pair, and forgets what is kept of it.
func (p *Pair) Reset() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Proving {
		return nil // it is being found out this moment
	}
	if err := p.g.store.remove(p.key); err != nil {
		return err
	}
	was := p.state
	p.silent, p.next, p.why = 0, time.Time{}, ""
	p.settle(Unproven)
	if was == Shut {
		p.g.tell(p.notice("it was opened again by an operator"))
	}
	return nil
}

// Attempt is one showing of a credential. Exactly one of its outcomes counts, the first; all may be called on nil.
type Attempt struct {
	p       *Pair
	proving bool
	over    bool
}

// Proving reports whether the attempt finds out whether the credential is any good: what it says must be waited for.
func (a *Attempt) Proving() bool { return a != nil && a.proving && !a.over }

// Accepted says that the credential was accepted.
func (a *Attempt) Accepted() {
	if !a.end() {
		return
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Proving {
		return
	}
	err := p.g.store.remove(p.key)
	p.silent, p.next = 0, time.Time{}
	p.settle(Proven)
	text := "it was accepted"
	if err != nil {
		text += ", but what was written down of the attempt cannot be removed, and will count against it at the next start: " + err.Error()
	}
	p.g.tell(p.notice(text))
}

// Rejected says that the credential was rejected: the pair is closed.
func (a *Attempt) Rejected(why string) {
	if a == nil || a.over {
		return
	}
	a.over = true
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Shut {
		return
	}
	now := time.Now()
	err := p.g.store.save(p.key, &entry{State: entryClosed, Time: now, Why: why, Credential: p.id.Credential, Upstream: p.id.Upstream, Client: p.id.Client})
	if p.id.Client {
		p.g.store.prune(maxClientFiles)
	}
	p.settle(Shut)
	p.shut(now, why)
	text := "it was rejected and is closed until its secret changes, or \"viaduct upstream reset " + p.id.Upstream + "\": " + why
	if err != nil {
		text += "; this cannot be written down: " + err.Error()
	}
	p.g.tell(p.notice(text))
}

// Silent says that it was shown and no answer came. The next attempt is made after a pause, which doubles.
func (a *Attempt) Silent() {
	if !a.end() {
		return
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Proving {
		return
	}
	p.g.store.remove(p.key) // what stays counts at the next start, which is right
	pause := min(firstPause<<min(p.silent, 16), maxPause)
	p.silent++
	p.next = time.Now().Add(pause)
	p.settle(Unproven)
	p.g.tell(p.notice("no answer came to it; the next attempt is made in " + pause.String()))
}

// Unused says that the credential was not judged: it was not sent, or what came says nothing about it.
func (a *Attempt) Unused() {
	if !a.end() {
		return
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Proving {
		p.g.store.remove(p.key)
		p.settle(Unproven)
	}
}

// end reports whether the attempt was a proving one that is not over.
func (a *Attempt) end() bool {
	if a == nil || a.over {
		return false
	}
	a.over = true
	return a.proving
}
