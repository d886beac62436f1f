package main

import (
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// TestWellbeingLog: thousands of changes at once are a hundred lines, and one that says how many there were.
func TestWellbeingLog(t *testing.T) {
	var w wellbeingLog
	now := time.Now()
	lines := 0
	for range 5000 {
		if ok, missed := w.room(now); missed != 0 {
			t.Fatalf("missed %d", missed)
		} else if ok {
			lines++
		}
	}
	if lines != wellbeingLines {
		t.Errorf("%d lines", lines)
	}
	if ok, missed := w.room(now.Add(wellbeingWindow)); !ok || missed != 5000-wellbeingLines {
		t.Errorf("then %v, missed %d", ok, missed)
	}
	if ok, missed := w.room(now.Add(wellbeingWindow + 1)); !ok || missed != 0 {
		t.Errorf("then %v, missed %d", ok, missed)
	}
}

func TestChangeWords(t *testing.T) {
	for want, c := range map[string]upstream.Change{
		"health: pool.p: upstream.a is down: it hangs":                                       {Pool: "pool.p", Route: "upstream.a", To: upstream.StateDown, Why: "it hangs"},
		"health: upstream.a is well again, after 1m0s":                                       {Route: "upstream.a", To: upstream.StateHealthy, After: time.Minute},
		"health: pool.p: chain.c is left out for 5s, after 3 failures in a row: it is reset": {Pool: "pool.p", Route: "chain.c", To: upstream.StateEjected, Until: time.Now().Add(5 * time.Second), Why: "3 failures in a row: it is reset"},
		"health: www.example:443, which checks ask for, is reached again":                    {Target: connmodel.Address{Host: "www.example", Port: 443}, To: upstream.StateHealthy},
	} {
		if got, _ := changeWords(&c); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
