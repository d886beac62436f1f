package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var one = netip.MustParseAddr("192.0.2.1")

func notFound(host string) error {
	return &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestLiteralsPassThrough(t *testing.T) {
	r := New(Options{Lookup: func(context.Context, string) ([]netip.Addr, error) { panic("asked") }})
	for host, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1"} {
		got, err := r.Lookup(t.Context(), host)
		if err != nil || fmt.Sprint(got) != "["+want+"]" {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

func TestAnswersAreUnmappedAndUnique(t *testing.T) {
	r := New(Options{Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1"), one}, nil
	}})
	if got, err := r.Lookup(t.Context(), "a.example"); err != nil || fmt.Sprint(got) != "[192.0.2.1 2001:db8::1]" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestOneQueryPerName: a thousand callers make one query; those that give up do not disturb the others.
func TestOneQueryPerName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queries atomic.Int32
		r := New(Options{Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			queries.Add(1)
			select {
			case <-time.After(time.Second):
				return []netip.Addr{one}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				start := time.Now()
				got, err := r.Lookup(ctx, "a.example")
				if i%2 == 0 {
					if !errors.Is(err, context.Canceled) || time.Since(start) != 100*time.Millisecond {
						t.Errorf("cancelled: %v after %v", err, time.Since(start))
					}
				} else if err != nil || len(got) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		wg.Wait()
		if n := queries.Load(); n != 1 {
			t.Errorf("%d queries", n)
		}
		if _, err := r.Lookup(t.Context(), "a.example"); err != nil || queries.Load() != 2 {
			t.Errorf("%d queries, %v: answers are not kept", queries.Load(), err)
		}
	})
}

// TestAbandonedQueryEnds: when the last one has left, the query is given up, and whoever comes next asks anew.
func TestAbandonedQueryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		var queries atomic.Int32
		r := New(Options{Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			if queries.Add(1) == 1 {
				<-ctx.Done()
				time.Sleep(time.Second) // it takes its time
				close(ended)
				return nil, ctx.Err()
			}
			return []netip.Addr{one}, nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Lookup(ctx, "a.example"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if got, err := r.Lookup(t.Context(), "a.example"); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		<-ended
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		start := time.Now()
		_, err := r.Lookup(t.Context(), "a.example")
		var de *net.DNSError
		if !errors.As(err, &de) || !de.IsTimeout || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestNegativeAnswersAreKeptShortly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queries atomic.Int32
		fail := notFound
		r := New(Options{Negative: time.Hour, Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			queries.Add(1)
			return nil, fail(host)
		}})
		ask := func(want int32) {
			t.Helper()
			_, err := r.Lookup(t.Context(), "a.example")
			var de *net.DNSError
			if !errors.As(err, &de) || queries.Load() != want {
				t.Errorf("%v, %d queries, want %d", err, queries.Load(), want)
			}
		}
		ask(1)
		time.Sleep(29 * time.Second)
		ask(1)
		time.Sleep(time.Second + 1) // an hour is cut to 30 s
		ask(2)
		time.Sleep(31 * time.Second)
		fail = func(string) error { return &net.DNSError{Err: "server misbehaving", IsTemporary: true} }
		ask(3)
		ask(4) // other failures are not kept
	})
}

func TestMemoryIsBounded(t *testing.T) {
	r := New(Options{Lookup: func(_ context.Context, host string) ([]netip.Addr, error) { return nil, notFound(host) }}).(*resolver)
	for i := range 3 * negativeEntries {
		r.Lookup(t.Context(), fmt.Sprintf("n%d.example", i))
	}
	if n := len(r.missing); n > negativeEntries {
		t.Errorf("%d names remembered", n)
	}
	if len(r.flights) != 0 {
		t.Errorf("%d queries left", len(r.flights))
	}
}

func TestQueriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{InFlight: 3, Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			time.Sleep(time.Second)
			return []netip.Addr{one}, nil
		}})
		var refused atomic.Int32
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := r.Lookup(t.Context(), fmt.Sprintf("n%d.example", i)); err != nil {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if n := refused.Load(); n != 7 {
			t.Errorf("%d refused, want 7", n)
		}
	})
}

func TestSystem(t *testing.T) {
	if System() != System() {
		t.Error("the system's resolver is more than one")
	}
	got, err := System().Lookup(t.Context(), "localhost")
	if err != nil || len(got) == 0 || !got[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
}
