package http1

import "testing"

// The fast check of values and the plain one agree, wherever the byte stands.
func TestClean(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			s := []byte("abcdefgh\xff\x80jklm nopqrs")[:20]
			s[at] = byte(c)
			if got, want := clean(string(s)), all(string(s), clValue); got != want {
				t.Fatalf("%q: %v", s, got)
			}
		}
	}
}
