package match_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"viaduct/policies/match"
)

// takes is the plain meaning of a host pattern.
func takes(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		return len(host) > len(rest)+1 && strings.HasSuffix(host, "."+rest)
	}
	if rest, ok := strings.CutPrefix(pattern, "."); ok {
		return host == rest || len(host) > len(rest)+1 && strings.HasSuffix(host, "."+rest)
	}
	return host == pattern
}

// sorted is a set in ascending order without repeats; never nil.
func sorted(ids []uint32) []uint32 {
	ids = append([]uint32{}, ids...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

func buildHosts(t testing.TB, patterns ...string) *match.HostIndex {
	t.Helper()
	var b match.HostBuilder
	for id, p := range patterns {
		if err := b.Add(p, uint32(id)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build()
}

func TestHostIndex(t *testing.T) {
	x := buildHosts(t,
		"www.example.com",       // 0
		"*.example.com",         // 1
		".example.com",          // 2
		"example.com",           // 3
		"*.com",                 // 4
		"intranet",              // 5
		"10.0.0.1",              // 6
		"2001:db8::1",           // 7
		"*.a.b.example.com",     // 8
		"www.example.com",       // 9
		"xn--bcher-kva.example", // 10
		"_dmarc.example.org",    // 11
	)
	for _, c := range []struct {
		host string
		want []uint32
	}{
		{"www.example.com", []uint32{0, 1, 2, 4, 9}},
		{"example.com", []uint32{2, 3, 4}},
		{"x.www.example.com", []uint32{1, 2, 4}},
		{"b.example.com", []uint32{1, 2, 4}},
		{"a.b.example.com", []uint32{1, 2, 4}},
		{"z.a.b.example.com", []uint32{1, 2, 4, 8}},
		{"com", nil},
		{"notexample.com", []uint32{4}},
		{"www.example.org", nil},
		{"intranet", []uint32{5}},
		{"x.intranet", nil},
		{"10.0.0.1", []uint32{6}},
		{"2001:db8::1", []uint32{7}},
		{"xn--bcher-kva.example", []uint32{10}},
		{"_dmarc.example.org", []uint32{11}},
		// What is not canonical does not match, and does no harm.
		{"WWW.example.com", []uint32{1, 2, 4}},
		{"www.EXAMPLE.com", []uint32{4}},
		{"www.example.com.", nil},
		{".example.com", []uint32{4}},
		{"..example.com", []uint32{1, 2, 4}},
		{".com", nil},
		{"", nil},
		{".", nil},
		{"..", nil},
		{"...com", []uint32{4}},
		{"www.example\x00.com", []uint32{4}},
		{"b\u00fccher.example.com", []uint32{1, 2, 4}},
	} {
		if got := sorted(x.AppendMatches(nil, c.host)); !slices.Equal(got, sorted(c.want)) {
			t.Errorf("%q: clauses %v, want %v", c.host, got, c.want)
		}
	}
}

func TestHostIndexKeepsWhatWasInDst(t *testing.T) {
	x := buildHosts(t, "a.example", "*.example")
	if got := x.AppendMatches([]uint32{77}, "a.example"); !slices.Equal(got, []uint32{77, 1, 0}) {
		t.Errorf("got %v", got)
	}
	sets := x.AppendSets(nil, "a.example")
	if len(sets) != 2 {
		t.Fatalf("sets %v", sets)
	}
	for _, s := range sets {
		_ = append(s, 99) // must not reach into the neighbour
	}
	if got := sorted(x.AppendMatches(nil, "a.example")); !slices.Equal(got, []uint32{0, 1}) {
		t.Errorf("a caller's append changed the index: %v", got)
	}
}

func TestHostZeroValues(t *testing.T) {
	var x match.HostIndex
	var s match.HostSet
	var hb match.HostBuilder
	var sb match.HostSetBuilder
	for _, h := range []string{"", "a", "a.b", strings.Repeat("a.", 200)} {
		if got := x.AppendMatches(nil, h); got != nil {
			t.Errorf("zero HostIndex: %v", got)
		}
		if got := hb.Build().AppendSets(nil, h); got != nil {
			t.Errorf("empty HostIndex: %v", got)
		}
		if s.Contains(h) || sb.Build().Contains(h) {
			t.Errorf("an empty set contains %q", h)
		}
	}
}

func TestHostPatternsRefused(t *testing.T) {
	for _, c := range []struct {
		pattern string
		offset  int
		reason  string
	}{
		{"", 0, "empty"},
		{".", 1, "empty"},
		{"*.", 2, "empty"},
		{"*", 0, "wildcard"},
		{"**.example.com", 0, "wildcard"},
		{"*.*.com", 2, "wildcard"},
		{"ads*.example.com", 3, "wildcard"},
		{"a?.example.com", 1, "wildcard"},
		{"..example.com", 1, "label is empty"},
		{"*..example.com", 2, "label is empty"},
		{"a..b", 2, "label is empty"},
		{"example.com.", 11, "ends in a dot"},
		{"Example.com", 0, "upper case"},
		{"*.exampLe.com", 7, "upper case"},
		{"b\u00fccher.example", 1, "A-labels"},
		{"a b", 1, "blank"},
		{"a\r", 1, "blank"},
		{"a\x7f", 1, "blank"},
		{"http://a", 4, "neither"},
		{"a/b", 1, "'/'"},
		{"[::1]", 0, "'['"},
		{"user@host", 4, "'@'"},
		{"a#b", 1, "'#'"},
		{"a%b", 1, "'%'"},
		{"example.com:443", 11, "a port has a test of its own"},
		{"fe80::1%eth0", 4, "neither an IPv6"},
		{"2001:DB8::1", 4, "neither an IPv6"},
		{"2001:db8:0::1", 4, "neither an IPv6"},
		{"::ffff:10.0.0.1", 0, "neither an IPv6"},
		{"*.::1", 2, "neither an IPv6"},
		{strings.Repeat("a", 64) + ".example", 63, "63 octets"},
		{strings.Repeat("a.", 127), 253, "253 octets"},
		{"*." + strings.Repeat("a.", 127), 255, "253 octets"},
	} {
		var b match.HostBuilder
		errs := []error{b.Add(c.pattern, 1), b.AddBytes([]byte(c.pattern), 1)}
		for _, err := range errs {
			var pe *match.PatternError
			if !errors.As(err, &pe) || pe.Offset != c.offset || !strings.Contains(err.Error(), c.reason) || pe.Pattern != c.pattern {
				t.Errorf("%q: %v, want offset %d and %q", c.pattern, err, c.offset, c.reason)
			}
		}
		if b.Len() != 0 {
			t.Errorf("%q was refused and yet added", c.pattern)
		}
	}
}

func TestHostBuilderIsAsItWasAfterAnError(t *testing.T) {
	var b match.HostBuilder
	for _, p := range []string{"a.example", "B.example", "*.example", "c..d", "e.example"} {
		b.AddBytes([]byte(p), 1)
	}
	x := b.Build()
	if x.Len() != 3 {
		t.Errorf("%d names, want 3", x.Len())
	}
	for _, h := range []string{"a.example", "e.example", "x.example"} {
		if !slices.Contains(x.AppendMatches(nil, h), 1) {
			t.Errorf("%s is lost", h)
		}
	}
}

func TestHostBuilderBuffersAreNotKept(t *testing.T) {
	var b match.HostSetBuilder
	line := []byte("a.example")
	for c := byte('a'); c <= 'z'; c++ {
		line[0] = c
		if err := b.AddBytes(line); err != nil {
			t.Fatal(err)
		}
	}
	clear(line)
	s := b.Build()
	if s.Len() != 26 || !s.Contains("a.example") || !s.Contains("z.example") || s.Contains("example") {
		t.Error("the set does not hold what was read")
	}
}

func TestHostDuplicates(t *testing.T) {
	var b match.HostBuilder
	for range 3 {
		for id := range uint32(5) {
			for _, p := range []string{"a.example", ".a.example", "*.a.example"} {
				if err := b.Add(p, id, id); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	x := b.Build()
	if x.Len() != 1 {
		t.Errorf("%d names, want 1", x.Len())
	}
	for _, h := range []string{"a.example", "b.a.example"} {
		if got := x.AppendMatches(nil, h); !slices.Equal(got, []uint32{0, 1, 2, 3, 4}) {
			t.Errorf("%s: %v, want each clause once and in order", h, got)
		}
	}
}

// A thousand rules that all name one host must not need a set for every rule on the way.
func TestHostIndexManyClausesOneName(t *testing.T) {
	var b match.HostBuilder
	for id := range uint32(10_000) {
		if err := b.Add("*.corp.example", id); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Build()
	sets := x.AppendSets(nil, "a.b.corp.example")
	if len(sets) != 1 || len(sets[0]) != 10_000 || !slices.IsSorted(sets[0]) || cap(sets[0]) != 10_000 {
		t.Errorf("%d sets", len(sets))
	}
}

// The most labels a name can have, with a pattern at every depth; and names beyond all bounds.
func TestHostIndexDeepNames(t *testing.T) {
	deepest := strings.Repeat("a.", 126) + "b" // 253 octets, 127 labels
	var patterns []string
	for i := 0; i < len(deepest); i += 2 {
		patterns = append(patterns, "."+deepest[i:])
	}
	x := buildHosts(t, patterns...)
	if got := len(x.AppendMatches(nil, deepest)); got != 127 {
		t.Errorf("%d clauses, want all 127", got)
	}
	if got := len(x.AppendSets(nil, "b."+deepest)); got != 127 {
		t.Errorf("a name longer than any can be: %d sets, want the 127 it lies below", got)
	}
	long := strings.Repeat(strings.Repeat("x", 62)+".", 4) + "x"
	x = buildHosts(t, long, "*."+long)
	for host, want := range map[string][]uint32{
		long:                                {0},
		"y." + long:                         {1},
		"y" + long:                          {},
		long[1:]:                            {},
		strings.Repeat("y.", 1<<20) + long:  {1},
		strings.Repeat("x", 1<<20):          {},
		strings.Repeat("x", 1<<20) + long:   {},
		strings.Repeat(".", 1<<20) + long:   {1},
		strings.Repeat(".", 1<<20):          {},
		long + "." + strings.Repeat("x", 9): {},
	} {
		if got := sorted(x.AppendMatches(nil, host)); !slices.Equal(got, want) {
			t.Errorf("name of %d bytes: %v, want %v", len(host), got, want)
		}
	}
}

// A client may send megabytes without a dot: no more than a name's length of it is looked at.
func TestHostLookupIsBounded(t *testing.T) {
	x := buildHosts(t, "example", "*.example", "a.b.example")
	host := strings.Repeat("x", 8<<20)
	start := cpuTime(t)
	for range 2000 {
		if x.AppendMatches(nil, host) != nil {
			t.Fatal("found what was not there")
		}
	}
	if d := cpuTime(t) - start; d > 2*time.Second*raceFactor {
		t.Errorf("2000 lookups took %v", d)
	}
}

// hostDraw yields names over few labels, so that patterns and hosts meet.
var hostDraw = rapid.StringMatching(`([abc]|www|x1)(\.([abc]|www|x1)){0,4}`)

func TestHostIndexIsTheNaiveReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			pattern string
			ids     []uint32
		}
		entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) entry {
			p := rapid.SampledFrom([]string{"", ".", "*."}).Draw(t, "form") + hostDraw.Draw(t, "name")
			return entry{p, rapid.SliceOfN(rapid.Uint32Range(0, 130), 0, 3).Draw(t, "ids")}
		}), 0, 60).Draw(t, "entries")
		var b match.HostBuilder
		var sb match.HostSetBuilder
		for _, e := range entries {
			if b.Add(e.pattern, e.ids...) != nil || sb.AddBytes([]byte(e.pattern)) != nil {
				t.Fatalf("%q refused", e.pattern)
			}
		}
		x, s := b.Build(), sb.Build()
		hosts := rapid.SliceOfN(rapid.OneOf(hostDraw, rapid.StringMatching(`[abA.]{0,9}`)), 1, 20).Draw(t, "hosts")
		for _, h := range hosts {
			want, in := []uint32{}, false
			for _, e := range entries {
				if takes(e.pattern, h) {
					want, in = append(want, e.ids...), true
				}
			}
			checkIDs(t, h, sorted(want), x.AppendMatches(nil, h), x.AppendSets(nil, h), func(b match.Bits) { x.Mark(b, h) })
			if s.Contains(h) != in {
				t.Fatalf("%q: Contains says %v", h, !in)
			}
		}
	})
}

// checkIDs compares the three ways an index answers, and the union of the sets, with what is wanted.
func checkIDs(t interface{ Fatalf(string, ...any) }, what string, want, flat []uint32, sets [][]uint32, mark func(match.Bits)) {
	if got := sorted(flat); !slices.Equal(got, want) {
		t.Fatalf("%q: AppendMatches %v, want %v", what, got, want)
	}
	for _, s := range sets {
		if len(s) == 0 || !slices.Equal(s, sorted(s)) {
			t.Fatalf("%q: the set %v is empty, out of order or repeats", what, s)
		}
	}
	got := []uint32{}
	u := match.MakeUnion(sets)
	for id, ok := u.Next(); ok; id, ok = u.Next() {
		got = append(got, id)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: union of AppendSets %v, want %v", what, got, want)
	}
	marked := match.NewBits(256)
	mark(marked)
	got = []uint32{}
	for id, ok := marked.Next(0); ok; id, ok = marked.Next(id + 1) {
		got = append(got, id)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: Mark %v, want %v", what, got, want)
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("www.example.com\n*.example.com\n.com", "www.example.com")
	f.Add("a..b\n.\n*.\n*", "..a")
	f.Add(strings.Repeat("a.", 126)+"b\n*.b", strings.Repeat("a.", 126)+"b")
	f.Add("*."+strings.Repeat("a.", 126)+"b", "y."+strings.Repeat("a.", 126)+"b")
	f.Add("2001:db8::1\n10.0.0.1\n*.1", "10.0.0.1")
	f.Fuzz(func(t *testing.T, patterns, host string) {
		var b match.HostBuilder
		want := []uint32{}
		for i, p := range strings.Split(patterns, "\n") {
			if i == 256 {
				break
			}
			err := b.Add(p, uint32(i))
			var pe *match.PatternError
			if err != nil && (!errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(p)) {
				t.Fatalf("%q: %v", p, err)
			}
			if err == nil && takes(p, host) {
				want = append(want, uint32(i))
			}
		}
		x := b.Build()
		checkIDs(t, host, want, x.AppendMatches(nil, host), x.AppendSets(nil, host), func(b match.Bits) { x.Mark(b, host) })
	})
}

func TestHostGlob(t *testing.T) {
	for p, want := range map[string]bool{
		"example.com": false, "*.example.com": false, ".example.com": false, "": false,
		"*": true, "*.": false, "ads*.example.com": true, "*.ads*.com": true, "a?": true, "[ab].c": true, "*.*": true,
	} {
		if got := match.HostGlob(p); got != want {
			t.Errorf("HostGlob(%q) = %v", p, got)
		}
	}
}

func TestHostIndexClauseNumbersAreWhole(t *testing.T) {
	var b match.HostBuilder
	ids := []uint32{0, 1, 127, 128, 1 << 20, math.MaxUint32}
	for i, id := range ids {
		if err := b.Add(fmt.Sprintf("h%d.example", i), id); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Build()
	for i, id := range ids {
		if got := x.AppendMatches(nil, fmt.Sprintf("h%d.example", i)); !slices.Equal(got, []uint32{id}) {
			t.Errorf("clause %d became %v", id, got)
		}
	}
}

// Names with values of one, two and three bytes in the slab.
func TestHostIndexManyValues(t *testing.T) {
	var b match.HostBuilder
	const n = 40_000
	for i := range uint32(n) {
		if err := b.Add(fmt.Sprintf("*.h%d.example", i), i); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Build()
	var got []uint32
	for i := range uint32(n) {
		got = x.AppendMatches(got[:0], fmt.Sprintf("www.h%d.example", i))
		if len(got) != 1 || got[0] != i {
			t.Fatalf("h%d: %v", i, got)
		}
	}
}
