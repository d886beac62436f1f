package journal

import (
	"strings"
	"testing"

	"viaduct/connmodel"
)

func field(name string) *connmodel.FilterField { return connmodel.FilterFieldNamed(name) }

func text(s string) connmodel.FilterValue {
	return connmodel.FilterValue{Type: connmodel.FilterText, Text: s}
}

func number(n float64) connmodel.FilterValue {
	return connmodel.FilterValue{Type: connmodel.FilterNumber, Number: n}
}

// TestWhere asks for records by filters that leave out blocks, and compares with what Match finds among all.
func TestWhere(t *testing.T) {
	j := open(t, Options{})
	var all []*connmodel.Flow
	for i := range 600 {
		f := flow(i, i%50 == 7)
		switch {
		case i == 300:
			f.Target.Host = strings.Repeat("long.", 40) + "example"
		case i == 301:
			f.Client.User = "two\nlines"
		case i == 302:
			f.Client.User, f.Up = "O'Brien; DROP TABLE block; --", 1<<40
		}
		all = append(all, f)
		j.Record(f)
		if i%100 == 99 { // blocks of their own
			await(t, "written", func() bool { return j.Status().Written == uint64(i+1) })
		}
	}
	test := func(name string, cmp connmodel.FilterCmp, v connmodel.FilterValue) *connmodel.Filter {
		return &connmodel.Filter{Field: field(name), Cmp: cmp, Value: v}
	}
	mid := all[300].End
	yes := connmodel.FilterValue{Type: connmodel.FilterBool, Bool: true}
	filters := []*connmodel.Filter{
		test("target.host", connmodel.FilterEqual, text("host7.example.com")),
		test("target.host", connmodel.FilterEqual, text("nowhere.example.com")),
		test("target.host", connmodel.FilterUnder, text("example.com")),
		test("target.host", connmodel.FilterSuffix, text("7.example.com")),
		test("target.host", connmodel.FilterPrefix, text("host1")),
		test("target.host", connmodel.FilterPrefix, text(strings.Repeat("long.", 30))),
		test("target.host", connmodel.FilterContains, text(".long.long")),
		test("target.host", connmodel.FilterEqual, text(strings.Repeat("long.", 40)+"example")),
		test("client.user", connmodel.FilterEqual, text("two\nlines")),
		test("client.user", connmodel.FilterEqual, text("O'Brien; DROP TABLE block; --")),
		test("client.user", connmodel.FilterEqual, text("%")),
		test("client.user", connmodel.FilterIn, connmodel.FilterValue{List: []connmodel.FilterValue{text("user1"), text("user2")}}),
		test("client.user", connmodel.FilterIn, connmodel.FilterValue{}),
		test("client.user", connmodel.FilterNotEqual, text("user1")),
		test("upstreams", connmodel.FilterHas, text("jump")),
		test("upstreams", connmodel.FilterHas, text("none")),
		test("tags", connmodel.FilterHas, text("partner")),
		test("target.port", connmodel.FilterEqual, number(443)),
		test("target.port", connmodel.FilterEqual, number(80)),
		test("bytes_up", connmodel.FilterGreater, number(1<<39)),
		test("bytes", connmodel.FilterGreaterEqual, number(0)),
		test("duration", connmodel.FilterGreater, number(100)),
		test("error", connmodel.FilterEqual, yes),
		test("error.kind", connmodel.FilterEqual, text("denied")),
		test("denied", connmodel.FilterEqual, yes),
		test("ended", connmodel.FilterLess, connmodel.FilterValue{Type: connmodel.FilterTime, Time: mid}),
		test("ended", connmodel.FilterGreaterEqual, connmodel.FilterValue{Type: connmodel.FilterTime, Time: mid}),
		test("started", connmodel.FilterLessEqual, connmodel.FilterValue{Type: connmodel.FilterTime, Time: mid}),
	}
	n := len(filters)
	for i := range n {
		filters = append(filters,
			&connmodel.Filter{Op: connmodel.FilterNot, Args: filters[i : i+1]},
			&connmodel.Filter{Op: connmodel.FilterOr, Args: []*connmodel.Filter{filters[i], filters[(i+5)%n]}},
			&connmodel.Filter{Op: connmodel.FilterAnd, Args: []*connmodel.Filter{filters[i], filters[(i+11)%n]}})
	}
	filters = append(filters, &connmodel.Filter{Op: connmodel.FilterOr}, &connmodel.Filter{Op: connmodel.FilterAnd})
	r := reader(t, j.Dir())
	narrowed := 0
	for i, f := range filters {
		if sql, _ := where(f); sql != "" {
			narrowed++
		}
		var want, got []connmodel.ID
		for _, x := range all {
			if f.Match(x) {
				want = append(want, x.ID)
			}
		}
		for _, x := range find(t, r, Query{Filter: f, Light: true, Oldest: true}) {
			got = append(got, x.ID)
		}
		if len(got) != len(want) {
			sql, _ := where(f)
			t.Errorf("filter %d (%s): %d records found, %d are meant", i, sql, len(got), len(want))
		}
	}
	if narrowed < 30 {
		t.Errorf("only %d filters leave blocks out", narrowed)
	}
	if n, err := r.Count(t.Context(), Query{Since: all[100].End, Until: all[200].End}); err != nil || n < 90 || n > 110 {
		t.Errorf("a hundred records, by time: %d %v", n, err)
	}
}
