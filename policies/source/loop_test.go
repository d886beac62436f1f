package source

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLoop: looks come in their time, sooner after failures, and at once when somebody asks.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLoop(time.Hour)
		begun := time.Now()
		var mu sync.Mutex // the detector of races does not know time
		var at []time.Duration
		var kinds []any
		var fails error
		go l.Run(ctx, func(_ context.Context, kind any) error {
			mu.Lock()
			defer mu.Unlock()
			at, kinds = append(at, time.Since(begun)), append(kinds, kind)
			return fails
		})
		step := func(what string, lo, hi time.Duration) {
			t.Helper()
			n := len(at)
			before := at[n-1]
			mu.Unlock()
			time.Sleep(hi)
			synctest.Wait()
			mu.Lock()
			if len(at) == n {
				t.Fatalf("%s: no look", what)
			}
			if d := at[n] - before; d < lo || d > hi {
				t.Errorf("%s: after %s, expected %s to %s", what, d, lo, hi)
			}
		}
		synctest.Wait()
		mu.Lock()
		if len(at) != 1 || at[0] != 0 {
			t.Fatalf("%v: the first look is to come at once", at)
		}
		step("the second", 54*time.Minute, 66*time.Minute)
		away := errors.New("away")
		fails = away
		mu.Unlock()
		err := l.Now(ctx, "forced")
		mu.Lock()
		if err != away || kinds[len(kinds)-1] != "forced" {
			t.Errorf("%v, %v", err, kinds)
		}
		n := len(at)
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		mu.Lock()
		want := time.Second
		for i := n; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < want*8/10 || d > want*12/10 {
				t.Errorf("look %d after a failure: after %s, expected some %s", i-n, d, want)
			}
			want = min(2*want, time.Minute)
		}
		if len(at)-n < 10 || len(at)-n > 20 {
			t.Errorf("%d looks in ten minutes of failures", len(at)-n)
		}
		fails, n = nil, len(at)
		mu.Unlock()
		l.Soon()
		l.Soon()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(at) < n+1 || len(at) > n+2 {
			t.Errorf("%d looks for two that were to come soon", len(at)-n)
		}
		cancel()
		synctest.Wait()
		if err := l.Now(t.Context(), nil); err == nil {
			t.Error("somebody waits for a look that never comes")
		}
	})
}
