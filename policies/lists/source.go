package lists

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/policies/source"
)

// SourceOptions say where a list comes from.
type SourceOptions struct {
	Name      string
	URL       string // http or https
	List      Options
	Refresh   time.Duration // between two looks at the server, give or take a tenth; 0 = 6 h
	MaxShrink int           // by how many percent a new copy may be smaller than the one in use; 0 = 50, 100 = by any
	Keep      string        // file of the last good copy; "" = none is kept
	Fetch     source.Options
	Log       func(problem bool, text string) // what happened to the list; must not block; nil = nobody is told
}

// Defaults, and what a list may always lose: small ones change by large parts.
const (
	UsualRefresh   = 6 * time.Hour
	UsualTimeout   = 2 * time.Minute
	UsualMaxShrink = 50
	smallList      = 100
)

// States of a source.
const (
	StateLoading = "loading" // there is no copy yet
	StateFresh   = "fresh"   // the last look at the server went well
	StateStale   = "stale"   // a copy from before is used: the last look failed
)

// Source holds the list of now, and looks for another in the background. It may be asked from any goroutine.
type Source struct {
	o       SourceOptions
	fetcher *source.Fetcher
	now     atomic.Pointer[Set]
	loop    *source.Loop
	tell    *source.Teller
	stop    context.CancelFunc
	over    chan struct{}
	first   chan struct{} // closed when the first look is over

	mu      sync.Mutex
	got     meta      // of the copy in use
	since   time.Time // when it was last known to be that of the server
	failed  error     // of the last look; nil = it went well, or there was none
	looks   uint64
	loads   uint64 // copies that were taken
	fails   uint64 // looks that failed
	read    int64  // bytes of the look that is under way
	looking bool
	took    time.Duration // to read the copy in use and make its index
	broken  string        // what was wrong with the copy on disk
}

// Status is a source at a moment.
type Status struct {
	Name, URL, State string
	Since            time.Time // when the copy in use was last known to be the server's; zero = there is none
	Changed          time.Time // when the server changed it, as far as it was seen here
	Error            string    // of the last look at the server
	Looking          bool      // a look is under way
	Read             int64     // bytes of it
	Looks            uint64
	Loads, Fails     uint64
	Took             time.Duration
	Version          uint64
	Report
}

// one lets one list at a time be read, so that the memory for it is needed once.
var one sync.Mutex

// Open begins to use a source. When it returns, the copy that was kept is in use, if there is one; the server is asked in the background.
func Open(o SourceOptions) *Source {
	if o.Refresh <= 0 {
		o.Refresh = UsualRefresh
	}
	if o.MaxShrink == 0 {
		o.MaxShrink = UsualMaxShrink
	}
	if o.List.MaxSize <= 0 {
		o.List.MaxSize = DefaultSize
	}
	if o.Fetch.Timeout <= 0 {
		o.Fetch.Timeout = UsualTimeout
	}
	o.Fetch.Raw = true
	o.Fetch.Accept = "text/plain, */*;q=0.5"
	s := &Source{o: o, tell: source.NewTeller(o.Log), fetcher: source.NewFetcher(o.Fetch), loop: source.NewLoop(o.Refresh), over: make(chan struct{}), first: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.restore()
	go func() {
		defer close(s.over)
		begun := sync.OnceFunc(func() { close(s.first) })
		defer begun()
		s.loop.Run(ctx, func(ctx context.Context, kind any) error {
			defer begun()
			return s.look(ctx, kind == any(forced))
		})
	}()
	return s
}

// Close ends the background. The copy in use stays for those who hold a Ref.
func (s *Source) Close() {
	s.stop()
	<-s.over
}

// forced is a look that takes a copy however much it has shrunk, and whatever the server says of changes.
const forced = "forced"

// Refresh looks at the server now and returns what came of it. With force the copy is taken again, however much smaller it is.
func (s *Source) Refresh(ctx context.Context, force bool) error {
	if force {
		return s.loop.Now(ctx, forced)
	}
	return s.loop.Now(ctx, nil)
}

// NetworkChanged says that this machine is in another network: a server that could not be reached is looked at at once.
func (s *Source) NetworkChanged() {
	s.mu.Lock()
	waits := s.failed != nil
	s.mu.Unlock()
	if waits {
		s.loop.Soon()
	}
}

// Wait returns when there is a copy in use, when the first look at the server is over, or when ctx is done.
// over is false in the last case.
func (s *Source) Wait(ctx context.Context) (over bool) {
	if s.now.Load() != nil {
		return true
	}
	select {
	case <-s.first:
		return true
	case <-ctx.Done():
		return false
	}
}

// Now returns the set in use; nil = there is none.
func (s *Source) Now() *Set { return s.now.Load() }

// why says why there is no copy.
func (s *Source) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed.Error()
	}
	return "it is being got"
}

// Status returns how things are.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Name: s.o.Name, URL: s.o.URL, State: StateFresh, Since: s.since, Looks: s.looks, Loads: s.loads, Fails: s.fails, Looking: s.looking, Took: s.took}
	if s.looking {
		st.Read = atomic.LoadInt64(&s.read)
	}
	switch now := s.now.Load(); {
	case now == nil:
		st.State = StateLoading
	default:
		st.Report, st.Version, st.Changed = now.Report, now.Version, s.got.Time
		if s.failed != nil || s.loads > 0 && s.looks == 0 {
			st.State = StateStale
		}
	}
	switch {
	case s.failed != nil:
		st.Error = s.failed.Error()
	case s.broken != "" && s.loads == 0:
		st.Error = s.broken
	}
	return st
}

// look asks the server once. What it sends is used only when it is a list that can be believed; else the one of now stays.
func (s *Source) look(ctx context.Context, force bool) error {
	s.mu.Lock()
	s.looking = true
	atomic.StoreInt64(&s.read, 0)
	var have source.Validators
	if s.now.Load() != nil && !force {
		have = s.got.Validators
	}
	s.mu.Unlock()
	err := s.ask(ctx, have, force)
	s.mu.Lock()
	if err == nil && s.failed != nil {
		s.tell.Over()
	}
	s.looking, s.failed = false, err
	s.looks++
	if err == nil {
		s.since = time.Now()
	} else if ctx.Err() == nil {
		s.fails++
	}
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		with := "nothing is known to be in the list"
		if now := s.now.Load(); now != nil {
			with = fmt.Sprintf("the last good copy stays in use, with %d entries", now.Report.Entries)
		}
		s.tell.Say(true, "list %s: nothing to use from %s: %v; %s", s.o.Name, s.o.URL, err, with)
	}
	return err
}

func (s *Source) ask(ctx context.Context, have source.Validators, force bool) error {
	got, err := s.fetcher.Fetch(ctx, s.o.URL, have)
	if err != nil {
		return timely(err, s.o.Fetch.Timeout)
	}
	if got.Same {
		s.confirmed()
		return nil
	}
	defer got.Body.Close()
	switch strings.ToLower(got.Encoding) { // RFC 9110, section 8.4.1
	case "", "identity", "gzip", "x-gzip":
	default:
		return fmt.Errorf("the server sent it in the encoding %q, which was not asked for", got.Encoding)
	}
	most := s.o.List.MaxSize
	if got.Length > most {
		return &SizeError{most}
	}
	f, path, err := s.temp()
	if err != nil {
		return fmt.Errorf("there is no place to put it: %w", err)
	}
	defer func() {
		f.Close()
		if path != "" {
			os.Remove(path)
		}
	}()
	m := meta{Validators: got.Validators, URL: s.o.URL, ContentType: got.ContentType, Time: time.Now().UTC()}
	if err := m.fill(f, &counted{r: &bounded{r: got.Body, left: &most, most: s.o.List.MaxSize}, n: &s.read}); err != nil {
		var se *SizeError
		if errors.As(err, &se) {
			return err
		}
		var be *bodyError
		if errors.As(err, &be) {
			return timely(fmt.Errorf("it broke off after %d bytes: %w", m.Length, be.err), s.o.Fetch.Timeout)
		}
		return fmt.Errorf("it cannot be written down: %w", err)
	}
	if s.now.Load() != nil && m.SHA256 == s.got.SHA256 && !force { // a new name for what is there
		s.mu.Lock()
		s.got.Validators = m.Validators
		s.mu.Unlock()
		s.confirmed()
		return nil
	}
	set, took, err := s.parse(f, &m)
	if err != nil {
		if got.From != "" {
			err = fmt.Errorf("%w, after a redirect to %s", err, got.From)
		}
		return err
	}
	if err := s.shrunk(set); err != nil && !force {
		return err
	}
	s.take(set, m, took)
	s.tell.Say(false, "list %s: a new copy is in use, with %s", s.o.Name, set.Report)
	if path == "" {
		return nil
	}
	if err := m.finish(f); err == nil {
		err = source.Rename(path, s.o.Keep)
		path = ""
		if err == nil {
			return nil
		}
		s.tell.Say(true, "list %s: the copy for the next start cannot be kept: %v", s.o.Name, err)
	} else {
		s.tell.Say(true, "list %s: the copy for the next start cannot be kept: %v", s.o.Name, err)
	}
	return nil
}

// String puts the counts into words.
func (r Report) String() string {
	s := fmt.Sprintf("%d entries", r.Entries)
	if r.Unsupported > 0 {
		s += fmt.Sprintf(", %d rules left out that are about more than hosts", r.Unsupported)
	}
	if r.Wrong > 0 {
		s += fmt.Sprintf(", %d lines left out that are no entries (%s)", r.Wrong, r.FirstWrong)
	}
	return s
}

// timely says in plain words that the time was over.
func timely(err error, most time.Duration) error {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return fmt.Errorf("it did not come within %s: %w", most, err)
	}
	return err
}

// shrunk holds a new copy against the one in use: half a list is more often an accident of its publisher than a wish.
func (s *Source) shrunk(set *Set) error {
	now := s.now.Load()
	if now == nil || now.Report.Entries < smallList || s.o.MaxShrink >= 100 {
		return nil
	}
	was, is := now.Report.Entries, set.Report.Entries
	if is*100 >= was*(100-s.o.MaxShrink) {
		return nil
	}
	return fmt.Errorf(`it has %d entries, and the copy in use has %d: that is more than max_shrink = %d percent less ("viaduct list refresh --force %s" takes it)`, is, was, s.o.MaxShrink, s.o.Name)
}

// parse makes a set of the copy in f.
func (s *Source) parse(f io.ReadSeeker, m *meta) (*Set, time.Duration, error) {
	one.Lock()
	defer one.Unlock()
	if _, err := f.Seek(headSize, io.SeekStart); err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	o := s.o.List
	o.gentle = s.now.Load() != nil // nobody waits for it
	set, err := Parse(io.LimitReader(f, m.Length), m.ContentType, o)
	return set, time.Since(begun), err
}

// take puts a set in the place of the one of now.
func (s *Source) take(set *Set, m meta, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set.Name, set.Version = s.o.Name, 1
	if old := s.now.Load(); old != nil {
		set.Version = old.Version + 1
	}
	s.got, s.since, s.took = m, m.Time, took
	s.loads++
	s.now.Store(set)
}

// confirmed notes that the copy is still the server's.
func (s *Source) confirmed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.o.Keep != "" {
		_ = os.Chtimes(s.o.Keep, now, now) // it only makes the age right after a restart
	}
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	atomic.AddInt64(c.n, int64(n))
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// bodyError is one of the server's side, not of the file that is written.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }
