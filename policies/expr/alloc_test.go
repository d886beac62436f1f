//go:build !race

package expr

import "testing"

// TestAllocs is left out under the race detector, which empties the pools of package regexp at random.
func TestAllocs(t *testing.T) {
	for _, tt := range cheap {
		c := compile(t, tt.src)
		for _, f := range facts() {
			if n := testing.AllocsPerRun(100, func() { c.Eval(f); c.Test(f) }); n != 0 {
				t.Errorf("%s: %v allocations", tt.src, n)
			}
		}
	}
}
