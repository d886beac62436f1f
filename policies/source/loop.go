package source

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Loop looks again and again. Make one with NewLoop, and let a goroutine Run it.
type Loop struct {
	every time.Duration
	ask   chan request
	over  chan struct{} // closed when Run has returned
}

type request struct {
	kind any
	done chan error // nil = nobody waits
}

// NewLoop makes a loop that looks after every span of time, give or take a tenth, and sooner after a failure: a second after the first one, twice
// as long after each more, up to a minute.
func NewLoop(every time.Duration) *Loop {
	return &Loop{every, make(chan request, 1), make(chan struct{})}
}

// errOver says that nobody looks any more.
var errOver = errors.New("it is not looked at any more: the policy has changed, or the gateway stops")

// Run looks until ctx is done; it is called once. kind is nil but for looks that Now asked for.
func (l *Loop) Run(ctx context.Context, look func(ctx context.Context, kind any) error) {
	defer close(l.over)
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
	case <-l.over:
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-l.over:
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
}
