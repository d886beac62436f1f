package source

import (
	"context"
	"math/rand/v2"
	"time"
)

// Loop looks again and again. Make one with NewLoop, and let a goroutine Run it.
type Loop struct {
	every time.Duration
	ask   chan request
}

type request struct {
	kind any
	done chan error // nil = nobody waits
}

// NewLoop makes a loop that looks after every span of time, give or take a tenth, and sooner after a failure: a second after the first one, twice
// as long after each more, up to a minute.
func NewLoop(every time.Duration) *Loop { return &Loop{every, make(chan request, 1)} }

// Run looks until ctx is done. kind is nil but for looks that Now asked for.
func (l *Loop) Run(ctx context.Context, look func(ctx context.Context, kind any) error) {
	soon := time.Second
	var r request
	for {
		err := look(ctx, r.kind)
		if r.done != nil {
			r.done <- err
		}
		r = request{}
		if ctx.Err() != nil {
			return
		}
		wait := l.every
		if err != nil {
			wait = min(soon, l.every)
			soon = min(2*soon, time.Minute)
		} else {
			soon = time.Second
		}
		wait += time.Duration((rand.Float64() - 0.5) / 5 * float64(wait))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case r = <-l.ask:
			t.Stop()
			soon = time.Second
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Soon makes the next look come at once.
func (l *Loop) Soon() {
	select {
	case l.ask <- request{}:
	default: // one is under way already
	}
}

// Now looks at once and returns what came of it. kind is handed to look.
func (l *Loop) Now(ctx context.Context, kind any) error {
	r := request{kind, make(chan error, 1)}
	select {
	case l.ask <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
