package pac

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Engine runs one script. It belongs to one goroutine at a time. What a script keeps in its global variables lives as long as the engine.
type Engine interface {
	// Find asks the script. err is a *ScriptError, or that of ctx.
	Find(ctx context.Context, q Query) (Found, error)
	// Spoiled reports whether a limit was hit or the engine itself failed, so that it must not be used again.
	Spoiled() bool
	Close()
}

// Found is what a script said, as it is, and what it did on the way.
type Found struct {
	Text    string
	Alerts  []string
	Dropped int // alerts that were too many
	Lookups int // names that were looked up
	Unasked int // names that were not, because the bound was met
	Failed  int // names looked up that no server said anything of, not even that there is no such name
	// Unsteady says that the script looked at the clock itself or drew lots, so that the answer is good for this once.
	Unsteady bool
	DNS, Run time.Duration

	dated []dated // what it asked of the day and the time
}

// Reason says what was wrong with a script, in a word for metrics.
type Reason string

// The reasons.
const (
	ReasonCompile Reason = "compile" // it cannot be read, or fails before it is asked anything
	ReasonThrow   Reason = "throw"   // it threw
	ReasonTime    Reason = "time"    // it ran too long
	ReasonMemory  Reason = "memory"  // it took too much memory, or went too deep
	ReasonAnswer  Reason = "answer"  // what it gave back are no entries
	ReasonEngine  Reason = "engine"  // the engine failed, which is not the script's fault
)

// ScriptError says that a script gave no entries.
type ScriptError struct {
	Reason Reason
	Text   string
}

// Error implements error.
func (e *ScriptError) Error() string { return "PAC script: " + e.Text }

// Resolver looks names up; resolve.Resolver of upstream is one.
type Resolver interface {
	Lookup(ctx context.Context, host string) ([]netip.Addr, error)
}

// Options are the bounds of a script and what it sees of the world. The zero value has the default bounds and no names.
type Options struct {
	Engines  int           // that run at the same time; 0 = the number of CPUs that Go uses, at most 8; more of them, see waiting, may wait for names
	Time     time.Duration // of one call, look-ups aside; 0 = 1 s
	Memory   int           // bytes of an engine; 0 = 64 MiB
	Depth    int           // of calls within each other; 0 = 2000
	Resolver Resolver      // nil: every name is unknown
	Lookups  int           // names in one call; 0 = 20
	Lookup   time.Duration // for one name; 0 = 2 s
	DNS      time.Duration // for all names of one call; 0 = 5 s
	Location *time.Location
	Now      func() time.Time           // nil = time.Now
	Mine     func() (v4, v6 netip.Addr) // own addresses; nil = the source of the default route
	Alert    func(text string)          // is told what the script says by alert; must not block; nil = nobody is
	CacheFor time.Duration              // how long an answer is used again for the same query; 0 = 1 min, negative = not at all
	Cached   int                        // answers; 0 = 4096

	running chan struct{} // a place for each engine that runs; nil = they are not counted
}

const (
	maxEngines   = 8
	maxAlerts    = 50
	maxAlertText = 300
	waiting      = 4 // times as many engines as may run are there at most, the others waiting for names
)

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	defInt := func(n *int, to int) {
		if *n <= 0 {
			*n = to
		}
	}
	defInt(&o.Engines, usualEngines())
	defInt(&o.Memory, 64<<20)
	defInt(&o.Depth, 2000)
	defInt(&o.Lookups, 20)
	defInt(&o.Cached, 4096)
	def(&o.Time, time.Second)
	def(&o.Lookup, 2*time.Second)
	def(&o.DNS, 5*time.Second)
	def(&o.CacheFor, time.Minute)
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mine == nil {
		o.Mine = DefaultSource
	}
	return o
}

func scriptErrorf(r Reason, format string, args ...any) *ScriptError {
	return &ScriptError{r, fmt.Sprintf(format, args...)}
}
