package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
)

// Run holds a kind of store against what a journal.Store has to do. open makes an empty one; Run closes it.
func Run(t *testing.T, open func(t *testing.T) journal.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s journal.Store)
	}{
		{"empty", empty}, {"order", order}, {"pages", pages}, {"bounds", bounds}, {"filters", filters}, {"whole", whole},
		{"find", finds}, {"errors", stops}, {"context", contexts}, {"together", together}, {"parallel", parallel}, {"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				if err := s.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			c.test(t, s)
		})
	}
}

// Start is when the first of Flows ends; each ends a second after the one before.
var Start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Flows makes n records of different hosts, users, outcomes and sizes.
func Flows(n int) (list []*connmodel.Flow) {
	for i := range n {
		end := Start.Add(time.Duration(i) * time.Second)
		s := connmodel.NewSession(connmodel.Accepted{
			Listener: "desk", Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 3), byte(i % 200)}), 4000), Time: end.Add(-time.Second),
		}, nil)
		s.Identified(connmodel.ProtocolConnect, fmt.Sprintf("user%d", i%7))
		target := connmodel.Address{Host: fmt.Sprintf("host%d.example.com", i%11), Port: 443}
		r := s.NewFlow(connmodel.ProtocolConnect, target, end.Add(-time.Second))
		d := &connmodel.Decision{Generation: 1, Policy: "default", Rule: "all", File: "v.hcl", Line: 3, Outcome: connmodel.OutcomeVia, Route: "corp"}
		e := connmodel.FlowEnd{Reason: connmodel.CloseClient, Up: int64(i), Down: int64(2 * i)}
		if i%5 == 0 {
			d = &connmodel.Decision{Generation: 1, Policy: "default", Rule: "no", File: "v.hcl", Line: 9, Outcome: connmodel.OutcomeDeny, Denial: &connmodel.Denial{Status: 403, Reason: "no \n\x1b[31m"}}
			e.Reason = connmodel.CloseDenied
		}
		r.Decided(d, nil)
		if i%4 == 0 {
			r.Fail(&connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideHop, Hop: 1, HopName: "corp_a", Kind: connmodel.KindRefused, Message: "refused"})
		}
		r.SetMetadata("number", fmt.Sprint(i))
		f := r.Close(e)
		f.Start, f.Decided, f.End = end.Add(-time.Second), end.Add(-time.Second), end
		list = append(list, f)
	}
	return list
}

func put(t *testing.T, s journal.Store, flows []*connmodel.Flow) {
	t.Helper()
	if err := s.Append(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
}

func idsOf(flows []*connmodel.Flow) (ids []connmodel.ID) {
	for _, f := range flows {
		ids = append(ids, f.ID)
	}
	return ids
}

func get(t *testing.T, s journal.Finder, q journal.Query) (ids []connmodel.ID) {
	t.Helper()
	if err := s.Each(t.Context(), q, func(f *connmodel.Flow) error { ids = append(ids, f.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

func reversed(ids []connmodel.ID) []connmodel.ID {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

func empty(t *testing.T, s journal.Store) {
	put(t, s, nil)
	if got := get(t, s, journal.Query{}); len(got) != 0 {
		t.Errorf("%d records", len(got))
	}
	if n, err := s.Count(t.Context(), journal.Query{}); n != 0 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
	if _, err := s.Get(t.Context(), connmodel.NewID(Start)); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if ids, err := s.Find(t.Context(), "0123"); len(ids) != 0 || err != nil {
		t.Errorf("Find: %v, %v", ids, err)
	}
}

// order: what was appended is there when Append returns, in that order, however it was cut into pieces.
func order(t *testing.T, s journal.Store) {
	list := Flows(700)
	for rest := list; len(rest) > 0; {
		n := min(len(rest), 1+len(rest)/3)
		put(t, s, rest[:n])
		rest = rest[n:]
		want := idsOf(list[:len(list)-len(rest)])
		for _, light := range []bool{false, true} {
			if got := get(t, s, journal.Query{Oldest: true, Light: light}); !slices.Equal(got, want) {
				t.Fatalf("light %v: %d records, want %d", light, len(got), len(want))
			}
			if got := get(t, s, journal.Query{Light: light}); !slices.Equal(got, reversed(want)) {
				t.Fatalf("light %v, newest first: %d records, want %d", light, len(got), len(want))
			}
		}
	}
}

func pages(t *testing.T, s journal.Store) {
	list := Flows(333)
	put(t, s, list)
	for _, oldest := range []bool{true, false} {
		want := idsOf(list)
		if !oldest {
			want = reversed(want)
		}
		var got []connmodel.ID
		for after := (connmodel.ID{}); ; {
			page := get(t, s, journal.Query{Oldest: oldest, Limit: 50, After: after})
			got = append(got, page...)
			if len(page) < 50 {
				break
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("oldest %v: %d records in pages, want %d", oldest, len(got), len(want))
		}
	}
	err := s.Each(t.Context(), journal.Query{After: connmodel.NewID(Start)}, func(*connmodel.Flow) error { return nil })
	if !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("behind a record that is not there: %v", err)
	}
}

// bounds: Since <= end < Until.
func bounds(t *testing.T, s journal.Store) {
	list := Flows(600)
	put(t, s, list)
	for _, c := range [][2]int{{0, 600}, {10, 20}, {299, 300}, {590, 1000}, {-5, 1}, {20, 10}, {700, 800}} {
		since, until := Start.Add(time.Duration(c[0])*time.Second), Start.Add(time.Duration(c[1])*time.Second)
		var want []connmodel.ID
		for _, f := range list {
			if !f.End.Before(since) && f.End.Before(until) {
				want = append(want, f.ID)
			}
		}
		q := journal.Query{Since: since, Until: until, Oldest: true}
		if got := get(t, s, q); !slices.Equal(got, want) {
			t.Errorf("%v: %d records, want %d", c, len(got), len(want))
		}
		if n, err := s.Count(t.Context(), q); n != int64(len(want)) || err != nil {
			t.Errorf("%v: Count says %d, %v, want %d", c, n, err, len(want))
		}
	}
}

// Filters are those that Run asks.
func Filters() []*connmodel.Filter {
	test := func(name string, cmp connmodel.FilterCmp, v connmodel.FilterValue) *connmodel.Filter {
		f := connmodel.FilterFieldNamed(name)
		if f == nil {
			panic("storetest: there is no field " + name)
		}
		return &connmodel.Filter{Op: connmodel.FilterTest, Field: f, Cmp: cmp, Value: v}
	}
	text := func(s string) connmodel.FilterValue {
		return connmodel.FilterValue{Type: connmodel.FilterText, Text: s}
	}
	number := func(n float64) connmodel.FilterValue {
		return connmodel.FilterValue{Type: connmodel.FilterNumber, Number: n}
	}
	host := test("target.host", connmodel.FilterEqual, text("host3.example.com"))
	user := test("client.user", connmodel.FilterEqual, text("user2"))
	large := test("bytes_down", connmodel.FilterGreater, number(500))
	denied := test("denied", connmodel.FilterEqual, connmodel.FilterValue{Type: connmodel.FilterBool, Bool: true})
	failed := test("error", connmodel.FilterEqual, connmodel.FilterValue{Type: connmodel.FilterBool, Bool: true})
	nobody := test("client.user", connmodel.FilterEqual, text(`"; DROP TABLE block; --`))
	return []*connmodel.Filter{
		nil, host, user, large, denied, failed, nobody,
		test("target.host", connmodel.FilterUnder, text("example.com")),
		test("target.host", connmodel.FilterNotEqual, text("host3.example.com")),
		test("client.address", connmodel.FilterWithin, connmodel.FilterValue{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}}),
		test("client.user", connmodel.FilterIn, connmodel.FilterValue{List: []connmodel.FilterValue{text("user1"), text("user4")}}),
		test("error.kind", connmodel.FilterPrefix, text("ref")),
		test("route", connmodel.FilterIsNull, connmodel.FilterValue{}),
		{Op: connmodel.FilterNot, Args: []*connmodel.Filter{denied}},
		{Op: connmodel.FilterAnd, Args: []*connmodel.Filter{host, {Op: connmodel.FilterOr, Args: []*connmodel.Filter{large, failed}}}},
		{Op: connmodel.FilterOr, Args: []*connmodel.Filter{host, user}},
		{Op: connmodel.FilterAnd}, {Op: connmodel.FilterOr},
		{Op: connmodel.FilterFunc, Func: func(f *connmodel.Flow) bool { return f.Up%2 == 1 }},
		{Op: connmodel.FilterOr, Args: []*connmodel.Filter{host, {Op: connmodel.FilterFunc, Func: func(f *connmodel.Flow) bool { return f.Up < 10 }}}},
	}
}

// filters: a store finds exactly what Match means.
func filters(t *testing.T, s journal.Store) {
	list := Flows(900)
	put(t, s, list)
	for i, f := range Filters() {
		var want []connmodel.ID
		for _, x := range list {
			if f.Match(x) {
				want = append(want, x.ID)
			}
		}
		for _, light := range []bool{true, false} {
			if got := get(t, s, journal.Query{Filter: f, Oldest: true, Light: light}); !slices.Equal(got, want) {
				t.Errorf("filter %d, light %v: %d records, want %d", i, light, len(got), len(want))
			}
		}
		if n, err := s.Count(t.Context(), journal.Query{Filter: f}); n != int64(len(want)) || err != nil {
			t.Errorf("filter %d: Count says %d, %v, want %d", i, n, err, len(want))
		}
		if len(want) > 3 {
			if got := get(t, s, journal.Query{Filter: f, Limit: 3}); !slices.Equal(got, reversed(want)[:3]) {
				t.Errorf("filter %d: the first three are others", i)
			}
		}
	}
}

// whole: a record comes back as it was; light has what filters look at; both belong to the caller.
func whole(t *testing.T, s journal.Store) {
	list := Flows(50)
	put(t, s, list)
	for _, want := range list {
		got, err := s.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := want.AppendJSON(nil), got.AppendJSON(nil); !bytes.Equal(a, b) {
			t.Fatalf("was %s\nis  %s", a, b)
		}
		got.Target.Host, got.Up = "changed", -1
	}
	i := 0
	err := s.Each(t.Context(), journal.Query{Oldest: true, Light: true}, func(f *connmodel.Flow) error {
		w := list[i]
		i++
		if f.ID != w.ID || f.Target != w.Target || f.Client.User != w.Client.User || f.Up != w.Up || f.Down != w.Down || !f.End.Equal(w.End) ||
			f.Decision.Rule != w.Decision.Rule || (f.Error == nil) != (w.Error == nil) || f.Reason != w.Reason {
			t.Errorf("light: %s instead of %s", f.AppendJSON(nil), w.AppendJSON(nil))
		}
		return nil
	})
	if err != nil || i != len(list) {
		t.Errorf("%d records, %v", i, err)
	}
}

func finds(t *testing.T, s journal.Store) {
	list := Flows(300)
	put(t, s, list)
	for _, i := range []int{0, 150, 299} {
		id := list[i].ID
		for _, part := range []string{id.String(), strings.ToUpper(id.String()), id.Short(), " " + id.String()[4:], strings.ReplaceAll(id.String(), "-", "")} {
			ids, err := s.Find(t.Context(), part)
			if err != nil || !slices.Equal(ids, []connmodel.ID{id}) {
				t.Errorf("Find(%q): %v, %v, want %v", part, ids, err, id)
			}
		}
	}
	for _, part := range []string{"", "-", "xyz", "%", "*", "' OR 1=1", strings.Repeat("0", 100), "\x00"} {
		if ids, err := s.Find(t.Context(), part); len(ids) != 0 || err != nil {
			t.Errorf("Find(%q): %v, %v", part, ids, err)
		}
	}
	if ids, err := s.Find(t.Context(), "0"); len(ids) > journal.MaxFound || err != nil {
		t.Errorf("%d ids, %v", len(ids), err)
	}
}

// stops: an error of the callee ends a search and is returned.
func stops(t *testing.T, s journal.Store) {
	put(t, s, Flows(600))
	enough := errors.New("enough")
	n := 0
	err := s.Each(t.Context(), journal.Query{}, func(*connmodel.Flow) error {
		if n++; n == 5 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 5 {
		t.Errorf("%d records, %v", n, err)
	}
}

func contexts(t *testing.T, s journal.Store) {
	put(t, s, Flows(600))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := s.Each(ctx, journal.Query{}, func(*connmodel.Flow) error {
		if n++; n == 5 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n > 599 {
		t.Errorf("%d records, %v", n, err)
	}
	if _, err := s.Count(ctx, journal.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Count: %v", err)
	}
	if err := s.Append(ctx, Flows(1)); err == nil {
		t.Log("a store may keep a record although nobody waits for it") // or not: both are right
	}
}

// together: several append and look at once.
func together(t *testing.T, s journal.Store) {
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, f := range Flows(50) {
				if err := s.Append(t.Context(), []*connmodel.Flow{f}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		group.Go(func() {
			for range 5 {
				if _, err := s.Count(t.Context(), journal.Query{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n, err := s.Count(t.Context(), journal.Query{}); n != 200 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
}

// parallel: the same records, in any order.
func parallel(t *testing.T, s journal.Store) {
	list := Flows(900)
	put(t, s, list)
	var mu sync.Mutex
	seen := map[connmodel.ID]int{}
	err := s.Each(t.Context(), journal.Query{Parallel: true, Light: true}, func(f *connmodel.Flow) error {
		mu.Lock()
		seen[f.ID]++
		mu.Unlock()
		return nil
	})
	if err != nil || len(seen) != len(list) {
		t.Errorf("%d records, %v", len(seen), err)
	}
	for _, f := range list {
		if seen[f.ID] != 1 {
			t.Errorf("%v came %d times", f.ID, seen[f.ID])
		}
	}
}

func closed(t *testing.T, s journal.Store) {
	put(t, s, Flows(3))
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Append(t.Context(), Flows(1)); err == nil {
		t.Error("a closed store takes records")
	}
}
