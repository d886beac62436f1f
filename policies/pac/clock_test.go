package pac

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDateZone: Date is in the zone of the policy, whatever that of the process is.
func TestDateZone(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	york, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 11, 28, 16, 30, 15, 0, time.UTC) }
	for _, x := range []struct {
		zone       *time.Location
		expr, want string
	}{
		{tokyo, `new Date()`, "Sun Nov 29 2026 01:30:15 GMT+0900"}, {tokyo, `Date()`, "Sun Nov 29 2026 01:30:15 GMT+0900"}, {york, `new Date()`, "Sat Nov 28 2026 11:30:15 GMT-0500"},
		{tokyo, `Date.now()`, "1795883415000"}, {tokyo, `new Date().getDay() + " " + new Date().getDate() + " " + new Date().getHours() + " " + new Date().getMinutes()`, "0 29 1 30"},
		{york, `new Date().getTimezoneOffset() + " " + new Date(2026, 6, 1).getTimezoneOffset()`, "300 240"}, {york, `new Date(2026, 6, 1, 12).toISOString()`, "2026-07-01T16:00:00.000Z"},
		{york, `new Date(2026, 0, 1, 12).toISOString()`, "2026-01-01T17:00:00.000Z"}, {tokyo, `new Date("2026-11-28T10:00:00").toISOString()`, "2026-11-28T01:00:00.000Z"},
		{tokyo, `new Date("2026-11-28").toISOString()`, "2026-11-28T00:00:00.000Z"}, {tokyo, `new Date("2026/11/28 10:00").getTime() === Date.parse("Nov 28 2026 10:00 GMT+0900")`, "true"},
		{tokyo, `new Date("rubbish") + " " + new Date(NaN).getHours()`, "Invalid Date NaN"}, {tokyo, `new Date("x".repeat(1000)).getTime()`, "NaN"},
		{york, `(function () { var d = new Date(0); d.setHours(1, 2); return d.toISOString() })()`, "1969-12-31T06:02:00.000Z"},
		{york, `(function () { var d = new Date(2026, 10, 28); d.setDate(d.getDate() + 5); return d.getMonth() + "/" + d.getDate() + " " + d.getHours() })()`, "11/3 0"},
		{york, `new Date(new Date(2026, 1, 3, 4, 5, 6, 7)).getMilliseconds()`, "7"}, {york, `new (class extends Date { x() { return this.getHours() } })(0).x()`, "19"},
		{york, `new Date() instanceof Date && Date.prototype.constructor === Date && Object.prototype.toString.call(new Date()) === "[object Date]"`, "true"},
		{york, `timeRange(new Date().getHours()) && weekdayRange(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"][new Date().getDay()]) && dateRange(new Date().getFullYear())`, "true"},
		{york, `new Date(0).toLocaleString() + JSON.stringify(new Date(0)) + new Date(99, 0).getYear()`, `12/31/1969, 07:00:00 PM"1970-01-01T00:00:00.000Z"99`},
		{york, `new Date(8.64e15).getTime() + " " + new Date(8.64e15 + 1).getTime()`, "8640000000000000 NaN"}, {york, `typeof performance + typeof $clock`, "undefinedundefined"},
	} {
		if got := value(t, x.expr, Options{Location: x.zone, Now: now}); got != x.want {
			t.Errorf("%s in %s = %s, want %s", x.expr, x.zone, got, x.want)
		}
	}
	// An engine whose zone is ours must agree with the one that it brings, all through the years and around the changes.
	for at := time.Date(2024, 1, 1, 0, 30, 0, 0, york); at.Year() < 2026; at = at.Add(29 * time.Hour) {
		want := at.Format("Mon Jan 02 2006 15:04:05 GMT-0700")
		if got := value(t, fmt.Sprintf("new Date(%d)", at.UnixMilli()), Options{Location: york}); got != want {
			t.Fatalf("%d: %s, want %s", at.UnixMilli(), got, want)
		}
	}
}

// TestCacheClock: what depends on the day or the time is not kept any longer than it is so, to the second.
func TestCacheClock(t *testing.T) {
	var now atomic.Int64
	o := Options{Location: time.UTC, CacheFor: time.Hour, Engines: 1, Now: func() time.Time { return time.Unix(now.Load(), 0) }}
	at := func(clock string) {
		x, err := time.Parse(time.DateTime, clock)
		if err != nil {
			t.Fatal(err)
		}
		now.Store(x.Unix())
	}
	q := Query{"http://a/", "a"}
	s := script(t, `function FindProxyForURL(url, host) { if (weekdayRange("SAT", "SUN")) return "PROXY weekend:1"; return timeRange(8, 0, 17, 59) ? "PROXY day:1" : dateRange("DEC") ? "PROXY december:1" : "PROXY night:1" }`, o)
	for _, x := range []struct {
		at, want string
		cached   bool
	}{
		{"2026-11-27 17:59:58", "PROXY day:1", false}, {"2026-11-27 17:59:59", "PROXY day:1", true}, {"2026-11-27 18:00:00", "PROXY night:1", false}, {"2026-11-27 23:59:59", "PROXY night:1", true},
		{"2026-11-28 00:00:00", "PROXY weekend:1", false}, {"2026-11-29 23:59:59", "PROXY weekend:1", true}, {"2026-11-30 00:00:00", "PROXY night:1", false}, {"2026-12-01 00:00:00", "PROXY december:1", false},
		{"2026-12-01 08:00:00", "PROXY day:1", false}, {"2026-12-02 09:00:00", "PROXY day:1", true},
	} {
		at(x.at)
		if a, err := s.Find(context.Background(), q); err != nil || entries(a) != x.want || a.Cached != x.cached {
			t.Errorf("%s: %s (kept %v), %v; want %s (kept %v)", x.at, entries(a), a.Cached, err, x.want, x.cached)
		}
	}
	for body, cached := range map[string]bool{
		`return "PROXY p" + new Date().getSeconds() + ":1"`:                                      false,
		`return "PROXY p" + Date.now() + ":1"`:                                                   false,
		`return "PROXY p" + Date().length + ":1"`:                                                false,
		`return "PROXY p" + Math.floor(Math.random() * 9) + ":1"`:                                false,
		`for (var i = 0; i < 100; i++) timeRange(0, 0, i % 24, i % 60); return "DIRECT"`:         false, // too many to ask again
		`for (var i = 0; i < 100; i++) timeRange(0, 23); return "DIRECT"`:                        true,
		`return new Date(2026, 1, 1) < new Date("2027-01-01") ? "PROXY p:1" : "DIRECT"`:          true,
		`if (new Date(0).getTime() || Math.floor(1.5) != 1) return "PROXY p:1"; return "DIRECT"`: true,
	} {
		s := script(t, `function FindProxyForURL(url, host) { `+body+` }`, o)
		for i := range 2 {
			if a, err := s.Find(context.Background(), q); err != nil || a.Cached != (cached && i == 1) {
				t.Errorf("%s: kept %v, %v", body, a.Cached, err)
			}
		}
	}
}

// flaky is a resolver whose servers may be away.
type flaky struct {
	away atomic.Bool
	slow chan struct{} // a look-up of "slow" ends when it is closed
	n    atomic.Int32
}

func (f *flaky) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	f.n.Add(1)
	switch {
	case host == "slow":
		select {
		case <-f.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case host == "nowhere":
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case f.away.Load():
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	return []netip.Addr{netip.MustParseAddr("10.1.2.3")}, nil
}

// TestCacheNames: an answer that was given while name servers were away is kept as shortly as a failure; that a name is unknown is an answer.
func TestCacheNames(t *testing.T) {
	f := &flaky{}
	s := script(t, `function FindProxyForURL(url, host) { return dnsResolve(host) ? "DIRECT" : "PROXY p:1" }`, Options{Resolver: f, CacheFor: time.Hour, Engines: 1})
	until := func(host string) time.Duration {
		t.Helper()
		q := Query{"http://" + host + "/", host}
		if _, err := s.Find(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		k, ok := s.cache.get(q, time.Now())
		if !ok {
			t.Fatalf("%s is not kept", host)
		}
		return time.Until(k.until)
	}
	if d := until("nowhere"); d < time.Minute {
		t.Errorf("an unknown name is kept for %v", d)
	}
	f.away.Store(true)
	if d := until("a"); d > keepFailure {
		t.Errorf("what nobody answered is kept for %v", d)
	}
	f.away.Store(false)
	if d := until("b"); d < time.Minute {
		t.Errorf("a known name is kept for %v", d)
	}
}

// TestFloodOfLookups: a hundred thousand names are not asked for, and what came of it is not kept for long.
func TestFloodOfLookups(t *testing.T) {
	f := &flaky{}
	s := script(t, `function FindProxyForURL(url, host) { for (var i = 0; i < 100000; i++) isResolvable("h" + i + ".example"); return "DIRECT" }`,
		Options{Resolver: f, Time: 30 * time.Second, Engines: 1})
	a, err := s.Find(context.Background(), Query{"http://a/", "a"})
	if err != nil || a.Lookups != 20 || a.Unasked != 100000-20 || f.n.Load() != 20 {
		t.Errorf("%d look-ups, %d unasked, %d asked: %v", a.Lookups, a.Unasked, f.n.Load(), err)
	}
	if k, ok := s.cache.get(Query{"http://a/", "a"}, time.Now()); !ok || time.Until(k.until) > keepFailure {
		t.Error("it is kept for long")
	}
}

// TestSlowNames: scripts that wait for names stop nobody who needs none, and there still is a bound for them.
func TestSlowNames(t *testing.T) {
	f := &flaky{slow: make(chan struct{})}
	s := script(t, `function FindProxyForURL(url, host) { if (host == "slow") dnsResolve(host); return "PROXY p:1" }`,
		Options{Resolver: f, Engines: 1, CacheFor: -1, Lookup: time.Minute, DNS: time.Minute})
	var wg sync.WaitGroup
	for range waiting - 1 {
		wg.Go(func() {
			if a, err := s.Find(context.Background(), Query{"http://slow/", "slow"}); err != nil || entries(a) != "PROXY p:1" {
				t.Errorf("slow: %s, %v", entries(a), err)
			}
		})
	}
	for f.n.Load() < waiting-1 {
		time.Sleep(time.Millisecond)
	}
	if a, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil || entries(a) != "PROXY p:1" {
		t.Errorf("beside slow names: %s, %v", entries(a), err)
	}
	wg.Go(func() { _, _ = s.Find(context.Background(), Query{"http://slow/", "slow"}) })
	for f.n.Load() < waiting {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Find(ctx, Query{"http://a/", "a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with all engines taken: %v", err)
	}
	close(f.slow)
	wg.Wait()
	if st := s.Stats(); st.Engines != 1 || st.Rebuilt != 0 {
		t.Errorf("afterwards: %+v", st)
	}
	if len(s.slots) != 0 || len(s.all) != 0 {
		t.Errorf("%d and %d places are taken", len(s.slots), len(s.all))
	}
}

// TestSameAtOnce: who waited for an engine takes the answer that another got to the same question meanwhile.
func TestSameAtOnce(t *testing.T) {
	s := script(t, `var n = 0; function FindProxyForURL(url, host) { for (var i = 0; i < 3e5; i++) n++; return "PROXY p:1" }`, Options{Engines: 2, Time: time.Minute})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Calls > 2 || st.Calls+st.Hits != 200 {
		t.Errorf("%+v", st)
	}
}
