package match

import (
	"fmt"
	"testing"
)

// Names that resemble each other must spread over the table, and no two tables may share their secret: whoever chooses
// the names of a remote list, or the hosts of requests, cannot make lookups slow.
func TestHostTableSpreadsSimilarNames(t *testing.T) {
	const n = 100_000
	for what, name := range map[string]func(i int) string{
		"numbers in front": func(i int) string { return fmt.Sprintf("%06d.example", i) },
		"numbers behind":   func(i int) string { return fmt.Sprintf("host.x%06d", i) },
		"labels of letters": func(i int) string {
			return fmt.Sprintf("%c.%c.%c.%c.a.b.c.d", 'a'+i%18, 'a'+i/18%18, 'a'+i/324%18, 'a'+i/5832)
		},
		"two values only": func(i int) string {
			b := []byte("aaaaaaaaaaaaaaaaa.example")
			for bit := range 17 {
				b[bit] += byte(i >> bit & 1)
			}
			return string(b)
		},
	} {
		var b HostBuilder
		for i := range n {
			if err := b.Add(name(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		table := b.Build().table
		sum, longest, tags := 0, 0, [256]int{}
		run := 0
		for _, tag := range append(table.tags, table.tags...) { // twice: a run may go over the end
			tags[tag]++
			if run++; tag == 0 {
				run = 0
			}
			longest, sum = max(longest, run), sum+run
		}
		// Linear probing at two thirds: a run of some 200 slots is expected to be the longest, and 4.5 slots the mean
		// way to a free one from anywhere.
		if mean := float64(sum) / float64(2*len(table.tags)); mean > 6 || longest > 600 {
			t.Errorf("%s: from a slot back to the last free one it is %.1f on average, %d at most", what, mean, longest)
		}
		for tag, c := range tags[1:] {
			if c > 4*2*n/255 {
				t.Errorf("%s: %d of %d names have the tag %d", what, c/2, n, tag+1)
			}
		}
	}
}

func TestHostTablesHaveTheirOwnSecrets(t *testing.T) {
	seen := make(map[hostKey]bool)
	for range 100 {
		var b HostBuilder
		if err := b.Add("a.example", 0); err != nil {
			t.Fatal(err)
		}
		seen[b.Build().table.key] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d secrets in 100 tables", len(seen))
	}
}

// However they collide, names are told apart by their bytes: here all of them share home slot and tag.
func TestHostTableSurvivesCollisions(t *testing.T) {
	names := []string{"a.example", "b.example", "c.example", "dd.example", "example"}
	table := hostTable{tags: make([]uint8, 7), slots: make([]uint32, 7)}
	const hash = ^uint64(0) // the last slot, so that the run goes over the end
	for i, n := range names {
		off := uint32(len(table.slab))
		table.slab = append(table.slab, uint8(len(n)), uint8(i))
		table.slab = append(table.slab, n...)
		table.insert(off, hash)
	}
	for i, n := range names {
		if v, ok := table.find(n, hash); !ok || v != uint32(i) {
			t.Errorf("%s: %d %v", n, v, ok)
		}
	}
	for _, n := range []string{"e.example", "", "aa.example", "a.exampl", "a.example.c"} {
		if v, ok := table.find(n, hash); ok {
			t.Errorf("%q is not in the table, yet has the value %d", n, v)
		}
	}
}

func TestDepthSet(t *testing.T) {
	var d depthSet
	if d.max() != 0 || d.has(1) {
		t.Error("the zero set is empty")
	}
	for _, n := range []int{1, 2, 63, 64, 65, 127} {
		d.add(n)
		if !d.has(n) || d.has(n-1) != (n == 2 || n == 64 || n == 65) || d.max() != n {
			t.Errorf("after %d: max %d", n, d.max())
		}
	}
}
