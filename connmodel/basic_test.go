package connmodel

import (
	"sync"
	"testing"
	"time"
)

func TestState(t *testing.T) {
	for s, want := range map[State]string{Closed: "closed", Open: "open", Open | CanRead: "open|can_read", Open | CanWrite: "open|can_write", Active: "active"} {
		if s.String() != want {
			t.Errorf("%d prints as %q", s, s)
		}
		if back, err := ParseState(want); err != nil || back != s {
			t.Errorf("%q reads as %v, %v", want, back, err)
		}
		if !s.Valid() {
			t.Errorf("%v is not valid", s)
		}
	}
	if Closed != 0 || Open != 1 || CanRead != 2 || CanWrite != 4 || Active != 7 {
		t.Error("the numbers are part of the contract")
	}
	for _, s := range []State{CanRead, CanWrite, CanRead | CanWrite, 8, 9, 255} {
		if s.Valid() {
			t.Errorf("%v is valid", s)
		}
		if back, err := ParseState(s.String()); err == nil {
			t.Errorf("%q reads as %v", s, back)
		}
	}
	for _, text := range []string{"", "closed|open", "open|closed", "OPEN", "open|", "|open", "open |can_read", "can_write"} {
		if s, err := ParseState(text); err == nil {
			t.Errorf("%q reads as %v", text, s)
		}
	}
	if !Active.Has(CanRead) || !Active.Has(Open|CanWrite) || Open.Has(CanRead) || !Closed.Has(Closed) || Open.Has(Closed) || (Open | CanRead).Has(CanRead|CanWrite) {
		t.Error("Has is wrong")
	}
}

func TestIDs(t *testing.T) {
	at := time.UnixMilli(0x0123456789ab)
	id := NewID(at)
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		t.Errorf("%s is no UUID of version 7", id)
	}
	if got := id.String()[:13]; got != "01234567-89ab" {
		t.Errorf("%s does not begin with its time", id)
	}
	if back, err := ParseID(id.String()); err != nil || back != id {
		t.Errorf("%s comes back as %s, %v", id, back, err)
	}
	if later := NewID(at.Add(time.Millisecond)); later.String() <= id.String() {
		t.Errorf("%s does not sort after %s", later, id)
	}
	for _, s := range []string{"x", "0123456789ab70008000000000000000", "01234567-89ab-7000-8000-00000000000g", "01234567+89ab-7000-8000-000000000000", "01234567-89ab-7000-8000-0000000000000"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q is taken as an id", s)
		}
	}
	if zero, err := ParseID(""); err != nil || !zero.IsZero() || zero.String() != "" || zero.Short() != "" {
		t.Error("the zero id is not empty")
	}
}

// Ids stay unique within one instant, from many goroutines, with the clock standing still, going backwards, or before 1970.
func TestIDsAreUnique(t *testing.T) {
	const goroutines, each = 8, 20000
	lists := make([][]ID, goroutines)
	var wg sync.WaitGroup
	for g := range lists {
		wg.Go(func() {
			at := time.Unix(1, 0)
			for i := range each {
				lists[g] = append(lists[g], NewID(at.Add(-time.Duration(i%3)*time.Second)))
			}
		})
	}
	wg.Wait()
	seen := make(map[ID]bool)
	for _, l := range lists {
		for _, id := range l {
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
	}
	if old := NewID(time.Unix(-1000, 0)); old[6]>>4 != 7 || old[0] != 0 {
		t.Errorf("%s before 1970", old)
	}
}

func TestBoundCutsBetweenCharacters(t *testing.T) {
	for in, want := range map[string]string{"abcd": "abcd", "abcde": "abcd...", "abcü": "abc...", "ab例": "ab...", "\x80\x80\x80\x80\x80": "\x80\x80\x80\x80..."} {
		if got := bound(in, 4); got != want {
			t.Errorf("bound(%q) = %q, want %q", in, got, want)
		}
	}
}

func BenchmarkNewID(b *testing.B) {
	at := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			NewID(at)
		}
	})
}
