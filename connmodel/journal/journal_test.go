package journal

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"viaduct/connmodel"
)

// TestRoundTrip writes records and finds them again, in both orders and forms.
func TestRoundTrip(t *testing.T) {
	j := open(t, Options{})
	var want []connmodel.ID
	byID := map[connmodel.ID]*connmodel.Flow{}
	for i := range 1000 {
		f := flow(i, i%7 == 0)
		want, byID[f.ID] = append(want, f.ID), f
		j.Record(f)
	}
	await(t, "all written", func() bool { return j.Status().Written == 1000 })
	r := reader(t, j.Dir())
	for _, q := range []Query{{Oldest: true}, {}, {Light: true}, {Light: true, Oldest: true}} {
		var ids []connmodel.ID
		for _, f := range find(t, r, q) {
			ids = append(ids, f.ID)
			if !q.Light {
				a, _ := json.Marshal(f)
				b, _ := json.Marshal(byID[f.ID])
				if string(a) != string(b) {
					t.Fatalf("the record has changed:\n%s\n%s", a, b)
				}
			}
		}
		if !q.Oldest {
			slices.Reverse(ids)
		}
		if !slices.Equal(ids, want) {
			t.Fatalf("%+v: %d records in another order, or not all", q, len(ids))
		}
	}
	for _, i := range []int{0, 1, 499, 999} {
		f, err := r.Get(t.Context(), want[i])
		if err != nil || f.ID != want[i] {
			t.Errorf("Get: %v %v", f, err)
		}
		for _, part := range []string{want[i].String(), want[i].String()[:30], want[i].Short()} {
			if ids, err := r.Find(t.Context(), part); err != nil || !slices.Contains(ids, want[i]) {
				t.Errorf("Find(%s): %v %v", part, ids, err)
			}
		}
	}
	if _, err := r.Get(t.Context(), connmodel.NewID(time.Now())); !errors.Is(err, ErrNotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
	if n, err := r.Count(t.Context(), Query{}); n != 1000 || err != nil {
		t.Errorf("Count: %d %v", n, err)
	}
	for _, oldest := range []bool{false, true} {
		order := slices.Clone(want)
		if !oldest {
			slices.Reverse(order)
		}
		var got []connmodel.ID
		for after := (connmodel.ID{}); ; {
			page := find(t, r, Query{Oldest: oldest, Limit: 37, After: after, Light: true})
			for _, f := range page {
				got = append(got, f.ID)
			}
			if len(page) < 37 {
				break
			}
			after = page[len(page)-1].ID
		}
		if !slices.Equal(got, order) {
			t.Errorf("pages: %d records in another order, or not all", len(got))
		}
	}
}

// TestLightAnswersFilters compares every field that filters have, and the facts of the decision, between the two forms.
func TestLightAnswersFilters(t *testing.T) {
	var w lightWriter
	w.reset()
	var list []*connmodel.Flow
	for i := range 100 {
		f := flow(i, i%3 == 0)
		list = append(list, f)
		w.add(f)
	}
	lr, err := readLight(w.bytes(nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := lr.all()
	if err != nil || len(got) != len(list) {
		t.Fatal(len(got), err)
	}
	for i, f := range list {
		b, _ := json.Marshal(f)
		whole := new(connmodel.Flow)
		if err := json.Unmarshal(b, whole); err != nil {
			t.Fatal(err)
		}
		for _, field := range connmodel.FilterFields() {
			if a, b := field.Get(whole), field.Get(got[i]); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: the record says %+v, the light form %+v", field.Name, a, b)
			}
		}
		a, ma := whole.Facts()
		b2, mb := got[i].Facts()
		a.Time, b2.Time = a.Time.UTC(), b2.Time.UTC()
		if !reflect.DeepEqual(a, b2) || ma != mb {
			t.Errorf("facts: %+v (%v), %+v (%v)", a, ma, b2, mb)
		}
	}
}
