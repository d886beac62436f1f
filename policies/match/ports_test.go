package match_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"viaduct/policies/match"
)

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]match.PortRange{
		"443": {443, 443}, "1": {1, 1}, "65535": {65535, 65535}, "8000-8999": {8000, 8999}, "5-5": {5, 5}, "1-65535": {1, 65535},
	} {
		if r, err := match.ParsePorts(in); err != nil || r != want {
			t.Errorf("%s: %v %v", in, r, err)
		}
	}
	for in, offset := range map[string]int{
		"": 0, "0": 0, "65536": 0, "65979": 0, "99999": 0, "100000": 0, "-1": 0, "+80": 0, "080": 0, " 80": 0, "80 ": 0, "https": 0,
		"80-": 3, "80-0": 3, "80-79": 3, "80-90-100": 3, "80-65536": 3, "80 - 90": 0, "0-80": 0, "80,443": 0,
	} {
		_, err := match.ParsePorts(in)
		var pe *match.PatternError
		if !errors.As(err, &pe) || pe.Offset != offset || pe.Pattern != in {
			t.Errorf("%q: %v, want an error at %d", in, err, offset)
		}
	}
}

func TestPortSetEdges(t *testing.T) {
	var zero match.PortSet
	if zero.Contains(0) || zero.Contains(443) {
		t.Error("the zero set contains a port")
	}
	if _, err := match.NewPortSet(match.PortRange{From: 2, To: 1}); err == nil || !strings.Contains(err.Error(), "before it begins") {
		t.Errorf("a reversed range: %v", err)
	}
	given := []match.PortRange{{From: 9, To: 9}, {From: 1, To: 1}}
	if _, err := match.NewPortSet(given...); err != nil || given[0].From != 9 {
		t.Error("the caller's ranges were reordered")
	}
	all, err := match.NewPortSet(match.PortRange{From: 0, To: 65535}, match.PortRange{From: 65535, To: 65535})
	if err != nil || !all.Contains(0) || !all.Contains(65535) {
		t.Error("all ports, but not all")
	}
	var many []match.PortRange // apart from each other: becomes a bitmap
	for p := 1; p < 65535; p += 2 {
		many = append(many, match.PortRange{From: uint16(p), To: uint16(p)})
	}
	odd, err := match.NewPortSet(append(many, match.PortRange{From: 65535, To: 65535})...)
	if err != nil {
		t.Fatal(err)
	}
	for p := range 65536 {
		if odd.Contains(uint16(p)) != (p%2 == 1) {
			t.Fatalf("port %d", p)
		}
	}
}

func TestPortIndexEdges(t *testing.T) {
	var zero match.PortIndex
	var b match.PortBuilder
	if zero.AppendSets(nil, 80) != nil || b.Build().AppendMatches(nil, 80) != nil {
		t.Error("an empty index knows a port")
	}
	if b.Add(match.PortRange{From: 2, To: 1}, 1) == nil {
		t.Error("a reversed range was taken")
	}
	// A thousand clauses whose ranges overlap in all ways.
	for id := range uint32(1000) {
		if err := b.Add(match.PortRange{From: uint16(id), To: uint16(65535 - id)}, id); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	x := b.Build()
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("the index takes %d KiB", grown>>10)
	}
	for port, want := range map[uint16]int{0: 1, 1: 2, 999: 1000, 30_000: 1000, 65535: 1, 65534: 2, 64536: 1000, 64537: 999} {
		if got := x.AppendMatches(nil, port); len(got) != want {
			t.Errorf("port %d: %d clauses, want %d", port, len(got), want)
		}
		if sets := x.AppendSets(nil, port); len(sets) > 18 {
			t.Errorf("port %d: %d sets", port, len(sets))
		}
	}
}

func TestPortsAreTheNaiveReading(t *testing.T) {
	port := rapid.OneOf(rapid.Uint16(), rapid.Uint16Range(0, 40), rapid.Uint16Range(65500, 65535))
	rapid.Check(t, func(t *rapid.T) {
		var b match.PortBuilder
		ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) match.PortRange {
			p, q := port.Draw(t, "p"), port.Draw(t, "q")
			if rapid.Bool().Draw(t, "single") {
				q = p
			}
			return match.PortRange{From: min(p, q), To: max(p, q)}
		}), 0, 40).Draw(t, "ranges")
		for i, r := range ranges {
			if err := b.Add(r, uint32(i%30)); err != nil {
				t.Fatal(err)
			}
		}
		x := b.Build()
		s, err := match.NewPortSet(ranges...)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range rapid.SliceOfN(port, 1, 30).Draw(t, "ports") {
			want := []uint32{}
			for i, r := range ranges {
				if r.From <= p && p <= r.To {
					want = append(want, uint32(i%30))
				}
			}
			want = sorted(want)
			checkIDs(t, "port", want, x.AppendMatches(nil, p), x.AppendSets(nil, p), func(b match.Bits) { x.Mark(b, p) })
			if s.Contains(p) != (len(want) > 0) {
				t.Fatalf("port %d: Contains says %v", p, s.Contains(p))
			}
		}
	})
}

func TestUnionOfNothing(t *testing.T) {
	for _, sets := range [][][]uint32{nil, {}, {nil}, {{}, {}}} {
		u := match.MakeUnion(sets)
		for range 3 {
			if id, ok := u.Next(); ok {
				t.Fatalf("%v yields %d", sets, id)
			}
		}
	}
}

func TestUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sets := rapid.SliceOfN(rapid.Map(rapid.SliceOfN(rapid.Uint32Range(0, 50), 0, 12), sorted), 0, 140).Draw(t, "sets")
		want := sorted(slices.Concat(sets...))
		var got []uint32
		u := match.MakeUnion(sets)
		for id, ok := u.Next(); ok; id, ok = u.Next() {
			got = append(got, id)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestBits(t *testing.T) {
	b := match.NewBits(130)
	b.Add(0, 63, 64, 129)
	for id, want := range map[uint32]bool{0: true, 1: false, 63: true, 64: true, 65: false, 129: true, 191: false, 192: false, 1 << 31: false} {
		if b.Has(id) != want {
			t.Errorf("Has(%d) = %v", id, !want)
		}
	}
	for from, want := range map[uint32]uint32{0: 0, 1: 63, 63: 63, 64: 64, 65: 129, 129: 129} {
		if got, ok := b.Next(from); !ok || got != want {
			t.Errorf("Next(%d) = %d %v, want %d", from, got, ok, want)
		}
	}
	for _, from := range []uint32{130, 191, 192, 1 << 31} {
		if got, ok := b.Next(from); ok {
			t.Errorf("Next(%d) = %d, want none", from, got)
		}
	}
	c := match.NewBits(130)
	c.Set(b)
	o := match.NewBits(130)
	o.Add(63, 100, 129)
	c.And(o)
	if c.Has(0) || !c.Has(63) || c.Has(64) || c.Has(100) || !c.Has(129) || !b.Has(0) {
		t.Error("And is not the intersection")
	}
	c.Reset()
	if _, ok := c.Next(0); ok {
		t.Error("Reset left something")
	}
	if _, ok := match.NewBits(0).Next(0); ok {
		t.Error("an empty set has a member")
	}
}
