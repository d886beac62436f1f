package pac

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/policies/source"
)

// SourceOptions say where a script comes from.
type SourceOptions struct {
	Name    string
	Text    string        // the script itself; "" = it is got from URL
	URL     string        // http or https
	Refresh time.Duration // between two looks at the server, give or take a tenth; 0 = 10 min
	Keep    string        // file of the last good copy; "" = none is kept
	Script  Options
	Fetch   FetchOptions
	Log     func(problem bool, text string) // what happened to the script; must not block; nil = nobody is told
}

// States of a source.
const (
	StateLoading = "loading" // there is no script yet
	StateFresh   = "fresh"   // the last look at the server went well, or it is a file
	StateStale   = "stale"   // a copy from before is used: the last look failed
)

// Source holds the script of now, and looks for another in the background. It may be asked from any goroutine.
type Source struct {
	o       SourceOptions
	fetcher *Fetcher
	now     atomic.Pointer[Script]
	stop    context.CancelFunc
	over    chan struct{} // closed when the background has ended; nil = there is none
	loop    *source.Loop
	tell    *source.Teller
	unkept  bool // the script in use is not on the disk yet; the background's alone

	mu      sync.Mutex
	got     Fetched   // validators
	since   time.Time // when the script in use was last known to be that of the server
	changed time.Time // when it came
	failed  error     // of the last look; nil = it went well
	loads   uint64    // scripts that were taken
	fails   uint64    // looks that failed
	past    Stats     // of scripts before this one
}

// SourceStatus is a source at a moment.
type SourceStatus struct {
	Name, From, State string
	Since             time.Time // when the script in use was last known to be the server's; zero = there is none
	Changed           time.Time
	Error             string // of the last look at the server
	Loads, Fails      uint64
	Stats
}

const usualRefresh = 10 * time.Minute

// Open begins to use a source. A script that is given as a text is there when it returns, or err says why not; one from a web server
// comes in the background, a copy of before serving till then.
func Open(o SourceOptions) (*Source, error) {
	if o.Refresh <= 0 {
		o.Refresh = usualRefresh
	}
	s := &Source{o: o, loop: source.NewLoop(o.Refresh), tell: source.NewTeller(o.Log)}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	if o.URL == "" {
		script, err := New(ctx, o.Text, o.Script)
		if err != nil {
			stop()
			return nil, err
		}
		s.take(script, Fetched{Text: o.Text}, time.Now())
		return s, nil
	}
	s.fetcher = NewFetcher(o.Fetch)
	s.over = make(chan struct{})
	go s.run(ctx)
	return s, nil
}

// Close ends the background and the engines.
func (s *Source) Close() {
	s.stop()
	if s.over != nil {
		<-s.over
	}
	if script := s.now.Load(); script != nil {
		script.Close()
	}
}

// NetworkChanged says that this machine is in another network: what names resolve to, and with that the answers of the script, may be others, and the
// server is looked at anew.
func (s *Source) NetworkChanged() {
	if script := s.now.Load(); script != nil {
		script.Renew()
	}
	s.loop.Soon()
}

// Find asks the script of now.
func (s *Source) Find(ctx context.Context, q Query) (Answer, error) {
	for {
		script := s.now.Load()
		if script == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.failed != nil {
				return Answer{}, fmt.Errorf("there is no script yet: %w", s.failed)
			}
			return Answer{}, errors.New("there is no script yet: it is being got")
		}
		a, err := script.Find(ctx, q)
		if errors.Is(err, errClosed) && s.now.Load() != script { // replaced just now
			continue
		}
		return a, err
	}
}

// Status returns how things are.
func (s *Source) Status() SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStatus{Name: s.o.Name, From: s.o.URL, Since: s.since, Changed: s.changed, Loads: s.loads, Fails: s.fails, State: StateFresh, Stats: s.past}
	if script := s.now.Load(); script == nil {
		st.State = StateLoading
	} else {
		n := script.Stats()
		st.Engines = n.Engines
		st.Calls, st.Hits, st.Failures, st.Rebuilt = st.Calls+n.Calls, st.Hits+n.Hits, st.Failures+n.Failures, st.Rebuilt+n.Rebuilt
		if s.failed != nil {
			st.State = StateStale
		}
	}
	if s.failed != nil {
		st.Error = s.failed.Error()
	}
	return st
}

// take puts a script in the place of the one of now.
func (s *Source) take(script *Script, got Fetched, since time.Time) {
	old := s.now.Swap(script)
	s.mu.Lock()
	got.Text = ""
	s.got, s.since, s.changed = got, since, time.Now()
	s.loads++
	if old != nil {
		n := old.Stats()
		s.past.Calls, s.past.Hits, s.past.Failures, s.past.Rebuilt = s.past.Calls+n.Calls, s.past.Hits+n.Hits, s.past.Failures+n.Failures, s.past.Rebuilt+n.Rebuilt
	}
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// run is the background.
func (s *Source) run(ctx context.Context) {
	defer close(s.over)
	s.restore(ctx)
	s.loop.Run(ctx, func(ctx context.Context, _ any) error { return s.look(ctx) })
}

// look asks the server once. What it sends is used only when it is a script that can be asked; else the one of now stays.
func (s *Source) look(ctx context.Context) error {
	s.mu.Lock()
	prev := s.got
	s.mu.Unlock()
	var have *Fetched
	if s.now.Load() != nil {
		have = &prev
	}
	got, err := s.fetcher.Fetch(ctx, s.o.URL, have)
	if err == nil && !got.Same && (have == nil || s.now.Load().Text() != got.Text) {
		var script *Script
		if script, err = New(ctx, got.Text, s.o.Script); err == nil {
			s.take(script, *got, time.Now())
			s.tell.Say(false, "PAC script %s: a new script is in use (%d bytes)", s.o.Name, len(got.Text))
			s.unkept = s.o.Keep != ""
		}
	}
	s.mu.Lock()
	if err == nil && s.failed != nil {
		s.tell.Over()
	}
	s.mu.Unlock()
	if s.unkept && err == nil {
		if kerr := s.keep(got.Validators, s.now.Load().Text()); kerr != nil { // tried again with the next look
			s.tell.Say(true, "PAC script %s: the copy for the next start cannot be kept: %v", s.o.Name, kerr)
		} else {
			s.unkept = false
		}
	}
	s.mu.Lock()
	s.failed = err
	if err == nil {
		s.since = time.Now()
		if !got.Same {
			s.got.Validators = got.Validators
		}
	} else if ctx.Err() == nil {
		s.fails++
	}
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		with := "flows get the outcome of on_error"
		if s.now.Load() != nil {
			with = "the last good script stays in use"
		}
		s.tell.Say(true, "PAC script %s: nothing to use from %s: %v; %s", s.o.Name, s.o.URL, err, with)
	}
	return err
}

// kept is the form of the file that keeps a copy.
type kept struct {
	source.Validators
	URL  string    `json:"url"`
	Time time.Time `json:"time"`
	Sum  string    `json:"sha256"` // of Text: what a disk has changed must not be used, nor be taken for what the server has
	Text string    `json:"text"`
}

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

var errOtherURL = errors.New("it is of another URL")

// ReadKept returns the script that was kept of a URL, and when it was got.
func ReadKept(path, url string) (text string, at time.Time, err error) {
	k, err := readKept(path, url)
	return k.Text, k.Time, err
}

func readKept(path, url string) (k kept, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return k, err
	}
	if st.Size() > 8*MaxSource {
		return k, errors.New("the file is too large")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return kept{}, err
	}
	switch {
	case k.URL != url:
		return kept{}, errOtherURL
	case k.Sum == "": // from before there was one
		k.Validators = source.Validators{}
	case k.Sum != sum(k.Text):
		return kept{}, errors.New("it is damaged: its checksum is that of another text")
	}
	return k, nil
}

// restore uses the copy that was kept, until the server has been asked.
func (s *Source) restore(ctx context.Context) {
	if s.o.Keep == "" {
		return
	}
	k, err := readKept(s.o.Keep, s.o.URL)
	var script *Script
	if err == nil {
		script, err = New(ctx, k.Text, s.o.Script)
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errOtherURL) {
			s.tell.Say(true, "PAC script %s: the copy in %s cannot be used: %v", s.o.Name, s.o.Keep, err)
		}
		return
	}
	s.take(script, Fetched{Validators: k.Validators}, k.Time)
	s.tell.Say(false, "PAC script %s: the copy of %s is in use until the server answers", s.o.Name, k.Time.Format(time.RFC3339))
}

// keep writes the copy, whole or not at all.
func (s *Source) keep(v source.Validators, text string) error {
	b, err := json.Marshal(kept{v, s.o.URL, time.Now().UTC(), sum(text), text})
	if err != nil {
		return err
	}
	return source.WriteFile(s.o.Keep, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}
