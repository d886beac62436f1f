package upstream

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"viaduct/connmodel"
)

// Backoff of a retry on the same member where the configuration does not say.
const (
	defaultBackoff    = 100 * time.Millisecond
	defaultMaxBackoff = 2 * time.Second
)

// allows reports whether err is of a class that rt retries.
func allows(rt *connmodel.Retry, err *connmodel.ConnError) bool {
	if err.Kind == connmodel.KindCanceled {
		return false
	}
	if rt.On != nil {
		return slices.Contains(rt.On, err.Kind)
	}
	return err.Retryable
}

// backoff returns how long to wait after attempt number n (from 1): what the configuration says; else nothing when another
// member takes over, and a little when the same one is tried again. The curve is go-retryablehttp's; the jitter takes off
// up to half, so that flows which failed together do not come back together.
func backoff(rt *connmodel.Retry, n int, another bool) time.Duration {
	first, most := rt.Backoff, rt.MaxBackoff
	if first <= 0 {
		if another {
			return 0
		}
		first = defaultBackoff
	}
	if most <= 0 {
		most = max(defaultMaxBackoff, first)
	}
	d := retryablehttp.DefaultBackoff(first, most, n-1, nil)
	if d <= 1 {
		return d
	}
	return d - time.Duration(rand.Int64N(int64(d)/2))
}

// pause waits d, and reports false when ctx ends or the deadline would pass before.
func pause(ctx context.Context, d time.Duration, deadline time.Time) bool {
	if time.Until(deadline) <= d {
		return false
	}
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// The retry budget of a pool: retries may be a fifth of the dials of the last ten seconds or so, and always some, so that
// a pool that is down does not get its load doubled.
const (
	budgetWindow = 10 * time.Second
	budgetFloor  = 100
	budgetShare  = 5 // one in
)

// budget counts dials and retries in two halves of a window that slides.
type budget struct {
	mu      sync.Mutex
	since   time.Time // start of the newer half
	dials   [2]int    // older half, newer half
	retries [2]int
	refused uint64
}

func newBudget() *budget { return &budget{since: time.Now()} }

func (b *budget) slide(now time.Time) {
	switch age := now.Sub(b.since); {
	case age >= budgetWindow:
		b.dials, b.retries, b.since = [2]int{}, [2]int{}, now
	case age >= budgetWindow/2:
		b.dials, b.retries = [2]int{b.dials[1]}, [2]int{b.retries[1]}
		b.since = b.since.Add(budgetWindow / 2)
	}
}

func (b *budget) dialed(now time.Time) {
	b.mu.Lock()
	b.slide(now)
	b.dials[1]++
	b.mu.Unlock()
}

// take asks for one retry.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slide(now)
	if b.retries[0]+b.retries[1] >= budgetFloor+(b.dials[0]+b.dials[1])/budgetShare {
		b.refused++
		return false
	}
	b.retries[1]++
	return true
}
