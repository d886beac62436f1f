package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Guard keeps accounts from being locked. It knows of each pair of a credential and a realm (what keeps the accounts) whether it was
// accepted, and what was not yet is shown by one connection at a time. A rejection closes the pair, without a timer, until the secret
// changes or Reset is called, over restarts: what is kept of that is one small file for each pair, written before the credential is sent.
//
// One Guard serves all tables of a process. Processes may share a directory, such as one that drains and its successor: a lock on a file
// for each pair, which the kernel gives back when a process dies, has one of them show it at a time.
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
	Unproven State = iota // it was not accepted since the process started, or for long
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
	broken error        // the state directory cannot be used
	good   atomic.Int64 // until when it may be shown by any number; 0 = it may not
	looked atomic.Int64 // when the disk was last asked whether another process closed it

	mu      sync.Mutex
	state   State
	since   time.Time
	why     string        // for Shut, and for Unproven while nothing is shown
	settled chan struct{} // while Proving: closed when that ends
	lock    *os.File      // while Proving: keeps other processes from it
	silent  int           // attempts in a row that had no answer
	next    time.Time     // no attempt before
}

// proofAge is how long a credential counts as accepted after it last was. One that was not used for longer is proved anew, since passwords are
// changed over night, and in the morning many connections come at once.
const proofAge = time.Hour

var started = time.Now()

// ticks is a clock that is never set.
func ticks() int64 { return int64(time.Since(started)) + 1 }

// restore takes over what an earlier process left, and what another one does that lives.
func (p *Pair) restore() {
	e, ok, err := p.g.store.load(p.key)
	if ok && err == nil && e.State == entryAttempt {
		lock, held := p.g.store.lock(p.key)
		if errors.Is(held, errHeld) {
			return // it is asked for again before it is shown
		}
		unlock(lock)
		e, ok, err = p.g.store.load(p.key) // it may have ended just then
	}
	p.adopt(e, ok, err)
}

// adopt takes over what the disk says, and reports whether that closes the pair.
func (p *Pair) adopt(e entry, ok bool, err error) (closed bool) {
	switch {
	case err != nil: // something is there that cannot be read: it may be a rejection
		p.shut(time.Now(), "what is kept of it cannot be read ("+err.Error()+"), so it may have been rejected before")
	case !ok:
		p.silent, p.next = 0, time.Time{}
		return false
	case e.State == entryAttempt:
		p.shut(e.Time, "the gateway ended while it was being shown, so whether it was rejected is not known")
	case e.State == entrySilent:
		pause := pauseAfter(e.Silent)
		p.silent, p.next = e.Silent, time.Now().Add(min(max(time.Until(e.Time.Add(pause)), 0), pause)) // the clock may have been set
		p.why = p.pausing()
		return false
	default:
		p.shut(e.Time, e.Why)
	}
	p.g.tell(p.notice("it stays closed since " + p.since.Format(time.RFC3339) + ": " + p.why))
	return true
}

func (p *Pair) shut(at time.Time, why string) {
	p.good.Store(0)
	p.state, p.since, p.why = Shut, at, why
}

func (p *Pair) notice(text string) Notice {
	return Notice{Credential: p.id.Credential, Upstream: p.id.Upstream, State: p.state, Text: text}
}

// Proven reports whether the pair was accepted: then it may be shown at any time, by any number.
func (p *Pair) Proven() bool {
	good := p.good.Load()
	return good != 0 && ticks() < good
}

// Doubtful reports whether it was shown lately and no answer came.
func (p *Pair) Doubtful() bool {
	if p.good.Load() != 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent > 0
}

// Shut reports whether the pair is closed.
func (p *Pair) Shut() bool {
	if p.good.Load() != 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == Shut
}

// Status returns the state, since when it is so, and why it is closed, or not shown for a while.
func (p *Pair) Status() (s State, since time.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.since, p.why
}

// pauseAfter is how long nothing is shown after so many attempts in a row that had no answer: each of them may have been counted. Directories
// forget wrong passwords after half an hour or so, and lock an account after three of them or more: there are two in any such time.
func pauseAfter(silent int) time.Duration {
	if silent <= 1 {
		return firstPause
	}
	return nextPause
}

const (
	firstPause = 10 * time.Second
	nextPause  = 30 * time.Minute
)

// Closed returns the error of a closed pair, else nil.
func (p *Pair) Closed() *Error {
	if p.good.Load() != 0 {
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
	if p.Proven() {
		p.look()
	}
	if p.Proven() {
		return &Attempt{p: p}, nil
	}
	if p.broken != nil {
		return nil, p.notStored(p.broken)
	}
	for {
		p.mu.Lock()
		wait, pause := p.settled, time.Until(p.next)
		switch {
		case p.Proven():
			p.mu.Unlock()
			return &Attempt{p: p}, nil
		case p.state == Shut:
			err := p.closedError()
			p.mu.Unlock()
			return nil, err
		case p.state != Proving && pause <= 0:
			p.state, p.settled = Proving, make(chan struct{})
			p.good.Store(0)
			p.mu.Unlock()
			a, again, err := p.begin(ctx)
			if again {
				continue
			}
			return a, err
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

// lookEvery is how long what the disk says of a proven pair is not looked at again: one look for all connections of that time.
const lookEvery = int64(100 * time.Millisecond)

// look closes a pair that is proven here, if another process was shown since that it is not good any more, and wrote that down. An attempt that
// others make this moment, or have left unsettled, says nothing yet against what was accepted here.
func (p *Pair) look() {
	now, last := ticks(), p.looked.Load()
	if p.g.store.dir == "" || last != 0 && now-last < lookEvery || !p.looked.CompareAndSwap(last, now) {
		return
	}
	if e, ok, err := p.g.store.load(p.key); !ok || err != nil || e.State != entryClosed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Proven {
		return
	}
	if e, ok, err := p.g.store.load(p.key); ok && err == nil && e.State == entryClosed { // it may have been opened in between
		p.shut(e.Time, e.Why)
		p.g.tell(p.notice("another process was rejected with it, and it is closed here, too, until its secret changes, or \"viaduct upstream reset " + p.id.Upstream + "\": " + e.Why))
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

// begin writes the attempt down. again says that the pair is to be looked at once more: another process has left word of it.
func (p *Pair) begin(ctx context.Context) (a *Attempt, again bool, err error) {
	st := p.g.store
	lock, err := st.await(ctx, p.key)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, errHeld):
		p.settle(Unproven)
		return nil, false, &Error{Kind: Waiting, Err: context.Cause(ctx), Text: fmt.Sprintf("credential %q was not accepted yet, and another gateway with the same directory of state is still finding out whether it is", p.id.Credential)}
	case err != nil:
		p.settle(Unproven)
		return nil, false, p.notStored(err)
	}
	p.lock = lock
	e, ok, err := st.load(p.key)
	if ok || err != nil {
		if p.adopt(e, ok, err) {
			since := p.since
			p.settle(Shut)
			p.since = since
			return nil, false, p.closedError()
		}
		if time.Until(p.next) > 0 {
			p.settle(Unproven)
			return nil, true, nil
		}
	}
	if err = st.keepSalt(); err == nil {
		err = st.save(p.key, p.entry(entryAttempt))
	}
	if err != nil {
		p.forget() // half of it may be there
		p.settle(Unproven)
		return nil, false, p.notStored(err)
	}
	return &Attempt{p: p, proving: true}, false, nil
}

func (p *Pair) entry(state string) *entry {
	return &entry{State: state, Time: time.Now(), Silent: p.silent, Credential: p.id.Credential, Upstream: p.id.Upstream, Client: p.id.Client}
}

// forget puts on the disk what was there before the attempt; p.mu is held. What cannot be removed counts at the next start.
func (p *Pair) forget() error {
	if p.silent == 0 {
		return p.g.store.remove(p.key)
	}
	return p.g.store.save(p.key, &entry{State: entrySilent, Time: p.next.Add(-pauseAfter(p.silent)), Silent: p.silent, Credential: p.id.Credential, Upstream: p.id.Upstream, Client: p.id.Client})
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
	unlock(p.lock)
	p.lock = nil
	p.state, p.since = s, time.Now()
	p.good.Store(0)
	if s == Proven {
		p.good.Store(ticks() + int64(proofAge))
	}
}

// Reset opens a closed pair, and forgets what is kept of it.
func (p *Pair) Reset() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Proving {
		return nil // it is being found out this moment
	}
	if p.broken != nil {
		return p.broken
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
	late    bool // no answer came in time: it may come yet
	over    bool
}

// Proving reports whether the attempt finds out whether the credential is any good: what it says must be waited for.
func (a *Attempt) Proving() bool { return a != nil && a.proving && !a.over }

// Accepted says that the credential was accepted.
func (a *Attempt) Accepted() {
	if a == nil || a.over {
		return
	}
	a.over = true
	p := a.p
	if !a.proving {
		p.renew()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Proving && !(a.late && p.state == Unproven) {
		return
	}
	p.silent, p.next, p.why = 0, time.Time{}, ""
	err := p.forget()
	p.settle(Proven)
	text := "it was accepted"
	if err != nil {
		text += ", but what was written down of the attempt cannot be removed, and will count against it at the next start: " + err.Error()
	}
	p.g.tell(p.notice(text))
}

// renew notes that a credential which is proven was accepted again. It writes once a minute.
func (p *Pair) renew() {
	until := ticks() + int64(proofAge)
	if old := p.good.Load(); old != 0 && until-old > int64(time.Minute) {
		p.good.CompareAndSwap(old, until) // it may be closed this moment
	}
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

// Silent says that it was shown and no answer came. The next attempt is made after a pause, also by a process that comes after this one.
func (a *Attempt) Silent() {
	if !a.end() || a.late {
		return
	}
	a.p.hush()
}

func (p *Pair) hush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Proving {
		return
	}
	p.silent++
	pause := pauseAfter(p.silent)
	p.next = time.Now().Add(pause)
	err := p.forget()
	p.settle(Unproven)
	p.why = p.pausing()
	text := "no answer came to it, so it may have been counted; the next attempt is made in " + pause.String()
	if err != nil {
		text += "; this cannot be written down, and counts as a rejection at the next start: " + err.Error()
	}
	p.g.tell(p.notice(text))
}

func (p *Pair) pausing() string {
	return fmt.Sprintf("no answer came to the last %d attempts, and the next one is made at %s", p.silent, p.next.Format(time.RFC3339))
}

// Late is Silent for an answer that may come yet: the attempt that it returns can still be told of it.
func (a *Attempt) Late() *Attempt {
	if !a.end() {
		return nil
	}
	a.p.hush()
	return &Attempt{p: a.p, proving: true, late: true}
}

// Unused says that the credential was not judged: it was not sent, or what came says nothing about it.
func (a *Attempt) Unused() {
	if !a.end() || a.late {
		return
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Proving {
		p.forget()
		p.settle(Unproven)
	}
}

// Close is for the end of the process: an answer that is still waited for counts as one that did not come.
func (g *Guard) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pairs {
		p.hush()
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
