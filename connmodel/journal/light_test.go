package journal

import (
	"testing"
)

// FuzzLight reads blocks that may be anything: they are refused or give flows, and nothing else happens.
func FuzzLight(f *testing.F) {
	var w lightWriter
	w.reset()
	for i := range 5 {
		w.add(flow(i, i%2 == 0))
	}
	f.Add(w.bytes(nil))
	f.Add([]byte{lightVersion, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readLight(b)
		if err != nil {
			return
		}
		flows, err := r.all()
		if err != nil {
			return
		}
		for _, f := range flows {
			f.AppendJSON(nil)
			f.Facts()
		}
	})
}

// FuzzUnpack unpacks anything, within bounds.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(nil, []byte("some text that is some text")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := unpack(b); err == nil && len(plain) > maxPlain {
			t.Fatal(len(plain))
		}
	})
}
