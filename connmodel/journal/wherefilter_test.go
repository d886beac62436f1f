package journal

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal/flowtest"
)

// closed makes a flow as it gets into a journal: ended, and as it comes back from a record.
func closed(t testing.TB, r *rand.Rand) *connmodel.Flow {
	t.Helper()
	f := flowtest.Flow(r)
	if f.End.IsZero() {
		f.End = f.Start.Add(time.Second)
	}
	whole := new(connmodel.Flow)
	if err := whole.UnmarshalJSON(f.AppendJSON(nil)); err != nil {
		t.Fatal(err)
	}
	return whole
}

// only lets nothing but what this file writes into SQL: no value of a filter.
var only = regexp.MustCompile(`^[a-z_0-9 ()<>=?,]*$|^[a-z_0-9 ()<>=?, ORAND]*$`)

// TestWhereLeavesNothingOut holds the conditions against Match: a block that is left out has no record that is meant. Random filters, random records.
func TestWhereLeavesNothingOut(t *testing.T) {
	db, err := openWriting(t.TempDir() + "/x.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := rand.New(rand.NewPCG(7, 8))
	var blocks [][]*connmodel.Flow
	var d digest
	for range 40 {
		d.reset()
		var block []*connmodel.Flow
		for range 1 + r.IntN(4) {
			f := closed(t, r)
			d.add(f)
			block = append(block, f)
		}
		blocks = append(blocks, block)
		if _, err := db.Exec(insertBlock, d.n, d.firstEnd, d.lastEnd, d.firstStart, d.lastStart, d.minID[:], d.maxID[:], d.errors, d.denied, d.differs, d.maxBytes, d.maxDuration, d.cut, d.words); err != nil {
			t.Fatal(err)
		}
	}
	n := 6000
	if testing.Short() {
		n = 1500
	}
	left, conditions := 0, 0
	for range n {
		f := flowtest.Filter(r, r.IntN(3))
		cond, args := where(f)
		if cond == "" {
			continue
		}
		conditions++
		if !only.MatchString(cond) {
			t.Fatalf("the condition holds more than its own words: %s", cond)
		}
		rows, err := db.Query("SELECT seq FROM block WHERE "+cond, args...)
		if err != nil {
			t.Fatalf("%s %q: %v", cond, args, err)
		}
		taken := map[int]bool{}
		for rows.Next() {
			var seq int
			if err := rows.Scan(&seq); err != nil {
				t.Fatal(err)
			}
			taken[seq-1] = true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
		for i, block := range blocks {
			if taken[i] {
				continue
			}
			left++
			for _, flow := range block {
				if f.Match(flow) {
					t.Fatalf("a record is left out by %s %q: %s", cond, args, flow.AppendJSON(nil))
				}
			}
		}
	}
	t.Logf("%d filters, %d with a condition, %d blocks left out", n, conditions, left)
	if conditions < n/5 || left < conditions {
		t.Errorf("%d of %d filters have a condition, and %d blocks were left out", conditions, n, left)
	}
}

// TestFilteredReading: what a journal finds with a filter is what Match takes of all that is in it.
func TestFilteredReading(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	j := open(t, Options{})
	n := 0
	for range 5 {
		for range 60 {
			j.Record(closed(t, r))
			n++
		}
		await(t, "written", func() bool { return j.Status().Written == uint64(n) })
	}
	rd := reader(t, j.Dir())
	all := find(t, rd, Query{Oldest: true})
	if len(all) != n {
		t.Fatalf("%d of %d records", len(all), n)
	}
	tries, hits := 80, 0
	if testing.Short() {
		tries = 40
	}
	for range tries {
		f := flowtest.Filter(r, r.IntN(3))
		var want, got []connmodel.ID
		for _, flow := range all {
			if f.Match(flow) {
				want = append(want, flow.ID)
			}
		}
		for _, light := range []bool{false, true} {
			got = got[:0]
			for _, flow := range find(t, rd, Query{Oldest: true, Filter: f, Light: light}) {
				got = append(got, flow.ID)
			}
			if !slices.Equal(got, want) {
				cond, args := where(f)
				t.Fatalf("light %v: %d records found, %d are meant; where %s %q", light, len(got), len(want), cond, args)
			}
		}
		hits += len(want)
	}
	if hits == 0 {
		t.Error("no filter found anything")
	}
}

// TestHostileFilters asks with texts that mean something to SQL, or that are long.
func TestHostileFilters(t *testing.T) {
	j := open(t, Options{})
	texts := []string{"'; DROP TABLE block; --", `"`, "%", "_", "a\x00b", "\xff\xfe", "\n", "a\nb", "\nrule=x\n", strings.Repeat("long ", 300), "💥", "?", "?1", ":a", "\x1b[2J", ""}
	for i, s := range texts {
		f := flow(i, false)
		d := *f.Decision
		d.Rule = s
		f.Decision = &d
		j.Record(f)
	}
	await(t, "written", func() bool { return j.Status().Written == uint64(len(texts)) })
	rd := reader(t, j.Dir())
	rule := connmodel.FilterFieldNamed("rule")
	all := find(t, rd, Query{Light: true})
	for _, s := range append(texts, strings.Repeat("x", 1<<20), "nobody") {
		for _, cmp := range []connmodel.FilterCmp{connmodel.FilterEqual, connmodel.FilterNotEqual, connmodel.FilterContains, connmodel.FilterPrefix, connmodel.FilterSuffix, connmodel.FilterUnder, connmodel.FilterIn} {
			f := &connmodel.Filter{Field: rule, Cmp: cmp, Value: connmodel.FilterValue{Type: connmodel.FilterText, Text: s}}
			if cmp == connmodel.FilterIn {
				f.Value = connmodel.FilterValue{List: []connmodel.FilterValue{{Type: connmodel.FilterText, Text: s}, {Type: connmodel.FilterText, Text: "other"}}}
			}
			want := 0
			for _, x := range all {
				if f.Match(x) {
					want++
				}
			}
			if got := len(find(t, rd, Query{Filter: f, Light: true})); got != want {
				t.Errorf("%d of %q: %d records, %d are meant", cmp, s[:min(len(s), 30)], got, want)
			}
			if cond, _ := where(f); !only.MatchString(cond) {
				t.Errorf("a value is in the SQL: %q", cond)
			}
		}
	}
}

// TestLargeFilters: a filter that SQLite would refuse for its size is applied all the same.
func TestLargeFilters(t *testing.T) {
	j := open(t, Options{})
	f := flow(1, false)
	j.Record(f)
	await(t, "written", func() bool { return j.Status().Written == 1 })
	rd := reader(t, j.Dir())
	rule := connmodel.FilterFieldNamed("rule")
	or := &connmodel.Filter{Op: connmodel.FilterOr}
	in := &connmodel.Filter{Field: rule, Cmp: connmodel.FilterIn}
	for i := range 5000 {
		v := connmodel.FilterValue{Type: connmodel.FilterText, Text: fmt.Sprint("rule ", i)}
		or.Args = append(or.Args, &connmodel.Filter{Field: rule, Value: v})
		in.Value.List = append(in.Value.List, v)
	}
	deep := or
	for range 900 {
		deep = &connmodel.Filter{Op: connmodel.FilterNot, Args: []*connmodel.Filter{deep}}
	}
	for _, x := range []*connmodel.Filter{or, in, deep} {
		if got := find(t, rd, Query{Filter: x}); len(got) != 0 {
			t.Errorf("%d records", len(got))
		}
		not := &connmodel.Filter{Op: connmodel.FilterNot, Args: []*connmodel.Filter{x}}
		if got := find(t, rd, Query{Filter: not}); len(got) != 1 {
			t.Errorf("%d records", len(got))
		}
	}
}

// TestBlocksLeftOut: a look for what is rare does not open every block.
func TestBlocksLeftOut(t *testing.T) {
	host := connmodel.FilterFieldNamed("target.host")
	for src, want := range map[*connmodel.Filter]string{
		{Field: host, Value: connmodel.FilterValue{Type: connmodel.FilterText, Text: "www.example"}}:                                                                      inWords,
		{Field: connmodel.FilterFieldNamed("error"), Value: connmodel.FilterValue{Type: connmodel.FilterBool, Bool: true}}:                                                "errors > 0",
		{Field: connmodel.FilterFieldNamed("duration"), Cmp: connmodel.FilterGreater, Value: connmodel.FilterValue{Type: connmodel.FilterNumber, Number: 60}}:             "max_duration >= ?",
		{Op: connmodel.FilterNot, Args: []*connmodel.Filter{{Field: connmodel.FilterFieldNamed("error.kind"), Value: connmodel.FilterValue{Type: connmodel.FilterText}}}}: "errors > 0",
	} {
		if got, _ := where(src); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
