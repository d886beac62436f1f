package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// Options of a Journal. Dir is needed.
type Options struct {
	// Dir is where the files are. It is made (mode 0700) when only its last part is not there.
	Dir string
	// Keep is how long records are kept, by whole days; 0 = 7 days, less than 0 = for ever.
	Keep time.Duration
	// KeepSize is how much all files together may take, in octets, about; 0 = 2 GiB, less than 0 = as much as there is.
	KeepSize int64
	// Queue is how many records may wait while the disk is busy; 0 = 8192. What does not fit is dropped and counted.
	Queue int
	// OnError is told when records begin not to be kept, once, and with nil when they are again. It is called on the writer's goroutine, or by Open where
	// another process has the journal; nil = nobody is told.
	OnError func(err error)
	// OnNotice is told, on the writer's goroutine, what an operator should know and need not do anything about: a damaged file was set aside, records
	// were deleted before their time for want of room. nil = nobody is told.
	OnNotice func(text string)

	now  func() time.Time // nil = time.Now
	look time.Duration    // 0 = lookEvery
}

// Defaults.
const (
	DefaultKeep     = 7 * 24 * time.Hour
	DefaultKeepSize = 2 << 30
	defaultQueue    = 8192
)

// Bounds of the writer.
const (
	blockRecords = 250
	flushEvery   = 250 * time.Millisecond // longest a record waits for others to come
	lingerTime   = 25 * time.Millisecond  // pause between two looks at the queue, so that busy times cost few wake-ups
	lookEvery    = time.Minute            // at what is to be deleted, and whether the file can still be read
	firstRetry   = 100 * time.Millisecond // after a failed write; doubles
	longestRetry = 5 * time.Second
	lockRetry    = 200 * time.Millisecond
	minPart      = 1 << 20 // octets
)

// Journal is the one writer of a journal, and a connmodel.Sink. Recording never waits: records go through a bounded queue to one goroutine, which writes
// them in blocks. When writing fails it is tried again, with the file opened anew, and goes on by itself.
type Journal struct {
	*connmodel.Queue
	opt Options

	aside, deleted atomic.Uint64

	mu     sync.Mutex // guards the rest of the status
	lock   *lock      // nil while another process has it
	state  State
	bytes  int64
	files  int
	oldest time.Time

	barrier chan chan<- error // of Append

	w     writer // of the goroutine alone
	drops drops  // likewise
}

// State is what a Journal is doing.
type State string

// The states.
const (
	StateWriting State = "writing"
	StateWaiting State = "waiting" // for the process before us to let go of the journal; records wait in the queue
	StateFailing State = "failing" // records cannot be written at present
	StateClosed  State = "closed"
)

// Status is how a journal does.
type Status struct {
	Dir      string
	State    State
	Error    error     // why records cannot be written at present; nil = they can
	Written  uint64    // records since it was opened
	Dropped  uint64    // records that were lost: the queue was full, or the end came before they could be written
	Failures uint64    // writes that failed, and were tried again
	Queued   int       // records that wait
	Bytes    int64     // on disk, as of the last look
	Files    int       // likewise
	Oldest   time.Time // the first day that there are records of; zero = there are none
	SetAside uint64    // damaged files, since it was opened
	Deleted  uint64    // files deleted by age or size, since it was opened
}

// Open takes the journal for writing and starts its goroutine; Close ends both. A LockedError says that another process writes to it; where that one is
// about to end (it drains), the journal is opened all the same, and records wait until it lets go.
func Open(o Options) (*Journal, error) {
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	if o.KeepSize == 0 {
		o.KeepSize = DefaultKeepSize
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.look <= 0 {
		o.look = lookEvery
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	j := &Journal{Queue: connmodel.NewQueue(o.Queue, o.OnError), opt: o, barrier: make(chan chan<- error), state: StateWriting}
	j.w.j = j
	var err error
	var locked *LockedError
	if j.lock, err = takeLock(o.Dir); err != nil {
		if !errors.As(err, &locked) || !locked.Draining {
			return nil, err
		}
		j.state = StateWaiting
		j.Trouble(err)
	} else if err := j.w.open(); err != nil {
		j.lock.release()
		return nil, err
	}
	go j.run()
	return j, nil
}

// makeDir makes the directory, but not those above it: one that is missing there is more often a slip of the pen than a wish.
func makeDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("journal: %q is not an absolute path", dir)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("journal: there is no directory %s; create it, or write the path of one that is there", filepath.Dir(dir))
		}
		return fmt.Errorf("journal: %w", err)
	}
	if st, err := os.Stat(dir); err != nil {
		return fmt.Errorf("journal: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("journal: %s is no directory", dir)
	}
	return nil
}

// Draining says in the lock that this process is about to end, so that its successor waits for the journal and does not refuse to start.
func (j *Journal) Draining() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lock != nil {
		j.lock.say("draining")
	}
}

// Dir is where the journal is.
func (j *Journal) Dir() string { return j.opt.Dir }

// Keep changes how long and how much is kept; see Options.
func (j *Journal) Keep(age time.Duration, size int64) {
	if age == 0 {
		age = DefaultKeep
	}
	if size == 0 {
		size = DefaultKeepSize
	}
	j.mu.Lock()
	j.opt.Keep, j.opt.KeepSize = age, size
	j.mu.Unlock()
}

func (j *Journal) keep() (age time.Duration, size int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.opt.Keep, j.opt.KeepSize
}

// Status returns how the journal does.
func (j *Journal) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Status{Dir: j.opt.Dir, State: j.state, Error: j.Err(), Written: j.Written(), Dropped: j.Dropped(), Failures: j.Failures(), Queued: j.Queued(),
		Bytes: j.bytes, Files: j.files, Oldest: j.oldest, SetAside: j.aside.Load(), Deleted: j.deleted.Load()}
}

// enter says what the journal does from now on.
func (j *Journal) enter(state State) {
	j.mu.Lock()
	j.state = state
	j.mu.Unlock()
}

func (j *Journal) notice(format string, args ...any) {
	if j.opt.OnNotice != nil {
		j.opt.OnNotice(fmt.Sprintf(format, args...))
	}
}

// run is the goroutine of the writer.
func (j *Journal) run() {
	defer j.end()
	if !j.waitForLock() {
		return
	}
	look := time.NewTicker(j.opt.look)
	defer look.Stop()
	j.w.tidy()
	for {
		select {
		case f := <-j.Flows():
			j.w.take(f)
			if !j.collect() {
				j.drain()
				return
			}
		case b := <-j.barrier:
			if !j.serve(b) {
				j.drain()
				return
			}
		case <-look.C:
			j.w.verify()
			j.w.tidy()
		case <-j.drops.again():
			j.tellDrops()
		case <-j.Stop():
			j.drain()
			return
		}
	}
}

// waitForLock waits for the process before us to end, and returns false when we end first.
func (j *Journal) waitForLock() bool {
	for {
		j.mu.Lock()
		have := j.lock != nil
		j.mu.Unlock()
		if have {
			break
		}
		l, err := takeLock(j.opt.Dir)
		if err == nil {
			j.mu.Lock()
			j.lock, j.state = l, StateWriting
			j.mu.Unlock()
			j.Worked()
			break
		}
		j.Trouble(err)
		j.tellDrops()
		if !j.pause(lockRetry) {
			return false
		}
	}
	return true
}

// collect takes what comes for a while, at most a block, and writes it. It returns false when the journal is being closed.
func (j *Journal) collect() bool {
	began := time.Now()
	for len(j.w.flows) < blockRecords {
		select {
		case f := <-j.Flows():
			j.w.take(f)
			continue
		default:
		}
		if time.Since(began) >= flushEvery {
			break
		}
		t := time.NewTimer(lingerTime)
		select {
		case <-t.C:
		case b := <-j.barrier:
			t.Stop()
			return j.serve(b)
		case <-j.Stop():
			t.Stop()
			return false
		}
	}
	return j.w.flush(j.Stop())
}

// serve writes what is queued for one who waits for it, and tells how that went. It returns false when the journal is being closed.
func (j *Journal) serve(b chan<- error) bool {
	err := j.empty()
	b <- err
	return err == nil || j.w.flush(j.Stop())
}

// empty writes what is queued, as long as it works, and returns why not.
func (j *Journal) empty() error {
	for {
		if len(j.w.flows) >= blockRecords {
			if err := j.w.once(); err != nil {
				return err
			}
		}
		select {
		case f := <-j.Flows():
			j.w.take(f)
		default:
			return j.w.once()
		}
	}
}

// drain writes what is left at the end. A write that fails now is not tried again.
func (j *Journal) drain() {
	gone := make(chan struct{})
	close(gone)
	for {
		select {
		case f := <-j.Flows():
			if j.w.take(f); len(j.w.flows) >= blockRecords && !j.w.flush(gone) {
				return
			}
		default:
			j.w.flush(gone)
			return
		}
	}
}

// end counts what was not written, and lets everything go.
func (j *Journal) end() {
	j.Lost(len(j.w.flows))
	j.w.close()
	j.mu.Lock()
	if j.lock != nil {
		j.lock.release()
		j.lock = nil
	}
	j.state = StateClosed
	j.mu.Unlock()
	j.End()
}

// pause waits, and returns false when the journal is being closed.
func (j *Journal) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-j.Stop():
		return false
	}
}
