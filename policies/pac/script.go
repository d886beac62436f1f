package pac

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// Script is a script that can be asked from any goroutine: a pool of engines that are made when they are needed, and a cache of answers.
// It never changes; another text is another Script.
type Script struct {
	text  string
	o     Options
	slots chan struct{} // one for each engine that runs
	all   chan struct{} // one for each engine that is in use
	cache *cache

	mu     sync.Mutex
	idle   []Engine
	turn   uint64 // engines from before are not used again
	closed bool
	stats  Stats
}

// Stats counts what a script did.
type Stats struct {
	Calls, Hits, Failures uint64 // calls of the script; answers from the cache; calls that failed
	Engines               int    // that are there
	Rebuilt               uint64 // engines thrown away
}

// Answer is what a script said of a query.
type Answer struct {
	Entries  []Entry
	Problems []string // parts of the answer that are no entries
	Cached   bool
	Found
}

// errClosed is given to those who ask a closed script.
var errClosed = errors.New("the PAC script is closed")

// keepFailure is how long a query that failed is answered with the same error, so that a script which runs into its limit is not run for
// each connection.
const keepFailure = 5 * time.Second

func usualEngines() int { return min(runtime.GOMAXPROCS(0), maxEngines) }

// New evaluates a script in a first engine. The error is a *ScriptError, or that of ctx.
func New(ctx context.Context, text string, o Options) (*Script, error) {
	s := &Script{text: text, o: o.withDefaults()}
	s.slots = make(chan struct{}, s.o.Engines)
	s.all = make(chan struct{}, waiting*s.o.Engines)
	s.cache = newCache(s.o.Cached)
	e, _, err := newQuickJS(ctx, text, &s.o)
	if err != nil {
		return nil, err
	}
	s.o.running = s.slots // the first engine was made without a place
	s.idle = append(s.idle, e)
	s.stats.Engines = 1
	return s, nil
}

// Find asks the script, or the cache. A failure is a *ScriptError or the error of ctx; there never are entries beside it.
func (s *Script) Find(ctx context.Context, q Query) (Answer, error) {
	if a, err, ok := s.kept(q); ok {
		return a, err
	}
	waited, err := s.enter(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer s.leave()
	if waited { // others may have asked the same meanwhile
		if a, err, ok := s.kept(q); ok {
			return a, err
		}
	}
	turn := s.cache.now()
	a, err := s.ask(ctx, q)
	if s.o.CacheFor <= 0 || ctx.Err() != nil || errors.Is(err, errClosed) {
		return a, err
	}
	keep := s.o.CacheFor
	switch {
	case err != nil, a.Failed > 0, a.Unasked > 0: // name servers that were away may be back
		keep = min(keep, keepFailure)
	case a.Unsteady:
		return a, nil
	}
	s.cache.put(q, known{answer: a, err: err, until: time.Now().Add(keep)}, turn)
	return a, err
}

// kept returns the answer from the cache, which does not hold any longer when the day or the time says otherwise now.
func (s *Script) kept(q Query) (Answer, error, bool) {
	if s.o.CacheFor <= 0 {
		return Answer{}, nil, false
	}
	k, ok := s.cache.get(q, time.Now())
	if !ok || len(k.answer.dated) > 0 && !holds(k.answer.dated, s.o.Now().In(s.o.Location)) {
		return Answer{}, nil, false
	}
	s.count(func(st *Stats) { st.Hits++ })
	k.answer.Cached = true
	return k.answer, k.err, true
}

// enter waits for a place among the engines, and reports whether it had to.
func (s *Script) enter(ctx context.Context) (waited bool, err error) {
	for _, c := range []chan struct{}{s.all, s.slots} {
		select {
		case c <- struct{}{}:
			continue
		default:
			waited = true
		}
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			if c == s.slots {
				<-s.all
			}
			return true, ctx.Err()
		}
	}
	return waited, nil
}

func (s *Script) leave() {
	<-s.slots
	<-s.all
}

func (s *Script) ask(ctx context.Context, q Query) (a Answer, err error) {
	for again := false; ; again = true {
		e, fresh, turn, err := s.engine(ctx)
		if err != nil {
			return a, err
		}
		found, err := e.Find(ctx, q)
		spoiled := e.Spoiled()
		s.put(e, turn, err)
		a = Answer{Found: found}
		var se *ScriptError
		if err != nil && spoiled && !fresh && !again && errors.As(err, &se) && se.Reason != ReasonTime {
			continue // what earlier calls left in the engine may be to blame
		}
		if err != nil {
			return a, err
		}
		a.Entries, a.Problems, err = ParseResult(found.Text)
		if err != nil {
			s.count(func(st *Stats) { st.Failures++ })
		}
		return a, err
	}
}

func (s *Script) count(f func(*Stats)) {
	s.mu.Lock()
	f(&s.stats)
	s.mu.Unlock()
}

// engine takes one out of the pool, or makes one. There is a slot for it.
func (s *Script) engine(ctx context.Context) (e Engine, fresh bool, turn uint64, err error) {
	s.mu.Lock()
	turn = s.turn
	if s.closed {
		s.mu.Unlock()
		return nil, false, turn, errClosed
	}
	if n := len(s.idle); n > 0 {
		e, s.idle = s.idle[n-1], s.idle[:n-1]
	}
	s.mu.Unlock()
	if e != nil {
		return e, false, turn, nil
	}
	made, _, err := newQuickJS(ctx, s.text, &s.o)
	if err != nil {
		s.count(func(st *Stats) { st.Failures++ })
		return nil, true, turn, err
	}
	s.count(func(st *Stats) { st.Engines++ })
	return made, true, turn, nil
}

// put gives an engine back, or throws it away.
func (s *Script) put(e Engine, turn uint64, err error) {
	s.mu.Lock()
	s.stats.Calls++
	if err != nil {
		s.stats.Failures++
	}
	bad := e.Spoiled() || s.closed || len(s.idle) >= s.o.Engines || turn != s.turn
	if bad {
		s.stats.Engines--
		if e.Spoiled() {
			s.stats.Rebuilt++
		}
	} else {
		s.idle = append(s.idle, e)
	}
	s.mu.Unlock()
	if bad {
		e.Close()
	}
}

// Stats returns the counters.
func (s *Script) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Text returns the script.
func (s *Script) Text() string { return s.text }

// Renew forgets the answers, and begins anew with the script: what it has found out when it was read, such as the address of this machine,
// may be another.
func (s *Script) Renew() {
	s.mu.Lock()
	s.turn++
	all := s.idle
	s.idle = nil
	s.stats.Engines -= len(all)
	s.mu.Unlock()
	s.cache.forget()
	for _, e := range all {
		e.Close()
	}
}

// Close ends the engines; those in use when their calls end.
func (s *Script) Close() {
	s.mu.Lock()
	s.closed = true
	all := s.idle
	s.idle = nil
	s.stats.Engines -= len(all)
	s.mu.Unlock()
	for _, e := range all {
		e.Close()
	}
}
