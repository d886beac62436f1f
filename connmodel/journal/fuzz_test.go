package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"testing"

	"viaduct/connmodel"
)

// FuzzBlock reads octets as what stands in a row.
func FuzzBlock(f *testing.F) {
	w := writer{j: &Journal{Queue: connmodel.NewQueue(0, nil)}}
	for i := range 5 {
		w.take(flow(i, i == 2))
	}
	w.encode()
	f.Add(bytes.Clone(w.lightPacked), bytes.Clone(w.fullPacked))
	f.Add(pack(nil, nil), pack(nil, nil))
	f.Add([]byte{}, []byte{1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, light, full []byte) {
		for _, sealed := range []bool{false, true} {
			if sealed { // with a checksum that is right, what is behind it is met
				light, full = seal(light), seal(full)
			}
			b := block{light: light, full: full}
			flows, lines, err := b.open(true)
			if err == nil && len(flows) != len(lines) {
				t.Fatalf("%d records, %d lines", len(flows), len(lines))
			}
			for _, l := range lines {
				json.Unmarshal(l, new(connmodel.Flow)) // an error is an answer
			}
		}
	})
}

// seal puts the right checksum before octets that are to be unpacked.
func seal(packed []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, crc32.Checksum(packed, castagnoli)), packed...)
}

// FuzzRecord keeps what a record can say: whatever reads as a record comes back as the same from the journal's two forms.
func FuzzRecord(f *testing.F) {
	f.Add(flow(1, false).AppendJSON(nil))
	f.Add(flow(2, true).AppendJSON(nil))
	f.Add(new(connmodel.Flow).AppendJSON(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		x := new(connmodel.Flow)
		if json.Unmarshal(text, x) != nil {
			return
		}
		w := writer{j: &Journal{Queue: connmodel.NewQueue(0, nil)}}
		w.take(x)
		w.encode()
		if len(w.flows) == 0 {
			t.Fatal("it was dropped")
		}
		b := block{light: w.lightPacked, full: w.fullPacked}
		flows, lines, err := b.open(true)
		if err != nil || len(flows) != 1 {
			t.Fatalf("%d records, %v", len(flows), err)
		}
		if flows[0].ID != x.ID || flows[0].Up != x.Up || !bytes.Equal(lines[0], x.AppendJSON(nil)) {
			t.Fatalf("was %s\nis %s", x.AppendJSON(nil), lines[0])
		}
	})
}

// FuzzFind: what people type finds ids, or nothing.
func FuzzFind(f *testing.F) {
	f.Add("01a22253")
	f.Add("' OR 1=1 --")
	f.Add("-")
	id := flow(1, false).ID
	f.Fuzz(func(t *testing.T, part string) {
		if match, ok := idMatcher(part); ok {
			match(id)
		}
	})
}
